#include "daemon/controller/balance.h"

void calm_note(struct calm *calm, bool up, uint64_t now_us)
{
	if (calm->up == up)
		return;
	if (!up && base_usec_since(now_us, calm->since_us) >= BALANCE_FORGIVEN_US)
		calm->flaps = 0;
	calm->flaps += up;
	calm->up = up;
	calm->since_us = now_us;
}

bool calm_lasts(const struct calm *calm, uint64_t now_us)
{
	uint64_t hold_us = BALANCE_CALM_FIRST_US;

	for (unsigned i = 1; i < calm->flaps && hold_us < BALANCE_CALM_MAX_US; i++)
		hold_us *= 2;
	if (hold_us > BALANCE_CALM_MAX_US)
		hold_us = BALANCE_CALM_MAX_US;
	return calm->up && base_usec_since(now_us, calm->since_us) >= hold_us;
}

static uint32_t tolerated(const struct balance_node *nodes, size_t count)
{
	uint64_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += nodes[i].owned;
	total = count ? total / count / 10 : 0;
	return total > BALANCE_TOLERATED ? (uint32_t)total : BALANCE_TOLERATED;
}

bool balance_needed(const struct balance_node *nodes, size_t count)
{
	uint32_t most = 0, least = UINT32_MAX;

	for (size_t i = 0; i < count; i++) {
		if (nodes[i].owned > most)
			most = nodes[i].owned;
		if (nodes[i].may_get && nodes[i].owned < least)
			least = nodes[i].owned;
	}
	return most > least && most - least > tolerated(nodes, count);
}

uint32_t balance_gain(const struct balance_node *nodes, size_t count,
		      const struct balance_item *item, size_t *to)
{
	uint32_t most = nodes[item->owner].owned, least = most;

	for (size_t i = 0; i < item->count; i++) {
		if (!nodes[item->to[i]].may_get || nodes[item->to[i]].owned >= least)
			continue;
		least = nodes[item->to[i]].owned;
		*to = item->to[i];
	}
	/* What moves together must not tip it over to the other side. */
	return most - least > tolerated(nodes, count) && most - least >= 2 * item->weight
		       ? most - least
		       : 0;
}

void balance_move(struct balance_node *nodes, const struct balance_item *item, size_t to)
{
	nodes[item->owner].owned -= item->weight;
	nodes[to].owned += item->weight;
}
