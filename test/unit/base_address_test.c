#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/array.h"

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
			assert_string_equal(base_address_format(&address, text),
					    rows[i].canonical);
	}
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
		cmocka_unit_test(test_prefixes_know_their_first_and_last_address),
		cmocka_unit_test(test_names_of_virtual_ips_are_valid_object_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
