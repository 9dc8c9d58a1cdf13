#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/array.h"
#include "base/hash.h"
#include "ipam/placement.h"

#define NODES 5

static const char *const names[] = { "n1", "n2", "n3", "n4", "n5", "n6" };

/* n1..n5 on one LAN, alive, with nothing on them. */
struct world {
	struct ipam_segment segment;
	struct ipam_node nodes[64];
	char names[64][8];
	struct ipam_placement placement;
	struct ipam_candidates candidates;
	enum base_reason verdicts[64];
	struct base_error error;
	const char *current[IPAM_CANDIDATES_MAX];
};

static void prepare(struct world *world, size_t count)
{
	memset(world, 0, sizeof *world);
	world->segment.interface = "eth1";
	base_prefix_parse("192.0.2.0/24", &world->segment.prefix);
	for (size_t i = 0; i < count; i++) {
		snprintf(world->names[i], sizeof world->names[i], "n%zu", i + 1);
		world->nodes[i] = (struct ipam_node){ .name = world->names[i],
						      .segment_count = 1,
						      .segments = &world->segment,
						      .selected = true,
						      .ready = true };
	}
	world->placement.nodes = world->nodes;
	world->placement.node_count = count;
	world->placement.current = world->current;
	base_address_parse("192.0.2.10", &world->placement.address);
}

/* "n3 n1 n2", or the word of the refusal. */
static const char *place(struct world *world)
{
	static char text[512];
	size_t at = 0;
	int r = ipam_place(&world->placement, &world->candidates, world->verdicts, &world->error);

	if (r)
		return base_reason_word((enum base_reason)r);
	for (size_t i = 0; i < world->candidates.count; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? " " : "",
				       world->nodes[world->candidates.items[i].node].name);
	return text;
}

/* What was answered stands in the VirtualIP from now on. */
static void adopt(struct world *world)
{
	world->placement.current_count = world->candidates.count;
	for (size_t i = 0; i < world->candidates.count; i++)
		world->current[i] = world->nodes[world->candidates.items[i].node].name;
}

static void test_a_node_that_may_not_own_is_told_why(void **state)
{
	static const struct {
		const char *what;
		enum base_reason verdict;
		const char *sentence;
	} rows[] = { { "selected", BASE_REASON_NODE_NOT_SELECTED,
		       "n1 may not own 192.0.2.10: The pool's nodes.selector or the Service's "
		       "vipd.dev/nodes leaves the node out." },
		     { "excluded", BASE_REASON_NODE_EXCLUDED,
		       "n1 may not own 192.0.2.10: The node may own nothing: its Speaker or its label "
		       "excludes it." },
		     { "label", BASE_REASON_NODE_EXCLUDED,
		       "n1 may not own 192.0.2.10: The node may own nothing: its Speaker or its label "
		       "excludes it." },
		     { "maintenance", BASE_REASON_MAINTENANCE,
		       "n1 may not own 192.0.2.10: The node is in maintenance and owns nothing." },
		     { "flapping", BASE_REASON_FLAP_HELD_DOWN,
		       "n1 may not own 192.0.2.10: The node gained and lost addresses too often and is "
		       "held back for a while." },
		     { "segment", BASE_REASON_NOT_ON_SEGMENT,
		       "n1 has no interface on the segment of 192.0.2.10: it has eth0 "
		       "198.51.100.0/24, eth1 192.0.2.10/32" },
		     { "nothing", BASE_REASON_NOT_ON_SEGMENT,
		       "n1 has no interface on the segment of 192.0.2.10: it has none that its "
		       "speaker reports" },
		     { "dead", BASE_REASON_SPEAKER_NOT_READY,
		       "n1 may not own 192.0.2.10: The speaker of the node is not alive, so the node "
		       "becomes no new candidate." } };
	struct ipam_segment elsewhere[2] = { { .interface = "eth0" }, { .interface = "eth1" } };

	(void)state;
	base_prefix_parse("198.51.100.0/24", &elsewhere[0].prefix);
	base_prefix_parse("192.0.2.10/32", &elsewhere[1].prefix);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct world world;
		struct ipam_node *node = &world.nodes[0];
		struct base_error why;

		prepare(&world, 3);
		node->selected = strcmp(rows[i].what, "selected") != 0;
		node->excluded = strcmp(rows[i].what, "excluded") == 0;
		node->exclude_label = strcmp(rows[i].what, "label") == 0;
		node->maintenance = strcmp(rows[i].what, "maintenance") == 0;
		node->ready = strcmp(rows[i].what, "dead") != 0;
		if (strcmp(rows[i].what, "flapping") == 0)
			node->held_back = BASE_REASON_FLAP_HELD_DOWN;
		if (strcmp(rows[i].what, "segment") == 0) {
			node->segments = elsewhere;
			node->segment_count = 2;
		}
		if (strcmp(rows[i].what, "nothing") == 0)
			node->segment_count = 0;
		place(&world);
		assert_int_equal(world.candidates.count, 2);
		assert_int_equal(world.verdicts[0], rows[i].verdict);
		assert_int_equal(world.verdicts[1], BASE_REASON_NONE);
		ipam_place_explain(&world.placement, 0, world.verdicts[0], &why);
		assert_string_equal(why.message, rows[i].sentence);
		assert_int_equal(why.code, rows[i].verdict);
	}
}

static void test_nobody_left_names_everybody(void **state)
{
	struct world world;

	(void)state;
	prepare(&world, 3);
	world.nodes[0].maintenance = true;
	world.nodes[1].segment_count = 0;
	world.nodes[2].ready = false;
	assert_string_equal(place(&world), "NoEligibleNode");
	assert_string_equal(world.error.message,
			    "no node may own 192.0.2.10: n1 Maintenance, n2 NotOnSegment, n3 "
			    "SpeakerNotReady");
	prepare(&world, 0);
	assert_string_equal(place(&world), "NoEligibleNode");
	assert_string_equal(world.error.message,
			    "no node may own 192.0.2.10: no speaker runs (kubectl get speakers)");
	prepare(&world, 64);
	for (size_t i = 0; i < 64; i++)
		world.nodes[i].excluded = true;
	assert_string_equal(place(&world), "NoEligibleNode");
	assert_string_equal(world.error.message,
			    "no node may own 192.0.2.10: n1 NodeExcluded, n2 NodeExcluded, n3 "
			    "NodeExcluded, n4 NodeExcluded, n5 NodeExcluded, n6 NodeExcluded, n7 "
			    "NodeExcluded, n8 NodeExcluded, n9 NodeExcluded, n10 NodeExcluded, ...");
}

static void test_interfaces_are_matched_by_pattern(void **state)
{
	static const struct {
		const char *pattern;
		bool matches;
	} rows[] = { { "eth1", true }, { "eth*", true }, { "e?h1", true }, { "eth", false },
		     { "vlan*", false } };
	struct world world;

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		prepare(&world, 1);
		world.placement.interface_count = 1;
		world.placement.interfaces = &rows[i].pattern;
		assert_string_equal(place(&world), rows[i].matches ? "n1" : "NoEligibleNode");
	}
}

static void test_the_exclude_label_is_ignored_where_nobody_would_be_left(void **state)
{
	struct world world;

	(void)state;
	prepare(&world, 3);
	for (size_t i = 0; i < 3; i++)
		world.nodes[i].exclude_label = true;
	place(&world);
	assert_int_equal(world.candidates.count, 3);
	assert_true(world.candidates.exclude_label_ignored);
	world.nodes[2].exclude_label = false;
	assert_string_equal(place(&world), "n3");
	assert_false(world.candidates.exclude_label_ignored);
	/* The last one without the label goes into maintenance: the label counts for nothing then. */
	world.nodes[2].maintenance = true;
	place(&world);
	assert_int_equal(world.candidates.count, 2);
	assert_true(world.candidates.exclude_label_ignored);
}

static void test_priorities_fall_with_the_place(void **state)
{
	struct world world;

	(void)state;
	prepare(&world, 64);
	place(&world);
	assert_int_equal(world.candidates.count, IPAM_CANDIDATES_MAX);
	for (size_t i = 0; i < IPAM_CANDIDATES_MAX; i++)
		assert_int_equal(world.candidates.items[i].priority, 254 - 7 * i);
	for (size_t i = 0, behind = 0; i < 64; i++) {
		behind += world.verdicts[i] == BASE_REASON_UNSUPPORTED_FEATURE;
		if (i == 63)
			assert_int_equal(behind, 64 - IPAM_CANDIDATES_MAX);
	}
}

static void test_weights_come_first_and_sticky_is_stronger(void **state)
{
	struct world world;

	(void)state;
	prepare(&world, NODES);
	world.nodes[3].weight = 50;
	world.nodes[1].weight = 20;
	place(&world);
	assert_int_equal(world.candidates.items[0].node, 3);
	assert_int_equal(world.candidates.items[1].node, 1);
	adopt(&world);
	world.nodes[0].weight = 100;
	place(&world);
	assert_int_equal(world.candidates.items[0].node, 3); /* stays */
	assert_int_equal(world.candidates.items[1].node, 0);
	world.placement.preferred = true;
	place(&world);
	assert_int_equal(world.candidates.items[0].node, 0);
}

static void test_local_addresses_follow_their_endpoints(void **state)
{
	struct world world;

	(void)state;
	prepare(&world, NODES);
	world.placement.local_only = true;
	world.nodes[2].endpoint = true;
	place(&world);
	assert_int_equal(world.candidates.items[0].node, 2);
	assert_int_equal(world.candidates.count, NODES);
	adopt(&world);
	/* The virtual machine moves; in between nobody has an endpoint, and nothing moves. */
	world.nodes[2].endpoint = false;
	place(&world);
	assert_int_equal(world.candidates.items[0].node, 2);
	assert_false(world.candidates.changed);
	world.nodes[4].endpoint = true;
	place(&world);
	assert_int_equal(world.candidates.items[0].node, 4);
	/* Without the policy endpoints mean nothing. */
	world.placement.local_only = false;
	place(&world);
	assert_int_equal(world.candidates.items[0].node, 2);
}

static void test_an_owner_stays_candidate_until_it_has_handed_over(void **state)
{
	struct world world;

	(void)state;
	prepare(&world, 3);
	place(&world);
	adopt(&world);
	world.placement.owner = world.current[0];
	world.nodes[world.candidates.items[0].node].maintenance = true;
	place(&world);
	assert_int_equal(world.candidates.count, 3);
	assert_string_equal(world.nodes[world.candidates.items[2].node].name, world.placement.owner);
	assert_string_equal(world.nodes[world.candidates.items[0].node].name, world.current[1]);
	world.placement.owner = world.current[1];
	place(&world);
	assert_int_equal(world.candidates.count, 2);
	/* It alone, in maintenance: it stays, with nobody to hand over to. */
	prepare(&world, 1);
	world.placement.owner = "n1";
	world.nodes[0].maintenance = true;
	assert_string_equal(place(&world), "n1");
	assert_int_equal(world.verdicts[0], BASE_REASON_MAINTENANCE);
	/* Off the segment it cannot own anything. */
	world.nodes[0].segment_count = 0;
	assert_string_equal(place(&world), "NoEligibleNode");
}

static void test_a_dead_speaker_changes_no_candidates(void **state)
{
	struct world world;

	(void)state;
	prepare(&world, NODES);
	place(&world);
	adopt(&world);
	for (size_t i = 0; i < NODES; i++)
		world.nodes[i].ready = false;
	place(&world);
	assert_false(world.candidates.changed);
	/* A new address does without it until it is back; then it is added, and nobody moves. */
	prepare(&world, NODES);
	world.nodes[0].ready = false;
	place(&world);
	assert_int_equal(world.candidates.count, NODES - 1);
	adopt(&world);
	world.nodes[0].ready = true;
	place(&world);
	assert_int_equal(world.candidates.count, NODES);
	assert_string_equal(world.nodes[world.candidates.items[0].node].name, world.current[0]);
}

/* --- many addresses: spread, and what moves when nodes come and go --- */

#define ADDRESSES 1000

struct placed {
	char names[IPAM_CANDIDATES_MAX][8];
	size_t count;
};

static struct placed placed[ADDRESSES];

/* Places or places again every address on n1..n<nodes>, without `missing`; counts who is first. */
static void place_all(size_t nodes, const char *missing, unsigned firsts[static 64])
{
	struct world world;

	memset(firsts, 0, 64 * sizeof *firsts);
	for (size_t a = 0; a < ADDRESSES; a++) {
		size_t load[64];

		prepare(&world, nodes);
		for (size_t i = 0; i < nodes; i++)
			load[i] = firsts[i];
		world.placement.address =
			base_address_ipv4(192, 0, (uint8_t)(2 + a / 250), (uint8_t)(a % 250 + 1));
		world.placement.spread = base_hash(&world.placement.address,
						   sizeof world.placement.address);
		base_prefix_parse("192.0.0.0/16", &world.segment.prefix);
		for (size_t i = 0; i < nodes; i++) {
			world.nodes[i].load = (uint32_t)load[i];
			if (missing && strcmp(missing, world.nodes[i].name) == 0)
				world.nodes[i].segment_count = 0;
		}
		for (size_t i = 0; i < placed[a].count; i++)
			world.current[i] = placed[a].names[i];
		world.placement.current_count = placed[a].count;
		place(&world);
		firsts[world.candidates.items[0].node]++;
		placed[a].count = world.candidates.count;
		for (size_t i = 0; i < world.candidates.count; i++)
			memcpy(placed[a].names[i],
			       world.names[world.candidates.items[i].node],
			       sizeof placed[a].names[i]);
	}
}

static void test_a_thousand_addresses_spread_within_five_percent(void **state)
{
	unsigned firsts[64];

	(void)state;
	memset(placed, 0, sizeof placed);
	place_all(NODES, NULL, firsts);
	for (size_t i = 0; i < NODES; i++)
		assert_in_range(firsts[i], ADDRESSES / NODES * 95 / 100,
				ADDRESSES / NODES * 105 / 100);
}

static void test_a_lost_node_is_inherited_by_all_and_moves_nobody_else(void **state)
{
	static struct placed before[ADDRESSES];
	unsigned firsts[64], heirs[64] = { 0 };

	(void)state;
	memset(placed, 0, sizeof placed);
	place_all(NODES, NULL, firsts);
	memcpy(before, placed, sizeof before);
	/* Who inherits is known before: the second candidate of each. */
	for (size_t a = 0; a < ADDRESSES; a++)
		if (strcmp(before[a].names[0], "n3") == 0)
			heirs[atoi(before[a].names[1] + 1) - 1]++;
	for (size_t i = 0; i < NODES; i++)
		if (i != 2)
			assert_in_range(heirs[i], 30, 70); /* of 200, by four: 50 each */
	place_all(NODES, "n3", firsts);
	for (size_t a = 0; a < ADDRESSES; a++) {
		bool was = strcmp(before[a].names[0], "n3") == 0;

		assert_string_equal(placed[a].names[0], before[a].names[was]);
		/* The order of the others is what it was. */
		for (size_t i = 0, j = 0; i < before[a].count; i++)
			if (strcmp(before[a].names[i], "n3") != 0)
				assert_string_equal(placed[a].names[j++], before[a].names[i]);
	}
	/* It comes back, and a sixth node joins: no first place changes. */
	memcpy(before, placed, sizeof before);
	place_all(NODES + 1, NULL, firsts);
	for (size_t a = 0; a < ADDRESSES; a++) {
		assert_string_equal(placed[a].names[0], before[a].names[0]);
		assert_int_equal(placed[a].count, NODES + 1);
	}
	assert_int_equal(firsts[2], 0);
	assert_int_equal(firsts[5], 0);
}

static void test_the_order_of_nodes_does_not_matter(void **state)
{
	struct world world;
	char expected[512];

	(void)state;
	prepare(&world, NODES);
	snprintf(expected, sizeof expected, "%s", place(&world));
	for (size_t i = 0; i < NODES; i++)
		world.nodes[i].name = names[NODES - 1 - i];
	assert_string_equal(place(&world), expected);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_node_that_may_not_own_is_told_why),
		cmocka_unit_test(test_nobody_left_names_everybody),
		cmocka_unit_test(test_interfaces_are_matched_by_pattern),
		cmocka_unit_test(test_the_exclude_label_is_ignored_where_nobody_would_be_left),
		cmocka_unit_test(test_priorities_fall_with_the_place),
		cmocka_unit_test(test_weights_come_first_and_sticky_is_stronger),
		cmocka_unit_test(test_local_addresses_follow_their_endpoints),
		cmocka_unit_test(test_an_owner_stays_candidate_until_it_has_handed_over),
		cmocka_unit_test(test_a_dead_speaker_changes_no_candidates),
		cmocka_unit_test(test_a_thousand_addresses_spread_within_five_percent),
		cmocka_unit_test(test_a_lost_node_is_inherited_by_all_and_moves_nobody_else),
		cmocka_unit_test(test_the_order_of_nodes_does_not_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
