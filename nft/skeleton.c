#include "nft/skeleton.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

#define SEED "seed 0x5eed" /* the same on every node, so every node picks the same endpoint */

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

/* Not ours, or not any more: dropped, but for the grace time of an address that is leaving. */
static void put_stale(struct text *t)
{
	put(t, "\tchain stale4 {\n\t\t@nh,128,32 != @leaving4 counter drop\n"
	       "\t\tmeta pkttype != host counter drop\n\t}\n"
	       "\tchain stale6 {\n\t\t@nh,192,128 != @leaving6 counter drop\n"
	       "\t\tmeta pkttype != host counter drop\n\t}\n");
}

#define SENT_ADVERTS "\t\tip protocol 112 jump sent4\n\t\tip6 nexthdr 112 jump sent6\n"

static void put_segment(struct text *t, const struct nft_skeleton *s, const char *interface)
{
	if (s->egress) {
		put(t, "\tchain out-%s {\n\t\ttype filter hook egress device \"%s\" priority 0; "
		       "policy accept;\n",
		    interface, interface);
		put(t, SENT_ADVERTS);
		put(t, "\t\tarp saddr ip @vips4 arp saddr ip != @alive4 counter drop\n"
		       "\t\ticmpv6 type nd-neighbor-advert @th,64,128 @vips6 "
		       "@th,64,128 != @alive6 counter drop\n"
		       "\t}\n");
	}
	put(t, "\tchain in-%s {\n\t\ttype filter hook ingress device \"%s\" priority 0; "
	       "policy accept;\n",
	    interface, interface);
	/*
	 * What a member's director sends on is for us although we do not own the address; and for a
	 * grace time so is what a client sends who has not heard of the new owner yet.
	 */
	put(t, "\t\tether saddr @peers ip protocol 112 jump heard4\n"
	       "\t\tether saddr @peers ip6 nexthdr 112 jump heard6\n"
	       "\t\tarp operation request arp daddr ip @vips4 arp daddr ip != @alive4 counter drop\n"
	       "\t\ticmpv6 type nd-neighbor-solicit @th,64,128 @vips6 @th,64,128 != @alive6 "
	       "counter drop\n"
	       "\t\tether saddr != @peers ip daddr @vips4 ip daddr != @alive4 jump stale4\n"
	       "\t\tether saddr != @peers meta protocol ip6 @nh,192,128 @vips6 @nh,192,128 != "
	       "@alive6 jump stale6\n"
	       "\t\tip daddr @direct4 jump direct4-%s\n"
	       "\t\tip6 daddr @direct6 jump direct6-%s\n"
	       "\t}\n",
	    interface, interface);
	for (int six = 0; six < 2; six++) {
		const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

		put(t, "\tchain direct%s-%s {\n", f, interface);
		put(t, "\t\tether saddr @peers return\n");
		if (six)
			put(t, "\t\tip6 nexthdr 44 fwd ip6 to ip6 daddr map @onenode6 device "
			       "\"%s\"\n"
			       "\t\ticmpv6 type { destination-unreachable, packet-too-big, "
			       "time-exceeded, parameter-problem } fwd ip6 to ip6 daddr map "
			       "@onenode6 device \"%s\"\n",
			    interface, interface);
		else
			put(t, "\t\tip frag-off & 0x3fff != 0 fwd ip to ip daddr map @onenode4 "
			       "device \"%s\"\n"
			       "\t\ticmp type { destination-unreachable, time-exceeded, "
			       "parameter-problem } fwd ip to ip daddr map @onenode4 device "
			       "\"%s\"\n",
			    interface, interface);
		put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport map @node%s device "
		       "\"%s\"\n",
		    ip, ip, f, interface);
		put(t, "\t\t%s daddr != @many%s return\n", ip, f);
		/*
		 * Several endpoints: a hash picks the slot. It travels in the mark, because fwd of an
		 * IPv6 packet leaves too few registers to hash in place; taken back if nothing matched.
		 */
		put(t, "\t\tmeta mark set jhash %s saddr mod %u " SEED "\n", ip, NFT_SLOTS);
		put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport . meta mark map "
		       "@nodeclient%s device \"%s\"\n",
		    ip, ip, f, interface);
		put(t, "\t\tmeta mark set jhash %s saddr . th sport mod %u " SEED "\n", ip, NFT_SLOTS);
		put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport . meta mark map @nodeflow%s "
		       "device \"%s\"\n",
		    ip, ip, f, interface);
		put(t, "\t\tmeta mark set 0\n");
		put(t, "\t}\n");
	}
}

static void put_netdev_sets(struct text *t)
{
	for (int six = 0; six < 2; six++) {
		const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";
		const char *type = six ? "ipv6_addr" : "ipv4_addr";

		/* IPv6 as a plain number: this nft has no name for the target of a solicitation. */
		put(t, "\tset alive%s { %s; size 65535; flags dynamic,timeout; timeout 1s; }\n", f,
		    six ? "typeof @th,64,128" : "type ipv4_addr");
		put(t, "\tset leaving%s { typeof @th,64,%u; size 65535; flags dynamic,timeout; "
		       "timeout 1s; }\n",
		    f, six ? 128 : 32);
		put(t, "\tset vips%s { %s; }\n", f, six ? "typeof @th,64,128" : "type ipv4_addr");
		put(t, "\tset direct%s { type %s; }\n", f, type);
		put(t, "\tset many%s { type %s; }\n", f, type);
		put(t, "\tmap onenode%s { type %s : %s; }\n", f, type, type);
		put(t, "\tmap node%s { type %s . inet_proto . inet_service : %s; counter; }\n", f,
		    type, type);
		put(t, "\tmap nodeclient%s { typeof %s daddr . meta l4proto . th dport . meta mark : %s "
		       "daddr; }\n",
		    f, ip, ip);
		put(t, "\tmap nodeflow%s { typeof %s daddr . meta l4proto . th dport . meta mark : %s "
		       "daddr; }\n",
		    f, ip, ip);
	}
	put(t, "\tset peers { type ether_addr; }\n");
}

static void put_inet_sets(struct text *t, const struct nft_skeleton *s)
{
	for (int six = 0; six < 2; six++) {
		const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";
		const char *type = six ? "ipv6_addr" : "ipv4_addr";
		bool any = false;

		put(t, "\tset vips%s { type %s; }\n", f, type);
		put(t, "\tmap service%s { type %s . inet_proto . inet_service : %s . inet_service; "
		       "counter; }\n",
		    f, type, type);
		put(t, "\tmap slotclient%s { typeof %s daddr . meta l4proto . th dport . numgen inc "
		       "mod %u : %s daddr . th dport; }\n",
		    f, ip, NFT_SLOTS, ip);
		put(t, "\tmap slotflow%s { typeof %s daddr . meta l4proto . th dport . numgen inc "
		       "mod %u : %s daddr . th dport; }\n",
		    f, ip, NFT_SLOTS, ip);
		put(t, "\tset ranged%s { type %s . inet_proto . inet_service; }\n", f, type);
		put(t, "\tset source%s { type %s . inet_proto . inet_service . %s; flags interval; "
		       "}\n",
		    f, type, type);
		put(t, "\tmap reverse%s { type %s . inet_proto . inet_service : %s . inet_service; "
		       "}\n",
		    f, type, type);
		put(t, "\tset hairpin%s { type %s . %s; }\n", f, type, type);
		put(t, "\tset local%s { type %s; }\n", f, type);
		put(t, "\tset pods%s { type %s; flags interval; auto-merge;", f, type);
		for (unsigned i = 0; i < s->range_count; i++) {
			struct base_prefix first = { base_prefix_first(&s->pod_ranges[i]),
						     s->pod_ranges[i].length };
			char range[BASE_PREFIX_TEXT_SIZE];

			if ((first.address.family == BASE_FAMILY_IPV6) != six)
				continue;
			put(t, "%s %s", any ? "," : " elements = {",
			    base_prefix_format(&first, range));
			any = true;
		}
		put(t, "%s }\n", any ? " };" : "");
	}
}

/* DNAT at the endpoint's node; only the first packet of a connection comes through here. */
static void put_dnat(struct text *t, const char *ip, const char *f)
{
	put(t, "\tchain dnat%s {\n", f);
	put(t, "\t\t%s daddr . meta l4proto . th dport @ranged%s %s daddr . meta l4proto . th dport "
	       ". %s saddr != @source%s counter drop\n",
	    ip, f, ip, ip, f);
	put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport map @service%s\n", ip, ip, f);
	put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport . jhash %s saddr mod %u " SEED
	       " map @slotclient%s\n",
	    ip, ip, ip, NFT_SLOTS, f);
	put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport . jhash %s saddr . th sport mod "
	       "%u " SEED " map @slotflow%s\n",
	    ip, ip, ip, NFT_SLOTS, f);
	/* Bound to itself: a NodePort rule of somebody else cannot catch it any more. */
	put(t, "\t\tdnat %s to %s daddr\n\t}\n", ip, ip);
}

static void put_postrouting(struct text *t, const char *ip, const char *f)
{
	/* A migrated VM's packets in mid-stream: their connection is not known here yet. */
	put(t, "\tchain reply%s {\n", f);
	put(t, "\t\ttcp flags & (syn | rst) == 0 %s daddr != @pods%s snat %s to %s saddr . meta "
	       "l4proto . th sport map @reverse%s\n",
	    ip, f, ip, ip, f);
	put(t, "\t\tct status & dnat == 0 accept\n");
	put(t, "\t\tct original %s daddr != @vips%s accept\n", ip, f);
	put(t, "\t\t%s saddr . %s daddr @hairpin%s masquerade\n", ip, ip, f);
	put(t, "\t\tfib saddr type local masquerade\n");
	put(t, "\t\t%s saddr @pods%s accept\n", ip, f);
	/* Bound to itself: the client's address is kept against a CNI's masquerade. */
	put(t, "\t\t%s daddr @local%s snat %s to %s saddr\n", ip, f, ip, ip);
	put(t, "\t\tmasquerade\n\t}\n");
}

static void put_inet(struct text *t, const struct nft_skeleton *s)
{
	put_inet_sets(t, s);
	put_dnat(t, "ip", "4");
	put_dnat(t, "ip6", "6");
	put(t, "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat - 10; policy "
	       "accept;\n"
	       "\t\tip daddr @vips4 jump dnat4\n\t\tip6 daddr @vips6 jump dnat6\n\t}\n");
	put(t, "\tchain output {\n\t\ttype nat hook output priority -110; policy accept;\n"
	       "\t\tip daddr @vips4 jump dnat4\n\t\tip6 daddr @vips6 jump dnat6\n\t}\n");
	put_postrouting(t, "ip", "4");
	put_postrouting(t, "ip6", "6");
	put(t, "\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat - 10; policy "
	       "accept;\n"
	       "\t\tmeta nfproto ipv4 jump reply4\n\t\tmeta nfproto ipv6 jump reply6\n\t}\n");
	/* What was not translated: a closed port never reaches the node's own daemons. */
	put(t, "\tchain input {\n\t\ttype filter hook input priority filter - 10; policy accept;\n"
	       "\t\tip daddr @vips4 meta l4proto { tcp, udp, sctp } goto closed\n"
	       "\t\tip6 daddr @vips6 meta l4proto { tcp, udp, sctp } goto closed\n\t}\n");
	put(t, "\tchain forward {\n\t\ttype filter hook forward priority filter - 10; policy "
	       "accept;\n"
	       "\t\tip daddr @vips4 goto closed\n\t\tip6 daddr @vips6 goto closed\n\t}\n");
	put(t, "\tchain closed {\n"
	       "\t\tct state { established, related } accept\n"
	       "\t\tct state new tcp flags & (fin | syn | rst | ack) == syn counter reject with "
	       "tcp reset\n"
	       "\t\tct state new meta l4proto { udp, sctp } counter reject\n"
	       "\t\tcounter drop\n\t}\n"); /* mid-stream: silence, never a reset */
}

static int render(const struct nft_skeleton *s, char *text, size_t size, uint64_t revision)
{
	struct text t = { .at = text, .size = size };

	put(&t, "add table netdev vipd\ndelete table netdev vipd\n"
		"add table inet vipd\ndelete table inet vipd\n"
		"table netdev vipd {\n");
	put_netdev_sets(&t);
	put_advert_chains(&t, s);
	put_stale(&t);
	if (!s->egress) {
		put(&t, "\tchain loopback {\n\t\ttype filter hook ingress device \"lo\" priority "
			"0; policy accept;\n" SENT_ADVERTS);
		put(&t, "\t\tip protocol 112 drop\n\t\tip6 nexthdr 112 drop\n\t}\n");
	}
	for (unsigned i = 0; i < s->segment_count; i++)
		put_segment(&t, s, s->segments[i]);
	put(&t, "}\ntable inet vipd {\n");
	if (revision)
		put(&t, "\tset " NFT_REVISION_PREFIX "%016llx { type mark; }\n",
		    (unsigned long long)revision);
	put_inet(&t, s);
	put(&t, "}\n");
	return t.full ? -ENOSPC : (int)t.length;
}

uint64_t nft_skeleton_revision(const struct nft_skeleton *skeleton)
{
	static char text[256 * 1024]; /* one thread; not kept over the call */
	int length = render(skeleton, text, sizeof text, 0);

	return length < 0 ? 0 : base_hash(text, (size_t)length);
}

int nft_skeleton_render(const struct nft_skeleton *skeleton, char *text, size_t size)
{
	return render(skeleton, text, size, nft_skeleton_revision(skeleton));
}
