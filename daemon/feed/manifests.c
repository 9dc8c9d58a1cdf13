#include "daemon/feed/set.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "k8s/yaml.h"

/* Of manifests: read whole, checked whole, and what a controller would decide is decided here. */

#define VIPS_MAX    4096
#define VIP_BUCKETS 1024
#define NODES_MAX   256
#define SHARERS_MAX 64
#define ASKED_MAX   8 /* addresses that one Service may ask for */

struct vip {
	struct vip *next; /* in its bucket */
	struct base_address address;
	const struct object *origin; /* what asked for it first */
	const cJSON *item;	     /* where, for messages */
	const struct object *pool, *object; /* AddressPool; VirtualIP if there is one */
	unsigned id;			    /* 0: not given yet */
	struct vip *leader, *next_carried;  /* of the virtual router; the leader is its first */
	unsigned carried_count;		    /* the leader's: addresses of the virtual router */
	unsigned sharer_count;
	const struct object *sharers[SHARERS_MAX]; /* Services */
	char services[MESSAGE_TEXT_SIZE];
};

/* All addresses of a set, for as long as it is emitted. */
struct plan {
	struct wish_set *set;
	struct vip *buckets[VIP_BUCKETS], *vips[VIPS_MAX];
	unsigned count;
	int (*emit)(void *userdata, const struct message *message);
	void *userdata;
};

DEFINE_CLEANUP(FILE, fclose)

/* --- reading --- */

/* `vipd check` wants to hear of every fault; who is to serve by it stops at the first. */
static int tolerate(struct wish_set *set, int r)
{
	if (r >= 0 || r == -ENOMEM || !set->on_skipped)
		return r;
	set->on_skipped(set->skipped_userdata, set->error);
	set->faults++;
	return 0;
}

static int check_object(struct wish_set *set, struct object *probe, const cJSON *tree)
{
	const char *name = tree_text(tree, "metadata/name");
	const char *api = object_kind_api(probe->kind);
	const struct object *other;

	if (strcmp(tree_text(tree, "apiVersion"), api) != 0)
		return complain(set, probe, tree_get(tree, "apiVersion"),
				"%s has apiVersion \"%s\": write %s", object_kind_name(probe->kind),
				tree_text(tree, "apiVersion"), api);
	if (!*name)
		return complain(set, probe, tree_get(tree, "metadata"),
				"%s without a name: write metadata.name as text",
				object_kind_name(probe->kind));
	if (strlen(name) >= MESSAGE_NAME_SIZE && probe->kind != KIND_SLICE)
		return complain(set, probe, tree_get(tree, "metadata/name"),
				"the name is longer than %d characters", MESSAGE_NAME_SIZE - 1);
	other = object_find(set, probe->kind, tree_text(tree, "metadata/namespace"), name);
	if (other)
		return complain(set, probe, NULL, "%s %s stands in %s:%d already",
				object_kind_name(probe->kind), name, other->file,
				other->tree->valueint);
	return 0;
}

static int on_document(void *userdata, cJSON *tree)
{
	struct wish_set *set = userdata;
	const char *kind = tree_text(tree, "kind");
	struct object probe = { .kind = object_kind_of(kind), .file = (char *)set->reading,
				.tree = tree };
	struct object *object;
	int r;

	if (strcmp(kind, "List") == 0)
		r = complain(set, &probe, tree_get(tree, "items"), "items must be a list of objects");
	else if (probe.kind == KIND_COUNT || probe.kind == KIND_VM)
		r = complain(set, &probe, tree_get(tree, "kind"),
			     "kind \"%s\": expected AddressPool, Service, VirtualIP, EndpointSlice "
			     "or Node",
			     kind);
	else
		r = check_object(set, &probe, tree);
	if (r < 0) {
		cJSON_Delete(tree);
		return tolerate(set, r);
	}
	object = object_put(set, probe.kind, tree);
	if (!object)
		return -ENOMEM;
	object->file = strdup(set->reading);
	if (!object->file)
		return -ENOMEM;
	return tolerate(set, manifest_check(set, object));
}

static int parse(struct wish_set *set, FILE *file, const char *path)
{
	CLEANUP(base_free_cleanup) char *text = malloc(K8S_YAML_SIZE_MAX + 1);
	size_t size;

	if (!text)
		return -ENOMEM;
	size = fread(text, 1, K8S_YAML_SIZE_MAX + 1, file);
	if (ferror(file))
		return base_error_set(set->error, -EIO, "%s: %s", path, strerror(errno));
	if (size > K8S_YAML_SIZE_MAX)
		return base_error_set(set->error, -EFBIG, "%s: more than %u bytes", path,
				      K8S_YAML_SIZE_MAX);
	set->reading = path;
	return k8s_yaml_parse(text, size, path, on_document, set, set->error);
}

static int read_file(struct wish_set *set, const char *path)
{
	CLEANUP(fclose_cleanup) FILE *file = fopen(path, "re");
	struct stat status;

	if (!file || fstat(fileno(file), &status) < 0)
		return base_error_set(set->error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode))
		return base_error_set(set->error, -EINVAL, "%s: no ordinary file", path);
	return parse(set, file, path);
}

static int is_manifest(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return entry->d_name[0] != '.' && dot &&
	       (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0);
}

int wish_set_read(struct wish_set *set, const char *path, struct base_error *error)
{
	struct dirent **entries;
	struct stat status;
	int count, r = 0;

	set->error = error;
	if (strcmp(path, "-") == 0)
		return tolerate(set, parse(set, stdin, "standard input"));
	if (stat(path, &status) < 0)
		return tolerate(set, base_error_set(error, -errno, "%s: %s", path, strerror(errno)));
	if (!S_ISDIR(status.st_mode))
		return tolerate(set, read_file(set, path));
	count = scandir(path, &entries, is_manifest, alphasort);
	if (count < 0)
		return tolerate(set, base_error_set(error, -errno, "%s: %s", path, strerror(errno)));
	for (int i = 0; i < count; i++) {
		char file[4096];

		snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
		if (r >= 0)
			r = tolerate(set, read_file(set, file));
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* --- pools --- */

static int read_range(struct wish_set *set, const struct object *pool, const cJSON *item,
		      struct base_address *first, struct base_address *last)
{
	const char *text = cJSON_IsString(item) ? item->valuestring : "";
	const char *dash = strchr(text, '-');
	struct base_prefix prefix;
	char head[BASE_ADDRESS_TEXT_SIZE];

	if (dash && (size_t)(dash - text) < sizeof head) {
		snprintf(head, sizeof head, "%.*s", (int)(dash - text), text);
		if (base_address_parse(head, first) && base_address_parse(dash + 1, last) &&
		    base_address_compare(first, last) <= 0 && first->family == last->family)
			return 0;
	} else if (base_prefix_parse(text, &prefix)) {
		*first = base_prefix_first(&prefix);
		*last = base_prefix_last(&prefix);
		return 0;
	} else if (base_address_parse(text, first)) {
		*last = *first;
		return 0;
	}
	return complain(set, pool, item,
			"\"%s\" is no address, no range FIRST-LAST and no CIDR like 192.0.2.0/26",
			text);
}

static int list_contains(struct wish_set *set, const struct object *pool, const char *list,
			 const struct base_address *address, bool *contains)
{
	const cJSON *item;

	*contains = false;
	cJSON_ArrayForEach(item, tree_get(pool->tree, list)) {
		struct base_address first, last;
		int r = read_range(set, pool, item, &first, &last);

		if (r < 0)
			return r;
		if (address && first.family == address->family &&
		    base_address_compare(&first, address) <= 0 &&
		    base_address_compare(address, &last) <= 0)
			*contains = true;
	}
	return 0;
}

static int find_pool(struct wish_set *set, const struct base_address *address,
		     const struct object **pool)
{
	*pool = NULL;
	for (const struct object *d = set->first; d; d = d->after) {
		bool in = false, out = false;
		int r;

		if (d->kind != KIND_POOL)
			continue;
		r = list_contains(set, d, "spec/addresses", address, &in);
		if (r >= 0)
			r = list_contains(set, d, "spec/exclude", address, &out);
		if (r < 0)
			return r;
		if (in && !out && !*pool)
			*pool = d;
	}
	return 0;
}

static int read_id_list(struct wish_set *set, const struct object *pool, const char *list,
			bool value, bool allowed[256])
{
	const cJSON *items = tree_get(pool->tree, list), *item;

	if (items && value)
		memset(allowed, 0, 256 * sizeof *allowed);
	cJSON_ArrayForEach(item, items) {
		unsigned first = 0, last = 0;
		int end = 0;

		if (cJSON_IsNumber(item))
			first = last = (unsigned)item->valuedouble;
		else if (cJSON_IsString(item) &&
			 sscanf(item->valuestring, "%u-%u%n", &first, &last, &end) != 2)
			last = sscanf(item->valuestring, "%u", &first) == 1 ? first : 0;
		if (first < 1 || last > 255 || first > last)
			return complain(set, pool, item,
					"virtual router IDs are 1 to 255, or ranges like \"10-20\"");
		for (unsigned id = first; id <= last; id++)
			allowed[id] = value;
	}
	return 0;
}

/* Also of a pool that nobody uses yet. */
static int check_pool(struct wish_set *set, const struct object *pool)
{
	bool ignored, ids[256];
	int r = 0;

	if (cJSON_GetArraySize(tree_get(pool->tree, "spec/addresses")) == 0)
		return complain(set, pool, tree_get(pool->tree, "spec"),
				"AddressPool %s holds no address: write spec.addresses", pool->name);
	r = list_contains(set, pool, "spec/addresses", NULL, &ignored);
	if (r >= 0)
		r = list_contains(set, pool, "spec/exclude", NULL, &ignored);
	if (r >= 0)
		r = read_id_list(set, pool, "spec/vrrp/virtualRouterIDs", true, ids);
	if (r >= 0)
		r = read_id_list(set, pool, "spec/vrrp/excludeVirtualRouterIDs", false, ids);
	return r;
}

/* --- which addresses there are --- */

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

static struct vip **vip_slot(struct plan *plan, const struct base_address *address)
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
	*vip_slot(plan, address) = vip;
	*result = vip;
	return find_pool(plan->set, address, &vip->pool);
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
	vip = *vip_slot(plan, &address);
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

static struct unit *unit_of(struct wish_set *set, const struct object *service)
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

static int for_each_address(struct plan *plan, const struct object *service,
			    int (*callback)(struct plan *plan, const struct object *service,
					    const struct base_address *address, const cJSON *item))
{
	const struct unit *unit = unit_of(plan->set, service);
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
	struct vip *vip = *vip_slot(plan, address);
	const char *key = tree_annotation(service->tree, "vipd.dev/sharing-key");
	int r = 0;

	if (vip && vip->object && tree_get(vip->object->tree, "spec/services") &&
	    !names_service(vip->object, unit_of(plan->set, service)))
		return complain(plan->set, service, item,
				"VirtualIP %s gives this address to others (%s:%d): name the Service "
				"there, or take another",
				vip->object->name, vip->object->file, vip->item->valueint);
	if (vip && vip->services[0] &&
	    !(vip->object && names_service(vip->object, unit_of(plan->set, service))) &&
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

/* --- virtual router IDs --- */

static int compare_vips(const void *a, const void *b)
{
	const struct vip *const *left = a, *const *right = b;

	return base_address_compare(&(*left)->address, &(*right)->address);
}

static void lead(struct vip *(*taken)[256], struct vip *vip, unsigned id)
{
	vip->id = id;
	vip->leader = vip;
	vip->carried_count = 1;
	taken[vip->address.family == BASE_FAMILY_IPV6][id] = vip;
}

/* More addresses of a pool than virtual routers: one carries several, which move together. */
static bool join(struct vip *(*taken)[256], struct vip *vip, unsigned id)
{
	struct vip *leader = taken[vip->address.family == BASE_FAMILY_IPV6][id];

	if (!leader || leader->pool != vip->pool || leader->object || vip->object ||
	    leader->carried_count == MESSAGE_ADDRESSES_MAX)
		return false;
	vip->id = id;
	vip->leader = leader;
	vip->next_carried = leader->next_carried;
	leader->next_carried = vip;
	leader->carried_count++;
	return true;
}

static int choose_id(struct plan *plan, struct vip *(*taken)[256], struct vip *vip)
{
	int six = vip->address.family == BASE_FAMILY_IPV6, r = 0;
	unsigned wish = vip->address.bytes[six ? 15 : 3];
	bool allowed[256];

	memset(allowed, 1, sizeof allowed);
	if (vip->pool)
		r = read_id_list(plan->set, vip->pool, "spec/vrrp/virtualRouterIDs", true, allowed);
	if (r >= 0 && vip->pool)
		r = read_id_list(plan->set, vip->pool, "spec/vrrp/excludeVirtualRouterIDs", false,
				 allowed);
	if (r < 0)
		return r;
	for (unsigned n = 0; n < 256; n++) {
		unsigned id = (wish + n) % 256;

		if (id && allowed[id] && !taken[six][id]) {
			lead(taken, vip, id);
			return 0;
		}
	}
	for (unsigned n = 0; n < 256; n++)
		if (allowed[(wish + n) % 256] && join(taken, vip, (wish + n) % 256))
			return 0;
	return complain(plan->set, vip->origin, vip->item,
			"no virtual router ID is left for this address: what virtualRouterIDs of %s "
			"allows is used by other pools and VirtualIPs, or carries %d addresses each; "
			"allow more IDs",
			vip->pool ? vip->pool->name : "its pool", MESSAGE_ADDRESSES_MAX);
}

/*
 * Deterministic: every node reads the same files and must come to the same IDs. What asks for an ID
 * goes first, then VirtualIPs, whose settings are their own, then what can be carried together.
 */
static int assign_ids(struct plan *plan)
{
	struct vip *taken[2][256] = { 0 };

	qsort(plan->vips, plan->count, sizeof *plan->vips, compare_vips);
	for (unsigned i = 0; i < plan->count; i++) {
		struct vip *vip = plan->vips[i];
		int six = vip->address.family == BASE_FAMILY_IPV6;

		if (!vip->id)
			continue;
		if (taken[six][vip->id])
			return complain(plan->set, vip->origin, vip->item,
					"virtualRouterID %u is that of %s:%d already", vip->id,
					taken[six][vip->id]->origin->file,
					taken[six][vip->id]->item->valueint);
		lead(taken, vip, vip->id);
	}
	for (int round = 0; round < 2; round++)
		for (unsigned i = 0; i < plan->count; i++) {
			struct vip *vip = plan->vips[i];
			int r;

			if (vip->id || (vip->object ? 0 : 1) != round)
				continue;
			r = choose_id(plan, taken, vip);
			if (r < 0)
				return r;
		}
	return 0;
}

/* --- candidates --- */

struct ranked {
	const char *node;
	uint64_t score;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *left = a, *right = b;

	return left->score < right->score ? 1 : left->score > right->score ? -1
									    : strcmp(left->node, right->node);
}

static bool has_family(const cJSON *tree, enum base_family family)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, tree_get(tree, "status/addresses")) {
		struct base_address address;

		if (base_address_parse(tree_text(item, "address"), &address) &&
		    address.family == family)
			return true;
	}
	return false;
}

/* Every node of the family; who comes first differs from address to address, so that they spread. */
static void rank_candidates(struct wish_set *set, const struct vip *vip,
			    struct message_router *router)
{
	struct ranked ranked[NODES_MAX];
	unsigned count = 0;

	for (const struct object *d = set->first; d; d = d->after) {
		uint8_t bytes[MESSAGE_NAME_SIZE + sizeof vip->address] = { 0 };

		if (d->kind != KIND_NODE || count == NODES_MAX ||
		    !has_family(d->tree, (enum base_family)vip->address.family))
			continue;
		ranked[count].node = d->name;
		snprintf((char *)bytes, MESSAGE_NAME_SIZE, "%s", d->name);
		memcpy(bytes + MESSAGE_NAME_SIZE, &vip->address, sizeof vip->address);
		ranked[count].score = base_hash(bytes, sizeof bytes) * UINT64_C(0x9e3779b97f4a7c15);
		count++;
	}
	qsort(ranked, count, sizeof *ranked, compare_ranked);
	if (count > MESSAGE_CANDIDATES_MAX)
		count = MESSAGE_CANDIDATES_MAX;
	for (unsigned i = 0; i < count; i++) {
		struct message_candidate *candidate =
			&router->candidates[router->candidate_count++];

		snprintf(candidate->node, sizeof candidate->node, "%s", ranked[i].node);
		candidate->priority = (uint8_t)(240 - i * (220 / count));
	}
}

/* --- messages --- */

static int emit_router(struct plan *plan, const struct vip *vip)
{
	struct message_router *router = &plan->set->message.router;
	const char *pool = vip->pool ? vip->pool->name : "none";
	int r = 0;

	memset(&plan->set->message, 0, sizeof plan->set->message);
	plan->set->message.type = MESSAGE_ROUTER;
	snprintf(router->pool, sizeof router->pool, "%s", pool);
	snprintf(router->name, sizeof router->name, "%s.%s.%u", pool,
		 vip->address.family == BASE_FAMILY_IPV4 ? "ipv4" : "ipv6", vip->id);
	for (const struct vip *carried = vip; carried; carried = carried->next_carried) {
		size_t at = strlen(router->services);

		snprintf(router->services + at, sizeof router->services - at, "%s%s", at ? "," : "",
			 carried->services);
		router->addresses[router->address_count++] = carried->address;
	}
	router->virtual_router_id = (uint8_t)vip->id;
	router->family = vip->address.family;
	router->version = 3;
	router->interval_ms = MANIFEST_INTERVAL_MS;
	if (vip->pool)
		r = translate_settings(plan->set, vip->pool, router);
	if (r >= 0 && vip->object)
		r = translate_settings(plan->set, vip->object, router);
	if (r >= 0 && vip->object)
		r = translate_candidates(plan->set, vip->object, router);
	if (r >= 0 && router->candidate_count == 0)
		rank_candidates(plan->set, vip, router);
	if (r >= 0 && router->version == 2 && vip->address.family == BASE_FAMILY_IPV6)
		r = complain(plan->set, vip->origin, vip->item,
			     "version 2 of VRRP knows no IPv6: take a pool with version 3");
	return r < 0 ? r : plan->emit(plan->userdata, &plan->set->message);
}

static bool same_port(const cJSON *a, const cJSON *b)
{
	const cJSON *left = tree_get(a, "port"), *right = tree_get(b, "port");
	const char *p = tree_text(a, "protocol"), *q = tree_text(b, "protocol");

	return left && right && left->valuedouble == right->valuedouble &&
	       strcmp(*p ? p : "TCP", *q ? q : "TCP") == 0;
}

/* One port of an address leads to one Service, and a name to one port. */
static int check_port(struct plan *plan, const struct object *service, const struct vip *vip,
		      const cJSON *port)
{
	const cJSON *other;

	for (other = tree_get(service->tree, "spec/ports")->child; other != port; other = other->next)
		if (same_port(other, port))
			return complain(plan->set, service, port, "this port stands in line %d already",
					other->valueint);
		else if (strcmp(tree_text(other, "name"), tree_text(port, "name")) == 0)
			return complain(plan->set, service, port,
					"the port in line %d has this name already: give each port a "
					"name of its own",
					other->valueint);
	for (unsigned i = 0; i < vip->sharer_count && vip->sharers[i] != service; i++)
		cJSON_ArrayForEach(other, tree_get(vip->sharers[i]->tree, "spec/ports"))
			if (same_port(other, port))
				return complain(plan->set, service, port,
						"Service %s has this port of the shared address "
						"already (%s:%d)",
						vip->sharers[i]->name, vip->sharers[i]->file,
						other->valueint);
	return 0;
}

/* Annotation vipd.dev/all-ports: the address is one VM's as a whole. */
static int emit_every_port(struct plan *plan, const struct object *service, const struct unit *unit,
			   const struct base_address *address)
{
	const cJSON *notes = tree_get(service->tree, "metadata/annotations");
	const cJSON *note = cJSON_GetObjectItemCaseSensitive(notes, "vipd.dev/all-ports");
	int r;

	if (!note)
		return 0;
	if (strcmp(tree_text(note, ""), "true") != 0 && strcmp(tree_text(note, ""), "false") != 0)
		return complain(plan->set, service, note,
				"annotation vipd.dev/all-ports is \"true\" or \"false\"");
	if (strcmp(tree_text(note, ""), "true") == 0 &&
	    *tree_annotation(service->tree, "vipd.dev/sharing-key"))
		return complain(plan->set, service, note,
				"an address with vipd.dev/all-ports is of one Service alone: take the "
				"annotation vipd.dev/sharing-key away, or this one");
	plan->set->message.type = MESSAGE_SERVICE_PORT;
	r = translate_every_port(plan->set, service, unit, address,
				 &plan->set->message.service_port);
	return r > 0 ? plan->emit(plan->userdata, &plan->set->message) : r;
}

static int emit_service(struct plan *plan, const struct object *service,
			const struct base_address *address, const cJSON *place)
{
	const cJSON *ports = tree_get(service->tree, "spec/ports"), *port;
	const struct unit *unit = unit_of(plan->set, service);

	(void)place;
	if (!cJSON_IsArray(ports) || cJSON_GetArraySize(ports) == 0)
		return complain(plan->set, service, ports, "a Service needs spec.ports");
	cJSON_ArrayForEach(port, ports) {
		int r = check_port(plan, service, *vip_slot(plan, address), port);

		plan->set->message.type = MESSAGE_SERVICE_PORT;
		if (r >= 0)
			r = translate_port(plan->set, service, port, unit, address,
					   &plan->set->message.service_port);
		if (r >= 0)
			r = plan->emit(plan->userdata, &plan->set->message);
		if (r < 0)
			return r;
	}
	return emit_every_port(plan, service, unit, address);
}

static int check_node(struct wish_set *set, const char *node)
{
	bool any = false;

	for (const struct object *d = set->first; d; d = d->after)
		if (d->kind == KIND_NODE) {
			any = true;
			if (node && strcmp(d->name, node) == 0)
				return 0;
		}
	if (!any)
		return base_error_set(set->error, -ENOENT,
				      "the manifests hold no Node: write one for every member, with its "
				      "InternalIP in status.addresses");
	if (!node)
		return 0;
	return base_error_set(set->error, -ENOENT, "--node %s is none of the Nodes in the manifests",
			      node);
}

static int collect(struct plan *plan)
{
	struct wish_set *set = plan->set;
	int r = 0;

	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_POOL)
			r = tolerate(set, check_pool(set, d));
		else if (d->kind == KIND_NODE)
			r = tolerate(set, check_node_addresses(set, d));
	if (r < 0 || set->faults)
		return r; /* what follows from a fault is no fault of its own */
	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_VIRTUAL_IP && !tree_get(d->tree, "metadata/deletionTimestamp"))
			r = tolerate(set, collect_virtual_ip(plan, d));
	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_SERVICE && lean_is_balanced(d->tree))
			r = tolerate(set, for_each_address(plan, d, collect_service));
	return r < 0 || set->faults ? r : tolerate(set, assign_ids(plan));
}

static int emit_nodes(struct plan *plan)
{
	int r = 0;

	for (const struct object *d = plan->set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_NODE) {
			r = translate_node(plan->set, d,
					   object_find(plan->set, KIND_SPEAKER, "", d->name),
					   &plan->set->message);
			if (r >= 0)
				r = plan->emit(plan->userdata, &plan->set->message);
			r = tolerate(plan->set, r);
		}
	return r;
}

static int emit_all(struct plan *plan)
{
	struct wish_set *set = plan->set;
	int r = emit_nodes(plan);

	for (unsigned i = 0; i < plan->count && r >= 0; i++)
		if (plan->vips[i]->leader == plan->vips[i])
			r = tolerate(set, emit_router(plan, plan->vips[i]));
	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_SERVICE && lean_is_balanced(d->tree))
			r = tolerate(set, for_each_address(plan, d, emit_service));
	return r;
}

int wish_set_emit(struct wish_set *set, const char *node,
		  int (*emit)(void *userdata, const struct message *message), void *userdata,
		  struct base_error *error)
{
	struct plan *plan = calloc(1, sizeof *plan);
	int r;

	if (!plan)
		return -ENOMEM;
	plan->set = set;
	plan->emit = emit;
	plan->userdata = userdata;
	set->error = error;
	r = tolerate(set, check_node(set, node));
	if (r >= 0)
		r = collect(plan);
	if (r >= 0 && !set->faults)
		r = emit_all(plan);
	for (unsigned i = 0; i < plan->count; i++)
		free(plan->vips[i]);
	free(plan);
	return r < 0 ? r : 0;
}
