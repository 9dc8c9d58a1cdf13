#include "daemon/agent/duty.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/time.h"
#include "k8s/object.h"

#define WRITE_MS 2000
#define RETRY_US (500 * BASE_USEC_PER_MSEC)
#define TRIES    10

/* Never at once: what calls us may be the client, which cannot be called then. */
static void write_soon(struct duty *duty, uint64_t wait_us)
{
	duty->due = true;
	sd_event_source_set_time_relative(duty->timer, wait_us);
	sd_event_source_set_enabled(duty->timer, SD_EVENT_ONESHOT);
}

static void on_answered(void *userdata, const struct k8s_response *response)
{
	struct duty *duty = userdata;

	duty->request = NULL;
	if (response->result != K8S_RESULT_OK) {
		agent_report(duty->agent, AGENT_TASK_SPEAKER, response);
		if (++duty->tries < TRIES)
			write_soon(duty, RETRY_US);
		return;
	}
	if (duty->due)
		write_soon(duty, 0);
	else if (duty->on_written)
		duty->on_written(duty->userdata);
}

static void write_answer(struct duty *duty)
{
	struct k8s_call call = { .method = "PATCH",
				 .timeout_ms = WRITE_MS,
				 .content_type = "application/merge-patch+json" };
	cJSON *body;
	char path[256];

	if (duty->request || !duty->agent->client)
		return;
	duty->due = false;
	body = cJSON_CreateObject();
	cJSON_AddItemToObject(cJSON_AddObjectToObject(body, "status"), duty->answer,
			      cJSON_Duplicate(duty->saying, true));
	snprintf(path, sizeof path,
		 AGENT_GROUP "/speakers/%s/status?fieldManager=vipd-speaker-drill",
		 duty->agent->node);
	call.path = path;
	call.body = body;
	duty->request = k8s_client_call(duty->agent->client, &call, on_answered, duty);
	cJSON_Delete(body);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct duty *duty = userdata;

	(void)source;
	(void)usec;
	if (duty->due)
		write_answer(duty);
	return 0;
}

static bool has_expired(const cJSON *order)
{
	const cJSON *expires = cJSON_GetObjectItemCaseSensitive(order, "expires");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return !cJSON_IsNumber(expires) || (double)now.tv_sec > expires->valuedouble;
}

uint32_t duty_number(const cJSON *order, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(order, name);

	return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= 1e6
		       ? (uint32_t)item->valuedouble
		       : 0;
}

const cJSON *duty_take(struct duty *duty, const cJSON *object)
{
	const cJSON *status = k8s_object_get(object, "status");
	const cJSON *order = cJSON_GetObjectItemCaseSensitive(status, duty->order);
	const char *id = agent_text(order, "id");

	if (!*id || strcmp(k8s_object_text(object, "metadata/name"), duty->agent->node) != 0)
		return NULL;
	/* An order that was answered was taken before, by us or by our predecessor. */
	if (strlen(id) >= sizeof duty->id || strcmp(id, duty->id) == 0 ||
	    strcmp(id, agent_text(cJSON_GetObjectItemCaseSensitive(status, duty->answer), "id")) ==
		    0 ||
	    has_expired(order))
		return NULL;
	snprintf(duty->id, sizeof duty->id, "%s", id);
	duty->due = false;
	return order;
}

void duty_answer(struct duty *duty, cJSON *answer)
{
	cJSON_AddStringToObject(answer, "id", duty->id);
	cJSON_Delete(duty->saying);
	duty->saying = answer;
	duty->tries = 0;
	write_soon(duty, 0);
}

int duty_init(struct duty *duty)
{
	int r = sd_event_add_time(duty->agent->event, &duty->timer, CLOCK_BOOTTIME, BASE_USEC_NEVER,
				  1000, on_timer, duty);

	return r < 0 ? r : sd_event_source_set_enabled(duty->timer, SD_EVENT_OFF);
}

void duty_clear(struct duty *duty)
{
	k8s_request_cancel(duty->request);
	sd_event_source_disable_unref(duty->timer);
	cJSON_Delete(duty->saying);
}
