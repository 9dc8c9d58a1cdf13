/* Transactions that a thread brings to the kernel: who asked has the answer at once, or is woken for it, and never both. */
#include <poll.h>
#include <sched.h>

#include "nft/io/wire.h"
#include "test/adapter/place.h"

#define MANY 20000 /* elements: the kernel takes far longer than the caller is patient */

static struct nft_wire *wire;

static int set_up(void **state)
{
	(void)state;
	place_run("nft flush ruleset");
	place_run("nft 'table inet vipd { set local4 { type ipv4_addr; }; }'");
	assert_int_equal(nft_wire_new(&wire), 0);
	return 0;
}

/* As the engine has it, where that is allowed: the caller stays awake then. */
static int set_up_realtime(void **state)
{
	sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &(struct sched_param){ .sched_priority = 20 });
	return set_up(state);
}

static int tear_down(void **state)
{
	(void)state;
	nft_wire_free(wire);
	sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
	return 0;
}

static void put(bool add, uint32_t number)
{
	struct nft_element element = { .set = NFT_SET_LOCAL, .key_size = sizeof number };

	memcpy(element.key, &number, sizeof number);
	nft_wire_element(wire, add, &element);
}

static bool wakes(int timeout_ms)
{
	return poll(&(struct pollfd){ .fd = nft_wire_fd(wire), .events = POLLIN }, 1, timeout_ms) == 1;
}

/* Without waiting for it where the kernel needs no time; a busy machine may. */
static int answer(void)
{
	int r = nft_wire_submit(wire);

	if (r != -EINPROGRESS)
		return r;
	assert_true(wakes(10000));
	return nft_wire_result(wire, false);
}

static void count_one(void *userdata, const struct nft_found *found)
{
	(void)found;
	++*(unsigned *)userdata;
}

static unsigned count(void)
{
	struct nft_wire *asker;
	unsigned found = 0;

	assert_int_equal(nft_wire_new(&asker), 0);
	assert_int_equal(nft_wire_dump(asker, "inet", "local4", count_one, &found), 0);
	nft_wire_free(asker);
	return found;
}

static void test_whoever_has_the_answer_is_not_woken_for_it(void **state)
{
	unsigned quick = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		int r;

		nft_wire_begin(wire);
		put(true, i);
		r = nft_wire_submit(wire);
		quick += r == 0;
		if (r == -EINPROGRESS)
			assert_true(wakes(10000));
		if (r == -EINPROGRESS)
			r = nft_wire_result(wire, false);
		assert_int_equal(r, 0);
		assert_false(wakes(0));
	}
	assert_true(quick > 0);
	assert_int_equal(count(), 1000);
}

/* All of them into the set, or out of it; what submit() said. */
static int submit_many(bool add)
{
	nft_wire_begin(wire);
	for (uint32_t i = 0; i < MANY; i++)
		put(add, i);
	return nft_wire_submit(wire);
}

static bool has_two_processors(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
	return CPU_COUNT(&set) > 1;
}

/* Where both are on one processor the kernel may be done before the caller is back: another turn. */
static void test_whoever_left_is_woken_once(void **state)
{
	bool add = false;
	int r = 0;

	(void)state;
	for (int turn = 0; turn < 50 && r == 0; turn++) {
		add = !add;
		r = submit_many(add);
		if (r == 0)
			assert_false(wakes(0));
	}
	if (r != 0 || has_two_processors())
		assert_int_equal(r, -EINPROGRESS);
	if (r == -EINPROGRESS) {
		assert_true(wakes(10000));
		assert_int_equal(nft_wire_result(wire, false), 0);
		assert_int_equal(nft_wire_result(wire, false), -EINPROGRESS); /* there is no other answer */
	}
	assert_false(wakes(0));
	assert_int_equal(count(), add ? MANY : 0);
}

/* Of several messages the first may be refused and the last accepted: nothing is done, and the next one hears its own answer. */
static void test_a_refusal_is_the_answer_wherever_it_stands(void **state)
{
	(void)state;
	nft_wire_begin(wire);
	put(false, 1); /* which is not there */
	put(true, 2);
	assert_int_equal(answer(), -ENOENT);
	assert_int_equal(count(), 0);
	nft_wire_begin(wire);
	put(true, 1);
	put(false, 2);
	assert_int_equal(answer(), -ENOENT);
	assert_int_equal(count(), 0);
	nft_wire_begin(wire);
	put(true, 2);
	assert_int_equal(answer(), 0);
	assert_int_equal(count(), 1);
}

#define TWICE(test)                                                                                \
	cmocka_unit_test_setup_teardown(test, set_up, tear_down),                                  \
		cmocka_unit_test_setup_teardown(test, set_up_realtime, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TWICE(test_whoever_has_the_answer_is_not_woken_for_it),
		TWICE(test_whoever_left_is_woken_once),
		TWICE(test_a_refusal_is_the_answer_wherever_it_stands),
	};

	place_enter();
	place_need_nft();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
