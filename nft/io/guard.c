#include "nft/io/guard.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netlink.h>
#include <string.h>

#include "base/array.h"
#include "nft/io/expression.h"

/* Behind our own chains at "filter - 10", before those of everybody else. */
#define PRIORITY (NF_IP_PRI_FILTER - 5)

/* What nft calls ipv4_addr and ipv6_addr. */
#define TYPE_IPV4 7
#define TYPE_IPV6 8

static void put_set(struct nft_wire *wire, const char *name, uint32_t type, uint32_t size,
		    uint32_t id)
{
	nft_wire_message(wire, NFT_MSG_NEWSET, NLM_F_CREATE, NFPROTO_INET);
	nft_wire_put_text(wire, NFTA_SET_TABLE, NFT_GUARD);
	nft_wire_put_text(wire, NFTA_SET_NAME, name);
	nft_wire_put_number(wire, NFTA_SET_FLAGS, 0);
	nft_wire_put_number(wire, NFTA_SET_KEY_TYPE, type);
	nft_wire_put_number(wire, NFTA_SET_KEY_LEN, size);
	nft_wire_put_number(wire, NFTA_SET_ID, id);
}

static void put_chain(struct nft_wire *wire, const char *name, const char *type, uint32_t hook,
		      int32_t priority)
{
	size_t opened;

	nft_wire_message(wire, NFT_MSG_NEWCHAIN, NLM_F_CREATE, NFPROTO_INET);
	nft_wire_put_text(wire, NFTA_CHAIN_TABLE, NFT_GUARD);
	nft_wire_put_text(wire, NFTA_CHAIN_NAME, name);
	opened = nft_wire_open(wire, NFTA_CHAIN_HOOK);
	nft_wire_put_number(wire, NFTA_HOOK_HOOKNUM, hook);
	nft_wire_put_number(wire, NFTA_HOOK_PRIORITY, (uint32_t)priority);
	nft_wire_close(wire, opened);
	nft_wire_put_text(wire, NFTA_CHAIN_TYPE, type);
}

static void put_meta(struct nft_wire *wire, uint32_t key, uint8_t value)
{
	struct nft_expression meta = nft_expression_begin(wire, "meta");

	nft_wire_put_number(wire, NFTA_META_DREG, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_META_KEY, key);
	nft_expression_end(wire, meta);
	nft_expression_compare(wire, NFT_CMP_EQ, &value, 1);
}

static void put_lookup(struct nft_wire *wire, bool six)
{
	struct nft_expression lookup;

	nft_expression_load(wire, NFT_PAYLOAD_NETWORK_HEADER, six ? 24 : 16, six ? 16 : 4);
	lookup = nft_expression_begin(wire, "lookup");
	nft_wire_put_text(wire, NFTA_LOOKUP_SET, six ? "vips6" : "vips4");
	nft_wire_put_number(wire, NFTA_LOOKUP_SREG, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_LOOKUP_SET_ID, six ? 2 : 1);
	nft_expression_end(wire, lookup);
}

/* New, untracked, or in no state at all. */
static void put_state(struct nft_wire *wire)
{
	uint32_t mask = NF_CT_STATE_INVALID_BIT | NF_CT_STATE_BIT(IP_CT_NEW) |
			NF_CT_STATE_UNTRACKED_BIT, none = 0;
	struct nft_expression ct = nft_expression_begin(wire, "ct"), bits;

	nft_wire_put_number(wire, NFTA_CT_DREG, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_CT_KEY, NFT_CT_STATE);
	nft_expression_end(wire, ct);
	bits = nft_expression_begin(wire, "bitwise");
	nft_wire_put_number(wire, NFTA_BITWISE_SREG, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_BITWISE_DREG, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_BITWISE_LEN, sizeof mask);
	nft_expression_value(wire, NFTA_BITWISE_MASK, &mask, sizeof mask);
	nft_expression_value(wire, NFTA_BITWISE_XOR, &none, sizeof none);
	nft_expression_end(wire, bits);
	nft_expression_compare(wire, NFT_CMP_NEQ, &none, sizeof none);
}

static void put_drop(struct nft_wire *wire)
{
	struct nft_expression counter = nft_expression_begin(wire, "counter"), immediate;
	size_t data, verdict;

	nft_expression_end(wire, counter);
	immediate = nft_expression_begin(wire, "immediate");
	nft_wire_put_number(wire, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = nft_wire_open(wire, NFTA_IMMEDIATE_DATA);
	verdict = nft_wire_open(wire, NFTA_DATA_VERDICT);
	nft_wire_put_number(wire, NFTA_VERDICT_CODE, NF_DROP);
	nft_wire_close(wire, verdict);
	nft_wire_close(wire, data);
	nft_expression_end(wire, immediate);
}

static void put_rule(struct nft_wire *wire, const char *chain, bool six, uint8_t protocol)
{
	size_t opened;

	opened = nft_expression_rule(wire, NFPROTO_INET, NFT_GUARD, chain);
	put_meta(wire, NFT_META_NFPROTO, six ? NFPROTO_IPV6 : NFPROTO_IPV4);
	put_lookup(wire, six);
	put_meta(wire, NFT_META_L4PROTO, protocol);
	put_state(wire);
	put_drop(wire);
	nft_wire_close(wire, opened);
}

int nft_guard_make(struct nft_wire *wire)
{
	static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	static const char *const chains[] = { "input", "forward" };

	nft_wire_begin(wire);
	nft_wire_message(wire, NFT_MSG_NEWTABLE, NLM_F_CREATE, NFPROTO_INET);
	nft_wire_put_text(wire, NFTA_TABLE_NAME, NFT_GUARD);
	nft_wire_put_number(wire, NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
	put_set(wire, "vips4", TYPE_IPV4, 4, 1);
	put_set(wire, "vips6", TYPE_IPV6, 16, 2);
	put_chain(wire, "keep", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST + 5);
	put_chain(wire, "input", "filter", NF_INET_LOCAL_IN, PRIORITY);
	put_chain(wire, "forward", "filter", NF_INET_FORWARD, PRIORITY);
	for (size_t c = 0; c < BASE_COUNT_OF(chains); c++)
		for (size_t i = 0; i < BASE_COUNT_OF(protocols); i++) {
			put_rule(wire, chains[c], false, protocols[i]);
			put_rule(wire, chains[c], true, protocols[i]);
		}
	return nft_wire_commit(wire);
}

int nft_guard_remove(struct nft_wire *wire)
{
	nft_wire_begin(wire);
	nft_wire_message(wire, NFT_MSG_DELTABLE, 0, NFPROTO_INET);
	nft_wire_put_text(wire, NFTA_TABLE_NAME, NFT_GUARD);
	return nft_wire_commit(wire);
}
