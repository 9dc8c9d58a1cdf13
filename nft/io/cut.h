#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "nft/io/loader.h"

/*
 * Virtual routers cut off from the LAN for a while, as a drill wants it: what they send leaves the
 * process, opens their fence and is lost, what is sent to them is lost, adverts and neighbour questions
 * too. A table of its own, `netdev vipd-drill`, so ours are not touched; the kernel lets its elements
 * run out, whatever becomes of who put them there.
 */
#define NFT_CUT "vipd-drill"

struct nft_cut {
	const char *interface;
	uint8_t family, virtual_router_id;
	size_t address_count;
	const struct base_address *addresses;
};

/*
 * Replaces a cut that is there; needs the egress hook. Told by a child: wait until loader->fd is readable,
 * then nft_loader_end() says how it went. 0 or -errno.
 */
int nft_cut_start(struct nft_loader *loader, const struct nft_cut *cuts, size_t count,
		  uint32_t hold_ms);
/* The same for taking away what has run out; nothing there is fine. */
int nft_cut_remove_start(struct nft_loader *loader);
