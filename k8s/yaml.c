#include "k8s/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#define DEPTH_MAX 64
#define KEYS_MAX  10000 /* each is compared with those before it */

struct reader {
	yaml_parser_t parser;
	const char *file;
	struct base_error *error;
};

static int fail(struct reader *reader, const yaml_mark_t *mark, const char *what)
{
	return base_error_set(reader->error, -EINVAL, "%s:%zu: %s", reader->file, mark->line + 1,
			      what);
}

static int out_of_memory(struct reader *reader, cJSON *item)
{
	cJSON_Delete(item);
	return base_error_set(reader->error, -ENOMEM, "%s: out of memory", reader->file);
}

static int next(struct reader *reader, yaml_event_t *event)
{
	if (yaml_parser_parse(&reader->parser, event))
		return 0;
	if (reader->parser.error == YAML_MEMORY_ERROR)
		return out_of_memory(reader, NULL);
	return base_error_set(reader->error, -EINVAL, "%s:%zu: no valid YAML: %s%s%s", reader->file,
			      reader->parser.problem_mark.line + 1,
			      reader->parser.problem ? reader->parser.problem : "unreadable",
			      reader->parser.context ? ", " : "",
			      reader->parser.context ? reader->parser.context : "");
}

/* 12, -1, 0x1f, 0b11, 0o17, 017, 1_000: what Go's YAML takes for an integer. */
static bool is_integer(const char *text, double *value)
{
	char digits[68];
	size_t count = 0;
	bool negative = *text == '-';
	int base = 10;
	char *end;

	text += *text == '-' || *text == '+';
	if (*text < '0' || *text > '9')
		return false;
	for (; *text && count < sizeof digits - 1; text++)
		if (*text != '_')
			digits[count++] = *text;
	digits[count] = '\0';
	text = digits;
	if (digits[0] == '0' && digits[1]) {
		base = digits[1] == 'x' ? 16 : digits[1] == 'b' ? 2 : 8;
		text += digits[1] == 'x' || digits[1] == 'b' || digits[1] == 'o' ? 2 : 1;
	}
	if (!isxdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = (double)strtoull(text, &end, base);
	if (negative)
		*value = -*value;
	return *end == '\0' && errno == 0;
}

static bool is_real(const char *text, double *value)
{
	char *end;

	if (!(*text == '-' || *text == '+' || *text == '.' || (*text >= '0' && *text <= '9')) ||
	    text[strspn(text, "+-.0123456789eE")] != '\0')
		return false;
	*value = strtod(text, &end);
	return *end == '\0' && end != text && isfinite(*value);
}

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

static cJSON *plain_scalar(const char *text)
{
	static const char *const yes[] = { "true", "True", "TRUE", "yes", "Yes", "YES", "on",
					   "On",   "ON",   "y",	   "Y",	  NULL };
	static const char *const no[] = { "false", "False", "FALSE", "no", "No", "NO", "off",
					  "Off",   "OFF",   "n",     "N",  NULL };
	static const char *const none[] = { "", "~", "null", "Null", "NULL", NULL };
	double number;

	if (is_one_of(text, yes))
		return cJSON_CreateTrue();
	if (is_one_of(text, no))
		return cJSON_CreateFalse();
	if (is_one_of(text, none))
		return cJSON_CreateNull();
	if (is_integer(text, &number) || is_real(text, &number))
		return cJSON_CreateNumber(number);
	return cJSON_CreateString(text);
}

static cJSON *scalar(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	const char *tag = (const char *)event->data.scalar.tag;

	if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE ||
	    (tag && strcmp(tag, YAML_STR_TAG) == 0))
		return cJSON_CreateString(text);
	return plain_scalar(text);
}

static bool has_nul(const yaml_event_t *event)
{
	return strlen((const char *)event->data.scalar.value) != event->data.scalar.length;
}

static int read_node(struct reader *reader, yaml_event_t *first, unsigned depth, cJSON **result);

static int read_sequence(struct reader *reader, unsigned depth, cJSON *array)
{
	for (;;) {
		yaml_event_t event;
		cJSON *item = NULL;
		int r = next(reader, &event);

		if (r < 0)
			return r;
		if (event.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&event);
			return 0;
		}
		r = read_node(reader, &event, depth + 1, &item);
		if (r < 0)
			return r;
		if (!cJSON_AddItemToArray(array, item))
			return out_of_memory(reader, item);
	}
}

static int read_mapping(struct reader *reader, unsigned depth, cJSON *object)
{
	for (unsigned count = 0;; count++) {
		yaml_event_t key, value;
		cJSON *item = NULL;
		char name[256];
		int r = next(reader, &key);

		if (r < 0)
			return r;
		if (key.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&key);
			return 0;
		}
		if (key.type != YAML_SCALAR_EVENT || key.data.scalar.length >= sizeof name ||
		    has_nul(&key) || count == KEYS_MAX) {
			r = fail(reader, &key.start_mark,
				 count == KEYS_MAX ? "more than 10000 keys in one object"
						   : "a key must be a word of less than 256 bytes");
			yaml_event_delete(&key);
			return r;
		}
		strcpy(name, (const char *)key.data.scalar.value);
		if (cJSON_GetObjectItemCaseSensitive(object, name)) {
			char what[320];

			snprintf(what, sizeof what, "%s stands here a second time", name);
			r = fail(reader, &key.start_mark, what);
			yaml_event_delete(&key);
			return r;
		}
		yaml_event_delete(&key);
		r = next(reader, &value);
		if (r == 0)
			r = read_node(reader, &value, depth + 1, &item);
		if (r < 0)
			return r;
		if (!cJSON_AddItemToObject(object, name, item))
			return out_of_memory(reader, item);
	}
}

/* Takes the event. On success `*result` is the caller's. */
static int read_node(struct reader *reader, yaml_event_t *event, unsigned depth, cJSON **result)
{
	yaml_mark_t mark = event->start_mark;
	cJSON *item = NULL;
	int r = 0;

	if (depth > DEPTH_MAX) {
		r = fail(reader, &mark, "nested too deeply");
	} else if (event->type == YAML_SCALAR_EVENT && has_nul(event)) {
		r = fail(reader, &mark, "text with a NUL character");
	} else if (event->type == YAML_SCALAR_EVENT) {
		item = scalar(event);
		r = item ? 0 : out_of_memory(reader, NULL);
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		item = cJSON_CreateArray();
		r = item ? read_sequence(reader, depth, item) : out_of_memory(reader, NULL);
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		item = cJSON_CreateObject();
		r = item ? read_mapping(reader, depth, item) : out_of_memory(reader, NULL);
	} else {
		r = fail(reader, &mark, "aliases (*name) are not supported: write the value out");
	}
	yaml_event_delete(event);
	if (r < 0 || !item) {
		cJSON_Delete(item);
		return r;
	}
	item->valueint = (int)mark.line + 1;
	*result = item;
	return 0;
}

static int not_an_object(struct reader *reader, size_t line)
{
	return base_error_set(reader->error, -EINVAL,
			      "%s:%zu: not an object: expected apiVersion, kind, ...", reader->file,
			      line);
}

static bool is_list(const cJSON *document)
{
	const cJSON *kind = cJSON_GetObjectItemCaseSensitive(document, "kind");
	size_t length = cJSON_IsString(kind) ? strlen(kind->valuestring) : 0;

	return length >= 4 && strcmp(kind->valuestring + length - 4, "List") == 0 &&
	       cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(document, "items"));
}

/* Takes the document. */
static int deliver(struct reader *reader, cJSON *document,
		   int (*callback)(void *userdata, cJSON *document), void *userdata)
{
	cJSON *items, *item;
	int r = 0;

	if (!is_list(document))
		return callback(userdata, document);
	items = cJSON_GetObjectItemCaseSensitive(document, "items");
	while (r >= 0 && (item = cJSON_DetachItemFromArray(items, 0))) {
		if (cJSON_IsObject(item)) {
			r = callback(userdata, item);
		} else {
			r = not_an_object(reader, (size_t)item->valueint);
			cJSON_Delete(item);
		}
	}
	cJSON_Delete(document);
	return r;
}

static int read_documents(struct reader *reader,
			  int (*callback)(void *userdata, cJSON *document), void *userdata)
{
	for (;;) {
		yaml_event_t event;
		cJSON *document = NULL;
		yaml_mark_t mark;
		int r = next(reader, &event);

		if (r < 0)
			return r;
		if (event.type == YAML_STREAM_END_EVENT) {
			yaml_event_delete(&event);
			return 0;
		}
		if (event.type == YAML_STREAM_START_EVENT ||
		    event.type == YAML_DOCUMENT_START_EVENT ||
		    event.type == YAML_DOCUMENT_END_EVENT) {
			yaml_event_delete(&event);
			continue;
		}
		mark = event.start_mark;
		r = read_node(reader, &event, 0, &document);
		if (r < 0)
			return r;
		if (cJSON_IsNull(document)) { /* "---" with nothing in it */
			cJSON_Delete(document);
			continue;
		}
		if (!cJSON_IsObject(document)) {
			cJSON_Delete(document);
			return not_an_object(reader, mark.line + 1);
		}
		r = deliver(reader, document, callback, userdata);
		if (r < 0)
			return r;
	}
}

int k8s_yaml_parse(const char *text, size_t size, const char *file,
		   int (*callback)(void *userdata, cJSON *document), void *userdata,
		   struct base_error *error)
{
	struct reader reader = { .file = file, .error = error };
	int r;

	if (size > K8S_YAML_SIZE_MAX)
		return base_error_set(error, -EFBIG, "%s: larger than %u bytes", file,
				      K8S_YAML_SIZE_MAX);
	if (!yaml_parser_initialize(&reader.parser))
		return base_error_set(error, -ENOMEM, "%s: out of memory", file);
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
	r = read_documents(&reader, callback, userdata);
	yaml_parser_delete(&reader.parser);
	return r;
}
