#include "daemon/engine/strangers.h"
#include "test/unit/unit.h"

#define NOW (1000 * BASE_USEC_PER_SEC)

static struct message_stranger list[MESSAGE_STRANGERS_MAX];

static struct base_address at(uint8_t octet)
{
	return base_address_ipv4(192, 0, 2, octet);
}

static bool hear(struct strangers *strangers, uint8_t octet, uint8_t id, uint64_t after_us)
{
	struct base_address source = at(octet);

	return strangers_hear(strangers, &source, id, NOW + after_us);
}

static uint32_t count(const struct strangers *strangers, uint64_t after_us)
{
	return strangers_list(strangers, BASE_FAMILY_IPV4, NOW + after_us, list);
}

static void test_who_goes_on_is_a_stranger(void **state)
{
	struct strangers strangers = { 0 };

	(void)state;
	assert_false(hear(&strangers, 7, 51, 0));
	assert_false(hear(&strangers, 7, 51, STRANGERS_CONFIRM_US - 1));
	assert_int_equal(count(&strangers, STRANGERS_CONFIRM_US), 0);
	assert_true(hear(&strangers, 7, 51, STRANGERS_CONFIRM_US));
	assert_false(hear(&strangers, 7, 51, STRANGERS_CONFIRM_US + 1)); /* told once */
	assert_int_equal(count(&strangers, STRANGERS_CONFIRM_US + 1), 1);
	assert_int_equal(list[0].virtual_router_id, 51);
	assert_int_equal(strangers_list(&strangers, BASE_FAMILY_IPV6, NOW, list), 0);
}

static void test_a_stranger_is_remembered_for_a_while(void **state)
{
	struct strangers strangers = { 0 };
	uint64_t last_us = STRANGERS_CONFIRM_US;

	(void)state;
	hear(&strangers, 7, 51, 0);
	assert_true(hear(&strangers, 7, 51, last_us));
	assert_int_equal(count(&strangers, last_us + STRANGERS_FORGET_US), 1);
	assert_int_equal(count(&strangers, last_us + STRANGERS_FORGET_US + 1), 0);
	/* Back after that it has to prove itself again. */
	assert_false(hear(&strangers, 7, 51, last_us + STRANGERS_FORGET_US + 1));
	assert_int_equal(count(&strangers, last_us + STRANGERS_FORGET_US + 2), 0);
}

static void test_the_list_is_in_order_and_has_each_id_once(void **state)
{
	static const uint8_t ids[] = { 9, 3, 200, 3 };
	struct strangers strangers = { 0 };

	(void)state;
	for (uint8_t i = 0; i < sizeof ids; i++) {
		hear(&strangers, (uint8_t)(10 + i), ids[i], 0);
		hear(&strangers, (uint8_t)(10 + i), ids[i], STRANGERS_CONFIRM_US);
	}
	assert_int_equal(count(&strangers, STRANGERS_CONFIRM_US), 3);
	assert_int_equal(list[0].virtual_router_id, 3);
	assert_int_equal(list[1].virtual_router_id, 9);
	assert_int_equal(list[2].virtual_router_id, 200);
}

static void test_a_flood_of_them_overflows_nothing(void **state)
{
	struct strangers strangers = { 0 };

	(void)state;
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 250; i++)
			hear(&strangers, (uint8_t)(1 + i), (uint8_t)(1 + i),
			     round * STRANGERS_CONFIRM_US + i);
	assert_int_equal(count(&strangers, 2 * STRANGERS_CONFIRM_US), 0);
	for (unsigned i = 0; i < 2 * MESSAGE_STRANGERS_MAX; i++)
		hear(&strangers, (uint8_t)(1 + i), (uint8_t)(1 + i), 9 * STRANGERS_CONFIRM_US);
	for (unsigned i = 0; i < 2 * MESSAGE_STRANGERS_MAX; i++)
		hear(&strangers, (uint8_t)(1 + i), (uint8_t)(1 + i), 10 * STRANGERS_CONFIRM_US);
	assert_int_equal(count(&strangers, 10 * STRANGERS_CONFIRM_US), MESSAGE_STRANGERS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_goes_on_is_a_stranger),
		cmocka_unit_test(test_a_stranger_is_remembered_for_a_while),
		cmocka_unit_test(test_the_list_is_in_order_and_has_each_id_once),
		cmocka_unit_test(test_a_flood_of_them_overflows_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
