#include "daemon/engine/core/virtual_router_names.h"

#include <stdio.h>
#include <string.h>

_Static_assert(VIRTUAL_ROUTER_CANDIDATES_MAX <= ELECTION_CANDIDATES_MAX, "an index fits");

uint8_t virtual_router_index(const struct virtual_router_config *config, const char *node)
{
	if (!node[0])
		return ELECTION_NOBODY;
	for (unsigned i = 0; i < config->candidate_count; i++)
		if (strcmp(config->candidates[i].node, node) == 0)
			return (uint8_t)i;
	return strcmp(node, config->node) == 0 ? ELECTION_FORMER : ELECTION_OTHER;
}

const char *virtual_router_node_at(const struct virtual_router *router, uint8_t index)
{
	if (index < router->config.candidate_count)
		return router->config.candidates[index].node;
	if (index == ELECTION_FORMER)
		return router->config.node;
	return index == ELECTION_OTHER ? router->lease.holder : "";
}

uint8_t virtual_router_sender(const struct virtual_router *router, const struct base_address *source)
{
	for (unsigned i = 0; i < router->config.candidate_count; i++)
		if (i != router->self && router->config.candidates[i].address.family &&
		    base_address_equal(&router->config.candidates[i].address, source))
			return (uint8_t)i;
	return ELECTION_OTHER;
}

void virtual_router_map_candidates(const struct virtual_router_config *from,
			   const struct virtual_router_config *to,
			   uint8_t moved[ELECTION_CANDIDATES_MAX])
{
	memset(moved, ELECTION_OTHER, ELECTION_CANDIDATES_MAX);
	for (unsigned i = 0; i < from->candidate_count; i++)
		moved[i] = virtual_router_index(to, from->candidates[i].node);
}

void virtual_router_name_lease(const struct virtual_router *router, const struct election_lease *from,
		       struct virtual_router_lease *to)
{
	memset(to, 0, sizeof *to);
	to->exists = from->exists;
	to->term = from->term;
	to->duration_ms = from->duration_ms;
	to->degraded = from->degraded;
	snprintf(to->holder, sizeof to->holder, "%s", virtual_router_node_at(router, from->holder));
	snprintf(to->successor, sizeof to->successor, "%s", virtual_router_node_at(router, from->successor));
}

uint64_t virtual_router_lease_version(const struct virtual_router_lease *lease)
{
	uint64_t number = 0;

	for (const char *digit = lease->version; *digit; digit++) {
		if (*digit < '0' || *digit > '9' || number > UINT64_MAX / 10 - 1)
			return 0;
		number = number * 10 + (uint64_t)(*digit - '0');
	}
	return number;
}

bool virtual_router_accept_lease(struct virtual_router *router, const struct virtual_router_lease *lease)
{
	uint64_t version = virtual_router_lease_version(lease);

	if (version > 0 && version < router->newest)
		return false;
	if (version > router->newest)
		router->newest = version;
	router->lease = *lease;
	return true;
}

struct election_lease virtual_router_index_lease(const struct virtual_router *router,
					 const struct virtual_router_lease *lease)
{
	return (struct election_lease){
		.exists = lease->exists,
		.holder =
			lease->exists ? virtual_router_index(&router->config, lease->holder) : ELECTION_NOBODY,
		.term = lease->term,
		.duration_ms = lease->duration_ms,
		.successor = virtual_router_index(&router->config, lease->successor),
		.degraded = lease->degraded,
		.version = virtual_router_lease_version(lease),
	};
}
