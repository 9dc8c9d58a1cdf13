#include "ipam/ipam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipam/state.h"

struct key {
	const char *name;
	uint8_t id;
};

static int compare_carried(const void *key, const struct ipam_tree_node *node)
{
	return base_address_compare(key, &IPAM_TREE_ITEM(node, struct entry, of_router)->address);
}

int ipam_router_compare(const void *key, const struct ipam_tree_node *node)
{
	const struct key *left = key;
	const struct router *right = IPAM_TREE_ITEM(node, struct router, tree);
	int order = strcmp(left->name, right->name);

	return order ? order : left->id - right->id;
}

/* "<pool>.ipv4.<id>": the name says where it belongs, whatever the record of one address says. */
static const char *split_name(const char *name, char pool[static IPAM_NAME_SIZE], unsigned *family)
{
	const char *dot = strrchr(name, '.');

	if (!dot || dot - name < 6 || (size_t)(dot - name) - 5 >= IPAM_NAME_SIZE)
		return NULL;
	if (strncmp(dot - 5, ".ipv4", 5) == 0)
		*family = V4;
	else if (strncmp(dot - 5, ".ipv6", 5) == 0)
		*family = V6;
	else
		return NULL;
	snprintf(pool, IPAM_NAME_SIZE, "%.*s", (int)(dot - name - 5), name);
	return pool;
}

struct router *ipam_router_get(struct ipam *ipam, struct pool *pool, unsigned family,
			       const char *name, uint8_t id)
{
	struct key key = { name, id };
	struct ipam_tree_node *node = ipam_tree_find(&ipam->routers, &key);
	struct router *router;
	char pool_name[IPAM_NAME_SIZE];

	if (node)
		return IPAM_TREE_ITEM(node, struct router, tree);
	router = calloc(1, sizeof *router);
	if (router && split_name(name, pool_name, &family))
		pool = ipam_pool_get(ipam, pool_name);
	if (!router || !pool) {
		free(router);
		return NULL;
	}
	snprintf(router->name, sizeof router->name, "%s", name);
	router->id = id;
	router->family = family;
	ipam_tree_init(&router->carried, compare_carried);
	router->pool = pool;
	pool->named++;
	router->next = ipam->ids[family][id];
	ipam->ids[family][id] = router;
	key.name = router->name;
	ipam_tree_insert(&ipam->routers, &key, &router->tree);
	return router;
}

void ipam_router_sweep(struct ipam *ipam, struct router *router)
{
	struct router **slot;

	if (router->carried.count > 0 || router->named > 0)
		return;
	slot = &ipam->ids[router->family][router->id];
	while (*slot != router)
		slot = &(*slot)->next;
	*slot = router->next;
	ipam_tree_remove(&ipam->routers, &router->tree);
	router->pool->named--;
	ipam_pool_sweep(ipam, router->pool);
	free(router);
}

void ipam_router_attach(struct ipam *ipam, struct entry *entry, struct router *router)
{
	struct router *before = entry->router;

	if (before == router)
		return;
	if (before)
		ipam_tree_remove(&before->carried, &entry->of_router);
	if (router)
		ipam_tree_insert(&router->carried, &entry->address, &entry->of_router);
	entry->router = router;
	if (before)
		ipam_router_sweep(ipam, before);
}

/* Could the two be heard on one segment? Only pools that both say where they are may tell. */
static bool same_segment(const struct pool *a, const struct pool *b)
{
	const char *left = a->present ? text(a->spec.segment) : "";
	const char *right = b->present ? text(b->spec.segment) : "";

	return a == b || !left[0] || !right[0] || strcmp(left, right) == 0;
}

const struct router *ipam_router_rival(const struct ipam *ipam, unsigned family, uint8_t id,
				       const struct pool *pool, const char *name)
{
	const struct router *rival = NULL;

	/* The lowest name, so that the answer does not depend on who came first. */
	for (const struct router *router = ipam->ids[family][id]; router; router = router->next)
		if (strcmp(router->name, name) != 0 && same_segment(router->pool, pool) &&
		    (!rival || strcmp(router->name, rival->name) < 0))
			rival = router;
	return rival;
}

static bool usable(const struct pool *pool, const struct ipam_ids *avoid, unsigned id)
{
	return ipam_ids_contain(&pool->spec.virtual_router_ids, id) &&
	       !(avoid && ipam_ids_contain(avoid, id));
}

static struct entry *carried_of(struct ipam_tree_node *node)
{
	return IPAM_TREE_ITEM(node, struct entry, of_router);
}

/* Do those that it carries, this one apart, ask the same of nodes? The first of them tells. */
static bool of_kin(const struct router *router, const struct entry *entry)
{
	struct ipam_tree_node *node = ipam_tree_first(&router->carried);

	if (node && carried_of(node) == entry)
		node = ipam_tree_next(node);
	return !node || !entry->kin || !carried_of(node)->kin ||
	       carried_of(node)->kin == entry->kin;
}

static bool may_stay(const struct ipam *ipam, const struct entry *entry,
		     const struct ipam_ids *avoid)
{
	const struct router *router = entry->router;

	return router && router->pool == entry->pool && usable(entry->pool, avoid, router->id) &&
	       router->carried.count <= IPAM_ROUTER_ADDRESSES_MAX &&
	       !ipam_router_rival(ipam, router->family, router->id, router->pool, router->name);
}

static bool is_unused(const struct ipam *ipam, const struct entry *entry,
		      const struct ipam_ids *avoid, unsigned id)
{
	return usable(entry->pool, avoid, id) &&
	       !ipam_router_rival(ipam, family_index(&entry->address), (uint8_t)id, entry->pool,
				  "");
}

static unsigned unused_id(const struct ipam *ipam, const struct entry *entry,
			  const struct ipam_ids *avoid)
{
	unsigned wish = entry->address.bytes[family_index(&entry->address) == V6 ? 15 : 3];
	unsigned count = 0, skip = 0;

	if (entry->router && avoid && ipam_ids_contain(avoid, entry->router->id)) {
		/* Of the unused ones, however few the pool allows, or all clusters land on the next. */
		wish = entry->router->id;
		for (unsigned id = 1; id < 256; id++)
			count += is_unused(ipam, entry, avoid, id);
		skip = count ? entry->pool->spec.leap % count : 0;
	}
	for (unsigned n = 0; n < 256; n++) {
		unsigned id = (wish + n) % 256;

		if (is_unused(ipam, entry, avoid, id) && skip-- == 0)
			return id;
	}
	return 0;
}

static struct router *least_filled(const struct ipam *ipam, const struct entry *entry,
				   const struct ipam_ids *avoid, bool kin)
{
	unsigned f = family_index(&entry->address);
	struct router *best = NULL;

	for (unsigned id = 1; id < 256; id++) {
		for (struct router *router = ipam->ids[f][id]; router; router = router->next) {
			if (router->pool != entry->pool || router == entry->router ||
			    !usable(entry->pool, avoid, id) ||
			    router->carried.count >= IPAM_ROUTER_ADDRESSES_MAX ||
			    (kin && !of_kin(router, entry)) ||
			    ipam_router_rival(ipam, f, (uint8_t)id, router->pool, router->name))
				continue;
			if (!best || router->carried.count < best->carried.count)
				best = router;
		}
	}
	return best;
}

static int none_left(const struct ipam *ipam, const struct entry *entry,
		     const struct ipam_ids *avoid, struct base_error *error)
{
	unsigned f = family_index(&entry->address);
	const char *family = f == V6 ? "IPv6" : "IPv4";
	const struct router *rival = NULL;
	unsigned allowed = 0;

	for (unsigned id = 1; id < 256; id++) {
		if (!usable(entry->pool, avoid, id))
			continue;
		allowed++;
		for (const struct router *router = ipam->ids[f][id]; router && !rival;
		     router = router->next)
			if (router->pool != entry->pool)
				rival = router;
	}
	if (allowed == 0)
		return base_error_set(error, BASE_REASON_POOL_EXHAUSTED,
				      "no virtual router ID is left for pool %s: strangers on the "
				      "segment use all that virtualRouterIDs allows; allow others",
				      entry->pool->name);
	if (rival)
		return base_error_set(error, BASE_REASON_POOL_EXHAUSTED,
				      "no %s virtual router ID is left for pool %s: other pools use "
				      "what it allows (%s has %u); give each pool virtualRouterIDs of "
				      "its own",
				      family, entry->pool->name, rival->pool->name, rival->id);
	return base_error_set(error, BASE_REASON_POOL_EXHAUSTED,
			      "no %s virtual router is left for pool %s: all that virtualRouterIDs "
			      "allows carry %d addresses; allow more IDs",
			      family, entry->pool->name, IPAM_ROUTER_ADDRESSES_MAX);
}

/* Where it goes: an unused ID, its kin, anybody; NULL with no memory, or (`*r` says why) nowhere. */
static struct router *find_router(struct ipam *ipam, const struct entry *entry,
				  const struct ipam_ids *avoid, struct base_error *error, int *r)
{
	unsigned f = family_index(&entry->address), id = unused_id(ipam, entry, avoid);
	char name[IPAM_ROUTER_NAME_SIZE];
	struct router *router;

	*r = -ENOMEM;
	if (id) {
		snprintf(name, sizeof name, "%s.%s.%u", entry->pool->name,
			 f == V6 ? "ipv6" : "ipv4", id);
		return ipam_router_get(ipam, entry->pool, f, name, (uint8_t)id);
	}
	router = least_filled(ipam, entry, avoid, true);
	if (router)
		return router;
	if (may_stay(ipam, entry, avoid)) /* among strangers, but there is nothing better */
		return entry->router;
	router = least_filled(ipam, entry, avoid, false);
	if (!router)
		*r = none_left(ipam, entry, avoid, error);
	return router;
}

int ipam_router_choose(struct ipam *ipam, const struct base_address *address, uint64_t kin,
		       const struct ipam_ids *avoid, struct ipam_router *answer,
		       struct base_error *error)
{
	struct entry *entry = ipam_entry_find(ipam, address);
	struct router *router;
	int r;

	if (!entry || entry->state != ENTRY_HELD || !entry->pool->present)
		return -ENOENT;
	entry->kin = kin;
	router = entry->router;
	if (!may_stay(ipam, entry, avoid) || !of_kin(router, entry)) {
		router = find_router(ipam, entry, avoid, error, &r);
		if (!router)
			return r;
		ipam_router_attach(ipam, entry, router);
	}
	*answer = (struct ipam_router){ .id = router->id,
					.address_count = router->carried.count };
	memcpy(answer->name, router->name, sizeof answer->name);
	return 0;
}

bool ipam_router_leader(const struct ipam *ipam, const struct base_address *address,
			struct base_address *leader)
{
	const struct entry *entry = ipam_entry_find(ipam, address);
	struct ipam_tree_node *node;

	if (!entry || !entry->router)
		return false;
	node = ipam_tree_first(&entry->router->carried);
	*leader = IPAM_TREE_ITEM(node, struct entry, of_router)->address;
	return true;
}

void ipam_router_each(const struct ipam *ipam, const struct base_address *address,
		      ipam_record_fn *callback, void *userdata)
{
	const struct entry *entry = ipam_entry_find(ipam, address);

	if (!entry || !entry->router)
		return;
	for (struct ipam_tree_node *node = ipam_tree_first(&entry->router->carried); node;
	     node = ipam_tree_next(node)) {
		struct ipam_record record;

		ipam_record_view(carried_of(node), &record);
		if (!callback(userdata, &record))
			return;
	}
}
