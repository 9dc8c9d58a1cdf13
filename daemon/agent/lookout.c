#include "daemon/agent/lookout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/time.h"
#include "k8s/object.h"

#define WRITE_MS 2000
#define RETRY_US (500 * BASE_USEC_PER_MSEC)
#define TRIES    10
#define ID_SIZE  80

struct lookout {
	struct agent *agent;
	char id[ID_SIZE]; /* of the order that was taken last */
	uint32_t number;  /* of it, for the engine */
	struct message_probe_result result;
	bool due; /* `result` has to be written */
	unsigned tries;
	struct k8s_request *request;
	sd_event_source *retry;
};

static void write_result(struct lookout *lookout);

static void on_written(void *userdata, const struct k8s_response *response)
{
	struct lookout *lookout = userdata;

	lookout->request = NULL;
	if (response->result != K8S_RESULT_OK) {
		agent_report(lookout->agent, AGENT_TASK_SPEAKER, response);
		if (++lookout->tries < TRIES) {
			lookout->due = true;
			sd_event_source_set_time_relative(lookout->retry, RETRY_US);
			sd_event_source_set_enabled(lookout->retry, SD_EVENT_ONESHOT);
		}
		return;
	}
	if (lookout->due)
		write_result(lookout);
}

static void write_result(struct lookout *lookout)
{
	struct k8s_call call = { .method = "PATCH",
				 .timeout_ms = WRITE_MS,
				 .content_type = "application/merge-patch+json" };
	const struct message_probe_result *result = &lookout->result;
	cJSON *body, *probe;
	char path[256];

	if (lookout->request || !lookout->agent->client)
		return;
	lookout->due = false;
	body = cJSON_CreateObject();
	probe = cJSON_AddObjectToObject(cJSON_AddObjectToObject(body, "status"), "probe");
	cJSON_AddStringToObject(probe, "id", lookout->id);
	cJSON_AddStringToObject(probe, "state", result->done ? "Done" : "Probing");
	cJSON_AddNumberToObject(probe, "sent", result->sent);
	cJSON_AddNumberToObject(probe, "lost", result->lost);
	cJSON_AddNumberToObject(probe, "outageMilliseconds", (double)result->outage_us / 1000);
	cJSON_AddNumberToObject(probe, "answeredByTwoMilliseconds", (double)result->two_us / 1000);
	cJSON_AddStringToObject(probe, "message", result->why_not);
	snprintf(path, sizeof path,
		 AGENT_GROUP "/speakers/%s/status?fieldManager=vipd-speaker-probe",
		 lookout->agent->node);
	call.path = path;
	call.body = body;
	lookout->request = k8s_client_call(lookout->agent->client, &call, on_written, lookout);
	cJSON_Delete(body);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct lookout *lookout = userdata;

	(void)source;
	(void)usec;
	if (lookout->due)
		write_result(lookout);
	return 0;
}

static bool has_expired(const cJSON *order)
{
	const cJSON *expires = cJSON_GetObjectItemCaseSensitive(order, "expires");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return !cJSON_IsNumber(expires) || (double)now.tv_sec > expires->valuedouble;
}

static uint32_t number_of(const cJSON *order, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(order, name);

	return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= 1e6
		       ? (uint32_t)item->valuedouble
		       : 0;
}

static void carry_out(struct lookout *lookout, const cJSON *order)
{
	struct message *message = agent_message(lookout->agent, MESSAGE_PROBE);
	struct message_probe *probe = &message->probe;

	memset(probe, 0, sizeof *probe);
	if (!base_address_parse(agent_text(order, "address"), &probe->address))
		return;
	snprintf(lookout->id, sizeof lookout->id, "%s", agent_text(order, "id"));
	probe->id = ++lookout->number;
	probe->interval_ms = number_of(order, "intervalMilliseconds");
	probe->duration_ms = number_of(order, "durationMilliseconds");
	lookout->due = false;
	lookout->tries = 0;
	agent_send(lookout->agent, message);
}

void lookout_object(struct lookout *lookout, const cJSON *object)
{
	const cJSON *order = k8s_object_get(object, "status/lookout");
	const char *id = k8s_object_text(order, "id");

	if (!*id || strcmp(k8s_object_text(object, "metadata/name"), lookout->agent->node) != 0)
		return;
	/* An order that was answered was taken before, by us or by our predecessor. */
	if (strlen(id) < ID_SIZE && strcmp(id, lookout->id) != 0 &&
	    strcmp(id, k8s_object_text(object, "status/probe/id")) != 0 && !has_expired(order))
		carry_out(lookout, order);
}

void lookout_result(struct lookout *lookout, const struct message_probe_result *result)
{
	if (result->id != lookout->number)
		return; /* of a drill that another one ended */
	lookout->result = *result;
	lookout->due = true;
	lookout->tries = 0;
	write_result(lookout);
}

int lookout_new(struct lookout **lookout, struct agent *agent)
{
	struct lookout *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->agent = agent;
	r = sd_event_add_time(agent->event, &new->retry, CLOCK_BOOTTIME, BASE_USEC_NEVER, 1000,
			      on_retry, new);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->retry, SD_EVENT_OFF);
	if (r < 0) {
		lookout_free(new);
		return r;
	}
	*lookout = new;
	return 0;
}

void lookout_free(struct lookout *lookout)
{
	if (!lookout)
		return;
	k8s_request_cancel(lookout->request);
	sd_event_source_disable_unref(lookout->retry);
	free(lookout);
}
