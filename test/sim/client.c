#include "test/sim/sim.h"

/*
 * A client's neighbour cache, as Linux keeps it, and packets to the address all the time: at every
 * moment one is under way to the MAC that the cache holds.
 */
#define LOCKTIME_US (1 * BASE_USEC_PER_SEC) /* a second answer within it changes nothing */
#define RETRY_US    (1 * BASE_USEC_PER_SEC)

static unsigned host_of(unsigned client)
{
	return SIM_CLIENT + client;
}

static bool accepted(const struct sim_world *world, unsigned client, unsigned node)
{
	return sim_kernel_accepts(world, node) && sim_lan_open(world, host_of(client), node) &&
	       sim_lan_open(world, node, host_of(client));
}

bool sim_client_served(const struct sim_world *world, unsigned c)
{
	const struct sim_client *client = &world->clients[c];

	if (client->cache == SIM_NOBODY || client->cache >= SIM_NODES_MAX)
		return false;
	for (unsigned i = 0; i < world->config.nodes; i++)
		if ((i == client->cache || world->now_us < client->needed_until_us[i]) &&
		    !accepted(world, c, i))
			return false;
	return true;
}

static void learn(struct sim_world *world, unsigned c, uint8_t host)
{
	struct sim_client *client = &world->clients[c];

	client->updated_us = world->now_us;
	if (client->cache == host)
		return;
	if (client->cache < SIM_NODES_MAX) {
		client->needed_until_us[client->cache] =
			world->now_us + world->config.lan_max_us +
			world->paths[host_of(c)][client->cache].delay_us;
		sim_at(world, client->needed_until_us[client->cache], SIM_EVENT_EDGE,
		       client->cache);
	}
	client->cache = host;
	world->dirty = true;
	sim_trace(world, SIM_TRACE_CACHE, host_of(c), host, 0, 0);
}

void sim_client_packet(struct sim_world *world, unsigned c, const struct sim_packet *packet)
{
	struct sim_client *client = &world->clients[c];

	if (packet->target != SIM_TARGET_VIP)
		return;
	if (packet->type == SIM_PACKET_ANNOUNCE ||
	    (packet->type == SIM_PACKET_ANSWER &&
	     (client->cache == SIM_NOBODY || world->now_us - client->updated_us > LOCKTIME_US)))
		learn(world, c, packet->from);
}

/* Unanswered for a while: the entry is stale, then gone, and everybody is asked. */
void sim_client_timer(struct sim_world *world, unsigned c)
{
	struct sim_client *client = &world->clients[c];
	struct sim_packet packet = { .type = SIM_PACKET_ASK,
				     .from = (uint8_t)host_of(c),
				     .target = SIM_TARGET_VIP };

	if (client->cache == SIM_NOBODY ||
	    (client->unserved_us && world->now_us - client->unserved_us > RETRY_US))
		sim_lan_broadcast(world, &packet);
	sim_at(world, world->now_us + RETRY_US, SIM_EVENT_CLIENT, host_of(c));
}
