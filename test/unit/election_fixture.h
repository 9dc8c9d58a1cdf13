#pragma once

#include "election/elector.h"
#include "test/unit/unit.h"

/*
 * One elector among three candidates a (0, priority 200), b (1, 150), c (2, 100) and a gateway, at
 * 100 ms adverts. Tests are told from the side of b unless they say otherwise.
 */
#define MS BASE_USEC_PER_MSEC
enum { A, B, C };

static struct election_elector e;
static struct election_actions done;
static uint64_t now_us;

static struct election_config config(uint8_t self, bool leased)
{
	static struct election_peer peers[ELECTION_CANDIDATES_MAX];

	return (struct election_config){ .candidate_count = 3,
					 .peers = peers,
					 .priorities = { 200, 150, 100 },
					 .self = self,
					 .leased = leased,
					 .interval_us = 100 * MS,
					 .lease_duration_ms = 30000 };
}

static void tell(struct election_event event)
{
	event.now_us = now_us;
	election_elector_step(&e, &event, &done);
}

static const struct election_action *find(enum election_action_type type)
{
	for (unsigned i = 0; i < done.count; i++)
		if (done.items[i].type == type)
			return &done.items[i];
	return NULL;
}

static inline bool did(enum election_action_type type)
{
	return find(type) != NULL;
}

static inline struct election_lease written(void)
{
	const struct election_action *write = find(ELECTION_ACTION_WRITE);

	assert_non_null(write);
	return write->lease;
}

/* A Lease that somebody wrote. */
static inline struct election_lease lease_of(uint8_t holder, uint32_t term)
{
	return (struct election_lease){ .exists = true,
					.holder = holder,
					.term = term,
					.duration_ms = 30000,
					.successor = ELECTION_NOBODY };
}

static inline enum base_reason reason(void)
{
	const struct election_action *transition = find(ELECTION_ACTION_TRANSITION);

	return transition ? transition->why : BASE_REASON_NONE;
}

static inline void hear(uint8_t from, uint8_t priority)
{
	tell((struct election_event){
		.type = ELECTION_EVENT_HEARD, .from = from, .priority = priority });
}

static inline void see(uint8_t holder, uint32_t term, uint64_t version)
{
	tell((struct election_event){ .type = ELECTION_EVENT_LEASE,
				      .lease = { .exists = version > 1,
						 .holder = holder,
						 .successor = ELECTION_NOBODY,
						 .term = term,
						 .duration_ms = 30000,
						 .version = version } });
}

/* The write in flight is answered; with OK the Lease is what was written. */
static inline void answer(enum election_result result, struct election_lease lease,
			  uint64_t version)
{
	lease.version = version;
	tell((struct election_event){
		.type = ELECTION_EVENT_WRITTEN, .result = result, .lease = lease });
}

static inline void witness(uint32_t nodes, bool gateway)
{
	tell((struct election_event){ .type = ELECTION_EVENT_WITNESSES,
				      .witnesses = nodes,
				      .gateway_known = true,
				      .gateway_reachable = gateway });
}

static inline void happen(enum election_event_type type)
{
	tell((struct election_event){ .type = type });
}

static inline void reach_deadline(void)
{
	assert_true(election_elector_deadline(&e) != BASE_USEC_NEVER);
	now_us = election_elector_deadline(&e);
	happen(ELECTION_EVENT_TIMER);
}

static inline void begin(uint8_t self, bool leased)
{
	struct election_config c = config(self, leased);

	now_us = 1000 * MS;
	election_elector_init(&e, &c, now_us, 42);
	tell((struct election_event){ .type = ELECTION_EVENT_ELIGIBLE, .eligible = true });
}

/* b follows a, which it hears in term 5. */
static inline void follow(bool leased)
{
	begin(B, leased);
	if (leased) {
		tell((struct election_event){ .type = ELECTION_EVENT_API, .reachable = true });
		see(A, 5, 50);
	}
	now_us += 10 * MS;
	hear(A, leased ? 228 : 100);
	assert_int_equal(e.state, ELECTION_STATE_FOLLOWING);
}

/* Nothing is heard for 3 intervals and a little; everybody else answers. */
static inline void fall_silent(void)
{
	now_us += 260 * MS;
	happen(ELECTION_EVENT_SUSPECT);
	now_us += 4 * MS;
	witness(1 << C, true);
	now_us += 40 * MS;
	happen(ELECTION_EVENT_SILENCE);
}

/* b owns it, confirmed in term 6 or, without Lease, by silence. */
static inline void own(bool leased)
{
	follow(leased);
	fall_silent();
	if (leased)
		answer(ELECTION_RESULT_OK, written(), 60);
	assert_int_equal(e.state, ELECTION_STATE_OWNING);
	assert_int_equal(e.confirmed, leased);
}
