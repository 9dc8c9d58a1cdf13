/* A foreign host that has the address: rule 13 of election/README.md. */
#include <string.h>

#include "test/unit/election_fixture.h"

static void foreigner(bool higher)
{
	tell((struct election_event){ .type = ELECTION_EVENT_ADDRESS_TAKEN, .address_higher = higher });
}

/* a found nobody, and has it, confirmed. */
static void take(bool leased)
{
	begin(A, leased);
	if (leased)
		see(ELECTION_NOBODY, 0, 1);
	else
		happen(ELECTION_EVENT_SILENCE);
	witness(1 << B | 1 << C, true);
	assert_int_equal(e.state, ELECTION_STATE_PROBING);
	happen(ELECTION_EVENT_ADDRESS_FREE);
	if (leased)
		answer(ELECTION_RESULT_OK, written(), 7);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
}

static void test_of_two_that_took_it_at_once_the_weaker_gives_in(void **state)
{
	(void)state;
	for (int leased = 0; leased < 2; leased++) {
		take(leased);
		now_us += 20 * MS;
		foreigner(true);
		assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
		assert_true(did(ELECTION_ACTION_YIELD));
		assert_int_equal(reason(), BASE_REASON_FOREIGN_ADDRESS);
		/* Soon, should the other one have given in, too, but not both in the same instant. */
		assert_in_range(e.claim_at_us, now_us + 1000 * MS, now_us + 4000 * MS);
		now_us = e.claim_at_us;
		witness(1 << B | 1 << C, true);
		happen(ELECTION_EVENT_TIMER);
		assert_int_equal(e.state, ELECTION_STATE_PROBING);
		foreigner(false);
		assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
		assert_int_equal(e.claim_at_us, now_us + 10000 * MS);
	}
}

static void test_the_stronger_says_so_once_and_goes_on(void **state)
{
	(void)state;
	take(true);
	now_us += 20 * MS;
	foreigner(false);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_true(did(ELECTION_ACTION_ANNOUNCE));
	now_us += 50 * MS;
	foreigner(false);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(done.count, 0);
}

static void test_who_does_not_give_in_had_it_before_us(void **state)
{
	(void)state;
	take(true);
	now_us += 20 * MS;
	foreigner(false);
	now_us += 1000 * MS;
	foreigner(false);
	assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
	assert_int_equal(reason(), BASE_REASON_FOREIGN_ADDRESS);
}

static void owner_of(const char *whose, uint64_t age_ms)
{
	if (strcmp(whose, "own") == 0) {
		take(true);
	} else if (strcmp(whose, "adopted") == 0) {
		begin(B, false);
		happen(ELECTION_EVENT_ADOPT);
	} else { /* another member's */
		follow(false);
		for (uint64_t ms = 0; ms < age_ms; ms += 100) {
			now_us += 100 * MS;
			hear(A, 100);
		}
		if (strcmp(whose, "silent") == 0) {
			fall_silent();
		} else { /* it hands it over */
			hear(A, 0);
			happen(ELECTION_EVENT_SILENCE);
			witness(1 << A | 1 << C, true);
		}
		if (e.state == ELECTION_STATE_FOLLOWING)
			reach_deadline();
		age_ms = 0;
	}
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	now_us += age_ms * MS;
}

static void test_only_an_address_that_is_young_is_given_up(void **state)
{
	static const struct {
		const char *name, *whose;
		uint64_t age_ms;
		bool gives_in;
	} rows[] = {
		{ "taken just now", "own", 0, true },
		{ "taken not long ago", "own", 2900, true },
		{ "taken long ago", "own", 3000, false },
		{ "a member's, who had just taken it and fell silent", "silent", 500, true },
		{ "a member's, who had it for long and fell silent", "silent", 3000, false },
		{ "a member's, who had it for long and gave it up", "resigned", 3000, false },
		{ "our own before the restart", "adopted", 0, false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		owner_of(rows[i].whose, rows[i].age_ms);
		foreigner(true);
		ASSERT_ROW(rows[i].name,
			   (e.state == ELECTION_STATE_CONFLICT) == rows[i].gives_in);
		ASSERT_ROW(rows[i].name, (done.count > 0) == rows[i].gives_in);
	}
}

/* For what happened after it was old nothing makes it young again. */
static void test_an_old_address_stays_one(void **state)
{
	(void)state;
	take(false);
	now_us += 5000 * MS;
	tell((struct election_event){ .type = ELECTION_EVENT_ELIGIBLE,
				      .eligible = false,
				      .why = BASE_REASON_LINK_DOWN });
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	now_us += 60000 * MS;
	happen(ELECTION_EVENT_SILENCE);
	assert_false(election_elector_young(&e, now_us));
}

static void test_taken_since_we_looked(void **state)
{
	struct election_lease lease;

	(void)state;
	begin(A, true);
	see(ELECTION_NOBODY, 0, 1);
	witness(1 << B | 1 << C, true);
	happen(ELECTION_EVENT_ADDRESS_FREE);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	lease = written();
	now_us += 3 * MS;
	foreigner(false); /* whoever has it need not know of us */
	assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
	answer(ELECTION_RESULT_OK, lease, 7);
	assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
	for (unsigned i = 0; i < 5 && !did(ELECTION_ACTION_WRITE); i++)
		reach_deadline();
	assert_int_equal(written().holder, ELECTION_NOBODY); /* the Lease is no use to us */
}

static void test_after_an_owner_that_gave_in_the_next_one_looks_first(void **state)
{
	static const struct {
		const char *name;
		uint64_t heard_ms;
		bool foreign, looks;
	} rows[] = {
		{ "nobody foreign", 200, false, false },
		{ "a foreign host, and the owner is not heard for long after it", 200, true, true },
		{ "a foreign host, and the owner goes on all the same", 300, true, false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		follow(false);
		if (rows[i].foreign)
			foreigner(true);
		ASSERT_ROW(rows[i].name, e.state == ELECTION_STATE_FOLLOWING);
		for (uint64_t ms = 0; ms < rows[i].heard_ms; ms += 100) {
			now_us += 100 * MS;
			hear(A, 100);
		}
		fall_silent();
		ASSERT_ROW(rows[i].name, (e.state == ELECTION_STATE_PROBING) == rows[i].looks);
		ASSERT_ROW(rows[i].name, (e.state == ELECTION_STATE_OWNING) != rows[i].looks);
	}
}

static void test_what_is_offered_after_that_is_looked_at_first(void **state)
{
	(void)state;
	follow(true);
	foreigner(true);
	see(ELECTION_NOBODY, 6, 51); /* a released it */
	assert_true(did(ELECTION_ACTION_PROBE_ADDRESSES));
	witness(1 << A | 1 << C, true);
	foreigner(false);
	assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
	/* And if the stranger is heard only once the offer waits for its time. */
	follow(true);
	see(ELECTION_NOBODY, 6, 51);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	foreigner(true);
	witness(1 << A | 1 << C, true);
	while (e.state == ELECTION_STATE_FOLLOWING)
		reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_PROBING);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_two_that_took_it_at_once_the_weaker_gives_in),
		cmocka_unit_test(test_the_stronger_says_so_once_and_goes_on),
		cmocka_unit_test(test_who_does_not_give_in_had_it_before_us),
		cmocka_unit_test(test_only_an_address_that_is_young_is_given_up),
		cmocka_unit_test(test_an_old_address_stays_one),
		cmocka_unit_test(test_taken_since_we_looked),
		cmocka_unit_test(test_after_an_owner_that_gave_in_the_next_one_looks_first),
		cmocka_unit_test(test_what_is_offered_after_that_is_looked_at_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
