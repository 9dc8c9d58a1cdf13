#pragma once

#include "base/address.h"

/*
 * Counters per address, protocol and port, read from the kernel as they stand there.
 *
 * NFT_COUNT_TRAFFIC, on the owner: packets that came in from the LAN for the port while this node answered
 * for the address, and their bytes from the IP header on; replies do not pass the owner and are in no
 * counter. NFT_COUNT_CONNECTIONS, on the node that translates (the endpoint's; with data plane `nat` the
 * owner): new connections in `packets`, and the bytes of their first packets. Both count from 0 again when
 * the port or the tables are made anew, traffic also when the owner has to pass it on to another node than before;
 * fragments on their way to another node are not counted. Ports of addresses with data plane `announce` are not counted.
 *
 * Reading 10,000 ports takes some 10 ms of the kernel's time, in pieces of less than a millisecond: start,
 * then run until it answers 0. Several callers on one loop take one reader each.
 */
enum nft_count_kind {
	NFT_COUNT_TRAFFIC,
	NFT_COUNT_CONNECTIONS,
};

struct nft_count {
	enum nft_count_kind kind;
	struct base_address address;
	uint8_t protocol;
	uint16_t port;
	uint64_t packets, bytes;
};
typedef void nft_count_fn(void *userdata, const struct nft_count *count);

struct nft_counters;

int nft_counters_new(struct nft_counters **counters);
void nft_counters_free(struct nft_counters *counters);

/*
 * Begins. Then run() calls back for one piece of what there is: 1 there is more, 0 that was all, -ENOENT
 * there are no tables, another -errno; after any but 1 it can be started again. It never waits.
 */
void nft_counters_start(struct nft_counters *counters);
int nft_counters_run(struct nft_counters *counters, nft_count_fn *count, void *userdata);
