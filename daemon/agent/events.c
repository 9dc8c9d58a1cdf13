#include "daemon/agent/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/random.h"
#include "base/time.h"
#include "daemon/agent/address_book.h"
#include "daemon/agent/leases.h"
#include "k8s/object.h"
#include "k8s/packed.h"

#define QUEUE_MAX	 500
#define SENDING_MAX	 4
#define TRIES_MAX	 12
#define RETRY_US	 (10 * BASE_USEC_PER_SEC)
#define BUDGET_MAX	 50
#define BUDGET_REFILL_US (BASE_USEC_PER_SEC / 10)
#define SERIES_US	 (360 * BASE_USEC_PER_SEC)
#define SERIES_MAX	 128
#define NOTE_MAX	 1000

struct event {
	struct event *next, **link;
	struct event_queue *queue;
	struct k8s_request *request;
	unsigned tries;
	uint64_t not_before_us;
	bool repeated; /* a PATCH of the series of an earlier one */
	struct k8s_packed *body; /* hundreds may wait */
	char namespace[64];
	char name[]; /* of the Event that is patched, or "" */
};

struct series {
	uint64_t key, last_us;
	unsigned count;
	char namespace[64], name[256];
};

struct event_queue {
	struct agent *agent;
	struct event *first, **last;
	unsigned count, sending, dropped;
	double budget;
	uint64_t budget_us;
	struct log_gate full_gate;
	struct series series[SERIES_MAX];
	struct base_random random;
	sd_event_source *timer;
};

static void event_free(struct event *event)
{
	struct event_queue *queue = event->queue;

	*event->link = event->next;
	if (event->next)
		event->next->link = event->link;
	else
		queue->last = event->link;
	queue->count--;
	if (event->request) {
		queue->sending--;
		k8s_request_cancel(event->request);
	}
	free(event->body);
	free(event);
}

/* Takes the body, also on failure. */
static void add(struct event_queue *queue, const struct series *series, bool repeated, cJSON *body)
{
	const char *name = repeated ? series->name : "";
	char *text = k8s_object_print(body);
	struct event *event = NULL;

	if (queue->count == QUEUE_MAX) {
		queue->dropped++;
		if (log_gate_pass(&queue->full_gate, NULL))
			log_line(LOG_WARNING, BASE_REASON_NONE, LOG_NO_FIELDS,
				 "more changes than Events can be written: %u were not; status and "
				 "the log have them",
				 queue->dropped);
	} else {
		event = calloc(1, sizeof *event + strlen(name) + 1);
	}
	if (event) {
		event->queue = queue;
		event->repeated = repeated;
		event->body = text ? k8s_pack(text) : NULL;
		strcpy(event->namespace, series->namespace);
		strcpy(event->name, name);
		event->link = queue->last;
		*queue->last = event;
		queue->last = &event->next;
		queue->count++;
	}
	free(text);
	cJSON_Delete(body);
}

/* --- what an event says --- */

struct story {
	struct event_queue *queue;
	const struct message_transition *transition;
	char note[NOTE_MAX], time[40];
};

struct object {
	const char *api, *kind, *namespace, *name, *uid;
};

static struct series *find_series(struct event_queue *queue, uint64_t key, uint64_t now_us)
{
	struct series *oldest = &queue->series[0];

	for (int i = 0; i < SERIES_MAX; i++) {
		if (queue->series[i].key == key)
			return &queue->series[i];
		if (queue->series[i].last_us < oldest->last_us)
			oldest = &queue->series[i];
	}
	memset(oldest, 0, sizeof *oldest);
	oldest->key = key;
	oldest->last_us = now_us;
	return oldest;
}

static uint64_t key_of(const struct object *about, const struct story *story)
{
	const char *reason = base_reason_word((enum base_reason)story->transition->reason);

	return base_hash(about->uid, strlen(about->uid)) ^
	       (base_hash(reason, strlen(reason)) * 31 +
		base_hash(story->transition->to, strlen(story->transition->to)) +
		base_hash(story->transition->router, strlen(story->transition->router)));
}

static void repeat(struct event_queue *queue, const struct series *series,
		   const struct story *story)
{
	cJSON *body = cJSON_CreateObject(), *part = cJSON_AddObjectToObject(body, "series");

	cJSON_AddNumberToObject(part, "count", series->count);
	cJSON_AddStringToObject(part, "lastObservedTime", story->time);
	add(queue, series, true, body);
}

static cJSON *make_body(const struct story *story, const struct object *about,
			const struct series *series)
{
	const struct agent *agent = story->queue->agent;
	const struct base_reason_info *info =
		base_reason_info((enum base_reason)story->transition->reason);
	cJSON *body = cJSON_CreateObject(), *part;

	cJSON_AddStringToObject(body, "apiVersion", "events.k8s.io/v1");
	cJSON_AddStringToObject(body, "kind", "Event");
	part = cJSON_AddObjectToObject(body, "metadata");
	cJSON_AddStringToObject(part, "name", series->name);
	cJSON_AddStringToObject(part, "namespace", series->namespace);
	cJSON_AddStringToObject(body, "eventTime", story->time);
	cJSON_AddStringToObject(body, "reportingController", "vipd.dev/speaker");
	cJSON_AddStringToObject(body, "reportingInstance", agent->node);
	cJSON_AddStringToObject(body, "action", "Own");
	cJSON_AddStringToObject(body, "reason", info->word);
	cJSON_AddStringToObject(body, "type",
				info->severity == BASE_SEVERITY_WARNING ? "Warning" : "Normal");
	cJSON_AddStringToObject(body, "note", story->note);
	part = cJSON_AddObjectToObject(body, "regarding");
	cJSON_AddStringToObject(part, "apiVersion", about->api);
	cJSON_AddStringToObject(part, "kind", about->kind);
	cJSON_AddStringToObject(part, "name", about->name);
	if (*about->namespace)
		cJSON_AddStringToObject(part, "namespace", about->namespace);
	cJSON_AddStringToObject(part, "uid", about->uid); /* else kubectl describe does not show it */
	return body;
}

static void tell(const struct story *story, const struct object *about)
{
	struct event_queue *queue = story->queue;
	uint64_t key = key_of(about, story), now_us = agent_now(queue->agent);
	struct series *series = find_series(queue, key, now_us);

	if (series->count > 0 && base_usec_since(now_us, series->last_us) < SERIES_US) {
		series->count++;
		series->last_us = now_us;
		repeat(queue, series, story);
		return;
	}
	series->count = 1;
	series->last_us = now_us;
	/* Events of cluster-scoped objects live in the namespace default. */
	snprintf(series->namespace, sizeof series->namespace, "%s",
		 *about->namespace ? about->namespace : "default");
	snprintf(series->name, sizeof series->name, "%s.%016llx", about->name,
		 (unsigned long long)base_random_next(&queue->random));
	add(queue, series, false, make_body(story, about, series));
}

/* `name`: "namespace/name", cut up here. */
static void tell_service(const struct story *story, char *name)
{
	char *slash = strchr(name, '/'), uid[64];

	if (!slash)
		return;
	*slash = '\0';
	wish_set_uid(story->queue->agent->wishes, name, slash + 1, uid);
	if (uid[0])
		tell(story, &(struct object){ "v1", "Service", name, slash + 1, uid });
}

static void on_address(void *userdata, const char *name, const char *uid, const char *services)
{
	struct story *story = userdata;
	char text[4096];

	snprintf(text, sizeof text, "%s", services ? services : "");
	tell(story, &(struct object){ "vipd.dev/v1alpha1", "VirtualIP", "", name, uid });
	for (char *save, *one = strtok_r(text, ",", &save); one;
	     one = strtok_r(NULL, ",", &save))
		tell_service(story, one);
}

/* A planned move is told by the node that has it now; trouble also by the node that had it. */
static bool is_ours(const char *node, const struct message_transition *transition)
{
	const struct base_reason_info *info =
		base_reason_info((enum base_reason)transition->reason);

	if (transition->age_us > 0 || transition->reason == BASE_REASON_OWNER_OBSERVED)
		return false; /* told before, or seen from afar */
	if (transition->reason == BASE_REASON_STARTED && !transition->from[0])
		return false; /* restarted in place: nothing has moved */
	if (strcmp(transition->to, node) == 0 || transition->reason == BASE_REASON_FOREIGN_ADDRESS)
		return true;
	return strcmp(transition->from, node) == 0 &&
	       (!transition->to[0] || info->severity == BASE_SEVERITY_WARNING);
}

void event_queue_transition(struct event_queue *queue, const struct message_transition *transition)
{
	struct story story = { .queue = queue, .transition = transition };

	if (!is_ours(queue->agent->node, transition))
		return;
	wall_time(story.time, transition->age_us, true);
	snprintf(story.note, sizeof story.note, "%s", transition->message);
	if (transition->outage_us)
		snprintf(story.note + strlen(story.note), sizeof story.note - strlen(story.note),
			 "; outage about %llu ms",
			 (unsigned long long)(transition->outage_us / 1000));
	address_book_each(queue->agent->addresses, transition->router, on_address, &story);
	agent_flush_soon(queue->agent);
}

void event_queue_refusal(struct event_queue *queue, const struct message_refusal *refusal)
{
	struct message_transition transition = { .reason = BASE_REASON_KERNEL_REFUSED };
	struct story story = { .queue = queue, .transition = &transition };
	char service[MESSAGE_SERVICE_SIZE];

	wall_time(story.time, 0, true);
	snprintf(transition.to, sizeof transition.to, "%s", queue->agent->node); /* a series of each node */
	snprintf(story.note, sizeof story.note, "%s", refusal->message);
	snprintf(service, sizeof service, "%s", refusal->service);
	tell_service(&story, service);
	agent_flush_soon(queue->agent);
}

/* --- sending --- */

static void on_answer(void *userdata, const struct k8s_response *response)
{
	struct event *event = userdata;
	struct event_queue *queue = event->queue;

	event->request = NULL;
	queue->sending--;
	agent_flush_soon(queue->agent);
	if (response->result == K8S_RESULT_NOT_FOUND && event->repeated) {
		event_free(event); /* the first one has expired; the next one starts anew */
		return;
	}
	agent_report(queue->agent, AGENT_TASK_EVENT, response);
	switch (response->result) {
	case K8S_RESULT_OK:
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_NOT_FOUND:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_FORBIDDEN:
		event_free(event);
		return;
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
		if (++event->tries == TRIES_MAX) {
			event_free(event);
			return;
		}
		event->not_before_us = agent_now(queue->agent) +
				       (response->retry_after_us > RETRY_US ? response->retry_after_us
									    : RETRY_US);
		return;
	}
}

static void send_event(struct event *event)
{
	char *text = event->body ? k8s_unpack(event->body) : NULL;
	struct k8s_call call = {
		.method = event->repeated ? "PATCH" : "POST",
		.content_type = event->repeated ? "application/merge-patch+json" : NULL,
		.text = text,
		.timeout_ms = 10000,
	};
	char path[512];

	snprintf(path, sizeof path, "/apis/events.k8s.io/v1/namespaces/%s/events%s%s",
		 event->namespace, *event->name ? "/" : "", event->name);
	call.path = path;
	event->request = k8s_client_call(event->queue->agent->client, &call, on_answer, event);
	free(text);
	if (event->request)
		event->queue->sending++;
}

void event_queue_flush(struct event_queue *queue)
{
	uint64_t now_us = agent_now(queue->agent), next_us = BASE_USEC_NEVER;

	if (!queue->first || !queue->agent->client)
		return;
	queue->budget += (double)base_usec_since(now_us, queue->budget_us) / BUDGET_REFILL_US;
	queue->budget_us = now_us;
	if (queue->budget > BUDGET_MAX)
		queue->budget = BUDGET_MAX;
	for (struct event *event = queue->first; event && queue->sending < SENDING_MAX;
	     event = event->next) {
		if (event->request)
			continue;
		if (event->not_before_us > now_us) {
			next_us = base_usec_earlier(next_us, event->not_before_us);
		} else if (queue->budget < 1) {
			next_us = base_usec_earlier(next_us, now_us + BUDGET_REFILL_US);
			break;
		} else {
			queue->budget--;
			send_event(event);
		}
	}
	if (next_us == BASE_USEC_NEVER)
		return;
	sd_event_source_set_time(queue->timer, next_us);
	sd_event_source_set_enabled(queue->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct event_queue *queue = userdata;

	(void)source;
	(void)usec;
	agent_flush_soon(queue->agent);
	return 0;
}

int event_queue_new(struct event_queue **queue, struct agent *agent)
{
	struct event_queue *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -1;
	new->agent = agent;
	new->last = &new->first;
	new->budget = BUDGET_MAX;
	new->budget_us = agent_now(agent);
	new->random.state = new->budget_us ^ base_hash(agent->node, strlen(agent->node));
	r = sd_event_add_time(agent->event, &new->timer, CLOCK_BOOTTIME, UINT64_MAX,
			      BASE_USEC_PER_MSEC, on_timer, new);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->timer, SD_EVENT_OFF);
	*queue = new;
	return r;
}

void event_queue_free(struct event_queue *queue)
{
	if (!queue)
		return;
	while (queue->first)
		event_free(queue->first);
	sd_event_source_disable_unref(queue->timer);
	free(queue);
}
