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

static void test_the_lowest_free_address_is_given_and_kept(void **state)
{
	struct ipam *ipam = *state;
	struct asked asked_for;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/29",
					    .avoid_first_last = true });
	put_service(ipam, "vms/a", NULL, "tcp/22");
	put_service(ipam, "vms/b", NULL, "tcp/22");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_string_equal(given(ipam, "vms/b"), "192.0.2.2");
	asked(ipam, &(struct ask){ .service = "vms/a" }, &asked_for);
	assert_string_equal(asked_for.text, "192.0.2.1");
	assert_true(asked_for.answer.kept);
	assert_string_equal(asked_for.answer.pool, "lab");
}

static void test_families_are_asked_for_one_by_one(void **state)
{
	struct ipam *ipam = *state;
	struct asked asked_for;

	put_simple_pool(ipam, "lab", "192.0.2.8/29 2001:db8::/64");
	put_service(ipam, "vms/a", NULL, "tcp/22");
	assert_string_equal(asked(ipam, &(struct ask){ .service = "vms/a" }, &asked_for),
			    "192.0.2.8");
	assert_string_equal(
		asked(ipam, &(struct ask){ .service = "vms/a", .family = 6 }, &asked_for),
		"2001:db8::");
	assert_int_equal(releases(ipam, "vms/a", "2001:db8::", NOW), 0);
	assert_string_equal(asked(ipam, &(struct ask){ .service = "vms/a" }, &asked_for),
			    "192.0.2.8");
	assert_true(asked_for.answer.kept);
}

static void test_a_released_address_waits_for_its_last_holder(void **state)
{
	struct ipam *ipam = *state;
	struct asked asked_for;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.2");
	put_service(ipam, "vms/a", NULL, "tcp/22");
	put_service(ipam, "vms/b", NULL, "tcp/22");
	put_service(ipam, "vms/c", NULL, "tcp/22");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_int_equal(releases(ipam, "vms/a", "192.0.2.1", NOW), 0);
	assert_string_equal(given(ipam, "vms/b"), "192.0.2.2");
	assert_string_equal(given(ipam, "vms/c"), "PoolExhausted");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_int_equal(releases(ipam, "vms/a", "192.0.2.1", NOW), 0);
	assert_int_equal(ipam_deadline(ipam), NOW + 60 * SECOND);
	ipam_advance(ipam, NOW);
	assert_false(ipam_advance(ipam, NOW + 60 * SECOND - 1));
	assert_true(ipam_advance(ipam, NOW + 60 * SECOND));
	assert_string_equal(asked(ipam,
				  &(struct ask){ .service = "vms/c", .now_us = NOW + 60 * SECOND },
				  &asked_for),
			    "192.0.2.1");
}

static void test_sharing_needs_key_ports_and_namespace(void **state)
{
	struct ipam *ipam = *state;
	struct asked asked_for;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	put_service(ipam, "vms/tcp", "dns", "tcp/53");
	put_service(ipam, "vms/udp", "dns", "udp/53");
	put_service(ipam, "vms/tcp2", "dns", "tcp/53");
	put_service(ipam, "other/udp", "dns", "udp/5353");
	assert_string_equal(given(ipam, "vms/tcp"), "192.0.2.1");
	asked(ipam, &(struct ask){ .service = "vms/udp" }, &asked_for);
	assert_string_equal(asked_for.text, "192.0.2.1");
	assert_true(asked_for.answer.shared);
	assert_string_equal(given(ipam, "vms/tcp2"), "192.0.2.2");
	assert_string_equal(given(ipam, "other/udp"), "192.0.2.3");
	assert_int_equal(releases(ipam, "vms/tcp", "192.0.2.1", NOW), 1);
	assert_int_equal(releases(ipam, "vms/udp", "192.0.2.1", NOW), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_lowest_free_address_is_given_and_kept,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_families_are_asked_for_one_by_one, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_released_address_waits_for_its_last_holder,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_sharing_needs_key_ports_and_namespace, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
