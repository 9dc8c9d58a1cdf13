/* How everything of a kind is learnt and kept, from a server that refuses, stops, or was set back. */
#include "base/time.h"
#include "k8s/io/informer.h"
#include "test/adapter/server.h"

static sd_event *event;
static struct k8s_client *client;
static struct k8s_informer *informer;

static struct {
	unsigned synced, troubles, rewound;
	char names[64];	 /* that are there, in order of the alphabet */
	char asked[256]; /* by the informer, as the server saw it */
	bool answered;
} heard;

static void on_object(void *userdata, const cJSON *object)
{
	const cJSON *name = cJSON_GetObjectItem(cJSON_GetObjectItem(object, "metadata"), "name");

	(void)userdata;
	if (!strchr(heard.names, *name->valuestring))
		strncat(heard.names, name->valuestring, 1);
}

static void on_gone(void *userdata, const char *namespace, const char *name)
{
	char *at = strchr(heard.names, *name);

	(void)userdata;
	assert_string_equal(namespace, "");
	assert_non_null(at);
	memmove(at, at + 1, strlen(at));
}

static void on_synced(void *userdata, bool first)
{
	(void)userdata;
	assert_int_equal(first, heard.synced == 0);
	heard.synced++;
}

static void on_trouble(void *userdata, const struct k8s_response *response)
{
	(void)userdata;
	heard.troubles += response->result != K8S_RESULT_OK;
}

static void on_rewound(void *userdata)
{
	(void)userdata;
	heard.rewound++;
}

static const struct k8s_informer_handlers handlers = { on_object, on_gone, on_synced, on_trouble,
						       on_rewound };

static int set_up(void **state)
{
	(void)state;
	memset(&heard, 0, sizeof heard);
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(k8s_client_new(&client, event, server_config(server.port, "ca"),
					"vipd-test", NULL, NULL),
			 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	k8s_informer_free(informer);
	k8s_client_free(client);
	informer = NULL;
	event = sd_event_unref(event);
	return 0;
}

static void start(const char *path)
{
	assert_int_equal(k8s_informer_new(&informer, client, event, path, NULL, &handlers, NULL),
			 0);
}

static void on_seen(void *userdata, const struct k8s_response *response)
{
	const cJSON *item;

	(void)userdata;
	heard.asked[0] = '\0';
	cJSON_ArrayForEach(item, response->body)
		snprintf(heard.asked + strlen(heard.asked),
			 sizeof heard.asked - strlen(heard.asked), "%s%s",
			 heard.asked[0] ? ", " : "", item->valuestring);
	heard.answered = true;
}

static const char *asked(const char *story)
{
	char path[64];
	struct k8s_call call = { .method = "GET", .path = path };

	snprintf(path, sizeof path, "/seen/%s", story);
	heard.answered = false;
	assert_non_null(k8s_client_call(client, &call, on_seen, NULL));
	while (!heard.answered)
		assert_true(sd_event_run(event, 100000) >= 0);
	return heard.asked;
}

static void run_until_version(const char *version)
{
	uint64_t end = place_now_us() + 20 * BASE_USEC_PER_SEC;

	while (strcmp(k8s_informer_version(informer), version) != 0) {
		if (place_now_us() > end)
			fail_msg("at version %s", k8s_informer_version(informer));
		assert_true(sd_event_run(event, 100000) >= 0);
	}
}

static void run_until_synced(unsigned times)
{
	uint64_t end = place_now_us() + 20 * BASE_USEC_PER_SEC;

	while (heard.synced < times) {
		assert_true(place_now_us() < end);
		assert_true(sd_event_run(event, 100000) >= 0);
	}
}

static void test_all_there_is_comes_first_and_then_what_changes(void **state)
{
	(void)state;
	start("/informer/good");
	run_until_synced(1);
	assert_string_equal(heard.names, "ab");
	assert_true(k8s_informer_knows(informer, "", "a"));
	run_until_version("11");
	assert_string_equal(asked("good"), "fill");
	assert_int_equal(heard.troubles, 0);
}

/* Servers that are older, or have the feature off. */
static void test_who_does_not_tell_all_in_a_stream_is_asked_for_pages(void **state)
{
	static const char *const stories[] = { "422", "400", "403", "deaf" };
	char path[64];

	for (size_t i = 0; i < BASE_COUNT_OF(stories); i++) {
		if (i > 0) {
			tear_down(state);
			set_up(state);
		}
		snprintf(path, sizeof path, "/informer/%s", stories[i]);
		start(path);
		run_until_version("30");
		assert_string_equal(asked(stories[i]), "fill, page, watch 20");
		assert_string_equal(heard.names, "ab");
		assert_int_equal(heard.synced, 1);
		assert_int_equal(heard.troubles, 0);
		/* It is asked once. */
		k8s_informer_restart(informer, true);
		run_until_synced(2);
		assert_string_equal(asked(stories[i]), "fill, page, watch 20, page, watch 20");
	}
}

/* What half of a stream told is not believed to be all, and what it told alone goes again. */
static void test_a_stream_that_breaks_off_is_not_all(void **state)
{
	(void)state;
	start("/informer/cut");
	run_until_version("30");
	assert_string_equal(asked("cut"), "fill, fill, page, watch 20");
	assert_string_equal(heard.names, "ab");
	assert_int_equal(heard.synced, 1);
	assert_true(heard.troubles > 0);
}

static void test_after_a_broken_connection_the_server_is_asked_where_it_is(void **state)
{
	(void)state;
	start("/informer/broken");
	run_until_version("30");
	assert_string_equal(asked("broken"), "fill, ask 11, watch 11");
	assert_int_equal(heard.rewound, 0);
	assert_string_equal(heard.names, "ab");
	assert_int_equal(heard.synced, 1);
}

static void test_a_server_that_was_set_back_is_believed(void **state)
{
	(void)state;
	start("/informer/setback");
	run_until_synced(2);
	assert_string_equal(asked("setback"), "fill, ask 11, fill");
	assert_string_equal(heard.names, "ac");
	assert_string_equal(k8s_informer_version(informer), "5");
	assert_int_equal(heard.rewound, 1);
}

static void test_a_stream_that_falls_silent_is_begun_anew_and_then_distrusted(void **state)
{
	(void)state;
	start("/informer/mute");
	k8s_informer_expect(informer, 300 * BASE_USEC_PER_MSEC);
	run_until_synced(2);
	assert_string_equal(asked("mute"), "fill, watch 11, fill");
	assert_string_equal(heard.names, "ac");
	assert_int_equal(heard.rewound, 1); /* this server's versions went back, too */
	/* This one said nothing after all was told: that may be peace. */
	for (int i = 0; i < 10; i++)
		assert_true(sd_event_run(event, 100000) >= 0);
	assert_string_equal(asked("mute"), "fill, watch 11, fill");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_all_there_is_comes_first_and_then_what_changes),
		TEST(test_who_does_not_tell_all_in_a_stream_is_asked_for_pages),
		TEST(test_a_stream_that_breaks_off_is_not_all),
		TEST(test_after_a_broken_connection_the_server_is_asked_where_it_is),
		TEST(test_a_server_that_was_set_back_is_believed),
		TEST(test_a_stream_that_falls_silent_is_begun_anew_and_then_distrusted),
	};
	int failed;

	server_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	server_stop();
	return failed;
}
