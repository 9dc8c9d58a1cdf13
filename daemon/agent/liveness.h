#pragma once

#include "daemon/agent/room.h"

/*
 * The Leases speaker-NODE: this node's is renewed, the other nodes' are watched. Each time another
 * node's changes, the engine hears of it once, and counts what that node holds as renewed. If our
 * own renewal does not come back through the watch, the watches are started again.
 *
 *     renewal    every cadence_renew_us(), while the engine gives signs of life and nobody stops us
 *     sign       another version of another node's Lease; the first that is seen may be an old one
 *     echo       our own renewal in the watch, CADENCE_ECHO_US after it was answered at the latest
 */
#define LIVENESS_LABEL "vipd.dev/speaker"

struct liveness;

int liveness_new(struct liveness **liveness, struct agent *agent);
void liveness_free(struct liveness *liveness);

/* From the informer of Leases: those with the label, and any that is gone. */
void liveness_object(struct liveness *liveness, const cJSON *object);
void liveness_gone(struct liveness *liveness, const char *name);

void liveness_engine(struct liveness *liveness); /* the engine gave a sign of life */
void liveness_flush(struct liveness *liveness);	 /* tells the engine; after the Leases */
void liveness_stop(struct liveness *liveness);	 /* no renewal any more */
