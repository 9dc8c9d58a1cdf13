#include "daemon/controller/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/io/clock.h"
#include "base/random.h"
#include "base/time.h"
#include "daemon/controller/trouble.h"

#define RATE           200 /* writes a second, for long; client-go's 5 is for one object at a time */
#define BURST          400
#define IDLE_FLOOR     100 /* what Events leave to the others */
#define BUSY_MAX       48  /* of the 100 streams of one connection */
#define BUSY_MIN       4
#define SLOW_US        BASE_USEC_PER_SEC /* an answer: the server has more than it can do */
#define QUICK_US       (250 * BASE_USEC_PER_MSEC)
#define TIMEOUT_MS     10000
#define PAUSE_FIRST_US (500 * BASE_USEC_PER_MSEC)
#define PAUSE_MAX_US   (10 * BASE_USEC_PER_SEC)

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
	unsigned busy, busy_max;
	uint64_t narrowed_us; /* when busy_max was last made smaller */
	uint64_t tokens_us, filled_us; /* one write costs 1 s / RATE of saved time */
	uint64_t paused_until_us, pause_us;
	struct base_random random;
	struct trouble trouble;
};

#define COST_US (BASE_USEC_PER_SEC / RATE)

static void wake_at(struct writer *writer, uint64_t when_us)
{
	sd_event_source_set_time(writer->timer, when_us);
	sd_event_source_set_enabled(writer->timer, SD_EVENT_ONESHOT);
}

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
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME), need_us = COST_US * (idle ? IDLE_FLOOR : 1);

	writer->tokens_us += base_usec_since(now_us, writer->filled_us);
	writer->filled_us = now_us;
	if (writer->tokens_us > BURST * COST_US)
		writer->tokens_us = BURST * COST_US;
	if (now_us < writer->paused_until_us) {
		wake_at(writer, writer->paused_until_us);
		return false;
	}
	if (writer->tokens_us < need_us) {
		wake_at(writer, now_us + need_us - writer->tokens_us);
		return false;
	}
	/* After a pause one request goes ahead alone and finds out. */
	return writer->busy < (writer->pause_us ? 1 : idle ? writer->busy_max / 2 : writer->busy_max);
}

/*
 * Of a server that is short of CPU everybody gets an equal part, and what it does not do faster need not wait there:
 * users and renewals of Leases are answered sooner then, and we no later.
 */
static void adapt(struct writer *writer, uint64_t sent_us)
{
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME), took_us = base_usec_since(now_us, sent_us);

	if (took_us < QUICK_US && writer->busy_max < BUSY_MAX)
		writer->busy_max++;
	if (took_us < SLOW_US || base_usec_since(now_us, writer->narrowed_us) < SLOW_US)
		return;
	writer->narrowed_us = now_us;
	writer->busy_max = writer->busy_max / 2 > BUSY_MIN ? writer->busy_max / 2 : BUSY_MIN;
}

/* A silent or overloaded server: everybody waits, for longer each time. */
static void pause_all(struct writer *writer, const struct k8s_response *response)
{
	uint64_t wait_us = writer->pause_us ? writer->pause_us * 2 : PAUSE_FIRST_US;

	writer->pause_us = wait_us > PAUSE_MAX_US ? PAUSE_MAX_US : wait_us;
	wait_us = writer->pause_us + base_random_below(&writer->random, writer->pause_us / 2);
	if (response->retry_after_us > wait_us)
		wait_us = response->retry_after_us;
	writer->paused_until_us = base_clock_us(CLOCK_BOOTTIME) + wait_us;
	trouble_report(&writer->trouble, "writing to the API server", response);
}

static void judge(struct writer *writer, const struct k8s_response *response)
{
	switch (response->result) {
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
	case K8S_RESULT_UNAUTHORIZED:
		pause_all(writer, response);
		return;
	case K8S_RESULT_OK:
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_NOT_FOUND:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_FORBIDDEN:
		writer->pause_us = 0;
		trouble_over(&writer->trouble, "writing to the API server");
		return;
	}
}

static void unlink_sent(struct sent *sent)
{
	*sent->link = sent->next;
	if (sent->next)
		sent->next->link = sent->link;
	sent->writer->busy--;
}

static void on_done(void *userdata, const struct k8s_response *response)
{
	struct sent *sent = userdata;
	struct writer *writer = sent->writer;

	unlink_sent(sent);
	adapt(writer, sent->sent_us);
	judge(writer, response);
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

	writer->tokens_us -= writer->tokens_us < COST_US ? writer->tokens_us : COST_US;
	if (sent) {
		sent->writer = writer;
		sent->done = done;
		sent->userdata = userdata;
		sent->sent_us = base_clock_us(CLOCK_BOOTTIME);
		sent->request = k8s_client_call(writer->client, &call, on_done, sent);
	}
	cJSON_Delete(body);
	if (!sent || !sent->request) {
		free(sent);
		pause_all(writer, &failed);
		done(userdata, &failed);
		return;
	}
	sent->next = writer->sent;
	sent->link = &writer->sent;
	if (sent->next)
		sent->next->link = &sent->next;
	writer->sent = sent;
	writer->busy++;
}

unsigned writer_busy(const struct writer *writer)
{
	return writer->busy;
}

int writer_new(struct writer **result, struct k8s_client *client, sd_event *event,
	       void (*wake)(void *userdata), void *userdata)
{
	struct writer *writer = calloc(1, sizeof *writer);
	int r;

	if (!writer)
		return -ENOMEM;
	writer->client = client;
	writer->event = sd_event_ref(event);
	writer->wake = wake;
	writer->userdata = userdata;
	writer->busy_max = BUSY_MAX;
	writer->tokens_us = BURST * COST_US;
	writer->filled_us = base_clock_us(CLOCK_BOOTTIME);
	if (getrandom(&writer->random.state, sizeof writer->random.state, 0) < 0)
		writer->random.state = writer->filled_us;
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
		k8s_request_cancel(sent->request);
		free(sent);
	}
	sd_event_source_disable_unref(writer->timer);
	sd_event_unref(writer->event);
	free(writer);
}
