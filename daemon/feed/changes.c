#include "daemon/feed/set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/*
 * Of objects of the API server: what the engine was told is remembered by key and hash, unit by
 * unit, and only what differs is said. A unit with a fault keeps what was said of it before: a bad
 * edit must not take an address down.
 */

#define INTERVAL_MS_DEFAULT 100
#define KEY_SIZE	    (1 + MESSAGE_ROUTER_NAME_SIZE)

struct batch {
	struct wish_set *set;
	int (*send)(void *userdata, const struct message *message);
	void *userdata;
};

static uint8_t encoded[MESSAGE_SIZE_MAX]; /* one thread; not kept over a call */

/* --- keys --- */

static size_t key_of(const struct message *message, uint8_t key[static KEY_SIZE])
{
	const struct message_service_port *port = &message->service_port;

	if (message->type == MESSAGE_SERVICE_PORT) {
		key[0] = MESSAGE_KIND_SERVICE_PORT;
		memcpy(key + 1, &port->address, sizeof port->address);
		key[1 + sizeof port->address] = port->protocol;
		memcpy(key + 2 + sizeof port->address, &port->port, sizeof port->port);
		return 2 + sizeof port->address + sizeof port->port;
	}
	key[0] = message->type == MESSAGE_NODE ? MESSAGE_KIND_NODE : MESSAGE_KIND_ROUTER;
	strcpy((char *)key + 1, message->type == MESSAGE_NODE ? message->node.name
							       : message->router.name);
	return 2 + strlen((char *)key + 1);
}

static void removal_of(const struct told *told, struct message *message)
{
	struct message_remove *remove = &message->remove;
	const uint8_t *key = told->key;

	memset(remove, 0, sizeof *remove);
	message->type = MESSAGE_REMOVE;
	remove->kind = key[0];
	if (key[0] == MESSAGE_KIND_SERVICE_PORT) {
		memcpy(&remove->address, key + 1, sizeof remove->address);
		remove->protocol = key[1 + sizeof remove->address];
		memcpy(&remove->port, key + 2 + sizeof remove->address, sizeof remove->port);
	} else {
		strcpy(remove->name, (const char *)key + 1);
	}
}

static struct told **told_slot(struct wish_set *set, const uint8_t *key, size_t key_size)
{
	struct told **slot = &set->told[base_hash(key, key_size) % SET_BUCKETS];

	while (*slot &&
	       ((*slot)->key_size != key_size || memcmp((*slot)->key, key, key_size) != 0))
		slot = &(*slot)->next_key;
	return slot;
}

static void move(struct told *told, struct told **list, struct unit *unit)
{
	if (told->link) {
		*told->link = told->next;
		if (told->next)
			told->next->link = told->link;
	}
	told->unit = unit;
	told->next = *list;
	told->link = list;
	if (told->next)
		told->next->link = &told->next;
	*list = told;
}

/* --- one message of one unit --- */

static int refuse(struct batch *batch, struct unit *unit, const struct told *told)
{
	unit->blocked = batch->set->any_blocked = true;
	return base_error_set(batch->set->error, -EEXIST,
			      "%s: what it asks for is %s's already: two Services cannot have the "
			      "same port of one address",
			      unit->name, told->unit->name);
}

static int say(struct batch *batch, struct unit *unit)
{
	struct wish_set *set = batch->set;
	struct message *message = &set->message;
	int size = message_encode(message, encoded, sizeof encoded);
	uint8_t key[KEY_SIZE];
	size_t key_size;
	struct told **slot, *told;
	uint64_t hash;

	if (size < 0)
		return base_error_set(set->error, size, "%s: more than a message can hold",
				      unit->name);
	key_size = key_of(message, key);
	slot = told_slot(set, key, key_size);
	told = *slot;
	hash = base_hash(encoded, (size_t)size);
	if (told && told->unit && told->unit != unit &&
	    (told->round == set->round || !told->unit->due))
		return refuse(batch, unit, told);
	if (told && told->unit == unit && told->round == set->round)
		return 0; /* said twice in one unit: a port listed twice */
	if (!told) {
		told = calloc(1, sizeof *told + key_size);
		if (!told)
			return -ENOMEM;
		told->key_size = (uint8_t)key_size;
		memcpy(told->key, key, key_size);
		told->hash = ~hash;
		*slot = told;
	}
	told->round = set->round;
	move(told, &unit->told, unit);
	if (told->hash == hash)
		return 0;
	told->hash = hash;
	return batch->send(batch->userdata, message);
}

/* --- the units --- */

static struct object *member(const struct unit *unit, enum object_kind kind)
{
	for (const struct link *link = unit->members; link; link = link->next_of_unit)
		if (link->object->kind == kind)
			return link->object;
	return NULL;
}

static int make_node(struct batch *batch, struct unit *unit)
{
	const struct object *node = member(unit, KIND_NODE), *speaker = member(unit, KIND_SPEAKER);
	int r;

	if (!node && !speaker)
		return 0;
	r = translate_node(batch->set, node, speaker, &batch->set->message);
	return r < 0 ? r : say(batch, unit);
}

struct place {
	struct base_address address;
	struct object *object;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *left = a, *right = b;

	return base_address_compare(&left->address, &right->address);
}

/* The VirtualIPs of the unit in the order of their addresses, which is the same on every node. */
static int find_places(struct wish_set *set, const struct unit *unit,
		       struct place places[static MESSAGE_ADDRESSES_MAX], unsigned *count)
{
	*count = 0;
	for (const struct link *link = unit->members; link; link = link->next_of_unit) {
		struct object *object = link->object;

		if (object->kind != KIND_VIRTUAL_IP)
			continue;
		if (*count == MESSAGE_ADDRESSES_MAX)
			return complain(set, object, NULL, "more than %d addresses in one %s",
					MESSAGE_ADDRESSES_MAX,
					unit->kind == UNIT_ROUTER ? "virtual router" : "Service");
		places[*count].object = object;
		if (!base_address_parse(tree_text(object_tree(set, object), "spec/address"),
					&places[*count].address) ||
		    base_address_is_special(&places[*count].address))
			return complain(set, object, NULL,
					"spec.address must be an IPv4 or IPv6 address that a host can "
					"have");
		++*count;
	}
	qsort(places, *count, sizeof *places, compare_places);
	return 0;
}

static int add_place(struct wish_set *set, const struct place *place, struct message_router *router)
{
	const cJSON *tree = object_tree(set, place->object), *item;
	const cJSON *id = tree_get(tree, "spec/virtualRouterID");

	if (!*tree_text(tree, "spec/virtualRouter"))
		return complain(set, place->object, NULL, "spec.virtualRouter is missing");
	if (!cJSON_IsNumber(id) || id->valuedouble < 1 || id->valuedouble > 255)
		return complain(set, place->object, id, "spec.virtualRouterID must be 1 to 255");
	if (router->address_count == 0) {
		router->virtual_router_id = (uint8_t)id->valuedouble;
		router->family = place->address.family;
	} else if (router->virtual_router_id != (uint8_t)id->valuedouble ||
		   router->family != place->address.family) {
		return complain(set, place->object, id,
				"%s has another virtualRouterID or family in the VirtualIPs before",
				router->name);
	}
	router->addresses[router->address_count++] = place->address;
	cJSON_ArrayForEach(item, tree_get(tree, "spec/services"))
		translate_service_name(tree_text(item, "namespace"), tree_text(item, "name"),
				       router->services, sizeof router->services);
	return 0;
}

static int make_router(struct batch *batch, struct unit *unit)
{
	struct wish_set *set = batch->set;
	struct message_router *router = &set->message.router;
	struct place places[MESSAGE_ADDRESSES_MAX];
	unsigned count;
	int r = find_places(set, unit, places, &count);

	if (r < 0 || count == 0)
		return r;
	memset(router, 0, sizeof *router);
	set->message.type = MESSAGE_ROUTER;
	if (strlen(unit->name) >= sizeof router->name)
		return complain(set, places[0].object, NULL,
				"spec.virtualRouter is longer than %d characters",
				MESSAGE_ROUTER_NAME_SIZE - 1);
	strcpy(router->name, unit->name);
	snprintf(router->pool, sizeof router->pool, "%s",
		 tree_text(object_tree(set, places[0].object), "spec/pool"));
	router->leased = true;
	router->version = 3;
	router->interval_ms = INTERVAL_MS_DEFAULT;
	for (unsigned i = 0; i < count && r >= 0; i++)
		r = add_place(set, &places[i], router);
	/* Packed together, they have the settings and candidates of the first. */
	if (r >= 0)
		r = translate_settings(set, places[0].object, router);
	if (r >= 0)
		r = translate_candidates(set, places[0].object, router);
	return r < 0 ? r : say(batch, unit);
}

static int make_ports(struct batch *batch, struct unit *unit, const struct object *service,
		      const struct place *places, unsigned count, bool *available)
{
	struct wish_set *set = batch->set;
	const cJSON *port;

	cJSON_ArrayForEach(port, tree_get(object_tree(set, service), "spec/ports"))
		for (unsigned i = 0; i < count; i++) {
			int r;

			set->message.type = MESSAGE_SERVICE_PORT;
			r = translate_port(set, service, port, unit, &places[i].address,
					   &set->message.service_port);
			if (r < 0)
				return r;
			if (set->message.service_port.endpoint_count > 0)
				*available = true;
			r = say(batch, unit);
			if (r < 0)
				return r;
		}
	for (unsigned i = 0; i < count; i++) {
		int r = translate_every_port(set, service, unit, &places[i].address,
					     &set->message.service_port);

		set->message.type = MESSAGE_SERVICE_PORT;
		if (r > 0)
			r = say(batch, unit);
		if (r < 0)
			return r;
	}
	return 0;
}

/* True: it is another one. */
static bool keep_remark(struct unit *unit, const char *remark)
{
	if (strcmp(unit->remark ? unit->remark : "", remark) == 0)
		return false;
	free(unit->remark);
	unit->remark = *remark ? strdup(remark) : NULL;
	return true;
}

static int make_service(struct batch *batch, struct unit *unit)
{
	struct wish_set *set = batch->set;
	const struct object *service = member(unit, KIND_SERVICE);
	struct place places[MESSAGE_ADDRESSES_MAX];
	bool available = false;
	unsigned count;
	int r;

	set->remark[0] = '\0';
	r = find_places(set, unit, places, &count);
	if (r >= 0 && service)
		r = make_ports(batch, unit, service, places, count, &available);
	if (r >= 0 && keep_remark(unit, set->remark) | (available != unit->available)) {
		unit->available = available;
		for (unsigned i = 0; i < count && set->on_endpoints; i++)
			set->on_endpoints(set->endpoints_userdata, places[i].object->name);
	}
	return r;
}

/* What VMs report has changed, or who asks for it. */
static int make_namespace(struct batch *batch, struct unit *unit)
{
	char name[512];

	for (const struct link *link = unit->members; link; link = link->next_of_unit) {
		struct unit *service;

		if (link->object->kind != KIND_SERVICE)
			continue;
		snprintf(name, sizeof name, "%s/%s", link->object->namespace, link->object->name);
		service = unit_find(batch->set, UNIT_SERVICE, name);
		if (service)
			unit_set_due(batch->set, service);
	}
	return 0;
}

/* Makes its messages; what it said before and does not say now becomes stale. */
static int make_unit(struct batch *batch, struct unit *unit)
{
	static int (*const makers[UNIT_COUNT])(struct batch *batch, struct unit *unit) = {
		[UNIT_NODE] = make_node,
		[UNIT_ROUTER] = make_router,
		[UNIT_NAMESPACE] = make_namespace,
		[UNIT_SERVICE] = make_service,
	};
	struct wish_set *set = batch->set;
	int r;

	unit->due = unit->blocked = false;
	r = makers[unit->kind](batch, unit);
	objects_close(set);
	for (struct told *told = unit->told, *next; told; told = next) {
		next = told->next;
		if (told->round == set->round)
			continue;
		if (r < 0)
			told->round = set->round;
		else
			move(told, &set->stale, NULL);
	}
	return r;
}

static int remove_stale(struct batch *batch)
{
	struct wish_set *set = batch->set;
	int r = 0;

	while (set->stale) {
		struct told *told = set->stale, **slot = told_slot(set, told->key, told->key_size);

		removal_of(told, &set->message);
		*slot = told->next_key;
		set->stale = told->next;
		if (told->next)
			told->next->link = &set->stale;
		free(told);
		if (r >= 0)
			r = batch->send(batch->userdata, &set->message);
		if (!set->any_blocked)
			continue;
		set->any_blocked = false; /* those who could not say something try again */
		for (size_t i = 0; i < SET_BUCKETS; i++)
			for (struct unit *unit = set->units[i]; unit; unit = unit->next)
				if (unit->blocked)
					unit_set_due(set, unit);
	}
	return r;
}

static int make_due(struct batch *batch, enum unit_kind kind)
{
	struct wish_set *set = batch->set;

	while (set->due[kind]) {
		struct unit *unit = set->due[kind];
		struct base_error error = { 0 };
		int r;

		set->due[kind] = unit->next_due;
		set->error = &error;
		r = make_unit(batch, unit);
		set->error = NULL;
		unit_forget(set, unit);
		if (r == -ENOMEM || r == -ENOTCONN || r == -ENOBUFS)
			return r;
		if (r < 0 && set->on_skipped)
			set->on_skipped(set->skipped_userdata, &error);
	}
	return 0;
}

int wish_set_emit_changes(struct wish_set *set,
			  int (*send)(void *userdata, const struct message *message), void *userdata)
{
	struct batch batch = { set, send, userdata };
	int r = 0;

	while (r >= 0 && wish_set_due(set)) {
		set->round++;
		for (int kind = 0; kind < UNIT_COUNT && r >= 0; kind++)
			r = make_due(&batch, (enum unit_kind)kind);
		if (r >= 0)
			r = remove_stale(&batch);
	}
	return r;
}

bool wish_set_due(const struct wish_set *set)
{
	for (int kind = 0; kind < UNIT_COUNT; kind++)
		if (set->due[kind])
			return true;
	return false;
}

/* --- what the owner of an address tells about it --- */

void wish_set_on_skipped(struct wish_set *set,
			 void (*callback)(void *userdata, const struct base_error *error),
			 void *userdata)
{
	set->on_skipped = callback;
	set->skipped_userdata = userdata;
}

void wish_set_on_endpoints(struct wish_set *set,
			   void (*callback)(void *userdata, const char *virtual_ip), void *userdata)
{
	set->on_endpoints = callback;
	set->endpoints_userdata = userdata;
}

static const struct unit *service_unit(struct wish_set *set, const char *namespace, const char *service)
{
	char name[MESSAGE_TEXT_SIZE] = "";

	translate_service_name(namespace, service, name, sizeof name);
	return unit_find(set, UNIT_SERVICE, name);
}

bool wish_set_available(struct wish_set *set, const char *namespace, const char *service)
{
	const struct unit *unit = service_unit(set, namespace, service);

	return unit && unit->available;
}

const char *wish_set_remark(struct wish_set *set, const char *namespace, const char *service)
{
	const struct unit *unit = service_unit(set, namespace, service);

	return unit && unit->remark ? unit->remark : "";
}

bool wish_set_wants_vms(const struct wish_set *set)
{
	return set->wants_vms;
}

void wish_set_uid(struct wish_set *set, const char *namespace, const char *service,
		  char uid[static 64])
{
	const struct object *object = object_find(set, KIND_SERVICE, namespace, service);

	snprintf(uid, 64, "%s", object ? tree_text(object_tree(set, object), "metadata/uid") : "");
	objects_close(set);
}
