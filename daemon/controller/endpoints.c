#include "daemon/controller/endpoints.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/object.h"

#define KEY_SIZE 512

struct backend { /* one Service's */
	struct table_entry entry;
	struct slice *first;
	char key[];
};

struct slice {
	struct table_entry entry;
	struct slice *next; /* of the same Service */
	struct backend *backend;
	char *ready, *ending; /* names of nodes, each followed by a newline; NULL: none */
	char key[];
};

static char last_changed[KEY_SIZE];

static const char *changed(const struct backend *backend)
{
	snprintf(last_changed, sizeof last_changed, "%s", backend->key);
	return last_changed;
}

static bool names(const char *list, const char *node)
{
	size_t length = strlen(node);

	for (const char *line = list; line && *line; line = strchr(line, '\n') + 1)
		if (strncmp(line, node, length) == 0 && line[length] == '\n')
			return true;
	return false;
}

static void add_name(char **list, const char *node)
{
	size_t before = *list ? strlen(*list) : 0;
	char *grown;

	if (!*node || strchr(node, '\n') || names(*list, node))
		return;
	grown = realloc(*list, before + strlen(node) + 2);
	if (!grown)
		return;
	sprintf(grown + before, "%s\n", node);
	*list = grown;
}

static void read_nodes(const cJSON *object, char **ready, char **ending)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(object, "endpoints")) {
		const char *node = k8s_object_text(item, "nodeName");
		bool is_ready = k8s_object_bool(item, "conditions/ready", true);

		if (is_ready)
			add_name(ready, node);
		else if (k8s_object_bool(item, "conditions/terminating", false) &&
			 k8s_object_bool(item, "conditions/serving", is_ready))
			add_name(ending, node);
	}
}

static struct backend *make_backend(struct endpoints *endpoints, const char *key)
{
	struct backend *backend =
		TABLE_OF(table_find(&endpoints->services, key), struct backend, entry);

	if (backend)
		return backend;
	backend = calloc(1, sizeof *backend + strlen(key) + 1);
	if (!backend)
		return NULL;
	strcpy(backend->key, key);
	if (table_add(&endpoints->services, &backend->entry, backend->key) < 0) {
		free(backend);
		return NULL;
	}
	return backend;
}

static void free_slice(struct endpoints *endpoints, struct slice *slice)
{
	struct slice **slot = &slice->backend->first;

	while (*slot != slice)
		slot = &(*slot)->next;
	*slot = slice->next;
	if (!slice->backend->first) {
		table_remove(&endpoints->services, &slice->backend->entry);
		free(slice->backend);
	}
	table_remove(&endpoints->slices, &slice->entry);
	free(slice->ready);
	free(slice->ending);
	free(slice);
}

static struct slice *make_slice(struct endpoints *endpoints, const char *key, const char *service)
{
	struct slice *slice = TABLE_OF(table_find(&endpoints->slices, key), struct slice, entry);
	struct backend *backend;

	if (slice && strcmp(slice->backend->key, service) == 0)
		return slice;
	if (slice) /* its label was changed: another Service's now */
		free_slice(endpoints, slice);
	backend = make_backend(endpoints, service);
	slice = backend ? calloc(1, sizeof *slice + strlen(key) + 1) : NULL;
	if (!slice)
		return NULL;
	strcpy(slice->key, key);
	if (table_add(&endpoints->slices, &slice->entry, slice->key) < 0) {
		free(slice);
		return NULL;
	}
	slice->backend = backend;
	slice->next = backend->first;
	backend->first = slice;
	return slice;
}

static bool same(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

const char *endpoints_put(struct endpoints *endpoints, const cJSON *object)
{
	const char *namespace = k8s_object_text(object, "metadata/namespace");
	const char *label = k8s_object_label(object, "kubernetes.io/service-name");
	char key[KEY_SIZE], service[KEY_SIZE], *ready = NULL, *ending = NULL;
	struct slice *slice;

	if (!*label)
		return NULL;
	snprintf(key, sizeof key, "%s/%s", namespace, k8s_object_text(object, "metadata/name"));
	snprintf(service, sizeof service, "%s/%s", namespace, label);
	slice = make_slice(endpoints, key, service);
	if (!slice)
		return NULL;
	read_nodes(object, &ready, &ending);
	if (same(ready, slice->ready) && same(ending, slice->ending)) {
		free(ready);
		free(ending);
		return NULL;
	}
	free(slice->ready);
	free(slice->ending);
	slice->ready = ready;
	slice->ending = ending;
	return changed(slice->backend);
}

const char *endpoints_drop(struct endpoints *endpoints, const char *namespace, const char *name)
{
	char key[KEY_SIZE];
	struct slice *slice;

	snprintf(key, sizeof key, "%s/%s", namespace, name);
	slice = TABLE_OF(table_find(&endpoints->slices, key), struct slice, entry);
	if (!slice)
		return NULL;
	changed(slice->backend);
	free_slice(endpoints, slice);
	return last_changed;
}

void endpoints_clear(struct endpoints *endpoints)
{
	struct table_entry *entry;

	while ((entry = table_any(&endpoints->slices)))
		free_slice(endpoints, TABLE_OF(entry, struct slice, entry));
	table_clear(&endpoints->slices);
	table_clear(&endpoints->services);
}

bool endpoints_on(const struct endpoints *endpoints, const char *service, const char *node)
{
	const struct backend *backend =
		TABLE_OF(table_find(&endpoints->services, service), struct backend, entry);
	bool any_ready = false, ending_here = false;

	for (const struct slice *slice = backend ? backend->first : NULL; slice;
	     slice = slice->next) {
		if (names(slice->ready, node))
			return true;
		any_ready |= slice->ready != NULL;
		ending_here |= names(slice->ending, node);
	}
	return ending_here && !any_ready;
}
