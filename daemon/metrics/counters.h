#pragma once

#include <stdint.h>

#include "k8s/io/counters.h"

/*
 * What the engine's feeder counts, in memory that the page reads. The engine makes it and does not
 * look into it; so the numbers go on when a feeder is started again. Plain numbers: who reads them
 * believes nothing else.
 */
#define COUNTERS_FD 4 /* in both children */

struct counters {
	struct k8s_counters api;
	uint64_t reads, reads_failed; /* manifests: the whole set, and how often it had a fault */
	uint64_t read_failed;         /* 1: the last time */
	uint64_t read_wall_us;        /* when it was read without a fault last; CLOCK_REALTIME */
};

/* 0 or -errno: a file without a name of the right size, close-on-exec. */
int counters_create(void);

/* Of the feeder; memory of its own where nothing was inherited, so never NULL. */
struct counters *counters_own(void);
/* Of the page; what nobody counts is 0. */
const struct counters *counters_read(void);
