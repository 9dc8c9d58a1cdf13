/* Manifests and kubeconfigs as people, kubectl and attackers write them. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "k8s/yaml.h"
#include "test/unit/unit.h"

struct got {
	char text[16384]; /* the documents as JSON, one a line */
	cJSON *last;
	int count, refuse_at;
};

static int collect(void *userdata, cJSON *document)
{
	struct got *got = userdata;
	char *printed = cJSON_PrintUnformatted(document);

	assert_non_null(printed);
	strncat(got->text, printed, sizeof got->text - strlen(got->text) - 2);
	strcat(got->text, "\n");
	free(printed);
	cJSON_Delete(got->last);
	got->last = document;
	return ++got->count == got->refuse_at ? -ECANCELED : 0;
}

static int parse(const char *text, size_t size, struct got *got, struct base_error *error)
{
	char *copy = malloc(size ? size : 1); /* exactly so long, and no NUL behind it */
	int r;

	memcpy(copy, text, size);
	r = k8s_yaml_parse(copy, size, "pool.yaml", collect, got, error);
	free(copy);
	return r;
}

static void test_scalars_are_typed_as_the_kubernetes_tools_do_it(void **state)
{
	static const struct {
		const char *text, *json;
	} rows[] = {
		{ "true", "true" },
		{ "True", "true" },
		{ "yes", "true" },
		{ "On", "true" },
		{ "y", "true" },
		{ "FALSE", "false" },
		{ "no", "false" },
		{ "off", "false" },
		{ "truely", "\"truely\"" },
		{ "\"true\"", "\"true\"" },
		{ "'no'", "\"no\"" },
		{ "~", "null" },
		{ "null", "null" },
		{ "", "null" },
		{ "\"\"", "\"\"" },
		{ "NULL", "null" },
		{ "nil", "\"nil\"" },
		{ "12", "12" },
		{ "-1", "-1" },
		{ "+7", "7" },
		{ "0", "0" },
		{ "0x1f", "31" },
		{ "017", "15" },
		{ "0o17", "15" },
		{ "0b101", "5" },
		{ "1_000", "1000" },
		{ "089", "89" },
		{ "0x", "\"0x\"" },
		{ "0xg", "\"0xg\"" },
		{ "1.5", "1.5" },
		{ ".5", "0.5" },
		{ "1e3", "1000" },
		{ "1e", "\"1e\"" },
		{ ".", "\".\"" },
		{ "-", NULL },
		{ "1-2", "\"1-2\"" },
		{ "1e999", "\"1e999\"" },
		{ "-x", "\"-x\"" },
		{ "+", "\"+\"" },
		{ "'12'", "\"12\"" },
		{ "!!str 12", "\"12\"" },
		{ "!!str true", "\"true\"" },
		{ "192.0.2.10", "\"192.0.2.10\"" },
		{ "192.0.2.0/24", "\"192.0.2.0/24\"" },
		{ "2001:db8::1", "\"2001:db8::1\"" },
		{ "1_2:3", "\"1_2:3\"" },
		{ "2026-11-23T17:41:27Z", "\"2026-11-23T17:41:27Z\"" },
		{ "v1.37.2", "\"v1.37.2\"" },
		{ "18446744073709551616", "1.8446744073709552e+19" },
		{ "caf\xc3\xa9", "\"caf\xc3\xa9\"" },
		{ "|\n  a\n  b", "\"a\\nb\"" },
		{ ">-\n  a\n  b", "\"a b\"" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct got got = { .text = "" };
		struct base_error error = { 0 };
		char text[128], expected[128];
		int r;

		snprintf(text, sizeof text, "value: %s", rows[i].text);
		r = parse(text, strlen(text), &got, &error);
		if (!rows[i].json) {
			ASSERT_ROW(rows[i].text, r < 0);
			continue;
		}
		snprintf(expected, sizeof expected, "{\"value\":%s}\n", rows[i].json);
		if (r < 0 || strcmp(got.text, expected) != 0)
			fail_msg("%s: %s%s", rows[i].text, got.text, error.message);
		cJSON_Delete(got.last);
	}
}

static void test_documents_come_one_by_one_and_lists_item_by_item(void **state)
{
	static const struct {
		const char *name, *text, *json;
	} rows[] = {
		{ "nothing", "", "" },
		{ "only comments", "# a\n# b\n", "" },
		{ "only separators", "---\n---\n...\n", "" },
		{ "one", "a: 1\n", "{\"a\":1}\n" },
		{ "two", "a: 1\n---\nb: {c: [1, x, {d: }]}\n",
		  "{\"a\":1}\n{\"b\":{\"c\":[1,\"x\",{\"d\":null}]}}\n" },
		{ "an empty one between", "a: 1\n---\n---\nb: 2\n", "{\"a\":1}\n{\"b\":2}\n" },
		{ "JSON", "{\"a\": [1, 2.5, \"x\", true, null]}",
		  "{\"a\":[1,2.5,\"x\",true,null]}\n" },
		{ "what kubectl get -o yaml prints",
		  "apiVersion: v1\nitems:\n- kind: A\n- kind: B\nkind: List\n",
		  "{\"kind\":\"A\"}\n{\"kind\":\"B\"}\n" },
		{ "a typed list", "{kind: VirtualIPList, items: [{a: 1}]}", "{\"a\":1}\n" },
		{ "an empty list", "{kind: List, items: []}", "" },
		{ "items of something else", "{kind: ConfigMap, items: [1]}",
		  "{\"kind\":\"ConfigMap\",\"items\":[1]}\n" },
		{ "a list without items", "{kind: List}", "{\"kind\":\"List\"}\n" },
		{ "an object called ist", "{kind: ist, items: []}",
		  "{\"kind\":\"ist\",\"items\":[]}\n" },
		{ "an anchor that nobody uses", "a: &x 1\n", "{\"a\":1}\n" },
		{ "a byte order mark",
		  "\xef\xbb\xbf"
		  "a: 1\n",
		  "{\"a\":1}\n" },
		{ "lines of Windows", "a: 1\r\nb: 2\r\n", "{\"a\":1,\"b\":2}\n" },
		{ "a key that looks like a value", "true: 1\n12: 2\n", "{\"true\":1,\"12\":2}\n" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct got got = { .text = "" };
		struct base_error error = { 0 };

		if (parse(rows[i].text, strlen(rows[i].text), &got, &error) < 0)
			fail_msg("%s: %s", rows[i].name, error.message);
		if (strcmp(got.text, rows[i].json) != 0)
			fail_msg("%s: %s", rows[i].name, got.text);
		cJSON_Delete(got.last);
	}
}

static void test_every_item_knows_its_line(void **state)
{
	static const char text[] = "# a comment\n"       /* 1 */
				   "kind: AddressPool\n" /* 2 */
				   "spec:\n"             /* 3 */
				   "  addresses:\n"      /* 4 */
				   "  - 192.0.2.0/24\n"  /* 5 */
				   "  - 3\n"             /* 6 */
				   "  vrrp: {version: 2,\n"
				   "         unicast: true}\n"; /* 8 */
	struct got got = { .text = "" };
	struct base_error error = { 0 };
	const cJSON *spec, *addresses, *vrrp;

	(void)state;
	assert_int_equal(parse(text, strlen(text), &got, &error), 0);
	spec = cJSON_GetObjectItemCaseSensitive(got.last, "spec");
	addresses = cJSON_GetObjectItemCaseSensitive(spec, "addresses");
	vrrp = cJSON_GetObjectItemCaseSensitive(spec, "vrrp");
	assert_int_equal(cJSON_GetObjectItemCaseSensitive(got.last, "kind")->valueint, 2);
	assert_int_equal(cJSON_GetArrayItem(addresses, 0)->valueint, 5);
	assert_int_equal(cJSON_GetArrayItem(addresses, 1)->valueint, 6);
	assert_true(cJSON_GetArrayItem(addresses, 1)->valuedouble == 3.0);
	assert_int_equal(vrrp->valueint, 7);
	assert_int_equal(cJSON_GetObjectItemCaseSensitive(vrrp, "unicast")->valueint, 8);
	cJSON_Delete(got.last);
}

static void test_every_mistake_is_told_with_file_line_and_reason(void **state)
{
	static const struct {
		const char *name, *text;
		size_t size; /* 0: strlen() */
		const char *message;
	} rows[] = {
		{ "a key twice", "a: 1\nb: 2\na: 3\n", 0,
		  "pool.yaml:3: a stands here a second time" },
		{ "a key twice, deep down", "a:\n  - b: 1\n    b: 2\n", 0,
		  "pool.yaml:3: b stands here a second time" },
		{ "an alias", "a: &x 1\nb: *x\n", 0,
		  "pool.yaml:2: aliases (*name) are not supported: write the value out" },
		{ "an alias that is a bomb",
		  "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n", 0,
		  "pool.yaml:2: aliases (*name) are not supported: write the value out" },
		{ "a key that is a list", "? [a]\n: 1\n", 0,
		  "pool.yaml:1: a key must be a word of less than 256 bytes" },
		{ "a key with a NUL", "\"a\\0b\": 1\n", 0,
		  "pool.yaml:1: a key must be a word of less than 256 bytes" },
		{ "a value with a NUL", "a: \"b\\0c\"\n", 0,
		  "pool.yaml:1: text with a NUL character" },
		{ "a document that is a list", "- a\n", 0,
		  "pool.yaml:1: not an object: expected apiVersion, kind, ..." },
		{ "a document that is a word", "a: 1\n---\n\nhello\n", 0,
		  "pool.yaml:4: not an object: expected apiVersion, kind, ..." },
		{ "an item that is a word", "kind: List\nitems:\n- {a: 1}\n- hello\n", 0,
		  "pool.yaml:4: not an object: expected apiVersion, kind, ..." },
		{ "a tab", "a:\n\t- b\n", 0,
		  "pool.yaml:2: no valid YAML: found character that cannot start any token, while "
		  "scanning for the next token" },
		{ "an end that is missing", "a: [1, 2\n", 0,
		  "pool.yaml:2: no valid YAML: did not find expected ',' or ']', while parsing a "
		  "flow "
		  "sequence" },
		{ "a quote that is missing", "a: \"b\n", 0,
		  "pool.yaml:2: no valid YAML: found unexpected end of stream, while scanning a "
		  "quoted "
		  "scalar" },
		{ "an indentation that is wrong", "a: 1\n  b: 2\n", 0,
		  "pool.yaml:2: no valid YAML: mapping values are not allowed in this context" },
		{ "no UTF-8", "a: \xff\n", 0,
		  "pool.yaml:1: no valid YAML: invalid leading UTF-8 octet" },
		{ "a binary",
		  "\x7f"
		  "ELF\x02\x01\x01\0\0\0",
		  10, "pool.yaml:1: no valid YAML: control characters are not allowed" },
		{ "an anchor nowhere", "a: *nobody\n", 0,
		  "pool.yaml:1: aliases (*name) are not supported: write the value out" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct got got = { .text = "" };
		struct base_error error = { 0 };
		size_t size = rows[i].size ? rows[i].size : strlen(rows[i].text);

		ASSERT_ROW(rows[i].name, parse(rows[i].text, size, &got, &error) == -EINVAL);
		ASSERT_ROW(rows[i].name, error.code == -EINVAL);
		if (strcmp(error.message, rows[i].message) != 0)
			fail_msg("%s: %s", rows[i].name, error.message);
		cJSON_Delete(got.last);
	}
}

static void test_nesting_keys_and_size_have_bounds(void **state)
{
	struct got got = { .text = "" };
	struct base_error error = { 0 };
	char *text = malloc(K8S_YAML_SIZE_MAX + 1);
	size_t at = 0;

	(void)state;
	assert_non_null(text);
	for (int depth = 0; depth < 100000; depth++)
		text[at++] = '[';
	assert_int_equal(parse(text, at, &got, &error), -EINVAL);
	assert_string_equal(error.message, "pool.yaml:1: nested too deeply");
	for (int depth = 62; depth <= 65; depth++) {
		at = (size_t)sprintf(text, "a: ");
		memset(text + at, '[', (size_t)depth);
		memset(text + at + depth, ']', (size_t)depth);
		assert_int_equal(parse(text, at + 2 * (size_t)depth, &got, &error),
				 depth <= 64 ? 0 : -EINVAL);
	}
	at = 0;
	for (int i = 0; i < 10000; i++)
		at += (size_t)sprintf(text + at, "k%d: 1\n", i);
	got.text[0] = '\0';
	assert_int_equal(parse(text, at, &got, &error), 0);
	at += (size_t)sprintf(text + at, "one: 1\n");
	assert_int_equal(parse(text, at, &got, &error), -EINVAL);
	assert_string_equal(error.message, "pool.yaml:10001: more than 10000 keys in one object");
	memset(text, ' ', K8S_YAML_SIZE_MAX + 1);
	assert_int_equal(parse(text, K8S_YAML_SIZE_MAX + 1, &got, &error), -EFBIG);
	assert_string_equal(error.message, "pool.yaml: larger than 8388608 bytes");
	cJSON_Delete(got.last);
	free(text);
}

static void test_keys_of_255_bytes_and_numbers_of_any_length_are_taken(void **state)
{
	char text[512];

	(void)state;
	for (int length = 254; length <= 257; length++) {
		struct got got = { .text = "" };
		struct base_error error = { 0 };

		memset(text, 'k', (size_t)length);
		strcpy(text + length, ": 9\n");
		assert_int_equal(parse(text, strlen(text), &got, &error),
				 length < 256 ? 0 : -EINVAL);
		cJSON_Delete(got.last);
	}
	for (int length = 60; length <= 80; length++) {
		struct got got = { .text = "" };
		struct base_error error = { 0 };

		strcpy(text, "a: ");
		memset(text + 3, '9', (size_t)length);
		text[3 + length] = '\0';
		assert_int_equal(parse(text, strlen(text), &got, &error), 0);
		assert_true(cJSON_IsNumber(got.last->child));
		assert_true(got.last->child->valuedouble > 1e59);
		cJSON_Delete(got.last);
	}
}

static void test_what_came_before_a_mistake_was_delivered_and_a_callback_may_end_it(void **state)
{
	struct got got = { .text = "" };
	struct base_error error = { 0 };

	(void)state;
	assert_int_equal(parse("a: 1\n---\nb: [\n", 14, &got, &error), -EINVAL);
	assert_int_equal(got.count, 1);
	cJSON_Delete(got.last);
	got = (struct got){ .refuse_at = 2 };
	assert_int_equal(parse("a: 1\n---\nb: 2\n---\nc: 3\n", 23, &got, &error), -ECANCELED);
	assert_int_equal(got.count, 2);
	cJSON_Delete(got.last);
	got = (struct got){ .refuse_at = 1 };
	assert_int_equal(parse("{kind: List, items: [{a: 1}, {a: 2}]}", 37, &got, &error),
			 -ECANCELED);
	assert_int_equal(got.count, 1);
	cJSON_Delete(got.last);
}

static void test_a_file_damaged_anywhere_is_read_or_refused_and_nothing_leaks(void **state)
{
	static const char text[] =
		"apiVersion: vipd.dev/v1alpha1\nkind: AddressPool\n"
		"metadata: {name: \"lab\", labels: {a: b}}\n"
		"spec:\n  addresses: [192.0.2.0/26, '2001:db8::/120']\n"
		"  disabled: no\n  priority: 7\n---\nkind: List\nitems: [{a: |\n x\n}]\n";
	struct base_random random = { 11 };
	char copy[sizeof text];

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct got got = { .text = "" };
		struct base_error error = { 0 };
		size_t size = (size_t)base_random_below(&random, sizeof text);

		memcpy(copy, text, sizeof text);
		if (round & 1)
			size = sizeof text - 1;
		for (int flips = 0; flips < 2; flips++)
			copy[base_random_below(&random, sizeof text)] =
				(char)base_random_next(&random);
		if (parse(copy, size, &got, &error) < 0)
			assert_true(error.message[0] != '\0');
		cJSON_Delete(got.last);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scalars_are_typed_as_the_kubernetes_tools_do_it),
		cmocka_unit_test(test_documents_come_one_by_one_and_lists_item_by_item),
		cmocka_unit_test(test_every_item_knows_its_line),
		cmocka_unit_test(test_every_mistake_is_told_with_file_line_and_reason),
		cmocka_unit_test(test_nesting_keys_and_size_have_bounds),
		cmocka_unit_test(test_keys_of_255_bytes_and_numbers_of_any_length_are_taken),
		cmocka_unit_test(
			test_what_came_before_a_mistake_was_delivered_and_a_callback_may_end_it),
		cmocka_unit_test(test_a_file_damaged_anywhere_is_read_or_refused_and_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
