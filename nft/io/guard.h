#pragma once

#include "nft/io/wire.h"

/*
 * A small table that a foreign `nft flush ruleset` leaves alone, since the kernel knows that it belongs to
 * a living socket (5.12 and later). As long as the tables of nft/skeleton.h stand it does nothing. In the
 * instant in which they do not, it keeps what would end connections for good from happening:
 *
 *  - its NAT chain keeps the kernel translating the connections it knows;
 *  - packets to our addresses that nobody translates are dropped, where the node would answer a
 *    client's packet in mid-stream with a reset, or its own sshd a new one. Clients send again.
 *
 *     table inet vipd-guard                 owned by the wire it was made over, and gone with it
 *       set vips4, vips6                    as in table inet vipd
 *       keep      nat prerouting            no rules
 *       input, forward     priority -5      TCP, UDP, SCTP to @vips, new or without state ─► drop
 */
#define NFT_GUARD "vipd-guard"

/* Makes it anew, with empty sets. -errno: this kernel cannot. */
int nft_guard_make(struct nft_wire *wire);
int nft_guard_remove(struct nft_wire *wire);
