#pragma once

#include "daemon/engine/node.h"
#include "vrrp/frame.h"

/*
 * Asks who has an address, every few milliseconds for a while, as a drill wants it from nodes that have
 * no part in it; tells the feeder when it begins and what came of it. One at a time; it ends by itself.
 */
struct prober;

int prober_new(struct prober **prober, struct engine *engine);
void prober_free(struct prober *prober); /* NULL is fine */

/* What is under way ends. An order that cannot be carried out is answered at once. */
void prober_start(struct prober *prober, const struct message_probe *order);
/* Somebody answered a question on this segment. */
void prober_seen(struct prober *prober, const struct segment *segment,
		 const struct vrrp_neighbour_seen *seen);
