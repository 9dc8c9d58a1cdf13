/* When a drill is due: the words of cron, day by day, also where clocks are changed. */
#include <string.h>

#include "daemon/controller/zone.h"
#include "test/unit/unit.h"

/* 2026-11-26 01:30:00 UTC, a Thursday */
#define NOW UINT64_C(1795656600)

static const struct {
	const char *name, *text, *zone;
	uint64_t after_s;
	const char *next; /* in UTC */
} rows[] = {
	{ "every minute", "* * * * *", "", NOW, "2026-11-26 01:31" },
	{ "not this minute again", "30 1 * * *", "", NOW, "2026-11-27 01:30" },
	{ "Saturdays at three", "0 3 * * 6", "", NOW, "2026-11-28 03:00" },
	{ "by name", "0 3 * * sat", "", NOW, "2026-11-28 03:00" },
	{ "7 is Sunday", "0 3 * * 7", "", NOW, "2026-11-29 03:00" },
	{ "every quarter of an hour", "*/15 * * * *", "", NOW, "2026-11-26 01:45" },
	{ "from 5 on in steps", "5/20 * * * *", "", NOW, "2026-11-26 01:45" },
	{ "a list of ranges", "0 8-9,17-18 * * mon-fri", "", NOW, "2026-11-26 08:00" },
	{ "either day", "0 0 1 * fri", "", NOW, "2026-11-27 00:00" },
	{ "a leap day", "0 0 29 2 *", "", NOW, "2028-02-29 00:00" },
	{ "a nickname", "@monthly", "", NOW, "2026-12-01 00:00" },
	{ "in Paris", "0 3 * * *", "Europe/Paris", NOW, "2026-11-26 02:00" },
	{ "in Kathmandu, at a quarter", "0 8 * * *", "Asia/Kathmandu", NOW, "2026-11-26 02:15" },
	{ "in New York it is yesterday", "0 21 25 11 *", "America/New_York", NOW,
	  "2026-11-26 02:00" },
	/* 2027-03-28 in Paris: 02:00 becomes 03:00 */
	{ "an hour that is left out", "30 2 * * *", "Europe/Paris", UINT64_C(1806190000),
	  "2027-03-29 00:30" },
	{ "never", "0 0 31 2 *", "", NOW, NULL },
};

static void test_the_next_time(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_error error = { 0 };
		struct schedule schedule;
		uint64_t next_s = 1;
		char text[32];
		time_t seconds;
		struct tm utc;

		ASSERT_ROW(rows[i].name, schedule_parse(&schedule, rows[i].text, &error) == 0);
		ASSERT_ROW(rows[i].name, zone_next(&schedule, rows[i].zone, rows[i].after_s,
						   &next_s, &error) == 0);
		if (!rows[i].next) {
			ASSERT_ROW(rows[i].name, next_s == 0);
			continue;
		}
		seconds = (time_t)next_s;
		strftime(text, sizeof text, "%Y-%m-%d %H:%M", gmtime_r(&seconds, &utc));
		if (strcmp(text, rows[i].next) != 0)
			fail_msg("%s: %s instead of %s", rows[i].name, text, rows[i].next);
	}
}

static void test_what_is_no_schedule_is_said(void **state)
{
	static const char *const bad[][2] = {
		{ "* * * *", "five fields" },
		{ "60 * * * *", "60 is no minute (0 to 59)" },
		{ "* 24 * * *", "no hour" },
		{ "* * 0 * *", "no day of month" },
		{ "* * * foo *", "no month" },
		{ "* * * * 8", "no day of week" },
		{ "5-1 * * * *", "no minute" },
		{ "*/0 * * * *", "no minute" },
		{ "1,,2 * * * *", "no minute" },
		{ "@reboot", "five fields" },
		{ "* * * * * *", "five fields" },
		{ "1x * * * *", "no minute" },
		{ "", "five fields" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(bad); i++) {
		struct base_error error = { 0 };
		struct schedule schedule;

		ASSERT_ROW(bad[i][0], schedule_parse(&schedule, bad[i][0], &error) < 0);
		ASSERT_ROW(bad[i][0], strstr(error.message, bad[i][1]) != NULL);
	}
}

static void test_a_zone_that_does_not_exist(void **state)
{
	static const char *const bad[] = { "Europe/Pariss", "../etc/passwd", "/etc/localtime" };
	struct schedule schedule;
	uint64_t next_s;

	(void)state;
	assert_int_equal(schedule_parse(&schedule, "@daily", &(struct base_error){ 0 }), 0);
	for (size_t i = 0; i < BASE_COUNT_OF(bad); i++) {
		struct base_error error = { 0 };

		ASSERT_ROW(bad[i], zone_next(&schedule, bad[i], NOW, &next_s, &error) < 0);
		ASSERT_ROW(bad[i], strstr(error.message, "say a name such as") != NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_next_time),
		cmocka_unit_test(test_what_is_no_schedule_is_said),
		cmocka_unit_test(test_a_zone_that_does_not_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
