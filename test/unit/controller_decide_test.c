#include <stdlib.h>
#include <string.h>

#include "daemon/controller/decide.h"
#include "k8s/object.h"
#include "test/unit/unit.h"

#define HEAD                                                                                       \
	"{\"metadata\":{\"namespace\":\"vms\",\"name\":\"ssh\",\"uid\":\"u1\","                    \
	"\"resourceVersion\":\"7\","                                                               \
	"\"generation\":3"

static struct service service_of(const char *text, bool default_class)
{
	struct service service;
	cJSON *object = cJSON_Parse(text);

	assert_non_null(object);
	assert_int_equal(service_read(&service, object, default_class), 0);
	cJSON_Delete(object);
	return service;
}

static struct base_address address_of(const char *text)
{
	struct base_address address;

	assert_true(base_address_parse(text, &address));
	return address;
}

static void test_class_and_type_say_whose_a_service_is(void **state)
{
	static const struct {
		const char *name, *spec;
		bool default_class, ours;
	} rows[] = {
		{ "class-less with the switch on", "\"type\":\"LoadBalancer\"", true, true },
		{ "class-less with the switch off", "\"type\":\"LoadBalancer\"", false, false },
		{ "our class", "\"type\":\"LoadBalancer\",\"loadBalancerClass\":\"vipd.dev/vip\"",
		  false, true },
		{ "another class",
		  "\"type\":\"LoadBalancer\",\"loadBalancerClass\":\"example.org/lb\"", true,
		  false },
		{ "no load balancer", "\"type\":\"ClusterIP\"", true, false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		char text[512];
		struct service service;

		snprintf(text, sizeof text, HEAD "},\"spec\":{%s}}", rows[i].spec);
		service = service_of(text, rows[i].default_class);
		if (service.ours != rows[i].ours)
			fail_msg("%s", rows[i].name);
		service_clear(&service);
	}
}

static void test_wishes_are_read_or_refused_with_what_to_write(void **state)
{
	static const struct {
		const char *name, *metadata, *spec;
		int reason;
		unsigned count;
		const char *wanted[2], *sentence;
	} rows[] = {
		{ .name = "nothing asked for", .spec = "\"ipFamilies\":[\"IPv4\"]", .count = 1 },
		{ .name = "loadBalancerIP",
		  .spec = "\"ipFamilies\":[\"IPv4\"],\"loadBalancerIP\":\"192.0.2.9\"",
		  .count = 1,
		  .wanted = { "192.0.2.9" } },
		{ .name = "the annotation wins over loadBalancerIP",
		  .metadata = ",\"annotations\":{\"vipd.dev/addresses\":\"192.0.2.8\"}",
		  .spec = "\"ipFamilies\":[\"IPv4\"],\"loadBalancerIP\":\"192.0.2.9\"",
		  .count = 1,
		  .wanted = { "192.0.2.8" } },
		{ .name = "both families in any order, with spaces",
		  .metadata =
			  ",\"annotations\":{\"vipd.dev/addresses\":\" 2001:db8::8 , 192.0.2.8\"}",
		  .spec = "\"ipFamilies\":[\"IPv4\",\"IPv6\"],\"ipFamilyPolicy\":"
			  "\"RequireDualStack\"",
		  .count = 2,
		  .wanted = { "192.0.2.8", "2001:db8::8" } },
		{ .name = "two of one family",
		  .metadata = ",\"annotations\":{\"vipd.dev/addresses\":\"192.0.2.8,192.0.2.9\"}",
		  .spec = "\"ipFamilies\":[\"IPv4\"]",
		  .reason = BASE_REASON_INVALID_CONFIGURATION,
		  .sentence = "more than one IPv4 address" },
		{ .name = "a family that the Service does not have",
		  .metadata = ",\"annotations\":{\"vipd.dev/addresses\":\"2001:db8::8\"}",
		  .spec = "\"ipFamilies\":[\"IPv4\"]",
		  .reason = BASE_REASON_INVALID_CONFIGURATION,
		  .sentence = "set spec.ipFamilyPolicy to PreferDualStack" },
		{ .name = "no address at all",
		  .metadata = ",\"annotations\":{\"vipd.dev/addresses\":\"auto\"}",
		  .spec = "\"ipFamilies\":[\"IPv4\"]",
		  .reason = BASE_REASON_INVALID_CONFIGURATION,
		  .sentence = "\"auto\" in annotation vipd.dev/addresses is no address" },
		{ .name = "leading zeros",
		  .spec = "\"ipFamilies\":[\"IPv4\"],\"loadBalancerIP\":\"192.0.2.010\"",
		  .reason = BASE_REASON_INVALID_CONFIGURATION,
		  .sentence = "in spec.loadBalancerIP is no address" },
		{ .name = "an attached network",
		  .metadata = ",\"annotations\":{\"vipd.dev/network\":\"vms/lan\"}",
		  .spec = "\"ipFamilies\":[\"IPv4\"]",
		  .count = 1 },
		{ .name = "what is no name of a network",
		  .metadata = ",\"annotations\":{\"vipd.dev/network\":\"vms/\"}",
		  .spec = "\"ipFamilies\":[\"IPv4\"]",
		  .reason = BASE_REASON_INVALID_CONFIGURATION,
		  .sentence = "\"vms/\" is no network" },
		{ .name = "a server that knows no families",
		  .spec = "\"clusterIP\":\"fd00::1\"",
		  .count = 1 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_error error = { 0 };
		struct service service;
		struct wishes wishes;
		char text[1024];
		int reason;

		snprintf(text, sizeof text, HEAD "%s},\"spec\":{\"type\":\"LoadBalancer\",%s}}",
			 rows[i].metadata ? rows[i].metadata : "", rows[i].spec);
		service = service_of(text, true);
		reason = decide_wishes(&service, &wishes, &error);
		if (reason != rows[i].reason)
			fail_msg("%s: %s", rows[i].name, error.message);
		if (rows[i].sentence && !strstr(error.message, rows[i].sentence))
			fail_msg("%s: says \"%s\"", rows[i].name, error.message);
		for (unsigned j = 0; reason == 0 && j < 2; j++) {
			struct base_address none = { 0 };

			assert_int_equal(wishes.count, rows[i].count);
			if (j < wishes.count)
				assert_memory_equal(&wishes.items[j].wanted,
						    rows[i].wanted[j]
							    ? &(struct base_address[]){ address_of(
								      rows[i].wanted[j]) }[0]
							    : &none,
						    sizeof none);
		}
		service_clear(&service);
	}
}

static void test_a_misspelt_annotation_is_met_with_the_right_one(void **state)
{
	char message[MESSAGE_SIZE];

	(void)state;
	decide_unknown_annotation("adresses", message);
	assert_non_null(strstr(message, "did you mean vipd.dev/addresses?"));
	decide_unknown_annotation("sharingkey", message);
	assert_non_null(strstr(message, "did you mean vipd.dev/sharing-key?"));
	decide_unknown_annotation("colour-of-the-rack", message);
	assert_null(strstr(message, "did you mean"));
	assert_non_null(strstr(message, "known are vipd.dev/addresses"));
}

static void test_nodes_are_allowed_by_whole_names(void **state)
{
	(void)state;
	assert_true(decide_node_allowed(NULL, "n1"));
	assert_true(decide_node_allowed("n1,n2", "n2"));
	assert_true(decide_node_allowed(" n1 , n2 ", "n1"));
	assert_false(decide_node_allowed("n10,n2", "n1"));
	assert_false(decide_node_allowed("", "n1"));
}

static struct grant granted(const char *address, enum vip_state vip_state)
{
	struct grant grant = {
		.held = true, .recorded = true, .placed = true, .address = address_of(address)
	};

	grant.wish.family = (enum base_family)grant.address.family;
	grant.status.state = vip_state;
	return grant;
}

static void check(const struct verdict *verdict, enum service_condition_type type, bool is_true,
		  const char *reason, const char *message)
{
	assert_int_equal(verdict->conditions[type].is_true, is_true);
	assert_string_equal(verdict->conditions[type].reason, reason);
	if (!strstr(verdict->conditions[type].message, message))
		fail_msg("\"%s\" is not in \"%s\"", message, verdict->conditions[type].message);
}

static void test_conditions_follow_what_became_of_each_wish(void **state)
{
	struct service service = { 0 };
	struct verdict verdict;
	struct grant grants[2];

	(void)state;
	grants[0] = granted("192.0.2.9", VIP_STATE_ACTIVE);
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_ALLOCATED, true, "AddressAllocated", "192.0.2.9");
	check(&verdict, SERVICE_CONDITION_SERVING, true, "Serving", "192.0.2.9");
	assert_int_equal(verdict.event, BASE_REASON_NONE);

	grants[0].status.state = VIP_STATE_MOVING; /* a planned handover is no outage */
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_SERVING, true, "Serving", "");

	grants[0].status.state = VIP_STATE_UNOWNED;
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_SERVING, false, "Provisioning",
	      "no node has taken 192.0.2.9");
	assert_true(verdict.passing);

	grants[0].placed = false;
	grants[0].unplaced = BASE_REASON_NO_ELIGIBLE_NODE;
	strcpy(grants[0].unplaced_message, "no node is on it");
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_SERVING, false, "NoEligibleNode", "no node is on it");
	assert_false(verdict.passing);

	grants[0] = granted("192.0.2.9", VIP_STATE_ACTIVE);
	grants[0].status.no_endpoints = true;
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_SERVING, false, "NoEndpoints", "192.0.2.9");

	grants[0].status.state = VIP_STATE_CONFLICT;
	strcpy(grants[0].status.conflict, "02:00:00:00:00:99 answers");
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_SERVING, false, "ForeignAddress", "02:00:00:00:00:99");
}

static void test_a_refusal_is_told_and_what_was_held_stays(void **state)
{
	struct service service = { 0 };
	struct verdict verdict;
	struct grant grants[2] = { { .refusal = BASE_REASON_POOL_EXHAUSTED,
				     .message = "no address is free" } };

	(void)state;
	grants[0].wish.family = BASE_FAMILY_IPV4;
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_ALLOCATED, false, "PoolExhausted", "no address is free");
	check(&verdict, SERVICE_CONDITION_SERVING, false, "PoolExhausted", "no address to serve");
	assert_int_equal(verdict.event, BASE_REASON_POOL_EXHAUSTED);
	assert_string_equal(verdict.note, "no address is free");
	assert_int_equal(verdict.ingress_count, 0);

	/* It asked for another address, cannot have it, and keeps its own. */
	grants[0] = granted("192.0.2.9", VIP_STATE_ACTIVE);
	grants[0].refusal = BASE_REASON_ADDRESS_IN_USE;
	strcpy(grants[0].message, "192.0.2.10 is held by vms/other");
	decide_verdict(&service, grants, 1, &verdict);
	check(&verdict, SERVICE_CONDITION_ALLOCATED, true, "AddressInUse",
	      "meanwhile it has 192.0.2.9");
	check(&verdict, SERVICE_CONDITION_SERVING, true, "Serving", "192.0.2.9");

	/* PreferDualStack: one family is enough. RequireDualStack: it is not. */
	grants[0] = granted("192.0.2.9", VIP_STATE_ACTIVE);
	grants[1] = (struct grant){ .refusal = BASE_REASON_POOL_EXHAUSTED,
				    .message = "no pool has IPv6 addresses" };
	grants[1].wish.family = BASE_FAMILY_IPV6;
	grants[0].wish.optional = grants[1].wish.optional = true;
	decide_verdict(&service, grants, 2, &verdict);
	check(&verdict, SERVICE_CONDITION_ALLOCATED, true, "PoolExhausted", "IPv6: no pool has");
	grants[0].wish.optional = grants[1].wish.optional = false;
	decide_verdict(&service, grants, 2, &verdict);
	check(&verdict, SERVICE_CONDITION_ALLOCATED, false, "PoolExhausted", "IPv6: no pool has");
	assert_int_equal(verdict.ingress_count, 1);
}

static void test_status_is_the_whole_intent_and_its_digest_survives_the_server(void **state)
{
	struct service service = service_of(
		HEAD "},\"spec\":{\"type\":\"LoadBalancer\",\"ipFamilies\":[\"IPv4\"],\"ports\":["
		     "{\"port\":22},{\"port\":53,\"protocol\":\"UDP\"}]},"
		     "\"status\":{\"conditions\":[{\"type\":\"vipd.dev/"
		     "AddressAllocated\",\"status\":\"True\","
		     "\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}]}}",
		true);
	struct grant grant = granted("192.0.2.9", VIP_STATE_ACTIVE);
	struct verdict verdict;
	cJSON *status, *item;
	uint64_t digest;

	(void)state;
	decide_verdict(&service, &grant, 1, &verdict);
	status = decide_status(&service, &verdict, "2026-02-02T00:00:00Z");
	item = cJSON_GetArrayItem(k8s_object_get(status, "loadBalancer/ingress"), 0);
	assert_string_equal(k8s_object_text(item, "ip"), "192.0.2.9");
	assert_string_equal(k8s_object_text(item, "ipMode"), "VIP");
	assert_int_equal(cJSON_GetArraySize(k8s_object_get(item, "ports")), 2);
	assert_string_equal(
		k8s_object_text(cJSON_GetArrayItem(k8s_object_get(item, "ports"), 1), "protocol"),
		"UDP");
	digest = service_status_digest(status);
	decide_status_of_old(status);
	assert_string_equal(k8s_object_text(item, "ipMode"), "");
	assert_int_equal(service_status_digest(status), digest);
	item = cJSON_GetArrayItem(k8s_object_get(status, "conditions"), 0);
	/* Still True: since then. */
	assert_string_equal(k8s_object_text(item, "lastTransitionTime"), "2026-01-01T00:00:00Z");
	assert_int_equal(k8s_object_number(item, "observedGeneration", 0, 99, 0), 3);
	item = cJSON_GetArrayItem(k8s_object_get(status, "conditions"), 1);
	assert_string_equal(k8s_object_text(item, "lastTransitionTime"), "2026-02-02T00:00:00Z");
	cJSON_ReplaceItemInObject(item, "reason", cJSON_CreateString("Other"));
	assert_int_not_equal(service_status_digest(status), digest);
	cJSON_Delete(status);
	service_clear(&service);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_class_and_type_say_whose_a_service_is),
		cmocka_unit_test(test_wishes_are_read_or_refused_with_what_to_write),
		cmocka_unit_test(test_a_misspelt_annotation_is_met_with_the_right_one),
		cmocka_unit_test(test_nodes_are_allowed_by_whole_names),
		cmocka_unit_test(test_conditions_follow_what_became_of_each_wish),
		cmocka_unit_test(test_a_refusal_is_told_and_what_was_held_stays),
		cmocka_unit_test(
			test_status_is_the_whole_intent_and_its_digest_survives_the_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
