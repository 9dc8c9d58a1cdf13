#include "daemon/engine/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nft/io/cut.h"

#define CRASH_MS     2000 /* until a supervisor would have started it again */
#define HOLD_MIN_MS  100
#define HOLD_MAX_MS  300000
#define SWEEP_US     (3 * BASE_USEC_PER_SEC)    /* after the start: what a predecessor left */
#define CUT_SLACK_US (200 * BASE_USEC_PER_MSEC) /* the kernel takes the elements out by itself */

static const char *const kind_names[MESSAGE_FAULT_COUNT] = {
	[MESSAGE_FAULT_CRASH] = "crash",
	[MESSAGE_FAULT_HANG] = "hang",
	[MESSAGE_FAULT_ISOLATE] = "isolation",
};

struct fault {
	struct engine *engine;
	sd_event_source *timer;
	bool running;
	struct message_fault order;
	struct router *router; /* NULL: the engine as a whole */
	uint64_t begun_us;
	struct nft_loader loader; /* cuts off, and takes that away again */
	sd_event_source *loaded;
	bool lease_known;
	struct virtual_router_lease lease; /* what `router` has to be told when it comes back */
};

static void log_fault(const struct fault *fault, const char *what)
{
	log_line(LOG_NOTICE, BASE_REASON_DRILL_STARTED,
		 LOG_FIELDS({ "LEASE", fault->order.router }), "%s of %s, as a drill wants it: %s",
		 kind_names[fault->order.kind],
		 fault->router ? fault->order.router : "this node's engine", what);
}

static void refuse(struct fault *fault, const struct message_fault *order, const char *why)
{
	struct message *message = engine_message(MESSAGE_FAULT_REFUSED);

	MESSAGE_CLEAR(message, MESSAGE_FAULT_REFUSED, fault_refused);
	message->fault_refused.id = order->id;
	snprintf(message->fault_refused.why, sizeof message->fault_refused.why, "%s", why);
	engine_tell(fault->engine, message);
	log_line(LOG_WARNING, BASE_REASON_DRILL_REFUSED, LOG_FIELDS({ "LEASE", order->router }),
		 "%s, as a drill wants it: refused: %s", kind_names[order->kind], why);
}

/* --- the router alone --- */

static void freeze(struct fault *fault)
{
	fault->lease = fault->router->core.lease;
	fault->lease_known = fault->lease.exists;
	router_freeze(fault->router);
}

void fault_missed(struct fault *fault, const struct virtual_router_event *event)
{
	if (event->type != VIRTUAL_ROUTER_EVENT_LEASE)
		return;
	fault->lease = event->lease;
	fault->lease_known = true;
}

static void come_back(struct fault *fault)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_LEASE };
	struct router *router = fault->router;

	if (fault->order.kind == MESSAGE_FAULT_CRASH)
		router = engine_router_anew(fault->engine, router);
	else
		router_thaw(router, base_usec_since(engine_now(fault->engine), fault->begun_us));
	if (!router)
		return;
	event.now_us = engine_now(fault->engine);
	event.lease = fault->lease;
	if (fault->lease_known)
		router_feed(router, &event);
	engine_cluster_changed(fault->engine);
}

/* --- the engine as a whole --- */

static void kill_engine(void)
{
	kill(getpid(), SIGKILL);
}

/* SIGCONT wakes whoever is stopped, so a timer that sends it is all that must survive: the kernel's. */
static int stop_engine(uint32_t hold_ms)
{
	struct sigevent wake = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT };
	struct itimerspec when = { .it_value = { hold_ms / 1000, hold_ms % 1000 * 1000000L } };
	timer_t timer;

	if (timer_create(CLOCK_BOOTTIME, &wake, &timer) < 0)
		return -errno;
	if (timer_settime(timer, 0, &when, NULL) < 0 || kill(getpid(), SIGSTOP) < 0) {
		int r = -errno;

		timer_delete(timer);
		return r;
	}
	timer_delete(timer);
	return 0;
}

/* --- cut off --- */

static size_t count_routers(const struct engine *engine)
{
	size_t count = 0;

	for (const struct router *router = engine->routers; router; router = router->next)
		count++;
	return count;
}

static void stop(struct fault *fault)
{
	fault->running = false;
	fault->router = NULL;
	sd_event_source_set_enabled(fault->timer, SD_EVENT_OFF);
}

static int on_loaded(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct fault *fault = userdata;
	struct base_error error = { 0 };
	int r;

	(void)source;
	(void)fd;
	(void)revents;
	nft_loader_reap(&fault->loader);
	if (!nft_loader_is_busy(&fault->loader))
		return 0;
	r = nft_loader_end(&fault->loader, &error);
	if (r == -EAGAIN)
		return 0;
	if (r < 0 && fault->running) {
		refuse(fault, &fault->order, error.message[0] ? error.message : strerror(-r));
		stop(fault);
	} else if (r < 0) {
		log_fault(fault, error.message);
	}
	return 0;
}

/* It runs out in any case: this only tidies up. */
static void take_cut_away(struct fault *fault)
{
	nft_loader_cancel(&fault->loader);
	nft_cut_remove_start(&fault->loader);
}

static int cut_off(struct fault *fault, struct base_error *error)
{
	struct nft_cut *cuts = calloc(count_routers(fault->engine) + 1, sizeof *cuts);
	size_t count = 0;
	int r;

	if (!cuts)
		return -ENOMEM;
	for (struct router *router = fault->engine->routers; router; router = router->next)
		if (router->segment && (!fault->router || router == fault->router))
			cuts[count++] = (struct nft_cut){
				.interface = router->segment->name,
				.family = router->wish.family,
				.virtual_router_id = router->wish.virtual_router_id,
				.address_count = router->wish.address_count,
				.addresses = router->wish.addresses,
			};
	if (count == 0)
		r = base_error_set(error, -ENODEV, "it is on no segment here");
	else if (!fault->engine->abilities.egress)
		r = base_error_set(
			error, -EOPNOTSUPP,
			"this kernel has no netdev egress hook, or --fence loopback is said");
	else
		r = nft_cut_start(&fault->loader, cuts, count, fault->order.hold_ms);
	free(cuts);
	return r;
}

/* --- any of them --- */

static const char *refusal(struct fault *fault, const struct message_fault *order)
{
	struct engine *engine = fault->engine;

	if (fault->running || nft_loader_is_busy(&fault->loader))
		return "another fault is under way on this node";
	if (engine->stopping)
		return "this node's vipd is being stopped";
	if (order->kind != MESSAGE_FAULT_CRASH &&
	    (order->hold_ms < HOLD_MIN_MS || order->hold_ms > HOLD_MAX_MS))
		return "to hold it so long is out of bounds";
	fault->router = *order->router ? engine_router_named(engine, order->router) : NULL;
	if (*order->router && !fault->router)
		return "this node knows no such virtual router";
	if (fault->router && !virtual_router_owns(&fault->router->core))
		return "this node does not own it";
	return NULL;
}

static int begin(struct fault *fault, struct base_error *error)
{
	switch ((enum message_fault_kind)fault->order.kind) {
	case MESSAGE_FAULT_CRASH:
		if (!fault->router)
			kill_engine();
		else
			freeze(fault);
		return 0;
	case MESSAGE_FAULT_HANG:
		if (!fault->router)
			return stop_engine(fault->order.hold_ms);
		freeze(fault);
		return 0;
	case MESSAGE_FAULT_ISOLATE:
		return cut_off(fault, error);
	case MESSAGE_FAULT_COUNT:
		break;
	}
	return -EINVAL;
}

void fault_begin(struct fault *fault, const struct message_fault *order)
{
	const char *why = refusal(fault, order);
	struct base_error error = { 0 };
	uint64_t wait_us;
	int r;

	if (why) {
		refuse(fault, order, why);
		return;
	}
	fault->order = *order;
	fault->begun_us = engine_now(fault->engine);
	log_fault(fault, "it begins");
	r = begin(fault, &error);
	if (r < 0) {
		refuse(fault, order, error.message[0] ? error.message : strerror(-r));
		return;
	}
	if (order->kind == MESSAGE_FAULT_HANG && !fault->router) {
		log_fault(fault, "it is over");
		return;
	}
	wait_us = order->kind == MESSAGE_FAULT_CRASH ? CRASH_MS * BASE_USEC_PER_MSEC
						     : order->hold_ms * BASE_USEC_PER_MSEC;
	if (order->kind == MESSAGE_FAULT_ISOLATE)
		wait_us += CUT_SLACK_US;
	fault->running = true;
	sd_event_source_set_time(fault->timer, fault->begun_us + wait_us);
	sd_event_source_set_enabled(fault->timer, SD_EVENT_ONESHOT);
}

void fault_end(struct fault *fault)
{
	if (!fault || !fault->running)
		return;
	if (fault->order.kind == MESSAGE_FAULT_ISOLATE)
		take_cut_away(fault);
	else
		come_back(fault);
	log_fault(fault, "it is over");
	stop(fault);
}

void fault_router_gone(struct fault *fault, const struct router *router)
{
	if (!fault->running || fault->router != router)
		return;
	stop(fault);
	if (fault->order.kind == MESSAGE_FAULT_ISOLATE)
		take_cut_away(fault);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fault *fault = ((struct engine *)userdata)->fault;

	(void)source;
	(void)usec;
	if (fault->running)
		fault_end(fault);
	else
		take_cut_away(fault);
	return 0;
}

int fault_new(struct fault **fault, struct engine *engine)
{
	struct fault *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->engine = engine;
	new->loader = (struct nft_loader)NFT_LOADER_NONE;
	r = nft_loader_open(&new->loader);
	if (r >= 0)
		r = sd_event_add_io(engine->event, &new->loaded, new->loader.fd, EPOLLIN, on_loaded, new);
	if (r >= 0)
		r = engine_add_timer(engine, &new->timer, ENGINE_PRIORITY_FEEDER, on_timer,
				     engine->abilities.egress ? engine_now(engine) + SWEEP_US : UINT64_MAX);
	if (r < 0) {
		fault_free(new);
		return r;
	}
	*fault = new;
	return 0;
}

void fault_free(struct fault *fault)
{
	if (!fault)
		return;
	fault_end(fault);
	sd_event_source_disable_unref(fault->loaded);
	nft_loader_close(&fault->loader);
	sd_event_source_disable_unref(fault->timer);
	free(fault);
}
