#pragma once

#include "nft/io/wire.h"

/*
 * The one rule of NFT_REWRITE_CHAIN, which nft/skeleton.h leaves empty: a neighbour solicitation or advertisement
 * in the name of an address with a virtual MAC says that MAC, and comes from it; but not one to a member. The
 * kernel corrects the checksum of ICMPv6 by the difference, which nft cannot tell it to.
 *
 * Puts it into a transaction, which is due whenever the skeleton was loaded.
 */
void nft_rewrite_put(struct nft_wire *wire);
