#include "nft/io/expression.h"

#include <linux/netlink.h>

struct nft_expression nft_expression_begin(struct nft_wire *wire, const char *name)
{
	struct nft_expression expression = { .element = nft_wire_open(wire, NFTA_LIST_ELEM) };

	nft_wire_put_text(wire, NFTA_EXPR_NAME, name);
	expression.data = nft_wire_open(wire, NFTA_EXPR_DATA);
	return expression;
}

void nft_expression_end(struct nft_wire *wire, struct nft_expression expression)
{
	nft_wire_close(wire, expression.data);
	nft_wire_close(wire, expression.element);
}

void nft_expression_value(struct nft_wire *wire, uint16_t type, const void *value, size_t size)
{
	size_t opened = nft_wire_open(wire, type);

	nft_wire_put(wire, NFTA_DATA_VALUE, value, size);
	nft_wire_close(wire, opened);
}

size_t nft_expression_rule(struct nft_wire *wire, uint8_t family, const char *table, const char *chain)
{
	nft_wire_message(wire, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family);
	nft_wire_put_text(wire, NFTA_RULE_TABLE, table);
	nft_wire_put_text(wire, NFTA_RULE_CHAIN, chain);
	return nft_wire_open(wire, NFTA_RULE_EXPRESSIONS);
}

void nft_expression_load_to(struct nft_wire *wire, uint32_t reg, uint32_t base, uint32_t offset, uint32_t size)
{
	struct nft_expression payload = nft_expression_begin(wire, "payload");

	nft_wire_put_number(wire, NFTA_PAYLOAD_DREG, reg);
	nft_wire_put_number(wire, NFTA_PAYLOAD_BASE, base);
	nft_wire_put_number(wire, NFTA_PAYLOAD_OFFSET, offset);
	nft_wire_put_number(wire, NFTA_PAYLOAD_LEN, size);
	nft_expression_end(wire, payload);
}

void nft_expression_load(struct nft_wire *wire, uint32_t base, uint32_t offset, uint32_t size)
{
	nft_expression_load_to(wire, NFT_REG_1, base, offset, size);
}

void nft_expression_compare(struct nft_wire *wire, uint32_t operation, const void *value, size_t size)
{
	struct nft_expression compare = nft_expression_begin(wire, "cmp");

	nft_wire_put_number(wire, NFTA_CMP_SREG, NFT_REG_1);
	nft_wire_put_number(wire, NFTA_CMP_OP, operation);
	nft_expression_value(wire, NFTA_CMP_DATA, value, size);
	nft_expression_end(wire, compare);
}
