#pragma once

#include <stdint.h>

/*
 * A small reproducible generator (SplitMix64). The seed is the whole state: cores get one from
 * their caller, the simulation from its seed, the daemon from getrandom().
 */
struct base_random {
	uint64_t state;
};

static inline uint64_t base_random_next(struct base_random *random)
{
	uint64_t z = (random->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Uniform in 0..bound-1; bound 0 gives 0. */
static inline uint64_t base_random_below(struct base_random *random, uint64_t bound)
{
	return bound ? (uint64_t)(((unsigned __int128)base_random_next(random) * bound) >> 64) : 0;
}
