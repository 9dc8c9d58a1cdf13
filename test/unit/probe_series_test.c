/* What a drill measures: questions and answers as a script, and what must come of them. */
#include <string.h>

#include "daemon/engine/core/probe_series.h"
#include "test/unit/unit.h"

static const struct base_mac old = { { 2, 0, 0, 0, 0, 1 } }, heir = { { 2, 0, 0, 0, 0, 2 } };

static const struct {
	const char *name;
	const char *
		script; /* a letter a question: o the old owner answers, h the heir, b both, - nobody */
	uint64_t sent, lost, outage_ms, two_ms;
} rows[] = {
	{ "everything is answered", "oooohhhh", 8, 0, 0, 0 },
	{ "from the first without an answer to the next with one", "oo---hh", 7, 3, 15, 0 },
	{ "one that is lost", "oo-oo", 5, 1, 5, 0 },
	{ "the longest of several", "o-o----h--h", 11, 7, 20, 0 },
	{ "two answer", "oobbbhh", 7, 0, 0, 10 },
	{ "a question that meets the move", "oobhh", 5, 0, 0, 0 },
	{ "two such questions, but not in a row", "oobobhh", 7, 0, 0, 0 },
	{ "two in a row, twice", "obbobbh", 7, 0, 0, 10 },
	{ "the same one twice is one", "oODo", 4, 0, 0, 0 },
	{ "dark until the end", "oo----", 5, 3, 15, 0 }, /* the last one had no time */
	{ "nobody ever", "----", 3, 3, 15, 0 },
	{ "one question, and the end", "-", 0, 0, 0, 0 },
	{ "one question with an answer", "o", 1, 0, 0, 0 },
	{ "no question", "", 0, 0, 0, 0 },
};

static void play(struct probe_series *series, const char *script)
{
	uint64_t now_us = 1000000;

	probe_series_init(series, 5000);
	for (; *script; script++, now_us += 5000) {
		probe_series_ask(series, now_us);
		if (strchr("ob", *script))
			probe_series_answer(series, &old);
		if (strchr("OD", *script)) {
			probe_series_answer(series, &old);
			probe_series_answer(series, &old);
		}
		if (strchr("hb", *script))
			probe_series_answer(series, &heir);
	}
	probe_series_end(series);
}

static void test_series_count_what_was_seen(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct probe_series series;

		play(&series, rows[i].script);
		ASSERT_ROW(rows[i].name, series.sent == rows[i].sent);
		ASSERT_ROW(rows[i].name, series.lost == rows[i].lost);
		ASSERT_ROW(rows[i].name, series.outage_us == rows[i].outage_ms * 1000);
		ASSERT_ROW(rows[i].name, series.two_us == rows[i].two_ms * 1000);
	}
}

/* A prober that is stopped for a second between two answered questions saw no outage. */
static void test_a_stall_of_who_asks_is_no_outage(void **state)
{
	struct probe_series series;

	(void)state;
	probe_series_init(&series, 5000);
	probe_series_ask(&series, 1000000);
	probe_series_answer(&series, &old);
	probe_series_ask(&series, 2000000);
	probe_series_answer(&series, &old);
	probe_series_end(&series);
	assert_int_equal(series.outage_us, 0);
	assert_int_equal(series.lost, 0);
}

static void test_an_answer_before_any_question_is_none(void **state)
{
	struct probe_series series;

	(void)state;
	probe_series_init(&series, 5000);
	probe_series_answer(&series, &old);
	probe_series_end(&series);
	assert_int_equal(series.sent, 0);
}

static const struct {
	const char *name, *script, *spans; /* who, from which question on; x: two */
} told[] = {
	{ "one owner", "oooo", "o0" },
	{ "from one to the other", "oo--hh", "o0 -2 h4" },
	{ "two for a while", "oobhh", "o0 x2 h3" },
	{ "from nobody", "--oo", "-0 o2" },
};

/* What a drill shows: who answered, from when on. */
static void test_the_timeline_is_kept(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(told); i++) {
		struct probe_series series;
		char text[64] = "";

		play(&series, told[i].script);
		for (unsigned j = 0; j < series.span_count; j++) {
			const struct probe_span *span = &series.spans[j];
			size_t at = strlen(text);
			char who = span->answerers == 0                        ? '-'
				   : span->answerers > 1                       ? 'x'
				   : memcmp(&span->mac, &old, sizeof old) == 0 ? 'o'
									       : 'h';

			snprintf(text + at, sizeof text - at, "%s%c%u", j ? " " : "", who,
				 (unsigned)(span->at_us / 5000));
		}
		if (strcmp(text, told[i].spans) != 0)
			fail_msg("%s: %s", told[i].name, text);
	}
}

static void test_a_timeline_has_an_end(void **state)
{
	struct probe_series series;

	(void)state;
	play(&series, "ohohohohohohohohohohohohohohohohohohohohohoh");
	assert_int_equal(series.span_count, PROBE_SPANS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_series_count_what_was_seen),
		cmocka_unit_test(test_the_timeline_is_kept),
		cmocka_unit_test(test_a_timeline_has_an_end),
		cmocka_unit_test(test_a_stall_of_who_asks_is_no_outage),
		cmocka_unit_test(test_an_answer_before_any_question_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
