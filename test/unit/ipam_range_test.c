#include <stdlib.h>

#include "base/random.h"
#include "ipam/range.h"
#include "test/unit/ipam_fixture.h"

/* However an address set was torn apart: given back, it is one again, and cost no node. */
static void test_what_is_free_grows_together_again(void **state)
{
	static const struct {
		const char *addresses, *exclude;
		bool avoid;
		size_t size, parts; /* parts that no giving back may join */
	} rows[] = {
		{ "192.0.2.0/25", NULL, false, 128, 1 },
		{ "192.0.2.0-192.0.4.255", NULL, true, 3 * 254, 1 }, /* .255 and .0 part nothing */
		{ "192.0.2.0/25", "192.0.2.64", false, 127, 2 },
		{ "192.0.2.250-192.0.2.254 192.0.3.1-192.0.3.9", NULL, true, 14, 1 },
		{ "192.0.2.250-192.0.2.254 192.0.3.1-192.0.3.9", NULL, false, 14, 2 },
		{ "2001:db8:0:0:ffff:ffff:ffff:ff00-2001:db8:0:1::ff", NULL, true, 511, 1 },
	};
	struct base_random random = { 7 };

	(void)state;
	for (size_t row = 0; row < BASE_COUNT_OF(rows); row++) {
		struct ipam_range addresses[FIXTURE_RANGES_MAX], exclude[FIXTURE_RANGES_MAX];
		size_t address_count = ranges_of(rows[row].addresses, addresses);
		size_t exclude_count = ranges_of(rows[row].exclude, exclude);
		struct ipam_reserve reserve = { 0 };
		struct ipam_free unused;
		struct ipam_set set;
		ipam_number taken[1024], number;
		size_t count = 0;

		assert_int_equal(ipam_set_build(&set, addresses[0].first.family, rows[row].avoid,
						address_count, addresses, exclude_count, exclude),
				 0);
		assert_true(set.size == rows[row].size);
		assert_int_equal(ipam_reserve_grow(&reserve, 2048), 0);
		ipam_free_init(&unused);
		for (size_t i = 0; i < set.count; i++)
			ipam_free_append(&unused, &set, set.spans[i], &reserve);
		while (ipam_free_lowest(&unused, &number)) {
			assert_true(ipam_set_contains(&set, number));
			assert_true(count == 0 || number > taken[count - 1]); /* in order */
			ipam_free_take(&unused, &set, number, &reserve);
			ipam_free_take(&unused, &set, number, &reserve); /* once more: nothing */
			taken[count++] = number;
		}
		assert_int_equal(count, rows[row].size);
		assert_true(unused.size == 0 && unused.tree.count == 0);
		for (unsigned round = 0; round < 3; round++) {
			for (size_t i = count; i-- > 1;) { /* shuffled */
				size_t j = base_random_below(&random, i + 1);

				number = taken[i];
				taken[i] = taken[j];
				taken[j] = number;
			}
			for (size_t i = 0; i < count; i++) {
				ipam_free_give(&unused, &set, taken[i], &reserve);
				ipam_free_give(&unused, &set, taken[i], &reserve);
			}
			assert_true(unused.size == set.size);
			assert_int_equal(unused.tree.count, rows[row].parts);
			for (size_t i = 0; i < count; i++)
				ipam_free_take(&unused, &set, taken[i], &reserve);
			assert_int_equal(unused.tree.count, 0);
		}
		assert_int_equal(reserve.count, 2048);
		ipam_reserve_clear(&reserve);
		free(set.spans);
	}
}

struct item {
	struct ipam_tree_node tree;
	unsigned key;
	bool in;
};

static int compare_item(const void *key, const struct ipam_tree_node *node)
{
	unsigned left = *(const unsigned *)key, right = IPAM_TREE_ITEM(node, struct item, tree)->key;

	return left < right ? -1 : left > right;
}

static unsigned depth_of(const struct ipam_tree_node *node)
{
	unsigned left, right;

	if (!node)
		return 0;
	left = depth_of(node->left);
	right = depth_of(node->right);
	return 1 + (left > right ? left : right);
}

static void test_an_ordered_set_finds_what_an_array_finds(void **state)
{
	static struct item items[512];
	struct base_random random = { 11 };
	struct ipam_tree tree;
	size_t count = 0;

	(void)state;
	ipam_tree_init(&tree, compare_item);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned key = (unsigned)base_random_below(&random, BASE_COUNT_OF(items));
		struct item *item = &items[key];
		struct ipam_tree_node *floor, *ceiling;
		int below = (int)key, above = (int)key;

		item->key = key;
		if (item->in)
			ipam_tree_remove(&tree, &item->tree);
		else
			ipam_tree_insert(&tree, &key, &item->tree);
		item->in = !item->in;
		count += item->in ? 1 : -1;
		assert_int_equal(tree.count, count);
		key = (unsigned)base_random_below(&random, BASE_COUNT_OF(items));
		for (below = (int)key; below >= 0 && !items[below].in; below--)
			;
		for (above = (int)key; above < (int)BASE_COUNT_OF(items) && !items[above].in; above++)
			;
		floor = ipam_tree_floor(&tree, &key);
		ceiling = ipam_tree_ceiling(&tree, &key);
		assert_ptr_equal(floor, below >= 0 ? &items[below].tree : NULL);
		assert_ptr_equal(ceiling, above < (int)BASE_COUNT_OF(items) ? &items[above].tree
									      : NULL);
		assert_ptr_equal(ipam_tree_find(&tree, &key), items[key].in ? floor : NULL);
	}
	count = 0;
	for (struct ipam_tree_node *node = ipam_tree_first(&tree); node; node = ipam_tree_next(node))
		count++;
	assert_int_equal(count, tree.count);
}

/* Keys come sorted in real life: the tree must not become a list. */
static void test_sorted_keys_make_no_list(void **state)
{
	static struct item items[100000];
	struct ipam_tree tree;

	(void)state;
	ipam_tree_init(&tree, compare_item);
	for (unsigned i = 0; i < BASE_COUNT_OF(items); i++) {
		items[i].key = i;
		ipam_tree_insert(&tree, &i, &items[i].tree);
	}
	assert_in_range(depth_of(tree.root), 17, 60);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_free_grows_together_again),
		cmocka_unit_test(test_an_ordered_set_finds_what_an_array_finds),
		cmocka_unit_test(test_sorted_keys_make_no_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
