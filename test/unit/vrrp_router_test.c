/* RFC 9568 section 6.4, row by row, and what an arbiter changes about it. */
#include "base/time.h"
#include "test/unit/unit.h"
#include "vrrp/router.h"

#define SECOND BASE_USEC_PER_SEC

/* Section 6.1: skew = (256 - priority) * Active_Adver_Interval / 256. */
static const uint64_t skew_100 = 156 * SECOND / 256;

static struct base_address ours, lower, higher;

static struct vrrp_router_config config(uint8_t priority)
{
	ours = base_address_ipv4(192, 0, 2, 20);
	lower = base_address_ipv4(192, 0, 2, 10);
	higher = base_address_ipv4(192, 0, 2, 30);
	return (struct vrrp_router_config){ .version = 3,
					    .virtual_router_id = 7,
					    .priority = priority,
					    .interval_us = (uint32_t)SECOND,
					    .preempt = true,
					    .source = ours };
}

static struct vrrp_actions step(struct vrrp_router *router, enum vrrp_event_type type,
				uint64_t now_us)
{
	struct vrrp_event event = { .type = type, .now_us = now_us };
	struct vrrp_actions actions;

	vrrp_router_step(router, &event, &actions);
	return actions;
}

static struct vrrp_actions hear(struct vrrp_router *router, uint64_t now_us, uint8_t priority,
				struct base_address source, uint32_t interval_us)
{
	struct vrrp_event event = { .type = VRRP_EVENT_ADVERT,
				    .now_us = now_us,
				    .advert = { source, priority, interval_us } };
	struct vrrp_actions actions;

	vrrp_router_step(router, &event, &actions);
	return actions;
}

static struct vrrp_router backup(uint8_t priority)
{
	struct vrrp_router_config c = config(priority);
	struct vrrp_router router;

	vrrp_router_init(&router, &c);
	step(&router, VRRP_EVENT_STARTUP, 0);
	assert_int_equal(router.state, VRRP_STATE_BACKUP);
	return router;
}

static struct vrrp_router active(uint8_t priority)
{
	struct vrrp_router router = backup(priority);

	step(&router, VRRP_EVENT_TIMER, vrrp_router_deadline(&router));
	assert_int_equal(router.state, VRRP_STATE_ACTIVE);
	return router;
}

static struct vrrp_router arbitrated(void)
{
	struct vrrp_router_config c = config(100);
	struct vrrp_router router;

	c.arbitrated = true;
	vrrp_router_init(&router, &c);
	step(&router, VRRP_EVENT_STARTUP, 0);
	return router;
}

static void assert_action(const struct vrrp_actions *actions, unsigned at,
			  enum vrrp_action_type type, uint8_t priority)
{
	assert_true(at < actions->count);
	assert_int_equal(actions->items[at].type, type);
	assert_int_equal(actions->items[at].priority, priority);
}

/* 6.4.1: the address owner starts as Active, says so and takes the addresses. */
static void test_an_address_owner_starts_as_active(void **state)
{
	struct vrrp_router_config c = config(255);
	struct vrrp_router router;
	struct vrrp_actions actions;

	(void)state;
	vrrp_router_init(&router, &c);
	assert_true(vrrp_router_deadline(&router) == BASE_USEC_NEVER);
	actions = step(&router, VRRP_EVENT_STARTUP, 5);
	assert_int_equal(router.state, VRRP_STATE_ACTIVE);
	assert_int_equal(actions.count, 2);
	assert_action(&actions, 0, VRRP_ACTION_SEND_ADVERT, 255);
	assert_action(&actions, 1, VRRP_ACTION_ACTIVE, 0);
	assert_int_equal(vrrp_router_deadline(&router), 5 + SECOND);
}

/* 6.4.1: everybody else starts as Backup and waits Active_Down_Interval. */
static void test_others_start_as_backup_for_three_intervals_and_skew(void **state)
{
	struct vrrp_router router = backup(100);

	(void)state;
	assert_int_equal(vrrp_router_deadline(&router), 3 * SECOND + skew_100);
	assert_int_equal(vrrp_active_down_us(100, (uint32_t)SECOND), 3 * SECOND + skew_100);
}

static void test_nothing_but_startup_moves_a_router_that_is_off(void **state)
{
	static const enum vrrp_event_type types[] = { VRRP_EVENT_SHUTDOWN, VRRP_EVENT_TIMER,
						      VRRP_EVENT_ADVERT,   VRRP_EVENT_ACTIVATE,
						      VRRP_EVENT_YIELD,    VRRP_EVENT_RESIGN,
						      VRRP_EVENT_LISTEN };
	struct vrrp_router_config c = config(100);
	struct vrrp_router router;

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(types); i++) {
		vrrp_router_init(&router, &c);
		assert_int_equal(step(&router, types[i], 9 * SECOND).count, 0);
		assert_int_equal(router.state, VRRP_STATE_INITIALIZE);
	}
}

/* 6.4.2: what each advert does to the Active_Down_Timer of a Backup. */
static void test_adverts_and_the_timer_of_a_backup(void **state)
{
	static const struct {
		const char *name;
		uint8_t priority;
		bool preempt;
		uint32_t interval_us;
		uint64_t deadline_us; /* from the advert at 1 s on; 0: as before */
	} rows[] = {
		{ "stronger", 200, true, 1000000, 3 * 1000000 + 609375 },
		{ "equal", 100, true, 1000000, 3 * 1000000 + 609375 },
		{ "weaker, preempt: the timer goes on", 50, true, 1000000, 0 },
		{ "weaker, no preempt", 50, false, 1000000, 3 * 1000000 + 609375 },
		{ "priority 0: skew only", 0, true, 1000000, 609375 },
		{ "priority 0 counts without preempt, too", 0, false, 1000000, 609375 },
		{ "another interval is learned, skew with it", 200, true, 2000000,
		  3 * 2000000 + 2 * 609375 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct vrrp_router_config c = config(100);
		struct vrrp_router router;
		uint64_t expected =
			rows[i].deadline_us ? SECOND + rows[i].deadline_us : 3 * SECOND + skew_100;

		c.preempt = rows[i].preempt;
		vrrp_router_init(&router, &c);
		step(&router, VRRP_EVENT_STARTUP, 0);
		ASSERT_ROW(rows[i].name,
			   hear(&router, SECOND, rows[i].priority, higher, rows[i].interval_us)
					   .count == 0);
		ASSERT_ROW(rows[i].name, vrrp_router_deadline(&router) == expected);
	}
}

/* 6.4.2: Active_Down_Timer fires. */
static void test_a_backup_takes_over_when_its_timer_fires_not_before(void **state)
{
	struct vrrp_router router = backup(100);
	struct vrrp_actions actions = step(&router, VRRP_EVENT_TIMER, 3 * SECOND + skew_100 - 1);

	(void)state;
	assert_int_equal(actions.count, 0);
	actions = step(&router, VRRP_EVENT_TIMER, 3 * SECOND + skew_100);
	assert_int_equal(actions.count, 2);
	assert_action(&actions, 0, VRRP_ACTION_SEND_ADVERT, 100);
	assert_action(&actions, 1, VRRP_ACTION_ACTIVE, 0);
}

static void test_a_backup_takes_over_after_skew_when_the_active_resigns(void **state)
{
	struct vrrp_router router = backup(100);

	(void)state;
	hear(&router, SECOND, 0, higher, (uint32_t)SECOND);
	step(&router, VRRP_EVENT_TIMER, SECOND + skew_100);
	assert_int_equal(router.state, VRRP_STATE_ACTIVE);
}

static void test_a_backup_that_shuts_down_says_nothing(void **state)
{
	struct vrrp_router router = backup(100);

	(void)state;
	assert_int_equal(step(&router, VRRP_EVENT_SHUTDOWN, SECOND).count, 0);
	assert_int_equal(router.state, VRRP_STATE_INITIALIZE);
	assert_true(vrrp_router_deadline(&router) == BASE_USEC_NEVER);
}

/* 6.4.3: what each advert does to an Active. */
static void test_adverts_and_an_active(void **state)
{
	static const struct {
		const char *name;
		uint8_t priority;
		int from; /* -1 lower, 1 higher address */
		bool backup;
	} rows[] = {
		{ "stronger: steps back", 200, -1, true },
		{ "equal from a higher address: steps back", 100, 1, true },
		{ "equal from a lower address: answers at once", 100, -1, false },
		{ "weaker: answers at once", 50, 1, false },
		{ "priority 0: answers at once", 0, 1, false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct vrrp_router router = active(100);
		uint64_t now_us = vrrp_router_deadline(&router) - 1;
		struct vrrp_actions actions =
			hear(&router, now_us, rows[i].priority, rows[i].from > 0 ? higher : lower,
			     (uint32_t)SECOND);

		ASSERT_ROW(rows[i].name, actions.count == 1);
		if (rows[i].backup) {
			ASSERT_ROW(rows[i].name, router.state == VRRP_STATE_BACKUP);
			ASSERT_ROW(rows[i].name, actions.items[0].type == VRRP_ACTION_BACKUP);
			ASSERT_ROW(rows[i].name,
				   vrrp_router_deadline(&router) == now_us + 3 * SECOND + skew_100);
		} else {
			ASSERT_ROW(rows[i].name, router.state == VRRP_STATE_ACTIVE);
			ASSERT_ROW(rows[i].name, actions.items[0].type == VRRP_ACTION_SEND_ADVERT);
			ASSERT_ROW(rows[i].name, actions.items[0].priority == 100);
			ASSERT_ROW(rows[i].name, vrrp_router_deadline(&router) == now_us + SECOND);
		}
	}
}

static void test_an_active_advertises_on_a_grid_and_not_twice_when_it_is_late(void **state)
{
	struct vrrp_router router = active(100);
	uint64_t due_us = vrrp_router_deadline(&router);
	struct vrrp_actions actions = step(&router, VRRP_EVENT_TIMER, due_us + 300);

	(void)state;
	assert_int_equal(actions.count, 1);
	assert_action(&actions, 0, VRRP_ACTION_SEND_ADVERT, 100);
	assert_int_equal(vrrp_router_deadline(&router), due_us + SECOND);
	step(&router, VRRP_EVENT_TIMER, due_us + 5 * SECOND);
	assert_int_equal(vrrp_router_deadline(&router), due_us + 6 * SECOND);
}

/* 6.4.3: Shutdown. Priority 0 while the addresses are still there. */
static void test_an_active_that_shuts_down_resigns_first(void **state)
{
	struct vrrp_router router = active(100);
	struct vrrp_actions actions = step(&router, VRRP_EVENT_SHUTDOWN, 5 * SECOND);

	(void)state;
	assert_int_equal(actions.count, 2);
	assert_action(&actions, 0, VRRP_ACTION_SEND_ADVERT, 0);
	assert_action(&actions, 1, VRRP_ACTION_BACKUP, 0);
	assert_int_equal(router.state, VRRP_STATE_INITIALIZE);
}

static void test_skew_is_finer_than_a_centisecond(void **state)
{
	(void)state;
	assert_int_equal(vrrp_skew_us(254, 10000), 78);
	assert_int_equal(vrrp_skew_us(1, 10000), 9960);
	assert_int_equal(vrrp_skew_us(255, 40950000), 159960);
	assert_int_equal(vrrp_active_down_us(1, 40950000), 3 * UINT64_C(40950000) + 40790039);
}

/* RFC 3768: version 2 skews in whole seconds and its interval is not learned from an advert. */
static void test_version_2_skews_in_seconds_and_learns_no_interval(void **state)
{
	struct vrrp_router_config c = config(100);
	struct vrrp_router router;

	(void)state;
	c.version = 2;
	c.interval_us = (uint32_t)(2 * SECOND);
	vrrp_router_init(&router, &c);
	step(&router, VRRP_EVENT_STARTUP, 0);
	assert_int_equal(vrrp_router_deadline(&router), 6 * SECOND + skew_100);
	hear(&router, SECOND, 200, higher, (uint32_t)(9 * SECOND));
	assert_int_equal(vrrp_router_deadline(&router), 7 * SECOND + skew_100);
}

static void test_settings_change_without_losing_the_state(void **state)
{
	struct vrrp_router router = active(100);
	struct vrrp_router_config c = config(120);
	uint64_t due_us = vrrp_router_deadline(&router);

	(void)state;
	vrrp_router_configure(&router, &c);
	assert_int_equal(router.state, VRRP_STATE_ACTIVE);
	assert_int_equal(vrrp_router_deadline(&router), due_us);
	router = backup(100);
	c = config(100);
	c.interval_us = (uint32_t)(2 * SECOND);
	vrrp_router_configure(&router, &c);
	assert_int_equal(vrrp_router_deadline(&router), 6 * SECOND + 2 * skew_100);
}

/* --- with an arbiter --- */

static void test_an_arbitrated_backup_suspects_after_its_peers_fence_and_claims_in_silence(
	void **state)
{
	struct vrrp_router router = arbitrated();
	struct vrrp_actions actions;

	(void)state;
	/* At priority 100 the skew puts what is missed behind the fence's end. */
	assert_int_equal(vrrp_router_deadline(&router), 2600000);
	actions = step(&router, VRRP_EVENT_TIMER, 2600000);
	assert_int_equal(actions.count, 2);
	assert_action(&actions, 0, VRRP_ACTION_MISSED, 0);
	assert_action(&actions, 1, VRRP_ACTION_SUSPECT, 0);
	actions = step(&router, VRRP_EVENT_TIMER, 3 * SECOND + skew_100);
	assert_int_equal(actions.count, 1);
	assert_action(&actions, 0, VRRP_ACTION_CLAIM, 0);
	assert_int_equal(router.state, VRRP_STATE_BACKUP);
	assert_true(vrrp_router_deadline(&router) == BASE_USEC_NEVER);
	actions = step(&router, VRRP_EVENT_ACTIVATE, 5 * SECOND);
	assert_int_equal(router.state, VRRP_STATE_ACTIVE);
	assert_action(&actions, 0, VRRP_ACTION_SEND_ADVERT, 100);
}

static void test_a_late_arbitrated_backup_suspects_and_claims_at_once(void **state)
{
	struct vrrp_router router = arbitrated();
	struct vrrp_actions actions = step(&router, VRRP_EVENT_TIMER, 9 * SECOND);

	(void)state;
	assert_int_equal(actions.count, 3);
	assert_action(&actions, 0, VRRP_ACTION_MISSED, 0);
	assert_action(&actions, 1, VRRP_ACTION_SUSPECT, 0);
	assert_action(&actions, 2, VRRP_ACTION_CLAIM, 0);
}

static void test_an_arbitrated_backup_says_that_two_adverts_are_missing_by_rank(void **state)
{
	static const struct {
		uint8_t priority;
		uint64_t missed_us;
	} rows[] = {
		{ 254, 2100000 + 7812 }, { 238, 2100000 + 70312 }, { 128, 2600000 }, { 1, 2600000 }
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct vrrp_router router = arbitrated();
		struct vrrp_router_config c = router.config;
		struct vrrp_actions actions;

		c.priority = rows[i].priority;
		vrrp_router_configure(&router, &c);
		step(&router, VRRP_EVENT_LISTEN, 0);
		assert_int_equal(vrrp_router_deadline(&router), rows[i].missed_us);
		if (rows[i].missed_us == 2600000)
			continue;
		actions = step(&router, VRRP_EVENT_TIMER, rows[i].missed_us);
		assert_int_equal(actions.count, 1);
		assert_action(&actions, 0, VRRP_ACTION_MISSED, 0);
		assert_int_equal(vrrp_router_deadline(&router), 2600000);
	}
}

static void test_nothing_is_missed_of_who_resigned(void **state)
{
	struct vrrp_router router = arbitrated();
	struct vrrp_actions actions;

	(void)state;
	hear(&router, SECOND, 0, lower, (uint32_t)SECOND);
	actions = step(&router, VRRP_EVENT_TIMER, vrrp_router_deadline(&router));
	assert_int_equal(actions.count, 1);
	assert_action(&actions, 0, VRRP_ACTION_SUSPECT, 0);
}

static void test_an_arbitrated_active_asks_before_it_steps_back(void **state)
{
	struct vrrp_router router = arbitrated();
	struct vrrp_actions actions;

	(void)state;
	step(&router, VRRP_EVENT_ACTIVATE, SECOND);
	actions = hear(&router, SECOND + 1, 200, lower, (uint32_t)SECOND);
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.items[0].type, VRRP_ACTION_CONTEST);
	assert_true(actions.items[0].stronger);
	assert_int_equal(router.state, VRRP_STATE_ACTIVE);
	actions = hear(&router, SECOND + 2, 50, lower, (uint32_t)SECOND);
	assert_int_equal(actions.count, 2);
	assert_action(&actions, 0, VRRP_ACTION_SEND_ADVERT, 100);
	assert_false(actions.items[1].stronger);
	actions = step(&router, VRRP_EVENT_YIELD, SECOND + 3);
	assert_int_equal(actions.count, 1);
	assert_action(&actions, 0, VRRP_ACTION_BACKUP, 0);
}

static void test_resigning_says_priority_0_and_listens_anew(void **state)
{
	struct vrrp_router router = arbitrated();
	struct vrrp_actions actions;

	(void)state;
	step(&router, VRRP_EVENT_ACTIVATE, SECOND);
	actions = step(&router, VRRP_EVENT_RESIGN, 2 * SECOND);
	assert_int_equal(actions.count, 2);
	assert_action(&actions, 0, VRRP_ACTION_SEND_ADVERT, 0);
	assert_int_equal(router.state, VRRP_STATE_BACKUP);
	assert_int_equal(vrrp_router_deadline(&router), 2 * SECOND + 2600000);
	step(&router, VRRP_EVENT_LISTEN, 4 * SECOND);
	assert_int_equal(vrrp_router_deadline(&router), 4 * SECOND + 2600000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_address_owner_starts_as_active),
		cmocka_unit_test(test_others_start_as_backup_for_three_intervals_and_skew),
		cmocka_unit_test(test_nothing_but_startup_moves_a_router_that_is_off),
		cmocka_unit_test(test_adverts_and_the_timer_of_a_backup),
		cmocka_unit_test(test_a_backup_takes_over_when_its_timer_fires_not_before),
		cmocka_unit_test(test_a_backup_takes_over_after_skew_when_the_active_resigns),
		cmocka_unit_test(test_a_backup_that_shuts_down_says_nothing),
		cmocka_unit_test(test_adverts_and_an_active),
		cmocka_unit_test(test_an_active_advertises_on_a_grid_and_not_twice_when_it_is_late),
		cmocka_unit_test(test_an_active_that_shuts_down_resigns_first),
		cmocka_unit_test(test_skew_is_finer_than_a_centisecond),
		cmocka_unit_test(test_version_2_skews_in_seconds_and_learns_no_interval),
		cmocka_unit_test(test_settings_change_without_losing_the_state),
		cmocka_unit_test(
			test_an_arbitrated_backup_suspects_after_its_peers_fence_and_claims_in_silence),
		cmocka_unit_test(test_a_late_arbitrated_backup_suspects_and_claims_at_once),
		cmocka_unit_test(test_an_arbitrated_backup_says_that_two_adverts_are_missing_by_rank),
		cmocka_unit_test(test_nothing_is_missed_of_who_resigned),
		cmocka_unit_test(test_an_arbitrated_active_asks_before_it_steps_back),
		cmocka_unit_test(test_resigning_says_priority_0_and_listens_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
