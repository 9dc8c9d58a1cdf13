/* The page of a node as Prometheus reads it: from records to text. */
#include <stdlib.h>
#include <string.h>

#include "daemon/metrics/record.h"
#include "daemon/metrics/render.h"
#include "test/unit/unit.h"

static struct {
	struct record_head head;
	struct record_router router;
	struct base_address addresses[2];
	char rest[16];
} told;
static size_t told_size;
static struct counters counters;
static const struct render_node speaker = { .node = "n1",
					    .role = "speaker",
					    .wall_us = 1700000000 * BASE_USEC_PER_SEC,
					    .counters = &counters };

/* One virtual router of two addresses, ours. */
static int setup(void **state)
{
	(void)state;
	memset(&told, 0, sizeof told);
	memset(&counters, 0, sizeof counters);
	told.head.router_count = 1;
	strcpy(told.router.name, "lab.ipv4.7");
	strcpy(told.router.pool, "lab");
	strcpy(told.router.services, "vms/a");
	told.router.owned = told.router.eligible = told.router.addresses_present = true;
	told.router.address_count = 2;
	told.addresses[0] = base_address_ipv4(192, 0, 2, 7);
	told.addresses[1] = base_address_ipv4(192, 0, 2, 8);
	told_size = sizeof told.head + record_router_size(2);
	return 0;
}

static const char *render(const struct render_node *node, const void *data, size_t size)
{
	static char page[256 * 1024];
	struct metrics_text text = { 0 };

	render_node(&text, node, data, size);
	assert_false(text.failed);
	assert_true(text.size < sizeof page);
	memcpy(page, text.data, text.size);
	page[text.size] = '\0';
	metrics_text_clear(&text);
	return page;
}

static bool has_line(const char *page, const char *line)
{
	size_t size = strlen(line);

	for (const char *at = strstr(page, line); at; at = strstr(at + 1, line))
		if ((at == page || at[-1] == '\n') && at[size] == '\n')
			return true;
	return false;
}

#define ASSERT_LINE(page, line)                                                                    \
	do {                                                                                       \
		if (!has_line(page, line))                                                         \
			fail_msg("missing: %s\n%s", line, page);                                   \
	} while (0)

static void test_every_address_says_whether_this_node_owns_it(void **state)
{
	const char *page = render(&speaker, &told, told_size);

	(void)state;
	ASSERT_LINE(page, "vipd_engine_up 1");
	ASSERT_LINE(page, "vipd_vip_owner{vip=\"192.0.2.7\",node=\"n1\",pool=\"lab\"} 1");
	ASSERT_LINE(page, "vipd_vip_owner{vip=\"192.0.2.8\",node=\"n1\",pool=\"lab\"} 1");
	ASSERT_LINE(page, "vipd_vip_address_present{vip=\"192.0.2.8\"} 1");
	ASSERT_LINE(page, "vipd_vip_fence_open{vip=\"192.0.2.8\"} 0");
	told.router.owned = told.router.eligible = false;
	told.router.not_eligible_why = BASE_REASON_LINK_DOWN;
	page = render(&speaker, &told, told_size);
	ASSERT_LINE(page, "vipd_vip_owner{vip=\"192.0.2.7\",node=\"n1\",pool=\"lab\"} 0");
	ASSERT_LINE(page,
		    "vipd_vip_not_eligible{vip=\"192.0.2.7\",node=\"n1\",reason=\"LinkDown\"} 1");
	/* The rest is for its owner to say. */
	assert_null(strstr(page, "vipd_vip_fence_open{"));
}

static void test_an_engine_that_does_not_answer_is_told_of(void **state)
{
	const char *page = render(&speaker, NULL, 0);

	(void)state;
	ASSERT_LINE(page, "vipd_engine_up 0");
	assert_null(strstr(page, "vipd_vip_owner"));
	assert_non_null(strstr(page, "rest_client_requests_total"));
}

/* Whatever is cut off, or more than is told of: nothing is shown of it. */
static void test_records_of_another_size_are_not_believed(void **state)
{
	(void)state;
	for (size_t size = 0; size < told_size; size++) {
		void *copy = malloc(size ? size : 1); /* so that the sanitizer sees the end */

		memcpy(copy, &told, size);
		ASSERT_LINE(render(&speaker, copy, size), "vipd_engine_up 0");
		free(copy);
	}
	ASSERT_LINE(render(&speaker, &told, told_size + 8), "vipd_engine_up 0");
	told.head.router_count = UINT32_MAX;
	ASSERT_LINE(render(&speaker, &told, told_size), "vipd_engine_up 0");
	told.head.router_count = 1;
	told.router.address_count = MESSAGE_ADDRESSES_MAX + 1;
	ASSERT_LINE(render(&speaker, &told, told_size), "vipd_engine_up 0");
}

static void test_labels_hold_whatever_a_name_holds(void **state)
{
	static const struct {
		const char *value, *line;
	} values[] = {
		{ "a\"b", "vipd_x{name=\"a\\\"b\"} 1" },
		{ "a\\b", "vipd_x{name=\"a\\\\b\"} 1" },
		{ "a\nb", "vipd_x{name=\"a\\nb\"} 1" },
		{ "", "vipd_x{name=\"\"} 1" },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
		  "vipd_x{name=\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"} 1" },
		{ "a\xff"
		  "b",
		  "vipd_x{name=\"a?b\"} 1" },
		{ "a\xc3", "vipd_x{name=\"a?\"} 1" },              /* cut */
		{ "\xc0\xaf", "vipd_x{name=\"??\"} 1" },           /* overlong */
		{ "\xed\xa0\x80", "vipd_x{name=\"???\"} 1" },      /* a surrogate */
		{ "\xf4\x90\x80\x80", "vipd_x{name=\"????\"} 1" }, /* beyond Unicode */
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(values); i++) {
		struct metrics_text text = { .family = "vipd_x" };

		metrics_count(&text, 1, "name", values[i].value, NULL);
		assert_false(text.failed);
		assert_int_equal(text.size, strlen(values[i].line) + 1);
		assert_memory_equal(text.data, values[i].line, text.size - 1);
		metrics_text_clear(&text);
	}
}

static void test_a_histogram_counts_up(void **state)
{
	struct base_histogram histogram = { { 0 }, 0 };
	struct metrics_text text = { 0 };

	(void)state;
	base_histogram_add(&histogram, 1000); /* the bound belongs to its bucket */
	base_histogram_add(&histogram, 1001);
	base_histogram_add(&histogram, 99000000); /* beyond all */
	metrics_family(&text, METRICS_HISTOGRAM, "vipd_x_seconds", "X.");
	metrics_histogram(&text, &histogram, "verb", "GET");
	metrics_print(&text, "%c", '\0');
	ASSERT_LINE(text.data, "vipd_x_seconds_bucket{verb=\"GET\",le=\"0.001\"} 1");
	ASSERT_LINE(text.data, "vipd_x_seconds_bucket{verb=\"GET\",le=\"0.0025\"} 2");
	ASSERT_LINE(text.data, "vipd_x_seconds_bucket{verb=\"GET\",le=\"30\"} 2");
	ASSERT_LINE(text.data, "vipd_x_seconds_bucket{verb=\"GET\",le=\"+Inf\"} 3");
	ASSERT_LINE(text.data, "vipd_x_seconds_sum{verb=\"GET\"} 99.002001");
	ASSERT_LINE(text.data, "vipd_x_seconds_count{verb=\"GET\"} 3");
	metrics_text_clear(&text);
}

/* The first of a reason must be an increase, not a series that appears. */
static void test_usual_reasons_are_there_from_the_beginning(void **state)
{
	const char *page = render(&speaker, &told, told_size);

	(void)state;
	ASSERT_LINE(page, "vipd_transitions_total{reason=\"OwnerLost\"} 0");
	assert_null(strstr(page, "reason=\"DrillStarted\""));
	told.head.counts.transitions[BASE_REASON_DRILL_STARTED] = 3;
	page = render(&speaker, &told, told_size);
	ASSERT_LINE(page, "vipd_transitions_total{reason=\"DrillStarted\"} 3");
}

/* Each family once, its samples together: the text format wants it so. */
static void test_families_stand_together(void **state)
{
	char *page = strdup(render(&speaker, &told, told_size)), *save = NULL;
	char seen[256][64], current[64] = "";
	unsigned count = 0;

	(void)state;
	for (char *line = strtok_r(page, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[64];

		if (sscanf(line, "# HELP %63s", name) == 1) {
			for (unsigned i = 0; i < count; i++)
				assert_string_not_equal(seen[i], name);
			strcpy(current, name);
			strcpy(seen[count++], name);
		} else if (line[0] != '#') {
			ASSERT_ROW(line, strncmp(line, current, strlen(current)) == 0);
		}
	}
	assert_true(count > 20);
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_every_address_says_whether_this_node_owns_it, setup),
		cmocka_unit_test_setup(test_an_engine_that_does_not_answer_is_told_of, setup),
		cmocka_unit_test_setup(test_records_of_another_size_are_not_believed, setup),
		cmocka_unit_test_setup(test_labels_hold_whatever_a_name_holds, setup),
		cmocka_unit_test_setup(test_a_histogram_counts_up, setup),
		cmocka_unit_test_setup(test_usual_reasons_are_there_from_the_beginning, setup),
		cmocka_unit_test_setup(test_families_stand_together, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
