#include "election/state.h"

/*
 * Hosts outside the cluster that have the address: rule 13. They are looked for before the first claim; two clusters that
 * looked in the same instant both found nobody, so what they hear of each other right after that counts as well.
 */

bool election_elector_young(const struct election_elector *e, uint64_t now_us)
{
	return !e->established &&
	       (!e->since_us || base_usec_since(now_us, e->since_us) < ELECTION_YOUNG_US);
}

void elector_note_owned(struct election_elector *e, uint64_t now_us)
{
	if (!e->since_us)
		e->since_us = now_us;
}

void elector_note_member(struct election_elector *e, uint64_t now_us)
{
	elector_note_owned(e, now_us);
	if (elector_owning(e))
		return;
	e->doubts = 0;
	if (base_usec_since(now_us, e->foreign_us) > ELECTION_GIVE_IN_US + elector_interval_us(e))
		e->foreign_us = 0;
}

void elector_note_unowned(struct election_elector *e, uint64_t now_us)
{
	e->established = !election_elector_young(e, now_us);
	e->since_us = 0;
}

bool elector_must_look(const struct election_elector *e, uint64_t now_us)
{
	return !e->was_probed &&
	       (!e->ever_heard || (e->foreign_us && election_elector_young(e, now_us)));
}

static void become_conflict(struct election_elector *e, uint64_t until_us)
{
	e->state = ELECTION_STATE_CONFLICT;
	elector_forget_offer(e);
	e->claim_at_us = until_us;
}

/* Whoever had it may be failing over, or restart: a gap is none of ours to fill. */
void elector_on_free(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	bool offered = e->offered, due = e->offer_due;
	uint64_t offer_at_us = e->offer_at_us;

	if (e->state != ELECTION_STATE_PROBING)
		return;
	if (e->doubts > 0 && --e->doubts > 0) {
		become_conflict(e, now_us + ELECTION_FREE_LOOK_US);
		return;
	}
	elector_become_following(e);
	e->was_probed = true;
	e->offered = offered;
	e->offer_due = due;
	e->offer_at_us = offer_at_us;
	elector_take_offer(e, actions, now_us);
	if (elector_listening(e))
		elector_consider(e, actions, now_us); /* the Lease may have come meanwhile */
	if (elector_listening(e) && e->silent)
		elector_try_claim(e, actions, now_us);
}

static void stay_away(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	become_conflict(e, now_us + ELECTION_CONFLICT_US);
	e->doubts = ELECTION_FREE_LOOKS;
	elector_transition(actions, BASE_REASON_FOREIGN_ADDRESS, ELECTION_NOBODY, ELECTION_NOBODY);
}

/*
 * Both took what each had found free. One of two that do the same gives in, and the other one hears that by not hearing
 * it any more; who goes on had it before us, or is none that gives in.
 */
static void contest(struct election_elector *e, const struct election_event *event,
		    struct election_actions *actions)
{
	uint64_t now_us = event->now_us;
	bool first = !e->foreign_us;

	if (first)
		e->foreign_us = now_us;
	if (!event->address_higher && base_usec_since(now_us, e->foreign_us) < ELECTION_CONTEST_US) {
		if (first)
			elector_add(actions, ELECTION_ACTION_ANNOUNCE);
		return;
	}
	elector_leave(e, actions, BASE_REASON_FOREIGN_ADDRESS, false, ELECTION_NOBODY, now_us);
	/* Should it have given in as well, one of us looks first, and does not find the other. */
	become_conflict(e, now_us + ELECTION_FREE_LOOK_US +
				   elector_jitter_us(e, ELECTION_YOUNG_US));
	e->doubts = ELECTION_FREE_LOOKS;
}

void elector_on_taken(struct election_elector *e, const struct election_event *event,
		      struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (e->state == ELECTION_STATE_PROBING) {
		stay_away(e, actions, now_us);
		return;
	}
	if (!election_elector_young(e, now_us))
		return; /* a stranger moves nothing: it would move all that it likes */
	switch (e->state) {
	case ELECTION_STATE_OWNING:
	case ELECTION_STATE_MOVING:
		if (!e->releasing)
			contest(e, event, actions);
		return;
	case ELECTION_STATE_CLAIMING:
		e->foreign_us = now_us;
		if (e->was_probed && !e->claimed) /* taken since we looked */
			stay_away(e, actions, now_us);
		return;
	case ELECTION_STATE_STARTING:
	case ELECTION_STATE_FOLLOWING:
	case ELECTION_STATE_LEAVING:
	case ELECTION_STATE_CONFLICT:
		e->foreign_us = now_us; /* our owner may give in, and this node is the next */
		return;
	case ELECTION_STATE_PROBING:
	case ELECTION_STATE_RELEASING:
	case ELECTION_STATE_RELEASED:
		return;
	}
}
