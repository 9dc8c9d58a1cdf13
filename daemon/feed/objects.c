#include "daemon/feed/set.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static const struct {
	const char *kind, *api;
} kinds[KIND_COUNT] = {
	[KIND_NODE] = { "Node", "v1" },
	[KIND_POOL] = { "AddressPool", "vipd.dev/v1alpha1" },
	[KIND_SERVICE] = { "Service", "v1" },
	[KIND_VIRTUAL_IP] = { "VirtualIP", "vipd.dev/v1alpha1" },
	[KIND_SLICE] = { "EndpointSlice", "discovery.k8s.io/v1" },
	[KIND_SPEAKER] = { "Speaker", "vipd.dev/v1alpha1" },
	[KIND_VM] = { "VirtualMachineInstance", "kubevirt.io/v1" },
};

enum object_kind object_kind_of(const char *kind)
{
	int i = 0;

	while (i < KIND_COUNT && strcmp(kinds[i].kind, kind) != 0)
		i++;
	return (enum object_kind)i;
}

const char *object_kind_name(enum object_kind kind)
{
	return kinds[kind].kind;
}

const char *object_kind_api(enum object_kind kind)
{
	return kinds[kind].api;
}

/* --- units --- */

static struct unit **unit_slot(struct wish_set *set, enum unit_kind kind, const char *name)
{
	struct unit **slot = &set->units[(base_hash(name, strlen(name)) + kind) % SET_BUCKETS];

	while (*slot && ((*slot)->kind != kind || strcmp((*slot)->name, name) != 0))
		slot = &(*slot)->next;
	return slot;
}

struct unit *unit_find(struct wish_set *set, enum unit_kind kind, const char *name)
{
	return *unit_slot(set, kind, name);
}

void unit_set_due(struct wish_set *set, struct unit *unit)
{
	if (unit->due)
		return;
	unit->due = true;
	unit->next_due = set->due[unit->kind];
	set->due[unit->kind] = unit;
}

void unit_forget(struct wish_set *set, struct unit *unit)
{
	struct unit **slot;

	if (unit->members || unit->told || unit->due)
		return;
	slot = unit_slot(set, unit->kind, unit->name);
	*slot = unit->next;
	free(unit->remark);
	free(unit);
}

static int join(struct wish_set *set, struct object *object, enum unit_kind kind, const char *name)
{
	struct unit **slot = unit_slot(set, kind, name), *unit = *slot;
	struct link *link = calloc(1, sizeof *link);

	if (!link)
		return -ENOMEM;
	if (!unit) {
		unit = calloc(1, sizeof *unit + strlen(name) + 1);
		if (!unit) {
			free(link);
			return -ENOMEM;
		}
		unit->kind = kind;
		strcpy(unit->name, name);
		*slot = unit;
	}
	link->object = object;
	link->unit = unit;
	link->next_of_object = object->links;
	object->links = link;
	link->next_of_unit = unit->members;
	unit->members = link;
	unit_set_due(set, unit);
	return 0;
}

static void leave_all(struct wish_set *set, struct object *object)
{
	while (object->links) {
		struct link *link = object->links, **slot = &link->unit->members;

		object->links = link->next_of_object;
		while (*slot != link)
			slot = &(*slot)->next_of_unit;
		*slot = link->next_of_unit;
		unit_set_due(set, link->unit);
		free(link);
	}
}

static int join_service(struct wish_set *set, struct object *object, const char *namespace,
			const char *name)
{
	char full[512];

	snprintf(full, sizeof full, "%s/%s", *namespace ? namespace : "default", name);
	return join(set, object, UNIT_SERVICE, full);
}

static int join_virtual_ip(struct wish_set *set, struct object *object, const cJSON *tree)
{
	const char *router = tree_text(tree, "spec/virtualRouter");
	const cJSON *service;
	int r = 0;

	if (tree_get(tree, "metadata/deletionTimestamp"))
		return 0;
	if (set->cluster)
		r = join(set, object, UNIT_ROUTER, *router ? router : object->name);
	cJSON_ArrayForEach(service, tree_get(tree, "spec/services"))
		if (r >= 0)
			r = join_service(set, object, tree_text(service, "namespace"),
					 tree_text(service, "name"));
	return r;
}

/* A Service that asks for an attached network is looked at again with every VM that may be on it. */
static int join_namespace(struct wish_set *set, struct object *object)
{
	set->wants_vms = true;
	return join(set, object, UNIT_NAMESPACE, object->namespace);
}

static int join_units(struct wish_set *set, struct object *object, const cJSON *tree)
{
	const cJSON *label;
	int r;

	switch (object->kind) {
	case KIND_NODE:
	case KIND_SPEAKER:
		return join(set, object, UNIT_NODE, object->name);
	case KIND_SERVICE:
		r = join_service(set, object, object->namespace, object->name);
		return r >= 0 && set->cluster && attached_is_asked(tree) ? join_namespace(set, object)
									 : r;
	case KIND_VM:
		return join(set, object, UNIT_NAMESPACE, object->namespace);
	case KIND_VIRTUAL_IP:
		return join_virtual_ip(set, object, tree);
	case KIND_SLICE:
		label = cJSON_GetObjectItemCaseSensitive(tree_get(tree, "metadata/labels"),
							 "kubernetes.io/service-name");
		return cJSON_IsString(label)
			       ? join_service(set, object, object->namespace, label->valuestring)
			       : 0;
	case KIND_POOL:
	case KIND_COUNT:
		break;
	}
	return 0;
}

/* --- objects --- */

static struct object **object_slot(struct wish_set *set, enum object_kind kind,
				   const char *namespace, const char *name)
{
	uint64_t hash = base_hash(namespace, strlen(namespace)) * 31 + base_hash(name, strlen(name));
	struct object **slot = &set->buckets[(hash + kind) % SET_BUCKETS];

	while (*slot && ((*slot)->kind != kind || strcmp((*slot)->namespace, namespace) != 0 ||
			 strcmp((*slot)->name, name) != 0))
		slot = &(*slot)->next;
	return slot;
}

struct object *object_find(struct wish_set *set, enum object_kind kind, const char *namespace,
			   const char *name)
{
	return *object_slot(set, kind, namespace, name);
}

static struct object *object_new(struct wish_set *set, enum object_kind kind,
				 const char *namespace, const char *name)
{
	struct object **slot = object_slot(set, kind, namespace, name);
	size_t size = strlen(namespace) + 1;
	struct object *object = calloc(1, sizeof *object + size + strlen(name) + 1);

	if (!object)
		return NULL;
	object->kind = kind;
	strcpy(object->namespace, namespace);
	object->name = strcpy(object->namespace + size, name);
	object->before = set->last;
	*(set->last ? &set->last->after : &set->first) = object;
	set->last = object;
	*slot = object;
	return object;
}

static void close_one(struct wish_set *set, struct object *object)
{
	struct object **slot = &set->opened;

	while (*slot && *slot != object)
		slot = &(*slot)->next_opened;
	if (*slot)
		*slot = object->next_opened;
	cJSON_Delete(object->tree);
	object->tree = NULL;
}

/* The object of this name, new or not, as a member of the units that `tree` says. */
static struct object *place(struct wish_set *set, enum object_kind kind, const cJSON *tree)
{
	const char *namespace = tree_text(tree, "metadata/namespace");
	const char *name = tree_text(tree, "metadata/name");
	struct object *object = object_find(set, kind, namespace, name);

	if (!object)
		object = object_new(set, kind, namespace, name);
	if (!object)
		return NULL;
	leave_all(set, object);
	close_one(set, object);
	if (join_units(set, object, tree) < 0) {
		object_drop(set, object);
		return NULL;
	}
	return object;
}

struct object *object_put(struct wish_set *set, enum object_kind kind, cJSON *tree)
{
	struct object *object = place(set, kind, tree);

	if (object)
		object->tree = tree;
	else
		cJSON_Delete(tree);
	return object;
}

void object_drop(struct wish_set *set, struct object *object)
{
	struct object **slot = object_slot(set, object->kind, object->namespace, object->name);

	leave_all(set, object);
	close_one(set, object);
	*slot = object->next;
	*(object->before ? &object->before->after : &set->first) = object->after;
	*(object->after ? &object->after->before : &set->last) = object->before;
	free(object->file);
	free(object->packed);
	free(object);
}

const cJSON *object_tree(struct wish_set *set, const struct object *object)
{
	struct object *writable = (struct object *)object;

	if (!object->tree && object->packed) {
		writable->tree = k8s_unpack_tree(object->packed);
		writable->next_opened = set->opened;
		set->opened = writable;
	}
	return object->tree;
}

void objects_close(struct wish_set *set)
{
	while (set->cluster && set->opened) {
		struct object *object = set->opened;

		set->opened = object->next_opened;
		cJSON_Delete(object->tree);
		object->tree = NULL;
	}
}

/* --- the interface --- */

struct wish_set *wish_set_new(bool cluster)
{
	struct wish_set *set = calloc(1, sizeof *set);

	if (set)
		set->cluster = cluster;
	return set;
}

void wish_set_free(struct wish_set *set)
{
	if (!set)
		return;
	while (set->first)
		object_drop(set, set->first);
	for (size_t i = 0; i < SET_BUCKETS; i++) {
		while (set->told[i]) {
			struct told *next = set->told[i]->next_key;

			free(set->told[i]);
			set->told[i] = next;
		}
		while (set->units[i]) {
			struct unit *next = set->units[i]->next;

			free(set->units[i]->remark);
			free(set->units[i]);
			set->units[i] = next;
		}
	}
	free(set);
}

int wish_set_put(struct wish_set *set, const char *kind, const cJSON *tree)
{
	enum object_kind number = object_kind_of(kind);
	struct object *object;
	struct k8s_packed *packed;
	int r;

	assert(set->cluster && number < KIND_COUNT);
	r = lean_pack(number, tree, &packed);
	if (r < 0)
		return r;
	object = object_find(set, number, tree_text(tree, "metadata/namespace"),
			     tree_text(tree, "metadata/name"));
	if (r == 0) {
		if (object)
			object_drop(set, object); /* it is of no interest any more */
		return 0;
	}
	if (object && k8s_packed_equal(object->packed, packed)) {
		free(packed);
		return 0;
	}
	object = place(set, number, tree);
	if (!object) {
		free(packed);
		return -ENOMEM;
	}
	free(object->packed);
	object->packed = packed;
	return 1;
}

void wish_set_drop(struct wish_set *set, const char *kind, const char *namespace,
		   const char *name)
{
	struct object *object = object_find(set, object_kind_of(kind), namespace, name);

	if (object)
		object_drop(set, object);
}
