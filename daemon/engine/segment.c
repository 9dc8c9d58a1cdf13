#include "daemon/engine/segment.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/engine/announce.h"
#include "daemon/engine/node.h"
#include "daemon/engine/prober.h"
#include "daemon/engine/router_holder.h"
#include "vrrp/frame.h"
#include "vrrp/io/neighbour.h"
#include "vrrp/io/socket.h"

const struct vrrp_link *segment_link(const struct segment *segment)
{
	return vrrp_links_at(segment->engine->links, segment->index);
}

bool segment_has_vlans(const struct segment *segment)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(segment->engine->links, &count);

	for (size_t i = 0; i < count; i++)
		if (links[i].vlan && links[i].lower == segment->index)
			return true;
	return false;
}

bool segment_subnet(const struct segment *segment, const struct base_address *address,
		    struct base_prefix *subnet)
{
	const struct vrrp_link *link = segment_link(segment);

	for (unsigned i = 0; link && i < link->address_count; i++)
		if (link->addresses[i].length < base_address_size(address) * 8 &&
		    !base_address_is_link_local(&link->addresses[i].address) &&
		    base_prefix_contains(&link->addresses[i], address)) {
			*subnet = link->addresses[i];
			return true;
		}
	return false;
}

struct base_address segment_own_address(const struct segment *segment,
					const struct base_address *address)
{
	struct base_prefix subnet;

	return segment_subnet(segment, address, &subnet) ? subnet.address
							  : (struct base_address){ 0 };
}

struct base_address segment_link_local(const struct segment *segment)
{
	const struct vrrp_link *link = segment_link(segment);

	for (unsigned i = 0; link && i < link->address_count; i++)
		if (link->addresses[i].address.family == BASE_FAMILY_IPV6 &&
		    base_address_is_link_local(&link->addresses[i].address))
			return link->addresses[i].address;
	return (struct base_address){ 0 };
}

struct base_address segment_gateway(const struct segment *segment, enum base_family family)
{
	const struct vrrp_link *link = segment_link(segment);

	return link ? link->gateways[family == BASE_FAMILY_IPV6] : (struct base_address){ 0 };
}

static bool matches(const struct router_wish *wish, const char *name)
{
	for (uint32_t i = 0; i < wish->interface_count; i++)
		if (fnmatch(wish->interfaces[i], name, 0) == 0)
			return true;
	return wish->interface_count == 0;
}

struct segment *segment_at(const struct engine *engine, unsigned index)
{
	struct segment *segment = engine->segments;

	while (segment && segment->index != index)
		segment = segment->next;
	return segment;
}

/*
 * Two cards in one subnet: that by whose address the other nodes know this one, or nobody believes its adverts. Else
 * that which was there first, the last of the list: what is served does not move when another one comes.
 */
static bool is_known_by(const struct segment *segment, const struct base_address *address)
{
	struct base_address own = segment_own_address(segment, address);

	return engine_node_at(segment->engine, &own);
}

struct segment *segment_find(struct engine *engine, const struct router_wish *wish,
			     enum base_reason *why_not)
{
	const struct base_address *address = &wish->addresses[0];
	struct segment *found = NULL;
	struct base_prefix subnet;

	*why_not = BASE_REASON_NOT_ON_SEGMENT;
	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		if (matches(wish, segment->name) && segment_subnet(segment, address, &subnet) &&
		    (!found || !is_known_by(found, address) || is_known_by(segment, address)))
			found = segment;
	if (found)
		*why_not = found->up ? BASE_REASON_NONE : BASE_REASON_LINK_DOWN;
	return found;
}

struct segment_peer *segment_peer(struct segment *segment, const struct base_address *address)
{
	struct segment_peer *oldest = NULL;

	for (unsigned i = 0; i < segment->peer_count; i++)
		if (base_address_equal(&segment->peers[i].address, address))
			return &segment->peers[i];
	if (segment->peer_count < SEGMENT_PEERS_MAX) {
		oldest = &segment->peers[segment->peer_count++];
	} else {
		/* Full of strangers: whoever was heard longest ago makes room. */
		for (unsigned i = 0; i < SEGMENT_PEERS_MAX; i++)
			if (!oldest || segment->peers[i].heard_us < oldest->heard_us)
				oldest = &segment->peers[i];
	}
	memset(oldest, 0, sizeof *oldest);
	oldest->address = *address;
	return oldest;
}

bool segment_peer_is_member(const struct segment *segment, const struct segment_peer *peer)
{
	return engine_node_at(segment->engine, &peer->address);
}

const struct segment_peer *segment_member_by_mac(const struct segment *segment,
						 enum base_family family,
						 const struct base_mac *mac)
{
	for (unsigned i = 0; i < segment->peer_count; i++)
		if (segment->peers[i].mac_known &&
		    (family == BASE_FAMILY_NONE || segment->peers[i].address.family == family) &&
		    memcmp(&segment->peers[i].mac, mac, sizeof *mac) == 0 &&
		    segment_peer_is_member(segment, &segment->peers[i]))
			return &segment->peers[i];
	return NULL;
}

void segment_ask(struct segment *segment, const struct base_address *address, uint64_t now_us)
{
	struct segment_peer *peer = segment_peer(segment, address);
	struct base_address source = base_address_is_link_local(address)
					     ? segment_link_local(segment)
					     : segment_own_address(segment, address);
	struct vrrp_frame frame;
	bool unicast = peer->mac_known && peer->heard_us &&
		       base_usec_since(now_us, peer->heard_us) < ENGINE_GATEWAY_FRESH_US;

	if (!segment->neighbour || source.family == BASE_FAMILY_NONE)
		return;
	if (peer->heard_us >= peer->asked_us) /* else the older question is unanswered still */
		peer->asked_us = now_us;
	peer->sent_us = now_us;
	frame.size = vrrp_frame_ask(address, &source, &segment->mac, unicast ? &peer->mac : NULL,
				    frame.data);
	vrrp_neighbour_send(segment->neighbour, &frame, 1);
}

/* Somebody foreign answers for one of the addresses a router is probing, or owns. */
static void check_conflict(struct segment *segment, const struct vrrp_neighbour_seen *seen)
{
	struct router *router = engine_router_at(segment->engine, &seen->address);

	if (router && router->segment == segment)
		router_seen(router, seen->address, seen->mac, seen->answer && seen->to_one);
}

/* Who has just started knows no member yet, and takes one that answers for an address for a foreign host. */
static void tell_member_known(struct segment *segment, const struct segment_peer *peer)
{
	if (!segment_peer_is_member(segment, peer))
		return;
	for (struct router *router = segment->engine->routers; router; router = router->next)
		if (router->segment == segment)
			router_member_known(router, &peer->address, &peer->mac);
}

static void on_seen(void *userdata, const struct vrrp_neighbour_seen *seen)
{
	struct segment *segment = userdata;
	struct segment_peer *peer = NULL;
	uint64_t now_us = engine_now(segment->engine);

	if (memcmp(&seen->mac, &segment->mac, sizeof seen->mac) == 0)
		return;
	for (unsigned i = 0; i < segment->peer_count && !peer; i++)
		if (base_address_equal(&segment->peers[i].address, &seen->address))
			peer = &segment->peers[i];
	if (peer) {
		bool new_mac = !peer->mac_known ||
			       memcmp(&peer->mac, &seen->mac, sizeof peer->mac) != 0;

		if (peer->asked_us > peer->heard_us &&
		    base_usec_since(now_us, peer->asked_us) >= ENGINE_WITNESS_WAIT_US)
			engine_witness_late(segment->engine);
		peer->mac = seen->mac;
		peer->mac_known = true;
		peer->heard_us = now_us;
		if (seen->answer && seen->to_one)
			peer->answered_us = now_us;
		if (new_mac)
			engine_rules_members_changed(segment->engine);
		if (new_mac)
			tell_member_known(segment, peer);
		if (new_mac && base_address_is_link_local(&peer->address))
			engine_sender_known(segment, &seen->address);
	}
	prober_seen(segment->engine->prober, segment, seen);
	check_conflict(segment, seen);
}

void segment_hear_neighbours(struct segment *segment)
{
	if (segment->neighbour)
		vrrp_neighbour_receive(segment->neighbour, on_seen, segment);
}

static int on_neighbour(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	(void)source;
	(void)fd;
	(void)revents;
	segment_hear_neighbours(userdata);
	return 0;
}

static void on_received(void *userdata, const struct vrrp_received *received)
{
	engine_advert_received(userdata, &received->meta, received->data, received->size);
}

static int on_advert(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct segment *segment = userdata;

	(void)revents;
	(void)source;
	for (int family = 0; family < 2; family++)
		if (segment->sockets[family] && vrrp_socket_fd(segment->sockets[family]) == fd)
			vrrp_socket_receive(segment->sockets[family], on_received, segment);
	return 0;
}

static void close_sockets(struct segment *segment)
{
	for (int family = 0; family < 2; family++) {
		segment->socket_io[family] = sd_event_source_disable_unref(segment->socket_io[family]);
		vrrp_socket_free(segment->sockets[family]);
		segment->sockets[family] = NULL;
	}
	segment->neighbour_io = sd_event_source_disable_unref(segment->neighbour_io);
	vrrp_neighbour_free(segment->neighbour);
	segment->neighbour = NULL;
}

static int open_sockets(struct segment *segment)
{
	sd_event *event = segment->engine->event;
	int r = 0;

	for (int family = 0; family < 2 && r >= 0; family++) {
		if (segment->sockets[family])
			continue;
		r = vrrp_socket_new(&segment->sockets[family],
				    family ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4, segment->index);
		if (r == -EAFNOSUPPORT && family) { /* a kernel without IPv6 */
			r = 0;
			continue;
		}
		if (r >= 0)
			r = sd_event_add_io(event, &segment->socket_io[family],
					    vrrp_socket_fd(segment->sockets[family]), EPOLLIN,
					    on_advert, segment);
		if (r >= 0)
			sd_event_source_set_priority(segment->socket_io[family],
						     ENGINE_PRIORITY_VRRP_SOCKET);
	}
	if (r >= 0 && !segment->neighbour) {
		r = vrrp_neighbour_new(&segment->neighbour, segment->index);
		if (r >= 0)
			r = sd_event_add_io(event, &segment->neighbour_io,
					    vrrp_neighbour_fd(segment->neighbour), EPOLLIN,
					    on_neighbour, segment);
		if (r >= 0)
			sd_event_source_set_priority(segment->neighbour_io,
						     ENGINE_PRIORITY_NEIGHBOUR);
	}
	if (r < 0)
		close_sockets(segment);
	return r;
}

static bool usable(const struct vrrp_link *link)
{
	return link->ethernet && link->address_count > 0 && strcmp(link->name, "lo") != 0;
}

/* Only where an address of ours could be: the pods' interfaces are of no interest. */
static bool wanted(struct engine *engine, const struct vrrp_link *link)
{
	for (struct router *router = engine->routers; router; router = router->next)
		for (unsigned i = 0; i < link->address_count; i++)
			if (link->addresses[i].length <
				    base_address_size(&router->wish.addresses[0]) * 8 &&
			    base_prefix_contains(&link->addresses[i], &router->wish.addresses[0]) &&
			    matches(&router->wish, link->name))
				return true;
	return false;
}

/*
 * This node's own addresses, too: others know by its MAC whose IPv6 adverts these are, and hosts on
 * the segment go on with the old one for as long as they like.
 */
static void announce_own(struct segment *segment, const struct vrrp_link *link)
{
	struct base_address own[VRRP_LINK_ADDRESSES_MAX];
	size_t count = 0;

	for (unsigned i = 0; i < link->address_count; i++)
		if (base_address_is_link_local(&link->addresses[i].address) ||
		    engine_node_at(segment->engine, &link->addresses[i].address))
			own[count++] = link->addresses[i].address;
	announce(segment, &segment->mac, own, count);
}

static void keep_groups(struct segment *segment)
{
	for (int family = 0; family < 2; family++) {
		int r = segment->sockets[family]
				? vrrp_links_keep_group(segment->engine->links, segment->index,
							family ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4)
				: 0;

		if (r < 0 && (family == 0 || r != -EINVAL)) /* that is IPv6 switched off on it */
			log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED,
				 LOG_FIELDS({ "INTERFACE", segment->name }),
				 "the group of adverts is no permanent neighbour on %s: %s; adverts will not "
				 "leave while the kernel's table of neighbours is full",
				 segment->name, strerror(-r));
	}
}

static void announce_mac(struct segment *segment)
{
	log_line(LOG_NOTICE, BASE_REASON_CONFIGURED, LOG_FIELDS({ "INTERFACE", segment->name }),
		 "segment %s has another MAC: what is owned here is announced again",
		 segment->name);
	for (struct router *router = segment->engine->routers; router; router = router->next)
		if (router->segment == segment)
			router_mac_changed(router);
}

static void review_one(struct engine *engine, const struct vrrp_link *link)
{
	struct segment *segment = segment_at(engine, link->index);
	bool other_mac, other_way;
	uint64_t addresses;

	if (!segment) {
		if (!usable(link) || !wanted(engine, link))
			return;
		segment = calloc(1, sizeof *segment);
		if (!segment)
			return;
		segment->engine = engine;
		segment->index = link->index;
		segment->mac = link->mac;
		segment->next = engine->segments;
		engine->segments = segment;
		engine_rules_all(engine);
	}
	if (strcmp(segment->name, link->name) != 0) {
		snprintf(segment->name, sizeof segment->name, "%s", link->name);
		engine_rules_all(engine);
	}
	other_mac = memcmp(&segment->mac, &link->mac, sizeof link->mac) != 0;
	segment->mac = link->mac;
	addresses = base_hash(link->addresses, link->address_count * sizeof link->addresses[0]);
	other_way = segment->addresses != addresses;
	if (other_way) { /* other nodes are reached by it now, or no longer */
		segment->addresses = addresses;
		engine_rules_all(engine);
	}
	if (link->up && !segment->neighbour) {
		int r = open_sockets(segment);

		if (r < 0)
			log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED,
				 LOG_FIELDS({ "INTERFACE", segment->name }),
				 "cannot open sockets on %s: %s", segment->name, strerror(-r));
	}
	if (segment->up != (link->up && segment->neighbour)) {
		segment->up = link->up && segment->neighbour;
		log_line(LOG_NOTICE, segment->up ? BASE_REASON_CONFIGURED : BASE_REASON_LINK_DOWN,
			 LOG_FIELDS({ "INTERFACE", segment->name }), "segment %s is %s",
			 segment->name, segment->up ? "up" : "down");
		other_way = true;
	}
	if (other_mac)
		announce_mac(segment);
	if ((other_mac || other_way) && segment->up) {
		keep_groups(segment);
		announce_own(segment, link);
	}
}

void segments_review(struct engine *engine)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(engine->links, &count);

	for (struct segment **slot = &engine->segments; *slot;) {
		struct segment *segment = *slot;

		if (segment_link(segment)) {
			slot = &segment->next;
			continue;
		}
		for (struct router *router = engine->routers; router; router = router->next)
			if (router->segment == segment)
				router_segment_gone(router);
		*slot = segment->next;
		close_sockets(segment);
		free(segment);
		engine_rules_all(engine);
	}
	for (size_t i = 0; i < count; i++)
		review_one(engine, &links[i]);
}

void segments_free(struct engine *engine)
{
	while (engine->segments) {
		struct segment *next = engine->segments->next;

		for (int family = 0; family < 2; family++)
			if (engine->segments->sockets[family])
				vrrp_links_forget_group(engine->links, engine->segments->index,
							family ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4);
		close_sockets(engine->segments);
		free(engine->segments);
		engine->segments = next;
	}
}
