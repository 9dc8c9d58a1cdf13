#include "ipam/ipam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

bool ipam_is_name(const char *string)
{
	return text(string)[0] && strlen(string) < IPAM_NAME_SIZE;
}

int ipam_service_check_name(const struct ipam_name *name, struct base_error *error)
{
	if (ipam_is_name(name->namespace) && ipam_is_name(name->name))
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
	int r = ipam_service_check_name(&facts->name, NULL);

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
	while ((node = ipam_tree_first(&ipam->entries))) {
		struct entry *entry = ipam_entry_of(node);

		if (entry->state == ENTRY_HELD)
			ipam_record_end(ipam, entry);
		else if (entry->state == ENTRY_QUARANTINED)
			ipam_quarantine_end(ipam, entry);
		ipam_entry_sweep(ipam, entry);
	}
	while ((node = ipam_tree_first(&ipam->services))) {
		struct service *service = IPAM_TREE_ITEM(node, struct service, tree);

		forget_facts(service);
		ipam_service_sweep(ipam, service);
	}
	ipam_reserve_clear(&ipam->reserve);
	free(ipam);
}
