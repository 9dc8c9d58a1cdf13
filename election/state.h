#pragma once

#include "election/elector.h"

/*
 * Between the files of this folder, and nobody else's: what is known and what is done about it.
 */

/* state.c */
struct election_action *elector_add(struct election_actions *actions,
				    enum election_action_type type);
void elector_transition(struct election_actions *actions, enum base_reason why, uint8_t from,
			uint8_t to);
uint64_t elector_interval_us(const struct election_elector *e);
uint64_t elector_jitter_us(struct election_elector *e, uint64_t range_us);
bool elector_may_own(const struct election_elector *e);
bool elector_owning(const struct election_elector *e);
bool elector_listening(const struct election_elector *e);
/* A Lease that says something about us. */
bool elector_holds(const struct election_elector *e, uint8_t who);
bool elector_unheld(const struct election_elector *e);
/* The API server answers, as far as we know: claims go through the Lease. */
bool elector_coordinated(const struct election_elector *e);
/* .leaver resigned just now: it may answer until the next owner is heard. */
bool elector_has_left(const struct election_elector *e, uint64_t now_us);
bool elector_comes_before(const struct election_elector *e, uint8_t other);
/* How many candidates come before us; `without` is left out of the count. */
unsigned elector_rank(const struct election_elector *e, uint8_t without);
uint64_t elector_spacing_us(const struct election_elector *e, uint8_t without);
/* Rule 6. Two candidates without another witness have no quorum rule. */
bool elector_quorum(const struct election_elector *e);
uint64_t elector_lease_expiry_us(const struct election_elector *e);
/* The Lease names us, but we do not own it, and nobody else does either, as far as we hear. */
bool elector_in_vain(const struct election_elector *e);
/* And nothing that it waits for can change that. */
bool elector_hopeless(const struct election_elector *e);
void elector_write_lease(struct election_elector *e, struct election_actions *actions,
			 const struct election_lease *lease, uint64_t now_us);
/* The Lease that makes `holder` the holder: the term rises exactly when the holder changes (S5). */
struct election_lease elector_lease_for(const struct election_elector *e, uint8_t holder);
void elector_write_holder(struct election_elector *e, struct election_actions *actions,
			  uint8_t holder, uint64_t now_us);
/* It lost the address again and again: the others go first, but nobody waits for long in the dark. */
bool elector_flapping(const struct election_elector *e, uint64_t now_us);
void elector_forget_offer(struct election_elector *e);
void elector_forget_resignation(struct election_elector *e);
void elector_become_following(struct election_elector *e);
void elector_listen_anew(struct election_elector *e, struct election_actions *actions);
enum base_reason elector_takeover_reason(const struct election_elector *e);
void elector_become_owning(struct election_elector *e, struct election_actions *actions,
			   enum base_reason why, bool confirmed, uint64_t now_us);
/* Gives the address up at once; with `resign` the LAN is told by priority 0. */
void elector_leave(struct election_elector *e, struct election_actions *actions,
		   enum base_reason why, bool resign, uint8_t to, uint64_t now_us);
/* Rule 10: resigns, but answers until the successor is heard, or the fence runs out. */
void elector_become_leaving(struct election_elector *e, struct election_actions *actions,
			    uint8_t to, uint64_t now_us);
void elector_become_probing(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us);
/* Our claim as the named successor is not answered yet. The owner serves until it sees it. */
bool elector_succeeds(const struct election_elector *e);
void elector_become_claiming(struct election_elector *e, struct election_actions *actions,
			     enum election_claim claim, uint64_t now_us);
/* Nobody serves meanwhile: from now on the answer has as long as that to any other claim. */
void elector_hurry_claim(struct election_elector *e, uint64_t now_us);
/* Unconfirmed: the LAN alone decides (rule 4), or there is no Lease at all. */
void elector_take_unconfirmed(struct election_elector *e, struct election_actions *actions,
			      uint64_t now_us);

/* absence.c */
void elector_forget_absence(struct election_elector *e);
void elector_on_missed(struct election_elector *e, struct election_actions *actions,
		       uint64_t now_us);
void elector_ask_absent(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us);
/* A round of questions is over. */
void elector_review_absence(struct election_elector *e, const struct election_event *event,
			    struct election_actions *actions);

/* claim.c */
/*
 * It is silent: what stands between us and the address? Either it is taken now, or claim_at_us
 * says when to ask again.
 */
void elector_try_claim(struct election_elector *e, struct election_actions *actions,
		       uint64_t now_us);
/* Takes the offer if its time has come and all that it needs is known. */
void elector_take_offer(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us);
/* The Lease changed, or something that kept us from what it offers. */
void elector_consider(struct election_elector *e, struct election_actions *actions,
		      uint64_t now_us);
/* An unconfirmed owner asks for the Lease as soon as it can; rule 4. */
void elector_try_confirm(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us);
void elector_confirm(struct election_elector *e, struct election_actions *actions, uint64_t now_us);
void elector_doubt(struct election_elector *e, struct election_actions *actions);
/* It could not prove it to a rival, so it is the weaker one, and hears so at once. */
void elector_doubt_aloud(struct election_elector *e, struct election_actions *actions);
/* It did not answer. Nobody may tell that it does again, if its other connections never broke. */
void elector_distrust(struct election_elector *e, struct election_actions *actions);

/* foreign.c */
/* The address has an owner, or, as we hear, none. */
void elector_note_owned(struct election_elector *e, uint64_t now_us);
/* A member has it, and goes on whatever a foreign host said. */
void elector_note_member(struct election_elector *e, uint64_t now_us);
void elector_note_unowned(struct election_elector *e, uint64_t now_us);
/* A foreign host may have it: nobody claims it before he looked. */
bool elector_must_look(const struct election_elector *e, uint64_t now_us);
void elector_on_free(struct election_elector *e, struct election_actions *actions, uint64_t now_us);
void elector_on_taken(struct election_elector *e, const struct election_event *event,
		      struct election_actions *actions);

/* lan.c */
void elector_on_silence(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us);
void elector_on_heard(struct election_elector *e, const struct election_event *event,
		      struct election_actions *actions);
/* Its kernel answers for the address, which it does only while its adverts leave. */
void elector_on_held(struct election_elector *e, const struct election_event *event,
		     struct election_actions *actions);

/* leave.c */
void elector_become_released(struct election_elector *e, struct election_actions *actions);
/* Nothing is answered for any more; the Lease must not name who will not come back. */
void elector_finish_release(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us);
/* Gives it up at once and for a reason that leaves no choice; the Lease is free for the others. */
void elector_resign(struct election_elector *e, struct election_actions *actions,
		    enum base_reason why, uint64_t now_us);
void elector_name_successor(struct election_elector *e, struct election_actions *actions,
			    uint64_t now_us);
void elector_begin_handover(struct election_elector *e, struct election_actions *actions,
			    uint8_t to, enum base_reason why, uint64_t now_us);
/* The named successor did not claim it. */
void elector_give_up_handover(struct election_elector *e, struct election_actions *actions,
			      uint64_t now_us);
/* Nobody was heard since we resigned, and our fence is about to run out. */
void elector_end_leaving(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us);
void elector_on_release(struct election_elector *e, struct election_actions *actions,
			uint64_t now_us);

/* lease.c */
void elector_on_lease(struct election_elector *e, const struct election_lease *lease,
		      struct election_actions *actions, uint64_t now_us);
/* The claim will not be answered, or not in time: rule 4. */
void elector_fall_back(struct election_elector *e, struct election_actions *actions,
		       uint64_t now_us);
void elector_on_written(struct election_elector *e, const struct election_event *event,
			struct election_actions *actions);
void elector_on_api(struct election_elector *e, const struct election_event *event,
		    struct election_actions *actions);

/* witness.c */
bool elector_answered_lately(const struct election_elector *e, uint8_t who, uint64_t now_us);
void elector_disbelieve(struct election_elector *e, struct election_actions *actions, uint8_t from,
			uint64_t now_us);
/* Who speaks without a second witness is asked for one, and believed for as long as that may take. */
void elector_doubt_speaker(struct election_elector *e, const struct election_event *event,
			   struct election_actions *actions);
void elector_note_answer(struct election_elector *e, uint8_t from, uint64_t now_us);
/* Another holder, another term, or nothing that we knew counts any more. */
void elector_forget_holder(struct election_elector *e);
/* The owner said that it stops; its fence is closed, or waits for us to be heard. */
void elector_on_resigned(struct election_elector *e, const struct election_event *event,
			 struct election_actions *actions);
/* Does it still answer for the address? It is asked thrice. */
void elector_ask_resigned(struct election_elector *e, struct election_actions *actions,
			  uint64_t now_us);
/* A round of questions is over. */
void elector_miss_answer(struct election_elector *e, struct election_actions *actions,
			 uint64_t now_us);
/* Did the Lease say meanwhile that it did resign? `end`: nothing said that it did not. */
void elector_review_resignation(struct election_elector *e, struct election_actions *actions,
				uint64_t now_us, bool end);
