#include <stdio.h>
#include <string.h>

#include "daemon/engine/core/timing.h"
#include "nft/skeleton.h"
#include "test/sim/sim.h"

/*
 * The engine around the cores: daemon/engine/{router,segment,announce,engine}.c without sockets.
 * What is done here must be what is done there, in the same order and with the same waits.
 */
static const uint64_t announce_times_us[] = { 0, 5000, 50000, 1100000, 5000000 };
#define ANNOUNCE_TIMES      5
#define ANNOUNCE_REFRESH_US (60 * BASE_USEC_PER_SEC)

static void feed(struct sim_world *world, unsigned n, struct virtual_router_event *event);
static void read_neighbour(struct sim_world *world, unsigned n);

static const char *node_name(uint8_t host)
{
	return host == SIM_NOBODY ? "" : sim_host_name(host);
}

static uint8_t node_of(const char *name)
{
	for (unsigned i = 0; i < SIM_NODES_MAX; i++)
		if (strcmp(name, sim_host_name(i)) == 0)
			return (uint8_t)i;
	return SIM_NOBODY;
}

static struct base_address address_of(unsigned host)
{
	return base_address_ipv4(192, 0, 2, (uint8_t)(10 + host));
}

static void make_config(struct sim_world *world, unsigned n, struct virtual_router_config *config)
{
	struct sim_node *node = &world->nodes[n];
	/* Not the list that is in force: it is borrowed. */
	bool second = node->router.config.candidates == node->candidates[0];
	struct virtual_router_candidate *list = node->candidates[second];

	memset(list, 0, sizeof node->candidates[0]);
	memset(config, 0, sizeof *config);
	config->candidates = list;
	config->peers = node->peers[second];
	snprintf(config->name, sizeof config->name, "lab.ipv4.10");
	config->node = sim_host_name(n);
	config->virtual_router_id = 10;
	config->family = BASE_FAMILY_IPV4;
	config->version = 3;
	config->interval_us = world->config.interval_us;
	config->leased = world->config.leased;
	config->lease_duration_ms = ENGINE_LEASE_DURATION_MS;
	config->excluded = (node->wish.maintenance & 1u << n) || node->stopping;
	config->excluded_why = BASE_REASON_MAINTENANCE;
	config->source = address_of(n);
	for (unsigned i = 0; i < world->config.nodes; i++) {
		struct virtual_router_candidate *candidate =
			&list[config->candidate_count];

		if (node->wish.priorities[i] == 0)
			continue;
		config->candidate_count++;
		snprintf(candidate->node, sizeof candidate->node, "%s", sim_host_name(i));
		candidate->priority = node->wish.priorities[i];
		candidate->address = address_of(i);
	}
}

/* --- actions --- */

static void start_announcing(struct sim_world *world, struct sim_node *node)
{
	node->announced = 0;
	node->announce_at_us = world->now_us;
}

static void ask(struct sim_world *world, unsigned n, unsigned target, bool probe)
{
	struct sim_packet packet = { .type = SIM_PACKET_ASK,
				     .from = (uint8_t)n,
				     .target = (uint8_t)target,
				     .probe = probe };

	struct sim_node *node = &world->nodes[n];

	if (target >= SIM_HOSTS) {
		sim_lan_broadcast(world, &packet);
		return;
	}
	if (node->heard_us[target] >= node->asked_us[target])
		node->asked_us[target] = world->now_us;
	node->asked_last_us[target] = world->now_us;
	if (node->mac_known[target] &&
	    base_usec_since(world->now_us, node->heard_us[target]) < 3 * BASE_USEC_PER_SEC)
		sim_lan_send(world, target, &packet);
	else
		sim_lan_broadcast(world, &packet);
}

static void ask_members(struct sim_world *world, unsigned n)
{
	for (unsigned i = 0; i < world->config.nodes; i++)
		if (i != n && !world->nodes[n].mac_known[i])
			ask(world, n, i, false);
}

/* witnesses.c ask_witness(): a question that is under way still, or an answer that an owner got a little earlier, is enough. */
static void ask_witness(struct sim_world *world, unsigned n, unsigned host)
{
	struct sim_node *node = &world->nodes[n];
	bool answered = node->heard_us[host] >= node->asked_us[host];
	uint64_t shared_us = answered && virtual_router_owns(&node->router)
				     ? ENGINE_WITNESS_SHARED_US
				     : ENGINE_WITNESS_WAIT_US;

	if (!node->asked_last_us[host] ||
	    base_usec_since(world->now_us, node->asked_last_us[host]) >= shared_us)
		ask(world, n, host, false);
}

/* A question asked again ends its round later. */
static void probe_members(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	sim_trace(world, SIM_TRACE_PROBE, n, 0, 0, 0);
	for (unsigned i = 0; i < node->config.candidate_count; i++) {
		uint8_t host = node_of(node->config.candidates[i].node);

		if (host != n)
			ask_witness(world, n, host);
	}
	if (world->config.gateway)
		ask_witness(world, n, SIM_GATEWAY);
	node->witnesses_at_us = world->now_us + ENGINE_WITNESS_WAIT_US;
}

static void probe_witnesses(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (!virtual_router_owns(&node->router)) {
		node->holder_asked_us = world->now_us;
		ask(world, n, SIM_TARGET_VIP, false);
	}
	probe_members(world, n);
}

static uint8_t lease_host(const char *name)
{
	return name[0] ? node_of(name) : SIM_NOBODY;
}

static void write_lease(struct sim_world *world, unsigned n,
			const struct virtual_router_action *action)
{
	const struct virtual_router_lease *lease = &action->write.lease;
	struct sim_request request = {
		.id = action->write.id,
		.lease = { .exists = true,
			   .holder = lease_host(lease->holder),
			   .successor = lease_host(lease->successor),
			   .degraded = lease->degraded,
			   .term = lease->term,
			   .duration_ms = lease->duration_ms },
	};

	for (const char *digit = action->write.expected_version; *digit; digit++)
		request.expected = request.expected * 10 + (uint64_t)(*digit - '0');
	sim_trace(world, SIM_TRACE_WRITE, n, request.lease.holder, request.lease.term, 1);
	sim_agent_request(world, n, &request);
}

static void check_advert(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (!node->addresses_added && !virtual_router_owns(&node->router))
		sim_fail(world, SIM_SAFETY, "S4: %s advertises without owning", sim_host_name(n));
	if (node->last_advert_us &&
	    world->now_us - node->last_advert_us > sim_fence_us(world) + BASE_USEC_PER_MSEC)
		sim_fail(world, SIM_SAFETY,
			 "S2: %s speaks %llu us after its last advert, its fence has expired",
			 sim_host_name(n),
			 (unsigned long long)(world->now_us - node->last_advert_us));
	node->last_advert_us = world->now_us;
}

static void send_advert(struct sim_world *world, unsigned n, uint8_t priority)
{
	struct sim_node *node = &world->nodes[n];
	uint64_t unheard_us = world->now_us - node->sent_us;

	if ((priority == 0 || unheard_us <= sim_fence_us(world)) &&
	    sim_kernel_advert(world, n, priority)) {
		node->sent_us = world->now_us;
		if (priority > 0)
			check_advert(world, n);
	} else if (priority > 0 && unheard_us > (uint64_t)world->config.interval_us * 3 / 2) {
		node->refused_us = world->now_us;
		node->links_changed = true;
	}
}

/* On a busy machine somebody else is in the kernel now and then, on every processor or with its lock. */
static bool held_up(struct sim_world *world)
{
	return world->config.stall_max_us && base_random_below(&world->clock, 3) == 0;
}

static void add_addresses(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (node->addresses_added && !node->lingering)
		sim_fail(world, SIM_SAFETY, "S3: %s takes what it has", sim_host_name(n));
	node->lingering = false;
	node->linger_end_us = BASE_USEC_NEVER;
	node->addresses_added = true;
	if (sim_kernel_address(world, n, true) < 0) {
		node->refused_us = world->now_us;
		node->links_changed = true;
	}
	if (node->kernel_slow)
		node->busy_until_us =
			world->now_us + base_random_below(&world->clock, world->config.interval_us);
}

static void remove_addresses(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (!node->addresses_added)
		sim_fail(world, SIM_SAFETY, "S3: %s drops what it has not", sim_host_name(n));
	node->announce_at_us = BASE_USEC_NEVER;
	node->addresses_added = node->lingering = false;
	node->linger_end_us = BASE_USEC_NEVER;
	sim_kernel_address(world, n, false);
}

static void linger(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	node->announce_at_us = BASE_USEC_NEVER;
	sim_kernel_linger(world, n);
	node->lingering = true;
	node->linger_end_us = world->now_us + NFT_GRACE_MS * BASE_USEC_PER_MSEC;
}

static void check_released(struct sim_world *world, struct sim_node *node)
{
	if (node->stopping && node->released && !node->lingering)
		node->exit_at_us = world->now_us + 10000;
}

static void on_linger_end(struct sim_world *world, unsigned n)
{
	remove_addresses(world, n);
	check_released(world, &world->nodes[n]);
}

static void apply(struct sim_world *world, unsigned n, const struct virtual_router_action *action)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_request read = { .read = true };

	switch (action->type) {
	case VIRTUAL_ROUTER_ACTION_SEND_ADVERT:
		if (action->first) {
			node->last_advert_us = 0;
			node->sent_us = world->now_us;
		}
		send_advert(world, n, action->priority);
		return;
	case VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES:
		if (!node->queued && held_up(world)) { /* behind somebody else, for the kernel's lock */
			node->queued = true;
			node->pending_at--;
			node->busy_until_us = world->now_us + 1 +
					      base_random_below(&world->clock, 5 * world->config.stall_max_us);
			return;
		}
		node->queued = false;
		add_addresses(world, n);
		return;
	case VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES:
		remove_addresses(world, n);
		return;
	case VIRTUAL_ROUTER_ACTION_CLOSE_FENCE:
		sim_kernel_close(world, n);
		return;
	case VIRTUAL_ROUTER_ACTION_LINGER:
		linger(world, n);
		return;
	case VIRTUAL_ROUTER_ACTION_ANNOUNCE:
		if (!node->addresses_added)
			sim_fail(world, SIM_SAFETY, "S3: %s announces what it has not",
				 sim_host_name(n));
		start_announcing(world, node);
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_WITNESSES:
		probe_witnesses(world, n);
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_MEMBERS:
		probe_members(world, n);
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_ADDRESSES:
		sim_trace(world, SIM_TRACE_PROBE, n, 1, 0, 0);
		node->probing = true;
		ask(world, n, SIM_TARGET_VIP, true);
		node->probe_end_us = world->now_us + ENGINE_PROBE_WAIT_US;
		return;
	case VIRTUAL_ROUTER_ACTION_LEASE_WRITE:
		write_lease(world, n, action);
		return;
	case VIRTUAL_ROUTER_ACTION_LEASE_READ:
		sim_trace(world, SIM_TRACE_WRITE, n, SIM_NOBODY, 0, 0);
		sim_agent_request(world, n, &read);
		return;
	case VIRTUAL_ROUTER_ACTION_DISBELIEVE:
		sim_trace(world, SIM_TRACE_DISBELIEVE, n, node_of(action->transition.from), 0, 0);
		return;
	case VIRTUAL_ROUTER_ACTION_TRANSITION:
		sim_trace(world, SIM_TRACE_TRANSITION, n, action->transition.reason,
			  node_of(action->transition.from), node_of(action->transition.to));
		sim_judge_transition(world, n, action);
		return;
	case VIRTUAL_ROUTER_ACTION_RELEASED:
		node->released = true;
		check_released(world, node);
		return;
	}
}

static void run_actions(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	while (node->pending_at < node->pending.count) {
		apply(world, n, &node->pending.items[node->pending_at++]);
		if (node->busy_until_us > world->now_us) {
			struct sim_event event = { .time_us = node->busy_until_us,
						   .type = SIM_EVENT_CONTINUE,
						   .host = (uint8_t)n,
						   .incarnation = node->incarnation };

			sim_schedule(world, &event);
			return;
		}
	}
}

static void check_step(struct sim_world *world, unsigned n)
{
	const struct virtual_router *router = &world->nodes[n].router;
	const struct sim_node *node = &world->nodes[n];

	if (node->pending.count >= VIRTUAL_ROUTER_ACTIONS_MAX)
		sim_fail(world, SIM_SAFETY, "S7: %s made a list of %u actions", sim_host_name(n),
			 node->pending.count);
	if (virtual_router_owns(router) != (router->vrrp.state == VRRP_STATE_ACTIVE))
		sim_fail(world, SIM_SAFETY, "S7: %s: election says %s, VRRP state %d",
			 sim_host_name(n), election_state_name(router->elector.state),
			 (int)router->vrrp.state);
}

static void feed(struct sim_world *world, unsigned n, struct virtual_router_event *event)
{
	struct sim_node *node = &world->nodes[n];
	enum election_state before = node->router.elector.state;
	bool was_confirmed = node->router.elector.confirmed;

	while (node->pending_at < node->pending.count) /* SIGTERM while it waits for the kernel */
		apply(world, n, &node->pending.items[node->pending_at++]);
	virtual_router_step(&node->router, event, &node->pending);
	node->pending_at = 0;
	check_step(world, n);
	if (before != node->router.elector.state || was_confirmed != node->router.elector.confirmed)
		sim_trace(world, SIM_TRACE_STATE, n, before, node->router.elector.state,
			  node->router.elector.confirmed);
	run_actions(world, n);
}

void sim_engine_continue(struct sim_world *world, unsigned n)
{
	struct sim_event again = { .time_us = world->now_us + 1000,
				   .type = SIM_EVENT_CONTINUE,
				   .host = (uint8_t)n,
				   .incarnation = world->nodes[n].incarnation };

	if (world->nodes[n].frozen || world->now_us < world->nodes[n].paused_until_us) {
		sim_schedule(world, &again);
		return;
	}
	run_actions(world, n);
	sim_engine_poke(world, n);
}

/* --- the loop --- */

static uint64_t router_deadline(const struct sim_node *node)
{
	return node->synced ? virtual_router_deadline(&node->router) : BASE_USEC_NEVER;
}

static uint64_t next_deadline(const struct sim_node *node)
{
	uint64_t next_us = router_deadline(node);

	next_us = base_usec_earlier(next_us, node->synced_at_us);
	next_us = base_usec_earlier(next_us, node->rules_at_us);
	next_us = base_usec_earlier(next_us, node->witnesses_at_us);
	next_us = base_usec_earlier(next_us, node->probe_end_us);
	next_us = base_usec_earlier(next_us, node->announce_at_us);
	next_us = base_usec_earlier(next_us, node->refresh_at_us);
	next_us = base_usec_earlier(next_us, node->linger_end_us);
	next_us = base_usec_earlier(next_us, node->stop_limit_us);
	return base_usec_earlier(next_us, node->exit_at_us);
}

static uint64_t lateness(struct sim_world *world, const struct sim_node *node, bool timer)
{
	uint64_t late_us = held_up(world)
				   ? base_random_below(&world->clock, world->config.stall_max_us)
				   : base_random_below(&world->clock, timer ? world->config.wake_max_us : 60);
	uint64_t starved_us =
		base_random_below(&world->clock, 5 * (uint64_t)world->config.interval_us);

	return late_us + (node->late ? starved_us : 0);
}

static void wake_at(struct sim_world *world, unsigned n, uint64_t time_us)
{
	struct sim_node *node = &world->nodes[n];

	if (time_us < node->paused_until_us)
		time_us = node->paused_until_us;
	if (time_us < node->busy_until_us)
		time_us = node->busy_until_us;
	if (time_us >= node->wake_at_us)
		return;
	node->wake_at_us = time_us;
	sim_at(world, time_us, SIM_EVENT_WAKE, n);
}

void sim_engine_arm(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	uint64_t next_us = next_deadline(node);

	if (!node->running || next_us == BASE_USEC_NEVER)
		return;
	if (next_us < world->now_us)
		next_us = world->now_us;
	wake_at(world, n, next_us + lateness(world, node, true));
}

void sim_engine_poke(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (node->running)
		wake_at(world, n, world->now_us + 20 + lateness(world, node, false));
}

void sim_engine_message(struct sim_world *world, unsigned n, const struct sim_message *message)
{
	struct sim_node *node = &world->nodes[n];

	if (!node->running)
		return;
	/* The real queue holds megabytes; what would fill this one says the same again and again. */
	for (unsigned i = 0; message->type == SIM_MESSAGE_RENEWAL && i < node->message_count; i++)
		if (node->messages[i].type == SIM_MESSAGE_RENEWAL &&
		    node->messages[i].to == message->to)
			return;
	if (node->message_count == SIM_MESSAGES)
		return;
	node->messages[node->message_count++] = *message;
	sim_engine_poke(world, n);
}

static void read_adverts(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_packet packet = node->packets[0];
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADVERT,
					      .now_us = world->now_us };

	memmove(node->packets, node->packets + 1, --node->packet_count * sizeof packet);
	node->heard_us[packet.source] = world->now_us;
	sim_trace(world, SIM_TRACE_HEARD, n, packet.priority, packet.source, packet.from);
	event.advert.source = address_of(packet.source);
	event.advert.priority = packet.priority;
	event.advert.interval_us = packet.interval_us;
	feed(world, n, &event);
}

static void on_router_timer(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_TIMER,
					      .now_us = world->now_us };
	uint64_t due_us = router_deadline(node);

	event.late_us = base_usec_since(world->now_us, due_us);
	if (world->config.mutant == SIM_MUTANT_OVERSLEPT)
		event.late_us = 0;
	feed(world, n, &event);
	if (node->spin_us != world->now_us)
		node->spins = 0;
	node->spin_us = world->now_us;
	if (++node->spins > 50)
		sim_fail(world, SIM_SAFETY, "S7: the timer of %s is due again and again, in %s",
			 sim_host_name(n), election_state_name(node->router.elector.state));
}

static bool answered(const struct sim_node *node, unsigned host, uint64_t now_us)
{
	return node->heard_us[host] &&
	       (node->heard_us[host] >= node->asked_us[host] ||
		(base_usec_since(now_us, node->asked_us[host]) < ENGINE_WITNESS_WAIT_US &&
		 base_usec_since(now_us, node->heard_us[host]) < ENGINE_WITNESS_FRESH_US));
}

static bool is_missing(const struct sim_node *node, unsigned host, uint64_t now_us)
{
	return node->answered_us[host] && node->heard_us[host] < node->asked_us[host] &&
	       base_usec_since(now_us, node->asked_us[host]) >= ENGINE_WITNESS_WAIT_US;
}

static void on_witnesses(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_WITNESSES,
					      .now_us = world->now_us };

	while (node->neighbour_count > 0) /* an answer that waits to be read is one */
		read_neighbour(world, n);
	node->witnesses_at_us = BASE_USEC_NEVER;
	for (unsigned i = 0; i < node->config.candidate_count; i++)
		if (answered(node, node_of(node->config.candidates[i].node), world->now_us))
			event.witnesses.reachable |= UINT32_C(1) << i;
	for (unsigned i = 0; i < node->config.candidate_count; i++) {
		uint8_t host = node_of(node->config.candidates[i].node);

		if (node->answered_us[host] && node->answered_us[host] >= node->asked_last_us[host])
			event.witnesses.answering |= UINT32_C(1) << i;
		if (is_missing(node, host, world->now_us))
			event.witnesses.missing |= UINT32_C(1) << i;
	}
	event.witnesses.gateway_known = world->config.gateway;
	event.witnesses.gateway_reachable =
		world->config.gateway && answered(node, SIM_GATEWAY, world->now_us);
	feed(world, n, &event);
}

/* segment.c on_seen() and router_holder.c router_seen() */
static void read_neighbour(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_packet packet = node->neighbours[0];
	struct virtual_router_event event = { .now_us = world->now_us };

	memmove(node->neighbours, node->neighbours + 1, --node->neighbour_count * sizeof packet);
	if (packet.type == SIM_PACKET_ASK || packet.target != SIM_TARGET_VIP) {
		if (node->asked_us[packet.from] > node->heard_us[packet.from] &&
		    base_usec_since(world->now_us, node->asked_us[packet.from]) >=
			    ENGINE_WITNESS_WAIT_US &&
		    node->witnesses_at_us == BASE_USEC_NEVER)
			node->witnesses_at_us = world->now_us + ENGINE_WITNESS_WAIT_US;
		node->heard_us[packet.from] = world->now_us;
		if (packet.type == SIM_PACKET_ANSWER)
			node->answered_us[packet.from] = world->now_us;
		if (!node->mac_known[packet.from] && packet.from == node->foreign && packet.from < SIM_NODES_MAX &&
		    node->router.elector.state == ELECTION_STATE_CONFLICT) {
			event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
			event.advert.source = address_of(packet.from);
		}
		node->mac_known[packet.from] = true;
		if (event.type == VIRTUAL_ROUTER_EVENT_ADDRESS_HELD)
			feed(world, n, &event);
		return;
	}
	if (packet.from < SIM_NODES_MAX && node->mac_known[packet.from] &&
	    !virtual_router_owns(&node->router) &&
	    (node->probing ||
	     (packet.type == SIM_PACKET_ANSWER &&
	      base_usec_since(world->now_us, node->holder_asked_us) < world->config.interval_us))) {
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
		event.advert.source = address_of(packet.from);
		feed(world, n, &event);
		if (node->router.elector.state != ELECTION_STATE_PROBING) {
			node->probing = false;
			node->probe_end_us = BASE_USEC_NEVER;
		}
		return;
	}
	if (node->probing) {
		node->probing = false;
		node->probe_end_us = BASE_USEC_NEVER;
		node->foreign = packet.from;
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_TAKEN;
		feed(world, n, &event);
		return;
	}
	if (packet.from >= SIM_NODES_MAX || !node->mac_known[packet.from]) {
		node->foreign = packet.from;
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_TAKEN;
		event.higher = packet.from == SIM_STRANGER && world->foreign_higher;
		feed(world, n, &event);
		return;
	}
	if (virtual_router_owns(&node->router)) {
		event.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
		event.advert.source = address_of(packet.from);
		feed(world, n, &event);
	}
	/* Two began at once: adverts settle it, then the one that stays has the last word. */
	if (virtual_router_owns(&node->router) && packet.from < SIM_NODES_MAX &&
	    world->now_us >= node->crossed_until_us) {
		node->crossed_until_us =
			world->now_us + (uint64_t)world->config.interval_us * 3 / 2;
		if (node->announce_at_us > node->crossed_until_us) {
			node->announced = 1;
			node->announce_at_us = node->crossed_until_us;
		}
	}
}

static void on_announce(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_packet packet = { .type = SIM_PACKET_ANNOUNCE,
				     .from = (uint8_t)n,
				     .target = SIM_TARGET_VIP };
	uint64_t wait_us = ANNOUNCE_REFRESH_US;

	if (!virtual_router_owns(&node->router)) {
		node->announce_at_us = BASE_USEC_NEVER;
		return;
	}
	sim_trace(world, SIM_TRACE_ANNOUNCE, n, 0, 0, 0);
	/* The egress chain lets no announcement out through a closed fence. */
	if (world->now_us < node->alive_until_us)
		sim_lan_broadcast(world, &packet);
	if (node->announced < ANNOUNCE_TIMES)
		node->announced++;
	if (node->announced < ANNOUNCE_TIMES)
		wait_us =
			announce_times_us[node->announced] - announce_times_us[node->announced - 1];
	node->announce_at_us = world->now_us + wait_us;
}

static void on_probe_end(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADDRESS_FREE,
					      .now_us = world->now_us };

	node->probe_end_us = BASE_USEC_NEVER;
	if (!node->probing)
		return;
	node->probing = false;
	feed(world, n, &event);
}

static void review(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ELIGIBLE,
					      .now_us = world->now_us };
	bool refused = node->refused_us &&
		       base_usec_since(world->now_us, node->refused_us) < ENGINE_REFUSED_US;
	bool eligible = node->carrier && node->rules && !refused;

	if (eligible == node->eligible)
		return;
	node->eligible = eligible;
	sim_trace(world, SIM_TRACE_PROCESS, n, eligible ? 8 : 9, 0, 0);
	event.eligible.eligible = eligible;
	event.eligible.why = eligible        ? BASE_REASON_NONE
			     : node->carrier ? BASE_REASON_KERNEL_REFUSED
					     : BASE_REASON_LINK_DOWN;
	feed(world, n, &event);
}

static void on_links(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	node->links_changed = false;
	review(world, n);
	if (node->addresses_added && virtual_router_owns(&node->router) && !node->address)
		sim_kernel_address(world, n, true);
}

static void on_rules(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	/* Restarted in place, and the kernel's fence of the predecessor is open still. */
	bool adopt = node->restarted && world->now_us < node->alive_until_us;
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADOPT,
					      .now_us = world->now_us };

	node->rules_at_us = BASE_USEC_NEVER;
	node->rules = true;
	review(world, n);
	if (adopt)
		feed(world, n, &event);
	if (node->address && !node->addresses_added) /* left behind by the predecessor */
		sim_kernel_address(world, n, false);
	node->restarted = false;
}

static void become_synced(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	node->synced = true;
	node->synced_at_us = BASE_USEC_NEVER;
	sim_trace(world, SIM_TRACE_PROCESS, n, 5, 0, 0);
	make_config(world, n, &node->config);
	virtual_router_init(&node->router, &node->config, world->now_us,
			    base_random_next(&world->jitter));
	node->rules_at_us = world->now_us + 2000 + base_random_below(&world->process, 20000);
	node->refresh_at_us = world->now_us + ENGINE_REFRESH_US;
	node->agent.engine_us = world->now_us;
	ask_members(world, n);
}

static void configure(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct virtual_router_config config;
	enum election_state before = node->router.elector.state;

	make_config(world, n, &config);
	node->config = config;
	virtual_router_configure(&node->router, &config, world->now_us, &node->pending);
	node->pending_at = 0;
	check_step(world, n);
	if (before != node->router.elector.state)
		sim_trace(world, SIM_TRACE_STATE, n, before, node->router.elector.state, 0);
	run_actions(world, n);
	if (node->busy_until_us <= world->now_us) {
		struct virtual_router_actions again;

		virtual_router_configure(&node->router, &config, world->now_us, &again);
		if (again.count > 0)
			sim_fail(world, SIM_SAFETY, "S8: %s acts on an unchanged configuration",
				 sim_host_name(n));
	}
}

static void name_lease(const struct sim_lease *from, struct virtual_router_lease *to)
{
	memset(to, 0, sizeof *to);
	to->exists = from->exists;
	if (!from->exists)
		return;
	to->term = from->term;
	to->duration_ms = from->duration_ms;
	to->degraded = from->degraded;
	snprintf(to->holder, sizeof to->holder, "%s", node_name(from->holder));
	snprintf(to->successor, sizeof to->successor, "%s", node_name(from->successor));
	snprintf(to->version, sizeof to->version, "%llu", (unsigned long long)from->version);
}

static void read_message(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_message message = node->messages[0];
	struct virtual_router_event event = { .now_us = world->now_us };

	memmove(node->messages, node->messages + 1, --node->message_count * sizeof message);
	if (message.type == SIM_MESSAGE_WISH) {
		if (message.wish.version < node->disk.version)
			return;
		node->wish = node->disk = message.wish;
		if (!node->synced)
			become_synced(world, n);
		else
			configure(world, n);
		return;
	}
	if (!node->synced)
		return;
	switch ((enum sim_message_type)message.type) {
	case SIM_MESSAGE_WISH:
		return;
	case SIM_MESSAGE_LEASE:
		sim_trace(world, SIM_TRACE_LEASE, n,
			  message.lease.exists ? message.lease.holder : SIM_NOBODY,
			  message.lease.term, (uint32_t)message.lease.version);
		event.type = VIRTUAL_ROUTER_EVENT_LEASE;
		name_lease(&message.lease, &event.lease);
		break;
	case SIM_MESSAGE_RENEWAL:
		event.type = VIRTUAL_ROUTER_EVENT_RENEWED;
		snprintf(event.node, sizeof event.node, "%s", node_name(message.to));
		break;
	case SIM_MESSAGE_RESULT:
		sim_trace(world, SIM_TRACE_RESULT, n, message.result, message.id, 0);
		event.type = VIRTUAL_ROUTER_EVENT_LEASE_RESULT;
		event.write.id = message.id;
		event.write.result = (enum virtual_router_write_result)message.result;
		name_lease(&message.lease, &event.write.lease);
		break;
	case SIM_MESSAGE_CONTACT:
		sim_trace(world, SIM_TRACE_API, n, message.reachable, 0, 0);
		event.type = VIRTUAL_ROUTER_EVENT_API_CONTACT;
		event.reachable = message.reachable;
		break;
	case SIM_MESSAGE_ORDER:
		event.type = VIRTUAL_ROUTER_EVENT_HANDOVER;
		event.order.why = BASE_REASON_HANDOVER;
		snprintf(event.order.node, sizeof event.order.node, "%s", node_name(message.to));
		break;
	}
	feed(world, n, &event);
}

static void on_refresh(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	node->refresh_at_us = world->now_us + ENGINE_REFRESH_US;
	node->agent.engine_us = world->now_us;
	if (virtual_router_owns(&node->router))
		sim_kernel_address(world, n, true);
	ask_members(world, n);
	review(world, n);
}

/* State file: nothing was said from outside, so what was wanted last is served. */
static void on_sync_wait(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	node->synced_at_us = BASE_USEC_NEVER;
	if (node->synced || node->disk.version == 0)
		return;
	node->wish = node->disk;
	become_synced(world, n);
}

/* router_free() for what is still owned, then the process ends. */
static void end(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	sim_trace(world, SIM_TRACE_PROCESS, n, 3, 0, 0);
	if (node->synced && (virtual_router_owns(&node->router) || node->lingering)) {
		sim_kernel_close(world, n);
		sim_kernel_advert(world, n, 0);
	}
	if (node->addresses_added)
		sim_kernel_address(world, n, false);
	node->running = false;
	node->incarnation++;
	sim_agent_kill(world, n);
}

/* One dispatch of the loop: what is most urgent. False: nothing is pending. */
static bool dispatch(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	uint64_t now_us = world->now_us;

	if (node->packet_count > 0)
		read_adverts(world, n);
	else if (router_deadline(node) <= now_us)
		on_router_timer(world, n);
	else if (node->witnesses_at_us <= now_us)
		on_witnesses(world, n);
	else if (node->neighbour_count > 0)
		read_neighbour(world, n);
	else if (node->probe_end_us <= now_us)
		on_probe_end(world, n);
	else if (node->announce_at_us <= now_us)
		on_announce(world, n);
	else if (node->linger_end_us <= now_us)
		on_linger_end(world, n);
	else if (node->links_changed && node->synced)
		on_links(world, n);
	else if (node->refresh_at_us <= now_us)
		on_refresh(world, n);
	else if (node->rules_at_us <= now_us)
		on_rules(world, n);
	else if (node->message_count > 0)
		read_message(world, n);
	else if (node->synced_at_us <= now_us)
		on_sync_wait(world, n);
	else if (node->exit_at_us <= now_us || node->stop_limit_us <= now_us)
		end(world, n);
	else
		return false;
	return true;
}

void sim_engine_wake(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (world->now_us != node->wake_at_us)
		return; /* another one was armed since */
	node->wake_at_us = BASE_USEC_NEVER;
	if (!node->running || node->frozen)
		return;
	if (world->now_us < node->paused_until_us || world->now_us < node->busy_until_us) {
		sim_engine_poke(world, n);
		return;
	}
	while (!world->done && node->running && node->busy_until_us <= world->now_us &&
	       dispatch(world, n))
		;
	sim_engine_arm(world, n);
}

/* --- the process --- */

void sim_engine_start(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	uint64_t first_us = world->now_us + 5000 + base_random_below(&world->process, 40000);

	if (node->running || !node->powered)
		return;
	sim_trace(world, SIM_TRACE_PROCESS, n, 0, 0, 0);
	node->running = true;
	node->incarnation++;
	node->stopping = node->synced = node->rules = node->eligible = node->released = false;
	node->links_changed = node->probing = node->addresses_added = false;
	node->packet_count = node->neighbour_count = node->message_count = 0;
	node->pending.count = node->pending_at = 0;
	node->queued = false;
	node->paused_until_us = node->busy_until_us = 0;
	node->wake_at_us = node->rules_at_us = node->witnesses_at_us = BASE_USEC_NEVER;
	node->probe_end_us = node->announce_at_us = node->refresh_at_us = BASE_USEC_NEVER;
	node->stop_limit_us = node->exit_at_us = node->linger_end_us = BASE_USEC_NEVER;
	node->lingering = false;
	node->restarted = world->now_us < node->alive_until_us;
	node->synced_at_us = world->now_us + (node->restarted ? 5000 : ENGINE_STATE_WAIT_US);
	node->holder_asked_us = node->refused_us = 0;
	memset(node->heard_us, 0, sizeof node->heard_us);
	memset(node->asked_us, 0, sizeof node->asked_us);
	memset(node->answered_us, 0, sizeof node->answered_us);
	memset(node->asked_last_us, 0, sizeof node->asked_last_us);
	memset(node->mac_known, 0, sizeof node->mac_known);
	sim_at(world, first_us, SIM_EVENT_AGENT_START, n);
	sim_engine_arm(world, n);
}

void sim_engine_kill(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];

	if (!node->running)
		return;
	sim_trace(world, SIM_TRACE_PROCESS, n, 1, 0, 0);
	node->running = false;
	node->incarnation++;
	sim_agent_kill(world, n);
}

void sim_engine_terminate(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_RELEASE,
					      .now_us = world->now_us };

	if (!node->running || node->stopping)
		return;
	sim_trace(world, SIM_TRACE_PROCESS, n, 2, 0, 0);
	node->stopping = true;
	node->stop_limit_us = world->now_us + ENGINE_STOP_US;
	if (node->synced)
		feed(world, n, &event);
	else
		node->exit_at_us = world->now_us;
	sim_engine_arm(world, n);
}
