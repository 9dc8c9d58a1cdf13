/*
 * Answers that a real API server cannot be told to give: cut, mute, endless, in no language at all.
 * What it can be told, it tells in test/kubernetes.
 */
#include "k8s/io/client.h"
#include "test/adapter/server.h"

static sd_event *event;
static struct k8s_client *client;

static struct {
	unsigned done, lines, true_contacts, false_contacts;
	enum k8s_result result;
	long status;
	char message[512], body[4096];
	bool malformed;
	uint64_t retry_after_us;
	int stop_at_line;
} heard;

static void on_contact(void *userdata, bool answered)
{
	assert_ptr_equal(userdata, &heard);
	answered ? heard.true_contacts++ : heard.false_contacts++;
}

static int set_up(void **state)
{
	(void)state;
	memset(&heard, 0, sizeof heard);
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(k8s_client_new(&client, event, server_config(server.port, "ca"), "vipd-test",
					on_contact, &heard),
			 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	k8s_client_free(client);
	client = NULL;
	event = sd_event_unref(event);
	return 0;
}

static void on_done(void *userdata, const struct k8s_response *response)
{
	char *text = response->body ? cJSON_PrintUnformatted(response->body) : NULL;

	assert_ptr_equal(userdata, &heard);
	heard.done++;
	heard.result = response->result;
	heard.status = response->status;
	heard.malformed = response->malformed;
	heard.retry_after_us = response->retry_after_us;
	snprintf(heard.message, sizeof heard.message, "%s", response->message);
	snprintf(heard.body, sizeof heard.body, "%s", text ? text : "");
	free(text);
}

static int on_line(void *userdata, const cJSON *line)
{
	assert_ptr_equal(userdata, &heard);
	assert_non_null(line);
	heard.lines++;
	return heard.stop_at_line && (int)heard.lines == heard.stop_at_line ? -1 : 0;
}

static void run_until(unsigned done)
{
	uint64_t end = place_now_us() + 10000000;

	while (heard.done < done) {
		assert_true(place_now_us() < end);
		assert_true(sd_event_run(event, 100000) >= 0);
	}
}

static enum k8s_result get(const char *path)
{
	struct k8s_call call = { .method = "GET", .path = path, .timeout_ms = 3000 };

	heard.done = 0;
	assert_non_null(k8s_client_call(client, &call, on_done, &heard));
	run_until(1);
	return heard.result;
}

static void test_every_status_has_its_result(void **state)
{
	static const struct {
		const char *path;
		enum k8s_result result;
		int contact; /* 1: it works, -1: it does not, 0: tells nothing */
		const char *message;
	} rows[] = {
		{ "/ok", K8S_RESULT_OK, 1, "" },
		{ "/status/409/Conflict", K8S_RESULT_CONFLICT, 1, "Conflict it is" },
		{ "/status/409/AlreadyExists", K8S_RESULT_EXISTS, 1, "AlreadyExists it is" },
		{ "/status/404/NotFound", K8S_RESULT_NOT_FOUND, 1, "NotFound it is" },
		{ "/status/410/Expired", K8S_RESULT_GONE, 1, "Expired it is" },
		{ "/status/422/Invalid", K8S_RESULT_INVALID, 1, "Invalid it is" },
		{ "/status/400/BadRequest", K8S_RESULT_INVALID, 1, "BadRequest it is" },
		{ "/status/403/Forbidden", K8S_RESULT_FORBIDDEN, 0, "Forbidden it is" },
		{ "/status/401/Unauthorized", K8S_RESULT_UNAUTHORIZED, -1, "Unauthorized it is" },
		{ "/status/500/InternalError", K8S_RESULT_SERVER_ERROR, -1, "InternalError it is" },
		{ "/status/503/ServiceUnavailable", K8S_RESULT_SERVER_ERROR, -1,
		  "ServiceUnavailable it is" },
		/* a proxy's page instead of a Status */
		{ "/page/502", K8S_RESULT_SERVER_ERROR, -1, NULL },
		{ "/page/407", K8S_RESULT_INVALID, 1, NULL },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		unsigned yes = heard.true_contacts, no = heard.false_contacts;

		ASSERT_ROW(rows[i].path, get(rows[i].path) == rows[i].result);
		ASSERT_ROW(rows[i].path, heard.true_contacts - yes == (rows[i].contact > 0));
		ASSERT_ROW(rows[i].path, heard.false_contacts - no == (rows[i].contact < 0));
		if (rows[i].message && strcmp(heard.message, rows[i].message) != 0)
			fail_msg("%s: %s", rows[i].path, heard.message);
	}
}

/* Whoever writes must know whether it may have landed. */
static void test_no_answer_and_not_sent_are_told_apart(void **state)
{
	static const struct {
		const char *path;
		enum k8s_result result;
	} rows[] = {
		{ "/silence", K8S_RESULT_UNKNOWN }, { "/reset", K8S_RESULT_UNKNOWN },
		{ "/cut", K8S_RESULT_UNKNOWN },     { "/noise", K8S_RESULT_UNKNOWN },
		{ "/hang", K8S_RESULT_UNKNOWN },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++)
		for (int lane = 0; lane < 2; lane++) {
			struct k8s_call call = { .method = "PUT",
						 .path = rows[i].path,
						 .lane = lane ? K8S_LANE_LEASE : K8S_LANE_SHARED,
						 .timeout_ms = 500 };
			cJSON *body = cJSON_CreateObject();
			unsigned no = heard.false_contacts;

			call.body = body;
			heard.done = 0;
			assert_non_null(k8s_client_call(client, &call, on_done, &heard));
			cJSON_Delete(body);
			run_until(1);
			if (heard.result != rows[i].result)
				fail_msg("%s: %s, %s", rows[i].path, k8s_result_name(heard.result),
					 heard.message);
			ASSERT_ROW(rows[i].path, heard.false_contacts == no + 1);
			ASSERT_ROW(rows[i].path, heard.message[0] != '\0');
			/* The next request is none the worse for it. */
			ASSERT_ROW(rows[i].path, get("/ok") == K8S_RESULT_OK);
		}
}

static void test_a_server_out_of_reach_or_not_to_be_trusted_got_nothing(void **state)
{
	static const struct {
		const char *name, *authority;
		unsigned own_port;
		const char *message;
	} rows[] = {
		{ "nobody listens", "ca", 1, "onnect" },
		{ "signed by somebody else", "other", 0, "certificate" },
		{ "an authority that is no file", "nothing", 0, "" },
	};

	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		tear_down(state);
		memset(&heard, 0, sizeof heard);
		assert_true(sd_event_new(&event) >= 0);
		assert_int_equal(
			k8s_client_new(&client, event,
				       server_config(rows[i].own_port ? rows[i].own_port : server.port,
						     rows[i].authority),
				       "vipd-test", on_contact, &heard),
			0);
		ASSERT_ROW(rows[i].name, get("/ok") == K8S_RESULT_UNREACHABLE);
		ASSERT_ROW(rows[i].name, heard.status == 0);
		if (!strstr(heard.message, rows[i].message))
			fail_msg("%s: %s", rows[i].name, heard.message);
	}
}

static void test_how_long_to_wait_is_believed_within_reason(void **state)
{
	static const struct {
		const char *path;
		uint64_t wait_us;
	} rows[] = {
		{ "/later/7", 7000000 }, { "/later/0", 0 },         { "/later/-5", 0 },
		{ "/later/soon", 0 },    { "/later/999999999", 0 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		ASSERT_ROW(rows[i].path, get(rows[i].path) == K8S_RESULT_THROTTLED);
		ASSERT_ROW(rows[i].path, heard.retry_after_us == rows[i].wait_us);
	}
}

static void test_requests_carry_what_was_asked(void **state)
{
	struct k8s_call call = { .method = "PATCH",
				 .path = "/echo",
				 .content_type = "application/apply-patch+yaml",
				 .body = cJSON_Parse("{\"a\":1}") };

	(void)state;
	assert_non_null(k8s_client_call(client, &call, on_done, &heard));
	cJSON_Delete((cJSON *)call.body);
	run_until(1);
	assert_int_equal(heard.result, K8S_RESULT_OK);
	assert_string_equal(heard.body,
			    "{\"type\":\"application/apply-patch+yaml\",\"agent\":"
			    "\"vipd-test\",\"method\":\"PATCH\",\"body\":\"{\\\"a\\\":1}\"}");
}

static void test_a_token_that_was_refused_is_read_again_once(void **state)
{
	struct k8s_config *config = server_config(server.port, "ca");
	char file[128];

	(void)state;
	snprintf(file, sizeof file, "%s/token", server.folder);
	place_run("printf stale >%s", file);
	config->token_file = strdup(file);
	k8s_client_configure(client, config);
	assert_int_equal(get("/token"), K8S_RESULT_UNAUTHORIZED);
	/* Kubernetes rotates it by swapping the file. */
	place_run("printf 'fresh\\n' >%s.new && mv %s.new %s", file, file, file);
	assert_int_equal(get("/token"), K8S_RESULT_OK);
	assert_string_equal(heard.body,
			    "{\"seen\":[\"Bearer stale\",\"Bearer stale\",\"Bearer stale\","
			    "\"Bearer fresh\"]}");
}

static void test_lines_of_a_watch_come_whole_however_they_are_cut(void **state)
{
	(void)state;
	assert_non_null(k8s_client_watch(client, "/watch/split", 5000, on_line, on_done, &heard));
	run_until(1);
	assert_int_equal(heard.lines, 2); /* the third was cut off */
	assert_false(heard.malformed);
}

static void test_a_watch_that_is_no_json_or_has_no_end_is_ended(void **state)
{
	(void)state;
	assert_non_null(k8s_client_watch(client, "/watch/garbage", 5000, on_line, on_done, &heard));
	run_until(1);
	assert_int_equal(heard.lines, 1);
	assert_int_equal(heard.result, K8S_RESULT_UNKNOWN);
	assert_true(heard.malformed);

	memset(&heard, 0, sizeof heard);
	assert_non_null(k8s_client_watch(client, "/watch/endless", 9000, on_line, on_done, &heard));
	run_until(1);
	assert_int_equal(heard.lines, 0);
	assert_int_equal(heard.result, K8S_RESULT_UNKNOWN);
	assert_int_equal(get("/ok"), K8S_RESULT_OK);
}

static void test_a_watch_ends_when_its_reader_says_so_or_its_time_is_over(void **state)
{
	uint64_t start_us = place_now_us();

	(void)state;
	heard.stop_at_line = 1;
	assert_non_null(k8s_client_watch(client, "/watch/quiet", 5000, on_line, on_done, &heard));
	run_until(1);
	assert_int_equal(heard.result, K8S_RESULT_OK);
	assert_true(place_now_us() - start_us < 3000000);

	memset(&heard, 0, sizeof heard);
	start_us = place_now_us();
	assert_non_null(k8s_client_watch(client, "/watch/quiet", 700, on_line, on_done, &heard));
	run_until(1);
	assert_int_equal(heard.lines, 1);
	assert_in_range(place_now_us() - start_us, 500000, 5000000);
}

static void test_lease_writes_wait_their_turn_and_give_up_in_time(void **state)
{
	struct k8s_call call = { .method = "GET", .path = "/hold", .lane = K8S_LANE_LEASE };
	unsigned count = 3 * K8S_LEASE_CONNECTIONS;

	(void)state;
	call.timeout_ms = 9500;
	for (unsigned i = 0; i < count; i++)
		assert_non_null(k8s_client_call(client, &call, on_done, &heard));
	run_until(count);
	assert_int_equal(heard.result, K8S_RESULT_OK);
	{
		unsigned most = (unsigned)atoi(strchr(heard.body, ':') + 1);

		assert_int_equal(most, K8S_LEASE_CONNECTIONS);
	}
	/* Those whose time passes in the queue were never sent. */
	memset(&heard, 0, sizeof heard);
	call.path = "/hang";
	call.timeout_ms = 400;
	for (unsigned i = 0; i < K8S_LEASE_CONNECTIONS + 1; i++)
		assert_non_null(k8s_client_call(client, &call, on_done, &heard));
	run_until(K8S_LEASE_CONNECTIONS + 1);
	assert_int_equal(heard.false_contacts, K8S_LEASE_CONNECTIONS + 1);
}

static void test_after_cancelling_and_freeing_nobody_is_called(void **state)
{
	struct k8s_call call = { .method = "GET", .path = "/hold" };
	struct k8s_request *request = k8s_client_call(client, &call, on_done, &heard);

	(void)state;
	assert_non_null(request);
	sd_event_run(event, 50000);
	k8s_request_cancel(request);
	k8s_request_cancel(NULL);
	assert_non_null(k8s_client_call(client, &call, on_done, &heard));
	assert_non_null(k8s_client_watch(client, "/watch/quiet", 5000, on_line, on_done, &heard));
	sd_event_run(event, 50000);
	k8s_client_free(client);
	client = NULL;
	for (int i = 0; i < 10; i++)
		sd_event_run(event, 50000);
	assert_int_equal(heard.done, 0);
}

static struct {
	struct k8s_request *own, *other, *lease;
} to_cancel;

static int on_line_act(void *userdata, const cJSON *line)
{
	struct k8s_call ask = { .method = "GET", .path = "/ok", .timeout_ms = 3000 };

	on_line(userdata, line);
	k8s_request_cancel(to_cancel.other);
	k8s_request_cancel(to_cancel.lease);
	k8s_request_cancel(to_cancel.own);
	assert_non_null(k8s_client_call(client, &ask, on_done, &heard));
	assert_non_null(k8s_client_watch(client, "/watch/split", 5000, on_line, on_done, &heard));
	return 0;
}

/* An object that is gone ends what was being written of it, while libcurl hands us the line. */
static void test_a_line_may_call_and_cancel(void **state)
{
	cJSON *body = cJSON_Parse("{\"status\":{\"owner\":\"n1\"}}");
	struct k8s_call write = { .method = "PATCH", .path = "/hold", .body = body };

	(void)state;
	to_cancel.other = k8s_client_call(client, &write, on_done, &heard);
	write.lane = K8S_LANE_LEASE;
	to_cancel.lease = k8s_client_call(client, &write, on_done, &heard);
	cJSON_Delete(body);
	to_cancel.own = k8s_client_watch(client, "/watch/quiet", 5000, on_line_act, on_done, &heard);
	assert_non_null(to_cancel.own);
	run_until(2);
	for (int i = 0; i < 20; i++)
		sd_event_run(event, 50000);
	assert_int_equal(heard.done, 2);
	assert_int_equal(heard.lines, 1 + 2);
	assert_int_equal(get("/ok"), K8S_RESULT_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_every_status_has_its_result),
		TEST(test_no_answer_and_not_sent_are_told_apart),
		TEST(test_a_server_out_of_reach_or_not_to_be_trusted_got_nothing),
		TEST(test_how_long_to_wait_is_believed_within_reason),
		TEST(test_requests_carry_what_was_asked),
		TEST(test_a_token_that_was_refused_is_read_again_once),
		TEST(test_lines_of_a_watch_come_whole_however_they_are_cut),
		TEST(test_a_watch_that_is_no_json_or_has_no_end_is_ended),
		TEST(test_a_watch_ends_when_its_reader_says_so_or_its_time_is_over),
		TEST(test_lease_writes_wait_their_turn_and_give_up_in_time),
		TEST(test_after_cancelling_and_freeing_nobody_is_called),
		TEST(test_a_line_may_call_and_cancel),
	};
	int failed;

	server_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	server_stop();
	return failed;
}
