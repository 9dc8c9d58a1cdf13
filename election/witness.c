#include "election/state.h"

/* Whom to believe: rule 13. */

bool elector_answered_lately(const struct election_elector *e, uint8_t who, uint64_t now_us)
{
	return e->answered_us[who] &&
	       base_usec_since(now_us, e->answered_us[who]) < ELECTION_WITNESSED_US;
}

/*
 * Rule 13: an advert alone is no proof, since anybody on the segment can send one that bears a
 * candidate's address. Of advert, Lease and answers for the address, two have to agree; without API
 * server, or Lease, nothing but the LAN is there.
 */
static bool is_witnessed(const struct election_elector *e, uint8_t from, uint64_t now_us)
{
	bool named = elector_holds(e, from) && now_us < elector_lease_expiry_us(e);

	return !elector_coordinated(e) || named || e->lease.successor == from ||
	       elector_answered_lately(e, from, now_us);
}

/* The Lease says as well that it goes, or went. */
static bool is_resignation_witnessed(const struct election_elector *e, uint8_t from)
{
	return !elector_coordinated(e) || !elector_listening(e) || !elector_holds(e, from) ||
	       e->lease.successor != ELECTION_NOBODY;
}

bool election_elector_believes(const struct election_elector *e, uint8_t from, uint8_t priority,
			       uint64_t now_us)
{
	if (from >= ELECTION_CANDIDATES_MAX)
		return false;
	if (elector_owning(e))
		return true; /* it is answered, and believed or not by what comes of that */
	if (priority == 0)
		return e->speaker == from && is_resignation_witnessed(e, from);
	return is_witnessed(e, from, now_us) || !e->doubted_since_us[from] ||
	       base_usec_since(now_us, e->doubted_since_us[from]) <= 3 * elector_interval_us(e);
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
	uint64_t now_us = event->now_us, *since_us = &e->doubted_since_us[event->from];
	uint64_t wait_us = elector_interval_us(e);

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
	e->heard_us[from] = 0; /* if it begins another term, it was not heard in that: rule 2 */
	if (e->state == ELECTION_STATE_CLAIMING && e->claimed) {
		elector_become_owning(e, actions, e->claim_why, true, now_us);
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
	if (is_resignation_witnessed(e, event->from)) {
		accept_resignation(e, actions, event->from, now_us);
		return;
	}
	e->leaver = event->from;
	e->resigning = true;
	e->resigning_answers = e->witnessed = false;
	e->resigning_until_us = now_us + elector_interval_us(e) * 5 / 4;
	elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
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
