#include "nft/chains.h"

/* By the address's own segment; by any, as long as nobody has said which. */
static void put_segments(struct nft_text *t, const struct nft_skeleton *s, const char *key, const char *verdict)
{
	for (unsigned i = 0; i < s->segment_count; i++)
		nft_put(t, "%s \"%s\"%s", i > 0 ? "," : key, s->segments[i], i + 1 == s->segment_count ? " }" : "");
	if (s->segment_count > 0)
		nft_put(t, " meta mark 0 accept\n");
	for (unsigned i = 0; i < s->segment_count; i++)
		nft_put(t, "%s \"%s\" } meta mark %u %s\n", key, s->segments[i], s->indices[i], verdict);
}

/*
 * What stands on a segment has its packets by way of that one and its fence. Another VRRP speaker's virtual MAC is such an
 * interface, made when this daemon is gone and its tables stand.
 */
static void put_uppers(struct nft_text *t, const struct nft_skeleton *s, char way)
{
	for (unsigned i = 0; i < s->segment_count; i++) {
		if (i == 0)
			nft_put(t, "\t\t%cifname != {", way);
		nft_put(t, "%s \"%s\"%s", i > 0 ? "," : "", s->segments[i], i + 1 == s->segment_count ? " }" : "");
	}
	nft_put(t, "%smeta %cifkind { \"macvlan\", \"ipvlan\" } accept\n", s->segment_count > 0 ? " " : "\t\t", way);
}

/* In which of its own addresses this node asks instead. */
static void put_names(struct nft_text *t, const struct nft_skeleton *s)
{
	for (unsigned i = 0; i < s->own_count; i++) {
		const struct base_prefix *own = &s->owns[i].subnet;
		struct base_prefix subnet = { base_prefix_first(own), own->length };
		char asked[BASE_PREFIX_TEXT_SIZE], text[BASE_ADDRESS_TEXT_SIZE];

		if (own->address.family == BASE_FAMILY_IPV4)
			nft_put(t, "\t\toifname \"%s\" arp daddr ip %s arp saddr ip set %s accept\n",
				s->owns[i].interface, base_prefix_format(&subnet, asked),
				base_address_format(&own->address, text));
	}
}

/*
 * The kernel answers ARP by any interface for any of its addresses, and asks by any in the name of any of them. By another
 * card on the same Ethernet that would go past the fence, or be another host to who has heard of both. Who asks in nobody's
 * name (RFC 5227) is answered as well, but not through every fabric, so an address of the interface comes first. IPv6 needs
 * none of it: the kernel answers for, and asks in the name of, what the interface itself has.
 *
 * The look-up puts the segment's index into the mark; what is no address of ours ends there.
 */
void nft_chains_arp(struct nft_text *t, const struct nft_skeleton *s)
{
	nft_put(t, "\tchain asked {\n");
	put_segments(t, s, "\t\tiifname {", "accept");
	put_uppers(t, s, 'i');
	nft_put(t, "\t\tcounter drop\n\t}\n\tchain asks {\n");
	put_segments(t, s, "\t\toifname {", "meta mark set 0 accept");
	nft_put(t, "\t\tmeta mark set 0\n");
	put_uppers(t, s, 'o');
	put_names(t, s);
	nft_put(t, "\t\tarp saddr ip set 0.0.0.0\n\t}\n"
		   "\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n"
		   "\t\tarp operation request meta mark set arp daddr ip map @vips4 goto asked\n\t}\n"
		   "\tchain output {\n\t\ttype filter hook output priority 0; policy accept;\n"
		   "\t\tarp operation request meta mark set arp saddr ip map @vips4 goto asks\n\t}\n");
}
