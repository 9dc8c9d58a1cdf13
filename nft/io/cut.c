#include "nft/io/cut.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLEAN "add table netdev " NFT_CUT "\ndelete table netdev " NFT_CUT "\n"

enum key { KEY_ROUTER, KEY_ADDRESS, KEY_TARGET };

static void put_key(FILE *text, enum key key, const struct nft_cut *cut,
		    const struct base_address *address)
{
	char plain[BASE_ADDRESS_TEXT_SIZE];

	switch (key) {
	case KEY_ROUTER:
		fprintf(text, "%u", cut->virtual_router_id);
		return;
	case KEY_ADDRESS:
		fputs(base_address_format(address, plain), text);
		return;
	case KEY_TARGET: /* of a solicitation: this nft has no name for it, so it is a number */
		fputs("0x", text);
		for (size_t i = 0; i < 16; i++)
			fprintf(text, "%02x", address->bytes[i]);
		return;
	}
}

static void put_set(FILE *text, const char *name, const char *type, enum key key, uint8_t family,
		    const struct nft_cut *cuts, size_t count, uint32_t hold_ms)
{
	const char *before = "; elements = { ";

	fprintf(text, "\tset %s { %s; flags timeout", name, type);
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; cuts[i].family == family && j < cuts[i].address_count; j++) {
			if (key == KEY_ROUTER && j > 0)
				break;
			fputs(before, text);
			put_key(text, key, &cuts[i], &cuts[i].addresses[j]);
			fprintf(text, " timeout %ums", hold_ms);
			before = ", ";
		}
	fputs(*before == ',' ? " }; }\n" : "; }\n", text);
}

/* After the fence saw what leaves (priority 0), before it sees what comes. */
static void put_chain(FILE *text, const char *hook, const char *interface, int priority)
{
	fprintf(text,
		"\tchain %s-%s {\n"
		"\t\ttype filter hook %s device \"%s\" priority %d; policy accept;\n"
		"\t\tip protocol 112 @th,8,8 @routers4 drop\n"
		"\t\tip6 nexthdr 112 @th,8,8 @routers6 drop\n"
		"\t\tarp daddr ip @cut4 drop\n\t\tarp saddr ip @cut4 drop\n"
		"\t\tip daddr @cut4 drop\n\t\tip saddr @cut4 drop\n"
		"\t\ticmpv6 type nd-neighbor-solicit @th,64,128 @targets drop\n"
		"\t\ticmpv6 type nd-neighbor-advert @th,64,128 @targets drop\n"
		"\t\tip6 daddr @cut6 drop\n\t\tip6 saddr @cut6 drop\n"
		"\t}\n",
		hook, interface, hook, interface, priority);
}

static bool is_first_on_interface(const struct nft_cut *cuts, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (strcmp(cuts[i].interface, cuts[index].interface) == 0)
			return false;
	return true;
}

int nft_cut_start(struct nft_loader *loader, const struct nft_cut *cuts, size_t count,
		  uint32_t hold_ms)
{
	char *commands = NULL;
	size_t size = 0;
	FILE *text = open_memstream(&commands, &size);
	int r;

	if (!text)
		return -ENOMEM;
	fputs(CLEAN "table netdev " NFT_CUT " {\n", text);
	put_set(text, "routers4", "typeof @th,8,8", KEY_ROUTER, BASE_FAMILY_IPV4, cuts, count,
		hold_ms);
	put_set(text, "routers6", "typeof @th,8,8", KEY_ROUTER, BASE_FAMILY_IPV6, cuts, count,
		hold_ms);
	put_set(text, "cut4", "type ipv4_addr", KEY_ADDRESS, BASE_FAMILY_IPV4, cuts, count,
		hold_ms);
	put_set(text, "cut6", "type ipv6_addr", KEY_ADDRESS, BASE_FAMILY_IPV6, cuts, count,
		hold_ms);
	put_set(text, "targets", "typeof @th,64,128", KEY_TARGET, BASE_FAMILY_IPV6, cuts, count,
		hold_ms);
	for (size_t i = 0; i < count; i++)
		if (is_first_on_interface(cuts, i)) {
			put_chain(text, "ingress", cuts[i].interface, -300);
			put_chain(text, "egress", cuts[i].interface, 300);
		}
	fputs("}\n", text);
	r = fclose(text) == 0 ? nft_loader_start(loader, nft_loader_say_text, commands) : -ENOMEM;
	free(commands); /* the child has its own copy */
	return r;
}

int nft_cut_remove_start(struct nft_loader *loader)
{
	return nft_loader_start(loader, nft_loader_say_text, CLEAN);
}
