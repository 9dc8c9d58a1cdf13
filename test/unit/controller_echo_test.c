#include "daemon/controller/echo.h"
#include "test/unit/unit.h"

#define NOW (1000 * BASE_USEC_PER_SEC)

static void test_nothing_is_awaited_of_a_server_at_rest(void **state)
{
	struct echo echo = { 0 };

	(void)state;
	assert_int_equal(echo_check(&echo, "10", BASE_USEC_NEVER, NOW), ECHO_FINE);
	assert_int_equal(echo_check(&echo, "", 0, NOW), ECHO_FINE);
}

static void test_what_was_written_comes_back_or_the_watch_is_silent(void **state)
{
	struct echo echo = { 0 };

	(void)state;
	echo_expect(&echo, "11", NOW);
	assert_int_equal(echo_check(&echo, "10", ECHO_US, NOW + 1), ECHO_WAIT);
	assert_int_equal(echo_check(&echo, "10", 2 * ECHO_US, NOW + ECHO_US), ECHO_SILENT);
	/* It was told; again only after a while. */
	assert_int_equal(echo_check(&echo, "10", 3 * ECHO_US, NOW + ECHO_US + 1), ECHO_WAIT);
	assert_int_equal(echo_check(&echo, "10", 3 * ECHO_US, NOW + 2 * ECHO_US), ECHO_SILENT);
	assert_int_equal(echo_check(&echo, "12", 3 * ECHO_US, NOW + 3 * ECHO_US), ECHO_FINE);
	assert_int_equal(echo_check(&echo, "9", 4 * ECHO_US, NOW + 4 * ECHO_US), ECHO_FINE);
}

static void test_the_oldest_write_is_awaited_not_the_latest(void **state)
{
	struct echo echo = { 0 };

	(void)state;
	for (unsigned second = 0; second < 5; second++)
		echo_expect(&echo, second ? "200" : "99", NOW + second * BASE_USEC_PER_SEC);
	assert_int_equal(echo_check(&echo, "98", ECHO_US, NOW + ECHO_US), ECHO_SILENT);
	/* 99 is older than 100, though text says otherwise. */
	assert_int_equal(echo_check(&echo, "100", ECHO_US, NOW + ECHO_US), ECHO_FINE);
}

static void test_a_stream_that_was_just_opened_has_time(void **state)
{
	struct echo echo = { 0 };

	(void)state;
	echo_expect(&echo, "11", NOW);
	assert_int_equal(echo_check(&echo, "10", 0, NOW + 9 * ECHO_US), ECHO_WAIT);
	assert_int_equal(echo_check(&echo, "10", ECHO_US - 1, NOW + 9 * ECHO_US), ECHO_WAIT);
	assert_int_equal(echo_check(&echo, "10", ECHO_US, NOW + 9 * ECHO_US), ECHO_SILENT);
}

/* Versions go back when a backup is restored: a list that says less is right. */
static void test_a_list_ends_all_waiting(void **state)
{
	struct echo echo = { 0 };

	(void)state;
	echo_expect(&echo, "5000", NOW);
	echo_clear(&echo);
	assert_int_equal(echo_check(&echo, "40", 9 * ECHO_US, NOW + 9 * ECHO_US), ECHO_FINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_awaited_of_a_server_at_rest),
		cmocka_unit_test(test_what_was_written_comes_back_or_the_watch_is_silent),
		cmocka_unit_test(test_the_oldest_write_is_awaited_not_the_latest),
		cmocka_unit_test(test_a_stream_that_was_just_opened_has_time),
		cmocka_unit_test(test_a_list_ends_all_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
