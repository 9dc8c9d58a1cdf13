#include "ipam/ipam.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipam/state.h"

int ipam_taken_compare(const void *key, const struct ipam_tree_node *node)
{
	return strcmp(key, IPAM_TREE_ITEM(node, struct taken, tree)->who);
}

static bool is_single(const struct ipam_range *range)
{
	return base_address_equal(&range->first, &range->last);
}

static bool in_range(const struct ipam_range *range, const struct base_address *address)
{
	return range->first.family == address->family &&
	       base_address_compare(&range->first, address) <= 0 &&
	       base_address_compare(address, &range->last) <= 0;
}

/* Takes it out of its entries; wide ranges are the caller's to refill. */
static void withdraw(struct ipam *ipam, struct taken *taken)
{
	for (size_t i = 0; i < taken->single_count; i++) {
		struct taken_single *single = &taken->singles[i], **slot = &single->entry->taken;

		while (*slot != single)
			slot = &(*slot)->next;
		*slot = single->next;
		ipam_entry_update(ipam, single->entry);
		ipam_entry_sweep(ipam, single->entry);
	}
	if (taken->wide_count > 0) {
		struct taken **slot = &ipam->wides;

		while (*slot != taken)
			slot = &(*slot)->next_wide;
		*slot = taken->next_wide;
		ipam->freed = true;
	}
	ipam->wide_count -= taken->wide_count;
	ipam_tree_remove(&ipam->takens, &taken->tree);
}

/* Ordered by who, so that a refusal names the same one whatever came first. */
static void enter(struct ipam *ipam, struct taken *taken)
{
	for (size_t i = 0; i < taken->single_count; i++) {
		struct taken_single *single = &taken->singles[i], **slot = &single->entry->taken;

		while (*slot && strcmp((*slot)->taken->who, taken->who) < 0)
			slot = &(*slot)->next;
		single->next = *slot;
		*slot = single;
		single->entry->named--;
		ipam_entry_update(ipam, single->entry);
	}
	if (taken->wide_count > 0) {
		struct taken **slot = &ipam->wides;

		while (*slot && strcmp((*slot)->who, taken->who) < 0)
			slot = &(*slot)->next_wide;
		taken->next_wide = *slot;
		*slot = taken;
	}
	ipam->wide_count += taken->wide_count;
	ipam_tree_insert(&ipam->takens, taken->who, &taken->tree);
}

static void destroy(struct ipam *ipam, struct taken *taken)
{
	if (!taken)
		return;
	if (taken->service) {
		taken->service->named--;
		ipam_service_sweep(ipam, taken->service);
	}
	free(taken->who);
	free(taken->singles);
	free(taken->wides);
	free(taken);
}

static void discard(struct ipam *ipam, struct taken *taken)
{
	for (size_t i = 0; i < taken->single_count; i++) {
		taken->singles[i].entry->named--;
		ipam_entry_sweep(ipam, taken->singles[i].entry);
	}
	destroy(ipam, taken);
}

static struct taken *make(struct ipam *ipam, const char *who, enum base_reason reason,
			  const struct ipam_name *service, size_t count,
			  const struct ipam_range *ranges)
{
	struct taken *taken = calloc(1, sizeof *taken);

	if (!taken)
		return NULL;
	taken->who = strdup(who);
	taken->reason = reason;
	taken->singles = calloc(count + 1, sizeof *taken->singles);
	taken->wides = calloc(count + 1, sizeof *taken->wides);
	if (service) {
		taken->service = ipam_service_get(ipam, service);
		if (taken->service)
			taken->service->named++;
	}
	if (!taken->who || !taken->singles || !taken->wides || (service && !taken->service)) {
		discard(ipam, taken);
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		struct entry *entry;

		if (!is_single(&ranges[i])) {
			taken->wides[taken->wide_count++] = ranges[i];
			continue;
		}
		entry = ipam_entry_get(ipam, &ranges[i].first);
		if (!entry) {
			discard(ipam, taken);
			return NULL;
		}
		entry->named++;
		taken->singles[taken->single_count++] =
			(struct taken_single){ .taken = taken, .entry = entry };
	}
	return taken;
}

int ipam_taken_put(struct ipam *ipam, const char *who, enum base_reason reason,
		   const struct ipam_name *service, size_t count, const struct ipam_range *ranges)
{
	struct ipam_tree_node *node = ipam_tree_find(&ipam->takens, who);
	struct taken *old = node ? IPAM_TREE_ITEM(node, struct taken, tree) : NULL, *new = NULL;
	size_t nodes;
	bool refill;

	for (size_t i = 0; i < count; i++)
		if (base_address_size(&ranges[i].first) == 0 ||
		    ranges[i].first.family != ranges[i].last.family ||
		    base_address_compare(&ranges[i].first, &ranges[i].last) > 0)
			return -EINVAL;
	if (count > 0) {
		new = make(ipam, who, reason, service, count, ranges);
		if (!new)
			return -ENOMEM;
	}
	refill = (old && old->wide_count > 0) || (new && new->wide_count > 0);
	nodes = (count + (old ? old->single_count : 0)) * ipam->order.count;
	if (refill)
		nodes += ipam_pool_refill_bound(ipam, ipam->wide_count + count);
	if (ipam_reserve_grow(&ipam->reserve, nodes) < 0) {
		if (new)
			discard(ipam, new);
		return -ENOMEM;
	}
	if (old)
		withdraw(ipam, old);
	if (new)
		enter(ipam, new);
	if (refill)
		ipam_pool_refill_all(ipam);
	destroy(ipam, old);
	return 0;
}

const struct taken *ipam_taken_by(const struct ipam *ipam, const struct base_address *address,
				  const struct service *service)
{
	const struct entry *entry = ipam_entry_find(ipam, address);

	for (const struct taken_single *single = entry ? entry->taken : NULL; single;
	     single = single->next)
		if (!single->taken->service || single->taken->service != service)
			return single->taken;
	for (const struct taken *taken = ipam->wides; taken; taken = taken->next_wide)
		for (size_t i = 0; i < taken->wide_count; i++)
			if (in_range(&taken->wides[i], address) &&
			    (!taken->service || taken->service != service))
				return taken;
	return NULL;
}

bool ipam_taken_wide(const struct ipam *ipam, const struct base_address *address)
{
	for (const struct taken *taken = ipam->wides; taken; taken = taken->next_wide)
		for (size_t i = 0; i < taken->wide_count; i++)
			if (in_range(&taken->wides[i], address))
				return true;
	return false;
}

void ipam_taken_clear(struct ipam *ipam)
{
	struct ipam_tree_node *node;

	while ((node = ipam_tree_first(&ipam->takens))) {
		struct taken *taken = IPAM_TREE_ITEM(node, struct taken, tree);

		withdraw(ipam, taken);
		destroy(ipam, taken);
	}
}
