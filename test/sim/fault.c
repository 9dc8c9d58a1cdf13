#include "test/sim/sim.h"

/* Faults: what each does to the world when it begins and when it is healed. */

const struct sim_promise *sim_promise(enum sim_fault fault)
{
	static const struct sim_promise promises[SIM_FAULT_COUNT] = {
		[SIM_FAULT_CRASH] = { .moves_owner = true },
		[SIM_FAULT_POWER] = { .moves_owner = true },
		[SIM_FAULT_PAUSE] = { .moves_owner = true },
		[SIM_FAULT_FREEZE] = { .moves_owner = true },
		[SIM_FAULT_LATE] = { .moves_owner = true },
		[SIM_FAULT_AGENT] = { .api = true },
		[SIM_FAULT_ISOLATE] = { .moves_owner = true, .splits = true },
		[SIM_FAULT_CARRIER] = { .moves_owner = true },
		[SIM_FAULT_CUT] = { .moves_owner = true, .moves_other = true, .splits = true },
		[SIM_FAULT_ONEWAY] = { .moves_owner = true, .moves_other = true, .splits = true },
		[SIM_FAULT_DEAF] = { .moves_owner = true, .moves_other = true, .splits = true },
		[SIM_FAULT_MUTE] = { .moves_owner = true, .splits = true },
		[SIM_FAULT_MULTICAST] = { .moves_owner = true },
		[SIM_FAULT_SPLIT] = { .moves_owner = true, .moves_other = true, .splits = true },
		[SIM_FAULT_LOSS] = { .moves_owner = true, .moves_other = true, .lan = true },
		[SIM_FAULT_REPLAY] = { .moves_owner = true, .moves_other = true },
		[SIM_FAULT_API_DOWN] = { .api = true },
		[SIM_FAULT_API_CUT] = { .api = true },
		[SIM_FAULT_API_SLOW] = { .api = true },
		[SIM_FAULT_API_LOST] = { .api = true },
		[SIM_FAULT_WATCH] = { .api = true },
		[SIM_FAULT_SWALLOW] = { .api = true },
		[SIM_FAULT_KERNEL] = { .moves_owner = true },
		[SIM_FAULT_GATEWAY] = { .moves_owner = true },
		[SIM_FAULT_LEASE] = { .api = true },
		[SIM_FAULT_CANDIDATE] = { .planned = true, .moves_owner = true },
		[SIM_FAULT_MAINTENANCE] = { .planned = true, .moves_owner = true },
		[SIM_FAULT_HANDOVER] = { .planned = true,
					 .moves_owner = true,
					 .moves_other = true },
		[SIM_FAULT_STOP] = { .planned = true, .moves_owner = true },
		[SIM_FAULT_HIDDEN] = { .moves_owner = true },
	};

	return &promises[fault];
}

static void cut(struct sim_world *world, unsigned from, unsigned to, bool begin)
{
	if (from == to)
		return;
	world->paths[from][to].cuts += begin ? 1 : (uint32_t)-1;
	world->dirty = true;
}

static void split(struct sim_world *world, const struct sim_active *active, bool begin)
{
	/* Bit i: on which side host i is; each client has its own. */
	uint32_t side = active->mask & ~(3u << SIM_CLIENT);

	side |= 1u << SIM_CLIENT;
	for (unsigned from = 0; from < SIM_HOSTS; from++)
		for (unsigned to = 0; to < SIM_HOSTS; to++)
			if ((side >> from & 1) != (side >> to & 1))
				cut(world, from, to, begin);
}

static void all_paths(struct sim_world *world, const struct sim_active *active, bool begin)
{
	uint32_t delay_us = world->config.interval_us / 2;

	if (delay_us > 50000)
		delay_us = 50000;
	for (unsigned from = 0; from < SIM_HOSTS; from++)
		for (unsigned to = 0; to < SIM_HOSTS; to++) {
			struct sim_path *path = &world->paths[from][to];

			switch ((int)active->fault) {
			case SIM_FAULT_LOSS:
				path->loss_ppm = begin ? 50000 + active->mask % 350000
						       : world->config.loss_ppm;
				break;
			case SIM_FAULT_DELAY:
				path->delay_us = begin ? delay_us : 0;
				break;
			case SIM_FAULT_DUPLICATE:
				path->duplicate_ppm = begin ? 300000 : 0;
				break;
			}
		}
}

static void carrier(struct sim_world *world, unsigned n, bool begin)
{
	struct sim_node *node = &world->nodes[n];

	node->carrier_faults += begin ? 1 : (uint32_t)-1;
	node->carrier = node->carrier_faults == 0;
	node->links_changed = true;
	world->dirty = true;
	sim_engine_poke(world, n);
}

static void power(struct sim_world *world, unsigned n, bool begin)
{
	struct sim_node *node = &world->nodes[n];

	if (begin) {
		sim_engine_kill(world, n);
		node->powered = node->address = false;
		node->alive_until_us = node->leaving_until_us = 0;
	} else {
		node->powered = true;
		sim_engine_start(world, n);
	}
	world->dirty = true;
}

static void freeze(struct sim_world *world, unsigned n, bool begin)
{
	struct sim_node *node = &world->nodes[n];

	if (begin) {
		node->frozen_left_us = base_usec_since(node->alive_until_us, world->now_us);
		node->frozen = true;
	} else {
		node->frozen = false;
		node->alive_until_us =
			node->frozen_left_us ? world->now_us + node->frozen_left_us : 0;
		node->wake_at_us = BASE_USEC_NEVER;
		sim_at(world, node->alive_until_us, SIM_EVENT_EDGE, n);
		sim_engine_poke(world, n);
	}
	world->dirty = true;
}

static void api(struct sim_world *world, uint32_t *counter, unsigned n, bool begin)
{
	*counter += begin ? 1 : (uint32_t)-1;
	if (counter == &world->api_down)
		for (unsigned i = 0; i < world->config.nodes; i++)
			sim_agent_path_changed(world, i);
	else
		sim_agent_path_changed(world, n);
}

static void change_priorities(struct sim_world *world, uint64_t draw)
{
	struct base_random random = { draw };

	for (unsigned i = 0; i < world->config.nodes; i++)
		if (world->wish.priorities[i])
			world->wish.priorities[i] = (uint8_t)(1 + base_random_below(&random, 254));
	sim_api_publish(world);
}

static void order_handover(struct sim_world *world, unsigned to)
{
	struct sim_message message = { .type = SIM_MESSAGE_ORDER, .to = (uint8_t)to };

	for (unsigned i = 0; i < world->config.nodes; i++)
		if (world->nodes[i].running && world->nodes[i].synced &&
		    virtual_router_owns(&world->nodes[i].router))
			sim_engine_message(world, i, &message);
}

static void restart(struct sim_world *world, unsigned n)
{
	if (world->nodes[n].running)
		sim_engine_kill(world, n); /* it took too long to stop */
	sim_engine_start(world, n);
}

/* Adverts in its name begin as it dies, and none of them gives the address up. */
static void hide(struct sim_world *world, const struct sim_active *active, bool begin)
{
	unsigned a = active->a, how = SIM_HIDES_HOW(active->mask);

	world->hidden = begin;
	world->hidden_as = (uint8_t)a;
	if (begin)
		sim_at(world, world->now_us, SIM_EVENT_FORGE,
		       SIM_FORGE_HIDES | 4 | (active->mask & 63));
	if (how == SIM_HIDES_POWER)
		power(world, a, begin);
	else if (how >= SIM_HIDES_CRASH && begin)
		sim_engine_kill(world, a);
	else if (how >= SIM_HIDES_CRASH)
		sim_engine_start(world, a);
	else if (begin)
		world->nodes[a].paused_until_us = active->end_us;
}

static bool is_young(const struct sim_world *world)
{
	for (unsigned n = 0; n < world->config.nodes; n++) {
		const struct virtual_router *router = &world->nodes[n].router;

		if (virtual_router_owns(router) &&
		    election_elector_young(&router->elector, world->now_us))
			return true;
	}
	return false;
}

static void toggle(struct sim_world *world, const struct sim_active *active, bool begin)
{
	struct sim_node *node = &world->nodes[active->a];
	unsigned a = active->a, b = active->b;
	uint32_t one = begin ? 1 : (uint32_t)-1;

	switch (active->fault) {
	case SIM_FAULT_CRASH:
		if (begin)
			sim_engine_kill(world, a);
		else
			sim_engine_start(world, a);
		return;
	case SIM_FAULT_POWER:
		power(world, a, begin);
		return;
	case SIM_FAULT_PAUSE:
		if (begin)
			node->paused_until_us = active->end_us;
		return;
	case SIM_FAULT_FREEZE:
		freeze(world, a, begin);
		return;
	case SIM_FAULT_LATE:
		node->late += one;
		return;
	case SIM_FAULT_AGENT:
		if (begin)
			sim_agent_kill(world, a);
		else
			sim_agent_start(world, a);
		return;
	case SIM_FAULT_ISOLATE:
	case SIM_FAULT_DEAF:
	case SIM_FAULT_MUTE:
		for (unsigned i = 0; i < SIM_HOSTS; i++) {
			if (active->fault != SIM_FAULT_MUTE)
				cut(world, i, a, begin);
			if (active->fault != SIM_FAULT_DEAF)
				cut(world, a, i, begin);
		}
		return;
	case SIM_FAULT_CARRIER:
		carrier(world, a, begin);
		return;
	case SIM_FAULT_CUT:
		cut(world, a, b, begin);
		cut(world, b, a, begin);
		return;
	case SIM_FAULT_ONEWAY:
		cut(world, a, b, begin);
		return;
	case SIM_FAULT_MULTICAST:
		for (unsigned i = 0; i < SIM_NODES_MAX; i++)
			world->paths[a][i].multicast_cuts += one;
		return;
	case SIM_FAULT_SPLIT:
		split(world, active, begin);
		return;
	case SIM_FAULT_LOSS:
	case SIM_FAULT_DELAY:
	case SIM_FAULT_DUPLICATE:
		all_paths(world, active, begin);
		return;
	case SIM_FAULT_REPLAY:
		for (unsigned i = 0; i < 3; i++)
			sim_lan_replay(world, active->mask >> (8 * i) & 31);
		return;
	case SIM_FAULT_API_DOWN:
		api(world, &world->api_down, a, begin);
		return;
	case SIM_FAULT_API_CUT:
		api(world, &node->agent.api_cuts, a, begin);
		return;
	case SIM_FAULT_API_SLOW:
		node->agent.api_slow += one;
		return;
	case SIM_FAULT_API_LOST:
		node->agent.answers_lost += one;
		return;
	case SIM_FAULT_WATCH:
		node->agent.watch_slow += one;
		return;
	case SIM_FAULT_SWALLOW:
		node->agent.swallowing += one;
		return;
	case SIM_FAULT_KERNEL:
		node->kernel_fails += one;
		return;
	case SIM_FAULT_SLOW_KERNEL:
		node->kernel_slow += one;
		return;
	case SIM_FAULT_ADDRESS:
		if (begin && node->address) {
			node->address = false;
			node->links_changed = true;
			world->dirty = true;
			sim_engine_poke(world, a);
		}
		return;
	case SIM_FAULT_GATEWAY:
		cut(world, SIM_GATEWAY, a, begin);
		return;
	case SIM_FAULT_LEASE:
		if (begin)
			sim_api_delete_lease(world);
		return;
	case SIM_FAULT_STRANGER:
		world->stranger = begin;
		if (begin)
			sim_at(world, world->now_us, SIM_EVENT_STRANGER, active->mask & 3);
		return;
	case SIM_FAULT_FORGED:
		world->forged = begin;
		world->forged_as = (uint8_t)a;
		if (begin)
			sim_at(world, world->now_us, SIM_EVENT_FORGE, active->mask & 63);
		return;
	case SIM_FAULT_FOREIGN:
		world->foreign = begin;
		world->foreign_higher = active->mask & 1;
		if (begin) {
			world->foreign_young = is_young(world);
			sim_lan_claim(world);
		}
		return;
	case SIM_FAULT_PRIORITIES:
		if (begin)
			change_priorities(world, active->mask);
		return;
	case SIM_FAULT_CANDIDATE:
		world->wish.priorities[a] = begin ? 0 : (uint8_t)(1 + active->mask % 254);
		sim_api_publish(world);
		return;
	case SIM_FAULT_MAINTENANCE:
		world->wish.maintenance = (uint8_t)(begin ? world->wish.maintenance | 1u << a
							  : world->wish.maintenance & ~(1u << a));
		sim_api_publish(world);
		return;
	case SIM_FAULT_HANDOVER:
		if (begin)
			order_handover(world, b);
		return;
	case SIM_FAULT_STOP:
		if (begin)
			sim_engine_terminate(world, a);
		else
			restart(world, a);
		return;
	case SIM_FAULT_HIDDEN:
		hide(world, active, begin);
		return;
	case SIM_FAULT_COUNT:
		return;
	}
}

bool sim_is_active(const struct sim_world *world, enum sim_fault fault)
{
	for (unsigned i = 0; i < SIM_ACTIVE_MAX; i++)
		if (world->active[i].used && world->active[i].fault == fault)
			return true;
	return false;
}

unsigned sim_active_count(const struct sim_world *world)
{
	unsigned count = 0;

	for (unsigned i = 0; i < SIM_ACTIVE_MAX; i++)
		count += world->active[i].used;
	return count;
}

/* Two of these on one node, or two of one on the LAN, would only undo each other. */
static bool collides(const struct sim_world *world, enum sim_fault fault, unsigned a)
{
	for (unsigned i = 0; i < SIM_ACTIVE_MAX; i++) {
		const struct sim_active *other = &world->active[i];

		if (other->used && (other->fault == fault || other->a == a) &&
		    (other->fault == SIM_FAULT_CRASH || other->fault == SIM_FAULT_POWER ||
		     other->fault == SIM_FAULT_STOP || other->fault == SIM_FAULT_PAUSE ||
		     other->fault == SIM_FAULT_FREEZE || other->fault == SIM_FAULT_HIDDEN ||
		     other->fault == fault))
			return true;
	}
	return false;
}

void sim_fault_begin(struct sim_world *world, enum sim_fault fault, unsigned a, unsigned b,
		     uint64_t duration_us, uint64_t draw)
{
	struct sim_active *active = NULL;
	struct sim_event heal = { .type = SIM_EVENT_HEAL };
	unsigned slot;

	for (slot = 0; slot < SIM_ACTIVE_MAX && !active; slot++)
		if (!world->active[slot].used)
			active = &world->active[slot];
	if (!active || collides(world, fault, a))
		return;
	*active = (struct sim_active){ .used = true,
				       .fault = fault,
				       .a = (uint8_t)a,
				       .b = (uint8_t)b,
				       .mask = (uint32_t)draw,
				       .begin_us = world->now_us,
				       .end_us = world->now_us + duration_us,
				       .owner = a == world->owner || b == world->owner };
	sim_trace(world, SIM_TRACE_FAULT, b < SIM_HOSTS ? b : SIM_NOBODY, fault, a,
		  (uint32_t)duration_us);
	world->statistics->faults++;
	if (world->nodes[a].running && world->nodes[a].synced)
		world->statistics->fault_states[fault][world->nodes[a].router.elector.state]++;
	if (world->last_count < 2)
		world->last[world->last_count++] = *active;
	sim_cover_fault(fault, true);
	toggle(world, active, true);
	heal.time_us = active->end_us;
	heal.slot = (uint32_t)(active - world->active);
	sim_schedule(world, &heal);
}

void sim_plan_heal(struct sim_world *world, unsigned slot)
{
	struct sim_active *active = &world->active[slot];

	if (!active->used || active->end_us > world->now_us)
		return;
	active->used = false;
	sim_trace(world, SIM_TRACE_HEAL, SIM_NOBODY, active->fault, active->a, 0);
	sim_cover_fault(active->fault, false);
	toggle(world, active, false);
	world->healed_us = world->now_us;
}

void sim_heal_all(struct sim_world *world)
{
	for (unsigned i = 0; i < SIM_ACTIVE_MAX; i++)
		if (world->active[i].used) {
			world->nodes[world->active[i].a].paused_until_us = 0;
			world->active[i].end_us = world->now_us;
			sim_plan_heal(world, i);
		}
	world->healed_us = world->now_us;
	for (unsigned i = 0; i < world->config.nodes; i++)
		sim_engine_poke(world, i);
}
