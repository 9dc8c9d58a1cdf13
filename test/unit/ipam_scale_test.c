#include <errno.h>
#include <stdlib.h>

#include "test/unit/ipam_fixture.h"

/*
 * A hundred thousand addresses, ten thousand Services, a /64: nothing is measured here (that is
 * test/bench), but whatever walks over all of them for each of them would not end.
 */
#define ADDRESSES 100000
#define SERVICES  10000

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

static bool count_record(void *userdata, const struct ipam_record *record)
{
	static struct base_address last;
	size_t *count = userdata;

	assert_true(*count == 0 || base_address_compare(&last, &record->address) < 0);
	last = record->address;
	++*count;
	return true;
}

static void test_a_hundred_thousand_addresses(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_pool_status status;
	struct ipam_record record;
	struct ipam_name name = { "vms", "" };
	struct ipam_router router;
	struct base_address address = address_of("10.0.0.0");
	char text[32];
	size_t count = 0;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "10.0.0.0/15",
					    .ids = "1-16" });
	for (unsigned p = 0; p < 40; p++) { /* neighbours cost little */
		char pool[8], range[32];

		snprintf(pool, sizeof pool, "p%u", p);
		snprintf(range, sizeof range, "172.16.%u.0/24", p);
		put_simple_pool(ipam, pool, range);
	}
	/* What stands in the API server at start, the highest first. */
	for (unsigned i = ADDRESSES; i-- > SERVICES;) {
		snprintf(text, sizeof text, "s%u", i);
		name.name = text;
		record = (struct ipam_record){ .address = base_address_ipv4(10, (uint8_t)(i >> 16),
									   (uint8_t)(i >> 8),
									   (uint8_t)i),
					       .pool = "lab", .service_count = 1,
					       .services = &name };
		assert_int_equal(ipam_record_put(ipam, &record, NULL), 0);
	}
	for (unsigned i = 0; i < SERVICES; i++) {
		struct asked answer;

		snprintf(text, sizeof text, "vms/new%u", i);
		put_service(ipam, text, NULL, "tcp/22");
		asked(ipam, &(struct ask){ .service = text }, &answer);
		assert_int_equal(answer.code, 0);
		assert_true(base_address_equal(&answer.answer.address, &address));
		assert_true(base_address_next(&address, &address));
	}
	ipam_record_each(ipam, count_record, &count);
	assert_int_equal(count, ADDRESSES);
	/* 90 addresses in each of 16 virtual routers, and not one more. */
	for (unsigned i = 0; i < 16 * IPAM_ROUTER_ADDRESSES_MAX; i++) {
		struct base_address at = base_address_ipv4(10, 0, (uint8_t)(i >> 8), (uint8_t)i);

		assert_int_equal(ipam_router_choose(ipam, &at, 0, NULL, &router, NULL), 0);
		assert_int_equal(router.address_count, i / 16 + 1);
	}
	assert_int_equal(ipam_router_choose(ipam, &(struct base_address){ 4, { 10, 1, 0, 0 } }, 0, NULL,
					    &router, NULL),
			 BASE_REASON_POOL_EXHAUSTED);
	/* Every second one goes, and waits; the status counts without a walk over the rest. */
	for (unsigned i = 0; i < SERVICES; i += 2) {
		char at[BASE_ADDRESS_TEXT_SIZE];

		address = base_address_ipv4(10, 0, (uint8_t)(i >> 8), (uint8_t)i);
		snprintf(text, sizeof text, "vms/new%u", i);
		assert_int_equal(releases(ipam, text, base_address_format(&address, at), NOW), 0);
	}
	ipam_pool_status(ipam, "lab", NOW, &status);
	assert_int_equal(status.ipv4.assigned, ADDRESSES - SERVICES / 2);
	assert_int_equal(status.ipv4.quarantined, SERVICES / 2);
	assert_int_equal(status.ipv4.available, 131072 - ADDRESSES);
	assert_true(ipam_advance(ipam, NOW + 60 * SECOND));
	ipam_pool_status(ipam, "lab", NOW + 60 * SECOND, &status);
	assert_int_equal(status.ipv4.available, 131072 - ADDRESSES + SERVICES / 2);
}

static void test_a_64_is_not_enumerated(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_pool_status status;
	struct base_address address = address_of("2001:db8::1");
	struct ipam_range wide[FIXTURE_RANGES_MAX];
	size_t count = ranges_of("2001:db8::2710-2001:db8::ffff:ffff:ffff:0", wide);
	struct asked answer;
	char text[32];

	put_pool(ipam, &(struct pool_text){ .name = "six", .addresses = "2001:db8::/64",
					    .exclude = "2001:db8::8000:0:0:0/65",
					    .avoid_first_last = true });
	for (unsigned i = 1; i < SERVICES; i++) {
		snprintf(text, sizeof text, "vms/s%u", i);
		put_service(ipam, text, NULL, "tcp/22");
		asked(ipam, &(struct ask){ .service = text, .family = 6 }, &answer);
		assert_int_equal(answer.code, 0);
		assert_true(base_address_equal(&answer.answer.address, &address));
		assert_true(base_address_next(&address, &address));
	}
	/* What somebody else has of it is no list either. */
	assert_int_equal(ipam_taken_put(ipam, "cloud", BASE_REASON_ADDRESS_IN_USE, NULL, count, wide),
			 0);
	put_service(ipam, "vms/last", NULL, NULL);
	assert_string_equal(asked(ipam, &(struct ask){ .service = "vms/last", .family = 6 }, &answer),
			    "PoolExhausted");
	assert_int_equal(ipam_taken_put(ipam, "cloud", BASE_REASON_ADDRESS_IN_USE, NULL, 0, NULL), 0);
	assert_string_equal(asked(ipam, &(struct ask){ .service = "vms/last", .family = 6 }, &answer),
			    "2001:db8::2710");
	ipam_pool_status(ipam, "six", NOW, &status);
	assert_int_equal(status.ipv6.capacity, IPAM_COUNT_MAX);
	assert_int_equal(status.ipv6.available, IPAM_COUNT_MAX);
	assert_int_equal(status.ipv6.assigned, SERVICES);
}

/* A namespace whose Services all say the same key: the worst that sharing has to look through. */
static void test_ten_thousand_services_with_one_key(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;
	char text[32], port[16];

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "10.0.0.0/15" });
	for (unsigned i = 0; i < SERVICES; i++) {
		snprintf(text, sizeof text, "vms/s%u", i);
		put_service(ipam, text, "k", "tcp/22");
		asked(ipam, &(struct ask){ .service = text }, &answer);
		assert_int_equal(answer.code, 0);
		assert_false(answer.answer.shared);
	}
	for (unsigned i = 0; i < IPAM_SERVICES_MAX + 2; i++) {
		snprintf(text, sizeof text, "vms/t%u", i);
		snprintf(port, sizeof port, "tcp/%u", 1000 + i);
		put_service(ipam, text, "k", port);
		asked(ipam, &(struct ask){ .service = text }, &answer);
		assert_true(answer.answer.shared);
		assert_string_equal(answer.text, i < IPAM_SERVICES_MAX - 1 ? "10.0.0.0" : "10.0.0.1");
	}
	put_service(ipam, "vms/u", "k", "tcp/9");
	assert_string_equal(
		asked(ipam, &(struct ask){ .service = "vms/u", .wanted = "10.0.0.0" }, &answer),
		"SharingRefused");
	assert_string_equal(answer.error.message,
			    "10.0.0.0 is shared by 256 Services already: ask for another address");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_a_hundred_thousand_addresses),
		TEST(test_a_64_is_not_enumerated),
		TEST(test_ten_thousand_services_with_one_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
