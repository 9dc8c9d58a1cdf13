#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nft/desired.h"
#include "nft/io/ledger.h"
#include "nft/io/wire.h"

/*
 * What the ledger says is to be done goes to the kernel, in transactions of some milliseconds each. What the kernel
 * does not take is found by halving, and left out; all others go there.
 */
struct nft_transfer {
	struct nft_ledger *ledger; /* borrowed, like the wire */
	struct nft_wire *wire;
	struct nft_change *changes;
	size_t count, at, step;
	size_t under_way; /* changes, in a transaction that the kernel has not answered yet */
	bool waited;	  /* for a foreign one */
	uint64_t sent_us;
	size_t suspects_end, share; /* up to there one is refused; so many at a time until it is found */
};

void nft_transfer_init(struct nft_transfer *transfer, struct nft_ledger *ledger, struct nft_wire *wire);

/* Looks at some keys: 1 as long as there are more, then 0 and `count` is how many changes there are; or -ENOMEM. */
int nft_transfer_look(struct nft_transfer *transfer);

/*
 * One transaction, or the answer to it. 0: all is done; 1: there is more; -EINPROGRESS: somebody else's is in the
 * way, call again when the wire was readable; other -errno: nothing works. `known`: the ledger was just told what the
 * kernel has, so a refusal is an element's own fault; otherwise it is NFT_TRANSFER_DOUBT: the kernel may have
 * something else, and is to be read.
 */
#define NFT_TRANSFER_DOUBT 2
int nft_transfer_turn(struct nft_transfer *transfer, bool known);

/* Waits for what is under way; what was left to do is forgotten. */
void nft_transfer_cancel(struct nft_transfer *transfer);
