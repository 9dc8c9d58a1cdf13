#include "nft/io/shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "nft/io/ledger.h"

#define FIRST_BUCKETS 1024 /* a power of 2 */

int nft_shelf_init(struct nft_shelf *shelf)
{
	*shelf = (struct nft_shelf){ .bucket_count = FIRST_BUCKETS };
	shelf->buckets = calloc(FIRST_BUCKETS, sizeof(struct nft_record *));
	return shelf->buckets ? 0 : -ENOMEM;
}

void nft_shelf_clear(struct nft_shelf *shelf)
{
	for (size_t i = 0; shelf->buckets && i < shelf->bucket_count; i++)
		while (shelf->buckets[i]) {
			struct nft_record *next = shelf->buckets[i]->next;

			free(shelf->buckets[i]);
			shelf->buckets[i] = next;
		}
	free(shelf->buckets);
	*shelf = (struct nft_shelf){ 0 };
}

static size_t slot_of(const struct nft_shelf *shelf, uint8_t set, const uint8_t *key, size_t size)
{
	uint64_t hash = base_hash(key, size) ^ set * UINT64_C(0x9e3779b97f4a7c15);

	return (hash ^ hash >> 32) & (shelf->bucket_count - 1);
}

static struct nft_record **bucket_of(const struct nft_shelf *shelf, const struct nft_record *record)
{
	return &shelf->buckets[slot_of(shelf, record->set, record->bytes, record->key_size)];
}

struct nft_record *nft_shelf_bucket(const struct nft_shelf *shelf, uint8_t set, const uint8_t *key,
				    size_t size)
{
	return shelf->buckets[slot_of(shelf, set, key, size)];
}

static void put_into(struct nft_record **bucket, struct nft_record *record)
{
	record->next = *bucket;
	*bucket = record;
}

/* More buckets when records are many; with too few of them it is only slower. */
static void spread(struct nft_shelf *shelf)
{
	size_t before = shelf->bucket_count;
	struct nft_record **old = shelf->buckets, **grown;

	if (shelf->count < before)
		return;
	grown = calloc(before * 2, sizeof *grown);
	if (!grown)
		return;
	shelf->buckets = grown;
	shelf->bucket_count = before * 2;
	for (size_t i = 0; i < before; i++)
		while (old[i]) {
			struct nft_record *record = old[i];

			old[i] = record->next;
			put_into(bucket_of(shelf, record), record);
		}
	free(old);
}

struct nft_record *nft_shelf_add(struct nft_shelf *shelf, const struct nft_element *element)
{
	struct nft_record *record =
		malloc(sizeof *record + element->key_size + element->data_size);

	if (!record)
		return NULL;
	*record = (struct nft_record){ .set = element->set,
				       .key_size = element->key_size,
				       .data_size = element->data_size };
	memcpy(record->bytes, element->key, element->key_size);
	memcpy(record->bytes + element->key_size, element->data, element->data_size);
	spread(shelf);
	put_into(bucket_of(shelf, record), record);
	shelf->count++;
	return record;
}

void nft_shelf_remove(struct nft_shelf *shelf, struct nft_record *record)
{
	struct nft_record **slot = bucket_of(shelf, record);

	while (*slot != record)
		slot = &(*slot)->next;
	*slot = record->next;
	shelf->count--;
	free(record);
}

static bool has_key(const struct nft_record *record, uint8_t set, const uint8_t *key, size_t size)
{
	return record->set == set && record->key_size == size &&
	       memcmp(record->bytes, key, size) == 0;
}

bool nft_record_same_key(const struct nft_record *a, const struct nft_record *b)
{
	return has_key(a, b->set, b->bytes, b->key_size);
}

static const uint8_t *data_of(const struct nft_record *record)
{
	return record->bytes + record->key_size;
}

int nft_record_compare_data(const struct nft_record *a, const struct nft_record *b)
{
	if (a->data_size != b->data_size)
		return (int)a->data_size - (int)b->data_size;
	return memcmp(data_of(a), data_of(b), a->data_size);
}

bool nft_record_is(const struct nft_record *record, const struct nft_element *element)
{
	return has_key(record, element->set, element->key, element->key_size) &&
	       record->data_size == element->data_size &&
	       memcmp(data_of(record), element->data, element->data_size) == 0;
}

void nft_record_element(const struct nft_record *record, struct nft_element *element)
{
	*element = (struct nft_element){ .set = record->set,
					 .exclusive = record->exclusive,
					 .key_size = record->key_size,
					 .data_size = record->data_size };
	memcpy(element->key, record->bytes, record->key_size);
	memcpy(element->data, data_of(record), record->data_size);
}
