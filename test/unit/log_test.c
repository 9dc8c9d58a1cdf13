/* Lines on stderr as machines read them back, and the gate that keeps repetition out of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "test/unit/capture.h"
#include "test/unit/unit.h"

/* The value of a key, as a reader of key=value lines takes it; NULL: none, or the line is broken. */
static const char *value_of(const char *key)
{
	static char value[8192];
	const char *at = line;

	while (*at && *at != '\n') {
		char name[64];
		size_t length = 0;
		int n = 0;

		if (sscanf(at, "%63[a-z_]=%n", name, &n) != 1 || n == 0)
			return NULL;
		at += n;
		if (*at == '"') {
			for (at++; *at != '"'; at++) {
				if (*at == '\0' || *at == '\n')
					return NULL;
				if (*at == '\\')
					at++;
				value[length++] = *at;
			}
			at++;
			if (*at != ' ' && *at != '\n')
				return NULL;
		} else {
			for (; *at != ' ' && *at != '\n'; at++)
				value[length++] = *at;
		}
		value[length] = '\0';
		at += *at == ' ';
		if (strcmp(name, key) == 0)
			return value;
	}
	return NULL;
}

static void open_text(const char *level)
{
	setenv("VIPD_LOG", "stderr", 1);
	unsetenv("JOURNAL_STREAM");
	level ? setenv("VIPD_LOG_LEVEL", level, 1) : unsetenv("VIPD_LOG_LEVEL");
	log_open("engine", "n1");
}

static void test_a_line_is_keys_and_values_with_the_sentence_last(void **state)
{
	static const char tail[] =
		" level=notice program=engine node=n1 reason=OwnerLost vip=192.0.2.10 "
		"vrid=10 msg=\"n1 took over 192.0.2.10\"\n";

	(void)state;
	open_text(NULL);
	capture_begin();
	log_line(LOG_NOTICE, BASE_REASON_OWNER_LOST,
		 LOG_FIELDS({ "VIP", "192.0.2.10" }, { "PEER", "" }, { "LEASE", NULL },
			    { "VRID", "10" }),
		 "n1 took over %s", "192.0.2.10");
	capture_end();
	assert_int_equal(strlen(line), strlen("time=2026-11-25T18:32:36.074427Z") + strlen(tail));
	assert_memory_equal(line, "time=2", 6);
	assert_string_equal(line + strlen("time=2026-11-25T18:32:36.074427Z"), tail);
}

static void test_no_reason_is_no_field(void **state)
{
	(void)state;
	open_text(NULL);
	capture_begin();
	log_line(LOG_INFO, BASE_REASON_NONE, LOG_NO_FIELDS, "hello");
	capture_end();
	assert_null(strstr(line, "reason="));
	assert_string_equal(value_of("msg"), "hello");
}

static void test_whatever_a_stranger_named_himself_stays_one_value(void **state)
{
	static const struct {
		const char *name, *value, *read; /* read NULL: as it is */
	} rows[] = {
		{ "a plain word", "n1", NULL },
		{ "words", "two words", NULL },
		{ "a quote", "a\"b", NULL },
		{ "a backslash", "a\\", NULL },
		{ "both, many times", "\\\"\\\"\\\"", NULL },
		{ "an equals sign", "a=b", NULL },
		{ "a line that looks like another entry", "x\ntime=1 level=error msg=forged",
		  "x time=1 level=error msg=forged" },
		{ "a carriage return", "x\rreason=Forged", "x reason=Forged" },
		{ "a bell and an escape", "a\ab\033[2J", "a b [2J" },
		{ "a tab", "a\tb", "a b" },
		{ "delete", "a\x7f", "a " },
		{ "UTF-8", "caf\xc3\xa9", NULL },
	};

	(void)state;
	open_text(NULL);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		const char *expected = rows[i].read ? rows[i].read : rows[i].value, *got;

		capture_begin();
		log_line(LOG_WARNING, BASE_REASON_FOREIGN_ADDRESS,
			 LOG_FIELDS({ "PEER", rows[i].value }, { "VIP", "192.0.2.10" }), "%s",
			 rows[i].value);
		capture_end();
		ASSERT_ROW(rows[i].name, strchr(line, '\n') == line + strlen(line) - 1);
		got = value_of("peer");
		if (!got || strcmp(got, expected) != 0)
			fail_msg("%s: peer is %s in %s", rows[i].name, got ? got : "unreadable",
				 line);
		assert_string_equal(value_of("vip"), "192.0.2.10");
		assert_string_equal(value_of("reason"), "ForeignAddress");
		assert_string_equal(value_of("msg"), expected);
	}
}

static void test_lines_of_any_length_end_with_their_newline_and_closed_quotes(void **state)
{
	char longer[5000];

	(void)state;
	open_text(NULL);
	for (size_t size = 1; size < sizeof longer - 1;
	     size += size < 1800 || size > 2200 ? 97 : 1) {
		memset(longer, '"', size); /* each takes two bytes */
		longer[size] = '\0';
		for (int fields = 0; fields < 2; fields++) {
			capture_begin();
			if (fields)
				log_line(LOG_WARNING, BASE_REASON_NONE,
					 LOG_FIELDS({ "PEER", longer }, { "VIP", longer }), "end");
			else
				log_line(LOG_WARNING, BASE_REASON_NONE, LOG_NO_FIELDS, "%s",
					 longer);
			capture_end();
			assert_true(strlen(line) <= 2048);
			assert_true(line[strlen(line) - 1] == '\n');
			assert_true(strchr(line, '\n') == line + strlen(line) - 1);
			assert_null(value_of("nothing"));                   /* read to its end... */
			assert_non_null(value_of(fields ? "peer" : "msg")); /* ...without a break */
		}
	}
}

static void test_levels_are_kept_out_as_asked(void **state)
{
	static const struct {
		const char *level;
		int priority;
		bool written;
	} rows[] = {
		{ NULL, LOG_INFO, true },         { NULL, LOG_DEBUG, false },
		{ "debug", LOG_DEBUG, true },     { "warning", LOG_WARNING, true },
		{ "warning", LOG_NOTICE, false }, { "warning", LOG_ERR, true },
		{ "error", LOG_WARNING, false },  { "notice", LOG_NOTICE, true },
		{ "nonsense", LOG_INFO, true },   { "nonsense", LOG_DEBUG, false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		open_text(rows[i].level);
		capture_begin();
		log_line(rows[i].priority, BASE_REASON_NONE, LOG_NO_FIELDS, "hello");
		capture_end();
		ASSERT_ROW(rows[i].level ? rows[i].level : "default",
			   (line[0] != '\0') == rows[i].written);
	}
}

/* Where stderr is a stream into the journal and the journal itself is out of reach. */
static void test_the_priority_stands_in_front_only_where_stderr_is_the_journal(void **state)
{
	char stream[64];
	struct stat status;

	(void)state;
	capture_begin();
	assert_int_equal(fstat(STDERR_FILENO, &status), 0);
	snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)status.st_dev,
		 (unsigned long long)status.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	setenv("VIPD_LOG", "stderr", 1);
	log_open("engine", NULL);
	log_line(LOG_ERR, BASE_REASON_NONE, LOG_NO_FIELDS, "hello");
	capture_end();
	assert_memory_equal(line, "<3>time=", 8);
	assert_null(strstr(line, "node="));

	capture_begin();
	setenv("JOURNAL_STREAM", "1:2", 1); /* somebody else's */
	log_open("engine", NULL);
	log_line(LOG_ERR, BASE_REASON_NONE, LOG_NO_FIELDS, "hello");
	capture_end();
	assert_memory_equal(line, "time=", 5);
	unsetenv("JOURNAL_STREAM");
}

static void test_the_gate_lets_the_first_pass_and_then_ever_fewer(void **state)
{
	struct log_gate gate = { 0 };
	unsigned suppressed = 99;
	unsigned long long interval_us = 1000000;

	(void)state;
	assert_int_equal(log_gate_pass(&gate, &suppressed), 1);
	assert_int_equal(suppressed, 0);
	for (int round = 0; round < 15; round++) {
		for (int i = 0; i < 7; i++)
			assert_int_equal(log_gate_pass(&gate, &suppressed), 0);
		assert_true(gate.interval_us == interval_us);
		gate.next_us = 0; /* as if that time had passed */
		assert_int_equal(log_gate_pass(&gate, &suppressed), 1);
		assert_int_equal(suppressed, 7);
		interval_us = interval_us * 2 > 600000000 ? 600000000 : interval_us * 2;
	}
	/* It works again; the next failure is news. */
	log_gate_clear(&gate);
	assert_int_equal(log_gate_pass(&gate, NULL), 1);
	assert_int_equal(log_gate_pass(&gate, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_is_keys_and_values_with_the_sentence_last),
		cmocka_unit_test(test_no_reason_is_no_field),
		cmocka_unit_test(test_whatever_a_stranger_named_himself_stays_one_value),
		cmocka_unit_test(test_lines_of_any_length_end_with_their_newline_and_closed_quotes),
		cmocka_unit_test(test_levels_are_kept_out_as_asked),
		cmocka_unit_test(
			test_the_priority_stands_in_front_only_where_stderr_is_the_journal),
		cmocka_unit_test(test_the_gate_lets_the_first_pass_and_then_ever_fewer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
