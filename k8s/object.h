#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

/*
 * Reading API objects, and the few fields every object is written with. Nothing here trusts what it
 * reads: a field of another type is a field that is not there.
 */

/* `path` like "status/loadBalancer/ingress"; "" is the item itself. NULL: missing, or null. */
const cJSON *k8s_object_get(const cJSON *object, const char *path);
const char *k8s_object_text(const cJSON *object, const char *path); /* "": missing */
bool k8s_object_bool(const cJSON *object, const char *path, bool otherwise);
/* Whole numbers within `low`..`high`; anything else counts as missing. */
int64_t k8s_object_number(const cJSON *object, const char *path, int64_t low, int64_t high,
			  int64_t otherwise);
/* Keys of these two may hold '/' and '.'; "": missing. */
const char *k8s_object_label(const cJSON *object, const char *key);
const char *k8s_object_annotation(const cJSON *object, const char *key);

/*
 * resourceVersions of one kind of object: decimal numbers of any length (KEP-5504). A text that is no
 * number is older than every number.
 */
int k8s_version_compare(const char *a, const char *b);

/* RFC 3339 in UTC. Micro: exactly six digits (MicroTime); else whole seconds (Time). */
#define K8S_TIME_SIZE 40
const char *k8s_time_format(char text[static K8S_TIME_SIZE], uint64_t wall_us, bool micro);
/* With or without a fraction; "Z" or an offset. */
bool k8s_time_parse(const char *text, uint64_t *wall_us);

/* {apiVersion, kind, metadata: {name, namespace?}}; `namespace` NULL: cluster-scoped. */
cJSON *k8s_object_new(const char *api, const char *kind, const char *namespace, const char *name);

/* Does `labels` (an object of texts, or NULL) match a LabelSelector? NULL selects everything. */
bool k8s_selector_matches(const cJSON *selector, const cJSON *labels);

/* JSON without blanks, in ordinary memory wherever trees are kept (cJSON_InitHooks()): free() it. */
char *k8s_object_print(const cJSON *tree);

/* Percent-encodes one segment of a path or one value of a query. Returns `text`. */
const char *k8s_escape(const char *value, char *text, size_t size);
