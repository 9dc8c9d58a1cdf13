#include <string.h>

#include <systemd/sd-daemon.h>

#include "daemon/engine/balancer.h"
#include "daemon/engine/bridged.h"
#include "daemon/engine/node.h"
#include "daemon/engine/own_names.h"
#include "daemon/engine/realtime.h"
#include "daemon/engine/tracking.h"
#include "daemon/engine/way_back.h"

/*
 * Of its time a review may have a fifth, and so may reading the links anew (8 ms with 4000 addresses, each of which
 * that comes or goes is a change of links), and no wait is longer than that: hundreds of Services that
 * come one after another would keep a processor busy with rules, at realtime priority.
 */
#define REST_FACTOR 4
#define REST_MAX_US (250 * BASE_USEC_PER_MSEC)

/*
 * A link that goes down takes thousands of addresses with it, a third of a second of netlink: what is owned on
 * another one has a fence to keep open meanwhile, and what was on this one shall not take it for its own lateness.
 */
#define TURN_US (10 * BASE_USEC_PER_MSEC)

static void review_soon(struct engine *engine)
{
	sd_event_source_set_time(engine->review, engine->review_rest_us);
	sd_event_source_set_enabled(engine->review, SD_EVENT_ONESHOT);
}

static uint64_t rest_until(struct engine *engine, uint64_t took_us)
{
	uint64_t rest_us = REST_FACTOR * took_us;

	return engine_now(engine) + (rest_us < REST_MAX_US ? rest_us : REST_MAX_US);
}

static void rest(struct engine *engine)
{
	engine->review_rest_us = rest_until(engine, engine->review_took_us);
	engine->review_took_us = 0;
	sd_event_source_set_time(engine->review, engine->review_rest_us); /* if asked for meanwhile */
}

void engine_rules_soon(struct engine *engine)
{
	engine->rules_due = true;
	review_soon(engine);
}

void engine_rules_changed(struct engine *engine)
{
	engine_rules_all(engine);
	engine_rules_soon(engine);
}

void engine_cluster_changed(struct engine *engine)
{
	engine->routers_due = true;
	review_soon(engine);
}

/* Restarted in place: what the kernel answers for goes on, if nobody can have noticed. */
static void adopt(struct engine *engine)
{
	if (!engine->restarted || !engine->rules_present)
		return;
	engine->restarted = false;
	for (struct router *router = engine->routers; router; router = router->next)
		if (engine_fence_open(router))
			router_adopt(router, engine->alive_us);
}

static void configure(struct router *router)
{
	router_configure(router, NULL);
}

/* To each router that this round has not come to yet. False: time is up, and there are more. */
static bool each(struct engine *engine, void (*look)(struct router *router), uint64_t until_us)
{
	for (struct router *router = engine->routers; router; router = router->next) {
		if (router->reviewed == engine->review_round)
			continue;
		router->reviewed = engine->review_round;
		look(router);
		if (router->next && engine_now(engine) >= until_us)
			return false;
	}
	engine->review_round++;
	return true;
}

/* From where the last turn ended. False: time is up, and there is more to do. */
static bool go_on(struct engine *engine, uint64_t until_us)
{
	if (engine->reviewing == ENGINE_REVIEW_NOTHING) {
		engine->reviewing = engine->routers_due ? ENGINE_REVIEW_WISHES : ENGINE_REVIEW_RULES;
		engine->routers_due = false;
	}
	if (engine->reviewing == ENGINE_REVIEW_WISHES) {
		if (!each(engine, configure, until_us))
			return false;
		engine_ask_members(engine);
		engine->reviewing = ENGINE_REVIEW_RULES;
	}
	if (engine->reviewing == ENGINE_REVIEW_RULES) {
		if (engine->restarted)
			engine_fence_read(engine); /* new rules begin with a closed fence */
		if (engine->rules_due)
			engine_rules_apply(engine);
		engine->reviewing = ENGINE_REVIEW_ELIGIBILITY;
	}
	if (!each(engine, router_review, until_us))
		return false;
	engine->reviewing = ENGINE_REVIEW_NOTHING;
	return true;
}

static void end_review(struct engine *engine)
{
	adopt(engine);
	if (!engine->reviewed) {
		engine->reviewed = true;
		engine_addresses_remove_leftovers(engine);
	}
	for (struct router *router = engine->routers; router; router = router->next)
		router_say_eligibility(router);
	engine_report_node(engine);
	if (!engine->ready && engine->rules_present) {
		engine->ready = true;
		sd_notify(0, "READY=1");
		log_line(LOG_INFO, BASE_REASON_STARTED, LOG_NO_FIELDS,
			 "ready: %zu virtual routers, %zu ports, fence %s",
			 store_count(engine->store, MESSAGE_ROUTER),
			 store_count(engine->store, MESSAGE_SERVICE_PORT),
			 engine_fence_name(engine));
	}
}

static int on_review(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	uint64_t begun_us = engine_now(engine);
	bool whole;

	(void)source;
	(void)usec;
	if (!engine->synced)
		return 0;
	segments_review(engine);
	way_back_review(engine);
	own_names_review(engine);
	bridged_review(engine);
	/* Restarted in place it owns nothing yet, and what it adopts was left alone for long enough. */
	whole = go_on(engine, engine->restarted ? UINT64_MAX : begun_us + TURN_US);
	if (whole)
		end_review(engine);
	engine->review_took_us += base_usec_since(engine_now(engine), begun_us);
	if (whole)
		rest(engine);
	else
		review_soon(engine);
	/* Each address that it removes is a change of links: reading them all after each turn takes as long again. */
	sd_event_source_set_priority(engine->review,
				     whole ? ENGINE_PRIORITY_RULES : ENGINE_PRIORITY_REVIEW);
	return 0;
}

static int on_links(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	(void)fd;
	(void)revents;
	if (vrrp_links_drain(engine->links) == 0)
		return 0;
	sd_event_source_set_time(engine->links_look, engine->links_rest_us);
	sd_event_source_set_enabled(engine->links_look, SD_EVENT_ONESHOT);
	return 0;
}

static int on_links_look(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	uint64_t begun_us = engine_now(engine);
	int r;

	(void)source;
	(void)usec;
	r = vrrp_links_refresh(engine->links);
	engine->links_rest_us = rest_until(engine, base_usec_since(engine_now(engine), begun_us));
	if (r < 0) {
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot read the interfaces: %s", strerror(-r));
		return 0;
	}
	/* Somebody took an address of ours away: it is wanted back at once. */
	for (struct router *router = engine->routers; router; router = router->next)
		if (router->addresses_added && router->segment &&
		    virtual_router_owns(&router->core) && !engine_addresses_present(router))
			engine_addresses_add(router);
	engine_cluster_changed(engine);
	return 0;
}

/* Every few seconds: what must not expire is renewed, what is claimed is verified. */
static int on_refresh(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	struct message alive;

	sd_event_source_set_time(source, usec + ENGINE_REFRESH_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	if (!engine->synced)
		return 0;
	alive.type = MESSAGE_ALIVE; /* nothing else is in it */
	engine_tell(engine, &alive);
	if (engine->routers && !engine->restarted)
		engine_fence_look(engine);
	engine_rules_refresh(engine);
	if (balancer_review(engine))
		engine_rules_changed(engine);
	else if (!engine->rules_present || engine->rules_due)
		engine_rules_soon(engine);
	engine_ask_members(engine);
	way_back_keep(engine);
	way_back_look(engine);
	tracking_look(engine);
	bridged_look(engine);
	engine_report_node(engine);
	if (engine->trimmed_revision != store_revision(engine->store)) {
		engine->trimmed_revision = store_revision(engine->store);
		realtime_trim();
	}
	return 0;
}

int engine_review_start(struct engine *engine)
{
	sd_event_source *links;
	int r;

	engine->review_round = 1; /* a new router's is 0: none came to it */
	if ((r = engine_add_timer(engine, &engine->review, ENGINE_PRIORITY_RULES, on_review,
				  UINT64_MAX)) < 0 ||
	    (r = engine_add_timer(engine, &engine->refresh, ENGINE_PRIORITY_LINKS, on_refresh,
				  engine_now(engine) + ENGINE_REFRESH_US)) < 0 ||
	    (r = engine_add_timer(engine, &engine->links_look, ENGINE_PRIORITY_LINKS, on_links_look,
				  UINT64_MAX)) < 0 ||
	    (r = sd_event_add_io(engine->event, &links, vrrp_links_fd(engine->links), EPOLLIN,
				 on_links, engine)) < 0)
		return r;
	return sd_event_source_set_priority(links, ENGINE_PRIORITY_LINKS);
}
