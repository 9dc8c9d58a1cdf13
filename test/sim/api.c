#include <string.h>

#include "daemon/agent/cadence.h"
#include "test/sim/sim.h"

/*
 * One Lease in an API server, and on every node an agent that watches and writes it, and gives a
 * sign of life by a Lease of its own: compare and swap on the version, watch streams in order,
 * answers that get lost, connections that hang, streams that say nothing any more.
 */
#define WRITE_TIMEOUT_US   (1 * BASE_USEC_PER_SEC)
#define RENEWAL_TIMEOUT_US (2 * BASE_USEC_PER_SEC)
#define DEAD_PEER_US       (15 * BASE_USEC_PER_SEC)

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

	if (!agent->running || !agent->connected)
		return;
	/* A stream has no gaps: after what got lost nothing comes until it is started again. */
	agent->deaf = agent->deaf || agent->swallowing || !reachable(world, n);
	if (agent->deaf)
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

static void stream_renewal(struct sim_world *world, unsigned of)
{
	struct sim_message message = { .type = SIM_MESSAGE_RENEWAL,
				       .to = (uint8_t)of,
				       .version = world->signs[of] };

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
	if (!request->renewal)
		world->written_us = world->now_us;
	if (request->renewal) {
		world->signs[n] = ++world->revision;
		answer.message.type = SIM_MESSAGE_RENEWAL;
		answer.message.version = world->signs[n];
		stream_renewal(world, n);
	} else if (request->read) {
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
	/* A conflict says that somebody was faster, not who. */
	if (answer.message.type != SIM_MESSAGE_RESULT ||
	    answer.message.result == VIRTUAL_ROUTER_WRITE_OK)
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
	world->nodes[n].agent.deaf = false;
	sim_schedule(world, &event);
}

/* Another version of speaker-NODE: that node is there. The first that is seen may be an old one. */
static void note_sign(struct sim_world *world, unsigned n, unsigned of, uint64_t version)
{
	struct sim_agent *agent = &world->nodes[n].agent;
	struct sim_message message = { .type = SIM_MESSAGE_RENEWAL, .to = (uint8_t)of };

	if (version <= agent->signs[of])
		return;
	if (agent->signs[of] && of != n)
		tell(world, n, &message);
	agent->signs[of] = version;
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
	for (unsigned i = 0; i < world->config.nodes; i++)
		note_sign(world, n, i, world->signs[i]);
	tell_contact(world, n, true);
}

static void renew_after(struct sim_world *world, unsigned n, uint64_t wait_us)
{
	struct sim_event event = { .time_us = world->now_us + wait_us,
				   .type = SIM_EVENT_RENEW,
				   .host = (uint8_t)n,
				   .incarnation = world->nodes[n].agent.incarnation };

	sim_schedule(world, &event);
}

/* speaker.c: while the engine behind us is alive. */
static void on_renew(struct sim_world *world, unsigned n)
{
	struct sim_agent *agent = &world->nodes[n].agent;
	struct sim_request request = { .renewal = true };
	bool alive = base_usec_since(world->now_us, agent->engine_us) < CADENCE_ENGINE_US;

	if (!agent->listed || !alive || agent->renewing || world->nodes[n].frozen) {
		renew_after(world, n, BASE_USEC_PER_SEC);
		return;
	}
	agent->renewing = true;
	request.id = ++agent->renewal;
	sim_agent_request(world, n, &request);
}

static void on_renewed(struct sim_world *world, unsigned n, uint64_t version)
{
	struct sim_event echo = { .time_us = world->now_us + CADENCE_ECHO_US,
				  .type = SIM_EVENT_ECHO,
				  .host = (uint8_t)n,
				  .incarnation = world->nodes[n].agent.connection,
				  .version = version };
	uint64_t wait_us = world->config.renew_us;

	wait_us -= base_random_below(&world->api, wait_us / 8);
	world->nodes[n].agent.renewing = false;
	renew_after(world, n, wait_us);
	sim_schedule(world, &echo);
}

static void on_renewal_lost(struct sim_world *world, unsigned n)
{
	struct sim_agent *agent = &world->nodes[n].agent;

	agent->renewing = false;
	renew_after(world, n, BASE_USEC_PER_SEC);
	if (reachable(world, n))
		return;
	tell_contact(world, n, false);
	if (agent->connected)
		connect_later(world, n, 100000);
}

/* Our own write, and the watch does not show it: what else does it keep from us? */
static void on_echo(struct sim_world *world, const struct sim_event *event)
{
	struct sim_agent *agent = &world->nodes[event->host].agent;

	if (agent->running && agent->connected && event->incarnation == agent->connection &&
	    agent->signs[event->host] < event->version)
		connect_later(world, event->host, 100000);
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
	node->agent.renewing = node->agent.deaf = false;
	memset(node->agent.signs, 0, sizeof node->agent.signs);
	node->agent.engine_us = world->now_us;
	if (!world->config.leased) {
		sim_engine_message(world, n, &wish);
		return;
	}
	connect_later(world, n, 2 * travel_us(world, n));
	renew_after(world, n, BASE_USEC_PER_SEC / 2);
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
	event.time_us =
		world->now_us + (request->renewal ? RENEWAL_TIMEOUT_US : WRITE_TIMEOUT_US);
	if (!request->renewal)
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
	uint64_t wait_us = base_random_below(&world->api, 10000);
	uint64_t retransmit_us;

	if (!agent->running)
		return;
	if (reachable(world, n)) {
		if (!agent->connected || !agent->breaking)
			return;
		/* TCP tries again, less and less often: then everything comes that was held up. */
		retransmit_us = base_usec_since(world->now_us, agent->cut_us);
		connect_later(world, n, base_random_below(&world->api, retransmit_us));
		return;
	}
	/* Refused at once, or a connection that just says nothing any more: until a renewal fails. */
	lost.time_us = world->now_us + (half_open ? DEAD_PEER_US : wait_us);
	if (!agent->breaking)
		agent->cut_us = world->now_us;
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
		if (event->message.type == SIM_MESSAGE_RENEWAL) {
			if (agent->renewing && agent->renewal == event->message.id)
				on_renewed(world, n, event->message.version);
		} else if (event->message.type == SIM_MESSAGE_RESULT) {
			if (agent->request == event->message.id)
				agent->request = 0;
			if (event->message.lease.version > agent->told_version)
				agent->told_version = event->message.lease.version;
			tell_result(world, n, event->message.id,
				    (enum virtual_router_write_result)event->message.result,
				    &event->message.lease);
		} else if (event->message.lease.version >= agent->told_version) {
			agent->told_version = event->message.lease.version;
			tell(world, n, &event->message); /* else the watch knows better */
		}
		return;
	case SIM_EVENT_RENEW:
		if (agent->running && event->incarnation == agent->incarnation)
			on_renew(world, n);
		return;
	case SIM_EVENT_ECHO:
		on_echo(world, event);
		return;
	case SIM_EVENT_TIMEOUT:
		if (event->request.renewal) {
			if (agent->running && event->incarnation == agent->incarnation &&
			    agent->renewing && agent->renewal == event->request.id)
				on_renewal_lost(world, n);
			return;
		}
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
		    !reachable(world, n))
			agent->deaf = true;
		if (agent->running && event->incarnation == agent->connection && !agent->deaf &&
		    reachable(world, n)) {
			if (event->message.type == SIM_MESSAGE_RENEWAL) {
				note_sign(world, n, event->message.to, event->message.version);
				return;
			}
			if (event->message.type == SIM_MESSAGE_LEASE) {
				if (event->message.lease.version <= agent->told_version)
					return; /* known from an answer */
				agent->told_version = event->message.lease.version;
			}
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
