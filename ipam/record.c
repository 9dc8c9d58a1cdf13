#include "ipam/ipam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "ipam/state.h"

/* --- quotas --- */

static struct quota *find_quota(const struct pool *pool, const char *namespace)
{
	struct ipam_tree_node *node = ipam_tree_find(&pool->quotas, namespace);

	return node ? IPAM_TREE_ITEM(node, struct quota, tree) : NULL;
}

size_t ipam_quota_count(const struct pool *pool, const char *namespace)
{
	const struct quota *quota = find_quota(pool, namespace);

	return quota ? quota->count : 0;
}

int ipam_quota_room(struct pool *pool, const char *namespace)
{
	struct quota *quota = find_quota(pool, namespace);

	if (quota)
		return 0;
	quota = calloc(1, sizeof *quota);
	if (!quota)
		return -ENOMEM;
	snprintf(quota->namespace, sizeof quota->namespace, "%s", namespace);
	ipam_tree_insert(&pool->quotas, namespace, &quota->tree);
	return 0;
}

static bool namespace_holds(const struct entry *entry, const char *namespace)
{
	for (size_t i = 0; i < entry->holder_count; i++)
		if (strcmp(entry->holders[i]->service->namespace, namespace) == 0)
			return true;
	return false;
}

/* --- holding --- */

int ipam_entry_room(struct entry *entry, size_t count)
{
	struct holding **holders;
	struct ipam_name *names;

	if (entry->holder_room >= count)
		return 0;
	holders = realloc(entry->holders, count * sizeof(*holders));
	if (!holders)
		return -ENOMEM;
	entry->holders = holders;
	names = realloc(entry->names, count * sizeof(*names));
	if (!names)
		return -ENOMEM;
	entry->names = names;
	entry->holder_room = count;
	return 0;
}

/* The record names `pool` now; whoever held it before has been taken out. */
static void begin_record(struct ipam *ipam, struct entry *entry, struct pool *pool)
{
	unsigned f = family_index(&entry->address);

	if (entry->state == ENTRY_QUARANTINED)
		ipam_quarantine_end(ipam, entry);
	entry->state = ENTRY_HELD;
	entry->pool = pool;
	ipam_tree_insert(&pool->held[f], &entry->address, &entry->of_pool);
	entry->orphan = !ipam_pool_contains(pool, &entry->address);
	pool->orphan_count[f] += entry->orphan;
	ipam_entry_update(ipam, entry);
}

void ipam_hold(struct ipam *ipam, struct entry *entry, struct pool *pool, struct holding *holding)
{
	struct service *service = holding->service;
	struct holding **slot = &service->holdings;

	if (entry->state != ENTRY_HELD)
		begin_record(ipam, entry, pool);
	if (!namespace_holds(entry, service->namespace))
		find_quota(pool, service->namespace)->count++;
	while (*slot && base_address_compare(&(*slot)->entry->address, &entry->address) < 0)
		slot = &(*slot)->next;
	holding->entry = entry;
	holding->next = *slot;
	*slot = holding;
	entry->names[entry->holder_count] =
		(struct ipam_name){ service->namespace, service->name };
	entry->holders[entry->holder_count++] = holding;
	ipam_sharing_join(ipam, holding);
}

/* Leaves the Service for the caller to sweep. */
static struct service *unhold(struct ipam *ipam, struct entry *entry, size_t index)
{
	struct holding *holding = entry->holders[index];
	struct service *service = holding->service;
	struct holding **slot = &service->holdings;
	size_t behind = entry->holder_count - index - 1;

	ipam_sharing_leave(ipam, holding);
	while (*slot != holding)
		slot = &(*slot)->next;
	*slot = holding->next;
	memmove(entry->holders + index, entry->holders + index + 1,
		behind * sizeof(*entry->holders));
	memmove(entry->names + index, entry->names + index + 1, behind * sizeof(*entry->names));
	entry->holder_count--;
	if (!namespace_holds(entry, service->namespace)) {
		struct quota *quota = find_quota(entry->pool, service->namespace);

		if (--quota->count == 0) {
			ipam_tree_remove(&entry->pool->quotas, &quota->tree);
			free(quota);
		}
	}
	free(holding);
	return service;
}

void ipam_record_end(struct ipam *ipam, struct entry *entry)
{
	struct pool *pool = entry->pool;
	unsigned f = family_index(&entry->address);

	pool->named++; /* its last router may go on the way */
	while (entry->holder_count > 0)
		ipam_service_sweep(ipam, unhold(ipam, entry, entry->holder_count - 1));
	ipam_tree_remove(&pool->held[f], &entry->of_pool);
	pool->orphan_count[f] -= entry->orphan;
	entry->orphan = false;
	ipam_router_attach(ipam, entry, NULL);
	entry->state = ENTRY_IDLE;
	entry->pool = NULL;
	pool->named--;
	ipam_pool_sweep(ipam, pool);
}

/* --- records --- */

static int check_record(const struct ipam_record *record, struct base_error *error)
{
	char name[BASE_ADDRESS_TEXT_SIZE];

	base_address_format(&record->address, name);
	if (base_address_size(&record->address) == 0)
		return base_error_set(error, -EINVAL, "a VirtualIP without an address");
	if (!ipam_is_name(record->pool))
		return base_error_set(error, -EINVAL,
				      "VirtualIP %s: spec.pool \"%.70s\" is no name of a pool", name,
				      text(record->pool));
	if (strlen(text(record->router)) >= IPAM_ROUTER_NAME_SIZE)
		return base_error_set(error, -EINVAL,
				      "VirtualIP %s: spec.virtualRouter has more than %d characters",
				      name, IPAM_ROUTER_NAME_SIZE - 1);
	for (size_t i = 0; i < record->service_count; i++)
		if (ipam_service_check_name(&record->services[i], error) < 0)
			return -EINVAL;
	return 0;
}

/* What a record needs, made before anything changes. */
struct parts {
	struct pool *pool;
	struct entry *entry;
	struct router *router;
	struct holding *holdings; /* list, the oldest first */
};

static void discard(struct ipam *ipam, struct parts *parts)
{
	while (parts->holdings) {
		struct holding *next = parts->holdings->next;
		struct service *service = parts->holdings->service;

		free(parts->holdings);
		parts->holdings = next;
		if (service && --service->named == 0)
			ipam_service_sweep(ipam, service);
	}
	if (parts->router) {
		parts->router->named--;
		ipam_router_sweep(ipam, parts->router);
	}
	ipam_entry_sweep(ipam, parts->entry);
	if (parts->pool)
		parts->pool->named--;
	ipam_pool_sweep(ipam, parts->pool);
}

static int make_parts(struct ipam *ipam, const struct ipam_record *record, struct parts *parts)
{
	struct holding **last = &parts->holdings;

	parts->pool = ipam_pool_get(ipam, record->pool);
	if (!parts->pool)
		return -ENOMEM;
	parts->pool->named++;
	parts->entry = ipam_entry_get(ipam, &record->address);
	if (!parts->entry || ipam_entry_room(parts->entry, record->service_count) < 0)
		return -ENOMEM;
	if (text(record->router)[0]) {
		parts->router = ipam_router_get(ipam, parts->pool, family_index(&record->address),
						record->router, record->router_id);
		if (!parts->router)
			return -ENOMEM;
		parts->router->named++;
	}
	for (size_t i = 0; i < record->service_count; i++) {
		struct holding *holding = calloc(1, sizeof *holding);

		if (!holding)
			return -ENOMEM;
		*last = holding;
		last = &holding->next;
		holding->service = ipam_service_get(ipam, &record->services[i]);
		if (!holding->service)
			return -ENOMEM;
		holding->service->named++;
		if (ipam_quota_room(parts->pool, record->services[i].namespace) < 0)
			return -ENOMEM;
	}
	return ipam_prepare(ipam, 1);
}

static bool holds(const struct service *service, const struct entry *entry)
{
	for (const struct holding *holding = service->holdings; holding; holding = holding->next)
		if (holding->entry == entry)
			return true;
	return false;
}

int ipam_record_put(struct ipam *ipam, const struct ipam_record *record, struct base_error *error)
{
	struct parts parts = { 0 };
	int r = check_record(record, error);

	if (r < 0)
		return r;
	r = make_parts(ipam, record, &parts);
	if (r < 0) {
		discard(ipam, &parts);
		return r;
	}
	if (parts.entry->state == ENTRY_HELD) {
		/* The room for quotas was made before the old holders went: make it last. */
		for (struct holding *holding = parts.holdings; holding; holding = holding->next)
			find_quota(parts.pool, holding->service->namespace)->count++;
		ipam_record_end(ipam, parts.entry);
		for (struct holding *holding = parts.holdings; holding; holding = holding->next)
			find_quota(parts.pool, holding->service->namespace)->count--;
	}
	begin_record(ipam, parts.entry, parts.pool);
	while (parts.holdings) {
		struct holding *holding = parts.holdings;
		struct service *service = holding->service;

		parts.holdings = holding->next;
		service->named--;
		if (holds(service, parts.entry))
			free(holding); /* named twice */
		else
			ipam_hold(ipam, parts.entry, parts.pool, holding);
	}
	ipam_router_attach(ipam, parts.entry, parts.router);
	if (parts.router)
		parts.router->named--;
	parts.pool->named--;
	return 0;
}

int ipam_record_remove(struct ipam *ipam, const struct base_address *address)
{
	struct entry *entry = ipam_entry_find(ipam, address);

	if (!entry || entry->state != ENTRY_HELD)
		return -ENOENT;
	if (ipam_prepare(ipam, 1) < 0)
		return -ENOMEM;
	ipam_record_end(ipam, entry);
	ipam_entry_update(ipam, entry);
	ipam_entry_sweep(ipam, entry);
	return 0;
}

void ipam_record_view(const struct entry *entry, struct ipam_record *record)
{
	*record = (struct ipam_record){
		.address = entry->address,
		.pool = entry->pool->name,
		.router = entry->router ? entry->router->name : "",
		.router_id = entry->router ? entry->router->id : 0,
		.service_count = entry->holder_count,
		.services = entry->names,
	};
}

bool ipam_record_get(const struct ipam *ipam, const struct base_address *address,
		     struct ipam_record *record)
{
	struct entry *entry = ipam_entry_find(ipam, address);

	if (!entry || entry->state != ENTRY_HELD)
		return false;
	ipam_record_view(entry, record);
	return true;
}

void ipam_record_each(const struct ipam *ipam, ipam_record_fn *callback, void *userdata)
{
	for (struct ipam_tree_node *node = ipam_tree_first(&ipam->entries); node;
	     node = ipam_tree_next(node)) {
		const struct entry *entry = ipam_entry_of(node);
		struct ipam_record record;

		if (entry->state != ENTRY_HELD)
			continue;
		ipam_record_view(entry, &record);
		if (!callback(userdata, &record))
			return;
	}
}

void ipam_record_each_of(const struct ipam *ipam, const struct ipam_name *name,
			 ipam_record_fn *callback, void *userdata)
{
	const struct service *service = ipam_service_find(ipam, name);

	for (const struct holding *holding = service ? service->holdings : NULL; holding;
	     holding = holding->next) {
		struct ipam_record record;

		ipam_record_view(holding->entry, &record);
		if (!callback(userdata, &record))
			return;
	}
}

static int check_reserved(const struct entry *entry, struct base_error *error)
{
	const struct reservation *reservation = entry->reservations;
	char name[BASE_ADDRESS_TEXT_SIZE];

	if (!reservation)
		return 0;
	for (const struct reservation *r = reservation; r; r = r->next_of_entry)
		if (holds(r->service, entry))
			return 0;
	return base_error_set(error, BASE_REASON_ADDRESS_RESERVED,
			      "%s is kept by its holder, but pool %s reserves it for Service %s/%s: "
			      "change the reservation, or delete the holder",
			      base_address_format(&entry->address, name), reservation->pool->name,
			      reservation->service->namespace, reservation->service->name);
}

int ipam_record_check(const struct ipam *ipam, const struct base_address *address,
		      struct base_error *error)
{
	const struct entry *entry = ipam_entry_find(ipam, address);
	const struct taken *taken;
	char name[BASE_ADDRESS_TEXT_SIZE];
	struct base_error why;

	base_address_format(address, name);
	if (!entry || entry->state != ENTRY_HELD)
		return base_error_set(error, -ENOENT, "%s is held by nobody", name);
	if (!entry->pool->present)
		return base_error_set(error, BASE_REASON_ADDRESS_NOT_IN_POOL,
				      "%s is kept by its holder, but pool %s does not exist any more",
				      name, entry->pool->name);
	if (entry->orphan) {
		ipam_pool_why_not(&entry->pool->spec, address, &why);
		return base_error_set(error, BASE_REASON_ADDRESS_NOT_IN_POOL,
				      "%s is kept by its holder, but %s", name, why.message);
	}
	if (check_reserved(entry, error))
		return BASE_REASON_ADDRESS_RESERVED;
	taken = ipam_taken_by(ipam, address,
			      entry->holder_count > 0 ? entry->holders[0]->service : NULL);
	if (taken)
		return base_error_set(error, (int)taken->reason,
				      "%s is kept by its holder, but %s has it too", name, taken->who);
	if (entry->router) {
		const struct router *rival =
			ipam_router_rival(ipam, entry->router->family, entry->router->id,
					  entry->router->pool, entry->router->name);

		if (rival)
			return base_error_set(error, BASE_REASON_INVALID_CONFIGURATION,
					      "virtual router ID %u of %s is also that of %s (pool %s)",
					      entry->router->id, entry->router->name, rival->name,
					      rival->pool->name);
	}
	return 0;
}

int ipam_release(struct ipam *ipam, const struct ipam_name *name,
		 const struct base_address *address, uint64_t now_us)
{
	struct service *service = ipam_service_find(ipam, name);
	struct entry *entry = ipam_entry_find(ipam, address);
	struct pool *pool;
	uint64_t quarantine_us;
	size_t i = 0;

	if (!service || !entry || !holds(service, entry))
		return -ENOENT;
	ipam_expire(ipam, now_us);
	if (ipam_prepare(ipam, 1) < 0)
		return -ENOMEM;
	while (entry->holders[i]->service != service)
		i++;
	service->named++;
	unhold(ipam, entry, i);
	if (entry->holder_count > 0) {
		service->named--;
		ipam_service_sweep(ipam, service);
		return (int)entry->holder_count;
	}
	pool = entry->pool;
	pool->named++;
	ipam_record_end(ipam, entry);
	quarantine_us = pool->present ? pool->spec.quarantine_us : IPAM_QUARANTINE_DEFAULT_US;
	if (quarantine_us > 0)
		ipam_quarantine_begin(ipam, entry, pool, service,
				      base_usec_add(now_us, quarantine_us), now_us);
	ipam_entry_update(ipam, entry);
	ipam_entry_sweep(ipam, entry);
	pool->named--;
	ipam_pool_sweep(ipam, pool);
	service->named--;
	ipam_service_sweep(ipam, service);
	return 0;
}
