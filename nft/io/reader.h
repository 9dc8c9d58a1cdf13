#pragma once

#include <stdbool.h>

#include "nft/io/ledger.h"
#include "nft/io/wire.h"

/*
 * What the kernel has, set by set, into the ledger. Nobody but us changes the guard: its sets are not read, nor those of
 * table arp where there is none.
 *
 * The socket is its own: in between others ask, too.
 */
struct nft_reader {
	struct nft_ledger *ledger; /* borrowed */
	struct nft_wire *wire;
	bool arp;     /* the kernel has such tables */
	bool reading; /* a dump runs on it */
	unsigned set, tries;
	bool mismatch; /* this set is not of our making */
	int error;
};

/* From the first set on. The caller has told the ledger that the kernel has nothing. 0 or -errno. */
int nft_reader_begin(struct nft_reader *reader);

/*
 * A piece of a set. 0: that was all; 1: there is more; NFT_READER_FOREIGN: the set is not of our making; -ENOENT:
 * it is missing; another -errno.
 */
#define NFT_READER_FOREIGN 2
int nft_reader_turn(struct nft_reader *reader);

/* Harmless on one that never began. */
void nft_reader_end(struct nft_reader *reader);
