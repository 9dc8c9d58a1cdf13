#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "nft/io/wire.h"

/* The addresses whose fence was open when the kernel was asked. Begins as zeros and can be read into again. */
struct nft_alive {
	size_t count, capacity;
	struct base_address *addresses; /* sorted */
};

/* 0 or -errno; then, as out of memory, those are missing that were not read. */
int nft_alive_read(struct nft_alive *alive, struct nft_wire *wire);
bool nft_alive_has(const struct nft_alive *alive, const struct base_address *address);
void nft_alive_free(struct nft_alive *alive);
