#include <stdlib.h>
#include <string.h>

#include "test/sim/sim.h"

static void init(struct sim_world *world)
{
	/* One generator per class of chance: one fault less leaves the others as they were. */
	struct base_random seeds = { world->config.seed ^ UINT64_C(0x5eed) };

	world->net.state = base_random_next(&seeds);
	world->process.state = base_random_next(&seeds);
	world->api.state = base_random_next(&seeds);
	world->clock.state = base_random_next(&seeds);
	world->plan.state = base_random_next(&seeds);
	world->jitter.state = base_random_next(&seeds);
	world->now_us = 1000; /* 0 means "never" here and there, as in the cores */
	world->hash = UINT64_C(0xcbf29ce484222325);
	world->owner = world->episode_owner = world->last_owner = SIM_NOBODY;
	world->lease.holder = world->lease.successor = SIM_NOBODY;
	world->wish.version = 1;
	for (unsigned i = 0; i < world->config.nodes; i++) {
		world->wish.priorities[i] = world->config.priorities[i];
		world->nodes[i].powered = world->nodes[i].carrier = true;
	}
	for (unsigned i = 0; i < SIM_CLIENTS; i++) {
		world->clients[i].cache = SIM_NOBODY;
		sim_at(world, 1000 + i * 300000, SIM_EVENT_CLIENT, SIM_CLIENT + i);
	}
	sim_lan_init(world);
}

static void stranger(struct sim_world *world, const struct sim_event *event)
{
	static const uint8_t priorities[] = { 255, 200, 100, 0 };
	struct sim_packet packet = { .type = SIM_PACKET_ADVERT,
				     .from = SIM_STRANGER,
				     .source = SIM_STRANGER,
				     .priority = priorities[event->host & 3],
				     .interval_us = world->config.interval_us };

	if (!world->stranger)
		return;
	sim_lan_broadcast(world, &packet);
	sim_at(world, world->now_us + world->config.interval_us, SIM_EVENT_STRANGER, event->host);
}

/* As a member; what and how often says event->host. */
static void forge(struct sim_world *world, const struct sim_event *event)
{
	static const uint8_t priorities[] = { 0, 0, 1, 100, 127, 128, 200, 255 };
	unsigned often = event->host >> 3 & 3;
	bool hides = event->host & SIM_FORGE_HIDES;
	struct sim_packet packet = { .type = SIM_PACKET_ADVERT,
				     .from = SIM_STRANGER,
				     .source = hides ? world->hidden_as : world->forged_as,
				     .priority = priorities[event->host & 7],
				     .interval_us = world->config.interval_us };

	if (event->host & 32)
		packet.interval_us = 40950000; /* the longest there is */
	if (!(hides ? world->hidden : world->forged))
		return;
	sim_lan_broadcast(world, &packet);
	sim_at(world, world->now_us + ((2 * (uint64_t)world->config.interval_us) >> often),
	       SIM_EVENT_FORGE, event->host);
}

static void dispatch(struct sim_world *world, const struct sim_event *event)
{
	switch ((enum sim_event_type)event->type) {
	case SIM_EVENT_PACKET:
		sim_lan_arrive(world, event->host, &event->packet);
		return;
	case SIM_EVENT_WAKE:
		sim_engine_wake(world, event->host);
		return;
	case SIM_EVENT_CONTINUE:
		if (world->nodes[event->host].running &&
		    event->incarnation == world->nodes[event->host].incarnation)
			sim_engine_continue(world, event->host);
		return;
	case SIM_EVENT_EDGE:
		sim_kernel_edge(world, event->host);
		return;
	case SIM_EVENT_REQUEST:
	case SIM_EVENT_ANSWER:
	case SIM_EVENT_TIMEOUT:
	case SIM_EVENT_WATCH:
	case SIM_EVENT_CONNECT:
	case SIM_EVENT_CONTACT_LOST:
	case SIM_EVENT_RENEW:
	case SIM_EVENT_ECHO:
		sim_api_event(world, event);
		return;
	case SIM_EVENT_MESSAGE:
		if (event->incarnation == world->nodes[event->host].incarnation)
			sim_engine_message(world, event->host, &event->message);
		return;
	case SIM_EVENT_START:
		sim_engine_start(world, event->host);
		return;
	case SIM_EVENT_AGENT_START:
		sim_agent_start(world, event->host);
		return;
	case SIM_EVENT_CLIENT:
		sim_client_timer(world, event->host - SIM_CLIENT);
		return;
	case SIM_EVENT_STRANGER:
		stranger(world, event);
		return;
	case SIM_EVENT_FORGE:
		forge(world, event);
		return;
	case SIM_EVENT_PLAN:
		sim_plan_step(world);
		return;
	case SIM_EVENT_HEAL:
		sim_plan_heal(world, event->slot);
		return;
	}
}

void sim_world_run(struct sim_world *world)
{
	struct sim_event event;

	init(world);
	sim_plan_start(world);
	while (!world->done && sim_next(world, &event)) {
		if (event.time_us > world->until_us)
			break;
		world->now_us = event.time_us;
		dispatch(world, &event);
		world->statistics->events++;
		if (world->dirty)
			sim_judge_look(world);
	}
	world->statistics->virtual_us += world->now_us;
	if (world->scenario)
		scenario_check(world);
	free(world->heap);
	world->heap = NULL;
}
