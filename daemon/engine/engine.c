#include "daemon/engine/engine.h"

#include <errno.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/array.h"
#include "base/io/clock.h"
#include "daemon/engine/fault.h"
#include "daemon/engine/node.h"
#include "daemon/engine/prober.h"
#include "daemon/engine/realtime.h"
#include "daemon/engine/served.h"
#include "daemon/engine/traffic.h"

/* An advert costs 20 us, taking sixteen addresses 2 ms, telling of them 0.3. */
#define OWNER_TURN  32
#define BACKUP_TURN 4
#define OTHER_TURN  4

/*
 * So many addresses are handed over at once, 2 ms of an heir's time, and the next ones 10 ms later: thousands at once
 * keep the heirs' processors from everybody else for a third of a second. If that would take too long: more at once.
 */
#define RELEASE_ADDRESSES 32
#define RELEASE_STEP_US	  (10 * BASE_USEC_PER_MSEC)
#define RELEASE_STEPS	  125

uint64_t engine_now(struct engine *engine)
{
	(void)engine; /* the true time, not the loop's: a handler may have taken a while */
	return base_clock_us(CLOCK_BOOTTIME);
}

static int on_stop_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	(void)usec;
	log_line(LOG_WARNING, BASE_REASON_STOPPED, LOG_NO_FIELDS,
		 "not everything was handed over in time");
	return sd_event_exit(engine->event, 0);
}

/* The feeder has its last words to write: owner, Lease, Speaker. Then it ends, and so do we. */
static int on_stop_poll(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;

	if (!feeder_running(engine->feeder))
		return sd_event_exit(engine->event, 0);
	sd_event_source_set_time(source, usec + 10 * BASE_USEC_PER_MSEC);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

void engine_router_released(struct engine *engine)
{
	if (!engine->stopping)
		return;
	for (struct router *router = engine->routers; router; router = router->next)
		if (!router->released || router->lingering)
			return;
	engine_report_node(engine);
	feeder_stop(engine->feeder);
	sd_event_add_time_relative(engine->event, NULL, CLOCK_BOOTTIME, 1000, 1000, on_stop_poll,
				   engine);
}

static void release(struct router *router)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_RELEASE,
					      .now_us = engine_now(router->engine) };

	router->leaving = true;
	router_feed(router, &event);
}

static int on_release(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	uint32_t addresses = 0;

	for (struct router *router = engine->routers; router; router = router->next) {
		if (router->leaving)
			continue;
		if (addresses >= engine->release_share) {
			sd_event_source_set_time(source, usec + RELEASE_STEP_US);
			return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		}
		addresses += router->wish.address_count;
		release(router);
	}
	engine_router_released(engine);
	return 0;
}

/* Who owns nothing must not begin to; what is owned goes by and by. */
static void begin_release(struct engine *engine)
{
	uint32_t owned = 0;

	for (struct router *router = engine->routers; router; router = router->next)
		if (virtual_router_owns(&router->core))
			owned += router->wish.address_count;
		else
			release(router);
	engine->release_share = owned / RELEASE_STEPS + 1;
	if (engine->release_share < RELEASE_ADDRESSES)
		engine->release_share = RELEASE_ADDRESSES;
	sd_event_source_set_time(engine->release, engine_now(engine));
	sd_event_source_set_enabled(engine->release, SD_EVENT_ONESHOT);
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info,
			void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	if (engine->stopping)
		return 0;
	fault_end(engine->fault);
	engine->stopping = true;
	sd_notify(0, "STOPPING=1");
	log_line(LOG_NOTICE, BASE_REASON_STOPPED, LOG_NO_FIELDS, "%s: handing everything over",
		 info->ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	sd_event_source_set_time(engine->stop_limit, engine_now(engine) + ENGINE_STOP_US);
	sd_event_source_set_enabled(engine->stop_limit, SD_EVENT_ONESHOT);
	begin_release(engine);
	return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct engine *engine = userdata;

	(void)source;
	(void)info;
	feeder_reload(engine->feeder);
	return 0;
}

int engine_add_timer(struct engine *engine, sd_event_source **source, int64_t priority,
		     sd_event_time_handler_t handler, uint64_t first_us)
{
	int r = sd_event_add_time(engine->event, source, CLOCK_BOOTTIME, first_us,
				  BASE_USEC_PER_MSEC, handler, engine);

	if (r >= 0)
		r = sd_event_source_set_priority(*source, priority);
	if (r >= 0 && first_us == UINT64_MAX)
		r = sd_event_source_set_enabled(*source, SD_EVENT_OFF);
	return r;
}

static int on_turn_end(sd_event_source *source, void *userdata)
{
	(void)source;
	realtime_breathe(engine_now(userdata));
	return 0;
}

static int add_sources(struct engine *engine)
{
	int r;

	if ((r = engine_review_start(engine)) < 0 ||
	    (r = engine_state_start(engine)) < 0 || (r = engine_fence_watch(engine)) < 0 ||
	    (r = engine_add_timer(engine, &engine->stop_limit, ENGINE_PRIORITY_FEEDER, on_stop_limit,
				  UINT64_MAX)) < 0 ||
	    (r = engine_add_timer(engine, &engine->release, ENGINE_PRIORITY_FEEDER, on_release,
				  UINT64_MAX)) < 0 ||
	    (r = sd_event_add_post(engine->event, NULL, on_turn_end, engine)) < 0 ||
	    (r = sd_event_add_signal(engine->event, NULL, SIGTERM, on_terminate, engine)) < 0 ||
	    (r = sd_event_add_signal(engine->event, NULL, SIGINT, on_terminate, engine)) < 0 ||
	    (r = sd_event_add_signal(engine->event, NULL, SIGHUP, on_hangup, engine)) < 0)
		return r;
	return 0;
}

static int make_folders(struct engine *engine)
{
	if (mkdir(engine->options->runtime_dir, 0755) < 0 && errno != EEXIST) {
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot make --runtime-dir %s: %s", engine->options->runtime_dir,
			 strerror(errno));
		return -1;
	}
	if (engine->options->state_dir && mkdir(engine->options->state_dir, 0700) < 0 &&
	    errno != EEXIST)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot make --state-dir %s: %s; nothing will survive a restart",
			 engine->options->state_dir, strerror(errno));
	return 0;
}

/* The lock is a socket without a place in the file system: there is one of its name per network. */
static int take_lock(struct engine *engine)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0vipd-engine" };
	struct ucred other = { 0 };

	engine->lock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (engine->lock >= 0 && bind(engine->lock, (struct sockaddr *)&name, sizeof name) == 0 &&
	    listen(engine->lock, 1) == 0)
		return 0;
	if (engine->lock >= 0 && errno == EADDRINUSE) {
		if (connect(engine->lock, (struct sockaddr *)&name, sizeof name) == 0)
			getsockopt(engine->lock, SOL_SOCKET, SO_PEERCRED, &other,
				   &(socklen_t){ sizeof other });
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "another vipd runs on this node already (pid %d): stop it first", other.pid);
	} else {
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS, "no lock: %s",
			 strerror(errno));
	}
	return -1;
}

static bool may(unsigned capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return true; /* what is missing shows soon enough */
	return data[0].effective & UINT32_C(1) << capability;
}

static int check_capabilities(void)
{
	static const struct {
		unsigned bit;
		const char *name;
	} needed[] = { { CAP_NET_ADMIN, "CAP_NET_ADMIN" }, { CAP_NET_RAW, "CAP_NET_RAW" } };
	int r = 0;

	for (size_t i = 0; i < BASE_COUNT_OF(needed); i++)
		if (!may(needed[i].bit)) {
			log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
				 "%s is missing: run as root, or give it to the service or container",
				 needed[i].name);
			r = -1;
		}
	return r;
}

static int serve(struct engine *engine, struct status_server **server, const char *name,
		 cJSON *(*describe)(void *userdata))
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s", engine->options->runtime_dir, name);
	return status_server_new(server, engine->event, path, ENGINE_PRIORITY_STATUS, describe,
				 engine);
}

static int start(struct engine *engine)
{
	int r;

	if (check_capabilities() < 0 || make_folders(engine) < 0 || take_lock(engine) < 0 ||
	    engine_fence_start(engine) < 0)
		return -1;
	r = vrrp_links_new(&engine->links);
	if (r >= 0)
		r = timers_new(&engine->owner_timers, engine->event, ENGINE_PRIORITY_OWNER_TIMER,
			       OWNER_TURN);
	if (r >= 0)
		r = timers_new(&engine->backup_timers, engine->event, ENGINE_PRIORITY_VRRP_TIMER,
			       BACKUP_TURN);
	if (r >= 0)
		r = timers_new(&engine->other_timers, engine->event, ENGINE_PRIORITY_ANNOUNCE,
			       OTHER_TURN);
	if (r >= 0)
		r = engine_store_start(engine);
	if (r >= 0)
		r = served_new(&engine->served, engine);
	if (r >= 0)
		r = engine_rules_new(engine);
	if (r >= 0 && engine->table)
		r = traffic_new(&engine->traffic, engine);
	if (r >= 0)
		r = add_sources(engine);
	if (r >= 0)
		r = serve(engine, &engine->status, STATUS_SOCKET, engine_describe);
	if (r >= 0)
		r = serve(engine, &engine->verify, VERIFY_SOCKET, engine_describe_verify);
	if (r >= 0)
		r = serve(engine, &engine->health, HEALTH_SOCKET, engine_describe_health);
	if (r >= 0) {
		page_new(&engine->page, engine);
		r = engine_feeder_start(engine);
	}
	if (r >= 0)
		r = prober_new(&engine->prober, engine);
	if (r >= 0)
		r = fault_new(&engine->fault, engine);
	if (r < 0)
		log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot start: %s%s", strerror(-r),
			 r == -EPERM ? " (CAP_NET_ADMIN and CAP_NET_RAW are needed)" : "");
	return r;
}

static void stop(struct engine *engine)
{
	engine_state_end(engine);
	page_free(engine->page);
	prober_free(engine->prober);
	fault_free(engine->fault);
	feeder_free(engine->feeder);
	while (engine->routers) {
		struct router *next = engine->routers->next;

		router_free(engine->routers);
		engine->routers = next;
	}
	address_index_free(&engine->addresses);
	timers_free(engine->owner_timers);
	timers_free(engine->backup_timers);
	timers_free(engine->other_timers);
	segments_free(engine);
	while (engine->nodes) {
		struct engine_node *next = engine->nodes->next;

		free(engine->nodes);
		engine->nodes = next;
	}
	status_server_free(engine->status);
	status_server_free(engine->verify);
	status_server_free(engine->health);
	engine_rules_free(engine);
	traffic_free(engine->traffic);
	served_free(engine->served);
	store_free(engine->store);
	nft_alive_free(&engine->alive);
	nft_alive_free(&engine->alive_next);
	nft_table_free(engine->table); /* what is in flight through the rules goes on */
	vrrp_links_free(engine->links);
	sd_event_source_disable_unref(engine->review);
	sd_event_source_disable_unref(engine->refresh);
	sd_event_source_disable_unref(engine->links_look);
	sd_event_source_disable_unref(engine->fence_look);
	sd_event_source_disable_unref(engine->save);
	sd_event_source_disable_unref(engine->state_wait);
	sd_event_source_disable_unref(engine->stop_limit);
	sd_event_source_disable_unref(engine->release);
	if (engine->lock >= 0)
		close(engine->lock);
}

int engine_run(const struct engine_options *options)
{
	struct engine *engine = calloc(1, sizeof *engine);
	sigset_t blocked;
	int r;

	if (!engine)
		return 1;
	/* What is large goes back to the system at once: a full list takes megabytes for a moment. */
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024);
	log_open("engine", options->node);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGHUP);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	engine->options = options;
	engine->node = options->node;
	engine->lock = -1;
	r = sd_event_default(&engine->event);
	if (r >= 0)
		r = start(engine);
	if (r >= 0) {
		log_line(LOG_NOTICE, BASE_REASON_STARTED, LOG_NO_FIELDS, "vipd %s", VIPD_VERSION);
		realtime_start(may(CAP_IPC_LOCK));
		sd_event_set_watchdog(engine->event, true);
		r = sd_event_loop(engine->event);
	}
	stop(engine);
	sd_event_unref(engine->event);
	free(engine);
	return r < 0 ? 1 : 0;
}
