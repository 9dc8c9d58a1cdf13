#include "base/time.h"
#include "daemon/controller/manners.h"
#include "test/unit/unit.h"

#define MS BASE_USEC_PER_MSEC
#define S  BASE_USEC_PER_SEC

static struct manners manners;
static uint64_t now_us;

static int begin(void **state)
{
	(void)state;
	now_us = 1000 * S;
	manners_init(&manners, 1, now_us);
	return 0;
}

static bool may(bool idle)
{
	uint64_t when_us;

	return manners_allow(&manners, idle, now_us, &when_us);
}

static void answer(uint64_t took_us)
{
	manners_answered(&manners, false, 0, now_us - took_us, now_us);
}

/* Whoever asks all the time of a server that answers at once: what goes out until `end_us`. */
static unsigned sent_until(uint64_t end_us, bool idle)
{
	unsigned sent = 0;

	for (; now_us < end_us; now_us += MS)
		while (may(idle)) {
			manners_sent(&manners);
			answer(0);
			assert_true(++sent < 100000); /* it ends */
		}
	return sent;
}

static void test_two_hundred_writes_a_second_and_four_hundred_at_once(void **state)
{
	(void)state;
	assert_int_equal(sent_until(now_us + MS, false), MANNERS_BURST);
	for (int second = 0; second < 30; second++) {
		unsigned sent = sent_until(now_us + S, false);

		assert_in_range(sent, MANNERS_RATE - 1, MANNERS_RATE + 1);
	}
	now_us += 3600 * S; /* what was not used in an hour is no more than a burst either */
	assert_int_equal(sent_until(now_us + MS, false), MANNERS_BURST);
}

static void test_it_says_when_to_ask_again(void **state)
{
	uint64_t when_us;

	(void)state;
	sent_until(now_us + MS, false);
	assert_false(manners_allow(&manners, false, now_us, &when_us));
	assert_in_range(when_us, now_us + 1, now_us + S / MANNERS_RATE);
	now_us = when_us;
	assert_true(may(false));
}

static void test_events_leave_half_of_it_to_others(void **state)
{
	unsigned idle = sent_until(now_us + MS, true);

	(void)state;
	assert_in_range(idle, 1, MANNERS_BURST - 50);
	assert_true(may(false));
}

static void test_requests_under_way_are_bounded(void **state)
{
	uint64_t when_us;

	(void)state;
	for (unsigned i = 0; i < MANNERS_BUSY; i++) {
		assert_true(may(false));
		manners_sent(&manners);
	}
	assert_false(manners_allow(&manners, false, now_us, &when_us));
	assert_true(when_us == BASE_USEC_NEVER); /* until one is answered */
	answer(0);
	assert_true(may(false));
	manners_sent(&manners);
	manners_cancelled(&manners);
	assert_true(may(false));
}

static unsigned room(void)
{
	unsigned busy = 0;

	now_us += 10 * S; /* the bucket is full */
	for (; may(false); busy++)
		manners_sent(&manners);
	for (unsigned i = 0; i < busy; i++)
		manners_cancelled(&manners);
	return busy;
}

static void test_the_slower_the_answers_the_fewer_at_a_time(void **state)
{
	unsigned before = room();

	(void)state;
	assert_int_equal(before, MANNERS_BUSY);
	for (int i = 0; i < 10; i++) {
		now_us += 2 * S;
		manners_sent(&manners);
		answer(2 * S);
		assert_true(room() <= before);
		before = room();
	}
	assert_in_range(before, 1, MANNERS_BUSY / 8);
	for (int i = 0; i < MANNERS_BUSY; i++) {
		manners_sent(&manners);
		answer(10 * MS);
	}
	assert_int_equal(room(), MANNERS_BUSY);
}

static void test_who_is_away_is_left_alone_for_longer_each_time(void **state)
{
	uint64_t last_us = 0, when_us;

	(void)state;
	for (int i = 0; i < 8; i++) {
		assert_true(may(false));
		manners_sent(&manners);
		assert_false(i > 0 && may(false)); /* one goes ahead and finds out */
		manners_answered(&manners, true, 0, now_us, now_us);
		assert_false(manners_allow(&manners, false, now_us, &when_us));
		assert_in_range(when_us - now_us, 500 * MS, 15 * S);
		assert_true(when_us - now_us >= last_us || last_us >= 10 * S);
		last_us = when_us - now_us;
		now_us = when_us;
	}
	manners_sent(&manners);
	manners_answered(&manners, true, 60 * S, now_us, now_us); /* it said for how long */
	now_us += 59 * S;
	assert_false(may(false));
	now_us += S;
	assert_true(may(false));
	manners_sent(&manners);
	answer(0);
	assert_int_equal(room(), MANNERS_BUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_two_hundred_writes_a_second_and_four_hundred_at_once, begin),
		cmocka_unit_test_setup(test_it_says_when_to_ask_again, begin),
		cmocka_unit_test_setup(test_events_leave_half_of_it_to_others, begin),
		cmocka_unit_test_setup(test_requests_under_way_are_bounded, begin),
		cmocka_unit_test_setup(test_the_slower_the_answers_the_fewer_at_a_time, begin),
		cmocka_unit_test_setup(test_who_is_away_is_left_alone_for_longer_each_time, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
