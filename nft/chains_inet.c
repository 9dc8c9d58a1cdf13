#include "nft/chains.h"

#include <string.h>

#include "base/array.h"

/* What pods hang on, and by what else than the LAN another node's packets for them come. */
#define POD_KINDS    "{ \"veth\", \"bridge\", \"openvswitch\" }"
#define TUNNEL_KINDS "{ \"vxlan\", \"geneve\", \"gre\", \"gretap\", \"ipip\", \"ip6tnl\", \"sit\", \"wireguard\" }"

/* The cluster's pods of one family: "{ a, b }"; false: none known. */
static bool put_pods(struct nft_text *t, const struct nft_skeleton *s, bool six, const char *before,
		     const char *after)
{
	const char *comma = before;

	for (unsigned i = 0; i < s->range_count; i++) {
		struct base_prefix range = { base_prefix_first(&s->pod_ranges[i]),
					     s->pod_ranges[i].length };
		char text[BASE_PREFIX_TEXT_SIZE];

		if ((range.address.family == BASE_FAMILY_IPV6) != six)
			continue;
		nft_put(t, "%s %s", comma, base_prefix_format(&range, text));
		comma = ",";
	}
	if (comma == before)
		return false;
	nft_put(t, "%s", after);
	return true;
}

/*
 * Who may come. A range stands in the set as its first address with the bit below the prefix set, so that
 * 10.0.0.0/8 (10.128.0.0) and 10.0.0.0/16 (10.0.128.0) are not the same; whole addresses stand apart.
 */
static void put_sources(struct nft_text *t, const struct nft_skeleton *s, bool six, bool whole)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4", *w = whole ? "whole" : "";
	const char *port = whole ? "" : ". meta l4proto . th dport ";
	unsigned bits = six ? 128 : 32;

	nft_put(t, "\tchain %ssources%s {\n", w, f);
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
		nft_put(t, "\t\t%s daddr %s. (%s saddr & %s ^ %s) @%ssource%s return\n", ip, port, ip,
			base_address_format(&mask, one), base_address_format(&mark, two), w, f);
	}
	nft_put(t, "\t\t%s daddr %s. %s saddr @%ssourcehost%s return\n", ip, port, ip, w, f);
	nft_put(t, "\t\tcounter drop\n\t}\n");
}

/* DNAT at the endpoint's node; only the first packet of a connection comes through here. */
static void put_dnat(struct nft_text *t, const char *ip, const char *f)
{
	static const char *const protocols[] = { "", "udp", "sctp" }; /* "": TCP */

	nft_put(t, "\tchain dnat%s {\n", f);
	nft_put(t, "\t\t%s daddr . meta l4proto . th dport @ranged%s jump sources%s\n", ip, f, f);
	/* Nobody there for the moment: the client asks again, and must hear no refusal until then. */
	nft_put(t, "\t\ttcp flags & (fin | syn | rst | ack) == syn %s daddr . meta l4proto . th dport "
		   "@held%s counter drop\n",
		ip, f);
	nft_put(t, "\t\t%s daddr . meta l4proto . th dport @arrived%s\n", ip, f);
	nft_put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport map @service%s\n", ip, ip, f);
	for (unsigned i = 0; i < BASE_COUNT_OF(protocols); i++) {
		nft_put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport . jhash %s saddr mod %u " NFT_SEED
			   " map @slotclient%s%s\n",
			ip, ip, ip, NFT_SLOTS, protocols[i], f);
		nft_put(t, "\t\tdnat %s to %s daddr . meta l4proto . th dport . jhash %s saddr . th sport "
			   "mod %u " NFT_SEED " map @slotflow%s%s\n",
			ip, ip, ip, NFT_SLOTS, protocols[i], f);
	}
	/* Every other port of an address that is one VM's as a whole. */
	nft_put(t, "\t\tmeta l4proto { tcp, udp, sctp } %s daddr @wholeranged%s jump wholesources%s\n", ip, f,
		f);
	nft_put(t, "\t\tmeta l4proto { tcp, udp, sctp } dnat %s to %s daddr map @whole%s\n", ip, ip, f);
	/* Bound to itself: a NodePort rule of somebody else cannot catch it any more. */
	nft_put(t, "\t\tdnat %s to %s daddr\n\t}\n", ip, ip);
}

/* "BEFORE { a, b }"; nothing: there are no segments. One alone is no set to be looked up. */
static void put_segments(struct nft_text *t, const struct nft_skeleton *s, const char *before)
{
	bool set = s->segment_count > 1;

	for (unsigned i = 0; i < s->segment_count; i++)
		nft_put(t, "%s%s \"%s\"", i > 0 ? "," : before, i == 0 && set ? " {" : "", s->segments[i]);
	nft_put(t, "%s", set ? " }" : "");
}

/*
 * A pod of this node, though no Node names its range: whatever is done, its answers come back to here. What comes
 * from the LAN is told apart by its interface, which may be of the same kind (a bridge, one of Open vSwitch).
 */
static void put_own_pods(struct nft_text *t, const struct nft_skeleton *s)
{
	nft_put(t, "\t\tmeta iifkind " POD_KINDS);
	put_segments(t, s, " iifname !=");
	nft_put(t, " accept\n");
}

/*
 * A migrated VM's packet in mid-stream, to who is no pod: its connection is not known here yet. If it may be one
 * of several addresses', the client's next packet says whose.
 */
static void put_unknown(struct nft_text *t, const struct nft_skeleton *s, bool six)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

	nft_put(t, "\tchain unknown%s {\n", f);
	/*
	 * To a VM of this node, and not translated here: another node did that, which heard that it is there now. The kernel
	 * knows the connection by its address, and would make up another port for the client. Whichever of its later
	 * connections has that port would be given another one as well, here alone: the VM could not move with it. So
	 * it is this port or none, and then the packet is dropped.
	 */
	nft_put(t, "\t\tct status & dnat == 0 %s daddr @local%s meta l4proto tcp snat %s to %s saddr : tcp sport\n", ip,
		f, ip, ip);
	put_pods(t, s, six, six ? "\t\tip6 daddr {" : "\t\tip daddr {", " } return\n");
	nft_put(t, "\t\tsnat %s to %s saddr . meta l4proto . th sport map @reverse%s\n", ip, ip, f);
	nft_put(t, "\t\t%s saddr . meta l4proto . th sport @doubtful%s counter drop\n", ip, f);
	nft_put(t, "\t\tsnat %s to %s saddr map @wholereverse%s\n", ip, ip, f);
	nft_put(t, "\t\t%s saddr @wholedoubtful%s counter drop\n\t}\n", ip, f);
}

static void put_postrouting(struct nft_text *t, const struct nft_skeleton *s, bool six)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

	put_unknown(t, s, six);
	nft_put(t, "\tchain reply%s {\n\t\ttcp flags & (syn | rst) == 0 jump unknown%s\n", f, f);
	nft_put(t, "\t\tct status & dnat == 0 accept\n");
	nft_put(t, "\t\tct original %s daddr != @vips%s accept\n", ip, f);
	nft_put(t, "\t\t%s saddr . %s daddr @hairpin%s masquerade\n", ip, ip, f);
	/* Bound to itself: the client's address is kept against a CNI's masquerade. First who comes most. */
	if (s->segment_count > 0) {
		put_segments(t, s, "\t\tiifname");
		nft_put(t, " %s daddr @local%s snat %s to %s saddr\n", ip, f, ip, ip);
	}
	nft_put(t, "\t\tfib saddr type local masquerade\n");
	/* Its answer to a pod would go by the pod network, and to itself or a neighbour nowhere near this node. */
	nft_put(t, "\t\t%s daddr @attached%s masquerade\n", ip, f);
	put_pods(t, s, six, six ? "\t\tip6 saddr {" : "\t\tip saddr {", " } accept\n");
	put_own_pods(t, s);
	nft_put(t, "\t\t%s daddr @local%s snat %s to %s saddr\n", ip, f, ip, ip);
	nft_put(t, "\t\tmasquerade\n\t}\n");
}

/*
 * The pod network is quicker than the slice: the owner still sends a connection to the node that the VM left,
 * which translates it and routes it on to the VM that is here now. Let through, it would be known here as one to
 * the pod's own address, and what the VM answers would come from there: the client would end it. So it waits,
 * and what the VM says is the address's (`reverse`). Not what is of no one node, nor what pods ask each other.
 * Nor is the owner always as quick as this node to hear of the slice: until it is sure to have (@moved) the same waits.
 */
static void put_early(struct nft_text *t, const struct nft_skeleton *s, bool six)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

	nft_put(t, "\tchain passed%s {\n\t\t%s daddr != @local%s %s daddr != @unplaced%s update @early%s { %s daddr "
		   "timeout %ums } counter drop\n"
		   "\t\t%s daddr @early%s counter drop\n"
		   "\t\ttcp flags & syn == 0 %s daddr @moved%s %s daddr != @unplaced%s counter drop\n\t}\n",
		f, ip, f, ip, f, f, ip, (unsigned)NFT_EARLY_MS, ip, f, ip, f, ip, f);
	nft_put(t, "\tchain early%s {\n\t\tmeta l4proto != { tcp, udp, sctp } return\n"
		   "\t\tmeta oifkind != " POD_KINDS " return\n",
		f);
	if (s->segment_count > 0) {
		put_segments(t, s, "\t\toifname");
		nft_put(t, " return\n");
	}
	put_pods(t, s, six, six ? "\t\tip6 saddr {" : "\t\tip saddr {", " } return\n");
	nft_put(t, "\t\tether saddr @members goto passed%s\n"
		   "\t\tmeta iifkind " TUNNEL_KINDS " goto passed%s\n\t}\n",
		f, f);
}

/*
 * Translated here, and not here, so that its VM would hear of it from somebody else and reset it; its client sends
 * again. By a member: the owner knows already that the VM is here now, this node does not yet, and known as the
 * old endpoint's it would stay so for good. From the LAN: on an owner that should have passed it on, when what
 * somebody flushed comes back: the packet passed the director before the elements stood there, and comes here after.
 * By an interface that is no segment (yet) and no pod's: one made anew has no fence and no director until the rules
 * are loaded for it, and nobody owns an address there.
 */
static void put_midstream(struct nft_text *t, const struct nft_skeleton *s)
{
	nft_put(t, "\tchain midstream {\n");
	for (int six = 0; six < 2; six++) {
		const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

		nft_put(t, "\t\tether saddr @members ct original %s daddr @vips%s %s daddr != @local%s counter drop\n",
			ip, f, ip, f);
		put_segments(t, s, "\t\tiifname");
		if (s->segment_count > 0)
			nft_put(t, " ct original %s daddr @vips%s %s daddr != @local%s %s daddr != @unplaced%s counter "
				   "drop\n",
				ip, f, ip, f, ip, f);
	}
	nft_put(t, "\t\tmeta iifkind " POD_KINDS " return\n");
	put_segments(t, s, "\t\tiifname");
	if (s->segment_count > 0)
		nft_put(t, " return\n");
	for (int six = 0; six < 2; six++)
		nft_put(t, "\t\tct original %s daddr @vips%s %s daddr != @local%s counter drop\n", six ? "ip6" : "ip",
			six ? "6" : "4", six ? "ip6" : "ip", six ? "6" : "4");
	nft_put(t, "\t}\n");
}

void nft_chains_inet(struct nft_text *t, const struct nft_skeleton *s)
{
	nft_put(t, "\tchain closed {\n"
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
	nft_put(t, "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat - 10; policy "
		   "accept;\n"
		   "\t\tip daddr @vips4 jump dnat4\n\t\tip6 daddr @vips6 jump dnat6\n\t}\n");
	nft_put(t, "\tchain output {\n\t\ttype nat hook output priority -110; policy accept;\n"
		   "\t\tip daddr @vips4 jump dnat4\n\t\tip6 daddr @vips6 jump dnat6\n\t}\n");
	put_postrouting(t, s, false);
	put_postrouting(t, s, true);
	nft_put(t, "\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat - 10; policy "
		   "accept;\n"
		   "\t\tmeta nfproto ipv4 jump reply4\n\t\tmeta nfproto ipv6 jump reply6\n\t}\n");
	/* What was not translated: a closed port never reaches the node's own daemons. */
	nft_put(t, "\tchain input {\n\t\ttype filter hook input priority filter - 10; policy accept;\n"
		   "\t\tct state established,related accept\n"
		   "\t\tip daddr @vips4 meta l4proto { tcp, udp, sctp } goto closed\n"
		   "\t\tip6 daddr @vips6 meta l4proto { tcp, udp, sctp } goto closed\n\t}\n");
	/* What a VM left behind when it moved knows nothing of its connections. */
	nft_put(t, "\tchain resets {\n"
		   "\t\tip saddr . meta l4proto . th sport @heldend4 counter drop\n"
		   "\t\tip6 saddr . meta l4proto . th sport @heldend6 counter drop\n\t}\n");
	put_midstream(t, s);
	/* What is translated looks nothing up, however often it asks in vain. */
	nft_put(t, "\tchain forward {\n\t\ttype filter hook forward priority filter - 10; policy "
		   "accept;\n"
		   "\t\ttcp flags & rst == rst jump resets\n"
		   "\t\tct state established,related accept\n"
		   "\t\tct state new tcp flags & syn == 0 jump midstream\n"
		   "\t\tct status dnat accept\n"
		   "\t\tip daddr . ip daddr @hairpin4 jump early4\n"
		   "\t\tip6 daddr . ip6 daddr @hairpin6 jump early6\n"
		   "\t\tip daddr @vips4 goto closed\n\t\tip6 daddr @vips6 goto closed\n\t}\n");
}
