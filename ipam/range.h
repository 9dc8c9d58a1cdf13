#pragma once

#include "ipam/ipam.h"
#include "ipam/tree.h"

/*
 * Sets of addresses of one family as sorted ranges of numbers, and the part of them that is free.
 * A /64 is one range: nothing here walks over addresses.
 *
 * With `avoid` the addresses that avoidFirstLast leaves out count as if they did not exist: two
 * ranges with nothing but such ones between them are neighbours.
 */
typedef unsigned __int128 ipam_number;

ipam_number ipam_number_of(const struct base_address *address);
struct base_address ipam_number_address(enum base_family family, ipam_number number);

struct ipam_span {
	ipam_number first, last;
};

/* Sorted, disjoint; both ends of each are addresses that may be given. */
struct ipam_set {
	enum base_family family;
	bool avoid;
	size_t count;
	struct ipam_span *spans;
	ipam_number size; /* addresses */
};

/* `addresses` of this family without `exclude`. 0 or -ENOMEM; free() the spans. */
int ipam_set_build(struct ipam_set *set, enum base_family family, bool avoid,
		   size_t address_count, const struct ipam_range *addresses, size_t exclude_count,
		   const struct ipam_range *exclude);
bool ipam_set_contains(const struct ipam_set *set, ipam_number number);
bool ipam_set_overlaps(const struct ipam_set *a, const struct ipam_set *b);
/* Is it one of those that avoidFirstLast leaves out wherever they lie? */
bool ipam_number_avoided(enum base_family family, ipam_number number);

/* What of a set is free. Nodes come from a reserve, so that taking and giving back cannot fail. */
struct ipam_free_node {
	struct ipam_tree_node tree;
	struct ipam_span span;
	struct ipam_free_node *next; /* in the reserve */
};

struct ipam_reserve {
	struct ipam_free_node *first;
	size_t count;
};

struct ipam_free {
	struct ipam_tree tree;
	ipam_number size;
};

/* At least `count` nodes in the reserve. 0 or -ENOMEM. */
int ipam_reserve_grow(struct ipam_reserve *reserve, size_t count);
void ipam_reserve_clear(struct ipam_reserve *reserve);

void ipam_free_init(struct ipam_free *unused);
void ipam_free_clear(struct ipam_free *unused, struct ipam_reserve *reserve);
/* A whole span behind all that are in it; ends are trimmed; uses at most one node. */
void ipam_free_append(struct ipam_free *unused, const struct ipam_set *set, struct ipam_span span,
		      struct ipam_reserve *reserve);
/* No effect if it was not free (already); at most one node. */
void ipam_free_take(struct ipam_free *unused, const struct ipam_set *set, ipam_number number,
		    struct ipam_reserve *reserve);
/* `number` is in the set and not free; at most one node. */
void ipam_free_give(struct ipam_free *unused, const struct ipam_set *set, ipam_number number,
		    struct ipam_reserve *reserve);
bool ipam_free_lowest(const struct ipam_free *unused, ipam_number *number);
