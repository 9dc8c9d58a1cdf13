/* Keeping, proving, giving away: rules 4, 5, 6, 7, 8, 9, 10, 11 of election/README.md. */
#include "test/unit/election_fixture.h"

static void look_around(uint32_t nodes, bool gateway)
{
	now_us = e.watch_us;
	happen(ELECTION_EVENT_TIMER);
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	now_us += 4 * MS;
	witness(nodes, gateway);
}

static void test_confirmed_beats_unconfirmed_whatever_the_priority(void **state)
{
	(void)state;
	own(true);
	hear(A, 100); /* a is the better one, and unconfirmed */
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_true(did(ELECTION_ACTION_ANNOUNCE));
	own(false);
	hear(C, 178);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(reason(), BASE_REASON_SPLIT_BRAIN_RESOLVED);
	/* So that the other knows of us and tells the clients again; then silence. */
	assert_int_equal(done.items[0].type, ELECTION_ACTION_ANSWER);
	assert_int_equal(done.items[1].type, ELECTION_ACTION_YIELD);
}

static void test_two_unconfirmed_owners_are_ordered_as_in_the_rfc(void **state)
{
	static const struct {
		const char *name;
		uint8_t priority;
		bool higher, yields;
	} rows[] = {
		{ "stronger", 90, false, true },
		{ "weaker", 50, true, false },
		{ "equal, higher address", 75, true, true },
		{ "equal, lower address", 75, false, false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		own(false);
		assert_int_equal(election_elector_wire_priority(&e), 75);
		tell((struct election_event){ .type = ELECTION_EVENT_HEARD,
					      .from = C,
					      .priority = rows[i].priority,
					      .address_higher = rows[i].higher });
		ASSERT_ROW(rows[i].name, election_elector_owns(&e) != rows[i].yields);
		ASSERT_ROW(rows[i].name, did(ELECTION_ACTION_ANNOUNCE) != rows[i].yields);
	}
}

static void test_two_confirmed_owners_prove_it_and_who_cannot_is_the_weaker(void **state)
{
	(void)state;
	own(true);
	now_us += 150 * MS;
	hear(C, 178);
	assert_false(
		did(ELECTION_ACTION_WRITE)); /* confirmed a moment ago: the other is outdated */
	now_us += 200 * MS;
	hear(C, 178);
	assert_int_equal(written().holder, B);
	assert_int_equal(written().term, 6);
	assert_true(e.proving);
	/* No answer within an interval. */
	now_us += 100 * MS;
	happen(ELECTION_EVENT_TIMER);
	assert_false(e.confirmed);
	assert_true(did(ELECTION_ACTION_PRIORITY) && did(ELECTION_ACTION_ANSWER));
	hear(C, 178);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_relief_that_comes_before_the_answer_is_relief(void **state)
{
	(void)state;
	own(true);
	look_around(1 << A | 1 << C, true);
	for (unsigned i = 0; i < 5 && !did(ELECTION_ACTION_WRITE); i++) {
		now_us += 1000 * MS;
		look_around(1 << A | 1 << C, false);
	}
	assert_true(written().degraded);
	see(C, 7, 70); /* the watch was faster than the answer, and told only of the newest */
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	assert_true(find(ELECTION_ACTION_RESIGN)->planned);
}

static void test_a_proof_that_conflicts_asks_what_the_lease_says(void **state)
{
	(void)state;
	own(true);
	now_us += 300 * MS;
	hear(C, 178);
	answer(ELECTION_RESULT_CONFLICT, (struct election_lease){ 0 }, 0);
	assert_true(did(ELECTION_ACTION_READ));
	assert_true(did(ELECTION_ACTION_ANSWER)); /* so that the other one, too, hears it at once */
	assert_false(e.confirmed);
	see(C, 7, 70);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(reason(), BASE_REASON_DEPOSED);
}

static void test_a_weaker_rival_that_goes_on_is_deaf_and_gets_it(void **state)
{
	(void)state;
	own(false);
	hear(C, 50);
	now_us += 100 * MS;
	hear(C, 50);
	assert_true(election_elector_owns(&e));
	now_us += 100 * MS;
	hear(C, 50);
	assert_false(election_elector_owns(&e));
	assert_false(did(ELECTION_ACTION_ANSWER)); /* hearing us at last it would yield, too */
}

static void test_who_hears_two_owners_asks_both_and_takes_it_from_both(void **state)
{
	(void)state;
	begin(C, false);
	for (unsigned i = 0; i < 2; i++) {
		hear(A, 100);
		now_us += 50 * MS;
		assert_false(did(ELECTION_ACTION_PROBE_WITNESSES)); /* a handover looks like that */
		hear(B, 75);
		now_us += 50 * MS;
	}
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
	tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = A });
	assert_false(election_elector_owns(&e)); /* the other may be an echo */
	tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = B });
	assert_true(election_elector_owns(&e));
	assert_int_equal(reason(), BASE_REASON_SPLIT_BRAIN_RESOLVED);
	assert_true(election_elector_wire_priority(&e) >= ELECTION_CONFIRMED_MIN);
	now_us += 300 * MS;
	happen(ELECTION_EVENT_TIMER);
	assert_true(election_elector_wire_priority(&e) < ELECTION_CONFIRMED_MIN);
}

/* n mediators at once take it from each other; and who is cut from one of the two is no mediator. */
static void test_only_the_best_who_hears_both_takes_it_and_not_who_had_it_just_now(void **state)
{
	struct election_config c = config(3, false);

	(void)state;
	own(false);
	hear(A, 100);
	assert_false(election_elector_owns(&e));
	for (unsigned i = 0; i < 2; i++) {
		hear(C, 50);
		now_us += 50 * MS;
		hear(A, 100);
		now_us += 50 * MS;
		assert_false(did(ELECTION_ACTION_PROBE_WITNESSES));
	}
	c.candidate_count = 4;
	c.priorities[3] =
		80; /* between the two and one that is better waits half an interval more */
	c.self = 3;
	election_elector_init(&e, &c, now_us, 42);
	tell((struct election_event){ .type = ELECTION_EVENT_ELIGIBLE, .eligible = true });
	for (unsigned i = 0; i < 4; i++) {
		hear(i % 2 ? C : B, 60);
		now_us += 50 * MS;
		assert_false(did(ELECTION_ACTION_PROBE_WITNESSES));
	}
	hear(B, 60);
	assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
}

/* Two who do not hear each other, by turns; whenever C asks, both answer. */
static void two_answer(unsigned times)
{
	for (unsigned i = 0; i < times && e.state == ELECTION_STATE_FOLLOWING; i++) {
		now_us += 50 * MS;
		hear(i % 2 ? B : A, i % 2 ? 75 : 100);
		if (!did(ELECTION_ACTION_PROBE_WITNESSES))
			continue;
		tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = A });
		tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = B });
	}
}

static void test_who_mediates_waits_for_no_api_server_that_does_not_answer(void **state)
{
	(void)state;
	begin(C, true);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = true });
	see(A, 5, 50);
	two_answer(20);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	now_us += ELECTION_CLAIM_BOUND_US;
	happen(ELECTION_EVENT_TIMER); /* no answer: the LAN decides, and the stronger of the two has not heard of it yet */
	hear(A, 228);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_true(e.writing);
	now_us += 350 * MS; /* who had it just now is none of those that hear both */
	two_answer(20);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_false(e.confirmed);
}

static void test_one_owner_and_old_adverts_of_another_are_no_two_owners(void **state)
{
	(void)state;
	begin(C, false);
	for (unsigned i = 0; i < 6; i++) {
		hear(A, 100);
		tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = A });
		now_us += 50 * MS;
		hear(B, 75);
		tell((struct election_event){ .type = ELECTION_EVENT_HELD, .from = A });
		now_us += 50 * MS;
	}
	assert_false(election_elector_owns(&e));
}

static void test_another_holder_in_a_newer_term_deposes_at_once(void **state)
{
	(void)state;
	own(true);
	see(C, 7, 70);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(done.items[0].type, ELECTION_ACTION_RESIGN);
	assert_false(done.items[0].planned);
	assert_int_equal(reason(), BASE_REASON_DEPOSED);
}

static void test_a_blank_or_deleted_lease_is_reclaimed_by_who_serves(void **state)
{
	(void)state;
	own(true);
	see(ELECTION_NOBODY, 0, 1); /* deleted */
	assert_true(election_elector_owns(&e));
	assert_int_equal(written().holder, B);
	assert_int_equal(written().term, 1);
	/* And somebody who is faster wins, although its term is small. */
	see(C, 1, 71);
	assert_false(election_elector_owns(&e));
}

static void test_without_contact_an_owner_stays_but_is_not_confirmed(void **state)
{
	(void)state;
	own(true);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = false });
	assert_true(election_elector_owns(&e));
	assert_false(e.confirmed);
	tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = true });
	assert_false(e.confirmed); /* not before it has read the Lease again */
	assert_true(did(ELECTION_ACTION_READ));
	see(B, 6, 60);
	assert_true(e.confirmed);
}

static void test_an_uncoordinated_owner_without_quorum_steps_down_silently(void **state)
{
	(void)state;
	own(false);
	look_around(0, false);
	look_around(0, false);
	assert_true(election_elector_owns(&e));
	look_around(0, false);
	assert_false(election_elector_owns(&e));
	assert_int_equal(reason(), BASE_REASON_QUORUM_LOST);
	assert_int_equal(done.items[0].type, ELECTION_ACTION_YIELD); /* no priority 0 */
}

static void test_a_look_that_is_answered_late_is_answered(void **state)
{
	(void)state;
	own(false);
	for (unsigned i = 0; i < 5; i++) {
		look_around(0, false);
		now_us += 300 * MS;
		witness(1 << C, true);
	}
	assert_true(election_elector_owns(&e));
}

static void test_a_coordinated_owner_without_gateway_asks_to_be_relieved(void **state)
{
	struct election_lease lease;

	(void)state;
	own(true);
	for (unsigned i = 0; i < 4; i++) {
		look_around(7, false);
		assert_false(did(ELECTION_ACTION_WRITE));
	}
	look_around(7, false);
	lease = written();
	assert_true(lease.degraded);
	assert_int_equal(lease.holder, B);
	answer(ELECTION_RESULT_OK, lease, 61);
	/* c has claimed it: answered until it is heard. */
	see(C, 7, 62);
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	assert_true(done.items[0].planned);
}

static void test_who_sees_the_gateway_relieves_an_owner_that_does_not(void **state)
{
	struct election_lease lease = lease_of(A, 5);

	(void)state;
	for (int gateway = 0; gateway < 2; gateway++) {
		follow(true);
		lease.degraded = true;
		lease.version = 51;
		tell((struct election_event){ .type = ELECTION_EVENT_LEASE, .lease = lease });
		assert_true(did(ELECTION_ACTION_PROBE_WITNESSES));
		hear(A, 228); /* it goes on advertising */
		witness(7, gateway);
		assert_int_equal(e.state,
				 gateway ? ELECTION_STATE_CLAIMING : ELECTION_STATE_FOLLOWING);
	}
	assert_int_equal(written().term, 6);
}

static void test_a_handover_names_a_successor_and_ends_when_that_one_has_claimed(void **state)
{
	struct election_lease lease;

	(void)state;
	own(true);
	witness(1 << A | 1 << C, true);
	tell((struct election_event){ .type = ELECTION_EVENT_HANDOVER, .to = C });
	assert_int_equal(e.state, ELECTION_STATE_MOVING);
	lease = written();
	assert_int_equal(lease.successor, C);
	assert_int_equal(lease.holder, B);
	assert_int_equal(lease.term, 6);
	answer(ELECTION_RESULT_OK, lease, 61);
	assert_int_equal(e.state, ELECTION_STATE_MOVING);
	see(C, 7, 62);
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	assert_int_equal(done.items[0].type, ELECTION_ACTION_RESIGN);
	assert_true(done.items[0].planned);
	assert_int_equal(reason(), BASE_REASON_HANDOVER);
	hear(C, 178);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(e.losses, 0); /* nothing was lost */
}

static void test_the_successor_claims_and_waits_for_the_owner_to_let_go(void **state)
{
	struct election_lease lease = lease_of(A, 5);

	(void)state;
	follow(true);
	lease.successor = B;
	lease.version = 51;
	tell((struct election_event){ .type = ELECTION_EVENT_LEASE, .lease = lease });
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_int_equal(written().term, 6);
	assert_int_equal(written().successor, ELECTION_NOBODY);
	lease = written();
	hear(A, 228);
	answer(ELECTION_RESULT_OK, lease, 52);
	hear(A, 228);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_true(election_elector_deadline(&e) == BASE_USEC_NEVER); /* it serves: no hurry */
	hear(A, 0);
	assert_true(election_elector_owns(&e));
	assert_int_equal(reason(), BASE_REASON_HANDOVER);
}

/* It claims, and is not answered. */
static void be_named_successor(void)
{
	struct election_lease lease = lease_of(A, 5);

	follow(true);
	lease.successor = B;
	lease.version = 51;
	tell((struct election_event){ .type = ELECTION_EVENT_LEASE, .lease = lease });
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
}

static void test_a_successor_waits_for_a_slow_answer_while_the_owner_serves(void **state)
{
	struct election_lease lease;

	(void)state;
	be_named_successor();
	lease = written();
	now_us += 400 * MS;
	hear(A, 228);
	happen(ELECTION_EVENT_TIMER);
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	answer(ELECTION_RESULT_OK, lease, 52);
	hear(A, 0);
	assert_true(election_elector_owns(&e) && e.confirmed);
}

static void test_a_successor_not_answered_yet_takes_it_when_the_owner_resigns(void **state)
{
	struct election_lease lease;

	(void)state;
	be_named_successor();
	lease = written();
	now_us += 200 * MS;
	hear(A, 0); /* it saw our claim, which landed */
	assert_true(election_elector_owns(&e));
	assert_int_equal(reason(), BASE_REASON_HANDOVER);
	assert_false(e.confirmed);
	now_us += 200 * MS;
	answer(ELECTION_RESULT_OK, lease, 52);
	assert_true(election_elector_owns(&e) && e.confirmed);
}

static void test_a_successor_not_answered_at_all_follows_while_the_owner_serves(void **state)
{
	(void)state;
	be_named_successor();
	now_us += 900 * MS;
	hear(A, 228);
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_true(did(ELECTION_ACTION_LISTEN));
}

static void test_a_successor_not_answered_whose_owner_falls_silent_takes_it_soon(void **state)
{
	(void)state;
	be_named_successor();
	fall_silent();
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
	assert_true(election_elector_deadline(&e) <= now_us + ELECTION_CLAIM_BOUND_US);
	reach_deadline();
	assert_true(election_elector_owns(&e));
	assert_false(e.confirmed);
}

static void test_a_successor_whose_owner_falls_silent_takes_it(void **state)
{
	struct election_lease lease = lease_of(A, 5);

	(void)state;
	follow(true);
	lease.successor = B;
	lease.version = 51;
	tell((struct election_event){ .type = ELECTION_EVENT_LEASE, .lease = lease });
	answer(ELECTION_RESULT_OK, written(), 52);
	happen(ELECTION_EVENT_SILENCE);
	assert_true(election_elector_owns(&e));
	assert_true(e.confirmed);
}

static void test_a_successor_that_does_not_claim_leaves_the_address_where_it_is(void **state)
{
	(void)state;
	own(true);
	tell((struct election_event){ .type = ELECTION_EVENT_HANDOVER, .to = C });
	answer(ELECTION_RESULT_OK, written(), 61);
	now_us += 1000 * MS;
	happen(ELECTION_EVENT_TIMER);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(written().successor, ELECTION_NOBODY);
	/* It claims after all, before that write has landed: still a handover. */
	see(C, 7, 62);
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	assert_int_equal(reason(), BASE_REASON_HANDOVER);
}

static void test_a_successor_that_is_no_candidate_any_more_is_not_waited_for(void **state)
{
	static const uint8_t moved[ELECTION_CANDIDATES_MAX] = { 0, 1, ELECTION_OTHER };
	struct election_config c = config(B, true);
	struct election_lease lease;

	(void)state;
	own(true);
	tell((struct election_event){ .type = ELECTION_EVENT_HANDOVER, .to = C });
	answer(ELECTION_RESULT_OK, written(), 61);
	assert_int_equal(e.lease.successor, C);
	lease = e.lease;
	lease.successor = ELECTION_OTHER;
	c.candidate_count = 2;
	election_elector_configure(&e, &c, moved, &lease, now_us, &done);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(written().successor, ELECTION_NOBODY);
}

static void test_a_successor_that_was_named_too_late_is_taken_back(void **state)
{
	struct election_lease named;

	(void)state;
	own(true);
	tell((struct election_event){ .type = ELECTION_EVENT_HANDOVER, .to = C });
	named = written();
	now_us += 1000 * MS;
	happen(ELECTION_EVENT_TIMER); /* given up, and the write is in flight still */
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	answer(ELECTION_RESULT_OK, named, 61);
	now_us += 1000 * MS;
	happen(ELECTION_EVENT_TIMER);
	assert_int_equal(written().successor, ELECTION_NOBODY);
	assert_int_equal(written().term, 6);
}

static void test_without_lease_the_resignation_alone_hands_over(void **state)
{
	(void)state;
	own(false);
	witness(1 << A | 1 << C, true);
	happen(ELECTION_EVENT_RELEASE);
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	assert_true(done.items[0].planned);
	hear(A, 100);
	assert_int_equal(e.state, ELECTION_STATE_RELEASED);
	assert_true(did(ELECTION_ACTION_RELEASED));
}

static void test_who_resigned_and_hears_nobody_takes_it_back(void **state)
{
	(void)state;
	own(false);
	witness(1 << C, true);
	tell((struct election_event){ .type = ELECTION_EVENT_HANDOVER, .to = C });
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	assert_int_equal(election_elector_deadline(&e), now_us + 150 * MS);
	reach_deadline();
	assert_true(election_elector_owns(&e));
	/* Not who reaches nobody: it may just be deaf. */
	tell((struct election_event){ .type = ELECTION_EVENT_HANDOVER, .to = C });
	witness(0, false);
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

static void test_the_last_one_released_frees_the_lease(void **state)
{
	(void)state;
	own(true);
	happen(ELECTION_EVENT_RELEASE);
	assert_int_equal(e.state, ELECTION_STATE_MOVING);
	answer(ELECTION_RESULT_OK, written(), 61);
	now_us += 1000 * MS;
	happen(ELECTION_EVENT_TIMER);
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	reach_deadline();
	assert_int_equal(e.state, ELECTION_STATE_RELEASING);
	assert_int_equal(written().holder, ELECTION_NOBODY);
	answer(ELECTION_RESULT_OK, written(), 62);
	assert_int_equal(e.state, ELECTION_STATE_RELEASED);
	happen(ELECTION_EVENT_SILENCE);
	assert_int_equal(done.count, 0);
	assert_true(election_elector_deadline(&e) == BASE_USEC_NEVER);
}

static void test_maintenance_that_nobody_relieves_serves_on_and_asks_again(void **state)
{
	static const uint8_t stay[ELECTION_CANDIDATES_MAX] = { 0, 1, 2 };
	struct election_config c = config(B, true);
	struct election_lease lease;

	(void)state;
	own(true);
	lease = e.lease;
	c.excluded = true;
	c.excluded_why = BASE_REASON_MAINTENANCE;
	election_elector_configure(&e, &c, stay, &lease, now_us, &done);
	assert_int_equal(e.state, ELECTION_STATE_MOVING);
	answer(ELECTION_RESULT_OK, written(), 61);
	now_us += 1000 * MS;
	happen(ELECTION_EVENT_TIMER);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	answer(ELECTION_RESULT_OK, written(), 62);
	now_us += 10000 * MS;
	happen(ELECTION_EVENT_TIMER);
	assert_int_equal(e.state, ELECTION_STATE_MOVING);
}

static void test_a_candidate_no_longer_leaves_and_frees_the_lease_under_its_old_name(void **state)
{
	static const uint8_t moved[ELECTION_CANDIDATES_MAX] = { 0, ELECTION_FORMER, 1 };
	struct election_config c = config(ELECTION_NOBODY, true);
	struct election_lease lease;

	(void)state;
	own(true);
	lease = e.lease;
	lease.holder = ELECTION_FORMER;
	c.candidate_count = 2;
	c.priorities[1] = 100;
	election_elector_configure(&e, &c, moved, &lease, now_us, &done);
	assert_int_equal(e.state, ELECTION_STATE_LEAVING);
	assert_int_equal(written().holder, ELECTION_NOBODY);
	assert_int_equal(find(ELECTION_ACTION_TRANSITION)->from, ELECTION_FORMER);
}

static void test_a_link_that_is_gone_resigns_and_frees_the_lease(void **state)
{
	(void)state;
	own(true);
	tell((struct election_event){
		.type = ELECTION_EVENT_ELIGIBLE, .eligible = false, .why = BASE_REASON_LINK_DOWN });
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(done.items[0].type, ELECTION_ACTION_RESIGN);
	assert_false(done.items[0].planned);
	assert_int_equal(written().holder, ELECTION_NOBODY);
	assert_int_equal(reason(), BASE_REASON_LINK_DOWN);
}

static void test_an_owner_that_overslept_withdraws_and_says_nothing(void **state)
{
	(void)state;
	own(true);
	happen(ELECTION_EVENT_OVERSLEPT);
	assert_int_equal(done.items[0].type, ELECTION_ACTION_YIELD);
	assert_int_equal(reason(), BASE_REASON_OVERSLEPT);
	assert_false(did(ELECTION_ACTION_WRITE));
}

static void test_who_lost_it_again_and_again_does_not_reclaim_before_the_silence_is_over(
	void **state)
{
	(void)state;
	own(true);
	for (unsigned i = 0; i < ELECTION_FLAP_LOSSES; i++)
		e.losses++;
	e.last_loss_us = now_us;
	happen(ELECTION_EVENT_OVERSLEPT);
	see(B, 6, 61);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_false(e.offered);
	fall_silent();
	assert_int_equal(e.state, ELECTION_STATE_CLAIMING);
}

static void test_an_owner_writes_and_asks_nothing_at_rest(void **state)
{
	uint64_t began_us;

	(void)state;
	own(true);
	began_us = now_us;
	while (now_us < began_us + 600000 * MS) {
		reach_deadline();
		assert_false(did(ELECTION_ACTION_WRITE));
		assert_false(did(ELECTION_ACTION_READ));
		witness(7, true);
	}
	assert_true(e.confirmed);
}

static void test_unchanged_settings_yield_no_action(void **state)
{
	static const uint8_t stay[ELECTION_CANDIDATES_MAX] = { 0, 1, 2 };
	struct election_config c = config(B, true);
	struct election_lease lease;

	(void)state;
	own(true);
	lease = e.lease;
	election_elector_configure(&e, &c, stay, &lease, now_us, &done);
	assert_int_equal(done.count, 0);
	follow(true);
	lease = e.lease;
	election_elector_configure(&e, &c, stay, &lease, now_us, &done);
	assert_int_equal(done.count, 0);
}

static void test_an_owner_that_dozed_is_unconfirmed_until_it_has_read_its_lease(void **state)
{
	(void)state;
	own(true);
	happen(ELECTION_EVENT_DOZED);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_false(e.confirmed);
	assert_true(did(ELECTION_ACTION_PRIORITY));
	assert_true(did(ELECTION_ACTION_READ));
	now_us += 2 * MS;
	see(B, 6, 60);
	assert_true(e.confirmed);
	happen(ELECTION_EVENT_DOZED);
	now_us += 2 * MS;
	see(A, 7, 61); /* and if somebody took its place meanwhile */
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
	assert_int_equal(reason(), BASE_REASON_DEPOSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_confirmed_beats_unconfirmed_whatever_the_priority),
		cmocka_unit_test(test_two_unconfirmed_owners_are_ordered_as_in_the_rfc),
		cmocka_unit_test(test_two_confirmed_owners_prove_it_and_who_cannot_is_the_weaker),
		cmocka_unit_test(test_relief_that_comes_before_the_answer_is_relief),
		cmocka_unit_test(test_a_proof_that_conflicts_asks_what_the_lease_says),
		cmocka_unit_test(test_a_weaker_rival_that_goes_on_is_deaf_and_gets_it),
		cmocka_unit_test(test_who_hears_two_owners_asks_both_and_takes_it_from_both),
		cmocka_unit_test(
			test_only_the_best_who_hears_both_takes_it_and_not_who_had_it_just_now),
		cmocka_unit_test(test_who_mediates_waits_for_no_api_server_that_does_not_answer),
		cmocka_unit_test(test_one_owner_and_old_adverts_of_another_are_no_two_owners),
		cmocka_unit_test(test_another_holder_in_a_newer_term_deposes_at_once),
		cmocka_unit_test(test_a_blank_or_deleted_lease_is_reclaimed_by_who_serves),
		cmocka_unit_test(test_without_contact_an_owner_stays_but_is_not_confirmed),
		cmocka_unit_test(test_an_uncoordinated_owner_without_quorum_steps_down_silently),
		cmocka_unit_test(test_a_look_that_is_answered_late_is_answered),
		cmocka_unit_test(test_a_coordinated_owner_without_gateway_asks_to_be_relieved),
		cmocka_unit_test(test_who_sees_the_gateway_relieves_an_owner_that_does_not),
		cmocka_unit_test(
			test_a_handover_names_a_successor_and_ends_when_that_one_has_claimed),
		cmocka_unit_test(test_the_successor_claims_and_waits_for_the_owner_to_let_go),
		cmocka_unit_test(test_a_successor_waits_for_a_slow_answer_while_the_owner_serves),
		cmocka_unit_test(
			test_a_successor_not_answered_yet_takes_it_when_the_owner_resigns),
		cmocka_unit_test(
			test_a_successor_not_answered_at_all_follows_while_the_owner_serves),
		cmocka_unit_test(
			test_a_successor_not_answered_whose_owner_falls_silent_takes_it_soon),
		cmocka_unit_test(test_a_successor_whose_owner_falls_silent_takes_it),
		cmocka_unit_test(
			test_a_successor_that_does_not_claim_leaves_the_address_where_it_is),
		cmocka_unit_test(test_a_successor_that_is_no_candidate_any_more_is_not_waited_for),
		cmocka_unit_test(test_a_successor_that_was_named_too_late_is_taken_back),
		cmocka_unit_test(test_without_lease_the_resignation_alone_hands_over),
		cmocka_unit_test(test_who_resigned_and_hears_nobody_takes_it_back),
		cmocka_unit_test(test_the_last_one_released_frees_the_lease),
		cmocka_unit_test(test_maintenance_that_nobody_relieves_serves_on_and_asks_again),
		cmocka_unit_test(
			test_a_candidate_no_longer_leaves_and_frees_the_lease_under_its_old_name),
		cmocka_unit_test(test_a_link_that_is_gone_resigns_and_frees_the_lease),
		cmocka_unit_test(test_an_owner_that_overslept_withdraws_and_says_nothing),
		cmocka_unit_test(
			test_who_lost_it_again_and_again_does_not_reclaim_before_the_silence_is_over),
		cmocka_unit_test(test_an_owner_writes_and_asks_nothing_at_rest),
		cmocka_unit_test(test_unchanged_settings_yield_no_action),
		cmocka_unit_test(test_an_owner_that_dozed_is_unconfirmed_until_it_has_read_its_lease),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
