#include "daemon/controller/schedule.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/array.h"

#define YEARS_S (5 * UINT64_C(366) * 86400)

struct field {
	const char *name;
	unsigned min, max;
	const char *const *words; /* for min, min + 1, ... */
	unsigned word_count;
};

static const char *const month_words[] = { "jan", "feb", "mar", "apr", "may", "jun",
					   "jul", "aug", "sep", "oct", "nov", "dec" };
static const char *const day_words[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

static const struct field fields[] = {
	{ "minute", 0, 59, NULL, 0 },
	{ "hour", 0, 23, NULL, 0 },
	{ "day of month", 1, 31, NULL, 0 },
	{ "month", 1, 12, month_words, BASE_COUNT_OF(month_words) },
	{ "day of week", 0, 7, day_words, BASE_COUNT_OF(day_words) }, /* 7 is Sunday, too */
};

/* A number or a name; false: neither. */
static bool read_value(const struct field *field, const char **at, unsigned *value)
{
	char *end;

	for (unsigned i = 0; i < field->word_count; i++)
		if (strncasecmp(*at, field->words[i], 3) == 0) {
			*value = field->min + i;
			*at += 3;
			return true;
		}
	if (!isdigit((unsigned char)**at))
		return false;
	*value = (unsigned)strtoul(*at, &end, 10);
	*at = end;
	return *value >= field->min && *value <= field->max;
}

/* "*", "7", "1-5", each perhaps with "/2". */
static bool read_range(const struct field *field, const char **at, uint64_t *bits)
{
	unsigned first = field->min, last = field->max, step = 1;
	bool star = **at == '*';

	if (star)
		(*at)++;
	else if (!read_value(field, at, &first))
		return false;
	else
		last = first;
	if (!star && **at == '-') {
		(*at)++;
		if (!read_value(field, at, &last) || last < first)
			return false;
	} else if (!star && **at == '/') {
		last = field->max;
	}
	if (**at == '/') {
		char *end;

		step = isdigit((unsigned char)(*at)[1]) ? (unsigned)strtoul(*at + 1, &end, 10) : 0;
		if (step == 0 || step > field->max)
			return false;
		*at = end;
	}
	for (unsigned value = first; value <= last; value += step)
		*bits |= UINT64_C(1) << value;
	return true;
}

static bool read_field(const struct field *field, const char *text, uint64_t *bits)
{
	*bits = 0;
	do {
		if (!read_range(field, &text, bits))
			return false;
	} while (*text++ == ',');
	return text[-1] == '\0';
}

static const char *without_nickname(const char *text)
{
	static const char *const names[][2] = {
		{ "@yearly", "0 0 1 1 *" },  { "@annually", "0 0 1 1 *" },
		{ "@monthly", "0 0 1 * *" }, { "@weekly", "0 0 * * 0" },
		{ "@daily", "0 0 * * *" },   { "@midnight", "0 0 * * *" },
		{ "@hourly", "0 * * * *" },
	};

	for (size_t i = 0; i < BASE_COUNT_OF(names); i++)
		if (strcmp(text, names[i][0]) == 0)
			return names[i][1];
	return text;
}

int schedule_parse(struct schedule *schedule, const char *text, struct base_error *error)
{
	char words[BASE_COUNT_OF(fields)][64], rest[2];
	uint64_t bits[BASE_COUNT_OF(fields)];

	if (sscanf(without_nickname(text), "%63s %63s %63s %63s %63s %1s", words[0], words[1],
		   words[2], words[3], words[4], rest) != (int)BASE_COUNT_OF(fields))
		return base_error_set(error, -EINVAL,
				      "spec.schedule %s: five fields are needed, minute, hour, day "
				      "of month, month, day of week, or a word such as @daily",
				      text);
	for (size_t i = 0; i < BASE_COUNT_OF(fields); i++)
		if (!read_field(&fields[i], words[i], &bits[i]))
			return base_error_set(
				error, -EINVAL, "spec.schedule %s: %s is no %s (%u to %u)", text,
				words[i], fields[i].name, fields[i].min, fields[i].max);
	*schedule = (struct schedule){
		.minutes = bits[0],
		.hours = (uint32_t)bits[1],
		.days = (uint32_t)bits[2],
		.months = (uint32_t)bits[3],
		.weekdays = (uint32_t)(bits[4] | bits[4] >> 7),
		.any_day = words[2][0] == '*',
		.any_weekday = words[4][0] == '*',
	};
	return 0;
}

static bool is_its_day(const struct schedule *schedule, const struct tm *local)
{
	bool day = schedule->days >> local->tm_mday & 1;
	bool weekday = schedule->weekdays >> local->tm_wday & 1;

	if (!(schedule->months >> (local->tm_mon + 1) & 1))
		return false;
	return schedule->any_day || schedule->any_weekday ? day && weekday : day || weekday;
}

uint64_t schedule_next(const struct schedule *schedule, uint64_t after_s, schedule_local_fn *local,
		       void *userdata)
{
	uint64_t at_s = after_s / 60 * 60 + 60, end_s = after_s + YEARS_S;

	while (at_s < end_s) {
		struct tm now;

		local(userdata, at_s, &now);
		if (!is_its_day(schedule, &now) || !(schedule->hours >> now.tm_hour & 1))
			at_s += 60 * (uint64_t)(60 - now.tm_min); /* to the next full hour */
		else if (!(schedule->minutes >> now.tm_min & 1))
			at_s += 60;
		else
			return at_s;
	}
	return 0;
}
