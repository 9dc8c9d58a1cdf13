#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"

/*
 * When one more write may be sent to the API server. Pure: times are given. A token bucket
 * (kubernetes-facts B.4), a bound on requests under way that is narrower the slower the server answers,
 * and one pause for everybody, longer each time, while the server is away.
 */
#define MANNERS_RATE  200 /* writes a second, for long; client-go's 5 is for one object at a time */
#define MANNERS_BURST 400
#define MANNERS_BUSY  48 /* requests under way, of the 100 streams of one connection */

struct manners {
	uint64_t saved_us, filled_us; /* one write costs 1 s / MANNERS_RATE of saved time */
	unsigned busy, busy_max;
	uint64_t narrowed_us; /* when busy_max was last made smaller */
	uint64_t paused_until_us, pause_us;
	struct base_random random;
};

void manners_init(struct manners *manners, uint64_t seed, uint64_t now_us);

/*
 * May one be sent? `idle`: only while there is plenty of room. If not, `*when_us` is when to ask again, or
 * BASE_USEC_NEVER: when one under way is answered.
 */
bool manners_allow(struct manners *manners, bool idle, uint64_t now_us, uint64_t *when_us);

void manners_sent(struct manners *manners);

/* The answer to one that was sent at `sent_us`. `away`: the server is, or wants to be left alone for a while. */
void manners_answered(struct manners *manners, bool away, uint64_t retry_after_us, uint64_t sent_us,
		      uint64_t now_us);

/* No answer is waited for any more. */
void manners_cancelled(struct manners *manners);
