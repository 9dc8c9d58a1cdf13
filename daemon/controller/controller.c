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
#include "daemon/options.h"
#include "k8s/io/informer.h"

#define LEASE_NAME     "vipd-controller"
#define END_US         (4 * BASE_USEC_PER_SEC) /* for what is under way, and the Lease */
#define VIPD_GROUP     "/apis/vipd.dev/v1alpha1"
#define ROUTER_LEASES  "vipd.dev%2Fvirtual-router%3Dtrue"
#define SPEAKER_LEASES "vipd.dev%2Fspeaker%3Dtrue"

enum watch_kind {
	WATCH_NAMESPACES,
	WATCH_NODES,
	WATCH_SPEAKERS,
	WATCH_POOLS,
	WATCH_VIPS,
	WATCH_SERVICES,
	WATCH_LEASES,
	WATCH_SIGNS,  /* Leases by which speakers give signs of life */
	WATCH_SLICES, /* begun with the first Service that wants it */
	WATCH_DRILLS, /* allocation does not wait for them */
	WATCH_COUNT,
};

struct watch {
	struct controller *controller;
	enum watch_kind kind;
	struct k8s_informer *informer;
	struct trouble trouble; /* what concerns this kind alone */
	bool away;              /* the server as a whole: told by the controller */
	char doing[160];
};

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
	struct watch watches[WATCH_COUNT];
	struct trouble away;
	unsigned away_count; /* watches that fail because the server is away */
	struct k8s_counters counters;
	struct controller_view view;
	struct server *page; /* NULL: not wanted, or it could not be had */
};

/* --- watches --- */

static int start_watch(struct controller *controller, enum watch_kind kind);

static void on_object(void *userdata, const cJSON *object)
{
	struct watch *watch = userdata;
	struct state *state = &watch->controller->state;

	state->queue.now_us = reconciler_now();
	switch (watch->kind) {
	case WATCH_NAMESPACES:
		state_put_namespace(state, object);
		break;
	case WATCH_NODES:
		state_put_node(state, object);
		break;
	case WATCH_SPEAKERS:
		state_put_speaker(state, object);
		drills_speaker(watch->controller->drills, object);
		break;
	case WATCH_DRILLS:
		drills_put(watch->controller->drills, object);
		break;
	case WATCH_POOLS:
		state_put_pool(state, object, STATE_FROM_WATCH);
		break;
	case WATCH_VIPS:
		state_put_vip(state, object, STATE_FROM_WATCH);
		break;
	case WATCH_SERVICES:
		state_put_service(state, object, STATE_FROM_WATCH);
		break;
	case WATCH_LEASES:
		state_put_lease(state, object, STATE_FROM_WATCH);
		break;
	case WATCH_SIGNS:
		state_put_sign(state, object, reconciler_now());
		break;
	case WATCH_SLICES:
		state_put_slice(state, object);
		break;
	case WATCH_COUNT:
		break;
	}
	if (state->local_wanted && !watch->controller->watches[WATCH_SLICES].informer)
		start_watch(watch->controller, WATCH_SLICES);
	reconciler_wake(&watch->controller->reconciler);
}

static void on_gone(void *userdata, const char *namespace, const char *name)
{
	struct watch *watch = userdata;
	struct state *state = &watch->controller->state;

	state->queue.now_us = reconciler_now();
	switch (watch->kind) {
	case WATCH_NAMESPACES:
		state_drop_namespace(state, name);
		break;
	case WATCH_NODES:
		state_drop_node(state, name);
		break;
	case WATCH_SPEAKERS:
		state_drop_speaker(state, name);
		break;
	case WATCH_POOLS:
		state_drop_pool(state, name);
		break;
	case WATCH_VIPS:
		state_drop_vip(state, name);
		break;
	case WATCH_SERVICES:
		state_drop_service(state, namespace, name);
		break;
	case WATCH_DRILLS:
		drills_drop(watch->controller->drills, name);
		break;
	case WATCH_LEASES:
		state_drop_lease(state, name);
		break;
	case WATCH_SIGNS:
		state_drop_sign(state, name);
		break;
	case WATCH_SLICES:
		state_drop_slice(state, namespace, name);
		break;
	case WATCH_COUNT:
		break;
	}
	reconciler_wake(&watch->controller->reconciler);
}

static bool all_synced(const struct controller *controller)
{
	for (int i = 0; i < WATCH_SLICES; i++)
		if (!k8s_informer_synced(controller->watches[i].informer))
			return false;
	return true;
}

static bool leads(void *userdata)
{
	const struct controller *controller = userdata;

	return !controller->stopping && (!controller->leader || leader_leads(controller->leader));
}

/* Allocation begins when everything is known and nobody else does it; it ends with either. */
static void consider(struct controller *controller)
{
	bool active = controller->state.ipam != NULL;
	bool should = all_synced(controller) && leads(controller);

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

static void on_synced(void *userdata, bool first)
{
	struct watch *watch = userdata;
	struct controller *controller = watch->controller;

	if (watch->kind == WATCH_SLICES && first)
		state_slices_known(&controller->state);
	if (!controller->ready && all_synced(controller)) {
		controller->ready = true;
		sd_notify(0, "READY=1\nSTATUS=Synchronised with the API server");
	}
	consider(controller);
	reconciler_wake(&controller->reconciler);
	drills_consider(controller->drills);
}

/* All watches fail at once when the server is away: that is one line, not one each. */
static bool is_of_all(enum k8s_result result)
{
	return result == K8S_RESULT_UNREACHABLE || result == K8S_RESULT_UNKNOWN ||
	       result == K8S_RESULT_SERVER_ERROR || result == K8S_RESULT_THROTTLED ||
	       result == K8S_RESULT_UNAUTHORIZED;
}

static void on_trouble(void *userdata, const struct k8s_response *response)
{
	struct watch *watch = userdata;
	struct controller *controller = watch->controller;
	bool away = is_of_all(response->result);

	controller->away_count += (unsigned)away - (unsigned)watch->away;
	watch->away = away;
	if (away)
		trouble_report(&controller->away, "watching the API server", response);
	else if (response->result != K8S_RESULT_OK)
		trouble_report(&watch->trouble, watch->doing, response);
	else
		trouble_over(&watch->trouble, watch->doing);
	if (controller->away_count == 0)
		trouble_over(&controller->away, "watching the API server");
}

static const char *path_of(const struct controller *controller, enum watch_kind kind,
			   char path[static 128], const char **selector)
{
	static const char *const paths[WATCH_COUNT] = {
		[WATCH_NAMESPACES] = "/api/v1/namespaces",
		[WATCH_NODES] = "/api/v1/nodes",
		[WATCH_SPEAKERS] = VIPD_GROUP "/speakers",
		[WATCH_POOLS] = VIPD_GROUP "/addresspools",
		[WATCH_VIPS] = VIPD_GROUP "/virtualips",
		[WATCH_SERVICES] = "/api/v1/services",
		[WATCH_DRILLS] = VIPD_GROUP "/failoverdrills",
		[WATCH_SLICES] = "/apis/discovery.k8s.io/v1/endpointslices",
	};

	*selector = kind == WATCH_LEASES  ? ROUTER_LEASES
		    : kind == WATCH_SIGNS ? SPEAKER_LEASES
					  : NULL;
	if (*selector)
		snprintf(path, 128, "/apis/coordination.k8s.io/v1/namespaces/%s/leases",
			 controller->namespace);
	else
		snprintf(path, 128, "%s", paths[kind]);
	return path;
}

static int start_watch(struct controller *controller, enum watch_kind kind)
{
	static const struct k8s_informer_handlers handlers = { on_object, on_gone, on_synced,
							       on_trouble };
	struct watch *watch = &controller->watches[kind];
	const char *selector;
	char path[128];

	path_of(controller, kind, path, &selector);
	watch->controller = controller;
	watch->kind = kind;
	snprintf(watch->doing, sizeof watch->doing, "watching %s", path);
	return k8s_informer_new(&watch->informer, controller->client, controller->event, path,
				selector, &handlers, watch);
}

static int start_watches(struct controller *controller)
{
	int r = 0;

	for (int i = 0; i < WATCH_SLICES && r >= 0; i++)
		r = start_watch(controller, (enum watch_kind)i);
	return r < 0 ? r : start_watch(controller, WATCH_DRILLS);
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

/* Without it everything works, so what is wrong with it is told and no more. */
static void start_page(struct controller *controller, const char *listen)
{
	struct base_error error = { 0 };

	controller->view = (struct controller_view){ &controller->state,      &controller->reconciler,
						     &controller->counters,   &controller->ready,
						     &controller->away_count, &controller->drills,
						     leads,		      controller };
	if (*listen && server_new(&controller->page, controller->event, listen,
				  SD_EVENT_PRIORITY_IDLE, controller_page, &controller->view,
				  &error) < 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "no metrics and no probes: %s", error.message);
}

static int start(struct controller *controller, struct k8s_config *config, const char *listen)
{
	static const struct leader_handlers handlers = { on_leader_change, on_released };
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
	server_free(controller->page);
	writer_free(controller->reconciler.writer);
	drills_free(controller->drills);
	events_free(controller->reconciler.events);
	reconciler_clear(&controller->reconciler);
	leader_free(controller->leader);
	for (int i = 0; i < WATCH_COUNT; i++)
		k8s_informer_free(controller->watches[i].informer);
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
