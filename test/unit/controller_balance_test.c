#include <string.h>

#include "base/array.h"
#include "base/random.h"
#include "daemon/controller/balance.h"
#include "test/unit/unit.h"

#define NODES	  5
#define ADDRESSES 1000

static const size_t everybody[NODES] = { 0, 1, 2, 3, 4 };

/* Moves what gains most until nothing is worth it; answers how often. `owner` of each address. */
static unsigned settle(struct balance_node nodes[static NODES], size_t owner[static ADDRESSES])
{
	unsigned moves = 0;

	while (balance_needed(nodes, NODES)) {
		size_t best = 0, to = 0;
		struct balance_item item;

		for (size_t a = 0; a < ADDRESSES; a++)
			if (nodes[owner[a]].owned > nodes[owner[best]].owned)
				best = a;
		item = (struct balance_item){ owner[best], 1, NODES, everybody };
		if (balance_gain(nodes, NODES, &item, &to) == 0)
			break;
		balance_move(nodes, &item, to);
		owner[best] = to;
		moves++;
	}
	return moves;
}

static void count_owned(struct balance_node nodes[static NODES],
			const size_t owner[static ADDRESSES])
{
	for (size_t i = 0; i < NODES; i++)
		nodes[i] = (struct balance_node){ .may_get = true };
	for (size_t a = 0; a < ADDRESSES; a++)
		nodes[owner[a]].owned++;
}

static void test_a_node_that_is_back_gets_its_share_and_no_move_is_wasted(void **state)
{
	struct balance_node nodes[NODES];
	size_t owner[ADDRESSES];
	unsigned moves;

	(void)state;
	for (size_t a = 0; a < ADDRESSES; a++)
		owner[a] = a % (NODES - 1); /* 250 each, and the last has none */
	count_owned(nodes, owner);
	moves = settle(nodes, owner);
	for (size_t i = 0; i < NODES; i++)
		assert_in_range(nodes[i].owned, 180, 220);
	assert_int_equal(moves, nodes[NODES - 1].owned);
	assert_int_equal(settle(nodes, owner), 0);
}

/* Wherever they are at first: it ends, within what is tolerated, and only takes from those above. */
static void test_random_clusters_settle(void **state)
{
	struct base_random random = { .state = 1 };

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		struct balance_node nodes[NODES];
		size_t owner[ADDRESSES], skew = 1 + base_random_below(&random, NODES);
		uint32_t before[NODES];
		unsigned given = 0, moves;

		for (size_t a = 0; a < ADDRESSES; a++)
			owner[a] = base_random_below(&random, skew);
		count_owned(nodes, owner);
		for (size_t i = 0; i < NODES; i++) {
			before[i] = nodes[i].owned;
			nodes[i].may_get = base_random_below(&random, 4) > 0;
		}
		moves = settle(nodes, owner);
		assert_false(balance_needed(nodes, NODES));
		for (size_t i = 0; i < NODES; i++) {
			assert_true(nodes[i].may_get || nodes[i].owned <= before[i]);
			given += before[i] > nodes[i].owned ? before[i] - nodes[i].owned : 0;
		}
		assert_int_equal(moves, given); /* nobody gives what he got */
	}
}

static void test_small_differences_are_left(void **state)
{
	static const struct {
		const char *what;
		uint32_t owned[3];
		uint32_t weight;
		uint32_t gain;
	} rows[] = {
		{ "four more than the other", { 8, 4, 5 }, 1, 0 },
		{ "five more", { 9, 4, 5 }, 1, 5 },
		{ "a tenth of two hundred is tolerated", { 210, 190, 200 }, 1, 0 },
		{ "more than that is not", { 212, 190, 200 }, 1, 22 },
		{ "a pack that would tip it over", { 10, 4, 8 }, 4, 0 },
		{ "a pack that fits", { 12, 4, 8 }, 4, 8 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct balance_node nodes[3];
		struct balance_item item = { 0, rows[i].weight, 3, everybody };
		size_t to = 99;
		uint32_t gain;

		for (size_t j = 0; j < 3; j++)
			nodes[j] = (struct balance_node){ rows[i].owned[j], true };
		gain = balance_gain(nodes, 3, &item, &to);
		if (gain != rows[i].gain || (gain && to != 1))
			fail_msg("%s: gain %u to %zu", rows[i].what, gain, to);
	}
}

static void test_nobody_gets_more_who_may_not(void **state)
{
	struct balance_node nodes[3] = { { 90, true }, { 0, false }, { 30, true } };
	static const size_t only[] = { 0, 1 };
	struct balance_item item = { 0, 1, 3, everybody };
	size_t to = 99;

	(void)state;
	assert_int_equal(balance_gain(nodes, 3, &item, &to), 60);
	assert_int_equal(to, 2);
	item = (struct balance_item){ 0, 1, 2, only }; /* its candidates */
	assert_int_equal(balance_gain(nodes, 3, &item, &to), 0);
}

static void test_a_node_that_flaps_waits_for_longer_each_time(void **state)
{
	struct calm calm = { 0 };
	uint64_t now_us = BASE_USEC_PER_SEC, hold_us = BALANCE_CALM_FIRST_US;

	(void)state;
	assert_false(calm_lasts(&calm, now_us));
	for (unsigned i = 0; i < 12; i++) {
		calm_note(&calm, true, now_us);
		calm_note(&calm, true, now_us + 1); /* said again: nothing new */
		assert_false(calm_lasts(&calm, now_us + hold_us - 1));
		assert_true(calm_lasts(&calm, now_us + hold_us));
		now_us += hold_us < BALANCE_FORGIVEN_US ? hold_us : hold_us - 1;
		calm_note(&calm, false, now_us);
		assert_false(calm_lasts(&calm, now_us + 99 * hold_us));
		hold_us = hold_us * 2 < BALANCE_CALM_MAX_US ? hold_us * 2 : BALANCE_CALM_MAX_US;
	}
	/* A long stay, and it is trusted as at first. */
	calm_note(&calm, true, now_us);
	now_us += BALANCE_FORGIVEN_US;
	calm_note(&calm, false, now_us);
	calm_note(&calm, true, now_us);
	assert_true(calm_lasts(&calm, now_us + BALANCE_CALM_FIRST_US));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_node_that_is_back_gets_its_share_and_no_move_is_wasted),
		cmocka_unit_test(test_random_clusters_settle),
		cmocka_unit_test(test_small_differences_are_left),
		cmocka_unit_test(test_nobody_gets_more_who_may_not),
		cmocka_unit_test(test_a_node_that_flaps_waits_for_longer_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
