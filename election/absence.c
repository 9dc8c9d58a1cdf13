#include "election/state.h"

/*
 * The owner's node is not there at all: rule 2. A fence is nothing to wait for if the kernel behind it answers
 * nothing, not even for its node, while others do: machine off, or its link, and then it is the same to everybody
 * on this side. Two adverts are missing by then; three questions in a row must be, too.
 */

static uint64_t spacing_us(uint32_t interval_us)
{
	return interval_us / 20 > ELECTION_QUESTION_US ? interval_us / 20 : ELECTION_QUESTION_US;
}

uint64_t election_absence_us(uint32_t interval_us)
{
	return (uint64_t)interval_us * 21 / 10 +
	       (ELECTION_UNANSWERED_MAX - 1) * spacing_us(interval_us) + ELECTION_QUESTION_US;
}

void elector_forget_absence(struct election_elector *e)
{
	e->absent = false;
	e->absent_ask_us = BASE_USEC_NEVER;
}

void elector_ask_absent(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	e->absent_asked_us = now_us;
	e->absent_ask_us = BASE_USEC_NEVER;
	elector_add(actions, ELECTION_ACTION_PROBE_MEMBERS);
}

void elector_on_missed(struct election_elector *e, struct election_actions *actions, uint64_t now_us)
{
	elector_forget_absence(e);
	e->absences = 0;
	if (!elector_listening(e) || !elector_may_own(e) || e->speaker >= e->config.candidate_count)
		return;
	e->absent = true;
	elector_ask_absent(e, actions, now_us);
}

/* Somebody else answers, so questions and answers get through. */
static bool others_answer(const struct election_elector *e, const struct election_event *event)
{
	return (event->answering & ~(UINT32_C(1) << e->speaker)) != 0 ||
	       (event->gateway_known && event->gateway_reachable);
}

/*
 * Six timers one after the other: on a busy machine we may be so late that the next one is about to take it, and without a
 * Lease only its advert would tell. Half of our turn is left for that one to hear of us.
 */
static bool turn_is_over(const struct election_elector *e, uint64_t now_us)
{
	uint64_t turn_us = elector_interval_us(e) / ELECTION_TURN;
	uint64_t ours_us = election_absence_us(e->config.interval_us) +
			   elector_rank(e, e->speaker) * turn_us;

	return base_usec_since(now_us, e->config.peers[e->speaker].heard_us) > ours_us + turn_us / 2;
}

void elector_review_absence(struct election_elector *e, const struct election_event *event,
			    struct election_actions *actions)
{
	uint64_t now_us = event->now_us;

	if (!e->absent || e->absent_ask_us != BASE_USEC_NEVER)
		return;
	if (base_usec_since(now_us, e->absent_asked_us) < ELECTION_ANSWER_US) {
		elector_add(actions, ELECTION_ACTION_PROBE_MEMBERS); /* an earlier question's round */
		return;
	}
	if (e->speaker >= e->config.candidate_count || !elector_listening(e) ||
	    !(event->missing & UINT32_C(1) << e->speaker) || !others_answer(e, event)) {
		elector_forget_absence(e); /* the silence says the rest, in its time */
		return;
	}
	if (++e->absences < ELECTION_UNANSWERED_MAX) {
		e->absent_ask_us = e->absent_asked_us + spacing_us(e->config.interval_us);
		return;
	}
	elector_forget_absence(e);
	if (!elector_coordinated(e) && turn_is_over(e, now_us))
		return;
	elector_on_silence(e, actions, now_us);
}
