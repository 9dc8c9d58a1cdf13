/* Whose node answers nothing is gone, whatever its fence would say: rule 2 of election/README.md. */
#include "test/unit/election_fixture.h"

enum owner { IS_MISSING, ANSWERS, UNKNOWN };

static void round_ends(enum owner owner, uint32_t others, bool gateway)
{
	now_us += 4 * MS;
	tell((struct election_event){ .type = ELECTION_EVENT_WITNESSES,
				      .witnesses = others | (owner == ANSWERS ? 1 << A : 0),
				      .answering = others | (owner == ANSWERS ? 1 << A : 0),
				      .missing = owner == IS_MISSING ? 1 << A : 0,
				      .gateway_known = true,
				      .gateway_reachable = gateway });
}

static void miss_two(void)
{
	now_us += 211 * MS;
	happen(ELECTION_EVENT_MISSED);
}

/* Whether all three questions were asked. */
static bool ask_on(enum owner owner, uint32_t others, bool gateway)
{
	for (unsigned asked = 1; asked < ELECTION_UNANSWERED_MAX; asked++) {
		uint64_t asked_us = now_us;

		round_ends(owner, others, gateway);
		if (election_elector_deadline(&e) == BASE_USEC_NEVER)
			return false;
		assert_int_equal(election_elector_deadline(&e), asked_us + 5 * MS);
		reach_deadline();
		assert_true(did(ELECTION_ACTION_PROBE_MEMBERS));
		assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	}
	round_ends(owner, others, gateway);
	return true;
}

static void test_three_questions_that_it_does_not_answer_are_enough(void **state)
{
	(void)state;
	follow(false);
	miss_two();
	assert_true(did(ELECTION_ACTION_PROBE_MEMBERS));
	assert_false(did(ELECTION_ACTION_PROBE_WITNESSES)); /* its fence would answer for the address */
	assert_true(ask_on(IS_MISSING, 1 << C, true));
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(reason(), BASE_REASON_OWNER_LOST);
	follow(true);
	miss_two();
	assert_true(ask_on(IS_MISSING, 1 << C, true));
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_int_equal(written().holder, B);
}

static void test_what_does_not_show_that_it_is_gone(void **state)
{
	static const struct {
		const char *name;
		enum owner owner;
		uint32_t others;
		bool gateway, asked_on;
	} rows[] = {
		{ "it answers", ANSWERS, 1 << C, true, false },
		{ "it never answered before", UNKNOWN, 1 << C, true, false },
		{ "nobody answers: it may be our link", IS_MISSING, 0, false, false },
		{ "one of three, which is no quorum", IS_MISSING, 1 << C, false, true },
	};

	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		(void)state;
		follow(false);
		miss_two();
		ASSERT_ROW(rows[i].name,
			   ask_on(rows[i].owner, rows[i].others, rows[i].gateway) == rows[i].asked_on);
		ASSERT_ROW(rows[i].name, e.state == ELECTION_STATE_FOLLOWING);
		/* The silence says the rest, in its time. */
		now_us += 40 * MS;
		happen(ELECTION_EVENT_SUSPECT);
		ASSERT_ROW(rows[i].name, did(ELECTION_ACTION_PROBE_WITNESSES));
	}
}

/* A's last advert is `late_us` longer ago than it should be when its third answer is missed. */
static enum election_state ask_late(uint8_t self, bool leased, uint64_t late_us)
{
	if (self == B) {
		follow(leased);
	} else {
		begin(self, leased);
		hear(A, 100);
	}
	now_us += late_us;
	miss_two();
	assert_true(ask_on(IS_MISSING, self == B ? 1 << C : 1 << B, true));
	return e.state;
}

static void test_who_is_late_leaves_it_to_the_next_one(void **state)
{
	static const struct {
		const char *name;
		uint8_t self;
		bool leased;
		uint64_t late_us;
		enum election_state state;
	} rows[] = {
		{ "late by 12 ms", B, false, 11 * MS, ELECTION_STATE_OWNING },
		{ "by 13: c's turn is 25 after ours", B, false, 13 * MS, ELECTION_STATE_FOLLOWING },
		{ "the Lease tells who was first", B, true, 20 * MS, ELECTION_STATE_CLAIMING },
		{ "c in its turn", C, false, 26 * MS, ELECTION_STATE_OWNING },
		{ "c later", C, false, 38 * MS, ELECTION_STATE_FOLLOWING },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++)
		ASSERT_ROW(rows[i].name, ask_late(rows[i].self, rows[i].leased, rows[i].late_us) ==
						 rows[i].state);
}

static void test_one_answer_is_enough_at_any_time(void **state)
{
	(void)state;
	follow(false);
	miss_two();
	round_ends(IS_MISSING, 1 << C, true);
	reach_deadline();
	round_ends(ANSWERS, 1 << C, true);
	assert_true(election_elector_deadline(&e) == BASE_USEC_NEVER);
	round_ends(IS_MISSING, 1 << C, true); /* somebody else's question */
	round_ends(IS_MISSING, 1 << C, true);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_an_advert_in_between_ends_it(void **state)
{
	(void)state;
	follow(false);
	miss_two();
	round_ends(IS_MISSING, 1 << C, true);
	hear(A, 100);
	assert_true(election_elector_deadline(&e) == BASE_USEC_NEVER);
	round_ends(IS_MISSING, 1 << C, true);
	round_ends(IS_MISSING, 1 << C, true);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_the_end_of_an_earlier_round_says_nothing(void **state)
{
	(void)state;
	follow(false);
	miss_two();
	now_us -= 2 * MS;
	round_ends(IS_MISSING, 1 << C, true);
	assert_true(did(ELECTION_ACTION_PROBE_MEMBERS));
	assert_int_equal(e.absences, 0);
}

static void test_who_may_not_own_it_does_not_ask(void **state)
{
	(void)state;
	follow(false);
	tell((struct election_event){ .type = ELECTION_EVENT_ELIGIBLE, .eligible = false });
	miss_two();
	assert_int_equal(done.count, 0);
	begin(B, false); /* nobody was heard yet */
	miss_two();
	assert_int_equal(done.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_three_questions_that_it_does_not_answer_are_enough),
		cmocka_unit_test(test_what_does_not_show_that_it_is_gone),
		cmocka_unit_test(test_who_is_late_leaves_it_to_the_next_one),
		cmocka_unit_test(test_one_answer_is_enough_at_any_time),
		cmocka_unit_test(test_an_advert_in_between_ends_it),
		cmocka_unit_test(test_the_end_of_an_earlier_round_says_nothing),
		cmocka_unit_test(test_who_may_not_own_it_does_not_ask),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
