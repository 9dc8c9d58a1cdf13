#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "nft/skeleton.h"

/*
 * What must stand in the sets and maps of the skeleton, as a pure function of addresses, ports and
 * endpoints. Elements come one by one through a callback, as the bytes that the kernel keeps.
 *
 * The same element may come twice (two ports of one pod). The same key with other data means "not
 * unambiguous": a set whose `exclusive` is true then carries neither. Empty data in an exclusive map
 * contradicts whatever else is said of the key, and is never carried itself.
 *
 * Nothing here emits what is in NFT_SET_DOUBTFUL and NFT_SET_WHOLEDOUBTFUL: the keys that REVERSE and WHOLEREVERSE
 * do not carry because of a contradiction. Who compares what is emitted puts them there.
 */
enum nft_dataplane {
	NFT_DATAPLANE_DIRECTOR,
	NFT_DATAPLANE_NAT,
	NFT_DATAPLANE_ANNOUNCE,
};

struct nft_endpoint {
	struct base_address address;
	uint16_t port;
	uint64_t vm;		  /* stays when it moves to another node and address; 0: nothing does */
	bool local;		  /* on this node */
	bool attached; /* on a network whose way out is not this node: asked in this node's name */
	bool held;		  /* not said to serve now: its resets are kept from who is connected */
	struct base_address node; /* its node's address on the VIP's segment; NONE: off it */
};

struct nft_port {
	struct base_address address;
	uint8_t protocol; /* IPPROTO_TCP, _UDP, _SCTP */
	uint16_t port;
	bool client_affinity;
	bool held; /* nobody serves now: new connections wait */
	enum nft_dataplane dataplane;
	size_t range_count, endpoint_count, prepared_count;
	/* None: everybody. In the order of nft_ranges_sort(); their lengths are in the skeleton. */
	const struct base_prefix *ranges;
	const struct nft_endpoint *endpoints;
	const struct nft_endpoint *prepared; /* here, and not ready: a VM may arrive in mid-stream */
};

#define NFT_KEY_SIZE  40 /* the longest: IPv6 address, protocol, port, IPv6 address */
#define NFT_DATA_SIZE 20

struct nft_element {
	uint8_t set; /* index into nft_sets, enum nft_set_id */
	bool exclusive;
	uint8_t key_size;
	uint8_t data_size; /* 0 in a set, and for "nothing, and nobody else either" in a map */
	uint8_t key[NFT_KEY_SIZE];
	uint8_t data[NFT_DATA_SIZE];
};

/* As nft would say it: "inet service4 { 192.0.2.10 . tcp . 22 : 10.244.2.5 . 22 }". Returns `text`. */
#define NFT_ELEMENT_TEXT_SIZE 288
const char *nft_element_format(const struct nft_element *element,
			       char text[static NFT_ELEMENT_TEXT_SIZE]);

typedef int nft_emit_fn(void *userdata, const struct nft_element *element);

/* By first address, the wider one first: what lies inside another one comes right behind it. */
void nft_ranges_sort(struct base_prefix *ranges, size_t count);

/* Each answers 0, or the first negative value the callback gave. */
/* `interface`: index of its segment's; 0: not known, any segment may answer. */
/* `virtual_mac`: what answers for it (RFC 9568 section 7.3); NULL: the node's own MAC. */
int nft_emit_vip(const struct base_address *address, enum nft_dataplane dataplane, unsigned interface,
		 const struct base_mac *virtual_mac, nft_emit_fn *emit, void *userdata);
int nft_emit_port(const struct nft_port *port, nft_emit_fn *emit, void *userdata);
/*
 * Every TCP, UDP and SCTP port of the address that is not a port of its own goes to the one endpoint, the
 * port as it is; README.md has what that promises. Of `port` address, data plane, ranges and endpoints
 * count; with another number of endpoints than one, nobody gets the other ports.
 */
int nft_emit_whole(const struct nft_port *port, nft_emit_fn *emit, void *userdata);
/* A node of ours on the segment: what it sends on is not sent on again. */
int nft_emit_peer(const struct base_mac *mac, nft_emit_fn *emit, void *userdata);

/*
 * Maglev (NSDI 2016, section 3.4): which endpoint each slot belongs to, the same on every node.
 * `endpoints` in any order; `slots` gets indices into it. At least one endpoint; of more than there
 * are slots, the first by VM and address get one each. A VM that moves keeps its slots, and nobody else's
 * change: their connections go on, and its own.
 */
void nft_slots_fill(const struct nft_endpoint *endpoints, size_t count,
		    uint16_t slots[static NFT_SLOTS]);
