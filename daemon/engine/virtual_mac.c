#include <string.h>

#include "daemon/engine/announce.h"
#include "daemon/engine/node.h"
#include "daemon/engine/router.h"
#include "daemon/engine/segment.h"
#include "vrrp/packet.h"

/*
 * A router's virtual MAC (RFC 9568 section 7.3). No interface has it: the kernel's rules put it into what says
 * where the addresses are (nft/skeleton.h), and the owner's interface takes frames to it. Members are answered with
 * the owner's own MAC, so that they go on seeing which of them it is.
 */

struct base_mac router_virtual_mac(const struct router *router)
{
	return vrrp_virtual_mac((enum base_family)router->wish.family,
				router->wish.virtual_router_id);
}

bool router_wants_virtual_mac(const struct router *router)
{
	const struct engine *engine = router->engine;

	return router->wish.virtual_mac && engine->table && engine->abilities.egress;
}

bool router_is_said_by_itself(const struct router *router, const struct base_mac *mac)
{
	struct base_mac own = router_virtual_mac(router);

	return router->wish.virtual_mac && memcmp(&own, mac, sizeof own) == 0;
}

void router_say_virtual_mac(const struct router *router)
{
	if (router->wish.virtual_mac && !router_wants_virtual_mac(router))
		log_line(LOG_WARNING, BASE_REASON_UNSUPPORTED_FEATURE,
			 LOG_FIELDS({ "LEASE", router->wish.name }),
			 "%s is to have a virtual MAC, which needs the fence at the netdev egress hook (Linux "
			 "5.16): this node answers with its own MAC",
			 router->wish.name);
}

void router_announce(struct router *router)
{
	struct base_mac mac = router->rules_virtual ? router_virtual_mac(router) : router->segment->mac;

	announce(router->segment, &mac, router->wish.addresses, router->wish.address_count);
}

int router_listen(struct router *router)
{
	struct base_mac mac = router_virtual_mac(router);
	int r;

	if (!router_wants_virtual_mac(router))
		return 0;
	r = vrrp_links_listen(router->engine->links, router->segment->index, &mac);
	router->listening |= r >= 0;
	return r;
}

void router_ignore(struct router *router)
{
	struct base_mac mac = router_virtual_mac(router);

	router->listening = false;
	if (router->segment)
		vrrp_links_ignore(router->engine->links, router->segment->index, &mac);
}

/* A virtual MAC in a filter has no tag; but if its ID is ours on that segment, then it is ours. */
static bool is_leftover(const void *userdata, unsigned index, const struct base_mac *mac)
{
	const struct engine *engine = userdata;

	int six = mac->bytes[4] == 2; /* vrrp_virtual_mac() */

	for (const struct segment *segment = engine->segments; segment; segment = segment->next)
		if (segment->index == index) {
			const struct router *router = segment->routers[six][mac->bytes[5]];

			return router && !router->listening;
		}
	return false;
}

void router_ignore_leftovers(struct engine *engine)
{
	int r = vrrp_links_ignore_unwanted(engine->links, is_leftover, engine);

	if (r < 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "virtual MACs of a predecessor may be listened to still: %s", strerror(-r));
}

void router_rules_stand(struct router *router)
{
	bool virtual = router_wants_virtual_mac(router) && router->segment &&
		       router->segment->virtual_macs;

	/* Not before: until then nobody takes what is sent there. */
	if (router->rules_virtual != virtual && !router->frozen) {
		router->rules_virtual = virtual;
		router_mac_changed(router);
	}
	if (!router->rules_present) {
		router->rules_present = true;
		router_review(router);
	}
}
