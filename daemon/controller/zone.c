#include "daemon/controller/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATABASE "/usr/share/zoneinfo"

static void local_time(void *userdata, uint64_t unix_s, struct tm *local)
{
	time_t seconds = (time_t)unix_s;

	(void)userdata;
	localtime_r(&seconds, local);
}

/* The C library takes a zone that it does not know for UTC, without a word. */
static int check(const char *zone, struct base_error *error)
{
	char path[128];

	snprintf(path, sizeof path, DATABASE "/%s", zone);
	if (strcmp(zone, "UTC") == 0 || strcmp(zone, "Etc/UTC") == 0)
		return 0;
	if (*zone == '/' || strstr(zone, "..") || access(path, R_OK) < 0)
		return base_error_set(error, -EINVAL,
				      "spec.timeZone %s: there is no %s; say a name such as "
				      "Europe/Paris",
				      zone, path);
	return 0;
}

int zone_next(const struct schedule *schedule, const char *zone, uint64_t after_s, uint64_t *next_s,
	      struct base_error *error)
{
	const char *before = getenv("TZ");
	char *kept = before ? strdup(before) : NULL;
	char name[80];

	if (!*zone)
		zone = "UTC";
	if ((before && !kept) || check(zone, error) < 0) {
		free(kept);
		return kept || !before ? -EINVAL : -ENOMEM;
	}
	snprintf(name, sizeof name, ":%s", zone);
	setenv("TZ", name, true);
	tzset();
	*next_s = schedule_next(schedule, after_s, local_time, NULL);
	if (kept)
		setenv("TZ", kept, true);
	else
		unsetenv("TZ");
	tzset();
	free(kept);
	return 0;
}
