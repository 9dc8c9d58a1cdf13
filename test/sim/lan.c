#include "test/sim/sim.h"

/* One Ethernet segment: every ordered pair of hosts is a path of its own. */

void sim_lan_init(struct sim_world *world)
{
	for (unsigned from = 0; from < SIM_HOSTS; from++)
		for (unsigned to = 0; to < SIM_HOSTS; to++)
			world->paths[from][to] =
				(struct sim_path){ .loss_ppm = world->config.loss_ppm };
}

static bool plugged(const struct sim_world *world, unsigned host)
{
	if (host < SIM_NODES_MAX)
		return host < world->config.nodes && world->nodes[host].powered &&
		       world->nodes[host].carrier && !world->nodes[host].frozen;
	if (host == SIM_STRANGER)
		return world->stranger || world->foreign || world->forged ||
		       world->hidden;
	return host != SIM_GATEWAY || world->config.gateway;
}

bool sim_lan_open(const struct sim_world *world, unsigned from, unsigned to)
{
	return world->paths[from][to].cuts == 0 && plugged(world, from) && plugged(world, to);
}

static bool chance(struct base_random *random, uint32_t ppm)
{
	return base_random_below(random, 1000000) < ppm;
}

void sim_lan_send(struct sim_world *world, unsigned to, const struct sim_packet *packet)
{
	struct sim_path *path = &world->paths[packet->from][to];
	uint64_t span_us = world->config.lan_max_us - world->config.lan_min_us;
	struct sim_event event = { .type = SIM_EVENT_PACKET,
				   .host = (uint8_t)to,
				   .packet = *packet };
	/* Always the same number of draws, so that a fault taken out leaves the rest as it was. */
	uint64_t delay_us = world->config.lan_min_us + base_random_below(&world->net, span_us + 1);
	bool lost = chance(&world->net, path->loss_ppm);
	bool twice = chance(&world->net, path->duplicate_ppm);
	uint64_t extra = base_random_next(&world->net);

	if (lost || !sim_lan_open(world, packet->from, to) ||
	    (packet->type == SIM_PACKET_ADVERT && path->multicast_cuts && !world->config.unicast))
		return;
	event.time_us = world->now_us + delay_us;
	if (path->delay_us)
		event.time_us += extra % path->delay_us; /* and overtakes */
	else if (event.time_us < path->last_arrival_us)
		event.time_us = path->last_arrival_us;
	path->last_arrival_us = event.time_us;
	sim_schedule(world, &event);
	if (twice) {
		event.time_us += 1 + extra % (2 * (uint64_t)world->config.interval_us);
		sim_schedule(world, &event);
	}
}

void sim_lan_broadcast(struct sim_world *world, const struct sim_packet *packet)
{
	if (packet->type == SIM_PACKET_ADVERT)
		world->history[world->history_count++ % 32] = *packet;
	for (unsigned to = 0; to < SIM_HOSTS; to++)
		if (to != packet->from && plugged(world, to) &&
		    !(packet->type == SIM_PACKET_ADVERT && to >= SIM_NODES_MAX))
			sim_lan_send(world, to, packet);
}

void sim_lan_replay(struct sim_world *world, unsigned pick)
{
	unsigned kept = world->history_count < 32 ? world->history_count : 32;

	if (kept > 0)
		sim_lan_broadcast(world, &world->history[pick % kept]);
}

void sim_lan_claim(struct sim_world *world)
{
	struct sim_packet packet = { .type = SIM_PACKET_ANNOUNCE,
				     .from = SIM_STRANGER,
				     .target = SIM_TARGET_VIP };

	for (unsigned to = 0; to < SIM_NODES_MAX; to++)
		if (plugged(world, to))
			sim_lan_send(world, to, &packet);
}

void sim_lan_arrive(struct sim_world *world, unsigned host, const struct sim_packet *packet)
{
	if (!sim_lan_open(world, packet->from, host))
		return;
	if (host < SIM_NODES_MAX) {
		sim_kernel_packet(world, host, packet);
	} else if (host == SIM_GATEWAY) {
		if (packet->type == SIM_PACKET_ASK && packet->target == SIM_GATEWAY) {
			struct sim_packet answer = { .type = SIM_PACKET_ANSWER,
						     .from = SIM_GATEWAY,
						     .target = SIM_GATEWAY };

			sim_lan_send(world, packet->from, &answer);
		}
	} else if (host == SIM_STRANGER) {
		struct sim_packet answer = { .type = SIM_PACKET_ANSWER,
					     .from = SIM_STRANGER,
					     .target = SIM_TARGET_VIP };

		/* Only to who looks for it: what it does to clients is not for us to mend. */
		if (world->foreign && packet->type == SIM_PACKET_ASK && packet->probe)
			sim_lan_send(world, packet->from, &answer);
		if (world->foreign && packet->type == SIM_PACKET_ANNOUNCE)
			sim_lan_claim(world);
	} else {
		sim_client_packet(world, host - SIM_CLIENT, packet);
	}
}
