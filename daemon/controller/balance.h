#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/time.h"

/*
 * Evening out who owns how much, slowly and on purpose. A node that joins or comes back gets nothing by
 * that alone; later, and only where it makes a difference, addresses are handed over to it a few at a time.
 * One that comes and goes has to stay for longer each time.
 *
 * Pure.
 */
#define BALANCE_EVERY_US      (10 * BASE_USEC_PER_SEC)
#define BALANCE_AT_ONCE	      4 /* each time */
#define BALANCE_TOLERATED     4 /* addresses more than another are left; and a tenth of the average */
#define BALANCE_CALM_FIRST_US (30 * BASE_USEC_PER_SEC)
#define BALANCE_CALM_MAX_US   (3600 * BASE_USEC_PER_SEC)
#define BALANCE_FORGIVEN_US   (3600 * BASE_USEC_PER_SEC) /* a node that stayed for so long starts anew */

/* How long a node has been there. */
struct calm {
	bool up;
	uint64_t since_us; /* that it is as it is */
	unsigned flaps;	   /* times it came back without a long stay before */
};

void calm_note(struct calm *calm, bool up, uint64_t now_us);
bool calm_lasts(const struct calm *calm, uint64_t now_us);

/* What may be moved: the addresses of one virtual router. */
struct balance_item {
	size_t owner;	  /* index of the node */
	uint32_t weight;  /* addresses that move together */
	size_t count;
	const size_t *to; /* nodes that may own it, as many as `count` */
};

struct balance_node {
	uint32_t owned; /* addresses */
	bool may_get;	/* calm, ready, neither excluded nor in maintenance */
};

/* Is anybody so far above somebody who may get more that a look at all items is worth it? */
bool balance_needed(const struct balance_node *nodes, size_t count);
/* What handing it over to that node gains; 0: it stays. `*to`: the best. */
uint32_t balance_gain(const struct balance_node *nodes, size_t count,
		      const struct balance_item *item, size_t *to);
/* Counts it as moved. */
void balance_move(struct balance_node *nodes, const struct balance_item *item, size_t to);
