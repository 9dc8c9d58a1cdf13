#include "ipam/ipam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipam/state.h"

/* --- what an administrator may write --- */

static const struct {
	const char *text, *what;
} specials[] = {
	{ "0.0.0.0/8", "\"this network\"" },
	{ "127.0.0.0/8", "loopback" },
	{ "169.254.0.0/16", "link-local" },
	{ "224.0.0.0-255.255.255.255", "multicast or reserved" },
	{ "::/127", "unspecified or loopback" },
	{ "::ffff:0:0/96", "IPv4-mapped" },
	{ "fe80::/10", "link-local" },
	{ "ff00::/8", "multicast" },
};

static bool ranges_meet(const struct ipam_range *a, const struct ipam_range *b)
{
	return a->first.family == b->first.family && base_address_compare(&a->first, &b->last) <= 0 &&
	       base_address_compare(&b->first, &a->last) <= 0;
}

static int check_ranges(const char *pool, const char *field, size_t count,
			const struct ipam_range *ranges, bool given, struct base_error *error)
{
	char name[IPAM_RANGE_TEXT_SIZE];

	for (size_t i = 0; i < count; i++) {
		struct ipam_range special;

		if (base_address_size(&ranges[i].first) == 0 ||
		    ranges[i].first.family != ranges[i].last.family ||
		    base_address_compare(&ranges[i].first, &ranges[i].last) > 0)
			return base_error_set(error, -EINVAL,
					      "AddressPool %s: spec.%s[%zu] is no address, no range "
					      "FIRST-LAST and no CIDR like 192.0.2.0/26",
					      pool, field, i);
		for (size_t j = 0; given && j < sizeof specials / sizeof *specials; j++)
			if (ipam_range_parse(specials[j].text, &special) &&
			    ranges_meet(&ranges[i], &special))
				return base_error_set(error, -EINVAL,
						      "AddressPool %s: spec.%s[%zu]: %s reaches into "
						      "%s, which is %s: nobody can be given that",
						      pool, field, i,
						      ipam_range_format(&ranges[i], name),
						      specials[j].text, specials[j].what);
	}
	return 0;
}

static int check_reservation(const struct ipam_pool *pool, size_t i, const struct ipam_set *sets,
			     struct base_error *error)
{
	const struct ipam_reservation *reservation = &pool->reservations[i];
	const struct base_address *address = &reservation->address;
	char name[BASE_ADDRESS_TEXT_SIZE];
	struct base_error why;

	base_address_format(address, name);
	if (!ipam_is_name(reservation->service.namespace) || !ipam_is_name(reservation->service.name))
		return base_error_set(error, -EINVAL,
				      "AddressPool %s: spec.reservations[%zu] (%s) needs "
				      "service.namespace and service.name",
				      pool->name, i, name);
	if (base_address_size(address) == 0)
		return base_error_set(error, -EINVAL,
				      "AddressPool %s: spec.reservations[%zu].address is no address",
				      pool->name, i);
	if (!ipam_set_contains(&sets[family_index(address)], ipam_number_of(address))) {
		ipam_pool_why_not(pool, address, &why);
		return base_error_set(error, -EINVAL,
				      "AddressPool %s: spec.reservations[%zu]: %s cannot be given: %s",
				      pool->name, i, name, why.message);
	}
	for (size_t j = 0; j < i; j++)
		if (base_address_equal(&pool->reservations[j].address, address))
			return base_error_set(error, -EINVAL,
					      "AddressPool %s: spec.reservations[%zu]: %s is reserved "
					      "by reservations[%zu] already",
					      pool->name, i, name, j);
	return 0;
}

static int build_sets(const struct ipam_pool *pool, struct ipam_set sets[static FAMILIES])
{
	int r = ipam_set_build(&sets[V4], BASE_FAMILY_IPV4, pool->avoid_first_last,
			       pool->address_count, pool->addresses, pool->exclude_count,
			       pool->exclude);

	if (r < 0)
		return r;
	r = ipam_set_build(&sets[V6], BASE_FAMILY_IPV6, pool->avoid_first_last,
			   pool->address_count, pool->addresses, pool->exclude_count,
			   pool->exclude);
	if (r < 0) {
		free(sets[V4].spans);
		sets[V4].spans = NULL;
	}
	return r;
}

/* Checks, and leaves the sets to the caller if it is right. */
static int check_and_build(const struct ipam_pool *pool, struct ipam_set sets[static FAMILIES],
			   struct base_error *error)
{
	static const struct ipam_ids none;
	int r;

	if (!ipam_is_name(pool->name))
		return base_error_set(error, -EINVAL,
				      "AddressPool \"%.70s\": the name has 1 to %d characters",
				      text(pool->name), IPAM_NAME_SIZE - 1);
	r = check_ranges(pool->name, "addresses", pool->address_count, pool->addresses, true, error);
	if (r == 0)
		r = check_ranges(pool->name, "exclude", pool->exclude_count, pool->exclude, false,
				 error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < pool->namespace_count; i++)
		if (!ipam_is_name(pool->namespaces[i]))
			return base_error_set(error, -EINVAL,
					      "AddressPool %s: spec.namespaces[%zu] is no name of a "
					      "namespace",
					      pool->name, i);
	if (memcmp(&pool->virtual_router_ids, &none, sizeof none) == 0)
		return base_error_set(error, -EINVAL,
				      "AddressPool %s: spec.vrrp allows no virtual router ID: "
				      "excludeVirtualRouterIDs takes all that virtualRouterIDs names",
				      pool->name);
	r = build_sets(pool, sets);
	if (r < 0)
		return r;
	if (sets[V4].count + sets[V6].count == 0)
		r = base_error_set(error, -EINVAL,
				   "AddressPool %s: no address is left to give: spec.addresses %s",
				   pool->name,
				   pool->address_count == 0
					   ? "is empty"
					   : "is all taken out by exclude and avoidFirstLast");
	for (size_t i = 0; r == 0 && i < pool->reservation_count; i++)
		r = check_reservation(pool, i, sets, error);
	if (r < 0) {
		free(sets[V4].spans);
		free(sets[V6].spans);
	}
	return r;
}

int ipam_pool_check(const struct ipam_pool *pool, struct base_error *error)
{
	struct ipam_set sets[FAMILIES];
	int r = check_and_build(pool, sets, error);

	if (r == 0) {
		free(sets[V4].spans);
		free(sets[V6].spans);
	}
	return r;
}

bool ipam_pool_contains(const struct pool *pool, const struct base_address *address)
{
	return pool->present && ipam_set_contains(&pool->set[family_index(address)],
						  ipam_number_of(address));
}

bool ipam_in_pools(const struct ipam *ipam, const struct base_address *address)
{
	for (const struct pool *pool = ipam_pool_in_order(ipam_tree_first(&ipam->order)); pool;
	     pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order)))
		if (ipam_pool_contains(pool, address))
			return true;
	return false;
}

int ipam_pool_why_not(const struct ipam_pool *spec, const struct base_address *address,
		      struct base_error *error)
{
	struct ipam_range single = ipam_range_single(address);
	const struct ipam_range *in = NULL;
	char name[IPAM_RANGE_TEXT_SIZE];

	for (size_t i = 0; i < spec->address_count && !in; i++)
		if (ranges_meet(&spec->addresses[i], &single))
			in = &spec->addresses[i];
	for (size_t i = 0; in && i < spec->exclude_count; i++)
		if (ranges_meet(&spec->exclude[i], &single))
			return base_error_set(error, BASE_REASON_ADDRESS_NOT_IN_POOL,
					      "pool %s excludes it (exclude: %s)", spec->name,
					      ipam_range_format(&spec->exclude[i], name));
	if (in)
		return base_error_set(error, BASE_REASON_ADDRESS_NOT_IN_POOL,
				      "pool %s skips it (avoidFirstLast, first or last in %s)",
				      spec->name, ipam_range_format(in, name));
	return base_error_set(error, BASE_REASON_ADDRESS_NOT_IN_POOL, "pool %s does not contain it",
			      spec->name);
}

/* --- copies --- */

static void *copy(const void *items, size_t count, size_t size)
{
	void *copied = calloc(count + 1, size);

	if (copied && count > 0)
		memcpy(copied, items, count * size);
	return copied;
}

static void free_spec(struct ipam_pool *spec)
{
	for (size_t i = 0; spec->namespaces && i < spec->namespace_count; i++)
		free((char *)spec->namespaces[i]);
	free((void *)spec->namespaces);
	free((void *)spec->addresses);
	free((void *)spec->exclude);
	free((char *)spec->segment);
	*spec = (struct ipam_pool){ 0 };
}

/* Names of pool and reservations are kept elsewhere. */
static int copy_spec(struct ipam_pool *spec, const struct ipam_pool *pool, const char *name)
{
	char **namespaces = calloc(pool->namespace_count + 1, sizeof *namespaces);
	bool complete = namespaces != NULL;

	*spec = *pool;
	spec->name = name;
	spec->reservations = NULL;
	spec->reservation_count = 0;
	spec->namespaces = (const char *const *)namespaces;
	spec->addresses = copy(pool->addresses, pool->address_count, sizeof *pool->addresses);
	spec->exclude = copy(pool->exclude, pool->exclude_count, sizeof *pool->exclude);
	spec->segment = strdup(text(pool->segment));
	for (size_t i = 0; complete && i < pool->namespace_count; i++) {
		namespaces[i] = strdup(pool->namespaces[i]);
		complete = namespaces[i] != NULL;
	}
	if (complete && spec->addresses && spec->exclude && spec->segment)
		return 0;
	free_spec(spec);
	return -ENOMEM;
}

/* --- free ranges --- */

/* Nodes that filling may need: a span may be cut at every entry and every taken range. */
static size_t fill_bound(const struct ipam *ipam, const struct ipam_set *set, size_t wide_count)
{
	size_t bound = set->count * (1 + wide_count);

	for (size_t i = 0; i < set->count; i++) {
		struct base_address from =
			ipam_number_address(set->family, set->spans[i].first);
		struct ipam_tree_node *node = ipam_tree_ceiling(&ipam->entries, &from);

		for (; node; node = ipam_tree_next(node), bound++)
			if (ipam_entry_of(node)->address.family != set->family ||
			    ipam_number_of(&ipam_entry_of(node)->address) > set->spans[i].last)
				break;
	}
	return bound;
}

/* The end of what is taken at `at` (taken true), or how far nothing is (false). */
static bool wide_at(const struct ipam *ipam, enum base_family family, ipam_number at,
		    ipam_number *end)
{
	bool taken = false;
	ipam_number taken_end = at, free_end = *end;

	for (const struct taken *item = ipam->wides; item; item = item->next_wide) {
		for (size_t i = 0; i < item->wide_count; i++) {
			ipam_number first = ipam_number_of(&item->wides[i].first);
			ipam_number last = ipam_number_of(&item->wides[i].last);

			if (item->wides[i].first.family != family || last < at || first > *end)
				continue;
			if (first <= at) {
				taken = true;
				if (last > taken_end)
					taken_end = last;
			} else if (first - 1 < free_end) {
				free_end = first - 1;
			}
		}
	}
	*end = taken ? taken_end : free_end;
	return taken;
}

static void fill(struct ipam *ipam, struct pool *pool, unsigned f)
{
	const struct ipam_set *set = &pool->set[f];

	ipam_free_clear(&pool->unused[f], &ipam->reserve);
	for (size_t i = 0; i < set->count; i++) {
		struct ipam_span rest = set->spans[i];
		struct base_address from = ipam_number_address(set->family, rest.first);
		struct ipam_tree_node *node = ipam_tree_ceiling(&ipam->entries, &from);

		for (;;) {
			ipam_number end = rest.last;

			if (!wide_at(ipam, set->family, rest.first, &end))
				ipam_free_append(&pool->unused[f], set,
						 (struct ipam_span){ rest.first, end },
						 &ipam->reserve);
			if (end >= rest.last)
				break;
			rest.first = end + 1;
		}
		for (; node; node = ipam_tree_next(node)) {
			const struct entry *entry = ipam_entry_of(node);
			ipam_number number = ipam_number_of(&entry->address);

			if (entry->address.family != set->family || number > rest.last)
				break;
			if (entry->blocked)
				ipam_free_take(&pool->unused[f], set, number, &ipam->reserve);
		}
	}
}

size_t ipam_pool_refill_bound(const struct ipam *ipam, size_t wide_count)
{
	size_t bound = 0;

	for (const struct pool *pool = ipam_pool_in_order(ipam_tree_first(&ipam->order)); pool;
	     pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order)))
		for (unsigned f = 0; f < FAMILIES; f++)
			bound += fill_bound(ipam, &pool->set[f], wide_count);
	return bound;
}

void ipam_pool_refill_all(struct ipam *ipam)
{
	for (struct pool *pool = ipam_pool_in_order(ipam_tree_first(&ipam->order)); pool;
	     pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order)))
		for (unsigned f = 0; f < FAMILIES; f++)
			fill(ipam, pool, f);
}

/* --- putting and removing --- */

static void recount(struct ipam *ipam, struct pool *pool)
{
	for (unsigned f = 0; f < FAMILIES; f++) {
		struct ipam_tree_node *node;

		pool->orphan_count[f] = 0;
		for (node = ipam_tree_first(&pool->held[f]); node; node = ipam_tree_next(node)) {
			struct entry *entry = IPAM_TREE_ITEM(node, struct entry, of_pool);

			entry->orphan = !ipam_pool_contains(pool, &entry->address);
			pool->orphan_count[f] += entry->orphan;
		}
		for (node = ipam_tree_first(&pool->quarantined[f]); node;
		     node = ipam_tree_next(node))
			ipam_quarantine_clamp(ipam, IPAM_TREE_ITEM(node, struct entry, of_pool));
	}
	ipam->freed = true;
}

static void unreserve(struct ipam *ipam, struct pool *pool)
{
	for (size_t i = 0; i < pool->reservation_count; i++) {
		struct reservation *reservation = &pool->reservations[i];
		struct reservation **slot = &reservation->entry->reservations;

		while (*slot != reservation)
			slot = &(*slot)->next_of_entry;
		*slot = reservation->next_of_entry;
		slot = &reservation->service->reservations;
		while (*slot != reservation)
			slot = &(*slot)->next_of_service;
		*slot = reservation->next_of_service;
		ipam_entry_update(ipam, reservation->entry);
		ipam_entry_sweep(ipam, reservation->entry);
		ipam_service_sweep(ipam, reservation->service);
	}
	free(pool->reservations);
	pool->reservations = NULL;
	pool->reservation_count = 0;
}

/* Ordered by name of pool, so that the order of puts does not show. */
static void reserve(struct ipam *ipam, struct reservation *reservation)
{
	struct reservation **slot = &reservation->entry->reservations;

	while (*slot && strcmp((*slot)->pool->name, reservation->pool->name) < 0)
		slot = &(*slot)->next_of_entry;
	reservation->next_of_entry = *slot;
	*slot = reservation;
	slot = &reservation->service->reservations;
	while (*slot &&
	       base_address_compare(&(*slot)->entry->address, &reservation->entry->address) < 0)
		slot = &(*slot)->next_of_service;
	reservation->next_of_service = *slot;
	*slot = reservation;
	ipam_entry_update(ipam, reservation->entry);
}

void ipam_pool_retire(struct ipam *ipam, struct pool *pool)
{
	ipam_tree_remove(&ipam->order, &pool->by_order);
	for (unsigned f = 0; f < FAMILIES; f++)
		ipam_free_clear(&pool->unused[f], &ipam->reserve);
	pool->retired = true;
}

void ipam_pool_unput(struct ipam *ipam, struct pool *pool)
{
	if (!pool->retired)
		ipam_pool_retire(ipam, pool);
	pool->retired = false;
	unreserve(ipam, pool);
	for (unsigned f = 0; f < FAMILIES; f++) {
		free(pool->set[f].spans);
		pool->set[f] = (struct ipam_set){ 0 };
	}
	free_spec(&pool->spec);
	pool->present = false;
	recount(ipam, pool);
	ipam_pool_sweep(ipam, pool);
}

/* What a put needs, made before anything changes. */
struct parts {
	struct ipam_set sets[FAMILIES];
	struct ipam_pool spec;
	struct pool *pool;
	size_t reservation_count;
	struct reservation *reservations;
};

static int make_parts(struct ipam *ipam, const struct ipam_pool *pool, struct parts *parts)
{
	parts->pool = ipam_pool_get(ipam, pool->name);
	if (!parts->pool)
		return -ENOMEM;
	parts->pool->named++;
	parts->reservations = calloc(pool->reservation_count + 1, sizeof *parts->reservations);
	if (!parts->reservations || copy_spec(&parts->spec, pool, parts->pool->name) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < pool->reservation_count; i++) {
		struct reservation *reservation = &parts->reservations[i];

		parts->reservation_count = i + 1;
		reservation->pool = parts->pool;
		reservation->entry = ipam_entry_get(ipam, &pool->reservations[i].address);
		if (reservation->entry)
			reservation->entry->named++;
		reservation->service = ipam_service_get(ipam, &pool->reservations[i].service);
		if (reservation->service)
			reservation->service->named++;
		if (!reservation->service || !reservation->entry)
			return -ENOMEM;
	}
	return ipam_reserve_grow(&ipam->reserve,
				 (parts->pool->reservation_count + pool->reservation_count) *
						 (ipam->order.count + 1) +
					 fill_bound(ipam, &parts->sets[V4], ipam->wide_count) +
					 fill_bound(ipam, &parts->sets[V6], ipam->wide_count));
}

static void discard(struct ipam *ipam, struct parts *parts)
{
	for (size_t i = 0; i < parts->reservation_count; i++) {
		struct reservation *reservation = &parts->reservations[i];

		if (reservation->entry)
			reservation->entry->named--;
		ipam_entry_sweep(ipam, reservation->entry);
		if (reservation->service)
			reservation->service->named--;
		ipam_service_sweep(ipam, reservation->service);
	}
	free(parts->reservations);
	free_spec(&parts->spec);
	free(parts->sets[V4].spans);
	free(parts->sets[V6].spans);
	if (parts->pool)
		parts->pool->named--;
	ipam_pool_sweep(ipam, parts->pool);
}

int ipam_pool_put(struct ipam *ipam, const struct ipam_pool *spec, struct base_error *error)
{
	struct parts parts = { 0 };
	struct pool *pool;
	int r = check_and_build(spec, parts.sets, error);

	if (r < 0)
		return r;
	r = make_parts(ipam, spec, &parts);
	if (r < 0) {
		discard(ipam, &parts);
		return r;
	}
	pool = parts.pool;
	if (pool->present)
		ipam_pool_unput(ipam, pool);
	pool->present = true;
	pool->spec = parts.spec;
	memcpy(pool->set, parts.sets, sizeof pool->set);
	pool->reservations = parts.reservations;
	pool->reservation_count = parts.reservation_count;
	ipam_tree_insert(&ipam->order, pool, &pool->by_order);
	fill(ipam, pool, V4);
	fill(ipam, pool, V6);
	for (size_t i = 0; i < pool->reservation_count; i++) {
		pool->reservations[i].entry->named--;
		pool->reservations[i].service->named--;
		reserve(ipam, &pool->reservations[i]);
	}
	recount(ipam, pool);
	pool->named--;
	return 0;
}

void ipam_pool_remove(struct ipam *ipam, const char *name)
{
	struct pool *pool = ipam_pool_find(ipam, name);

	if (pool && pool->present &&
	    ipam_reserve_grow(&ipam->reserve, pool->reservation_count * ipam->order.count) == 0)
		ipam_pool_unput(ipam, pool);
}

/* --- questions --- */

static uint64_t count(ipam_number number)
{
	return number < IPAM_COUNT_MAX ? (uint64_t)number : IPAM_COUNT_MAX;
}

static void family_status(const struct pool *pool, unsigned f, struct ipam_family_status *status)
{
	ipam_number rest = pool->set[f].size;
	size_t quarantined = 0, reserved = 0;

	status->assigned = pool->held[f].count;
	status->orphans = pool->orphan_count[f];
	for (struct ipam_tree_node *node = ipam_tree_first(&pool->quarantined[f]); node;
	     node = ipam_tree_next(node))
		quarantined += ipam_pool_contains(
			pool, &IPAM_TREE_ITEM(node, struct entry, of_pool)->address);
	for (size_t i = 0; i < pool->reservation_count; i++)
		reserved += pool->reservations[i].entry->state == ENTRY_IDLE &&
			    family_index(&pool->reservations[i].entry->address) == f;
	status->capacity = count(rest);
	status->available = count(pool->unused[f].size);
	status->quarantined = quarantined;
	status->reserved = reserved;
	status->blocked = count(rest - pool->unused[f].size - quarantined - reserved -
				(status->assigned - status->orphans));
}

static void find_overlaps(const struct ipam *ipam, const struct pool *pool,
			  struct ipam_pool_status *status)
{
	for (struct ipam_tree_node *node = ipam_tree_first(&ipam->pools); node;
	     node = ipam_tree_next(node)) {
		const struct pool *other = IPAM_TREE_ITEM(node, struct pool, tree);

		if (other == pool || !other->present ||
		    !(ipam_set_overlaps(&pool->set[V4], &other->set[V4]) ||
		      ipam_set_overlaps(&pool->set[V6], &other->set[V6])))
			continue;
		if (status->overlap_count < IPAM_OVERLAPS_MAX)
			memcpy(status->overlaps[status->overlap_count], other->name,
			       sizeof other->name);
		status->overlap_count++;
	}
}

bool ipam_pool_status(struct ipam *ipam, const char *name, uint64_t now_us,
		      struct ipam_pool_status *status)
{
	struct pool *pool;

	memset(status, 0, sizeof *status);
	ipam_expire(ipam, now_us);
	pool = ipam_pool_find(ipam, name);
	if (!pool)
		return false;
	family_status(pool, V4, &status->ipv4);
	family_status(pool, V6, &status->ipv6);
	if (pool->present)
		find_overlaps(ipam, pool, status);
	return pool->present;
}

int ipam_pool_preview(const struct ipam *ipam, const struct ipam_pool *edited,
		      ipam_affected_fn *callback, void *userdata, struct base_error *error)
{
	const struct pool *pool = ipam_pool_find(ipam, text(edited->name));
	struct ipam_set sets[FAMILIES] = { 0 };
	bool gone = edited->address_count == 0, more = true;
	int r = gone ? 0 : check_and_build(edited, sets, error);

	if (r < 0)
		return r;
	for (unsigned f = 0; pool && f < FAMILIES; f++) {
		struct ipam_tree_node *node = ipam_tree_first(&pool->held[f]);

		for (; node && more; node = ipam_tree_next(node)) {
			const struct entry *entry = IPAM_TREE_ITEM(node, struct entry, of_pool);
			struct ipam_record record;
			struct base_error why;

			if (ipam_set_contains(&sets[f], ipam_number_of(&entry->address)))
				continue;
			base_error_set(&why, 0, "pool %s would be gone", pool->name);
			if (!gone)
				ipam_pool_why_not(edited, &entry->address, &why);
			ipam_record_view(entry, &record);
			more = callback(userdata, &record, why.message);
		}
	}
	free(sets[V4].spans);
	free(sets[V6].spans);
	return 0;
}
