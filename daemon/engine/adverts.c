#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/engine/node.h"
#include "daemon/engine/router_holder.h"
#include "vrrp/io/socket.h"

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
	const struct router_wish *wish = &router->wish;

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
		router->engine->counts.fence_refreshes += priority > 0;
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

/* Somebody's MAC is no member's: a member may have another one than it had. */
static void doubt_members(struct segment *segment, uint64_t now_us)
{
	for (unsigned i = 0; i < segment->peer_count; i++) {
		const struct segment_peer *peer = &segment->peers[i];

		if (peer->address.family == BASE_FAMILY_IPV6 &&
		    segment_peer_is_member(segment, peer) &&
		    base_usec_since(now_us, peer->sent_us) > ENGINE_REFRESH_US)
			segment_ask(segment, &peer->address, now_us);
	}
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
		doubt_members(segment, now_us);
		engine_cluster_changed(segment->engine); /* those whose MACs are not known, too */
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
	router->engine->verdicts[VRRP_VERDICT_STRANGER]++;
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

/* What bears a candidate's address and is not believed all the same. */
void engine_note_disbelieved(struct router *router, const char *node, const char *message)
{
	router->engine->verdicts[VRRP_VERDICT_STRANGER]++;
	if (!log_gate_pass(&router->stranger_gate, NULL))
		return;
	log_line(LOG_WARNING, BASE_REASON_FOREIGN_VIRTUAL_ROUTER,
		 LOG_FIELDS({ "LEASE", router->wish.name }, { "PEER", node },
			    { "INTERFACE", router->segment ? router->segment->name : "" }),
		 "%s", message);
}

static void hear(struct router *router, const struct base_address *source, uint8_t priority,
		 uint32_t interval_us)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADVERT };
	struct segment *segment = router->segment;
	struct segment_peer *peer = segment_peer(segment, source);

	peer->heard_us = engine_now(segment->engine);
	router->adverts_heard++;
	unheard_end(segment, (enum base_family)router->wish.family);
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

/* Whether its ID is one of ours or not: it should not become one. */
static void note_virtual_router(struct segment *segment, const struct base_address *source,
				uint8_t id)
{
	struct engine *engine = segment->engine;
	struct base_address sender = *source;

	if (base_address_is_link_local(source) &&
	    !resolve_sender(segment, &sender))
		return; /* asked who that is */
	if (engine_node_at(engine, &sender))
		return;
	if (strangers_hear(&segment->strangers, source, id, engine_now(engine)))
		engine_report_node(engine);
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
		note_virtual_router(segment, &source, advert.virtual_router_id);
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
	if (six && !resolve_sender(segment, &source)) {
		keep_waiting(segment, &source, &advert);
		return;
	}
	if (router->wish.virtual_mac && !engine_node_at(engine, &source))
		router_advertised(router, &advert, &source);
	hear(router, &source, advert.priority, advert.interval_us);
}
