#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/node.h"
#include "daemon/engine/router.h"
#include "daemon/engine/segment.h"

/* What is wanted of a virtual router, kept and put into the words of its core. */

_Static_assert(MESSAGE_NAME_SIZE <= VIRTUAL_ROUTER_NODE_SIZE, "a node's name fits");
_Static_assert(MESSAGE_ROUTER_NAME_SIZE <= VIRTUAL_ROUTER_NAME_SIZE, "a router's name fits");
_Static_assert(MESSAGE_CANDIDATES_MAX <= VIRTUAL_ROUTER_CANDIDATES_MAX, "candidates fit");

/* The node's address on the segment of the router; family NONE while it is not known. */
static struct base_address candidate_address(struct router *router, const char *name)
{
	const struct engine_node *node = engine_node_named(router->engine, name);
	struct base_prefix subnet;

	if (strcmp(name, router->engine->node) == 0 && router->segment)
		return segment_own_address(router->segment, &router->wish.addresses[0]);
	if (!router->segment ||
	    !segment_subnet(router->segment, &router->wish.addresses[0], &subnet))
		return (struct base_address){ 0 };
	return engine_node_on(node, &subnet);
}

void router_make_config(struct router *router, struct virtual_router_config *config)
{
	const struct router_wish *wish = &router->wish;
	struct engine *engine = router->engine;

	memset(config, 0, sizeof *config);
	snprintf(config->name, sizeof config->name, "%s", wish->name);
	config->node = engine->node;
	config->virtual_router_id = wish->virtual_router_id;
	config->family = wish->family;
	config->version = wish->version;
	config->interval_us = wish->interval_ms * (uint32_t)BASE_USEC_PER_MSEC;
	config->leased = wish->leased;
	config->lease_duration_ms = ENGINE_LEASE_DURATION_MS;
	/* Stopping, what is owned still is handed over when its turn comes. */
	config->excluded = engine->maintenance || engine->excluded ||
			   (engine->stopping && !virtual_router_owns(&router->core));
	config->excluded_why = BASE_REASON_MAINTENANCE;
	if (router->segment)
		config->source = segment_own_address(router->segment, &wish->addresses[0]);
}

bool router_make_candidates(struct router *router, const struct message_router *message,
			    struct virtual_router_config *config)
{
	unsigned count = message ? message->candidate_count : router->core.config.candidate_count;
	const struct virtual_router_candidate *before = router->core.config.candidates;
	struct virtual_router_candidate *candidates;
	struct election_peer *peers;

	config->peers = peers = calloc(count + !count, sizeof *peers + sizeof *candidates);
	if (!peers)
		return false;
	candidates = (void *)(peers + count);
	for (unsigned i = 0; i < count; i++) {
		const char *node = message ? message->candidates[i].node : before[i].node;

		snprintf(candidates[i].node, sizeof candidates[i].node, "%s", node);
		candidates[i].priority = message ? message->candidates[i].priority
						 : before[i].priority;
		candidates[i].address = candidate_address(router, node);
	}
	config->candidate_count = count;
	config->candidates = candidates;
	return true;
}

bool router_wish_make(struct router_wish *wish, const struct message_router *message)
{
	size_t name = strlen(message->name) + 1, pool = strlen(message->pool) + 1;
	size_t services = strlen(message->services) + 1;
	size_t addresses = message->address_count * sizeof message->addresses[0];
	size_t interfaces = message->interface_count * sizeof message->interfaces[0];
	char *room = malloc(name + pool + services + addresses + interfaces);

	if (!room)
		return false;
	*wish = (struct router_wish){
		.name = memcpy(room, message->name, name),
		.pool = memcpy(room + name, message->pool, pool),
		.services = memcpy(room + name + pool, message->services, services),
		.virtual_router_id = message->virtual_router_id,
		.family = message->family,
		.version = message->version,
		.dataplane = message->dataplane,
		.unicast = message->unicast,
		.leased = message->leased,
		.virtual_mac = message->virtual_mac,
		.interval_ms = message->interval_ms,
		.address_count = message->address_count,
		.addresses = memcpy(room + name + pool + services, message->addresses, addresses),
		.interface_count = message->interface_count,
		.interfaces = memcpy(room + name + pool + services + addresses,
				     message->interfaces, interfaces),
	};
	return true;
}

void router_wish_free(struct router_wish *wish)
{
	free((char *)wish->name);
}
