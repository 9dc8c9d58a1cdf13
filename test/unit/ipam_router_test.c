#include <errno.h>
#include <stdlib.h>

#include "test/unit/ipam_fixture.h"

static int setup(void **state)
{
	*state = ipam_new();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	ipam_free(*state);
	return 0;
}

static struct base_error last_error;

/* The name of the virtual router, or the word of the refusal. */
static const char *routed_of(struct ipam *ipam, const char *address, uint64_t kin,
			     const struct ipam_ids *avoid)
{
	static struct ipam_router routers[4];
	static unsigned turn;
	struct ipam_router *router = &routers[turn++ % 4];
	struct base_address parsed = address_of(address);
	int r = ipam_router_choose(ipam, &parsed, kin, avoid, router, &last_error);

	if (r < 0)
		return r == -ENOENT ? "-ENOENT" : "error";
	return r ? base_reason_word((enum base_reason)r) : router->name;
}

static const char *routed_around(struct ipam *ipam, const char *address, const struct ipam_ids *avoid)
{
	return routed_of(ipam, address, 0, avoid);
}

static const char *routed(struct ipam *ipam, const char *address)
{
	return routed_around(ipam, address, NULL);
}

static void test_the_last_octet_is_the_first_choice(void **state)
{
	static const struct {
		const char *address, *router;
	} rows[] = {
		{ "192.0.2.10", "lab.ipv4.10" },
		{ "192.0.3.10", "lab.ipv4.11" }, /* taken: the next */
		{ "192.0.3.11", "lab.ipv4.12" },
		{ "192.0.2.255", "lab.ipv4.255" },
		{ "192.0.3.255", "lab.ipv4.1" }, /* 0 is no ID */
		{ "192.0.3.0", "lab.ipv4.2" },
		{ "2001:db8::10", "lab.ipv6.16" },
		{ "192.0.2.16", "lab.ipv4.16" }, /* families do not meet */
	};
	struct ipam *ipam = *state;

	put_simple_pool(ipam, "lab", "192.0.2.0/23 2001:db8::/64");
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++)
		put_record(ipam, rows[i].address, "lab", "vms/a", "", 0);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++)
		assert_string_equal(routed(ipam, rows[i].address), rows[i].router);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++)
		assert_string_equal(routed(ipam, rows[i].address), rows[i].router); /* kept */
}

static void test_ids_are_one_pools_alone_unless_segments_differ(void **state)
{
	struct ipam *ipam = *state;

	put_pool(ipam, &(struct pool_text){ .name = "a", .addresses = "192.0.2.0/24", .segment = "x" });
	put_pool(ipam, &(struct pool_text){ .name = "b", .addresses = "198.51.100.0/24",
					    .segment = "y" });
	put_pool(ipam, &(struct pool_text){ .name = "c", .addresses = "203.0.113.0/24" });
	put_record(ipam, "192.0.2.10", "a", "vms/a", "", 0);
	put_record(ipam, "198.51.100.10", "b", "vms/a", "", 0);
	put_record(ipam, "203.0.113.10", "c", "vms/a", "", 0);
	assert_string_equal(routed(ipam, "192.0.2.10"), "a.ipv4.10");
	assert_string_equal(routed(ipam, "198.51.100.10"), "b.ipv4.10");
	assert_string_equal(routed(ipam, "203.0.113.10"), "c.ipv4.11"); /* who knows where c is */
	/* It turns out that a and b are one segment: b is the one that is asked, b moves. */
	put_pool(ipam, &(struct pool_text){ .name = "b", .addresses = "198.51.100.0/24",
					    .segment = "x" });
	assert_string_equal(routed(ipam, "198.51.100.10"), "b.ipv4.12");
	assert_string_equal(routed(ipam, "192.0.2.10"), "a.ipv4.10");
}

static void test_strangers_and_edits_are_moved_away_from(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_ids avoid = { 0 };

	put_simple_pool(ipam, "lab", "192.0.2.0/24");
	put_record(ipam, "192.0.2.10", "lab", "vms/a", "", 0);
	put_record(ipam, "192.0.2.11", "lab", "vms/b", "", 0);
	assert_string_equal(routed(ipam, "192.0.2.10"), "lab.ipv4.10");
	assert_string_equal(routed(ipam, "192.0.2.11"), "lab.ipv4.11");
	ipam_ids_add(&avoid, 10, 12);
	assert_string_equal(routed_around(ipam, "192.0.2.10", &avoid), "lab.ipv4.13");
	assert_string_equal(routed(ipam, "192.0.2.10"), "lab.ipv4.13");
	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/24",
					    .ids = "50-51" });
	assert_string_equal(routed(ipam, "192.0.2.10"), "lab.ipv4.50");
	assert_string_equal(routed(ipam, "192.0.2.11"), "lab.ipv4.51");
}

/* Two clusters on one segment, each a stranger to the other: they part at the first step, however few IDs they have. */
static void test_clusters_that_meet_part(void **state)
{
	static const struct {
		const char *ids, *met, *parted[2];
		uint8_t leaps[2];
	} rows[] = {
		{ "1-255", "lab.ipv4.10", { "lab.ipv4.28", "lab.ipv4.211" }, { 17, 200 } },
		{ "100-119", "lab.ipv4.100", { "lab.ipv4.102", "lab.ipv4.114" }, { 77, 203 } },
		{ "100-102", "lab.ipv4.100", { "lab.ipv4.102", "lab.ipv4.101" }, { 1, 0 } },
	};

	(void)state;
	for (size_t row = 0; row < BASE_COUNT_OF(rows); row++) {
		for (size_t i = 0; i < 2; i++) {
			struct ipam *ipam = ipam_new();
			struct ipam_ids met = { 0 };
			unsigned id = (unsigned)atoi(strrchr(rows[row].met, '.') + 1);

			put_pool(ipam, &(struct pool_text){ .name = "lab",
							    .addresses = "192.0.2.0/24",
							    .ids = rows[row].ids,
							    .leap = rows[row].leaps[i] });
			put_record(ipam, "192.0.2.10", "lab", "vms/a", "", 0);
			assert_string_equal(routed(ipam, "192.0.2.10"), rows[row].met);
			ipam_ids_add(&met, id, id);
			assert_string_equal(routed_around(ipam, "192.0.2.10", &met),
					    rows[row].parted[i]);
			ipam_free(ipam);
		}
	}
}

static void test_addresses_are_packed_when_ids_run_out(void **state)
{
	struct ipam *ipam = *state;
	unsigned counts[3] = { 0 };
	struct ipam_router router;
	struct base_address address;
	char text[32];

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "10.0.0.0/16",
					    .ids = "20-22" });
	for (unsigned i = 0; i < 3 * IPAM_ROUTER_ADDRESSES_MAX; i++) {
		snprintf(text, sizeof text, "10.0.%u.%u", i / 200, i % 200 + 1);
		put_record(ipam, text, "lab", "vms/a", "", 0);
		address = address_of(text);
		assert_int_equal(ipam_router_choose(ipam, &address, 0, NULL, &router, NULL), 0);
		assert_in_range(router.id, 20, 22);
		assert_int_equal(router.address_count, ++counts[router.id - 20]);
		assert_int_equal(router.address_count, i / 3 + 1); /* evenly */
	}
	put_record(ipam, "10.0.99.1", "lab", "vms/a", "", 0);
	assert_string_equal(routed(ipam, "10.0.99.1"), "PoolExhausted");
	assert_string_equal(last_error.message,
			    "no IPv4 virtual router is left for pool lab: all that virtualRouterIDs "
			    "allows carry 90 addresses; allow more IDs");
	/* Where one is released there is room again. */
	assert_int_equal(releases(ipam, "vms/a", "10.0.0.1", NOW), 0);
	assert_int_not_equal(strcmp(routed(ipam, "10.0.99.1"), "PoolExhausted"), 0);
}

static const char *leader_of(struct ipam *ipam, const char *address)
{
	static char text[BASE_ADDRESS_TEXT_SIZE];
	struct base_address parsed = address_of(address), leader;

	return ipam_router_leader(ipam, &parsed, &leader) ? base_address_format(&leader, text) : "";
}

static void test_the_lowest_address_speaks_for_what_is_packed(void **state)
{
	struct ipam *ipam = *state;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/24", .ids = "7" });
	put_record(ipam, "192.0.2.20", "lab", "vms/a", "", 0);
	put_record(ipam, "192.0.2.10", "lab", "vms/b", "lab.ipv4.7", 7);
	put_record(ipam, "192.0.2.30", "lab", "vms/c", "lab.ipv4.7", 7);
	assert_string_equal(leader_of(ipam, "192.0.2.20"), "");
	assert_string_equal(leader_of(ipam, "192.0.2.99"), "");
	assert_string_equal(routed(ipam, "192.0.2.20"), "lab.ipv4.7");
	assert_string_equal(leader_of(ipam, "192.0.2.30"), "192.0.2.10");
	assert_string_equal(leader_of(ipam, "192.0.2.10"), "192.0.2.10");
	assert_int_equal(releases(ipam, "vms/b", "192.0.2.10", NOW), 0);
	assert_string_equal(leader_of(ipam, "192.0.2.30"), "192.0.2.20");
	/* What is released is carried no more, and its record says nothing of a virtual router. */
	assert_string_equal(leader_of(ipam, "192.0.2.10"), "");
}

static void test_no_id_left_says_who_has_them(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_ids avoid = { 0 };

	put_pool(ipam, &(struct pool_text){ .name = "a", .addresses = "192.0.2.0/24", .ids = "7" });
	put_pool(ipam, &(struct pool_text){ .name = "b", .addresses = "198.51.100.0/24",
					    .ids = "7" });
	put_record(ipam, "192.0.2.10", "a", "vms/a", "", 0);
	put_record(ipam, "198.51.100.10", "b", "vms/a", "", 0);
	assert_string_equal(routed(ipam, "192.0.2.10"), "a.ipv4.7");
	assert_string_equal(routed(ipam, "198.51.100.10"), "PoolExhausted");
	assert_string_equal(last_error.message,
			    "no IPv4 virtual router ID is left for pool b: other pools use what it "
			    "allows (a has 7); give each pool virtualRouterIDs of its own");
	ipam_ids_add(&avoid, 7, 7);
	assert_string_equal(routed_around(ipam, "192.0.2.10", &avoid), "PoolExhausted");
	assert_string_equal(last_error.message,
			    "no virtual router ID is left for pool a: strangers on the segment use all "
			    "that virtualRouterIDs allows; allow others");
	assert_string_equal(routed(ipam, "192.0.2.10"), "a.ipv4.7");
}

static void test_what_records_say_is_believed(void **state)
{
	struct ipam *ipam = *state;

	put_simple_pool(ipam, "lab", "192.0.2.0/24");
	put_simple_pool(ipam, "web", "198.51.100.0/24");
	put_record(ipam, "192.0.2.10", "lab", "vms/a", "lab.ipv4.99", 99);
	put_record(ipam, "192.0.2.11", "lab", "vms/b", "lab.ipv4.99", 99);
	put_record(ipam, "192.0.2.12", "lab", "vms/c", "web.ipv4.5", 5); /* of another pool */
	put_record(ipam, "198.51.100.9", "web", "vms/d", "web.ipv4.99", 99); /* doubled */
	put_record(ipam, "192.0.2.20", "lab", "vms/e", "odd", 20);
	assert_string_equal(routed(ipam, "192.0.2.11"), "lab.ipv4.11"); /* 99 is also web's */
	assert_string_equal(routed(ipam, "192.0.2.10"), "lab.ipv4.10");	 /* so is the last one's */
	assert_string_equal(routed(ipam, "198.51.100.9"), "web.ipv4.99");
	assert_string_equal(routed(ipam, "192.0.2.12"), "lab.ipv4.12");
	assert_string_equal(routed(ipam, "192.0.2.20"), "odd");
	assert_string_equal(routed(ipam, "192.0.2.77"), "-ENOENT");
	ipam_pool_remove(ipam, "web");
	assert_string_equal(routed(ipam, "198.51.100.9"), "-ENOENT");
	/* A gone pool's virtual router still is on the wire. */
	put_record(ipam, "192.0.2.99", "lab", "vms/f", "", 0);
	assert_string_equal(routed(ipam, "192.0.2.99"), "lab.ipv4.100");
}

static bool append(void *userdata, const struct ipam_record *record)
{
	char text[BASE_ADDRESS_TEXT_SIZE];

	strcat(strcat(userdata, base_address_format(&record->address, text)), " ");
	return true;
}

/* Packed are those that ask the same of nodes, as long as there is room for it. */
static void test_kin_is_packed_with_kin(void **state)
{
	static const struct {
		const char *address;
		uint64_t kin;
		const char *router;
	} rows[] = {
		{ "192.0.2.10", 1, "lab.ipv4.10" },
		{ "192.0.2.11", 2, "lab.ipv4.11" },
		{ "192.0.2.20", 2, "lab.ipv4.11" },
		{ "192.0.2.21", 2, "lab.ipv4.11" }, /* though the other carries fewer */
		{ "192.0.2.22", 1, "lab.ipv4.10" },
		{ "192.0.2.23", 3, "lab.ipv4.10" }, /* nobody is like it: the emptier one */
		{ "192.0.2.23", 3, "lab.ipv4.10" }, /* and there it stays */
		{ "192.0.2.22", 2, "lab.ipv4.11" }, /* it asks for something else now */
		{ "192.0.2.10", 1, "lab.ipv4.10" },
		{ "192.0.2.23", 1, "lab.ipv4.10" },
	};
	struct base_address address = address_of("192.0.2.23");
	struct ipam *ipam = *state;
	char list[256] = "";

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/24",
					    .ids = "10-11" });
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct ipam_record record;
		struct base_address at = address_of(rows[i].address);

		if (!ipam_record_get(ipam, &at, &record))
			put_record(ipam, rows[i].address, "lab", "vms/a", "", 0);
		assert_string_equal(routed_of(ipam, rows[i].address, rows[i].kin, NULL),
				    rows[i].router);
	}
	ipam_router_each(ipam, &address, append, list);
	assert_string_equal(list, "192.0.2.10 192.0.2.23 ");
}

/* After a restart records say who is with whom; nobody leaves before it is known who asks for what. */
static void test_a_restart_tears_no_kin_apart(void **state)
{
	static const char *const addresses[] = { "192.0.2.10", "192.0.2.20", "192.0.2.21" };
	struct ipam *ipam = *state;

	put_simple_pool(ipam, "lab", "192.0.2.0/24");
	for (size_t i = 0; i < BASE_COUNT_OF(addresses); i++)
		put_record(ipam, addresses[i], "lab", "vms/a", "lab.ipv4.10", 10);
	for (size_t i = 0; i < BASE_COUNT_OF(addresses); i++)
		assert_string_equal(routed_of(ipam, addresses[i], 7, NULL), "lab.ipv4.10");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_the_last_octet_is_the_first_choice),
		TEST(test_ids_are_one_pools_alone_unless_segments_differ),
		TEST(test_strangers_and_edits_are_moved_away_from),
		TEST(test_clusters_that_meet_part),
		TEST(test_addresses_are_packed_when_ids_run_out),
		TEST(test_the_lowest_address_speaks_for_what_is_packed),
		TEST(test_no_id_left_says_who_has_them),
		TEST(test_kin_is_packed_with_kin),
		TEST(test_a_restart_tears_no_kin_apart),
		TEST(test_what_records_say_is_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
