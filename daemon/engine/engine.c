#include "daemon/engine/engine.h"

#include <errno.h>
#include <linux/capability.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/array.h"
#include "daemon/engine/balancer.h"
#include "daemon/engine/node.h"
#include "daemon/engine/served.h"
#include "vrrp/frame.h"
#include "vrrp/io/neighbour.h"
#include "vrrp/io/socket.h"

#define REALTIME_PRIORITY 10

uint64_t engine_now(struct engine *engine)
{
	struct timespec now;

	(void)engine; /* the true time, not the loop's: a handler may have taken a while */
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * BASE_USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

void engine_tell(struct engine *engine, const struct message *message)
{
	feeder_send(engine->feeder, message);
}

void engine_note_transition(struct engine *engine, const struct message_transition *transition)
{
	unsigned at = engine->transition_count++ % ENGINE_TRANSITIONS;

	engine->transitions[at] = *transition;
	engine->transition_us[at] = engine_now(engine);
}

/* --- addresses --- */

int engine_addresses_add(struct engine *engine, struct segment *segment,
			 const struct base_address *addresses, size_t count)
{
	return vrrp_links_add(engine->links, segment->index, addresses, count,
			      ENGINE_ADDRESS_VALID_S);
}

/* The advert that follows makes a leaving owner stop: not before we can answer. */
void engine_addresses_wait(struct engine *engine, const struct base_address *addresses,
			   size_t count)
{
	vrrp_links_wait(engine->links, addresses, count, ENGINE_ADDRESS_WAIT_US);
}

void engine_addresses_remove(struct engine *engine, struct segment *segment,
			     const struct base_address *addresses, size_t count)
{
	int r = vrrp_links_remove(engine->links, segment->index, addresses, count);

	if (r < 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED,
			 LOG_FIELDS({ "INTERFACE", segment->name }),
			 "cannot remove an address from %s: %s; it expires within %u s",
			 segment->name, strerror(-r), ENGINE_ADDRESS_VALID_S);
}

void engine_addresses_replace(struct router *router, const struct message_router *next)
{
	for (uint32_t i = 0; i < router->wish.address_count; i++) {
		bool stays = false;

		for (uint32_t j = 0; j < next->address_count && !stays; j++)
			stays = base_address_equal(&router->wish.addresses[i], &next->addresses[j]);
		if (!stays)
			engine_addresses_remove(router->engine, router->segment,
						&router->wish.addresses[i], 1);
	}
}

static bool is_present(const struct engine *engine, const struct segment *segment,
		       const struct base_address *address)
{
	size_t count;
	const struct vrrp_link_tagged *tagged = vrrp_links_tagged(engine->links, &count);

	for (size_t i = 0; i < count; i++)
		if (tagged[i].index == segment->index &&
		    base_address_equal(&tagged[i].address, address))
			return true;
	return false;
}

bool engine_addresses_present(const struct router *router)
{
	for (uint32_t i = 0; i < router->wish.address_count; i++)
		if (!router->segment ||
		    !is_present(router->engine, router->segment, &router->wish.addresses[i]))
			return false;
	return true;
}

/* Ours by their tag, and nobody wants them here: left behind by a predecessor. */
static void remove_leftovers(struct engine *engine)
{
	size_t count;
	const struct vrrp_link_tagged *tagged = vrrp_links_tagged(engine->links, &count);

	for (size_t i = 0; i < count; i++) {
		bool wanted = false;

		for (struct router *router = engine->routers; router && !wanted;
		     router = router->next)
			for (uint32_t j = 0; j < router->wish.address_count && !wanted; j++)
				wanted = router->addresses_added && router->segment &&
					 router->segment->index == tagged[i].index &&
					 base_address_equal(&router->wish.addresses[j],
							    &tagged[i].address);
		if (!wanted)
			vrrp_links_remove(engine->links, tagged[i].index, &tagged[i].address, 1);
	}
}

/* --- adverts and the fence --- */

static struct base_address virtual_link_local(uint8_t id)
{
	/* Made from the virtual MAC 00:00:5e:00:02:VRID, so the same on every router of the VRID. */
	return (struct base_address){ .family = BASE_FAMILY_IPV6,
				      .bytes = { 0xfe, 0x80, [8] = 0x02, [10] = 0x5e, [11] = 0xff,
						 [12] = 0xfe, [13] = 0x00, [14] = 0x02, [15] = id } };
}

static size_t build(const struct router *router, uint8_t version, uint8_t priority,
		    const struct vrrp_packet_meta *meta, uint8_t *data, size_t size)
{
	static struct vrrp_advert advert; /* one thread; 4 KiB are too many for the stack */
	const struct message_router *wish = &router->wish;

	advert.version = version;
	advert.virtual_router_id = wish->virtual_router_id;
	advert.priority = priority;
	advert.pseudo_header = false;
	advert.interval_us = wish->interval_ms * (uint32_t)BASE_USEC_PER_MSEC;
	advert.address_count = 0;
	if (wish->family == BASE_FAMILY_IPV6)
		advert.addresses[advert.address_count++] =
			virtual_link_local(wish->virtual_router_id);
	for (uint32_t i = 0; i < wish->address_count; i++)
		advert.addresses[advert.address_count++] = wish->addresses[i];
	return vrrp_packet_build(&advert, meta, data, size);
}

static void send_loopback(struct engine *engine, const struct router *router, uint8_t version,
			  uint8_t priority)
{
	int six = router->wish.family == BASE_FAMILY_IPV6;
	struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct vrrp_packet_meta meta = { 0 };
	uint8_t data[VRRP_PACKET_SIZE_MAX];
	size_t size;

	meta.source.family = meta.destination.family = router->wish.family;
	size = build(router, version, priority, &meta, data, sizeof data);
	if (size > 0 && engine->loopback[six] >= 0)
		(void)!sendto(engine->loopback[six], data, size, MSG_DONTWAIT,
			      six ? (struct sockaddr *)&to6 : (struct sockaddr *)&to4,
			      six ? sizeof to6 : sizeof to4);
}

/* False, and said, if it did not leave. */
static bool has_left(struct engine *engine, const struct router *router, int r)
{
	if (r < 0 && log_gate_pass(&engine->send_gate, NULL))
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED,
			 LOG_FIELDS({ "LEASE", router->wish.name },
				    { "INTERFACE", router->segment->name }),
			 "cannot send adverts of %s on %s: %s", router->wish.name,
			 router->segment->name, strerror(-r));
	return r >= 0;
}

/* To each candidate; true: to one at least. */
static bool send_unicast(struct router *router, uint8_t version, uint8_t priority,
			 struct vrrp_packet_meta *meta)
{
	struct segment *segment = router->segment;
	struct vrrp_socket *socket = segment->sockets[router->wish.family == BASE_FAMILY_IPV6];
	uint8_t data[VRRP_PACKET_SIZE_MAX];
	bool left = false;
	size_t size;

	for (unsigned i = 0; i < router->core.config.candidate_count; i++) {
		meta->destination = router->core.config.candidates[i].address;
		if (meta->destination.family == BASE_FAMILY_NONE ||
		    strcmp(router->core.config.candidates[i].node, router->engine->node) == 0)
			continue;
		size = build(router, version, priority, meta, data, sizeof data);
		if (size > 0 &&
		    has_left(router->engine, router,
			     vrrp_socket_send(socket, &meta->source, &meta->destination, data, size)))
			left = true;
	}
	return left;
}

static bool send_packet(struct router *router, uint8_t version, uint8_t priority)
{
	struct segment *segment = router->segment;
	int six = router->wish.family == BASE_FAMILY_IPV6;
	struct vrrp_socket *socket = segment->sockets[six];
	struct vrrp_packet_meta meta = {
		.source = six ? segment_link_local(segment)
			      : segment_own_address(segment, &router->wish.addresses[0]),
	};
	uint8_t data[VRRP_PACKET_SIZE_MAX];
	size_t size;
	int r;

	if (!socket || meta.source.family == BASE_FAMILY_NONE)
		return false;
	if (router->wish.unicast && version < NFT_LINGER_VERSION &&
	    send_unicast(router, version, priority, &meta))
		return true;
	/* Unicast without anybody to send to: the fence wants to see an advert all the same. */
	meta.destination = vrrp_group(router->wish.family);
	size = build(router, version, priority, &meta, data, sizeof data);
	if (size == 0)
		return false;
	r = vrrp_socket_send(socket, &meta.source, NULL, data, size);
	if (version >= NFT_LINGER_VERSION)
		return true; /* the chain drops those, and says so */
	return has_left(router->engine, router, r);
}

void engine_send_advert(struct router *router, uint8_t priority)
{
	uint64_t interval_us = router->core.config.interval_us, now_us = engine_now(router->engine);
	uint64_t unheard_us = base_usec_since(now_us, router->sent_us);

	if (!router->segment)
		return;
	router->adverts_sent++;
	/* Its fence has expired, and somebody may have taken over: it must not speak up again. */
	if ((priority == 0 || unheard_us <= interval_us * 5 / 2) &&
	    send_packet(router, router->wish.version, priority)) {
		router->sent_us = now_us;
		if (!router->engine->abilities.egress)
			send_loopback(router->engine, router, router->wish.version, priority);
	} else if (priority > 0 && unheard_us > interval_us * 3 / 2) {
		router->refused_us = now_us;
		engine_cluster_changed(router->engine);
	}
}

/*
 * Packets that the egress chain reads and drops: nobody on the LAN hears them. No nft transaction,
 * so nobody's lock can delay them.
 */
static void send_order(struct router *router, uint8_t version)
{
	if (!router->segment)
		return;
	if (router->engine->abilities.egress)
		send_packet(router, version, 0);
	else
		send_loopback(router->engine, router, version, 0);
}

void engine_close_fence(struct router *router)
{
	send_order(router, NFT_CLOSE_VERSION);
}

void engine_linger(struct router *router)
{
	send_order(router, NFT_LINGER_VERSION);
}

bool engine_fence_ready(const struct engine *engine)
{
	return engine->rules_present;
}

bool engine_fence_open(const struct router *router)
{
	const struct nft_alive *alive = &router->engine->alive;

	for (size_t i = 0; i < alive->count; i++)
		if (base_address_equal(&alive->addresses[i], &router->wish.addresses[0]))
			return true;
	return false;
}

static void ask_for_addresses(struct router *router, const struct base_address *source)
{
	struct segment *segment = router->segment;
	struct vrrp_frame frame;

	for (uint32_t i = 0; i < router->wish.address_count && segment->neighbour; i++) {
		frame.size = vrrp_frame_ask(&router->wish.addresses[i], source, &segment->mac, NULL,
					    frame.data);
		vrrp_neighbour_send(segment->neighbour, &frame, 1);
	}
}

void engine_probe_addresses(struct router *router)
{
	static const struct base_address nobody;

	ask_for_addresses(router, &nobody);
}

void engine_ask_holder(struct router *router)
{
	struct base_address source =
		segment_own_address(router->segment, &router->wish.addresses[0]);

	if (source.family != BASE_FAMILY_NONE)
		ask_for_addresses(router, &source);
}

/*
 * IPv6 adverts come from link-local addresses, which nobody wrote down: the MAC that answers for
 * it tells which member it is. True: `*source` is the member's own address now. False: not known
 * yet, it was asked.
 */
static bool resolve_sender(struct segment *segment, struct base_address *source)
{
	struct segment_peer *peer = segment_peer(segment, source);
	const struct segment_peer *member;
	uint64_t now_us = engine_now(segment->engine);

	if (!peer->mac_known) {
		if (base_usec_since(now_us, peer->asked_us) > 10 * BASE_USEC_PER_MSEC)
			segment_ask(segment, source, now_us);
		return false;
	}
	member = segment_member_by_mac(segment, BASE_FAMILY_IPV6, &peer->mac);
	if (!member) {
		engine_cluster_changed(segment->engine); /* ask the members for their MACs */
		return true;
	}
	*source = member->address;
	return true;
}

static void note_stranger(struct router *router, const struct base_address *source, uint8_t priority)
{
	char text[BASE_ADDRESS_TEXT_SIZE], vrid[8];

	for (unsigned i = 0; i < router->core.config.candidate_count; i++)
		if (base_address_equal(&router->core.config.candidates[i].address, source))
			return;
	if (!log_gate_pass(&router->stranger_gate, NULL))
		return;
	snprintf(vrid, sizeof vrid, "%u", router->wish.virtual_router_id);
	log_line(LOG_WARNING, BASE_REASON_FOREIGN_VIRTUAL_ROUTER,
		 LOG_FIELDS({ "LEASE", router->wish.name }, { "VRID", vrid },
			    { "PEER", base_address_format(source, text) },
			    { "INTERFACE", router->segment->name }),
		 "%s, which is no candidate, sends adverts for virtual router %u on %s with "
		 "priority %u: ignored",
		 text, router->wish.virtual_router_id, router->segment->name, priority);
}

static void hear(struct router *router, const struct base_address *source, uint8_t priority,
		 uint32_t interval_us)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADVERT };
	struct segment *segment = router->segment;
	struct segment_peer *peer = segment_peer(segment, source);

	peer->heard_us = engine_now(segment->engine);
	router->adverts_heard++;
	note_stranger(router, source, priority);
	event.now_us = peer->heard_us;
	event.advert.source = *source;
	event.advert.priority = priority;
	event.advert.interval_us = interval_us;
	router_feed(router, &event);
}

/* The last advert of each sender and virtual router waits; the oldest of all makes room. */
static void keep_waiting(struct segment *segment, const struct base_address *source,
			 const struct vrrp_advert *advert)
{
	struct segment_waiting *slot = &segment->waiting[0];

	for (unsigned i = 0; i < SEGMENT_WAITING_MAX; i++) {
		struct segment_waiting *waiting = &segment->waiting[i];

		if (waiting->id == advert->virtual_router_id &&
		    base_address_equal(&waiting->source, source)) {
			slot = waiting;
			break;
		}
		if (waiting->heard_us < slot->heard_us)
			slot = waiting;
	}
	*slot = (struct segment_waiting){ .source = *source,
					  .heard_us = engine_now(segment->engine),
					  .interval_us = advert->interval_us,
					  .id = advert->virtual_router_id,
					  .priority = advert->priority };
}

void engine_sender_known(struct segment *segment, const struct base_address *source)
{
	for (unsigned i = 0; i < SEGMENT_WAITING_MAX; i++) {
		struct segment_waiting waiting = segment->waiting[i];
		struct router *router = segment->routers[1][waiting.id];
		struct base_address sender = waiting.source;

		if (!base_address_equal(&waiting.source, source))
			continue;
		memset(&segment->waiting[i], 0, sizeof segment->waiting[i]);
		if (router && resolve_sender(segment, &sender) &&
		    base_usec_since(engine_now(segment->engine), waiting.heard_us) <
			    waiting.interval_us)
			hear(router, &sender, waiting.priority, waiting.interval_us);
	}
}

void engine_advert_received(struct segment *segment, const struct vrrp_packet_meta *meta,
			    const uint8_t *data, size_t size)
{
	static struct vrrp_advert advert;
	struct engine *engine = segment->engine;
	int six = meta->source.family == BASE_FAMILY_IPV6;
	enum vrrp_verdict verdict = vrrp_packet_parse(data, size, meta, &advert);
	struct base_address source = meta->source;
	struct router *router = NULL;
	char text[BASE_ADDRESS_TEXT_SIZE];

	if (verdict == VRRP_VERDICT_OK) {
		router = segment->routers[six][advert.virtual_router_id];
		if (!router || advert.version != router->wish.version)
			verdict = VRRP_VERDICT_UNKNOWN_VRID;
	}
	engine->verdicts[verdict]++;
	if (verdict == VRRP_VERDICT_UNKNOWN_VRID)
		return;
	if (verdict != VRRP_VERDICT_OK) {
		if (log_gate_pass(&engine->packet_gate, NULL))
			log_line(LOG_WARNING, BASE_REASON_NONE,
				 LOG_FIELDS({ "PEER", base_address_format(&meta->source, text) },
					    { "INTERFACE", segment->name }),
				 "advert from %s on %s dropped: %s", text, segment->name,
				 vrrp_verdict_text(verdict));
		return;
	}
	if (six && !resolve_sender(segment, &source))
		keep_waiting(segment, &source, &advert);
	else
		hear(router, &source, advert.priority, advert.interval_us);
}

/* --- what changes from outside --- */

static void review_soon(struct engine *engine)
{
	sd_event_source_set_enabled(engine->review, SD_EVENT_ONESHOT);
}

void engine_rules_changed(struct engine *engine)
{
	engine->rules_due = true;
	review_soon(engine);
}

void engine_cluster_changed(struct engine *engine)
{
	engine->routers_due = true;
	review_soon(engine);
}

/* Learns the members' MACs, which loop protection and IPv6 adverts need. */
static void ask_members(struct engine *engine)
{
	uint64_t now_us = engine_now(engine);

	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		for (struct engine_node *node = engine->nodes; node; node = node->next)
			for (unsigned i = 0; i < node->address_count; i++) {
				struct base_prefix subnet;

				if (strcmp(node->name, engine->node) != 0 &&
				    segment_subnet(segment, &node->addresses[i], &subnet) &&
				    !segment_peer(segment, &node->addresses[i])->mac_known)
					segment_ask(segment, &node->addresses[i], now_us);
			}
}

static void report_node(struct engine *engine);

static void read_alive(struct engine *engine)
{
	engine->alive.count = 0;
	if (engine->table)
		nft_table_alive(engine->table, &engine->alive);
	engine->alive_us = engine_now(engine);
}

/* Restarted in place: what the kernel answers for goes on, if nobody can have noticed. */
static void adopt(struct engine *engine)
{
	if (!engine->restarted || !engine->rules_present)
		return;
	engine->restarted = false;
	for (struct router *router = engine->routers; router; router = router->next)
		if (engine_fence_open(router))
			router_adopt(router, engine->alive_us);
}

static int on_review(sd_event_source *source, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	if (!engine->synced)
		return 0;
	segments_review(engine);
	if (engine->routers_due) {
		engine->routers_due = false;
		for (struct router *router = engine->routers; router; router = router->next)
			router_configure(router, &router->wish);
		ask_members(engine);
	}
	if (engine->restarted)
		read_alive(engine); /* new rules begin with a closed fence */
	if (engine->rules_due)
		engine_rules_apply(engine);
	for (struct router *router = engine->routers; router; router = router->next)
		router_review(router);
	adopt(engine);
	if (!engine->reviewed) {
		engine->reviewed = true;
		remove_leftovers(engine);
	}
	for (struct router *router = engine->routers; router; router = router->next)
		router_say_eligibility(router);
	report_node(engine);
	if (!engine->ready && engine->rules_present) {
		engine->ready = true;
		sd_notify(0, "READY=1");
		log_line(LOG_INFO, BASE_REASON_STARTED, LOG_NO_FIELDS,
			 "ready: %zu virtual routers, %zu ports, fence %s",
			 store_count(engine->store, MESSAGE_ROUTER),
			 store_count(engine->store, MESSAGE_SERVICE_PORT),
			 !engine->table		     ? "none"
			 : engine->abilities.egress ? "egress"
						     : "loopback");
	}
	return 0;
}

static int on_links(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct engine *engine = userdata;
	int r;

	(void)source;
	(void)fd;
	(void)revents;
	if (vrrp_links_drain(engine->links) == 0)
		return 0;
	r = vrrp_links_refresh(engine->links);
	if (r < 0) {
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot read the interfaces: %s", strerror(-r));
		return 0;
	}
	/* Somebody took an address of ours away: it is wanted back at once. */
	for (struct router *router = engine->routers; router; router = router->next)
		if (router->addresses_added && router->segment &&
		    virtual_router_owns(&router->core) && !engine_addresses_present(router))
			engine_addresses_add(engine, router->segment, router->wish.addresses,
					     router->wish.address_count);
	engine_cluster_changed(engine);
	return 0;
}

static int on_rules(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct engine *engine = userdata;
	uint64_t now_us = engine_now(engine);
	int verdict;

	(void)source;
	(void)fd;
	(void)revents;
	verdict = nft_table_drain(engine->table);
	if (verdict == NFT_TABLE_UNCHANGED || !engine->routers || !engine->rules_present)
		return 0;
	if (verdict == NFT_TABLE_UNKNOWN && nft_table_present(engine->table))
		return 0;
	nft_table_forget(engine->table);
	engine->rules_due = true;
	if (base_usec_since(now_us, engine->rules_restored_us) > BASE_USEC_PER_SEC) {
		engine->rules_restored_us = now_us;
		engine_rules_apply(engine); /* else the next refresh: nobody is fought with */
	}
	if (log_gate_pass(&engine->foreign_gate, NULL))
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "%s changed the rules of vipd: put back",
			 verdict == NFT_TABLE_CHANGED ? nft_table_culprit(engine->table)
						      : "somebody");
	return 0;
}

static int on_witnesses(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	(void)usec;
	for (struct router *router = engine->routers; router; router = router->next)
		router_witnesses(router, engine_now(engine));
	return 0;
}

void engine_witnesses_asked(struct engine *engine, struct segment *segment)
{
	int enabled = 0;

	(void)segment;
	sd_event_source_get_enabled(engine->witnesses, &enabled);
	if (enabled != SD_EVENT_OFF)
		return;
	sd_event_source_set_time(engine->witnesses, engine_now(engine) + ENGINE_WITNESS_WAIT_US);
	sd_event_source_set_enabled(engine->witnesses, SD_EVENT_ONESHOT);
}

/* Every few seconds: what must not expire is renewed, what is claimed is verified. */
static int on_refresh(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;

	sd_event_source_set_time(source, usec + ENGINE_REFRESH_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	if (!engine->synced)
		return 0;
	if (engine->routers && !engine->restarted)
		read_alive(engine);
	if (balancer_review(engine) || !engine->rules_present || engine->rules_due)
		engine_rules_changed(engine);
	ask_members(engine);
	for (struct router *router = engine->routers; router; router = router->next) {
		if (virtual_router_owns(&router->core) && router->segment)
			engine_addresses_add(engine, router->segment, router->wish.addresses,
					     router->wish.address_count);
		router_review(router);
		router_report(router);
	}
	report_node(engine);
	if (engine->trimmed_revision != store_revision(engine->store)) {
		/* What libnftables took for a transaction goes back; locked, it would stay for good. */
		engine->trimmed_revision = store_revision(engine->store);
		malloc_trim(0);
	}
	return 0;
}

/* --- what is wanted --- */

static struct router *find_router(struct engine *engine, const char *name)
{
	for (struct router *router = engine->routers; router; router = router->next)
		if (strcmp(router->wish.name, name) == 0)
			return router;
	return NULL;
}

static void put_node(struct engine *engine, const struct message_node *wish)
{
	struct engine_node *node = engine->nodes;

	while (node && strcmp(node->name, wish->name) != 0)
		node = node->next;
	if (!node) {
		node = calloc(1, sizeof *node);
		if (!node)
			return;
		snprintf(node->name, sizeof node->name, "%s", wish->name);
		node->next = engine->nodes;
		engine->nodes = node;
		engine->node_count++;
	}
	node->address_count = wish->address_count;
	memcpy(node->addresses, wish->addresses, sizeof node->addresses);
	node->range_count = wish->pod_range_count;
	memcpy(node->pod_ranges, wish->pod_ranges, sizeof node->pod_ranges);
	engine_cluster_changed(engine);
	engine_rules_changed(engine);
}

static void on_put(void *userdata, const struct message *message)
{
	struct engine *engine = userdata;
	struct router *router;

	switch ((int)message->type) {
	case MESSAGE_NODE:
		put_node(engine, &message->node);
		return;
	case MESSAGE_ROUTER:
		router = find_router(engine, message->router.name);
		if (router) {
			router_configure(router, &message->router);
		} else {
			router = router_new(engine, &message->router);
			if (!router)
				return;
			router->next = engine->routers;
			engine->routers = router;
			log_line(LOG_INFO, BASE_REASON_CONFIGURED,
				 LOG_FIELDS({ "LEASE", router->wish.name },
					    { "SERVICE", router->wish.services }),
				 "%s is wanted: %u addresses, %u candidates", router->wish.name,
				 router->wish.address_count, router->wish.candidate_count);
		}
		engine_cluster_changed(engine);
		break;
	default:
		break;
	}
	engine_rules_changed(engine);
}

static void on_removed(void *userdata, const struct message *message)
{
	struct engine *engine = userdata;

	if (message->type == MESSAGE_NODE) {
		for (struct engine_node **slot = &engine->nodes; *slot; slot = &(*slot)->next)
			if (strcmp((*slot)->name, message->node.name) == 0) {
				struct engine_node *node = *slot;

				*slot = node->next;
				free(node);
				engine->node_count--;
				break;
			}
	} else if (message->type == MESSAGE_ROUTER) {
		for (struct router **slot = &engine->routers; *slot; slot = &(*slot)->next)
			if (strcmp((*slot)->wish.name, message->router.name) == 0) {
				struct router *router = *slot;

				*slot = router->next;
				log_line(LOG_NOTICE, BASE_REASON_REMOVED,
					 LOG_FIELDS({ "LEASE", router->wish.name }),
					 "%s is no longer wanted", router->wish.name);
				router_free(router);
				break;
			}
	}
	engine_cluster_changed(engine);
	engine_rules_changed(engine);
}

static void set_synced(struct engine *engine)
{
	if (engine->synced)
		return;
	balancer_review(engine);
	engine->synced = true;
	sd_event_source_set_enabled(engine->state_wait, SD_EVENT_OFF);
	segments_review(engine);
	engine->routers_due = engine->rules_due = true;
	review_soon(engine);
}

static void save_later(struct engine *engine)
{
	int enabled = 0;

	sd_event_source_get_enabled(engine->save, &enabled);
	if (!engine->options->state_dir || enabled != SD_EVENT_OFF)
		return;
	sd_event_source_set_time(engine->save, engine_now(engine) + ENGINE_SAVE_DELAY_US);
	sd_event_source_set_enabled(engine->save, SD_EVENT_ONESHOT);
}

static void state_path(const struct engine *engine, char path[static 512])
{
	snprintf(path, 512, "%s/engine.state", engine->options->state_dir);
}

static int on_saved(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct engine *engine = userdata;

	engine->saver = 0;
	if (info->si_code != CLD_EXITED || info->si_status != 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot write the state file in %s: a restart without the API server "
			 "would not know what to serve",
			 engine->options->state_dir);
	sd_event_source_unref(source);
	return 0;
}

static int on_save(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	char path[512];
	int pid;

	(void)source;
	(void)usec;
	if (store_revision(engine->store) == engine->saved_revision || !engine->synced)
		return 0;
	if (engine->saver > 0 || store_syncing(engine->store)) {
		save_later(engine);
		return 0;
	}
	state_path(engine, path);
	pid = store_save(engine->store, path);
	if (pid <= 0)
		return 0;
	engine->saved_revision = store_revision(engine->store);
	if (sd_event_add_child(engine->event, &(sd_event_source *){ NULL }, pid, WEXITED, on_saved,
			       engine) >= 0)
		engine->saver = pid;
	return 0;
}

/* Rule 14: the feeder has nothing to say (yet): what was wanted last is served. */
static int on_state_wait(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	struct base_error error = { 0 };
	char path[512];

	(void)source;
	(void)usec;
	if (engine->synced || !engine->options->state_dir)
		return 0;
	state_path(engine, path);
	if (store_load(engine->store, path, &error) < 0) {
		if (error.code != -ENOENT)
			log_line(LOG_WARNING, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS,
				 "state file %s is not used: %s", path, error.message);
		return 0;
	}
	engine->saved_revision = store_revision(engine->store);
	if (engine->restarted)
		log_line(LOG_NOTICE, BASE_REASON_STARTED, LOG_NO_FIELDS,
			 "restarted in place: going on with %zu virtual routers from %s",
			 store_count(engine->store, MESSAGE_ROUTER), path);
	else
		log_line(LOG_WARNING, BASE_REASON_API_UNREACHABLE, LOG_NO_FIELDS,
			 "nothing is known from outside yet: serving %zu virtual routers from %s",
			 store_count(engine->store, MESSAGE_ROUTER), path);
	set_synced(engine);
	return 0;
}

static void set_api(struct engine *engine, bool reachable)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_API_CONTACT,
					      .reachable = reachable };

	if (engine->api_reachable != reachable)
		log_line(reachable ? LOG_NOTICE : LOG_WARNING,
			 reachable ? BASE_REASON_API_REACHABLE : BASE_REASON_API_UNREACHABLE,
			 LOG_NO_FIELDS, "%s",
			 reachable ? "the API server answers"
				   : "the API server does not answer: VRRP alone decides");
	engine->api_reachable = reachable;
	for (struct router *router = engine->routers; router; router = router->next) {
		event.now_us = engine_now(engine);
		router_feed(router, &event);
	}
}

static void on_settings(struct engine *engine, const struct message_settings *settings)
{
	if (engine->maintenance == settings->maintenance && engine->excluded == settings->excluded)
		return;
	engine->maintenance = settings->maintenance;
	engine->excluded = settings->excluded;
	log_line(LOG_NOTICE, BASE_REASON_MAINTENANCE, LOG_NO_FIELDS, "maintenance %s, excluded %s",
		 settings->maintenance ? "begins" : "is off", settings->excluded ? "yes" : "no");
	engine_cluster_changed(engine);
}

static void on_order(struct engine *engine, const struct message_order *order)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_HANDOVER };
	struct router *router = find_router(engine, order->router);

	if (!router || order->order != MESSAGE_ORDER_HANDOVER)
		return;
	event.now_us = engine_now(engine);
	snprintf(event.order.node, sizeof event.order.node, "%s", order->node);
	event.order.why = (enum base_reason)order->reason;
	router_feed(router, &event);
}

static void on_message(void *userdata, const struct message *message)
{
	struct engine *engine = userdata;
	struct router *router;

	switch (message->type) {
	case MESSAGE_HELLO:
		log_line(LOG_INFO, BASE_REASON_STARTED, LOG_NO_FIELDS, "%s is there",
			 message->hello.program);
		return;
	case MESSAGE_SYNC_BEGIN:
		store_sync_begin(engine->store);
		return;
	case MESSAGE_SYNC_END:
		store_sync_end(engine->store);
		set_synced(engine);
		save_later(engine);
		return;
	case MESSAGE_NODE:
	case MESSAGE_ROUTER:
	case MESSAGE_SERVICE_PORT:
		if (store_put(engine->store, message) < 0)
			log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
				 "out of memory: a wish is not carried out");
		save_later(engine);
		return;
	case MESSAGE_REMOVE:
		store_remove(engine->store, &message->remove);
		save_later(engine);
		return;
	case MESSAGE_LEASE:
		router = find_router(engine, message->lease.router);
		if (router)
			router_lease(router, &message->lease);
		return;
	case MESSAGE_LEASE_RESULT:
		router = find_router(engine, message->lease_result.lease.router);
		if (router)
			router_lease_result(router, &message->lease_result);
		return;
	case MESSAGE_API_CONTACT:
		set_api(engine, message->api_contact.reachable);
		return;
	case MESSAGE_ORDER:
		on_order(engine, &message->order);
		return;
	case MESSAGE_SETTINGS:
		on_settings(engine, &message->settings);
		return;
	case MESSAGE_LEASE_WRITE:
	case MESSAGE_LEASE_READ:
	case MESSAGE_ROUTER_STATUS:
	case MESSAGE_NODE_STATUS:
	case MESSAGE_TRANSITION:
	case MESSAGE_SHUTDOWN:
	case MESSAGE_TYPE_COUNT:
		log_line(LOG_WARNING, BASE_REASON_NONE, LOG_NO_FIELDS,
			 "the feeder said %s, which is not for it to say",
			 message_type_name(message->type));
		return;
	}
}

/* Its predecessor may have ended before it wrote down how we came to own what we own. */
static void tell_transitions(struct engine *engine)
{
	unsigned count = engine->transition_count;

	for (unsigned i = count > ENGINE_TRANSITIONS ? count - ENGINE_TRANSITIONS : 0; i < count;
	     i++) {
		unsigned at = i % ENGINE_TRANSITIONS;
		struct message message = { .type = MESSAGE_TRANSITION };

		if (strcmp(engine->transitions[at].to, engine->node) != 0)
			continue;
		message.transition = engine->transitions[at];
		message.transition.age_us =
			1 + base_usec_since(engine_now(engine), engine->transition_us[at]);
		engine_tell(engine, &message);
	}
}

static void on_feeder_started(void *userdata)
{
	struct engine *engine = userdata;

	memset(&engine->told, 0, sizeof engine->told);
	tell_transitions(engine);
	for (struct router *router = engine->routers; router; router = router->next) {
		memset(&router->told, 0, sizeof router->told);
		router_report(router);
	}
	report_node(engine);
}

static void on_feeder_lost(void *userdata, const char *why)
{
	struct engine *engine = userdata;

	if (!engine->stopping)
		log_line(LOG_WARNING, BASE_REASON_AGENT_LOST, LOG_NO_FIELDS,
			 "the unprivileged half is gone: %s; addresses stay, it is started again",
			 why);
	if (engine->api_reachable)
		set_api(engine, false);
}

/* --- status --- */

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
	status->programmed = engine->rules_present;
	status->safe_to_reboot = safe_to_reboot(engine);
	status->fence = !engine->table		     ? MESSAGE_FENCE_NONE
			: engine->abilities.egress ? MESSAGE_FENCE_EGRESS
						   : MESSAGE_FENCE_LOOPBACK;
	status->dataplane = MESSAGE_DATAPLANE_DIRECTOR;
	snprintf(status->message, sizeof status->message, "%s", engine->rules_message);
	for (struct router *router = engine->routers; router; router = router->next) {
		status->owned += virtual_router_owns(&router->core);
		status->eligible += router->eligible && router->core.self != ELECTION_NOBODY;
	}
	add_segments(engine, status);
}

static void report_node(struct engine *engine)
{
	struct message message = { .type = MESSAGE_NODE_STATUS };

	fill_node_status(engine, &message.node_status);
	if (memcmp(&message.node_status, &engine->told, sizeof engine->told) == 0)
		return;
	engine->told = message.node_status;
	engine_tell(engine, &message);
}

static void describe_routers(struct engine *engine, cJSON *tree)
{
	static const char *const dataplanes[MESSAGE_DATAPLANE_COUNT] = { "auto", "director", "nat",
									 "announce" };
	cJSON *list = cJSON_AddArrayToObject(tree, "routers");

	for (struct router *router = engine->routers; router; router = router->next) {
		cJSON *item = cJSON_CreateObject();
		char addresses[256] = "", one[BASE_ADDRESS_TEXT_SIZE], why[160];

		for (uint32_t i = 0; i < router->wish.address_count && i < 4; i++) {
			size_t at = strlen(addresses);

			snprintf(addresses + at, sizeof addresses - at, "%s%s", i ? "," : "",
				 base_address_format(&router->wish.addresses[i], one));
		}
		cJSON_AddStringToObject(item, "name", router->wish.name);
		cJSON_AddStringToObject(item, "addresses", addresses);
		cJSON_AddNumberToObject(item, "virtualRouterID", router->wish.virtual_router_id);
		cJSON_AddStringToObject(item, "services", router->wish.services);
		cJSON_AddStringToObject(item, "interface",
					router->segment ? router->segment->name : "");
		cJSON_AddStringToObject(
			item, "state", virtual_router_state_name(virtual_router_state(&router->core)));
		cJSON_AddStringToObject(item, "owner", virtual_router_owner(&router->core));
		cJSON_AddBoolToObject(item, "confirmed", virtual_router_confirmed(&router->core));
		cJSON_AddBoolToObject(item, "eligible", router->eligible);
		cJSON_AddStringToObject(item, "notEligible",
					router->eligible || router->not_eligible_why == BASE_REASON_COUNT
						? ""
						: base_reason_word(router->not_eligible_why));
		engine_dataplane_why(router, why, sizeof why);
		cJSON_AddStringToObject(item, "dataplane", dataplanes[engine_dataplane(router)]);
		cJSON_AddStringToObject(item, "dataplaneWhy", why);
		cJSON_AddNumberToObject(item, "term", virtual_router_term(&router->core));
		cJSON_AddStringToObject(item, "reason", base_reason_word(router->last_reason));
		cJSON_AddNumberToObject(
			item, "sinceSeconds",
			(double)(base_usec_since(engine_now(engine), router->since_us) / 1000) / 1000);
		cJSON_AddBoolToObject(item, "addressesPresent", engine_addresses_present(router));
		cJSON_AddBoolToObject(item, "fenceOpen", engine_fence_open(router));
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
			const char *name = "";
			cJSON *item;

			for (struct engine_node *node = engine->nodes; node; node = node->next)
				for (unsigned j = 0; j < node->address_count; j++)
					if (base_address_equal(&node->addresses[j], &peer->address))
						name = node->name;
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
				peer->heard_us
					? (double)(base_usec_since(engine_now(engine),
								   peer->heard_us) /
						   1000) / 1000
					: -1);
			cJSON_AddItemToArray(list, item);
		}
}

static cJSON *describe(void *userdata)
{
	struct engine *engine = userdata;
	cJSON *tree = cJSON_CreateObject(), *list, *drops;

	if (engine->routers && !engine->restarted)
		read_alive(engine);
	cJSON_AddStringToObject(tree, "node", engine->node);
	cJSON_AddStringToObject(tree, "version", VIPD_VERSION);
	cJSON_AddBoolToObject(tree, "ready", engine->ready);
	cJSON_AddStringToObject(tree, "fence",
				!engine->table		     ? "none"
				: engine->abilities.egress ? "egress"
							    : "loopback");
	cJSON_AddStringToObject(tree, "feeder", feeder_running(engine->feeder) ? "running" : "gone");
	cJSON_AddBoolToObject(tree, "apiReachable", engine->api_reachable);
	cJSON_AddStringToObject(tree, "rules", engine->rules_present ? "present" : "missing");
	cJSON_AddStringToObject(tree, "message", engine->rules_message);
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

/* --- start and end --- */

static int on_stop_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	(void)usec;
	log_line(LOG_WARNING, BASE_REASON_STOPPED, LOG_NO_FIELDS,
		 "not everything was handed over in time");
	return sd_event_exit(engine->event, 0);
}

/* The feeder has its last words to write: owner, Lease, Speaker. Then it ends, and so do we. */
static int on_stop_poll(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;

	if (!feeder_running(engine->feeder))
		return sd_event_exit(engine->event, 0);
	sd_event_source_set_time(source, usec + 10 * BASE_USEC_PER_MSEC);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

void engine_router_released(struct engine *engine)
{
	if (!engine->stopping)
		return;
	for (struct router *router = engine->routers; router; router = router->next)
		if (!router->released || router->lingering)
			return;
	report_node(engine);
	feeder_stop(engine->feeder);
	sd_event_add_time_relative(engine->event, NULL, CLOCK_BOOTTIME, 1000, 1000, on_stop_poll,
				   engine);
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info,
			void *userdata)
{
	struct engine *engine = userdata;
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_RELEASE };

	(void)source;
	if (engine->stopping)
		return 0;
	engine->stopping = true;
	sd_notify(0, "STOPPING=1");
	log_line(LOG_NOTICE, BASE_REASON_STOPPED, LOG_NO_FIELDS, "%s: handing everything over",
		 info->ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	sd_event_source_set_time(engine->stop_limit, engine_now(engine) + ENGINE_STOP_US);
	sd_event_source_set_enabled(engine->stop_limit, SD_EVENT_ONESHOT);
	for (struct router *router = engine->routers; router; router = router->next) {
		event.now_us = engine_now(engine);
		router_feed(router, &event);
	}
	engine_router_released(engine);
	return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	(void)info;
	feeder_reload(engine->feeder);
	return 0;
}

static int add_timer(struct engine *engine, sd_event_source **source, int64_t priority,
		     sd_event_time_handler_t handler, uint64_t first_us)
{
	int r = sd_event_add_time(engine->event, source, CLOCK_BOOTTIME, first_us,
				  BASE_USEC_PER_MSEC, handler, engine);

	if (r >= 0)
		r = sd_event_source_set_priority(*source, priority);
	if (r >= 0 && first_us == UINT64_MAX)
		r = sd_event_source_set_enabled(*source, SD_EVENT_OFF);
	return r;
}

static int add_sources(struct engine *engine)
{
	uint64_t now_us = engine_now(engine);
	sd_event_source *source;
	int r;

	if ((r = sd_event_add_defer(engine->event, &engine->review, on_review, engine)) < 0 ||
	    (r = sd_event_source_set_priority(engine->review, ENGINE_PRIORITY_RULES)) < 0 ||
	    (r = sd_event_source_set_enabled(engine->review, SD_EVENT_OFF)) < 0 ||
	    (r = add_timer(engine, &engine->witnesses, ENGINE_PRIORITY_VRRP_TIMER, on_witnesses,
			   UINT64_MAX)) < 0 ||
	    (r = add_timer(engine, &engine->refresh, ENGINE_PRIORITY_LINKS, on_refresh,
			   now_us + ENGINE_REFRESH_US)) < 0 ||
	    (r = add_timer(engine, &engine->save, ENGINE_PRIORITY_STATUS, on_save, UINT64_MAX)) < 0 ||
	    (r = add_timer(engine, &engine->state_wait, ENGINE_PRIORITY_FEEDER, on_state_wait,
			   engine->restarted ? now_us : now_us + ENGINE_STATE_WAIT_US)) < 0 ||
	    (r = add_timer(engine, &engine->stop_limit, ENGINE_PRIORITY_FEEDER, on_stop_limit,
			   UINT64_MAX)) < 0)
		return r;
	r = sd_event_add_io(engine->event, &source, vrrp_links_fd(engine->links), EPOLLIN, on_links,
			    engine);
	if (r >= 0)
		r = sd_event_source_set_priority(source, ENGINE_PRIORITY_LINKS);
	if (r >= 0 && engine->table) {
		r = sd_event_add_io(engine->event, &source, nft_table_fd(engine->table), EPOLLIN,
				    on_rules, engine);
		if (r >= 0)
			r = sd_event_source_set_priority(source, ENGINE_PRIORITY_RULES);
	}
	if (r >= 0)
		r = sd_event_add_signal(engine->event, NULL, SIGTERM, on_terminate, engine);
	if (r >= 0)
		r = sd_event_add_signal(engine->event, NULL, SIGINT, on_terminate, engine);
	if (r >= 0)
		r = sd_event_add_signal(engine->event, NULL, SIGHUP, on_hangup, engine);
	return r;
}

static int make_folders(struct engine *engine)
{
	if (mkdir(engine->options->runtime_dir, 0755) < 0 && errno != EEXIST) {
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot make --runtime-dir %s: %s", engine->options->runtime_dir,
			 strerror(errno));
		return -1;
	}
	if (engine->options->state_dir && mkdir(engine->options->state_dir, 0700) < 0 &&
	    errno != EEXIST)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot make --state-dir %s: %s; nothing will survive a restart",
			 engine->options->state_dir, strerror(errno));
	return 0;
}

/* The lock is a socket without a place in the file system: there is one of its name per network. */
static int take_lock(struct engine *engine)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0vipd-engine" };
	struct ucred other = { 0 };

	engine->lock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (engine->lock >= 0 && bind(engine->lock, (struct sockaddr *)&name, sizeof name) == 0 &&
	    listen(engine->lock, 1) == 0)
		return 0;
	if (engine->lock >= 0 && errno == EADDRINUSE) {
		if (connect(engine->lock, (struct sockaddr *)&name, sizeof name) == 0)
			getsockopt(engine->lock, SOL_SOCKET, SO_PEERCRED, &other,
				   &(socklen_t){ sizeof other });
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "another vipd runs on this node already (pid %d): stop it first", other.pid);
	} else {
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS, "no lock: %s",
			 strerror(errno));
	}
	return -1;
}

static int check_capabilities(void)
{
	static const struct {
		unsigned bit;
		const char *name;
	} needed[] = { { CAP_NET_ADMIN, "CAP_NET_ADMIN" }, { CAP_NET_RAW, "CAP_NET_RAW" } };
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	int r = 0;

	if (syscall(SYS_capget, &header, data) < 0)
		return 0; /* what is missing shows soon enough */
	for (size_t i = 0; i < BASE_COUNT_OF(needed); i++)
		if (!(data[0].effective & UINT32_C(1) << needed[i].bit)) {
			log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
				 "%s is missing: run as root, or give it to the service or container",
				 needed[i].name);
			r = -1;
		}
	return r;
}

static void open_loopback(struct engine *engine)
{
	int hops = 255;

	engine->loopback[0] = engine->loopback[1] = -1;
	if (engine->abilities.egress || !engine->table)
		return;
	engine->loopback[0] = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, VRRP_PROTOCOL);
	engine->loopback[1] =
		socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, VRRP_PROTOCOL);
	for (int i = 0; i < 2; i++)
		if (engine->loopback[i] >= 0)
			setsockopt(engine->loopback[i], i ? IPPROTO_IPV6 : IPPROTO_IP,
				   i ? IPV6_UNICAST_HOPS : IP_TTL, &hops, sizeof hops);
	log_line(LOG_NOTICE, BASE_REASON_UNSUPPORTED_FEATURE, LOG_NO_FIELDS, "%s",
		 strcmp(engine->options->fence, "loopback") == 0
			 ? "the fence is refreshed over loopback, as --fence says"
			 : "this kernel has no netdev egress hook: the fence is refreshed over loopback");
}

static int open_table(struct engine *engine)
{
	bool unfenced = engine->options->unfenced && strcmp(engine->options->unfenced, "true") == 0;
	struct base_error error = { 0 };

	if (nft_table_new(&engine->table, &engine->abilities, &error) >= 0) {
		if (strcmp(engine->options->fence, "egress") == 0 && !engine->abilities.egress) {
			log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
				 "this kernel has no netdev egress hook (5.16 and later do): take "
				 "--fence auto or loopback");
			return -1;
		}
		if (strcmp(engine->options->fence, "loopback") == 0)
			engine->abilities.egress = false;
		return 0;
	}
	log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
		 "no fence and no rules: %s%s", error.message,
		 unfenced ? "; going on unfenced, as --allow-unfenced says"
			  : " (--allow-unfenced runs without, at the risk of two owners)");
	return unfenced ? 0 : -1;
}

/* Both are improvements, not conditions: short intervals want them. */
static void ask_for_realtime(void)
{
	struct sched_param parameter = { .sched_priority = REALTIME_PRIORITY };

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter) < 0)
		log_line(LOG_INFO, BASE_REASON_NONE, LOG_NO_FIELDS,
			 "no realtime priority (%s): intervals below 100 ms may be missed under load",
			 strerror(errno));
}

static int start(struct engine *engine)
{
	static const struct store_handlers store_handlers = { on_put, on_removed };
	static const struct feeder_handlers feeder_handlers = { on_message, on_feeder_started,
								on_feeder_lost };
	char path[512];
	int r;

	if (check_capabilities() < 0 || make_folders(engine) < 0 || take_lock(engine) < 0 ||
	    open_table(engine) < 0)
		return -1;
	open_loopback(engine);
	read_alive(engine);
	engine->restarted = engine->alive.count > 0;
	r = vrrp_links_new(&engine->links);
	if (r >= 0)
		r = store_new(&engine->store, &store_handlers, engine);
	if (r >= 0)
		r = served_new(&engine->served, engine);
	if (r >= 0)
		r = add_sources(engine);
	snprintf(path, sizeof path, "%s/status.sock", engine->options->runtime_dir);
	if (r >= 0)
		r = status_server_new(&engine->status, engine->event, path, ENGINE_PRIORITY_STATUS,
				      describe, engine);
	if (r >= 0)
		r = feeder_new(&engine->feeder, engine->event, engine->options->feeder_argv,
			       engine->node, ENGINE_PRIORITY_FEEDER, &feeder_handlers, engine);
	if (r < 0)
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot start: %s%s", strerror(-r),
			 r == -EPERM ? " (CAP_NET_ADMIN and CAP_NET_RAW are needed)" : "");
	return r;
}

static void stop(struct engine *engine)
{
	feeder_free(engine->feeder);
	while (engine->routers) {
		struct router *next = engine->routers->next;

		router_free(engine->routers);
		engine->routers = next;
	}
	segments_free(engine);
	while (engine->nodes) {
		struct engine_node *next = engine->nodes->next;

		free(engine->nodes);
		engine->nodes = next;
	}
	status_server_free(engine->status);
	served_free(engine->served);
	store_free(engine->store);
	nft_table_free(engine->table); /* what is in flight through the rules goes on */
	vrrp_links_free(engine->links);
	sd_event_source_disable_unref(engine->review);
	sd_event_source_disable_unref(engine->witnesses);
	sd_event_source_disable_unref(engine->refresh);
	sd_event_source_disable_unref(engine->save);
	sd_event_source_disable_unref(engine->state_wait);
	sd_event_source_disable_unref(engine->stop_limit);
	if (engine->lock >= 0)
		close(engine->lock);
}

int engine_run(const struct engine_options *options)
{
	struct engine *engine = calloc(1, sizeof *engine);
	sigset_t blocked;
	int r;

	if (!engine)
		return 1;
	log_open("engine", options->node);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGHUP);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	engine->options = options;
	engine->node = options->node;
	engine->lock = -1;
	r = sd_event_default(&engine->event);
	if (r >= 0)
		r = start(engine);
	if (r >= 0) {
		log_line(LOG_NOTICE, BASE_REASON_STARTED, LOG_NO_FIELDS, "vipd %s", VIPD_VERSION);
		ask_for_realtime();
		sd_event_set_watchdog(engine->event, true);
		r = sd_event_loop(engine->event);
	}
	stop(engine);
	sd_event_unref(engine->event);
	free(engine);
	return r < 0 ? 1 : 0;
}
