#include "election/state.h"

/* What the LAN says: silence, resignations, rivals, whoever answers. Rules 5 and 13. */

void elector_on_silence(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	e->silent = true;
	e->speaker = ELECTION_NOBODY;
	if (!elector_owning(e))
		elector_note_unowned(e, now_us);
	if (e->state == ELECTION_STATE_CLAIMING && e->claimed)
		elector_become_owning(e, actions, e->claim_why, true, now_us);
	else if (elector_succeeds(e))
		elector_hurry_claim(e, now_us);
	else if (elector_listening(e))
		elector_try_claim(e, actions, now_us);
}

/* For an API server that answers, when another owner answers meanwhile. */
static uint64_t patience_us(const struct election_elector *e)
{
	uint64_t patience = elector_interval_us(e);

	if (patience < ELECTION_SPACING_MAX_US)
		patience = ELECTION_SPACING_MAX_US;
	return patience > ELECTION_CLAIM_BOUND_US ? ELECTION_CLAIM_BOUND_US : patience;
}

/*
 * Two confirmed owners: the Lease knows better. Whoever cannot renew it now is not its holder. One
 * that goes on all the same is answered less and less often, unless it answers for the address.
 */
static void prove(struct election_elector *e, struct election_actions *actions, uint8_t rival,
		  uint64_t now_us)
{
	uint64_t wait_us = 2 * elector_interval_us(e);

	for (unsigned i = 0; i < e->proofs && wait_us < ELECTION_PROVE_MAX_US; i++)
		wait_us *= 2;
	if (e->proving || base_usec_since(now_us, e->confirmed_us) < wait_us)
		return; /* just proved, or just about to be */
	if (e->writing && base_usec_since(now_us, e->write_started_us) <= ELECTION_CLAIM_BOUND_US)
		return;
	if (e->proofs > 1)
		elector_disbelieve(e, actions, rival, now_us);
	e->proofs++;
	elector_write_holder(e, actions, e->config.self, now_us);
	e->proving = true;
	e->prove_at_us = now_us + patience_us(e);
}

/* For the address; or, to an owner, that it has it. */
static bool has_answered_since(const struct election_elector *e, uint8_t who, uint64_t since_us)
{
	return who < e->config.candidate_count && e->config.peers[who].answered_us >= since_us;
}

/* Two actives hear each other: rule 5. */
static void on_rival(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions)
{
	bool rival_confirmed = event->priority >= ELECTION_CONFIRMED_MIN;
	uint8_t mine = election_elector_wire_priority(e);
	uint64_t now_us = event->now_us;
	/* One lost advert makes nobody new. */
	bool new = base_usec_since(now_us, e->config.peers[event->from].heard_us) >
		   elector_interval_us(e) * 5 / 2;
	bool stronger, deaf;

	if (e->state == ELECTION_STATE_MOVING && rival_confirmed && event->from == e->successor) {
		/* It did not wait for us to resign, which is as good. */
		elector_become_leaving(e, actions, event->from, now_us);
		return;
	}
	if (e->confirmed && rival_confirmed && elector_holds(e, e->config.self) &&
	    e->lease.degraded) {
		e->moving_why = BASE_REASON_GATEWAY_UNREACHABLE; /* we asked for it */
		elector_become_leaving(e, actions, event->from, now_us);
		return;
	}
	if (e->confirmed && rival_confirmed && e->config.leased) {
		if (new || elector_answered_lately(e, event->from, now_us))
			e->proofs = 0;
		elector_add(actions, ELECTION_ACTION_ANNOUNCE);
		prove(e, actions, event->from, now_us);
		return;
	}
	if ((mine >= ELECTION_CONFIRMED_MIN) != rival_confirmed)
		stronger = rival_confirmed;
	else
		stronger = event->priority > mine ||
			   (event->priority == mine && event->address_higher);
	if (!stronger) {
		if (!e->rival_us || new)
			e->rival_us = now_us;
		deaf = base_usec_since(now_us, e->rival_us) > elector_interval_us(e) * 3 / 2;
		if (!deaf || (e->confirmed && elector_coordinated(e) &&
			      !has_answered_since(e, event->from, e->rival_us))) {
			elector_add(actions, ELECTION_ACTION_ANNOUNCE);
			if (deaf)
				elector_disbelieve(e, actions, event->from, now_us);
			return;
		}
	}
	/*
	 * The stronger one may never have heard us: it must, or it would not tell the clients again.
	 * A weaker one that was deaf must not: hearing us at last it would yield as well.
	 */
	if (stronger)
		elector_add(actions, ELECTION_ACTION_ANSWER);
	elector_leave(e, actions, BASE_REASON_SPLIT_BRAIN_RESOLVED, false, event->from, now_us);
	if (e->config.leased)
		elector_add(actions, ELECTION_ACTION_READ);
}

/*
 * Who hears both may take it from both: the best of them first, the next one if they go on by turns.
 * Not who had it until just now: it is one of those that do not hear each other.
 */
static bool may_mediate(const struct election_elector *e, uint8_t one, uint8_t two, uint64_t now_us)
{
	unsigned before = 0;

	if (!elector_listening(e) || !elector_may_own(e) ||
	    (e->losses > 0 &&
	     base_usec_since(now_us, e->last_loss_us) < 3 * elector_interval_us(e)))
		return false;
	for (uint8_t i = 0; i < e->config.candidate_count; i++)
		before += i != e->config.self && i != one && i != two && elector_comes_before(e, i);
	return e->alternations >= 2 + before;
}

/*
 * Two advertise by turns although each should have heard the other. Old adverts that come late look
 * the same, so both are asked whether they answer for the address.
 */
static void doubt_owners(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (event->from == e->speaker)
		return;
	if (event->from != e->other || e->speaker == ELECTION_NOBODY ||
	    base_usec_since(now_us, e->config.peers[event->from].heard_us) > 3 * elector_interval_us(e))
		e->alternations = 0;
	else
		e->alternations++;
	e->other = e->speaker; /* and the speaker will be the sender */
	if (!may_mediate(e, e->other, event->from, now_us) ||
	    base_usec_since(now_us, e->doubted_us) < elector_interval_us(e))
		return;
	e->doubted_us = now_us;
	elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
}

/*
 * Both do: they are cut from each other, but not from us. Whoever hears both is heard by both, so it
 * takes it over from both. True: the answer was to that question.
 */
static bool mediate(struct election_elector *e, const struct election_event *event,
		    struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (!may_mediate(e, e->speaker, e->other, now_us) ||
	    base_usec_since(now_us, e->doubted_us) >= elector_interval_us(e))
		return false;
	if (!has_answered_since(e, e->speaker, e->doubted_us) ||
	    !has_answered_since(e, e->other, e->doubted_us) ||
	    (e->writing && elector_coordinated(e))) /* an answer that does not come is waited for by nobody */
		return true;
	e->alternations = 0;
	if (elector_coordinated(e)) {
		elector_become_claiming(e, actions, ELECTION_CLAIM_MEDIATE, now_us);
	} else {
		e->claim = ELECTION_CLAIM_MEDIATE;
		elector_become_owning(e, actions, elector_takeover_reason(e), false, now_us);
	}
	return true;
}

static void note_speaker(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions)
{
	e->config.peers[event->from].heard_us = event->now_us;
	e->ever_heard = true;
	elector_note_member(e, event->now_us);
	if (e->leaver == event->from)
		e->leaver = ELECTION_NOBODY;
	if (!elector_owning(e)) {
		if (e->speaker != event->from && e->last_owner != event->from) {
			elector_transition(actions, BASE_REASON_OWNER_OBSERVED, e->last_owner,
					   event->from);
			e->last_owner = event->from;
		}
		e->speaker = event->from;
	}
}

static bool offered_by_owner(const struct election_elector *e)
{
	return e->offered &&
	       (e->offer == ELECTION_CLAIM_SUCCESSOR || e->offer == ELECTION_CLAIM_RELIEF);
}

/* Somebody owns it: whatever we were about to do rested on nobody doing so. */
static void stand_back(struct election_elector *e, struct election_actions *actions, uint8_t owner,
		       uint64_t now_us)
{
	e->silent = false;
	e->isolated_us = 0;
	elector_forget_absence(e);
	switch (e->state) {
	case ELECTION_STATE_CLAIMING:
		/*
		 * The write may have landed, or land: then that owner learns from the Lease that it
		 * is ours. Nothing but its answer can tell, so it is waited for.
		 */
		return;
	case ELECTION_STATE_LEAVING:
		e->speaker = owner; /* the successor is there */
		if (e->releasing) {
			elector_finish_release(e, actions, now_us);
			return;
		}
		break;
	case ELECTION_STATE_STARTING:
	case ELECTION_STATE_FOLLOWING:
		if (offered_by_owner(e) && elector_holds(e, owner))
			return; /* it lets us have it as soon as we ask */
		break;
	case ELECTION_STATE_PROBING:
	case ELECTION_STATE_CONFLICT:
		break;
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
	case ELECTION_STATE_RELEASING:
	case ELECTION_STATE_RELEASED:
		return;
	}
	elector_become_following(e);
	e->witnessed = false;
}

/*
 * Whoever it confirmed is known to the Lease: if ours says something else for long, something was
 * kept from us. Nothing else would tell, since nothing is written at rest.
 */
static void doubt_lease(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (event->priority < ELECTION_CONFIRMED_MIN || elector_holds(e, event->from) ||
	    !elector_coordinated(e) || elector_owning(e)) {
		e->stale_us = 0;
		e->stale_wait_us = ELECTION_STALE_US;
		return;
	}
	if (!e->stale_us) {
		e->stale_us = now_us;
	} else if (base_usec_since(now_us, e->stale_us) > e->stale_wait_us) {
		elector_add(actions, ELECTION_ACTION_READ);
		e->stale_us = now_us;
		if (e->stale_wait_us < ELECTION_STALE_MAX_US)
			e->stale_wait_us *= 2;
	}
}

void elector_on_heard(struct election_elector *e, const struct election_event *event,
		      struct election_actions *actions)
{
	bool believed = true;

	if (event->from >= ELECTION_CANDIDATES_MAX)
		return; /* a stranger neither keeps us from it nor moves it: rule 13 */
	if (event->priority == 0) {
		if (elector_owning(e))
			elector_add(actions,
				    ELECTION_ACTION_ANNOUNCE); /* clients may have it from there */
		else
			elector_on_resigned(e, event, actions);
		return;
	}
	if (e->state == ELECTION_STATE_CLAIMING && !e->claimed && event->from != e->lease.holder &&
	    event->priority >= ELECTION_CONFIRMED_MIN)
		e->contested = !e->contest_settled; /* it may have taken it after us: lease.c */
	if (e->resigning && event->from == e->leaver) /* that was not its own word */
		elector_disbelieve(e, actions, event->from, event->now_us);
	if (!elector_owning(e)) {
		believed =
			election_elector_believes(e, event->from, event->priority, event->now_us);
		elector_doubt_speaker(e, event, actions);
	}
	if (!believed) {
		doubt_lease(e, event, actions);
		return;
	}
	if (elector_owning(e)) {
		on_rival(e, event, actions);
	} else {
		stand_back(e, actions, event->from, event->now_us);
		doubt_owners(e, event, actions);
	}
	note_speaker(e, event, actions);
	if (elector_holds(e, event->from))
		e->heard_in_term = true;
	doubt_lease(e, event, actions);
}

void elector_on_held(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions)
{
	if (event->from < ELECTION_CANDIDATES_MAX)
		elector_note_answer(e, event->from, event->now_us);
	if (e->resigning && event->from == e->leaver)
		e->resigning_answers = true;
	/* Who offers it, or left it, answers until the next owner is heard. */
	if (elector_owning(e) || e->claimed || offered_by_owner(e) ||
	    (e->offered && e->lease.exists) ||
	    (event->from == e->leaver && elector_has_left(e, event->now_us)) ||
	    mediate(e, event, actions))
		return;
	stand_back(e, actions, event->from, event->now_us);
	if (event->from < ELECTION_CANDIDATES_MAX)
		note_speaker(e, event, actions);
	if (elector_listening(e))
		elector_add(actions, ELECTION_ACTION_LISTEN);
}
