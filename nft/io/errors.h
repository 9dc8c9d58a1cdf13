#pragma once

#include "nft/io/wire.h"

/*
 * The rules of NFT_ERRORS_CHAIN, which nft/skeleton.h leaves empty: an ICMP error to an address of ours (a path's MTU)
 * quotes the packet that it is about, which an endpoint sent, and goes to the node of that endpoint as the client's
 * own packets do. nft refuses to look a quoted port up as a port, and what it has no type for it compares with nothing.
 * One whose endpoint is here, or who is nobody's, goes on into this node.
 *
 * Puts them into a transaction, which is due whenever the skeleton was loaded.
 */
void nft_errors_put(struct nft_wire *wire);
