#include <string.h>

#include "daemon/engine/node.h"
#include "vrrp/frame.h"
#include "vrrp/io/neighbour.h"

static void ask_for_addresses(struct router *router, uint32_t count, const struct base_address *source)
{
	struct segment *segment = router->segment;
	struct vrrp_frame frame;

	for (uint32_t i = 0; i < count && segment->neighbour; i++) {
		frame.size = vrrp_frame_ask(&router->wish.addresses[i], source, &segment->mac, NULL,
					    frame.data);
		vrrp_neighbour_send(segment->neighbour, &frame, 1);
	}
}

/* Whoever has the addresses: the answer is for us alone. */
static void ask_holder(struct router *router, uint32_t count)
{
	struct base_address source =
		segment_own_address(router->segment, &router->wish.addresses[0]);

	if (source.family != BASE_FAMILY_NONE)
		ask_for_addresses(router, count, &source);
}

void engine_probe_addresses(struct router *router)
{
	static const struct base_address nobody;

	/* Nobody's question is answered to everybody over IPv6, and so with the virtual MAC, which says not whose. */
	if (router->wish.virtual_mac)
		ask_holder(router, router->wish.address_count);
	else
		ask_for_addresses(router, router->wish.address_count, &nobody);
}

/* How many members' MACs are not known there; asks them, if told to. */
static unsigned count_unknown(struct segment *segment, bool ask)
{
	struct engine *engine = segment->engine;
	uint64_t now_us = engine_now(engine);
	unsigned count = 0;

	for (struct engine_node *node = engine->nodes; node; node = node->next)
		for (unsigned i = 0; i < node->address_count; i++) {
			struct base_prefix subnet;

			if (strcmp(node->name, engine->node) == 0 ||
			    !segment_subnet(segment, &node->addresses[i], &subnet) ||
			    segment_peer(segment, &node->addresses[i])->mac_known)
				continue;
			count++;
			if (ask)
				segment_ask(segment, &node->addresses[i], now_us);
		}
	return count;
}

/* Learns the members' MACs, which loop protection and IPv6 adverts need. */
void engine_ask_members(struct engine *engine)
{
	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		count_unknown(segment, true);
}

bool engine_members_known(struct segment *segment)
{
	return count_unknown(segment, false) == 0;
}

/*
 * Since it was asked last. A question just asked, by another router perhaps, may be under way: what
 * was heard shortly before it counts that long.
 */
static bool has_answered(const struct segment_peer *peer, uint64_t now_us)
{
	return peer && peer->heard_us &&
	       (peer->heard_us >= peer->asked_us ||
		(base_usec_since(now_us, peer->asked_us) < ENGINE_WITNESS_WAIT_US &&
		 base_usec_since(now_us, peer->heard_us) < ENGINE_WITNESS_FRESH_US));
}

/* It has answered before, so it does if it can. */
static bool is_missing(const struct segment_peer *peer, uint64_t now_us)
{
	return peer->answered_us && peer->heard_us < peer->asked_us &&
	       base_usec_since(now_us, peer->asked_us) >= ENGINE_WITNESS_WAIT_US;
}

void router_tell_witnesses(struct timer *timer, uint64_t due_us)
{
	struct router *router = TIMER_ITEM(timer, struct router, witness_timer);
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_WITNESSES };
	struct base_address gateway;
	const struct segment_peer *peer;
	uint64_t now_us;

	(void)due_us;
	if (!router->segment)
		return;
	segment_hear_neighbours(router->segment); /* an answer that waits to be read is one */
	event.now_us = now_us = engine_now(router->engine);
	for (unsigned i = 0; i < router->core.config.candidate_count; i++) {
		const struct base_address *address = &router->core.config.candidates[i].address;

		if (address->family == BASE_FAMILY_NONE)
			continue;
		peer = segment_peer(router->segment, address);
		if (has_answered(peer, now_us))
			event.witnesses.reachable |= UINT32_C(1) << i;
		if (peer->answered_us && peer->answered_us >= peer->sent_us)
			event.witnesses.answering |= UINT32_C(1) << i;
		if (is_missing(peer, now_us))
			event.witnesses.missing |= UINT32_C(1) << i;
	}
	gateway = segment_gateway(router->segment, router->wish.family);
	if (gateway.family != BASE_FAMILY_NONE) {
		peer = segment_peer(router->segment, &gateway);
		event.witnesses.gateway_known = true;
		event.witnesses.gateway_reachable = has_answered(peer, now_us);
	}
	router_feed(router, &event);
}

void engine_witness_late(struct engine *engine)
{
	uint64_t when_us = engine_now(engine) + ENGINE_WITNESS_WAIT_US;

	for (struct router *router = engine->routers; router; router = router->next)
		if (!router->witness_timer.place)
			timers_set(engine->backup_timers, &router->witness_timer, when_us);
}

/*
 * One question serves all routers that ask it at the same time. An owner, which only looks how things
 * are, is content with one that was answered a little earlier.
 */
static void ask_witness(struct router *router, const struct base_address *witness, uint64_t now_us)
{
	const struct segment_peer *peer = segment_peer(router->segment, witness);
	bool answered = peer->heard_us >= peer->asked_us;
	uint64_t shared_us = answered && virtual_router_owns(&router->core)
				     ? ENGINE_WITNESS_SHARED_US
				     : ENGINE_WITNESS_WAIT_US;

	if (!peer->sent_us || base_usec_since(now_us, peer->sent_us) >= shared_us)
		segment_ask(router->segment, witness, now_us);
}

void engine_ask_candidates(struct router *router, uint64_t now_us)
{
	struct base_address gateway;

	if (!router->segment)
		return;
	for (unsigned i = 0; i < router->core.config.candidate_count; i++) {
		const struct virtual_router_candidate *candidate =
			&router->core.config.candidates[i];

		if (candidate->address.family != BASE_FAMILY_NONE &&
		    strcmp(candidate->node, router->engine->node) != 0)
			ask_witness(router, &candidate->address, now_us);
	}
	gateway = segment_gateway(router->segment, router->wish.family);
	if (gateway.family != BASE_FAMILY_NONE)
		ask_witness(router, &gateway, now_us);
	timers_set(router->engine->backup_timers, &router->witness_timer,
		   now_us + ENGINE_WITNESS_WAIT_US);
}

void engine_ask_witnesses(struct router *router, uint64_t now_us)
{
	if (!router->segment)
		return;
	if (!virtual_router_owns(&router->core)) {
		router->asked_us = now_us;
		/* Its adverts keep all of them alive alike: two are asked for, lest one question is lost. */
		ask_holder(router, router->wish.address_count > 1 ? 2 : 1);
	}
	engine_ask_candidates(router, now_us);
}

void engine_count_witnesses(const struct router *router, unsigned *known, unsigned *answered)
{
	uint64_t now_us = engine_now(router->engine);

	*known = *answered = 0;
	for (unsigned i = 0; router->segment && i < router->core.config.candidate_count; i++) {
		const struct virtual_router_candidate *candidate =
			&router->core.config.candidates[i];

		if (candidate->address.family == BASE_FAMILY_NONE ||
		    strcmp(candidate->node, router->engine->node) == 0)
			continue;
		++*known;
		*answered += has_answered(segment_peer(router->segment, &candidate->address), now_us);
	}
}
