#include "nft/io/errors.h"

/* In this order: linux/netfilter.h leaves to netinet what that has defined. */
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>

#include <linux/netfilter.h>

#include "nft/chains.h"
#include "nft/io/expression.h"

/* Registers of 4 bytes: where the key of a map begins; register 1, before it, has the interface. */
#define KEY (NFT_REG32_00 + 4)

enum hash {
	HASH_NONE,
	HASH_CLIENT,
	HASH_FLOW,
};

/* What comes at which offset; the packet that is quoted has no options, as ours have none. */
struct layout {
	uint8_t family;
	uint32_t registers, size; /* of an address */
	uint32_t to;		  /* in the header of the error */
	uint32_t quoted_to, quoted_protocol, quoted_ports;
};

static const struct layout layouts[] = {
	{ .family = NFPROTO_IPV4,
	  .registers = 1,
	  .size = 4,
	  .to = offsetof(struct ip, ip_dst),
	  .quoted_to = ICMP_MINLEN + offsetof(struct ip, ip_dst),
	  .quoted_protocol = ICMP_MINLEN + offsetof(struct ip, ip_p),
	  .quoted_ports = ICMP_MINLEN + sizeof(struct ip) },
	{ .family = NFPROTO_IPV6,
	  .registers = 4,
	  .size = 16,
	  .to = offsetof(struct ip6_hdr, ip6_dst),
	  .quoted_to = sizeof(struct icmp6_hdr) + offsetof(struct ip6_hdr, ip6_dst),
	  .quoted_protocol = sizeof(struct icmp6_hdr) + offsetof(struct ip6_hdr, ip6_nxt),
	  .quoted_ports = sizeof(struct icmp6_hdr) + sizeof(struct ip6_hdr) },
};

/* As nft/chains_netdev.c has it for the client's packets: here the client is who it was sent to. */
static void put_slot(struct nft_wire *wire, const struct layout *layout, enum hash hash)
{
	uint32_t behind = KEY + layout->registers;
	struct nft_expression expression;

	nft_expression_load_to(wire, KEY, NFT_PAYLOAD_TRANSPORT_HEADER, layout->quoted_to, layout->size);
	if (hash == HASH_FLOW)
		nft_expression_load_to(wire, behind, NFT_PAYLOAD_TRANSPORT_HEADER,
				       layout->quoted_ports + offsetof(struct udphdr, dest), 2);
	expression = nft_expression_begin(wire, "hash");
	nft_wire_put_number(wire, NFTA_HASH_SREG, KEY);
	nft_wire_put_number(wire, NFTA_HASH_DREG, behind + 2);
	nft_wire_put_number(wire, NFTA_HASH_LEN, layout->size + (hash == HASH_FLOW ? 4 : 0));
	nft_wire_put_number(wire, NFTA_HASH_MODULUS, NFT_SLOTS);
	nft_wire_put_number(wire, NFTA_HASH_SEED, NFT_SEED_NUMBER);
	nft_expression_end(wire, expression);
}

static void put_rule(struct nft_wire *wire, bool six, enum nft_set_id map, bool ports, enum hash hash)
{
	const struct layout *layout = &layouts[six];
	uint32_t behind = KEY + layout->registers;
	struct nft_expression expression;
	size_t opened;

	opened = nft_expression_rule(wire, NFPROTO_NETDEV, "vipd",
				     six ? NFT_ERRORS_CHAIN "6" : NFT_ERRORS_CHAIN "4");
	if (hash != HASH_NONE)
		put_slot(wire, layout, hash);
	nft_expression_load_to(wire, KEY, NFT_PAYLOAD_NETWORK_HEADER, layout->to, layout->size);
	if (ports) {
		nft_expression_load_to(wire, behind, NFT_PAYLOAD_TRANSPORT_HEADER, layout->quoted_protocol, 1);
		nft_expression_load_to(wire, behind + 1, NFT_PAYLOAD_TRANSPORT_HEADER,
				       layout->quoted_ports + offsetof(struct udphdr, source), 2);
	}
	expression = nft_expression_begin(wire, "lookup");
	nft_wire_put_text(wire, NFTA_LOOKUP_SET, nft_sets[map + six].name);
	nft_wire_put_number(wire, NFTA_LOOKUP_SREG, KEY);
	nft_wire_put_number(wire, NFTA_LOOKUP_DREG, KEY);
	nft_expression_end(wire, expression);
	/* Back by the interface that it came in on: members are on the same segment. */
	expression = nft_expression_begin(wire, "meta");
	nft_wire_put_number(wire, NFTA_META_DREG, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_META_KEY, NFT_META_IIF);
	nft_expression_end(wire, expression);
	expression = nft_expression_begin(wire, "fwd");
	nft_wire_put_number(wire, NFTA_FWD_SREG_DEV, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_FWD_SREG_ADDR, KEY);
	nft_wire_put_number(wire, NFTA_FWD_NFPROTO, layout->family);
	nft_expression_end(wire, expression);
	nft_wire_close(wire, opened);
}

void nft_errors_put(struct nft_wire *wire)
{
	for (int six = 0; six < 2; six++) {
		put_rule(wire, six, NFT_SET_NODE, true, HASH_NONE);
		put_rule(wire, six, NFT_SET_NODECLIENT, true, HASH_CLIENT);
		put_rule(wire, six, NFT_SET_NODEFLOW, true, HASH_FLOW);
		put_rule(wire, six, NFT_SET_WHOLENODE, false, HASH_NONE);
	}
}
