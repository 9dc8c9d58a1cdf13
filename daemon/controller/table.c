#include "daemon/controller/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define SIZE_FIRST 64

static uint64_t hash_of(const char *key)
{
	uint64_t hash = base_hash(key, strlen(key));

	return hash ^ (hash >> 32);
}

struct table_entry *table_find(const struct table *table, const char *key)
{
	uint64_t hash = hash_of(key);
	struct table_entry *entry = table->size ? table->buckets[hash & (table->size - 1)] : NULL;

	while (entry && (entry->hash != hash || strcmp(entry->key, key) != 0))
		entry = entry->next;
	return entry;
}

static int grow(struct table *table)
{
	size_t size = table->size ? table->size * 2 : SIZE_FIRST;
	struct table_entry **buckets = calloc(size, sizeof(*buckets));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < table->size; i++)
		while (table->buckets[i]) {
			struct table_entry *entry = table->buckets[i];

			table->buckets[i] = entry->next;
			entry->next = buckets[entry->hash & (size - 1)];
			buckets[entry->hash & (size - 1)] = entry;
		}
	free(table->buckets);
	table->buckets = buckets;
	table->size = size;
	return 0;
}

int table_add(struct table *table, struct table_entry *entry, const char *key)
{
	struct table_entry **bucket;

	/* Too full is only slow; without any bucket there is no place. */
	if (table->count >= table->size && grow(table) < 0 && table->size == 0)
		return -ENOMEM;
	entry->key = key;
	entry->hash = hash_of(key);
	bucket = &table->buckets[entry->hash & (table->size - 1)];
	entry->next = *bucket;
	*bucket = entry;
	table->count++;
	return 0;
}

void table_remove(struct table *table, struct table_entry *entry)
{
	struct table_entry **slot = &table->buckets[entry->hash & (table->size - 1)];

	while (*slot != entry)
		slot = &(*slot)->next;
	*slot = entry->next;
	table->count--;
}

struct table_entry *table_any(const struct table *table)
{
	for (size_t i = 0; table->count && i < table->size; i++)
		if (table->buckets[i])
			return table->buckets[i];
	return NULL;
}

void table_clear(struct table *table)
{
	free(table->buckets);
	*table = (struct table){ 0 };
}
