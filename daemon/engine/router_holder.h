#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"

struct router;
struct timer;
struct vrrp_advert;

/*
 * Who else has a virtual router's addresses: asked for before it takes them, and noticed while it has them. A member
 * is told to the core as a holder, anybody else as a conflict; and what an owner does on the wire about either of them
 * is done here: the last word after two announcements that crossed, and one more in defence against a stranger.
 */

/* An action of the core's: who has them answers within ENGINE_PROBE_WAIT_US, or they are free. */
void router_probe_addresses(struct router *router, uint64_t now_us);
void router_probe_end(struct timer *timer, uint64_t due_us); /* of its probe_timer */

/*
 * Somebody on the segment says that `address`, which is one of the router's, is at `mac`, `answered`:
 * because we asked.
 */
void router_seen(struct router *router, struct base_address address, struct base_mac mac,
		 bool answered);

/* It is known now which member has `mac`: if the router took it for a foreign host's, a member has the address. */
void router_member_known(struct router *router, const struct base_address *member, const struct base_mac *mac);

/*
 * An advert of this virtual router from `source`, a stranger: if it has one of the addresses in it, he says so. With the
 * virtual MAC that both have nothing else does.
 */
void router_advertised(struct router *router, const struct vrrp_advert *advert,
		       const struct base_address *source);
