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

static void test_ranges_are_read_and_written_as_people_write_them(void **state)
{
	static const struct {
		const char *text, *written; /* NULL: refused */
	} rows[] = {
		{ "192.0.2.0/26", "192.0.2.0/26" },
		{ "192.0.2.77/26", "192.0.2.64/26" },
		{ "192.0.2.5/32", "192.0.2.5/32" },
		{ "192.0.2.5", "192.0.2.5" },
		{ "192.0.2.5-192.0.2.9", "192.0.2.5-192.0.2.9" },
		{ "2001:DB8::100/120", "2001:db8::100/120" },
		{ "2001:db8::/64", "2001:db8::/64" },
		{ "::/0", "::/0" },
		{ "2001:db8::1-2001:db8::ff", "2001:db8::1-2001:db8::ff" },
		{ "192.0.2.9-192.0.2.5", NULL },
		{ "192.0.2.9-2001:db8::1", NULL },
		{ "192.0.2.9 - 192.0.2.10", NULL },
		{ "192.0.2.9-", NULL },
		{ "-192.0.2.9", NULL },
		{ "192.0.2.0/33", NULL },
		{ "192.0.2.0-192.0.2.0/26", NULL },
		{ "2001:0db8:0000:0000:0000:0000:0000:0001aaaaaaaaaaaaaaaa-2001:db8::", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct ipam_range range;
		char text[IPAM_RANGE_TEXT_SIZE];

		assert_int_equal(ipam_range_parse(rows[i].text, &range), rows[i].written != NULL);
		if (rows[i].written)
			assert_string_equal(ipam_range_format(&range, text), rows[i].written);
	}
}

static int check(struct ipam *ipam, const struct ipam_pool *pool, struct base_error *error)
{
	(void)ipam;
	return ipam_pool_check(pool, error);
}

static void test_a_wrong_pool_is_told_what_to_write(void **state)
{
	static const struct {
		struct pool_text pool;
		const char *sentence;
	} rows[] = {
		{ { .name = "lab" },
		  "AddressPool lab: no address is left to give: spec.addresses is empty" },
		{ { .name = "lab", .addresses = "192.0.2.0/30", .exclude = "192.0.2.1-192.0.2.2",
		    .avoid_first_last = true },
		  "AddressPool lab: no address is left to give: spec.addresses is all taken out by "
		  "exclude and avoidFirstLast" },
		{ { .name = "lab", .addresses = "192.0.2.1 126.0.0.0-128.0.0.0" },
		  "AddressPool lab: spec.addresses[1]: 126.0.0.0-128.0.0.0 reaches into 127.0.0.0/8, "
		  "which is loopback: nobody can be given that" },
		{ { .name = "lab", .addresses = "0.0.0.0/0" },
		  "AddressPool lab: spec.addresses[0]: 0.0.0.0/0 reaches into 0.0.0.0/8, which is "
		  "\"this network\": nobody can be given that" },
		{ { .name = "lab", .addresses = "fe80::/64" },
		  "AddressPool lab: spec.addresses[0]: fe80::/64 reaches into fe80::/10, which is "
		  "link-local: nobody can be given that" },
		{ { .name = "lab", .addresses = "192.0.2.0/29", .reserved = "192.0.2.9",
		    .reserved_for = "a/b" },
		  "AddressPool lab: spec.reservations[0]: 192.0.2.9 cannot be given: pool lab does "
		  "not contain it" },
		{ { .name = "lab", .addresses = "192.0.2.0/29", .reserved = "192.0.2.3",
		    .exclude = "192.0.2.2/31", .reserved_for = "a/b" },
		  "AddressPool lab: spec.reservations[0]: 192.0.2.3 cannot be given: pool lab "
		  "excludes it (exclude: 192.0.2.2/31)" },
		{ { .name = "lab", .addresses = "192.0.2.0/29", .reserved = "192.0.2.3",
		    .reserved_for = "a/" },
		  "AddressPool lab: spec.reservations[0] (192.0.2.3) needs service.namespace and "
		  "service.name" },
		{ { .name = "lab", .addresses = "192.0.2.0/29", .namespace = "" },
		  "AddressPool lab: spec.namespaces[0] is no name of a namespace" },
		{ { .name = "lab", .addresses = "192.0.2.0/29", .ids = "0-0" },
		  "AddressPool lab: spec.vrrp allows no virtual router ID: excludeVirtualRouterIDs "
		  "takes all that virtualRouterIDs names" },
		{ { .name = "", .addresses = "192.0.2.0/29" },
		  "AddressPool \"\": the name has 1 to 63 characters" },
		{ { .name = "lab", .addresses = "192.0.2.0/29" }, NULL },
	};
	struct ipam *ipam = *state;

	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_error error = { 0 };
		int r = with_pool(&rows[i].pool, check, ipam, &error);

		assert_string_equal(error.message, rows[i].sentence ? rows[i].sentence : "");
		assert_int_equal(r, rows[i].sentence ? -EINVAL : 0);
		assert_int_equal(with_pool(&rows[i].pool, ipam_pool_put, ipam, &error), r);
	}
}

static void test_a_bad_edit_leaves_the_pool_as_it_was(void **state)
{
	struct ipam *ipam = *state;
	struct base_error error;

	put_simple_pool(ipam, "lab", "192.0.2.1");
	assert_int_equal(with_pool(&(struct pool_text){ .name = "lab", .addresses = "127.0.0.1" },
				   ipam_pool_put, ipam, &error),
			 -EINVAL);
	put_service(ipam, "vms/a", NULL, NULL);
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
}

static void test_capacity_counts_what_may_be_given(void **state)
{
	static const struct {
		const char *addresses, *exclude;
		bool avoid;
		uint64_t ipv4, ipv6;
	} rows[] = {
		{ "192.0.2.0/26", NULL, false, 64, 0 },
		{ "192.0.2.0/26", NULL, true, 62, 0 },
		{ "192.0.2.0/31 192.0.2.4/32", NULL, true, 2, 0 },	 /* .0 goes, no broadcast */
		{ "192.0.2.0/26 192.0.2.63", NULL, true, 63, 0 },	 /* written beside the CIDR */
		{ "192.0.2.250-192.0.3.5", NULL, true, 10, 0 },	 /* .255 and .0 go */
		{ "192.0.2.0/26 192.0.2.32/27 192.0.2.60-192.0.2.70", NULL, false, 71, 0 },
		{ "192.0.2.0/26", "192.0.2.13 192.0.2.32/29", true, 53, 0 },
		{ "192.0.2.0/26", "192.0.2.0/27 192.0.2.16-192.0.2.40", false, 23, 0 },
		{ "192.0.2.64/26", "192.0.2.0/24", false, 0, 0 },
		{ "10.0.0.0/8", NULL, true, (UINT64_C(1) << 24) - 2 * 65536, 0 },
		{ "2001:db8::100/120", NULL, true, 0, 256 },
		{ "2001:db8::/120", NULL, true, 0, 255 }, /* without Subnet-Router anycast */
		{ "2001:db8::/64", NULL, true, 0, IPAM_COUNT_MAX },
		{ "2001:db8::/76", NULL, false, 0, UINT64_C(1) << 52 },
		{ "2001:db8::/64", "2001:db8::/65 2001:db8::8000:0:0:0/66", false, 0, IPAM_COUNT_MAX },
		{ "2000::/3", "2001::/16", true, 0, IPAM_COUNT_MAX },
		{ "2001:db8::/64 192.0.2.1", "::/0", true, 1, 0 },
		{ "192.0.2.0/24 2001:db8::1", "0.0.0.0/0", true, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct ipam *ipam = ipam_new();
		struct ipam_pool_status status;
		struct base_error error;
		int r = with_pool(&(struct pool_text){ .name = "lab",
						       .addresses = rows[i].addresses,
						       .exclude = rows[i].exclude,
						       .avoid_first_last = rows[i].avoid },
				  ipam_pool_put, ipam, &error);

		assert_int_equal(r, rows[i].ipv4 + rows[i].ipv6 ? 0 : -EINVAL);
		ipam_pool_status(ipam, "lab", NOW, &status);
		assert_int_equal(status.ipv4.capacity, rows[i].ipv4);
		assert_int_equal(status.ipv6.capacity, rows[i].ipv6);
		assert_int_equal(status.ipv4.available, rows[i].ipv4);
		assert_int_equal(status.ipv6.available, rows[i].ipv6);
		ipam_free(ipam);
	}
}

static void test_the_status_tells_where_addresses_are(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_range node;
	struct ipam_pool_status status;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/28 2001:db8::/64",
					    .reserved = "192.0.2.9", .reserved_for = "dns/r" });
	put_simple_pool(ipam, "over", "192.0.2.12-192.0.2.20");
	put_simple_pool(ipam, "over6", "2001:db8::ff");
	put_simple_pool(ipam, "else", "198.51.100.0/24");
	put_service(ipam, "vms/a", NULL, NULL);
	put_service(ipam, "vms/b", NULL, NULL);
	assert_string_equal(given(ipam, "vms/a"), "198.51.100.0");
	assert_int_equal(releases(ipam, "vms/a", "198.51.100.0", NOW), 0);
	put_record(ipam, "192.0.2.1", "lab", "vms/a", "", 0);
	put_record(ipam, "192.0.2.99", "lab", "vms/x", "", 0);	/* never was in it */
	put_record(ipam, "192.0.2.13", "over", "vms/y", "", 0); /* lab's too */
	put_record(ipam, "192.0.2.2", "lab", "vms/b", "", 0);
	assert_int_equal(releases(ipam, "vms/b", "192.0.2.2", NOW), 0);
	node = ipam_range_single(&(struct base_address){ 4, { 192, 0, 2, 3 } });
	assert_int_equal(ipam_taken_put(ipam, "Node n1", BASE_REASON_ADDRESS_IN_USE, NULL, 1, &node),
			 0);

	assert_true(ipam_pool_status(ipam, "lab", NOW, &status));
	assert_int_equal(status.ipv4.capacity, 16);
	assert_int_equal(status.ipv4.assigned, 2);
	assert_int_equal(status.ipv4.orphans, 1);
	assert_int_equal(status.ipv4.reserved, 1);
	assert_int_equal(status.ipv4.quarantined, 1);
	assert_int_equal(status.ipv4.blocked, 2);
	assert_int_equal(status.ipv4.available, 11);
	assert_int_equal(status.ipv6.assigned, 0);
	assert_int_equal(status.ipv6.available, IPAM_COUNT_MAX);
	assert_int_equal(status.overlap_count, 2);
	assert_string_equal(status.overlaps[0], "over");
	assert_string_equal(status.overlaps[1], "over6");

	/* What is in quarantine is free when that is over. */
	ipam_pool_status(ipam, "lab", NOW + 60 * SECOND, &status);
	assert_int_equal(status.ipv4.quarantined, 0);
	assert_int_equal(status.ipv4.available, 12);

	/* The pool goes, its holders stay. */
	ipam_pool_remove(ipam, "lab");
	assert_false(ipam_pool_status(ipam, "lab", NOW, &status));
	assert_int_equal(status.ipv4.capacity, 0);
	assert_int_equal(status.ipv4.assigned, 2);
	assert_int_equal(status.ipv4.orphans, 2);
	ipam_pool_remove(ipam, "lab");
	ipam_pool_remove(ipam, "nothing");
	assert_false(ipam_pool_status(ipam, "nothing", NOW, &status));
}

static const char *checked(struct ipam *ipam, const char *address)
{
	static struct base_error error;
	struct base_address parsed = address_of(address);
	int r;

	memset(&error, 0, sizeof error);
	r = ipam_record_check(ipam, &parsed, &error);
	assert_int_equal(r, error.code);
	return error.message;
}

static void test_odd_records_are_kept_and_told(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_range node = ipam_range_single(&(struct base_address){ 4, { 192, 0, 2, 4 } });
	struct ipam_range foreign = ipam_range_single(&(struct base_address){ 4, { 192, 0, 2, 6 } });

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/28",
					    .exclude = "192.0.2.8/30", .avoid_first_last = true,
					    .reserved = "192.0.2.3", .reserved_for = "dns/r" });
	put_record(ipam, "192.0.2.1", "lab", "vms/a", "lab.ipv4.1", 1);
	put_record(ipam, "192.0.2.2", "lab", "vms/a", "", 0); /* the second of one Service */
	put_record(ipam, "192.0.2.3", "lab", "vms/b", "", 0);
	put_record(ipam, "192.0.2.4", "lab", "vms/c", "", 0);
	put_record(ipam, "192.0.2.6", "lab", "vms/d", "", 0);
	put_record(ipam, "192.0.2.9", "lab", "vms/e", "", 0);
	put_record(ipam, "192.0.2.15", "lab", "vms/f", "", 0);
	put_record(ipam, "192.0.2.99", "lab", "vms/g", "", 0);
	put_record(ipam, "192.0.2.98", "gone", "vms/h vms/i", "gone.ipv4.1", 1);
	assert_int_equal(ipam_taken_put(ipam, "Node n1", BASE_REASON_ADDRESS_IN_USE, NULL, 1, &node),
			 0);
	assert_int_equal(ipam_taken_put(ipam, "host 02:00:00:00:00:99", BASE_REASON_FOREIGN_ADDRESS,
					NULL, 1, &foreign),
			 0);
	assert_string_equal(checked(ipam, "192.0.2.2"), "");
	assert_string_equal(checked(ipam, "192.0.2.1"),
			    "virtual router ID 1 of lab.ipv4.1 is also that of gone.ipv4.1 (pool "
			    "gone)");
	assert_string_equal(checked(ipam, "192.0.2.3"),
			    "192.0.2.3 is kept by its holder, but pool lab reserves it for Service "
			    "dns/r: change the reservation, or delete the holder");
	assert_string_equal(checked(ipam, "192.0.2.4"),
			    "192.0.2.4 is kept by its holder, but Node n1 has it too");
	assert_string_equal(checked(ipam, "192.0.2.6"),
			    "192.0.2.6 is kept by its holder, but host 02:00:00:00:00:99 has it too");
	assert_string_equal(checked(ipam, "192.0.2.9"),
			    "192.0.2.9 is kept by its holder, but pool lab excludes it (exclude: "
			    "192.0.2.8/30)");
	assert_string_equal(checked(ipam, "192.0.2.15"),
			    "192.0.2.15 is kept by its holder, but pool lab skips it (avoidFirstLast, "
			    "first or last in 192.0.2.0/28)");
	assert_string_equal(checked(ipam, "192.0.2.99"),
			    "192.0.2.99 is kept by its holder, but pool lab does not contain it");
	assert_string_equal(checked(ipam, "192.0.2.98"),
			    "192.0.2.98 is kept by its holder, but pool gone does not exist any more");
	assert_string_equal(checked(ipam, "192.0.2.5"), "192.0.2.5 is held by nobody");
	/* And each is what its Service has. */
	put_service(ipam, "vms/a", NULL, NULL);
	put_service(ipam, "vms/h", NULL, NULL);
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_string_equal(given(ipam, "vms/h"), "192.0.2.98");
}

static void test_bad_records_are_refused_with_their_name(void **state)
{
	const struct {
		struct ipam_record record;
		const char *sentence;
	} rows[] = {
		{ { .pool = "lab" }, "a VirtualIP without an address" },
		{ { .address = { 4, { 192, 0, 2, 1 } } },
		  "VirtualIP 192.0.2.1: spec.pool \"\" is no name of a pool" },
		{ { .address = { 4, { 192, 0, 2, 1 } }, .pool = "lab", .service_count = 1,
		    .services = &(struct ipam_name){ "vms", "" } },
		  "Service \"vms/\": a namespace and a name have 1 to 63 characters" },
		{ { .address = { 4, { 192, 0, 2, 1 } }, .pool = "lab",
		    .router = "0123456789012345678901234567890123456789012345678901234567890123456789"
			      "01234567890123456789.ipv4.1" },
		  "VirtualIP 192.0.2.1: spec.virtualRouter has more than 95 characters" },
	};
	struct ipam *ipam = *state;

	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_error error;

		assert_int_equal(ipam_record_put(ipam, &rows[i].record, &error), -EINVAL);
		assert_string_equal(error.message, rows[i].sentence);
	}
}

static void test_of_two_reservations_the_first_by_name_is_told(void **state)
{
	static const char *const orders[2][2] = { { "a", "b" }, { "b", "a" } };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct ipam *ipam = ipam_new();
		struct asked answer;

		for (size_t p = 0; p < 2; p++)
			put_pool(ipam, &(struct pool_text){ .name = orders[i][p],
							    .addresses = "192.0.2.0/24",
							    .reserved = "192.0.2.9",
							    .reserved_for = "dns/r" });
		put_service(ipam, "vms/a", NULL, NULL);
		asked(ipam, &(struct ask){ .service = "vms/a", .wanted = "192.0.2.9" }, &answer);
		assert_string_equal(answer.error.message,
				    "192.0.2.9 is reserved for Service dns/r by pool a: ask for "
				    "another address");
		ipam_pool_remove(ipam, "a");
		asked(ipam, &(struct ask){ .service = "vms/a", .wanted = "192.0.2.9" }, &answer);
		assert_string_equal(answer.error.message,
				    "192.0.2.9 is reserved for Service dns/r by pool b: ask for "
				    "another address");
		ipam_free(ipam);
	}
}

static bool collect(void *userdata, const struct ipam_record *record, const char *why)
{
	char *text = userdata, address[BASE_ADDRESS_TEXT_SIZE];
	size_t at = strlen(text);

	snprintf(text + at, 512 - at, "%s %s/%s %s; ",
		 base_address_format(&record->address, address), record->services[0].namespace,
		 record->services[0].name, why);
	return true;
}

static char affected[512];

static int preview(struct ipam *ipam, const struct ipam_pool *pool, struct base_error *error)
{
	affected[0] = '\0';
	return ipam_pool_preview(ipam, pool, collect, affected, error);
}

static void test_who_would_lose_the_pool_is_told_before(void **state)
{
	struct ipam *ipam = *state;
	struct base_error error;

	put_simple_pool(ipam, "lab", "192.0.2.0/28");
	put_record(ipam, "192.0.2.1", "lab", "vms/a", "", 0);
	put_record(ipam, "192.0.2.2", "lab", "vms/b", "", 0);
	put_record(ipam, "192.0.2.9", "lab", "vms/c", "", 0);
	put_record(ipam, "192.0.2.3", "other", "vms/d", "", 0);
	assert_int_equal(with_pool(&(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/29",
							.exclude = "192.0.2.1" },
				   preview, ipam, &error),
			 0);
	assert_string_equal(affected,
			    "192.0.2.1 vms/a pool lab excludes it (exclude: 192.0.2.1); "
			    "192.0.2.9 vms/c pool lab does not contain it; ");
	assert_int_equal(with_pool(&(struct pool_text){ .name = "lab" }, preview, ipam, &error), 0);
	assert_string_equal(affected, "192.0.2.1 vms/a pool lab would be gone; 192.0.2.2 vms/b pool "
				      "lab would be gone; 192.0.2.9 vms/c pool lab would be gone; ");
	assert_int_equal(with_pool(&(struct pool_text){ .name = "lab", .addresses = "224.0.0.1" },
				   preview, ipam, &error),
			 -EINVAL);
	/* Nothing of it was done. */
	assert_string_equal(checked(ipam, "192.0.2.9"), "");
}

static void test_ranges_that_others_have_are_cut_out_and_come_back(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_range ranges[FIXTURE_RANGES_MAX];
	size_t count = ranges_of("192.0.2.0-192.0.2.2 192.0.2.2-192.0.2.4 192.0.2.6 192.0.2.9/32 "
				 "192.0.2.14-192.0.2.40",
				 ranges);
	struct ipam_pool_status status;

	put_simple_pool(ipam, "lab", "192.0.2.0/28");
	put_service(ipam, "vms/a", NULL, NULL);
	put_record(ipam, "192.0.2.3", "lab", "vms/x", "", 0);
	assert_int_equal(ipam_taken_put(ipam, "cloud", BASE_REASON_ADDRESS_IN_USE, NULL, count,
					ranges),
			 0);
	ipam_pool_status(ipam, "lab", NOW, &status);
	assert_int_equal(status.ipv4.available, 7);
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.5");
	/* Released inside of a taken range it stays taken. */
	assert_int_equal(releases(ipam, "vms/x", "192.0.2.3", NOW), 0);
	ipam_advance(ipam, NOW + 61 * SECOND);
	ipam_pool_status(ipam, "lab", NOW, &status);
	assert_int_equal(status.ipv4.available, 6);
	assert_int_equal(ipam_taken_put(ipam, "cloud", BASE_REASON_ADDRESS_IN_USE, NULL, 1, ranges),
			 0);
	assert_true(ipam_advance(ipam, NOW));
	ipam_pool_status(ipam, "lab", NOW, &status);
	assert_int_equal(status.ipv4.available, 12);
	assert_int_equal(ipam_taken_put(ipam, "cloud", BASE_REASON_ADDRESS_IN_USE, NULL, 0, NULL),
			 0);
	ipam_pool_status(ipam, "lab", NOW, &status);
	assert_int_equal(status.ipv4.available, 15);
	ranges[0].last.family = BASE_FAMILY_IPV6;
	assert_int_equal(ipam_taken_put(ipam, "cloud", BASE_REASON_ADDRESS_IN_USE, NULL, 1, ranges),
			 -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_ranges_are_read_and_written_as_people_write_them),
		TEST(test_a_wrong_pool_is_told_what_to_write),
		TEST(test_a_bad_edit_leaves_the_pool_as_it_was),
		TEST(test_capacity_counts_what_may_be_given),
		TEST(test_the_status_tells_where_addresses_are),
		TEST(test_odd_records_are_kept_and_told),
		TEST(test_bad_records_are_refused_with_their_name),
		TEST(test_of_two_reservations_the_first_by_name_is_told),
		TEST(test_who_would_lose_the_pool_is_told_before),
		TEST(test_ranges_that_others_have_are_cut_out_and_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
