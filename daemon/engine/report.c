#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/engine/bridged.h"
#include "daemon/engine/node.h"
#include "daemon/engine/unheard.h"

struct message *engine_message(enum message_type type)
{
	static struct message message;

	message.type = type;
	return &message;
}

void engine_tell(struct engine *engine, const struct message *message)
{
	feeder_send(engine->feeder, message);
}

void engine_note_transition(struct engine *engine, const struct message_transition *transition)
{
	unsigned at = engine->transition_count++ % ENGINE_TRANSITIONS;

	if (transition->reason < BASE_REASON_COUNT)
		engine->counts.transitions[transition->reason]++;
	if (transition->outage_us > 0 && strcmp(transition->to, engine->node) == 0)
		base_histogram_add(&engine->counts.outages, transition->outage_us);
	engine->transitions[at] = *transition;
	engine->transition_us[at] = engine_now(engine);
}

static bool safe_to_reboot(struct engine *engine)
{
	for (struct router *router = engine->routers; router; router = router->next)
		if (virtual_router_owns(&router->core))
			return false;
	return engine->maintenance;
}

static void add_segment(struct message_node_status *status, const struct segment *segment,
			const struct base_prefix *prefix)
{
	struct message_segment *told = &status->segments[status->segment_count++];
	struct base_prefix subnet = { base_prefix_first(prefix), prefix->length };

	memcpy(told->interface, segment->name, sizeof told->interface);
	told->prefix = subnet;
	told->address = prefix->address;
	told->gateway = segment_gateway(segment, prefix->address.family);
	memcpy(told->mac, segment->mac.bytes, 6);
	told->up = segment->up;
	told->stranger_count =
		strangers_list(&segment->strangers, (enum base_family)prefix->address.family,
			       engine_now(segment->engine), told->strangers);
}

/* Every interface that could be a segment, so that the controller knows who is where. */
static void add_segments(struct engine *engine, struct message_node_status *status)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(engine->links, &count);

	for (size_t i = 0; i < count; i++) {
		struct segment as = { .engine = engine, .index = links[i].index,
				      .mac = links[i].mac, .up = links[i].up };

		if (!links[i].ethernet)
			continue;
		for (struct segment *open = engine->segments; open; open = open->next)
			if (open->index == links[i].index)
				as.strangers = open->strangers;
		memcpy(as.name, links[i].name, sizeof as.name);
		for (unsigned j = 0; j < links[i].address_count; j++)
			if (status->segment_count < MESSAGE_SEGMENTS_MAX &&
			    !base_address_is_link_local(&links[i].addresses[j].address))
				add_segment(status, &as, &links[i].addresses[j]);
	}
}

static void fill_node_status(struct engine *engine, struct message_node_status *status)
{
	memset(status, 0, sizeof *status);
	status->ready = engine->ready;
	status->programmed = engine->rules_present && engine->rules_refused == 0;
	status->unshown = page_refused(engine->page);
	status->safe_to_reboot = safe_to_reboot(engine);
	status->fence = !engine->table		     ? MESSAGE_FENCE_NONE
			: engine->abilities.egress ? MESSAGE_FENCE_EGRESS
						   : MESSAGE_FENCE_LOOPBACK;
	status->dataplane = MESSAGE_DATAPLANE_DIRECTOR;
	snprintf(status->message, sizeof status->message, "%s", engine->rules_message);
	snprintf(status->no_way_back, sizeof status->no_way_back, "%s", engine->no_way_back);
	snprintf(status->untracked, sizeof status->untracked, "%s", engine->untracked);
	unheard_say(engine, status->unheard, sizeof status->unheard);
	bridged_say(engine, status->in_the_way, sizeof status->in_the_way);
	for (struct router *router = engine->routers; router; router = router->next) {
		status->owned += virtual_router_owns(&router->core);
		status->eligible += router_is_eligible(router);
	}
	add_segments(engine, status);
}

void engine_report_node(struct engine *engine)
{
	struct message *message = engine_message(MESSAGE_NODE_STATUS);
	uint64_t hash;

	fill_node_status(engine, &message->node_status);
	hash = base_hash(&message->node_status, sizeof message->node_status);
	if (hash == engine->told)
		return;
	engine->told = hash;
	engine_tell(engine, message);
}
