#pragma once

#include "nft/skeleton.h"
#include "nft/text.h"

/*
 * The chains of the tables, in the order in which the kernel gets them; README.md draws them. For
 * nft/skeleton.c alone, which writes the tables around them and the sets that they look into.
 */
void nft_chains_netdev(struct nft_text *text, const struct nft_skeleton *skeleton); /* fence and director */
void nft_chains_inet(struct nft_text *text, const struct nft_skeleton *skeleton);   /* NAT, closed ports */
void nft_chains_arp(struct nft_text *text, const struct nft_skeleton *skeleton);    /* interfaces that are not an address's segment */

/* Of every hash that picks a slot: the same on every node, so every node picks the same endpoint. */
#define NFT_SEED_NUMBER 0x5eed
#define NFT_SEED	"seed 0x5eed"
