#include "test/sim/sim.h"

/* What happens when: settle, faults, recover, again; then a long quiet. */

static uint64_t between(struct sim_world *world, uint64_t low, uint64_t high)
{
	return low + base_random_below(&world->plan, high - low + 1);
}

static uint64_t tick_us(const struct sim_world *world)
{
	uint64_t tick = world->config.interval_us / 4;

	if (world->scenario)
		return 500;
	return tick < 2000 ? 2000 : tick > 50000 ? 50000 : tick;
}

static void enter(struct sim_world *world, enum sim_phase phase)
{
	world->phase = phase;
	world->phase_us = world->settled_us = world->now_us;
}

void sim_plan_start(struct sim_world *world)
{
	for (unsigned i = 0; i < world->config.nodes; i++)
		sim_at(world, between(world, 0, 20000), SIM_EVENT_START, i);
	world->healed_us = world->now_us;
	enter(world, SIM_PHASE_RECOVER);
	sim_at(world, tick_us(world), SIM_EVENT_PLAN, SIM_NOBODY);
}

static bool one_owner(const struct sim_world *world)
{
	if (world->owner == SIM_NOBODY)
		return false;
	for (unsigned i = 0; i < SIM_CLIENTS; i++)
		if (!sim_client_served(world, i))
			return false;
	return true;
}

static const char *missing(const struct sim_world *world, unsigned n)
{
	const struct sim_node *node = &world->nodes[n];
	const struct election_elector *elector = &node->router.elector;
	bool leased = world->config.leased;

	if (!node->running || !node->synced || node->stopping)
		return "not running";
	if (!node->eligible)
		return "not eligible";
	if (node->busy_until_us > world->now_us)
		return "busy";
	if (node->wish.version != world->wish.version)
		return "old wishes";
	if (leased && !(node->agent.connected && node->agent.contact && !node->agent.breaking &&
			!node->agent.deaf))
		return "no contact to the API server";
	if (leased && node->agent.last_watch_us > world->now_us + world->config.watch_max_us)
		return "a watch that is late still";
	if (n == world->owner && (elector->quorum_misses > 0 || elector->gateway_lost_us))
		return "does not see its witnesses yet";
	if (n == world->owner)
		return elector->state == ELECTION_STATE_OWNING ? NULL : "not owning";
	if (elector->state != ELECTION_STATE_FOLLOWING)
		return "not following";
	if (elector->speaker == ELECTION_NOBODY || (leased && !elector->heard_in_term))
		return "owner not heard"; /* rule 2 */
	return NULL;
}

/* As if nothing had ever happened: ready for the next fault. */
static bool settled(struct sim_world *world)
{
	const struct sim_lease *lease = &world->lease;

	world->unsettled_node = SIM_NOBODY;
	world->unsettled = "a fault is active";
	if (sim_active_count(world) > 0)
		return false;
	world->unsettled = "not one owner";
	if (!one_owner(world))
		return false;
	world->unsettled = "Lease of somebody else, or offered";
	if (world->config.leased && (!lease->exists || lease->holder != world->owner ||
				     lease->successor != SIM_NOBODY || lease->degraded))
		return false;
	for (unsigned i = 0; i < world->config.nodes; i++) {
		world->unsettled_node = i;
		world->unsettled = missing(world, i);
		if (world->unsettled)
			return false;
	}
	return true;
}

static uint64_t draw_duration(struct sim_world *world, enum sim_fault fault)
{
	uint64_t interval_us = world->config.interval_us;
	uint64_t draw = base_random_next(&world->plan);

	switch ((int)fault) {
	case SIM_FAULT_CRASH: /* a supervisor restarts at once, or after a while */
		return 10000 + draw % (draw & 1u << 20 ? 6 * interval_us : 20 * interval_us);
	case SIM_FAULT_STOP:
		return 6 * BASE_USEC_PER_SEC + draw % BASE_USEC_PER_SEC;
	case SIM_FAULT_PAUSE:
	case SIM_FAULT_FREEZE:
		return 1000 + draw % (draw & 1u << 20 ? 8 * interval_us : 60 * interval_us);
	case SIM_FAULT_HIDDEN: /* beyond the Lease's duration */
		return 36 * BASE_USEC_PER_SEC + draw % (4 * BASE_USEC_PER_SEC);
	case SIM_FAULT_MAINTENANCE:
	case SIM_FAULT_CANDIDATE:
		return 3 * BASE_USEC_PER_SEC + draw % (5 * BASE_USEC_PER_SEC);
	case SIM_FAULT_HANDOVER:
	case SIM_FAULT_ADDRESS:
	case SIM_FAULT_LEASE:
	case SIM_FAULT_PRIORITIES:
		return 1000;
	case SIM_FAULT_API_DOWN:
	case SIM_FAULT_API_CUT:
	case SIM_FAULT_SWALLOW:
	case SIM_FAULT_GATEWAY:
	case SIM_FAULT_SPLIT:
	case SIM_FAULT_ISOLATE:
		if (draw & 1u << 20)
			return draw % (60 * BASE_USEC_PER_SEC);
		break;
	}
	return 1000 + draw % (20 * interval_us);
}

static void draw_fault(struct sim_world *world)
{
	enum sim_fault fault = SIM_FAULT_COUNT;
	unsigned nodes = world->config.nodes, a, b, classes = 0;
	uint64_t pick, draw, duration_us;

	for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
		classes += world->config.faults >> i & 1;
	pick = base_random_below(&world->plan, classes ? classes : 1);
	for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
		if (world->config.faults >> i & 1 && pick-- == 0)
			fault = (enum sim_fault)i;
	a = (unsigned)base_random_below(&world->plan, nodes);
	if (base_random_below(&world->plan, 10) < 6 && world->owner != SIM_NOBODY)
		a = world->owner;
	b = (a + 1 + (unsigned)base_random_below(&world->plan, nodes - 1)) % nodes;
	draw = base_random_next(&world->plan);
	if (fault == SIM_FAULT_COUNT)
		return;
	duration_us = draw_duration(world, fault);
	if (world->without >> fault & 1)
		return; /* everything was drawn, so the rest stays as it was */
	sim_fault_begin(world, fault, a, b, duration_us, draw);
}

static void begin_episode(struct sim_world *world)
{
	sim_judge_episode_begin(world);
	world->episode++;
	enter(world, SIM_PHASE_FAULTS);
	draw_fault(world);
	world->next_fault_us = BASE_USEC_NEVER;
	if (world->config.regime == SIM_REGIME_DOUBLE && world->active[0].used)
		world->next_fault_us =
			world->now_us + between(world, 0,
						world->active[0].end_us - world->now_us +
							3 * world->config.interval_us);
}

static void chaos(struct sim_world *world)
{
	if (world->now_us < world->next_fault_us)
		return;
	if (world->episode >= world->config.episodes) {
		if (sim_active_count(world) == 0 ||
		    world->now_us > world->next_fault_us + 10 * BASE_USEC_PER_SEC) {
			sim_heal_all(world);
			enter(world, SIM_PHASE_RECOVER);
		}
		return;
	}
	world->episode++;
	draw_fault(world);
	world->next_fault_us = world->now_us + between(world, 0, 8 * world->config.interval_us);
}

static void faults(struct sim_world *world)
{
	if (world->scenario) {
		if (!scenario_step(world) && sim_active_count(world) == 0)
			enter(world, SIM_PHASE_RECOVER);
		return;
	}
	if (world->config.regime == SIM_REGIME_CHAOS) {
		chaos(world);
		return;
	}
	if (world->now_us >= world->next_fault_us) {
		world->next_fault_us = BASE_USEC_NEVER;
		draw_fault(world);
	}
	if (sim_active_count(world) == 0 && world->next_fault_us == BASE_USEC_NEVER)
		enter(world, SIM_PHASE_RECOVER);
}

/*
 * Who answers may have been deposed and not know it: its watch has to be started again for that, and no client misses anything
 * meanwhile. Its successor, which waits for it to leave, takes the address over then: as long as that takes, and once.
 */
static void note_deposed(struct sim_world *world)
{
	if (world->config.leased && world->lease.holder != world->owner)
		world->moves_until_us = world->now_us + tick_us(world) + 4 * (uint64_t)world->config.interval_us +
					2 * (uint64_t)world->config.lan_max_us;
}

/* After the last healing: one owner soon, everything settled a little later. */
static void recover(struct sim_world *world)
{
	uint64_t since_us = world->now_us - world->healed_us;
	uint64_t limit_us = sim_settle_us(world);

	if (world->owner != SIM_NOBODY) /* clients learn it when it looks around, or they do */
		limit_us += ELECTION_WATCH_US + 1010 * BASE_USEC_PER_MSEC;
	if (one_owner(world)) {
		if (!world->recovered && since_us > world->statistics->recover_max_us)
			world->statistics->recover_max_us = since_us;
		world->recovered = true;
		note_deposed(world);
	} else if (since_us > limit_us && world->now_us > world->moves_until_us) {
		sim_fail(world, SIM_LIVENESS, "%s %llu us after the last fault was healed",
			 world->owner == SIM_NOBODY ? "L1: not exactly one node answers"
						    : "L4: a client has the address elsewhere",
			 (unsigned long long)since_us);
		return;
	}
	if (!settled(world)) {
		world->settled_us = world->now_us;
		if (since_us > limit_us + 70 * BASE_USEC_PER_SEC)
			sim_fail(world, SIM_LIVENESS,
				 "L1: not settled %llu us after the healing: %s %s",
				 (unsigned long long)since_us, sim_host_name(world->unsettled_node),
				 world->unsettled);
		return;
	}
	if (world->now_us - world->settled_us < world->settle_for_us)
		return;
	sim_judge_episode_end(world);
	world->recovered = false;
	if (world->scenario && world->episode++ > 0) {
		world->done = true;
		return;
	}
	if (world->scenario) {
		sim_judge_episode_begin(world);
		world->settle_for_us = 2 * BASE_USEC_PER_SEC;
		enter(world, SIM_PHASE_FAULTS);
		return;
	}
	if (world->episode >= world->config.episodes) {
		sim_judge_episode_begin(world);
		enter(world, SIM_PHASE_QUIET);
		return;
	}
	world->settle_for_us =
		between(world, 7 * world->config.interval_us, 20 * world->config.interval_us);
	if (world->config.regime == SIM_REGIME_CHAOS) {
		enter(world, SIM_PHASE_FAULTS);
		world->next_fault_us = world->now_us;
		return;
	}
	begin_episode(world);
}

void sim_plan_step(struct sim_world *world)
{
	switch (world->phase) {
	case SIM_PHASE_FAULTS:
		faults(world);
		break;
	case SIM_PHASE_RECOVER:
		recover(world);
		break;
	case SIM_PHASE_QUIET:
		if (world->episode_transitions > 0 || world->owner != world->episode_owner)
			sim_fail(world, SIM_LIVENESS, "L3: something moved in the quiet");
		else if (world->written_us > world->phase_us + 5 * BASE_USEC_PER_SEC)
			sim_fail(world, SIM_LIVENESS, "L6: the Lease was asked for or written in the quiet");
		else if (world->episode_unserved_us > 0)
			sim_fail(world, SIM_LIVENESS, "L4: a client was cut off in the quiet");
		if (world->now_us - world->phase_us >= world->config.quiet_us)
			world->done = true;
		break;
	}
	sim_at(world, world->now_us + tick_us(world), SIM_EVENT_PLAN, SIM_NOBODY);
}
