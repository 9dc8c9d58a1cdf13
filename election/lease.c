#include "election/state.h"

/* What the API server says. Rules 4 and 7. */

static void learn(struct election_elector *e, const struct election_lease *lease, uint64_t now_us)
{
	bool first = !e->lease_seen;
	bool new_term = first || lease->term != e->lease.term || lease->holder != e->lease.holder ||
			lease->exists != e->lease.exists;

	if (first || lease->version == 0 || lease->version != e->lease.version)
		e->lease_changed_us = now_us;
	if (lease->exists && lease->holder == ELECTION_NOBODY && !first &&
	    e->lease.holder == e->speaker)
		e->speaker = ELECTION_NOBODY; /* resigned where the LAN did not carry it */
	if (!lease->exists || (first && elector_owning(e)))
		e->term = lease->term; /* whatever is written next is newer */
	e->lease_seen = true;
	e->lease = *lease;
	if (!new_term)
		return;
	elector_forget_holder(e);
	e->heard_in_term =
		lease->exists && lease->holder < ELECTION_CANDIDATES_MAX &&
		e->config.peers[lease->holder].heard_us &&
		base_usec_since(now_us, e->config.peers[lease->holder].heard_us) < 3 * elector_interval_us(e);
}

/* `named`: who the Lease named as successor until now. */
static void owner_lease(struct election_elector *e, struct election_actions *actions, uint8_t named,
			uint64_t now_us)
{
	if (elector_holds(e, e->config.self)) {
		elector_confirm(e, actions, now_us);
		if (e->state == ELECTION_STATE_MOVING && !e->writing &&
		    e->lease.successor != e->successor)
			elector_name_successor(e, actions, now_us);
		return;
	}
	if (elector_unheld(e)) {
		elector_doubt(e, actions);
		elector_try_confirm(e, actions, now_us); /* rule 7: re-claimed by the active */
	} else if (e->lease.holder == named) {
		if (e->state != ELECTION_STATE_MOVING)
			e->moving_why = BASE_REASON_HANDOVER; /* given up, but it was on its way */
		elector_become_leaving(e, actions, named, now_us);
	} else if (e->lease.term > e->term && e->lease.term > 0) {
		elector_leave(e, actions, BASE_REASON_DEPOSED, true, e->lease.holder, now_us);
	} else {
		elector_doubt(e, actions);
		elector_try_confirm(e, actions, now_us);
	}
}

/*
 * The Lease is ours. An owner that is still there resigns when it sees that; until then it serves,
 * so there is no hurry.
 */
static void win(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	if (e->claimed)
		return;
	if (e->speaker == ELECTION_NOBODY || e->claim == ELECTION_CLAIM_MEDIATE) {
		elector_become_owning(e, actions, e->claim_why, true, now_us);
		return;
	}
	e->claimed = true;
	e->claim_at_us = BASE_USEC_NEVER;
	elector_add(actions, ELECTION_ACTION_LISTEN);
}

void elector_on_lease(struct election_elector *e, const struct election_lease *lease,
		      struct election_actions *actions, uint64_t now_us)
{
	bool was_degraded = elector_owning(e) &&
			    (e->relief || (elector_holds(e, e->config.self) && e->lease.degraded));
	uint8_t named = elector_holds(e, e->config.self) && e->lease.successor != ELECTION_NOBODY
				? e->lease.successor
				: e->successor;

	learn(e, lease, now_us);
	switch (e->state) {
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
		if (was_degraded && !elector_unheld(e) && !elector_holds(e, e->config.self)) {
			e->moving_why = BASE_REASON_GATEWAY_UNREACHABLE;
			elector_become_leaving(e, actions, e->lease.holder, now_us);
			return;
		}
		owner_lease(e, actions, named, now_us);
		return;
	case ELECTION_STATE_CLAIMING:
		if (e->writing && e->contested)
			return; /* the answer tells */
		if (elector_holds(e, e->config.self)) {
			win(e, actions, now_us);
		} else if (e->claimed) {
			elector_become_following(e);
			elector_listen_anew(e, actions);
		}
		return;
	case ELECTION_STATE_STARTING:
		elector_become_following(e);
		break;
	case ELECTION_STATE_FOLLOWING:
		elector_forget_offer(e);
		elector_review_resignation(e, actions, now_us, false);
		break;
	case ELECTION_STATE_PROBING:
	case ELECTION_STATE_LEAVING:
	case ELECTION_STATE_CONFLICT:
	case ELECTION_STATE_RELEASING:
	case ELECTION_STATE_RELEASED:
		return;
	}
	elector_consider(e, actions, now_us);
	if (e->state == ELECTION_STATE_FOLLOWING && e->silent)
		elector_try_claim(e, actions, now_us);
}

void elector_fall_back(struct election_elector *e, struct election_actions *actions,
		       uint64_t now_us)
{
	bool dark = e->claim == ELECTION_CLAIM_SILENCE || e->claim == ELECTION_CLAIM_RETURN ||
		    e->claim == ELECTION_CLAIM_FREE;
	bool deserted = elector_succeeds(e) && e->silent;

	if (e->claim == ELECTION_CLAIM_MEDIATE) {
		elector_become_owning(e, actions, e->claim_why, false, now_us);
		return;
	}
	if (dark && e->speaker == ELECTION_NOBODY && e->witnessed && elector_quorum(e)) {
		elector_become_owning(e, actions, elector_takeover_reason(e), false, now_us);
		return;
	}
	elector_become_following(e);
	if (deserted)
		elector_try_claim(e, actions, now_us);
	else
		elector_listen_anew(e, actions);
}

/*
 * Our claim landed, but before its answer came somebody else was heard to own what he did not own when we asked for it: he
 * may have seen our write, and silence, and have claimed on top of it. Another write tells.
 */
static bool is_contested(const struct election_elector *e, const struct election_lease *lease)
{
	return e->state == ELECTION_STATE_CLAIMING && !e->claimed && e->contested &&
	       lease->holder == e->config.self;
}

void elector_on_written(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions)
{
	uint64_t now_us = event->now_us;
	bool proving = e->proving;

	e->writing = e->proving = false;
	if (event->result == ELECTION_RESULT_UNKNOWN)
		elector_distrust(e, actions);
	else if (event->result != ELECTION_RESULT_REFUSED)
		e->api_reachable = true;
	if (e->state == ELECTION_STATE_RELEASING) {
		if (event->result == ELECTION_RESULT_OK)
			learn(e, &event->lease, now_us);
		elector_become_released(e, actions);
		return;
	}
	if (event->result == ELECTION_RESULT_OK && is_contested(e, &event->lease)) {
		learn(e, &event->lease, now_us);
		e->contested = false;
		e->contest_settled = true;
		elector_write_holder(e, actions, e->config.self, now_us);
		return;
	}
	if (event->result == ELECTION_RESULT_OK) {
		elector_on_lease(e, &event->lease, actions, now_us);
		if (e->state == ELECTION_STATE_CLAIMING && !elector_holds(e, e->config.self)) {
			elector_become_following(e); /* landed, and somebody else's after it */
			elector_listen_anew(e, actions);
		}
		return;
	}
	if (elector_owning(e)) {
		if (proving)
			elector_doubt_aloud(e, actions);
		else if (event->result == ELECTION_RESULT_UNKNOWN)
			elector_doubt(e, actions);
		if (event->result == ELECTION_RESULT_CONFLICT)
			elector_add(actions, ELECTION_ACTION_READ);
		return;
	}
	if (e->state != ELECTION_STATE_CLAIMING || e->claimed)
		return;
	if (event->result == ELECTION_RESULT_CONFLICT) {
		elector_become_following(e); /* somebody was faster */
		elector_listen_anew(e, actions);
		elector_add(actions, ELECTION_ACTION_READ);
	} else {
		elector_fall_back(e, actions, now_us);
	}
}

void elector_on_api(struct election_elector *e, const struct election_event *event,
		    struct election_actions *actions)
{
	bool was = e->api_reachable;

	e->contact = e->api_reachable = event->reachable;
	if (event->reachable && !was && e->state != ELECTION_STATE_RELEASING)
		e->writing = e->proving = false; /* who was asked before is gone, and the answer with it */
	if (!event->reachable) {
		elector_forget_holder(e);
		elector_doubt(e, actions);
		elector_forget_offer(e);
	} else if (!was && elector_owning(e) && e->lease_seen) {
		elector_add(actions, ELECTION_ACTION_READ); /* confirmed by what is said now */
	} else if (!was) {
		elector_consider(e, actions, event->now_us);
	}
}
