#pragma once

#include "base/time.h"
#include "election/elector.h"

/*
 * Bounds of the engine around the cores: one place, so that the simulation waits as long as the
 * daemon does.
 */
#define ENGINE_WITNESS_FRESH_US  (100 * BASE_USEC_PER_MSEC) /* while a question is under way */
#define ENGINE_WITNESS_WAIT_US   ELECTION_QUESTION_US       /* for answers to a question */
#define ENGINE_WITNESS_SHARED_US (250 * BASE_USEC_PER_MSEC) /* an owner asks no more often */
#define ENGINE_PROBE_WAIT_US     (10 * BASE_USEC_PER_MSEC)  /* for a foreign holder to answer */
#define ENGINE_LEASE_DURATION_MS 30000
#define ENGINE_ADDRESS_VALID_S   10
#define ENGINE_ADDRESSES_PER_S   50 /* with more than these in that time: valid for longer */
#define ENGINE_REFUSED_US        (2 * BASE_USEC_PER_SEC) /* then the kernel is tried again */
#define ENGINE_REFRESH_US        (3 * BASE_USEC_PER_SEC)
#define ENGINE_STATE_WAIT_US     (3 * BASE_USEC_PER_SEC) /* for the feeder; then the state file */
#define ENGINE_STOP_US           (4 * BASE_USEC_PER_SEC) /* for everything to be handed over */
