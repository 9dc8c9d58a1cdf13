#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"

/*
 * Text for Prometheus, format 0.0.4: a family begins with its HELP and TYPE, all its samples follow.
 * Label values may hold anything; they are escaped. Zero-initialise; memory is ours until it is taken.
 */
struct metrics_text {
	char *data;
	size_t size, capacity;
	bool failed; /* no memory, or beyond METRICS_TEXT_MAX: the whole is of no use */
	const char *family;
};

#define METRICS_TEXT_MAX (32 * 1024 * 1024)

enum metrics_type {
	METRICS_GAUGE,
	METRICS_COUNTER,
	METRICS_HISTOGRAM,
};

/* `name` is borrowed until the next family. */
void metrics_family(struct metrics_text *text, enum metrics_type type, const char *name,
		    const char *help);

/* A sample of this family; the labels are pairs of name and value, ended by NULL. */
__attribute__((sentinel)) void metrics_count(struct metrics_text *text, uint64_t value, ...);
__attribute__((sentinel)) void metrics_seconds(struct metrics_text *text, uint64_t value_us, ...);
/* At most one label, NULL: none. */
void metrics_histogram(struct metrics_text *text, const struct base_histogram *histogram,
		       const char *label, const char *value);

/* A family with one sample without labels. */
void metrics_gauge(struct metrics_text *text, const char *name, const char *help, uint64_t value);
void metrics_counter(struct metrics_text *text, const char *name, const char *help, uint64_t value);

/* Appends as it is. */
__attribute__((format(printf, 2, 3))) void metrics_print(struct metrics_text *text,
							 const char *format, ...);
void metrics_text_clear(struct metrics_text *text);
