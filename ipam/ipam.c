#include "ipam/ipam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "ipam/state.h"

/* --- what the trees are ordered by --- */

static int compare_pool(const void *key, const struct ipam_tree_node *node)
{
	return strcmp(key, IPAM_TREE_ITEM(node, struct pool, tree)->name);
}

static int compare_order(const void *key, const struct ipam_tree_node *node)
{
	const struct pool *left = key, *right = IPAM_TREE_ITEM(node, struct pool, by_order);

	if (left->spec.priority != right->spec.priority)
		return left->spec.priority > right->spec.priority ? -1 : 1;
	return strcmp(left->name, right->name);
}

static int compare_service(const void *key, const struct ipam_tree_node *node)
{
	const struct ipam_name *name = key;
	const struct service *service = IPAM_TREE_ITEM(node, struct service, tree);
	int order = strcmp(name->namespace, service->namespace);

	return order ? order : strcmp(name->name, service->name);
}

static int compare_entry(const void *key, const struct ipam_tree_node *node)
{
	return base_address_compare(key, &ipam_entry_of((struct ipam_tree_node *)node)->address);
}

static int compare_of_pool(const void *key, const struct ipam_tree_node *node)
{
	return base_address_compare(key, &IPAM_TREE_ITEM(node, struct entry, of_pool)->address);
}

static int compare_until(const void *key, const struct ipam_tree_node *node)
{
	const struct entry *left = key, *right = IPAM_TREE_ITEM(node, struct entry, by_time);

	if (left->until_us != right->until_us)
		return left->until_us < right->until_us ? -1 : 1;
	return base_address_compare(&left->address, &right->address);
}

static int compare_quota(const void *key, const struct ipam_tree_node *node)
{
	return strcmp(key, IPAM_TREE_ITEM(node, struct quota, tree)->namespace);
}

struct entry *ipam_entry_of(struct ipam_tree_node *node)
{
	return node ? IPAM_TREE_ITEM(node, struct entry, tree) : NULL;
}

struct pool *ipam_pool_in_order(struct ipam_tree_node *node)
{
	return node ? IPAM_TREE_ITEM(node, struct pool, by_order) : NULL;
}

struct ipam *ipam_new(void)
{
	struct ipam *ipam = calloc(1, sizeof *ipam);

	if (!ipam)
		return NULL;
	ipam_tree_init(&ipam->pools, compare_pool);
	ipam_tree_init(&ipam->order, compare_order);
	ipam_tree_init(&ipam->services, compare_service);
	ipam_tree_init(&ipam->entries, compare_entry);
	ipam_tree_init(&ipam->until, compare_until);
	ipam_tree_init(&ipam->shared, ipam_sharing_compare);
	ipam_tree_init(&ipam->takens, ipam_taken_compare);
	ipam_tree_init(&ipam->routers, ipam_router_compare);
	return ipam;
}

/* --- pools and Services as far as they are named --- */

static bool is_name(const char *string)
{
	return text(string)[0] && strlen(string) < IPAM_NAME_SIZE;
}

static int check_service_name(const struct ipam_name *name, struct base_error *error)
{
	if (is_name(name->namespace) && is_name(name->name))
		return 0;
	return base_error_set(error, -EINVAL,
			      "Service \"%.70s/%.70s\": a namespace and a name have 1 to %d characters",
			      text(name->namespace), text(name->name), IPAM_NAME_SIZE - 1);
}

struct pool *ipam_pool_find(const struct ipam *ipam, const char *name)
{
	struct ipam_tree_node *node = ipam_tree_find(&ipam->pools, name);

	return node ? IPAM_TREE_ITEM(node, struct pool, tree) : NULL;
}

struct pool *ipam_pool_get(struct ipam *ipam, const char *name)
{
	struct pool *pool = ipam_pool_find(ipam, name);

	if (pool)
		return pool;
	pool = calloc(1, sizeof *pool);
	if (!pool)
		return NULL;
	snprintf(pool->name, sizeof pool->name, "%s", name);
	for (unsigned f = 0; f < FAMILIES; f++) {
		ipam_tree_init(&pool->held[f], compare_of_pool);
		ipam_tree_init(&pool->quarantined[f], compare_of_pool);
		ipam_free_init(&pool->unused[f]);
	}
	ipam_tree_init(&pool->quotas, compare_quota);
	ipam_tree_insert(&ipam->pools, pool->name, &pool->tree);
	return pool;
}

void ipam_pool_sweep(struct ipam *ipam, struct pool *pool)
{
	if (!pool || pool->present || pool->named > 0 || pool->held[V4].count > 0 ||
	    pool->held[V6].count > 0 || pool->quarantined[V4].count > 0 ||
	    pool->quarantined[V6].count > 0)
		return;
	while (pool->quotas.root) {
		struct quota *quota = IPAM_TREE_ITEM(pool->quotas.root, struct quota, tree);

		ipam_tree_remove(&pool->quotas, &quota->tree);
		free(quota);
	}
	ipam_tree_remove(&ipam->pools, &pool->tree);
	free(pool);
}

struct service *ipam_service_find(const struct ipam *ipam, const struct ipam_name *name)
{
	struct ipam_tree_node *node = ipam_tree_find(&ipam->services, name);

	return node ? IPAM_TREE_ITEM(node, struct service, tree) : NULL;
}

struct service *ipam_service_get(struct ipam *ipam, const struct ipam_name *name)
{
	struct service *service = ipam_service_find(ipam, name);

	if (service)
		return service;
	service = calloc(1, sizeof *service);
	if (!service)
		return NULL;
	snprintf(service->namespace, sizeof service->namespace, "%s", name->namespace);
	snprintf(service->name, sizeof service->name, "%s", name->name);
	ipam_tree_insert(&ipam->services, name, &service->tree);
	return service;
}

static void forget_facts(struct service *service)
{
	free(service->sharing_key);
	free(service->ports);
	free(service->external_ips);
	service->sharing_key = NULL;
	service->ports = NULL;
	service->external_ips = NULL;
	service->port_count = service->external_count = 0;
	service->known = false;
}

void ipam_service_sweep(struct ipam *ipam, struct service *service)
{
	if (!service || service->known || service->named > 0 || service->holdings ||
	    service->reservations || service->quarantined)
		return;
	forget_facts(service);
	ipam_tree_remove(&ipam->services, &service->tree);
	free(service);
}

int ipam_service_put(struct ipam *ipam, const struct ipam_service *facts)
{
	struct service *service;
	struct ipam_port *ports = calloc(facts->port_count + 1, sizeof *ports);
	struct base_address *external = calloc(facts->external_count + 1, sizeof *external);
	char *key = text(facts->sharing_key)[0] ? strdup(facts->sharing_key) : NULL;
	int r = check_service_name(&facts->name, NULL);

	if (r == 0 && (!ports || !external || (text(facts->sharing_key)[0] && !key)))
		r = -ENOMEM;
	service = r == 0 ? ipam_service_get(ipam, &facts->name) : NULL;
	if (!service) {
		free(ports);
		free(external);
		free(key);
		return r ? r : -ENOMEM;
	}
	for (struct holding *holding = service->holdings; holding; holding = holding->next)
		ipam_sharing_leave(ipam, holding);
	forget_facts(service);
	if (facts->port_count > 0)
		memcpy(ports, facts->ports, facts->port_count * sizeof *ports);
	if (facts->external_count > 0)
		memcpy(external, facts->external_ips, facts->external_count * sizeof *external);
	service->known = true;
	service->sharing_key = key;
	service->ports = ports;
	service->port_count = facts->port_count;
	service->external_ips = external;
	service->external_count = facts->external_count;
	service->local_only = facts->local_only;
	service->selector = facts->selector;
	for (struct holding *holding = service->holdings; holding; holding = holding->next)
		ipam_sharing_join(ipam, holding);
	return 0;
}

void ipam_service_remove(struct ipam *ipam, const struct ipam_name *name)
{
	struct service *service = ipam_service_find(ipam, name);

	if (!service)
		return;
	for (struct holding *holding = service->holdings; holding; holding = holding->next)
		ipam_sharing_leave(ipam, holding);
	forget_facts(service);
	ipam_service_sweep(ipam, service);
}

/* --- addresses of which something is known --- */

struct entry *ipam_entry_find(const struct ipam *ipam, const struct base_address *address)
{
	return ipam_entry_of(ipam_tree_find(&ipam->entries, address));
}

struct entry *ipam_entry_get(struct ipam *ipam, const struct base_address *address)
{
	struct entry *entry = ipam_entry_find(ipam, address);

	if (entry)
		return entry;
	entry = calloc(1, sizeof *entry);
	if (!entry)
		return NULL;
	entry->address = *address;
	ipam_tree_insert(&ipam->entries, address, &entry->tree);
	return entry;
}

void ipam_entry_sweep(struct ipam *ipam, struct entry *entry)
{
	if (!entry || entry->state != ENTRY_IDLE || entry->reservations || entry->taken ||
	    entry->named > 0)
		return;
	ipam_tree_remove(&ipam->entries, &entry->tree);
	free(entry->holders);
	free(entry->names);
	free(entry);
}

int ipam_prepare(struct ipam *ipam, size_t changes)
{
	return ipam_reserve_grow(&ipam->reserve, changes * ipam->order.count);
}

void ipam_entry_update(struct ipam *ipam, struct entry *entry)
{
	bool blocked = entry->state != ENTRY_IDLE || entry->reservations || entry->taken;
	ipam_number number = ipam_number_of(&entry->address);
	unsigned f = family_index(&entry->address);

	if (blocked == entry->blocked)
		return;
	entry->blocked = blocked;
	ipam->freed |= !blocked;
	if (!blocked && ipam_taken_wide(ipam, &entry->address))
		return;
	for (struct pool *pool = ipam_pool_in_order(ipam_tree_first(&ipam->order)); pool;
	     pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order))) {
		if (!ipam_set_contains(&pool->set[f], number))
			continue;
		if (blocked)
			ipam_free_take(&pool->unused[f], &pool->set[f], number, &ipam->reserve);
		else
			ipam_free_give(&pool->unused[f], &pool->set[f], number, &ipam->reserve);
	}
}

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

/* From held to idle; the caller decides what comes then and updates the free ranges. */
static void end_record(struct ipam *ipam, struct entry *entry)
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
	if (!is_name(record->pool))
		return base_error_set(error, -EINVAL,
				      "VirtualIP %s: spec.pool \"%.70s\" is no name of a pool", name,
				      text(record->pool));
	if (strlen(text(record->router)) >= IPAM_ROUTER_NAME_SIZE)
		return base_error_set(error, -EINVAL,
				      "VirtualIP %s: spec.virtualRouter has more than %d characters",
				      name, IPAM_ROUTER_NAME_SIZE - 1);
	for (size_t i = 0; i < record->service_count; i++)
		if (check_service_name(&record->services[i], error) < 0)
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
		end_record(ipam, parts.entry);
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
	end_record(ipam, entry);
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
	end_record(ipam, entry);
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

/* --- quarantine --- */

static uint64_t quarantine_end(const struct entry *entry)
{
	uint64_t period_us = entry->pool->present ? entry->pool->spec.quarantine_us
						  : IPAM_QUARANTINE_DEFAULT_US;

	return base_usec_earlier(entry->told_us, base_usec_add(entry->seen_us, period_us));
}

void ipam_quarantine_clamp(struct ipam *ipam, struct entry *entry)
{
	uint64_t until_us = quarantine_end(entry);

	if (until_us == entry->until_us)
		return;
	ipam_tree_remove(&ipam->until, &entry->by_time);
	entry->until_us = until_us;
	ipam_tree_insert(&ipam->until, entry, &entry->by_time);
}

/* The entry is idle; the caller updates the free ranges. */
void ipam_quarantine_begin(struct ipam *ipam, struct entry *entry, struct pool *pool,
			   struct service *service, uint64_t told_us, uint64_t seen_us)
{
	entry->state = ENTRY_QUARANTINED;
	entry->pool = pool;
	entry->last_holder = service;
	if (service) {
		entry->next_of_service = service->quarantined;
		service->quarantined = entry;
	}
	entry->told_us = told_us;
	entry->seen_us = seen_us;
	entry->until_us = quarantine_end(entry);
	ipam_tree_insert(&pool->quarantined[family_index(&entry->address)], &entry->address,
			 &entry->of_pool);
	ipam_tree_insert(&ipam->until, entry, &entry->by_time);
}

/* Idle then; the caller updates the free ranges. */
void ipam_quarantine_end(struct ipam *ipam, struct entry *entry)
{
	struct service *service = entry->last_holder;
	struct entry **slot = service ? &service->quarantined : NULL;
	struct pool *pool = entry->pool;

	while (slot && *slot != entry)
		slot = &(*slot)->next_of_service;
	if (slot)
		*slot = entry->next_of_service;
	ipam_tree_remove(&ipam->until, &entry->by_time);
	ipam_tree_remove(&pool->quarantined[family_index(&entry->address)], &entry->of_pool);
	entry->state = ENTRY_IDLE;
	entry->pool = NULL;
	entry->last_holder = NULL;
	ipam_service_sweep(ipam, service);
	ipam_pool_sweep(ipam, pool);
}

int ipam_quarantine_put(struct ipam *ipam, const struct ipam_quarantine *quarantine,
			uint64_t now_us)
{
	bool named = text(quarantine->service.name)[0];
	struct service *service = NULL;
	struct parts parts = { 0 };
	int r = 0;

	if (base_address_size(&quarantine->address) == 0 || !is_name(quarantine->pool) ||
	    (named && check_service_name(&quarantine->service, NULL) < 0))
		return -EINVAL;
	ipam_expire(ipam, now_us);
	if (quarantine->until_us <= now_us)
		return 0;
	parts.pool = ipam_pool_get(ipam, quarantine->pool);
	if (!parts.pool)
		return -ENOMEM;
	parts.pool->named++;
	parts.entry = ipam_entry_get(ipam, &quarantine->address);
	service = named ? ipam_service_get(ipam, &quarantine->service) : NULL;
	if (service)
		service->named++;
	if (!parts.entry || (named && !service) || ipam_prepare(ipam, 1) < 0) {
		r = -ENOMEM;
	} else if (parts.entry->state != ENTRY_HELD) {
		if (parts.entry->state == ENTRY_QUARANTINED)
			ipam_quarantine_end(ipam, parts.entry);
		ipam_quarantine_begin(ipam, parts.entry, parts.pool, service,
				      quarantine->until_us, now_us);
		ipam_entry_update(ipam, parts.entry);
	}
	if (service)
		service->named--;
	ipam_service_sweep(ipam, service);
	discard(ipam, &parts);
	return r;
}

void ipam_quarantine_each(struct ipam *ipam, const char *name, uint64_t now_us,
			  ipam_quarantine_fn *callback, void *userdata)
{
	struct pool *pool;

	ipam_expire(ipam, now_us);
	pool = ipam_pool_find(ipam, name);
	for (unsigned f = 0; pool && f < FAMILIES; f++) {
		for (struct ipam_tree_node *node = ipam_tree_first(&pool->quarantined[f]); node;
		     node = ipam_tree_next(node)) {
			const struct entry *entry = IPAM_TREE_ITEM(node, struct entry, of_pool);
			struct ipam_quarantine quarantine = {
				.address = entry->address,
				.pool = pool->name,
				.until_us = entry->until_us,
			};

			if (entry->last_holder)
				quarantine.service = (struct ipam_name){
					entry->last_holder->namespace, entry->last_holder->name
				};
			if (!callback(userdata, &quarantine))
				return;
		}
	}
}

uint64_t ipam_deadline(const struct ipam *ipam)
{
	struct ipam_tree_node *node = ipam_tree_first(&ipam->until);

	return node ? IPAM_TREE_ITEM(node, struct entry, by_time)->until_us : BASE_USEC_NEVER;
}

/* The clock went back: nothing may be locked away for longer than its pool says from now on. */
static void turn_back(struct ipam *ipam, uint64_t now_us)
{
	for (struct ipam_tree_node *node = ipam_tree_first(&ipam->entries); node;
	     node = ipam_tree_next(node)) {
		struct entry *entry = ipam_entry_of(node);

		if (entry->state != ENTRY_QUARANTINED || entry->seen_us <= now_us)
			continue;
		entry->seen_us = now_us;
		ipam_quarantine_clamp(ipam, entry);
	}
}

void ipam_expire(struct ipam *ipam, uint64_t now_us)
{
	struct ipam_tree_node *node;

	if (now_us < ipam->now_us && ipam->until.count > 0)
		turn_back(ipam, now_us);
	ipam->now_us = now_us;
	while ((node = ipam_tree_first(&ipam->until)) && ipam_prepare(ipam, 1) == 0) {
		struct entry *entry = IPAM_TREE_ITEM(node, struct entry, by_time);

		if (entry->until_us > now_us)
			return;
		ipam_quarantine_end(ipam, entry);
		ipam_entry_update(ipam, entry);
		ipam_entry_sweep(ipam, entry);
	}
}

bool ipam_advance(struct ipam *ipam, uint64_t now_us)
{
	bool freed;

	ipam_expire(ipam, now_us);
	freed = ipam->freed;
	ipam->freed = false;
	return freed;
}

void ipam_free(struct ipam *ipam)
{
	struct ipam_tree_node *node, *next;

	if (!ipam)
		return;
	/* Without pools to tell nothing below needs memory. */
	while ((node = ipam_tree_first(&ipam->order)))
		ipam_pool_retire(ipam, ipam_pool_in_order(node));
	ipam_taken_clear(ipam);
	for (node = ipam_tree_first(&ipam->pools); node; node = next) {
		struct pool *pool = IPAM_TREE_ITEM(node, struct pool, tree);

		next = ipam_tree_next(node);
		if (pool->present)
			ipam_pool_unput(ipam, pool);
	}
	while ((node = ipam->entries.root)) {
		struct entry *entry = ipam_entry_of(node);

		if (entry->state == ENTRY_HELD)
			end_record(ipam, entry);
		else if (entry->state == ENTRY_QUARANTINED)
			ipam_quarantine_end(ipam, entry);
		ipam_entry_sweep(ipam, entry);
	}
	while ((node = ipam->services.root)) {
		struct service *service = IPAM_TREE_ITEM(node, struct service, tree);

		forget_facts(service);
		ipam_service_sweep(ipam, service);
	}
	ipam_reserve_clear(&ipam->reserve);
	free(ipam);
}
