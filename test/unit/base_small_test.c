/* Errors, time, hash, generator, cleanup: small things that everything else stands on. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/time.h"
#include "test/unit/unit.h"

static int refuse(struct base_error *error)
{
	return base_error_set(error, -EINVAL, "pool %s: %u is not in %s", "lab", 7u, "1..4");
}

static void test_an_error_is_filled_answered_and_cut_to_its_room(void **state)
{
	struct base_error error = { 0 };
	char longer[1000];

	(void)state;
	assert_int_equal(refuse(&error), -EINVAL);
	assert_int_equal(error.code, -EINVAL);
	assert_string_equal(error.message, "pool lab: 7 is not in 1..4");
	assert_int_equal(refuse(NULL), -EINVAL); /* nobody wants to read it */
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	base_error_set(&error, -EIO, "%s", longer);
	assert_int_equal(strlen(error.message), sizeof error.message - 1);
}

static void test_times_saturate_and_never_run_backwards(void **state)
{
	(void)state;
	assert_true(base_usec_add(5, 7) == 12);
	assert_true(base_usec_add(BASE_USEC_NEVER, 1) == BASE_USEC_NEVER);
	assert_true(base_usec_add(BASE_USEC_NEVER - 3, 4) == BASE_USEC_NEVER);
	assert_true(base_usec_add(BASE_USEC_NEVER - 3, 2) == BASE_USEC_NEVER - 1);
	assert_true(base_usec_since(10, 4) == 6);
	assert_true(base_usec_since(4, 10) == 0);
	assert_true(base_usec_earlier(3, BASE_USEC_NEVER) == 3);
	assert_true(base_usec_earlier(BASE_USEC_NEVER, 3) == 3);
}

/* Nodes compare results, and files hold them: both must be the same in every version. */
static void test_the_hash_is_fnv_1a(void **state)
{
	(void)state;
	assert_true(base_hash("", 0) == UINT64_C(0xcbf29ce484222325));
	assert_true(base_hash("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
	assert_true(base_hash("foobar", 6) == UINT64_C(0x85944171f73967e8));
}

static void test_the_generator_is_splitmix64(void **state)
{
	struct base_random random = { 1234567 };

	(void)state;
	/* The reference sequence of the algorithm's authors for this seed. */
	assert_true(base_random_next(&random) == UINT64_C(6457827717110365317));
	assert_true(base_random_next(&random) == UINT64_C(3203168211198807973));
	assert_true(base_random_next(&random) == UINT64_C(9817491932198370423));
}

static void test_numbers_below_a_bound_are_below_it_and_all_of_them_come(void **state)
{
	struct base_random random = { 3 };
	unsigned seen[10] = { 0 };

	(void)state;
	assert_true(base_random_below(&random, 0) == 0);
	assert_true(base_random_below(&random, 1) == 0);
	for (int i = 0; i < 100000; i++) {
		uint64_t number = base_random_below(&random, 10);

		assert_true(number < 10);
		seen[number]++;
	}
	for (int i = 0; i < 10; i++)
		assert_true(seen[i] > 9000 && seen[i] < 11000);
	for (int i = 0; i < 1000; i++)
		assert_true(base_random_below(&random, UINT64_MAX) < UINT64_MAX);
}

static int freed;

static void thing_free(int *thing)
{
	freed++;
	free(thing);
}
DEFINE_CLEANUP(int, thing_free)

static int *make(bool keep)
{
	CLEANUP(thing_free_cleanup) int *thing = malloc(sizeof *thing);

	return keep ? TAKE(thing) : NULL;
}

static void test_what_is_not_taken_is_freed_at_the_end_of_its_scope(void **state)
{
	int *kept;

	(void)state;
	freed = 0;
	assert_null(make(false));
	assert_int_equal(freed, 1);
	kept = make(true);
	assert_non_null(kept);
	assert_int_equal(freed, 1);
	free(kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_error_is_filled_answered_and_cut_to_its_room),
		cmocka_unit_test(test_times_saturate_and_never_run_backwards),
		cmocka_unit_test(test_the_hash_is_fnv_1a),
		cmocka_unit_test(test_the_generator_is_splitmix64),
		cmocka_unit_test(test_numbers_below_a_bound_are_below_it_and_all_of_them_come),
		cmocka_unit_test(test_what_is_not_taken_is_freed_at_the_end_of_its_scope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
