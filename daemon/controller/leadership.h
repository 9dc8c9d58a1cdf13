#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

/*
 * Which of several controllers works: client-go's election by one Lease, as a pure state machine.
 *
 * Feed it events, carry out what it answers, call it again no later than leadership_deadline().
 * Times are microseconds of CLOCK_BOOTTIME. Another's renewTime is never compared with a clock; only
 * *when this process saw the Lease change* counts. A holder's deadline counts from the moment before
 * its write was sent, which no follower can have seen later.
 *
 * At most one request is under way. A leader must ask leadership_leads() before each of its writes.
 */
#define LEADERSHIP_NAME_SIZE 128

struct leadership_record {
	bool exists;
	char holder[LEADERSHIP_NAME_SIZE];
	uint32_t transitions, duration_s;
	char acquired[40];
	char version[64]; /* resourceVersion; "" of a Lease that does not exist */
};

enum leadership_state {
	LEADERSHIP_STATE_FOLLOWING,
	LEADERSHIP_STATE_LEADING,
	LEADERSHIP_STATE_RELEASED, /* on the way out: never leads again */
};

enum leadership_event_type {
	LEADERSHIP_EVENT_TIMER,
	LEADERSHIP_EVENT_OBSERVED, /* the watch, or the answer to a READ, says `record` */
	LEADERSHIP_EVENT_WRITTEN,  /* our write landed and made `record` */
	LEADERSHIP_EVENT_REFUSED,  /* our request did not land; try again later */
	LEADERSHIP_EVENT_UNCLEAR,  /* conflict, or no answer: read before the next write */
	LEADERSHIP_EVENT_RELEASE,  /* asked to end */
};

struct leadership_event {
	enum leadership_event_type type;
	uint64_t now_us;
	const struct leadership_record *record;
	bool answer;        /* OBSERVED: the answer to our READ, not the watch */
	uint64_t jitter_us; /* random, 0..retry/5 */
};

enum leadership_action {
	LEADERSHIP_ACTION_NONE,
	LEADERSHIP_ACTION_READ,
	LEADERSHIP_ACTION_WRITE, /* leadership.write, on top of leadership.record.version */
};

struct leadership_config {
	char identity[LEADERSHIP_NAME_SIZE];
	uint64_t lease_us, renew_us, retry_us; /* lease > renew > 1.2 x retry */
};

struct leadership {
	struct leadership_config config;
	enum leadership_state state;
	bool known;                      /* the Lease was read at least once */
	bool busy, stale;                /* a request is under way; read before writing */
	struct leadership_record record; /* last seen */
	struct leadership_record write;  /* what to write; `acquired` "": now */
	uint64_t observed_us;            /* when `record` was seen to change */
	uint64_t sent_us, deadline_us, next_us;
};

void leadership_init(struct leadership *leadership, const struct leadership_config *config);
enum leadership_action leadership_step(struct leadership *leadership,
				       const struct leadership_event *event);
uint64_t leadership_deadline(const struct leadership *leadership);
bool leadership_leads(const struct leadership *leadership, uint64_t now_us);
/* RELEASED, and nothing under way any more. */
bool leadership_done(const struct leadership *leadership);
