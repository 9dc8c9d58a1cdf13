#include <stdlib.h>
#include <string.h>

#include "daemon/controller/reconcile.h"
#include "k8s/object.h"

/* From time to time: who owns too much hands something over to who owns too little (balance.h). */

struct balancing {
	struct state *state;
	uint64_t now_us;
	size_t count;
	struct balance_node *nodes; /* by struct node.index */
};

static struct node *owner_of(const struct balancing *balancing, const struct vip *vip)
{
	return vip->exists && vip->status.state == VIP_STATE_ACTIVE && vip->status.owner[0]
		       ? nodes_find(&balancing->state->nodes, vip->status.owner)
		       : NULL;
}

static bool count_all(struct balancing *balancing)
{
	struct state *state = balancing->state;

	balancing->nodes = calloc(state->nodes.table.count + 1, sizeof(*balancing->nodes));
	if (!balancing->nodes)
		return false;
	TABLE_EACH(&state->nodes.table, entry) {
		struct node *node = TABLE_OF(entry, struct node, entry);

		node->index = balancing->count++;
		balancing->nodes[node->index].may_get =
			node_is_up(node) && !node->speaker.excluded && !node->speaker.maintenance &&
			!node->facts.leaving && !node->facts.exclude_label &&
			calm_lasts(&node->calm, balancing->now_us);
	}
	TABLE_EACH(&state->vips, entry) {
		struct node *owner = owner_of(balancing, TABLE_OF(entry, struct vip, entry));

		if (owner)
			balancing->nodes[owner->index].owned++;
	}
	return true;
}

static bool is_local(struct state *state, const struct vip *vip)
{
	for (size_t i = 0; i < vip->holder_count; i++) {
		struct claim *claim = state_claim(state, vip->holders[i].namespace,
						  vip->holders[i].name);

		if (claim && claim->exists && claim->service.local_only)
			return true;
	}
	return false;
}

static bool count_one(void *userdata, const struct ipam_record *record)
{
	(void)record;
	++*(uint32_t *)userdata;
	return true;
}

/* May it be moved to even things out? Endpoints and a pool's preferences come before that. */
static bool is_movable(const struct balancing *balancing, const struct vip *vip)
{
	struct state *state = balancing->state;
	struct pool *pool = state_pool(state, vip->pool);
	struct base_address leader;

	return !vip->rebalance && !vip->status.ordered && !vip->deleting &&
	       move_rested(&vip->moves, balancing->now_us) && pool &&
	       cJSON_GetArraySize(k8s_object_get(pool->spec, "nodes/preferred")) == 0 &&
	       ipam_router_leader(state->ipam, &vip->address, &leader) &&
	       base_address_equal(&leader, &vip->address) && !is_local(state, vip);
}

static uint32_t look_at(const struct balancing *balancing, const struct vip *vip,
			struct balance_item *item, size_t *to)
{
	static size_t candidates[IPAM_CANDIDATES_MAX];
	struct node *owner = owner_of(balancing, vip);
	struct state *state = balancing->state;

	if (!owner || !is_movable(balancing, vip))
		return 0;
	*item = (struct balance_item){ .owner = owner->index, .to = candidates };
	for (size_t i = 0; i < vip->candidate_count; i++) {
		struct node *node = nodes_find(&state->nodes, vip->candidates[i]);

		if (node && node->index < balancing->count)
			candidates[item->count++] = node->index;
	}
	ipam_router_each(state->ipam, &vip->address, count_one, &item->weight);
	return balance_gain(balancing->nodes, balancing->count, item, to);
}

/* The one whose move gains most. False: none is worth it. */
static bool move_one(struct balancing *balancing)
{
	struct state *state = balancing->state;
	struct balance_item best_item = { 0 };
	struct vip *best = NULL;
	size_t best_to = 0;
	uint32_t most = 0;

	TABLE_EACH(&state->vips, entry) {
		struct vip *vip = TABLE_OF(entry, struct vip, entry);
		struct balance_item item;
		size_t to = 0;
		uint32_t gain = look_at(balancing, vip, &item, &to);

		if (gain <= most)
			continue;
		most = gain;
		best = vip;
		best_to = to;
		best_item = item;
	}
	if (!best)
		return false;
	balance_move(balancing->nodes, &best_item, best_to);
	TABLE_EACH(&state->nodes.table, entry) {
		struct node *node = TABLE_OF(entry, struct node, entry);

		if (node->index == best_to)
			best->rebalance = node;
	}
	best->rebalance_us = balancing->now_us;
	queue_mark(&state->queue, &best->work);
	return true;
}

void reconcile_balance(struct reconciler *reconciler)
{
	struct balancing balancing = { .state = reconciler->state, .now_us = reconciler_now() };

	if (reconciler->state->moving > 0 || !count_all(&balancing))
		return; /* those of the last time are still on their way */
	if (balance_needed(balancing.nodes, balancing.count))
		for (unsigned i = 0; i < BALANCE_AT_ONCE; i++)
			if (!move_one(&balancing))
				break;
	free(balancing.nodes);
}
