#pragma once

#include <stdint.h>

/* Time is microseconds of CLOCK_BOOTTIME everywhere: monotonic, and it counts while suspended. */
#define BASE_USEC_PER_MSEC UINT64_C(1000)
#define BASE_USEC_PER_SEC  UINT64_C(1000000)
#define BASE_USEC_NEVER    UINT64_MAX /* a deadline that does not exist */

static inline uint64_t base_usec_add(uint64_t time_us, uint64_t delay_us)
{
	return time_us > BASE_USEC_NEVER - delay_us ? BASE_USEC_NEVER : time_us + delay_us;
}

static inline uint64_t base_usec_since(uint64_t now_us, uint64_t then_us)
{
	return now_us > then_us ? now_us - then_us : 0;
}

static inline uint64_t base_usec_earlier(uint64_t a_us, uint64_t b_us)
{
	return a_us < b_us ? a_us : b_us;
}
