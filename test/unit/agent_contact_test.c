#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/time.h"
#include "daemon/agent/contact.h"

#define S  BASE_USEC_PER_SEC
#define MS BASE_USEC_PER_MSEC

static struct contact contact;

static void reach(uint64_t now_us)
{
	contact_init(&contact, now_us);
	assert_true(contact_note(&contact, true, now_us));
	assert_true(contact.reachable);
}

static void test_it_starts_unreachable_and_the_first_answer_changes_that(void **state)
{
	(void)state;
	contact_init(&contact, 10 * S);
	assert_false(contact.reachable);
	assert_false(contact_step(&contact, 20 * S));
	assert_true(contact_note(&contact, true, 20 * S));
	assert_false(contact_note(&contact, true, 21 * S));
}

static void test_one_failure_between_answers_changes_nothing(void **state)
{
	(void)state;
	reach(10 * S);
	assert_false(contact_note(&contact, false, 11 * S));
	assert_false(contact_note(&contact, true, 12 * S));
	assert_false(contact_step(&contact, 14 * S));
	assert_true(contact.reachable);
}

static void test_failures_without_an_answer_for_two_and_a_half_seconds_do(void **state)
{
	(void)state;
	reach(10 * S);
	assert_false(contact_note(&contact, false, 12 * S));
	assert_false(contact_step(&contact, 12 * S + 499 * MS));
	assert_int_equal(contact_deadline(&contact), 10 * S + CONTACT_DOUBT_US);
	contact.probing = true; /* its answer would be news; else the silence is */
	assert_int_equal(contact_deadline(&contact), 10 * S + CONTACT_SILENCE_US);
	assert_true(contact_step(&contact, 12 * S + 500 * MS));
	assert_false(contact.reachable);
	assert_false(contact_step(&contact, 13 * S)); /* told once */
}

static void test_a_failure_after_a_long_quiet_counts_at_once(void **state)
{
	(void)state;
	reach(10 * S);
	assert_true(contact_note(&contact, false, 100 * S));
}

static void test_quiet_alone_says_nothing(void **state)
{
	(void)state;
	reach(10 * S);
	assert_false(contact_step(&contact, 1000 * S));
	assert_int_equal(contact_deadline(&contact), BASE_USEC_NEVER);
	assert_false(contact_wants_probe(&contact, 1000 * S));
}

static void test_who_doubts_asks_sooner_and_who_is_cut_off_goes_on_asking(void **state)
{
	(void)state;
	reach(10 * S);
	contact_note(&contact, false, 10 * S + 100 * MS);
	assert_false(contact_wants_probe(&contact, 10 * S + 499 * MS));
	assert_true(contact_wants_probe(&contact, 10 * S + 500 * MS));
	contact.asked_us = 12 * S;
	contact_note(&contact, false, 12 * S + 500 * MS);
	assert_false(contact.reachable);
	assert_false(contact_wants_probe(&contact, 13 * S));
	assert_true(contact_wants_probe(&contact, 14 * S));
	contact.probing = true;
	assert_false(contact_wants_probe(&contact, 20 * S)); /* one at a time */
	contact.probing = false;
	contact_note(&contact, true, 20 * S);
	assert_false(contact_wants_probe(&contact, 1000 * S)); /* an answer ends it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_starts_unreachable_and_the_first_answer_changes_that),
		cmocka_unit_test(test_one_failure_between_answers_changes_nothing),
		cmocka_unit_test(test_failures_without_an_answer_for_two_and_a_half_seconds_do),
		cmocka_unit_test(test_a_failure_after_a_long_quiet_counts_at_once),
		cmocka_unit_test(test_quiet_alone_says_nothing),
		cmocka_unit_test(test_who_doubts_asks_sooner_and_who_is_cut_off_goes_on_asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
