#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

/*
 * The rules that do not depend on any Service: the fence, the director and the NAT, as text for
 * libnftables. Everything that changes while running lives in sets and maps (nft/desired.h).
 *
 * Three tables, all called vipd: `netdev` (per segment: fence, director), `inet` (DNAT at the
 * endpoint's node, replies, closed ports) and `arp` (who is not its segment). README.md draws them.
 */
#define NFT_SEGMENTS_MAX  16
#define NFT_INTERVALS_MAX 32
#define NFT_EXITS_MAX	  8
#define NFT_RETURNS_MAX	  32
#define NFT_OWNS_MAX	  32
#define NFT_PORTS_MAX	  64
#define NFT_SLOTS	  251 /* Maglev slots of a port with several endpoints; prime */

/* Orders of the daemon to the fence: adverts of these "versions" are dropped on their way out. */
#define NFT_CLOSE_VERSION  15 /* the addresses are nobody's here from now on */
#define NFT_LINGER_VERSION 14 /* they are leaving: see NFT_GRACE_MS */

/*
 * Make before break: after NFT_LINGER_VERSION priority 0 does not close the fence. It closes when
 * a member's advert for the address comes in, or by its own timeout; what is sent to us
 * all the same is passed on for this long (Linux ignores a second gratuitous ARP within 1 s, so
 * some clients learn of the move with the one after 1.1 s).
 */
#define NFT_GRACE_MS 1500

/*
 * A VM is here before its slice says so: what another node passes on to it, translated there, is dropped until
 * the slice has said it, and for this long after, in which the owner has heard of it, too.
 */
#define NFT_EARLY_MS 5000

/*
 * Its slice says so before the owner knows: the owner still sends its connections to the node that it left, which routes
 * them on. What is in mid-stream of that waits for this long; what is new, or a datagram, for NFT_EARLY_MS, too.
 */
#define NFT_MOVED_S 30

/*
 * In whose name this node asks for MACs where the kernel would ask in that of an address of ours that it has and does not
 * own, or, by another interface than its segment's, owns: IPv4 by the subnet of who is asked, IPv6 link-local.
 */
struct nft_own {
	struct base_prefix subnet; /* with this node's address */
	char interface[16];
};

/* The way back to clients beyond a segment, of addresses in `subnet`. */
struct nft_return {
	struct base_prefix subnet; /* with its first address */
	struct base_address gateway;
	char segment[16]; /* interface name */
};

/* An interface with a default route. Bits are returns whose segments stand on it: what they send leaves by it, too. */
struct nft_exit {
	char name[16];
	unsigned index;
	struct base_mac mac;
	uint32_t tagged;   /* as VLANs, or by way of one */
	uint32_t macvlans; /* with a MAC of their own */
};

/* A port of a segment that is a bridge, where the kernel translates before the bridge takes the packet (br_netfilter). */
struct nft_bridge_port {
	char name[16], segment[16];
	unsigned index;
	struct base_mac mac; /* of the segment */
	bool called[2];	     /* IPv4, IPv6 */
	bool virtual_macs;   /* of some address on the segment */
	bool gone;	     /* since this was wished for: without its chain, but with the same revision */
};

struct nft_skeleton {
	bool egress; /* the kernel has the netdev egress hook; else the loopback fence */
	bool arp;    /* the kernel has tables of this family; else there is none */
	unsigned segment_count;
	char segments[NFT_SEGMENTS_MAX][16]; /* interface names */
	unsigned indices[NFT_SEGMENTS_MAX];  /* of them: an interface made anew needs its hooks again */
	unsigned interval_count;
	uint32_t intervals_cs[NFT_INTERVALS_MAX]; /* advertisement intervals in use, ascending */
	unsigned addresses_per_router;		  /* the most addresses one advert carries, >= 1 */
	bool source4[33], source6[129];		  /* lengths of source ranges in use */
	bool virtual_macs[NFT_SEGMENTS_MAX]; /* some address there has one; needs the egress hook */
	bool tagged[NFT_SEGMENTS_MAX];	     /* VLANs stand on it: what is tagged is theirs */
	unsigned own_count; /* of use at the egress hook, and in table arp */
	struct nft_own owns[NFT_OWNS_MAX];
	/*
	 * Interfaces with a default route: what leaves by one of them with an address of another segment takes that
	 * one's way back. Needs the egress hook. No default route but by the segment itself: no chain.
	 */
	unsigned exit_count;
	struct nft_exit exits[NFT_EXITS_MAX];
	unsigned return_count;
	struct nft_return returns[NFT_RETURNS_MAX];
	unsigned port_count;
	struct nft_bridge_port ports[NFT_PORTS_MAX];
	unsigned range_count;
	struct base_prefix pod_ranges[64]; /* of the cluster; clients in them keep their address */
};

/* The fence lasts this long after an advert: 2.5 intervals, before any backup may take over. */
uint32_t nft_fence_ms(uint32_t interval_cs);

/* Does it lead away from this interface? Not if that is on the subnet, too: by two cards on one LAN either may answer. */
bool nft_return_leads_away(const struct nft_skeleton *skeleton, const struct nft_return *way, const char *interface);

/* Can nft say the name of this interface, as a word and quoted? Linux would allow more. */
bool nft_is_sayable(const char *interface);

#define NFT_SKELETON_SIZE (2 * 1024 * 1024) /* room enough: 32 intervals, 90 addresses, 16 segments */

/*
 * Writes the text; answers its length, -ENOSPC, or -EINVAL for an interface whose name nftables cannot
 * say. The text puts the rules into tables that may be there already, in one transaction, and keeps
 * the sets with what is in them: an open fence stays open. With `anew` it removes the tables first.
 */
int nft_skeleton_render(const struct nft_skeleton *skeleton, bool anew, char *text, size_t size);

/*
 * With virtual MACs the kernel's neighbour solicitations and advertisements of such addresses jump to this chain
 * of table netdev vipd, which is empty: nft has no words for its one rule, see io/rewrite.h.
 */
#define NFT_REWRITE_CHAIN "rewrite6"
/*
 * An ICMP error that comes in for another node's endpoint goes to this chain of the same table, or its twin for IPv6;
 * empty, too: see io/errors.h.
 */
#define NFT_ERRORS_CHAIN "errors" /* "4", "6" */
bool nft_skeleton_virtual(const struct nft_skeleton *skeleton); /* on some segment */

/* A number that differs when the rules would; in the kernel it is the one element of set `revision`. */
uint64_t nft_skeleton_revision(const struct nft_skeleton *skeleton);

/*
 * The sets and maps that hold what nft/desired.h emits. Not among them: `alive4`, `alive6`,
 * `leaving4`, `leaving6`, which packets alone fill, `revision`, and `early4`, `early6`, `moved4` and `moved6`: an endpoint
 * that was elsewhere and becomes `local` stands there for a while, by itself (io/ledger.h); in `early` by packets, too.
 *
 * `key` and `data` say what an element consists of, one letter a field, each padded to 4 bytes as the
 * kernel wants it: a IPv4 address, A IPv6 address, N IPv6 address as a number, p protocol, s port,
 * i slot, m mark, e MAC (alone, not padded).
 */
struct nft_set {
	const char *table; /* "netdev", "inet", "arp", or "guard": not in the skeleton, see io/guard.h */
	const char *kind;  /* "set" or "map" */
	const char *name, *definition, *key, *data;
};

/*
 * Every one but the last three is a pair: IPv4, and behind it IPv6. The kernel looks a set up by its name, from the first
 * of its table on, for each message of a transaction: first those that change most.
 */
enum nft_set_id {
	NFT_SET_NODE,
	NFT_SET_ONENODE = NFT_SET_NODE + 2,
	NFT_SET_HERE = NFT_SET_ONENODE + 2,
	NFT_SET_FENCED = NFT_SET_HERE + 2,
	NFT_SET_MANY = NFT_SET_FENCED + 2,
	NFT_SET_NODECLIENT = NFT_SET_MANY + 2,
	NFT_SET_NODEFLOW = NFT_SET_NODECLIENT + 2,
	NFT_SET_WHOLENODE = NFT_SET_NODEFLOW + 2,
	NFT_SET_UNSETTLED = NFT_SET_WHOLENODE + 2,
	NFT_SET_VIRTUAL = NFT_SET_UNSETTLED + 2,
	NFT_SET_SERVICE = NFT_SET_VIRTUAL + 2,
	NFT_SET_REVERSE = NFT_SET_SERVICE + 2,
	NFT_SET_HAIRPIN = NFT_SET_REVERSE + 2,
	NFT_SET_LOCAL = NFT_SET_HAIRPIN + 2,
	NFT_SET_ARRIVED = NFT_SET_LOCAL + 2,
	NFT_SET_VIPS = NFT_SET_ARRIVED + 2,
	NFT_SET_SLOTCLIENT = NFT_SET_VIPS + 2,
	NFT_SET_SLOTFLOW = NFT_SET_SLOTCLIENT + 2,
	NFT_SET_SLOTCLIENTUDP = NFT_SET_SLOTFLOW + 2,
	NFT_SET_SLOTFLOWUDP = NFT_SET_SLOTCLIENTUDP + 2,
	NFT_SET_SLOTCLIENTSCTP = NFT_SET_SLOTFLOWUDP + 2,
	NFT_SET_SLOTFLOWSCTP = NFT_SET_SLOTCLIENTSCTP + 2,
	NFT_SET_RANGED = NFT_SET_SLOTFLOWSCTP + 2,
	NFT_SET_SOURCE = NFT_SET_RANGED + 2,
	NFT_SET_SOURCEHOST = NFT_SET_SOURCE + 2,
	NFT_SET_WHOLE = NFT_SET_SOURCEHOST + 2,
	NFT_SET_WHOLERANGED = NFT_SET_WHOLE + 2,
	NFT_SET_WHOLESOURCE = NFT_SET_WHOLERANGED + 2,
	NFT_SET_WHOLESOURCEHOST = NFT_SET_WHOLESOURCE + 2,
	NFT_SET_WHOLEREVERSE = NFT_SET_WHOLESOURCEHOST + 2,
	NFT_SET_DOUBTFUL = NFT_SET_WHOLEREVERSE + 2,
	NFT_SET_WHOLEDOUBTFUL = NFT_SET_DOUBTFUL + 2,
	NFT_SET_UNPLACED = NFT_SET_WHOLEDOUBTFUL + 2,
	NFT_SET_ATTACHED = NFT_SET_UNPLACED + 2,
	NFT_SET_HELD = NFT_SET_ATTACHED + 2,
	NFT_SET_HELDEND = NFT_SET_HELD + 2,
	NFT_SET_GUARDED = NFT_SET_HELDEND + 2,
	NFT_SET_PEERS = NFT_SET_GUARDED + 2,
	NFT_SET_MEMBERS,
	NFT_SET_ASKED,
	NFT_SETS
};
extern const struct nft_set nft_sets[NFT_SETS];
