#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/balancer.h"
#include "daemon/engine/node.h"
#include "daemon/engine/served.h"

/* From what is wanted to what must stand in the kernel: rules of every VIP on every node. */

struct round {
	struct engine *engine;
	int error;
};

uint8_t engine_dataplane(const struct router *router)
{
	uint8_t dataplane = router->wish.dataplane;

	if (dataplane == MESSAGE_DATAPLANE_AUTO)
		dataplane = router->engine->balancer ? MESSAGE_DATAPLANE_ANNOUNCE
						     : MESSAGE_DATAPLANE_DIRECTOR;
	if (dataplane == MESSAGE_DATAPLANE_DIRECTOR && !router->segment)
		dataplane = MESSAGE_DATAPLANE_NAT; /* no LAN to send on over */
	return dataplane;
}

void engine_dataplane_why(const struct router *router, char *text, size_t size)
{
	const struct balancer *balancer = router->engine->balancer;

	if (router->wish.dataplane == MESSAGE_DATAPLANE_AUTO && balancer)
		snprintf(text, size, "auto: %s balances here (interface %s)", balancer->name,
			 balancer->interface);
	else if (router->wish.dataplane == MESSAGE_DATAPLANE_DIRECTOR ||
		 router->wish.dataplane == MESSAGE_DATAPLANE_AUTO)
		snprintf(text, size, "%s%s",
			 router->wish.dataplane == MESSAGE_DATAPLANE_AUTO
				 ? "auto: nothing known to balance by itself is on this node"
				 : "the pool says so",
			 router->segment ? "" : "; this node is not on the segment");
	else
		snprintf(text, size, "the pool says so");
}

static enum nft_dataplane dataplane_of(const struct router *router)
{
	switch ((enum message_dataplane)engine_dataplane(router)) {
	case MESSAGE_DATAPLANE_NAT:
		return NFT_DATAPLANE_NAT;
	case MESSAGE_DATAPLANE_ANNOUNCE:
		return NFT_DATAPLANE_ANNOUNCE;
	case MESSAGE_DATAPLANE_AUTO:
	case MESSAGE_DATAPLANE_DIRECTOR:
	case MESSAGE_DATAPLANE_COUNT:
		break;
	}
	return NFT_DATAPLANE_DIRECTOR;
}

static const struct engine_node *node_of(struct engine *engine, const char *name)
{
	for (const struct engine_node *node = engine->nodes; node; node = node->next)
		if (strcmp(node->name, name) == 0)
			return node;
	return NULL;
}

static struct base_address node_on(const struct engine_node *node, const struct base_prefix *subnet)
{
	for (unsigned i = 0; node && i < node->address_count; i++)
		if (base_prefix_contains(subnet, &node->addresses[i]))
			return node->addresses[i];
	return (struct base_address){ 0 };
}

static void want_port(void *userdata, const struct message *message)
{
	static struct nft_endpoint endpoints[MESSAGE_ENDPOINTS_MAX];
	static struct base_prefix ranges[MESSAGE_RANGES_MAX];
	const struct message_service_port *wish = &message->service_port;
	struct round *round = userdata;
	struct engine *engine = round->engine;
	struct router *router =
		address_index_find(&engine->addresses, engine->routers, &wish->address);
	struct served_port now;
	struct base_prefix subnet;
	struct nft_port port = {
		.address = wish->address,
		.protocol = wish->protocol,
		.port = wish->port,
		.client_affinity = wish->affinity == MESSAGE_AFFINITY_CLIENT_IP,
		.range_count = wish->range_count,
		.ranges = ranges,
		.endpoints = endpoints,
	};
	int r;

	if (!router)
		return; /* its address is not here (yet) */
	port.dataplane = dataplane_of(router);
	if (port.dataplane == NFT_DATAPLANE_ANNOUNCE)
		return; /* its packets, and its flows, are somebody else's */
	now = served_note(engine->served, wish, engine_now(engine));
	port.held = now.held;
	port.endpoint_count = now.endpoint_count;
	memcpy(ranges, wish->ranges, wish->range_count * sizeof *ranges);
	nft_ranges_sort(ranges, wish->range_count);
	for (uint32_t i = 0; i < now.endpoint_count; i++) {
		const struct message_endpoint *from = &now.endpoints[i];

		endpoints[i] = (struct nft_endpoint){ .address = from->address,
						      .port = from->port };
		endpoints[i].local = strcmp(from->node, engine->node) == 0;
		if (router->segment && from->node[0] &&
		    segment_subnet(router->segment, &wish->address, &subnet))
			endpoints[i].node = node_on(node_of(engine, from->node), &subnet);
	}
	r = nft_emit_port(&port, nft_table_want, engine->table);
	if (r < 0)
		round->error = r;
}

static void want_peers(struct engine *engine, struct round *round)
{
	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		for (unsigned i = 0; i < segment->peer_count; i++) {
			const struct segment_peer *peer = &segment->peers[i];

			if (peer->mac_known && segment_peer_is_member(segment, peer) &&
			    nft_emit_peer(&peer->mac, nft_table_want, engine->table) < 0)
				round->error = -ENOMEM;
		}
}

static void add_interval(struct nft_skeleton *skeleton, uint32_t interval_cs)
{
	unsigned at = skeleton->interval_count;

	for (unsigned i = 0; i < skeleton->interval_count; i++)
		if (skeleton->intervals_cs[i] == interval_cs)
			return;
	if (at == NFT_INTERVALS_MAX)
		return;
	for (; at > 0 && skeleton->intervals_cs[at - 1] > interval_cs; at--)
		skeleton->intervals_cs[at] = skeleton->intervals_cs[at - 1];
	skeleton->intervals_cs[at] = interval_cs;
	skeleton->interval_count++;
}

/* In the order of their names, so that the same wishes make the same rules. */
static void add_segment(struct nft_skeleton *skeleton, const struct segment *segment)
{
	unsigned at = skeleton->segment_count;

	if (at == NFT_SEGMENTS_MAX)
		return;
	for (; at > 0 && strcmp(skeleton->segments[at - 1], segment->name) > 0; at--) {
		memcpy(skeleton->segments[at], skeleton->segments[at - 1], 16);
		skeleton->indices[at] = skeleton->indices[at - 1];
	}
	memcpy(skeleton->segments[at], segment->name, 16);
	skeleton->indices[at] = segment->index;
	skeleton->segment_count++;
}

static int compare_prefixes(const void *a, const void *b)
{
	const struct base_prefix *left = a, *right = b;
	int r = base_address_compare(&left->address, &right->address);

	return r ? r : (int)left->length - (int)right->length;
}

static void make_skeleton(struct engine *engine, struct nft_skeleton *skeleton)
{
	memset(skeleton, 0, sizeof *skeleton);
	skeleton->egress = engine->abilities.egress;
	skeleton->addresses_per_router = 1;
	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		add_segment(skeleton, segment);
	for (struct router *router = engine->routers; router; router = router->next) {
		add_interval(skeleton, router->wish.interval_ms / 10);
		if (router->wish.address_count > skeleton->addresses_per_router)
			skeleton->addresses_per_router = router->wish.address_count;
	}
	for (struct engine_node *node = engine->nodes; node; node = node->next)
		for (unsigned i = 0; i < node->range_count && skeleton->range_count < 64; i++)
			skeleton->pod_ranges[skeleton->range_count++] = node->pod_ranges[i];
	qsort(skeleton->pod_ranges, skeleton->range_count, sizeof skeleton->pod_ranges[0],
	      compare_prefixes);
}

static void rules_failed(struct engine *engine, const struct base_error *error)
{
	unsigned suppressed;

	engine->rules_present = false;
	snprintf(engine->rules_message, sizeof engine->rules_message, "%s", error->message);
	if (log_gate_pass(&engine->rules_gate, &suppressed))
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "%s; tried again in %llu s", error->message,
			 (unsigned long long)(ENGINE_REFRESH_US / BASE_USEC_PER_SEC));
}

void engine_rules_apply(struct engine *engine)
{
	struct round round = { .engine = engine };
	struct nft_skeleton skeleton;
	struct base_error error = { 0 };
	int r;

	engine->rules_due = false;
	if (!engine->table) { /* unfenced by explicit setting, and said so */
		engine->rules_present = true;
	} else if (!engine->routers) {
		/* Nothing is wanted: nothing of ours stays in the kernel. */
		nft_table_remove(engine->table);
		engine->rules_present = true;
	} else {
		make_skeleton(engine, &skeleton);
		nft_table_begin(engine->table);
		served_begin(engine->served);
		for (struct router *router = engine->routers; router; router = router->next)
			for (uint32_t i = 0; i < router->wish.address_count; i++)
				if (nft_emit_vip(&router->wish.addresses[i], dataplane_of(router),
						 nft_table_want, engine->table) < 0)
					round.error = -ENOMEM;
		store_each(engine->store, MESSAGE_SERVICE_PORT, want_port, &round);
		want_peers(engine, &round);
		r = nft_table_commit(engine->table, &skeleton, &error);
		if (r < 0 || round.error < 0) {
			rules_failed(engine, &error);
			return;
		}
		served_end(engine->served); /* the flows of who is gone: not before the rules */
		log_gate_clear(&engine->rules_gate);
		engine->rules_present = true;
		engine->rules_message[0] = '\0';
		for (struct router *router = engine->routers; r == 1 && router;
		     router = router->next)
			if (virtual_router_owns(&router->core)) /* the new fence is closed */
				engine_send_advert(router, router->core.vrrp.config.priority);
	}
	for (struct router *router = engine->routers; router; router = router->next) {
		router->rules_present = true;
		router_review(router);
	}
}
