#include "daemon/engine/core/virtual_router.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/core/virtual_router_names.h"
#include "daemon/engine/core/virtual_router_story.h"

static void run_election(struct virtual_router *router, const struct election_event *event,
			 struct virtual_router_actions *actions);

static struct virtual_router_action *add(struct virtual_router_actions *actions,
					 enum virtual_router_action_type type)
{
	struct virtual_router_action *action =
		actions->count < VIRTUAL_ROUTER_ACTIONS_MAX
			? &actions->items[actions->count++]
			: &actions->items[VIRTUAL_ROUTER_ACTIONS_MAX - 1];

	memset(action, 0, sizeof *action);
	action->type = type;
	return action;
}

static void make_election_config(const struct virtual_router_config *config,
				 struct election_config *election)
{
	*election = (struct election_config){
		.candidate_count = config->candidate_count,
		.peers = config->peers,
		.self = virtual_router_index(config, config->node),
		.leased = config->leased,
		.excluded = config->excluded,
		.excluded_why = config->excluded_why,
		.interval_us = config->interval_us,
		.lease_duration_ms = config->lease_duration_ms,
	};
	for (unsigned i = 0; i < config->candidate_count; i++)
		election->priorities[i] = config->candidates[i].priority;
	if (election->self == ELECTION_FORMER)
		election->self = ELECTION_NOBODY;
}

/*
 * In Active the priority is what peers see; in Backup it makes our skew. By rank, not by the
 * configured number: the best of the others waits hardly longer than 3 intervals whatever it is
 * called, and the next one a quarter of an interval longer (ELECTION_TURN): without a Lease nothing
 * else keeps two from taking it at once, and a busy machine may be late by 12 ms.
 */
static uint8_t vrrp_priority(const struct virtual_router *router)
{
	unsigned rank = election_elector_rank(&router->elector);

	if (election_elector_owns(&router->elector))
		return election_elector_wire_priority(&router->elector);
	return rank < 4 ? (uint8_t)(254 - 64 * rank) : 1;
}

static void configure_vrrp(struct virtual_router *router)
{
	const struct virtual_router_config *config = &router->config;
	struct vrrp_router_config vrrp = {
		.version = config->version,
		.virtual_router_id = config->virtual_router_id,
		.priority = vrrp_priority(router),
		.interval_us = config->interval_us,
		.arbitrated = true,
		.source = config->source,
	};

	vrrp_router_configure(&router->vrrp, &vrrp);
}

static void run_vrrp(struct virtual_router *router, const struct vrrp_event *event,
		     struct virtual_router_actions *actions)
{
	struct election_event told = { .now_us = event->now_us };
	struct vrrp_actions wishes;

	vrrp_router_step(&router->vrrp, event, &wishes);
	for (unsigned i = 0; i < wishes.count; i++) {
		switch (wishes.items[i].type) {
		case VRRP_ACTION_SEND_ADVERT:
			add(actions, VIRTUAL_ROUTER_ACTION_SEND_ADVERT)->priority =
				wishes.items[i].priority;
			break;
		case VRRP_ACTION_ACTIVE:
		case VRRP_ACTION_BACKUP:
		case VRRP_ACTION_CONTEST:
			break; /* the elector said so itself, or hears the advert itself */
		case VRRP_ACTION_MISSED:
			told.type = ELECTION_EVENT_MISSED;
			run_election(router, &told, actions);
			break;
		case VRRP_ACTION_SUSPECT:
			told.type = ELECTION_EVENT_SUSPECT;
			run_election(router, &told, actions);
			break;
		case VRRP_ACTION_CLAIM:
			told.type = ELECTION_EVENT_SILENCE;
			run_election(router, &told, actions);
			break;
		}
	}
}

static void add_write(struct virtual_router *router, const struct election_action *wish,
		      struct virtual_router_actions *actions)
{
	struct virtual_router_action *action = add(actions, VIRTUAL_ROUTER_ACTION_LEASE_WRITE);

	action->write.id = ++router->write_id;
	if (router->lease.exists)
		snprintf(action->write.expected_version, sizeof action->write.expected_version,
			 "%s", router->lease.version);
	virtual_router_name_lease(router, &wish->lease, &action->write.lease);
}

/*
 * Address in, fence open, announce: rule 12. Our first advert makes who left it stop, so the address is in by then. Where
 * nobody has it the advert goes first: the kernel may let us wait for the address, and the next one in turn must hear of us.
 */
static void activate(struct virtual_router *router, bool planned,
		     struct virtual_router_actions *actions, uint64_t now_us)
{
	struct vrrp_event vrrp = { .type = VRRP_EVENT_ACTIVATE, .now_us = now_us };
	unsigned advert;

	configure_vrrp(router);
	if (planned)
		add(actions, VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES);
	advert = actions->count;
	run_vrrp(router, &vrrp, actions);
	actions->items[advert].first = true;
	if (!planned)
		add(actions, VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES);
	add(actions, VIRTUAL_ROUTER_ACTION_ANNOUNCE);
}

static void apply(struct virtual_router *router, const struct election_action *wish,
		  struct virtual_router_actions *actions, uint64_t now_us)
{
	struct vrrp_event vrrp = { .now_us = now_us };

	switch (wish->type) {
	case ELECTION_ACTION_ACTIVATE:
		activate(router, wish->planned, actions, now_us);
		return;
	case ELECTION_ACTION_ANSWER:
		add(actions, VIRTUAL_ROUTER_ACTION_SEND_ADVERT)->priority =
			router->vrrp.config.priority;
		return;
	case ELECTION_ACTION_YIELD:
		add(actions, VIRTUAL_ROUTER_ACTION_CLOSE_FENCE);
		vrrp.type = VRRP_EVENT_YIELD;
		run_vrrp(router, &vrrp, actions);
		add(actions, VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES);
		configure_vrrp(router);
		return;
	case ELECTION_ACTION_RESIGN: /* the priority 0 advert closes the fence on its way out */
		if (wish->planned) { /* rule 10: open as long as can be, until the next is heard */
			add(actions, VIRTUAL_ROUTER_ACTION_SEND_ADVERT)->priority =
				router->vrrp.config.priority;
			add(actions, VIRTUAL_ROUTER_ACTION_LINGER);
		}
		vrrp.type = VRRP_EVENT_RESIGN;
		run_vrrp(router, &vrrp, actions);
		if (!wish->planned) {
			add(actions, VIRTUAL_ROUTER_ACTION_CLOSE_FENCE);
			add(actions, VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES);
		}
		configure_vrrp(router);
		return;
	case ELECTION_ACTION_LISTEN:
		vrrp.type = VRRP_EVENT_LISTEN;
		run_vrrp(router, &vrrp, actions);
		return;
	case ELECTION_ACTION_PRIORITY:
		configure_vrrp(router);
		return;
	case ELECTION_ACTION_ANNOUNCE:
		add(actions, VIRTUAL_ROUTER_ACTION_ANNOUNCE);
		return;
	case ELECTION_ACTION_WRITE:
		add_write(router, wish, actions);
		return;
	case ELECTION_ACTION_READ:
		add(actions, VIRTUAL_ROUTER_ACTION_LEASE_READ);
		return;
	case ELECTION_ACTION_PROBE_WITNESSES:
		add(actions, VIRTUAL_ROUTER_ACTION_PROBE_WITNESSES);
		return;
	case ELECTION_ACTION_PROBE_MEMBERS:
		add(actions, VIRTUAL_ROUTER_ACTION_PROBE_MEMBERS);
		return;
	case ELECTION_ACTION_PROBE_ADDRESSES:
		add(actions, VIRTUAL_ROUTER_ACTION_PROBE_ADDRESSES);
		return;
	case ELECTION_ACTION_RESIGNED:
		vrrp.type = VRRP_EVENT_ADVERT; /* as if it were heard now: priority 0 */
		run_vrrp(router, &vrrp, actions);
		return;
	case ELECTION_ACTION_DISBELIEVE:
		virtual_router_tell_disbelieved(router, wish,
						add(actions, VIRTUAL_ROUTER_ACTION_DISBELIEVE));
		return;
	case ELECTION_ACTION_TRANSITION:
		virtual_router_tell_transition(router, wish, now_us,
					       add(actions, VIRTUAL_ROUTER_ACTION_TRANSITION));
		return;
	case ELECTION_ACTION_RELEASED:
		vrrp.type = VRRP_EVENT_SHUTDOWN; /* it is a backup by now, so nothing is said */
		run_vrrp(router, &vrrp, actions);
		router->released = true;
		add(actions, VIRTUAL_ROUTER_ACTION_RELEASED);
		return;
	}
}

static void apply_all(struct virtual_router *router, const struct election_actions *wishes,
		      struct virtual_router_actions *actions, uint64_t now_us)
{
	for (unsigned i = 0; i < wishes->count; i++)
		apply(router, &wishes->items[i], actions, now_us);
}

static void run_election(struct virtual_router *router, const struct election_event *event,
			 struct virtual_router_actions *actions)
{
	struct election_actions wishes;

	election_elector_step(&router->elector, event, &wishes);
	apply_all(router, &wishes, actions, event->now_us);
}

void virtual_router_init(struct virtual_router *router, const struct virtual_router_config *config,
			 uint64_t now_us, uint64_t random_seed)
{
	struct vrrp_event startup = { .type = VRRP_EVENT_STARTUP, .now_us = now_us };
	struct election_config election;
	struct vrrp_actions none;

	memset(router, 0, sizeof *router);
	memcpy(&router->config, config, sizeof *config);
	make_election_config(config, &election);
	router->self = election.self;
	election_elector_init(&router->elector, &election, now_us, random_seed);
	configure_vrrp(router);
	vrrp_router_init(&router->vrrp, &(struct vrrp_router_config){
						.version = config->version,
						.virtual_router_id = config->virtual_router_id,
						.priority = router->vrrp.config.priority,
						.interval_us = config->interval_us,
						.arbitrated = true,
						.source = config->source,
					});
	vrrp_router_step(&router->vrrp, &startup, &none);
}

static bool same_config(const struct virtual_router_config *a, const struct virtual_router_config *b)
{
	struct virtual_router_config copy;

	memcpy(&copy, a, sizeof copy);
	copy.candidates = b->candidates;
	copy.peers = b->peers;
	return memcmp(&copy, b, sizeof copy) == 0 &&
	       memcmp(a->candidates, b->candidates, a->candidate_count * sizeof *a->candidates) == 0;
}

void virtual_router_configure(struct virtual_router *router,
			      const struct virtual_router_config *config, uint64_t now_us,
			      struct virtual_router_actions *actions)
{
	uint8_t moved[ELECTION_CANDIDATES_MAX];
	struct election_actions wishes;
	struct election_config election;
	struct election_lease lease;

	actions->count = 0;
	if (same_config(&router->config, config)) {
		memcpy(config->peers, router->config.peers,
		       config->candidate_count * sizeof *config->peers);
		router->config.candidates = config->candidates;
		router->config.peers = router->elector.config.peers = config->peers;
		return;
	}
	make_election_config(config, &election);
	virtual_router_map_candidates(&router->config, config, moved);
	memcpy(&router->config, config, sizeof *config);
	router->self = election.self;
	lease = virtual_router_index_lease(router, &router->lease);
	election_elector_configure(&router->elector, &election, moved, &lease, now_us, &wishes);
	apply_all(router, &wishes, actions, now_us);
	configure_vrrp(router);
}

/* Nothing leaves any more, late or not: that is why it gives up, and gives up no less by saying so. */
static bool lost_link(const struct virtual_router_event *event)
{
	return event->type == VIRTUAL_ROUTER_EVENT_ELIGIBLE && !event->eligible.eligible &&
	       event->eligible.why == BASE_REASON_LINK_DOWN;
}

/* The loop reads sockets first, so what wakes us may as well be an advert that lay there, as our timer. */
static bool is_late_by(const struct virtual_router *router, const struct virtual_router_event *event,
		       uint64_t patience_us)
{
	return !lost_link(event) &&
	       (event->late_us > patience_us ||
		event->now_us > base_usec_add(virtual_router_deadline(router), patience_us));
}

/*
 * Rule 8. The timer of an active is due one interval after its last advert; its fence lasts 2.5.
 * A backup that wakes late has not yet read what may have come, and an active must not answer an advert
 * that lay there either.
 */
static bool overslept(const struct virtual_router *router, const struct virtual_router_event *event)
{
	return is_late_by(router, event, (uint64_t)router->config.interval_us * 3 / 2);
}

/* Its fence is open still, but if the whole machine stood still somebody may have taken its place. */
static bool dozed(const struct virtual_router *router, const struct virtual_router_event *event)
{
	uint32_t interval_us = router->config.interval_us;

	return virtual_router_owns(router) &&
	       is_late_by(router, event, election_absence_us(interval_us) - interval_us);
}

static void on_overslept(struct virtual_router *router, uint64_t now_us,
			 struct virtual_router_actions *actions)
{
	struct election_event event = { .type = ELECTION_EVENT_OVERSLEPT, .now_us = now_us };

	run_election(router, &event, actions);
}

static void on_timer(struct virtual_router *router, const struct virtual_router_event *event,
		     struct virtual_router_actions *actions)
{
	struct election_event election = { .type = ELECTION_EVENT_TIMER, .now_us = event->now_us };
	struct vrrp_event vrrp = { .type = VRRP_EVENT_TIMER, .now_us = event->now_us };

	run_vrrp(router, &vrrp, actions);
	if (event->now_us >= election_elector_deadline(&router->elector))
		run_election(router, &election, actions);
}

/*
 * As RFC 9568 has it an owner's interval is learned. Where there are Leases it comes from one object
 * for all: another one is not the owner's own and might make us wait for minutes, or is about to
 * change, and until then whoever answers for the address is left alone.
 */
static uint32_t learned_interval(const struct virtual_router *router, uint32_t interval_us)
{
	return router->config.leased ? router->config.interval_us : interval_us;
}

static void on_advert(struct virtual_router *router, const struct virtual_router_event *event,
		      struct virtual_router_actions *actions)
{
	struct vrrp_event vrrp = { .type = VRRP_EVENT_ADVERT, .now_us = event->now_us };
	struct election_event election = { .type = ELECTION_EVENT_HEARD, .now_us = event->now_us };
	bool owned = virtual_router_owns(router), believed;

	election.from = virtual_router_sender(router, &event->advert.source);
	election.priority = event->advert.priority;
	election.address_higher =
		base_address_compare(&event->advert.source, &router->config.source) > 0;
	vrrp.advert.source = event->advert.source;
	vrrp.advert.priority = event->advert.priority;
	vrrp.advert.interval_us = learned_interval(router, event->advert.interval_us);
	/*
	 * Rule 13: what nobody else confirms neither ends our silence nor makes us resign. And only an
	 * owner can resign: an old advert of priority 0 that comes again shortens no silence.
	 */
	believed = election_elector_believes(&router->elector, election.from,
					     event->advert.priority, event->now_us);
	if (believed)
		router->last_heard_us = event->now_us;
	if (believed && !owned)
		run_vrrp(router, &vrrp, actions);
	run_election(router, &election, actions);
	/* Who yields does not answer as an owner first, and waits as a backup of the sender. */
	if (believed && owned)
		run_vrrp(router, &vrrp, actions);
	router->vrrp.config.priority = vrrp_priority(router); /* whom we hear changed, perhaps */
}

static void on_written(struct virtual_router *router, const struct virtual_router_event *event,
		       struct virtual_router_actions *actions)
{
	struct election_event election = { .type = ELECTION_EVENT_WRITTEN,
					   .now_us = event->now_us };

	if (event->write.id != router->write_id)
		return; /* an answer to a write that was given up: what it did is in the Lease */
	switch (event->write.result) {
	case VIRTUAL_ROUTER_WRITE_OK:
		election.result = ELECTION_RESULT_OK;
		/* Unless what we wrote was deleted, and we heard of that before the answer. */
		if (router->lease.exists || !router->newest ||
		    virtual_router_lease_version(&event->write.lease) != router->newest)
			virtual_router_accept_lease(router, &event->write.lease);
		election.lease = virtual_router_index_lease(router, &router->lease);
		break;
	case VIRTUAL_ROUTER_WRITE_CONFLICT:
		election.result = ELECTION_RESULT_CONFLICT;
		break;
	case VIRTUAL_ROUTER_WRITE_UNKNOWN:
		election.result = ELECTION_RESULT_UNKNOWN;
		break;
	case VIRTUAL_ROUTER_WRITE_REFUSED:
		election.result = ELECTION_RESULT_REFUSED;
		break;
	}
	run_election(router, &election, actions);
}

void virtual_router_step(struct virtual_router *router, const struct virtual_router_event *event,
			 struct virtual_router_actions *actions)
{
	struct election_event election = { .now_us = event->now_us };

	actions->count = 0;
	if (router->released)
		return;
	if (overslept(router, event)) {
		on_overslept(router, event->now_us, actions);
		if (event->type == VIRTUAL_ROUTER_EVENT_TIMER)
			return;
	} else if (dozed(router, event)) {
		election.type = ELECTION_EVENT_DOZED;
		run_election(router, &election, actions);
	}
	switch (event->type) {
	case VIRTUAL_ROUTER_EVENT_TIMER:
		on_timer(router, event, actions);
		return;
	case VIRTUAL_ROUTER_EVENT_ADVERT:
		on_advert(router, event, actions);
		return;
	case VIRTUAL_ROUTER_EVENT_LEASE_RESULT:
		on_written(router, event, actions);
		return;
	case VIRTUAL_ROUTER_EVENT_ELIGIBLE:
		election.type = ELECTION_EVENT_ELIGIBLE;
		election.eligible = event->eligible.eligible;
		election.why = event->eligible.why;
		break;
	case VIRTUAL_ROUTER_EVENT_WITNESSES:
		election.type = ELECTION_EVENT_WITNESSES;
		election.witnesses = event->witnesses.reachable;
		election.answering = event->witnesses.answering;
		election.missing = event->witnesses.missing;
		election.gateway_known = event->witnesses.gateway_known;
		election.gateway_reachable = event->witnesses.gateway_reachable;
		break;
	case VIRTUAL_ROUTER_EVENT_ADDRESS_FREE:
		election.type = ELECTION_EVENT_ADDRESS_FREE;
		break;
	case VIRTUAL_ROUTER_EVENT_ADDRESS_TAKEN:
		election.type = ELECTION_EVENT_ADDRESS_TAKEN;
		election.address_higher = event->higher;
		break;
	case VIRTUAL_ROUTER_EVENT_ADDRESS_HELD:
		election.type = ELECTION_EVENT_HELD;
		election.from = virtual_router_sender(router, &event->advert.source);
		break;
	case VIRTUAL_ROUTER_EVENT_LEASE:
		if (!virtual_router_accept_lease(router, &event->lease))
			return;
		election.type = ELECTION_EVENT_LEASE;
		election.lease = virtual_router_index_lease(router, &event->lease);
		break;
	case VIRTUAL_ROUTER_EVENT_RENEWED:
		if (!router->lease.holder[0] || strcmp(router->lease.holder, event->node) != 0)
			return;
		election.type = ELECTION_EVENT_RENEWED;
		break;
	case VIRTUAL_ROUTER_EVENT_API_CONTACT:
		election.type = ELECTION_EVENT_API;
		election.reachable = event->reachable;
		break;
	case VIRTUAL_ROUTER_EVENT_HANDOVER:
		election.type = ELECTION_EVENT_HANDOVER;
		election.to = virtual_router_index(&router->config, event->order.node);
		election.why = event->order.why;
		break;
	case VIRTUAL_ROUTER_EVENT_RELEASE:
		election.type = ELECTION_EVENT_RELEASE;
		break;
	case VIRTUAL_ROUTER_EVENT_ADOPT:
		election.type = ELECTION_EVENT_ADOPT;
		break;
	}
	run_election(router, &election, actions);
}

uint64_t virtual_router_deadline(const struct virtual_router *router)
{
	return base_usec_earlier(vrrp_router_deadline(&router->vrrp),
				 election_elector_deadline(&router->elector));
}

enum virtual_router_state virtual_router_state(const struct virtual_router *router)
{
	switch (router->elector.state) {
	case ELECTION_STATE_STARTING:
		return VIRTUAL_ROUTER_STATE_PENDING;
	case ELECTION_STATE_FOLLOWING:
	case ELECTION_STATE_PROBING:
		return VIRTUAL_ROUTER_STATE_BACKUP;
	case ELECTION_STATE_CLAIMING:
		return VIRTUAL_ROUTER_STATE_CLAIMING;
	case ELECTION_STATE_OWNING:
		return VIRTUAL_ROUTER_STATE_ACTIVE;
	case ELECTION_STATE_MOVING:
	case ELECTION_STATE_LEAVING:
		return VIRTUAL_ROUTER_STATE_MOVING;
	case ELECTION_STATE_CONFLICT:
		return VIRTUAL_ROUTER_STATE_CONFLICT;
	case ELECTION_STATE_RELEASING:
	case ELECTION_STATE_RELEASED:
		break;
	}
	return VIRTUAL_ROUTER_STATE_RELEASED;
}

bool virtual_router_owns(const struct virtual_router *router)
{
	return election_elector_owns(&router->elector);
}

bool virtual_router_confirmed(const struct virtual_router *router)
{
	return router->elector.confirmed;
}

const char *virtual_router_owner(const struct virtual_router *router)
{
	return virtual_router_node_at(router, election_elector_owner(&router->elector));
}

uint32_t virtual_router_term(const struct virtual_router *router)
{
	return router->elector.lease.term;
}

const char *virtual_router_state_name(enum virtual_router_state state)
{
	static const char *const names[] = {
		[VIRTUAL_ROUTER_STATE_PENDING] = "Pending",
		[VIRTUAL_ROUTER_STATE_BACKUP] = "Backup",
		[VIRTUAL_ROUTER_STATE_CLAIMING] = "Claiming",
		[VIRTUAL_ROUTER_STATE_ACTIVE] = "Active",
		[VIRTUAL_ROUTER_STATE_MOVING] = "Moving",
		[VIRTUAL_ROUTER_STATE_CONFLICT] = "Conflict",
		[VIRTUAL_ROUTER_STATE_RELEASED] = "Released",
	};

	return (unsigned)state <= VIRTUAL_ROUTER_STATE_RELEASED ? names[state] : "Unknown";
}
