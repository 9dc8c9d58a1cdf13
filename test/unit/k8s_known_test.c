/* What a list does not name any more is gone, however many there are, and nothing else is. */
#include <stdio.h>
#include <string.h>

#include "k8s/known.h"
#include "test/unit/unit.h"

#define MANY 5000

struct gone {
	unsigned count;
	char last[128];
};

static void note_gone(void *userdata, const char *namespace, const char *name)
{
	struct gone *gone = userdata;

	gone->count++;
	snprintf(gone->last, sizeof gone->last, "%s/%s", namespace, name);
}

static void test_a_name_with_another_uid_is_another_thing(void **state)
{
	struct k8s_known known = { 0 };

	(void)state;
	assert_false(k8s_known_has(&known, "a", "x"));
	assert_false(k8s_known_remove(&known, "a", "x", "1"));
	assert_int_equal(k8s_known_put(&known, "a", "x", "1"), K8S_KNOWN_NEW);
	assert_int_equal(k8s_known_put(&known, "a", "x", "1"), K8S_KNOWN_AGAIN);
	assert_int_equal(k8s_known_put(&known, "a", "x", "2"), K8S_KNOWN_OTHER);
	assert_int_equal(known.count, 1);
	assert_false(k8s_known_has(&known, "", "x"));
	assert_false(k8s_known_remove(&known, "a", "x", "1"));
	assert_true(k8s_known_has(&known, "a", "x"));
	assert_true(k8s_known_remove(&known, "a", "x", "2"));
	assert_false(k8s_known_has(&known, "a", "x"));
	/* Where a namespace ends and a name begins counts. */
	assert_int_equal(k8s_known_put(&known, "ab", "c", "1"), K8S_KNOWN_NEW);
	assert_int_equal(k8s_known_put(&known, "a", "bc", "1"), K8S_KNOWN_NEW);
	k8s_known_clear(&known);
	assert_int_equal(known.count, 0);
}

static void test_whatever_was_not_put_again_is_gone(void **state)
{
	struct k8s_known known = { 0 };
	struct gone gone = { 0 };
	char name[32];

	(void)state;
	k8s_known_sweep(&known, note_gone, &gone);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "n%d", i);
		assert_int_equal(k8s_known_put(&known, "a", name, name), K8S_KNOWN_NEW);
	}
	k8s_known_begin(&known);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "n%d", i);
		if (i != 77)
			assert_int_equal(k8s_known_put(&known, "a", name, name), K8S_KNOWN_AGAIN);
	}
	k8s_known_sweep(&known, note_gone, &gone);
	assert_int_equal(gone.count, 1);
	assert_string_equal(gone.last, "a/n77");
	assert_int_equal(known.count, MANY - 1);
	k8s_known_begin(&known);
	k8s_known_sweep(&known, note_gone, &gone);
	assert_int_equal(gone.count, MANY);
	assert_int_equal(known.count, 0);
	k8s_known_clear(&known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_with_another_uid_is_another_thing),
		cmocka_unit_test(test_whatever_was_not_put_again_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
