#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/controller/pool.h"
#include "daemon/controller/state.h"
#include "k8s/object.h"
#include "test/unit/unit.h"

#define VIP_4 "192.0.2.4"

static void feed(struct state *state, void (*put)(struct state *, const cJSON *, enum state_origin),
		 enum state_origin origin, const char *format, ...)
{
	char text[2048];
	va_list arguments;
	cJSON *object;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	object = cJSON_Parse(text);
	assert_non_null(object);
	put(state, object, origin);
	cJSON_Delete(object);
}

static void put_service(struct state *state, enum state_origin origin, const char *uid,
			unsigned version, const char *type)
{
	feed(state, state_put_service, origin,
	     "{\"metadata\":{\"namespace\":\"vms\",\"name\":\"ssh\",\"uid\":\"%s\","
	     "\"resourceVersion\":"
	     "\"%u\",\"finalizers\":[\"vipd.dev/"
	     "address\"]},\"spec\":{\"type\":\"%s\",\"ports\":[{\"port\":"
	     "22}]}}",
	     uid, version, type);
}

static void put_vip(struct state *state, enum state_origin origin, const char *uid,
		    unsigned version, const char *services)
{
	feed(state, state_put_vip, origin,
	     "{\"metadata\":{\"name\":\"" VIP_4
	     "\",\"uid\":\"%s\",\"resourceVersion\":\"%u\"},\"spec\":{"
	     "\"address\":\"" VIP_4 "\",\"pool\":\"lab\",\"virtualRouter\":\"lab.ipv4.4\","
	     "\"virtualRouterID\":4,\"services\":[%s],\"candidates\":[{\"node\":\"n1\","
	     "\"priority\":254}]}}",
	     uid, version, services);
}

#define SSH "{\"namespace\":\"vms\",\"name\":\"ssh\",\"uid\":\"u1\"}"

static struct base_address address(void)
{
	return base_address_ipv4(192, 0, 2, 4);
}

static struct claim *ssh(struct state *state)
{
	return state_claim(state, "vms", "ssh");
}

static void test_late_answer_does_not_bring_back_what_was_seen_to_go(void **unused)
{
	struct state state;

	(void)unused;
	state_init(&state, true);
	put_service(&state, STATE_FROM_WATCH, "u1", 10, "LoadBalancer");
	queue_begin(&state.queue, &ssh(&state)->work); /* the patch that takes the finalizer off */
	state_drop_service(&state, "vms", "ssh");
	put_service(&state, STATE_FROM_OWN, "u1", 11, "LoadBalancer");
	assert_false(ssh(&state)->exists);
	/* The next one of its name is there already when the answer comes. */
	put_service(&state, STATE_FROM_WATCH, "u2", 13, "LoadBalancer");
	put_service(&state, STATE_FROM_OWN, "u1", 11, "LoadBalancer");
	assert_string_equal(ssh(&state)->service.uid, "u2");
	state_clear(&state);
}

static void test_watch_that_lags_behind_an_answer_is_not_believed(void **unused)
{
	struct state state;

	(void)unused;
	state_init(&state, true);
	put_service(&state, STATE_FROM_WATCH, "u1", 99, "LoadBalancer");
	put_service(&state, STATE_FROM_OWN, "u1", 110, "LoadBalancer");
	put_service(&state, STATE_FROM_WATCH, "u1", 100, "ClusterIP");
	assert_true(ssh(&state)->service.ours);
	put_service(&state, STATE_FROM_WATCH, "u1", 111, "ClusterIP");
	assert_false(ssh(&state)->service.ours);
	/* Nothing answered meanwhile: the watch is right, also after a backup was restored. */
	put_service(&state, STATE_FROM_WATCH, "u1", 50, "LoadBalancer");
	assert_true(ssh(&state)->service.ours);
	state_clear(&state);
}

static void test_services_that_concern_nobody_are_not_kept(void **unused)
{
	struct state state;

	(void)unused;
	state_init(&state, true);
	feed(&state, state_put_service, STATE_FROM_WATCH,
	     "{\"metadata\":{\"namespace\":\"vms\",\"name\":\"inner\",\"uid\":\"u\","
	     "\"resourceVersion\":\"1\"},"
	     "\"spec\":{\"type\":\"ClusterIP\"}}");
	assert_null(state_claim(&state, "vms", "inner"));
	/* A VirtualIP names it: whoever it is, its claim is known. */
	put_vip(&state, STATE_FROM_WATCH, "v1", 2, SSH);
	assert_non_null(ssh(&state));
	assert_false(ssh(&state)->exists);
	assert_int_equal(ssh(&state)->vip_count, 1);
	state_drop_vip(&state, VIP_4);
	assert_int_equal(ssh(&state)->vip_count, 0);
	state_clear(&state);
}

static void put_pool(struct state *state, unsigned version)
{
	feed(state, state_put_pool, STATE_FROM_WATCH,
	     "{\"metadata\":{\"name\":\"lab\",\"uid\":\"p\",\"resourceVersion\":\"%u\","
	     "\"generation\":1},"
	     "\"spec\":{\"addresses\":[\"192.0.2.0/28\"]}}",
	     version);
}

static void test_activation_reads_holders_from_objects(void **unused)
{
	struct state state;
	struct ipam_record record;
	struct base_address at = address();

	(void)unused;
	state_init(&state, true);
	put_pool(&state, 1);
	put_service(&state, STATE_FROM_WATCH, "u1", 2, "LoadBalancer");
	put_vip(&state, STATE_FROM_WATCH, "v1", 3, SSH);
	assert_null(state.ipam);
	assert_int_equal(state_activate(&state, 1, 1), 0);
	assert_true(ipam_record_get(state.ipam, &at, &record));
	assert_int_equal(record.service_count, 1);
	assert_string_equal(record.services[0].name, "ssh");
	assert_int_equal(record.router_id, 4);
	/* What is released here is released, though the object still says otherwise. */
	assert_int_equal(ipam_release(state.ipam,
				      &(struct ipam_name){ .namespace = "vms", .name = "ssh" }, &at,
				      1),
			 0);
	put_vip(&state, STATE_FROM_WATCH, "v1", 4, SSH); /* its status changed */
	assert_false(ipam_record_get(state.ipam, &at, &record));
	/* But somebody else's word is heard. */
	put_vip(&state, STATE_FROM_WATCH, "v1", 5,
		"{\"namespace\":\"vms\",\"name\":\"other\",\"uid\":\"u9\"}");
	assert_true(ipam_record_get(state.ipam, &at, &record));
	assert_string_equal(record.services[0].name, "other");
	state_clear(&state);
}

static void test_lease_is_looked_at_when_its_last_address_goes(void **unused)
{
	struct state state;

	(void)unused;
	state_init(&state, true);
	put_vip(&state, STATE_FROM_WATCH, "v1", 3, SSH);
	assert_true(state_router_used(&state, "lab.ipv4.4"));
	feed(&state, state_put_lease, STATE_FROM_WATCH,
	     "{\"metadata\":{\"name\":\"lab.ipv4.4\",\"uid\":\"l\",\"resourceVersion\":\"1\"}}");
	while (queue_take(&state.queue, 0))
		;
	state_drop_vip(&state, VIP_4);
	assert_false(state_router_used(&state, "lab.ipv4.4"));
	for (struct work *work = queue_take(&state.queue, 0); work;
	     work = queue_take(&state.queue, 0))
		if (work->kind == WORK_LEASE) {
			state_clear(&state);
			return;
		}
	fail_msg("the Lease is not looked at");
}

static void test_load_counts_first_candidates(void **unused)
{
	struct state state;

	(void)unused;
	state_init(&state, true);
	put_vip(&state, STATE_FROM_WATCH, "v1", 3, SSH);
	assert_int_equal(nodes_find(&state.nodes, "n1")->load, 1);
	put_vip(&state, STATE_FROM_WATCH, "v1", 4, "");
	assert_int_equal(nodes_find(&state.nodes, "n1")->load, 1);
	state_drop_vip(&state, VIP_4);
	state_forget_vip(&state, state_vip(&state, &(struct base_address[]){ address() }[0]));
	assert_int_equal(nodes_find(&state.nodes, "n1")->load, 0);
	state_clear(&state);
}

static void test_sign_of_life_ends_silence(void **unused)
{
	struct state state;
	struct node *node;
	cJSON *lease =
		cJSON_Parse("{\"metadata\":{\"name\":\"speaker-n1\",\"resourceVersion\":\"5\"},"
			    "\"spec\":{\"leaseDurationSeconds\":30}}");

	(void)unused;
	state_init(&state, true);
	state_put_sign(&state, lease, 100);
	node = nodes_find(&state.nodes, "n1");
	assert_int_equal(node->duration_us, 30 * BASE_USEC_PER_SEC);
	state_node_silent(&state, node);
	assert_true(node->silent);
	state_put_sign(&state, lease, 200); /* the same again: no sign */
	assert_true(node->silent);
	cJSON_ReplaceItemInObject(cJSON_GetObjectItem(lease, "metadata"), "resourceVersion",
				  cJSON_CreateString("6"));
	state_put_sign(&state, lease, 300);
	assert_false(node->silent);
	assert_int_equal(node->sign_us, 300);
	cJSON_Delete(lease);
	state_clear(&state);
}

static void test_pool_status_counts_and_says_what_is_odd(void **unused)
{
	struct state state;
	struct pool_facts facts = { .name = "lab", .generation = 7, .problem = "" };
	struct pool_noted noted = { 0 };
	cJSON *status, *again;

	(void)unused;
	state_init(&state, true);
	put_pool(&state, 1);
	put_vip(&state, STATE_FROM_WATCH, "v1", 3, SSH);
	put_service(&state, STATE_FROM_WATCH, "u1", 2, "LoadBalancer");
	state_activate(&state, 1, 1);
	status = pool_status(state.ipam, &facts, NULL, 1, "2026-01-01T00:00:00Z");
	assert_int_equal(k8s_object_number(status, "capacity/ipv4", 0, 99, -1), 14);
	assert_int_equal(k8s_object_number(status, "assigned/ipv4", 0, 99, -1), 1);
	assert_int_equal(k8s_object_number(status, "available/ipv4", 0, 99, -1), 13);
	/* Unchanged conditions keep their time: nothing differs, nothing is written. */
	again = pool_status(state.ipam, &facts, status, 1, "2026-02-02T00:00:00Z");
	assert_true(cJSON_Compare(status, again, true));
	cJSON_Delete(again);
	facts.problem = "spec.addresses: \"x\" is no address";
	again = pool_status(state.ipam, &facts, status, 1, "2026-02-02T00:00:00Z");
	assert_string_equal(
		k8s_object_text(cJSON_GetArrayItem(k8s_object_get(again, "conditions"), 0),
				"message"),
		"spec.addresses: \"x\" is no address");
	cJSON_Delete(again);
	cJSON_Delete(status);
	ipam_release(state.ipam, &(struct ipam_name){ .namespace = "vms", .name = "ssh" },
		     &(struct base_address[]){ address() }[0], 1500000);
	status = pool_status(state.ipam, &facts, NULL, 1500000, "2026-01-01T00:00:00Z");
	pool_noted_read(&noted, status);
	assert_true(pool_noted_has(&noted, &(struct base_address[]){ address() }[0]));
	assert_false(pool_noted_has(&noted, &(struct base_address){ 0 }));
	pool_noted_clear(&noted);
	assert_false(pool_noted_has(&noted, &(struct base_address[]){ address() }[0]));
	/* Whole seconds, never too short: 1.5 s + 60 s. */
	assert_string_equal(
		k8s_object_text(cJSON_GetArrayItem(k8s_object_get(status, "quarantine"), 0),
				"until"),
		"1970-01-01T00:01:02Z");
	cJSON_Delete(status);
	state_clear(&state);
}

static void test_a_long_quarantine_is_written_less_often(void **unused)
{
	(void)unused;
	assert_int_equal(pool_status_due(0, false, 5000), 0); /* never written: now */
	assert_int_equal(pool_status_due(7, true, 0), 7);
	assert_int_equal(pool_status_due(7, true, 5000), 500007);
	assert_int_equal(pool_status_due(7, false, 0), 1000007);
	assert_int_equal(pool_status_due(7, false, 5000), 1000007);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late_answer_does_not_bring_back_what_was_seen_to_go),
		cmocka_unit_test(test_watch_that_lags_behind_an_answer_is_not_believed),
		cmocka_unit_test(test_services_that_concern_nobody_are_not_kept),
		cmocka_unit_test(test_activation_reads_holders_from_objects),
		cmocka_unit_test(test_lease_is_looked_at_when_its_last_address_goes),
		cmocka_unit_test(test_load_counts_first_candidates),
		cmocka_unit_test(test_sign_of_life_ends_silence),
		cmocka_unit_test(test_pool_status_counts_and_says_what_is_odd),
		cmocka_unit_test(test_a_long_quarantine_is_written_less_often),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
