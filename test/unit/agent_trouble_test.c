/* What is said of the API server when it does not work, and what goes unsaid because it was. */
#include <stdio.h>
#include <string.h>

#include "daemon/agent/room.h"
#include "test/unit/capture.h"

static struct agent agent;

static void report(enum agent_task task, enum k8s_result result, const char *message, bool malformed)
{
	struct k8s_response response = { .result = result, .malformed = malformed };

	snprintf(response.message, sizeof response.message, "%s", message);
	capture_begin();
	agent_report(&agent, task, &response);
	capture_end();
}

static int begin(void **state)
{
	(void)state;
	memset(&agent, 0, sizeof agent);
	setenv("VIPD_LOG", "stderr", 1);
	unsetenv("VIPD_LOG_LEVEL");
	log_open("agent", "n1");
	return 0;
}

static void test_that_nothing_works_is_said_once_whoever_notices(void **state)
{
	(void)state;
	report(AGENT_TASK_EVENT, K8S_RESULT_UNKNOWN, "Empty reply from server", false);
	assert_non_null(strstr(line, "writing an Event: no answer: Empty reply from server"));
	report(AGENT_TASK_READ + AGENT_NODES, K8S_RESULT_UNREACHABLE, "refused", false);
	assert_string_equal(line, "");
	report(AGENT_TASK_LIVENESS, K8S_RESULT_SERVER_ERROR, "etcd is away", false);
	assert_string_equal(line, "");
	report(AGENT_TASK_LIVENESS, K8S_RESULT_OK, "", false);
	assert_non_null(strstr(line, "renewing this node's Lease works again"));
}

static void test_an_answer_without_sense_is_said_though_a_connection_broke_before(void **state)
{
	enum agent_task nodes = AGENT_TASK_READ + AGENT_NODES, leases = AGENT_TASK_READ + AGENT_LEASES;

	(void)state;
	report(AGENT_TASK_EVENT, K8S_RESULT_UNKNOWN, "Empty reply from server", false);
	report(nodes, K8S_RESULT_UNKNOWN, "a line of the stream is no JSON", true);
	assert_non_null(strstr(line, "nodes: no answer: a line of the stream is no JSON"));
	report(nodes, K8S_RESULT_UNKNOWN, "a line of the stream is no JSON", true);
	assert_string_equal(line, "");
	/* Something else that works is no news of it: it would be said again and again. */
	report(AGENT_TASK_LIVENESS, K8S_RESULT_OK, "", false);
	report(nodes, K8S_RESULT_UNKNOWN, "a line of the stream is no JSON", true);
	assert_string_equal(line, "");
	report(leases, K8S_RESULT_UNKNOWN, "a line of the stream is no JSON", true);
	assert_non_null(strstr(line, "leases: no answer: a line of the stream is no JSON"));
	report(nodes, K8S_RESULT_OK, "", false);
	assert_non_null(strstr(line, "nodes works again"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_that_nothing_works_is_said_once_whoever_notices, begin),
		cmocka_unit_test_setup(test_an_answer_without_sense_is_said_though_a_connection_broke_before, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
