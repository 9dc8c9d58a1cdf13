#include "daemon/controller/manners.h"

#include "base/time.h"

#define COST_US	       (BASE_USEC_PER_SEC / MANNERS_RATE)
#define IDLE_FLOOR     100 /* what Events leave to the others */
#define BUSY_MIN       4
#define SLOW_US	       BASE_USEC_PER_SEC /* an answer: the server has more than it can do */
#define QUICK_US       (250 * BASE_USEC_PER_MSEC)
#define PAUSE_FIRST_US (500 * BASE_USEC_PER_MSEC)
#define PAUSE_MAX_US   (10 * BASE_USEC_PER_SEC)

void manners_init(struct manners *manners, uint64_t seed, uint64_t now_us)
{
	*manners = (struct manners){ .saved_us = MANNERS_BURST * COST_US,
				     .filled_us = now_us,
				     .busy_max = MANNERS_BUSY,
				     .random = { seed } };
}

static void refill(struct manners *manners, uint64_t now_us)
{
	manners->saved_us += base_usec_since(now_us, manners->filled_us);
	manners->filled_us = now_us;
	if (manners->saved_us > MANNERS_BURST * COST_US)
		manners->saved_us = MANNERS_BURST * COST_US;
}

bool manners_allow(struct manners *manners, bool idle, uint64_t now_us, uint64_t *when_us)
{
	uint64_t need_us = COST_US * (idle ? IDLE_FLOOR : 1);
	unsigned room = idle ? manners->busy_max / 2 : manners->busy_max;

	refill(manners, now_us);
	*when_us = BASE_USEC_NEVER;
	if (now_us < manners->paused_until_us) {
		*when_us = manners->paused_until_us;
		return false;
	}
	if (manners->saved_us < need_us) {
		*when_us = now_us + need_us - manners->saved_us;
		return false;
	}
	/* After a pause one request goes ahead alone and finds out. */
	return manners->busy < (manners->pause_us ? 1 : room);
}

void manners_sent(struct manners *manners)
{
	manners->saved_us -= manners->saved_us < COST_US ? manners->saved_us : COST_US;
	manners->busy++;
}

/*
 * Of a server that is short of CPU everybody gets an equal part, and what it does not do faster need not wait there:
 * users and renewals of Leases are answered sooner then, and we no later.
 */
static void adapt(struct manners *manners, uint64_t sent_us, uint64_t now_us)
{
	uint64_t took_us = base_usec_since(now_us, sent_us);

	if (took_us < QUICK_US && manners->busy_max < MANNERS_BUSY)
		manners->busy_max++;
	if (took_us < SLOW_US || base_usec_since(now_us, manners->narrowed_us) < SLOW_US)
		return;
	manners->narrowed_us = now_us;
	manners->busy_max = manners->busy_max / 2 > BUSY_MIN ? manners->busy_max / 2 : BUSY_MIN;
}

/* A silent or overloaded server: everybody waits, for longer each time. */
static void pause_all(struct manners *manners, uint64_t retry_after_us, uint64_t now_us)
{
	uint64_t wait_us = manners->pause_us ? manners->pause_us * 2 : PAUSE_FIRST_US;

	manners->pause_us = wait_us > PAUSE_MAX_US ? PAUSE_MAX_US : wait_us;
	wait_us = manners->pause_us + base_random_below(&manners->random, manners->pause_us / 2);
	if (retry_after_us > wait_us)
		wait_us = retry_after_us;
	manners->paused_until_us = now_us + wait_us;
}

void manners_answered(struct manners *manners, bool away, uint64_t retry_after_us, uint64_t sent_us,
		      uint64_t now_us)
{
	manners->busy--;
	adapt(manners, sent_us, now_us);
	if (away)
		pause_all(manners, retry_after_us, now_us);
	else
		manners->pause_us = 0;
}

void manners_cancelled(struct manners *manners)
{
	manners->busy--;
}
