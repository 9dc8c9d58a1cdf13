#include "daemon/kubectl-vip/output.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io/clock.h"
#include "base/time.h"
#include "k8s/object.h"

/* --- colours --- */

static bool coloured(void)
{
	const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && terminal && strcmp(terminal, "dumb") != 0;
}

const char *output_colour(const char *word)
{
	static const struct {
		const char *word, *code;
	} colours[] = {
		{ "Active", "\033[32m" }, { "True", "\033[32m" },     { "ok", "\033[32m" },
		{ "Moving", "\033[33m" }, { "Pending", "\033[33m" },  { "Unknown", "\033[33m" },
		{ "unknown", "\033[33m" }, { "Unowned", "\033[31m" }, { "Conflict", "\033[31m" },
		{ "False", "\033[31m" },  { "BROKEN", "\033[1;31m" },
	};

	for (size_t i = 0; i < BASE_COUNT_OF(colours); i++)
		if (strcmp(colours[i].word, word) == 0)
			return coloured() ? colours[i].code : "";
	return "";
}

const char *output_plain(void)
{
	return coloured() ? "\033[0m" : "";
}

/* --- tables --- */

static void append(struct table *table, char *text)
{
	char **cells = realloc(table->cells, (table->count + 1) * sizeof *cells);

	if (!cells || !text) {
		fputs("error: out of memory\n", stderr);
		exit(1);
	}
	cells[table->count++] = text;
	table->cells = cells;
}

void table_start(struct table *table, const char *headers)
{
	*table = (struct table){ .columns = 1 };
	while (*headers) {
		size_t length = strcspn(headers, "|");

		append(table, strndup(headers, length));
		headers += length + (headers[length] == '|');
	}
	table->columns = table->count;
}

void table_add(struct table *table, const char *format, ...)
{
	va_list arguments;
	char *text = NULL;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	if (text && !*text) {
		free(text);
		text = strdup("-");
	}
	append(table, text);
}

/* Characters, not bytes: UTF-8 continuation bytes take no room. */
static int width(const char *text)
{
	int count = 0;

	for (; *text; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

static void print_row(const struct table *table, char *const *cells, bool headers)
{
	for (size_t column = 0; column < table->columns; column++) {
		const char *cell = cells[column];
		const char *colour = headers ? "" : output_colour(cell);
		bool last = column + 1 == table->columns;

		printf("%s%s%s%*s", colour, cell, *colour ? output_plain() : "",
		       last ? 0 : table->widest[column] - width(cell) + 3, "");
	}
	putchar('\n');
}

void table_flush(struct table *table, bool no_headers)
{
	size_t first = !table->begun && no_headers ? table->columns : 0;

	for (size_t i = first; i < table->count; i++) {
		int *widest = &table->widest[i % table->columns], wide = width(table->cells[i]);

		*widest = wide > *widest ? wide : *widest;
	}
	for (size_t i = first; i < table->count; i += table->columns)
		print_row(table, table->cells + i, !table->begun && i == 0);
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	table->count = 0;
	table->begun = true;
	fflush(stdout);
}

void table_print(struct table *table, bool no_headers)
{
	table_flush(table, no_headers);
	free(table->cells);
	*table = (struct table){ 0 };
}

/* --- times --- */

double output_age(const char *time)
{
	uint64_t then_us;

	if (!k8s_time_parse(time, &then_us))
		return -1;
	return (double)base_usec_since(base_clock_us(CLOCK_REALTIME), then_us) /
	       (double)BASE_USEC_PER_SEC;
}

const char *output_since(const char *time, char text[static 16])
{
	double age = output_age(time);
	unsigned seconds = (unsigned)age, minutes = seconds / 60, hours = minutes / 60;
	unsigned days = hours / 24;

	*text = '\0';
	if (age < 0)
		return text;
	if (seconds < 120)
		snprintf(text, 16, "%us", seconds);
	else if (minutes < 10 && seconds % 60)
		snprintf(text, 16, "%um%us", minutes, seconds % 60);
	else if (minutes < 180)
		snprintf(text, 16, "%um", minutes);
	else if (hours < 8 && minutes % 60)
		snprintf(text, 16, "%uh%um", hours, minutes % 60);
	else if (hours < 48)
		snprintf(text, 16, "%uh", hours);
	else if (days < 8 && hours % 24)
		snprintf(text, 16, "%ud%uh", days, hours % 24);
	else
		snprintf(text, 16, "%ud", days);
	return text;
}

/* --- objects --- */

/* Would a YAML reader take the bare text for something else than this text? */
static bool needs_quotes(const char *text)
{
	static const char *const words[] = { "true", "false", "null", "yes", "no", "on", "off",
					     "y",    "n",     "~",    "nan", "inf" };
	size_t length = strlen(text);
	char *end;

	if (length == 0 || isspace((unsigned char)text[0]) ||
	    isspace((unsigned char)text[length - 1]) || strchr("!&*?|>%@`\"'#,[]{}:-=.+", text[0]) ||
	    strstr(text, ": ") || strstr(text, " #") || text[length - 1] == ':')
		return true;
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return true;
	for (size_t i = 0; i < BASE_COUNT_OF(words); i++)
		if (strcasecmp(words[i], text) == 0)
			return true;
	strtod(text, &end);
	/* Numbers, and what looks like dates, base 60 or 0x, 0o: digits and their company only. */
	return *end == '\0' || (isdigit((unsigned char)text[0]) &&
				strspn(text, "0123456789abcdefABCDEFxo_:-T.Z+") == length);
}

static void put_text(const char *text)
{
	cJSON item = { .type = cJSON_String, .valuestring = (char *)text };
	char *quoted;

	if (!needs_quotes(text)) {
		fputs(text, stdout);
		return;
	}
	quoted = cJSON_PrintUnformatted(&item);
	fputs(quoted ? quoted : "\"\"", stdout);
	free(quoted);
}

static void put_scalar(const cJSON *item)
{
	char *text;

	if (cJSON_IsString(item)) {
		put_text(item->valuestring);
		return;
	}
	text = cJSON_PrintUnformatted(item); /* also [] and {} */
	fputs(text ? text : "null", stdout);
	free(text);
}

static bool is_tree(const cJSON *item)
{
	return (cJSON_IsObject(item) || cJSON_IsArray(item)) && item->child;
}

/* `first`: the line was begun already, by "- ". */
static void put_yaml(const cJSON *tree, int indent, bool first)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, tree) {
		if (!first)
			printf("%*s", indent, "");
		first = false;
		if (cJSON_IsArray(tree)) {
			fputs("- ", stdout);
			if (is_tree(item)) {
				put_yaml(item, indent + 2, true);
				continue;
			}
		} else {
			put_text(item->string);
			fputs(is_tree(item) ? ":\n" : ": ", stdout);
			if (is_tree(item)) {
				put_yaml(item, cJSON_IsArray(item) ? indent : indent + 2, false);
				continue;
			}
		}
		put_scalar(item);
		putchar('\n');
	}
}

/* As kubectl indents it. */
static void put_json(const cJSON *tree, int indent)
{
	const cJSON *item;
	bool object = cJSON_IsObject(tree);

	if (!is_tree(tree)) {
		char *text = cJSON_PrintUnformatted(tree);

		fputs(text ? text : "null", stdout);
		free(text);
		return;
	}
	fputs(object ? "{\n" : "[\n", stdout);
	cJSON_ArrayForEach(item, tree) {
		printf("%*s", indent + 4, "");
		if (object) {
			cJSON key = { .type = cJSON_String, .valuestring = item->string };
			char *text = cJSON_PrintUnformatted(&key);

			printf("%s: ", text ? text : "\"\"");
			free(text);
		}
		put_json(item, indent + 4);
		puts(item->next ? "," : "");
	}
	printf("%*s%c", indent, "", object ? '}' : ']');
}

void output_tree(enum output output, const cJSON *tree)
{
	if (output == OUTPUT_YAML) {
		put_yaml(tree, 0, false);
		return;
	}
	put_json(tree, 0);
	putchar('\n');
}

void output_objects(enum output output, cJSON *items, bool single, const char *kind,
		    const char *resource)
{
	cJSON *item, *list;

	cJSON_ArrayForEach(item, items) {
		if (output == OUTPUT_NAME)
			printf("%s/%s\n", resource, k8s_object_text(item, "metadata/name"));
		cJSON_DeleteItemFromObject(cJSON_GetObjectItem(item, "metadata"), "managedFields");
		if (!cJSON_GetObjectItemCaseSensitive(item, "kind")) {
			cJSON_AddStringToObject(item, "kind", kind);
			cJSON_AddStringToObject(item, "apiVersion", "vipd.dev/v1alpha1");
		}
	}
	if (output == OUTPUT_NAME) {
		cJSON_Delete(items);
		return;
	}
	if (single && cJSON_GetArraySize(items) == 1) {
		output_tree(output, items->child);
		cJSON_Delete(items);
		return;
	}
	list = cJSON_CreateObject();
	cJSON_AddStringToObject(list, "apiVersion", "v1");
	cJSON_AddStringToObject(list, "kind", "List");
	cJSON_AddItemToObject(list, "items", items);
	output_tree(output, list);
	cJSON_Delete(list);
}
