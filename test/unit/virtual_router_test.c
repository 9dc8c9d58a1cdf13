/* The VRRP machine and the elector introduced to each other; names, versions, order of actions. */
#include <string.h>

#include "daemon/engine/core/virtual_router.h"
#include "test/unit/unit.h"

#define MS BASE_USEC_PER_MSEC

static struct virtual_router router;
static struct virtual_router_actions done;
static uint64_t now_us;

static struct base_address address_of(unsigned node)
{
	return base_address_ipv4(192, 0, 2, (uint8_t)(10 + node));
}

static struct virtual_router_candidate lists[4][VIRTUAL_ROUTER_CANDIDATES_MAX], *candidates;
static struct election_peer peers[4][VIRTUAL_ROUTER_CANDIDATES_MAX];
static unsigned turn;

/* This node is n2; the best one is n1. The list of `candidates` may be changed until it is used. */
static struct virtual_router_config config(unsigned count, bool leased)
{
	struct virtual_router_config c;

	/* Not the list that the last one has: it is borrowed. */
	turn = (turn + 1) % BASE_COUNT_OF(lists);
	candidates = lists[turn];
	memset(candidates, 0, sizeof lists[0]);
	memset(&c, 0, sizeof c);
	c.candidates = candidates;
	c.peers = peers[turn];
	strcpy(c.name, "lab.ipv4.10");
	c.node = "n2";
	c.virtual_router_id = 10;
	c.family = BASE_FAMILY_IPV4;
	c.version = 3;
	c.interval_us = 100 * MS;
	c.lease_duration_ms = 30000;
	c.leased = leased;
	c.source = address_of(2);
	c.candidate_count = count;
	for (unsigned i = 0; i < count; i++) {
		snprintf(candidates[i].node, sizeof candidates[i].node, "n%u", i + 1);
		candidates[i].address = address_of(i + 1);
		candidates[i].priority = (uint8_t)(200 - 50 * i);
	}
	return c;
}

static void tell(struct virtual_router_event *event)
{
	event->now_us = now_us;
	virtual_router_step(&router, event, &done);
}

static void hear(unsigned node, uint8_t priority)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADVERT };

	event.advert.source = address_of(node);
	event.advert.priority = priority;
	event.advert.interval_us = 100 * MS;
	tell(&event);
}

static void see(const char *holder, uint32_t term, const char *version)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_LEASE };

	event.lease.exists = version[0] != '\0';
	event.lease.term = term;
	event.lease.duration_ms = 30000;
	strcpy(event.lease.holder, holder);
	strcpy(event.lease.version, version);
	tell(&event);
}

static void witness(void)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_WITNESSES };

	event.witnesses.reachable = 7;
	event.witnesses.gateway_known = event.witnesses.gateway_reachable = true;
	tell(&event);
}

static void reach_deadline(void)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_TIMER };

	now_us = virtual_router_deadline(&router);
	tell(&event);
}

static void begin(bool leased)
{
	struct virtual_router_config c = config(3, leased);
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ELIGIBLE };

	now_us = 1000 * MS;
	virtual_router_init(&router, &c, now_us, 7);
	event.eligible.eligible = true;
	tell(&event);
}

static void follow(bool leased)
{
	begin(leased);
	if (leased)
		see("n1", 5, "50");
	hear(1, leased ? 228 : 100);
}

/* Until the claim: written, or without Lease taken. */
static void fall_silent(void)
{
	reach_deadline(); /* two adverts are missing: is its node there? */
	witness();
	reach_deadline(); /* it is: who answers for the address? */
	witness();
	reach_deadline();
}

static void answer(enum virtual_router_write_result result, const char *holder, uint32_t term,
		   const char *version)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_LEASE_RESULT };

	event.write.id = router.write_id;
	event.write.result = result;
	event.write.lease.exists = true;
	event.write.lease.term = term;
	strcpy(event.write.lease.holder, holder);
	strcpy(event.write.lease.version, version);
	tell(&event);
}

static void own(bool leased)
{
	follow(leased);
	fall_silent();
	if (leased)
		answer(VIRTUAL_ROUTER_WRITE_OK, "n2", 6, "51");
	assert_true(virtual_router_owns(&router));
}

static const struct virtual_router_action *find(enum virtual_router_action_type type)
{
	for (unsigned i = 0; i < done.count; i++)
		if (done.items[i].type == type)
			return &done.items[i];
	return NULL;
}

static void assert_types(const char *name, const enum virtual_router_action_type *types,
			 size_t count)
{
	ASSERT_ROW(name, done.count == count);
	for (size_t i = 0; i < count; i++)
		ASSERT_ROW(name, done.items[i].type == types[i]);
}

/* Rule 12: the advert opens the fence, and the next one in turn hears of us however long the kernel takes for the rest. */
static void test_taking_over_is_done_in_this_order(void **state)
{
	static const enum virtual_router_action_type order[] = {
		VIRTUAL_ROUTER_ACTION_SEND_ADVERT,
		VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES,
		VIRTUAL_ROUTER_ACTION_ANNOUNCE,
		VIRTUAL_ROUTER_ACTION_TRANSITION,
	};

	(void)state;
	own(false);
	assert_types("take over", order, BASE_COUNT_OF(order));
	assert_int_equal(done.items[0].priority, 75);
	assert_true(done.items[0].first);
	assert_string_equal(done.items[3].transition.from, "n1");
	assert_string_equal(done.items[3].transition.to, "n2");
	assert_in_range(done.items[3].transition.outage_us, 300 * MS, 400 * MS);
	own(true);
	assert_types("take over confirmed", order, BASE_COUNT_OF(order));
	assert_int_equal(done.items[0].priority, 75 + 127);
}

/* Who resigned answers until it hears our advert: not before we can. */
static void test_what_is_handed_over_is_there_before_we_speak(void **state)
{
	static const enum virtual_router_action_type order[] = {
		VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES,
		VIRTUAL_ROUTER_ACTION_SEND_ADVERT,
		VIRTUAL_ROUTER_ACTION_ANNOUNCE,
		VIRTUAL_ROUTER_ACTION_TRANSITION,
	};

	(void)state;
	follow(false);
	hear(1, 0);
	assert_types("handed over", order, BASE_COUNT_OF(order));
	assert_true(done.items[1].first);
}

/* The fence is closed before anything that may fail or take time. */
static void test_withdrawing_is_done_in_this_order(void **state)
{
	static const enum virtual_router_action_type order[] = {
		VIRTUAL_ROUTER_ACTION_CLOSE_FENCE,
		VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES,
		VIRTUAL_ROUTER_ACTION_TRANSITION,
	};

	(void)state;
	own(false);
	now_us += 1000 * MS;
	reach_deadline(); /* in time: nothing */
	assert_true(virtual_router_owns(&router));
	now_us += 251 * MS;
	hear(1, 50); /* read before the timer, and as late as that: no answer to it */
	assert_null(find(VIRTUAL_ROUTER_ACTION_SEND_ADVERT));
	for (size_t i = 0; i < BASE_COUNT_OF(order); i++)
		assert_int_equal(done.items[i].type, order[i]);
	assert_int_equal(done.items[2].transition.reason, BASE_REASON_OVERSLEPT);
	assert_string_equal(virtual_router_owner(&router), "n1");
}

/* Thousands of addresses take a while to withdraw: the last of them did not oversleep, their link is gone. */
static void test_who_lost_its_link_says_so_however_late(void **state)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ELIGIBLE };

	(void)state;
	for (unsigned leased = 0; leased < 2; leased++) {
		own(leased);
		reach_deadline();
		now_us += 1000 * MS;
		event.eligible.why = BASE_REASON_LINK_DOWN;
		tell(&event);
		assert_non_null(find(VIRTUAL_ROUTER_ACTION_CLOSE_FENCE));
		assert_non_null(find(VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES));
		assert_int_equal(find(VIRTUAL_ROUTER_ACTION_TRANSITION)->transition.reason,
				 BASE_REASON_LINK_DOWN);
		assert_false(virtual_router_owns(&router));
		assert_false(virtual_router_deadline(&router) < now_us);

		own(leased); /* where it could still speak it must not */
		reach_deadline();
		now_us += 1000 * MS;
		event.eligible.why = BASE_REASON_KERNEL_REFUSED;
		tell(&event);
		assert_null(find(VIRTUAL_ROUTER_ACTION_SEND_ADVERT));
		assert_int_equal(find(VIRTUAL_ROUTER_ACTION_TRANSITION)->transition.reason,
				 BASE_REASON_OVERSLEPT);
	}
}

/* Its fence closes without another word, or the deaf one that hears us at last would yield as well. */
static void test_who_yields_to_a_deaf_rival_says_nothing_first(void **state)
{
	(void)state;
	own(false);
	for (unsigned heard = 0; virtual_router_owns(&router); heard++) {
		assert_true(heard < 4);
		now_us += 100 * MS;
		hear(2, 1);
	}
	assert_null(find(VIRTUAL_ROUTER_ACTION_SEND_ADVERT));
}

/* Or it would take the address back from one whose adverts are rarer than its own. */
static void test_who_yields_waits_as_long_as_the_stronger_one_takes(void **state)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADVERT };

	(void)state;
	own(false);
	event.advert.source = address_of(1);
	event.advert.priority = 228;
	event.advert.interval_us = 400 * MS;
	tell(&event);
	assert_false(virtual_router_owns(&router));
	assert_true(vrrp_router_deadline(&router.vrrp) >= now_us + 840 * MS);
}

/* Between the two nobody can have taken its place, or it is known that somebody may have: 226 ms, 250. */
static void test_an_owner_that_wakes_late_believes_as_much_as_can_be(void **state)
{
	static const struct {
		uint64_t late_ms;
		bool owns, confirmed;
	} rows[] = { { 120, true, true }, { 126, true, false }, { 149, true, false }, { 151, false, false } };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_TIMER };

		own(true);
		now_us = vrrp_router_deadline(&router.vrrp) + rows[i].late_ms * MS;
		tell(&event);
		assert_int_equal(virtual_router_owns(&router), rows[i].owns);
		assert_int_equal(virtual_router_confirmed(&router), rows[i].confirmed);
	}
}

static void test_a_planned_resignation_lingers(void **state)
{
	static const enum virtual_router_action_type order[] = {
		VIRTUAL_ROUTER_ACTION_SEND_ADVERT, /* the fence is open as long as can be */
		VIRTUAL_ROUTER_ACTION_LINGER,
		VIRTUAL_ROUTER_ACTION_SEND_ADVERT,
		VIRTUAL_ROUTER_ACTION_TRANSITION,
	};
	struct virtual_router_event release = { .type = VIRTUAL_ROUTER_EVENT_RELEASE };

	(void)state;
	own(false);
	tell(&release);
	assert_types("release", order, BASE_COUNT_OF(order));
	assert_int_equal(done.items[0].priority, 75);
	assert_int_equal(done.items[2].priority, 0);
	assert_int_equal(virtual_router_state(&router), VIRTUAL_ROUTER_STATE_MOVING);
	hear(1, 100);
	assert_non_null(find(VIRTUAL_ROUTER_ACTION_RELEASED));
	assert_int_equal(virtual_router_state(&router), VIRTUAL_ROUTER_STATE_RELEASED);
	/* And is silent from then on, whatever comes and however late. */
	now_us += 60000 * MS;
	hear(1, 0);
	assert_int_equal(done.count, 0);
	assert_true(virtual_router_deadline(&router) == BASE_USEC_NEVER);
}

static void test_a_claim_expects_the_version_that_was_seen(void **state)
{
	const struct virtual_router_action *write;

	(void)state;
	follow(true);
	fall_silent();
	write = find(VIRTUAL_ROUTER_ACTION_LEASE_WRITE);
	assert_non_null(write);
	assert_string_equal(write->write.expected_version, "50");
	assert_string_equal(write->write.lease.holder, "n2");
	assert_int_equal(write->write.lease.term, 6);
	assert_string_equal(write->write.lease.successor, "");
}

static void test_a_new_lease_is_created_not_replaced(void **state)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADDRESS_FREE };
	const struct virtual_router_action *write;

	(void)state;
	begin(true);
	see("", 0, "");
	assert_non_null(find(VIRTUAL_ROUTER_ACTION_PROBE_ADDRESSES));
	witness();
	tell(&event);
	reach_deadline(); /* n2 is the second */
	write = find(VIRTUAL_ROUTER_ACTION_LEASE_WRITE);
	assert_non_null(write);
	assert_string_equal(write->write.expected_version, "");
	assert_int_equal(write->write.lease.term, 1);
}

static void test_what_was_overtaken_on_its_way_is_not_believed(void **state)
{
	(void)state;
	follow(true);
	see("n3", 6, "60");
	hear(3, 178);
	see("n1", 5, "59");
	assert_int_equal(done.count, 0);
	assert_int_equal(virtual_router_term(&router), 6);
	assert_string_equal(router.lease.version, "60");
	see("n3", 6, "a-version-that-is-no-number"); /* no order then: believed */
	assert_string_equal(router.lease.version, "a-version-that-is-no-number");
}

static void test_an_answer_to_a_write_that_was_given_up_is_ignored(void **state)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_LEASE_RESULT };

	(void)state;
	follow(true);
	fall_silent();
	event.write.id = router.write_id - 1;
	event.write.result = VIRTUAL_ROUTER_WRITE_CONFLICT;
	tell(&event);
	assert_int_equal(done.count, 0);
	assert_int_equal(virtual_router_state(&router), VIRTUAL_ROUTER_STATE_CLAIMING);
}

static void test_our_own_write_outrun_by_a_newer_lease_is_no_victory(void **state)
{
	(void)state;
	follow(true);
	fall_silent();
	see("n3", 7, "53"); /* the watch was faster */
	answer(VIRTUAL_ROUTER_WRITE_OK, "n2", 6, "52");
	assert_false(virtual_router_owns(&router));
	assert_string_equal(router.lease.version, "53");
}

static void test_backups_wait_by_rank_whatever_their_priorities_are_called(void **state)
{
	struct virtual_router_config c = config(3, false);

	(void)state;
	for (unsigned self = 1; self <= 3; self++) {
		struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ELIGIBLE };
		unsigned rank = self == 3; /* n1 owns it: of the others n2 comes first */

		for (unsigned i = 0; i < 3; i++)
			candidates[i].priority = 9; /* equal: the order of the list */
		c.node = candidates[self - 1].node;
		c.source = address_of(self);
		now_us = 1000 * MS;
		virtual_router_init(&router, &c, now_us, 7);
		event.eligible.eligible = true;
		tell(&event);
		if (self == 1)
			continue;
		hear(1, 5);
		hear(1, 5);
		reach_deadline();
		witness();
		reach_deadline();
		witness();
		assert_int_equal(virtual_router_deadline(&router),
				 1000 * MS +
					 vrrp_active_down_us((uint8_t)(254 - 64 * rank), 100 * MS));
	}
}

static void test_a_stranger_ends_no_silence(void **state)
{
	uint64_t deadline_us;

	(void)state;
	follow(false);
	deadline_us = virtual_router_deadline(&router);
	now_us += 100 * MS;
	hear(99, 255);
	assert_int_equal(virtual_router_deadline(&router), deadline_us);
}

static void test_an_old_resignation_of_somebody_else_shortens_no_silence(void **state)
{
	uint64_t deadline_us;

	(void)state;
	follow(false);
	deadline_us = virtual_router_deadline(&router);
	now_us += 100 * MS;
	hear(3, 0);
	assert_int_equal(virtual_router_deadline(&router), deadline_us);
	hear(1, 0);
	assert_true(virtual_router_owns(&router)); /* that of the owner counts at once */
}

/* Or a single advert that somebody else sent would keep us from taking over for two minutes. */
static void test_another_interval_is_learned_only_without_lease(void **state)
{
	static const struct {
		bool leased;
		uint32_t interval_ms;
		uint64_t silence_ms;
	} rows[] = { { false, 40000, 120000 }, { false, 10, 30 }, { true, 40000, 300 }, { true, 10, 300 } };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADVERT };
		uint64_t heard_us;

		follow(rows[i].leased);
		event.advert.source = address_of(1);
		event.advert.priority = 228;
		event.advert.interval_us = rows[i].interval_ms * MS;
		tell(&event);
		heard_us = now_us;
		reach_deadline(); /* asks whether it is there, */
		reach_deadline(); /* who answers, */
		now_us = vrrp_router_deadline(&router.vrrp); /* then it is silent */
		assert_in_range(now_us - heard_us, rows[i].silence_ms * MS,
				rows[i].silence_ms * MS * 102 / 100);
	}
}

static void test_whoever_answers_for_the_address_ends_the_silence(void **state)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD };

	(void)state;
	follow(false);
	reach_deadline();
	assert_non_null(find(VIRTUAL_ROUTER_ACTION_PROBE_MEMBERS)); /* not for the address: its fence is open still */
	assert_null(find(VIRTUAL_ROUTER_ACTION_PROBE_WITNESSES));
	reach_deadline();
	assert_non_null(find(VIRTUAL_ROUTER_ACTION_PROBE_WITNESSES));
	event.advert.source = address_of(1);
	tell(&event);
	assert_in_range(virtual_router_deadline(&router), now_us + 210 * MS, now_us + 230 * MS);
}

static void test_unchanged_settings_yield_no_action(void **state)
{
	struct virtual_router_config c = config(3, true);

	(void)state;
	own(true);
	virtual_router_configure(&router, &c, now_us, &done);
	assert_int_equal(done.count, 0);
}

static void test_candidates_may_change_places(void **state)
{
	struct virtual_router_config c;
	struct virtual_router_candidate first;

	(void)state;
	follow(true);
	c = config(3, true);
	first = candidates[0];
	candidates[0] = candidates[2];
	candidates[2] = first;
	virtual_router_configure(&router, &c, now_us, &done);
	assert_int_equal(done.count, 0);
	assert_string_equal(virtual_router_owner(&router), "n1");
	fall_silent(); /* n1 was heard in this term, wherever it stands in the list */
	assert_non_null(find(VIRTUAL_ROUTER_ACTION_LEASE_WRITE));
}

static void test_no_candidate_any_more_it_frees_the_lease_that_names_it(void **state)
{
	struct virtual_router_config c;
	const struct virtual_router_action *write;

	(void)state;
	own(true);
	c = config(3, true);
	candidates[1] = candidates[2];
	memset(&candidates[2], 0, sizeof candidates[2]);
	c.candidate_count = 2;
	virtual_router_configure(&router, &c, now_us, &done);
	write = find(VIRTUAL_ROUTER_ACTION_LEASE_WRITE);
	assert_non_null(write);
	assert_string_equal(write->write.lease.holder, "");
	assert_int_equal(write->write.lease.term, 7);
	assert_non_null(find(VIRTUAL_ROUTER_ACTION_LINGER));
	assert_string_equal(find(VIRTUAL_ROUTER_ACTION_TRANSITION)->transition.from, "n2");
}

static void test_an_answer_that_comes_after_the_deletion_confirms_nothing(void **state)
{
	struct virtual_router_event answer = { .type = VIRTUAL_ROUTER_EVENT_LEASE_RESULT };
	const struct virtual_router_action *write;

	(void)state;
	follow(true);
	fall_silent();
	write = find(VIRTUAL_ROUTER_ACTION_LEASE_WRITE);
	assert_non_null(write);
	answer.write.id = write->write.id;
	answer.write.result = VIRTUAL_ROUTER_WRITE_OK;
	answer.write.lease = write->write.lease;
	strcpy(answer.write.lease.version, "60");
	see("n2", 6, "60");
	assert_true(virtual_router_confirmed(&router));
	see("", 0, "");
	assert_false(virtual_router_confirmed(&router));
	tell(&answer);
	assert_false(virtual_router_confirmed(&router));
	assert_true(virtual_router_owns(&router));
}

static void test_a_sign_of_life_renews_what_that_node_holds(void **state)
{
	struct virtual_router_event sign = { .type = VIRTUAL_ROUTER_EVENT_RENEWED };
	uint64_t seen_us;

	(void)state;
	follow(true);
	seen_us = router.elector.lease_changed_us;
	now_us += 20000 * MS;
	hear(1, 228); /* or it would think that it overslept */
	strcpy(sign.node, "n3");
	tell(&sign);
	assert_int_equal(router.elector.lease_changed_us, seen_us);
	strcpy(sign.node, "n1");
	tell(&sign);
	assert_int_equal(router.elector.lease_changed_us, now_us);
	assert_int_equal(done.count, 0);
	see("", 6, "60");
	now_us += 100 * MS;
	sign.node[0] = '\0'; /* nobody holds it, and nobody renews it */
	tell(&sign);
	assert_int_not_equal(router.elector.lease_changed_us, now_us);
}

static void test_every_transition_tells_a_story(void **state)
{
	(void)state;
	own(true);
	assert_string_equal(find(VIRTUAL_ROUTER_ACTION_TRANSITION)->transition.message,
			    "n2 took over lab.ipv4.10: n1 was silent for 300 ms");
	see("n3", 7, "70");
	assert_int_equal(find(VIRTUAL_ROUTER_ACTION_TRANSITION)->transition.reason,
			 BASE_REASON_DEPOSED);
	assert_memory_equal(find(VIRTUAL_ROUTER_ACTION_TRANSITION)->transition.message,
			    "n2 gave up lab.ipv4.10, to n3: ", 31);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taking_over_is_done_in_this_order),
		cmocka_unit_test(test_what_is_handed_over_is_there_before_we_speak),
		cmocka_unit_test(test_withdrawing_is_done_in_this_order),
		cmocka_unit_test(test_who_lost_its_link_says_so_however_late),
		cmocka_unit_test(test_who_yields_to_a_deaf_rival_says_nothing_first),
		cmocka_unit_test(test_who_yields_waits_as_long_as_the_stronger_one_takes),
		cmocka_unit_test(test_an_owner_that_wakes_late_believes_as_much_as_can_be),
		cmocka_unit_test(test_a_planned_resignation_lingers),
		cmocka_unit_test(test_a_claim_expects_the_version_that_was_seen),
		cmocka_unit_test(test_a_new_lease_is_created_not_replaced),
		cmocka_unit_test(test_what_was_overtaken_on_its_way_is_not_believed),
		cmocka_unit_test(test_an_answer_to_a_write_that_was_given_up_is_ignored),
		cmocka_unit_test(test_our_own_write_outrun_by_a_newer_lease_is_no_victory),
		cmocka_unit_test(test_backups_wait_by_rank_whatever_their_priorities_are_called),
		cmocka_unit_test(test_a_stranger_ends_no_silence),
		cmocka_unit_test(test_an_old_resignation_of_somebody_else_shortens_no_silence),
		cmocka_unit_test(test_another_interval_is_learned_only_without_lease),
		cmocka_unit_test(test_whoever_answers_for_the_address_ends_the_silence),
		cmocka_unit_test(test_unchanged_settings_yield_no_action),
		cmocka_unit_test(test_candidates_may_change_places),
		cmocka_unit_test(test_no_candidate_any_more_it_frees_the_lease_that_names_it),
		cmocka_unit_test(test_an_answer_that_comes_after_the_deletion_confirms_nothing),
		cmocka_unit_test(test_a_sign_of_life_renews_what_that_node_holds),
		cmocka_unit_test(test_every_transition_tells_a_story),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
