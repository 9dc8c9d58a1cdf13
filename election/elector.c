#include "election/elector.h"

#include <string.h>

#include "election/state.h"

static void on_adopt(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	bool idle = elector_listening(e) || e->state == ELECTION_STATE_PROBING;

	if (!idle || !elector_may_own(e) || e->speaker != ELECTION_NOBODY)
		return;
	if (e->lease_seen && !elector_unheld(e) && !elector_holds(e, e->config.self))
		return; /* it was given to somebody meanwhile: rule 7 */
	e->last_owner = e->config.self;
	e->established = true; /* our predecessor had it */
	e->claim = ELECTION_CLAIM_RETURN;
	/* Confirmed only by a write of our own: somebody may be about to win a claim. */
	elector_become_owning(e, actions, BASE_REASON_STARTED, false, now_us);
	if (elector_coordinated(e) && !e->writing)
		elector_write_holder(e, actions, e->config.self, now_us);
}

static void on_eligible(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions)
{
	bool was = e->eligible;

	e->eligible = event->eligible;
	e->not_eligible_why = event->why;
	if (was == e->eligible)
		return;
	if (!e->eligible) {
		if (elector_owning(e)) {
			/* The link is gone or the rules are: nothing to be gentle with. */
			elector_resign(e, actions, event->why, event->now_us);
		} else if (e->state == ELECTION_STATE_CLAIMING ||
			   e->state == ELECTION_STATE_PROBING ||
			   e->state == ELECTION_STATE_FOLLOWING) {
			elector_become_following(e);
			elector_consider(e, actions, event->now_us);
		}
	} else if (elector_listening(e)) {
		/* What was heard before says nothing about now. */
		e->speaker = ELECTION_NOBODY;
		elector_listen_anew(e, actions);
		elector_consider(e, actions, event->now_us);
	}
}

/* Rule 9: an owner that lost the gateway, or most of the others, asks to be relieved. */
static void ask_for_relief(struct election_elector *e, struct election_actions *actions,
			   uint64_t now_us)
{
	struct election_lease lease;

	if (e->state != ELECTION_STATE_OWNING || !e->confirmed || e->writing ||
	    !elector_coordinated(e))
		return;
	lease = elector_lease_for(e, e->config.self);
	lease.degraded = e->quorum_misses >= 2 ||
			 (e->gateway_lost_us &&
			  base_usec_since(now_us, e->gateway_lost_us) > ELECTION_GATEWAY_LOST_US);
	e->relief = lease.degraded;
	if (lease.degraded != e->lease.degraded)
		elector_write_lease(e, actions, &lease, now_us);
}

/* A handover that was given up while a write was in flight: what that one named is taken back. */
static void tidy(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	struct election_lease lease;

	if (e->state != ELECTION_STATE_OWNING || !e->confirmed || e->writing ||
	    !elector_coordinated(e) || !elector_holds(e, e->config.self) ||
	    e->lease.successor == ELECTION_NOBODY)
		return;
	lease = elector_lease_for(e, e->config.self);
	lease.degraded = e->lease.degraded;
	elector_write_lease(e, actions, &lease, now_us);
}

static void on_witnesses(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions)
{
	uint64_t now_us = event->now_us;
	bool back = (event->witnesses & ~e->witnesses) ||
		    (event->gateway_reachable && !e->gateway_reachable);

	e->witnesses = event->witnesses;
	e->answering = event->answering;
	e->gateway_known = event->gateway_known;
	e->gateway_reachable = event->gateway_reachable;
	e->witnessed = true;
	if (!e->gateway_known || e->gateway_reachable)
		e->gateway_lost_us = 0;
	else if (!e->gateway_lost_us)
		e->gateway_lost_us = now_us;
	if (elector_owning(e)) {
		if (back) /* clients that were cut off with it may have the address elsewhere */
			elector_add(actions, ELECTION_ACTION_ANNOUNCE);
		if (e->quorum_misses > 0 && elector_quorum(e))
			e->quorum_misses = 0;
		/*
		 * Missed twice, and not there right now: that look was asked a moment ago. Silently:
		 * who hears a resignation here is cut off with us.
		 */
		if (e->quorum_misses >= 2 && !elector_coordinated(e))
			elector_leave(e, actions, BASE_REASON_QUORUM_LOST, false, ELECTION_NOBODY,
				      now_us);
		else
			ask_for_relief(e, actions, now_us);
		return;
	}
	elector_miss_answer(e, actions, now_us);
	elector_review_absence(e, event, actions);
	elector_take_offer(e, actions, now_us);
	if (!e->silent || !elector_listening(e))
		return;
	if (!elector_quorum(e)) {
		if (!e->isolated_us)
			e->isolated_us = now_us;
		return;
	}
	/*
	 * Back among the others: an owner that they have did not hear us ask who answers for the address.
	 * After a while it must be heard first.
	 */
	if (e->isolated_us && base_usec_since(now_us, e->isolated_us) > 3 * elector_interval_us(e)) {
		elector_listen_anew(e, actions);
	} else if (e->isolated_us) {
		e->witnessed = false;
		elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
	} else if (e->claim_at_us != BASE_USEC_NEVER) {
		elector_try_claim(e, actions, now_us);
	}
	e->isolated_us = 0;
}

static void on_overslept(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us)
{
	e->vain_us = 0;
	elector_forget_holder(e); /* its answers may lie there unread */
	switch (e->state) {
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
		elector_leave(e, actions, BASE_REASON_OVERSLEPT, false, ELECTION_NOBODY, now_us);
		break;
	case ELECTION_STATE_LEAVING:
		if (!e->releasing)
			elector_become_following(e);
		elector_listen_anew(e, actions);
		break;
	case ELECTION_STATE_CLAIMING:
	case ELECTION_STATE_PROBING:
	case ELECTION_STATE_CONFLICT:
		elector_become_following(e);
		elector_listen_anew(e, actions);
		break;
	case ELECTION_STATE_STARTING:
	case ELECTION_STATE_FOLLOWING:
		elector_forget_offer(e);
		elector_listen_anew(e, actions);
		break;
	case ELECTION_STATE_RELEASING:
		elector_become_released(e, actions);
		return;
	case ELECTION_STATE_RELEASED:
		return;
	}
	if (e->releasing)
		elector_finish_release(e, actions, now_us);
}

/* An owner's own clockwork: witnesses, confirmation, the bound of a move. */
static void owner_timer(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	if (e->mediating_us && now_us >= e->mediating_us) {
		e->mediating_us = 0;
		elector_add(actions, ELECTION_ACTION_PRIORITY);
	}
	if (e->proving && now_us >= e->prove_at_us)
		elector_doubt_aloud(e, actions);
	if (e->state == ELECTION_STATE_MOVING && now_us >= e->claim_at_us) {
		elector_give_up_handover(e, actions, now_us);
		if (!elector_owning(e))
			return;
	}
	if (e->state == ELECTION_STATE_MOVING && !e->writing && elector_holds(e, e->config.self) &&
	    e->lease.successor != e->successor)
		elector_name_successor(e, actions, now_us);
	if (now_us >= e->retry_at_us) {
		e->retry_at_us = BASE_USEC_NEVER;
		if (e->config.excluded)
			elector_begin_handover(e, actions, ELECTION_NOBODY, e->config.excluded_why,
					       now_us);
		if (!elector_owning(e))
			return;
	}
	if (now_us >= e->watch_us) {
		/* Whoever answers the last look has done so by now. */
		e->quorum_misses = !e->watched || elector_quorum(e) ? 0 : e->quorum_misses + 1;
		e->watched = true;
		e->watch_us = now_us + ELECTION_WATCH_US;
		elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
		if (e->contact && !e->api_reachable)
			elector_add(actions, ELECTION_ACTION_READ);
		elector_try_confirm(e, actions, now_us);
		tidy(e, actions, now_us);
	}
}

static void on_deadline(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	e->claim_at_us = BASE_USEC_NEVER;
	switch (e->state) {
	case ELECTION_STATE_STARTING:
	case ELECTION_STATE_FOLLOWING:
		if (e->silent)
			elector_try_claim(e, actions, now_us);
		return;
	case ELECTION_STATE_PROBING:
		/* No answer from our own probing: the interface is of no use now. */
		elector_become_following(e);
		e->silent = true;
		e->claim_at_us = now_us + ELECTION_WATCH_US;
		return;
	case ELECTION_STATE_CLAIMING:
		elector_distrust(e, actions);
		elector_fall_back(e, actions, now_us);
		return;
	case ELECTION_STATE_LEAVING:
		elector_end_leaving(e, actions, now_us);
		return;
	case ELECTION_STATE_CONFLICT:
		elector_become_following(e);
		e->silent = true;
		elector_try_claim(e, actions, now_us);
		return;
	case ELECTION_STATE_RELEASING:
		elector_become_released(e, actions);
		return;
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
	case ELECTION_STATE_RELEASED:
		return;
	}
}

/*
 * Rule 3. Our node's sign of life keeps every Lease that names it from expiring, so the one that we
 * cannot make use of is given back: others may be waiting for it.
 */
static uint64_t vain_until_us(const struct election_elector *e)
{
	uint64_t again_us = e->write_started_us ? e->write_started_us + ELECTION_VAIN_US : 0;

	if (elector_hopeless(e)) /* but not again and again, if the write is refused */
		return again_us > e->vain_us ? again_us : e->vain_us;
	return e->vain_us + ELECTION_VAIN_US + 4 * elector_interval_us(e);
}

static void note_vain(struct election_elector *e, uint64_t now_us)
{
	if (!elector_in_vain(e))
		e->vain_us = 0;
	else if (!e->vain_us)
		e->vain_us = now_us;
}

static void on_timer(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	if (e->writing && base_usec_since(now_us, e->write_started_us) > ELECTION_WRITE_US)
		e->writing = false; /* its answer is lost; what the Lease says will be seen */
	if (elector_owning(e)) {
		owner_timer(e, actions, now_us);
		return;
	}
	if (now_us >= e->claim_at_us)
		on_deadline(e, actions, now_us);
	if (now_us >= e->resigning_until_us)
		elector_review_resignation(e, actions, now_us, true);
	else if (now_us >= e->resigning_ask_us)
		elector_ask_resigned(e, actions, now_us);
	if (now_us >= e->absent_ask_us)
		elector_ask_absent(e, actions, now_us);
	if (e->offered && now_us >= e->offer_at_us) {
		e->offer_due = true; /* if something is missing still, its coming will be told */
		elector_take_offer(e, actions, now_us);
	}
	if (e->vain_us && now_us >= vain_until_us(e) && elector_in_vain(e))
		elector_write_holder(e, actions, ELECTION_NOBODY, now_us);
}

static void clear_peers(const struct election_config *config)
{
	memset(config->peers, 0, config->candidate_count * sizeof *config->peers);
}

void election_elector_init(struct election_elector *e, const struct election_config *config,
			   uint64_t now_us, uint64_t random_seed)
{
	memset(e, 0, sizeof *e);
	e->config = *config;
	clear_peers(config);
	e->random = random_seed | 1;
	e->state = config->leased ? ELECTION_STATE_STARTING : ELECTION_STATE_FOLLOWING;
	e->lease.holder = e->lease.successor = ELECTION_NOBODY;
	e->speaker = e->other = e->leaver = ELECTION_NOBODY;
	e->successor = e->last_owner = ELECTION_NOBODY;
	e->started_us = now_us;
	e->stale_wait_us = ELECTION_STALE_US;
	e->claim_at_us = e->offer_at_us = e->retry_at_us = BASE_USEC_NEVER;
	e->watch_us = e->resigning_until_us = e->resigning_ask_us = BASE_USEC_NEVER;
	e->absent_ask_us = BASE_USEC_NEVER;
}

static uint8_t move_index(const uint8_t *moved, uint8_t index)
{
	return index < ELECTION_CANDIDATES_MAX ? moved[index] : index;
}

/* Who answers is asked again as soon as it matters. */
static void move_peers(struct election_elector *e, const struct election_config *config,
		       const uint8_t *moved)
{
	uint64_t heard_us[ELECTION_CANDIDATES_MAX] = { 0 };

	for (unsigned i = 0; i < e->config.candidate_count; i++)
		if (moved[i] < config->candidate_count)
			heard_us[moved[i]] = e->config.peers[i].heard_us;
	clear_peers(config); /* it may be the same memory */
	for (unsigned i = 0; i < config->candidate_count; i++)
		config->peers[i].heard_us = heard_us[i];
}

/* Indices are other nodes now. */
static void move_indices(struct election_elector *e, const uint8_t *moved)
{
	uint32_t witnesses = 0;

	for (unsigned i = 0; i < ELECTION_CANDIDATES_MAX; i++)
		if (moved[i] < ELECTION_CANDIDATES_MAX && e->witnesses & UINT32_C(1) << i)
			witnesses |= UINT32_C(1) << moved[i];
	elector_forget_resignation(e);
	elector_forget_holder(e);
	e->answering = 0;
	e->witnesses = witnesses;
	e->speaker = move_index(moved, e->speaker);
	if (e->speaker >= ELECTION_CANDIDATES_MAX)
		e->speaker = ELECTION_NOBODY;
	e->other = e->leaver = ELECTION_NOBODY;
	e->last_owner = move_index(moved, e->last_owner);
	if (e->last_owner >= ELECTION_CANDIDATES_MAX)
		e->last_owner = ELECTION_NOBODY;
	e->successor = move_index(moved, e->successor);
}

void election_elector_configure(struct election_elector *e, const struct election_config *config,
				const uint8_t moved[ELECTION_CANDIDATES_MAX],
				const struct election_lease *lease, uint64_t now_us,
				struct election_actions *actions)
{
	bool was_excluded = e->config.excluded;

	actions->count = 0;
	move_peers(e, config, moved);
	e->config = *config;
	move_indices(e, moved);
	e->lease.holder = lease->holder;
	e->lease.successor = lease->successor;
	if (elector_owning(e) && config->self == ELECTION_NOBODY) {
		/* No candidate any more. The others may not know us by now: the Lease tells them. */
		e->moving_why = BASE_REASON_REBALANCED;
		elector_become_leaving(e, actions, ELECTION_NOBODY, now_us);
		if (elector_coordinated(e) && elector_holds(e, ELECTION_FORMER) && !e->writing)
			elector_write_holder(e, actions, ELECTION_NOBODY, now_us);
	}
	if (config->self == ELECTION_NOBODY &&
	    (e->state == ELECTION_STATE_CLAIMING || e->state == ELECTION_STATE_PROBING))
		elector_become_following(e);
	if (e->state == ELECTION_STATE_MOVING && e->successor >= config->candidate_count) {
		elector_give_up_handover(e, actions, now_us); /* it may not own it any more */
		if (e->retry_at_us != BASE_USEC_NEVER)
			e->retry_at_us = now_us; /* another one may */
	}
	if (e->state == ELECTION_STATE_OWNING && config->excluded && !was_excluded)
		elector_begin_handover(e, actions, ELECTION_NOBODY, config->excluded_why, now_us);
	if (elector_listening(e))
		elector_consider(e, actions, now_us);
	if (e->silent && elector_listening(e) && e->claim_at_us == BASE_USEC_NEVER &&
	    elector_may_own(e))
		e->claim_at_us = now_us; /* what kept us from it may be gone */
	note_vain(e, now_us);
}

static void dispatch(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	switch (event->type) {
	case ELECTION_EVENT_TIMER:
		on_timer(e, actions, now_us);
		return;
	case ELECTION_EVENT_MISSED:
		elector_on_missed(e, actions, now_us);
		return;
	case ELECTION_EVENT_SUSPECT:
		elector_forget_absence(e);
		if (elector_may_own(e) && !elector_owning(e)) {
			e->witnessed = false;
			elector_add(actions, ELECTION_ACTION_PROBE_WITNESSES);
			if (e->contact && !e->api_reachable)
				elector_add(actions, ELECTION_ACTION_READ);
		}
		return;
	case ELECTION_EVENT_SILENCE:
		elector_on_silence(e, actions, now_us);
		return;
	case ELECTION_EVENT_HEARD:
		elector_on_heard(e, event, actions);
		return;
	case ELECTION_EVENT_HELD:
		elector_on_held(e, event, actions);
		return;
	case ELECTION_EVENT_LEASE:
		e->api_reachable = true;
		elector_on_lease(e, &event->lease, actions, now_us);
		return;
	case ELECTION_EVENT_RENEWED:
		e->lease_changed_us = now_us;
		return;
	case ELECTION_EVENT_WRITTEN:
		elector_on_written(e, event, actions);
		return;
	case ELECTION_EVENT_API:
		elector_on_api(e, event, actions);
		return;
	case ELECTION_EVENT_WITNESSES:
		on_witnesses(e, event, actions);
		return;
	case ELECTION_EVENT_ELIGIBLE:
		on_eligible(e, event, actions);
		return;
	case ELECTION_EVENT_ADDRESS_FREE:
		elector_on_free(e, actions, now_us);
		return;
	case ELECTION_EVENT_ADDRESS_TAKEN:
		elector_on_taken(e, event, actions);
		return;
	case ELECTION_EVENT_HANDOVER:
		elector_begin_handover(e, actions, event->to,
				       event->why ? event->why : BASE_REASON_HANDOVER, now_us);
		return;
	case ELECTION_EVENT_RELEASE:
		elector_on_release(e, actions, now_us);
		return;
	case ELECTION_EVENT_ADOPT:
		on_adopt(e, actions, now_us);
		return;
	case ELECTION_EVENT_DOZED:
		if (elector_owning(e) && e->confirmed) { /* by somebody else's claim, perhaps, no more */
			elector_doubt(e, actions);
			elector_distrust(e, actions);
		}
		return;
	case ELECTION_EVENT_OVERSLEPT:
		on_overslept(e, actions, now_us);
		return;
	}
}

void election_elector_step(struct election_elector *e, const struct election_event *event,
			   struct election_actions *actions)
{
	actions->count = 0;
	if (e->state == ELECTION_STATE_RELEASED)
		return;
	dispatch(e, event, actions);
	note_vain(e, event->now_us);
}

uint64_t election_elector_deadline(const struct election_elector *e)
{
	uint64_t deadline_us = e->claim_at_us;

	if (e->state == ELECTION_STATE_RELEASED)
		return BASE_USEC_NEVER;
	if (e->offered && !e->offer_due)
		deadline_us = base_usec_earlier(deadline_us, e->offer_at_us);
	deadline_us = base_usec_earlier(deadline_us, e->resigning_until_us);
	deadline_us = base_usec_earlier(deadline_us, e->resigning_ask_us);
	deadline_us = base_usec_earlier(deadline_us, e->absent_ask_us);
	if (e->vain_us)
		deadline_us = base_usec_earlier(deadline_us, vain_until_us(e));
	if (elector_owning(e)) {
		deadline_us = base_usec_earlier(deadline_us, e->watch_us);
		deadline_us = base_usec_earlier(deadline_us, e->retry_at_us);
		if (e->proving)
			deadline_us = base_usec_earlier(deadline_us, e->prove_at_us);
		if (e->mediating_us)
			deadline_us = base_usec_earlier(deadline_us, e->mediating_us);
	}
	return deadline_us;
}

unsigned election_elector_rank(const struct election_elector *e)
{
	if (e->config.self == ELECTION_NOBODY)
		return e->config.candidate_count;
	return elector_rank(e, election_elector_owner(e));
}

bool election_elector_owns(const struct election_elector *e)
{
	return elector_owning(e);
}

uint8_t election_elector_owner(const struct election_elector *e)
{
	if (elector_owning(e))
		return e->config.self;
	if (e->speaker != ELECTION_NOBODY)
		return e->speaker;
	return e->lease.exists && !e->silent ? e->lease.holder : ELECTION_NOBODY;
}

uint8_t election_elector_wire_priority(const struct election_elector *e)
{
	uint8_t priority =
		e->config.self < ELECTION_CANDIDATES_MAX ? e->config.priorities[e->config.self] : 1;

	priority = (uint8_t)((priority + 1) / 2); /* 1..127 */
	return e->confirmed || e->mediating_us ? (uint8_t)(priority + ELECTION_CONFIRMED_MIN - 1)
					       : priority;
}

const char *election_state_name(enum election_state state)
{
	static const char *const names[] = {
		[ELECTION_STATE_STARTING] = "Starting",   [ELECTION_STATE_FOLLOWING] = "Following",
		[ELECTION_STATE_PROBING] = "Probing",     [ELECTION_STATE_CLAIMING] = "Claiming",
		[ELECTION_STATE_OWNING] = "Owning",       [ELECTION_STATE_MOVING] = "Moving",
		[ELECTION_STATE_LEAVING] = "Leaving",     [ELECTION_STATE_CONFLICT] = "Conflict",
		[ELECTION_STATE_RELEASING] = "Releasing", [ELECTION_STATE_RELEASED] = "Released",
	};

	return names[state];
}
