#pragma once

#include "daemon/controller/drill_lookers.h"

/*
 * The course of a run: lookers-on are told, they begin, the failover is ordered, they end, it is judged.
 * What is known in, the next step out; no clock and no request. Every step may be asked for again by
 * another controller: what it needs stands in the objects.
 */
enum drill_step {
	DRILL_STEP_WAIT,
	DRILL_STEP_TELL,   /* the looker-on of index `untold` */
	DRILL_STEP_ORDER,  /* what the drill is about */
	DRILL_STEP_JUDGE,  /* nothing more will be said */
	DRILL_STEP_REFUSE, /* nothing was done, and `why` */
};
/* `age_us`: since status.run.started. */
enum drill_step drill_course(const cJSON *drill, const struct drill_progress *progress,
			     uint64_t age_us, struct base_error *why);
