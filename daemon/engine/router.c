#include "daemon/engine/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/engine/fault.h"
#include "daemon/engine/node.h"
#include "daemon/engine/router_holder.h"
#include "daemon/engine/router_lease.h"
#include "daemon/engine/segment.h"
#include "daemon/log.h"

/*
 * First announcements after a takeover: soon once more, for those of two owners that crossed on the
 * wire, and past the 1 s in which Linux ignores a second update.
 */
static const uint64_t announce_times_us[ROUTER_ANNOUNCE_TIMES] = {
	0,
	5 * BASE_USEC_PER_MSEC,
	50 * BASE_USEC_PER_MSEC,
	1100 * BASE_USEC_PER_MSEC,
	5000 * BASE_USEC_PER_MSEC,
};
#define ANNOUNCE_REFRESH_US (60 * BASE_USEC_PER_SEC)

static int family_index(const struct router *router)
{
	return router->wish.family == BASE_FAMILY_IPV6;
}

/*
 * An owner's adverts leave at the sixteenths of their interval, all that are due together: one
 * wake-up for the sender, and one for each who hears them. The core counts on from when an advert was
 * due, so none is later than that, and the interval stays what it is.
 */
static uint64_t aligned(const struct router *router, uint64_t deadline_us)
{
	uint64_t step_us = router->core.config.interval_us / 16;

	if (router->core.vrrp.state != VRRP_STATE_ACTIVE || step_us == 0 ||
	    deadline_us != vrrp_router_deadline(&router->core.vrrp))
		return deadline_us;
	return (deadline_us + step_us - 1) / step_us * step_us;
}

/* What is owned is kept alive before more is taken: hundreds may be due at once. */
static struct timers *timers_of(const struct router *router)
{
	return router->core.vrrp.state == VRRP_STATE_ACTIVE ? router->engine->owner_timers
							    : router->engine->backup_timers;
}

static void arm(struct router *router)
{
	uint64_t deadline_us = virtual_router_deadline(&router->core);
	struct timers *timers = timers_of(router);

	if (deadline_us != BASE_USEC_NEVER)
		deadline_us = aligned(router, deadline_us);
	if (router->timers && router->timers != timers)
		timers_set(router->timers, &router->timer, BASE_USEC_NEVER);
	router->timers = timers;
	timers_set(timers, &router->timer, deadline_us);
}

void router_set_timer(struct router *router, struct timer *timer, uint64_t due_us)
{
	timers_set(router->engine->other_timers, timer, due_us);
}

void router_start_announcing(struct router *router)
{
	router->announced = 0;
	router_set_timer(router, &router->announce_timer, engine_now(router->engine));
}

static void on_announce(struct timer *timer, uint64_t due_us)
{
	struct router *router = TIMER_ITEM(timer, struct router, announce_timer);
	/* Each at a time of its own: thousands that were taken at once would all be told of at once, again and again. */
	uint64_t wait = ANNOUNCE_REFRESH_US / 2 +
			ANNOUNCE_REFRESH_US * router->wish.virtual_router_id / 256;
	uint64_t now_us = engine_now(router->engine);

	if (!virtual_router_owns(&router->core) || !router->segment)
		return;
	router_announce(router);
	/* Thousands at once are late: whoever was told of goes behind those that nobody knows of yet. */
	if (router->announced < ROUTER_ANNOUNCE_TIMES)
		due_us = now_us + base_usec_since(now_us, due_us);
	if (router->announced < ROUTER_ANNOUNCE_TIMES)
		router->announced++;
	if (router->announced < ROUTER_ANNOUNCE_TIMES)
		wait = announce_times_us[router->announced] -
		       announce_times_us[router->announced - 1];
	router_set_timer(router, timer, due_us + wait);
}

static void end_lingering(struct router *router)
{
	router_set_timer(router, &router->linger_timer, BASE_USEC_NEVER);
	router->lingering = false;
}

static void add_addresses(struct router *router)
{
	int r;

	end_lingering(router);
	if (!router->segment)
		return;
	r = engine_addresses_add(router);
	router->addresses_added = r >= 0;
	if (r < 0) {
		router->refused_us = engine_now(router->engine); /* looked at after this round */
		engine_cluster_changed(router->engine);
	}
	if (r >= 0)
		engine_addresses_wait(router->engine, router->wish.addresses,
				      router->wish.address_count);
	if (r < 0) {
		char number[16];

		snprintf(number, sizeof number, "%d", -r);
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED,
			 LOG_FIELDS({ "LEASE", router->wish.name },
				    { "INTERFACE", router->segment->name }, { "ERRNO", number }),
			 "cannot add the addresses of %s to %s: %s", router->wish.name,
			 router->segment->name, strerror(-r));
	}
}

static void remove_addresses(struct router *router)
{
	end_lingering(router);
	router_set_timer(router, &router->announce_timer, BASE_USEC_NEVER);
	if (router->segment && router->addresses_added)
		engine_addresses_remove(router->engine, router->segment, router->wish.addresses,
					router->wish.address_count);
	router->addresses_added = false;
	if (router->listening)
		router_ignore(router);
}

static void on_linger_end(struct timer *timer, uint64_t due_us)
{
	struct router *router = TIMER_ITEM(timer, struct router, linger_timer);

	(void)due_us;
	remove_addresses(router);
	if (router->released)
		engine_router_released(router->engine);
}

static void linger(struct router *router, uint64_t now_us)
{
	router_set_timer(router, &router->announce_timer, BASE_USEC_NEVER);
	engine_linger(router);
	router->lingering = true;
	router_set_timer(router, &router->linger_timer, now_us + NFT_GRACE_MS * BASE_USEC_PER_MSEC);
}

static void apply(struct router *router, const struct virtual_router_action *action,
		  uint64_t now_us)
{
	switch (action->type) {
	case VIRTUAL_ROUTER_ACTION_SEND_ADVERT:
		if (action->first)
			router->sent_us = engine_now(router->engine);
		if (router->segment)
			engine_send_advert(router, action->priority);
		return;
	case VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES:
		add_addresses(router);
		return;
	case VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES:
		remove_addresses(router);
		return;
	case VIRTUAL_ROUTER_ACTION_CLOSE_FENCE:
		engine_close_fence(router);
		return;
	case VIRTUAL_ROUTER_ACTION_LINGER:
		linger(router, now_us);
		return;
	case VIRTUAL_ROUTER_ACTION_ANNOUNCE:
		router_start_announcing(router);
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_WITNESSES:
		engine_ask_witnesses(router, now_us);
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_MEMBERS:
		engine_ask_candidates(router, now_us);
		return;
	case VIRTUAL_ROUTER_ACTION_PROBE_ADDRESSES:
		router_probe_addresses(router, now_us);
		return;
	case VIRTUAL_ROUTER_ACTION_LEASE_WRITE:
		router_lease_write(router, action);
		return;
	case VIRTUAL_ROUTER_ACTION_LEASE_READ:
		router_lease_read(router);
		return;
	case VIRTUAL_ROUTER_ACTION_DISBELIEVE:
		engine_note_disbelieved(router, action->transition.from, action->transition.message);
		return;
	case VIRTUAL_ROUTER_ACTION_TRANSITION:
		router_tell_transition(router, action);
		return;
	case VIRTUAL_ROUTER_ACTION_RELEASED:
		router->released = true;
		return;
	}
}

static void apply_all(struct router *router, const struct virtual_router_actions *actions,
		      bool routine, uint64_t now_us)
{
	bool was_released = router->released;

	for (unsigned i = 0; i < actions->count; i++) {
		routine &= actions->items[i].type == VIRTUAL_ROUTER_ACTION_SEND_ADVERT;
		apply(router, &actions->items[i], now_us);
	}
	arm(router);
	if (router->core.elector.speaker != ELECTION_NOBODY)
		router->conflict = false; /* a member has it after all */
	if (routine)
		router_report_routine(router);
	else
		router_report(router);
	if (router->released && !was_released)
		engine_router_released(router->engine);
}

void router_adopt(struct router *router, uint64_t open_us)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ADOPT,
					      .now_us = engine_now(router->engine) };

	/* Open then means an advert 2.5 intervals ago at the most; others wait more than 3. */
	if (base_usec_since(event.now_us, open_us) < router->core.config.interval_us / 2)
		router_feed(router, &event);
}

void router_feed(struct router *router, struct virtual_router_event *event)
{
	struct virtual_router_actions actions;

	if (router->frozen) {
		fault_missed(router->engine->fault, event);
		return;
	}
	if (event->late_us > router->late_us)
		router->late_us = event->late_us;
	virtual_router_step(&router->core, event, &actions);
	apply_all(router, &actions,
		  event->type == VIRTUAL_ROUTER_EVENT_TIMER ||
			  event->type == VIRTUAL_ROUTER_EVENT_ADVERT,
		  event->now_us);
}

static void on_timer(struct timer *timer, uint64_t due_us)
{
	struct router *router = TIMER_ITEM(timer, struct router, timer);
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_TIMER };

	event.now_us = engine_now(router->engine);
	event.late_us = base_usec_since(event.now_us, due_us);
	router_feed(router, &event);
}

/* What must not expire is renewed. A thousand addresses of one node are a matter of a tenth of a second, so one by one. */
static void on_refresh(struct timer *timer, uint64_t due_us)
{
	struct router *router = TIMER_ITEM(timer, struct router, refresh_timer);

	(void)due_us;
	router_set_timer(router, timer, engine_now(router->engine) + ENGINE_REFRESH_US);
	if (!router->engine->synced)
		return;
	if (virtual_router_owns(&router->core) && router->segment)
		engine_addresses_renew(router);
	router_review(router);
	router_report(router);
}

/* Its own is one of the owners' or of the backups', so there is room for it among both. */
#define OWNER_TIMERS  1
#define BACKUP_TIMERS 2
#define OTHER_TIMERS  4

static void release_timers(struct engine *engine)
{
	timers_release(engine->owner_timers, OWNER_TIMERS);
	timers_release(engine->backup_timers, BACKUP_TIMERS);
	timers_release(engine->other_timers, OTHER_TIMERS);
}

/* Out of memory, some may be reserved that nobody uses: a few bytes. */
static bool reserve_timers(struct engine *engine)
{
	return timers_reserve(engine->owner_timers, OWNER_TIMERS) >= 0 &&
	       timers_reserve(engine->backup_timers, BACKUP_TIMERS) >= 0 &&
	       timers_reserve(engine->other_timers, OTHER_TIMERS) >= 0;
}

static void stop_timers(struct router *router)
{
	if (router->timers)
		timers_set(router->timers, &router->timer, BASE_USEC_NEVER);
	timers_set(router->engine->backup_timers, &router->witness_timer, BASE_USEC_NEVER);
	router_set_timer(router, &router->announce_timer, BASE_USEC_NEVER);
	router_set_timer(router, &router->refresh_timer, BASE_USEC_NEVER);
	router_set_timer(router, &router->probe_timer, BASE_USEC_NEVER);
	router_set_timer(router, &router->linger_timer, BASE_USEC_NEVER);
}

void router_freeze(struct router *router)
{
	stop_timers(router);
	router->frozen = true;
}

void router_thaw(struct router *router, uint64_t held_us)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_TIMER,
					      .now_us = engine_now(router->engine),
					      .late_us = held_us };

	router->frozen = false;
	router_feed(router, &event);
}

static void attach(struct router *router, struct segment *segment)
{
	int family = family_index(router);

	if (router->segment == segment)
		return;
	if (router->segment) {
		remove_addresses(router);
		if (router->segment->routers[family][router->wish.virtual_router_id] == router)
			router->segment->routers[family][router->wish.virtual_router_id] = NULL;
		router->segment->router_count--;
	}
	router->segment = segment;
	router->looked_at = 0;
	engine_rules_segment_changed(router);
	if (!segment)
		return;
	if (segment->routers[family][router->wish.virtual_router_id]) {
		log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION,
			 LOG_FIELDS({ "LEASE", router->wish.name }, { "INTERFACE", segment->name }),
			 "%s and %s both want virtual router ID %u on %s; the second is not served",
			 segment->routers[family][router->wish.virtual_router_id]->wish.name,
			 router->wish.name, router->wish.virtual_router_id, segment->name);
		router->segment = NULL;
		return;
	}
	segment->routers[family][router->wish.virtual_router_id] = router;
	segment->router_count++;
}

void router_mac_changed(struct router *router)
{
	if (virtual_router_owns(&router->core))
		router_start_announcing(router);
}

void router_segment_gone(struct router *router)
{
	attach(router, NULL);
}

static bool has_rules(const struct router *router)
{
	return engine_fence_ready(router->engine) && router->rules_present && !router->rules_refused;
}

void router_review(struct router *router)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_ELIGIBLE };
	enum base_reason why = BASE_REASON_NONE;
	struct segment *segment = segment_find(router->engine, &router->wish, &why);

	if (router->frozen)
		return;
	attach(router, segment);
	if (!router->segment && why == BASE_REASON_NONE)
		why = BASE_REASON_INVALID_CONFIGURATION;
	if (why == BASE_REASON_NONE && !has_rules(router)) {
		if (router->engine->rules_present ? !router->rules_refused : !router->engine->rules_message[0])
			return; /* they are on their way: not before they are there, and no refusal */
		why = BASE_REASON_KERNEL_REFUSED;
	}
	if (why == BASE_REASON_NONE && router->refused_us &&
	    base_usec_since(engine_now(router->engine), router->refused_us) < ENGINE_REFUSED_US)
		why = BASE_REASON_KERNEL_REFUSED;
	if (why == BASE_REASON_NONE && family_index(router) &&
	    segment_link_local(segment).family == BASE_FAMILY_NONE)
		why = BASE_REASON_NOT_ON_SEGMENT;
	if (router->eligible == (why == BASE_REASON_NONE) && router->not_eligible_why == why)
		return;
	router->eligible = why == BASE_REASON_NONE;
	router->not_eligible_why = why;
	event.now_us = engine_now(router->engine);
	event.eligible.eligible = router->eligible;
	event.eligible.why = why;
	router_feed(router, &event);
}

/* Takes down what left the router; what stays is not touched. */
static void change_wish(struct router *router, struct router_wish *wish)
{
	struct router_wish old = router->wish;
	bool same_addresses =
		wish->address_count == old.address_count &&
		memcmp(wish->addresses, old.addresses,
		       wish->address_count * sizeof wish->addresses[0]) == 0;

	if (wish->virtual_router_id != old.virtual_router_id || wish->family != old.family)
		attach(router, NULL);
	if (!same_addresses && router->addresses_added)
		engine_addresses_replace(router, wish);
	router->wish = *wish;
	router->looked_at = 0;
	if (!same_addresses && virtual_router_owns(&router->core)) {
		add_addresses(router);
		router_start_announcing(router);
	}
	if (wish->virtual_mac != old.virtual_mac) {
		router_say_virtual_mac(router);
		if (virtual_router_owns(&router->core) && router->segment)
			router_listen(router); /* it is announced when the rules stand */
	}
	router_wish_free(&old);
}

void router_configure(struct router *router, const struct message_router *message)
{
	struct virtual_router_actions actions = { 0 };
	struct election_peer *before = router->core.config.peers;
	struct virtual_router_config config;
	struct router_wish wish;
	uint64_t now_us = engine_now(router->engine);

	if (router->frozen)
		return;
	if (message) {
		if (!router_wish_make(&wish, message))
			return;
		change_wish(router, &wish);
	}
	attach(router, segment_find(router->engine, &router->wish, &(enum base_reason){ 0 }));
	router_make_config(router, &config);
	if (!router_make_candidates(router, message, &config))
		return;
	virtual_router_configure(&router->core, &config, now_us, &actions);
	free(before);
	apply_all(router, &actions, false, now_us);
	router_review(router);
}

struct router *router_new(struct engine *engine, const struct message_router *message)
{
	struct router *router = calloc(1, sizeof *router);
	struct virtual_router_config config;
	uint64_t now_us = engine_now(engine);

	if (!router)
		return NULL;
	router->engine = engine;
	router->since_us = now_us;
	router->not_eligible_why = BASE_REASON_COUNT; /* nothing was said yet */
	router->timer.fire = on_timer;
	router->announce_timer.fire = on_announce;
	router->probe_timer.fire = router_probe_end;
	router->linger_timer.fire = on_linger_end;
	router->refresh_timer.fire = on_refresh;
	router->witness_timer.fire = router_tell_witnesses;
	if (!router_wish_make(&router->wish, message) || !reserve_timers(engine)) {
		router_wish_free(&router->wish);
		free(router);
		return NULL;
	}
	router_say_virtual_mac(router);
	attach(router, segment_find(engine, &router->wish, &(enum base_reason){ 0 }));
	router_make_config(router, &config);
	if (!router_make_candidates(router, message, &config)) {
		attach(router, NULL);
		release_timers(engine);
		router_wish_free(&router->wish);
		free(config.peers);
		free(router);
		return NULL;
	}
	virtual_router_init(&router->core, &config, now_us,
			    base_hash(router->wish.name, strlen(router->wish.name)) ^
				    base_hash(engine->node, strlen(engine->node)) ^
				    (router->segment ? base_hash(&router->segment->mac,
								 sizeof router->segment->mac)
						     : 0)); /* two clusters may be named alike */
	arm(router);
	router_set_timer(router, &router->refresh_timer, now_us + ENGINE_REFRESH_US);
	return router;
}

void router_free(struct router *router)
{
	if (!router)
		return;
	if (router->segment && (virtual_router_owns(&router->core) || router->lingering)) {
		engine_close_fence(router);
		/* The others forget it too, or take over after the silence: nobody is called to. */
		if (router->engine->stopping)
			engine_send_advert(router, 0);
	}
	attach(router, NULL);
	stop_timers(router);
	release_timers(router->engine);
	router_wish_free(&router->wish);
	free(router->core.config.peers);
	free(router);
}
