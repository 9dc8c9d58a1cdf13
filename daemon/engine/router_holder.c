#include "daemon/engine/router_holder.h"

#include "daemon/engine/node.h"
#include "daemon/engine/router.h"
#include "daemon/engine/segment.h"
#include "daemon/log.h"

void router_probe_end(struct timer *timer, uint64_t due_us)
{
	struct router *router = TIMER_ITEM(timer, struct router, probe_timer);
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADDRESS_FREE };

	(void)due_us;
	if (!router->probing)
		return;
	router->probing = false;
	event.now_us = engine_now(router->engine);
	router_feed(router, &event);
	router->conflict = router->core.elector.state == ELECTION_STATE_CONFLICT; /* once was missed, once is nothing */
}

void router_probe_addresses(struct router *router, uint64_t now_us)
{
	if (!router->segment)
		return;
	router->probing = true;
	engine_probe_addresses(router);
	router_set_timer(router, &router->probe_timer, now_us + ENGINE_PROBE_WAIT_US);
}

static void log_foreigner(struct router *router, const struct base_address *address,
			  const struct base_mac *mac, const char *what)
{
	char text[BASE_ADDRESS_TEXT_SIZE], peer[BASE_MAC_TEXT_SIZE];

	if (!log_gate_pass(&router->conflict_gate, NULL))
		return;
	log_line(LOG_WARNING, BASE_REASON_FOREIGN_ADDRESS,
		 LOG_FIELDS({ "VIP", base_address_format(address, text) },
			    { "LEASE", router->wish.name },
			    { "PEER", base_mac_format(mac, peer) },
			    { "INTERFACE", router->segment->name }),
		 "%s answers for %s too: %s", peer, text, what);
}

void router_seen(struct router *router, struct base_address address, struct base_mac mac,
		 bool answered)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADDRESS_TAKEN };
	const struct segment_peer *member = segment_member_by_mac(
		router->segment, (enum base_family)router->wish.family, &mac);
	bool by_itself = router_is_said_by_itself(router, &mac);

	if (router->frozen)
		return;
	if (by_itself && router->probing && !answered)
		return; /* announced by a member, probably; it answers, too, and then with its own MAC */
	if (member && !virtual_router_owns(&router->core) &&
	    (router->probing ||
	     (answered && base_usec_since(engine_now(router->engine), router->asked_us) <
				  router->core.config.interval_us))) {
		/* A member owns it whose adverts do not reach us (yet): it answers, so it sends them. */
		router->probing = false;
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
		event.now_us = engine_now(router->engine);
		event.advert.source = member->address;
		router_feed(router, &event);
		return;
	}
	if (router->probing) {
		router->probing = false;
		router->conflict = true;
		router->conflict_mac = mac;
		log_foreigner(router, &address, &mac, "not taken, looked at again later");
		event.now_us = engine_now(router->engine);
		router_feed(router, &event);
		return;
	}
	if (!virtual_router_owns(&router->core))
		return;
	if (member) { /* a rival that does more than advertise */
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
		event.now_us = engine_now(router->engine);
		event.advert.source = member->address;
		router_feed(router, &event);
	}
	if (by_itself || segment_member_by_mac(router->segment, BASE_FAMILY_NONE, &mac)) {
		/* Two began at once: adverts settle it within an interval, then ours is the last word. */
		uint64_t now_us = engine_now(router->engine);

		if (now_us < router->crossed_until_us)
			return;
		router->crossed_until_us = now_us + router->core.config.interval_us * 3 / 2;
		if (!router->announce_timer.place ||
		    router->announce_timer.due_us > router->crossed_until_us) {
			router->announced = 1;
			router_set_timer(router, &router->announce_timer, router->crossed_until_us);
		}
	} else {
		log_foreigner(router, &address, &mac, "announced again in defence");
		if (router->announced == ROUTER_ANNOUNCE_TIMES)
			router_start_announcing(router);
	}
}

