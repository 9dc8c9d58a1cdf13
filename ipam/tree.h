#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * An ordered set of things that carry their own node: a treap, O(log n) expected for everything.
 * The shape comes from a generator of its own, so the same calls build the same tree; what a
 * caller sees does not depend on the shape. Nothing is allocated and nothing is freed here.
 */
struct ipam_tree_node {
	struct ipam_tree_node *parent, *left, *right;
	uint32_t priority;
};

/* <0, 0, >0: `key` comes before, is, comes behind the thing of `node`. */
typedef int ipam_tree_compare_fn(const void *key, const struct ipam_tree_node *node);

struct ipam_tree {
	struct ipam_tree_node *root;
	ipam_tree_compare_fn *compare;
	size_t count;
	uint64_t state; /* of the generator */
};

#define IPAM_TREE_ITEM(node, type, member)                                                         \
	((type *)(void *)((char *)(node)-offsetof(type, member)))

void ipam_tree_init(struct ipam_tree *tree, ipam_tree_compare_fn *compare);
/* The key must not be in the tree yet. */
void ipam_tree_insert(struct ipam_tree *tree, const void *key, struct ipam_tree_node *node);
void ipam_tree_remove(struct ipam_tree *tree, struct ipam_tree_node *node);

/* NULL: none. */
struct ipam_tree_node *ipam_tree_find(const struct ipam_tree *tree, const void *key);
struct ipam_tree_node *ipam_tree_floor(const struct ipam_tree *tree, const void *key);   /* last <= */
struct ipam_tree_node *ipam_tree_ceiling(const struct ipam_tree *tree, const void *key); /* first >= */
struct ipam_tree_node *ipam_tree_first(const struct ipam_tree *tree);
struct ipam_tree_node *ipam_tree_next(const struct ipam_tree_node *node);
