#include "daemon/controller/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/io/clock.h"
#include "base/time.h"
#include "daemon/controller/manners.h"
#include "daemon/controller/trouble.h"

#define TIMEOUT_MS 10000

struct sent {
	struct sent *next, **link;
	struct writer *writer;
	struct k8s_request *request;
	k8s_done_fn *done;
	void *userdata;
	uint64_t sent_us;
};

struct writer {
	struct k8s_client *client;
	sd_event *event;
	sd_event_source *timer;
	void (*wake)(void *userdata);
	void *userdata;
	struct sent *sent;
	struct manners manners;
	struct trouble trouble;
};

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct writer *writer = userdata;

	(void)source;
	(void)usec;
	writer->wake(writer->userdata);
	return 0;
}

bool writer_ready(struct writer *writer, bool idle)
{
	uint64_t when_us;

	if (manners_allow(&writer->manners, idle, base_clock_us(CLOCK_BOOTTIME), &when_us))
		return true;
	if (when_us != BASE_USEC_NEVER) {
		sd_event_source_set_time(writer->timer, when_us);
		sd_event_source_set_enabled(writer->timer, SD_EVENT_ONESHOT);
	}
	return false;
}

static bool is_away(const struct k8s_response *response)
{
	switch (response->result) {
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
	case K8S_RESULT_UNAUTHORIZED:
		return true;
	case K8S_RESULT_OK:
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_NOT_FOUND:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_FORBIDDEN:
		break;
	}
	return false;
}

static void judge(struct writer *writer, const struct k8s_response *response, uint64_t sent_us)
{
	bool away = is_away(response);

	manners_answered(&writer->manners, away, response->retry_after_us, sent_us,
			 base_clock_us(CLOCK_BOOTTIME));
	if (away)
		trouble_report(&writer->trouble, "writing to the API server", response);
	else
		trouble_over(&writer->trouble, "writing to the API server");
}

static void unlink_sent(struct sent *sent)
{
	*sent->link = sent->next;
	if (sent->next)
		sent->next->link = sent->link;
}

static void on_done(void *userdata, const struct k8s_response *response)
{
	struct sent *sent = userdata;
	struct writer *writer = sent->writer;

	unlink_sent(sent);
	judge(writer, response, sent->sent_us);
	sent->done(sent->userdata, response);
	free(sent);
	writer->wake(writer->userdata);
}

void writer_send(struct writer *writer, const char *method, const char *path,
		 const char *content_type, cJSON *body, k8s_done_fn *done, void *userdata)
{
	struct k8s_response failed = { .result = K8S_RESULT_UNREACHABLE,
				       .message = "out of memory" };
	struct k8s_call call = { .method = method,
				 .path = path,
				 .content_type = content_type,
				 .body = body,
				 .timeout_ms = TIMEOUT_MS };
	struct sent *sent = calloc(1, sizeof *sent);
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME);

	manners_sent(&writer->manners);
	if (sent) {
		sent->writer = writer;
		sent->done = done;
		sent->userdata = userdata;
		sent->sent_us = now_us;
		sent->request = k8s_client_call(writer->client, &call, on_done, sent);
	}
	cJSON_Delete(body);
	if (!sent || !sent->request) {
		free(sent);
		judge(writer, &failed, now_us);
		done(userdata, &failed);
		return;
	}
	sent->next = writer->sent;
	sent->link = &writer->sent;
	if (sent->next)
		sent->next->link = &sent->next;
	writer->sent = sent;
}

unsigned writer_busy(const struct writer *writer)
{
	return writer->manners.busy;
}

int writer_new(struct writer **result, struct k8s_client *client, sd_event *event,
	       void (*wake)(void *userdata), void *userdata)
{
	struct writer *writer = calloc(1, sizeof *writer);
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME), seed;
	int r;

	if (!writer)
		return -ENOMEM;
	writer->client = client;
	writer->event = sd_event_ref(event);
	writer->wake = wake;
	writer->userdata = userdata;
	if (getrandom(&seed, sizeof seed, 0) < 0)
		seed = now_us;
	manners_init(&writer->manners, seed, now_us);
	r = sd_event_add_time(event, &writer->timer, CLOCK_BOOTTIME, UINT64_MAX, 1000, on_timer,
			      writer);
	if (r < 0) {
		writer_free(writer);
		return r;
	}
	*result = writer;
	return 0;
}

void writer_free(struct writer *writer)
{
	if (!writer)
		return;
	while (writer->sent) {
		struct sent *sent = writer->sent;

		unlink_sent(sent);
		manners_cancelled(&writer->manners);
		k8s_request_cancel(sent->request);
		free(sent);
	}
	sd_event_source_disable_unref(writer->timer);
	sd_event_unref(writer->event);
	free(writer);
}
