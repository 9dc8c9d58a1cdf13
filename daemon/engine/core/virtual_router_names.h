#pragma once

#include "daemon/engine/core/virtual_router.h"

/*
 * Between the world, which calls nodes by name or address and gives Leases a resourceVersion in text, and the elector,
 * which has indices of candidates and numbers. Pure; nothing here decides, but what was overtaken on its way is not
 * believed.
 *
 * An index is a candidate's, or ELECTION_NOBODY (no name), _FORMER (this node, which is no candidate) or _OTHER.
 */
uint8_t virtual_router_index(const struct virtual_router_config *config, const char *node);
/* Borrowed from the router; "" for nobody. ELECTION_OTHER is whoever holds the Lease. */
const char *virtual_router_node_at(const struct virtual_router *router, uint8_t index);
/* Who sends from there: another candidate, or ELECTION_OTHER. */
uint8_t virtual_router_sender(const struct virtual_router *router, const struct base_address *source);
/* For each candidate of `from` its index in `to`. */
void virtual_router_map_candidates(const struct virtual_router_config *from,
				   const struct virtual_router_config *to,
				   uint8_t moved[ELECTION_CANDIDATES_MAX]);

/* Everything but the version, which only the server gives. */
void virtual_router_name_lease(const struct virtual_router *router,
			       const struct election_lease *from, struct virtual_router_lease *to);
struct election_lease virtual_router_index_lease(const struct virtual_router *router,
						 const struct virtual_router_lease *lease);
/* Greater is newer; 0 if this server's versions are no numbers. */
uint64_t virtual_router_lease_version(const struct virtual_router_lease *lease);
/* Takes over what is told as the Lease last seen. False: it was overtaken on its way. */
bool virtual_router_accept_lease(struct virtual_router *router,
				 const struct virtual_router_lease *lease);
