#include "daemon/feed/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* Which virtual addresses there are, and whose they are. */

#define ASKED_MAX 8 /* addresses that one Service may ask for */

/* The Node, of those before `end`, whose own address this is. */
static const struct object *node_of(struct wish_set *set, const struct base_address *address,
				    const struct object *end, const cJSON **where)
{
	for (const struct object *d = set->first; d != end; d = d->after) {
		const cJSON *item;

		if (d->kind != KIND_NODE)
			continue;
		cJSON_ArrayForEach(item, tree_get(d->tree, "status/addresses")) {
			struct base_address own;

			if (base_address_parse(tree_text(item, "address"), &own) &&
			    base_address_equal(&own, address)) {
				*where = item;
				return d;
			}
		}
	}
	return NULL;
}

static int check_node_addresses(struct wish_set *set, const struct object *node)
{
	const cJSON *item, *where;

	cJSON_ArrayForEach(item, tree_get(node->tree, "status/addresses")) {
		const struct object *other;
		struct base_address own;

		if (!base_address_parse(tree_text(item, "address"), &own))
			continue;
		other = node_of(set, &own, node, &where);
		if (other)
			return complain(set, node, item, "this is the address of Node %s too (%s:%d)",
					other->name, other->file, where->valueint);
	}
	return 0;
}

static int check_candidates(struct wish_set *set, const struct object *virtual_ip)
{
	const cJSON *list = tree_get(virtual_ip->tree, "spec/candidates"), *item, *other;

	cJSON_ArrayForEach(item, list) {
		const char *name = tree_text(item, "node");

		if (*name && !object_find(set, KIND_NODE, "", name))
			return complain(set, virtual_ip, item,
					"candidate %s is none of the Nodes in the manifests", name);
		for (other = list->child; other != item; other = other->next)
			if (strcmp(name, tree_text(other, "node")) == 0)
				return complain(set, virtual_ip, item,
						"candidate %s stands here a second time", name);
	}
	return 0;
}

struct vip **plan_slot(struct plan *plan, const struct base_address *address)
{
	struct vip **slot = &plan->buckets[base_hash(address, sizeof *address) % VIP_BUCKETS];

	while (*slot && !base_address_equal(&(*slot)->address, address))
		slot = &(*slot)->next;
	return slot;
}

static int add_vip(struct plan *plan, const struct base_address *address,
		   const struct object *object, const cJSON *item, struct vip **result)
{
	const struct object *node;
	const cJSON *where;
	struct vip *vip;

	if (base_address_is_special(address))
		return complain(plan->set, object, item,
				"this address can be nobody's virtual address");
	node = node_of(plan->set, address, NULL, &where);
	if (node)
		return complain(plan->set, object, item,
				"this is Node %s's own address (%s:%d): take another", node->name,
				node->file, where->valueint);
	if (plan->count == VIPS_MAX)
		return complain(plan->set, object, item, "more than %d virtual addresses", VIPS_MAX);
	vip = calloc(1, sizeof *vip);
	if (!vip)
		return -ENOMEM;
	plan->vips[plan->count++] = vip;
	vip->address = *address;
	vip->origin = object;
	vip->item = item;
	*plan_slot(plan, address) = vip;
	*result = vip;
	return pool_find(plan->set, address, &vip->pool);
}

static int collect_virtual_ip(struct plan *plan, const struct object *object)
{
	const cJSON *item = tree_get(object->tree, "spec/address");
	const cJSON *id = tree_get(object->tree, "spec/virtualRouterID");
	struct base_address address;
	struct vip *vip;
	int r;

	if (!cJSON_IsString(item) || !base_address_parse(item->valuestring, &address))
		return complain(plan->set, object, item ? item : tree_get(object->tree, "spec"),
				"spec.address must be an IPv4 or IPv6 address");
	vip = *plan_slot(plan, &address);
	if (vip)
		return complain(plan->set, object, item, "%s has this address already (%s:%d)",
				vip->origin->name, vip->origin->file, vip->item->valueint);
	r = add_vip(plan, &address, object, item, &vip);
	if (r < 0)
		return r;
	vip->object = object;
	r = check_candidates(plan->set, object);
	if (r < 0)
		return r;
	if (id) {
		if (!cJSON_IsNumber(id) || id->valuedouble < 1 || id->valuedouble > 255 ||
		    id->valuedouble != (int)id->valuedouble)
			return complain(plan->set, object, id, "virtualRouterID must be 1 to 255");
		vip->id = (unsigned)id->valuedouble;
	}
	return 0;
}

struct unit *plan_unit(struct wish_set *set, const struct object *service)
{
	char name[MESSAGE_TEXT_SIZE] = "";

	translate_service_name(service->namespace, service->name, name, sizeof name);
	return unit_find(set, UNIT_SERVICE, name);
}

/* Is the Service among those that the VirtualIP names? Then sharing was meant. */
static bool names_service(const struct object *virtual_ip, const struct unit *unit)
{
	for (const struct link *link = virtual_ip->links; link; link = link->next_of_object)
		if (link->unit == unit)
			return true;
	return false;
}

int plan_each_address(struct plan *plan, const struct object *service,
		      int (*callback)(struct plan *plan, const struct object *service,
				      const struct base_address *address, const cJSON *item))
{
	const struct unit *unit = plan_unit(plan->set, service);
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(
		tree_get(service->tree, "metadata/annotations"), "vipd.dev/addresses");
	struct base_address asked[ASKED_MAX];
	char text[512];
	int count = 0;

	if (!cJSON_IsString(item))
		item = tree_get(service->tree, "spec/loadBalancerIP");
	snprintf(text, sizeof text, "%s", cJSON_IsString(item) ? item->valuestring : "");
	for (char *save, *word = strtok_r(text, ", ", &save); word;
	     word = strtok_r(NULL, ", ", &save), count++) {
		int r;

		if (count == ASKED_MAX)
			return complain(plan->set, service, item, "more than %d addresses", ASKED_MAX);
		if (!base_address_parse(word, &asked[count]))
			return complain(plan->set, service, item, "\"%s\" is no address", word);
		for (int i = 0; i < count; i++)
			if (asked[i].family == asked[count].family)
				return complain(plan->set, service, item,
						"two %s addresses: one of each family is the most",
						asked[i].family == BASE_FAMILY_IPV4 ? "IPv4" : "IPv6");
		r = callback(plan, service, &asked[count], item);
		if (r < 0)
			return r;
	}
	for (const struct link *link = unit->members; link; link = link->next_of_unit) {
		const cJSON *tree = link->object->tree;
		struct base_address address;
		bool known = false;
		int r;

		if (link->object->kind != KIND_VIRTUAL_IP ||
		    !base_address_parse(tree_text(tree, "spec/address"), &address))
			continue;
		for (int i = 0; i < count && i < ASKED_MAX && !known; i++)
			known = base_address_equal(&asked[i], &address);
		if (known)
			continue;
		r = callback(plan, service, &address, tree_get(tree, "spec/address"));
		if (r < 0)
			return r;
		if (count < ASKED_MAX)
			asked[count++] = address;
	}
	if (count == 0)
		return complain(plan->set, service, tree_get(service->tree, "metadata"),
				"Service %s names no address: without Kubernetes nobody allocates one; "
				"write the annotation vipd.dev/addresses",
				service->name);
	return 0;
}

static int collect_service(struct plan *plan, const struct object *service,
			   const struct base_address *address, const cJSON *item)
{
	struct vip *vip = *plan_slot(plan, address);
	const char *key = tree_annotation(service->tree, "vipd.dev/sharing-key");
	int r = 0;

	if (vip && vip->object && tree_get(vip->object->tree, "spec/services") &&
	    !names_service(vip->object, plan_unit(plan->set, service)))
		return complain(plan->set, service, item,
				"VirtualIP %s gives this address to others (%s:%d): name the Service "
				"there, or take another",
				vip->object->name, vip->object->file, vip->item->valueint);
	if (vip && vip->services[0] &&
	    !(vip->object && names_service(vip->object, plan_unit(plan->set, service))) &&
	    (!*key ||
	     strcmp(key, tree_annotation(vip->origin->tree, "vipd.dev/sharing-key")) != 0))
		return complain(plan->set, service, item,
				"the address is %s's (%s:%d): share it with the same annotation "
				"vipd.dev/sharing-key on both, or take another",
				vip->services, vip->origin->file, vip->item->valueint);
	if (vip && vip->origin->kind == KIND_SERVICE && *key &&
	    strcmp(tree_namespace(vip->origin->tree), tree_namespace(service->tree)) != 0)
		return complain(plan->set, service, item,
				"the address is %s's (%s:%d), of another namespace: only Services of "
				"one namespace share",
				vip->services, vip->origin->file, vip->item->valueint);
	if (!vip)
		r = add_vip(plan, address, service, item, &vip);
	if (r < 0)
		return r;
	if (!vip->pool && !vip->object)
		return complain(plan->set, service, item, "the address is in no AddressPool");
	if (vip->sharer_count == SHARERS_MAX)
		return complain(plan->set, service, item, "more than %d Services share this address",
				SHARERS_MAX);
	vip->sharers[vip->sharer_count++] = service;
	translate_service_name(service->namespace, service->name, vip->services,
			       sizeof vip->services);
	return 0;
}

int plan_collect(struct plan *plan)
{
	struct wish_set *set = plan->set;
	int r = 0;

	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_POOL)
			r = manifest_tolerate(set, pool_check(set, d));
		else if (d->kind == KIND_NODE)
			r = manifest_tolerate(set, check_node_addresses(set, d));
	if (r < 0 || set->faults)
		return r; /* what follows from a fault is no fault of its own */
	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_VIRTUAL_IP && !tree_get(d->tree, "metadata/deletionTimestamp"))
			r = manifest_tolerate(set, collect_virtual_ip(plan, d));
	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_SERVICE && lean_is_balanced(d->tree))
			r = manifest_tolerate(set, plan_each_address(plan, d, collect_service));
	return r < 0 || set->faults ? r : manifest_tolerate(set, plan_assign_ids(plan));
}
