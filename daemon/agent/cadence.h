#pragma once

#include <stdint.h>

#include "base/time.h"

/*
 * How often the Lease speaker-NODE is renewed: the only thing that is written at rest, so it says
 * everything at once. This node's speaker is there, engine included; all virtual routers' Leases
 * that name the node are in use; the API server answers; and when the renewal comes back through
 * the watch, the watch tells what happens.
 */
#define CADENCE_RENEW_MIN_US  (3 * BASE_USEC_PER_SEC)    /* up to 15 nodes; */
#define CADENCE_RENEW_NODE_US (200 * BASE_USEC_PER_MSEC) /* then 5 writes/s for all together, */
#define CADENCE_RENEW_MAX_US  (10 * BASE_USEC_PER_SEC)   /* but three in the Lease's duration */
#define CADENCE_DURATION_S    30
#define CADENCE_ENGINE_US     (10 * BASE_USEC_PER_SEC) /* an engine silent for so long hangs */
#define CADENCE_ECHO_US       (5 * BASE_USEC_PER_SEC)  /* for the watch to show a renewal */

static inline uint64_t cadence_renew_us(unsigned speakers)
{
	uint64_t renew_us = speakers * CADENCE_RENEW_NODE_US;

	if (renew_us < CADENCE_RENEW_MIN_US)
		return CADENCE_RENEW_MIN_US;
	return renew_us > CADENCE_RENEW_MAX_US ? CADENCE_RENEW_MAX_US : renew_us;
}
