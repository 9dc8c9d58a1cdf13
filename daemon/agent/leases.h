#pragma once

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "daemon/protocol/message.h"

/* Lease objects of virtual routers and what the engine calls a lease, both ways. */
#define LEASE_LABEL	     "vipd.dev/virtual-router"
#define ANNOTATION_SUCCESSOR "vipd.dev/successor"
#define ANNOTATION_DEGRADED  "vipd.dev/degraded"

void lease_read(const cJSON *object, struct message_lease *lease);

/*
 * The body of a POST (lease->version "") or PUT. `acquired` is kept if the holder stays; `owners`
 * is a list of ownerReferences (borrowed, may be NULL). Free with cJSON_Delete().
 */
cJSON *lease_write(const struct message_lease *lease, const char *namespace, const char *acquired,
		   const cJSON *owners);

/* RFC 3339 in UTC with six digits (MicroTime) or none (Time). */
void wall_time(char text[static 40], uint64_t ago_us, bool micro);
