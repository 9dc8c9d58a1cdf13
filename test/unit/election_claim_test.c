/* Who may take an address, and when: rules 2, 3, 4, 6, 8, 13 of election/README.md. */
#include "test/unit/election_fixture.h"

static void test_a_silent_owner_heard_in_this_term_is_replaced_by_compare_and_swap(void **state)
{
	(void)state;
	follow(true);
	fall_silent();
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_int_equal(written().holder, B);
	assert_int_equal(written().term, 6);
	answer(ELECTION_RESULT_OK, written(), 51);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_true(e.confirmed);
	assert_int_equal(done.items[0].type, ELECTION_ACTION_ACTIVATE);
	assert_int_equal(reason(), BASE_REASON_OWNER_LOST);
}

static void test_an_owner_never_heard_in_this_term_is_waited_for_until_its_lease_expires(
	void **state)
{
	(void)state;
	begin(B, true);
	see(A, 5, 50);
	hear(C, 50); /* some other node, before */
	fall_silent();
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(election_elector_deadline(&e), 1000 * MS + 30000 * MS);
	see(A, 5, 51); /* written again, seen later */
	assert_int_equal(election_elector_deadline(&e), now_us + 30000 * MS);
	now_us += 20000 * MS;
	happen(ELECTION_EVENT_RENEWED); /* and its node lives */
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(election_elector_deadline(&e), now_us + 20000 * MS);
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
}

/* What our node says keeps the Lease from expiring: whoever never heard us would wait for ever. */
static void test_a_lease_that_names_us_in_vain_is_given_back(void **state)
{
	uint64_t since_us;

	(void)state;
	begin(B, true);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = true });
	see(B, 5, 50);
	happen(ELECTION_EVENT_ADDRESS_FREE);
	since_us = now_us;
	now_us += 300 * MS;
	happen(ELECTION_EVENT_SILENCE);
	witness(0, false); /* nobody answers: no quorum */
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	do {
		reach_deadline();
		witness(0, false);
	} while (!e.writing && now_us < since_us + 10000 * MS);
	assert_in_range(now_us - since_us, 2400 * MS, 2410 * MS);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	answer(ELECTION_RESULT_OK, lease_of(ELECTION_NOBODY, 6), 51);
	assert_int_equal(e.vain_us, 0);
	assert_int_equal(e.lease.holder, ELECTION_NOBODY);
}

static void test_a_lease_that_names_us_is_kept_while_somebody_is_heard(void **state)
{
	(void)state;
	begin(B, true);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = true });
	see(B, 5, 50);
	happen(ELECTION_EVENT_ADDRESS_FREE);
	assert_int_not_equal(e.vain_us, 0);
	hear(A, 100); /* unconfirmed: it asks for the Lease itself, as soon as it can */
	assert_int_equal(e.vain_us, 0);
}

static void test_a_confirmed_owner_that_the_lease_does_not_name_makes_us_ask(void **state)
{
	unsigned reads = 0;

	(void)state;
	follow(true);
	for (unsigned i = 0; i < 1000; i++) { /* 100 s */
		now_us += 100 * MS;
		hear(C, 178);
		reads += did(ELECTION_ACTION_READ);
		if (i == 45)
			assert_int_equal(reads, 0);
		if (i == 55)
			assert_int_equal(reads, 1);
	}
	assert_in_range(reads, 4, 5); /* after 5, 10, 20, 40 s more */
	see(C, 6, 51);
	for (unsigned i = 0; i < 100; i++) {
		now_us += 100 * MS;
		hear(C, 178);
		assert_false(did(ELECTION_ACTION_READ));
	}
}

static void test_a_new_term_wants_its_holder_heard_anew(void **state)
{
	(void)state;
	follow(true);
	now_us += 1000 * MS;
	see(C, 6, 51);
	assert_false(e.heard_in_term);
	hear(C, 178);
	assert_true(e.heard_in_term);
}

static void test_a_node_that_reaches_nobody_does_not_claim(void **state)
{
	static const struct {
		const char *name;
		uint32_t nodes;
		bool gateway, claims;
	} rows[] = {
		{ "nobody", 0, false, false },
		{ "one of three others: not more than half", 1 << C, false, false },
		{ "the gateway alone: half, with the gateway", 0, true, true },
		{ "one and the gateway", 1 << C, true, true },
		{ "all nodes, no gateway", 1 << A | 1 << C, false, true },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		follow(true);
		now_us += 260 * MS;
		happen(ELECTION_EVENT_SUSPECT);
		ASSERT_ROW(rows[i].name, did(ELECTION_ACTION_PROBE_WITNESSES));
		witness(rows[i].nodes, rows[i].gateway);
		now_us += 45 * MS;
		happen(ELECTION_EVENT_SILENCE);
		ASSERT_ROW(rows[i].name, rows[i].claims == (e.state == ELECTION_STATE_CLAIMING));
		ASSERT_ROW(rows[i].name,
			   rows[i].claims || election_elector_deadline(&e) == now_us + 100 * MS);
	}
}

static void test_two_candidates_without_gateway_have_no_quorum_rule(void **state)
{
	struct election_config c = config(B, false);

	(void)state;
	c.candidate_count = 2;
	now_us = 1000 * MS;
	election_elector_init(&e, &c, now_us, 1);
	tell((struct election_event){ .type = ELECTION_EVENT_ELIGIBLE, .eligible = true });
	hear(A, 100);
	happen(ELECTION_EVENT_SUSPECT);
	tell((struct election_event){ .type = ELECTION_EVENT_WITNESSES });
	happen(ELECTION_EVENT_SILENCE);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
}

/* b hears nothing, and nobody answers it. */
static void be_cut_off(void)
{
	follow(false);
	now_us += 260 * MS;
	happen(ELECTION_EVENT_SUSPECT);
	happen(ELECTION_EVENT_SILENCE);
	witness(0, false);
}

static void test_back_among_the_others_a_node_listens_before_it_claims(void **state)
{
	(void)state;
	be_cut_off();
	now_us += 1000 * MS;
	witness(1 << A | 1 << C, true);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_true(did(ELECTION_ACTION_LISTEN));
}

static void test_back_among_the_others_soon_a_node_asks_them_first(void **state)
{
	(void)state;
	be_cut_off();
	now_us += 100 * MS;
	witness(1 << A | 1 << C, true); /* an owner among them was not asked who has the address */
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	now_us += 4 * MS;
	witness(1 << A | 1 << C, true);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
}

static void test_whoever_answers_for_the_address_is_alive_though_unheard(void **state)
{
	(void)state;
	follow(true);
	now_us += 260 * MS;
	happen(ELECTION_EVENT_SUSPECT);
	tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = A });
	assert_true(did(ELECTION_ACTION_LISTEN));
	assert_int_equal(e.speaker, A);
	tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = ELECTION_OTHER });
	assert_true(did(ELECTION_ACTION_LISTEN)); /* a member that is no candidate (any more) */
}

static void test_an_unanswered_claim_falls_back_to_the_lan_after_150_ms(void **state)
{
	(void)state;
	follow(true);
	fall_silent();
	assert_int_equal(election_elector_deadline(&e), now_us + 150 * MS);
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_false(e.confirmed);
	/* The answer was only late. */
	answer(ELECTION_RESULT_OK, lease_of(B, 6), 51);
	assert_true(e.confirmed);
	assert_true(did(ELECTION_ACTION_PRIORITY));
}

static void test_a_claim_whose_answer_is_lost_counts_as_an_api_server_that_is_silent(void **state)
{
	(void)state;
	follow(true);
	fall_silent();
	answer(ELECTION_RESULT_UNKNOWN, (struct election_lease){ 0 }, 0);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_false(e.confirmed);
	assert_false(e.api_reachable);
	assert_true(did(ELECTION_ACTION_READ)); /* it may have landed */
}

static void test_an_answer_that_went_with_the_agent_is_not_waited_for(void **state)
{
	(void)state;
	follow(true);
	fall_silent();
	see(B, 6, 51); /* it landed, the watch says; the answer never comes */
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = false });
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = true });
	see(A, 7, 52);
	now_us += 10 * MS;
	hear(A, 228);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	fall_silent();
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING); /* not by the LAN alone */
	assert_int_equal(written().term, 8);
}

static void test_a_claim_that_lost_the_race_follows(void **state)
{
	(void)state;
	follow(true);
	fall_silent();
	answer(ELECTION_RESULT_CONFLICT, (struct election_lease){ 0 }, 0);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_true(did(ELECTION_ACTION_LISTEN));
	assert_true(did(ELECTION_ACTION_READ));
}

static void test_a_claim_that_landed_before_somebody_elses_is_lost(void **state)
{
	(void)state;
	follow(true);
	fall_silent();
	answer(ELECTION_RESULT_OK, lease_of(C, 7), 70);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_a_claim_that_lands_although_the_owner_is_heard_waits_for_it(void **state)
{
	struct election_lease lease;

	(void)state;
	follow(true);
	fall_silent();
	lease = written();
	hear(A, 228);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	answer(ELECTION_RESULT_OK, lease, 51);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_false(did(ELECTION_ACTION_ACTIVATE));
	hear(A, 0);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_true(e.confirmed);
}

/* Its answer came late, and says nothing of who claimed on top of it. */
static void test_a_claim_whose_answer_comes_after_another_owner_is_made_sure_of(void **state)
{
	static const struct {
		const char *name;
		uint8_t from, priority;
		bool again; /* it is written once more */
		enum election_result then;
		enum election_state end;
	} rows[] = {
		{ "overtaken", C, 178, true, ELECTION_RESULT_CONFLICT, ELECTION_STATE_FOLLOWING },
		{ "not overtaken: it waits for that one's silence", C, 178, true, ELECTION_RESULT_OK,
		  ELECTION_STATE_CLAIMING },
		{ "one that does not say it has the Lease", C, 50, false, ELECTION_RESULT_OK,
		  ELECTION_STATE_CLAIMING },
		{ "who had the Lease before", A, 178, false, ELECTION_RESULT_OK, ELECTION_STATE_CLAIMING },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		follow(true);
		fall_silent();
		assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
		now_us += 20 * MS;
		hear(rows[i].from, rows[i].priority);
		if (rows[i].again) {
			see(B, 6, 60); /* the watch is quicker: no answer yet */
			ASSERT_ROW(rows[i].name, e.state == ELECTION_STATE_CLAIMING);
		}
		answer(ELECTION_RESULT_OK, lease_of(B, 6), 60);
		ASSERT_ROW(rows[i].name, did(ELECTION_ACTION_WRITE) == rows[i].again);
		if (rows[i].again) {
			ASSERT_ROW(rows[i].name, e.state == ELECTION_STATE_CLAIMING && written().holder == B);
			hear(rows[i].from, rows[i].priority); /* as often as he likes */
			answer(rows[i].then, lease_of(B, 6), 61);
			ASSERT_ROW(rows[i].name, !did(ELECTION_ACTION_WRITE));
		}
		ASSERT_ROW(rows[i].name, e.state == rows[i].end);
	}
}

static void test_without_contact_nobody_waits_for_the_api_server(void **state)
{
	(void)state;
	follow(true);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = false });
	fall_silent();
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_false(e.confirmed);
	assert_false(did(ELECTION_ACTION_WRITE));
}

static void test_the_first_owner_probes_asks_and_claims_in_one_go(void **state)
{
	(void)state;
	begin(A, true);
	see(ELECTION_NOBODY, 0, 1); /* no Lease yet */
	assert_int_equal(e.state, ELECTION_STATE_PROBING);
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	assert_true(did(ELECTION_ACTION_PROBE_ADDRESSES));
	now_us += 4 * MS;
	witness(1 << B | 1 << C, true);
	now_us += 6 * MS;
	happen(ELECTION_EVENT_ADDRESS_FREE);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_int_equal(written().term, 1);
	answer(ELECTION_RESULT_OK, written(), 7);
	assert_int_equal(reason(), BASE_REASON_OWNER_ELECTED);
}

static void test_what_is_free_is_claimed_by_rank(void **state)
{
	static const uint64_t after_ms[] = { 0, 50, 100 };

	(void)state;
	for (uint8_t self = A; self <= C; self++) {
		begin(self, true);
		see(ELECTION_NOBODY, 0, 1);
		now_us += 4 * MS;
		witness(7, true);
		now_us += 6 * MS;
		happen(ELECTION_EVENT_ADDRESS_FREE);
		if (self == A) {
			assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
			continue;
		}
		assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
		assert_int_equal(election_elector_deadline(&e), 1000 * MS + after_ms[self] * MS);
		reach_deadline();
		assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	}
}

static void test_a_foreign_holder_is_not_fought_and_looked_for_again(void **state)
{
	(void)state;
	begin(A, true);
	see(ELECTION_NOBODY, 0, 1);
	witness(7, true);
	happen(ELECTION_EVENT_ADDRESS_TAKEN);
	assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
	assert_int_equal(reason(), BASE_REASON_FOREIGN_ADDRESS);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(election_elector_deadline(&e), now_us + 10000 * MS);
		/* Missed twice, a second apart: he may be failing over himself. */
		for (unsigned look = 0; look < 2; look++) {
			reach_deadline();
			assert_int_equal(e.state, ELECTION_STATE_PROBING);
			happen(ELECTION_EVENT_ADDRESS_FREE);
			assert_int_equal(e.state, ELECTION_STATE_CONFLICT);
			assert_int_equal(election_elector_deadline(&e), now_us + 1000 * MS);
		}
		reach_deadline();
		if (round == 0) /* there he is: all over again */
			happen(ELECTION_EVENT_ADDRESS_TAKEN);
	}
	happen(ELECTION_EVENT_ADDRESS_FREE);
	witness(7, true); /* asked anew, after ten seconds */
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
}

static void test_a_lease_that_names_us_is_renewed_before_we_answer(void **state)
{
	(void)state;
	begin(B, true);
	see(B, 5, 50);
	assert_int_equal(e.state, ELECTION_STATE_PROBING);
	witness(7, true);
	happen(ELECTION_EVENT_ADDRESS_FREE);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_int_equal(written().holder, B);
	assert_int_equal(written().term, 5); /* the holder does not change, so the term does not */
	answer(ELECTION_RESULT_OK, written(), 51);
	assert_int_equal(reason(), BASE_REASON_STARTED);
}

static void test_a_holder_that_may_not_own_lets_go_of_its_lease(void **state)
{
	struct election_config c = config(B, true);

	(void)state;
	c.excluded = true;
	now_us = 1000 * MS;
	election_elector_init(&e, &c, now_us, 1);
	see(B, 5, 50);
	assert_int_equal(written().holder, ELECTION_NOBODY);
	assert_int_equal(written().term, 6);
	see(ELECTION_NOBODY, 6, 51);
	assert_false(did(ELECTION_ACTION_WRITE)); /* once is enough */
}

/* Whoever serves will ask for the Lease itself; once nobody does, the others need not wait. */
static void test_an_excluded_holder_lets_go_of_its_lease_when_nobody_is_heard(void **state)
{
	struct election_config c = config(B, true);

	(void)state;
	c.excluded = true;
	now_us = 1000 * MS;
	election_elector_init(&e, &c, now_us, 1);
	tell((struct election_event){ .type = ELECTION_EVENT_ELIGIBLE, .eligible = true });
	see(A, 4, 49);
	hear(A, 228);
	see(B, 5, 50);
	assert_false(did(ELECTION_ACTION_WRITE));
	now_us += 300 * MS;
	happen(ELECTION_EVENT_SILENCE);
	assert_int_equal(election_elector_deadline(&e), now_us);
	reach_deadline();
	assert_int_equal(written().holder, ELECTION_NOBODY);
	answer(ELECTION_RESULT_REFUSED, written(), 0);
	assert_true(election_elector_deadline(&e) >= now_us + 2000 * MS); /* it may be refused again */
	reach_deadline();
	assert_int_equal(written().holder, ELECTION_NOBODY);
}

static void test_a_node_that_has_just_started_keeps_the_lease_that_names_it(void **state)
{
	struct election_config c = config(B, true);

	(void)state;
	now_us = 1000 * MS;
	election_elector_init(&e, &c, now_us, 1);
	see(B, 5, 50);
	assert_false(did(ELECTION_ACTION_WRITE)); /* rules and links are not looked at yet */
	tell((struct election_event){ .type = ELECTION_EVENT_ELIGIBLE, .eligible = true });
	happen(ELECTION_EVENT_ADOPT);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
}

static void test_strangers_neither_keep_us_from_an_address_nor_move_it(void **state)
{
	(void)state;
	follow(true);
	now_us += 300 * MS;
	happen(ELECTION_EVENT_SUSPECT);
	witness(7, true);
	hear(ELECTION_OTHER, 255);
	happen(ELECTION_EVENT_SILENCE);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	answer(ELECTION_RESULT_OK, written(), 51);
	hear(ELECTION_OTHER, 255);
	hear(ELECTION_OTHER, 0);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(done.count, 0);
}

static void test_a_resignation_counts_only_from_the_owner(void **state)
{
	(void)state;
	follow(false);
	hear(C, 0);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	hear(A, 0); /* with a gone b is the best */
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(reason(), BASE_REASON_OWNER_RESIGNED);
}

/* Else three that claim at once take it from each other as fast as the API server answers. */
static void test_adverts_before_a_resignation_do_not_count_in_the_next_term(void **state)
{
	(void)state;
	follow(true);
	hear(A, 0);
	for (unsigned missed = 1; missed <= ELECTION_UNANSWERED_MAX; missed++) {
		now_us += 4 * MS;
		witness(1 << C, true); /* it does not answer any more */
		if (missed < ELECTION_UNANSWERED_MAX)
			reach_deadline();
	}
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	answer(ELECTION_RESULT_CONFLICT, written(), 0);
	now_us += 10 * MS;
	see(C, 6, 51); /* it was faster, */
	see(A, 7, 52); /* and the first one again, which is about to learn that */
	hear(C, 0);
	happen(ELECTION_EVENT_SUSPECT);
	witness(5, true);
	happen(ELECTION_EVENT_SILENCE);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	hear(A, 228);
	assert_true(e.heard_in_term);
}

/* Two senders, two ways: what the old owner said before it left may come after the new one's first advert. */
static void test_a_resignation_that_comes_after_the_successor_ends_no_silence(void **state)
{
	(void)state;
	follow(true);
	see(C, 6, 51);
	hear(C, 178);
	hear(A, 228);
	assert_false(election_elector_believes(&e, A, 0, now_us));
	hear(A, 0);
	assert_int_equal(election_elector_owner(&e), C);
	assert_false(did(ELECTION_ACTION_WRITE));
	now_us += 200 * MS; /* it is not heard any more */
	hear(A, 228);
	assert_true(election_elector_believes(&e, A, 0, now_us));
}

static void test_the_second_best_waits_when_the_owner_resigns(void **state)
{
	(void)state;
	begin(C, false);
	hear(A, 100);
	hear(A, 0);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_a_resigned_owner_that_still_answers_keeps_nobody_from_it(void **state)
{
	(void)state;
	begin(C, false);
	hear(A, 100);
	hear(A, 0);
	happen(ELECTION_EVENT_SUSPECT);
	tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = A });
	assert_false(did(ELECTION_ACTION_LISTEN));
	witness(7, true);
	/* And it does, so there is time: the best one may have to wait for its kernel before it can be heard. */
	now_us += 26 * MS;
	happen(ELECTION_EVENT_SILENCE);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(election_elector_deadline(&e), 1000 * MS + 75 * MS);
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_true(done.items[0].planned);
}

static void test_a_claim_in_flight_is_forgotten_by_who_overslept(void **state)
{
	struct election_lease lease;

	(void)state;
	follow(true);
	fall_silent();
	lease = written();
	now_us += 5000 * MS;
	happen(ELECTION_EVENT_OVERSLEPT);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_true(did(ELECTION_ACTION_LISTEN));
	answer(ELECTION_RESULT_OK, lease, 51); /* of long ago: renewed before it counts */
	assert_false(did(ELECTION_ACTION_ACTIVATE));
	witness(7, true);
	assert_int_equal(written().holder, B);
	assert_int_equal(written().term, 6);
}

static void test_without_any_answer_the_api_server_is_waited_for_five_seconds(void **state)
{
	(void)state;
	begin(B, true);
	witness(7, true);
	happen(ELECTION_EVENT_SILENCE);
	assert_int_equal(e.state, ELECTION_STATE_STARTING);
	assert_int_equal(election_elector_deadline(&e), 6000 * MS);
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_PROBING);
	happen(ELECTION_EVENT_ADDRESS_FREE);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_false(e.confirmed);
}

static void test_restarted_in_place_it_goes_on_and_asks_for_its_lease(void **state)
{
	(void)state;
	begin(B, true);
	happen(ELECTION_EVENT_ADOPT);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(reason(), BASE_REASON_STARTED);
	assert_false(e.confirmed);
	see(B, 5, 50);
	assert_true(e.confirmed);
	/* Given to somebody meanwhile: not adopted. */
	begin(B, true);
	see(A, 6, 51);
	happen(ELECTION_EVENT_ADOPT);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_a_node_that_only_watches_never_claims(void **state)
{
	(void)state;
	begin(ELECTION_NOBODY, true);
	see(A, 5, 50);
	hear(A, 228);
	happen(ELECTION_EVENT_SUSPECT);
	assert_int_equal(done.count, 0);
	witness(7, true);
	happen(ELECTION_EVENT_SILENCE);
	see(ELECTION_NOBODY, 6, 51);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_true(election_elector_deadline(&e) == BASE_USEC_NEVER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_a_silent_owner_heard_in_this_term_is_replaced_by_compare_and_swap),
		cmocka_unit_test(
			test_an_owner_never_heard_in_this_term_is_waited_for_until_its_lease_expires),
		cmocka_unit_test(test_a_lease_that_names_us_in_vain_is_given_back),
		cmocka_unit_test(test_a_lease_that_names_us_is_kept_while_somebody_is_heard),
		cmocka_unit_test(test_a_confirmed_owner_that_the_lease_does_not_name_makes_us_ask),
		cmocka_unit_test(test_a_new_term_wants_its_holder_heard_anew),
		cmocka_unit_test(test_a_node_that_reaches_nobody_does_not_claim),
		cmocka_unit_test(test_two_candidates_without_gateway_have_no_quorum_rule),
		cmocka_unit_test(test_back_among_the_others_a_node_listens_before_it_claims),
		cmocka_unit_test(test_back_among_the_others_soon_a_node_asks_them_first),
		cmocka_unit_test(test_whoever_answers_for_the_address_is_alive_though_unheard),
		cmocka_unit_test(test_an_unanswered_claim_falls_back_to_the_lan_after_150_ms),
		cmocka_unit_test(
			test_a_claim_whose_answer_is_lost_counts_as_an_api_server_that_is_silent),
		cmocka_unit_test(test_an_answer_that_went_with_the_agent_is_not_waited_for),
		cmocka_unit_test(test_a_claim_that_lost_the_race_follows),
		cmocka_unit_test(test_a_claim_that_landed_before_somebody_elses_is_lost),
		cmocka_unit_test(test_a_claim_that_lands_although_the_owner_is_heard_waits_for_it),
		cmocka_unit_test(test_a_claim_whose_answer_comes_after_another_owner_is_made_sure_of),
		cmocka_unit_test(test_without_contact_nobody_waits_for_the_api_server),
		cmocka_unit_test(test_the_first_owner_probes_asks_and_claims_in_one_go),
		cmocka_unit_test(test_what_is_free_is_claimed_by_rank),
		cmocka_unit_test(test_a_foreign_holder_is_not_fought_and_looked_for_again),
		cmocka_unit_test(test_a_lease_that_names_us_is_renewed_before_we_answer),
		cmocka_unit_test(test_a_holder_that_may_not_own_lets_go_of_its_lease),
		cmocka_unit_test(
			test_an_excluded_holder_lets_go_of_its_lease_when_nobody_is_heard),
		cmocka_unit_test(test_a_node_that_has_just_started_keeps_the_lease_that_names_it),
		cmocka_unit_test(test_strangers_neither_keep_us_from_an_address_nor_move_it),
		cmocka_unit_test(test_a_resignation_counts_only_from_the_owner),
		cmocka_unit_test(test_adverts_before_a_resignation_do_not_count_in_the_next_term),
		cmocka_unit_test(
			test_a_resignation_that_comes_after_the_successor_ends_no_silence),
		cmocka_unit_test(test_the_second_best_waits_when_the_owner_resigns),
		cmocka_unit_test(test_a_resigned_owner_that_still_answers_keeps_nobody_from_it),
		cmocka_unit_test(test_a_claim_in_flight_is_forgotten_by_who_overslept),
		cmocka_unit_test(test_without_any_answer_the_api_server_is_waited_for_five_seconds),
		cmocka_unit_test(test_restarted_in_place_it_goes_on_and_asks_for_its_lease),
		cmocka_unit_test(test_a_node_that_only_watches_never_claims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
