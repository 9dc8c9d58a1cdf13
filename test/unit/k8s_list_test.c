#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/array.h"
#include "base/random.h"
#include "k8s/list.h"

static char names[256];

static void on_item(void *userdata, const cJSON *object)
{
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(object, "name");

	(void)userdata;
	if (cJSON_IsString(name) && strlen(names) + strlen(name->valuestring) + 2 < sizeof names) {
		strcat(names, name->valuestring);
		strcat(names, " ");
	}
}

static const struct {
	const char *what, *text, *names, *version, *more, *error;
} lists[] = {
	{ "as the API server writes it",
	  "{\"kind\":\"ServiceList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"12\","
	  "\"continue\":\"abc\"},\"items\":[{\"name\":\"a\"},{\"name\":\"b\"}]}\n",
	  "a b ", "12", "abc", NULL },
	{ "in another order and with blanks",
	  " { \"items\" : [ {\"name\":\"a\"} , {\"name\":\"b\"} ] , \"metadata\" : {} } ", "a b ", "",
	  "", NULL },
	{ "brackets and quotes in texts",
	  "{\"x\":\"]}\\\"\",\"items\":[{\"name\":\"a\",\"y\":\"]},{\"},{\"name\":\"b\"}]}", "a b ",
	  "", "", NULL },
	{ "an empty list", "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[]}", "", "1", "",
	  NULL },
	{ "null for an empty list", "{\"items\":null,\"metadata\":{\"resourceVersion\":\"1\"}}", "",
	  "1", "", NULL },
	{ "no items at all", "{\"metadata\":{\"resourceVersion\":\"1\"}}", "", "1", "", NULL },
	{ "an empty object", "{}", "", "", "", NULL },
	{ "nothing", "", "", "", "", "no JSON object" },
	{ "a list instead", "[1]", "", "", "", "no JSON object" },
	{ "text instead of items", "{\"items\":\"a\"}", "", "", "", "items is no list" },
	{ "cut in an item", "{\"items\":[{\"name\":\"a\"},{\"name\":\"b", "a ", "", "",
	  "item 1 is no JSON" },
	{ "cut between items", "{\"items\":[{\"name\":\"a\"}", "a ", "", "", "ends after item 0" },
	{ "cut after the items", "{\"items\":[{\"name\":\"a\"}]", "a ", "", "", "cut short" },
	{ "cut in a name", "{\"ite", "", "", "", "cut short" },
	{ "cut in a value", "{\"metadata\":{\"resou", "", "", "", "metadata is no JSON" },
};

static void test_lists_are_taken_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(lists); i++) {
		struct base_error error = { 0 };
		struct k8s_list list;
		int r;

		names[0] = '\0';
		r = k8s_list_parse(lists[i].text, strlen(lists[i].text), on_item, NULL, &list, &error);
		if (lists[i].error) {
			assert_int_equal(r, -EBADMSG);
			if (!strstr(error.message, lists[i].error))
				fail_msg("%s: %s", lists[i].what, error.message);
		} else if (r != 0) {
			fail_msg("%s: %s", lists[i].what, error.message);
		} else {
			assert_string_equal(list.version, lists[i].version);
			assert_string_equal(list.more, lists[i].more);
		}
		assert_string_equal(names, lists[i].names);
	}
}

/* No cut and no flipped byte makes it read beyond the text (the sanitizers judge). */
static void test_damage_is_survived(void **state)
{
	struct base_random random = { 1 };
	const char *good = lists[0].text;
	size_t size = strlen(good);

	(void)state;
	for (int i = 0; i < 20000; i++) {
		size_t length = 1 + base_random_below(&random, size);
		char *copy = malloc(length); /* no NUL: its end is the end of the memory */
		struct k8s_list list;

		assert_non_null(copy);
		memcpy(copy, good, length);
		for (uint64_t n = base_random_below(&random, 4); n; n--)
			copy[base_random_below(&random, length)] =
				(char)base_random_below(&random, 256);
		names[0] = '\0';
		k8s_list_parse(copy, length, on_item, NULL, &list, NULL);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists_are_taken_apart),
		cmocka_unit_test(test_damage_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
