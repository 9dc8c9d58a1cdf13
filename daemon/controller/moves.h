#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/reason.h"

/*
 * When an address that has an owner should have another: a planned handover, ordered in the
 * annotation vipd.dev/handover and carried out by the owner. Never because a node came back, and
 * never twice in quick succession: an address that keeps moving rests longer each time.
 *
 * Nothing else moves an address on purpose; who owns what after a failure is the nodes' affair.
 */
struct move_history {
	uint64_t ordered_us; /* the last order; 0: none */
	unsigned in_a_row;   /* orders without a long rest in between */
};

struct move_question {
	uint64_t now_us;
	bool owned;             /* somebody owns it, verified by itself */
	bool ordered;           /* an order stands that was not carried out yet */
	uint64_t order_seen_us; /* since when */
	bool target_ready; /* the first candidate's speaker is alive and says nothing against it */
	bool owner_may;    /* the owner is among those who may own it at all */
	bool local_only;   /* externalTrafficPolicy: Local */
	bool owner_endpoint, target_endpoint;
	bool preferred; /* preemption: preferred */
	bool rebalance; /* the first candidate is to own it, to even things out */
	uint32_t owner_weight, target_weight;
	unsigned moving; /* orders that stand, of all addresses */
};

struct move_answer {
	enum base_reason reason; /* NONE: stay */
	uint64_t again_us;       /* ask again then; BASE_USEC_NEVER: when something changes */
};

/* The owner is not the first candidate: that was looked at before. */
struct move_answer move_decide(const struct move_question *question,
			       const struct move_history *history);
/* So long ago was the last order that another may be thought of. */
bool move_rested(const struct move_history *history, uint64_t now_us);
void move_ordered(struct move_history *history, uint64_t now_us);
