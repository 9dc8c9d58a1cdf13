#include "election/state.h"

/* Giving it away: handover, release, resignation. Rule 10. */

void elector_become_released(struct election_elector *e, struct election_actions *actions)
{
	e->state = ELECTION_STATE_RELEASED;
	elector_add(actions, ELECTION_ACTION_RELEASED);
}

void elector_finish_release(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us)
{
	if (elector_coordinated(e) && !e->writing &&
	    (elector_holds(e, e->config.self) ||
	     (e->speaker == ELECTION_NOBODY && !elector_unheld(e))))
		elector_write_holder(e, actions, ELECTION_NOBODY, now_us);
	if (!e->writing) {
		elector_become_released(e, actions);
		return;
	}
	e->state = ELECTION_STATE_RELEASING;
	e->claim_at_us = now_us + ELECTION_RELEASE_WRITE_US;
}

static uint8_t best_successor(const struct election_elector *e)
{
	uint8_t best = ELECTION_NOBODY;

	for (uint8_t i = 0; i < e->config.candidate_count; i++) {
		if (i == e->config.self || !(e->witnesses & UINT32_C(1) << i))
			continue;
		if (best == ELECTION_NOBODY || e->config.priorities[i] > e->config.priorities[best])
			best = i;
	}
	if (best == ELECTION_NOBODY) /* nobody answered lately; the Lease will tell */
		for (uint8_t i = 0; i < e->config.candidate_count; i++)
			if (i != e->config.self &&
			    (best == ELECTION_NOBODY ||
			     e->config.priorities[i] > e->config.priorities[best]))
				best = i;
	return best;
}

void elector_resign(struct election_elector *e, struct election_actions *actions,
		    enum base_reason why, uint64_t now_us)
{
	bool releasing = e->releasing;
	bool write = elector_coordinated(e) && elector_holds(e, e->config.self);

	elector_leave(e, actions, why, true, ELECTION_NOBODY, now_us);
	if (releasing)
		elector_finish_release(e, actions, now_us);
	else if (write && !e->writing)
		elector_write_holder(e, actions, ELECTION_NOBODY, now_us);
}

void elector_name_successor(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us)
{
	struct election_lease lease = elector_lease_for(e, e->config.self);

	if (e->writing)
		return; /* the timer does it as soon as the other write is answered */
	lease.successor = e->successor;
	elector_write_lease(e, actions, &lease, now_us);
}

void elector_begin_handover(struct election_elector *e, struct election_actions *actions,
			    uint8_t to, enum base_reason why, uint64_t now_us)
{
	if (e->state != ELECTION_STATE_OWNING)
		return;
	if (to >= e->config.candidate_count || to == e->config.self)
		to = best_successor(e);
	if (to == ELECTION_NOBODY && !e->releasing)
		return; /* nobody else may own it: it stays */
	e->moving_why = why;
	if (to == ELECTION_NOBODY || !elector_coordinated(e) || !e->confirmed) {
		elector_become_leaving(e, actions, to, now_us); /* by the LAN alone */
		return;
	}
	e->state = ELECTION_STATE_MOVING;
	e->successor = to;
	e->claim_at_us = now_us + ELECTION_HANDOVER_US;
	elector_name_successor(e, actions, now_us);
}

void elector_give_up_handover(struct election_elector *e, struct election_actions *actions,
			      uint64_t now_us)
{
	e->state = ELECTION_STATE_OWNING;
	e->successor = ELECTION_NOBODY;
	e->claim_at_us = BASE_USEC_NEVER;
	if (e->releasing) {
		elector_become_leaving(e, actions, ELECTION_NOBODY, now_us); /* whoever wants it */
		return;
	}
	if (e->config.excluded)
		e->retry_at_us = now_us + ELECTION_HANDOVER_WAIT_US;
	if (!e->writing && elector_coordinated(e) && elector_holds(e, e->config.self))
		elector_write_holder(e, actions, e->config.self, now_us);
}

void elector_end_leaving(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us)
{
	/* Who was relieved, or reaches nobody, is deaf rather than the last one. */
	bool alone = e->moving_why == BASE_REASON_GATEWAY_UNREACHABLE || !elector_quorum(e);

	if (e->releasing) {
		elector_finish_release(e, actions, now_us);
	} else if (e->config.self == ELECTION_NOBODY || !e->eligible || alone) {
		elector_become_following(e);
	} else if (elector_coordinated(e) && !e->writing) {
		elector_become_claiming(e, actions, ELECTION_CLAIM_RETURN, now_us);
	} else {
		e->claim = ELECTION_CLAIM_RETURN;
		elector_become_owning(e, actions, elector_takeover_reason(e), false, now_us);
	}
}

void elector_on_release(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	if (e->releasing)
		return;
	e->releasing = true;
	if (elector_owning(e)) {
		e->state = ELECTION_STATE_OWNING;
		elector_begin_handover(e, actions, ELECTION_NOBODY, BASE_REASON_HANDOVER, now_us);
		return;
	}
	if (e->state == ELECTION_STATE_LEAVING)
		return; /* already on its way */
	elector_finish_release(e, actions, now_us);
}
