#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/engine/node.h"
#include "daemon/engine/router.h"
#include "daemon/engine/segment.h"
#include "daemon/log.h"

/* What log and feeder are told of a virtual router. */

static void log_transition(struct router *router, const struct virtual_router_action *action)
{
	char address[BASE_ADDRESS_TEXT_SIZE], vrid[8], term[16], outage[24];
	const struct base_reason_info *info = base_reason_info(action->transition.reason);

	base_address_format(&router->wish.addresses[0], address);
	snprintf(vrid, sizeof vrid, "%u", router->wish.virtual_router_id);
	snprintf(term, sizeof term, "%u", virtual_router_term(&router->core));
	snprintf(outage, sizeof outage, "%llu", (unsigned long long)action->transition.outage_us);
	log_line(info->severity == BASE_SEVERITY_WARNING ? LOG_WARNING : LOG_NOTICE,
		 action->transition.reason,
		 LOG_FIELDS({ "VIP", address }, { "VRID", vrid }, { "LEASE", router->wish.name },
			    { "TERM", term }, { "OLD_OWNER", action->transition.from },
			    { "NEW_OWNER", action->transition.to },
			    { "NEW_STATE", virtual_router_state_name(
						   virtual_router_state(&router->core)) },
			    { "SERVICE", router->wish.services }, { "POOL", router->wish.pool },
			    { "INTERFACE", router->segment ? router->segment->name : "" },
			    { "OUTAGE_USEC", action->transition.outage_us ? outage : "" }),
		 "%s", action->transition.message);
}

void router_tell_transition(struct router *router, const struct virtual_router_action *action)
{
	struct message *message = engine_message(MESSAGE_TRANSITION);
	struct message_transition *transition = &message->transition;

	MESSAGE_CLEAR(message, MESSAGE_TRANSITION, transition);
	snprintf(transition->router, sizeof transition->router, "%s", router->wish.name);
	snprintf(transition->from, sizeof transition->from, "%s", action->transition.from);
	snprintf(transition->to, sizeof transition->to, "%s", action->transition.to);
	snprintf(transition->message, sizeof transition->message, "%s",
		 action->transition.message);
	transition->reason = (uint8_t)action->transition.reason;
	transition->term = virtual_router_term(&router->core);
	transition->outage_us = action->transition.outage_us;
	router->last_reason = action->transition.reason;
	router->since_us = engine_now(router->engine);
	router->gained += strcmp(transition->to, router->engine->node) == 0 &&
			  strcmp(transition->from, transition->to) != 0;
	engine_note_transition(router->engine, transition);
	engine_tell(router->engine, message);
	log_transition(router, action);
}

bool router_is_eligible(const struct router *router)
{
	return router->eligible && router->core.self != ELECTION_NOBODY;
}

void router_say_eligibility(struct router *router)
{
	enum base_reason why = router->not_eligible_why;
	const char *interface = router->segment ? router->segment->name : "";
	char address[BASE_ADDRESS_TEXT_SIZE];

	if (router->core.self == ELECTION_NOBODY || why == router->said_why ||
	    why == BASE_REASON_COUNT)
		return;
	if (why == BASE_REASON_KERNEL_REFUSED && !router->engine->ready)
		return; /* the first rules are on their way; whoever refuses them is named then */
	router->said_why = why;
	base_address_format(&router->wish.addresses[0], address);
	log_line(why == BASE_REASON_NONE ? LOG_NOTICE : LOG_WARNING,
		 why == BASE_REASON_NONE ? BASE_REASON_CONFIGURED : why,
		 LOG_FIELDS({ "VIP", address }, { "LEASE", router->wish.name },
			    { "INTERFACE", interface }),
		 why == BASE_REASON_NONE ? "this node may own %s again" : "this node cannot own %s: %s",
		 address, base_reason_info(why)->meaning);
}

static void fill_status(struct router *router, struct message_router_status *status)
{
	const struct virtual_router *core = &router->core;

	memset(status, 0, sizeof *status);
	snprintf(status->router, sizeof status->router, "%s", router->wish.name);
	snprintf(status->owner, sizeof status->owner, "%s", virtual_router_owner(core));
	status->state = (uint8_t)virtual_router_state(core);
	status->owned = virtual_router_owns(core);
	status->confirmed = virtual_router_confirmed(core);
	status->eligible = router_is_eligible(router);
	status->not_eligible_why =
		(uint8_t)(router->not_eligible_why == BASE_REASON_COUNT ? BASE_REASON_NONE
									 : router->not_eligible_why);
	status->rules_present = router->rules_present;
	status->term = virtual_router_term(core);
	status->conflict = router->conflict;
	memcpy(status->conflict_mac, router->conflict_mac.bytes, 6);
	status->dataplane = engine_dataplane(router);
	if (status->owned) {
		status->addresses_present = engine_addresses_present(router);
		status->fence_open = engine_fence_open(router);
	}
}

static void tell_status(struct router *router, const struct message_router_status *status)
{
	struct message *message = engine_message(MESSAGE_ROUTER_STATUS);

	message->router_status = *status;
	message->router_status.since_ms =
		base_usec_since(engine_now(router->engine), router->since_us) / 1000;
	engine_tell(router->engine, message);
}

/* What of the status a step of the core can change without an action: cheap to look at, 2500 times a second. */
static uint32_t core_status(const struct router *router)
{
	const struct election_elector *elector = &router->core.elector;

	return (uint32_t)elector->state << 16 | (uint32_t)elector->confirmed << 8 |
	       election_elector_owner(elector);
}

void router_report_routine(struct router *router)
{
	if (core_status(router) != router->told_core)
		router_report(router);
}

void router_report(struct router *router)
{
	struct message_router_status status;
	uint64_t hash;

	if (router->frozen)
		return;
	router->told_core = core_status(router);
	fill_status(router, &status);
	hash = base_hash(&status, sizeof status);
	if (hash == router->told)
		return;
	router->told = hash;
	tell_status(router, &status);
}
