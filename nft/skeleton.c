#include "nft/skeleton.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"
#include "nft/chains.h"
#include "nft/text.h"

uint32_t nft_fence_ms(uint32_t interval_cs)
{
	return interval_cs * 25;
}

#define TEXT_OF(number)	 #number
#define TEXT(number)	 TEXT_OF(number)
#define KEY(ip)		 "typeof " ip " daddr . meta l4proto . th dport . "
/*
 * One map a protocol: nft 1.0.6 matches the protocol of the data's port in every rule that uses the map,
 * and "th dport", which names none, it refuses when it reads it back from the kernel.
 */
#define SLOT(ip, proto)	 KEY(ip) "numgen inc mod " TEXT(NFT_SLOTS) " : " ip " daddr . " proto " dport"
#define SERVICE(address) "type " address " . inet_proto . inet_service"
#define BOTH(id, table, kind, name, four, six, key4, key6, data4, data6)                            \
	[NFT_SET_##id] = { table, kind, name "4", four, key4, data4 },                             \
	[NFT_SET_##id + 1] = { table, kind, name "6", six, key6, data6 }
#define SLOTS(id, name, proto)                                                                     \
	BOTH(id, "inet", "map", name, SLOT("ip", proto), SLOT("ip6", proto), "apsi", "Apsi", "as", "As")
#define PORTS(id, table, name, more)                                                               \
	BOTH(id, table, "set", name, SERVICE("ipv4_addr") more, SERVICE("ipv6_addr") more, "aps",  \
	     "Aps", "", "")
#define ADDRESSES(id, table, name)                                                                 \
	BOTH(id, table, "set", name, "type ipv4_addr", "type ipv6_addr", "a", "A", "", "")

const struct nft_set nft_sets[NFT_SETS] = {
	/* IPv6 as a plain number: this nft has no name for the target of a solicitation. */
	BOTH(FENCED, "netdev", "set", "vips", "type ipv4_addr", "typeof @th,64,128", "a", "N", "", ""),
	ADDRESSES(MANY, "netdev", "many"),
	BOTH(ONENODE, "netdev", "map", "onenode", "type ipv4_addr : ipv4_addr",
	     "type ipv6_addr : ipv6_addr", "a", "A", "a", "A"),
	PORTS(HERE, "netdev", "here", "; counter"),
	BOTH(NODE, "netdev", "map", "node", SERVICE("ipv4_addr") " : ipv4_addr; counter",
	     SERVICE("ipv6_addr") " : ipv6_addr; counter", "aps", "Aps", "a", "A"),
	BOTH(NODECLIENT, "netdev", "map", "nodeclient", KEY("ip") "meta mark : ip daddr",
	     KEY("ip6") "meta mark : ip6 daddr", "apsm", "Apsm", "a", "A"),
	BOTH(NODEFLOW, "netdev", "map", "nodeflow", KEY("ip") "meta mark : ip daddr",
	     KEY("ip6") "meta mark : ip6 daddr", "apsm", "Apsm", "a", "A"),
	BOTH(WHOLENODE, "netdev", "map", "wholenode", "type ipv4_addr : ipv4_addr",
	     "type ipv6_addr : ipv6_addr", "a", "A", "a", "A"),
	PORTS(UNSETTLED, "netdev", "unsettled", "; counter"),
	/* Numbers all: at the egress nft would ask for the interface that an "ether" came in on. */
	BOTH(VIRTUAL, "netdev", "map", "virtual", "typeof @th,64,32 : @ll,48,48",
	     "typeof @th,64,128 : @ll,48,48", "a", "N", "e", "e"),
	ADDRESSES(VIPS, "inet", "vips"),
	BOTH(SERVICE, "inet", "map", "service", SERVICE("ipv4_addr") " : ipv4_addr . inet_service",
	     SERVICE("ipv6_addr") " : ipv6_addr . inet_service", "aps", "Aps", "as", "As"),
	SLOTS(SLOTCLIENT, "slotclient", "tcp"),
	SLOTS(SLOTFLOW, "slotflow", "tcp"),
	SLOTS(SLOTCLIENTUDP, "slotclientudp", "udp"),
	SLOTS(SLOTFLOWUDP, "slotflowudp", "udp"),
	SLOTS(SLOTCLIENTSCTP, "slotclientsctp", "sctp"),
	SLOTS(SLOTFLOWSCTP, "slotflowsctp", "sctp"),
	PORTS(RANGED, "inet", "ranged", ""),
	/* Hashes, a look-up a length: an interval set takes milliseconds for each range that goes. */
	BOTH(SOURCE, "inet", "set", "source", SERVICE("ipv4_addr") " . ipv4_addr",
	     SERVICE("ipv6_addr") " . ipv6_addr", "apsa", "ApsA", "", ""),
	BOTH(SOURCEHOST, "inet", "set", "sourcehost", SERVICE("ipv4_addr") " . ipv4_addr",
	     SERVICE("ipv6_addr") " . ipv6_addr", "apsa", "ApsA", "", ""),
	BOTH(WHOLE, "inet", "map", "whole", "type ipv4_addr : ipv4_addr",
	     "type ipv6_addr : ipv6_addr", "a", "A", "a", "A"),
	ADDRESSES(WHOLERANGED, "inet", "wholeranged"),
	BOTH(WHOLESOURCE, "inet", "set", "wholesource", "type ipv4_addr . ipv4_addr",
	     "type ipv6_addr . ipv6_addr", "aa", "AA", "", ""),
	BOTH(WHOLESOURCEHOST, "inet", "set", "wholesourcehost", "type ipv4_addr . ipv4_addr",
	     "type ipv6_addr . ipv6_addr", "aa", "AA", "", ""),
	BOTH(WHOLEREVERSE, "inet", "map", "wholereverse", "type ipv4_addr : ipv4_addr",
	     "type ipv6_addr : ipv6_addr", "a", "A", "a", "A"),
	BOTH(REVERSE, "inet", "map", "reverse", SERVICE("ipv4_addr") " : ipv4_addr . inet_service",
	     SERVICE("ipv6_addr") " : ipv6_addr . inet_service", "aps", "Aps", "as", "As"),
	PORTS(DOUBTFUL, "inet", "doubtful", ""),
	ADDRESSES(WHOLEDOUBTFUL, "inet", "wholedoubtful"),
	BOTH(HAIRPIN, "inet", "set", "hairpin", "type ipv4_addr . ipv4_addr",
	     "type ipv6_addr . ipv6_addr", "aa", "AA", "", ""),
	ADDRESSES(LOCAL, "inet", "local"),
	ADDRESSES(UNPLACED, "inet", "unplaced"),
	ADDRESSES(ATTACHED, "inet", "attached"),
	PORTS(HELD, "inet", "held", ""),
	PORTS(HELDEND, "inet", "heldend", ""),
	PORTS(ARRIVED, "inet", "arrived", "; counter"),
	ADDRESSES(GUARDED, "guard", "vips"),
	[NFT_SET_PEERS] = { "netdev", "set", "peers", "type ether_addr", "e", "" },
	[NFT_SET_MEMBERS] = { "inet", "set", "members", "type ether_addr", "e", "" },
	[NFT_SET_ASKED] = { "arp", "map", "vips4", "type ipv4_addr : mark", "a", "m" },
};

static void put_sets(struct nft_text *t, const char *table)
{
	for (unsigned i = 0; i < NFT_SETS; i++)
		if (strcmp(nft_sets[i].table, table) == 0)
			nft_put(t, "\t%s %s { %s; }\n", nft_sets[i].kind, nft_sets[i].name,
				nft_sets[i].definition);
}

bool nft_return_leads_away(const struct nft_skeleton *skeleton, const struct nft_return *way, const char *interface)
{
	for (unsigned i = 0; i < skeleton->return_count; i++) {
		const struct nft_return *one = &skeleton->returns[i];

		if (strcmp(one->segment, interface) == 0 && one->subnet.length == way->subnet.length &&
		    base_address_equal(&one->subnet.address, &way->subnet.address))
			return false;
	}
	return true;
}

bool nft_is_sayable(const char *interface)
{
	return *interface && !interface[strspn(interface, "abcdefghijklmnopqrstuvwxyz"
							  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

bool nft_skeleton_virtual(const struct nft_skeleton *skeleton)
{
	for (unsigned i = 0; i < skeleton->segment_count; i++)
		if (skeleton->virtual_macs[i])
			return true;
	return false;
}

static int render(const struct nft_skeleton *s, const char *before, uint64_t revision, char *text,
		  size_t size)
{
	struct nft_text t = { .at = text, .size = size };

	for (unsigned i = 0; i < s->segment_count; i++)
		if (!nft_is_sayable(s->segments[i]))
			return -EINVAL;
	for (unsigned i = 0; i < s->exit_count; i++)
		if (!nft_is_sayable(s->exits[i].name))
			return -EINVAL;
	for (unsigned i = 0; i < s->port_count; i++)
		if (!nft_is_sayable(s->ports[i].name))
			return -EINVAL;
	assert(s->egress || (!nft_skeleton_virtual(s) && s->exit_count == 0));
	nft_put(&t, "%stable netdev vipd {\n", before);
	put_sets(&t, "netdev");
	for (int six = 0; six < 2; six++) {
		const char *f = six ? "6" : "4", *type = six ? "typeof @th,64,128" : "type ipv4_addr";

		nft_put(&t, "\tset alive%s { %s; size 65535; flags dynamic,timeout; timeout 1s; }\n", f,
			type);
		nft_put(&t, "\tset leaving%s { typeof @th,64,%u; size 65535; flags dynamic,timeout; "
			    "timeout 1s; }\n",
			f, six ? 128 : 32);
	}
	nft_chains_netdev(&t, s);
	nft_put(&t, "}\ntable inet vipd {\n");
	put_sets(&t, "inet");
	nft_put(&t, "\tset revision { type mark . mark; }\n");
	for (int six = 0; six < 2; six++) {
		const char *f = six ? "6" : "4", *type = six ? "ipv6_addr" : "ipv4_addr";

		nft_put(&t, "\tset early%s { type %s; size 65535; flags dynamic,timeout; timeout %us; }\n", f, type,
			NFT_EARLY_MS / 1000u);
		nft_put(&t, "\tset moved%s { type %s; size 65535; flags timeout; timeout %us; }\n", f, type,
			(unsigned)NFT_MOVED_S);
	}
	nft_chains_inet(&t, s);
	if (s->arp) {
		nft_put(&t, "}\ntable arp vipd {\n");
		put_sets(&t, "arp");
		nft_chains_arp(&t, s);
	}
	nft_put(&t, "}\nflush set inet vipd revision\nadd element inet vipd revision { 0x%08x . 0x%08x }\n",
		(unsigned)(revision >> 32), (unsigned)revision);
	return t.full ? -ENOSPC : (int)t.length;
}

uint64_t nft_skeleton_revision(const struct nft_skeleton *skeleton)
{
	static char text[NFT_SKELETON_SIZE]; /* one thread; not kept over the call */
	static struct nft_skeleton whole;
	int length;
	uint64_t hash;

	whole = *skeleton;
	for (unsigned i = 0; i < whole.port_count; i++)
		whole.ports[i].gone = false;
	length = render(&whole, "", 0, text, sizeof text);
	hash = length < 0 ? 0 : base_hash(text, (size_t)length);

	hash ^= base_hash(skeleton->indices, skeleton->segment_count * sizeof(unsigned));
	for (unsigned i = 0; i < skeleton->exit_count; i++)
		hash = hash * 3 ^ base_hash(&skeleton->exits[i].index, sizeof(unsigned));
	for (unsigned i = 0; i < skeleton->port_count; i++)
		hash = hash * 3 ^ base_hash(&skeleton->ports[i].index, sizeof(unsigned));
	return hash;
}

int nft_skeleton_render(const struct nft_skeleton *skeleton, bool anew, char *text, size_t size)
{
	static const char *const families[] = { "netdev", "inet", "arp" };
	/* Flushing a table takes its rules and leaves its chains, sets and elements. */
	const char *how = anew ? "delete" : "flush";
	char before[256];
	struct nft_text t = { .at = before, .size = sizeof before };

	for (size_t i = 0; i < BASE_COUNT_OF(families) - !skeleton->arp; i++)
		nft_put(&t, "add table %s vipd\n%s table %s vipd\n", families[i], how, families[i]);
	return render(skeleton, before, nft_skeleton_revision(skeleton), text, size);
}
