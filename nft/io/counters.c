#include "nft/io/counters.h"

#include <errno.h>
#include <stdlib.h>

#include "base/array.h"
#include "nft/io/wire.h"

static const struct {
	enum nft_count_kind kind;
	uint8_t set;
} sources[] = {
	{ NFT_COUNT_TRAFFIC, NFT_SET_HERE },
	{ NFT_COUNT_TRAFFIC, NFT_SET_HERE + 1 },
	{ NFT_COUNT_TRAFFIC, NFT_SET_NODE },
	{ NFT_COUNT_TRAFFIC, NFT_SET_NODE + 1 },
	{ NFT_COUNT_TRAFFIC, NFT_SET_UNSETTLED },
	{ NFT_COUNT_TRAFFIC, NFT_SET_UNSETTLED + 1 },
	{ NFT_COUNT_CONNECTIONS, NFT_SET_ARRIVED },
	{ NFT_COUNT_CONNECTIONS, NFT_SET_ARRIVED + 1 },
};

struct nft_counters {
	struct nft_wire *wire;
	size_t at; /* index into sources */
	bool running; /* its dump */
	nft_count_fn *count;
	void *userdata;
};

int nft_counters_new(struct nft_counters **counters)
{
	struct nft_counters *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	r = nft_wire_new(&new->wire);
	if (r < 0) {
		free(new);
		return r;
	}
	new->at = BASE_COUNT_OF(sources);
	*counters = new;
	return 0;
}

void nft_counters_free(struct nft_counters *counters)
{
	if (!counters)
		return;
	nft_wire_free(counters->wire);
	free(counters);
}

static void ignore(void *userdata, const struct nft_found *found)
{
	(void)userdata;
	(void)found;
}

void nft_counters_start(struct nft_counters *counters)
{
	/* What was not read to its end: the kernel runs one dump a socket. */
	while (counters->running)
		counters->running = nft_wire_dump_more(counters->wire, ignore, NULL) > 0;
	counters->at = 0;
}

/* Address, protocol, port, padded: see nft/skeleton.h. */
static void on_found(void *userdata, const struct nft_found *found)
{
	struct nft_counters *counters = userdata;
	size_t size = found->key_size == 12 ? 4 : 16;
	const uint8_t *rest = found->key + size;
	struct nft_count count = {
		.kind = sources[counters->at].kind,
		.packets = found->packets,
		.bytes = found->bytes,
	};

	if (found->key_size != size + 8)
		return;
	count.address = base_address_from_bytes(size == 4 ? BASE_FAMILY_IPV4 : BASE_FAMILY_IPV6,
						found->key);
	count.protocol = rest[0];
	count.port = (uint16_t)(rest[4] << 8 | rest[5]);
	counters->count(counters->userdata, &count);
}

int nft_counters_run(struct nft_counters *counters, nft_count_fn *count, void *userdata)
{
	const struct nft_set *set;
	int r = 0;

	if (counters->at == BASE_COUNT_OF(sources))
		return 0;
	set = &nft_sets[sources[counters->at].set];
	counters->count = count;
	counters->userdata = userdata;
	if (!counters->running)
		r = nft_wire_dump_start(counters->wire, set->table, set->name);
	counters->running = r == 0;
	if (r == 0)
		r = nft_wire_dump_more(counters->wire, on_found, counters);
	if (r == 1)
		return 1;
	counters->running = false;
	if (r < 0 && r != -EAGAIN) { /* -EAGAIN: rules changed meanwhile, which is no matter here */
		counters->at = BASE_COUNT_OF(sources);
		return r;
	}
	return ++counters->at < BASE_COUNT_OF(sources);
}
