/* Reading API objects without trusting them: paths, versions, times, selectors, list answers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/list.h"
#include "k8s/object.h"
#include "test/unit/unit.h"

static cJSON *json(const char *text)
{
	cJSON *object = cJSON_Parse(text);

	assert_non_null(object);
	return object;
}

static void test_a_field_of_another_type_is_not_there(void **state)
{
	cJSON *object = json("{\"metadata\":{\"name\":\"x\",\"labels\":{\"a.b/c\":\"d\",\"n\":7},"
			     "\"annotations\":{\"vipd.dev/pool\":\"lab\"}},"
			     "\"spec\":{\"port\":22,\"half\":0.5,\"on\":true,\"none\":null,"
			     "\"list\":[1],\"huge\":1e300}}");

	(void)state;
	assert_string_equal(k8s_object_text(object, "metadata/name"), "x");
	assert_string_equal(k8s_object_text(object, "metadata/nothing/at/all"), "");
	assert_string_equal(k8s_object_text(object, "spec/port"), "");
	assert_string_equal(k8s_object_text(object, "spec/port/deeper"), "");
	assert_string_equal(k8s_object_text(NULL, "a"), "");
	assert_ptr_equal(k8s_object_get(object, ""), object);
	assert_null(k8s_object_get(object, "spec/none"));
	assert_non_null(k8s_object_get(object, "spec/list"));
	assert_true(k8s_object_bool(object, "spec/on", false));
	assert_true(k8s_object_bool(object, "spec/none", true));
	assert_false(k8s_object_bool(object, "spec/port", false));
	assert_int_equal(k8s_object_number(object, "spec/port", 1, 65535, -1), 22);
	assert_int_equal(k8s_object_number(object, "spec/port", 1, 21, -1), -1);
	assert_int_equal(k8s_object_number(object, "spec/port", 23, 99, -1), -1);
	assert_int_equal(k8s_object_number(object, "spec/half", 0, 9, -1), -1);
	assert_int_equal(k8s_object_number(object, "spec/huge", 0, 99, -1), -1);
	assert_int_equal(k8s_object_number(object, "spec/on", 0, 9, -1), -1);
	assert_string_equal(k8s_object_label(object, "a.b/c"), "d");
	assert_string_equal(k8s_object_label(object, "n"), "");
	assert_string_equal(k8s_object_annotation(object, "vipd.dev/pool"), "lab");
	assert_string_equal(k8s_object_annotation(object, "vipd.dev/none"), "");
	cJSON_Delete(object);
}

/* KEP-5504: decimal numbers of any length. */
static void test_versions_are_compared_as_numbers_of_any_length(void **state)
{
	static const struct {
		const char *a, *b;
		int sign;
	} rows[] = {
		{ "7", "7", 0 },
		{ "7", "8", -1 },
		{ "10", "9", 1 },
		{ "99", "100", -1 },
		{ "007", "7", 0 },
		{ "0", "1", -1 },
		{ "99999999999999999999999999999999", "100000000000000000000000000000000", -1 },
		{ "123456789012345678901234567890", "123456789012345678901234567891", -1 },
		{ "abc", "1", -1 },
		{ "", "0", -1 },
		{ "12x", "1", -1 },
		{ "abc", "def", 0 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		int r = k8s_version_compare(rows[i].a, rows[i].b);
		int back = k8s_version_compare(rows[i].b, rows[i].a);

		ASSERT_ROW(rows[i].a, (r > 0) - (r < 0) == rows[i].sign);
		ASSERT_ROW(rows[i].b, (back > 0) - (back < 0) == -rows[i].sign);
	}
}

static void test_times_are_read_in_every_form_and_written_in_two(void **state)
{
	static const struct {
		const char *text;
		uint64_t wall_us; /* 0: refused */
	} rows[] = {
		{ "2026-11-23T17:41:27Z", UINT64_C(1795455687000000) },
		{ "2026-11-23T17:41:27.123456Z", UINT64_C(1795455687123456) },
		{ "2026-11-23T17:41:27.5Z", UINT64_C(1795455687500000) },
		{ "2026-11-23T17:41:27.123456789Z", UINT64_C(1795455687123456) },
		{ "2026-11-23T18:41:27+01:00", UINT64_C(1795455687000000) },
		{ "2026-11-23T12:11:27-05:30", UINT64_C(1795455687000000) },
		{ "2024-02-29T00:00:00Z", UINT64_C(1709164800000000) },
		{ "2026-11-23T17:41:27", 0 },
		{ "2026-11-23 17:41:27Z", 0 },
		{ "2026-13-23T17:41:27Z", 0 },
		{ "1969-12-31T23:59:59Z", 0 },
		{ "1970-01-01T00:00:00+01:00", 0 },
		{ "2026-11-23T17:41:27Zx", 0 },
		{ "2026-11-23T17:41:27+01", 0 },
		{ "now", 0 },
		{ "", 0 },
	};
	char text[K8S_TIME_SIZE];

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		uint64_t wall_us = 0;

		ASSERT_ROW(rows[i].text,
			   k8s_time_parse(rows[i].text, &wall_us) == (rows[i].wall_us != 0));
		ASSERT_ROW(rows[i].text, wall_us == rows[i].wall_us);
	}
	assert_string_equal(k8s_time_format(text, UINT64_C(1795455687000042), true),
			    "2026-11-23T17:41:27.000042Z");
	assert_string_equal(k8s_time_format(text, UINT64_C(1795455687999999), false),
			    "2026-11-23T17:41:27Z");
}

static void test_selectors_match_as_kubernetes_says(void **state)
{
	static const struct {
		const char *selector;
		bool matches; /* {"tier":"lab","rack":"a"} */
	} rows[] = {
		{ "{}", true },
		{ "{\"matchLabels\":{\"tier\":\"lab\"}}", true },
		{ "{\"matchLabels\":{\"tier\":\"lab\",\"rack\":\"b\"}}", false },
		{ "{\"matchLabels\":{\"none\":\"\"}}", false },
		{ "{\"matchExpressions\":[{\"key\":\"rack\",\"operator\":\"In\",\"values\":[\"a\","
		  "\"b\"]}]}",
		  true },
		{ "{\"matchExpressions\":[{\"key\":\"rack\",\"operator\":\"In\",\"values\":[\"c\"]}"
		  "]}",
		  false },
		{ "{\"matchExpressions\":[{\"key\":\"rack\",\"operator\":\"NotIn\",\"values\":["
		  "\"c\"]}]}",
		  true },
		{ "{\"matchExpressions\":[{\"key\":\"none\",\"operator\":\"NotIn\",\"values\":["
		  "\"c\"]}]}",
		  true },
		{ "{\"matchExpressions\":[{\"key\":\"none\",\"operator\":\"In\",\"values\":[\"c\"]}"
		  "]}",
		  false },
		{ "{\"matchExpressions\":[{\"key\":\"rack\",\"operator\":\"Exists\"}]}", true },
		{ "{\"matchExpressions\":[{\"key\":\"rack\",\"operator\":\"DoesNotExist\"}]}",
		  false },
		{ "{\"matchExpressions\":[{\"key\":\"none\",\"operator\":\"DoesNotExist\"}]}",
		  true },
		{ "{\"matchExpressions\":[{\"key\":\"none\",\"operator\":\"Exists\"}]}", false },
		{ "{\"matchExpressions\":[{\"key\":\"rack\",\"operator\":\"Resembles\"}]}", false },
		{ "{\"matchLabels\":{\"tier\":\"lab\"},\"matchExpressions\":[{\"key\":\"rack\","
		  "\"operator\":\"DoesNotExist\"}]}",
		  false },
	};
	cJSON *labels = json("{\"tier\":\"lab\",\"rack\":\"a\"}");

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		cJSON *selector = json(rows[i].selector);

		ASSERT_ROW(rows[i].selector,
			   k8s_selector_matches(selector, labels) == rows[i].matches);
		cJSON_Delete(selector);
	}
	assert_true(k8s_selector_matches(NULL, labels));
	assert_true(k8s_selector_matches(NULL, NULL));
	cJSON_Delete(labels);
}

static void test_names_are_escaped_for_a_path_and_cut_to_their_room(void **state)
{
	char text[64];

	(void)state;
	assert_string_equal(k8s_escape("lab.ipv4.10", text, sizeof text), "lab.ipv4.10");
	assert_string_equal(k8s_escape("a/b?c=d&e f%", text, sizeof text),
			    "a%2Fb%3Fc%3Dd%26e%20f%25");
	assert_string_equal(k8s_escape("\xc3\xa9", text, sizeof text), "%C3%A9");
	assert_string_equal(k8s_escape("abcdefgh", text, 8), "abcde"); /* never half an escape */
	assert_string_equal(k8s_escape("", text, sizeof text), "");
}

static void test_a_new_object_has_what_every_object_has(void **state)
{
	cJSON *object = k8s_object_new("vipd.dev/v1alpha1", "VirtualIP", NULL, "192.0.2.10");
	char *text = cJSON_PrintUnformatted(object);

	(void)state;
	assert_string_equal(text, "{\"apiVersion\":\"vipd.dev/v1alpha1\",\"kind\":\"VirtualIP\","
				  "\"metadata\":{\"name\":\"192.0.2.10\"}}");
	free(text);
	cJSON_Delete(object);
	object = k8s_object_new("v1", "Event", "vms", "x");
	assert_string_equal(k8s_object_text(object, "metadata/namespace"), "vms");
	cJSON_Delete(object);
}

static char told[1024];

static void tell(void *userdata, const cJSON *object)
{
	char *text = cJSON_PrintUnformatted(object);

	assert_ptr_equal(userdata, told);
	strncat(told, text, sizeof told - strlen(told) - 2);
	strcat(told, " ");
	free(text);
}

static void test_lists_are_taken_apart_item_by_item(void **state)
{
	static const struct {
		const char *name, *text, *items, *version, *more, *message; /* message NULL: fine */
	} rows[] = {
		{ "two and more to come",
		  "{\"kind\":\"ServiceList\",\"metadata\":{\"resourceVersion\":\"12\",\"continue\":"
		  "\"abc\"},\"items\":[{\"a\":1},{\"b\":[{}]}]}\n",
		  "{\"a\":1} {\"b\":[{}]} ", "12", "abc", NULL },
		{ "brackets in texts", "{\"items\":[{\"a\":\"]}\\\"{[\"}],\"metadata\":{}}",
		  "{\"a\":\"]}\\\"{[\"} ", "", "", NULL },
		{ "none", "{\"items\":[]}", "", "", "", NULL },
		{ "null is none", "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":null}", "",
		  "1", "", NULL },
		{ "no items at all", "{\"metadata\":{\"resourceVersion\":\"1\"}}", "", "1", "",
		  NULL },
		{ "air", " { \"items\" : [ { } , { } ] , \"metadata\" : { } } ", "{} {} ", "", "",
		  NULL },
		{ "cut between items", "{\"items\":[{\"a\":1},", "{\"a\":1} ", "", "",
		  "item 1 is no JSON" },
		{ "cut behind an item", "{\"items\":[{\"a\":1}", "{\"a\":1} ", "", "",
		  "the list ends after item 0" },
		{ "cut in an item", "{\"items\":[{\"a\":1},{\"b\"", "{\"a\":1} ", "", "",
		  "item 1 is no JSON" },
		{ "cut behind the list", "{\"items\":[{\"a\":1}]", "{\"a\":1} ", "", "",
		  "the answer is cut short" },
		{ "items that are none", "{\"items\":7}", "", "", "", "items is no list" },
		{ "HTML", "<html>", "", "", "", "the answer is no JSON object" },
		{ "nothing", "", "", "", "", "the answer is no JSON object" },
		{ "a list alone", "[]", "", "", "", "the answer is no JSON object" },
		{ "a version beyond all bounds",
		  "{\"metadata\":{\"resourceVersion\":"
		  "\"0123456789012345678901234567890123456789012345678901234567890123456789\"}}",
		  "", "", "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		size_t size = strlen(rows[i].text);
		char *copy = malloc(size ? size : 1); /* exactly so long, and no NUL behind it */
		struct base_error error = { 0 };
		struct k8s_list list;
		int r;

		memcpy(copy, rows[i].text, size);
		told[0] = '\0';
		r = k8s_list_parse(copy, size, tell, told, &list, &error);
		ASSERT_ROW(rows[i].name, r == (rows[i].message ? -EBADMSG : 0));
		ASSERT_ROW(rows[i].name, strcmp(told, rows[i].items) == 0);
		ASSERT_ROW(rows[i].name, strcmp(list.version, rows[i].version) == 0);
		ASSERT_ROW(rows[i].name, strcmp(list.more, rows[i].more) == 0);
		if (rows[i].message && strcmp(error.message, rows[i].message) != 0)
			fail_msg("%s: %s", rows[i].name, error.message);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_field_of_another_type_is_not_there),
		cmocka_unit_test(test_versions_are_compared_as_numbers_of_any_length),
		cmocka_unit_test(test_times_are_read_in_every_form_and_written_in_two),
		cmocka_unit_test(test_selectors_match_as_kubernetes_says),
		cmocka_unit_test(test_names_are_escaped_for_a_path_and_cut_to_their_room),
		cmocka_unit_test(test_a_new_object_has_what_every_object_has),
		cmocka_unit_test(test_lists_are_taken_apart_item_by_item),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
