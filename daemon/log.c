#include "daemon/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/io/clock.h"
#include "base/time.h"

#define FIELDS_MAX 24
#define LINE_SIZE  2048

static struct {
	const char *program;
	char node[64];
	bool native, prefixed;
	int level;
} out = { .program = "vipd", .level = LOG_INFO };

static const char *const levels[] = { "emerg",	 "alert",  "crit", "error",
				      "warning", "notice", "info", "debug" };

/* True where stderr is a stream into the journal (systemd sets JOURNAL_STREAM to its dev:inode). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat status;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
	       status.st_ino == inode;
}

void log_open(const char *program, const char *node)
{
	const char *sink = getenv("VIPD_LOG"), *level = getenv("VIPD_LOG_LEVEL");
	bool journal_there = access("/run/systemd/journal/socket", W_OK) == 0;

	out.program = program;
	snprintf(out.node, sizeof out.node, "%s", node ? node : "");
	out.prefixed = stderr_is_journal();
	/* sd_journal_send() succeeds into the void without a journal: look, do not ask. */
	out.native = journal_there &&
		     ((sink && strcmp(sink, "journal") == 0) || (!sink && out.prefixed));
	out.level = LOG_INFO;
	for (int i = LOG_ERR; level && i <= LOG_DEBUG; i++)
		if (strcmp(level, levels[i]) == 0)
			out.level = i;
}

static void send_native(int priority, const struct base_reason_info *reason, const char *text,
			const struct log_field *fields)
{
	static char values[FIELDS_MAX][LINE_SIZE];
	struct iovec parts[FIELDS_MAX];
	int count = 0;

#define ADD(...)                                                                                   \
	do {                                                                                       \
		int n_ = snprintf(values[count], LINE_SIZE, __VA_ARGS__);                          \
		parts[count] = (struct iovec){ values[count],                                      \
					       n_ < LINE_SIZE ? (size_t)n_ : LINE_SIZE - 1 };      \
		count++;                                                                           \
	} while (0)

	ADD("MESSAGE=%s", text);
	ADD("PRIORITY=%d", priority);
	ADD("SYSLOG_IDENTIFIER=vipd-%s", out.program);
	if (out.node[0])
		ADD("NODE=%s", out.node);
	if (reason->message_id[0]) {
		ADD("MESSAGE_ID=%s", reason->message_id);
		ADD("REASON=%s", reason->word);
	}
	for (; fields->name && count < FIELDS_MAX; fields++)
		if (fields->value && fields->value[0])
			ADD("%s=%s", fields->name, fields->value);
#undef ADD
	sd_journal_sendv(parts, count);
}

static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_plain_word(const char *value)
{
	for (const char *c = value; *c; c++)
		if (is_control(*c) || strchr(" \"=\\", *c))
			return false;
	return *value != '\0';
}

/*
 * Appends key=value, in quotes if the value is not one plain word. Whatever somebody on the LAN or in
 * the API put into a name, it stays one value on one line.
 */
static size_t append(char *line, size_t at, const char *key, const char *value)
{
	bool quote = !is_plain_word(value);

	if (at + 4 >= LINE_SIZE)
		return at;
	line[at++] = ' ';
	for (; *key && at + 4 < LINE_SIZE; key++)
		line[at++] = (char)tolower((unsigned char)*key);
	line[at++] = '=';
	if (quote)
		line[at++] = '"';
	for (; *value && at + 4 < LINE_SIZE; value++) {
		if (quote && (*value == '"' || *value == '\\'))
			line[at++] = '\\';
		line[at++] = is_control(*value) ? ' ' : *value;
	}
	if (quote)
		line[at++] = '"';
	return at;
}

static void send_text(int priority, const struct base_reason_info *reason, const char *text,
		      const struct log_field *fields)
{
	char line[LINE_SIZE], when[40];
	struct timespec now;
	struct tm utc;
	size_t at = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
	if (out.prefixed)
		at = (size_t)snprintf(line, sizeof line, "<%d>", priority);
	at += (size_t)snprintf(line + at, sizeof line - at, "time=%s.%06ldZ level=%s program=%s",
			       when, now.tv_nsec / 1000, levels[priority & 7], out.program);
	if (out.node[0])
		at = append(line, at, "node", out.node);
	if (reason->message_id[0])
		at = append(line, at, "reason", reason->word);
	for (; fields->name; fields++)
		if (fields->value && fields->value[0])
			at = append(line, at, fields->name, fields->value);
	at = append(line, at, "msg", text);
	line[at++] = '\n';
	/* One write, so that lines of several processes do not mix; nowhere to report a failure. */
	if (write(STDERR_FILENO, line, at) < 0)
		return;
}

void log_line(int priority, enum base_reason reason, const struct log_field *fields,
	      const char *format, ...)
{
	char text[1024];
	va_list arguments;

	if (priority > out.level)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (out.native)
		send_native(priority, base_reason_info(reason), text, fields);
	else
		send_text(priority, base_reason_info(reason), text, fields);
}

int log_gate_pass(struct log_gate *gate, unsigned *suppressed)
{
	unsigned long long now = base_clock_us(CLOCK_BOOTTIME);

	if (gate->interval_us && now < gate->next_us) {
		gate->suppressed++;
		return 0;
	}
	gate->interval_us = gate->interval_us ? gate->interval_us * 2 : BASE_USEC_PER_SEC;
	if (gate->interval_us > 600 * BASE_USEC_PER_SEC)
		gate->interval_us = 600 * BASE_USEC_PER_SEC;
	gate->next_us = now + gate->interval_us;
	if (suppressed)
		*suppressed = gate->suppressed;
	gate->suppressed = 0;
	return 1;
}

void log_gate_clear(struct log_gate *gate)
{
	*gate = (struct log_gate){ 0 };
}
