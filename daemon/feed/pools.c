#include "daemon/feed/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* AddressPools of manifests: is an address in one, which virtual router IDs does it allow? */

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

int pool_find(struct wish_set *set, const struct base_address *address, const struct object **pool)
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

int pool_read_ids(struct wish_set *set, const struct object *pool, const char *list, bool value,
		  bool allowed[256])
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
int pool_check(struct wish_set *set, const struct object *pool)
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
		r = pool_read_ids(set, pool, "spec/vrrp/virtualRouterIDs", true, ids);
	if (r >= 0)
		r = pool_read_ids(set, pool, "spec/vrrp/excludeVirtualRouterIDs", false, ids);
	return r;
}
