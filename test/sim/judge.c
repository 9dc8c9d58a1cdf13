#include "daemon/agent/cadence.h"
#include "daemon/engine/core/timing.h"
#include "test/sim/sim.h"

/*
 * Looks after every event at what the clients see, and holds it against what was promised. What a
 * node believes is of no interest here.
 */

static uint64_t lan_us(const struct sim_world *world)
{
	uint64_t worst_us = 0;

	for (unsigned from = 0; from < SIM_HOSTS; from++)
		for (unsigned to = 0; to < SIM_HOSTS; to++)
			if (world->paths[from][to].delay_us > worst_us)
				worst_us = world->paths[from][to].delay_us;
	return world->config.lan_max_us + worst_us;
}

/* From a write until every node has read what the watch says. */
static uint64_t watch_us(const struct sim_world *world)
{
	return world->config.watch_max_us + world->config.wake_max_us;
}

uint64_t sim_settle_us(const struct sim_world *world)
{
	uint64_t interval_us = world->config.interval_us;
	uint64_t limit_us = 4 * interval_us + 2 * lan_us(world) + 100 * BASE_USEC_PER_MSEC;
	uint64_t foreign_us = /* he is looked for again, and missed several times */
		ELECTION_CONFLICT_US + (ELECTION_FREE_LOOKS - 1) * ELECTION_FREE_LOOK_US;

	if (world->config.regime != SIM_REGIME_SINGLE)
		limit_us += 2 * interval_us; /* what is still under way may undo it once */

	for (unsigned i = 0; i < world->last_count; i++) {
		if (world->last[i].fault == SIM_FAULT_KERNEL)
			limit_us += ENGINE_REFUSED_US + ENGINE_REFRESH_US;
		if (world->last[i].fault == SIM_FAULT_FOREIGN)
			limit_us += foreign_us;
	}
	if (world->config.regime == SIM_REGIME_CHAOS)
		limit_us += ENGINE_REFUSED_US + ENGINE_REFRESH_US + foreign_us;
	/* processes start, agents connect again, with a back-off */
	limit_us += 200 * BASE_USEC_PER_MSEC;
	if (world->config.leased)
		limit_us += 3 * (uint64_t)world->config.api_max_us + world->config.watch_max_us +
			    1200 * BASE_USEC_PER_MSEC;
	return limit_us;
}

/* Two owners hear each other as soon as one advert arrives: a matter of chance, where up to 40 % are lost. */
#define LOSS_INTERVALS 12

/*
 * How long two nodes may answer one client, in one piece. README.md of election/ says why each of
 * the exceptions cannot be avoided.
 */
static uint64_t single_bound_us(const struct sim_world *world)
{
	const struct sim_active *fault = &world->last[0];
	uint64_t interval_us = world->config.interval_us;
	uint64_t bound_us = lan_us(world) + BASE_USEC_PER_MSEC;

	if (world->last_count == 0)
		return bound_us;
	switch ((int)fault->fault) {
	case SIM_FAULT_CUT:
	case SIM_FAULT_ONEWAY:
	case SIM_FAULT_DEAF:
		/* Owner and claimant do not hear each other; the Lease tells, or a third node. */
		if (world->config.leased)
			return bound_us + world->config.watch_max_us + interval_us;
		return world->config.nodes > 2 || fault->fault != SIM_FAULT_CUT
			       ? bound_us + 4 * interval_us
			       : BASE_USEC_NEVER;
	case SIM_FAULT_FREEZE:
		/* Its kernel goes on where it stood, its fence open, and the process may have to wait for a processor. */
		return bound_us + 2 * world->config.stall_max_us;
	case SIM_FAULT_REPLAY:
		/* Each takes the other one for the owner that went, and neither waits for anybody: until it reads again. */
		if (!world->config.leased && world->config.stall_max_us)
			return bound_us + 6 * world->config.stall_max_us;
		return bound_us;
	case SIM_FAULT_LOSS:
		return bound_us + LOSS_INTERVALS * interval_us;
	case SIM_FAULT_ISOLATE:
	case SIM_FAULT_MUTE:
	case SIM_FAULT_SPLIT:
		/* healed: until the next advert, which a busy machine sends late; two that are confirmed, until the watch tells */
		if (world->config.leased && watch_us(world) > interval_us)
			return bound_us + watch_us(world);
		return bound_us + interval_us + world->config.stall_max_us;
	}
	return bound_us;
}

/* How many nodes are no third one for whoever is on `a`'s side, since they are on the other one. */
static unsigned split_off(const struct sim_world *world, const struct sim_active *split, unsigned a)
{
	unsigned count = 0;

	for (unsigned i = 0; i < world->config.nodes; i++)
		count += (split->mask >> i & 1) != (split->mask >> a & 1);
	return count;
}

/* Two that do not hear each other need the Lease, or a third node that hears both. */
static uint64_t double_bound_us(const struct sim_world *world)
{
	uint64_t interval_us = world->config.interval_us, slow_us = ELECTION_CLAIM_BOUND_US;
	unsigned cuts = 0, lost = 0, others = world->config.nodes - 2;

	for (unsigned i = 0; i < world->last_count; i++) {
		if (world->last[i].fault == SIM_FAULT_CUT ||
		    world->last[i].fault == SIM_FAULT_ONEWAY ||
		    world->last[i].fault == SIM_FAULT_DEAF) {
			cuts++;
			for (unsigned k = 0; k < world->last_count; k++)
				if (world->last[k].fault == SIM_FAULT_SPLIT)
					lost += split_off(world, &world->last[k], world->last[i].a);
		} else if (world->last[i].fault != SIM_FAULT_SPLIT) {
			lost++;
		}
		if (world->last[i].fault == SIM_FAULT_MUTE ||
		    world->last[i].fault == SIM_FAULT_MULTICAST)
			lost = others; /* one of the two cannot be heard by anybody */
		if (world->last[i].fault == SIM_FAULT_LOSS)
			interval_us *= LOSS_INTERVALS / 4;
	}
	others -= lost < others ? lost : others;
	if (cuts > 0 && (others == 0 || (cuts > 1 && others < 2)))
		return BASE_USEC_NEVER;
	if (slow_us < interval_us)
		slow_us = interval_us;
	/* Two cuts: those who mediate may not hear each other either, and another one does it again. */
	return (cuts > 1 ? 8 : cuts > 0 ? 4 : 3) * interval_us + slow_us + lan_us(world) +
	       3 * (uint64_t)world->config.wake_max_us + BASE_USEC_PER_MSEC;
}

static uint64_t dual_bound_us(const struct sim_world *world)
{
	switch (world->config.regime) {
	case SIM_REGIME_SINGLE:
		return single_bound_us(world);
	case SIM_REGIME_DOUBLE:
		return double_bound_us(world);
	case SIM_REGIME_CHAOS:
	case SIM_REGIME_COUNT:
		break;
	}
	return BASE_USEC_NEVER;
}

static void note_cache(struct sim_world *world, unsigned c, bool served)
{
	struct sim_client *client = &world->clients[c];
	uint64_t cut_us;

	if (!served) {
		if (!client->unserved_us)
			client->unserved_us = world->now_us;
		cut_us = world->now_us - client->unserved_us;
		if (cut_us > world->episode_unserved_us)
			world->episode_unserved_us = cut_us;
		world->episode_dark = true;
		return;
	}
	if (client->unserved_us) {
		cut_us = world->now_us - client->unserved_us;
		if (cut_us > world->episode_unserved_us)
			world->episode_unserved_us = cut_us;
	}
	client->unserved_us = 0;
	if (!world->first_served) {
		world->first_served = true;
		if (world->now_us > world->statistics->first_max_us)
			world->statistics->first_max_us = world->now_us;
	}
}

/*
 * Nothing else is wrong, so backups take turns, Lease or not, by a quarter of an interval: from 100 ms on that is longer
 * than busy machines are late here (10 ms to hear the last advert, 10 ms or half a turn to act).
 */
static bool lost_power(const struct sim_world *world)
{
	const struct sim_active *fault = &world->last[0];

	return world->config.regime == SIM_REGIME_SINGLE && world->last_count == 1 &&
	       fault->fault == SIM_FAULT_POWER && fault->owner &&
	       world->config.interval_us >= 100 * BASE_USEC_PER_MSEC &&
	       base_usec_since(fault->begin_us, world->episode_owner_us) > 2 * BASE_USEC_PER_SEC;
}

static void note_dual(struct sim_world *world, unsigned c, unsigned count)
{
	struct sim_client *client = &world->clients[c];
	uint64_t dual_us;

	if (count >= 2 && lost_power(world))
		sim_fail(world, SIM_SAFETY, "S1: an owner lost its power, and two took the address");
	if (count >= 2 && !client->dual_us) {
		client->dual_us = world->now_us;
		client->dual_bound_us = dual_bound_us(world);
	}
	if (!client->dual_us)
		return;
	dual_us = world->now_us - client->dual_us;
	if (client->dual_bound_us < dual_bound_us(world))
		client->dual_bound_us = dual_bound_us(world); /* another fault since */
	if (client->dual_bound_us != BASE_USEC_NEVER &&
	    dual_us > world->statistics->dual_max_us[world->config.regime])
		world->statistics->dual_max_us[world->config.regime] = dual_us;
	if (dual_us > client->dual_bound_us)
		sim_fail(world, SIM_SAFETY, "S1: two nodes answer %s for %llu us, %llu are allowed",
			 sim_host_name(SIM_CLIENT + c), (unsigned long long)dual_us,
			 (unsigned long long)client->dual_bound_us);
	if (count < 2)
		client->dual_us = 0;
}

void sim_judge_look(struct sim_world *world)
{
	uint32_t answering = 0, common = UINT32_MAX;
	bool dual = false;

	world->dirty = false;
	for (unsigned i = 0; i < world->config.nodes; i++)
		if (sim_kernel_answers(world, i))
			answering |= 1u << i;
	for (unsigned c = 0; c < SIM_CLIENTS; c++) {
		uint32_t seen = 0;

		for (unsigned i = 0; i < world->config.nodes; i++)
			if (answering & 1u << i && sim_lan_open(world, SIM_CLIENT + c, i) &&
			    sim_lan_open(world, i, SIM_CLIENT + c))
				seen |= 1u << i;
		note_dual(world, c, (unsigned)__builtin_popcount(seen));
		dual = dual || __builtin_popcount(seen) > 1;
		common &= seen;
		note_cache(world, c, sim_client_served(world, c));
	}
	if (answering != world->answering) {
		if (!world->answering && base_usec_since(world->now_us, world->answering_us) > world->unanswered_us)
			world->unanswered_us = base_usec_since(world->now_us, world->answering_us);
		world->answering = answering;
		world->answering_us = world->now_us;
		sim_trace(world, SIM_TRACE_JUDGE, SIM_NOBODY, answering, 0, 0);
	}
	world->owner = SIM_NOBODY;
	if (!dual && __builtin_popcount(common) == 1 && common == answering)
		world->owner = (uint8_t)__builtin_ctz(common);
	if (world->owner != SIM_NOBODY && world->owner != world->last_owner) {
		world->last_owner = world->owner;
		world->owner_us = world->now_us;
	}
}

void sim_judge_transition(struct sim_world *world, unsigned node,
			  const struct virtual_router_action *action)
{
	(void)node;
	if (action->transition.reason == BASE_REASON_NONE)
		sim_fail(world, SIM_SAFETY, "S7: a transition without a reason");
	if (action->transition.reason == BASE_REASON_OWNER_OBSERVED)
		return; /* somebody else noticed */
	world->episode_transitions++;
	world->statistics->transitions++;
}

void sim_judge_write(struct sim_world *world, const struct sim_lease *before,
		     const struct sim_lease *after)
{
	bool moved = before->exists && before->holder != after->holder;

	if (before->exists && after->term != before->term + moved)
		sim_fail(world, SIM_SAFETY, "S5: holder %s -> %s, term %u -> %u",
			 sim_host_name(before->holder), sim_host_name(after->holder), before->term,
			 after->term);
}

void sim_judge_episode_begin(struct sim_world *world)
{
	world->last_count = 0;
	world->episode_unserved_us = world->unanswered_us = 0;
	world->episode_dark = false;
	world->episode_owner = world->owner;
	world->episode_owner_us = world->owner_us;
	world->episode_transitions = 0;
}

/*
 * If its adverts come as often as an owner's would: until a sign of life is missing, which an agent
 * gives until it notices that its engine hangs; then questions and the silence.
 */
static uint64_t hidden_us(const struct sim_world *world, const struct sim_active *fault)
{
	uint64_t lease_us = ENGINE_LEASE_DURATION_MS * BASE_USEC_PER_MSEC;

	if (SIM_HIDES_HOW(fault->mask) == SIM_HIDES_POWER ||
	    base_usec_since(fault->begin_us, world->episode_owner_us) <
		    BASE_USEC_PER_SEC + 2 * (uint64_t)world->config.interval_us)
		lease_us *= 2; /* nobody has asked it yet: nothing but its Lease tells */
	return lease_us / 2 + 2 * BASE_USEC_PER_SEC +
	       5 * (uint64_t)world->config.interval_us +
	       (SIM_HIDES_HOW(fault->mask) == SIM_HIDES_PAUSE ? CADENCE_ENGINE_US : 0);
}

/*
 * Old adverts come when it begins and again when it ends. Plain VRRP believes them: the owner yields, and where the
 * skews are shorter than the way (10 ms adverts) everybody takes the address at once and all but one yield again.
 */
static unsigned moves_allowed(const struct sim_world *world, const struct sim_active *fault)
{
	if (fault->fault == SIM_FAULT_REPLAY && !world->config.leased)
		return 2 * 2 * world->config.nodes;
	return sim_promise(fault->fault)->lan ? 20 : 8;
}

/* One fault came and went, nothing else: was it as promised? */
static void judge_single(struct sim_world *world)
{
	const struct sim_active *fault = &world->last[0];
	const struct sim_promise *promise = sim_promise(fault->fault);
	const char *name = sim_fault_name(fault->fault);
	uint64_t outage_us = world->episode_unserved_us;
	uint64_t allowed_us =
		4 * (uint64_t)world->config.interval_us + lan_us(world) + 20 * BASE_USEC_PER_MSEC;
	bool confirmed = fault->fault == SIM_FAULT_REPLAY && world->config.leased; /* rule 13 */
	bool may_move = !confirmed && (fault->owner ? promise->moves_owner : promise->moves_other);
	struct sim_statistics *statistics = world->statistics;
	/* Two had just begun at once, and what the weaker one said was under way still. */
	bool fresh = base_usec_since(fault->begin_us, world->episode_owner_us) < lan_us(world);

	if (world->config.leased)
		allowed_us += 2 * (uint64_t)world->config.api_max_us;
	if (fault->fault == SIM_FAULT_HIDDEN)
		allowed_us += hidden_us(world, fault);
	statistics->outages[fault->fault]++;
	statistics->outage_sum_us[fault->fault] += outage_us;
	if (outage_us > statistics->outage_max_us[fault->fault])
		statistics->outage_max_us[fault->fault] = outage_us;
	if (world->episode_transitions > statistics->moves_max[fault->fault])
		statistics->moves_max[fault->fault] = world->episode_transitions;
	if (fault->fault == SIM_FAULT_FOREIGN && world->foreign_young)
		return; /* two that have it at once: one of them gives in */
	if (world->config.nodes == 2 && !world->config.gateway && promise->splits)
		return; /* who of the two is cut off? Nobody can tell without a third */
	if (world->episode_transitions > moves_allowed(world, fault))
		sim_fail(world, SIM_LIVENESS, "L3: %s alone made %u transitions", name,
			 world->episode_transitions);
	if (!may_move && (world->owner != world->episode_owner || world->episode_transitions > 0))
		sim_fail(world, SIM_LIVENESS, "L3: %s moved the address for no reason", name);
	else if (!may_move && world->episode_dark && fault->fault != SIM_FAULT_ADDRESS &&
		 !(fresh && outage_us < 4 * lan_us(world)))
		sim_fail(world, SIM_LIVENESS, "L4: %s cut a client off", name);
	else if (promise->planned && world->episode_dark &&
		 (world->config.leased || fault->fault != SIM_FAULT_CANDIDATE))
		sim_fail(world, SIM_LIVENESS, "L4: planned %s cut a client off for %llu us", name,
			 (unsigned long long)outage_us);
	else if (!promise->splits && !promise->lan && fault->fault != SIM_FAULT_REPLAY &&
		 outage_us > allowed_us)
		sim_fail(world, SIM_LIVENESS,
			 "L5: %s cut a client off for %llu us, %llu are allowed", name,
			 (unsigned long long)outage_us, (unsigned long long)allowed_us);
}

void sim_judge_episode_end(struct sim_world *world)
{
	if (world->config.regime == SIM_REGIME_SINGLE && world->last_count == 1)
		judge_single(world);
}
