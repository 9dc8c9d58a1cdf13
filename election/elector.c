#include "election/elector.h"

#include <string.h>

static struct election_action *add(struct election_actions *actions, enum election_action_type type)
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

static void transition(struct election_elector *e, struct election_actions *actions,
		       enum base_reason why, uint8_t from, uint8_t to)
{
	struct election_action *action = add(actions, ELECTION_ACTION_TRANSITION);

	(void)e;
	action->why = why;
	action->from = from;
	action->to = to;
}

static uint64_t interval_us(const struct election_elector *e)
{
	return e->config.interval_us;
}

static uint64_t jitter_us(struct election_elector *e, uint64_t range_us)
{
	/* xorshift: reproducible, and good enough to keep nodes apart */
	e->random ^= e->random << 13;
	e->random ^= e->random >> 7;
	e->random ^= e->random << 17;
	return range_us ? e->random % range_us : 0;
}

static bool may_own(const struct election_elector *e)
{
	return e->config.self != ELECTION_NOBODY && e->eligible && !e->config.excluded &&
	       !e->releasing;
}

/* How many candidates come before us; `without` is left out of the count. */
static unsigned rank(const struct election_elector *e, uint8_t without)
{
	unsigned before = 0;
	uint8_t self = e->config.self;

	for (unsigned i = 0; i < e->config.candidate_count; i++) {
		if (i == self || i == without)
			continue;
		if (e->config.priorities[i] > e->config.priorities[self] ||
		    (e->config.priorities[i] == e->config.priorities[self] && i < self))
			before++;
	}
	return before;
}

/* Rule 6. Two candidates without another witness have no quorum rule. */
static bool quorum(const struct election_elector *e)
{
	unsigned total = e->config.candidate_count + (e->gateway_known ? 1u : 0u);
	unsigned reached = 1 + (e->gateway_known && e->gateway_reachable ? 1u : 0u);

	for (unsigned i = 0; i < e->config.candidate_count; i++)
		if (i != e->config.self && (e->witnesses & UINT32_C(1) << i))
			reached++;
	if (e->config.candidate_count <= 1 ||
	    (e->config.candidate_count == 2 && !e->gateway_known))
		return true;
	if (reached * 2 == total)
		return e->gateway_known && e->gateway_reachable;
	return reached * 2 > total;
}

static uint64_t lease_expiry_us(const struct election_elector *e)
{
	uint32_t duration_ms = e->lease.duration_ms ? e->lease.duration_ms
						    : e->config.lease_duration_ms;

	return base_usec_add(e->lease_changed_us, duration_ms * BASE_USEC_PER_MSEC);
}

static bool owning(const struct election_elector *e)
{
	return e->state == ELECTION_STATE_OWNING || e->state == ELECTION_STATE_MOVING;
}

static void write_lease(struct election_elector *e, struct election_actions *actions,
			const struct election_lease *lease, uint64_t now_us)
{
	add(actions, ELECTION_ACTION_WRITE)->lease = *lease;
	e->writing = true;
	e->write_started_us = now_us;
	e->written = *lease;
}

/* The Lease that makes `holder` the holder: the term rises exactly when the holder changes (S5). */
static struct election_lease lease_for(const struct election_elector *e, uint8_t holder)
{
	return (struct election_lease){
		.exists = true,
		.holder = holder,
		.term = e->lease.exists && e->lease.holder == holder ? e->lease.term
								      : e->lease.term + 1,
		.duration_ms = e->config.lease_duration_ms,
		.successor = ELECTION_NOBODY,
		.ready = ELECTION_NOBODY,
	};
}

static void note_loss(struct election_elector *e, uint64_t now_us)
{
	if (base_usec_since(now_us, e->last_loss_us) > ELECTION_FLAP_WINDOW_US)
		e->losses = 0;
	e->losses++;
	e->last_loss_us = now_us;
}

/* A node that lost the address again and again lets the others go first. */
static uint64_t hold_down_us(const struct election_elector *e, uint64_t now_us)
{
	uint64_t wait_us;

	if (e->losses < 3 || base_usec_since(now_us, e->last_loss_us) > ELECTION_FLAP_WINDOW_US)
		return 0;
	wait_us = 4 * interval_us(e) << (e->losses - 3 > 8 ? 8 : e->losses - 3);
	return wait_us > ELECTION_HOLD_DOWN_MAX_US ? ELECTION_HOLD_DOWN_MAX_US : wait_us;
}

static void become_following(struct election_elector *e)
{
	e->state = ELECTION_STATE_FOLLOWING;
	e->confirmed = false;
	e->rival_us = 0;
	e->successor = ELECTION_NOBODY;
	e->claim_at_us = BASE_USEC_NEVER;
	e->watch_us = BASE_USEC_NEVER;
	e->was_probed = false;
}

static void listen_anew(struct election_elector *e, struct election_actions *actions)
{
	e->silent = false;
	e->witnessed = false;
	e->isolated_us = 0;
	e->claim_at_us = BASE_USEC_NEVER;
	add(actions, ELECTION_ACTION_LISTEN);
}

static enum base_reason takeover_reason(const struct election_elector *e)
{
	if (!e->ever_heard && (!e->lease.exists || e->lease.holder == ELECTION_NOBODY))
		return BASE_REASON_OWNER_ELECTED;
	if (e->lease.exists && e->lease.successor == e->config.self)
		return BASE_REASON_HANDOVER;
	if (e->lease.exists && e->lease.holder == ELECTION_NOBODY)
		return BASE_REASON_OWNER_RESIGNED;
	return BASE_REASON_OWNER_LOST;
}

static void become_owning(struct election_elector *e, struct election_actions *actions,
			  enum base_reason why, bool confirmed, uint64_t now_us)
{
	uint8_t from = e->last_owner;

	e->state = ELECTION_STATE_OWNING;
	e->confirmed = confirmed;
	e->term = e->lease.term;
	e->active_us = now_us;
	e->rival_us = 0;
	e->quorum_misses = 0;
	e->successor = ELECTION_NOBODY;
	e->silent = false;
	e->last_owner = e->config.self;
	e->claim_at_us = BASE_USEC_NEVER;
	e->watch_us = now_us + ELECTION_WATCH_US;
	e->renew_us = now_us + e->config.renew_us - jitter_us(e, e->config.renew_us / 4);
	add(actions, ELECTION_ACTION_ACTIVATE);
	transition(e, actions, why, from, e->config.self);
}

/* Gives the address up. With `resign` the LAN is told by priority 0. */
static void leave(struct election_elector *e, struct election_actions *actions,
		  enum base_reason why, bool resign, uint8_t to, uint64_t now_us)
{
	bool planned = why == BASE_REASON_HANDOVER || why == BASE_REASON_MAINTENANCE ||
		       why == BASE_REASON_REBALANCED || why == BASE_REASON_DRILL_STARTED;

	add(actions, resign ? ELECTION_ACTION_RESIGN : ELECTION_ACTION_YIELD)->planned = planned;
	become_following(e);
	if (!planned)
		note_loss(e, now_us);
	e->silent = false;
	e->last_owner = to < ELECTION_CANDIDATES_MAX ? to : ELECTION_NOBODY;
	transition(e, actions, why, e->config.self, to);
	add(actions, ELECTION_ACTION_LISTEN);
}

static void become_probing(struct election_elector *e, struct election_actions *actions,
			   uint64_t now_us)
{
	e->state = ELECTION_STATE_PROBING;
	e->claim_at_us = now_us + ELECTION_PROBE_US;
	add(actions, ELECTION_ACTION_PROBE_ADDRESSES);
}

static void become_claiming(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us)
{
	struct election_lease lease = lease_for(e, e->config.self);

	e->state = ELECTION_STATE_CLAIMING;
	e->claim_at_us = now_us + ELECTION_CLAIM_BOUND_US;
	write_lease(e, actions, &lease, now_us);
}

/* Time at which a leased router may be claimed, by what the Lease says; rules 2, 3, 9. */
static uint64_t lease_allows_us(const struct election_elector *e, uint64_t now_us)
{
	if (!e->lease_seen)
		return base_usec_add(e->started_us, ELECTION_COLD_START_US);
	if (!e->lease.exists || e->lease.holder == ELECTION_NOBODY)
		return now_us;
	if (e->lease.holder == e->config.self || e->heard_in_term)
		return now_us;
	return lease_expiry_us(e);
}

/*
 * It is silent: what stands between us and the address? Either it is taken now, or claim_at_us
 * says when to ask again.
 */
static void try_claim(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	uint64_t allowed_us;

	if (!may_own(e)) {
		e->claim_at_us = BASE_USEC_NEVER;
		return;
	}
	allowed_us = e->config.leased ? lease_allows_us(e, now_us) : now_us;
	if (hold_down_us(e, now_us) > 0)
		allowed_us = base_usec_add(e->last_loss_us, hold_down_us(e, now_us)) > allowed_us
				     ? e->last_loss_us + hold_down_us(e, now_us)
				     : allowed_us;
	if (allowed_us > now_us) {
		e->claim_at_us = allowed_us;
		return;
	}
	if (!e->witnessed || !quorum(e)) {
		add(actions, ELECTION_ACTION_PROBE_WITNESSES);
		e->claim_at_us = now_us + interval_us(e);
		return;
	}
	if (!e->ever_heard && !e->was_probed &&
	    (!e->lease.exists || e->lease.holder != e->config.self)) {
		become_probing(e, actions, now_us);
		return;
	}
	if (!e->config.leased) {
		become_owning(e, actions, takeover_reason(e), false, now_us);
	} else if (e->lease_seen && e->lease.exists && e->lease.holder == e->config.self) {
		become_owning(e, actions, takeover_reason(e), true, now_us);
	} else if (e->writing) {
		e->claim_at_us = now_us + interval_us(e);
	} else if (e->lease_seen && e->api_reachable) {
		become_claiming(e, actions, now_us);
	} else {
		become_owning(e, actions, takeover_reason(e), false, now_us);
	}
}

/* An unconfirmed owner asks for the Lease as soon as it can; rule 4. */
static void try_confirm(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	struct election_lease lease;

	if (!e->config.leased || !owning(e) || e->writing || !e->lease_seen)
		return;
	if (e->lease.exists && e->lease.holder == e->config.self) {
		if (!e->confirmed) {
			e->confirmed = true;
			e->term = e->lease.term;
			add(actions, ELECTION_ACTION_PRIORITY);
		}
		return;
	}
	if (!e->api_reachable)
		return;
	lease = lease_for(e, e->config.self);
	write_lease(e, actions, &lease, now_us);
}

static void on_silence(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	e->silent = true;
	e->speaker = ELECTION_NOBODY;
	if (e->state == ELECTION_STATE_STARTING || e->state == ELECTION_STATE_FOLLOWING)
		try_claim(e, actions, now_us);
}

/* The owner said that it stops. */
static void on_resigned(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions)
{
	bool named = e->lease.exists && e->lease.successor == e->config.self &&
		     e->lease.ready == e->config.self && e->lease.holder == event->from;

	e->last_owner = event->from < ELECTION_CANDIDATES_MAX ? event->from : e->last_owner;
	if (!may_own(e) || event->from >= ELECTION_CANDIDATES_MAX)
		return;
	if (e->state != ELECTION_STATE_FOLLOWING && e->state != ELECTION_STATE_STARTING)
		return;
	if (e->config.leased && named)
		become_owning(e, actions, BASE_REASON_HANDOVER, false, event->now_us);
	else if (!e->config.leased && rank(e, event->from) == 0)
		become_owning(e, actions, BASE_REASON_OWNER_RESIGNED, false, event->now_us);
}

/* Two actives hear each other: rule 5. */
static void on_rival(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions)
{
	bool rival_confirmed = event->priority >= ELECTION_CONFIRMED_MIN;
	uint8_t mine = election_elector_wire_priority(e);
	bool stronger;

	if (event->from == ELECTION_OTHER)
		return; /* a stranger never moves an address; the caller reports it: rule 13 */
	if (e->confirmed && rival_confirmed)
		stronger = base_usec_since(event->now_us, e->active_us) > 8 * interval_us(e);
	else if (e->confirmed != rival_confirmed)
		stronger = rival_confirmed;
	else
		stronger = event->priority > mine ||
			   (event->priority == mine && event->address_higher);
	if (!stronger) {
		if (!e->rival_us || base_usec_since(event->now_us, e->heard_us[event->from]) >
					    2 * interval_us(e))
			e->rival_us = event->now_us;
		if (base_usec_since(event->now_us, e->rival_us) <= 3 * interval_us(e)) {
			add(actions, ELECTION_ACTION_ANNOUNCE);
			return;
		}
	}
	leave(e, actions, BASE_REASON_SPLIT_BRAIN_RESOLVED, false, event->from, event->now_us);
	if (e->config.leased)
		add(actions, ELECTION_ACTION_READ);
}

static void on_heard(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions)
{
	if (event->from == ELECTION_OTHER && e->config.leased && e->lease.exists &&
	    e->lease.holder == e->config.self)
		return; /* rule 13 */
	if (event->priority == 0) {
		on_resigned(e, event, actions);
		return;
	}
	if (owning(e)) {
		on_rival(e, event, actions);
	} else {
		e->silent = false;
		e->witnessed = false;
		e->isolated_us = 0;
		e->was_probed = false;
		e->claim_at_us = BASE_USEC_NEVER;
		if (e->state == ELECTION_STATE_CLAIMING || e->state == ELECTION_STATE_PROBING ||
		    e->state == ELECTION_STATE_CONFLICT || e->state == ELECTION_STATE_STARTING)
			become_following(e);
	}
	if (event->from >= ELECTION_CANDIDATES_MAX)
		return;
	e->heard_us[event->from] = event->now_us;
	e->ever_heard = true;
	if (!owning(e)) {
		if (e->speaker != event->from && e->last_owner != event->from) {
			transition(e, actions, BASE_REASON_OWNER_OBSERVED, e->last_owner, event->from);
			e->last_owner = event->from;
		}
		e->speaker = event->from;
	}
	if (e->lease.exists && e->lease.holder == event->from)
		e->heard_in_term = true;
}

/* As successor: all is set behind our closed fence, so say so. */
static void answer_successor(struct election_elector *e, struct election_actions *actions,
			     uint64_t now_us)
{
	struct election_lease lease = e->lease;

	if (e->state != ELECTION_STATE_FOLLOWING || !may_own(e) || e->writing ||
	    e->lease.successor != e->config.self || e->lease.ready == e->config.self)
		return;
	lease.ready = e->config.self;
	write_lease(e, actions, &lease, now_us);
}

/* Rule 10, the owner's half: resign to the successor that says ready. */
static void finish_handover(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us)
{
	struct election_lease lease = lease_for(e, e->successor);
	bool releasing = e->releasing;

	leave(e, actions, e->moving_why, true, e->successor, now_us);
	lease.successor = lease.holder;
	lease.ready = lease.holder;
	write_lease(e, actions, &lease, now_us);
	if (releasing) {
		e->state = ELECTION_STATE_RELEASING;
		e->claim_at_us = now_us + ELECTION_RELEASE_WRITE_US;
	}
}

/* A degraded holder asks to be relieved: whoever sees the gateway claims, by rank. */
static void relieve(struct election_elector *e, uint64_t now_us)
{
	if (e->state != ELECTION_STATE_FOLLOWING || !may_own(e) || !e->gateway_known ||
	    !e->gateway_reachable || e->lease.holder == e->config.self)
		return;
	if (e->claim_at_us == BASE_USEC_NEVER)
		e->claim_at_us = now_us + rank(e, e->lease.holder) * interval_us(e);
}

static void on_lease(struct election_elector *e, const struct election_lease *lease,
		     struct election_actions *actions, uint64_t now_us)
{
	bool first = !e->lease_seen;
	bool new_term = first || lease->term != e->lease.term ||
			lease->holder != e->lease.holder || lease->exists != e->lease.exists;
	bool released_now = new_term && (!lease->exists || lease->holder == ELECTION_NOBODY);

	if (!first && lease->exists && e->lease.exists && lease->term < e->lease.term)
		return; /* an old answer that was under way */
	e->lease_seen = true;
	e->lease = *lease;
	e->lease_changed_us = now_us;
	if (new_term) {
		e->heard_in_term = false;
		if (lease->exists && lease->holder < ELECTION_CANDIDATES_MAX &&
		    e->heard_us[lease->holder] &&
		    base_usec_since(now_us, e->heard_us[lease->holder]) < 3 * interval_us(e))
			e->heard_in_term = true;
	}
	if (owning(e)) {
		if (!lease->exists || lease->holder == ELECTION_NOBODY) {
			try_confirm(e, actions, now_us); /* rule 7: re-claimed by the active */
		} else if (lease->holder == e->config.self) {
			try_confirm(e, actions, now_us);
			if (e->state == ELECTION_STATE_MOVING && lease->successor == e->successor &&
			    lease->ready == e->successor)
				finish_handover(e, actions, now_us);
		} else if (lease->term > e->term) {
			leave(e, actions, BASE_REASON_DEPOSED, true, lease->holder, now_us);
		} else {
			try_confirm(e, actions, now_us);
		}
		return;
	}
	if (e->state == ELECTION_STATE_STARTING)
		become_following(e);
	if (e->state != ELECTION_STATE_FOLLOWING)
		return;
	answer_successor(e, actions, now_us);
	if (lease->exists && lease->holder == e->config.self && may_own(e) &&
	    e->speaker == ELECTION_NOBODY) {
		/* Restarted in place, or named by the old owner: it is ours already. */
		become_owning(e, actions,
			      lease->successor == e->config.self ? BASE_REASON_HANDOVER
								  : BASE_REASON_STARTED,
			      true, now_us);
	} else if (lease->exists && lease->degraded) {
		relieve(e, now_us);
	} else if (released_now && may_own(e)) {
		e->claim_at_us = now_us + rank(e, ELECTION_NOBODY) * interval_us(e) / 2;
		add(actions, ELECTION_ACTION_PROBE_WITNESSES);
	} else if (e->silent) {
		try_claim(e, actions, now_us);
	}
}

static void on_written(struct election_elector *e, const struct election_event *event,
		       struct election_actions *actions)
{
	uint64_t now_us = event->now_us;
	bool was_writing = e->writing;

	e->writing = false;
	if (event->result == ELECTION_RESULT_UNKNOWN)
		e->api_reachable = false;
	if (e->state == ELECTION_STATE_RELEASING) {
		e->state = ELECTION_STATE_RELEASED;
		add(actions, ELECTION_ACTION_RELEASED);
		return;
	}
	if (event->result == ELECTION_RESULT_OK) {
		enum base_reason why = takeover_reason(e); /* by the Lease before ours */

		e->api_reachable = true;
		on_lease(e, &event->lease, actions, now_us);
		if (e->state == ELECTION_STATE_CLAIMING && was_writing &&
		    event->lease.holder == e->config.self)
			become_owning(e, actions, why, true, now_us);
		return;
	}
	if (e->state != ELECTION_STATE_CLAIMING)
		return;
	if (event->result == ELECTION_RESULT_CONFLICT) {
		become_following(e); /* somebody was faster */
		listen_anew(e, actions);
	} else if (quorum(e)) {
		become_owning(e, actions, takeover_reason(e), false, now_us);
	} else {
		become_following(e);
		e->claim_at_us = now_us + interval_us(e);
	}
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

/* Resigns without a ready successor: nobody took it, or there is no Lease to arrange it with. */
static void resign(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	struct election_lease lease = lease_for(e, ELECTION_NOBODY);
	bool write = e->config.leased && e->lease_seen && e->api_reachable && e->confirmed;
	bool releasing = e->releasing;

	leave(e, actions, e->moving_why, true, ELECTION_NOBODY, now_us);
	if (write)
		write_lease(e, actions, &lease, now_us);
	if (!releasing)
		return;
	e->state = write ? ELECTION_STATE_RELEASING : ELECTION_STATE_RELEASED;
	e->claim_at_us = now_us + ELECTION_RELEASE_WRITE_US;
	if (!write)
		add(actions, ELECTION_ACTION_RELEASED);
}

static void on_handover(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions)
{
	struct election_lease lease;
	uint8_t to = event->to;

	if (e->state != ELECTION_STATE_OWNING)
		return;
	if (to >= e->config.candidate_count || to == e->config.self)
		to = best_successor(e);
	if (to == ELECTION_NOBODY && !e->releasing && !e->config.excluded)
		return; /* nobody else may own it: it stays */
	e->moving_why = event->why ? event->why : BASE_REASON_HANDOVER;
	if (!e->config.leased || !e->confirmed || !e->api_reachable || to == ELECTION_NOBODY) {
		resign(e, actions, event->now_us);
		return;
	}
	e->state = ELECTION_STATE_MOVING;
	e->successor = to;
	e->claim_at_us = event->now_us + ELECTION_HANDOVER_US;
	lease = lease_for(e, e->config.self);
	lease.successor = to;
	if (e->writing)
		return; /* the timer writes it as soon as the other write is answered */
	write_lease(e, actions, &lease, event->now_us);
}

static void on_release(struct election_elector *e, const struct election_event *event,
		       struct election_actions *actions)
{
	struct election_event handover = { .now_us = event->now_us,
					   .to = ELECTION_NOBODY,
					   .why = BASE_REASON_HANDOVER };

	if (e->releasing)
		return;
	e->releasing = true;
	if (owning(e)) {
		e->state = ELECTION_STATE_OWNING;
		on_handover(e, &handover, actions);
		return;
	}
	e->state = ELECTION_STATE_RELEASED;
	add(actions, ELECTION_ACTION_RELEASED);
}

static void on_adopt(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	bool named = e->lease_seen && e->lease.exists && e->lease.holder == e->config.self;

	if ((e->state != ELECTION_STATE_STARTING && e->state != ELECTION_STATE_FOLLOWING) ||
	    !may_own(e) || e->speaker != ELECTION_NOBODY)
		return;
	if (e->config.leased && e->lease_seen && e->lease.exists && !named)
		return; /* it was given to somebody meanwhile: rule 7 */
	e->last_owner = e->config.self;
	become_owning(e, actions, BASE_REASON_STARTED, e->config.leased && named, now_us);
	try_confirm(e, actions, now_us);
}

static void on_eligible(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions)
{
	bool was = e->eligible;
	struct election_event handover = { .now_us = event->now_us,
					   .to = ELECTION_NOBODY,
					   .why = event->why };

	e->eligible = event->eligible;
	e->not_eligible_why = event->why;
	if (was && !event->eligible && owning(e)) {
		/* The link is gone or the rules are: nothing to be gentle with. */
		e->moving_why = handover.why;
		resign(e, actions, event->now_us);
	} else if (!was && event->eligible && !owning(e)) {
		answer_successor(e, actions, event->now_us);
		listen_anew(e, actions);
		if (e->lease_seen && e->state == ELECTION_STATE_FOLLOWING)
			on_lease(e, &(struct election_lease){ .exists = e->lease.exists,
							      .holder = e->lease.holder,
							      .term = e->lease.term,
							      .duration_ms = e->lease.duration_ms,
							      .successor = e->lease.successor,
							      .ready = e->lease.ready,
							      .degraded = e->lease.degraded },
				 actions, event->now_us);
	}
}

static void on_witnesses(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions)
{
	struct election_lease lease;
	uint64_t now_us = event->now_us;

	e->witnesses = event->witnesses;
	e->gateway_known = event->gateway_known;
	e->gateway_reachable = event->gateway_reachable;
	e->witnessed = true;
	if (!e->gateway_known || e->gateway_reachable)
		e->gateway_lost_us = 0;
	else if (!e->gateway_lost_us)
		e->gateway_lost_us = now_us;
	if (!owning(e)) {
		if (!e->silent || (e->state != ELECTION_STATE_FOLLOWING &&
				   e->state != ELECTION_STATE_STARTING))
			return;
		if (!quorum(e) && !e->isolated_us)
			e->isolated_us = now_us;
		if (!quorum(e))
			return;
		/* Back among the others after a while: an owner that they have must be heard first. */
		if (e->isolated_us &&
		    base_usec_since(now_us, e->isolated_us) > 3 * interval_us(e))
			listen_anew(e, actions);
		else if (e->claim_at_us != BASE_USEC_NEVER)
			try_claim(e, actions, now_us);
		e->isolated_us = 0;
		return;
	}
	if (quorum(e)) {
		e->quorum_misses = 0;
	} else if (base_usec_since(now_us, e->quorum_missed_us) > ELECTION_WATCH_US / 2) {
		e->quorum_misses++; /* once per look, however often its answers are told */
		e->quorum_missed_us = now_us;
	}
	if (e->quorum_misses >= 2 && (!e->config.leased || !e->api_reachable)) {
		leave(e, actions, BASE_REASON_QUORUM_LOST, true, ELECTION_NOBODY, now_us);
		return;
	}
	if (e->gateway_lost_us && e->confirmed && !e->lease.degraded && !e->writing &&
	    base_usec_since(now_us, e->gateway_lost_us) > ELECTION_GATEWAY_LOST_US) {
		lease = lease_for(e, e->config.self);
		lease.degraded = true;
		write_lease(e, actions, &lease, now_us);
	}
}

/* An owner's own clockwork: renewal, witnesses, confirmation, the bound of a move. */
static void owner_timer(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	struct election_lease lease;

	if (e->writing && base_usec_since(now_us, e->write_started_us) > ELECTION_HANDOVER_US)
		e->writing = false; /* its answer is lost; what the Lease says will be seen */
	if (e->state == ELECTION_STATE_MOVING && now_us >= e->claim_at_us) {
		e->state = ELECTION_STATE_OWNING;
		e->claim_at_us = BASE_USEC_NEVER;
		if (e->releasing || e->config.excluded) {
			resign(e, actions, now_us);
			return;
		}
		e->successor = ELECTION_NOBODY; /* nobody was ready: it stays here */
	}
	if (e->state == ELECTION_STATE_MOVING && !e->writing &&
	    e->lease.successor != e->successor) {
		lease = lease_for(e, e->config.self);
		lease.successor = e->successor;
		write_lease(e, actions, &lease, now_us);
	}
	if (now_us >= e->watch_us) {
		e->watch_us = now_us + ELECTION_WATCH_US;
		add(actions, ELECTION_ACTION_PROBE_WITNESSES);
		try_confirm(e, actions, now_us);
	}
	if (now_us >= e->renew_us && e->config.leased) {
		e->renew_us = now_us + e->config.renew_us - jitter_us(e, e->config.renew_us / 4);
		if (e->confirmed && !e->writing && e->state == ELECTION_STATE_OWNING) {
			lease = lease_for(e, e->config.self);
			lease.degraded = e->gateway_lost_us != 0 && e->lease.degraded;
			write_lease(e, actions, &lease, now_us);
		}
	}
}

static void on_timer(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	if (owning(e)) {
		owner_timer(e, actions, now_us);
		return;
	}
	if (e->writing && base_usec_since(now_us, e->write_started_us) > ELECTION_HANDOVER_US)
		e->writing = false;
	if (now_us < e->claim_at_us)
		return;
	e->claim_at_us = BASE_USEC_NEVER;
	switch (e->state) {
	case ELECTION_STATE_STARTING:
	case ELECTION_STATE_FOLLOWING:
		if (e->silent) {
			try_claim(e, actions, now_us);
		} else if (e->lease_seen && may_own(e) && !e->writing && e->api_reachable &&
			   ((e->lease.exists && e->lease.degraded) ||
			    ((!e->lease.exists || e->lease.holder == ELECTION_NOBODY) &&
			     e->speaker == ELECTION_NOBODY && e->witnessed && quorum(e)))) {
			/* Rules 3 and 9: offered, so the silence need not be waited for. */
			if (e->ever_heard || e->was_probed)
				become_claiming(e, actions, now_us);
			else
				become_probing(e, actions, now_us);
		}
		return;
	case ELECTION_STATE_PROBING:
		/* No answer from our own probing: the interface is of no use now. */
		become_following(e);
		e->silent = true;
		e->claim_at_us = now_us + ELECTION_WATCH_US;
		return;
	case ELECTION_STATE_CLAIMING:
		/* Rule 4: the API is silent; what the LAN says decides. */
		e->api_reachable = false;
		if (e->witnessed && quorum(e)) {
			become_owning(e, actions, takeover_reason(e), false, now_us);
		} else {
			become_following(e);
			e->silent = true;
			e->claim_at_us = now_us + interval_us(e);
		}
		return;
	case ELECTION_STATE_CONFLICT:
		become_following(e);
		e->silent = true;
		try_claim(e, actions, now_us);
		return;
	case ELECTION_STATE_RELEASING:
		e->state = ELECTION_STATE_RELEASED;
		add(actions, ELECTION_ACTION_RELEASED);
		return;
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
	case ELECTION_STATE_RELEASED:
		return;
	}
}

static void on_address_free(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us)
{
	if (e->state != ELECTION_STATE_PROBING)
		return;
	become_following(e);
	e->was_probed = true;
	if (!e->silent && e->config.leased && e->lease_seen && e->api_reachable && !e->writing &&
	    (!e->lease.exists || e->lease.holder == ELECTION_NOBODY)) {
		become_claiming(e, actions, now_us);
		return;
	}
	e->silent = true;
	try_claim(e, actions, now_us);
}

static void on_address_taken(struct election_elector *e, struct election_actions *actions,
			     uint64_t now_us)
{
	if (e->state != ELECTION_STATE_PROBING)
		return;
	e->state = ELECTION_STATE_CONFLICT;
	e->claim_at_us = now_us + ELECTION_CONFLICT_US;
	transition(e, actions, BASE_REASON_FOREIGN_ADDRESS, ELECTION_NOBODY, ELECTION_NOBODY);
}

static void on_overslept(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us)
{
	if (owning(e)) {
		leave(e, actions, BASE_REASON_OVERSLEPT, false, ELECTION_NOBODY, now_us);
		return;
	}
	if (e->state == ELECTION_STATE_CLAIMING || e->state == ELECTION_STATE_PROBING)
		become_following(e);
	if (e->state == ELECTION_STATE_FOLLOWING || e->state == ELECTION_STATE_STARTING)
		listen_anew(e, actions);
}

void election_elector_init(struct election_elector *e, const struct election_config *config,
			   uint64_t now_us, uint64_t random_seed)
{
	memset(e, 0, sizeof *e);
	e->config = *config;
	e->random = random_seed | 1;
	e->state = config->leased ? ELECTION_STATE_STARTING : ELECTION_STATE_FOLLOWING;
	e->lease.holder = e->lease.successor = e->lease.ready = ELECTION_NOBODY;
	e->speaker = e->successor = e->last_owner = ELECTION_NOBODY;
	e->started_us = now_us;
	e->claim_at_us = e->renew_us = e->watch_us = BASE_USEC_NEVER;
}

void election_elector_configure(struct election_elector *e, const struct election_config *config,
				uint64_t now_us, struct election_actions *actions)
{
	bool moved = config->candidate_count != e->config.candidate_count ||
		     config->self != e->config.self;
	struct election_event order = { .now_us = now_us,
					.to = ELECTION_NOBODY,
					.why = config->excluded_why };

	actions->count = 0;
	e->config = *config;
	if (moved) {
		/* Indices are other nodes now. */
		memset(e->heard_us, 0, sizeof e->heard_us);
		e->witnesses = 0;
		e->witnessed = false;
		e->speaker = ELECTION_NOBODY;
		e->last_owner = owning(e) ? config->self : ELECTION_NOBODY;
	}
	if (owning(e) && config->self == ELECTION_NOBODY) {
		e->moving_why = BASE_REASON_REBALANCED;
		resign(e, actions, now_us);
	} else if (e->state == ELECTION_STATE_OWNING && config->excluded) {
		on_handover(e, &order, actions);
	} else if (e->silent && !owning(e) && e->state == ELECTION_STATE_FOLLOWING &&
		   e->claim_at_us == BASE_USEC_NEVER && may_own(e)) {
		e->claim_at_us = now_us; /* what kept us from it may be gone */
	}
}

void election_elector_step(struct election_elector *e, const struct election_event *event,
			   struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	actions->count = 0;
	if (e->state == ELECTION_STATE_RELEASED)
		return;
	switch (event->type) {
	case ELECTION_EVENT_TIMER:
		on_timer(e, actions, now_us);
		return;
	case ELECTION_EVENT_SUSPECT:
		if (may_own(e) && !owning(e))
			add(actions, ELECTION_ACTION_PROBE_WITNESSES);
		return;
	case ELECTION_EVENT_SILENCE:
		on_silence(e, actions, now_us);
		return;
	case ELECTION_EVENT_HEARD:
		on_heard(e, event, actions);
		return;
	case ELECTION_EVENT_LEASE:
		e->api_reachable = true;
		on_lease(e, &event->lease, actions, now_us);
		return;
	case ELECTION_EVENT_WRITTEN:
		on_written(e, event, actions);
		return;
	case ELECTION_EVENT_API:
		e->api_reachable = event->reachable;
		if (event->reachable)
			try_confirm(e, actions, now_us);
		return;
	case ELECTION_EVENT_WITNESSES:
		on_witnesses(e, event, actions);
		return;
	case ELECTION_EVENT_ELIGIBLE:
		on_eligible(e, event, actions);
		return;
	case ELECTION_EVENT_ADDRESS_FREE:
		on_address_free(e, actions, now_us);
		return;
	case ELECTION_EVENT_ADDRESS_TAKEN:
		on_address_taken(e, actions, now_us);
		return;
	case ELECTION_EVENT_HANDOVER:
		on_handover(e, event, actions);
		return;
	case ELECTION_EVENT_RELEASE:
		on_release(e, event, actions);
		return;
	case ELECTION_EVENT_ADOPT:
		on_adopt(e, actions, now_us);
		return;
	case ELECTION_EVENT_OVERSLEPT:
		on_overslept(e, actions, now_us);
		return;
	case ELECTION_EVENT_KERNEL_FAILED:
		if (owning(e))
			leave(e, actions, BASE_REASON_KERNEL_REFUSED, true, ELECTION_NOBODY, now_us);
		return;
	}
}

uint64_t election_elector_deadline(const struct election_elector *e)
{
	uint64_t deadline_us = e->claim_at_us;

	if (e->state == ELECTION_STATE_RELEASED)
		return BASE_USEC_NEVER;
	if (owning(e)) {
		deadline_us = base_usec_earlier(deadline_us, e->watch_us);
		if (e->config.leased)
			deadline_us = base_usec_earlier(deadline_us, e->renew_us);
	}
	return deadline_us;
}

bool election_elector_owns(const struct election_elector *e)
{
	return owning(e);
}

uint8_t election_elector_owner(const struct election_elector *e)
{
	if (owning(e))
		return e->config.self;
	if (e->speaker != ELECTION_NOBODY)
		return e->speaker;
	return e->lease.exists && !e->silent ? e->lease.holder : ELECTION_NOBODY;
}

uint8_t election_elector_wire_priority(const struct election_elector *e)
{
	uint8_t priority = e->config.self < ELECTION_CANDIDATES_MAX
				   ? e->config.priorities[e->config.self]
				   : 1;

	priority = (uint8_t)((priority + 1) / 2); /* 1..127 */
	return e->confirmed ? (uint8_t)(priority + ELECTION_CONFIRMED_MIN - 1) : priority;
}

const char *election_state_name(enum election_state state)
{
	static const char *const names[] = {
		[ELECTION_STATE_STARTING] = "Starting",	  [ELECTION_STATE_FOLLOWING] = "Following",
		[ELECTION_STATE_PROBING] = "Probing",	  [ELECTION_STATE_CLAIMING] = "Claiming",
		[ELECTION_STATE_OWNING] = "Owning",	  [ELECTION_STATE_MOVING] = "Moving",
		[ELECTION_STATE_CONFLICT] = "Conflict",	  [ELECTION_STATE_RELEASING] = "Releasing",
		[ELECTION_STATE_RELEASED] = "Released",
	};

	return names[state];
}
