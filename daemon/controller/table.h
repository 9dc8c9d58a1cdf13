#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * A hash table of things that hold their own entry, by text. The key is borrowed from the thing and
 * must not change while it is in. Grows; never shrinks.
 */
struct table_entry {
	struct table_entry *next;
	uint64_t hash;
	const char *key;
};

struct table {
	struct table_entry **buckets;
	size_t size, count; /* size: a power of two, or 0 */
};

struct table_entry *table_find(const struct table *table, const char *key);
/* -ENOMEM; the key must not be in yet. */
int table_add(struct table *table, struct table_entry *entry, const char *key);
void table_remove(struct table *table, struct table_entry *entry);
/* Frees the buckets; the things are the caller's. */
void table_clear(struct table *table);

/* Any entry, NULL if empty: for taking a table apart. */
struct table_entry *table_any(const struct table *table);

/* Every entry once, in no order; nothing may be added or removed meanwhile. */
#define TABLE_EACH(table, name)                                                                    \
	for (size_t bucket_ = 0; bucket_ < (table)->size; bucket_++)                               \
		for (struct table_entry *name = (table)->buckets[bucket_]; name; name = name->next)

#define TABLE_OF(pointer, type, member)                                                            \
	((pointer) ? (type *)(void *)((char *)(pointer)-offsetof(type, member)) : NULL)
