#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/error.h"

/*
 * When a drill is due: minute, hour, day of month, month, day of week as in cron (5 fields of *, numbers,
 * names of months and days, ranges, steps, lists), or @hourly, @daily, @midnight, @weekly, @monthly,
 * @yearly, @annually. If both days are restricted, either will do. Pure: time zones are the caller's.
 */
struct schedule {
	uint64_t minutes;
	uint32_t hours, days, months, weekdays; /* a bit each: 0.., 1.., 1.., 0 = Sunday */
	bool any_day, any_weekday;
};

/* 0, or -EINVAL and what is wrong with which field. */
int schedule_parse(struct schedule *schedule, const char *text, struct base_error *error);

/* Turns seconds since 1970 into the local time that the schedule is meant in. */
typedef void schedule_local_fn(void *userdata, uint64_t unix_s, struct tm *local);
/*
 * The first minute after `after_s` that matches; 0: none in the next five years. A local time that a
 * change of the clock leaves out is left out; one that comes twice is due twice.
 */
uint64_t schedule_next(const struct schedule *schedule, uint64_t after_s, schedule_local_fn *local,
		       void *userdata);
