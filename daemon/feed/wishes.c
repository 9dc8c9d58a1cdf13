#include "daemon/feed/wishes.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "k8s/yaml.h"

#define VIPS_MAX	 4096
#define NODES_MAX	 256
#define POOLS_MAX	 64
#define ASKED_MAX	 8 /* addresses that one Service may ask for */
#define INTERVAL_MS_DEFAULT 100

enum kind {
	KIND_NODE,
	KIND_POOL,
	KIND_SERVICE,
	KIND_VIRTUAL_IP,
	KIND_SLICE,
	KIND_SPEAKER,
	KIND_COUNT
};

static const struct {
	const char *kind, *api;
} kinds[KIND_COUNT] = {
	[KIND_NODE] = { "Node", "v1" },
	[KIND_POOL] = { "AddressPool", "vipd.dev/v1alpha1" },
	[KIND_SERVICE] = { "Service", "v1" },
	[KIND_VIRTUAL_IP] = { "VirtualIP", "vipd.dev/v1alpha1" },
	[KIND_SLICE] = { "EndpointSlice", "discovery.k8s.io/v1" },
	[KIND_SPEAKER] = { "Speaker", "vipd.dev/v1alpha1" },
};

struct document {
	struct document *next;
	enum kind kind;
	char *file;
	cJSON *tree;
};

struct vip {
	struct base_address address;
	const struct document *origin; /* what asked for it first */
	const cJSON *item;	       /* where, for messages */
	const struct document *pool, *object; /* AddressPool; VirtualIP if there is one */
	unsigned id;			      /* 0: not given yet */
	char services[MESSAGE_TEXT_SIZE];
};

struct wish_set {
	struct document *first, **last;
	const char *reading;
	bool cluster; /* a controller allocates, a Lease is to be won: see wish_set_new() */
	struct base_error *error;
	void (*on_skipped)(void *userdata, const struct base_error *error);
	void *skipped_userdata;
	unsigned vip_count;
	struct vip vips[VIPS_MAX];
};

DEFINE_CLEANUP(FILE, fclose)

/* --- access, with a place for every complaint --- */

static const cJSON *get(const cJSON *item, const char *path)
{
	char part[64];

	while (item && *path) {
		size_t length = strcspn(path, "/");

		snprintf(part, sizeof part, "%.*s", (int)length, path);
		item = cJSON_GetObjectItemCaseSensitive(item, part);
		path += length + (path[length] == '/');
	}
	return item && cJSON_IsNull(item) ? NULL : item;
}

static const char *text_at(const cJSON *item, const char *path)
{
	item = get(item, path);
	return cJSON_IsString(item) ? item->valuestring : "";
}

static const char *annotation(const cJSON *tree, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(get(tree, "metadata/annotations"), name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

__attribute__((format(printf, 4, 5))) static int
complain(struct wish_set *set, const struct document *document, const cJSON *item,
	 const char *format, ...)
{
	char what[200];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof what, format, arguments);
	va_end(arguments);
	if (set->cluster)
		return base_error_set(set->error, -EINVAL, "%s %s: %s", kinds[document->kind].kind,
				      text_at(document->tree, "metadata/name"), what);
	return base_error_set(set->error, -EINVAL, "%s:%d: %s", document->file,
			      item ? item->valueint : document->tree->valueint, what);
}

/* --- reading --- */

struct wish_set *wish_set_new(bool cluster)
{
	struct wish_set *set = calloc(1, sizeof *set);

	if (!set)
		return NULL;
	set->last = &set->first;
	set->cluster = cluster;
	return set;
}

void wish_set_free(struct wish_set *set)
{
	if (!set)
		return;
	while (set->first) {
		struct document *next = set->first->next;

		cJSON_Delete(set->first->tree);
		free(set->first->file);
		free(set->first);
		set->first = next;
	}
	free(set);
}

static bool same_object(const struct document *a, const struct document *b)
{
	return a->kind == b->kind &&
	       strcmp(text_at(a->tree, "metadata/name"), text_at(b->tree, "metadata/name")) == 0 &&
	       strcmp(text_at(a->tree, "metadata/namespace"),
		      text_at(b->tree, "metadata/namespace")) == 0;
}

static int check_document(struct wish_set *set, const struct document *document)
{
	const char *name = text_at(document->tree, "metadata/name");

	if (strcmp(text_at(document->tree, "apiVersion"), kinds[document->kind].api) != 0)
		return complain(set, document, get(document->tree, "apiVersion"),
				"%s has apiVersion \"%s\": write %s", kinds[document->kind].kind,
				text_at(document->tree, "apiVersion"), kinds[document->kind].api);
	if (!*name)
		return complain(set, document, get(document->tree, "metadata"),
				"%s without a name: write metadata.name as text",
				kinds[document->kind].kind);
	if (strlen(name) >= MESSAGE_NAME_SIZE && document->kind != KIND_SLICE)
		return complain(set, document, get(document->tree, "metadata/name"),
				"the name is longer than %d characters", MESSAGE_NAME_SIZE - 1);
	for (const struct document *other = set->first; other; other = other->next)
		if (same_object(other, document))
			return complain(set, document, NULL, "%s %s stands in %s:%d already",
					kinds[document->kind].kind, name, other->file,
					other->tree->valueint);
	return 0;
}

static int on_document(void *userdata, cJSON *tree)
{
	struct wish_set *set = userdata;
	struct document *document = calloc(1, sizeof *document);
	const char *kind = text_at(tree, "kind");
	int r;

	if (!document) {
		cJSON_Delete(tree);
		return -ENOMEM;
	}
	document->tree = tree;
	document->file = strdup(set->reading);
	while (document->kind < KIND_COUNT && strcmp(kinds[document->kind].kind, kind) != 0)
		document->kind++;
	if (document->kind == KIND_COUNT)
		r = complain(set, document, get(tree, "kind"),
			     "kind \"%s\": expected AddressPool, Service, VirtualIP, EndpointSlice "
			     "or Node",
			     kind);
	else
		r = check_document(set, document);
	if (r < 0) {
		cJSON_Delete(tree);
		free(document->file);
		free(document);
		return r;
	}
	*set->last = document;
	set->last = &document->next;
	return 0;
}

static struct document **find_document(struct wish_set *set, const char *kind,
				       const char *namespace, const char *name)
{
	struct document **slot = &set->first;

	while (*slot && (strcmp(kinds[(*slot)->kind].kind, kind) != 0 ||
			 strcmp(text_at((*slot)->tree, "metadata/name"), name) != 0 ||
			 strcmp(text_at((*slot)->tree, "metadata/namespace"), namespace) != 0))
		slot = &(*slot)->next;
	return slot;
}

int wish_set_put(struct wish_set *set, const char *kind, cJSON *tree)
{
	struct document **slot =
		find_document(set, kind, text_at(tree, "metadata/namespace"),
			      text_at(tree, "metadata/name"));
	struct document *document = *slot;

	if (!document) {
		document = calloc(1, sizeof *document);
		if (!document) {
			cJSON_Delete(tree);
			return -ENOMEM;
		}
		while (document->kind < KIND_COUNT &&
		       strcmp(kinds[document->kind].kind, kind) != 0)
			document->kind++;
		*set->last = document;
		set->last = &document->next;
	}
	cJSON_Delete(document->tree);
	document->tree = tree;
	return 0;
}

void wish_set_drop(struct wish_set *set, const char *kind, const char *namespace,
		   const char *name)
{
	struct document **slot = find_document(set, kind, namespace, name);
	struct document *document = *slot;

	if (!document)
		return;
	*slot = document->next;
	if (set->last == &document->next)
		set->last = slot;
	cJSON_Delete(document->tree);
	free(document->file);
	free(document);
}

const cJSON *wish_set_get(struct wish_set *set, const char *kind, const char *namespace,
			  const char *name)
{
	struct document *document = *find_document(set, kind, namespace, name);

	return document ? document->tree : NULL;
}

void wish_set_each(struct wish_set *set, const char *kind,
		   void (*callback)(void *userdata, const cJSON *tree), void *userdata)
{
	for (struct document *document = set->first; document; document = document->next)
		if (strcmp(kinds[document->kind].kind, kind) == 0)
			callback(userdata, document->tree);
}

static int read_file(struct wish_set *set, const char *path)
{
	CLEANUP(fclose_cleanup) FILE *file = fopen(path, "re");
	CLEANUP(base_free_cleanup) char *text = NULL;
	size_t size;
	struct stat status;

	if (!file || fstat(fileno(file), &status) < 0)
		return base_error_set(set->error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode) || status.st_size > K8S_YAML_SIZE_MAX)
		return base_error_set(set->error, -EINVAL, "%s: no ordinary file of at most %u bytes",
				      path, K8S_YAML_SIZE_MAX);
	text = malloc((size_t)status.st_size + 1);
	if (!text)
		return -ENOMEM;
	size = fread(text, 1, (size_t)status.st_size, file);
	set->reading = path;
	return k8s_yaml_parse(text, size, path, on_document, set, set->error);
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
	if (stat(path, &status) < 0)
		return base_error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(status.st_mode))
		return read_file(set, path);
	count = scandir(path, &entries, is_manifest, alphasort);
	if (count < 0)
		return base_error_set(error, -errno, "%s: %s", path, strerror(errno));
	for (int i = 0; i < count; i++) {
		char file[4096];

		snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
		if (r >= 0)
			r = read_file(set, file);
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* --- addresses and pools --- */

static int read_range(struct wish_set *set, const struct document *pool, const cJSON *item,
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

static int list_contains(struct wish_set *set, const struct document *pool, const char *list,
			 const struct base_address *address, bool *contains)
{
	const cJSON *items = get(pool->tree, list), *item;

	*contains = false;
	if (items && !cJSON_IsArray(items))
		return complain(set, pool, items, "%s must be a list", list);
	cJSON_ArrayForEach(item, items) {
		struct base_address first, last;
		int r = read_range(set, pool, item, &first, &last);

		if (r < 0)
			return r;
		if (first.family == address->family && base_address_compare(&first, address) <= 0 &&
		    base_address_compare(address, &last) <= 0)
			*contains = true;
	}
	return 0;
}

static int find_pool(struct wish_set *set, const struct base_address *address,
		     const struct document **pool)
{
	*pool = NULL;
	if (set->cluster)
		return 0; /* what it says stands in the VirtualIP too */
	for (const struct document *d = set->first; d; d = d->next) {
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

static struct vip *find_vip(struct wish_set *set, const struct base_address *address)
{
	for (unsigned i = 0; i < set->vip_count; i++)
		if (base_address_equal(&set->vips[i].address, address))
			return &set->vips[i];
	return NULL;
}

static int add_vip(struct wish_set *set, const struct base_address *address,
		   const struct document *document, const cJSON *item, struct vip **result)
{
	struct vip *vip;
	int r;

	if (base_address_is_special(address))
		return complain(set, document, item, "this address can be nobody's virtual address");
	if (set->vip_count == VIPS_MAX)
		return complain(set, document, item, "more than %d virtual addresses", VIPS_MAX);
	vip = &set->vips[set->vip_count++];
	memset(vip, 0, sizeof *vip);
	vip->address = *address;
	vip->origin = document;
	vip->item = item;
	r = find_pool(set, address, &vip->pool);
	*result = vip;
	return r;
}

static void add_service_name(struct vip *vip, const struct document *service)
{
	const char *space = text_at(service->tree, "metadata/namespace");
	size_t at = strlen(vip->services);

	snprintf(vip->services + at, sizeof vip->services - at, "%s%s/%s", at ? "," : "",
		 *space ? space : "default", text_at(service->tree, "metadata/name"));
}

static int collect_virtual_ip(struct wish_set *set, const struct document *document)
{
	const cJSON *item = get(document->tree, "spec/address");
	const cJSON *id = get(document->tree, "spec/virtualRouterID");
	struct base_address address;
	struct vip *vip;
	int r;

	if (!cJSON_IsString(item) || !base_address_parse(item->valuestring, &address))
		return complain(set, document, item, "spec.address must be an IPv4 or IPv6 address");
	vip = find_vip(set, &address);
	if (vip)
		return complain(set, document, item, "%s has this address already (%s:%d)",
				text_at(vip->origin->tree, "metadata/name"), vip->origin->file,
				vip->item->valueint);
	r = add_vip(set, &address, document, item, &vip);
	if (r < 0)
		return r;
	vip->object = document;
	if (id) {
		if (!cJSON_IsNumber(id) || id->valuedouble < 1 || id->valuedouble > 255 ||
		    id->valuedouble != (int)id->valuedouble)
			return complain(set, document, id, "virtualRouterID must be 1 to 255");
		vip->id = (unsigned)id->valuedouble;
	}
	return 0;
}

/* Is the Service among those that the VirtualIP names? Then sharing was meant. */
static bool names_service(const struct document *virtual_ip, const struct document *service)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, get(virtual_ip->tree, "spec/services")) {
		const char *space = text_at(service->tree, "metadata/namespace");

		if (strcmp(text_at(item, "name"), text_at(service->tree, "metadata/name")) == 0 &&
		    strcmp(*text_at(item, "namespace") ? text_at(item, "namespace") : "default",
			   *space ? space : "default") == 0)
			return true;
	}
	return false;
}

static int for_each_address(struct wish_set *set, const struct document *service,
			    int (*callback)(struct wish_set *set, const struct document *service,
					    const struct base_address *address, const cJSON *item,
					    void *userdata),
			    void *userdata)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(
		get(service->tree, "metadata/annotations"), "vipd.dev/addresses");
	struct base_address asked[ASKED_MAX];
	char text[512];
	int count = 0, asked_count = 0;

	if (!cJSON_IsString(item))
		item = get(service->tree, "spec/loadBalancerIP");
	/* In a cluster the VirtualIP is the record; what the Service asks for is not yet given. */
	snprintf(text, sizeof text, "%s",
		 cJSON_IsString(item) && !set->cluster ? item->valuestring : "");
	for (char *save, *word = strtok_r(text, ", ", &save); word;
	     word = strtok_r(NULL, ", ", &save), count++) {
		struct base_address address;
		int r;

		if (!base_address_parse(word, &address))
			return complain(set, service, item, "\"%s\" is no address", word);
		if (asked_count == ASKED_MAX)
			return complain(set, service, item, "more than %d addresses", ASKED_MAX);
		asked[asked_count++] = address;
		r = callback(set, service, &address, item, userdata);
		if (r < 0)
			return r;
	}
	for (const struct document *d = set->first; d; d = d->next) {
		struct base_address address;
		bool known = false;
		int r;

		if (d->kind != KIND_VIRTUAL_IP || get(d->tree, "metadata/deletionTimestamp") ||
		    !names_service(d, service) ||
		    !base_address_parse(text_at(d->tree, "spec/address"), &address))
			continue;
		for (int i = 0; i < asked_count && !known; i++)
			known = base_address_equal(&asked[i], &address);
		if (known)
			continue;
		r = callback(set, service, &address, get(d->tree, "spec/address"), userdata);
		if (r < 0)
			return r;
		count++;
	}
	if (count == 0 && !set->cluster)
		return complain(set, service, get(service->tree, "metadata"),
				"Service %s names no address: without Kubernetes nobody allocates one; "
				"write the annotation vipd.dev/addresses",
				text_at(service->tree, "metadata/name"));
	return 0;
}

static bool is_balanced(const struct document *document)
{
	const char *class = text_at(document->tree, "spec/loadBalancerClass");

	return document->kind == KIND_SERVICE &&
	       strcmp(text_at(document->tree, "spec/type"), "LoadBalancer") == 0 &&
	       (!*class || strcmp(class, "vipd.dev/vip") == 0);
}

static int collect_service(struct wish_set *set, const struct document *service,
			   const struct base_address *address, const cJSON *item, void *userdata)
{
	struct vip *vip = find_vip(set, address);
	const char *key = annotation(service->tree, "vipd.dev/sharing-key");
	int r = 0;

	(void)userdata;
	if (vip && vip->services[0] && !(vip->object && names_service(vip->object, service)) &&
	    (!*key || strcmp(key, annotation(vip->origin->tree, "vipd.dev/sharing-key")) != 0))
		return complain(set, service, item,
				"the address is %s's (%s:%d): share it with the same annotation "
				"vipd.dev/sharing-key on both, or take another",
				vip->services, vip->origin->file, vip->item->valueint);
	if (!vip)
		r = add_vip(set, address, service, item, &vip);
	if (r < 0)
		return r;
	if (!vip->pool && !vip->object && !set->cluster)
		return complain(set, service, item, "the address is in no AddressPool");
	add_service_name(vip, service);
	return 0;
}

/* --- what a pool says about its virtual routers --- */

static int read_id_list(struct wish_set *set, const struct document *pool, const char *list,
			bool value, bool allowed[256])
{
	const cJSON *items = get(pool->tree, list), *item;

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

static int read_pool(struct wish_set *set, const struct document *pool,
		     struct message_router *router)
{
	static const struct {
		const char *word;
		enum message_dataplane value;
	} dataplanes[] = {
		{ "auto", MESSAGE_DATAPLANE_AUTO },
		{ "director", MESSAGE_DATAPLANE_DIRECTOR },
		{ "nat", MESSAGE_DATAPLANE_NAT },
		{ "announce", MESSAGE_DATAPLANE_ANNOUNCE },
	};
	const cJSON *interval = get(pool->tree, "spec/vrrp/advertisementIntervalMilliseconds");
	const cJSON *dataplane = get(pool->tree, "spec/dataplane");
	const cJSON *mode = get(pool->tree, "spec/vrrp/mode"), *item;
	const cJSON *version = get(pool->tree, "spec/vrrp/version");

	if (interval) {
		double ms = interval->valuedouble;

		if (!cJSON_IsNumber(interval) || ms < 10 || ms > 40950 || (int)ms % 10 != 0 ||
		    ms != (int)ms)
			return complain(set, pool, interval,
					"advertisementIntervalMilliseconds must be 10 to 40950 in "
					"steps of 10");
		router->interval_ms = (uint32_t)ms;
	}
	if (version) {
		if (!cJSON_IsNumber(version) ||
		    (version->valuedouble != 2 && version->valuedouble != 3))
			return complain(set, pool, version, "version must be 3 or 2");
		router->version = (uint8_t)version->valuedouble;
	}
	if (mode && strcmp(text_at(mode, ""), "multicast") != 0 &&
	    strcmp(text_at(mode, ""), "unicast") != 0)
		return complain(set, pool, mode, "mode must be multicast or unicast");
	router->unicast = mode && strcmp(text_at(mode, ""), "unicast") == 0;
	if (dataplane) {
		size_t i = 0;

		while (i < BASE_COUNT_OF(dataplanes) &&
		       strcmp(text_at(dataplane, ""), dataplanes[i].word) != 0)
			i++;
		if (i == BASE_COUNT_OF(dataplanes))
			return complain(set, pool, dataplane,
					"dataplane must be auto, director, nat or announce");
		router->dataplane = (uint8_t)dataplanes[i].value;
	}
	cJSON_ArrayForEach(item, get(pool->tree, "spec/interfaces")) {
		if (!cJSON_IsString(item) || strlen(item->valuestring) >= MESSAGE_INTERFACE_SIZE ||
		    router->interface_count == MESSAGE_INTERFACES_MAX)
			return complain(set, pool, item,
					"interfaces holds at most %d names or patterns of at most %d "
					"characters",
					MESSAGE_INTERFACES_MAX, MESSAGE_INTERFACE_SIZE - 1);
		strcpy(router->interfaces[router->interface_count++], item->valuestring);
	}
	return 0;
}

static int compare_vips(const void *a, const void *b)
{
	const struct vip *left = a, *right = b;

	return base_address_compare(&left->address, &right->address);
}

/* Deterministic: every node reads the same files and must come to the same IDs. */
static int assign_ids(struct wish_set *set)
{
	static const struct vip *taken[2][256];

	memset(taken, 0, sizeof taken);
	qsort(set->vips, set->vip_count, sizeof *set->vips, compare_vips);
	for (unsigned i = 0; i < set->vip_count; i++) {
		struct vip *vip = &set->vips[i];
		int six = vip->address.family == BASE_FAMILY_IPV6;

		if (!vip->id)
			continue;
		if (taken[six][vip->id])
			return complain(set, vip->origin, vip->item,
					"virtualRouterID %u is that of %s:%d already", vip->id,
					taken[six][vip->id]->origin->file,
					taken[six][vip->id]->item->valueint);
		taken[six][vip->id] = vip;
	}
	for (unsigned i = 0; i < set->vip_count; i++) {
		struct vip *vip = &set->vips[i];
		int six = vip->address.family == BASE_FAMILY_IPV6;
		unsigned wish = vip->address.bytes[six ? 15 : 3];
		bool allowed[256];
		int r = 0;

		if (vip->id)
			continue;
		memset(allowed, 1, sizeof allowed);
		if (vip->pool)
			r = read_id_list(set, vip->pool, "spec/vrrp/virtualRouterIDs", true, allowed);
		if (r >= 0 && vip->pool)
			r = read_id_list(set, vip->pool, "spec/vrrp/excludeVirtualRouterIDs", false,
					 allowed);
		if (r < 0)
			return r;
		for (unsigned n = 0; n < 256 && !vip->id; n++) {
			unsigned id = (wish + n) % 256;

			if (id && allowed[id] && !taken[six][id])
				vip->id = id;
		}
		if (!vip->id)
			return complain(set, vip->origin, vip->item,
					"no virtual router ID is left for this address");
		taken[six][vip->id] = vip;
	}
	return 0;
}

/* --- messages --- */

/* Where the node's own Speaker says it is: other LANs than the one of its InternalIP. */
static void add_segments(struct wish_set *set, struct message_node *node)
{
	struct document *speaker = *find_document(set, "Speaker", "", node->name);
	const cJSON *list = speaker ? get(speaker->tree, "status/segments") : NULL, *item;

	cJSON_ArrayForEach(item, list) {
		struct base_address address;
		bool known = false;

		if (node->address_count == MESSAGE_NODE_ADDRESSES_MAX ||
		    !base_address_parse(text_at(item, "address"), &address))
			continue;
		for (uint32_t i = 0; i < node->address_count && !known; i++)
			known = base_address_equal(&node->addresses[i], &address);
		if (!known)
			node->addresses[node->address_count++] = address;
	}
}

static int emit_node(struct wish_set *set, const struct document *document,
		     struct message *message)
{
	struct message_node *node = &message->node;
	const cJSON *addresses = get(document->tree, "status/addresses"), *item;

	memset(message, 0, sizeof *message);
	message->type = MESSAGE_NODE;
	snprintf(node->name, sizeof node->name, "%s", text_at(document->tree, "metadata/name"));
	cJSON_ArrayForEach(item, addresses) {
		if (strcmp(text_at(item, "type"), "InternalIP") != 0)
			continue;
		if (node->address_count == MESSAGE_NODE_ADDRESSES_MAX)
			return complain(set, document, item, "more than %d addresses",
					MESSAGE_NODE_ADDRESSES_MAX);
		if (!base_address_parse(text_at(item, "address"),
					&node->addresses[node->address_count++]))
			return complain(set, document, item, "\"%s\" is no address",
					text_at(item, "address"));
	}
	add_segments(set, node);
	if (node->address_count == 0 && !set->cluster)
		return complain(set, document, addresses,
				"Node %s has no InternalIP in status.addresses", node->name);
	cJSON_ArrayForEach(item, get(document->tree, "spec/podCIDRs"))
		if (node->pod_range_count < 4 && cJSON_IsString(item) &&
		    base_prefix_parse(item->valuestring, &node->pod_ranges[node->pod_range_count]))
			node->pod_range_count++;
	return 0;
}

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

	cJSON_ArrayForEach(item, get(tree, "status/addresses")) {
		struct base_address address;

		if (base_address_parse(text_at(item, "address"), &address) &&
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

	for (const struct document *d = set->first; d; d = d->next) {
		uint8_t bytes[MESSAGE_NAME_SIZE + sizeof vip->address] = { 0 };

		if (d->kind != KIND_NODE || count == NODES_MAX ||
		    !has_family(d->tree, (enum base_family)vip->address.family))
			continue;
		ranked[count].node = text_at(d->tree, "metadata/name");
		snprintf((char *)bytes, MESSAGE_NAME_SIZE, "%s", ranked[count].node);
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

static int read_candidates(struct wish_set *set, const struct vip *vip,
			   struct message_router *router)
{
	const cJSON *list = vip->object ? get(vip->object->tree, "spec/candidates") : NULL, *item;

	cJSON_ArrayForEach(item, list) {
		const cJSON *priority = get(item, "priority");
		struct message_candidate *candidate;

		if (router->candidate_count == MESSAGE_CANDIDATES_MAX)
			return complain(set, vip->object, item, "more than %d candidates",
					MESSAGE_CANDIDATES_MAX);
		candidate = &router->candidates[router->candidate_count++];
		snprintf(candidate->node, sizeof candidate->node, "%s", text_at(item, "node"));
		if (!candidate->node[0] || !cJSON_IsNumber(priority) || priority->valuedouble < 1 ||
		    priority->valuedouble > 254)
			return complain(set, vip->object, item,
					"a candidate is {node: NAME, priority: 1 to 254}");
		candidate->priority = (uint8_t)priority->valuedouble;
	}
	if (router->candidate_count == 0 && !set->cluster)
		rank_candidates(set, vip, router);
	return 0;
}

/* Other addresses that were packed into the same virtual router: they move together. */
static int add_companions(struct wish_set *set, const struct vip *vip,
			  struct message_router *router)
{
	for (unsigned i = 0; i < set->vip_count; i++) {
		const struct vip *other = &set->vips[i];

		if (other == vip || !other->object ||
		    strcmp(text_at(other->object->tree, "spec/virtualRouter"), router->name) != 0)
			continue;
		if (other < vip)
			return 1; /* said with the first of them already */
		if (router->address_count == MESSAGE_ADDRESSES_MAX)
			return complain(set, other->object, NULL,
					"more than %d addresses in one virtual router",
					MESSAGE_ADDRESSES_MAX);
		router->addresses[router->address_count++] = other->address;
	}
	return 0;
}

static int make_router(struct wish_set *set, const struct vip *vip, struct message *message)
{
	struct message_router *router = &message->router;
	const char *pool = vip->pool ? text_at(vip->pool->tree, "metadata/name") : "none";
	int r;

	memset(message, 0, sizeof *message);
	message->type = MESSAGE_ROUTER;
	snprintf(router->pool, sizeof router->pool, "%s", pool);
	snprintf(router->name, sizeof router->name, "%s.%s.%u", pool,
		 vip->address.family == BASE_FAMILY_IPV4 ? "ipv4" : "ipv6", vip->id);
	memcpy(router->services, vip->services, sizeof router->services);
	if (set->cluster) {
		snprintf(router->pool, sizeof router->pool, "%s",
			 text_at(vip->object->tree, "spec/pool"));
		snprintf(router->name, sizeof router->name, "%s",
			 text_at(vip->object->tree, "spec/virtualRouter"));
		if (!router->name[0])
			return complain(set, vip->object, NULL, "spec.virtualRouter is missing");
		router->leased = true;
	}
	router->virtual_router_id = (uint8_t)vip->id;
	router->family = vip->address.family;
	router->version = 3;
	router->interval_ms = INTERVAL_MS_DEFAULT;
	router->address_count = 1;
	router->addresses[0] = vip->address;
	r = vip->pool ? read_pool(set, vip->pool, router) : 0;
	if (r >= 0 && set->cluster)
		r = read_pool(set, vip->object, router);
	if (r >= 0)
		r = read_candidates(set, vip, router);
	return r < 0 || !set->cluster ? r : add_companions(set, vip, router);
}

struct emission {
	const char *node;
	int (*emit)(void *userdata, const struct message *message);
	void *userdata;
	struct message message;
};

static bool port_matches(const cJSON *slice_port, const cJSON *service_port)
{
	const char *protocol = text_at(service_port, "protocol");
	const char *slice_protocol = text_at(slice_port, "protocol");

	return strcmp(text_at(slice_port, "name"), text_at(service_port, "name")) == 0 &&
	       strcmp(*protocol ? protocol : "TCP", *slice_protocol ? slice_protocol : "TCP") == 0;
}

static bool is_true(const cJSON *item, bool otherwise)
{
	return item && !cJSON_IsNull(item) ? cJSON_IsTrue(item) : otherwise;
}

/* Ready ones; or, if there are none, those that still serve while they end (KEP-1669). */
static int add_endpoints(struct wish_set *set, const struct document *slice, double port,
			 bool terminating, struct message_service_port *wish)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, get(slice->tree, "endpoints")) {
		bool ready = is_true(get(item, "conditions/ready"), true);
		bool ending = is_true(get(item, "conditions/terminating"), false);
		const cJSON *address = cJSON_GetArrayItem(get(item, "addresses"), 0);
		struct message_endpoint *endpoint;
		bool known = false;

		if (terminating ? !(ending && is_true(get(item, "conditions/serving"), ready)) : !ready)
			continue;
		if (wish->endpoint_count == MESSAGE_ENDPOINTS_MAX)
			return complain(set, slice, item, "more than %d endpoints",
					MESSAGE_ENDPOINTS_MAX);
		endpoint = &wish->endpoints[wish->endpoint_count];
		if (!cJSON_IsString(address) ||
		    !base_address_parse(address->valuestring, &endpoint->address))
			return complain(set, slice, item, "an endpoint without a usable address");
		if (endpoint->address.family != wish->address.family)
			continue;
		endpoint->port = (uint16_t)port;
		snprintf(endpoint->node, sizeof endpoint->node, "%s", text_at(item, "nodeName"));
		for (uint32_t i = 0; i < wish->endpoint_count && !known; i++)
			known = base_address_equal(&wish->endpoints[i].address,
						   &endpoint->address) &&
				wish->endpoints[i].port == endpoint->port;
		wish->endpoint_count += !known;
	}
	return 0;
}

static int collect_endpoints(struct wish_set *set, const struct document *service,
			     const cJSON *service_port, bool terminating,
			     struct message_service_port *wish)
{
	const char *space = text_at(service->tree, "metadata/namespace");

	for (const struct document *d = set->first; d; d = d->next) {
		const char *slice_space = text_at(d->tree, "metadata/namespace");
		const cJSON *label, *port;

		if (d->kind != KIND_SLICE)
			continue;
		label = cJSON_GetObjectItemCaseSensitive(get(d->tree, "metadata/labels"),
							 "kubernetes.io/service-name");
		if (!cJSON_IsString(label) ||
		    strcmp(label->valuestring, text_at(service->tree, "metadata/name")) != 0 ||
		    strcmp(*space ? space : "default", *slice_space ? slice_space : "default") != 0)
			continue;
		cJSON_ArrayForEach(port, get(d->tree, "ports")) {
			const cJSON *number = get(port, "port");
			int r;

			if (!port_matches(port, service_port))
				continue;
			if (!cJSON_IsNumber(number) || number->valuedouble < 1 ||
			    number->valuedouble > 65535)
				return complain(set, d, port, "a port is 1 to 65535");
			r = add_endpoints(set, d, number->valuedouble, terminating, wish);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int fill_port(struct wish_set *set, const struct document *service, const cJSON *port,
		     const struct base_address *address, struct message_service_port *wish)
{
	const char *space = text_at(service->tree, "metadata/namespace");
	const char *protocol = text_at(port, "protocol");
	const cJSON *number = get(port, "port"), *item;
	int r;

	memset(wish, 0, sizeof *wish);
	snprintf(wish->service, sizeof wish->service, "%s/%s", *space ? space : "default",
		 text_at(service->tree, "metadata/name"));
	wish->address = *address;
	wish->protocol = strcmp(protocol, "UDP") == 0	 ? IPPROTO_UDP
			 : strcmp(protocol, "SCTP") == 0 ? IPPROTO_SCTP
							   : IPPROTO_TCP;
	if (!cJSON_IsNumber(number) || number->valuedouble < 1 || number->valuedouble > 65535)
		return complain(set, service, port, "a port is 1 to 65535");
	wish->port = (uint16_t)number->valuedouble;
	wish->affinity = strcmp(text_at(service->tree, "spec/sessionAffinity"), "ClientIP") == 0
				 ? MESSAGE_AFFINITY_CLIENT_IP
				 : MESSAGE_AFFINITY_NONE;
	wish->local_only =
		strcmp(text_at(service->tree, "spec/externalTrafficPolicy"), "Local") == 0;
	cJSON_ArrayForEach(item, get(service->tree, "spec/loadBalancerSourceRanges")) {
		if (wish->range_count == MESSAGE_RANGES_MAX || !cJSON_IsString(item) ||
		    !base_prefix_parse(item->valuestring, &wish->ranges[wish->range_count]))
			return complain(set, service, item,
					"a source range is a CIDR like 198.51.100.0/24; at most %d",
					MESSAGE_RANGES_MAX);
		wish->range_count++;
	}
	r = collect_endpoints(set, service, port, false, wish);
	if (r >= 0 && wish->endpoint_count == 0)
		r = collect_endpoints(set, service, port, true, wish);
	return r;
}

static int emit_service(struct wish_set *set, const struct document *service,
			const struct base_address *address, const cJSON *place, void *userdata)
{
	struct emission *emission = userdata;
	const cJSON *ports = get(service->tree, "spec/ports"), *port;

	(void)place;
	if (!cJSON_IsArray(ports) || cJSON_GetArraySize(ports) == 0)
		return complain(set, service, ports, "a Service needs spec.ports");
	cJSON_ArrayForEach(port, ports) {
		int r;

		emission->message.type = MESSAGE_SERVICE_PORT;
		r = fill_port(set, service, port, address, &emission->message.service_port);
		if (r >= 0)
			r = emission->emit(emission->userdata, &emission->message);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_node(struct wish_set *set, const char *node)
{
	bool any = set->cluster; /* a node may be there before its Node object is */

	if (set->cluster)
		return 0;
	for (const struct document *d = set->first; d; d = d->next)
		if (d->kind == KIND_NODE) {
			any = true;
			if (node && strcmp(text_at(d->tree, "metadata/name"), node) == 0)
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

/* In a cluster one bad object is skipped and told; a file is mended as a whole. */
static int tolerate(struct wish_set *set, int r)
{
	if (r >= 0 || !set->cluster || r == -ENOMEM)
		return r;
	if (set->on_skipped)
		set->on_skipped(set->skipped_userdata, set->error);
	return 0;
}

void wish_set_on_skipped(struct wish_set *set,
			 void (*callback)(void *userdata, const struct base_error *error),
			 void *userdata)
{
	set->on_skipped = callback;
	set->skipped_userdata = userdata;
}

static int collect(struct wish_set *set, const char *node)
{
	int r = check_node(set, node);

	set->vip_count = 0;
	for (const struct document *d = set->first; d && r >= 0; d = d->next)
		if (d->kind == KIND_VIRTUAL_IP && !get(d->tree, "metadata/deletionTimestamp"))
			r = tolerate(set, collect_virtual_ip(set, d));
	for (const struct document *d = set->first; d && r >= 0; d = d->next)
		if (is_balanced(d))
			r = tolerate(set, for_each_address(set, d, collect_service, NULL));
	if (r >= 0 && !set->cluster)
		r = assign_ids(set);
	return r;
}

int wish_set_emit(struct wish_set *set, const char *node,
		  int (*emit)(void *userdata, const struct message *message), void *userdata,
		  struct base_error *error)
{
	struct emission *emission = calloc(1, sizeof *emission);
	int r;

	if (!emission)
		return -ENOMEM;
	emission->node = node;
	emission->emit = emit;
	emission->userdata = userdata;
	set->error = error;
	r = collect(set, node);
	for (const struct document *d = set->first; d && r >= 0; d = d->next)
		if (d->kind == KIND_NODE) {
			r = emit_node(set, d, &emission->message);
			if (r >= 0)
				r = emit(userdata, &emission->message);
			r = tolerate(set, r);
		}
	for (unsigned i = 0; i < set->vip_count && r >= 0; i++) {
		r = make_router(set, &set->vips[i], &emission->message);
		if (r == 0)
			r = emit(userdata, &emission->message);
		r = tolerate(set, r);
	}
	for (const struct document *d = set->first; d && r >= 0; d = d->next)
		if (is_balanced(d))
			r = tolerate(set, for_each_address(set, d, emit_service, emission));
	free(emission);
	return r < 0 ? r : 0;
}
