#include "daemon/controller/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "k8s/object.h"

#define QUARANTINE_S_DEFAULT 60
#define COUNTS_US            BASE_USEC_PER_SEC
#define NOTE_US              100 /* times the entries */

/* --- spec --- */

static int read_ranges(struct ipam_range *ranges, size_t *count, const cJSON *list,
		       const char *field, struct base_error *error)
{
	const cJSON *item;

	if (list && !cJSON_IsArray(list))
		return base_error_set(error, -EINVAL, "spec.%s must be a list", field);
	cJSON_ArrayForEach(item, list) {
		const char *text = cJSON_IsString(item) ? item->valuestring : "";

		if (!ipam_range_parse(text, &ranges[*count]))
			return base_error_set(
				error, -EINVAL,
				"spec.%s: \"%.64s\" is no address, no range FIRST-LAST and "
				"no CIDR like 192.0.2.0/26",
				field, text);
		++*count;
	}
	return 0;
}

static int read_ids(struct ipam_ids *ids, const cJSON *list, bool add, const char *field,
		    struct base_error *error)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list) {
		unsigned first = 0, last = 0;
		int end = 0;

		if (cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= 255)
			first = last = (unsigned)item->valuedouble;
		else if (cJSON_IsString(item) &&
			 sscanf(item->valuestring, "%u-%u%n", &first, &last, &end) != 2)
			last = sscanf(item->valuestring, "%u%n", &first, &end) == 1 ? first : 0;
		if (first < 1 || last > 255 || first > last ||
		    (cJSON_IsString(item) && item->valuestring[end]))
			return base_error_set(
				error, -EINVAL,
				"spec.vrrp.%s: virtual router IDs are 1 to 255, or ranges "
				"like \"10-20\", the lower one first",
				field);
		if (add)
			ipam_ids_add(ids, first, last);
		else
			ipam_ids_remove(ids, first, last);
	}
	return 0;
}

static int read_reservations(struct pool_spec *spec, const cJSON *list, struct base_error *error)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list) {
		struct ipam_reservation *reservation =
			&spec->reservations[spec->pool.reservation_count];

		if (!base_address_parse(k8s_object_text(item, "address"), &reservation->address))
			return base_error_set(error, -EINVAL,
					      "spec.reservations: \"%.64s\" is no address",
					      k8s_object_text(item, "address"));
		reservation->service.namespace = k8s_object_text(item, "service/namespace");
		reservation->service.name = k8s_object_text(item, "service/name");
		spec->pool.reservation_count++;
	}
	return 0;
}

static int allocate(struct pool_spec *spec, const cJSON *tree)
{
	size_t ranges = (size_t)cJSON_GetArraySize(k8s_object_get(tree, "addresses")) +
			(size_t)cJSON_GetArraySize(k8s_object_get(tree, "exclude"));
	size_t reservations = (size_t)cJSON_GetArraySize(k8s_object_get(tree, "reservations"));
	size_t namespaces = (size_t)cJSON_GetArraySize(k8s_object_get(tree, "namespaces"));

	spec->ranges = calloc(ranges + 1, sizeof(*spec->ranges));
	spec->reservations = calloc(reservations + 1, sizeof(*spec->reservations));
	spec->namespaces = calloc(namespaces + 1, sizeof(*spec->namespaces));
	return spec->ranges && spec->reservations && spec->namespaces ? 0 : -ENOMEM;
}

static void read_scalars(struct ipam_pool *pool, const cJSON *tree)
{
	pool->avoid_first_last = k8s_object_bool(tree, "avoidFirstLast", true);
	pool->auto_assign = k8s_object_bool(tree, "autoAssign", true);
	pool->disabled = k8s_object_bool(tree, "disabled", false);
	pool->external_ips = k8s_object_bool(tree, "externalIPs", false);
	pool->priority = (int32_t)k8s_object_number(tree, "priority", INT32_MIN, INT32_MAX, 0);
	pool->namespace_selector = k8s_object_get(tree, "namespaceSelector") != NULL;
	pool->service_selector = k8s_object_get(tree, "serviceSelector") != NULL;
	pool->max_per_namespace =
		(uint32_t)k8s_object_number(tree, "maxPerNamespace", 1, INT32_MAX, 0);
	pool->quarantine_us = (uint64_t)k8s_object_number(tree, "quarantineSeconds", 0, 31536000,
							  QUARANTINE_S_DEFAULT) *
			      BASE_USEC_PER_SEC;
	pool->segment =
		""; /* which LAN is not known for sure: virtual router IDs are shared by all */
}

int pool_spec_read(struct pool_spec *spec, const cJSON *object, struct base_error *error)
{
	const cJSON *tree = k8s_object_get(object, "spec"), *item;
	struct ipam_pool *pool = &spec->pool;
	int r;

	memset(spec, 0, sizeof *spec);
	if (allocate(spec, tree) < 0)
		return -ENOMEM;
	pool->name = k8s_object_text(object, "metadata/name");
	read_scalars(pool, tree);
	r = read_ranges(spec->ranges, &pool->address_count, k8s_object_get(tree, "addresses"),
			"addresses", error);
	pool->addresses = spec->ranges;
	pool->exclude = spec->ranges + pool->address_count;
	if (r >= 0)
		r = read_ranges(spec->ranges + pool->address_count, &pool->exclude_count,
				k8s_object_get(tree, "exclude"), "exclude", error);
	cJSON_ArrayForEach(item, k8s_object_get(tree, "namespaces")) {
		if (cJSON_IsString(item))
			spec->namespaces[pool->namespace_count++] = item->valuestring;
	}
	pool->namespaces = spec->namespaces;
	pool->reservations = spec->reservations;
	if (r >= 0)
		r = read_reservations(spec, k8s_object_get(tree, "reservations"), error);
	if (!k8s_object_get(tree, "vrrp/virtualRouterIDs"))
		ipam_ids_add(&pool->virtual_router_ids, 1, 255);
	if (r >= 0)
		r = read_ids(&pool->virtual_router_ids,
			     k8s_object_get(tree, "vrrp/virtualRouterIDs"), true,
			     "virtualRouterIDs", error);
	if (r >= 0)
		r = read_ids(&pool->virtual_router_ids,
			     k8s_object_get(tree, "vrrp/excludeVirtualRouterIDs"), false,
			     "excludeVirtualRouterIDs", error);
	if (r >= 0)
		r = ipam_pool_check(pool, error);
	if (r < 0)
		pool_spec_clear(spec);
	return r;
}

void pool_spec_clear(struct pool_spec *spec)
{
	free(spec->ranges);
	free(spec->reservations);
	free(spec->namespaces);
	memset(spec, 0, sizeof *spec);
}

/* --- status --- */

struct quarantine_list {
	cJSON *list;
	size_t count;
};

static bool add_quarantine(void *userdata, const struct ipam_quarantine *quarantine)
{
	struct quarantine_list *out = userdata;
	char address[BASE_ADDRESS_TEXT_SIZE], until[K8S_TIME_SIZE], service[2 * IPAM_NAME_SIZE];
	cJSON *item;

	if (out->count++ == POOL_QUARANTINE_MAX)
		return false;
	snprintf(service, sizeof service, "%s/%s", quarantine->service.namespace,
		 quarantine->service.name);
	/* Whole seconds, and never less than was meant. */
	k8s_time_format(until, quarantine->until_us + BASE_USEC_PER_SEC - 1, false);
	cJSON_AddItemToArray(out->list, item = cJSON_CreateObject());
	cJSON_AddStringToObject(item, "address",
				base_address_format(&quarantine->address, address));
	cJSON_AddStringToObject(item, "service", service);
	cJSON_AddStringToObject(item, "until", until);
	return true;
}

static void add_counts(cJSON *status, const char *name, uint64_t ipv4, uint64_t ipv6)
{
	cJSON *item = cJSON_AddObjectToObject(status, name);

	cJSON_AddNumberToObject(item, "ipv4", (double)ipv4);
	cJSON_AddNumberToObject(item, "ipv6", (double)ipv6);
}

static const cJSON *condition_of(const cJSON *status, const char *type)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(status, "conditions")) {
		if (strcmp(k8s_object_text(item, "type"), type) == 0)
			return item;
	}
	return NULL;
}

static void add_condition(cJSON *list, const struct pool_facts *facts, const cJSON *observed,
			  const char *type, bool is_true, enum base_reason reason,
			  const char *message, const char *now)
{
	const cJSON *old = condition_of(observed, type);
	const char *status = is_true ? "True" : "False", *since;
	cJSON *item = cJSON_CreateObject();

	since = strcmp(k8s_object_text(old, "status"), status) == 0
			? k8s_object_text(old, "lastTransitionTime")
			: now;
	cJSON_AddItemToArray(list, item);
	cJSON_AddStringToObject(item, "type", type);
	cJSON_AddStringToObject(item, "status", status);
	cJSON_AddStringToObject(item, "reason", base_reason_word(reason));
	cJSON_AddStringToObject(item, "message", message);
	cJSON_AddStringToObject(item, "lastTransitionTime", *since ? since : now);
	cJSON_AddNumberToObject(item, "observedGeneration", (double)facts->generation);
}

static void append(char *message, size_t size, const char *text)
{
	size_t at = strlen(message);

	snprintf(message + at, size - at, "%s%s", at ? "; " : "", text);
}

/* What an administrator should know though the pool is in force. */
static void describe(const struct ipam_pool_status *counts, char *message, size_t size)
{
	uint64_t orphans = counts->ipv4.orphans + counts->ipv6.orphans;
	char text[512];
	size_t at;

	*message = '\0';
	if (orphans) {
		snprintf(text, sizeof text,
			 "%" PRIu64
			 " address%s held that %s no longer in the pool: the Services keep "
			 "%s until they are deleted",
			 orphans, orphans == 1 ? " is" : "es are", orphans == 1 ? "is" : "are",
			 orphans == 1 ? "it" : "them");
		append(message, size, text);
	}
	if (counts->overlap_count) {
		at = (size_t)snprintf(text, sizeof text, "overlaps with ");
		for (unsigned i = 0; i < counts->overlap_count && i < IPAM_OVERLAPS_MAX; i++)
			at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? ", " : "",
					       counts->overlaps[i]);
		if (counts->overlap_count > IPAM_OVERLAPS_MAX)
			snprintf(text + at, sizeof text - at, " and %u more",
				 counts->overlap_count - IPAM_OVERLAPS_MAX);
		append(message, size, text);
	}
}

cJSON *pool_status(struct ipam *ipam, const struct pool_facts *facts, const cJSON *observed,
		   uint64_t now_us, const char *now)
{
	cJSON *status = cJSON_CreateObject(), *conditions;
	struct ipam_pool_status counts = { 0 };
	struct quarantine_list quarantine = { .count = 0 };
	bool wrong = *facts->problem != '\0', free_ones;
	char message[1024];

	ipam_pool_status(ipam, facts->name, now_us, &counts);
	cJSON_AddNumberToObject(status, "observedGeneration", (double)facts->generation);
	add_counts(status, "capacity", counts.ipv4.capacity, counts.ipv6.capacity);
	add_counts(status, "assigned", counts.ipv4.assigned, counts.ipv6.assigned);
	add_counts(status, "available", counts.ipv4.available, counts.ipv6.available);
	quarantine.list = cJSON_AddArrayToObject(status, "quarantine");
	ipam_quarantine_each(ipam, facts->name, now_us, add_quarantine, &quarantine);
	conditions = cJSON_AddArrayToObject(status, "conditions");
	describe(&counts, message, sizeof message);
	add_condition(conditions, facts, observed, "Accepted", !wrong,
		      wrong ? BASE_REASON_INVALID_CONFIGURATION : BASE_REASON_ACCEPTED,
		      wrong ? facts->problem : message, now);
	free_ones = counts.ipv4.available + counts.ipv6.available > 0 && !facts->disabled;
	add_condition(conditions, facts, observed, "AddressesAvailable", free_ones,
		      facts->disabled ? BASE_REASON_DISABLED
		      : free_ones     ? BASE_REASON_AVAILABLE
				      : BASE_REASON_POOL_EXHAUSTED,
		      facts->disabled ? "spec.disabled: nothing new is given" : "", now);
	return status;
}

uint64_t pool_status_due(uint64_t written_us, bool urgent, size_t noted)
{
	if (written_us == 0)
		return 0;
	return written_us + (urgent ? noted * NOTE_US : COUNTS_US);
}

static int compare_addresses(const void *a, const void *b)
{
	return base_address_compare(a, b);
}

void pool_noted_read(struct pool_noted *noted, const cJSON *status)
{
	const cJSON *list = k8s_object_get(status, "quarantine"), *item;
	size_t room = (size_t)cJSON_GetArraySize(list);

	pool_noted_clear(noted);
	if (room == 0)
		return;
	noted->items = calloc(room, sizeof(*noted->items));
	if (!noted->items)
		return; /* as if nothing were noted: it is written once more */
	cJSON_ArrayForEach(item, list) {
		if (base_address_parse(k8s_object_text(item, "address"),
				       &noted->items[noted->count]))
			noted->count++;
	}
	qsort(noted->items, noted->count, sizeof(*noted->items), compare_addresses);
}

bool pool_noted_has(const struct pool_noted *noted, const struct base_address *address)
{
	return noted->count > 0 && bsearch(address, noted->items, noted->count,
					   sizeof(*noted->items), compare_addresses);
}

void pool_noted_clear(struct pool_noted *noted)
{
	free(noted->items);
	*noted = (struct pool_noted){ 0 };
}
