#include "daemon/engine/router_holder.h"

#include <string.h>

#include "daemon/engine/node.h"
#include "daemon/engine/router.h"
#include "daemon/engine/segment.h"
#include "daemon/log.h"
#include "vrrp/packet.h"

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

/* Of two that began at once the one with the higher MAC goes on, if every member's is known: it is none of theirs. */
static bool is_stronger(const struct router *router, const struct base_mac *mac)
{
	struct base_mac own = router->rules_virtual ? router_virtual_mac(router)
						    : router->segment->mac;

	return memcmp(mac, &own, sizeof own) > 0 && engine_members_known(router->segment);
}

/* What he says is for the core to judge; true: it gave the address up, or its claim. */
static bool tell_foreigner(struct router *router, const struct base_mac *mac, bool stronger)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADDRESS_TAKEN,
					      .now_us = engine_now(router->engine),
					      .higher = stronger };
	enum election_state before = router->core.elector.state;

	if (!election_elector_young(&router->core.elector, event.now_us))
		return false;
	router->conflict_mac = *mac;
	router_feed(router, &event);
	if (router->core.elector.state != ELECTION_STATE_CONFLICT || before == ELECTION_STATE_CONFLICT)
		return false;
	router->conflict = true;
	router_report(router);
	return true;
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

void router_member_known(struct router *router, const struct base_address *member, const struct base_mac *mac)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD };

	if (router->core.elector.state != ELECTION_STATE_CONFLICT || member->family != router->wish.family ||
	    memcmp(mac, &router->conflict_mac, sizeof *mac) != 0)
		return;
	event.now_us = engine_now(router->engine);
	event.advert.source = *member;
	router_feed(router, &event);
}

/* A member, or of this virtual router, whoever that is. */
static bool is_known(const struct router *router, const struct base_mac *mac)
{
	return router_is_said_by_itself(router, mac) ||
	       segment_member_by_mac(router->segment, BASE_FAMILY_NONE, mac);
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
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
		event.now_us = engine_now(router->engine);
		event.advert.source = member->address;
		unheard_note(router, &member->address, event.now_us);
		router_feed(router, &event);
		/* One that is leaving it says nothing about foreign hosts: the look goes on, or nobody would ever end it. */
		router->probing = router->probing && router->core.elector.state == ELECTION_STATE_PROBING;
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
	if (!virtual_router_owns(&router->core)) {
		if (!is_known(router, &mac))
			tell_foreigner(router, &mac, false);
		return;
	}
	if (member) { /* a rival that does more than advertise */
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
		event.now_us = engine_now(router->engine);
		event.advert.source = member->address;
		router_feed(router, &event);
	}
	if (is_known(router, &mac)) {
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
	} else if (!tell_foreigner(router, &mac, is_stronger(router, &mac))) {
		log_foreigner(router, &address, &mac, "announced again in defence");
		if (router->announced == ROUTER_ANNOUNCE_TIMES)
			router_start_announcing(router);
	}
}

static bool has_one_of(const struct vrrp_advert *advert, const struct router *router)
{
	for (unsigned i = 0; i < advert->address_count; i++)
		for (uint32_t j = 0; j < router->wish.address_count; j++)
			if (base_address_equal(&advert->addresses[i], &router->wish.addresses[j]))
				return true;
	return false;
}

void router_advertised(struct router *router, const struct vrrp_advert *advert,
		       const struct base_address *source)
{
	struct base_address own = router->wish.family == BASE_FAMILY_IPV6
					  ? segment_link_local(router->segment)
					  : segment_own_address(router->segment, source);
	struct base_mac mac = router_virtual_mac(router);

	if (router->frozen || router->probing || advert->priority == 0 ||
	    !has_one_of(advert, router))
		return;
	tell_foreigner(router, &mac,
		       base_address_compare(source, &own) > 0 &&
			       engine_members_known(router->segment));
}
