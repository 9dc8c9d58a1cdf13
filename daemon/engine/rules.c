#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/balancer.h"
#include "daemon/engine/bridged.h"
#include "daemon/engine/node.h"
#include "daemon/engine/own_names.h"
#include "daemon/engine/refusals.h"
#include "daemon/engine/served.h"
#include "daemon/engine/way_back.h"
#include "vrrp/packet.h"

/* From what is wanted to what must stand in the kernel: rules of every VIP on every node. */

/* What is to be looked at, in pieces that leave the loop to others in between. */
struct rules {
	struct engine *engine;
	sd_event_source *work;
	struct refusals_source *queue;
	size_t count, at, capacity;
	bool all;    /* a round over everything is to begin */
	bool busy;   /* the table has not done yet what it was told: the rest waits for it */
	bool waiting; /* and it goes on when its fd says so */
	bool source4[33], source6[129]; /* lengths of source ranges, of now or earlier */
	uint64_t verified_us; /* when the kernel's elements were asked for last */
	bool verifying;	      /* and not compared yet */
	bool failed; /* no memory, or the kernel refused: everything anew, later */
};

#define VERIFY_US (60 * BASE_USEC_PER_SEC)
#define BUDGET_US 4000 /* for wishes; nft/io/table.h has its own for the kernel */

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
		if (router->wish.dataplane != MESSAGE_DATAPLANE_NAT && router->subnet.length > 0)
			break; /* it will be back: subnet_of() */
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

/* Padding included: it is compared as bytes. */
static struct refusals_source source_of(const struct base_address *address, uint8_t protocol, uint16_t port)
{
	struct refusals_source source;

	memset(&source, 0, sizeof source);
	if (address)
		source.address = *address;
	source.protocol = protocol;
	source.port = port;
	return source;
}

/* They stay: a range of a length that is new makes new rules, one that goes need not. */
static void note_lengths(struct rules *rules, const struct base_prefix *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (ranges[i].address.family == BASE_FAMILY_IPV6)
			rules->source6[ranges[i].length] = true;
		else
			rules->source4[ranges[i].length] = true;
}

/*
 * Where nodes reach each other. An interface made anew takes its segment away for a moment: what stands there stays, or
 * a client's packets that come by the new one would be translated and masqueraded here, and its connections reset.
 */
static bool subnet_of(struct router *router, const struct base_address *address, struct base_prefix *subnet)
{
	if (router->segment && segment_subnet(router->segment, address, subnet))
		router->subnet = *subnet;
	*subnet = router->subnet;
	return subnet->length > 0 && base_prefix_contains(subnet, address);
}

static int want_port(struct engine *engine, const struct message_service_port *wish)
{
	static struct nft_endpoint endpoints[MESSAGE_ENDPOINTS_MAX];
	struct nft_endpoint prepared[MESSAGE_PREPARED_MAX];
	static struct base_prefix ranges[MESSAGE_RANGES_MAX];
	struct router *router = engine_router_at(engine, &wish->address);
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
		.prepared = prepared,
	};

	if (router) {
		port.dataplane = dataplane_of(router);
		bridged_forget(router, wish->protocol, wish->port);
	}
	if (!router || port.dataplane == NFT_DATAPLANE_ANNOUNCE) {
		/* Its address is not here (yet); or its packets, and its flows, are somebody else's. */
		served_forget(engine->served, &wish->address, wish->protocol, wish->port);
		return 0;
	}
	now = served_note(engine->served, wish, engine_now(engine));
	port.held = now.held;
	port.endpoint_count = now.endpoint_count;
	memcpy(ranges, wish->ranges, wish->range_count * sizeof *ranges);
	note_lengths(engine->rules, ranges, wish->range_count);
	nft_ranges_sort(ranges, wish->range_count);
	for (uint32_t i = 0; i < now.endpoint_count; i++) {
		const struct message_endpoint *from = &now.endpoints[i];

		endpoints[i] = (struct nft_endpoint){ .address = from->address,
						      .port = from->port,
						      .vm = from->vm,
						      .attached = from->attached,
						      .held = i >= now.held_from };
		endpoints[i].local = strcmp(from->node, engine->node) == 0;
		if (from->node[0] && subnet_of(router, &wish->address, &subnet))
			endpoints[i].node = engine_node_on(engine_node_named(engine, from->node), &subnet);
		if (!endpoints[i].local && (port.dataplane == NFT_DATAPLANE_NAT || endpoints[i].node.family == BASE_FAMILY_NONE))
			bridged_asks(router, wish->protocol, wish->port, &from->address);
	}
	for (uint32_t i = 0; i < wish->prepared_count; i++)
		if (strcmp(wish->prepared[i].node, engine->node) == 0)
			prepared[port.prepared_count++] = (struct nft_endpoint){
				.address = wish->prepared[i].address,
				.port = wish->prepared[i].port,
				.local = true,
			};
	return wish->protocol == MESSAGE_PROTOCOL_EVERY
		       ? nft_emit_whole(&port, nft_table_want, engine->table)
		       : nft_emit_port(&port, nft_table_want, engine->table);
}

static int want_peers(struct engine *engine)
{
	int r = 0;

	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		for (unsigned i = 0; i < segment->peer_count && r >= 0; i++) {
			const struct segment_peer *peer = &segment->peers[i];

			if (peer->mac_known && !vrrp_is_virtual_mac(&peer->mac) &&
			    segment_peer_is_member(segment, peer))
				r = nft_emit_peer(&peer->mac, nft_table_want, engine->table);
		}
	return r;
}

static int want_vip(struct engine *engine, const struct base_address *address)
{
	const struct router *router = engine_router_at(engine, address);
	struct base_mac mac;

	if (!router)
		return 0;
	mac = router_virtual_mac(router);
	return nft_emit_vip(address, dataplane_of(router), router->segment ? router->segment->index : 0,
			    router_wants_virtual_mac(router) ? &mac : NULL, nft_table_want,
			    engine->table);
}

/* What one source wants now, instead of what it wanted before. */
static int want(struct engine *engine, const struct refusals_source *source)
{
	struct router *router = engine_router_at(engine, &source->address);
	const struct message_service_port *port;
	int r = nft_table_source(engine->table, source, sizeof *source);

	if (r < 0)
		return r;
	if (source->address.family == BASE_FAMILY_NONE)
		return want_peers(engine);
	if (source->port == 0 && source->protocol == 0)
		return want_vip(engine, &source->address);
	port = store_port(engine->store, &source->address, source->protocol, source->port);
	if (port)
		return want_port(engine, port);
	served_forget(engine->served, &source->address, source->protocol, source->port);
	if (router)
		bridged_forget(router, source->protocol, source->port);
	return 0;
}

/* --- what is due --- */

static void enqueue(struct rules *rules, const struct base_address *address, uint8_t protocol,
		    uint16_t port)
{
	if (rules->all)
		return; /* it is among everything */
	if (rules->count == rules->capacity) {
		size_t capacity = rules->capacity ? rules->capacity * 2 : 64;
		struct refusals_source *grown = realloc(rules->queue, capacity * sizeof *grown);

		if (!grown) {
			rules->failed = true;
			return;
		}
		rules->queue = grown;
		rules->capacity = capacity;
	}
	rules->queue[rules->count++] = source_of(address, protocol, port);
}

static void enqueue_port(void *userdata, const struct base_address *address, uint8_t protocol,
			 uint16_t port)
{
	enqueue(userdata, address, protocol, port);
}

void engine_rules_port_changed(struct engine *engine, const struct base_address *address,
			       uint8_t protocol, uint16_t port)
{
	enqueue(engine->rules, address, protocol, port);
	engine_rules_soon(engine);
}

void engine_rules_address_changed(struct engine *engine, const struct base_address *address)
{
	enqueue(engine->rules, address, 0, 0);
	if (!engine->rules->all)
		store_each_port(engine->store, address, enqueue_port, engine->rules);
	engine_rules_soon(engine);
}

void engine_rules_segment_changed(struct router *router)
{
	for (uint32_t i = 0; i < router->wish.address_count; i++)
		enqueue(router->engine->rules, &router->wish.addresses[i], 0, 0);
	engine_rules_soon(router->engine);
}

void engine_rules_members_changed(struct engine *engine)
{
	enqueue(engine->rules, NULL, 0, 0);
	engine_rules_soon(engine);
}

static void enqueue_everything(struct engine *engine)
{
	struct rules *rules = engine->rules;

	rules->all = false;
	rules->count = rules->at = 0;
	for (struct router *router = engine->routers; router; router = router->next)
		for (uint32_t i = 0; i < router->wish.address_count; i++)
			enqueue(rules, &router->wish.addresses[i], 0, 0);
	store_each_port(engine->store, NULL, enqueue_port, rules);
	enqueue(rules, NULL, 0, 0);
	nft_table_begin(engine->table);
	nft_table_retry(engine->table);
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
		skeleton->virtual_macs[at] = skeleton->virtual_macs[at - 1];
		skeleton->tagged[at] = skeleton->tagged[at - 1];
	}
	memcpy(skeleton->segments[at], segment->name, 16);
	skeleton->indices[at] = segment->index;
	skeleton->virtual_macs[at] = segment->virtual_macs;
	skeleton->tagged[at] = segment_has_vlans(segment);
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
	skeleton->arp = engine->abilities.arp;
	skeleton->addresses_per_router = 1;
	memcpy(skeleton->source4, engine->rules->source4, sizeof skeleton->source4);
	memcpy(skeleton->source6, engine->rules->source6, sizeof skeleton->source6);
	for (struct router *router = engine->routers; router; router = router->next)
		if (router->segment && router_wants_virtual_mac(router))
			router->segment->virtual_macs = true;
	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		add_segment(skeleton, segment);
	own_names_fill(engine, skeleton);
	way_back_fill(engine, skeleton);
	bridged_fill(engine, skeleton);
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

static void failed(struct engine *engine, const struct base_error *error)
{
	unsigned suppressed;

	engine->rules->failed = false;
	engine->rules->all = true; /* with the next refresh */
	engine->rules_present = false;
	engine->rules_refused = 0;
	snprintf(engine->rules_message, sizeof engine->rules_message, "%s", error->message);
	if (log_gate_pass(&engine->rules_gate, &suppressed))
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "%s; tried again in %llu s", error->message,
			 (unsigned long long)(ENGINE_REFRESH_US / BASE_USEC_PER_SEC));
}

/* The kernel has what is wanted, but what it refuses. */
static void done(struct engine *engine)
{
	size_t count;

	engine->rules_present = true;
	if (engine->table) {
		served_end(engine->served); /* the flows of who is gone: not before the rules */
		refusals_review(engine);
	}
	count = engine->table ? nft_table_differences(engine->table) : 0;
	if (engine->rules->verifying) {
		engine->rules->verifying = false;
		engine->verified = (struct engine_verified){ .times = engine->verified.times + 1,
							     .when_us = engine_now(engine),
							     .differed = count };
	}
	if (count > 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "%zu elements of table vipd were not as they should be, and nobody was seen "
			 "to change them: put right", count);
	for (struct router *router = engine->routers; router; router = router->next)
		router_rules_stand(router);
}

static void open_fences(struct engine *engine)
{
	for (struct router *router = engine->routers; router; router = router->next)
		if (virtual_router_owns(&router->core))
			engine_send_advert(router, router->core.vrrp.config.priority);
}

/* True: all that is wanted has been said to the table. */
static bool take_wishes(struct engine *engine)
{
	struct rules *rules = engine->rules;
	uint64_t end_us = engine_now(engine) + BUDGET_US;

	for (unsigned i = 0; rules->at < rules->count; i++) {
		if (i % 16 == 15 && engine_now(engine) > end_us)
			return false;
		if (want(engine, &rules->queue[rules->at++]) < 0)
			rules->failed = true;
	}
	rules->at = rules->count = 0;
	if (rules->capacity > 1024) { /* of a round over everything */
		free(rules->queue);
		rules->queue = NULL;
		rules->capacity = 0;
	}
	return true;
}

/* One turn; true: there is more to do at once. */
static bool work(struct engine *engine)
{
	struct nft_skeleton skeleton;
	struct base_error error = { 0 };
	int r;

	if (!engine->rules->busy) {
		if (engine->rules->all)
			enqueue_everything(engine);
		if (!take_wishes(engine))
			return true;
	}
	if (engine->rules->failed) {
		base_error_set(&error, -ENOMEM, "out of memory: rules are not complete");
		failed(engine, &error);
		return false;
	}
	make_skeleton(engine, &skeleton);
	r = nft_table_commit(engine->table, &skeleton, &error);
	engine->rules->busy = r > 0 && r & (NFT_TABLE_MORE | NFT_TABLE_WAIT);
	engine->rules->waiting = r > 0 && r & NFT_TABLE_WAIT;
	if (r < 0) {
		failed(engine, &error);
		return false;
	}
	if (r & NFT_TABLE_ANEW)
		open_fences(engine); /* the new ones are closed */
	if (engine->rules->busy)
		return !engine->rules->waiting;
	if (engine->rules->count > 0 || engine->rules->all)
		return true; /* said meanwhile */
	done(engine);
	return false;
}

static void begin_work(struct engine *engine)
{
	/* The rest of it when everything that is more urgent has had its turn. */
	if (work(engine))
		sd_event_source_set_enabled(engine->rules->work, SD_EVENT_ONESHOT);
}

static int on_work(sd_event_source *source, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	if (!engine->routers)
		return 0; /* they went meanwhile, and the rules with them */
	begin_work(engine);
	if (engine->rules_present) /* who waited for them is looked at */
		engine_cluster_changed(engine);
	return 0;
}

void engine_rules_continue(struct engine *engine)
{
	if (engine->rules->waiting)
		sd_event_source_set_enabled(engine->rules->work, SD_EVENT_ONESHOT);
}

void engine_rules_all(struct engine *engine)
{
	engine->rules->all = engine->rules_due = true;
}

void engine_rules_apply(struct engine *engine)
{
	engine->rules_due = false;
	if (!engine->table) { /* unfenced by explicit setting, and said so */
		engine->rules->count = engine->rules->at = 0;
		done(engine);
	} else if (!engine->routers) {
		/* Nothing is wanted: nothing of ours stays in the kernel. */
		nft_table_remove(engine->table);
		engine->rules->count = engine->rules->at = 0;
		engine->rules->busy = engine->rules->waiting = false;
		engine->rules->all = true; /* for the first one that comes */
		engine->rules_present = true;
	} else {
		begin_work(engine);
	}
}

void engine_rules_verify(struct engine *engine)
{
	if (!engine->table || !engine->rules_present)
		return;
	engine->rules->verified_us = engine_now(engine);
	engine->rules->verifying = true;
	nft_table_retry(engine->table);
	nft_table_compare(engine->table);
	engine_rules_soon(engine);
}

void engine_rules_refresh(struct engine *engine)
{
	if (base_usec_since(engine_now(engine), engine->rules->verified_us) > VERIFY_US)
		engine_rules_verify(engine);
}

int engine_rules_new(struct engine *engine)
{
	struct rules *rules = calloc(1, sizeof *rules);
	int r;

	if (!rules)
		return -ENOMEM;
	engine->rules = rules;
	rules->engine = engine;
	rules->all = true;
	rules->verified_us = engine_now(engine);
	r = sd_event_add_defer(engine->event, &rules->work, on_work, engine);
	if (r >= 0)
		r = sd_event_source_set_priority(rules->work, ENGINE_PRIORITY_RULES);
	if (r >= 0)
		r = sd_event_source_set_enabled(rules->work, SD_EVENT_OFF);
	return r;
}

void engine_rules_free(struct engine *engine)
{
	if (!engine->rules)
		return;
	sd_event_source_disable_unref(engine->rules->work);
	free(engine->rules->queue);
	free(engine->rules);
}
