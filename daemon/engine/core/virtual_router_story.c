#include "daemon/engine/core/virtual_router_story.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/core/virtual_router_names.h"

static void describe(const struct virtual_router *router, const struct election_action *wish,
		     struct virtual_router_action *action, uint64_t now_us)
{
	const char *from = action->transition.from, *to = action->transition.to;
	char *message = action->transition.message;
	size_t size = sizeof action->transition.message;
	unsigned long long silent_ms =
		router->last_heard_us ? base_usec_since(now_us, router->last_heard_us) / 1000 : 0;

	switch ((int)wish->why) { /* the others have no story of their own */
	case BASE_REASON_OWNER_ELECTED:
		snprintf(message, size, "%s is the first owner of %s", to, router->config.name);
		return;
	case BASE_REASON_OWNER_LOST:
		action->transition.outage_us =
			router->last_heard_us ? base_usec_since(now_us, router->last_heard_us) : 0;
		snprintf(message, size, "%s took over %s: %s was silent for %llu ms%s%s", to,
			 router->config.name, from[0] ? from : "the owner", silent_ms,
			 router->elector.absences >= ELECTION_UNANSWERED_MAX ? " and its node answered nothing" : "",
			 router->config.leased && !router->elector.confirmed
				 ? ", API server silent too"
				 : "");
		return;
	case BASE_REASON_OWNER_RESIGNED:
		snprintf(message, size, "%s took over %s: %s gave it up", to, router->config.name,
			 from[0] ? from : "its owner");
		return;
	case BASE_REASON_STARTED:
		snprintf(message, size, "%s goes on with %s, which %s", to, router->config.name,
			 from[0] && strcmp(from, to) != 0 ? "the Lease says is its own"
							  : "it had before it was restarted");
		return;
	case BASE_REASON_OWNER_OBSERVED:
		snprintf(message, size, "%s owns %s", to, router->config.name);
		return;
	case BASE_REASON_FOREIGN_ADDRESS:
		if (from[0]) {
			snprintf(message, size,
				 "%s gave up %s, which it had just taken: a host outside the cluster has it "
				 "as well",
				 from, router->config.name);
			return;
		}
		snprintf(message, size,
			 "a host outside the cluster answers for %s: not taken, looked at again "
			 "in %u s",
			 router->config.name, (unsigned)(ELECTION_CONFLICT_US / BASE_USEC_PER_SEC));
		return;
	default:
		break;
	}
	if (strcmp(from, router->config.node) == 0)
		snprintf(message, size, "%s gave up %s%s%s: %s", from, router->config.name,
			 to[0] ? ", to " : "", to, base_reason_info(wish->why)->meaning);
	else
		snprintf(message, size, "%s has %s now: %s", to[0] ? to : "nobody",
			 router->config.name, base_reason_info(wish->why)->meaning);
}

void virtual_router_tell_transition(const struct virtual_router *router,
				    const struct election_action *wish, uint64_t now_us,
				    struct virtual_router_action *action)
{
	action->transition.reason = wish->why;
	snprintf(action->transition.from, sizeof action->transition.from, "%s",
		 virtual_router_node_at(router, wish->from));
	snprintf(action->transition.to, sizeof action->transition.to, "%s",
		 virtual_router_node_at(router, wish->to));
	describe(router, wish, action, now_us);
}

void virtual_router_tell_disbelieved(const struct virtual_router *router,
				     const struct election_action *wish,
				     struct virtual_router_action *action)
{
	snprintf(action->transition.from, sizeof action->transition.from, "%s",
		 virtual_router_node_at(router, wish->from));
	snprintf(action->transition.message, sizeof action->transition.message,
		 "adverts of %s bear the address of %s, but nothing else says that it has it, no "
		 "answer for the address or no Lease: ignored",
		 router->config.name, action->transition.from);
}
