#include "nft/skeleton.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"

#define SEED "seed 0x5eed" /* the same on every node, so every node picks the same endpoint */

/* What pods hang on, and by what else than the LAN another node's packets for them come. */
#define POD_KINDS    "{ \"veth\", \"bridge\", \"openvswitch\" }"
#define TUNNEL_KINDS "{ \"vxlan\", \"geneve\", \"gre\", \"gretap\", \"ipip\", \"ip6tnl\", \"sit\", \"wireguard\" }"

struct text {
	char *at;
	size_t size, length;
	bool full;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(text->at + text->length, text->size - text->length, format, arguments);
	va_end(arguments);
	if (n < 0 || (size_t)n >= text->size - text->length)
		text->full = true;
	else
		text->length += (size_t)n;
}

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
	PORTS(HELD, "inet", "held", ""),
	PORTS(HELDEND, "inet", "heldend", ""),
	PORTS(ARRIVED, "inet", "arrived", "; counter"),
	ADDRESSES(GUARDED, "guard", "vips"),
	[NFT_SET_PEERS] = { "netdev", "set", "peers", "type ether_addr", "e", "" },
	[NFT_SET_MEMBERS] = { "inet", "set", "members", "type ether_addr", "e", "" },
};

static void put_sets(struct text *t, const char *table)
{
	for (unsigned i = 0; i < NFT_SETS; i++)
		if (strcmp(nft_sets[i].table, table) == 0)
			put(t, "\t%s %s { %s; }\n", nft_sets[i].kind, nft_sets[i].name,
			    nft_sets[i].definition);
}

/*
 * What an advert that leaves does, one rule per interval and address: it keeps its addresses alive
 * for 2.5 intervals. The interval stands in the advert itself (version 3: 12 bits of centiseconds
 * at bit 36, version 2: 8 bits of seconds at bit 40), so a virtual router needs no rule of its own.
 */
static void put_refresh4(struct text *t, uint32_t cs, unsigned n)
{
	uint32_t ms = nft_fence_ms(cs);

	put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,36,12 == %u @th,0,8 == 0x31 update @alive4 "
	       "{ @th,%u,32 timeout %ums }\n",
	    n, cs, 64 + n * 32, ms);
	if (cs % 100 == 0)
		put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,40,8 == %u @th,0,8 == 0x21 "
		       "update @alive4 { @th,%u,32 timeout %ums }\n",
		    n, cs / 100, 64 + n * 32, ms);
}

static void put_refresh6(struct text *t, uint32_t cs, unsigned n)
{
	put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,36,12 == %u @th,0,8 == 0x31 update @alive6 "
	       "{ @th,%u,128 timeout %ums }\n",
	    n + 1, cs, 192 + n * 128, nft_fence_ms(cs));
}

/*
 * Priority 0 closes the fence, unless the address is leaving: then the owner goes on answering
 * until its successor is heard (put_heard()) or the fence runs out. The two local "versions" are
 * orders of the daemon; nobody on the LAN hears them.
 */
static void put_closing(struct text *t, const char *f, unsigned count, unsigned offset,
			unsigned bits)
{
	put(t, "\t\t@th,0,4 == %u @th,24,8 > %u update @leaving%s { @th,%u,%u timeout %ums }\n",
	    NFT_LINGER_VERSION, count, f, offset, bits, NFT_GRACE_MS);
	put(t, "\t\t@th,0,8 < 0x%x0 @th,16,8 == 0 @th,24,8 > %u @th,%u,%u != @leaving%s "
	       "delete @alive%s { @th,%u,%u }\n",
	    NFT_LINGER_VERSION, count, offset, bits, f, f, offset, bits);
	put(t, "\t\t@th,0,8 < 0x%x0 @th,16,8 != 0 @th,24,8 > %u delete @leaving%s { @th,%u,%u }\n",
	    NFT_LINGER_VERSION, count, f, offset, bits);
	put(t, "\t\t@th,0,4 == %u @th,24,8 > %u delete @alive%s { @th,%u,%u }\n",
	    NFT_CLOSE_VERSION, count, f, offset, bits);
	put(t, "\t\t@th,0,4 == %u @th,24,8 > %u delete @leaving%s { @th,%u,%u }\n",
	    NFT_CLOSE_VERSION, count, f, offset, bits);
}

/* Adverts that leave, and those that a member sends: few packets, so the chains may be long. */
static void put_advert_chains(struct text *t, const struct nft_skeleton *s)
{
	for (int six = 0; six < 2; six++) {
		const char *f = six ? "6" : "4";
		unsigned bits = six ? 128 : 32;

		put(t, "\tchain sent%s {\n", f);
		for (unsigned n = 0; n < s->addresses_per_router; n++) {
			for (unsigned i = 0; i < s->interval_count; i++)
				six ? put_refresh6(t, s->intervals_cs[i], n)
				    : put_refresh4(t, s->intervals_cs[i], n);
			put_closing(t, f, six ? n + 1 : n, six ? 192 + n * 128 : 64 + n * 32, bits);
		}
		put(t, "\t\t@th,0,8 >= 0x%x0 drop\n\t}\n", NFT_LINGER_VERSION);
		/* The successor is there: not an instant longer than it takes to hear it. */
		put(t, "\tchain heard%s {\n", f);
		for (unsigned n = 0; n < s->addresses_per_router; n++) {
			unsigned offset = six ? 192 + n * 128 : 64 + n * 32;

			put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,%u,%u @leaving%s delete "
			       "@alive%s { @th,%u,%u }\n",
			    six ? n + 1 : n, offset, bits, f, f, offset, bits);
		}
		put(t, "\t}\n");
	}
}

/*
 * What says where an address with a virtual MAC is, says it of that MAC, and comes from there: adverts, ARP of
 * either kind (this node also asks in the address's name), neighbour solicitations and advertisements. Only
 * members are answered with this node's own MAC: it tells them which of them has the address.
 */
static void put_virtual_egress(struct text *t)
{
	put(t, "\t\tip protocol 112 @ll,48,48 set @th,64,32 map @virtual4\n"
	       "\t\tip6 nexthdr 112 @ll,48,48 set @th,192,128 map @virtual6\n"
	       "\t\tarp daddr ether @peers accept\n"
	       "\t\tarp htype 1 @ll,48,48 set @nh,112,32 map @virtual4\n"
	       "\t\tarp htype 1 @nh,64,48 set @nh,112,32 map @virtual4\n"
	       "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } jump " NFT_REWRITE_CHAIN "\n");
}

/* What leaves a segment: only adverts, ARP and NA are of interest, and nobody waits for them. */
static void put_egress(struct text *t, bool virtual_macs, const char *interface)
{
	put(t, "\tchain out-%s {\n\t\ttype filter hook egress device \"%s\" priority 0; policy accept;\n",
	    interface, interface);
	put(t, "\t\tip protocol != 112 accept\n"
	       "\t\tip6 nexthdr tcp accept\n"
	       "\t\tip6 nexthdr udp accept\n"
	       /* TTL 255: what this node forwards for others opens nothing. */
	       "\t\tip protocol 112 ip ttl 255 jump sent4\n"
	       "\t\tip6 nexthdr 112 ip6 hoplimit 255 jump sent6\n"
	       "\t\tarp saddr ip @vips4 arp saddr ip != @alive4 counter drop\n"
	       "\t\ticmpv6 type nd-neighbor-advert @th,64,128 @vips6 @th,64,128 != @alive6 counter "
	       "drop\n");
	if (virtual_macs)
		put_virtual_egress(t);
	put(t, "\t}\n");
}

/* What is sent to a virtual MAC is for this node while it answers for the address; the kernel thinks it is not. */
static void put_virtual_ingress(struct text *t)
{
	put(t, "\tchain virtual {\n"
	       "\t\tip daddr @alive4 meta pkttype set host return\n"
	       "\t\tmeta protocol ip @nh,128,32 @leaving4 meta pkttype set host return\n"
	       "\t\tmeta protocol ip6 @nh,192,128 @alive6 meta pkttype set host return\n"
	       "\t\tmeta protocol ip6 @nh,192,128 @leaving6 meta pkttype set host return\n"
	       "\t\tarp daddr ip @alive4 meta pkttype set host\n\t}\n");
}

/*
 * Every packet that comes in pays for each look-up here (some 0.1 us), so the order is: an address that is
 * alive, the only look-up before it is passed on; then what members send; then whether it is an address of
 * ours at all.
 */
static void put_ingress(struct text *t, bool virtual_macs, const char *interface)
{
	put(t, "\tchain in-%s {\n\t\ttype filter hook ingress device \"%s\" priority 0; policy accept;\n",
	    interface, interface);
	if (virtual_macs)
		put(t, "\t\tmeta pkttype other @ll,0,32 0x00005e00 jump virtual\n");
	put(t, "\t\tip daddr @alive4 goto direct4-%s\n"
	       "\t\tmeta protocol ip6 @nh,192,128 @alive6 goto direct6-%s\n"
	       "\t\tarp operation request arp daddr ip @vips4 arp daddr ip != @alive4 counter drop\n"
	       "\t\ticmpv6 type nd-neighbor-solicit @th,64,128 @vips6 @th,64,128 != @alive6 "
	       "counter drop\n"
	       /* What a member's director sends on is for us although we do not own the address. */
	       "\t\tether saddr @peers goto member\n"
	       "\t\tip daddr @vips4 goto stale4-%s\n"
	       "\t\tmeta protocol ip6 @nh,192,128 @vips6 goto stale6-%s\n",
	    interface, interface, interface, interface);
	if (virtual_macs) /* a member's adverts, which then have no member's MAC */
		put(t, "\t\tip protocol 112 @ll,48,32 0x00005e00 jump heard4\n"
		       "\t\tip6 nexthdr 112 @ll,48,32 0x00005e00 jump heard6\n");
	put(t, "\t}\n");
}

/*
 * Not ours, or not any more: dropped, but for the grace time of an address that is leaving. A client that
 * has not heard of the new owner yet is served until then.
 */
static void put_stale(struct text *t, bool six, const char *interface)
{
	const char *f = six ? "6" : "4", *to = six ? "@nh,192,128" : "@nh,128,32";

	put(t, "\tchain stale%s-%s {\n\t\t%s != @leaving%s counter drop\n"
	       "\t\tmeta pkttype != host counter drop\n\t\tgoto direct%s-%s\n\t}\n",
	    f, interface, to, f, f, interface);
}

/* ICMP errors name no port of ours. */
static void put_errors(struct text *t, bool six, const char *interface)
{
	if (six)
		put(t, "\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, "
		       "parameter-problem } fwd ip6 to ip6 daddr map @onenode6 device \"%s\"\n",
		    interface);
	else
		put(t, "\t\ticmp type { destination-unreachable, time-exceeded, parameter-problem } fwd "
		       "ip to ip daddr map @onenode4 device \"%s\"\n",
		    interface);
}

/* The director: what is for another node leaves from here, the rest goes on into the owner. */
static void put_director(struct text *t, bool six, const char *interface)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

	/* All pieces go one way: only the first one has ports. */
	put(t, "\tchain pieces%s-%s {\n\t\tfwd %s to %s daddr map @onenode%s device \"%s\"\n\t}\n", f,
	    interface, ip, ip, f, interface);
	/*
	 * Addresses that one look-up of a port does not settle, so that the others do not pay for these.
	 * Several endpoints: a hash picks the slot. It travels in the mark, because fwd of an IPv6 packet
	 * leaves too few registers to hash in place; taken back if nothing matched.
	 */
	put(t, "\tchain many%s-%s {\n", f, interface);
	put_errors(t, six, interface);
	put(t, "\t\tmeta mark set jhash %s saddr mod %u " SEED "\n", ip, NFT_SLOTS);
	put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport . meta mark map @nodeclient%s device "
	       "\"%s\"\n",
	    ip, ip, f, interface);
	put(t, "\t\tmeta mark set jhash %s saddr . th sport mod %u " SEED "\n", ip, NFT_SLOTS);
	put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport . meta mark map @nodeflow%s device "
	       "\"%s\"\n\t\tmeta mark set 0\n",
	    ip, ip, f, interface);
	/* Every other port of an address that is one VM's as a whole. */
	put(t, "\t\tmeta l4proto { tcp, udp, sctp } fwd %s to %s daddr map @wholenode%s device \"%s\"\n"
	       "\t}\n",
	    ip, ip, f, interface);
	/* Each port stands in one of `here`, `node` and `unsettled`: the look-up that decides counts, too. */
	put(t, "\tchain direct%s-%s {\n\t\t%s daddr . meta l4proto . th dport @here%s accept\n", f, interface,
	    ip, f);
	put(t, "\t\tether saddr @peers return\n"); /* passed on once, not in circles */
	put(t, "\t\t%s goto pieces%s-%s\n", six ? "ip6 nexthdr 44" : "ip frag-off & 0x3fff != 0", f,
	    interface);
	put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport map @node%s device \"%s\"\n", ip, ip, f,
	    interface);
	put(t, "\t\t%s daddr . meta l4proto . th dport @unsettled%s\n", ip, f);
	put(t, "\t\t%s daddr @many%s goto many%s-%s\n", ip, f, f, interface);
	put_errors(t, six, interface);
	put(t, "\t}\n");
}

static void put_segment(struct text *t, bool egress, bool virtual_macs, const char *interface)
{
	if (egress)
		put_egress(t, virtual_macs, interface);
	put_ingress(t, virtual_macs, interface);
	for (int six = 0; six < 2; six++) {
		put_stale(t, six, interface);
		put_director(t, six, interface);
	}
}

/* The cluster's pods of one family: "{ a, b }"; false: none known. */
static bool put_pods(struct text *t, const struct nft_skeleton *s, bool six, const char *before,
		     const char *after)
{
	const char *comma = before;

	for (unsigned i = 0; i < s->range_count; i++) {
		struct base_prefix range = { base_prefix_first(&s->pod_ranges[i]),
					     s->pod_ranges[i].length };
		char text[BASE_PREFIX_TEXT_SIZE];

		if ((range.address.family == BASE_FAMILY_IPV6) != six)
			continue;
		put(t, "%s %s", comma, base_prefix_format(&range, text));
		comma = ",";
	}
	if (comma == before)
		return false;
	put(t, "%s", after);
	return true;
}

/*
 * Who may come. A range stands in the set as its first address with the bit below the prefix set, so that
 * 10.0.0.0/8 (10.128.0.0) and 10.0.0.0/16 (10.0.128.0) are not the same; whole addresses stand apart.
 */
static void put_sources(struct text *t, const struct nft_skeleton *s, bool six, bool whole)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4", *w = whole ? "whole" : "";
	const char *port = whole ? "" : ". meta l4proto . th dport ";
	unsigned bits = six ? 128 : 32;

	put(t, "\tchain %ssources%s {\n", w, f);
	for (unsigned length = 0; length < bits; length++) {
		struct base_address ones, mask, mark = { 0 };
		struct base_prefix prefix;
		char one[BASE_ADDRESS_TEXT_SIZE], two[BASE_ADDRESS_TEXT_SIZE];
		uint8_t full[16];

		if (!(six ? s->source6[length] : s->source4[length]))
			continue;
		memset(full, 0xff, sizeof full);
		ones = base_address_from_bytes(six ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4, full);
		prefix = (struct base_prefix){ ones, (uint8_t)length };
		mask = base_prefix_first(&prefix);
		mark.family = ones.family;
		mark.bytes[length / 8] = (uint8_t)(0x80 >> length % 8);
		put(t, "\t\t%s daddr %s. (%s saddr & %s ^ %s) @%ssource%s return\n", ip, port, ip,
		    base_address_format(&mask, one), base_address_format(&mark, two), w, f);
	}
	put(t, "\t\t%s daddr %s. %s saddr @%ssourcehost%s return\n", ip, port, ip, w, f);
	put(t, "\t\tcounter drop\n\t}\n");
}

/* DNAT at the endpoint's node; only the first packet of a connection comes through here. */
static void put_dnat(struct text *t, const char *ip, const char *f)
{
	static const char *const protocols[] = { "", "udp", "sctp" }; /* "": TCP */

	put(t, "\tchain dnat%s {\n", f);
	put(t, "\t\t%s daddr . meta l4proto . th dport @ranged%s jump sources%s\n", ip, f, f);
	/* Nobody there for the moment: the client asks again, and must hear no refusal until then. */
	put(t, "\t\ttcp flags & (fin | syn | rst | ack) == syn %s daddr . meta l4proto . th dport "
	       "@held%s counter drop\n",
	    ip, f);
	put(t, "\t\t%s daddr . meta l4proto . th dport @arrived%s\n", ip, f);
	put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport map @service%s\n", ip, ip, f);
	for (unsigned i = 0; i < BASE_COUNT_OF(protocols); i++) {
		put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport . jhash %s saddr mod %u " SEED
		       " map @slotclient%s%s\n",
		    ip, ip, ip, NFT_SLOTS, protocols[i], f);
		put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport . jhash %s saddr . th sport "
		       "mod %u " SEED " map @slotflow%s%s\n",
		    ip, ip, ip, NFT_SLOTS, protocols[i], f);
	}
	/* Every other port of an address that is one VM's as a whole. */
	put(t, "\t\tmeta l4proto { tcp, udp, sctp } %s daddr @wholeranged%s jump wholesources%s\n", ip, f,
	    f);
	put(t, "\t\tmeta l4proto { tcp, udp, sctp } dnat %s to %s daddr map @whole%s\n", ip, ip, f);
	/* Bound to itself: a NodePort rule of somebody else cannot catch it any more. */
	put(t, "\t\tdnat %s to %s daddr\n\t}\n", ip, ip);
}

/* "BEFORE a, b }"; nothing: there are no segments. */
static void put_segments(struct text *t, const struct nft_skeleton *s, const char *before)
{
	for (unsigned i = 0; i < s->segment_count; i++)
		put(t, "%s \"%s\"", i > 0 ? "," : before, s->segments[i]);
	put(t, "%s", s->segment_count > 0 ? " }" : "");
}

/*
 * A pod of this node, though no Node names its range: whatever is done, its answers come back to here. What comes
 * from the LAN is told apart by its interface, which may be of the same kind (a bridge, one of Open vSwitch).
 */
static void put_own_pods(struct text *t, const struct nft_skeleton *s)
{
	put(t, "\t\tmeta iifkind " POD_KINDS);
	put_segments(t, s, " iifname != {");
	put(t, " accept\n");
}

/*
 * A migrated VM's packet in mid-stream, to who is no pod: its connection is not known here yet. If it may be one
 * of several addresses', the client's next packet says whose.
 */
static void put_unknown(struct text *t, const struct nft_skeleton *s, bool six)
{
	put(t, "\t\ttcp flags & (syn | rst) == 0 ");
	put_pods(t, s, six, six ? "ip6 daddr != {" : "ip daddr != {", " } ");
}

static void put_postrouting(struct text *t, const struct nft_skeleton *s, bool six)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

	put(t, "\tchain reply%s {\n", f);
	put_unknown(t, s, six);
	put(t, "snat %s to %s saddr . meta l4proto . th sport map @reverse%s\n", ip, ip, f);
	put_unknown(t, s, six);
	put(t, "%s saddr . meta l4proto . th sport @doubtful%s counter drop\n", ip, f);
	put_unknown(t, s, six);
	put(t, "snat %s to %s saddr map @wholereverse%s\n", ip, ip, f);
	put_unknown(t, s, six);
	put(t, "%s saddr @wholedoubtful%s counter drop\n", ip, f);
	put(t, "\t\tct status & dnat == 0 accept\n");
	put(t, "\t\tct original %s daddr != @vips%s accept\n", ip, f);
	put(t, "\t\t%s saddr . %s daddr @hairpin%s masquerade\n", ip, ip, f);
	/* Bound to itself: the client's address is kept against a CNI's masquerade. First who comes most. */
	if (s->segment_count > 0) {
		put_segments(t, s, "\t\tiifname {");
		put(t, " %s daddr @local%s snat %s to %s saddr\n", ip, f, ip, ip);
	}
	put(t, "\t\tfib saddr type local masquerade\n");
	put_pods(t, s, six, six ? "\t\tip6 saddr {" : "\t\tip saddr {", " } accept\n");
	put_own_pods(t, s);
	put(t, "\t\t%s daddr @local%s snat %s to %s saddr\n", ip, f, ip, ip);
	put(t, "\t\tmasquerade\n\t}\n");
}

/*
 * The pod network is quicker than the slice: the owner still sends a connection to the node that the VM left,
 * which translates it and routes it on to the VM that is here now. Let through, it would be known here as one to
 * the pod's own address, and what the VM answers would come from there: the client would end it. So it waits,
 * and what the VM says is the address's (`reverse`). Not what is of no one node, nor what pods ask each other.
 */
static void put_early(struct text *t, const struct nft_skeleton *s, bool six)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

	put(t, "\tchain passed%s {\n\t\t%s daddr != @local%s %s daddr != @unplaced%s update @early%s { %s daddr "
	       "timeout %ums } counter drop\n"
	       "\t\t%s daddr @early%s counter drop\n\t}\n",
	    f, ip, f, ip, f, f, ip, (unsigned)NFT_EARLY_MS, ip, f);
	put(t, "\tchain early%s {\n\t\tmeta l4proto != { tcp, udp, sctp } return\n"
	       "\t\tmeta oifkind != " POD_KINDS " return\n",
	    f);
	if (s->segment_count > 0) {
		put_segments(t, s, "\t\toifname {");
		put(t, " return\n");
	}
	put_pods(t, s, six, six ? "\t\tip6 saddr {" : "\t\tip saddr {", " } return\n");
	put(t, "\t\tether saddr @members goto passed%s\n"
	       "\t\tmeta iifkind " TUNNEL_KINDS " goto passed%s\n\t}\n",
	    f, f);
}

/*
 * Translated here, and not here, so that its VM would hear of it from somebody else and reset it; its client sends
 * again. By a member: the owner knows already that the VM is here now, this node does not yet, and known as the
 * old endpoint's it would stay so for good. From the LAN: on an owner that should have passed it on, in the
 * instant in which somebody flushes all tables and the director's chains go before these.
 */
static void put_midstream(struct text *t, const struct nft_skeleton *s)
{
	put(t, "\tchain midstream {\n");
	for (int six = 0; six < 2; six++) {
		const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

		put(t, "\t\tether saddr @members ct original %s daddr @vips%s %s daddr != @local%s counter drop\n",
		    ip, f, ip, f);
		put_segments(t, s, "\t\tiifname {");
		if (s->segment_count > 0)
			put(t, " ct original %s daddr @vips%s %s daddr != @local%s %s daddr != @unplaced%s counter "
			       "drop\n",
			    ip, f, ip, f, ip, f);
	}
	put(t, "\t}\n");
}

static void put_inet(struct text *t, const struct nft_skeleton *s)
{
	/* First: a flush empties chains in the order in which they were made, and in between nobody shall be refused. */
	put(t, "\tchain closed {\n"
	       "\t\tct state new tcp flags & (fin | syn | rst | ack) == syn counter reject with "
	       "tcp reset\n"
	       "\t\tct state new meta l4proto { udp, sctp } counter reject\n"
	       "\t\tcounter drop\n\t}\n"); /* mid-stream: silence, never a reset */
	for (int six = 0; six < 2; six++)
		put_early(t, s, six);
	for (int i = 0; i < 4; i++)
		put_sources(t, s, i & 1, i & 2);
	put_dnat(t, "ip", "4");
	put_dnat(t, "ip6", "6");
	put(t, "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat - 10; policy "
	       "accept;\n"
	       "\t\tip daddr @vips4 jump dnat4\n\t\tip6 daddr @vips6 jump dnat6\n\t}\n");
	put(t, "\tchain output {\n\t\ttype nat hook output priority -110; policy accept;\n"
	       "\t\tip daddr @vips4 jump dnat4\n\t\tip6 daddr @vips6 jump dnat6\n\t}\n");
	put_postrouting(t, s, false);
	put_postrouting(t, s, true);
	put(t, "\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat - 10; policy "
	       "accept;\n"
	       "\t\tmeta nfproto ipv4 jump reply4\n\t\tmeta nfproto ipv6 jump reply6\n\t}\n");
	/* What was not translated: a closed port never reaches the node's own daemons. */
	put(t, "\tchain input {\n\t\ttype filter hook input priority filter - 10; policy accept;\n"
	       "\t\tct state established,related accept\n"
	       "\t\tip daddr @vips4 meta l4proto { tcp, udp, sctp } goto closed\n"
	       "\t\tip6 daddr @vips6 meta l4proto { tcp, udp, sctp } goto closed\n\t}\n");
	/* What a VM left behind when it moved knows nothing of its connections. */
	put(t, "\tchain resets {\n"
	       "\t\tip saddr . meta l4proto . th sport @heldend4 counter drop\n"
	       "\t\tip6 saddr . meta l4proto . th sport @heldend6 counter drop\n\t}\n");
	put_midstream(t, s);
	/* What is translated looks nothing up, however often it asks in vain. */
	put(t, "\tchain forward {\n\t\ttype filter hook forward priority filter - 10; policy "
	       "accept;\n"
	       "\t\ttcp flags & rst == rst jump resets\n"
	       "\t\tct state established,related accept\n"
	       "\t\tct state new tcp flags & syn == 0 jump midstream\n"
	       "\t\tct status dnat accept\n"
	       "\t\tip daddr . ip daddr @hairpin4 jump early4\n"
	       "\t\tip6 daddr . ip6 daddr @hairpin6 jump early6\n"
	       "\t\tip daddr @vips4 goto closed\n\t\tip6 daddr @vips6 goto closed\n\t}\n");
}

/* What nft takes as a word and as a quoted name; Linux would allow more. */
static bool is_sayable(const char *interface)
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
	struct text t = { .at = text, .size = size };

	for (unsigned i = 0; i < s->segment_count; i++)
		if (!is_sayable(s->segments[i]))
			return -EINVAL;
	assert(s->egress || !nft_skeleton_virtual(s));
	put(&t, "%stable netdev vipd {\n", before);
	for (int six = 0; six < 2; six++) {
		const char *f = six ? "6" : "4", *type = six ? "typeof @th,64,128" : "type ipv4_addr";

		put(&t, "\tset alive%s { %s; size 65535; flags dynamic,timeout; timeout 1s; }\n", f,
		    type);
		put(&t, "\tset leaving%s { typeof @th,64,%u; size 65535; flags dynamic,timeout; "
			"timeout 1s; }\n",
		    f, six ? 128 : 32);
	}
	put_sets(&t, "netdev");
	put_advert_chains(&t, s);
	put(&t, "\tchain member {\n\t\tip protocol 112 jump heard4\n\t\tip6 nexthdr 112 jump heard6\n\t}\n");
	if (!s->egress)
		put(&t, "\tchain loopback {\n\t\ttype filter hook ingress device \"lo\" priority "
			"0; policy accept;\n"
			"\t\tip protocol 112 jump sent4\n\t\tip6 nexthdr 112 jump sent6\n"
			"\t\tip protocol 112 drop\n\t\tip6 nexthdr 112 drop\n\t}\n");
	if (nft_skeleton_virtual(s)) {
		put(&t, "\tchain " NFT_REWRITE_CHAIN " {\n\t}\n");
		put_virtual_ingress(&t);
	}
	for (unsigned i = 0; i < s->segment_count; i++)
		put_segment(&t, s->egress, s->virtual_macs[i], s->segments[i]);
	put(&t, "}\ntable inet vipd {\n\tset revision { type mark . mark; }\n");
	for (int six = 0; six < 2; six++)
		put(&t, "\tset early%s { type %s; size 65535; flags dynamic,timeout; timeout %us; }\n",
		    six ? "6" : "4", six ? "ipv6_addr" : "ipv4_addr", NFT_EARLY_MS / 1000u);
	put_sets(&t, "inet");
	put_inet(&t, s);
	put(&t, "}\nflush set inet vipd revision\nadd element inet vipd revision { 0x%08x . 0x%08x }\n",
	    (unsigned)(revision >> 32), (unsigned)revision);
	return t.full ? -ENOSPC : (int)t.length;
}

uint64_t nft_skeleton_revision(const struct nft_skeleton *skeleton)
{
	static char text[NFT_SKELETON_SIZE]; /* one thread; not kept over the call */
	int length = render(skeleton, "", 0, text, sizeof text);
	uint64_t hash = length < 0 ? 0 : base_hash(text, (size_t)length);

	return hash ^ base_hash(skeleton->indices, skeleton->segment_count * sizeof(unsigned));
}

int nft_skeleton_render(const struct nft_skeleton *skeleton, bool anew, char *text, size_t size)
{
	/* Flushing a table takes its rules and leaves its chains, sets and elements. */
	static const char keep[] = "add table netdev vipd\nadd table inet vipd\n"
				   "flush table netdev vipd\nflush table inet vipd\n";
	static const char remove[] = "add table netdev vipd\nadd table inet vipd\n"
				     "delete table netdev vipd\ndelete table inet vipd\n";

	return render(skeleton, anew ? remove : keep, nft_skeleton_revision(skeleton), text, size);
}
