/* What was packed comes back, byte by byte, whatever it was. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "k8s/packed.h"
#include "test/unit/unit.h"

static void assert_comes_back(const char *text)
{
	struct k8s_packed *packed = k8s_pack(text), *again = k8s_pack(text);
	char *back;

	assert_non_null(packed);
	assert_non_null(again);
	assert_true(k8s_packed_equal(packed, again));
	back = k8s_unpack(packed);
	assert_non_null(back);
	assert_string_equal(back, text);
	free(back);
	free(packed);
	free(again);
}

static void test_any_text_comes_back(void **state)
{
	struct base_random random = { .state = 7 };
	char *text = malloc(200001);

	(void)state;
	assert_non_null(text);
	assert_comes_back("");
	assert_comes_back("{}");
	for (size_t size = 1; size <= 200000; size = size * 3 + 1) {
		for (size_t i = 0; i < size; i++)
			text[i] = (char)(1 +
					 base_random_below(&random, 255)); /* nothing to deflate */
		text[size] = '\0';
		assert_comes_back(text);
		memset(text, 'a', size);
		assert_comes_back(text);
	}
	free(text);
}

static void test_different_texts_differ(void **state)
{
	struct k8s_packed *one = k8s_pack("{\"port\":22}"), *other = k8s_pack("{\"port\":23}"),
			  *longer = k8s_pack("{\"port\":22} ");

	(void)state;
	assert_false(k8s_packed_equal(one, other));
	assert_false(k8s_packed_equal(one, longer));
	free(one);
	free(other);
	free(longer);
}

static void test_trees(void **state)
{
	struct k8s_packed *good = k8s_pack("{\"spec\":{\"port\":22}}"),
			  *bad = k8s_pack("{\"spec\":");
	cJSON *tree = k8s_unpack_tree(good);

	(void)state;
	assert_non_null(cJSON_GetObjectItemCaseSensitive(tree, "spec"));
	assert_null(k8s_unpack_tree(bad));
	cJSON_Delete(tree);
	free(good);
	free(bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_text_comes_back),
		cmocka_unit_test(test_different_texts_differ),
		cmocka_unit_test(test_trees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
