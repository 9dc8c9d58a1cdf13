#include <string.h>

#include "nft/chains.h"

/*
 * What an advert that leaves does, one rule per interval and address: it keeps its addresses alive
 * for 2.5 intervals. The interval stands in the advert itself (version 3: 12 bits of centiseconds
 * at bit 36, version 2: 8 bits of seconds at bit 40), so a virtual router needs no rule of its own.
 */
static void put_refresh4(struct nft_text *t, uint32_t cs, unsigned n)
{
	uint32_t ms = nft_fence_ms(cs);

	nft_put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,36,12 == %u @th,0,8 == 0x31 update @alive4 "
		   "{ @th,%u,32 timeout %ums }\n",
		n, cs, 64 + n * 32, ms);
	if (cs % 100 == 0)
		nft_put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,40,8 == %u @th,0,8 == 0x21 "
			   "update @alive4 { @th,%u,32 timeout %ums }\n",
			n, cs / 100, 64 + n * 32, ms);
}

static void put_refresh6(struct nft_text *t, uint32_t cs, unsigned n)
{
	nft_put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,36,12 == %u @th,0,8 == 0x31 update @alive6 "
		   "{ @th,%u,128 timeout %ums }\n",
		n + 1, cs, 192 + n * 128, nft_fence_ms(cs));
}

/*
 * Priority 0 closes the fence, unless the address is leaving: then the owner goes on answering
 * until its successor is heard (put_heard()) or the fence runs out. The two local "versions" are
 * orders of the daemon; nobody on the LAN hears them.
 */
static void put_closing(struct nft_text *t, const char *f, unsigned count, unsigned offset,
			unsigned bits)
{
	nft_put(t, "\t\t@th,0,4 == %u @th,24,8 > %u update @leaving%s { @th,%u,%u timeout %ums }\n",
		NFT_LINGER_VERSION, count, f, offset, bits, NFT_GRACE_MS);
	nft_put(t, "\t\t@th,0,8 < 0x%x0 @th,16,8 == 0 @th,24,8 > %u @th,%u,%u != @leaving%s "
		   "delete @alive%s { @th,%u,%u }\n",
		NFT_LINGER_VERSION, count, offset, bits, f, f, offset, bits);
	nft_put(t, "\t\t@th,0,8 < 0x%x0 @th,16,8 != 0 @th,24,8 > %u delete @leaving%s { @th,%u,%u }\n",
		NFT_LINGER_VERSION, count, f, offset, bits);
	nft_put(t, "\t\t@th,0,4 == %u @th,24,8 > %u delete @alive%s { @th,%u,%u }\n",
		NFT_CLOSE_VERSION, count, f, offset, bits);
	nft_put(t, "\t\t@th,0,4 == %u @th,24,8 > %u delete @leaving%s { @th,%u,%u }\n",
		NFT_CLOSE_VERSION, count, f, offset, bits);
}

/* Adverts that leave, and those that a member sends: few packets, so the chains may be long. */
static void put_advert_chains(struct nft_text *t, const struct nft_skeleton *s)
{
	for (int six = 0; six < 2; six++) {
		const char *f = six ? "6" : "4";
		unsigned bits = six ? 128 : 32;

		nft_put(t, "\tchain sent%s {\n", f);
		for (unsigned n = 0; n < s->addresses_per_router; n++) {
			for (unsigned i = 0; i < s->interval_count; i++)
				six ? put_refresh6(t, s->intervals_cs[i], n)
				    : put_refresh4(t, s->intervals_cs[i], n);
			put_closing(t, f, six ? n + 1 : n, six ? 192 + n * 128 : 64 + n * 32, bits);
		}
		nft_put(t, "\t\t@th,0,8 >= 0x%x0 drop\n\t}\n", NFT_LINGER_VERSION);
		/* The successor is there: not an instant longer than it takes to hear it. */
		nft_put(t, "\tchain heard%s {\n", f);
		for (unsigned n = 0; n < s->addresses_per_router; n++) {
			unsigned offset = six ? 192 + n * 128 : 64 + n * 32;

			nft_put(t, "\t\t@th,16,8 != 0 @th,24,8 > %u @th,%u,%u @leaving%s delete "
				   "@alive%s { @th,%u,%u }\n",
				six ? n + 1 : n, offset, bits, f, f, offset, bits);
		}
		nft_put(t, "\t}\n");
	}
}

/*
 * What says where an address with a virtual MAC is, says it of that MAC, and comes from there: adverts, ARP of
 * either kind (this node also asks in the address's name), neighbour solicitations and advertisements. Only
 * members are answered with this node's own MAC: it tells them which of them has the address.
 */
static void put_virtual_egress(struct nft_text *t)
{
	nft_put(t, "\t\tip protocol 112 @ll,48,48 set @th,64,32 map @virtual4\n"
		   "\t\tip6 nexthdr 112 @ll,48,48 set @th,192,128 map @virtual6\n"
		   "\t\tarp daddr ether @peers accept\n"
		   "\t\tarp htype 1 @ll,48,48 set @nh,112,32 map @virtual4\n"
		   "\t\tarp htype 1 @nh,64,48 set @nh,112,32 map @virtual4\n"
		   "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } jump " NFT_REWRITE_CHAIN "\n");
}

/*
 * The kernel asks for a MAC in the name of whom the packet is from, if it has that address: a node that has the VM and
 * whose daemon hangs, or that leaves, or where kube-proxy binds all addresses (ipvs). Who is asked would believe that the
 * address is here; who is not asked is not answered.
 */
static void put_questions(struct nft_text *t, const struct nft_skeleton *s, const char *interface)
{
	for (unsigned i = 0; i < s->own_count; i++) {
		const struct base_prefix *own = &s->owns[i].subnet;
		struct base_prefix subnet = { base_prefix_first(own), own->length };
		char asked[BASE_PREFIX_TEXT_SIZE], text[BASE_ADDRESS_TEXT_SIZE];

		if (strcmp(s->owns[i].interface, interface) != 0)
			continue;
		base_address_format(&own->address, text);
		if (own->address.family == BASE_FAMILY_IPV6)
			nft_put(t, "\t\ticmpv6 type nd-neighbor-solicit @nh,64,128 @vips6 @nh,64,128 != @alive6 "
				   "ip6 saddr set %s\n",
				text);
		else /* not what announces an address: that asks for itself */
			nft_put(t, "\t\tarp operation request arp saddr ip @vips4 arp saddr ip != @alive4 "
				   "arp daddr ip != @vips4 arp daddr ip %s arp saddr ip set %s\n",
				base_prefix_format(&subnet, asked), text);
	}
}

/*
 * What belongs to a VLAN passes the hooks of the interface that the VLAN stands on with its tag beside it: the kernel says that
 * it is IP, and the first 2 bytes of the Ethernet header after the MACs are the tag's. QinQ is 88a8.
 */
#define NFT_UNTAGGED "@ll,96,16 != 0x8100 @ll,96,16 != 0x88a8 "

static void put_tagged(struct nft_text *t, bool tagged)
{
	if (tagged)
		nft_put(t, "\t\t@ll,96,16 0x8100 accept\n\t\t@ll,96,16 0x88a8 accept\n");
}

/* What leaves a segment: only adverts, ARP, NS and NA are of interest, and nobody waits for them. */
static void put_egress(struct nft_text *t, const struct nft_skeleton *s, unsigned segment)
{
	const char *interface = s->segments[segment];

	nft_put(t, "\tchain out-%s {\n\t\ttype filter hook egress device \"%s\" priority 0; policy accept;\n",
		interface, interface);
	put_tagged(t, s->tagged[segment]);
	nft_put(t, "\t\tip protocol != 112 accept\n"
		   "\t\tip6 nexthdr tcp accept\n"
		   "\t\tip6 nexthdr udp accept\n"
		   /* TTL 255: what this node forwards for others opens nothing. */
		   "\t\tip protocol 112 ip ttl 255 jump sent4\n"
		   "\t\tip6 nexthdr 112 ip6 hoplimit 255 jump sent6\n");
	put_questions(t, s, interface);
	nft_put(t, "\t\tarp saddr ip @vips4 arp saddr ip != @alive4 counter drop\n"
		   "\t\ticmpv6 type nd-neighbor-solicit @nh,64,128 @vips6 @nh,64,128 != @alive6 counter drop\n"
		   "\t\ticmpv6 type nd-neighbor-advert @th,64,128 @vips6 @th,64,128 != @alive6 counter "
		   "drop\n");
	if (s->virtual_macs[segment])
		put_virtual_egress(t);
	nft_put(t, "\t}\n");
}

/* What is sent to a virtual MAC is for this node while it answers for the address; the kernel thinks it is not. */
static void put_virtual_ingress(struct nft_text *t)
{
	nft_put(t, "\tchain virtual {\n"
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
static void put_ingress(struct nft_text *t, const struct nft_skeleton *s, unsigned segment)
{
	const char *interface = s->segments[segment];
	bool virtual_macs = s->virtual_macs[segment];

	nft_put(t, "\tchain in-%s {\n\t\ttype filter hook ingress device \"%s\" priority 0; policy accept;\n",
		interface, interface);
	put_tagged(t, s->tagged[segment]);
	if (virtual_macs)
		nft_put(t, "\t\tmeta pkttype other @ll,0,32 0x00005e00 jump virtual\n");
	nft_put(t, "\t\tip daddr @alive4 goto direct4-%s\n"
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
		nft_put(t, "\t\tip protocol 112 @ll,48,32 0x00005e00 jump heard4\n"
			   "\t\tip6 nexthdr 112 @ll,48,32 0x00005e00 jump heard6\n");
	nft_put(t, "\t}\n");
}

/*
 * Not ours, or not any more: dropped, but for the grace time of an address that is leaving. A client that
 * has not heard of the new owner yet is served until then.
 */
static void put_stale(struct nft_text *t, bool six, const char *interface)
{
	const char *f = six ? "6" : "4", *to = six ? "@nh,192,128" : "@nh,128,32";

	nft_put(t, "\tchain stale%s-%s {\n\t\t%s != @leaving%s counter drop\n"
		   "\t\tmeta pkttype != host counter drop\n\t\tgoto direct%s-%s\n\t}\n",
		f, interface, to, f, f, interface);
}

/* ICMP errors name no port, but quote a packet of ours that does. */
static void put_errors(struct nft_text *t, bool six)
{
	nft_put(t, "\t\t%s } goto " NFT_ERRORS_CHAIN "%s\n",
		six ? "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem"
		    : "icmp type { destination-unreachable, time-exceeded, parameter-problem",
		six ? "6" : "4");
}

/* The director: what is for another node leaves from here, the rest goes on into the owner. */
static void put_director(struct nft_text *t, bool six, const char *interface)
{
	const char *ip = six ? "ip6" : "ip", *f = six ? "6" : "4";

	/* All pieces go one way: only the first one has ports. */
	nft_put(t, "\tchain pieces%s-%s {\n\t\tfwd %s to %s daddr map @onenode%s device \"%s\"\n\t}\n", f,
		interface, ip, ip, f, interface);
	/*
	 * Addresses that one look-up of a port does not settle, so that the others do not pay for these.
	 * Several endpoints: a hash picks the slot. It travels in the mark, because fwd of an IPv6 packet
	 * leaves too few registers to hash in place; taken back if nothing matched.
	 */
	nft_put(t, "\tchain many%s-%s {\n", f, interface);
	put_errors(t, six);
	nft_put(t, "\t\tmeta mark set jhash %s saddr mod %u " NFT_SEED "\n", ip, NFT_SLOTS);
	nft_put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport . meta mark map @nodeclient%s device "
		   "\"%s\"\n",
		ip, ip, f, interface);
	nft_put(t, "\t\tmeta mark set jhash %s saddr . th sport mod %u " NFT_SEED "\n", ip, NFT_SLOTS);
	nft_put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport . meta mark map @nodeflow%s device "
		   "\"%s\"\n\t\tmeta mark set 0\n",
		ip, ip, f, interface);
	/* Every other port of an address that is one VM's as a whole. */
	nft_put(t, "\t\tmeta l4proto { tcp, udp, sctp } fwd %s to %s daddr map @wholenode%s device \"%s\"\n"
		   "\t}\n",
		ip, ip, f, interface);
	/* Each port stands in one of `here`, `node` and `unsettled`: the look-up that decides counts, too. */
	nft_put(t, "\tchain direct%s-%s {\n\t\t%s daddr . meta l4proto . th dport @here%s accept\n", f, interface,
		ip, f);
	nft_put(t, "\t\tether saddr @peers return\n"); /* passed on once, not in circles */
	nft_put(t, "\t\t%s goto pieces%s-%s\n", six ? "ip6 nexthdr 44" : "ip frag-off & 0x3fff != 0", f,
		interface);
	nft_put(t, "\t\tfwd %s to %s daddr . meta l4proto . th dport map @node%s device \"%s\"\n", ip, ip, f,
		interface);
	nft_put(t, "\t\t%s daddr . meta l4proto . th dport @unsettled%s\n", ip, f);
	nft_put(t, "\t\t%s daddr @many%s goto many%s-%s\n", ip, f, f, interface);
	put_errors(t, six);
	nft_put(t, "\t}\n");
}

static void put_segment(struct nft_text *t, const struct nft_skeleton *s, unsigned segment)
{
	if (s->egress)
		put_egress(t, s, segment);
	put_ingress(t, s, segment);
	for (int six = 0; six < 2; six++) {
		put_stale(t, six, s->segments[segment]);
		put_director(t, six, s->segments[segment]);
	}
}

/*
 * What leaves by an interface with a default route, and has an address that is asked by another segment: a reply, which
 * was translated back after its way was chosen, by where the VM is. Its client is beyond that segment, and so is its way.
 */
static void put_exit(struct nft_text *t, const struct nft_skeleton *s, const struct nft_exit *leaving)
{
	const char *interface = leaving->name;
	bool begun = false;

	for (unsigned i = 0; i < s->return_count; i++) {
		const struct nft_return *way = &s->returns[i];
		bool six = way->gateway.family == BASE_FAMILY_IPV6;
		struct base_prefix subnet = { base_prefix_first(&way->subnet), way->subnet.length };
		char from[BASE_PREFIX_TEXT_SIZE], to[BASE_ADDRESS_TEXT_SIZE], mac[BASE_MAC_TEXT_SIZE];

		if (!nft_return_leads_away(s, way, interface))
			continue;
		if (!begun)
			nft_put(t, "\tchain exit-%s {\n\t\ttype filter hook egress device \"%s\" priority 0; policy "
				   "accept;\n",
				interface, interface);
		begun = true;
		/* The subnet first: it is no look-up, and what else leaves here pays for it alone. */
		nft_put(t, "\t\t%s saddr %s %s ", six ? "ip6" : "ip", base_prefix_format(&subnet, from),
			six ? "@nh,64,128 @vips6" : "ip saddr @vips4");
		/* On its way already, and by that segment: here only because that stands on this interface. */
		if (leaving->tagged & UINT32_C(1) << i)
			nft_put(t, NFT_UNTAGGED);
		else if (leaving->macvlans & UINT32_C(1) << i)
			nft_put(t, "ether saddr %s ", base_mac_format(&leaving->mac, mac));
		nft_put(t, "fwd %s to %s device \"%s\"\n", six ? "ip6" : "ip", base_address_format(&way->gateway, to),
			way->segment);
	}
	if (begun)
		nft_put(t, "\t}\n");
}

/* Sent back by the interface that they came in on, which a bridge's port is not: there they wait for the bridge. */
static void put_errors_chains(struct nft_text *t, const struct nft_skeleton *s)
{
	for (int six = 0; six < 2; six++) {
		nft_put(t, "\tchain " NFT_ERRORS_CHAIN "%s {\n", six ? "6" : "4");
		for (unsigned i = 0; i < s->port_count; i++)
			nft_put(t, "%s \"%s\"%s", i > 0 ? "," : "\t\tiifname {", s->ports[i].name,
				i + 1 == s->port_count ? " } return\n" : "");
		nft_put(t, "\t}\n");
	}
}

/*
 * Fence and director at a bridge's port, as at the bridge: br_netfilter translates between the two, and would send what
 * is for another node back to where it came from. What passes through the bridge is none of ours; what is translated
 * has another address when it comes to in-..., the rest goes through that, too.
 */
static void put_port(struct nft_text *t, const struct nft_skeleton *s, const struct nft_bridge_port *port)
{
	static const char *const to[] = { "ip daddr", "meta protocol ip6 @nh,192,128" };
	static const char *const leaving[] = { "meta protocol ip @nh,128,32", "meta protocol ip6 @nh,192,128" };
	char mac[BASE_MAC_TEXT_SIZE];

	nft_put(t, "\tchain port-%s {\n\t\ttype filter hook ingress device \"%s\" priority 0; policy accept;\n",
		port->name, port->name);
	for (unsigned i = 0; i < s->segment_count; i++)
		put_tagged(t, s->tagged[i] && strcmp(s->segments[i], port->segment) == 0);
	if (port->virtual_macs) { /* passes through as well, to another owner */
		nft_put(t, "\t\tmeta pkttype other @ll,0,32 0x00005e00 jump virtual\n");
		for (int six = 0; six < 2; six++)
			if (port->called[six])
				nft_put(t, "\t\tmeta pkttype host @ll,0,32 0x00005e00 %s @alive%d goto direct%d-%s\n"
					   "\t\tmeta pkttype host @ll,0,32 0x00005e00 %s @leaving%d goto direct%d-%s\n",
					to[six], six ? 6 : 4, six ? 6 : 4, port->segment, leaving[six], six ? 6 : 4,
					six ? 6 : 4, port->segment);
	}
	nft_put(t, "\t\tether daddr != %s accept\n", base_mac_format(&port->mac, mac));
	for (int six = 0; six < 2; six++)
		if (port->called[six])
			nft_put(t, "\t\t%s @alive%d goto direct%d-%s\n", to[six], six ? 6 : 4, six ? 6 : 4,
				port->segment);
	nft_put(t, "\t\tether saddr @peers accept\n");
	/* The port's MAC may be another one, and the packet, to the kernel so far, somebody else's. */
	for (int six = 0; six < 2; six++)
		if (port->called[six])
			nft_put(t, "\t\t%s @vips%d meta pkttype set host goto stale%d-%s\n", to[six], six ? 6 : 4,
				six ? 6 : 4, port->segment);
	nft_put(t, "\t}\n");
}

void nft_chains_netdev(struct nft_text *t, const struct nft_skeleton *s)
{
	put_advert_chains(t, s);
	put_errors_chains(t, s);
	nft_put(t, "\tchain member {\n\t\tip protocol 112 jump heard4\n\t\tip6 nexthdr 112 jump heard6\n\t}\n");
	if (!s->egress)
		nft_put(t, "\tchain loopback {\n\t\ttype filter hook ingress device \"lo\" priority "
			   "0; policy accept;\n"
			   "\t\tip protocol 112 jump sent4\n\t\tip6 nexthdr 112 jump sent6\n"
			   "\t\tip protocol 112 drop\n\t\tip6 nexthdr 112 drop\n\t}\n");
	if (nft_skeleton_virtual(s)) {
		nft_put(t, "\tchain " NFT_REWRITE_CHAIN " {\n\t}\n");
		put_virtual_ingress(t);
	}
	for (unsigned i = 0; i < s->segment_count; i++)
		put_segment(t, s, i);
	for (unsigned i = 0; i < s->port_count; i++)
		if (!s->ports[i].gone)
			put_port(t, s, &s->ports[i]);
	for (unsigned i = 0; i < s->exit_count; i++)
		put_exit(t, s, &s->exits[i]);
}
