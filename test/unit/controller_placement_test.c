#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/controller/endpoints.h"
#include "daemon/controller/moves.h"
#include "daemon/controller/nodes.h"
#include "daemon/controller/queue.h"
#include "test/unit/unit.h"

#define S BASE_USEC_PER_SEC

/* --- moves --- */

static struct move_question steady(void)
{
	return (struct move_question){
		.now_us = 1000 * S, .owned = true, .target_ready = true, .owner_may = true
	};
}

static void test_moves_have_a_reason_or_do_not_happen(void **state)
{
	static const struct {
		const char *name;
		struct move_question question;
		enum base_reason reason;
	} rows[] = {
		{ "a node that came back moves nothing",
		  { .owned = true, .target_ready = true, .owner_may = true },
		  BASE_REASON_NONE },
		{ "the owner may not own it any more",
		  { .owned = true, .target_ready = true },
		  BASE_REASON_NODE_EXCLUDED },
		{ "nobody owns it: the nodes elect", { .target_ready = true }, BASE_REASON_NONE },
		{ "the first candidate is not alive", { .owned = true }, BASE_REASON_NONE },
		{ "Local: the endpoint is elsewhere",
		  { .owned = true,
		    .target_ready = true,
		    .owner_may = true,
		    .local_only = true,
		    .target_endpoint = true },
		  BASE_REASON_NO_ENDPOINTS },
		{ "Local: the endpoint is nowhere",
		  { .owned = true, .target_ready = true, .owner_may = true, .local_only = true },
		  BASE_REASON_NONE },
		{ "Cluster: endpoints do not matter",
		  { .owned = true,
		    .target_ready = true,
		    .owner_may = true,
		    .target_endpoint = true },
		  BASE_REASON_NONE },
		{ "preferred: to a heavier node",
		  { .owned = true,
		    .target_ready = true,
		    .owner_may = true,
		    .preferred = true,
		    .owner_weight = 10,
		    .target_weight = 50 },
		  BASE_REASON_REBALANCED },
		{ "preferred: not to an equal one",
		  { .owned = true,
		    .target_ready = true,
		    .owner_may = true,
		    .preferred = true,
		    .owner_weight = 50,
		    .target_weight = 50 },
		  BASE_REASON_NONE },
		{ "sticky: weight does not matter",
		  { .owned = true, .target_ready = true, .owner_may = true, .target_weight = 50 },
		  BASE_REASON_NONE },
		{ "preferred, but away from the endpoint",
		  { .owned = true,
		    .target_ready = true,
		    .owner_may = true,
		    .preferred = true,
		    .local_only = true,
		    .owner_endpoint = true,
		    .target_weight = 50 },
		  BASE_REASON_NONE },
	};
	struct move_history history = { 0 };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++)
		ASSERT_ROW(rows[i].name,
			   move_decide(&rows[i].question, &history).reason == rows[i].reason);
}

static void test_moves_wait_for_orders_rests_and_each_other(void **state)
{
	struct move_question question = steady();
	struct move_history history = { 0 };
	struct move_answer answer;
	uint64_t rest_us = 0;

	(void)state;
	question.owner_may = false;
	question.moving = 4;
	answer = move_decide(&question, &history);
	assert_int_equal(answer.reason, BASE_REASON_NONE);
	assert_true(answer.again_us > question.now_us &&
		    answer.again_us < question.now_us + 10 * S);
	question.moving = 0;
	/* A user's order stands: it has its time, and then not for ever. */
	question.ordered = true;
	question.order_seen_us = question.now_us - 1 * S;
	answer = move_decide(&question, &history);
	assert_int_equal(answer.reason, BASE_REASON_NONE);
	question.now_us = answer.again_us;
	assert_int_equal(move_decide(&question, &history).reason, BASE_REASON_NODE_EXCLUDED);
	question.ordered = false;
	/* One that keeps moving rests longer each time. */
	for (unsigned i = 0; i < 12; i++) {
		move_ordered(&history, question.now_us);
		answer = move_decide(&question, &history);
		assert_int_equal(answer.reason, BASE_REASON_NONE);
		assert_true(answer.again_us - question.now_us >= rest_us);
		rest_us = answer.again_us - question.now_us;
		question.now_us = answer.again_us;
		assert_int_equal(move_decide(&question, &history).reason,
				 BASE_REASON_NODE_EXCLUDED);
	}
	assert_int_equal(rest_us, 600 * S);
	question.now_us += 2000 * S;
	move_ordered(&history, question.now_us);
	assert_true(move_decide(&question, &history).again_us - question.now_us < 10 * S);
}

/* --- endpoints --- */

static const char *put(struct endpoints *endpoints, const char *name, const char *service,
		       const char *list)
{
	char text[1024];
	const char *changed;
	cJSON *slice;

	snprintf(text, sizeof text,
		 "{\"metadata\":{\"namespace\":\"vms\",\"name\":\"%s\",\"labels\":{\"kubernetes.io/"
		 "service-name\":\"%s\"}},\"endpoints\":[%s]}",
		 name, service, list);
	slice = cJSON_Parse(text);
	assert_non_null(slice);
	changed = endpoints_put(endpoints, slice);
	cJSON_Delete(slice);
	return changed;
}

#define READY(node)     "{\"nodeName\":\"" node "\",\"conditions\":{\"ready\":true}}"
#define NOT_READY(node) "{\"nodeName\":\"" node "\",\"conditions\":{\"ready\":false}}"
#define ENDING(node)                                                                               \
	"{\"nodeName\":\"" node                                                                    \
	"\",\"conditions\":{\"ready\":false,\"serving\":true,\"terminating\":true}}"

static void test_endpoints_are_the_union_of_slices(void **state)
{
	struct endpoints endpoints = { 0 };

	(void)state;
	assert_string_equal(put(&endpoints, "a", "ssh", READY("n1") "," NOT_READY("n2")),
			    "vms/ssh");
	assert_null(put(&endpoints, "a", "ssh", READY("n1"))); /* nothing that matters changed */
	assert_true(endpoints_on(&endpoints, "vms/ssh", "n1"));
	assert_false(endpoints_on(&endpoints, "vms/ssh", "n2"));
	assert_false(endpoints_on(&endpoints, "vms/ssh", "n"));
	assert_false(endpoints_on(&endpoints, "vms/other", "n1"));
	put(&endpoints, "b", "ssh", ENDING("n3") ",{\"nodeName\":\"n4\"}"); /* ready by default */
	assert_true(endpoints_on(&endpoints, "vms/ssh", "n4"));
	assert_false(endpoints_on(&endpoints, "vms/ssh", "n3")); /* others are ready */
	assert_string_equal(put(&endpoints, "a", "ssh", ""), "vms/ssh");
	put(&endpoints, "b", "ssh", ENDING("n3"));
	assert_true(endpoints_on(&endpoints, "vms/ssh", "n3")); /* better than none */
	assert_string_equal(endpoints_drop(&endpoints, "vms", "b"), "vms/ssh");
	assert_false(endpoints_on(&endpoints, "vms/ssh", "n3"));
	assert_null(endpoints_drop(&endpoints, "vms", "b"));
	put(&endpoints, "a", "db", READY("n1")); /* the label was changed */
	assert_true(endpoints_on(&endpoints, "vms/db", "n1"));
	endpoints_clear(&endpoints);
}

/* --- nodes --- */

static void set(struct nodes *nodes, const char *name, const char *node, const char *speaker)
{
	cJSON *object = cJSON_Parse(node), *other = cJSON_Parse(speaker);

	assert_true(object && other);
	node_set_object(nodes_make(nodes, name), object);
	node_set_speaker(nodes_make(nodes, name), other);
	cJSON_Delete(object);
	cJSON_Delete(other);
}

#define ON_LAN(address)                                                                            \
	"{\"status\":{\"segments\":[{\"interface\":\"eth1\",\"prefix\":\"192.0.2.0/"               \
	"24\",\"address\":\"" address "\",\"gateway\":\"192.0.2.254\"}]}}"

static bool everybody(void *userdata, const char *node)
{
	(void)userdata;
	(void)node;
	return true;
}

static size_t place(struct nodes *nodes, const char *pool_text, struct placement_answer *answer)
{
	cJSON *pool = cJSON_Parse(pool_text);
	struct placement_question question = { .address = base_address_ipv4(192, 0, 2, 9),
					       .pool_spec = pool,
					       .allowed = everybody };

	assert_non_null(pool);
	nodes_place(nodes, &question, answer);
	cJSON_Delete(pool);
	return answer->candidates.count;
}

static void test_placement_is_asked_about_nodes_with_a_speaker(void **state)
{
	struct nodes nodes = { 0 };
	struct placement_answer answer;
	struct ipam_range ranges[NODE_ADDRESSES_MAX];

	(void)state;
	set(&nodes, "n1", "{\"metadata\":{\"labels\":{\"rack\":\"a\"}}}", ON_LAN("192.0.2.1"));
	set(&nodes, "n2", "{\"metadata\":{\"labels\":{\"rack\":\"b\"}}}", ON_LAN("192.0.2.2"));
	set(&nodes, "n3",
	    "{\"metadata\":{\"labels\":{\"node.kubernetes.io/"
	    "exclude-from-external-load-balancers\":"
	    "\"false\"}},\"status\":{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"10.0.0."
	    "3\"}]}}",
	    ON_LAN("192.0.2.3"));
	set(&nodes, "n4",
	    "{\"metadata\":{},\"spec\":{\"taints\":[{\"key\":\"ToBeDeletedByClusterAutoscaler\"}]}"
	    "}",
	    ON_LAN("192.0.2.4"));
	node_set_object(nodes_make(&nodes, "mute"), &(cJSON){ .type = cJSON_Object });
	assert_int_equal(place(&nodes, "{}", &answer), 3);
	assert_int_equal(place(&nodes,
			       "{\"nodes\":{\"selector\":{\"matchLabels\":{\"rack\":\"b\"}}}}",
			       &answer),
			 1);
	assert_string_equal(answer.nodes[0]->name, "n2");
	assert_int_equal(place(&nodes,
			       "{\"nodes\":{\"preferred\":[{\"weight\":50,\"selector\":{"
			       "\"matchLabels\":{\"rack\":\"a\"}}}]}}",
			       &answer),
			 3);
	assert_string_equal(answer.nodes[0]->name, "n1");
	assert_int_equal(answer.first.weight, 50);
	assert_int_equal(place(&nodes, "{\"interfaces\":[\"bond*\"]}", &answer), 0);
	assert_int_equal(answer.reason, BASE_REASON_NO_ELIGIBLE_NODE);
	assert_true(strlen(answer.error.message) > 0);
	assert_int_equal(node_addresses(nodes_find(&nodes, "n3"), ranges),
			 3); /* its own, and the gateway */
	nodes_clear(&nodes);
}

static void test_only_what_placement_looks_at_counts_as_change(void **state)
{
	struct nodes nodes = { 0 };
	struct node *node = nodes_make(&nodes, "n1");
	cJSON *object =
		cJSON_Parse("{\"metadata\":{\"labels\":{\"a\":\"b\"},\"resourceVersion\":\"1\"},"
			    "\"status\":{\"conditions\":[{\"type\":\"Ready\"}]}}");

	(void)state;
	assert_true(node_set_object(node, object));
	cJSON_ReplaceItemInObject(cJSON_GetObjectItem(object, "metadata"), "resourceVersion",
				  cJSON_CreateString("2")); /* a heartbeat */
	assert_false(node_set_object(node, object));
	assert_true(node_set_silent(node, true));
	assert_false(node_set_silent(node, true));
	assert_true(node_set_object(node, NULL));
	cJSON_Delete(object);
	nodes_clear(&nodes);
}

/* --- the queue --- */

static void test_queue_holds_each_thing_once_and_not_while_busy(void **state)
{
	struct queue queue = { 0 };
	struct work a = { 0 }, b = { 0 };

	(void)state;
	queue_mark(&queue, &a);
	queue_mark(&queue, &b);
	queue_mark(&queue, &a);
	assert_ptr_equal(queue_take(&queue, 0), &a);
	queue_begin(&queue, &a);
	queue_mark(&queue, &a);
	assert_ptr_equal(queue_take(&queue, 0), &b);
	assert_null(queue_take(&queue, 0));
	queue_end(&queue, &a);
	assert_ptr_equal(queue_take(&queue, 0), &a);
	/* Failures wait, longer each time; a change does not wait. */
	queue_begin(&queue, &a);
	queue_fail(&queue, &a, 10 * S, 0);
	assert_null(queue_take(&queue, 10 * S));
	assert_int_equal(queue_deadline(&queue), 10 * S + S / 5);
	queue_later(&queue, &b, 10 * S + 1);
	assert_ptr_equal(queue_take(&queue, 10 * S + 1), &b);
	assert_ptr_equal(queue_take(&queue, 11 * S), &a);
	for (int i = 0; i < 20; i++) {
		queue_begin(&queue, &a);
		queue_fail(&queue, &a, 10 * S, 0);
	}
	assert_int_equal(queue_deadline(&queue), 70 * S);
	queue_mark(&queue, &a);
	assert_ptr_equal(queue_take(&queue, 10 * S), &a);
	assert_int_equal(queue_deadline(&queue), BASE_USEC_NEVER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves_have_a_reason_or_do_not_happen),
		cmocka_unit_test(test_moves_wait_for_orders_rests_and_each_other),
		cmocka_unit_test(test_endpoints_are_the_union_of_slices),
		cmocka_unit_test(test_placement_is_asked_about_nodes_with_a_speaker),
		cmocka_unit_test(test_only_what_placement_looks_at_counts_as_change),
		cmocka_unit_test(test_queue_holds_each_thing_once_and_not_while_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
