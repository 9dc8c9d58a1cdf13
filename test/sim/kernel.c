#include <string.h>

#include "daemon/engine/core/timing.h"
#include "nft/skeleton.h"
#include "test/sim/sim.h"

/*
 * What a node's kernel does without the daemon: the fence that expires by itself, addresses with a
 * finite lifetime, ARP, and the queues of its sockets.
 */
uint64_t sim_fence_us(const struct sim_world *world)
{
	return (uint64_t)world->config.interval_us * 5 / 2;
}

static bool runs(const struct sim_node *node)
{
	return node->powered && !node->frozen;
}

bool sim_kernel_answers(const struct sim_world *world, unsigned n)
{
	const struct sim_node *node = &world->nodes[n];

	return runs(node) && node->carrier && node->address && world->now_us < node->alive_until_us;
}

bool sim_kernel_accepts(const struct sim_world *world, unsigned n)
{
	const struct sim_node *node = &world->nodes[n];

	return runs(node) && node->carrier &&
	       (world->now_us < node->alive_until_us || world->now_us < node->leaving_until_us);
}

void sim_kernel_edge(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (runs(node) && node->address && world->now_us >= node->address_until_us) {
		node->address = false;
		node->links_changed = true;
		sim_trace(world, SIM_TRACE_ADDRESS, n, 0, 0, 0);
		sim_engine_poke(world, n);
	}
	world->dirty = true;
}

/* An advert that leaves refreshes the fence on its way out; priority 0 closes it. */
bool sim_kernel_advert(struct sim_world *world, unsigned n, uint8_t priority)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_packet packet = { .type = SIM_PACKET_ADVERT,
				     .from = (uint8_t)n,
				     .source = (uint8_t)n,
				     .priority = priority,
				     .interval_us = world->config.interval_us };
	/* Element timeouts count in jiffies: up to one of them early, never late. */
	uint64_t early_us = base_random_below(&world->clock, 4000);
	bool fails = node->kernel_fails > 0;

	sim_trace(world, SIM_TRACE_ADVERT, n, priority, !fails, 0);
	if (fails)
		return false;
	if (early_us > sim_fence_us(world) / 8)
		early_us = sim_fence_us(world) / 8;
	if (priority > 0) {
		node->leaving_until_us = 0;
		if (world->now_us >= node->alive_until_us)
			sim_trace(world, SIM_TRACE_FENCE, n, 1, 0, 0);
		node->alive_until_us = world->now_us + sim_fence_us(world) - early_us;
		if (world->config.mutant == SIM_MUTANT_FENCE)
			node->alive_until_us = world->now_us + 10 * sim_fence_us(world);
		sim_at(world, node->alive_until_us, SIM_EVENT_EDGE, n);
	} else if (world->now_us < node->alive_until_us &&
		   world->now_us >= node->leaving_until_us) {
		node->alive_until_us = 0;
		sim_trace(world, SIM_TRACE_FENCE, n, 0, 0, 0);
	}
	world->dirty = true;
	sim_lan_broadcast(world, &packet);
	return true;
}

void sim_kernel_close(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (world->now_us < node->alive_until_us)
		sim_trace(world, SIM_TRACE_FENCE, n, 0, 0, 0);
	node->alive_until_us = node->leaving_until_us = 0;
	world->dirty = true;
}

/* From now on priority 0 does not close the fence, but the successor's advert does. */
void sim_kernel_linger(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	sim_trace(world, SIM_TRACE_FENCE, n, 2, 0, 0);
	node->leaving_until_us = world->now_us + NFT_GRACE_MS * BASE_USEC_PER_MSEC;
	sim_at(world, node->leaving_until_us, SIM_EVENT_EDGE, n);
	world->dirty = true;
}

int sim_kernel_address(struct sim_world *world, unsigned n, bool present)
{
	struct sim_node *node = &world->nodes[n];

	if (present && node->kernel_fails)
		return -1;
	if (node->address != present)
		sim_trace(world, SIM_TRACE_ADDRESS, n, present, 0, 0);
	node->address = present;
	if (present) {
		node->address_until_us = world->now_us + ENGINE_ADDRESS_VALID_S * BASE_USEC_PER_SEC;
		sim_at(world, node->address_until_us, SIM_EVENT_EDGE, n);
	}
	world->dirty = true;
	return 0;
}

static void queue(struct sim_packet *packets, unsigned *count, const struct sim_packet *packet)
{
	if (*count < SIM_QUEUE_MAX)
		packets[(*count)++] = *packet; /* full: the newest is lost */
}

void sim_kernel_packet(struct sim_world *world, unsigned n, const struct sim_packet *packet)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_packet answer = { .type = SIM_PACKET_ANSWER, .from = (uint8_t)n };

	if (!runs(node) || (packet->type == SIM_PACKET_ADVERT && packet->source == n))
		return; /* what bears our own address is dropped as a martian */
	if (packet->type == SIM_PACKET_ASK &&
	    (packet->target == n ||
	     (packet->target == SIM_TARGET_VIP && sim_kernel_answers(world, n)))) {
		answer.target = packet->target;
		sim_lan_send(world, packet->from, &answer);
	}
	if (packet->type == SIM_PACKET_ADVERT && packet->priority > 0 &&
	    packet->source < SIM_NODES_MAX && world->now_us < node->leaving_until_us &&
	    world->now_us < node->alive_until_us) {
		node->alive_until_us = 0;
		sim_trace(world, SIM_TRACE_FENCE, n, 0, 0, 0);
		world->dirty = true;
	}
	if (!node->running || !node->synced)
		return;
	if (packet->type == SIM_PACKET_ADVERT)
		queue(node->packets, &node->packet_count, packet);
	else if (packet->type != SIM_PACKET_ASK || !packet->probe)
		queue(node->neighbours, &node->neighbour_count, packet);
	sim_engine_poke(world, n);
}
