#include "daemon/controller/watches.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/array.h"
#include "base/time.h"
#include "daemon/controller/echo.h"
#include "daemon/controller/trouble.h"
#include "k8s/io/informer.h"
#include "k8s/object.h"

#define VIPD_GROUP      "/apis/vipd.dev/v1alpha1"
#define OPENSHIFT_GROUP "/apis/config.openshift.io/v1"

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
	WATCH_INFRASTRUCTURES, /* of OpenShift, where there is one */
	WATCH_NETWORKS,
	WATCH_COUNT,
};

struct watch {
	struct watches *watches;
	enum watch_kind kind;
	struct k8s_informer *informer;
	struct echo echo;
	struct trouble trouble; /* what concerns this kind alone */
	bool away;              /* the server as a whole: told for all together */
	bool denied;            /* of OpenShift, and not for us to read: done without */
	char doing[160];
};

struct watches {
	struct watches_options options;
	struct watch items[WATCH_COUNT];
	struct trouble away;
	unsigned away_count;
	sd_event_source *timer; /* looks for what should have been shown */
	bool silent;            /* it was not; nothing was listed since */
	struct log_gate silent_gate;
	bool discovered; /* it is known whether this is OpenShift */
	struct k8s_request *discovery;
	sd_event_source *discover_again;
};

/* What is read of a kind, and who hears of it; each as the others want to be told. */
struct kind {
	const char *path;     /* NULL: Leases in our namespace */
	const char *selector; /* percent-encoded */
	void (*put)(struct state *state, const cJSON *object);
	void (*put_from)(struct state *state, const cJSON *object, enum state_origin origin);
	void (*drop)(struct state *state, const char *name);
	void (*drop_in)(struct state *state, const char *namespace, const char *name);
	void (*drills_put)(struct drills *drills, const cJSON *object);
	void (*drills_drop)(struct drills *drills, const char *name);
};

static void put_sign(struct state *state, const cJSON *object)
{
	state_put_sign(state, object, state->queue.now_us);
}

static void drop_infrastructure(struct state *state, const char *name)
{
	(void)name;
	state_put_infrastructure(state, NULL);
}

static void drop_network(struct state *state, const char *name)
{
	(void)name;
	state_put_network(state, NULL);
}

static const struct kind kinds[WATCH_COUNT] = {
	[WATCH_NAMESPACES] = { "/api/v1/namespaces", .put = state_put_namespace,
			       .drop = state_drop_namespace },
	[WATCH_NODES] = { "/api/v1/nodes", .put = state_put_node, .drop = state_drop_node },
	[WATCH_SPEAKERS] = { VIPD_GROUP "/speakers", .put = state_put_speaker,
			     .drop = state_drop_speaker, .drills_put = drills_speaker },
	[WATCH_POOLS] = { VIPD_GROUP "/addresspools", .put_from = state_put_pool,
			  .drop = state_drop_pool },
	[WATCH_VIPS] = { VIPD_GROUP "/virtualips", .put_from = state_put_vip,
			 .drop = state_drop_vip },
	[WATCH_SERVICES] = { "/api/v1/services", .put_from = state_put_service,
			     .drop_in = state_drop_service },
	[WATCH_LEASES] = { .selector = "vipd.dev%2Fvirtual-router%3Dtrue",
			   .put_from = state_put_lease, .drop = state_drop_lease },
	[WATCH_SIGNS] = { .selector = "vipd.dev%2Fspeaker%3Dtrue", .put = put_sign,
			  .drop = state_drop_sign },
	[WATCH_SLICES] = { "/apis/discovery.k8s.io/v1/endpointslices", .put = state_put_slice,
			   .drop_in = state_drop_slice },
	[WATCH_DRILLS] = { VIPD_GROUP "/failoverdrills", .drills_put = drills_put,
			   .drills_drop = drills_drop },
	[WATCH_INFRASTRUCTURES] = { OPENSHIFT_GROUP "/infrastructures",
				    .put = state_put_infrastructure, .drop = drop_infrastructure },
	[WATCH_NETWORKS] = { OPENSHIFT_GROUP "/networks", .put = state_put_network,
			     .drop = drop_network },
};

static int start(struct watches *watches, enum watch_kind kind);

static void on_object(void *userdata, const cJSON *object)
{
	struct watch *watch = userdata;
	struct watches *watches = watch->watches;
	struct state *state = watches->options.state;
	const struct kind *kind = &kinds[watch->kind];

	state->queue.now_us = reconciler_now();
	if (kind->put)
		kind->put(state, object);
	if (kind->put_from)
		kind->put_from(state, object, STATE_FROM_WATCH);
	if (kind->drills_put)
		kind->drills_put(watches->options.drills, object);
	if (state->local_wanted && !watches->items[WATCH_SLICES].informer)
		start(watches, WATCH_SLICES);
	reconciler_wake(watches->options.reconciler);
}

static void on_gone(void *userdata, const char *namespace, const char *name)
{
	struct watch *watch = userdata;
	struct watches *watches = watch->watches;
	struct state *state = watches->options.state;
	const struct kind *kind = &kinds[watch->kind];

	state->queue.now_us = reconciler_now();
	if (kind->drop)
		kind->drop(state, name);
	if (kind->drop_in)
		kind->drop_in(state, namespace, name);
	if (kind->drills_drop)
		kind->drills_drop(watches->options.drills, name);
	reconciler_wake(watches->options.reconciler);
}

static bool is_listed(void *userdata, const char *name)
{
	const struct watch *watch = userdata;

	return k8s_informer_knows(watch->informer, "", name);
}

static void on_synced(void *userdata, bool first)
{
	struct watch *watch = userdata;
	const struct watches_options *options = &watch->watches->options;

	echo_clear(&watch->echo);
	if (watch->kind == WATCH_VIPS && !first) {
		options->state->queue.now_us = reconciler_now();
		state_drop_unlisted_vips(options->state, k8s_informer_version(watch->informer),
					 is_listed, watch);
	}
	if (watch->watches->silent)
		log_line(LOG_INFO, BASE_REASON_API_REACHABLE, LOG_NO_FIELDS,
			 "API server: it lists and tells again");
	watch->watches->silent = false;
	if (watch->kind == WATCH_SLICES && first)
		state_slices_known(options->state);
	options->on_synced(options->userdata);
	reconciler_wake(options->reconciler);
	drills_consider(options->drills);
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
	struct watches *watches = watch->watches;
	bool away = is_of_all(response->result);

	watches->away_count += (unsigned)away - (unsigned)watch->away;
	watch->away = away;
	if (watch->kind >= WATCH_INFRASTRUCTURES && !away && response->result != K8S_RESULT_OK) {
		watch->denied = true;
		watches->options.on_synced(watches->options.userdata);
	}
	if (away)
		trouble_report(&watches->away, "watching the API server", response);
	else if (response->result != K8S_RESULT_OK)
		trouble_report(&watch->trouble, watch->doing, response);
	else
		trouble_over(&watch->trouble, watch->doing);
	if (watches->away_count == 0)
		trouble_over(&watches->away, "watching the API server");
}

bool watches_synced(const struct watches *watches)
{
	for (int i = 0; i < WATCH_SLICES; i++)
		if (!k8s_informer_synced(watches->items[i].informer))
			return false;
	for (int i = WATCH_INFRASTRUCTURES; i < WATCH_COUNT; i++) {
		const struct watch *watch = &watches->items[i];

		if (watch->informer && !watch->denied && !k8s_informer_synced(watch->informer))
			return false;
	}
	return watches->discovered;
}

unsigned watches_away(const struct watches *watches)
{
	return watches->away_count;
}

/* --- silence --- */

static void arm(struct watches *watches)
{
	sd_event_source_set_time_relative(watches->timer, ECHO_US);
	sd_event_source_set_enabled(watches->timer, SD_EVENT_ONESHOT);
}

void watches_expect(struct watches *watches, enum step_type type, const char *version)
{
	static const enum watch_kind shown_by[STEP_COUNT] = {
		[STEP_SERVICE_FINALIZER] = WATCH_SERVICES, [STEP_SERVICE_STATUS] = WATCH_SERVICES,
		[STEP_SERVICE_READ] = WATCH_SERVICES,      [STEP_VIP_CREATE] = WATCH_VIPS,
		[STEP_VIP_UPDATE] = WATCH_VIPS,            [STEP_VIP_DELETE] = WATCH_COUNT,
		[STEP_POOL_STATUS] = WATCH_POOLS,          [STEP_LEASE_DELETE] = WATCH_COUNT,
		[STEP_VIP_ORDER] = WATCH_VIPS,             [STEP_VIP_STATUS] = WATCH_VIPS,
		[STEP_SPEAKER_STATUS] = WATCH_SPEAKERS,    [STEP_SIGN_READ] = WATCH_SIGNS,
	};

	if (shown_by[type] == WATCH_COUNT || !*version)
		return;
	echo_expect(&watches->items[shown_by[type]].echo, version, reconciler_now());
	if (sd_event_source_get_enabled(watches->timer, NULL) == 0)
		arm(watches);
}

void watches_restart(struct watches *watches)
{
	watches->silent = true;
	if (log_gate_pass(&watches->silent_gate, NULL))
		log_line(LOG_WARNING, BASE_REASON_API_UNREACHABLE, LOG_NO_FIELDS,
			 "API server: it took what was written, but its watch does not show it: "
			 "everything is listed and watched anew");
	for (int i = 0; i < WATCH_COUNT; i++)
		k8s_informer_restart(watches->items[i].informer, true);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct watches *watches = userdata;
	bool silent = false, waiting = false;

	(void)source;
	(void)usec;
	for (int i = 0; i < WATCH_COUNT; i++) {
		struct watch *watch = &watches->items[i];
		enum echo_verdict verdict =
			echo_check(&watch->echo, k8s_informer_version(watch->informer),
				   k8s_informer_watching_us(watch->informer), reconciler_now());

		silent |= verdict == ECHO_SILENT;
		waiting |= verdict != ECHO_FINE;
	}
	if (silent)
		watches_restart(watches);
	if (waiting)
		arm(watches);
	return 0;
}

/* --- is this OpenShift? --- */

static void on_discovered(void *userdata, const struct k8s_response *response)
{
	struct watches *watches = userdata;

	watches->discovery = NULL;
	if (is_of_all(response->result)) {
		sd_event_source_set_time_relative(watches->discover_again, BASE_USEC_PER_SEC);
		sd_event_source_set_enabled(watches->discover_again, SD_EVENT_ONESHOT);
		return;
	}
	watches->discovered = true;
	if (response->result == K8S_RESULT_OK) {
		start(watches, WATCH_INFRASTRUCTURES);
		start(watches, WATCH_NETWORKS);
	}
	watches->options.on_synced(watches->options.userdata);
}

static int on_discover(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct watches *watches = userdata;
	const struct k8s_call call = { .method = "GET", .path = OPENSHIFT_GROUP };

	(void)usec;
	watches->discovery =
		k8s_client_call(watches->options.client, &call, on_discovered, watches);
	if (watches->discovery)
		return 0;
	sd_event_source_set_time_relative(source, BASE_USEC_PER_SEC);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- the way in and the way out --- */

static int start(struct watches *watches, enum watch_kind kind)
{
	static const struct k8s_informer_handlers handlers = { on_object, on_gone, on_synced,
							       on_trouble, NULL };
	struct watch *watch = &watches->items[kind];
	char path[128];
	int r;

	if (kinds[kind].path)
		snprintf(path, sizeof path, "%s", kinds[kind].path);
	else
		snprintf(path, sizeof path, "/apis/coordination.k8s.io/v1/namespaces/%s/leases",
			 watches->options.namespace);
	watch->watches = watches;
	watch->kind = kind;
	snprintf(watch->doing, sizeof watch->doing, "watching %s", path);
	r = k8s_informer_new(&watch->informer, watches->options.client, watches->options.event,
			     path, kinds[kind].selector, &handlers, watch);
	if (r >= 0)
		k8s_informer_distrust(watch->informer);
	return r;
}

int watches_new(struct watches **result, const struct watches_options *options)
{
	struct watches *watches = calloc(1, sizeof *watches);
	int r;

	if (!watches)
		return -ENOMEM;
	*result = watches;
	watches->options = *options;
	r = sd_event_add_time(options->event, &watches->timer, CLOCK_BOOTTIME, UINT64_MAX, 10000,
			      on_timer, watches);
	if (r >= 0)
		r = sd_event_source_set_enabled(watches->timer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time_relative(options->event, &watches->discover_again,
					       CLOCK_BOOTTIME, 0, 1000, on_discover, watches);
	for (int i = 0; i < WATCH_SLICES && r >= 0; i++)
		r = start(watches, (enum watch_kind)i);
	return r < 0 ? r : start(watches, WATCH_DRILLS);
}

void watches_free(struct watches *watches)
{
	if (!watches)
		return;
	for (int i = 0; i < WATCH_COUNT; i++)
		k8s_informer_free(watches->items[i].informer);
	k8s_request_cancel(watches->discovery);
	sd_event_source_disable_unref(watches->discover_again);
	sd_event_source_disable_unref(watches->timer);
	free(watches);
}
