#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"
#include "base/random.h"
#include "daemon/agent/cadence.h"
#include "daemon/engine/core/timing.h"
#include "daemon/engine/core/virtual_router.h"
#include "ipam/placement.h"
#include "nft/skeleton.h"

/*
 * A fleet: 1000 addresses in all 255 virtual routers of a segment, on five nodes. `sim` looks at one
 * virtual router and everything that can go wrong with it; this looks at what the many have in common:
 * where ipam/placement puts them, one API server that takes a millisecond for each write, one processor
 * a node, and the speakers' signs of life. Cold start, rest, a node without power, its return, and the
 * rebalancing by handovers. The cores are those of the release.
 */
#define NODES       5
#define ROUTERS     255
#define ADDRESSES   1000
#define NOBODY      255

#define TICK_US     100 /* of the wheel: what is due is done within that */
#define SLOTS       16384
#define LAN_US      200 /* one way */
#define API_US      2500
#define SERVE_US    1000 /* the API server's, for a write, one after the other */
#define HANDLE_US   20   /* the engine's, for an event, one after the other */
#define INTERVAL_US (100 * BASE_USEC_PER_MSEC)
#define FENCE_US    (INTERVAL_US * 5 / 2)
#define SECOND      BASE_USEC_PER_SEC

enum event_type {
	TIMER,
	ADVERT,
	WITNESSES,
	HELD,
	FREE,
	LINGER_END,
	REQUEST,
	RESULT,
	WATCH,
	RENEW,
	RENEWED
};

struct lease {
	bool exists, degraded;
	uint8_t holder, successor;
	uint32_t term, duration_ms;
	uint64_t version;
};

struct event {
	struct event *next;
	uint64_t time_us;
	uint8_t type, node, from, priority;
	uint16_t router;
	bool conflict;
	uint32_t id, life; /* of the node when it was made */
	uint64_t expected;
	struct lease lease;
};

struct replica {
	struct virtual_router core;
	struct virtual_router_candidate candidates[NODES];
	struct election_peer peers[NODES];
	uint64_t armed_us, fence_us, linger_us;
	bool address, probing;
};

struct node {
	bool powered;
	uint32_t life;
	uint64_t busy_us;
	struct replica replicas[ROUTERS];
};

/* What one phase cost. */
struct tally {
	uint64_t begin_us, writes, renewals, reads, adverts, transitions, events;
	uint64_t dark_us, dual_us; /* the worst router, in one piece */
};

static struct fleet {
	uint64_t now_us, served_us, revision;
	struct base_random random;
	struct event *slots[SLOTS], **ends[SLOTS];
	struct event *unused;
	struct node nodes[NODES];
	struct lease leases[ROUTERS];
	unsigned weights[ROUTERS];     /* addresses in it */
	uint8_t order[ROUTERS][NODES]; /* of the candidates, the first one first */
	uint64_t dark_since_us[ROUTERS], dual_since_us[ROUTERS];
	struct tally tally;
	unsigned failed;
} fleet;

static const char *const names[NODES] = { "n1", "n2", "n3", "n4", "n5" };

/* --- the wheel --- */

static void put(struct event *event)
{
	unsigned slot = (unsigned)(event->time_us / TICK_US % SLOTS);

	event->next = NULL;
	if (!fleet.slots[slot])
		fleet.ends[slot] = &fleet.slots[slot];
	*fleet.ends[slot] = event;
	fleet.ends[slot] = &event->next;
}

static struct event *make(enum event_type type, unsigned node, unsigned router, uint64_t wait_us)
{
	struct event *event = fleet.unused;

	if (event)
		fleet.unused = event->next;
	else if (!(event = malloc(sizeof *event)))
		abort();
	memset(event, 0, sizeof *event);
	event->time_us = (fleet.now_us + wait_us + TICK_US) / TICK_US * TICK_US; /* never now */
	event->type = (uint8_t)type;
	event->node = (uint8_t)node;
	event->router = (uint16_t)router;
	event->life = fleet.nodes[node].life;
	return event;
}

/* --- a node --- */

static struct base_address address_of(unsigned node)
{
	return base_address_ipv4(192, 0, 2, (uint8_t)(10 + node));
}

static uint8_t node_of(const char *name)
{
	for (unsigned i = 0; i < NODES; i++)
		if (strcmp(name, names[i]) == 0)
			return (uint8_t)i;
	return NOBODY;
}

static bool answers(unsigned node, unsigned router)
{
	const struct replica *replica = &fleet.nodes[node].replicas[router];

	return fleet.nodes[node].powered && replica->address && fleet.now_us < replica->fence_us;
}

static void feed(unsigned node, unsigned router, struct virtual_router_event *event);

static void send_advert(unsigned node, unsigned router, uint8_t priority)
{
	struct replica *replica = &fleet.nodes[node].replicas[router];

	fleet.tally.adverts++;
	if (priority > 0) {
		replica->fence_us = fleet.now_us + FENCE_US;
		replica->linger_us = 0;
	} else if (fleet.now_us >= replica->linger_us) {
		replica->fence_us = 0;
	}
	for (unsigned to = 0; to < NODES; to++) {
		struct event *event;

		if (to == node || !fleet.nodes[to].powered)
			continue;
		event = make(ADVERT, to, router, LAN_US);
		event->from = (uint8_t)node;
		event->priority = priority;
		put(event);
	}
}

static void ask_holder(unsigned node, unsigned router)
{
	for (unsigned other = 0; other < NODES; other++)
		if (other != node && answers(other, router)) {
			struct event *event = make(HELD, node, router, 2 * LAN_US);

			event->from = (uint8_t)other;
			put(event);
		}
}

static void request(unsigned node, unsigned router, const struct virtual_router_action *action)
{
	const struct virtual_router_lease *lease = &action->write.lease;
	struct event *event = make(REQUEST, node, router, API_US);

	event->id = action->write.id;
	event->expected = strtoull(action->write.expected_version, NULL, 10);
	event->lease = (struct lease){ .exists = true,
				       .degraded = lease->degraded,
				       .holder = node_of(lease->holder),
				       .successor = node_of(lease->successor),
				       .term = lease->term,
				       .duration_ms = lease->duration_ms };
	put(event);
}

static void apply(unsigned node, unsigned router, const struct virtual_router_action *action)
{
	struct replica *replica = &fleet.nodes[node].replicas[router];

	switch (action->type) {
	case VIRTUAL_ROUTER_ACTION_SEND_ADVERT:
		send_advert(node, router, action->priority);
		return;
	case VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES:
		replica->address = true;
		return;
	case VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES:
		replica->address = false;
		return;
	case VIRTUAL_ROUTER_ACTION_CLOSE_FENCE:
		replica->fence_us = 0;
		return;
	case VIRTUAL_ROUTER_ACTION_LINGER:
		replica->linger_us = fleet.now_us + NFT_GRACE_MS * BASE_USEC_PER_MSEC;
		put(make(LINGER_END, node, router, NFT_GRACE_MS * BASE_USEC_PER_MSEC));
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_WITNESSES:
		ask_holder(node, router);
		put(make(WITNESSES, node, router, ENGINE_WITNESS_WAIT_US));
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_MEMBERS:
		put(make(WITNESSES, node, router, ENGINE_WITNESS_WAIT_US));
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_ADDRESSES:
		replica->probing = true;
		ask_holder(node, router);
		put(make(FREE, node, router, ENGINE_PROBE_WAIT_US));
		return;
	case VIRTUAL_ROUTER_ACTION_LEASE_WRITE:
		request(node, router, action);
		return;
	case VIRTUAL_ROUTER_ACTION_LEASE_READ: {
		struct event *event = make(WATCH, node, router, 2 * API_US);

		fleet.tally.reads++;
		event->lease = fleet.leases[router];
		put(event);
		return;
	}
	case VIRTUAL_ROUTER_ACTION_TRANSITION:
		fleet.tally.transitions += action->transition.reason != BASE_REASON_OWNER_OBSERVED;
		return;
	case VIRTUAL_ROUTER_ACTION_ANNOUNCE:
	case VIRTUAL_ROUTER_ACTION_DISBELIEVE:
	case VIRTUAL_ROUTER_ACTION_RELEASED:
		return;
	}
}

static void arm(unsigned node, unsigned router)
{
	struct replica *replica = &fleet.nodes[node].replicas[router];
	uint64_t deadline_us = virtual_router_deadline(&replica->core);

	if (deadline_us == BASE_USEC_NEVER || deadline_us == replica->armed_us)
		return;
	replica->armed_us = deadline_us;
	put(make(TIMER, node, router, base_usec_since(deadline_us, fleet.now_us)));
}

static void feed(unsigned node, unsigned router, struct virtual_router_event *event)
{
	struct replica *replica = &fleet.nodes[node].replicas[router];
	struct virtual_router_actions actions;

	event->now_us = fleet.now_us;
	virtual_router_step(&replica->core, event, &actions);
	for (unsigned i = 0; i < actions.count; i++)
		apply(node, router, &actions.items[i]);
	arm(node, router);
}

static void name_lease(const struct lease *from, struct virtual_router_lease *to)
{
	memset(to, 0, sizeof *to);
	to->exists = from->exists;
	to->term = from->term;
	to->duration_ms = from->duration_ms;
	to->degraded = from->degraded;
	snprintf(to->holder, sizeof to->holder, "%s",
		 from->holder < NODES ? names[from->holder] : "");
	snprintf(to->successor, sizeof to->successor, "%s",
		 from->successor < NODES ? names[from->successor] : "");
	if (from->exists)
		snprintf(to->version, sizeof to->version, "%llu",
			 (unsigned long long)from->version);
}

static void start_router(unsigned node, unsigned router)
{
	struct replica *replica = &fleet.nodes[node].replicas[router];
	struct virtual_router_config config = { .virtual_router_id = (uint8_t)(router + 1),
						.family = BASE_FAMILY_IPV4,
						.version = 3,
						.interval_us = INTERVAL_US,
						.leased = true,
						.lease_duration_ms = ENGINE_LEASE_DURATION_MS,
						.candidate_count = NODES,
						.source = address_of(node),
						.candidates = replica->candidates,
						.peers = replica->peers };
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_API_CONTACT,
					      .reachable = true };

	snprintf(config.name, sizeof config.name, "fleet.ipv4.%u", router + 1);
	config.node = names[node];
	memset(replica, 0, sizeof *replica);
	for (unsigned i = 0; i < NODES; i++) {
		struct virtual_router_candidate *candidate = &replica->candidates[i];
		uint8_t who = fleet.order[router][i];

		snprintf(candidate->node, sizeof candidate->node, "%s", names[who]);
		candidate->address = address_of(who);
		candidate->priority = (uint8_t)(254 - 7 * i);
	}
	virtual_router_init(&replica->core, &config, fleet.now_us, base_random_next(&fleet.random));
	feed(node, router, &event);
	event.type = VIRTUAL_ROUTER_EVENT_LEASE;
	name_lease(&fleet.leases[router], &event.lease);
	feed(node, router, &event);
	memset(&event, 0, sizeof event);
	event.type = VIRTUAL_ROUTER_EVENT_ELIGIBLE;
	event.eligible.eligible = true;
	feed(node, router, &event);
}

static void power(unsigned node, bool on)
{
	struct node *n = &fleet.nodes[node];

	n->powered = on;
	n->life++;
	n->busy_us = 0;
	if (!on) {
		for (unsigned r = 0; r < ROUTERS; r++)
			n->replicas[r].address = false;
		return;
	}
	for (unsigned r = 0; r < ROUTERS; r++)
		start_router(node, r);
	put(make(RENEW, node, 0, base_random_below(&fleet.random, CADENCE_RENEW_MIN_US)));
}

/* --- the API server --- */

static void serve(const struct event *asked)
{
	struct lease *lease = &fleet.leases[asked->router];
	uint64_t expected = lease->exists ? lease->version : 0;
	bool conflict = asked->expected != expected;
	struct event *result;
	uint64_t wait_us;

	fleet.tally.writes++;
	if (fleet.served_us < fleet.now_us)
		fleet.served_us = fleet.now_us;
	fleet.served_us += SERVE_US;
	wait_us = fleet.served_us - fleet.now_us;
	if (!conflict) {
		*lease = asked->lease;
		lease->version = ++fleet.revision;
	}
	result = make(RESULT, asked->node, asked->router, wait_us + API_US);
	result->id = asked->id;
	result->conflict = conflict;
	result->life = asked->life;
	if (!conflict)
		result->lease = *lease;
	put(result);
	for (unsigned to = 0; to < NODES && !conflict; to++) {
		struct event *watch = make(WATCH, to, asked->router, wait_us + API_US + LAN_US);

		watch->lease = *lease;
		put(watch);
	}
}

static void renew(unsigned node)
{
	uint64_t wait_us = cadence_renew_us(NODES);

	fleet.tally.renewals++;
	for (unsigned to = 0; to < NODES; to++) {
		struct event *event = make(RENEWED, to, 0, 2 * API_US);

		event->from = (uint8_t)node;
		put(event);
	}
	put(make(RENEW, node, 0, wait_us - base_random_below(&fleet.random, wait_us / 8)));
}

/* --- what happens --- */

static void on_renewed(unsigned node, unsigned from)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_RENEWED };

	snprintf(event.node, sizeof event.node, "%s", names[from]);
	for (unsigned r = 0; r < ROUTERS; r++)
		feed(node, r, &event);
}

static void tell_witnesses(unsigned node, unsigned router)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_WITNESSES };

	event.witnesses.gateway_known = event.witnesses.gateway_reachable = true;
	for (unsigned i = 0; i < NODES; i++)
		if (fleet.nodes[fleet.order[router][i]].powered)
			event.witnesses.reachable |= event.witnesses.answering |= UINT32_C(1) << i;
		else
			event.witnesses.missing |= UINT32_C(1) << i;
	feed(node, router, &event);
}

static void handle(const struct event *event)
{
	struct replica *replica = &fleet.nodes[event->node].replicas[event->router];
	struct virtual_router_event told = { .late_us = 0 };

	switch ((enum event_type)event->type) {
	case TIMER:
		if (replica->armed_us > event->time_us)
			return; /* another one is armed */
		replica->armed_us = 0;
		told.type = VIRTUAL_ROUTER_EVENT_TIMER;
		feed(event->node, event->router, &told);
		return;
	case ADVERT:
		if (event->priority > 0 && fleet.now_us < replica->linger_us) {
			replica->fence_us = replica->linger_us = 0; /* as the kernel does */
		}
		told.type = VIRTUAL_ROUTER_EVENT_ADVERT;
		told.advert.source = address_of(event->from);
		told.advert.priority = event->priority;
		told.advert.interval_us = INTERVAL_US;
		break;
	case WITNESSES:
		tell_witnesses(event->node, event->router);
		return;
	case HELD:
		replica->probing = false;
		told.type = VIRTUAL_ROUTER_EVENT_ADDRESS_HELD;
		told.advert.source = address_of(event->from);
		break;
	case FREE:
		if (!replica->probing)
			return;
		replica->probing = false;
		told.type = VIRTUAL_ROUTER_EVENT_ADDRESS_FREE;
		break;
	case LINGER_END:
		if (!virtual_router_owns(&replica->core))
			replica->address = false;
		return;
	case RESULT:
		told.type = VIRTUAL_ROUTER_EVENT_LEASE_RESULT;
		told.write.id = event->id;
		told.write.result =
			event->conflict ? VIRTUAL_ROUTER_WRITE_CONFLICT : VIRTUAL_ROUTER_WRITE_OK;
		name_lease(&event->lease, &told.write.lease);
		break;
	case WATCH:
		told.type = VIRTUAL_ROUTER_EVENT_LEASE;
		name_lease(&event->lease, &told.lease);
		break;
	case RENEW:
		renew(event->node);
		return;
	case RENEWED:
		on_renewed(event->node, event->from);
		return;
	case REQUEST:
		return;
	}
	feed(event->node, event->router, &told);
}

static void dispatch(struct event *event)
{
	struct node *node = &fleet.nodes[event->node];

	if (event->time_us > fleet.now_us) { /* another turn of the wheel */
		put(event);
		return;
	}
	if (event->type == REQUEST) { /* it left the node */
		serve(event);
	} else if (node->powered && event->life == node->life) {
		if (node->busy_us > fleet.now_us + TICK_US) {
			event->time_us = node->busy_us / TICK_US * TICK_US;
			put(event);
			return;
		}
		if (node->busy_us < fleet.now_us)
			node->busy_us = fleet.now_us;
		node->busy_us += HANDLE_US;
		fleet.tally.events++;
		handle(event);
	}
	event->next = fleet.unused;
	fleet.unused = event;
}

/* --- judged as clients see it, every millisecond --- */

static void look(void)
{
	for (unsigned r = 0; r < ROUTERS; r++) {
		unsigned count = 0;

		for (unsigned n = 0; n < NODES; n++)
			count += answers(n, r);
		if (count > 0)
			fleet.dark_since_us[r] = 0;
		else if (!fleet.dark_since_us[r])
			fleet.dark_since_us[r] = fleet.now_us;
		if (count < 2)
			fleet.dual_since_us[r] = 0;
		else if (!fleet.dual_since_us[r])
			fleet.dual_since_us[r] = fleet.now_us;
		if (!count && fleet.now_us + 1000 - fleet.dark_since_us[r] > fleet.tally.dark_us)
			fleet.tally.dark_us = fleet.now_us + 1000 - fleet.dark_since_us[r];
		if (count > 1 && fleet.now_us + 1000 - fleet.dual_since_us[r] > fleet.tally.dual_us)
			fleet.tally.dual_us = fleet.now_us + 1000 - fleet.dual_since_us[r];
	}
}

static void run_until(uint64_t end_us)
{
	while (fleet.now_us < end_us) {
		struct event **slot = &fleet.slots[fleet.now_us / TICK_US % SLOTS];
		struct event *event = *slot;

		*slot = NULL;
		while (event) {
			struct event *next = event->next;

			dispatch(event);
			event = next;
		}
		if (fleet.now_us % 1000 == 0)
			look();
		fleet.now_us += TICK_US;
	}
}

/* Addresses on each node; what `node` has. */
static unsigned load_of(unsigned node)
{
	unsigned load = 0;

	for (unsigned r = 0; r < ROUTERS; r++)
		if (answers(node, r))
			load += fleet.weights[r];
	return load;
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	printf("FAILED: %s\n", what);
	fleet.failed++;
}

static void begin(void)
{
	fleet.tally = (struct tally){ .begin_us = fleet.now_us };
}

static void tell(const char *phase)
{
	const struct tally *t = &fleet.tally;
	double seconds = (double)(fleet.now_us - t->begin_us) / 1e6;

	printf("%-22s %5.0f s  Leases written %4llu, speakers %5.2f/s, reads %3llu, adverts "
	       "%4.0f/s, "
	       "moves %3llu, dark %3llu ms, two %llu ms, addresses",
	       phase, seconds, (unsigned long long)t->writes, (double)t->renewals / seconds,
	       (unsigned long long)t->reads, (double)t->adverts / seconds,
	       (unsigned long long)t->transitions, (unsigned long long)t->dark_us / 1000,
	       (unsigned long long)t->dual_us / 1000);
	for (unsigned n = 0; n < NODES; n++)
		printf(" %u", load_of(n));
	printf("\n");
}

/* The controller's part: who is candidate, in which order. */
static void place(void)
{
	struct ipam_segment segment = { .interface = "eth1" };
	struct ipam_node nodes[NODES];
	const char *nothing[1] = { NULL };

	base_prefix_parse("192.0.2.0/24", &segment.prefix);
	for (unsigned n = 0; n < NODES; n++)
		nodes[n] = (struct ipam_node){ .name = names[n],
					       .segment_count = 1,
					       .segments = &segment,
					       .selected = true,
					       .ready = true };
	for (unsigned a = 0; a < ADDRESSES; a++)
		fleet.weights[a % ROUTERS]++;
	for (unsigned r = 0; r < ROUTERS; r++) {
		struct ipam_placement placement = { .address = base_address_ipv4(192, 0, 2,
										 (uint8_t)r),
						    .spread = base_hash(&r, sizeof r),
						    .current = nothing,
						    .node_count = NODES,
						    .nodes = nodes };
		struct ipam_candidates candidates;
		struct base_error error;

		if (ipam_place(&placement, &candidates, NULL, &error) != 0)
			abort();
		for (unsigned i = 0; i < NODES; i++)
			fleet.order[r][i] = (uint8_t)candidates.items[i].node;
		nodes[candidates.items[0].node].load += fleet.weights[r];
	}
}

/* Back to the first candidate, five every 200 ms: what the controller orders. */
static void rebalance(unsigned to)
{
	struct virtual_router_event order = { .type = VIRTUAL_ROUTER_EVENT_HANDOVER };
	unsigned ordered = 0;

	order.order.why = BASE_REASON_REBALANCED;
	snprintf(order.order.node, sizeof order.order.node, "%s", names[to]);
	for (unsigned r = 0; r < ROUTERS; r++) {
		if (fleet.order[r][0] != to)
			continue;
		for (unsigned n = 0; n < NODES; n++)
			if (virtual_router_owns(&fleet.nodes[n].replicas[r].core) &&
			    fleet.nodes[n].powered)
				feed(n, r, &order);
		if (++ordered % 5 == 0)
			run_until(fleet.now_us + 200 * BASE_USEC_PER_MSEC);
	}
}

/* The most and the least of those that run may differ by so many addresses. */
static bool is_spread(unsigned difference)
{
	unsigned most = 0, least = ADDRESSES, sum = 0;

	for (unsigned n = 0; n < NODES; n++) {
		unsigned load = load_of(n);

		sum += load;
		if (!fleet.nodes[n].powered)
			continue;
		most = load > most ? load : most;
		least = load < least ? load : least;
	}
	return sum == ADDRESSES && most - least <= difference;
}

static void rest(const char *phase, uint64_t duration_us)
{
	begin();
	run_until(fleet.now_us + duration_us);
	tell(phase);
	check(fleet.tally.writes == 0, "a Lease was written at rest");
	check(fleet.tally.reads == 0, "something was read at rest");
	check(fleet.tally.renewals <= 5 * duration_us / SECOND,
	      "more than 5 writes a second at rest");
	check(fleet.tally.transitions == 0, "something moved at rest");
	check(fleet.tally.dark_us == 0, "an address was dark at rest");
}

int main(int argc, char **argv)
{
	unsigned lost = 2, had = 0;

	fleet.random.state = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	fleet.now_us = 10 * SECOND;
	place();
	for (unsigned r = 0; r < ROUTERS; r++)
		fleet.leases[r].holder = fleet.leases[r].successor = NOBODY;
	begin();
	for (unsigned n = 0; n < NODES; n++) {
		power(n, true);
		run_until(fleet.now_us + 3 * BASE_USEC_PER_MSEC);
	}
	run_until(fleet.now_us + 5 * SECOND);
	tell("cold start");
	check(is_spread(8), "the addresses are not spread, or not all served");
	rest("rest", 20 * SECOND);

	for (unsigned r = 0; r < ROUTERS; r++)
		had += answers(lost, r);
	begin();
	power(lost, false);
	run_until(fleet.now_us + 5 * SECOND);
	tell("one node lost");
	check(fleet.tally.dark_us <= 300 * BASE_USEC_PER_MSEC,
	      "an address of it was dark for more than 300 ms");
	check(fleet.tally.dual_us <= 1 * BASE_USEC_PER_MSEC, "two nodes answered");
	check(fleet.tally.transitions == had, "not just what it had has moved");
	check(is_spread(100), "what it had did not spread over the others");
	rest("rest of four", 20 * SECOND);

	begin();
	power(lost, true);
	run_until(fleet.now_us + 5 * SECOND);
	tell("it returns");
	check(fleet.tally.transitions == 0, "its return moved something");
	begin();
	rebalance(lost);
	run_until(fleet.now_us + 5 * SECOND);
	tell("rebalanced");
	check(fleet.tally.dark_us == 0, "a handover left an address dark");
	check(fleet.tally.dual_us <= 1 * BASE_USEC_PER_MSEC, "two nodes answered in a handover");
	check(is_spread(8), "not as spread as before");
	rest("rest", 20 * SECOND);
	printf("%s %u addresses, %d routers, %d nodes\n", fleet.failed ? "FAILED" : "PASSED",
	       ADDRESSES, ROUTERS, NODES);
	return fleet.failed ? 1 : 0;
}
