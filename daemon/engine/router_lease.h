#pragma once

#include "daemon/protocol/message.h"

struct router;
struct virtual_router_action;

/*
 * A virtual router's Lease, as far as the engine has to do with it: what the feeder says of it becomes an event of
 * the core, what the core wishes a message to the feeder. Nothing is kept here, and nobody waits for an answer: without
 * a feeder there is none, and the elector goes on as with a silent API server.
 */
void router_lease(struct router *router, const struct message_lease *lease);
void router_renewed(struct router *router, const char *node); /* a sign of life of that node */
void router_lease_result(struct router *router, const struct message_lease_result *result);

/* Actions of the core's; the answer to a write bears its id. */
void router_lease_write(struct router *router, const struct virtual_router_action *action);
void router_lease_read(struct router *router);
