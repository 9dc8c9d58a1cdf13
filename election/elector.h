#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/reason.h"
#include "base/time.h"

/*
 * Who owns a virtual router: the rules of README.md, as one node sees them. Pure: time, adverts,
 * the Lease and what the network answers come as events, wishes leave as an ordered list.
 *
 * Nodes are indices into the candidate list of the configuration; the caller keeps the names.
 */
#define ELECTION_CANDIDATES_MAX   32
#define ELECTION_NOBODY           255 /* no holder */
#define ELECTION_OTHER            254 /* somebody who is no candidate */
#define ELECTION_FORMER           253 /* this node, which is no candidate any more */

#define ELECTION_CLAIM_BOUND_US   (150 * BASE_USEC_PER_MSEC) /* rule 4: then VRRP alone decides */
#define ELECTION_HANDOVER_US      (1 * BASE_USEC_PER_SEC)    /* for the successor to claim it */
#define ELECTION_HANDOVER_WAIT_US (10 * BASE_USEC_PER_SEC)   /* then somebody is looked for again */
#define ELECTION_WRITE_US         (2 * BASE_USEC_PER_SEC)    /* then an answer is given up */
#define ELECTION_RELEASE_WRITE_US (500 * BASE_USEC_PER_MSEC) /* for the last write to be answered */
#define ELECTION_COLD_START_US    (5 * BASE_USEC_PER_SEC)    /* rule 14: without any API answer */
#define ELECTION_CONFLICT_US      (10 * BASE_USEC_PER_SEC)   /* then look for the foreigner again */
#define ELECTION_FREE_LOOKS       3 /* in a row without him, each a second after the other: he is gone */
#define ELECTION_FREE_LOOK_US     (1 * BASE_USEC_PER_SEC)
#define ELECTION_YOUNG_US         (3 * BASE_USEC_PER_SEC)    /* so long after its first owner a stranger's word counts */
#define ELECTION_GIVE_IN_US        (100 * BASE_USEC_PER_MSEC) /* and an interval: by then who is to has given in */
#define ELECTION_CONTEST_US       (1 * BASE_USEC_PER_SEC)    /* for the weaker of two to give in */
#define ELECTION_PROBE_US         (100 * BASE_USEC_PER_MSEC) /* bound for an answer to a probe */
#define ELECTION_SPACING_MAX_US   (50 * BASE_USEC_PER_MSEC)  /* between the ranks, rule 3 */
#define ELECTION_WATCH_US         (1 * BASE_USEC_PER_SEC)    /* an owner looks at its witnesses */
#define ELECTION_GATEWAY_LOST_US  (3 * BASE_USEC_PER_SEC)
#define ELECTION_VAIN_US          (2 * BASE_USEC_PER_SEC)    /* and 4 intervals: rule 3 */
#define ELECTION_STALE_US         (5 * BASE_USEC_PER_SEC)    /* then the Lease is asked for, */
#define ELECTION_STALE_MAX_US     (80 * BASE_USEC_PER_SEC)   /* and again, less and less often */
#define ELECTION_WITNESSED_US     (3 * BASE_USEC_PER_SEC)    /* so long an answer for it counts */
#define ELECTION_DOUBT_US         (1 * BASE_USEC_PER_SEC)    /* then a doubtful one is asked again */
#define ELECTION_ANSWER_US        (3 * BASE_USEC_PER_MSEC)   /* for whoever has it to answer */
#define ELECTION_ODD_US           (60 * BASE_USEC_PER_SEC)   /* so long odd adverts are remembered */
#define ELECTION_QUESTION_US      (4 * BASE_USEC_PER_MSEC) /* from a question to the end of its round */
#define ELECTION_TURN             4 /* parts of an interval: one after the other where the LAN alone decides */
#define ELECTION_UNANSWERED_MAX   3 /* questions in a row: then its fence is closed */
#define ELECTION_PROVE_MAX_US     (10 * BASE_USEC_PER_SEC)   /* between proofs to one that goes on */
#define ELECTION_FLAP_WINDOW_US   (60 * BASE_USEC_PER_SEC)
#define ELECTION_FLAP_LOSSES      3

/*
 * What peers see (rule 5): a confirmed owner advertises in the upper half of the priorities,
 * everybody else in the lower half. Any RFC 9568 router orders the two as we do.
 */
#define ELECTION_CONFIRMED_MIN    128

enum election_state {
	ELECTION_STATE_STARTING,  /* listening; a leased router has not seen its Lease yet */
	ELECTION_STATE_FOLLOWING, /* somebody else owns it, or nobody may */
	ELECTION_STATE_PROBING,   /* looking for a foreign holder before the first claim */
	ELECTION_STATE_CLAIMING, /* compare-and-swap in flight, or won from an owner that lets go */
	ELECTION_STATE_OWNING,
	ELECTION_STATE_MOVING,    /* owning; the Lease names a successor, which claims it */
	ELECTION_STATE_LEAVING,   /* resigned; the fence stays open until the successor is heard */
	ELECTION_STATE_CONFLICT,  /* a foreign host has the address */
	ELECTION_STATE_RELEASING, /* given up for good; the last write is in flight */
	ELECTION_STATE_RELEASED,
};

/* Why a claim is made; it says what an answer that does not come means. */
enum election_claim {
	ELECTION_CLAIM_SILENCE,   /* the owner is silent: rule 2 */
	ELECTION_CLAIM_FREE,      /* the Lease has no holder, or the owner resigned on the LAN */
	ELECTION_CLAIM_SUCCESSOR, /* the owner named us: rule 10 */
	ELECTION_CLAIM_RELIEF,    /* the owner lost the gateway, or quorum: rule 9 */
	ELECTION_CLAIM_RETURN,    /* the Lease names us, and nobody advertises */
	ELECTION_CLAIM_MEDIATE,   /* two own it who do not hear each other: rule 5 */
};

/* What is known of a candidate. */
struct election_peer {
	uint64_t heard_us;         /* last advert with priority > 0 */
	uint64_t answered_us;      /* for the address: a second witness */
	uint64_t doubted_since_us; /* speaks without one; 0: it does not */
};

struct election_config {
	unsigned candidate_count;
	uint8_t priorities[ELECTION_CANDIDATES_MAX]; /* 1..254 */
	/* As many, the caller's memory and our business; borrowed until another configuration is in force. */
	struct election_peer *peers;
	uint8_t self;  /* index, or ELECTION_NOBODY: this node only watches */
	bool leased;   /* there is a Lease to win */
	bool excluded; /* may not own */
	enum base_reason excluded_why;
	uint32_t interval_us; /* of the adverts */
	uint32_t lease_duration_ms;
};

struct election_lease {
	bool exists;
	uint8_t holder; /* index, OTHER, FORMER, or NOBODY = released */
	uint32_t term;
	uint32_t duration_ms;
	uint8_t successor; /* index or ELECTION_NOBODY */
	bool degraded;
	uint64_t version; /* of the object; greater is newer; 0: not known */
};

enum election_event_type {
	ELECTION_EVENT_TIMER,
	ELECTION_EVENT_MISSED,  /* two adverts of the owner did not come */
	ELECTION_EVENT_SUSPECT, /* the owner's fence must have expired by now */
	ELECTION_EVENT_SILENCE, /* the whole Active_Down_Interval without an advert */
	ELECTION_EVENT_HEARD,   /* an advert; .from, .priority */
	ELECTION_EVENT_HELD,    /* .from answers for the address, so its fence is open */
	ELECTION_EVENT_LEASE,   /* .lease; also when it is known to be absent */
	ELECTION_EVENT_RENEWED, /* the holder's node gave a sign of life: as if it had renewed the Lease */
	ELECTION_EVENT_WRITTEN, /* .result of the write in flight; .lease with OK */
	ELECTION_EVENT_API,     /* .reachable */
	ELECTION_EVENT_WITNESSES,
	ELECTION_EVENT_ELIGIBLE, /* .eligible, .why */
	ELECTION_EVENT_ADDRESS_FREE,
	ELECTION_EVENT_ADDRESS_TAKEN, /* a foreign host says that it has it; .address_higher */
	ELECTION_EVENT_HANDOVER, /* .to (ELECTION_NOBODY: the best), .why */
	ELECTION_EVENT_RELEASE,
	ELECTION_EVENT_ADOPT, /* restarted in place, the fence still open: nobody else can have it */
	ELECTION_EVENT_DOZED, /* an owner woke so late that it counts as absent, if its whole node stood still */
	ELECTION_EVENT_OVERSLEPT, /* rule 8: the caller woke up too late to believe what it knew */
};

enum election_result {
	ELECTION_RESULT_OK,
	ELECTION_RESULT_CONFLICT,
	ELECTION_RESULT_UNKNOWN, /* may have landed */
	ELECTION_RESULT_REFUSED,
};

struct election_event {
	enum election_event_type type;
	uint64_t now_us;
	uint8_t from, to; /* candidate index or ELECTION_OTHER */
	uint8_t priority;
	bool address_higher; /* the sender's address, or MAC, is higher than ours (RFC's tie-break) */
	bool reachable, eligible;
	enum base_reason why;
	enum election_result result;
	struct election_lease lease;
	uint32_t witnesses; /* bit i: candidate i answered, or was heard otherwise */
	uint32_t answering; /* bit i: it answered the last question: no advert counts as that */
	uint32_t missing; /* bit i: it answered before, but does not now, and nothing else is heard of it */
	bool gateway_known, gateway_reachable;
};

enum election_action_type {
	ELECTION_ACTION_ACTIVATE, /* take it: addresses in, advert (opens the fence), announce; see .planned */
	ELECTION_ACTION_ANSWER,   /* one more advert, so that the rival hears of us and announces */
	ELECTION_ACTION_YIELD,    /* close the fence, addresses out, listen; no priority 0 */
	ELECTION_ACTION_RESIGN, /* priority 0; the fence closes now, or with .planned see LEAVING */
	ELECTION_ACTION_LISTEN, /* start a full Active_Down_Interval anew */
	ELECTION_ACTION_PRIORITY, /* the wire priority changed: confirmed or not */
	ELECTION_ACTION_ANNOUNCE, /* the address is ours still: say so again */
	ELECTION_ACTION_WRITE,    /* compare-and-swap .lease on the Lease last seen */
	ELECTION_ACTION_READ,
	ELECTION_ACTION_PROBE_WITNESSES, /* candidates, gateway, and whoever has the address */
	ELECTION_ACTION_PROBE_MEMBERS, /* the same but for the address: a fence may still be open */
	ELECTION_ACTION_PROBE_ADDRESSES,
	ELECTION_ACTION_RESIGNED, /* .from did resign: only a Skew_Time to wait */
	ELECTION_ACTION_DISBELIEVE, /* adverts of .from that nothing confirms: rule 13 */
	ELECTION_ACTION_TRANSITION, /* .why, .from, .to */
	ELECTION_ACTION_RELEASED,
};

struct election_action {
	enum election_action_type type;
	struct election_lease lease;
	enum base_reason why;
	uint8_t from, to;
	bool planned; /* RESIGN: make before break, rule 10; ACTIVATE: somebody may serve until we are heard */
};

#define ELECTION_ACTIONS_MAX 12

struct election_actions {
	unsigned count;
	struct election_action items[ELECTION_ACTIONS_MAX];
};

struct election_elector {
	struct election_config config;
	enum election_state state;
	uint64_t random; /* jitter */

	/* the Lease as this node knows it */
	bool lease_seen;
	struct election_lease lease;
	uint64_t lease_changed_us; /* when this node saw it change, or renewed: rule 15 */
	uint64_t stale_us;         /* since when a confirmed owner is heard that it does not name */
	uint64_t stale_wait_us;    /* so long it may be so */
	uint64_t vain_us;          /* since when it names us in vain: rule 3; 0: it does not */
	bool contact;              /* as we were told */
	bool api_reachable;        /* and as we saw ourselves: it answered what we asked last */
	bool writing;
	uint64_t write_started_us;

	/* the LAN */
	bool heard_in_term;                         /* rule 2 */
	uint8_t speaker;                            /* who owns it as we hear; ELECTION_NOBODY */
	uint8_t leaver;                             /* who resigned last, */
	uint64_t left_us;                           /* and when */
	bool resigning;           /* only its advert says that it did: rule 13 */
	bool resigning_answers;   /* and it answers for the address still */
	uint8_t resigning_misses; /* questions in a row that it did not answer */
	uint64_t resigning_asked_us;
	uint64_t resigning_ask_us;   /* the next one */
	uint64_t resigning_until_us; /* if it is not heard until then, it did */
	uint64_t doubt_asked_us, disbelieved_us;
	/* Is the Lease's holder there, or does somebody else go on in its name? */
	uint64_t counted_us, odd_us;       /* its adverts since then; when they were too many, or few */
	unsigned counted;
	uint64_t holder_asked_us;          /* whether it answers for the address */
	unsigned unanswered;               /* in a row */
	bool answers_come; /* some owner answered for the address once: questions get through */
	bool silent;                                /* the Active_Down_Interval has passed */
	bool absent;              /* two adverts are missing: is its node there? */
	unsigned absences;        /* questions in a row without an answer, of the last silence */
	uint64_t absent_asked_us;
	uint64_t absent_ask_us; /* the next one */
	bool ever_heard;
	uint8_t other;         /* who owned it before the speaker did, and perhaps does still */
	unsigned alternations; /* of those two */
	uint64_t doubted_us;   /* when we asked who of them answers for the address */
	uint32_t witnesses, answering;
	bool witnessed; /* an answer to a probe has come since the silence, or the offer, began */
	uint64_t isolated_us; /* silent and without quorum since then; 0: not */
	bool gateway_known, gateway_reachable;
	uint64_t gateway_lost_us;
	bool watched;           /* an owner has asked its witnesses once */
	unsigned quorum_misses; /* looks in a row without quorum */

	/* claiming */
	enum election_claim claim;
	enum base_reason claim_why;
	bool claimed; /* it is ours by the Lease; the old owner is about to let go */
	bool offered; /* the Lease offers it to us: .offer, to be taken at offer_at_us, by rank */
	enum election_claim offer;
	bool offer_due; /* its time has come */
	uint64_t offer_at_us;
	uint64_t claim_at_us; /* deadline of the state, or when to look again in a silence */

	/* owning */
	bool eligible;
	enum base_reason not_eligible_why;
	bool confirmed;
	uint32_t term;         /* of the Lease when we took it, or our own when confirmed */
	uint64_t confirmed_us; /* when the Lease last proved it */
	uint64_t rival_us;     /* since when a weaker rival goes on: rule 5 */
	bool contested;        /* while a claim is in flight somebody else says that the Lease is his */
	bool contest_settled;  /* by a second write: once a claim, or forged adverts would cost many */
	bool proving;          /* the write in flight decides between two confirmed owners */
	unsigned proofs;       /* in a row, to rivals that go on: not so often, then */
	uint64_t prove_at_us;  /* by then */
	uint64_t mediating_us; /* until then we outrank all that are not confirmed */
	uint8_t successor;
	bool relief; /* we asked for it: who has it then has it from us */
	enum base_reason moving_why;
	uint64_t retry_at_us; /* of a handover nobody took */
	bool releasing;
	bool was_probed; /* no foreign holder was found for this silence */
	unsigned doubts; /* so often more a foreign holder must be missed before he is gone */
	uint64_t since_us;   /* since when it has an owner, without a break; 0: it has none */
	bool established;    /* it had one for long, once: not young any more */
	uint64_t foreign_us; /* when a foreign host said, while it was young, that it has it; an owner: first */
	uint8_t last_owner;

	/* flapping */
	unsigned losses;
	uint64_t last_loss_us;

	uint64_t started_us, watch_us;
};

void election_elector_init(struct election_elector *elector, const struct election_config *config,
			   uint64_t now_us, uint64_t random_seed);

/*
 * Unchanged settings yield no action (S8). `moved[i]` is where the old candidate i is now: an index,
 * OTHER or FORMER. `lease` is the Lease last seen, in the new indices.
 */
void election_elector_configure(struct election_elector *elector,
				const struct election_config *config,
				const uint8_t moved[ELECTION_CANDIDATES_MAX],
				const struct election_lease *lease, uint64_t now_us,
				struct election_actions *actions);

void election_elector_step(struct election_elector *elector, const struct election_event *event,
			   struct election_actions *actions);

/* The earliest, after its last advert, that an owner whose node answers nothing is succeeded: rule 2. */
uint64_t election_absence_us(uint32_t interval_us);

uint64_t election_elector_deadline(const struct election_elector *elector);

/*
 * Whether an advert of candidate `from` is to restart the silence, or to end it (priority 0), before
 * the event is told: rule 13.
 */
bool election_elector_believes(const struct election_elector *elector, uint8_t from,
			       uint8_t priority, uint64_t now_us);

/* How many candidates would take over before us, were whom we hear now to fall silent. */
unsigned election_elector_rank(const struct election_elector *elector);

/* It has had no owner for long, as far as we heard: what foreign hosts say of it counts. */
bool election_elector_young(const struct election_elector *elector, uint64_t now_us);

bool election_elector_owns(const struct election_elector *elector);
uint8_t election_elector_owner(const struct election_elector *elector); /* index, OTHER, NOBODY */
/* What our adverts say: 128..254 confirmed or mediating, 1..127 not. */
uint8_t election_elector_wire_priority(const struct election_elector *elector);
const char *election_state_name(enum election_state state);
