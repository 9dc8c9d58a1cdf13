#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * One fuzz target a file: it feeds `data` to one parser and aborts when a promise is broken. Built
 * with libFuzzer by the preset fuzz, and with replay.c as a unit test over corpus/ by every other.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PROMISE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			__builtin_trap();                                                          \
	} while (0)
