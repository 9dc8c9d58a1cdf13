#pragma once

/* What every cmocka test needs, in the order that cmocka wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/array.h"

/* In a table of rows: which row failed stands in the message. */
#define ASSERT_ROW(name, condition)                                                                \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg("%s: %s", name, #condition);                                      \
	} while (0)
