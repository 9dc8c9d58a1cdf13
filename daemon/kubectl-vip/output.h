#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "daemon/kubectl-vip/arguments.h"

/*
 * What is printed: tables with columns as wide as they must be, and objects as kubectl prints
 * them. Colours only on a terminal, and never with NO_COLOR.
 */
#define TABLE_COLUMNS_MAX 16

struct table {
	size_t columns, count;
	char **cells; /* of the rows that are not printed yet, row after row, headers first */
	int widest[TABLE_COLUMNS_MAX]; /* of each column, in what was printed */
	bool begun;		       /* the headers were printed, or left out */
};

/* `headers`: words between '|'. */
void table_start(struct table *table, const char *headers);
/* The next cell; an empty text is shown as "-" in the middle of a row. */
__attribute__((format(printf, 2, 3))) void table_add(struct table *table, const char *format, ...);
/* Prints what was added since; what comes later stands below it. */
void table_flush(struct table *table, bool no_headers);
/* The rest, and frees it. */
void table_print(struct table *table, bool no_headers);

/* "5m", "2d3h" since an RFC 3339 time, as kubectl says it; "" if it is none. */
const char *output_since(const char *time, char text[static 16]);

/* Seconds since an RFC 3339 time; -1: it is none. */
double output_age(const char *time);

/* "" or the code that begins a colour; output_plain() ends it. */
const char *output_colour(const char *word);
const char *output_plain(void);

/*
 * json, yaml or name of objects (a JSON array, taken over). `single`: the one object alone, not a
 * List. `kind` and `resource` as "VirtualIP" and "virtualip.vipd.dev".
 */
void output_objects(enum output output, cJSON *items, bool single, const char *kind,
		    const char *resource);
/* Any tree as JSON or YAML. */
void output_tree(enum output output, const cJSON *tree);
