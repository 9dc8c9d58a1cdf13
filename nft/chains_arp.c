#include "nft/chains.h"

#include <string.h>

static bool is_segment(const struct nft_skeleton *s, const char *interface)
{
	for (unsigned i = 0; i < s->segment_count; i++)
		if (strcmp(s->segments[i], interface) == 0)
			return true;
	return false;
}

/* What comes or goes by a segment is the fence's own affair, and most of it. */
static void put_segments(struct nft_text *t, const struct nft_skeleton *s, const char *way)
{
	for (unsigned i = 0; i < s->segment_count; i++)
		nft_put(t, "%s \"%s\"%s", i > 0 ? "," : way, s->segments[i], i + 1 == s->segment_count ? " } accept\n" : "");
}

/* In which of its own addresses this node asks by interfaces that are no segments. */
static void put_names(struct nft_text *t, const struct nft_skeleton *s)
{
	for (unsigned i = 0; i < s->own_count; i++) {
		const struct base_prefix *own = &s->owns[i].subnet;
		struct base_prefix subnet = { base_prefix_first(own), own->length };
		char asked[BASE_PREFIX_TEXT_SIZE], text[BASE_ADDRESS_TEXT_SIZE];

		if (own->address.family != BASE_FAMILY_IPV4 || is_segment(s, s->owns[i].interface))
			continue;
		nft_put(t, "\t\toifname \"%s\" arp daddr ip %s arp saddr ip set %s accept\n", s->owns[i].interface,
			base_prefix_format(&subnet, asked), base_address_format(&own->address, text));
	}
}

/*
 * The kernel answers ARP by any interface for any of its addresses, and asks by any in the name of any of them. By another
 * card on the same Ethernet that would go past the fence. Who asks in nobody's name (RFC 5227) is answered as well, but not
 * through every fabric, so an address of the interface comes first. IPv6 needs none of it: the kernel answers for, and asks in
 * the name of, what the interface itself has.
 */
void nft_chains_arp(struct nft_text *t, const struct nft_skeleton *s)
{
	nft_put(t, "\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n");
	put_segments(t, s, "\t\tiifname {");
	nft_put(t, "\t\tarp operation request arp daddr ip @vips4 counter drop\n\t}\n"
		   "\tchain output {\n\t\ttype filter hook output priority 0; policy accept;\n");
	put_segments(t, s, "\t\toifname {");
	nft_put(t, "\t\tarp saddr ip != @vips4 accept\n\t\tarp operation != request accept\n");
	put_names(t, s);
	nft_put(t, "\t\tarp saddr ip set 0.0.0.0\n\t}\n");
}
