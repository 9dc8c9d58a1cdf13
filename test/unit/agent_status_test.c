#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/agent/status.h"

static struct status_wish wish;
static cJSON *status; /* as the API server has it */

static int set_up(void **state)
{
	(void)state;
	status = NULL;
	wish = (struct status_wish){
		.node = "n1",
		.owned = true,
		.announced = true,
		.available = true,
		.term = 1,
		.since = "2026-01-01T00:00:01Z",
		.now = "2026-01-01T00:00:05Z",
		.transition = { .known = true,
				.time = "2026-01-01T00:00:01Z",
				.reason = BASE_REASON_OWNER_ELECTED,
				.message = "n1 is the first owner" },
	};
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cJSON_Delete(status);
	return 0;
}

/* RFC 7386, as the API server does it. */
static void merge(cJSON *target, const cJSON *patch)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, patch) {
		cJSON *old = cJSON_GetObjectItemCaseSensitive(target, item->string);

		if (cJSON_IsNull(item)) {
			cJSON_DeleteItemFromObjectCaseSensitive(target, item->string);
		} else if (cJSON_IsObject(item)) {
			if (!cJSON_IsObject(old)) {
				cJSON_DeleteItemFromObjectCaseSensitive(target, item->string);
				old = cJSON_AddObjectToObject(target, item->string);
			}
			merge(old, item);
		} else {
			cJSON_DeleteItemFromObjectCaseSensitive(target, item->string);
			cJSON_AddItemToObject(target, item->string, cJSON_Duplicate(item, true));
		}
	}
}

/* True: something was written. */
static bool write_status(void)
{
	cJSON *patch = status_patch(status, &wish);

	if (!patch)
		return false;
	if (!status)
		status = cJSON_CreateObject();
	merge(status, cJSON_GetObjectItemCaseSensitive(patch, "status"));
	cJSON_Delete(patch);
	return true;
}

static const char *text(const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(status, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static const char *last(const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(
		cJSON_GetObjectItemCaseSensitive(status, "lastTransition"), name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static double number(const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(status, name);

	return item ? item->valuedouble : -1;
}

static const cJSON *condition(const char *type)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(status, "conditions"))
		if (strcmp(cJSON_GetObjectItemCaseSensitive(item, "type")->valuestring, type) == 0)
			return item;
	return NULL;
}

static const char *of_condition(const char *type, const char *name)
{
	const cJSON *found = condition(type);

	assert_non_null(found);
	return cJSON_GetObjectItemCaseSensitive(found, name)->valuestring;
}

static void take_over(const char *from, const char *to, enum base_reason reason, const char *time,
		      uint64_t outage_us)
{
	wish.node = to;
	wish.owned = true;
	wish.given_up = false;
	wish.transition.known = true;
	wish.transition.old = false;
	wish.transition.reason = reason;
	wish.transition.outage_us = outage_us;
	snprintf(wish.transition.from, sizeof wish.transition.from, "%s", from);
	snprintf(wish.transition.time, sizeof wish.transition.time, "%s", time);
	wish.since = wish.transition.time;
}

static void test_the_first_owner_is_written_once(void **state)
{
	(void)state;
	assert_true(write_status());
	assert_string_equal(text("owner"), "n1");
	assert_string_equal(text("state"), "Active");
	assert_string_equal(text("since"), "2026-01-01T00:00:01Z");
	assert_string_equal(last("to"), "n1");
	assert_string_equal(last("from"), "");
	assert_string_equal(last("reason"), "OwnerElected");
	assert_int_equal(number("transitions"), 1);
	assert_string_equal(of_condition("Owned", "status"), "True");
	assert_string_equal(of_condition("Owned", "reason"), "OwnerElected");
	assert_string_equal(of_condition("Conflict", "status"), "False");
	wish.now = "2026-01-01T00:10:00Z";
	assert_false(write_status());
}

static void test_a_takeover_counts_and_forgets_what_was_of_the_last_one(void **state)
{
	(void)state;
	write_status();
	take_over("n1", "n2", BASE_REASON_OWNER_LOST, "2026-01-01T00:01:00Z", 61234);
	wish.term = 2;
	assert_true(write_status());
	assert_string_equal(text("owner"), "n2");
	assert_string_equal(last("from"), "n1");
	assert_int_equal(number("transitions"), 2);
	assert_int_equal(number("term"), 2);
	assert_true(cJSON_GetObjectItemCaseSensitive(
			    cJSON_GetObjectItemCaseSensitive(status, "lastTransition"),
			    "outageMilliseconds")->valuedouble == 61.2);
	take_over("", "n1", BASE_REASON_HANDOVER, "2026-01-01T00:02:00Z", 0);
	assert_true(write_status());
	assert_string_equal(last("from"), "n2"); /* the record knows it */
	assert_null(cJSON_GetObjectItemCaseSensitive(
		cJSON_GetObjectItemCaseSensitive(status, "lastTransition"), "outageMilliseconds"));
	/* Owned all the while: by another node, but the condition did not change. */
	assert_string_equal(of_condition("Owned", "lastTransitionTime"), "2026-01-01T00:00:05Z");
}

static void test_a_restart_in_place_is_no_transition(void **state)
{
	(void)state;
	write_status();
	take_over("", "n1", BASE_REASON_STARTED, "2026-01-01T00:05:00Z", 0);
	assert_false(write_status());
	wish.transition.known = false; /* the agent alone was restarted */
	assert_false(write_status());
	take_over("", "n1", BASE_REASON_OWNER_ELECTED, "2026-01-01T00:00:02Z", 0);
	wish.transition.old = true; /* and heard again what its predecessor had written */
	assert_false(write_status());
	wish.term = 0; /* the Lease has not come yet */
	assert_false(write_status());
	assert_int_equal(number("transitions"), 1);
}

static void test_an_agent_that_came_late_still_records_the_owner(void **state)
{
	(void)state;
	write_status();
	wish.node = "n2";
	wish.transition.known = false;
	wish.since = "2026-01-01T00:03:00Z";
	assert_true(write_status());
	assert_string_equal(text("owner"), "n2");
	assert_string_equal(last("from"), "n1");
	assert_string_equal(last("to"), "n2");
	assert_string_equal(text("since"), "2026-01-01T00:03:00Z");
}

static void test_who_does_not_own_it_writes_nothing(void **state)
{
	(void)state;
	write_status();
	wish.node = "n2";
	wish.owned = false;
	assert_false(write_status());
	wish.conflict = true; /* somebody else has it, and that one will tell */
	assert_false(write_status());
	wish.given_up = true;
	assert_false(write_status());
}

static void test_the_last_one_says_that_nobody_has_it(void **state)
{
	(void)state;
	write_status();
	wish.owned = false;
	wish.given_up = true;
	wish.transition.reason = BASE_REASON_HANDOVER;
	snprintf(wish.transition.time, sizeof wish.transition.time, "2026-01-01T00:09:00Z");
	assert_true(write_status());
	assert_null(cJSON_GetObjectItemCaseSensitive(status, "owner"));
	assert_string_equal(text("state"), "Unowned");
	assert_string_equal(last("from"), "n1");
	assert_string_equal(last("to"), "");
	assert_int_equal(number("transitions"), 2);
	assert_string_equal(of_condition("Owned", "status"), "False");
	assert_string_equal(of_condition("Announced", "status"), "False");
	assert_false(write_status());
}

static void test_a_conflict_names_the_mac(void **state)
{
	const uint8_t mac[6] = { 2, 0, 0, 0, 0, 0x66 };

	(void)state;
	wish.owned = false;
	wish.conflict = true;
	memcpy(wish.conflict_mac, mac, sizeof mac);
	assert_true(write_status());
	assert_string_equal(text("state"), "Conflict");
	assert_string_equal(of_condition("Conflict", "status"), "True");
	assert_string_equal(of_condition("Conflict", "reason"), "ForeignAddress");
	assert_non_null(strstr(of_condition("Conflict", "message"), "02:00:00:00:00:66"));
	assert_false(write_status());
}

static void test_other_peoples_conditions_stay(void **state)
{
	(void)state;
	status = cJSON_Parse("{\"conditions\":[{\"type\":\"Theirs\",\"status\":\"True\",\"reason\":\"X\"}],"
			     "\"notEligible\":[{\"node\":\"n3\",\"reason\":\"LinkDown\"}]}");
	assert_true(write_status());
	assert_string_equal(of_condition("Theirs", "reason"), "X");
	assert_int_equal(
		cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(status, "notEligible")), 1);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(status, "conditions")),
			 5);
}

static void test_only_what_differs_is_written(void **state)
{
	cJSON *patch;
	const cJSON *written;

	(void)state;
	write_status();
	wish.available = false;
	wish.now = "2026-01-01T01:00:00Z";
	patch = status_patch(status, &wish);
	assert_non_null(patch);
	written = cJSON_GetObjectItemCaseSensitive(patch, "status");
	assert_int_equal(cJSON_GetArraySize(written), 1);
	assert_string_equal(written->child->string, "conditions");
	merge(status, written);
	cJSON_Delete(patch);
	assert_string_equal(of_condition("EndpointsAvailable", "reason"), "NoEndpoints");
	assert_string_equal(of_condition("EndpointsAvailable", "lastTransitionTime"),
			    "2026-01-01T01:00:00Z");
	assert_string_equal(of_condition("Owned", "lastTransitionTime"), "2026-01-01T00:00:05Z");
}

static void test_an_order_is_noted(void **state)
{
	(void)state;
	write_status();
	wish.handover_id = "seven";
	assert_true(write_status());
	assert_string_equal(text("handoverID"), "seven");
	assert_false(write_status());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_first_owner_is_written_once),
		TEST(test_a_takeover_counts_and_forgets_what_was_of_the_last_one),
		TEST(test_a_restart_in_place_is_no_transition),
		TEST(test_an_agent_that_came_late_still_records_the_owner),
		TEST(test_who_does_not_own_it_writes_nothing),
		TEST(test_the_last_one_says_that_nobody_has_it),
		TEST(test_a_conflict_names_the_mac),
		TEST(test_other_peoples_conditions_stay),
		TEST(test_only_what_differs_is_written),
		TEST(test_an_order_is_noted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
