#include "k8s/object.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/time.h"

const cJSON *k8s_object_get(const cJSON *object, const char *path)
{
	char part[128];

	while (object && *path) {
		size_t length = strcspn(path, "/");

		snprintf(part, sizeof part, "%.*s", (int)length, path);
		object = cJSON_GetObjectItemCaseSensitive(object, part);
		path += length + (path[length] == '/');
	}
	return object && cJSON_IsNull(object) ? NULL : object;
}

const char *k8s_object_text(const cJSON *object, const char *path)
{
	object = k8s_object_get(object, path);
	return cJSON_IsString(object) ? object->valuestring : "";
}

bool k8s_object_bool(const cJSON *object, const char *path, bool otherwise)
{
	object = k8s_object_get(object, path);
	return cJSON_IsBool(object) ? cJSON_IsTrue(object) : otherwise;
}

int64_t k8s_object_number(const cJSON *object, const char *path, int64_t low, int64_t high,
			  int64_t otherwise)
{
	object = k8s_object_get(object, path);
	if (!cJSON_IsNumber(object) || object->valuedouble < (double)low ||
	    object->valuedouble > (double)high ||
	    object->valuedouble != (double)(int64_t)object->valuedouble)
		return otherwise;
	return (int64_t)object->valuedouble;
}

static const char *keyed(const cJSON *object, const char *list, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(k8s_object_get(object, list), key);

	return cJSON_IsString(item) ? item->valuestring : "";
}

const char *k8s_object_label(const cJSON *object, const char *key)
{
	return keyed(object, "metadata/labels", key);
}

const char *k8s_object_annotation(const cJSON *object, const char *key)
{
	return keyed(object, "metadata/annotations", key);
}

static size_t digits(const char **text)
{
	size_t length;

	while (**text == '0' && (*text)[1])
		(*text)++;
	length = strspn(*text, "0123456789");
	return (*text)[length] ? 0 : length;
}

int k8s_version_compare(const char *a, const char *b)
{
	size_t left = digits(&a), right = digits(&b);

	if (left != right)
		return left < right ? -1 : 1;
	return left ? strcmp(a, b) : 0;
}

const char *k8s_time_format(char text[static K8S_TIME_SIZE], uint64_t wall_us, bool micro)
{
	time_t seconds = (time_t)(wall_us / BASE_USEC_PER_SEC);
	struct tm utc;
	size_t at;

	gmtime_r(&seconds, &utc);
	at = strftime(text, K8S_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
	if (micro)
		snprintf(text + at, K8S_TIME_SIZE - at, ".%06uZ",
			 (unsigned)(wall_us % BASE_USEC_PER_SEC));
	else
		snprintf(text + at, K8S_TIME_SIZE - at, "Z");
	return text;
}

/* ".123456" and more or fewer digits; answers where it ends. */
static const char *fraction(const char *text, uint64_t *micros)
{
	uint64_t scale = 100000;

	*micros = 0;
	if (*text != '.')
		return text;
	for (text++; *text >= '0' && *text <= '9'; text++, scale /= 10)
		*micros += (uint64_t)(*text - '0') * scale;
	return text;
}

bool k8s_time_parse(const char *text, uint64_t *wall_us)
{
	struct tm utc = { 0 };
	int end = 0, hours, minutes, offset = 0;
	uint64_t micros;
	time_t seconds;
	char sign;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &utc.tm_year, &utc.tm_mon, &utc.tm_mday,
		   &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &end) != 6 ||
	    utc.tm_year < 1970 || utc.tm_year > 9999 || utc.tm_mon < 1 || utc.tm_mon > 12)
		return false;
	text = fraction(text + end, &micros);
	if (sscanf(text, "%c%2d:%2d%n", &sign, &hours, &minutes, &end) == 3 && text[end] == '\0' &&
	    (sign == '+' || sign == '-'))
		offset = (sign == '-' ? -60 : 60) * (hours * 60 + minutes);
	else if (strcmp(text, "Z") != 0)
		return false;
	utc.tm_year -= 1900;
	utc.tm_mon--;
	seconds = timegm(&utc) - offset;
	if (seconds < 0)
		return false;
	*wall_us = (uint64_t)seconds * BASE_USEC_PER_SEC + micros;
	return true;
}

cJSON *k8s_object_new(const char *api, const char *kind, const char *namespace, const char *name)
{
	cJSON *object = cJSON_CreateObject(), *metadata;

	cJSON_AddStringToObject(object, "apiVersion", api);
	cJSON_AddStringToObject(object, "kind", kind);
	metadata = cJSON_AddObjectToObject(object, "metadata");
	cJSON_AddStringToObject(metadata, "name", name);
	if (namespace)
		cJSON_AddStringToObject(metadata, "namespace", namespace);
	return object;
}

static bool expression_matches(const cJSON *expression, const cJSON *labels)
{
	const char *verb = k8s_object_text(expression, "operator");
	const cJSON *label =
		cJSON_GetObjectItemCaseSensitive(labels, k8s_object_text(expression, "key"));
	const cJSON *value;
	bool listed = false;

	if (!cJSON_IsString(label))
		return strcmp(verb, "NotIn") == 0 || strcmp(verb, "DoesNotExist") == 0;
	cJSON_ArrayForEach(value, k8s_object_get(expression, "values"))
		listed |= cJSON_IsString(value) &&
			  strcmp(value->valuestring, label->valuestring) == 0;
	if (strcmp(verb, "In") == 0)
		return listed;
	if (strcmp(verb, "NotIn") == 0)
		return !listed;
	return strcmp(verb, "Exists") == 0; /* an operator of the future selects nothing */
}

bool k8s_selector_matches(const cJSON *selector, const cJSON *labels)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(selector, "matchLabels")) {
		const cJSON *label = cJSON_GetObjectItemCaseSensitive(labels, item->string);

		if (!cJSON_IsString(item) || !cJSON_IsString(label) ||
		    strcmp(item->valuestring, label->valuestring) != 0)
			return false;
	}
	cJSON_ArrayForEach(item, k8s_object_get(selector, "matchExpressions")) {
		if (!expression_matches(item, labels))
			return false;
	}
	return true;
}

const char *k8s_escape(const char *value, char *text, size_t size)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
	size_t at = 0;

	for (; *value && at + 4 <= size; value++) {
		if (strchr(plain, *value))
			text[at++] = *value;
		else
			at += (size_t)snprintf(text + at, size - at, "%%%02X",
					       (unsigned char)*value);
	}
	text[at] = '\0';
	return text;
}

char *k8s_object_print(const cJSON *tree)
{
	char *text = tree ? cJSON_PrintUnformatted(tree) : NULL;
	char *copy = text ? strdup(text) : NULL;

	cJSON_free(text);
	return copy;
}
