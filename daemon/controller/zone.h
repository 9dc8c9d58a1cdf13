#pragma once

#include "daemon/controller/schedule.h"

/*
 * When a schedule is due next in a time zone of the system's database; "": UTC. 0: never, or -errno and
 * why. One thread: the C library has one time zone, which is changed and changed back.
 */
int zone_next(const struct schedule *schedule, const char *zone, uint64_t after_s, uint64_t *next_s,
	      struct base_error *error);
