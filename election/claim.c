#include "election/state.h"

/* Claims: of a silent owner's address, and of what the Lease offers. Rules 2, 3, 4, 9, 10. */

/* Time at which a silent owner's Lease may be claimed: rule 2. */
static uint64_t lease_allows_us(const struct election_elector *e, uint64_t now_us)
{
	if (!e->lease_seen)
		return base_usec_add(e->started_us, ELECTION_COLD_START_US);
	if (elector_unheld(e) || e->lease.holder == e->config.self || e->heard_in_term)
		return now_us;
	return elector_lease_expiry_us(e);
}

/*
 * Who resigned answers until another one is heard, so the next in turn need not hurry; but its advert waits for the kernel
 * to have the address. By the LAN alone whoever comes after it leaves it half an interval for that.
 */
static uint64_t turn_comes_us(const struct election_elector *e, uint64_t now_us)
{
	uint64_t interval_us = elector_interval_us(e);
	unsigned rank = elector_rank(e, e->leaver);

	if (!elector_has_left(e, now_us) || rank == 0)
		return now_us;
	return e->left_us + interval_us / 2 + rank * interval_us / ELECTION_TURN;
}

void elector_try_claim(struct election_elector *e, struct election_actions *actions,
		       uint64_t now_us)
{
	uint64_t allowed_us = now_us;

	if (!elector_may_own(e)) {
		e->claim_at_us = BASE_USEC_NEVER;
		return;
	}
	if (e->config.leased)
		allowed_us = lease_allows_us(e, now_us);
	if (!elector_coordinated(e) && turn_comes_us(e, now_us) > allowed_us)
		allowed_us = turn_comes_us(e, now_us);
	if (allowed_us > now_us) {
		e->claim_at_us = allowed_us;
		return;
	}
	if (!e->witnessed || !elector_quorum(e)) {
		elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
		e->claim_at_us = now_us + elector_interval_us(e);
		return;
	}
	if (elector_must_look(e, now_us)) {
		elector_become_probing(e, actions, now_us);
		return;
	}
	if (!elector_coordinated(e) ||
	    (e->writing && base_usec_since(now_us, e->write_started_us) > ELECTION_CLAIM_BOUND_US))
		elector_take_unconfirmed(e, actions, now_us);
	else if (e->writing)
		e->claim_at_us = e->write_started_us + ELECTION_CLAIM_BOUND_US + 1;
	else
		elector_become_claiming(e, actions, ELECTION_CLAIM_SILENCE, now_us);
}

/* What the Lease as last seen offers us, if anything. */
static bool find_offer(const struct election_elector *e, uint64_t now_us,
		       enum election_claim *claim)
{
	if (!elector_listening(e) || !elector_may_own(e) || !elector_coordinated(e) || e->writing)
		return false;
	if (elector_unheld(e)) {
		*claim = ELECTION_CLAIM_FREE;
		return e->speaker == ELECTION_NOBODY;
	}
	if (e->lease.holder == e->config.self) {
		*claim = ELECTION_CLAIM_RETURN;
		return e->speaker == ELECTION_NOBODY && !elector_flapping(e, now_us);
	}
	*claim = ELECTION_CLAIM_SUCCESSOR;
	if (e->lease.successor == e->config.self)
		return true;
	*claim = ELECTION_CLAIM_RELIEF;
	return e->lease.degraded;
}

void elector_take_offer(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	enum election_claim claim;

	if (!e->offered || now_us < e->offer_at_us || !find_offer(e, now_us, &claim))
		return;
	switch (claim) {
	case ELECTION_CLAIM_SILENCE:
	case ELECTION_CLAIM_MEDIATE:
		return;
	case ELECTION_CLAIM_FREE:
	case ELECTION_CLAIM_RETURN:
		if (!e->witnessed || !elector_quorum(e))
			return;
		if (elector_must_look(e, now_us)) {
			elector_become_probing(e, actions, now_us);
			return;
		}
		break;
	case ELECTION_CLAIM_SUCCESSOR:
		break;
	case ELECTION_CLAIM_RELIEF:
		if (!e->witnessed || !elector_quorum(e) ||
		    (e->gateway_known && !e->gateway_reachable))
			return;
		break;
	}
	elector_forget_offer(e);
	elector_become_claiming(e, actions, claim, now_us);
}

void elector_consider(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	enum election_claim claim;

	/* A node that has just started may not own it *yet*, and its fence may be open still. */
	bool yet = !e->config.excluded &&
		   base_usec_since(now_us, e->started_us) < ELECTION_HANDOVER_US;
	bool in_vain = elector_holds(e, ELECTION_FORMER) ||
		       (e->config.self != ELECTION_NOBODY && elector_holds(e, e->config.self) &&
			!elector_may_own(e) && !yet);

	if (in_vain && e->state == ELECTION_STATE_FOLLOWING && elector_coordinated(e) &&
	    !e->writing && e->speaker == ELECTION_NOBODY) {
		elector_write_holder(e, actions, ELECTION_NOBODY,
				     now_us); /* who waits for us waits in vain */
		return;
	}
	if (e->offered || !find_offer(e, now_us, &claim))
		return;
	e->offered = true;
	e->offer = claim;
	e->offer_at_us = now_us;
	if (claim == ELECTION_CLAIM_FREE)
		e->offer_at_us += elector_spacing_us(e, ELECTION_NOBODY);
	else if (claim == ELECTION_CLAIM_RELIEF)
		e->offer_at_us += elector_spacing_us(e, e->lease.holder);
	if (claim != ELECTION_CLAIM_SUCCESSOR) {
		e->witnessed = false;
		elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
	}
	if ((claim == ELECTION_CLAIM_FREE || claim == ELECTION_CLAIM_RETURN) &&
	    elector_must_look(e, now_us))
		elector_become_probing(e, actions, now_us);
	elector_take_offer(e, actions, now_us);
}

void elector_try_confirm(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us)
{
	if (!elector_owning(e) || e->writing || !elector_coordinated(e))
		return;
	if (!elector_holds(e, e->config.self))
		elector_write_holder(e, actions, e->config.self, now_us);
}

void elector_confirm(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	bool was = e->confirmed;

	e->confirmed = true;
	e->confirmed_us = now_us;
	e->term = e->lease.term;
	if (!was)
		elector_add(actions, ELECTION_ACTION_PRIORITY);
}

void elector_doubt(struct election_elector *e, struct election_actions *actions)
{
	if (!elector_owning(e) || !e->confirmed)
		return;
	e->confirmed = e->proving = false;
	elector_add(actions, ELECTION_ACTION_PRIORITY);
}

void elector_doubt_aloud(struct election_elector *e, struct election_actions *actions)
{
	if (!elector_owning(e) || !e->confirmed)
		return;
	elector_doubt(e, actions);
	elector_add(actions, ELECTION_ACTION_ANSWER);
}

void elector_distrust(struct election_elector *e, struct election_actions *actions)
{
	e->api_reachable = false;
	if (e->contact)
		elector_add(actions, ELECTION_ACTION_READ);
}
