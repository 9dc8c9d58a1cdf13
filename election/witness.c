#include "election/state.h"

/* Whom to believe: rule 13. */

bool elector_answered_lately(const struct election_elector *e, uint8_t who, uint64_t now_us)
{
	return e->config.peers[who].answered_us &&
	       base_usec_since(now_us, e->config.peers[who].answered_us) < ELECTION_WITNESSED_US;
}

/*
 * The holder's adverts prove less than its answers: anybody can send them, and its Lease outlives it.
 * A closed fence is a fact, but only if nothing else can explain the silence: such questions are
 * answered on this segment, and now its node answers for itself, so both ways are open. A node that
 * does not answer at all may be one that does not hear us: its Lease decides.
 */
static bool is_unproven(const struct election_elector *e, uint8_t from)
{
	return elector_holds(e, from) && e->unanswered >= ELECTION_UNANSWERED_MAX;
}

static bool is_there(const struct election_elector *e)
{
	return e->lease.holder < ELECTION_CANDIDATES_MAX &&
	       e->answering & UINT32_C(1) << e->lease.holder;
}

/* Its node's sign of life. Three come in the Lease's duration, oftener in a small cluster, or by chance. */
static bool is_overdue(const struct election_elector *e, uint64_t now_us)
{
	uint64_t gap_us = (elector_lease_expiry_us(e) - e->lease_changed_us) / 3;

	return base_usec_since(now_us, e->lease_changed_us) > gap_us * 3 / 2 + BASE_USEC_PER_SEC;
}

/* An owner sends one advert an interval; with a second sender there are more, or, once it is gone, fewer. */
static void count_adverts(struct election_elector *e, uint64_t now_us)
{
	uint64_t expected = base_usec_since(now_us, e->counted_us) / elector_interval_us(e);

	e->counted++;
	if (expected < 10)
		return;
	if (e->counted_us && (e->counted > expected + 2 || e->counted + 2 < expected))
		e->odd_us = now_us;
	e->counted_us = now_us;
	e->counted = 0;
}

/*
 * At rest nobody asks: only until some owner has answered once, when the adverts are odd, or its node's
 * sign of life is missing.
 */
static void ask_holder(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	uint8_t holder = e->lease.holder;
	bool suspect = is_overdue(e, now_us) || e->unanswered > 0 ||
		       (e->odd_us && base_usec_since(now_us, e->odd_us) < ELECTION_ODD_US);
	bool pending = e->holder_asked_us && e->config.peers[holder].answered_us < e->holder_asked_us;
	uint64_t wait_us = ELECTION_DOUBT_US;

	if (is_unproven(e, holder))
		return; /* it is asked as everybody is who is not believed */
	if (e->answers_come && !suspect)
		return;
	if (e->answers_come && pending)
		wait_us = elector_interval_us(e);
	if (e->holder_asked_us && base_usec_since(now_us, e->holder_asked_us) < wait_us)
		return;
	if (e->answers_come && pending && is_there(e))
		e->unanswered++;
	e->holder_asked_us = now_us;
	elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
}

void elector_note_answer(struct election_elector *e, uint8_t from, uint64_t now_us)
{
	e->config.peers[from].answered_us = now_us;
	e->answers_come = true;
	if (elector_holds(e, from))
		e->unanswered = 0;
}

void elector_forget_holder(struct election_elector *e)
{
	e->counted_us = e->odd_us = e->holder_asked_us = 0;
	e->counted = e->unanswered = 0;
}

/*
 * Rule 13: an advert alone is no proof, since anybody on the segment can send one that bears a
 * candidate's address. Of advert, Lease and answers for the address, two have to agree; without API
 * server, or Lease, nothing but the LAN is there.
 */
static bool is_witnessed(const struct election_elector *e, uint8_t from, uint64_t now_us)
{
	bool named = elector_holds(e, from) && now_us < elector_lease_expiry_us(e);

	if (elector_coordinated(e) && is_unproven(e, from))
		return false;
	return !elector_coordinated(e) || named || e->lease.successor == from ||
	       elector_answered_lately(e, from, now_us);
}

/* The Lease says as well that it goes, or went. */
static bool is_resignation_witnessed(const struct election_elector *e, uint8_t from)
{
	return !elector_coordinated(e) || !elector_listening(e) || !elector_holds(e, from) ||
	       e->lease.successor != ELECTION_NOBODY;
}

/* Its successor by the Lease was heard before its last adverts: they took another way. Nothing is to be taken. */
static bool is_succeeded(const struct election_elector *e, uint8_t from, uint64_t now_us)
{
	uint8_t holder = e->lease.holder;

	return holder < e->config.candidate_count && holder != from && e->heard_in_term &&
	       base_usec_since(now_us, e->config.peers[holder].heard_us) < elector_interval_us(e) * 3 / 2;
}

bool election_elector_believes(const struct election_elector *e, uint8_t from, uint8_t priority,
			       uint64_t now_us)
{
	if (from >= ELECTION_CANDIDATES_MAX)
		return false;
	if (elector_owning(e))
		return true; /* it is answered, and believed or not by what comes of that */
	if (priority == 0)
		return e->speaker == from && is_resignation_witnessed(e, from) &&
		       !is_succeeded(e, from, now_us);
	if (elector_coordinated(e) && is_unproven(e, from))
		return false;
	return is_witnessed(e, from, now_us) || !e->config.peers[from].doubted_since_us ||
	       base_usec_since(now_us, e->config.peers[from].doubted_since_us) <= 3 * elector_interval_us(e);
}

void elector_disbelieve(struct election_elector *e, struct election_actions *actions, uint8_t from,
			uint64_t now_us)
{
	if (e->disbelieved_us && base_usec_since(now_us, e->disbelieved_us) < ELECTION_DOUBT_US)
		return;
	e->disbelieved_us = now_us;
	elector_add(actions, ELECTION_ACTION_DISBELIEVE)->from = from;
}

void elector_doubt_speaker(struct election_elector *e, const struct election_event *event,
			   struct election_actions *actions)
{
	uint64_t now_us = event->now_us, *since_us = &e->config.peers[event->from].doubted_since_us;
	uint64_t wait_us = elector_interval_us(e);

	if (elector_holds(e, event->from) && elector_coordinated(e) && elector_listening(e) &&
	    elector_may_own(e)) {
		count_adverts(e, now_us);
		ask_holder(e, actions, now_us);
	}
	if (is_witnessed(e, event->from, now_us)) {
		*since_us = 0;
		return;
	}
	if (!*since_us)
		*since_us = now_us;
	if (base_usec_since(now_us, *since_us) > 3 * elector_interval_us(e)) {
		elector_disbelieve(e, actions, event->from, now_us);
		wait_us = ELECTION_DOUBT_US;
	}
	if (e->doubt_asked_us && base_usec_since(now_us, e->doubt_asked_us) < wait_us)
		return;
	e->doubt_asked_us = now_us;
	elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
}

/* It does own it no more: whoever is next takes it. */
static void accept_resignation(struct election_elector *e, struct election_actions *actions,
			       uint8_t from, uint64_t now_us)
{
	e->speaker = ELECTION_NOBODY;
	e->last_owner = e->leaver = from;
	e->config.peers[from].heard_us = 0; /* if it begins another term, it was not heard in that: rule 2 */
	if (e->state == ELECTION_STATE_CLAIMING && e->claimed) {
		elector_become_owning(e, actions, e->claim_why, true, now_us);
		return;
	}
	if (elector_succeeds(e) && e->lease.successor == e->config.self) {
		/* It saw our claim before we see the answer, and lingers. */
		elector_become_owning(e, actions, e->claim_why, false, now_us);
		return;
	}
	if (!elector_listening(e) || !elector_may_own(e))
		return;
	if (elector_coordinated(e)) {
		/* Named somebody else: that one is about to speak. Else the ranks claim one by one. */
		if (elector_holds(e, from) && e->heard_in_term && elector_rank(e, from) == 0 &&
		    !e->writing)
			elector_become_claiming(e, actions, ELECTION_CLAIM_FREE, now_us);
		else
			elector_consider(e, actions, now_us);
	} else if (elector_rank(e, from) == 0 && (!e->config.leased || e->lease_seen)) {
		e->claim = ELECTION_CLAIM_FREE;
		elector_become_owning(e, actions, BASE_REASON_OWNER_RESIGNED, false, now_us);
	}
}

void elector_ask_resigned(struct election_elector *e, struct election_actions *actions,
			  uint64_t now_us)
{
	e->resigning_asked_us = now_us;
	e->resigning_ask_us = BASE_USEC_NEVER;
	elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
}

/* A node that is busy answers late, once; a closed fence never does. */
void elector_miss_answer(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us)
{
	if (!e->resigning || e->resigning_answers || e->resigning_ask_us != BASE_USEC_NEVER)
		return;
	if (base_usec_since(now_us, e->resigning_asked_us) < ELECTION_ANSWER_US)
		elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES); /* an earlier question's */
	else if (++e->resigning_misses == ELECTION_UNANSWERED_MAX)
		elector_review_resignation(e, actions, now_us, true);
	else
		e->resigning_ask_us = e->resigning_asked_us + elector_interval_us(e) / 4;
}

/*
 * If the Lease does not say so: who does not answer for the address any more did resign, and so did who answers but is
 * not heard for an interval. An owner that lingers does so for one and a half.
 */
void elector_on_resigned(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (event->from != e->speaker && event->from != e->lease.holder)
		return; /* an echo: it does not own it, so it has nothing to resign */
	if (e->resigning)
		return; /* looked at already */
	e->left_us = now_us;
	if (is_succeeded(e, event->from, now_us)) {
		e->leaver = event->from;
		e->speaker = e->lease.holder;
		return;
	}
	if (is_resignation_witnessed(e, event->from)) {
		accept_resignation(e, actions, event->from, now_us);
		return;
	}
	e->leaver = event->from;
	e->resigning = true;
	e->resigning_answers = e->witnessed = false;
	e->resigning_misses = 0;
	e->resigning_until_us = now_us + elector_interval_us(e) * 5 / 4;
	elector_ask_resigned(e, actions, now_us);
}

void elector_review_resignation(struct election_elector *e, struct election_actions *actions,
				uint64_t now_us, bool end)
{
	uint8_t from = e->leaver;

	if (!e->resigning || (!end && !is_resignation_witnessed(e, from)))
		return;
	elector_forget_resignation(e);
	elector_add(actions, ELECTION_ACTION_RESIGNED)->from = from;
	accept_resignation(e, actions, from, now_us);
}
