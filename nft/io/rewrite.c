#include "nft/io/rewrite.h"

/* In this order: linux/netfilter.h leaves to netinet what that has defined. */
#include <netinet/icmp6.h>
#include <netinet/ip6.h>

#include <linux/if_ether.h>
#include <linux/netfilter.h>

#include "nft/io/expression.h"
#include "nft/skeleton.h"

/* Behind the target, in solicitations, too; an answer to a question for us alone has none. */
#define OPTION_AT sizeof(struct nd_neighbor_advert)
#define MAC	  NFT_REG_2

static void put_lookup(struct nft_wire *wire, enum nft_set_id set, uint16_t attribute, uint32_t value)
{
	struct nft_expression lookup = nft_expression_begin(wire, "lookup");

	nft_wire_put_text(wire, NFTA_LOOKUP_SET, nft_sets[set].name);
	nft_wire_put_number(wire, NFTA_LOOKUP_SREG, NFT_REG_1);
	nft_wire_put_number(wire, attribute, value);
	nft_expression_end(wire, lookup);
}

static void put_compare(struct nft_wire *wire, uint32_t offset, uint32_t operation, uint8_t value)
{
	nft_expression_load(wire, NFT_PAYLOAD_TRANSPORT_HEADER, offset, sizeof value);
	nft_expression_compare(wire, operation, &value, sizeof value);
}

static struct nft_expression begin_write(struct nft_wire *wire, uint32_t base, uint32_t offset)
{
	struct nft_expression payload = nft_expression_begin(wire, "payload");

	nft_wire_put_number(wire, NFTA_PAYLOAD_SREG, MAC);
	nft_wire_put_number(wire, NFTA_PAYLOAD_BASE, base);
	nft_wire_put_number(wire, NFTA_PAYLOAD_OFFSET, offset);
	nft_wire_put_number(wire, NFTA_PAYLOAD_LEN, ETH_ALEN);
	return payload;
}

static void put_expressions(struct nft_wire *wire)
{
	struct nft_expression payload;

	nft_expression_load(wire, NFT_PAYLOAD_LL_HEADER, offsetof(struct ethhdr, h_dest), ETH_ALEN);
	put_lookup(wire, NFT_SET_PEERS, NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
	nft_expression_load(wire, NFT_PAYLOAD_NETWORK_HEADER, offsetof(struct ip6_hdr, ip6_src),
			    sizeof(struct in6_addr));
	put_lookup(wire, NFT_SET_VIRTUAL + 1, NFTA_LOOKUP_DREG, MAC);
	payload = begin_write(wire, NFT_PAYLOAD_LL_HEADER, offsetof(struct ethhdr, h_source));
	nft_expression_end(wire, payload);
	/* A source (1) or target (2) link-layer address, in units of 8 bytes. */
	put_compare(wire, OPTION_AT, NFT_CMP_LTE, ND_OPT_TARGET_LINKADDR);
	put_compare(wire, OPTION_AT + 1, NFT_CMP_EQ, 1);
	payload = begin_write(wire, NFT_PAYLOAD_TRANSPORT_HEADER,
			      OPTION_AT + sizeof(struct nd_opt_hdr));
	nft_wire_put_number(wire, NFTA_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
	nft_wire_put_number(wire, NFTA_PAYLOAD_CSUM_OFFSET, offsetof(struct icmp6_hdr, icmp6_cksum));
	nft_expression_end(wire, payload);
}

void nft_rewrite_put(struct nft_wire *wire)
{
	size_t opened;

	opened = nft_expression_rule(wire, NFPROTO_NETDEV, "vipd", NFT_REWRITE_CHAIN);
	put_expressions(wire);
	nft_wire_close(wire, opened);
}
