#include "daemon/controller/controller.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/array.h"
#include "base/time.h"
#include "daemon/controller/drills.h"
#include "daemon/controller/leader.h"
#include "daemon/controller/page.h"
#include "daemon/controller/reconcile.h"
#include "daemon/controller/watches.h"
#include "daemon/options.h"

#define LEASE_NAME     "vipd-controller"
#define END_US         (4 * BASE_USEC_PER_SEC) /* for what is under way, and the Lease */

struct controller {
	const char *namespace;
	bool elect, stopping, ready;
	sd_event *event;
	sd_event_source *end;
	struct k8s_client *client;
	struct leader *leader; /* NULL without election */
	struct state state;
	struct reconciler reconciler;
	struct drills *drills;
	struct watches *watches;
	struct k8s_counters counters;
	struct controller_view view;
	struct server *page; /* NULL: not wanted, or it could not be had */
	sd_event_source *page_turn;
};

static bool leads(void *userdata)
{
	const struct controller *controller = userdata;

	return !controller->stopping && (!controller->leader || leader_leads(controller->leader));
}

/* Allocation begins when everything is known and nobody else does it; it ends with either. */
static void consider(struct controller *controller)
{
	bool active = controller->state.ipam != NULL;
	bool should = watches_synced(controller->watches) && leads(controller);

	if (active == should)
		return;
	if (!should) {
		state_deactivate(&controller->state);
		log_line(LOG_NOTICE, BASE_REASON_NONE, LOG_NO_FIELDS,
			 controller->stopping
				 ? "writes nothing any more: asked to end"
				 : "writes nothing any more: another leads, or the Lease "
				   "could not be renewed");
		return;
	}
	if (state_activate(&controller->state, reconciler_wall(), reconciler_now()) < 0) {
		log_line(LOG_ERR, BASE_REASON_NONE, LOG_NO_FIELDS, "out of memory");
		return;
	}
	log_line(LOG_NOTICE, BASE_REASON_NONE, LOG_NO_FIELDS,
		 "leads: %zu Services, %zu VirtualIPs, %zu pools, %zu nodes",
		 controller->state.claims.count, controller->state.vips.count,
		 controller->state.pools.count, controller->state.nodes.table.count);
	reconciler_wake(&controller->reconciler);
}

static void on_synced(void *userdata)
{
	struct controller *controller = userdata;

	if (!controller->ready && watches_synced(controller->watches)) {
		controller->ready = true;
		sd_notify(0, "READY=1\nSTATUS=Synchronised with the API server");
	}
	consider(controller);
}

/* What the server took from us, its watches must show. */
static void on_known(void *userdata, enum step_type type, const char *version)
{
	struct controller *controller = userdata;

	watches_expect(controller->watches, type, version);
}

static void on_silent(void *userdata)
{
	struct controller *controller = userdata;

	watches_restart(controller->watches);
}

/* --- the way in and the way out --- */

static void end_if_idle(struct controller *controller)
{
	if (!controller->stopping || writer_busy(controller->reconciler.writer) > 0)
		return;
	if (controller->leader)
		leader_release(controller->leader);
	else
		sd_event_exit(controller->event, 0);
}

static void on_writer(void *userdata)
{
	struct controller *controller = userdata;

	reconciler_pump(&controller->reconciler);
	end_if_idle(controller);
}

static void on_leader_change(void *userdata, bool now_leads)
{
	struct controller *controller = userdata;

	(void)now_leads;
	if (!controller->stopping)
		consider(controller);
	drills_consider(controller->drills);
}

static void on_released(void *userdata)
{
	struct controller *controller = userdata;

	sd_event_exit(controller->event, 0);
}

static int on_end(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)usec;
	(void)userdata;
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info,
			void *userdata)
{
	struct controller *controller = userdata;

	(void)source;
	(void)info;
	if (controller->stopping)
		return 0;
	sd_notify(0, "STOPPING=1");
	controller->stopping = true;
	consider(controller);
	sd_event_source_set_time_relative(controller->end, END_US);
	sd_event_source_set_enabled(controller->end, SD_EVENT_ONESHOT);
	end_if_idle(controller);
	return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	(void)source;
	(void)info;
	(void)userdata;
	log_line(LOG_INFO, BASE_REASON_NONE, LOG_NO_FIELDS,
		 "SIGHUP: tokens are read again by themselves; another kubeconfig needs a restart");
	return 0;
}

static int add_signals(struct controller *controller)
{
	sigset_t blocked;
	int r;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = sd_event_add_signal(controller->event, NULL, SIGTERM, on_terminate, controller);
	if (r >= 0)
		r = sd_event_add_signal(controller->event, NULL, SIGINT, on_terminate, controller);
	if (r >= 0)
		r = sd_event_add_signal(controller->event, NULL, SIGHUP, on_hangup, controller);
	if (r >= 0)
		r = sd_event_add_time(controller->event, &controller->end, CLOCK_BOOTTIME,
				      UINT64_MAX, 1000, on_end, controller);
	return r < 0 ? r : sd_event_source_set_enabled(controller->end, SD_EVENT_OFF);
}

/* Unique to this process: a restarted one waits as any other would. */
static void make_identity(char *identity, size_t size)
{
	char host[65] = "";
	uint64_t salt = 0;

	gethostname(host, sizeof host - 1);
	if (getrandom(&salt, sizeof salt, 0) < 0)
		salt = reconciler_now();
	snprintf(identity, size, "%s_%016llx", *host ? host : "vipd-controller",
		 (unsigned long long)salt);
}

static void on_warning(void *userdata, const char *text)
{
	(void)userdata;
	log_line(LOG_WARNING, BASE_REASON_NONE, LOG_NO_FIELDS, "the API server warns: %s", text);
}

static int on_page(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	(void)source;
	(void)fd;
	(void)revents;
	server_turn(userdata);
	return 0;
}

static int open_page(struct controller *controller, const char *listen, struct base_error *error)
{
	int r = server_new(&controller->page, listen, controller_page, &controller->view, error);

	if (r < 0)
		return r;
	r = sd_event_add_io(controller->event, &controller->page_turn, server_fd(controller->page), EPOLLIN,
			    on_page, controller->page);
	if (r >= 0)
		r = sd_event_source_set_priority(controller->page_turn, SD_EVENT_PRIORITY_IDLE);
	return r < 0 ? base_error_set(error, r, "%s", strerror(-r)) : 0;
}

/* Without it everything works, so what is wrong with it is told and no more. */
static void start_page(struct controller *controller, const char *listen)
{
	struct base_error error = { 0 };

	controller->view = (struct controller_view){ &controller->state,      &controller->reconciler,
						     &controller->counters,   &controller->ready,
						     &controller->watches,    &controller->drills,
						     leads,		      controller };
	if (*listen && open_page(controller, listen, &error) < 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "no metrics and no probes: %s", error.message);
}

static int start_watches(struct controller *controller)
{
	const struct watches_options options = {
		.client = controller->client,
		.event = controller->event,
		.namespace = controller->namespace,
		.state = &controller->state,
		.reconciler = &controller->reconciler,
		.drills = controller->drills,
		.on_synced = on_synced,
		.userdata = controller,
	};

	return watches_new(&controller->watches, &options);
}

static int start(struct controller *controller, struct k8s_config *config, const char *listen)
{
	static const struct leader_handlers handlers = { on_leader_change, on_released, on_silent };
	struct reconciler *reconciler = &controller->reconciler;
	char identity[128], agent[64];
	struct leader_options options = { controller->namespace, LEASE_NAME, identity };
	int r;

	make_identity(identity, sizeof identity);
	snprintf(agent, sizeof agent, "vipd-controller/%s (linux)", VIPD_VERSION);
	r = sd_event_default(&controller->event);
	if (r >= 0)
		r = add_signals(controller);
	if (r >= 0)
		r = k8s_client_new(&controller->client, controller->event, config, agent, NULL,
				   NULL);
	if (r >= 0) {
		k8s_client_on_warning(controller->client, on_warning, controller);
		k8s_client_count(controller->client, &controller->counters);
		start_page(controller, listen);
		r = state_init(&controller->state, controller->state.default_class);
	}
	reconciler->event = controller->event;
	reconciler->state = &controller->state;
	reconciler->namespace = controller->namespace;
	reconciler->leads = leads;
	reconciler->known = on_known;
	reconciler->userdata = controller;
	if (r >= 0)
		r = writer_new(&reconciler->writer, controller->client, controller->event,
			       on_writer, controller);
	if (r >= 0)
		r = events_new(&reconciler->events, reconciler->writer, identity);
	if (r >= 0)
		r = reconciler_init(reconciler);
	if (r >= 0)
		r = drills_new(&controller->drills, reconciler);
	if (r >= 0 && controller->elect)
		r = leader_new(&controller->leader, controller->client, controller->event, &options,
			       &handlers, controller);
	if (r >= 0)
		r = start_watches(controller);
	if (r >= 0)
		sd_event_set_watchdog(controller->event, true);
	return r;
}

static void stop(struct controller *controller)
{
	sd_event_source_disable_unref(controller->page_turn);
	server_free(controller->page);
	writer_free(controller->reconciler.writer);
	drills_free(controller->drills);
	events_free(controller->reconciler.events);
	reconciler_clear(&controller->reconciler);
	leader_free(controller->leader);
	watches_free(controller->watches);
	state_clear(&controller->state);
	k8s_client_free(controller->client);
	sd_event_source_disable_unref(controller->end);
	sd_event_unref(controller->event);
}

int controller_main(int argc, char **argv)
{
	static struct controller controller;
	const char *kubeconfig = NULL, *namespace = "vipd-system", *elect = "true", *class = "true";
	const char *listen = "127.0.0.1:9461";
	const struct option_spec specs[] = {
		{ "kubeconfig", &kubeconfig, false, "FILE",
		  "how to reach the API server; in a pod: the service account" },
		{ "namespace", &namespace, false, "NAME", "where Leases live" },
		{ "leader-elect", &elect, true, NULL, "one of several controllers works" },
		{ "default-class", &class, true, NULL,
		  "serve Services without spec.loadBalancerClass, too" },
		{ "metrics-listen", &listen, false, "ADDRESS:PORT",
		  "where /metrics, /healthz, /readyz and /state are; \"\": nowhere" },
		{ NULL, NULL, false, NULL, NULL },
	};
	struct k8s_config config;
	struct base_error error = { 0 };
	int r = options_parse(argc, argv, "vipd controller [OPTION...]", specs);

	if (r < 0)
		return r == -2 ? 0 : 2;
	if (r < argc) {
		fprintf(stderr, "vipd controller takes options only, not \"%s\"\n", argv[r]);
		return 2;
	}
	if (*listen && server_check(listen, &error) < 0) {
		fprintf(stderr, "--metrics-listen %s\n", error.message);
		return 2;
	}
	log_open("controller", NULL);
	r = k8s_config_load(&config, kubeconfig, NULL, &error);
	if (r < 0) {
		log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS, "%s",
			 error.message);
		return 1;
	}
	controller.namespace = namespace;
	controller.elect = strcmp(elect, "false") != 0;
	controller.state.default_class = strcmp(class, "false") != 0;
	log_line(LOG_INFO, BASE_REASON_STARTED, LOG_NO_FIELDS, "vipd %s controller for %s",
		 VIPD_VERSION, config.server);
	r = start(&controller, &config, listen);
	if (r >= 0)
		r = sd_event_loop(controller.event);
	else
		log_line(LOG_ERR, BASE_REASON_NONE, LOG_NO_FIELDS, "cannot start: %s",
			 strerror(-r));
	stop(&controller);
	k8s_config_clear(&config);
	log_line(LOG_INFO, BASE_REASON_STOPPED, LOG_NO_FIELDS, "ended");
	return r < 0 ? 1 : 0;
}
