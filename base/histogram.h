#pragma once

#include <stdint.h>

#include "base/time.h"

/*
 * How long things took, as Prometheus counts it: one counter a bucket, not cumulative here. The same
 * bounds for everything, from one advertisement interval to a lost node.
 */
#define BASE_HISTOGRAM_BOUNDS(X)                                                                   \
	X(1000)                                                                                    \
	X(2500)                                                                                    \
	X(5000)                                                                                    \
	X(10000)                                                                                   \
	X(25000)                                                                                   \
	X(50000)                                                                                   \
	X(100000)                                                                                  \
	X(250000)                                                                                  \
	X(500000)                                                                                  \
	X(1000000)                                                                                 \
	X(2500000)                                                                                 \
	X(5000000)                                                                                 \
	X(10000000)                                                                                \
	X(30000000)

enum {
#define BASE_HISTOGRAM_ENUM(bound) BASE_HISTOGRAM_UP_TO_##bound,
	BASE_HISTOGRAM_BOUNDS(BASE_HISTOGRAM_ENUM)
#undef BASE_HISTOGRAM_ENUM
		BASE_HISTOGRAM_COUNT /* of bounds; what is beyond the last has a bucket, too */
};

struct base_histogram {
	uint64_t buckets[BASE_HISTOGRAM_COUNT + 1];
	uint64_t sum_us;
};

static inline uint64_t base_histogram_bound(unsigned index)
{
	static const uint64_t bounds[] = {
#define BASE_HISTOGRAM_BOUND(bound) bound,
		BASE_HISTOGRAM_BOUNDS(BASE_HISTOGRAM_BOUND)
#undef BASE_HISTOGRAM_BOUND
	};

	return index < BASE_HISTOGRAM_COUNT ? bounds[index] : BASE_USEC_NEVER;
}

static inline void base_histogram_add(struct base_histogram *histogram, uint64_t usec)
{
	unsigned i = 0;

	while (usec > base_histogram_bound(i))
		i++;
	histogram->buckets[i]++;
	histogram->sum_us += usec;
}
