#include "daemon/controller/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io/clock.h"
#include "base/time.h"
#include "daemon/controller/table.h"
#include "daemon/controller/trouble.h"
#include "k8s/object.h"

#define EVENTS_MAX   1000
#define SERIES_US    (360 * BASE_USEC_PER_SEC)  /* repeats within it are one series */
#define REFRESH_US   (1800 * BASE_USEC_PER_SEC) /* a running series is written again so often */
#define ATTEMPTS_MAX 12
#define NOTE_SIZE    1024

struct event {
	struct table_entry entry;
	struct event *next, *previous; /* oldest first */
	char key[64];
	char *namespace, *name; /* of the Event itself */
	cJSON *body;            /* as created; NULL once it is there */
	bool pending, sent;
	unsigned count, attempts;
	uint64_t last_us, written_us, wall_us;
	struct events *owner;
};

struct events {
	struct writer *writer;
	char *instance;
	struct table table;
	struct event *first, *last;
	unsigned count, pending, dropped;
	struct trouble trouble;
};

static void forget(struct events *events, struct event *event)
{
	*(event->previous ? &event->previous->next : &events->first) = event->next;
	*(event->next ? &event->next->previous : &events->last) = event->previous;
	table_remove(&events->table, &event->entry);
	events->count--;
	events->pending -= event->pending;
	cJSON_Delete(event->body);
	free(event->namespace);
	free(event->name);
	free(event);
}

/* Ended series go; if all are young, the oldest that nothing waits for. */
static bool make_room(struct events *events, uint64_t now_us)
{
	struct event *event = events->first, *next;

	for (; event; event = next) {
		next = event->next;
		if (!event->pending && !event->sent &&
		    (base_usec_since(now_us, event->last_us) > SERIES_US ||
		     events->count >= EVENTS_MAX))
			forget(events, event);
	}
	return events->count < EVENTS_MAX;
}

static void key_of(char key[static 64], const struct events_subject *subject,
		   enum base_reason reason, const char *note)
{
	snprintf(key, 64, "%.40s/%u/%016llx", subject->uid, (unsigned)reason,
		 (unsigned long long)base_hash(note, strlen(note)));
}

static cJSON *make_body(const struct events *events, const struct event *event,
			const struct events_subject *subject, enum base_reason reason,
			const char *action, const char *note)
{
	const struct base_reason_info *info = base_reason_info(reason);
	cJSON *body = k8s_object_new("events.k8s.io/v1", "Event", event->namespace, event->name);
	cJSON *regarding = cJSON_AddObjectToObject(body, "regarding");
	char when[K8S_TIME_SIZE], text[NOTE_SIZE];

	snprintf(text, sizeof text, "%s", note);
	cJSON_AddStringToObject(regarding, "apiVersion", subject->api);
	cJSON_AddStringToObject(regarding, "kind", subject->kind);
	if (subject->namespace)
		cJSON_AddStringToObject(regarding, "namespace", subject->namespace);
	cJSON_AddStringToObject(regarding, "name", subject->name);
	cJSON_AddStringToObject(regarding, "uid", subject->uid); /* kubectl describe asks for it */
	cJSON_AddStringToObject(body, "eventTime", k8s_time_format(when, event->wall_us, true));
	cJSON_AddStringToObject(body, "reportingController", "vipd.dev/controller");
	cJSON_AddStringToObject(body, "reportingInstance", events->instance);
	cJSON_AddStringToObject(body, "action", action);
	cJSON_AddStringToObject(body, "reason", info->word);
	cJSON_AddStringToObject(body, "type",
				info->severity == BASE_SEVERITY_WARNING ? "Warning" : "Normal");
	cJSON_AddStringToObject(body, "note", text);
	return body;
}

static struct event *event_new(struct events *events, const struct events_subject *subject,
			       const char *key)
{
	struct event *event = calloc(1, sizeof *event);
	uint64_t salt;

	if (!event)
		return NULL;
	snprintf(event->key, sizeof event->key, "%s", key);
	event->wall_us = base_clock_us(CLOCK_REALTIME);
	salt = base_hash(key, strlen(key)) ^ event->wall_us;
	event->namespace = strdup(subject->namespace ? subject->namespace : "default");
	if (asprintf(&event->name, "%.200s.%016llx", subject->name, (unsigned long long)salt) < 0)
		event->name = NULL;
	if (!event->namespace || !event->name ||
	    table_add(&events->table, &event->entry, event->key) < 0) {
		free(event->namespace);
		free(event->name);
		free(event);
		return NULL;
	}
	event->owner = events;
	event->previous = events->last;
	*(events->last ? &events->last->next : &events->first) = event;
	events->last = event;
	events->count++;
	return event;
}

static void set_pending(struct events *events, struct event *event)
{
	events->pending += !event->pending;
	event->pending = true;
}

void events_say(struct events *events, const struct events_subject *subject,
		enum base_reason reason, const char *action, const char *note)
{
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME);
	struct event *event;
	char key[64];

	key_of(key, subject, reason, note);
	event = TABLE_OF(table_find(&events->table, key), struct event, entry);
	if (event && !event->pending && !event->sent &&
	    base_usec_since(now_us, event->last_us) > SERIES_US) {
		forget(events, event);
		event = NULL;
	}
	if (event) {
		event->count++;
		event->last_us = now_us;
		if (event->count == 2 || base_usec_since(now_us, event->written_us) > REFRESH_US)
			set_pending(events, event);
	} else if (!make_room(events, now_us) || !(event = event_new(events, subject, key))) {
		events->dropped++;
		return;
	} else {
		event->body = make_body(events, event, subject, reason, action, note);
		event->count = 1;
		event->last_us = now_us;
		set_pending(events, event);
	}
	events_pump(events);
}

static void on_done(void *userdata, const struct k8s_response *response)
{
	struct event *event = userdata;
	struct events *events = event->owner;

	event->sent = false;
	switch (response->result) {
	case K8S_RESULT_OK:
	case K8S_RESULT_EXISTS: /* an answer got lost: it is there */
		cJSON_Delete(event->body);
		event->body = NULL;
		trouble_over(&events->trouble, "writing Events");
		return;
	case K8S_RESULT_NOT_FOUND: /* the namespace or the Event is gone */
	case K8S_RESULT_GONE:
		forget(events, event);
		return;
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_FORBIDDEN:
		/* A namespace on its way out takes no new objects: nothing is wrong. */
		if (!strstr(response->message, "being terminated"))
			trouble_report(&events->trouble, "writing Events", response);
		forget(events, event);
		return;
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
		if (++event->attempts < ATTEMPTS_MAX)
			set_pending(events, event);
		else
			forget(events, event);
		return;
	}
}

static void send_series(struct events *events, struct event *event)
{
	cJSON *body = cJSON_CreateObject(), *series = cJSON_AddObjectToObject(body, "series");
	char when[K8S_TIME_SIZE], *path;

	cJSON_AddNumberToObject(series, "count", event->count);
	cJSON_AddStringToObject(series, "lastObservedTime",
				k8s_time_format(when, base_clock_us(CLOCK_REALTIME), true));
	if (asprintf(&path, "/apis/events.k8s.io/v1/namespaces/%s/events/%s", event->namespace,
		     event->name) < 0) {
		cJSON_Delete(body);
		return;
	}
	event->sent = true;
	writer_send(events->writer, "PATCH", path, "application/merge-patch+json", body, on_done,
		    event);
	free(path);
}

static void send_new(struct events *events, struct event *event)
{
	char *path;

	if (asprintf(&path, "/apis/events.k8s.io/v1/namespaces/%s/events", event->namespace) < 0)
		return;
	event->sent = true;
	writer_send(events->writer, "POST", path, NULL, cJSON_Duplicate(event->body, true), on_done,
		    event);
	free(path);
}

void events_pump(struct events *events)
{
	struct event *event = events->first, *next;

	for (; event && events->pending; event = next) {
		next = event->next;
		if (!event->pending || event->sent)
			continue;
		if (!writer_ready(events->writer, true))
			return;
		event->pending = false;
		events->pending--;
		event->written_us = base_clock_us(CLOCK_BOOTTIME);
		if (event->body)
			send_new(events, event);
		else
			send_series(events, event);
	}
}

int events_new(struct events **result, struct writer *writer, const char *instance)
{
	struct events *events = calloc(1, sizeof *events);

	if (!events)
		return -ENOMEM;
	events->writer = writer;
	events->instance = strndup(instance, 128);
	if (!events->instance) {
		free(events);
		return -ENOMEM;
	}
	*result = events;
	return 0;
}

void events_free(struct events *events)
{
	if (!events)
		return;
	while (events->first)
		forget(events, events->first);
	table_clear(&events->table);
	free(events->instance);
	free(events);
}
