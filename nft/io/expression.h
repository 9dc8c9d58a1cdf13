#pragma once

#include <linux/netfilter/nf_tables.h>
#include <stddef.h>
#include <stdint.h>

#include "nft/io/wire.h"

/*
 * Expressions of a rule that nft's text has no words for, or that must not wait for it: io/guard.h, io/rewrite.h,
 * io/errors.h. They go into the list that is open on the wire (NFTA_RULE_EXPRESSIONS), in the order of their calls,
 * and work on register 1 if they do not say another.
 */
struct nft_expression {
	size_t element, data;
};

/* One of any kind, with its attributes put in between. */
struct nft_expression nft_expression_begin(struct nft_wire *wire, const char *name);
void nft_expression_end(struct nft_wire *wire, struct nft_expression expression);
/* A value among its attributes. */
void nft_expression_value(struct nft_wire *wire, uint16_t type, const void *value, size_t size);

/* A rule at the end of the chain: expressions go into it until nft_wire_close() of what is answered. */
size_t nft_expression_rule(struct nft_wire *wire, uint8_t family, const char *table, const char *chain);

/* Bytes of the packet come into the register. `base`: enum nft_payload_bases */
void nft_expression_load(struct nft_wire *wire, uint32_t base, uint32_t offset, uint32_t size);
void nft_expression_load_to(struct nft_wire *wire, uint32_t reg, uint32_t base, uint32_t offset, uint32_t size);
/* Goes on if the register is equal, or not (enum nft_cmp_ops). */
void nft_expression_compare(struct nft_wire *wire, uint32_t operation, const void *value, size_t size);
