#pragma once

#include <stdint.h>
#include <time.h>

#include "base/time.h"

/*
 * Now, in microseconds: CLOCK_BOOTTIME for everything but what people and the API read, which is CLOCK_REALTIME.
 * Cores are told what time it is and may not include this.
 */
static inline uint64_t base_clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * BASE_USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}
