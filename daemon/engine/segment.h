#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/address.h"
#include "daemon/engine/router.h"
#include "daemon/engine/strangers.h"
#include "daemon/engine/unheard.h"

/*
 * One interface towards a LAN segment: its sockets, who is on it, and when each was heard last.
 *
 * A peer is an address on the segment that somebody of ours asked about (candidates, gateway) or
 * that sent an advert. It counts as heard when it answers ARP or a neighbour solicitation, and when
 * an advert comes from it. IPv6 adverts come from link-local addresses: a peer's MAC tells which
 * node that is. The first advert of such a peer waits for that answer: dropped, it would leave the
 * other backups an interval in which to take over as well.
 */
#define SEGMENT_PEERS_MAX   512
#define SEGMENT_WAITING_MAX 64

struct segment_waiting {
	struct base_address source; /* link-local; family NONE: free */
	uint64_t heard_us;
	uint32_t interval_us;
	uint8_t id, priority;
};

struct segment_peer {
	struct base_address address;
	struct base_mac mac;
	bool mac_known;
	uint64_t heard_us; /* 0: never */
	uint64_t answered_us; /* the same, without adverts and what it asks itself */
	uint64_t asked_us; /* the oldest question without an answer, or the last one */
	uint64_t sent_us;  /* the last question */
};

struct segment {
	struct segment *next;
	struct engine *engine;
	unsigned index; /* of the interface */
	char name[16];
	struct base_mac mac;
	uint64_t addresses; /* a number that differs when the addresses do */
	bool up;
	bool called[2]; /* it is a bridge, and br_netfilter has its frames first: bridged.h; IPv4, IPv6 */
	char bridged[2 * MESSAGE_TEXT_SIZE]; /* what was said of it */
	bool in_the_way; /* that it does not work */
	uint64_t ports;	/* a number that differs when its ports, its MAC or `called` do */
	bool virtual_macs; /* of some router on it, now or earlier */
	struct vrrp_socket *sockets[2]; /* adverts: IPv4, IPv6 */
	struct vrrp_neighbour *neighbour;
	sd_event_source *socket_io[2], *neighbour_io;
	struct router *routers[2][256]; /* by family and VRID */
	unsigned router_count;
	unsigned peer_count;
	struct segment_peer peers[SEGMENT_PEERS_MAX];
	struct segment_waiting waiting[SEGMENT_WAITING_MAX];
	struct strangers strangers;
	struct unheard unheard[2]; /* IPv4, IPv6 */
};

/* The segment that is the interface of this index, or NULL. */
struct segment *segment_at(const struct engine *engine, unsigned index);

/*
 * The segment that holds `address` and matches one of the patterns (none: every interface). Of two cards in one subnet
 * that by whose address the cluster knows this node.
 */
struct segment *segment_find(struct engine *engine, const struct router_wish *wish,
			     enum base_reason *why_not);

/* After a change of links or addresses: opens, closes and renames what changed. */
void segments_review(struct engine *engine);
void segments_free(struct engine *engine);

/* Its interface as the kernel has it; NULL: it has gone. */
const struct vrrp_link *segment_link(const struct segment *segment);

bool segment_has_vlans(const struct segment *segment); /* that stand on it */

/* The subnet of this interface that holds the address, with our own address in it. */
bool segment_subnet(const struct segment *segment, const struct base_address *address,
		    struct base_prefix *subnet);

/* Our own address in the subnet of `address`; family NONE if there is none. */
struct base_address segment_own_address(const struct segment *segment,
					const struct base_address *address);
/* The link-local address that IPv6 adverts come from. */
struct base_address segment_link_local(const struct segment *segment);
struct base_address segment_gateway(const struct segment *segment, enum base_family family);

/* Finds or makes the peer; NULL when the table is full. */
struct segment_peer *segment_peer(struct segment *segment, const struct base_address *address);
/* Is it an address of a node of the cluster? The gateway, for one, is a peer and no member. */
bool segment_peer_is_member(const struct segment *segment, const struct segment_peer *peer);
/* The member of this family (NONE: any) that has this MAC; NULL: nobody. */
const struct segment_peer *segment_member_by_mac(const struct segment *segment,
						 enum base_family family,
						 const struct base_mac *mac);
/* Sends one ARP request or neighbour solicitation, unicast where the MAC is known. */
void segment_ask(struct segment *segment, const struct base_address *address, uint64_t now_us);
/* What its hosts answered and announced and nobody has read yet. */
void segment_hear_neighbours(struct segment *segment);
