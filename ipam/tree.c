#include "ipam/tree.h"

#include "base/random.h"

void ipam_tree_init(struct ipam_tree *tree, ipam_tree_compare_fn *compare)
{
	*tree = (struct ipam_tree){ .compare = compare };
}

/* Puts `child` (may be NULL) where `node` is below its parent. */
static void replace(struct ipam_tree *tree, struct ipam_tree_node *node,
		    struct ipam_tree_node *child)
{
	struct ipam_tree_node *parent = node->parent;

	if (!parent)
		tree->root = child;
	else if (parent->left == node)
		parent->left = child;
	else
		parent->right = child;
	if (child)
		child->parent = parent;
}

/* Lifts `node` above its parent; the order stays. */
static void rotate_up(struct ipam_tree *tree, struct ipam_tree_node *node)
{
	struct ipam_tree_node *parent = node->parent, *moved;

	replace(tree, parent, node);
	if (parent->left == node) {
		moved = node->right;
		parent->left = moved;
		node->right = parent;
	} else {
		moved = node->left;
		parent->right = moved;
		node->left = parent;
	}
	if (moved)
		moved->parent = parent;
	parent->parent = node;
}

void ipam_tree_insert(struct ipam_tree *tree, const void *key, struct ipam_tree_node *node)
{
	struct base_random random = { tree->state };
	struct ipam_tree_node **slot = &tree->root, *parent = NULL;

	while (*slot) {
		parent = *slot;
		slot = tree->compare(key, parent) < 0 ? &parent->left : &parent->right;
	}
	*node = (struct ipam_tree_node){ .parent = parent,
					 .priority = (uint32_t)base_random_next(&random) };
	tree->state = random.state;
	tree->count++;
	*slot = node;
	while (node->parent && node->parent->priority < node->priority)
		rotate_up(tree, node);
}

void ipam_tree_remove(struct ipam_tree *tree, struct ipam_tree_node *node)
{
	while (node->left && node->right)
		rotate_up(tree, node->left->priority > node->right->priority ? node->left
									      : node->right);
	replace(tree, node, node->left ? node->left : node->right);
	*node = (struct ipam_tree_node){ 0 };
	tree->count--;
}

struct ipam_tree_node *ipam_tree_floor(const struct ipam_tree *tree, const void *key)
{
	struct ipam_tree_node *node = tree->root, *best = NULL;

	while (node) {
		int order = tree->compare(key, node);

		if (order == 0)
			return node;
		if (order > 0)
			best = node;
		node = order < 0 ? node->left : node->right;
	}
	return best;
}

struct ipam_tree_node *ipam_tree_ceiling(const struct ipam_tree *tree, const void *key)
{
	struct ipam_tree_node *node = tree->root, *best = NULL;

	while (node) {
		int order = tree->compare(key, node);

		if (order == 0)
			return node;
		if (order < 0)
			best = node;
		node = order < 0 ? node->left : node->right;
	}
	return best;
}

struct ipam_tree_node *ipam_tree_find(const struct ipam_tree *tree, const void *key)
{
	struct ipam_tree_node *node = ipam_tree_floor(tree, key);

	return node && tree->compare(key, node) == 0 ? node : NULL;
}

struct ipam_tree_node *ipam_tree_first(const struct ipam_tree *tree)
{
	struct ipam_tree_node *node = tree->root;

	while (node && node->left)
		node = node->left;
	return node;
}

struct ipam_tree_node *ipam_tree_next(const struct ipam_tree_node *node)
{
	if (node->right) {
		struct ipam_tree_node *next = node->right;

		while (next->left)
			next = next->left;
		return next;
	}
	while (node->parent && node->parent->right == node)
		node = node->parent;
	return node->parent;
}
