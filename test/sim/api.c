#include <string.h>

#include "test/sim/sim.h"

/*
 * One Lease in an API server, and on every node an agent that watches and writes it: compare and
 * swap on the version, watch streams in order, answers that get lost, connections that hang.
 */
#define WRITE_TIMEOUT_US (1 * BASE_USEC_PER_SEC)

static bool reachable(const struct sim_world *world, unsigned n)
{
	return world->api_down == 0 && world->nodes[n].agent.api_cuts == 0;
}

static uint64_t travel_us(struct sim_world *world, unsigned n)
{
	uint64_t span_us = world->config.api_max_us - world->config.api_min_us;
	uint64_t usual_us = world->config.api_min_us + base_random_below(&world->api, span_us + 1);
	uint64_t slow_us = base_random_below(&world->api, 500 * BASE_USEC_PER_MSEC);

	return world->nodes[n].agent.api_slow ? usual_us + slow_us : usual_us;
}

static uint64_t watch_us(struct sim_world *world, unsigned n)
{
	uint64_t span_us = world->config.watch_max_us - world->config.watch_min_us;
	uint64_t usual_us =
		world->config.watch_min_us + base_random_below(&world->api, span_us + 1);
	uint64_t slow_us = base_random_below(&world->api, BASE_USEC_PER_SEC);
	const struct sim_agent *agent = &world->nodes[n].agent;

	return agent->watch_slow || agent->api_slow ? usual_us + slow_us : usual_us;
}

static void tell(struct sim_world *world, unsigned n, const struct sim_message *message)
{
	sim_engine_message(world, n, message);
}

static void tell_contact(struct sim_world *world, unsigned n, bool contact)
{
	struct sim_message message = { .type = SIM_MESSAGE_CONTACT, .reachable = contact };

	if (world->nodes[n].agent.contact == contact)
		return;
	world->nodes[n].agent.contact = contact;
	tell(world, n, &message);
}

static void tell_result(struct sim_world *world, unsigned n, uint32_t id,
			enum virtual_router_write_result result, const struct sim_lease *lease)
{
	struct sim_message message = { .type = SIM_MESSAGE_RESULT,
				       .id = id,
				       .result = (uint8_t)result };

	if (lease)
		message.lease = *lease;
	tell(world, n, &message);
}

/* --- the server --- */

static void stream(struct sim_world *world, unsigned n, const struct sim_message *message)
{
	struct sim_agent *agent = &world->nodes[n].agent;
	struct sim_event event = { .time_us = world->now_us + watch_us(world, n),
				   .type = SIM_EVENT_WATCH,
				   .host = (uint8_t)n,
				   .incarnation = agent->connection,
				   .message = *message };

	if (!agent->running || !agent->connected || !reachable(world, n))
		return;
	if (event.time_us <= agent->last_watch_us)
		event.time_us = agent->last_watch_us + 1;
	agent->last_watch_us = event.time_us;
	sim_schedule(world, &event);
}

static void stream_lease(struct sim_world *world)
{
	struct sim_message message = { .type = SIM_MESSAGE_LEASE, .lease = world->lease };

	for (unsigned i = 0; i < world->config.nodes; i++)
		stream(world, i, &message);
}

void sim_api_publish(struct sim_world *world)
{
	struct sim_message message = { .type = SIM_MESSAGE_WISH };

	world->wish.version++;
	message.wish = world->wish;
	for (unsigned i = 0; i < world->config.nodes; i++) {
		struct sim_event event = { .type = SIM_EVENT_MESSAGE,
					   .host = (uint8_t)i,
					   .incarnation = world->nodes[i].incarnation,
					   .message = message };

		if (world->config.leased) {
			stream(world, i, &message);
			continue;
		}
		/* files, copied to one node after the other */
		event.time_us =
			world->now_us + base_random_below(&world->api, 300 * BASE_USEC_PER_MSEC);
		sim_schedule(world, &event);
	}
}

void sim_api_delete_lease(struct sim_world *world)
{
	if (!world->lease.exists)
		return;
	world->lease = (struct sim_lease){ .version = ++world->revision,
					   .holder = SIM_NOBODY,
					   .successor = SIM_NOBODY };
	stream_lease(world);
}

static void serve(struct sim_world *world, const struct sim_event *arrived)
{
	unsigned n = arrived->host;
	const struct sim_request *request = &arrived->request;
	struct sim_event answer = { .type = SIM_EVENT_ANSWER,
				    .host = (uint8_t)n,
				    .incarnation = arrived->incarnation };
	bool lost = world->nodes[n].agent.answers_lost > 0;

	if (!reachable(world, n))
		return;
	answer.message.id = request->id;
	if (request->read) {
		answer.message.type = SIM_MESSAGE_LEASE;
	} else {
		bool matches = world->lease.exists ? request->expected == world->lease.version
						   : request->expected == 0;
		struct sim_lease before = world->lease;

		matches = matches || world->config.mutant == SIM_MUTANT_CAS;
		answer.message.type = SIM_MESSAGE_RESULT;
		answer.message.result =
			matches ? VIRTUAL_ROUTER_WRITE_OK : VIRTUAL_ROUTER_WRITE_CONFLICT;
		if (matches) {
			world->lease = request->lease;
			world->lease.version = ++world->revision;
			sim_trace(world, SIM_TRACE_LANDED, n, world->lease.holder,
				  world->lease.term, (uint32_t)world->lease.version);
			sim_judge_write(world, &before, &world->lease);
			stream_lease(world);
		}
	}
	answer.message.lease = world->lease;
	answer.time_us = world->now_us + travel_us(world, n);
	if (!lost)
		sim_schedule(world, &answer);
}

/* --- the agents --- */

static void connect_later(struct sim_world *world, unsigned n, uint64_t wait_us)
{
	struct sim_event event = { .time_us = world->now_us + wait_us,
				   .type = SIM_EVENT_CONNECT,
				   .host = (uint8_t)n,
				   .incarnation = ++world->nodes[n].agent.connection };

	world->nodes[n].agent.connected = world->nodes[n].agent.breaking = false;
	sim_schedule(world, &event);
}

/* List and watch: what is there now, then every change of it. */
static void on_connect(struct sim_world *world, const struct sim_event *event)
{
	unsigned n = event->host;
	struct sim_agent *agent = &world->nodes[n].agent;
	struct sim_message message = { .type = SIM_MESSAGE_LEASE, .lease = world->lease };
	struct sim_message wish = { .type = SIM_MESSAGE_WISH, .wish = world->wish };
	bool contact_first = base_random_below(&world->api, 2);
	uint64_t backoff_us = 100000 + base_random_below(&world->api, 900000);

	if (!agent->running || event->incarnation != agent->connection)
		return;
	if (!reachable(world, n)) {
		connect_later(world, n, backoff_us);
		return;
	}
	agent->connected = true;
	agent->last_watch_us = world->now_us;
	tell(world, n, &wish);
	if (contact_first)
		tell_contact(world, n, true);
	if (!agent->listed || agent->told_version != world->lease.version)
		tell(world, n, &message); /* what the engine knows is not told again */
	agent->listed = true;
	agent->told_version = world->lease.version;
	tell_contact(world, n, true);
}

void sim_agent_start(struct sim_world *world, unsigned n)
{
	struct sim_node *node = &world->nodes[n];
	struct sim_message wish = { .type = SIM_MESSAGE_WISH, .wish = world->wish };

	if (!node->running || node->agent.running)
		return;
	node->agent.running = true;
	node->agent.incarnation++;
	node->agent.contact = node->agent.connected = node->agent.listed = false;
	if (!world->config.leased) {
		sim_engine_message(world, n, &wish);
		return;
	}
	connect_later(world, n, 2 * travel_us(world, n));
}

void sim_agent_kill(struct sim_world *world, unsigned n)
{
	struct sim_agent *agent = &world->nodes[n].agent;
	struct sim_message lost = { .type = SIM_MESSAGE_CONTACT, .reachable = false };

	if (!agent->running)
		return;
	agent->running = agent->connected = false;
	agent->incarnation++;
	agent->connection++;
	if (agent->contact && world->config.leased)
		sim_engine_message(world, n, &lost); /* its channel closes */
	agent->contact = false;
}

void sim_agent_request(struct sim_world *world, unsigned n, const struct sim_request *request)
{
	struct sim_agent *agent = &world->nodes[n].agent;
	struct sim_event event = { .type = SIM_EVENT_REQUEST,
				   .host = (uint8_t)n,
				   .incarnation = agent->incarnation,
				   .request = *request };

	if (!agent->running || !world->config.leased)
		return; /* nobody answers */
	event.time_us = world->now_us + travel_us(world, n);
	if (reachable(world, n))
		sim_schedule(world, &event);
	if (request->read)
		return;
	event.type = SIM_EVENT_TIMEOUT;
	event.time_us = world->now_us + WRITE_TIMEOUT_US;
	agent->request = request->id;
	sim_schedule(world, &event);
}

/* The path to the API server was cut, or is there again. */
void sim_agent_path_changed(struct sim_world *world, unsigned n)
{
	struct sim_agent *agent = &world->nodes[n].agent;
	struct sim_event lost = { .type = SIM_EVENT_CONTACT_LOST,
				  .host = (uint8_t)n,
				  .incarnation = agent->connection };
	bool half_open = base_random_below(&world->api, 2);
	uint64_t wait_us = base_random_below(&world->api, 5 * BASE_USEC_PER_SEC);

	if (!agent->running || reachable(world, n))
		return;
	/* Refused at once, or a connection that just says nothing any more. */
	lost.time_us = world->now_us + (half_open ? wait_us : wait_us / 500);
	agent->breaking = agent->connected;
	sim_schedule(world, &lost);
}

void sim_api_event(struct sim_world *world, const struct sim_event *event)
{
	unsigned n = event->host;
	struct sim_agent *agent = &world->nodes[n].agent;

	switch ((int)event->type) { /* the rest is not for us */
	case SIM_EVENT_REQUEST:
		serve(world, event);
		return;
	case SIM_EVENT_ANSWER:
		if (event->incarnation != agent->incarnation || !reachable(world, n))
			return;
		if (event->message.type == SIM_MESSAGE_RESULT) {
			if (agent->request == event->message.id)
				agent->request = 0;
			tell_result(world, n, event->message.id,
				    (enum virtual_router_write_result)event->message.result,
				    &event->message.lease);
		} else {
			tell(world, n, &event->message);
		}
		return;
	case SIM_EVENT_TIMEOUT:
		if (event->incarnation != agent->incarnation || agent->request != event->request.id)
			return;
		agent->request = 0;
		tell_result(world, n, event->request.id, VIRTUAL_ROUTER_WRITE_UNKNOWN, NULL);
		if (!reachable(world, n)) {
			tell_contact(world, n, false);
			if (agent->connected)
				connect_later(world, n, 100000);
		}
		return;
	case SIM_EVENT_WATCH:
		if (agent->running && event->incarnation == agent->connection &&
		    reachable(world, n)) {
			if (event->message.type == SIM_MESSAGE_LEASE)
				agent->told_version = event->message.lease.version;
			tell(world, n, &event->message);
		}
		return;
	case SIM_EVENT_CONNECT:
		on_connect(world, event);
		return;
	case SIM_EVENT_CONTACT_LOST:
		if (!agent->running || event->incarnation != agent->connection)
			return;
		/* The stream broke, whatever the path is now: list again. */
		if (!reachable(world, n))
			tell_contact(world, n, false);
		connect_later(world, n, 100000);
		return;
	default:
		return;
	}
}
