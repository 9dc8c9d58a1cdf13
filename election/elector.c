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

static void transition(struct election_actions *actions, enum base_reason why, uint8_t from,
		       uint8_t to)
{
	struct election_action *action = add(actions, ELECTION_ACTION_TRANSITION);

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

static bool owning(const struct election_elector *e)
{
	return e->state == ELECTION_STATE_OWNING || e->state == ELECTION_STATE_MOVING;
}

static bool listening(const struct election_elector *e)
{
	return e->state == ELECTION_STATE_STARTING || e->state == ELECTION_STATE_FOLLOWING;
}

/* A Lease that says something about us. */
static bool holds(const struct election_elector *e, uint8_t who)
{
	return e->lease_seen && e->lease.exists && e->lease.holder == who;
}

static bool unheld(const struct election_elector *e)
{
	return e->lease_seen && (!e->lease.exists || e->lease.holder == ELECTION_NOBODY);
}

/* The API server answers, as far as we know: claims go through the Lease. */
static bool coordinated(const struct election_elector *e)
{
	return e->config.leased && e->lease_seen && e->api_reachable;
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

static uint64_t spacing_us(const struct election_elector *e, uint8_t without)
{
	uint64_t step_us = interval_us(e) / 2;

	if (step_us > ELECTION_SPACING_MAX_US)
		step_us = ELECTION_SPACING_MAX_US;
	return rank(e, without) * step_us;
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

static void write_lease(struct election_elector *e, struct election_actions *actions,
			const struct election_lease *lease, uint64_t now_us)
{
	add(actions, ELECTION_ACTION_WRITE)->lease = *lease;
	e->writing = true;
	e->write_started_us = now_us;
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
	};
}

static void write_holder(struct election_elector *e, struct election_actions *actions,
			 uint8_t holder, uint64_t now_us)
{
	struct election_lease lease = lease_for(e, holder);

	write_lease(e, actions, &lease, now_us);
}

static void note_loss(struct election_elector *e, uint64_t now_us)
{
	if (base_usec_since(now_us, e->last_loss_us) > ELECTION_FLAP_WINDOW_US)
		e->losses = 0;
	e->losses++;
	e->last_loss_us = now_us;
}

/* It lost the address again and again: the others go first, but nobody waits for long in the dark. */
static bool flapping(const struct election_elector *e, uint64_t now_us)
{
	return e->losses >= ELECTION_FLAP_LOSSES &&
	       base_usec_since(now_us, e->last_loss_us) < ELECTION_FLAP_WINDOW_US;
}

static void forget_offer(struct election_elector *e)
{
	e->offered = e->offer_due = false;
	e->offer_at_us = BASE_USEC_NEVER;
}

static void become_following(struct election_elector *e)
{
	e->state = ELECTION_STATE_FOLLOWING;
	e->confirmed = e->claimed = e->proving = false;
	e->rival_us = e->mediating_us = 0;
	e->successor = ELECTION_NOBODY;
	e->claim_at_us = e->watch_us = e->retry_at_us = BASE_USEC_NEVER;
	e->was_probed = false;
	forget_offer(e);
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

static void become_owning(struct election_elector *e, struct election_actions *actions,
			  enum base_reason why, bool confirmed, uint64_t now_us)
{
	uint8_t from = e->last_owner;

	e->state = ELECTION_STATE_OWNING;
	e->confirmed = confirmed;
	e->confirmed_us = confirmed ? now_us : 0;
	e->term = e->lease.term;
	e->rival_us = 0;
	e->claimed = e->proving = false;
	e->mediating_us = e->claim == ELECTION_CLAIM_MEDIATE ? now_us + 3 * interval_us(e) : 0;
	e->quorum_misses = 0;
	e->watched = false;
	e->gateway_lost_us = 0;
	e->successor = e->speaker = ELECTION_NOBODY;
	e->silent = false;
	e->last_owner = e->config.self;
	e->claim_at_us = e->retry_at_us = BASE_USEC_NEVER;
	e->watch_us = now_us + ELECTION_WATCH_US;
	e->renew_us = now_us + e->config.renew_us - jitter_us(e, e->config.renew_us / 4);
	forget_offer(e);
	add(actions, ELECTION_ACTION_ACTIVATE);
	transition(actions, why, from, e->config.self);
}

/* Gives the address up at once; with `resign` the LAN is told by priority 0. */
static void leave(struct election_elector *e, struct election_actions *actions,
		  enum base_reason why, bool resign, uint8_t to, uint64_t now_us)
{
	add(actions, resign ? ELECTION_ACTION_RESIGN : ELECTION_ACTION_YIELD);
	become_following(e);
	note_loss(e, now_us);
	e->last_owner = to < ELECTION_CANDIDATES_MAX ? to : ELECTION_NOBODY;
	transition(actions, why, e->config.self, to);
	listen_anew(e, actions);
}

/* Rule 10: resigns, but answers until the successor is heard, or the fence runs out. */
static void become_leaving(struct election_elector *e, struct election_actions *actions, uint8_t to,
			   uint64_t now_us)
{
	enum base_reason why = e->moving_why;

	add(actions, ELECTION_ACTION_RESIGN)->planned = true;
	become_following(e);
	e->state = ELECTION_STATE_LEAVING;
	e->silent = false;
	e->claim_at_us = now_us + interval_us(e) * 3 / 2;
	e->last_owner = to < ELECTION_CANDIDATES_MAX ? to : ELECTION_NOBODY;
	transition(actions, why, e->config.self == ELECTION_NOBODY ? ELECTION_FORMER : e->config.self,
		   to);
}

static void become_probing(struct election_elector *e, struct election_actions *actions,
			   uint64_t now_us)
{
	e->state = ELECTION_STATE_PROBING;
	e->claim_at_us = now_us + ELECTION_PROBE_US;
	add(actions, ELECTION_ACTION_PROBE_ADDRESSES);
}

static void become_claiming(struct election_elector *e, struct election_actions *actions,
			    enum election_claim claim, uint64_t now_us)
{
	e->state = ELECTION_STATE_CLAIMING;
	e->claim = claim;
	e->claim_why = takeover_reason(e); /* by the Lease before ours */
	e->claimed = false;
	e->claim_at_us = now_us + ELECTION_CLAIM_BOUND_US;
	write_holder(e, actions, e->config.self, now_us);
}

/* Unconfirmed: the LAN alone decides (rule 4), or there is no Lease at all. */
static void take_unconfirmed(struct election_elector *e, struct election_actions *actions,
			     uint64_t now_us)
{
	e->claim = ELECTION_CLAIM_SILENCE;
	become_owning(e, actions, takeover_reason(e), false, now_us);
}

/* --- claims --- */

/* Time at which a silent owner's Lease may be claimed: rule 2. */
static uint64_t lease_allows_us(const struct election_elector *e, uint64_t now_us)
{
	if (!e->lease_seen)
		return base_usec_add(e->started_us, ELECTION_COLD_START_US);
	if (unheld(e) || e->lease.holder == e->config.self || e->heard_in_term)
		return now_us;
	return lease_expiry_us(e);
}

/*
 * It is silent: what stands between us and the address? Either it is taken now, or claim_at_us
 * says when to ask again.
 */
static void try_claim(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	uint64_t allowed_us = now_us;

	if (!may_own(e)) {
		e->claim_at_us = BASE_USEC_NEVER;
		return;
	}
	if (e->config.leased)
		allowed_us = lease_allows_us(e, now_us);
	if (allowed_us > now_us) {
		e->claim_at_us = allowed_us;
		return;
	}
	if (!e->witnessed || !quorum(e)) {
		add(actions, ELECTION_ACTION_PROBE_WITNESSES);
		e->claim_at_us = now_us + interval_us(e);
		return;
	}
	if (!e->ever_heard && !e->was_probed) {
		become_probing(e, actions, now_us);
		return;
	}
	if (!coordinated(e) ||
	    (e->writing && base_usec_since(now_us, e->write_started_us) > ELECTION_CLAIM_BOUND_US))
		take_unconfirmed(e, actions, now_us);
	else if (e->writing)
		e->claim_at_us = e->write_started_us + ELECTION_CLAIM_BOUND_US + 1;
	else
		become_claiming(e, actions, ELECTION_CLAIM_SILENCE, now_us);
}

/* What the Lease as last seen offers us, if anything. */
static bool find_offer(const struct election_elector *e, uint64_t now_us, enum election_claim *claim)
{
	if (!listening(e) || !may_own(e) || !coordinated(e) || e->writing)
		return false;
	if (unheld(e)) {
		*claim = ELECTION_CLAIM_FREE;
		return e->speaker == ELECTION_NOBODY;
	}
	if (e->lease.holder == e->config.self) {
		*claim = ELECTION_CLAIM_RETURN;
		return e->speaker == ELECTION_NOBODY && !flapping(e, now_us);
	}
	*claim = ELECTION_CLAIM_SUCCESSOR;
	if (e->lease.successor == e->config.self)
		return true;
	*claim = ELECTION_CLAIM_RELIEF;
	return e->lease.degraded;
}

/* Takes the offer if its time has come and all that it needs is known. */
static void take_offer(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
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
		if (!e->witnessed || !quorum(e) || (!e->ever_heard && !e->was_probed))
			return;
		break;
	case ELECTION_CLAIM_SUCCESSOR:
		break;
	case ELECTION_CLAIM_RELIEF:
		if (!e->witnessed || !quorum(e) || (e->gateway_known && !e->gateway_reachable))
			return;
		break;
	}
	forget_offer(e);
	become_claiming(e, actions, claim, now_us);
}

/* The Lease changed, or something that kept us from what it offers. */
static void consider(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	enum election_claim claim;

	bool in_vain = holds(e, ELECTION_FORMER) ||
		       (e->config.self != ELECTION_NOBODY && holds(e, e->config.self) && !may_own(e));

	if (in_vain && e->state == ELECTION_STATE_FOLLOWING && coordinated(e) && !e->writing &&
	    e->speaker == ELECTION_NOBODY) {
		write_holder(e, actions, ELECTION_NOBODY, now_us); /* who waits for us waits in vain */
		return;
	}
	if (e->offered || !find_offer(e, now_us, &claim))
		return;
	e->offered = true;
	e->offer = claim;
	e->offer_at_us = now_us;
	if (claim == ELECTION_CLAIM_FREE)
		e->offer_at_us += spacing_us(e, ELECTION_NOBODY);
	else if (claim == ELECTION_CLAIM_RELIEF)
		e->offer_at_us += spacing_us(e, e->lease.holder);
	if (claim != ELECTION_CLAIM_SUCCESSOR) {
		e->witnessed = false;
		add(actions, ELECTION_ACTION_PROBE_WITNESSES);
	}
	if ((claim == ELECTION_CLAIM_FREE || claim == ELECTION_CLAIM_RETURN) && !e->ever_heard &&
	    !e->was_probed)
		become_probing(e, actions, now_us);
	take_offer(e, actions, now_us);
}

/* An unconfirmed owner asks for the Lease as soon as it can; rule 4. */
static void try_confirm(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	if (!owning(e) || e->writing || !coordinated(e))
		return;
	if (!holds(e, e->config.self))
		write_holder(e, actions, e->config.self, now_us);
}

static void confirm(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	bool was = e->confirmed;

	e->confirmed = true;
	e->confirmed_us = now_us;
	e->term = e->lease.term;
	if (!was)
		add(actions, ELECTION_ACTION_PRIORITY);
}

static void doubt(struct election_elector *e, struct election_actions *actions)
{
	if (!owning(e) || !e->confirmed)
		return;
	e->confirmed = e->proving = false;
	add(actions, ELECTION_ACTION_PRIORITY);
}

/* It did not answer. Nobody may tell that it does again, if its other connections never broke. */
static void distrust(struct election_elector *e, struct election_actions *actions)
{
	e->api_reachable = false;
	if (e->contact)
		add(actions, ELECTION_ACTION_READ);
}

/* --- the LAN --- */

static void become_released(struct election_elector *e, struct election_actions *actions)
{
	e->state = ELECTION_STATE_RELEASED;
	add(actions, ELECTION_ACTION_RELEASED);
}

/* Nothing is answered for any more; the Lease must not name who will not come back. */
static void finish_release(struct election_elector *e, struct election_actions *actions,
			   uint64_t now_us)
{
	if (coordinated(e) && !e->writing &&
	    (holds(e, e->config.self) || (e->speaker == ELECTION_NOBODY && !unheld(e))))
		write_holder(e, actions, ELECTION_NOBODY, now_us);
	if (!e->writing) {
		become_released(e, actions);
		return;
	}
	e->state = ELECTION_STATE_RELEASING;
	e->claim_at_us = now_us + ELECTION_RELEASE_WRITE_US;
}

static void on_silence(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	e->silent = true;
	e->speaker = ELECTION_NOBODY;
	if (listening(e))
		try_claim(e, actions, now_us);
}

/* The owner said that it stops; its fence is closed, or waits for us to be heard. */
static void on_resigned(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (event->from != e->speaker && event->from != e->lease.holder)
		return; /* an echo: it does not own it, so it has nothing to resign */
	e->speaker = ELECTION_NOBODY;
	e->last_owner = e->leaver = event->from;
	e->left_us = now_us;
	if (e->state == ELECTION_STATE_CLAIMING && e->claimed) {
		become_owning(e, actions, e->claim_why, true, now_us);
		return;
	}
	if (!listening(e) || !may_own(e))
		return;
	if (coordinated(e)) {
		/* Named somebody else: that one is about to speak. Else the ranks claim one by one. */
		if (holds(e, event->from) && e->heard_in_term && rank(e, event->from) == 0 &&
		    !e->writing)
			become_claiming(e, actions, ELECTION_CLAIM_FREE, now_us);
		else
			consider(e, actions, now_us);
	} else if (rank(e, event->from) == 0 && (!e->config.leased || e->lease_seen)) {
		e->claim = ELECTION_CLAIM_FREE;
		become_owning(e, actions, BASE_REASON_OWNER_RESIGNED, false, now_us);
	}
}

/* For an API server that answers, when another owner answers meanwhile. */
static uint64_t patience_us(const struct election_elector *e)
{
	uint64_t patience = interval_us(e);

	if (patience < ELECTION_SPACING_MAX_US)
		patience = ELECTION_SPACING_MAX_US;
	return patience > ELECTION_CLAIM_BOUND_US ? ELECTION_CLAIM_BOUND_US : patience;
}

/* Two confirmed owners: the Lease knows better. Whoever cannot renew it now is not its holder. */
static void prove(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	if (e->proving || base_usec_since(now_us, e->confirmed_us) < 2 * interval_us(e))
		return; /* just proved, or just about to be */
	if (e->writing && base_usec_since(now_us, e->write_started_us) <= ELECTION_CLAIM_BOUND_US)
		return;
	write_holder(e, actions, e->config.self, now_us);
	e->proving = true;
	e->prove_at_us = now_us + patience_us(e);
}

/* Two actives hear each other: rule 5. */
static void on_rival(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions)
{
	bool rival_confirmed = event->priority >= ELECTION_CONFIRMED_MIN;
	uint8_t mine = election_elector_wire_priority(e);
	uint64_t now_us = event->now_us;
	bool stronger;

	if (e->state == ELECTION_STATE_MOVING && rival_confirmed && event->from == e->successor) {
		/* It did not wait for us to resign, which is as good. */
		become_leaving(e, actions, event->from, now_us);
		return;
	}
	if (e->confirmed && rival_confirmed && holds(e, e->config.self) && e->lease.degraded) {
		e->moving_why = BASE_REASON_GATEWAY_UNREACHABLE; /* we asked for it */
		become_leaving(e, actions, event->from, now_us);
		return;
	}
	if (e->confirmed && rival_confirmed && e->config.leased) {
		add(actions, ELECTION_ACTION_ANNOUNCE);
		prove(e, actions, now_us);
		return;
	}
	if ((mine >= ELECTION_CONFIRMED_MIN) != rival_confirmed)
		stronger = rival_confirmed;
	else
		stronger = event->priority > mine ||
			   (event->priority == mine && event->address_higher);
	if (!stronger) {
		if (!e->rival_us ||
		    base_usec_since(now_us, e->heard_us[event->from]) > 2 * interval_us(e))
			e->rival_us = now_us;
		if (base_usec_since(now_us, e->rival_us) <= interval_us(e) * 3 / 2) {
			add(actions, ELECTION_ACTION_ANNOUNCE);
			return;
		}
	}
	/* The rival may never have heard us: it must, or it would not tell the clients again. */
	add(actions, ELECTION_ACTION_ANSWER);
	leave(e, actions, BASE_REASON_SPLIT_BRAIN_RESOLVED, false, event->from, now_us);
	if (e->config.leased)
		add(actions, ELECTION_ACTION_READ);
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
	    base_usec_since(now_us, e->heard_us[event->from]) > 3 * interval_us(e))
		e->alternations = 0;
	else
		e->alternations++;
	e->other = e->speaker; /* and the speaker will be the sender */
	if (e->alternations < 2 || !listening(e) || !may_own(e) ||
	    base_usec_since(now_us, e->doubted_us) < interval_us(e) / 2)
		return;
	e->doubted_us = now_us;
	e->speaker_answers = e->other_answers = false;
	add(actions, ELECTION_ACTION_PROBE_WITNESSES);
}

/*
 * Both do: they are cut from each other, but not from us. Whoever hears both is heard by both, so it
 * takes it over from both. True: the answer was to that question.
 */
static bool mediate(struct election_elector *e, const struct election_event *event,
		    struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (e->alternations < 2 || base_usec_since(now_us, e->doubted_us) >= interval_us(e) / 2 ||
	    !listening(e) || !may_own(e))
		return false;
	e->speaker_answers = e->speaker_answers || event->from == e->speaker;
	e->other_answers = e->other_answers || event->from == e->other;
	if (!e->speaker_answers || !e->other_answers || e->writing)
		return true;
	e->alternations = 0;
	if (coordinated(e)) {
		become_claiming(e, actions, ELECTION_CLAIM_MEDIATE, now_us);
	} else {
		e->claim = ELECTION_CLAIM_MEDIATE;
		become_owning(e, actions, takeover_reason(e), false, now_us);
	}
	return true;
}

static void note_speaker(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions)
{
	e->heard_us[event->from] = event->now_us;
	e->ever_heard = true;
	if (e->leaver == event->from)
		e->leaver = ELECTION_NOBODY;
	if (!owning(e)) {
		if (e->speaker != event->from && e->last_owner != event->from) {
			transition(actions, BASE_REASON_OWNER_OBSERVED, e->last_owner, event->from);
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
			finish_release(e, actions, now_us);
			return;
		}
		break;
	case ELECTION_STATE_STARTING:
	case ELECTION_STATE_FOLLOWING:
		if (offered_by_owner(e) && holds(e, owner))
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
	become_following(e);
	e->witnessed = false;
}

static void on_heard(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions)
{
	if (event->from >= ELECTION_CANDIDATES_MAX)
		return; /* a stranger neither keeps us from it nor moves it: rule 13 */
	if (event->priority == 0) {
		if (owning(e))
			add(actions, ELECTION_ACTION_ANNOUNCE); /* clients may have it from there */
		else
			on_resigned(e, event, actions);
		return;
	}
	if (owning(e)) {
		on_rival(e, event, actions);
	} else {
		stand_back(e, actions, event->from, event->now_us);
		doubt_owners(e, event, actions);
	}
	note_speaker(e, event, actions);
	if (holds(e, event->from))
		e->heard_in_term = true;
}

/* Its kernel answers for the address, which it does only while its adverts leave. */
static void on_held(struct election_elector *e, const struct election_event *event,
		    struct election_actions *actions)
{
	/* Who offers it, or left it, answers until the next owner is heard. */
	if (owning(e) || e->claimed || offered_by_owner(e) || (e->offered && e->lease.exists) ||
	    (event->from == e->leaver &&
	     base_usec_since(event->now_us, e->left_us) < 3 * interval_us(e)) ||
	    mediate(e, event, actions))
		return;
	stand_back(e, actions, event->from, event->now_us);
	if (event->from < ELECTION_CANDIDATES_MAX)
		note_speaker(e, event, actions);
	if (listening(e))
		add(actions, ELECTION_ACTION_LISTEN);
}

/* --- giving it away --- */

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

/* Gives it up at once and for a reason that leaves no choice; the Lease is free for the others. */
static void resign(struct election_elector *e, struct election_actions *actions,
		   enum base_reason why, uint64_t now_us)
{
	bool releasing = e->releasing;
	bool write = coordinated(e) && holds(e, e->config.self);

	leave(e, actions, why, true, ELECTION_NOBODY, now_us);
	if (releasing)
		finish_release(e, actions, now_us);
	else if (write && !e->writing)
		write_holder(e, actions, ELECTION_NOBODY, now_us);
}

static void name_successor(struct election_elector *e, struct election_actions *actions,
			   uint64_t now_us)
{
	struct election_lease lease = lease_for(e, e->config.self);

	if (e->writing)
		return; /* the timer does it as soon as the other write is answered */
	lease.successor = e->successor;
	write_lease(e, actions, &lease, now_us);
}

static void begin_handover(struct election_elector *e, struct election_actions *actions, uint8_t to,
			   enum base_reason why, uint64_t now_us)
{
	if (e->state != ELECTION_STATE_OWNING)
		return;
	if (to >= e->config.candidate_count || to == e->config.self)
		to = best_successor(e);
	if (to == ELECTION_NOBODY && !e->releasing)
		return; /* nobody else may own it: it stays */
	e->moving_why = why;
	if (to == ELECTION_NOBODY || !coordinated(e) || !e->confirmed) {
		become_leaving(e, actions, to, now_us); /* by the LAN alone */
		return;
	}
	e->state = ELECTION_STATE_MOVING;
	e->successor = to;
	e->claim_at_us = now_us + ELECTION_HANDOVER_US;
	name_successor(e, actions, now_us);
}

/* The named successor did not claim it. */
static void give_up_handover(struct election_elector *e, struct election_actions *actions,
			     uint64_t now_us)
{
	e->state = ELECTION_STATE_OWNING;
	e->successor = ELECTION_NOBODY;
	e->claim_at_us = BASE_USEC_NEVER;
	if (e->releasing) {
		become_leaving(e, actions, ELECTION_NOBODY, now_us); /* whoever wants it */
		return;
	}
	if (e->config.excluded)
		e->retry_at_us = now_us + ELECTION_HANDOVER_WAIT_US;
	if (!e->writing && coordinated(e) && holds(e, e->config.self))
		write_holder(e, actions, e->config.self, now_us);
}

/* Nobody was heard since we resigned, and our fence is about to run out. */
static void end_leaving(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	if (e->releasing) {
		finish_release(e, actions, now_us);
	} else if (e->config.self == ELECTION_NOBODY || !e->eligible) {
		become_following(e);
	} else if (coordinated(e) && !e->writing) {
		become_claiming(e, actions, ELECTION_CLAIM_RETURN, now_us);
	} else {
		e->claim = ELECTION_CLAIM_RETURN;
		become_owning(e, actions, takeover_reason(e), false, now_us);
	}
}

static void on_release(struct election_elector *e, struct election_actions *actions,
		       uint64_t now_us)
{
	if (e->releasing)
		return;
	e->releasing = true;
	if (owning(e)) {
		e->state = ELECTION_STATE_OWNING;
		begin_handover(e, actions, ELECTION_NOBODY, BASE_REASON_HANDOVER, now_us);
		return;
	}
	if (e->state == ELECTION_STATE_LEAVING)
		return; /* already on its way */
	finish_release(e, actions, now_us);
}

/* --- the Lease --- */

static void learn(struct election_elector *e, const struct election_lease *lease, uint64_t now_us)
{
	bool first = !e->lease_seen;
	bool new_term = first || lease->term != e->lease.term ||
			lease->holder != e->lease.holder || lease->exists != e->lease.exists;

	if (first || lease->version == 0 || lease->version != e->lease.version)
		e->lease_changed_us = now_us;
	if (lease->exists && lease->holder == ELECTION_NOBODY && !first &&
	    e->lease.holder == e->speaker)
		e->speaker = ELECTION_NOBODY; /* resigned where the LAN did not carry it */
	if (!lease->exists || (first && owning(e)))
		e->term = lease->term; /* whatever is written next is newer */
	e->lease_seen = true;
	e->lease = *lease;
	if (!new_term)
		return;
	e->heard_in_term = lease->exists && lease->holder < ELECTION_CANDIDATES_MAX &&
			   e->heard_us[lease->holder] &&
			   base_usec_since(now_us, e->heard_us[lease->holder]) <
				   3 * interval_us(e);
}

/* `named`: who the Lease named as successor until now. */
static void owner_lease(struct election_elector *e, struct election_actions *actions, uint8_t named,
			uint64_t now_us)
{
	if (holds(e, e->config.self)) {
		confirm(e, actions, now_us);
		if (e->state == ELECTION_STATE_MOVING && !e->writing &&
		    e->lease.successor != e->successor)
			name_successor(e, actions, now_us);
		return;
	}
	if (unheld(e)) {
		doubt(e, actions);
		try_confirm(e, actions, now_us); /* rule 7: re-claimed by the active */
	} else if (e->lease.holder == named) {
		become_leaving(e, actions, named, now_us);
	} else if (e->lease.term > e->term && e->lease.term > 0) {
		leave(e, actions, BASE_REASON_DEPOSED, true, e->lease.holder, now_us);
	} else {
		doubt(e, actions);
		try_confirm(e, actions, now_us);
	}
}

/* The Lease is ours. An owner that is still there resigns when it sees that. */
static void win(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	if (e->claimed)
		return;
	if (e->speaker == ELECTION_NOBODY || e->claim == ELECTION_CLAIM_MEDIATE) {
		become_owning(e, actions, e->claim_why, true, now_us);
		return;
	}
	e->claimed = true;
	e->claim_at_us = now_us + (interval_us(e) > ELECTION_SPACING_MAX_US ? interval_us(e)
									    : ELECTION_SPACING_MAX_US);
}

static void on_lease(struct election_elector *e, const struct election_lease *lease,
		     struct election_actions *actions, uint64_t now_us)
{
	bool was_degraded = owning(e) && holds(e, e->config.self) && e->lease.degraded;
	uint8_t named = holds(e, e->config.self) && e->lease.successor != ELECTION_NOBODY
				? e->lease.successor
				: e->successor;

	learn(e, lease, now_us);
	switch (e->state) {
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
		if (was_degraded && !unheld(e) && !holds(e, e->config.self)) {
			e->moving_why = BASE_REASON_GATEWAY_UNREACHABLE;
			become_leaving(e, actions, e->lease.holder, now_us);
			return;
		}
		owner_lease(e, actions, named, now_us);
		return;
	case ELECTION_STATE_CLAIMING:
		if (holds(e, e->config.self)) {
			win(e, actions, now_us);
		} else if (e->claimed) {
			become_following(e);
			listen_anew(e, actions);
		}
		return;
	case ELECTION_STATE_STARTING:
		become_following(e);
		break;
	case ELECTION_STATE_FOLLOWING:
		forget_offer(e);
		break;
	case ELECTION_STATE_PROBING:
	case ELECTION_STATE_LEAVING:
	case ELECTION_STATE_CONFLICT:
	case ELECTION_STATE_RELEASING:
	case ELECTION_STATE_RELEASED:
		return;
	}
	consider(e, actions, now_us);
	if (e->state == ELECTION_STATE_FOLLOWING && e->silent)
		try_claim(e, actions, now_us);
}

/* The claim will not be answered, or not in time: rule 4. */
static void fall_back(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	bool dark = e->claim == ELECTION_CLAIM_SILENCE || e->claim == ELECTION_CLAIM_RETURN ||
		    e->claim == ELECTION_CLAIM_FREE;

	if (e->claim == ELECTION_CLAIM_MEDIATE) {
		become_owning(e, actions, e->claim_why, false, now_us);
		return;
	}
	if (dark && e->speaker == ELECTION_NOBODY && e->witnessed && quorum(e)) {
		become_owning(e, actions, takeover_reason(e), false, now_us);
		return;
	}
	become_following(e);
	listen_anew(e, actions);
}

static void on_written(struct election_elector *e, const struct election_event *event,
		       struct election_actions *actions)
{
	uint64_t now_us = event->now_us;
	bool proving = e->proving;

	e->writing = e->proving = false;
	if (event->result == ELECTION_RESULT_UNKNOWN)
		distrust(e, actions);
	else if (event->result != ELECTION_RESULT_REFUSED)
		e->api_reachable = true;
	if (e->state == ELECTION_STATE_RELEASING) {
		if (event->result == ELECTION_RESULT_OK)
			learn(e, &event->lease, now_us);
		become_released(e, actions);
		return;
	}
	if (event->result == ELECTION_RESULT_OK) {
		on_lease(e, &event->lease, actions, now_us);
		if (e->state == ELECTION_STATE_CLAIMING && !holds(e, e->config.self)) {
			become_following(e); /* landed, and somebody else's after it */
			listen_anew(e, actions);
		}
		return;
	}
	if (owning(e)) {
		if (event->result == ELECTION_RESULT_CONFLICT)
			add(actions, ELECTION_ACTION_READ);
		else if (proving || event->result == ELECTION_RESULT_UNKNOWN)
			doubt(e, actions);
		return;
	}
	if (e->state != ELECTION_STATE_CLAIMING || e->claimed)
		return;
	if (event->result == ELECTION_RESULT_CONFLICT) {
		become_following(e); /* somebody was faster */
		listen_anew(e, actions);
		add(actions, ELECTION_ACTION_READ);
	} else {
		fall_back(e, actions, now_us);
	}
}

static void on_api(struct election_elector *e, const struct election_event *event,
		   struct election_actions *actions)
{
	bool was = e->api_reachable;

	e->contact = e->api_reachable = event->reachable;
	if (!event->reachable) {
		doubt(e, actions);
		forget_offer(e);
	} else if (!was && owning(e) && e->lease_seen) {
		add(actions, ELECTION_ACTION_READ); /* confirmed by what is said now */
	} else if (!was) {
		consider(e, actions, event->now_us);
	}
}

/* --- this node --- */

static void on_adopt(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	if (!listening(e) || !may_own(e) || e->speaker != ELECTION_NOBODY)
		return;
	if (e->lease_seen && !unheld(e) && !holds(e, e->config.self))
		return; /* it was given to somebody meanwhile: rule 7 */
	e->last_owner = e->config.self;
	e->claim = ELECTION_CLAIM_RETURN;
	/* Confirmed only by a write of our own: somebody may be about to win a claim. */
	become_owning(e, actions, BASE_REASON_STARTED, false, now_us);
	if (coordinated(e) && !e->writing)
		write_holder(e, actions, e->config.self, now_us);
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
		if (owning(e)) {
			/* The link is gone or the rules are: nothing to be gentle with. */
			resign(e, actions, event->why, event->now_us);
		} else if (e->state == ELECTION_STATE_CLAIMING ||
			   e->state == ELECTION_STATE_PROBING ||
			   e->state == ELECTION_STATE_FOLLOWING) {
			become_following(e);
			consider(e, actions, event->now_us);
		}
	} else if (listening(e)) {
		/* What was heard before says nothing about now. */
		e->speaker = ELECTION_NOBODY;
		listen_anew(e, actions);
		consider(e, actions, event->now_us);
	}
}

/* Rule 9: an owner that lost the gateway, or most of the others, asks to be relieved. */
static void ask_for_relief(struct election_elector *e, struct election_actions *actions,
			   uint64_t now_us)
{
	struct election_lease lease;

	if (e->state != ELECTION_STATE_OWNING || !e->confirmed || e->writing || !coordinated(e))
		return;
	lease = lease_for(e, e->config.self);
	lease.degraded = e->quorum_misses >= 2 ||
			 (e->gateway_lost_us && base_usec_since(now_us, e->gateway_lost_us) >
							ELECTION_GATEWAY_LOST_US);
	if (lease.degraded != e->lease.degraded)
		write_lease(e, actions, &lease, now_us);
}

static void on_witnesses(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions)
{
	uint64_t now_us = event->now_us;
	bool back = (event->witnesses & ~e->witnesses) ||
		    (event->gateway_reachable && !e->gateway_reachable);

	e->witnesses = event->witnesses;
	e->gateway_known = event->gateway_known;
	e->gateway_reachable = event->gateway_reachable;
	e->witnessed = true;
	if (!e->gateway_known || e->gateway_reachable)
		e->gateway_lost_us = 0;
	else if (!e->gateway_lost_us)
		e->gateway_lost_us = now_us;
	if (owning(e)) {
		if (back) /* clients that were cut off with it may have the address elsewhere */
			add(actions, ELECTION_ACTION_ANNOUNCE);
		if (e->quorum_misses > 0 && quorum(e))
			e->quorum_misses = 0;
		/* Missed twice, and not there right now: that look was asked a moment ago. */
		if (e->quorum_misses >= 2 && !coordinated(e))
			leave(e, actions, BASE_REASON_QUORUM_LOST, true, ELECTION_NOBODY, now_us);
		else
			ask_for_relief(e, actions, now_us);
		return;
	}
	take_offer(e, actions, now_us);
	if (!e->silent || !listening(e))
		return;
	if (!quorum(e)) {
		if (!e->isolated_us)
			e->isolated_us = now_us;
		return;
	}
	/* Back among the others after a while: an owner that they have must be heard first. */
	if (e->isolated_us && base_usec_since(now_us, e->isolated_us) > 3 * interval_us(e))
		listen_anew(e, actions);
	else if (e->claim_at_us != BASE_USEC_NEVER)
		try_claim(e, actions, now_us);
	e->isolated_us = 0;
}

static void on_address_free(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us)
{
	bool offered = e->offered, due = e->offer_due;
	uint64_t offer_at_us = e->offer_at_us;

	if (e->state != ELECTION_STATE_PROBING)
		return;
	become_following(e);
	e->was_probed = true;
	e->offered = offered;
	e->offer_due = due;
	e->offer_at_us = offer_at_us;
	take_offer(e, actions, now_us);
	if (!listening(e) || e->offered)
		return;
	consider(e, actions, now_us); /* the Lease may have come meanwhile */
	if (listening(e) && e->silent)
		try_claim(e, actions, now_us);
}

static void on_address_taken(struct election_elector *e, struct election_actions *actions,
			     uint64_t now_us)
{
	if (e->state != ELECTION_STATE_PROBING)
		return;
	e->state = ELECTION_STATE_CONFLICT;
	forget_offer(e);
	e->claim_at_us = now_us + ELECTION_CONFLICT_US;
	transition(actions, BASE_REASON_FOREIGN_ADDRESS, ELECTION_NOBODY, ELECTION_NOBODY);
}

static void on_overslept(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us)
{
	switch (e->state) {
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
		leave(e, actions, BASE_REASON_OVERSLEPT, false, ELECTION_NOBODY, now_us);
		break;
	case ELECTION_STATE_LEAVING:
		if (!e->releasing)
			become_following(e);
		listen_anew(e, actions);
		break;
	case ELECTION_STATE_CLAIMING:
	case ELECTION_STATE_PROBING:
		become_following(e);
		listen_anew(e, actions);
		break;
	case ELECTION_STATE_STARTING:
	case ELECTION_STATE_FOLLOWING:
		forget_offer(e);
		listen_anew(e, actions);
		break;
	case ELECTION_STATE_CONFLICT:
	case ELECTION_STATE_RELEASING:
	case ELECTION_STATE_RELEASED:
		add(actions, ELECTION_ACTION_LISTEN);
		return;
	}
	if (e->releasing)
		finish_release(e, actions, now_us);
}

/* --- time --- */

/* An owner's own clockwork: renewal, witnesses, confirmation, the bound of a move. */
static void owner_timer(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us)
{
	struct election_lease lease;

	if (e->mediating_us && now_us >= e->mediating_us) {
		e->mediating_us = 0;
		add(actions, ELECTION_ACTION_PRIORITY);
	}
	if (e->proving && now_us >= e->prove_at_us) {
		doubt(e, actions); /* who cannot prove it is the weaker one, and hears so at once */
		add(actions, ELECTION_ACTION_ANSWER);
	}
	if (e->state == ELECTION_STATE_MOVING && now_us >= e->claim_at_us) {
		give_up_handover(e, actions, now_us);
		if (!owning(e))
			return;
	}
	if (e->state == ELECTION_STATE_MOVING && !e->writing && holds(e, e->config.self) &&
	    e->lease.successor != e->successor)
		name_successor(e, actions, now_us);
	if (now_us >= e->retry_at_us) {
		e->retry_at_us = BASE_USEC_NEVER;
		if (e->config.excluded)
			begin_handover(e, actions, ELECTION_NOBODY, e->config.excluded_why, now_us);
		if (!owning(e))
			return;
	}
	if (now_us >= e->watch_us) {
		/* Whoever answers the last look has done so by now. */
		e->quorum_misses = !e->watched || quorum(e) ? 0 : e->quorum_misses + 1;
		e->watched = true;
		e->watch_us = now_us + ELECTION_WATCH_US;
		add(actions, ELECTION_ACTION_PROBE_WITNESSES);
		if (e->contact && !e->api_reachable)
			add(actions, ELECTION_ACTION_READ);
		try_confirm(e, actions, now_us);
	}
	if (now_us >= e->renew_us) {
		e->renew_us = now_us + e->config.renew_us - jitter_us(e, e->config.renew_us / 4);
		if (e->confirmed && !e->writing && coordinated(e) &&
		    e->state == ELECTION_STATE_OWNING) {
			lease = lease_for(e, e->config.self);
			lease.degraded = e->lease.degraded;
			write_lease(e, actions, &lease, now_us);
		}
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
			try_claim(e, actions, now_us);
		return;
	case ELECTION_STATE_PROBING:
		/* No answer from our own probing: the interface is of no use now. */
		become_following(e);
		e->silent = true;
		e->claim_at_us = now_us + ELECTION_WATCH_US;
		return;
	case ELECTION_STATE_CLAIMING:
		if (e->claimed) {
			become_owning(e, actions, e->claim_why, true, now_us);
			return;
		}
		distrust(e, actions);
		fall_back(e, actions, now_us);
		return;
	case ELECTION_STATE_LEAVING:
		end_leaving(e, actions, now_us);
		return;
	case ELECTION_STATE_CONFLICT:
		become_following(e);
		e->silent = true;
		try_claim(e, actions, now_us);
		return;
	case ELECTION_STATE_RELEASING:
		become_released(e, actions);
		return;
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
	case ELECTION_STATE_RELEASED:
		return;
	}
}

static void on_timer(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	if (e->writing && base_usec_since(now_us, e->write_started_us) > ELECTION_WRITE_US)
		e->writing = false; /* its answer is lost; what the Lease says will be seen */
	if (owning(e)) {
		owner_timer(e, actions, now_us);
		return;
	}
	if (now_us >= e->claim_at_us)
		on_deadline(e, actions, now_us);
	if (e->offered && now_us >= e->offer_at_us) {
		e->offer_due = true; /* if something is missing still, its coming will be told */
		take_offer(e, actions, now_us);
	}
}

void election_elector_init(struct election_elector *e, const struct election_config *config,
			   uint64_t now_us, uint64_t random_seed)
{
	memset(e, 0, sizeof *e);
	e->config = *config;
	e->random = random_seed | 1;
	e->state = config->leased ? ELECTION_STATE_STARTING : ELECTION_STATE_FOLLOWING;
	e->lease.holder = e->lease.successor = ELECTION_NOBODY;
	e->speaker = e->other = e->leaver = ELECTION_NOBODY;
	e->successor = e->last_owner = ELECTION_NOBODY;
	e->started_us = now_us;
	e->claim_at_us = e->offer_at_us = e->retry_at_us = BASE_USEC_NEVER;
	e->renew_us = e->watch_us = BASE_USEC_NEVER;
}

static uint8_t move_index(const uint8_t *moved, uint8_t index)
{
	return index < ELECTION_CANDIDATES_MAX ? moved[index] : index;
}

/* Indices are other nodes now. */
static void move_indices(struct election_elector *e, const uint8_t *moved)
{
	uint64_t heard_us[ELECTION_CANDIDATES_MAX] = { 0 };
	uint32_t witnesses = 0;

	for (unsigned i = 0; i < ELECTION_CANDIDATES_MAX; i++) {
		if (moved[i] >= ELECTION_CANDIDATES_MAX)
			continue;
		heard_us[moved[i]] = e->heard_us[i];
		if (e->witnesses & UINT32_C(1) << i)
			witnesses |= UINT32_C(1) << moved[i];
	}
	memcpy(e->heard_us, heard_us, sizeof heard_us);
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
	e->config = *config;
	move_indices(e, moved);
	e->lease.holder = lease->holder;
	e->lease.successor = lease->successor;
	if (owning(e) && config->self == ELECTION_NOBODY) {
		/* No candidate any more. The others may not know us by now: the Lease tells them. */
		e->moving_why = BASE_REASON_REBALANCED;
		become_leaving(e, actions, ELECTION_NOBODY, now_us);
		if (coordinated(e) && holds(e, ELECTION_FORMER) && !e->writing)
			write_holder(e, actions, ELECTION_NOBODY, now_us);
	}
	if (config->self == ELECTION_NOBODY &&
	    (e->state == ELECTION_STATE_CLAIMING || e->state == ELECTION_STATE_PROBING))
		become_following(e);
	if (e->state == ELECTION_STATE_OWNING && config->excluded && !was_excluded)
		begin_handover(e, actions, ELECTION_NOBODY, config->excluded_why, now_us);
	if (!listening(e))
		return;
	consider(e, actions, now_us);
	if (e->silent && listening(e) && e->claim_at_us == BASE_USEC_NEVER && may_own(e))
		e->claim_at_us = now_us; /* what kept us from it may be gone */
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
		if (may_own(e) && !owning(e)) {
			e->witnessed = false;
			add(actions, ELECTION_ACTION_PROBE_WITNESSES);
			if (e->contact && !e->api_reachable)
				add(actions, ELECTION_ACTION_READ);
		}
		return;
	case ELECTION_EVENT_SILENCE:
		on_silence(e, actions, now_us);
		return;
	case ELECTION_EVENT_HEARD:
		on_heard(e, event, actions);
		return;
	case ELECTION_EVENT_HELD:
		on_held(e, event, actions);
		return;
	case ELECTION_EVENT_LEASE:
		e->api_reachable = true;
		on_lease(e, &event->lease, actions, now_us);
		return;
	case ELECTION_EVENT_WRITTEN:
		on_written(e, event, actions);
		return;
	case ELECTION_EVENT_API:
		on_api(e, event, actions);
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
		begin_handover(e, actions, event->to,
			       event->why ? event->why : BASE_REASON_HANDOVER, now_us);
		return;
	case ELECTION_EVENT_RELEASE:
		on_release(e, actions, now_us);
		return;
	case ELECTION_EVENT_ADOPT:
		on_adopt(e, actions, now_us);
		return;
	case ELECTION_EVENT_OVERSLEPT:
		on_overslept(e, actions, now_us);
		return;
	}
}

uint64_t election_elector_deadline(const struct election_elector *e)
{
	uint64_t deadline_us = e->claim_at_us;

	if (e->state == ELECTION_STATE_RELEASED)
		return BASE_USEC_NEVER;
	if (e->offered && !e->offer_due)
		deadline_us = base_usec_earlier(deadline_us, e->offer_at_us);
	if (owning(e)) {
		deadline_us = base_usec_earlier(deadline_us, e->watch_us);
		deadline_us = base_usec_earlier(deadline_us, e->retry_at_us);
		if (e->proving)
			deadline_us = base_usec_earlier(deadline_us, e->prove_at_us);
		if (e->mediating_us)
			deadline_us = base_usec_earlier(deadline_us, e->mediating_us);
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
	return e->confirmed || e->mediating_us ? (uint8_t)(priority + ELECTION_CONFIRMED_MIN - 1)
						: priority;
}

const char *election_state_name(enum election_state state)
{
	static const char *const names[] = {
		[ELECTION_STATE_STARTING] = "Starting",	  [ELECTION_STATE_FOLLOWING] = "Following",
		[ELECTION_STATE_PROBING] = "Probing",	  [ELECTION_STATE_CLAIMING] = "Claiming",
		[ELECTION_STATE_OWNING] = "Owning",	  [ELECTION_STATE_MOVING] = "Moving",
		[ELECTION_STATE_LEAVING] = "Leaving",	  [ELECTION_STATE_CONFLICT] = "Conflict",
		[ELECTION_STATE_RELEASING] = "Releasing", [ELECTION_STATE_RELEASED] = "Released",
	};

	return names[state];
}
