#include "daemon/controller/leader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/io/clock.h"
#include "base/random.h"
#include "base/time.h"
#include "daemon/controller/echo.h"
#include "daemon/controller/leadership.h"
#include "daemon/controller/trouble.h"
#include "k8s/io/informer.h"
#include "k8s/object.h"

#define LABEL    "vipd.dev/controller"
#define SELECTOR "vipd.dev%2Fcontroller%3Dtrue"
#define LEASE_US (10 * BASE_USEC_PER_SEC)
#define RENEW_US (8 * BASE_USEC_PER_SEC)
#define RETRY_US (1500 * BASE_USEC_PER_MSEC)
/*
 * A server that is short of CPU takes seconds, most of them for TLS: whoever gives up early and comes again makes
 * that worse. A connection that is dead leaves time for one more.
 */
#define TIMEOUT_MS ((uint32_t)(RENEW_US / 2 / BASE_USEC_PER_MSEC))

struct leader {
	struct k8s_client *client;
	sd_event *event;
	sd_event_source *timer;
	struct k8s_informer *informer;
	struct echo echo;
	struct k8s_request *request;
	char *namespace, *name, *path, *collection;
	struct leader_handlers handlers;
	void *userdata;
	struct leadership core;
	struct base_random random;
	struct trouble trouble, watch_trouble;
	bool led, released_told;
};

static void read_record(const cJSON *object, struct leadership_record *record)
{
	memset(record, 0, sizeof *record);
	record->exists = true;
	snprintf(record->holder, sizeof record->holder, "%s",
		 k8s_object_text(object, "spec/holderIdentity"));
	snprintf(record->acquired, sizeof record->acquired, "%s",
		 k8s_object_text(object, "spec/acquireTime"));
	snprintf(record->version, sizeof record->version, "%s",
		 k8s_object_text(object, "metadata/resourceVersion"));
	record->transitions =
		(uint32_t)k8s_object_number(object, "spec/leaseTransitions", 0, INT32_MAX, 0);
	record->duration_s =
		(uint32_t)k8s_object_number(object, "spec/leaseDurationSeconds", 1, 3600, 15);
}

static cJSON *make_body(const struct leader *leader, const struct leadership_record *record)
{
	cJSON *object =
		k8s_object_new("coordination.k8s.io/v1", "Lease", leader->namespace, leader->name);
	cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata"), *spec;
	char now[K8S_TIME_SIZE];

	k8s_time_format(now, base_clock_us(CLOCK_REALTIME), true);
	cJSON_AddStringToObject(cJSON_AddObjectToObject(metadata, "labels"), LABEL, "true");
	if (record->exists)
		cJSON_AddStringToObject(metadata, "resourceVersion", record->version);
	spec = cJSON_AddObjectToObject(object, "spec");
	cJSON_AddStringToObject(spec, "holderIdentity", record->holder);
	cJSON_AddNumberToObject(spec, "leaseDurationSeconds", record->duration_s);
	cJSON_AddNumberToObject(spec, "leaseTransitions", record->transitions);
	cJSON_AddStringToObject(spec, "acquireTime", *record->acquired ? record->acquired : now);
	cJSON_AddStringToObject(spec, "renewTime", now);
	return object;
}

static void feed(struct leader *leader, struct leadership_event *event);

static void take_answer(struct leader *leader, const cJSON *body, struct leadership_record *record)
{
	read_record(body, record);
	echo_expect(&leader->echo, record->version, base_clock_us(CLOCK_BOOTTIME));
}

static void on_read(void *userdata, const struct k8s_response *response)
{
	struct leader *leader = userdata;
	struct leadership_record record = { 0 };
	struct leadership_event event = { .type = LEADERSHIP_EVENT_OBSERVED,
					  .record = &record,
					  .answer = true };

	leader->request = NULL;
	if (response->result == K8S_RESULT_OK && response->body)
		take_answer(leader, response->body, &record);
	else if (response->result != K8S_RESULT_NOT_FOUND)
		event.type = LEADERSHIP_EVENT_REFUSED;
	if (event.type == LEADERSHIP_EVENT_REFUSED)
		trouble_report(&leader->trouble, "reading the controller's Lease", response);
	feed(leader, &event);
}

static void on_written(void *userdata, const struct k8s_response *response)
{
	struct leader *leader = userdata;
	struct leadership_record record = { 0 };
	struct leadership_event event = { .type = LEADERSHIP_EVENT_REFUSED, .record = &record };

	leader->request = NULL;
	switch (response->result) {
	case K8S_RESULT_OK:
		if (response->body)
			take_answer(leader, response->body, &record);
		event.type = response->body ? LEADERSHIP_EVENT_WRITTEN : LEADERSHIP_EVENT_UNCLEAR;
		trouble_over(&leader->trouble, "renewing the controller's Lease");
		break;
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
		event.type = LEADERSHIP_EVENT_UNCLEAR; /* another was faster: nothing is wrong */
		break;
	case K8S_RESULT_UNKNOWN:
	case K8S_RESULT_NOT_FOUND: /* deleted meanwhile; or the namespace is missing */
	case K8S_RESULT_GONE:
		event.type = leader->core.record.exists || response->result == K8S_RESULT_UNKNOWN
				     ? LEADERSHIP_EVENT_UNCLEAR
				     : LEADERSHIP_EVENT_REFUSED;
		trouble_report(&leader->trouble, "writing the controller's Lease", response);
		break;
	case K8S_RESULT_INVALID:
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_FORBIDDEN:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
		trouble_report(&leader->trouble, "writing the controller's Lease", response);
		break;
	}
	feed(leader, &event);
}

static void send_request(struct leader *leader, enum leadership_action action)
{
	bool create = action == LEADERSHIP_ACTION_WRITE && !leader->core.write.exists;
	struct k8s_call call = {
		.method = action == LEADERSHIP_ACTION_READ ? "GET"
			  : create                         ? "POST"
							   : "PUT",
		.path = create ? leader->collection : leader->path,
		.lane = K8S_LANE_LEASE,
		.timeout_ms = TIMEOUT_MS,
	};
	cJSON *body = NULL;

	if (action == LEADERSHIP_ACTION_WRITE)
		body = make_body(leader, &leader->core.write);
	call.body = body;
	leader->request =
		k8s_client_call(leader->client, &call,
				action == LEADERSHIP_ACTION_READ ? on_read : on_written, leader);
	cJSON_Delete(body);
}

static void arm(struct leader *leader)
{
	uint64_t deadline_us = leadership_deadline(&leader->core);

	sd_event_source_set_time(leader->timer, deadline_us);
	sd_event_source_set_enabled(
		leader->timer, deadline_us == BASE_USEC_NEVER ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static void tell(struct leader *leader, uint64_t now_us)
{
	bool leads = leadership_leads(&leader->core, now_us);

	if (leads != leader->led) {
		leader->led = leads;
		leader->handlers.on_change(leader->userdata, leads);
	}
	if (leadership_done(&leader->core) && !leader->released_told) {
		leader->released_told = true;
		leader->handlers.on_released(leader->userdata);
	}
}

/* Every renewal must come back through the watch; the only thing that is written at rest. */
static void listen(struct leader *leader, uint64_t now_us)
{
	if (echo_check(&leader->echo, k8s_informer_version(leader->informer),
		       k8s_informer_watching_us(leader->informer), now_us) != ECHO_SILENT)
		return;
	k8s_informer_restart(leader->informer, true);
	leader->handlers.on_silent(leader->userdata);
}

static void feed(struct leader *leader, struct leadership_event *event)
{
	enum leadership_action action;

	event->now_us = base_clock_us(CLOCK_BOOTTIME);
	listen(leader, event->now_us);
	event->jitter_us = base_random_below(&leader->random, RETRY_US / 5);
	action = leadership_step(&leader->core, event);
	if (action != LEADERSHIP_ACTION_NONE) {
		send_request(leader, action);
		if (!leader->request) { /* out of memory: as if it had been refused */
			struct leadership_event refused = { .type = LEADERSHIP_EVENT_REFUSED,
							    .now_us = event->now_us,
							    .jitter_us = event->jitter_us };

			leadership_step(&leader->core, &refused);
		}
	}
	arm(leader);
	tell(leader, event->now_us);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct leadership_event event = { .type = LEADERSHIP_EVENT_TIMER };

	(void)source;
	(void)usec;
	feed(userdata, &event);
	return 0;
}

static void on_object(void *userdata, const cJSON *object)
{
	struct leader *leader = userdata;
	struct leadership_record record;
	struct leadership_event event = { .type = LEADERSHIP_EVENT_OBSERVED, .record = &record };

	if (strcmp(k8s_object_text(object, "metadata/name"), leader->name) != 0)
		return;
	read_record(object, &record);
	feed(leader, &event);
}

static void on_gone(void *userdata, const char *namespace, const char *name)
{
	struct leader *leader = userdata;
	struct leadership_record record = { 0 };
	struct leadership_event event = { .type = LEADERSHIP_EVENT_OBSERVED, .record = &record };

	(void)namespace;
	if (strcmp(name, leader->name) == 0)
		feed(leader, &event);
}

static void on_synced(void *userdata, bool first)
{
	struct leader *leader = userdata;

	(void)first;
	echo_clear(&leader->echo);
}

static void on_trouble(void *userdata, const struct k8s_response *response)
{
	struct leader *leader = userdata;

	if (response->result == K8S_RESULT_OK)
		trouble_over(&leader->watch_trouble, "watching the controller's Lease");
	else
		trouble_report(&leader->watch_trouble, "watching the controller's Lease", response);
}

int leader_new(struct leader **result, struct k8s_client *client, sd_event *event,
	       const struct leader_options *options, const struct leader_handlers *handlers,
	       void *userdata)
{
	static const struct k8s_informer_handlers watch = { on_object, on_gone, on_synced,
							    on_trouble, NULL };
	struct leadership_config config = { .lease_us = LEASE_US,
					    .renew_us = RENEW_US,
					    .retry_us = RETRY_US };
	struct leader *leader = calloc(1, sizeof *leader);
	int r;

	if (!leader)
		return -ENOMEM;
	leader->client = client;
	leader->event = sd_event_ref(event);
	leader->handlers = *handlers;
	leader->userdata = userdata;
	leader->namespace = strdup(options->namespace);
	leader->name = strdup(options->name);
	snprintf(config.identity, sizeof config.identity, "%s", options->identity);
	leadership_init(&leader->core, &config);
	if (getrandom(&leader->random.state, sizeof leader->random.state, 0) < 0)
		leader->random.state = base_clock_us(CLOCK_BOOTTIME);
	if (!leader->namespace || !leader->name ||
	    asprintf(&leader->collection, "/apis/coordination.k8s.io/v1/namespaces/%s/leases",
		     options->namespace) < 0 ||
	    asprintf(&leader->path, "%s/%s", leader->collection, options->name) < 0) {
		leader_free(leader);
		return -ENOMEM;
	}
	r = sd_event_add_time_relative(event, &leader->timer, CLOCK_BOOTTIME, 0, 1000, on_timer,
				       leader);
	if (r >= 0)
		r = k8s_informer_new(&leader->informer, client, event, leader->collection, SELECTOR,
				     &watch, leader);
	if (r < 0) {
		leader_free(leader);
		return r;
	}
	k8s_informer_distrust(leader->informer);
	*result = leader;
	return 0;
}

void leader_free(struct leader *leader)
{
	if (!leader)
		return;
	k8s_request_cancel(leader->request);
	k8s_informer_free(leader->informer);
	sd_event_source_disable_unref(leader->timer);
	sd_event_unref(leader->event);
	free(leader->namespace);
	free(leader->name);
	free(leader->path);
	free(leader->collection);
	free(leader);
}

bool leader_leads(const struct leader *leader)
{
	return leadership_leads(&leader->core, base_clock_us(CLOCK_BOOTTIME));
}

void leader_release(struct leader *leader)
{
	struct leadership_event event = { .type = LEADERSHIP_EVENT_RELEASE };

	feed(leader, &event);
}
