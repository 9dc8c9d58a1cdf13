/* Addresses, prefixes and MACs as text and as numbers. */
#include <string.h>

#include "base/address.h"
#include "test/unit/unit.h"

static void test_addresses_are_read_strictly_and_written_canonically(void **state)
{
	static const struct {
		const char *text, *canonical; /* NULL: refused */
	} rows[] = {
		{ "192.0.2.10", "192.0.2.10" },
		{ "2001:DB8:0::10", "2001:db8::10" },
		{ "192.0.2.010", NULL },
		{ "192.0.2", NULL },
		{ "::ffff:192.0.2.1", NULL },
		{ "fe80::1%eth0", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_address address;
		char text[BASE_ADDRESS_TEXT_SIZE];

		assert_int_equal(base_address_parse(rows[i].text, &address),
				 rows[i].canonical != NULL);
		if (rows[i].canonical)
			assert_string_equal(base_address_format(&address, text), rows[i].canonical);
	}
}

static struct base_address address_of(const char *text)
{
	struct base_address address;

	assert_true(base_address_parse(text, &address));
	return address;
}

static void test_prefixes_are_read_strictly(void **state)
{
	static const struct {
		const char *text, *canonical; /* NULL: refused */
	} rows[] = {
		{ "192.0.2.0/24", "192.0.2.0/24" },
		{ "192.0.2.1/0", "192.0.2.1/0" },
		{ "2001:db8::/128", "2001:db8::/128" },
		{ "192.0.2.0", NULL },
		{ "192.0.2.0/", NULL },
		{ "192.0.2.0/33", NULL },
		{ "2001:db8::/129", NULL },
		{ "192.0.2.0/024", NULL },
		{ "192.0.2.0/-1", NULL },
		{ "192.0.2.0/+8", NULL },
		{ "192.0.2.0/8 ", NULL },
		{ "192.0.2.0/0000", NULL },
		{ "192.0.2.0/256", NULL },
		{ "/24", NULL },
		{ "2001:0db8:0000:0000:0000:0000:0000:0000:0000:0000:0000/64", NULL },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_prefix prefix;
		char text[BASE_PREFIX_TEXT_SIZE];

		ASSERT_ROW(rows[i].text,
			   base_prefix_parse(rows[i].text, &prefix) == (rows[i].canonical != NULL));
		if (rows[i].canonical)
			assert_string_equal(base_prefix_format(&prefix, text), rows[i].canonical);
	}
}

static void test_macs_are_read_strictly(void **state)
{
	static const char *const refused[] = { "",
					       "02:00:00:00:00",
					       "02:00:00:00:00:1",
					       "02:00:00:00:00:01:",
					       "02-00-00-00-00-01",
					       "+2:00:00:00:00:01",
					       " 2:00:00:00:00:01",
					       "02:00:00:00:00:0g",
					       "2:0:0:0:0:1:11:1" };
	struct base_mac mac;
	char text[BASE_MAC_TEXT_SIZE];

	(void)state;
	assert_true(base_mac_parse("02:00:5E:00:01:Ff", &mac));
	assert_string_equal(base_mac_format(&mac, text), "02:00:5e:00:01:ff");
	for (size_t i = 0; i < BASE_COUNT_OF(refused); i++)
		ASSERT_ROW(refused[i], !base_mac_parse(refused[i], &mac));
}

/* What can never be a virtual address. */
static void test_special_addresses_are_told_apart(void **state)
{
	static const struct {
		const char *text;
		bool special, link_local;
	} rows[] = {
		{ "0.0.0.0", true, false },
		{ "0.1.2.3", true, false },
		{ "127.0.0.1", true, false },
		{ "169.254.1.1", true, true },
		{ "169.253.1.1", false, false },
		{ "224.0.0.18", true, false },
		{ "223.255.255.1", false, false },
		{ "255.255.255.255", true, false },
		{ "192.0.2.1", false, false },
		{ "10.0.0.1", false, false },
		{ "::", true, false },
		{ "::1", true, false },
		{ "::2", false, false },
		{ "fe80::1", true, true },
		{ "febf:ffff::1", true, true },
		{ "fec0::1", false, false },
		{ "ff02::12", true, false },
		{ "fd00::1", false, false },
		{ "2001:db8::1", false, false },
	};
	struct base_address none = { 0 };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_address address = address_of(rows[i].text);

		ASSERT_ROW(rows[i].text, base_address_is_special(&address) == rows[i].special);
		ASSERT_ROW(rows[i].text,
			   base_address_is_link_local(&address) == rows[i].link_local);
	}
	assert_true(base_address_is_special(&none));
	assert_false(base_address_is_link_local(&none));
	assert_int_equal(base_address_size(&none), 0);
}

static void test_addresses_are_ordered_as_numbers_family_first(void **state)
{
	static const char *const ordered[] = {
		"0.0.0.0",      "9.255.255.255",   "10.0.0.0", "192.0.2.255",
		"192.0.3.0",    "255.255.255.255", "::",       "::1",
		"2001:db8::ff", "2001:db8::100",   "ffff::"
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(ordered); i++)
		for (size_t j = 0; j < BASE_COUNT_OF(ordered); j++) {
			struct base_address a = address_of(ordered[i]), b = address_of(ordered[j]);
			int r = base_address_compare(&a, &b);

			assert_true(i < j ? r < 0 : i > j ? r > 0 : r == 0);
			assert_int_equal(base_address_equal(&a, &b), i == j);
		}
}

static void test_neighbours_of_an_address_carry_over_and_end_with_the_family(void **state)
{
	static const struct {
		const char *text, *next; /* NULL: the end of the range */
	} rows[] = {
		{ "192.0.2.255", "192.0.3.0" },
		{ "0.255.255.255", "1.0.0.0" },
		{ "255.255.255.255", NULL },
		{ "2001:db8::ffff:ffff", "2001:db8::1:0:0" },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL },
	};
	struct base_address zero4 = address_of("0.0.0.0"), zero6 = address_of("::"), other;

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_address address = address_of(rows[i].text), next;

		ASSERT_ROW(rows[i].text,
			   base_address_next(&address, &next) == (rows[i].next != NULL));
		if (!rows[i].next)
			continue;
		other = address_of(rows[i].next);
		ASSERT_ROW(rows[i].text, base_address_equal(&next, &other));
		ASSERT_ROW(rows[i].text, base_address_previous(&other, &next));
		ASSERT_ROW(rows[i].text, base_address_equal(&next, &address));
	}
	assert_false(base_address_previous(&zero4, &other));
	assert_false(base_address_previous(&zero6, &other));
}

static void test_unused_bytes_are_zero_so_that_addresses_compare_whole(void **state)
{
	struct base_address built = base_address_ipv4(192, 0, 2, 1), read, from;
	static const uint8_t bytes[16] = { 192, 0, 2, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9 };

	(void)state;
	memset(&read, 0xff, sizeof read);
	assert_true(base_address_parse("192.0.2.1", &read));
	from = base_address_from_bytes(BASE_FAMILY_IPV4, bytes);
	assert_memory_equal(&built, &read, sizeof read);
	assert_memory_equal(&built, &from, sizeof from);
}

static void test_prefixes_know_their_first_and_last_address(void **state)
{
	struct base_prefix prefix;
	struct base_address address;
	char text[BASE_ADDRESS_TEXT_SIZE];

	(void)state;
	assert_true(base_prefix_parse("192.0.2.77/26", &prefix));
	address = base_prefix_first(&prefix);
	assert_string_equal(base_address_format(&address, text), "192.0.2.64");
	address = base_prefix_last(&prefix);
	assert_string_equal(base_address_format(&address, text), "192.0.2.127");
	assert_true(base_prefix_contains(&prefix, &address));
	assert_true(base_address_next(&address, &address));
	assert_false(base_prefix_contains(&prefix, &address));
	assert_true(base_prefix_parse("::/0", &prefix));
	address = base_prefix_last(&prefix);
	assert_false(base_address_next(&address, &address));
	assert_false(base_prefix_parse("192.0.2.0/33", &prefix));
	assert_false(base_prefix_parse("192.0.2.0/08", &prefix));
	assert_false(base_prefix_parse("192.0.2.0/", &prefix));
}

static void test_names_of_virtual_ips_are_valid_object_names(void **state)
{
	struct base_address address;
	char name[BASE_ADDRESS_NAME_SIZE];

	(void)state;
	assert_true(base_address_parse("2001:db8::110", &address));
	assert_string_equal(base_address_name(&address, name),
			    "2001-0db8-0000-0000-0000-0000-0000-0110");
	assert_true(base_address_parse("192.0.2.10", &address));
	assert_string_equal(base_address_name(&address, name), "192.0.2.10");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_are_read_strictly_and_written_canonically),
		cmocka_unit_test(test_prefixes_are_read_strictly),
		cmocka_unit_test(test_macs_are_read_strictly),
		cmocka_unit_test(test_special_addresses_are_told_apart),
		cmocka_unit_test(test_addresses_are_ordered_as_numbers_family_first),
		cmocka_unit_test(test_neighbours_of_an_address_carry_over_and_end_with_the_family),
		cmocka_unit_test(test_unused_bytes_are_zero_so_that_addresses_compare_whole),
		cmocka_unit_test(test_prefixes_know_their_first_and_last_address),
		cmocka_unit_test(test_names_of_virtual_ips_are_valid_object_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
