/* managedFields, and nothing else, goes; whatever is no JSON stays what it is. */
#include <string.h>

#include "base/array.h"
#include "k8s/trim.h"
#include "test/unit/unit.h"

static const struct {
	const char *text, *left;
} cases[] = {
	{ "{\"metadata\":{\"name\":\"a\",\"managedFields\":[{\"f:x\":{\"]\":\"}\\\"]\"}},[]],\"uid\":\"1\"},\"spec\":{}}",
	  "{\"metadata\":{\"name\":\"a\",\"uid\":\"1\"},\"spec\":{}}" },
	{ "{\"name\":\"a\",\"managedFields\":[{\"a\":[1,2]}]}", "{\"name\":\"a\"}" },
	{ "{\"managedFields\":[],\"name\":\"a\"}", "{\"name\":\"a\"}" },
	{ "{\"managedFields\":[]}", "{}" },
	{ "{\"managedFields\":null}", "{\"managedFields\":null}" },
	{ "{\"note\":\",\\\"managedFields\\\":[1]\"}", "{\"note\":\",\\\"managedFields\\\":[1]\"}" },
	{ "{\"a\":1}", "{\"a\":1}" },
	{ "{\"a\":1,\"managedFields\":[{\"b\":\"", "{\"a\":1,\"managedFields\":[{\"b\":\"" },
	{ "{\"a\":1,\"managedFields\":[\"\\", "{\"a\":1,\"managedFields\":[\"\\" },
	{ "{\"a\":1,\"managedFields\":[]", "{\"a\":1,\"managedFields\":[]" },
	{ "\"managedFields\":[]}", "\"managedFields\":[]}" },
	{ "", "" },
};

static void test_only_managed_fields_go(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(cases); i++) {
		char text[256];
		size_t size = strlen(cases[i].text);

		memcpy(text, cases[i].text, size + 1);
		size = k8s_trim(text, size);
		assert_int_equal(size, strlen(cases[i].left));
		assert_memory_equal(text, cases[i].left, size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_managed_fields_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
