#include "test/unit/unit.h"

#include <string.h>
#include <time.h>

#include "base/random.h"
#include "base/time.h"
#include "daemon/engine/timers.h"

#define COUNT 300
#define TURN  16

struct item {
	struct timer timer;
	uint64_t wanted_us; /* BASE_USEC_NEVER: it must not fire */
	unsigned fired;
};

static struct item items[COUNT];
static struct timers *timers;
static sd_event *event;
static uint64_t last_us, begun_us;
static unsigned again;

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (uint64_t)time.tv_sec * BASE_USEC_PER_SEC + (uint64_t)time.tv_nsec / 1000;
}

static void on_fire(struct timer *timer, uint64_t due_us)
{
	struct item *item = TIMER_ITEM(timer, struct item, timer);

	assert_int_equal(due_us, item->wanted_us);
	assert_true(now() >= due_us);
	assert_true(due_us >= last_us);
	assert_int_equal(timer->place, 0);
	last_us = due_us;
	item->fired++;
	if (item->fired == 1 && again > 0) { /* a periodic one sets itself again */
		again--;
		item->wanted_us = due_us + 20 * BASE_USEC_PER_MSEC;
		item->fired = 0;
		timers_set(timers, timer, item->wanted_us);
	}
}

static void want(struct item *item, uint64_t due_us)
{
	item->wanted_us = due_us;
	timers_set(timers, &item->timer, due_us);
}

static int setup(void **state)
{
	(void)state;
	memset(items, 0, sizeof items);
	last_us = 0;
	again = 0;
	begun_us = now();
	assert_true(sd_event_new(&event) >= 0);
	assert_true(timers_new(&timers, event, 0, TURN) >= 0);
	assert_true(timers_reserve(timers, COUNT) >= 0);
	for (unsigned i = 0; i < COUNT; i++) {
		items[i].timer.fire = on_fire;
		items[i].wanted_us = BASE_USEC_NEVER;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	timers_release(timers, COUNT);
	timers_free(timers);
	sd_event_unref(event);
	return 0;
}

static bool some_wait(void)
{
	for (unsigned i = 0; i < COUNT; i++)
		if (items[i].wanted_us != BASE_USEC_NEVER && items[i].fired == 0)
			return true;
	return false;
}

/* So long that what must not fire would have; longer where the machine gave us no time meanwhile. */
static void run_until_ms(unsigned ms)
{
	uint64_t end_us = begun_us + ms * BASE_USEC_PER_MSEC;
	uint64_t last = begun_us + 10 * BASE_USEC_PER_SEC;

	for (uint64_t at_us; (at_us = now()) < end_us || (some_wait() && at_us < last);)
		assert_true(sd_event_run(event, (at_us < end_us ? end_us : last) - at_us) >= 0);
}

static void check_all(void)
{
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(items[i].fired, items[i].wanted_us != BASE_USEC_NEVER);
}

static void test_each_fires_once_in_order_and_never_early(void **state)
{
	struct base_random random = { 42 };

	(void)state;
	again = 100;
	for (unsigned i = 0; i < COUNT; i++)
		want(&items[i], begun_us + base_random_below(&random, 60000));
	run_until_ms(150);
	check_all();
}

static void test_what_is_moved_or_switched_off_fires_as_it_was_set_last(void **state)
{
	struct base_random random = { 7 };

	(void)state;
	for (unsigned round = 0; round < 20 * COUNT; round++) {
		struct item *item = &items[base_random_below(&random, COUNT)];

		if (base_random_below(&random, 4) == 0)
			want(item, BASE_USEC_NEVER);
		else
			want(item, begun_us + 20000 + base_random_below(&random, 60000));
	}
	run_until_ms(150);
	check_all();
}

static void test_the_first_moved_to_later_does_not_hold_up_the_others(void **state)
{
	uint64_t later_us = begun_us + 10 * BASE_USEC_PER_SEC; /* no load makes this soon */

	(void)state;
	want(&items[0], begun_us + 10000);
	want(&items[1], begun_us + 30000);
	want(&items[0], later_us);
	while (!items[1].fired && now() < later_us)
		assert_true(sd_event_run(event, later_us - now()) >= 0);
	assert_int_equal(items[0].fired, 0);
	assert_int_equal(items[1].fired, 1);
	want(&items[0], now() + 10000);
	while (!items[0].fired && now() < later_us)
		assert_true(sd_event_run(event, later_us - now()) >= 0);
	check_all();
}

static unsigned urgent;

static int on_urgent(sd_event_source *source, void *userdata)
{
	unsigned fired = 0;

	(void)source;
	(void)userdata;
	for (unsigned i = 0; i < COUNT; i++)
		fired += items[i].fired;
	urgent++;
	assert_true(fired <= TURN * urgent); /* no more than one turn since it ran last */
	return 0;
}

static void test_hundreds_that_are_due_leave_turns_to_what_is_more_urgent(void **state)
{
	sd_event_source *source;

	(void)state;
	urgent = 0;
	assert_true(sd_event_add_post(event, &source, on_urgent, NULL) >= 0);
	assert_true(sd_event_source_set_priority(source, -10) >= 0);
	for (unsigned i = 0; i < COUNT; i++)
		want(&items[i], begun_us);
	for (uint64_t end_us = begun_us + 10 * BASE_USEC_PER_SEC; urgent * TURN < COUNT && now() < end_us;)
		assert_true(sd_event_run(event, end_us - now()) >= 0);
	check_all();
	sd_event_source_disable_unref(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_fires_once_in_order_and_never_early, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_what_is_moved_or_switched_off_fires_as_it_was_set_last, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_the_first_moved_to_later_does_not_hold_up_the_others, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_hundreds_that_are_due_leave_turns_to_what_is_more_urgent, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
