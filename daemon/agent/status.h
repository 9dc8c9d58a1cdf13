#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "base/reason.h"

/*
 * VirtualIP.status as this node would have it, and what of it has to be written. No I/O, no clock.
 */
struct status_transition {
	bool known;
	bool old; /* told again after a restart of the agent: the record may have it */
	char time[40]; /* RFC 3339 */
	char from[64];
	enum base_reason reason;
	char message[256];
	uint64_t outage_us; /* 0: unknown */
};

struct status_wish {
	const char *node; /* this one */
	bool owned;	  /* by this node, verified */
	bool moving;
	bool given_up; /* it was this node's, and nobody's now */
	bool conflict; /* a foreign host answers for the address */
	uint8_t conflict_mac[6];
	bool announced, available; /* fence and address in the kernel; endpoints behind it */
	const char *remark;	   /* about endpoints that it has not; NULL or "": none */
	uint32_t term; /* 0: its Lease has not been read yet */
	const char *since; /* as far as this node knows */
	const char *now;
	struct status_transition transition; /* the last one to (or, given up, from) this node */
	const char *handover_id;	     /* to be noted as carried out; NULL: none */
};

/* {"status": {...}} for a merge patch, or NULL: nothing would change. `existing` may be NULL. */
cJSON *status_patch(const cJSON *existing, const struct status_wish *wish);

/*
 * A condition: `lastTransitionTime` is that of `existing` (a list of conditions, may be NULL) as
 * long as the status is the same, and `now` otherwise.
 */
cJSON *status_condition(const cJSON *existing, const char *type, bool value,
			enum base_reason reason, const char *message, const char *now);

/* Moves to `patch` what differs from `existing`: member by member, of the first level. */
void status_difference(const cJSON *existing, cJSON *wanted, cJSON *patch);
