#include "k8s/yaml.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#define DEPTH_MAX 64

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

static int next(struct reader *reader, yaml_event_t *event)
{
	if (yaml_parser_parse(&reader->parser, event))
		return 0;
	if (reader->parser.error == YAML_MEMORY_ERROR)
		return base_error_set(reader->error, -ENOMEM, "%s: out of memory", reader->file);
	return base_error_set(reader->error, -EINVAL, "%s:%zu: no valid YAML: %s%s%s", reader->file,
			      reader->parser.problem_mark.line + 1,
			      reader->parser.problem ? reader->parser.problem : "unreadable",
			      reader->parser.context ? ", " : "",
			      reader->parser.context ? reader->parser.context : "");
}

static bool is_number(const char *text)
{
	char *end;

	if (!(*text == '-' || *text == '+' || *text == '.' || (*text >= '0' && *text <= '9')) ||
	    text[strspn(text, "+-.0123456789eE")] != '\0')
		return false;
	strtod(text, &end);
	return *end == '\0' && end != text;
}

static cJSON *scalar(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;

	if (strlen(text) != event->data.scalar.length)
		return NULL; /* an embedded NUL */
	if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return cJSON_CreateString(text);
	if (strcmp(text, "true") == 0 || strcmp(text, "True") == 0)
		return cJSON_CreateTrue();
	if (strcmp(text, "false") == 0 || strcmp(text, "False") == 0)
		return cJSON_CreateFalse();
	if (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)
		return cJSON_CreateNull();
	if (is_number(text))
		return cJSON_CreateNumber(strtod(text, NULL));
	return cJSON_CreateString(text);
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
		cJSON_AddItemToArray(array, item);
	}
}

static int read_mapping(struct reader *reader, unsigned depth, cJSON *object)
{
	for (;;) {
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
		if (key.type != YAML_SCALAR_EVENT || key.data.scalar.length >= sizeof name) {
			r = fail(reader, &key.start_mark, "a key must be a short plain word");
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
		cJSON_AddItemToObject(object, name, item);
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
	} else if (event->type == YAML_SCALAR_EVENT) {
		item = scalar(event);
		if (!item)
			r = fail(reader, &mark, "text with a NUL character");
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		item = cJSON_CreateArray();
		r = read_sequence(reader, depth, item);
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		item = cJSON_CreateObject();
		r = read_mapping(reader, depth, item);
	} else {
		r = fail(reader, &mark, "aliases (*name) are not supported: write the value out");
	}
	yaml_event_delete(event);
	if (r < 0) {
		cJSON_Delete(item);
		return r;
	}
	item->valueint = (int)mark.line + 1;
	*result = item;
	return 0;
}

static int deliver(cJSON *document, int (*callback)(void *userdata, cJSON *document),
		   void *userdata)
{
	cJSON *items = cJSON_GetObjectItemCaseSensitive(document, "items"), *item;
	const cJSON *kind = cJSON_GetObjectItemCaseSensitive(document, "kind");
	int r = 0;

	if (!cJSON_IsArray(items) || !cJSON_IsString(kind) ||
	    strcmp(kind->valuestring + (strlen(kind->valuestring) >= 4
						? strlen(kind->valuestring) - 4
						: 0),
		   "List") != 0)
		return callback(userdata, document);
	while (r >= 0 && (item = cJSON_DetachItemFromArray(items, 0)))
		r = callback(userdata, item);
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
			return fail(reader, &mark, "not an object: expected apiVersion, kind, ...");
		}
		r = deliver(document, callback, userdata);
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
