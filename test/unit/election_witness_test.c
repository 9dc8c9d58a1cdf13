/* Of advert, Lease and answers for the address two have to agree: rule 13 of election/README.md. */
#include "test/unit/election_fixture.h"

static bool believes(uint8_t from, uint8_t priority)
{
	return election_elector_believes(&e, from, priority, now_us);
}

static void held(uint8_t from)
{
	tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = from });
}

/* An advert of `from` every interval. How often it was not believed. */
static unsigned hear_on(uint8_t from, uint8_t priority, unsigned times)
{
	unsigned disbelieved = 0;

	for (unsigned i = 0; i < times; i++) {
		now_us += 100 * MS;
		hear(from, priority);
		disbelieved += did(ELECTION_ACTION_DISBELIEVE);
	}
	return disbelieved;
}

static void test_a_resignation_that_the_owner_contradicts_was_not_its_own(void **state)
{
	(void)state;
	follow(true);
	assert_false(believes(A, 0));
	hear(A, 0);
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	assert_false(did(ELECTION_ACTION_WRITE));
	assert_int_equal(election_elector_owner(&e), A);
	now_us += 1 * MS;
	held(A);
	now_us += 3 * MS;
	witness(1 << A | 1 << C, true);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	now_us += 90 * MS;
	hear(A, 228);
	assert_true(did(ELECTION_ACTION_DISBELIEVE));
	assert_int_equal(find(ELECTION_ACTION_DISBELIEVE)->from, A);
	assert_int_equal(election_elector_deadline(&e), BASE_USEC_NEVER);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_who_resigned_and_does_not_answer_did_resign(void **state)
{
	(void)state;
	follow(true);
	hear(A, 0);
	now_us += 1 * MS;
	witness(1 << C, true); /* of an earlier question: it had no time to answer this one */
	assert_false(did(ELECTION_ACTION_WRITE));
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	for (unsigned missed = 0; missed < 2; missed++) {
		now_us += 4 * MS;
		witness(1 << C, true);
		witness(1 << C, true); /* of somebody else's question */
		assert_false(did(ELECTION_ACTION_RESIGNED));
		reach_deadline();
		assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	}
	now_us += 4 * MS;
	witness(1 << C, true);
	assert_true(did(ELECTION_ACTION_RESIGNED)); /* the others' Skew_Time begins */
	assert_int_equal(written().holder, B);
	answer(ELECTION_RESULT_OK, written(), 60);
	assert_int_equal(reason(), BASE_REASON_OWNER_RESIGNED);
	assert_true(e.confirmed);
}

/* A busy node answers a little later than a question waits for it. */
static void test_an_owner_that_answers_the_second_question_did_not_resign(void **state)
{
	(void)state;
	follow(true);
	hear(A, 0);
	now_us += 4 * MS;
	witness(1 << C, true);
	now_us += 10 * MS;
	held(A);
	now_us += 60 * MS;
	witness(1 << C, true);
	assert_false(did(ELECTION_ACTION_RESIGNED));
	hear(A, 228);
	assert_true(did(ELECTION_ACTION_DISBELIEVE));
	assert_int_equal(election_elector_deadline(&e), BASE_USEC_NEVER);
}

/* An owner that cannot reach the API server hands over by the LAN alone, and lingers. */
static void test_who_answers_but_is_not_heard_for_an_interval_did_resign(void **state)
{
	(void)state;
	follow(true);
	hear(A, 0);
	held(A);
	now_us += 4 * MS;
	witness(1 << A | 1 << C, true);
	assert_false(did(ELECTION_ACTION_WRITE));
	reach_deadline();
	assert_true(did(ELECTION_ACTION_RESIGNED));
	assert_int_equal(written().holder, B);
	answer(ELECTION_RESULT_OK, written(), 60);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
}

static void test_a_resignation_that_the_lease_confirms_is_one(void **state)
{
	(void)state;
	follow(true);
	hear(A, 0);
	held(A);
	now_us += 3 * MS;
	see(ELECTION_NOBODY, 6, 60);
	assert_true(did(ELECTION_ACTION_RESIGNED));
	witness(1 << C, true);
	reach_deadline(); /* by rank, a being first */
	assert_int_equal(written().holder, B);
	assert_int_equal(written().term, 7);
}

static void test_without_lease_or_api_server_a_resignation_is_believed_at_once(void **state)
{
	(void)state;
	follow(false);
	assert_true(believes(A, 0));
	hear(A, 0);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);

	follow(true);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = false });
	assert_true(believes(A, 0));
	hear(A, 0);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_false(e.confirmed);
}

static void test_whom_the_lease_does_not_name_has_to_answer_for_the_address(void **state)
{
	(void)state;
	follow(true);
	hear(C, 178);
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	assert_true(believes(C, 178)); /* until it had the time to answer */
	assert_true(hear_on(C, 178, 5) > 0);
	assert_false(believes(C, 178));
	assert_true(believes(A, 228));
	now_us += 100 * MS;
	held(C);
	assert_true(believes(C, 178));
	now_us += 2000 * MS;
	assert_true(believes(C, 178));
	now_us += 1100 * MS;
	assert_false(believes(C, 178));
}

/* The holder died, and somebody goes on in its name: for as long as its Lease is valid. */
static void test_when_the_lease_expires_its_holder_has_to_answer_too(void **state)
{
	(void)state;
	follow(true);
	hear_on(A, 228, 10);
	assert_true(believes(A, 228));
	now_us += 30000 * MS;
	hear_on(A, 228, 5);
	assert_false(believes(A, 228));
	happen(ELECTION_EVENT_RENEWED);
	assert_true(believes(A, 228));
}

/* A question is answered by whom `nodes` says; what that one has is told apart, by held(). */
static void answer_question(uint32_t nodes)
{
	tell((struct election_event){ .type = ELECTION_EVENT_WITNESSES,
				      .witnesses = 1 << A | nodes, /* adverts bear its address */
				      .answering = nodes,
				      .gateway_known = true,
				      .gateway_reachable = true });
}

/*
 * Adverts of the holder every `gap_ms`. It answers for the address as long as `holds`, its node for
 * itself as long as `there`. How many questions it was asked.
 */
static unsigned listen_to_holder(unsigned gap_ms, unsigned times, bool holds, bool there)
{
	unsigned questions = 0;

	for (unsigned i = 0; i < times; i++) {
		now_us += gap_ms * MS;
		hear(A, 228);
		if (!did(ELECTION_ACTION_PROBE_WITNESSES))
			continue;
		questions++;
		now_us += 4 * MS;
		if (holds)
			held(A);
		answer_question(1 << C | (there ? 1 << A : 0));
		now_us -= 4 * MS;
	}
	return questions;
}

static void test_a_holder_is_asked_once_and_not_while_all_is_well(void **state)
{
	(void)state;
	follow(true);
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	held(A);
	assert_int_equal(listen_to_holder(100, 40, true, true), 0);
	happen(ELECTION_EVENT_RENEWED);
	assert_int_equal(listen_to_holder(100, 30, true, true), 0);
}

/* Its daemon hangs, or was killed: its kernel answers for the node, but not for the address. */
static void test_adverts_that_are_odd_are_held_against_an_open_fence(void **state)
{
	(void)state;
	follow(true);
	held(A);
	assert_true(listen_to_holder(50, 80, true, true) >= 2); /* two that send */
	assert_true(believes(A, 228));
	listen_to_holder(100, 2, false, true);
	assert_true(believes(A, 228));
	listen_to_holder(100, 11, false, true);
	assert_false(believes(A, 228)); /* a second and three questions later */
	fall_silent();
	assert_int_equal(written().holder, B);
}

static void test_a_holder_that_answers_again_is_believed_again(void **state)
{
	(void)state;
	follow(true);
	listen_to_holder(50, 80, true, true);
	listen_to_holder(100, 20, false, true);
	assert_false(believes(A, 228));
	held(A);
	assert_true(believes(A, 228));
}

/* Its adverts arrive, but it does not hear us: nothing but its signs of life tells that from death. */
static void test_a_holder_that_does_not_hear_us_is_alive_while_its_node_gives_signs(void **state)
{
	(void)state;
	follow(true);
	held(A);
	for (unsigned i = 0; i < 10; i++) {
		happen(ELECTION_EVENT_RENEWED);
		listen_to_holder(50, 60, false, false);
		assert_true(believes(A, 228));
	}
	listen_to_holder(50, 500, false, false);
	assert_true(believes(A, 228)); /* 28 s after the last one */
	listen_to_holder(50, 100, false, false);
	assert_false(believes(A, 228)); /* when its Lease has expired */
}

/* Or such questions never get anywhere, whoever has it. */
static void test_who_never_answered_proves_nothing_by_silence(void **state)
{
	(void)state;
	follow(true);
	listen_to_holder(50, 500, false, true); /* 25 s */
	assert_true(believes(A, 228));
}

static void test_without_api_server_a_holder_is_believed(void **state)
{
	(void)state;
	follow(true);
	listen_to_holder(50, 80, true, true);
	listen_to_holder(100, 20, false, true);
	assert_false(believes(A, 228));
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = false });
	assert_true(believes(A, 228));
}

static void test_a_stranger_is_never_believed(void **state)
{
	(void)state;
	follow(true);
	assert_false(believes(ELECTION_OTHER, 255));
	assert_false(believes(ELECTION_OTHER, 0));
	assert_false(believes(C, 0)); /* it owns nothing that it could give up */
	hear(C, 0);
	assert_int_equal(done.count, 0);
}

static void test_a_confirmed_owner_yields_to_a_deaf_rival_only_if_that_answers(void **state)
{
	(void)state;
	own(true);
	now_us += 1000 * MS;
	hear(C, 50);
	assert_true(hear_on(C, 50, 20) > 0);
	assert_true(election_elector_owns(&e) && e.confirmed);
	held(C); /* or it announced the address */
	assert_true(election_elector_owns(&e));
	hear_on(C, 50, 1);
	assert_false(election_elector_owns(&e));
}

static void test_answers_from_before_it_owned_are_no_witness_against_an_owner(void **state)
{
	(void)state;
	follow(true);
	held(A);
	fall_silent();
	answer(ELECTION_RESULT_OK, written(), 60);
	assert_true(election_elector_owns(&e));
	hear(A, 100);
	hear_on(A, 100, 5);
	assert_true(election_elector_owns(&e));
}

static void test_a_rival_that_goes_on_is_proved_wrong_less_and_less_often(void **state)
{
	unsigned writes = 0, disbelieved = 0;

	(void)state;
	own(true);
	for (unsigned i = 0; i < 600; i++) {
		now_us += 100 * MS;
		hear(C, 255);
		disbelieved += did(ELECTION_ACTION_DISBELIEVE);
		if (!did(ELECTION_ACTION_WRITE))
			continue;
		writes++;
		answer(ELECTION_RESULT_OK, written(), 100 + i);
		assert_true(e.confirmed);
	}
	assert_in_range(writes, 5, 15); /* in a minute */
	assert_true(disbelieved > 3);
	assert_true(election_elector_owns(&e));
	held(C); /* it is there after all: the Lease decides at once */
	now_us += 300 * MS;
	hear(C, 255);
	assert_true(did(ELECTION_ACTION_WRITE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_resignation_that_the_owner_contradicts_was_not_its_own),
		cmocka_unit_test(test_who_resigned_and_does_not_answer_did_resign),
		cmocka_unit_test(test_an_owner_that_answers_the_second_question_did_not_resign),
		cmocka_unit_test(test_who_answers_but_is_not_heard_for_an_interval_did_resign),
		cmocka_unit_test(test_a_resignation_that_the_lease_confirms_is_one),
		cmocka_unit_test(
			test_without_lease_or_api_server_a_resignation_is_believed_at_once),
		cmocka_unit_test(test_whom_the_lease_does_not_name_has_to_answer_for_the_address),
		cmocka_unit_test(test_when_the_lease_expires_its_holder_has_to_answer_too),
		cmocka_unit_test(test_a_holder_is_asked_once_and_not_while_all_is_well),
		cmocka_unit_test(test_adverts_that_are_odd_are_held_against_an_open_fence),
		cmocka_unit_test(test_a_holder_that_answers_again_is_believed_again),
		cmocka_unit_test(
			test_a_holder_that_does_not_hear_us_is_alive_while_its_node_gives_signs),
		cmocka_unit_test(test_who_never_answered_proves_nothing_by_silence),
		cmocka_unit_test(test_without_api_server_a_holder_is_believed),
		cmocka_unit_test(test_a_stranger_is_never_believed),
		cmocka_unit_test(
			test_a_confirmed_owner_yields_to_a_deaf_rival_only_if_that_answers),
		cmocka_unit_test(test_answers_from_before_it_owned_are_no_witness_against_an_owner),
		cmocka_unit_test(test_a_rival_that_goes_on_is_proved_wrong_less_and_less_often),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
