#include "daemon/feed/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* The virtual routers of a plan: their IDs, their candidates, and the messages about them. */

#define NODES_MAX 256

/* --- virtual router IDs --- */

static int compare_vips(const void *a, const void *b)
{
	const struct vip *const *left = a, *const *right = b;

	return base_address_compare(&(*left)->address, &(*right)->address);
}

static void lead(struct vip *(*taken)[256], struct vip *vip, unsigned id)
{
	vip->id = id;
	vip->leader = vip;
	vip->carried_count = 1;
	taken[vip->address.family == BASE_FAMILY_IPV6][id] = vip;
}

/* More addresses of a pool than virtual routers: one carries several, which move together. */
static bool join(struct vip *(*taken)[256], struct vip *vip, unsigned id)
{
	struct vip *leader = taken[vip->address.family == BASE_FAMILY_IPV6][id];

	if (!leader || leader->pool != vip->pool || leader->object || vip->object ||
	    leader->carried_count == MESSAGE_ADDRESSES_MAX)
		return false;
	vip->id = id;
	vip->leader = leader;
	vip->next_carried = leader->next_carried;
	leader->next_carried = vip;
	leader->carried_count++;
	return true;
}

static int choose_id(struct plan *plan, struct vip *(*taken)[256], struct vip *vip)
{
	int six = vip->address.family == BASE_FAMILY_IPV6, r = 0;
	unsigned wish = vip->address.bytes[six ? 15 : 3];
	bool allowed[256];

	memset(allowed, 1, sizeof allowed);
	if (vip->pool)
		r = pool_read_ids(plan->set, vip->pool, "spec/vrrp/virtualRouterIDs", true, allowed);
	if (r >= 0 && vip->pool)
		r = pool_read_ids(plan->set, vip->pool, "spec/vrrp/excludeVirtualRouterIDs", false,
				  allowed);
	if (r < 0)
		return r;
	for (unsigned n = 0; n < 256; n++) {
		unsigned id = (wish + n) % 256;

		if (id && allowed[id] && !taken[six][id]) {
			lead(taken, vip, id);
			return 0;
		}
	}
	for (unsigned n = 0; n < 256; n++)
		if (allowed[(wish + n) % 256] && join(taken, vip, (wish + n) % 256))
			return 0;
	return complain(plan->set, vip->origin, vip->item,
			"no virtual router ID is left for this address: what virtualRouterIDs of %s "
			"allows is used by other pools and VirtualIPs, or carries %d addresses each; "
			"allow more IDs",
			vip->pool ? vip->pool->name : "its pool", MESSAGE_ADDRESSES_MAX);
}

/*
 * Deterministic: every node reads the same files and must come to the same IDs. What asks for an ID
 * goes first, then VirtualIPs, whose settings are their own, then what can be carried together.
 */
int plan_assign_ids(struct plan *plan)
{
	struct vip *taken[2][256] = { 0 };

	qsort(plan->vips, plan->count, sizeof *plan->vips, compare_vips);
	for (unsigned i = 0; i < plan->count; i++) {
		struct vip *vip = plan->vips[i];
		int six = vip->address.family == BASE_FAMILY_IPV6;

		if (!vip->id)
			continue;
		if (taken[six][vip->id])
			return complain(plan->set, vip->origin, vip->item,
					"virtualRouterID %u is that of %s:%d already", vip->id,
					taken[six][vip->id]->origin->file,
					taken[six][vip->id]->item->valueint);
		lead(taken, vip, vip->id);
	}
	for (int round = 0; round < 2; round++)
		for (unsigned i = 0; i < plan->count; i++) {
			struct vip *vip = plan->vips[i];
			int r;

			if (vip->id || (vip->object ? 0 : 1) != round)
				continue;
			r = choose_id(plan, taken, vip);
			if (r < 0)
				return r;
		}
	return 0;
}

/* --- candidates --- */

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

	cJSON_ArrayForEach(item, tree_get(tree, "status/addresses")) {
		struct base_address address;

		if (base_address_parse(tree_text(item, "address"), &address) &&
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

	for (const struct object *d = set->first; d; d = d->after) {
		uint8_t bytes[MESSAGE_NAME_SIZE + sizeof vip->address] = { 0 };

		if (d->kind != KIND_NODE || count == NODES_MAX ||
		    !has_family(d->tree, (enum base_family)vip->address.family))
			continue;
		ranked[count].node = d->name;
		snprintf((char *)bytes, MESSAGE_NAME_SIZE, "%s", d->name);
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

/* --- messages --- */

int plan_emit_router(struct plan *plan, const struct vip *vip)
{
	struct message_router *router = &plan->set->message.router;
	const char *pool = vip->pool ? vip->pool->name : "none";
	int r = 0;

	memset(&plan->set->message, 0, sizeof plan->set->message);
	plan->set->message.type = MESSAGE_ROUTER;
	snprintf(router->pool, sizeof router->pool, "%s", pool);
	snprintf(router->name, sizeof router->name, "%s.%s.%u", pool,
		 vip->address.family == BASE_FAMILY_IPV4 ? "ipv4" : "ipv6", vip->id);
	for (const struct vip *carried = vip; carried; carried = carried->next_carried) {
		translate_add_name(router->services, sizeof router->services, carried->services);
		router->addresses[router->address_count++] = carried->address;
	}
	router->virtual_router_id = (uint8_t)vip->id;
	router->family = vip->address.family;
	router->version = 3;
	router->interval_ms = MANIFEST_INTERVAL_MS;
	if (vip->pool)
		r = translate_settings(plan->set, vip->pool, router);
	if (r >= 0 && vip->object)
		r = translate_settings(plan->set, vip->object, router);
	if (r >= 0 && vip->object)
		r = translate_candidates(plan->set, vip->object, router);
	if (r >= 0 && router->candidate_count == 0)
		rank_candidates(plan->set, vip, router);
	if (r >= 0 && router->version == 2 && vip->address.family == BASE_FAMILY_IPV6)
		r = complain(plan->set, vip->origin, vip->item,
			     "version 2 of VRRP knows no IPv6: take a pool with version 3");
	/* Its adverts would say a second, and the fence would not know them. */
	if (r >= 0 && router->version == 2 && router->interval_ms % 1000 != 0)
		r = complain(plan->set, vip->origin, vip->item,
			     "version 2 of VRRP counts in whole seconds: take a pool with "
			     "advertisementIntervalMilliseconds: 1000, or with version 3");
	return r < 0 ? r : plan->emit(plan->userdata, &plan->set->message);
}
