#include "ipam/ipam.h"

#include <errno.h>
#include <string.h>

#include "base/time.h"
#include "ipam/state.h"

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
	struct entry *entry;
	struct pool *pool;
	int r = 0;

	if (base_address_size(&quarantine->address) == 0 || !ipam_is_name(quarantine->pool) ||
	    (named && ipam_service_check_name(&quarantine->service, NULL) < 0))
		return -EINVAL;
	ipam_expire(ipam, now_us);
	if (quarantine->until_us <= now_us)
		return 0;
	pool = ipam_pool_get(ipam, quarantine->pool);
	if (!pool)
		return -ENOMEM;
	pool->named++;
	entry = ipam_entry_get(ipam, &quarantine->address);
	service = named ? ipam_service_get(ipam, &quarantine->service) : NULL;
	if (service)
		service->named++;
	if (!entry || (named && !service) || ipam_prepare(ipam, 1) < 0) {
		r = -ENOMEM;
	} else if (entry->state != ENTRY_HELD) {
		if (entry->state == ENTRY_QUARANTINED)
			ipam_quarantine_end(ipam, entry);
		ipam_quarantine_begin(ipam, entry, pool, service, quarantine->until_us, now_us);
		ipam_entry_update(ipam, entry);
	}
	if (service)
		service->named--;
	ipam_service_sweep(ipam, service);
	ipam_entry_sweep(ipam, entry);
	pool->named--;
	ipam_pool_sweep(ipam, pool);
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

struct search {
	const struct base_address *address;
	size_t left;
	bool found;
};

static bool is_it(void *userdata, const struct ipam_quarantine *quarantine)
{
	struct search *search = userdata;

	search->found = base_address_equal(&quarantine->address, search->address);
	return !search->found && --search->left > 0;
}

bool ipam_quarantined(struct ipam *ipam, const char *pool, const struct base_address *address,
		      uint64_t now_us, size_t limit)
{
	struct search search = { .address = address, .left = limit };
	const struct entry *entry;

	ipam_expire(ipam, now_us);
	entry = ipam_entry_find(ipam, address);
	if (limit == 0 || !entry || entry->state != ENTRY_QUARANTINED ||
	    strcmp(entry->pool->name, pool) != 0)
		return false;
	if (entry->pool->quarantined[V4].count + entry->pool->quarantined[V6].count <= limit)
		return true;
	ipam_quarantine_each(ipam, pool, now_us, is_it, &search); /* rare: so many at once */
	return search.found;
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
