#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

/*
 * Connections the kernel tracks. A UDP or SCTP flow is translated as its first packet was for as long as
 * its client goes on sending: when an endpoint is gone, its flows must be let go, and only they.
 *
 * Reads the kernel's table piece by piece as its descriptor becomes readable and deletes flow by flow:
 * nobody waits for it, and the kernel's own filter by IPv6 address, which answers the opposite of what
 * it is asked in some versions, is not needed.
 */
struct nft_flows;

int nft_flows_new(struct nft_flows **flows);
void nft_flows_free(struct nft_flows *flows);

#define NFT_FLOWS_EVERY 255 /* the protocol that goes with port 0 */

struct nft_flow_end {
	struct base_address address;
	uint16_t port;
};

/*
 * Flows to `port` of `address` that go anywhere but to one of `ends` are to be deleted. 0 or -ENOMEM. Port
 * 0: to any port that is not a target itself, other than TCP, and of `ends` only addresses count. What
 * was said of the port before is replaced; the reading begins with the next nft_flows_run().
 */
int nft_flows_release(struct nft_flows *flows, const struct base_address *address, uint8_t protocol,
		      uint16_t port, const struct nft_flow_end *ends, size_t end_count);

/* Begins if there is something to do and it has not begun; goes on with what is readable. 0, -errno. */
int nft_flows_run(struct nft_flows *flows);
int nft_flows_fd(const struct nft_flows *flows);

/* How many were deleted so far. */
uint64_t nft_flows_released(const struct nft_flows *flows);
