#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nft/desired.h"

/*
 * The ledger's records, found by set and key. Several may have the same key: what different sources claim, and
 * what the kernel has. Only ledger.c looks into this.
 */
struct nft_record {
	struct nft_record *next;   /* in the bucket */
	struct nft_record *sister; /* of the same source */
	struct source *source;	   /* NULL: nobody claims it any more */
	uint8_t set, key_size, data_size;
	bool exclusive;
	bool present; /* in the kernel */
	bool dirty;   /* its key is to be looked at */
	bool queued;  /* in ledger->dirty */
	uint8_t refused; /* by the kernel: errno; 0: it was not */
	bool torn;	 /* claimed by nobody, but by a contradiction */
	uint8_t bytes[]; /* key, data */
};

struct nft_shelf {
	struct nft_record **buckets;
	size_t bucket_count, count;
};

/* 0 or -ENOMEM. */
int nft_shelf_init(struct nft_shelf *shelf);
void nft_shelf_clear(struct nft_shelf *shelf);

/* Where to begin looking for the key, along `next`; others stand between. */
struct nft_record *nft_shelf_bucket(const struct nft_shelf *shelf, uint8_t set, const uint8_t *key,
				    size_t size);
/* A new record, of no source. NULL: no memory. */
struct nft_record *nft_shelf_add(struct nft_shelf *shelf, const struct nft_element *element);
void nft_shelf_remove(struct nft_shelf *shelf, struct nft_record *record);

bool nft_record_same_key(const struct nft_record *a, const struct nft_record *b);
bool nft_record_is(const struct nft_record *record, const struct nft_element *element);
int nft_record_compare_data(const struct nft_record *a, const struct nft_record *b);
