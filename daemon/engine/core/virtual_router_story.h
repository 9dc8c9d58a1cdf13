#pragma once

#include "daemon/engine/core/virtual_router.h"

/*
 * What people are told of what the elector did: from whom to whom, why, and one sentence about it. Fills
 * `action->transition`, which the caller has cleared; changes nothing else.
 */
void virtual_router_tell_transition(const struct virtual_router *router,
				    const struct election_action *wish, uint64_t now_us,
				    struct virtual_router_action *action);
/* Adverts in the name of a member that nothing confirms: `from` and the sentence. */
void virtual_router_tell_disbelieved(const struct virtual_router *router,
				     const struct election_action *wish,
				     struct virtual_router_action *action);
