#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/bridged.h"
#include "daemon/engine/node.h"
#include "daemon/engine/unheard.h"

static double seconds_since(struct engine *engine, uint64_t then_us)
{
	return (double)(base_usec_since(engine_now(engine), then_us) / 1000) / 1000;
}

/* What holds an address here: the fence that adverts keep open, and who is there to see it. */
static void describe_hold(const struct router *router, cJSON *item)
{
	unsigned known, answered;

	engine_count_witnesses(router, &known, &answered);
	cJSON_AddNumberToObject(item, "fenceRefreshedSecondsAgo",
				seconds_since(router->engine, router->sent_us));
	cJSON_AddNumberToObject(item, "witnesses", known);
	cJSON_AddNumberToObject(item, "witnessesAnswering", answered);
}

static void describe_addresses(const struct router *router, cJSON *item)
{
	size_t size = router->wish.address_count * (BASE_ADDRESS_TEXT_SIZE + 1) + 1, at = 0;
	char *text = malloc(size), one[BASE_ADDRESS_TEXT_SIZE];

	for (uint32_t i = 0; text && i < router->wish.address_count; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%s", i ? "," : "",
				       base_address_format(&router->wish.addresses[i], one));
	cJSON_AddStringToObject(item, "addresses", at > 0 ? text : "");
	free(text);
}

static void describe_routers(struct engine *engine, cJSON *tree)
{
	static const char *const dataplanes[MESSAGE_DATAPLANE_COUNT] = { "auto", "director", "nat",
									 "announce" };
	cJSON *list = cJSON_AddArrayToObject(tree, "routers");

	for (struct router *router = engine->routers; router; router = router->next) {
		cJSON *item = cJSON_CreateObject();
		char why[160];
		struct base_mac virtual_mac = router_virtual_mac(router);
		char mac[BASE_MAC_TEXT_SIZE];

		cJSON_AddStringToObject(item, "name", router->wish.name);
		describe_addresses(router, item);
		cJSON_AddNumberToObject(item, "virtualRouterID", router->wish.virtual_router_id);
		cJSON_AddStringToObject(item, "services", router->wish.services);
		cJSON_AddStringToObject(item, "interface",
					router->segment ? router->segment->name : "");
		cJSON_AddStringToObject(
			item, "state", virtual_router_state_name(virtual_router_state(&router->core)));
		cJSON_AddStringToObject(item, "owner", virtual_router_owner(&router->core));
		cJSON_AddBoolToObject(item, "confirmed", virtual_router_confirmed(&router->core));
		cJSON_AddBoolToObject(item, "candidate", router->core.self != ELECTION_NOBODY);
		cJSON_AddBoolToObject(item, "eligible", router_is_eligible(router));
		cJSON_AddStringToObject(item, "notEligible",
					router->eligible || router->not_eligible_why == BASE_REASON_COUNT
						? ""
						: base_reason_word(router->not_eligible_why));
		cJSON_AddStringToObject(item, "virtualMAC",
					router->rules_virtual ? base_mac_format(&virtual_mac, mac) : "");
		engine_dataplane_why(router, why, sizeof why);
		cJSON_AddStringToObject(item, "dataplane", dataplanes[engine_dataplane(router)]);
		cJSON_AddStringToObject(item, "dataplaneWhy", why);
		cJSON_AddNumberToObject(item, "term", virtual_router_term(&router->core));
		cJSON_AddStringToObject(item, "reason", base_reason_word(router->last_reason));
		cJSON_AddNumberToObject(item, "sinceSeconds", seconds_since(engine, router->since_us));
		cJSON_AddBoolToObject(item, "addressesPresent", engine_addresses_present(router));
		cJSON_AddBoolToObject(item, "fenceOpen", engine_fence_open(router));
		if (virtual_router_owns(&router->core))
			describe_hold(router, item);
		cJSON_AddNumberToObject(item, "advertsSent", (double)router->adverts_sent);
		cJSON_AddNumberToObject(item, "advertsHeard", (double)router->adverts_heard);
		cJSON_AddNumberToObject(item, "worstLatenessMicroseconds", (double)router->late_us);
		cJSON_AddItemToArray(list, item);
	}
}

static void describe_peers(struct engine *engine, cJSON *tree)
{
	cJSON *list = cJSON_AddArrayToObject(tree, "peers");

	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		for (unsigned i = 0; i < segment->peer_count; i++) {
			const struct segment_peer *peer = &segment->peers[i];
			char text[BASE_ADDRESS_TEXT_SIZE], mac[BASE_MAC_TEXT_SIZE];
			const struct engine_node *node = engine_node_at(engine, &peer->address);
			const char *name = node ? node->name : "";
			cJSON *item;

			if (strcmp(name, engine->node) == 0)
				continue; /* nobody is his own peer */
			item = cJSON_CreateObject();
			cJSON_AddStringToObject(item, "node", name);
			cJSON_AddStringToObject(item, "address",
						base_address_format(&peer->address, text));
			cJSON_AddStringToObject(item, "interface", segment->name);
			cJSON_AddStringToObject(
				item, "mac", peer->mac_known ? base_mac_format(&peer->mac, mac) : "");
			cJSON_AddNumberToObject(
				item, "heardSecondsAgo",
				peer->heard_us ? seconds_since(engine, peer->heard_us) : -1);
			cJSON_AddItemToArray(list, item);
		}
}

cJSON *engine_describe(void *userdata)
{
	struct engine *engine = userdata;
	cJSON *tree = cJSON_CreateObject(), *list, *drops;
	char unheard[MESSAGE_TEXT_SIZE], in_the_way[2 * MESSAGE_TEXT_SIZE];

	engine_fence_show(engine);
	cJSON_AddStringToObject(tree, "node", engine->node);
	cJSON_AddStringToObject(tree, "version", VIPD_VERSION);
	cJSON_AddBoolToObject(tree, "ready", engine->ready);
	cJSON_AddStringToObject(tree, "fence", engine_fence_name(engine));
	cJSON_AddStringToObject(tree, "feeder", feeder_running(engine->feeder) ? "running" : "gone");
	cJSON_AddBoolToObject(tree, "apiReachable", engine->api_reachable);
	cJSON_AddStringToObject(tree, "rules", engine->rules_present ? "present" : "missing");
	cJSON_AddStringToObject(tree, "message", engine->rules_message);
	cJSON_AddStringToObject(tree, "noWayBack", engine->no_way_back);
	cJSON_AddStringToObject(tree, "untracked", engine->untracked);
	unheard_say(engine, unheard, sizeof unheard);
	cJSON_AddStringToObject(tree, "unheard", unheard);
	bridged_say(engine, in_the_way, sizeof in_the_way);
	cJSON_AddStringToObject(tree, "bridgeInTheWay", in_the_way);
	cJSON_AddNumberToObject(tree, "rulesVerified", engine->verified.times);
	if (engine->verified.times) {
		cJSON_AddNumberToObject(tree, "rulesVerifiedSecondsAgo",
					seconds_since(engine, engine->verified.when_us));
		cJSON_AddNumberToObject(tree, "rulesDiffered", (double)engine->verified.differed);
	}
	describe_routers(engine, tree);
	describe_peers(engine, tree);
	drops = cJSON_AddObjectToObject(tree, "adverts");
	for (int i = 0; i < VRRP_VERDICT_COUNT; i++)
		cJSON_AddNumberToObject(drops, vrrp_verdict_text((enum vrrp_verdict)i),
					(double)engine->verdicts[i]);
	list = cJSON_AddArrayToObject(tree, "transitions");
	for (unsigned i = 0; i < ENGINE_TRANSITIONS && i < engine->transition_count; i++) {
		unsigned at = (engine->transition_count - 1 - i) % ENGINE_TRANSITIONS;
		const struct message_transition *t = &engine->transitions[at];
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "router", t->router);
		cJSON_AddStringToObject(item, "from", t->from);
		cJSON_AddStringToObject(item, "to", t->to);
		cJSON_AddStringToObject(item, "reason", base_reason_word((enum base_reason)t->reason));
		cJSON_AddStringToObject(item, "message", t->message);
		cJSON_AddNumberToObject(item, "outageMilliseconds", (double)(t->outage_us / 1000));
		cJSON_AddNumberToObject(
			item, "secondsAgo",
			(double)(base_usec_since(engine_now(engine), engine->transition_us[at]) /
				 1000) / 1000);
		cJSON_AddItemToArray(list, item);
	}
	return tree;
}

cJSON *engine_describe_health(void *userdata)
{
	struct engine *engine = userdata;
	cJSON *tree = cJSON_CreateObject();

	cJSON_AddBoolToObject(tree, "ready", engine->ready);
	cJSON_AddStringToObject(tree, "message",
				engine->ready		   ? ""
				: *engine->rules_message ? engine->rules_message
							   : "what is wanted was not read yet, or the "
							     "fence is not in place; vipd status says more");
	return tree;
}

cJSON *engine_describe_verify(void *userdata)
{
	struct engine *engine = userdata;
	cJSON *tree = cJSON_CreateObject();

	cJSON_AddNumberToObject(tree, "rulesVerified", engine->verified.times);
	engine_rules_verify(engine);
	return tree;
}
