#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "nft/io/wire.h"

/* The addresses whose fence was open when the kernel was asked. Begins as zeros and can be read into again. */
struct nft_alive {
	size_t count, capacity;
	struct base_address *addresses; /* sorted */
	size_t before;	     /* being read: those of the sets that are done */
	unsigned set, tries;
};

/* 0 or -errno, and nothing then; out of memory, those are missing that had no room. */
int nft_alive_read(struct nft_alive *alive, struct nft_wire *wire);
/* The same in pieces of some hundred, with `wire` for nothing else meanwhile. 1: there is more; 0: now it can be asked. */
int nft_alive_start(struct nft_alive *alive, struct nft_wire *wire);
int nft_alive_more(struct nft_alive *alive, struct nft_wire *wire);
bool nft_alive_has(const struct nft_alive *alive, const struct base_address *address);
void nft_alive_free(struct nft_alive *alive);
