#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "nft/io/loader.h"

/*
 * What somebody else does to our tables: the kernel tells of every transaction (NFNLGRP_NFTABLES, kernel
 * net/netfilter/nf_tables_api.c), and at its end who made it.
 */
enum nft_table_verdict {
	NFT_TABLE_UNCHANGED,
	NFT_TABLE_CHANGED, /* forget it and commit */
	NFT_TABLE_UNKNOWN, /* events were lost: ask nft_table_present() */
};

struct nft_foreign {
	int fd; /* readable when there is something to hear */
	uint32_t wire_port;
	bool changing;	  /* the transaction being told touches our tables, and is not ours */
	char culprit[64]; /* who did it: "nft (pid 4711)" */
};

#define NFT_FOREIGN_NONE { .fd = -1 }

/* `wire_port`: the netlink port whose changes are ours. 0 or -errno. */
int nft_foreign_open(struct nft_foreign *foreign, uint32_t wire_port);
void nft_foreign_close(struct nft_foreign *foreign);
/*
 * What happened since it was called last, or some of it; then `fd` is still readable: enum nft_table_verdict. `loader`: its
 * children's changes are ours.
 */
int nft_foreign_drain(struct nft_foreign *foreign, struct nft_loader *loader);
