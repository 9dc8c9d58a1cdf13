#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Does the API server work for us? Judged by the answers to whatever is asked anyway (this node's
 * Lease is renewed every few seconds); only who doubts sends probes. Pure: times are given.
 *
 *     reachable     an answer within the last CONTACT_SILENCE_US, or no failure since the last one
 *     unreachable   a failure, and no answer for so long
 */
#define CONTACT_SILENCE_US UINT64_C(2500000)
#define CONTACT_AWAY_US	   UINT64_C(2000000) /* unreachable: asked again and again */
#define CONTACT_DOUBT_US   UINT64_C(500000)  /* after a failure it is asked again sooner */

struct contact {
	bool reachable;
	bool probing; /* a probe is under way: the caller sets it, an answer or failure clears it */
	uint64_t good_us, failed_us, asked_us; /* last answer, first failure since, last probe */
};

void contact_init(struct contact *contact, uint64_t now_us);

/* True: `reachable` has changed. */
bool contact_note(struct contact *contact, bool answered, uint64_t now_us);
bool contact_step(struct contact *contact, uint64_t now_us);

/* Shall a probe be sent now? */
bool contact_wants_probe(const struct contact *contact, uint64_t now_us);
/* When to step again; UINT64_MAX: not before something is noted. */
uint64_t contact_deadline(const struct contact *contact);
