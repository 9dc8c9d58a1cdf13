#pragma once

#define BASE_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
