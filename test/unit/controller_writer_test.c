/* What goes out to a server that answers at once, whatever it is asked: no more than manners.h promises. */
#include <stdlib.h>

#include "base/io/clock.h"
#include "base/time.h"
#include "daemon/controller/manners.h"
#include "daemon/controller/writer.h"
#include "test/unit/unit.h"

#define ENOUGH (MANNERS_BURST + 100)

static sd_event *event;
static struct writer *writer;
static unsigned sent, answered, most;

/* In the client's place. */
struct k8s_request {
	sd_event_source *source;
	k8s_done_fn *done;
	void *userdata;
};

void k8s_request_cancel(struct k8s_request *request)
{
	sd_event_source_disable_unref(request->source);
	free(request);
}

static int on_turn(sd_event_source *source, void *userdata)
{
	struct k8s_request request = *(struct k8s_request *)userdata;
	const struct k8s_response response = { .result = K8S_RESULT_OK };

	(void)source;
	k8s_request_cancel(userdata);
	request.done(request.userdata, &response);
	return 0;
}

struct k8s_request *k8s_client_call(struct k8s_client *client, const struct k8s_call *call,
				    k8s_done_fn *done, void *userdata)
{
	struct k8s_request *request = calloc(1, sizeof *request);

	(void)client;
	assert_string_equal(call->method, "POST");
	assert_non_null(request);
	request->done = done;
	request->userdata = userdata;
	assert_true(sd_event_add_defer(event, &request->source, on_turn, request) >= 0);
	return request;
}

static void on_answer(void *userdata, const struct k8s_response *response)
{
	(void)userdata;
	assert_int_equal(response->result, K8S_RESULT_OK);
	answered++;
}

/* There is always more to do. */
static void work(void *userdata)
{
	(void)userdata;
	while (sent < ENOUGH && writer_ready(writer, false)) {
		sent++;
		writer_send(writer, "POST", "/", NULL, cJSON_CreateObject(), on_answer, NULL);
		if (writer_busy(writer) > most)
			most = writer_busy(writer);
	}
}

static void test_a_burst_and_then_so_many_a_second(void **state)
{
	uint64_t begun_us = base_clock_us(CLOCK_BOOTTIME);

	(void)state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(writer_new(&writer, NULL, event, work, NULL), 0);
	work(NULL);
	while (answered < ENOUGH) {
		uint64_t passed_us = base_clock_us(CLOCK_BOOTTIME) - begun_us;

		assert_true(passed_us < 60 * BASE_USEC_PER_SEC);
		assert_true(sd_event_run(event, 100 * BASE_USEC_PER_MSEC) >= 0);
		passed_us = base_clock_us(CLOCK_BOOTTIME) - begun_us;
		assert_true(sent <= MANNERS_BURST + passed_us * MANNERS_RATE / BASE_USEC_PER_SEC + 1);
	}
	assert_int_equal(most, MANNERS_BUSY);
	writer_free(writer);
	sd_event_unref(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_and_then_so_many_a_second),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
