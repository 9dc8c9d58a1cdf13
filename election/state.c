#include "election/state.h"

#include <string.h>

struct election_action *elector_add(struct election_actions *actions,
				    enum election_action_type type)
{
	/* The longest list any step makes is 8; one too many is our own bug and shows in a test. */
	struct election_action *action = actions->count < ELECTION_ACTIONS_MAX
						 ? &actions->items[actions->count++]
						 : &actions->items[ELECTION_ACTIONS_MAX - 1];

	*action = (struct election_action){ .type = type,
					    .from = ELECTION_NOBODY,
					    .to = ELECTION_NOBODY };
	return action;
}

void elector_transition(struct election_actions *actions, enum base_reason why, uint8_t from,
			uint8_t to)
{
	struct election_action *action = elector_add(actions, ELECTION_ACTION_TRANSITION);

	action->why = why;
	action->from = from;
	action->to = to;
}

uint64_t elector_interval_us(const struct election_elector *e)
{
	return e->config.interval_us;
}

uint64_t elector_jitter_us(struct election_elector *e, uint64_t range_us)
{
	/* xorshift: reproducible, and good enough to keep nodes apart */
	e->random ^= e->random << 13;
	e->random ^= e->random >> 7;
	e->random ^= e->random << 17;
	return range_us ? e->random % range_us : 0;
}

bool elector_may_own(const struct election_elector *e)
{
	return e->config.self != ELECTION_NOBODY && e->eligible && !e->config.excluded &&
	       !e->releasing;
}

bool elector_owning(const struct election_elector *e)
{
	return e->state == ELECTION_STATE_OWNING || e->state == ELECTION_STATE_MOVING;
}

bool elector_listening(const struct election_elector *e)
{
	return e->state == ELECTION_STATE_STARTING || e->state == ELECTION_STATE_FOLLOWING;
}

bool elector_holds(const struct election_elector *e, uint8_t who)
{
	return e->lease_seen && e->lease.exists && e->lease.holder == who;
}

bool elector_unheld(const struct election_elector *e)
{
	return e->lease_seen && (!e->lease.exists || e->lease.holder == ELECTION_NOBODY);
}

bool elector_coordinated(const struct election_elector *e)
{
	return e->config.leased && e->lease_seen && e->api_reachable;
}

bool elector_has_left(const struct election_elector *e, uint64_t now_us)
{
	return e->leaver != ELECTION_NOBODY &&
	       base_usec_since(now_us, e->left_us) < 3 * elector_interval_us(e);
}

bool elector_comes_before(const struct election_elector *e, uint8_t other)
{
	uint8_t self = e->config.self;

	return e->config.priorities[other] > e->config.priorities[self] ||
	       (e->config.priorities[other] == e->config.priorities[self] && other < self);
}

unsigned elector_rank(const struct election_elector *e, uint8_t without)
{
	unsigned before = 0;

	for (uint8_t i = 0; i < e->config.candidate_count; i++)
		before += i != e->config.self && i != without && elector_comes_before(e, i);
	return before;
}

uint64_t elector_spacing_us(const struct election_elector *e, uint8_t without)
{
	uint64_t step_us = elector_interval_us(e) / 2;

	if (step_us > ELECTION_SPACING_MAX_US)
		step_us = ELECTION_SPACING_MAX_US;
	return elector_rank(e, without) * step_us;
}

bool elector_quorum(const struct election_elector *e)
{
	unsigned total = e->config.candidate_count + (e->gateway_known ? 1u : 0u);
	unsigned reached = 1 + (e->gateway_known && e->gateway_reachable ? 1u : 0u);

	for (unsigned i = 0; i < e->config.candidate_count; i++)
		if (i != e->config.self && (e->witnesses & UINT32_C(1) << i))
			reached++;
	if (e->config.candidate_count <= 1 || (e->config.candidate_count == 2 && !e->gateway_known))
		return true;
	if (reached * 2 == total)
		return e->gateway_known && e->gateway_reachable;
	return reached * 2 > total;
}

bool elector_hopeless(const struct election_elector *e)
{
	return elector_holds(e, ELECTION_FORMER) || e->config.excluded;
}

bool elector_in_vain(const struct election_elector *e)
{
	bool idle = elector_listening(e) || e->state == ELECTION_STATE_CONFLICT;
	bool named = elector_holds(e, ELECTION_FORMER) ||
		     (e->config.self != ELECTION_NOBODY && elector_holds(e, e->config.self));

	return idle && named && elector_coordinated(e) && !e->writing &&
	       e->speaker == ELECTION_NOBODY;
}

uint64_t elector_lease_expiry_us(const struct election_elector *e)
{
	uint32_t duration_ms =
		e->lease.duration_ms ? e->lease.duration_ms : e->config.lease_duration_ms;

	return base_usec_add(e->lease_changed_us, duration_ms * BASE_USEC_PER_MSEC);
}

void elector_write_lease(struct election_elector *e, struct election_actions *actions,
			 const struct election_lease *lease, uint64_t now_us)
{
	elector_add(actions, ELECTION_ACTION_WRITE)->lease = *lease;
	e->writing = true;
	e->write_started_us = now_us;
}

struct election_lease elector_lease_for(const struct election_elector *e, uint8_t holder)
{
	return (struct election_lease){
		.exists = true,
		.holder = holder,
		.term = e->lease.exists && e->lease.holder == holder ? e->lease.term
								     : e->lease.term + 1,
		.duration_ms = e->config.lease_duration_ms,
		.successor = ELECTION_NOBODY,
	};
}

void elector_write_holder(struct election_elector *e, struct election_actions *actions,
			  uint8_t holder, uint64_t now_us)
{
	struct election_lease lease = elector_lease_for(e, holder);

	elector_write_lease(e, actions, &lease, now_us);
}

static void note_loss(struct election_elector *e, uint64_t now_us)
{
	if (base_usec_since(now_us, e->last_loss_us) > ELECTION_FLAP_WINDOW_US)
		e->losses = 0;
	e->losses++;
	e->last_loss_us = now_us;
}

bool elector_flapping(const struct election_elector *e, uint64_t now_us)
{
	return e->losses >= ELECTION_FLAP_LOSSES &&
	       base_usec_since(now_us, e->last_loss_us) < ELECTION_FLAP_WINDOW_US;
}

void elector_forget_offer(struct election_elector *e)
{
	e->offered = e->offer_due = false;
	e->offer_at_us = BASE_USEC_NEVER;
}

void elector_forget_resignation(struct election_elector *e)
{
	e->resigning = false;
	e->resigning_until_us = e->resigning_ask_us = BASE_USEC_NEVER;
}

void elector_become_following(struct election_elector *e)
{
	e->state = ELECTION_STATE_FOLLOWING;
	e->confirmed = e->claimed = e->proving = false;
	e->rival_us = e->mediating_us = 0;
	e->successor = ELECTION_NOBODY;
	e->claim_at_us = e->watch_us = e->retry_at_us = BASE_USEC_NEVER;
	e->was_probed = false;
	elector_forget_offer(e);
	elector_forget_resignation(e);
	elector_forget_absence(e);
}

void elector_listen_anew(struct election_elector *e, struct election_actions *actions)
{
	e->silent = false;
	e->witnessed = false;
	e->isolated_us = 0;
	e->claim_at_us = BASE_USEC_NEVER;
	elector_forget_resignation(e);
	elector_forget_absence(e);
	elector_add(actions, ELECTION_ACTION_LISTEN);
}

enum base_reason elector_takeover_reason(const struct election_elector *e)
{
	switch (e->claim) {
	case ELECTION_CLAIM_SUCCESSOR:
		return BASE_REASON_HANDOVER;
	case ELECTION_CLAIM_RELIEF:
		return BASE_REASON_GATEWAY_UNREACHABLE;
	case ELECTION_CLAIM_RETURN:
		return BASE_REASON_STARTED;
	case ELECTION_CLAIM_FREE:
		return e->ever_heard ? BASE_REASON_OWNER_RESIGNED : BASE_REASON_OWNER_ELECTED;
	case ELECTION_CLAIM_MEDIATE:
		return BASE_REASON_SPLIT_BRAIN_RESOLVED;
	case ELECTION_CLAIM_SILENCE:
		break;
	}
	return e->ever_heard || (e->lease.exists && e->lease.holder != ELECTION_NOBODY &&
				 e->lease.holder != e->config.self)
		       ? BASE_REASON_OWNER_LOST
		       : BASE_REASON_OWNER_ELECTED;
}

void elector_become_owning(struct election_elector *e, struct election_actions *actions,
			   enum base_reason why, bool confirmed, uint64_t now_us)
{
	uint8_t from = e->last_owner;
	bool deserted = (e->claim == ELECTION_CLAIM_SILENCE || e->claim == ELECTION_CLAIM_RETURN) &&
			!elector_has_left(e, now_us);

	e->state = ELECTION_STATE_OWNING;
	e->confirmed = confirmed;
	e->confirmed_us = confirmed ? now_us : 0;
	e->term = e->lease.term;
	e->rival_us = 0;
	e->proofs = 0;
	e->relief = false;
	for (unsigned i = 0; i < e->config.candidate_count; i++)
		e->config.peers[i].answered_us = 0; /* that was before our time */
	e->claimed = e->proving = false;
	e->mediating_us =
		e->claim == ELECTION_CLAIM_MEDIATE ? now_us + 3 * elector_interval_us(e) : 0;
	e->quorum_misses = 0;
	e->watched = false;
	e->gateway_lost_us = 0;
	e->successor = e->speaker = ELECTION_NOBODY;
	e->silent = false;
	e->last_owner = e->config.self;
	elector_note_owned(e, now_us);
	e->foreign_us = 0;
	e->claim_at_us = e->retry_at_us = BASE_USEC_NEVER;
	e->watch_us = now_us + ELECTION_WATCH_US;
	elector_forget_offer(e);
	elector_forget_resignation(e);
	elector_forget_absence(e);
	elector_add(actions, ELECTION_ACTION_ACTIVATE)->planned = !deserted;
	elector_transition(actions, why, from, e->config.self);
}

void elector_leave(struct election_elector *e, struct election_actions *actions,
		   enum base_reason why, bool resign, uint8_t to, uint64_t now_us)
{
	elector_add(actions, resign ? ELECTION_ACTION_RESIGN : ELECTION_ACTION_YIELD);
	elector_become_following(e);
	note_loss(e, now_us);
	elector_note_unowned(e, now_us);
	e->last_owner = to < ELECTION_CANDIDATES_MAX ? to : ELECTION_NOBODY;
	elector_transition(actions, why, e->config.self, to);
	elector_listen_anew(e, actions);
}

void elector_become_leaving(struct election_elector *e, struct election_actions *actions,
			    uint8_t to, uint64_t now_us)
{
	enum base_reason why = e->moving_why;

	elector_add(actions, ELECTION_ACTION_RESIGN)->planned = true;
	elector_become_following(e);
	e->state = ELECTION_STATE_LEAVING;
	e->silent = false;
	e->claim_at_us = now_us + elector_interval_us(e) * 3 / 2;
	e->last_owner = to < ELECTION_CANDIDATES_MAX ? to : ELECTION_NOBODY;
	elector_transition(actions, why,
			   e->config.self == ELECTION_NOBODY ? ELECTION_FORMER : e->config.self,
			   to);
}

void elector_become_probing(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us)
{
	e->state = ELECTION_STATE_PROBING;
	e->claim_at_us = now_us + ELECTION_PROBE_US;
	elector_add(actions, ELECTION_ACTION_PROBE_ADDRESSES);
}

bool elector_succeeds(const struct election_elector *e)
{
	return e->state == ELECTION_STATE_CLAIMING && !e->claimed &&
	       e->claim == ELECTION_CLAIM_SUCCESSOR;
}

void elector_become_claiming(struct election_elector *e, struct election_actions *actions,
			     enum election_claim claim, uint64_t now_us)
{
	e->state = ELECTION_STATE_CLAIMING;
	e->claim = claim;
	e->claim_why = elector_takeover_reason(e); /* by the Lease before ours */
	e->claimed = e->contested = e->contest_settled = false;
	e->claim_at_us = now_us + ELECTION_CLAIM_BOUND_US;
	if (elector_succeeds(e))
		e->claim_at_us = now_us + ELECTION_HANDOVER_US;
	elector_forget_resignation(e);
	elector_forget_absence(e);
	elector_write_holder(e, actions, e->config.self, now_us);
}

void elector_hurry_claim(struct election_elector *e, uint64_t now_us)
{
	e->claim_at_us = base_usec_earlier(e->claim_at_us, now_us + ELECTION_CLAIM_BOUND_US);
}

void elector_take_unconfirmed(struct election_elector *e, struct election_actions *actions,
			      uint64_t now_us)
{
	e->claim = ELECTION_CLAIM_SILENCE;
	elector_become_owning(e, actions, elector_takeover_reason(e), false, now_us);
}
