#include <string.h>

#include "daemon/engine/node.h"

/*
 * Seconds that an address stays when nobody renews it. For each one that is renewed the kernel walks through all of
 * its interface and tells everybody on the node who listens: thousands stay longer, and are renewed less often.
 */
static uint32_t valid_s(const struct engine *engine)
{
	size_t count;

	vrrp_links_tagged(engine->links, &count);
	count /= ENGINE_ADDRESSES_PER_S;
	return count > ENGINE_ADDRESS_VALID_S ? (uint32_t)count : ENGINE_ADDRESS_VALID_S;
}

int engine_addresses_add(struct router *router)
{
	struct engine *engine = router->engine;
	uint32_t stay_s = valid_s(engine);
	int r = vrrp_links_add(engine->links, router->segment->index, router->wish.addresses,
			       router->wish.address_count, stay_s);

	/* One that failed is tried again with the others, so soon as if there were few. */
	router->renew_us = engine_now(engine) +
			   (r < 0 ? ENGINE_REFRESH_US
				  : stay_s * ENGINE_REFRESH_US / ENGINE_ADDRESS_VALID_S);
	return r < 0 ? r : router_listen(router);
}

void engine_addresses_renew(struct router *router)
{
	/* It is asked each ENGINE_REFRESH_US, a little sooner or later. */
	if (engine_now(router->engine) + ENGINE_REFRESH_US / 2 >= router->renew_us)
		engine_addresses_add(router);
}

/* The advert that follows makes a leaving owner stop: not before we can answer. */
void engine_addresses_wait(struct engine *engine, const struct base_address *addresses,
			   size_t count)
{
	vrrp_links_wait(engine->links, addresses, count, ENGINE_ADDRESS_WAIT_US);
}

void engine_addresses_remove(struct engine *engine, struct segment *segment,
			     const struct base_address *addresses, size_t count)
{
	int r = vrrp_links_remove(engine->links, segment->index, addresses, count);

	if (r < 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED,
			 LOG_FIELDS({ "INTERFACE", segment->name }),
			 "cannot remove an address from %s: %s; it expires within %u s",
			 segment->name, strerror(-r), valid_s(engine));
}

void engine_addresses_replace(struct router *router, const struct router_wish *next)
{
	for (uint32_t i = 0; i < router->wish.address_count; i++) {
		bool stays = false;

		for (uint32_t j = 0; j < next->address_count && !stays; j++)
			stays = base_address_equal(&router->wish.addresses[i], &next->addresses[j]);
		if (!stays)
			engine_addresses_remove(router->engine, router->segment,
						&router->wish.addresses[i], 1);
	}
}

static bool are_present(const struct router *router)
{
	for (uint32_t i = 0; i < router->wish.address_count; i++)
		if (!router->segment ||
		    !vrrp_links_is_tagged(router->engine->links, router->segment->index,
					  &router->wish.addresses[i]))
			return false;
	return true;
}

bool engine_addresses_present(struct router *router)
{
	uint64_t revision = vrrp_links_revision(router->engine->links);

	if (router->looked_at != revision) {
		router->looked_at = revision;
		router->present = are_present(router);
	}
	return router->present;
}

/* Ours by their tag, and nobody wants them here: left behind by a predecessor. */
void engine_addresses_remove_leftovers(struct engine *engine)
{
	size_t count;
	const struct vrrp_link_tagged *tagged = vrrp_links_tagged(engine->links, &count);

	for (size_t i = 0; i < count; i++) {
		const struct router *router = engine_router_at(engine, &tagged[i].address);

		if (!router || !router->addresses_added || !router->segment ||
		    router->segment->index != tagged[i].index)
			vrrp_links_remove(engine->links, tagged[i].index, &tagged[i].address, 1);
	}
	router_ignore_leftovers(engine);
}
