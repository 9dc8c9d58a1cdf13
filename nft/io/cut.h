#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"

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

/* Replaces a cut that is there. Needs the egress hook. 0, or -errno and why. */
int nft_cut(const struct nft_cut *cuts, size_t count, uint32_t hold_ms, struct base_error *error);
/* What has run out is taken away; nothing there is fine. */
int nft_cut_remove(struct base_error *error);
