#include "k8s/list.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct scan {
	const char *at, *end;
};

static char next_sign(struct scan *scan)
{
	while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\t' ||
					*scan->at == '\n' || *scan->at == '\r'))
		scan->at++;
	return scan->at < scan->end ? *scan->at : '\0';
}

static cJSON *next_value(struct scan *scan)
{
	const char *end = NULL;
	cJSON *value;

	next_sign(scan);
	value = cJSON_ParseWithLengthOpts(scan->at, (size_t)(scan->end - scan->at), &end, false);
	if (value)
		scan->at = end;
	return value;
}

static void copy(const cJSON *metadata, const char *name, char *text, size_t size)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(metadata, name);

	if (cJSON_IsString(item) && strlen(item->valuestring) < size)
		strcpy(text, item->valuestring);
}

static int take_items(struct scan *scan, void (*item)(void *userdata, const cJSON *object),
		      void *userdata, struct k8s_list *list, struct base_error *error)
{
	char sign = next_sign(scan);

	if (sign == 'n') { /* "items": null is an empty list */
		cJSON_Delete(next_value(scan));
		return 0;
	}
	if (sign != '[')
		return base_error_set(error, -EBADMSG, "items is no list");
	scan->at++;
	if (next_sign(scan) == ']') {
		scan->at++;
		return 0;
	}
	for (;;) {
		cJSON *object = next_value(scan);

		if (!object)
			return base_error_set(error, -EBADMSG, "item %zu is no JSON", list->count);
		list->count++;
		item(userdata, object);
		cJSON_Delete(object);
		sign = next_sign(scan);
		scan->at++;
		if (sign == ']')
			return 0;
		if (sign != ',')
			return base_error_set(error, -EBADMSG, "the list ends after item %zu",
					      list->count - 1);
	}
}

static int take_field(struct scan *scan, void (*item)(void *userdata, const cJSON *object),
		      void *userdata, struct k8s_list *list, struct base_error *error)
{
	cJSON *name = next_value(scan), *value;
	int r = 0;

	if (!cJSON_IsString(name) || next_sign(scan) != ':') {
		cJSON_Delete(name);
		return base_error_set(error, -EBADMSG, "the answer is cut short");
	}
	scan->at++;
	if (strcmp(name->valuestring, "items") == 0) {
		r = take_items(scan, item, userdata, list, error);
	} else {
		value = next_value(scan);
		if (!value)
			r = base_error_set(error, -EBADMSG, "%.32s is no JSON", name->valuestring);
		else if (strcmp(name->valuestring, "metadata") == 0) {
			copy(value, "resourceVersion", list->version, sizeof list->version);
			copy(value, "continue", list->more, sizeof list->more);
		}
		cJSON_Delete(value);
	}
	cJSON_Delete(name);
	return r;
}

int k8s_list_parse(const char *text, size_t size,
		   void (*item)(void *userdata, const cJSON *object), void *userdata,
		   struct k8s_list *list, struct base_error *error)
{
	struct scan scan = { text, text + size };
	char sign;

	memset(list, 0, sizeof *list);
	if (next_sign(&scan) != '{')
		return base_error_set(error, -EBADMSG, "the answer is no JSON object");
	do {
		int r;

		scan.at++;
		if (next_sign(&scan) == '}')
			return 0;
		r = take_field(&scan, item, userdata, list, error);
		if (r < 0)
			return r;
		sign = next_sign(&scan);
	} while (sign == ',');
	return sign == '}' ? 0 : base_error_set(error, -EBADMSG, "the answer is cut short");
}
