#include "daemon/metrics/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct metrics_text *text, size_t more)
{
	size_t wanted = text->capacity ? text->capacity : 4096;
	char *grown;

	if (text->failed)
		return false;
	if (text->size + more <= text->capacity)
		return true;
	while (wanted < text->size + more)
		wanted *= 2;
	grown = wanted <= METRICS_TEXT_MAX ? realloc(text->data, wanted) : NULL;
	if (!grown) {
		text->failed = true;
		return false;
	}
	text->data = grown;
	text->capacity = wanted;
	return true;
}

static void add(struct metrics_text *text, const char *word)
{
	size_t length = strlen(word);

	if (!reserve(text, length))
		return;
	memcpy(text->data + text->size, word, length);
	text->size += length;
}

void metrics_print(struct metrics_text *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0 || !reserve(text, (size_t)length + 1))
		return;
	va_start(arguments, format);
	vsnprintf(text->data + text->size, (size_t)length + 1, format, arguments);
	va_end(arguments);
	text->size += (size_t)length;
}

/* Bytes of the UTF-8 character that stands here; 0: it is none. One that is cut ends at the NUL. */
static size_t character(const char *at)
{
	const unsigned char *c = (const unsigned char *)at;
	size_t size = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;

	if (c[0] > 0xf4 || (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
	    (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	return size;
}

/*
 * A backslash, a quote and a line's end are escaped. What is no UTF-8 becomes a question mark: a
 * scraper would refuse the whole page for it.
 */
static void add_value(struct metrics_text *text, const char *value)
{
	size_t size;

	if (!reserve(text, 2 * strlen(value)))
		return;
	for (; *value; value += size ? size : 1) {
		size = character(value);
		if (size == 0) {
			text->data[text->size++] = '?';
			continue;
		}
		if (*value == '\n' || *value == '\\' || *value == '"')
			text->data[text->size++] = '\\';
		memcpy(text->data + text->size, *value == '\n' ? "n" : value, size);
		text->size += size;
	}
}

static void add_labels(struct metrics_text *text, va_list labels)
{
	const char *name = va_arg(labels, const char *), *separator = "{";

	if (!name)
		return;
	for (; name; name = va_arg(labels, const char *), separator = ",") {
		add(text, separator);
		add(text, name);
		add(text, "=\"");
		add_value(text, va_arg(labels, const char *));
		add(text, "\"");
	}
	add(text, "}");
}

void metrics_family(struct metrics_text *text, enum metrics_type type, const char *name,
		    const char *help)
{
	static const char *const types[] = { [METRICS_GAUGE] = "gauge",
					     [METRICS_COUNTER] = "counter",
					     [METRICS_HISTOGRAM] = "histogram" };

	text->family = name;
	metrics_print(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

void metrics_count(struct metrics_text *text, uint64_t value, ...)
{
	va_list labels;

	add(text, text->family);
	va_start(labels, value);
	add_labels(text, labels);
	va_end(labels);
	metrics_print(text, " %" PRIu64 "\n", value);
}

static void add_seconds(struct metrics_text *text, uint64_t usec)
{
	metrics_print(text, " %" PRIu64 ".%06" PRIu64 "\n", usec / BASE_USEC_PER_SEC,
		      usec % BASE_USEC_PER_SEC);
}

void metrics_seconds(struct metrics_text *text, uint64_t value_us, ...)
{
	va_list labels;

	add(text, text->family);
	va_start(labels, value_us);
	add_labels(text, labels);
	va_end(labels);
	add_seconds(text, value_us);
}

static void add_bucket(struct metrics_text *text, const char *label, const char *value,
		       const char *bound, uint64_t count)
{
	metrics_print(text, "%s_bucket{", text->family);
	if (label) {
		metrics_print(text, "%s=\"", label);
		add_value(text, value);
		add(text, "\",");
	}
	metrics_print(text, "le=\"%s\"} %" PRIu64 "\n", bound, count);
}

/* `_sum` or `_count` of the family, up to its value. */
static void add_suffix(struct metrics_text *text, const char *suffix, const char *label,
		       const char *value)
{
	metrics_print(text, "%s%s", text->family, suffix);
	if (label) {
		metrics_print(text, "{%s=\"", label);
		add_value(text, value);
		add(text, "\"}");
	}
}

void metrics_histogram(struct metrics_text *text, const struct base_histogram *histogram,
		       const char *label, const char *value)
{
	uint64_t count = 0;

	for (unsigned i = 0; i <= BASE_HISTOGRAM_COUNT; i++) {
		char bound[32] = "+Inf";

		count += histogram->buckets[i];
		if (i < BASE_HISTOGRAM_COUNT)
			snprintf(bound, sizeof bound, "%g", (double)base_histogram_bound(i) / 1e6);
		add_bucket(text, label, value, bound, count);
	}
	add_suffix(text, "_sum", label, value);
	add_seconds(text, histogram->sum_us);
	add_suffix(text, "_count", label, value);
	metrics_print(text, " %" PRIu64 "\n", count);
}

void metrics_gauge(struct metrics_text *text, const char *name, const char *help, uint64_t value)
{
	metrics_family(text, METRICS_GAUGE, name, help);
	metrics_count(text, value, NULL);
}

void metrics_counter(struct metrics_text *text, const char *name, const char *help, uint64_t value)
{
	metrics_family(text, METRICS_COUNTER, name, help);
	metrics_count(text, value, NULL);
}

void metrics_text_clear(struct metrics_text *text)
{
	free(text->data);
	*text = (struct metrics_text){ 0 };
}
