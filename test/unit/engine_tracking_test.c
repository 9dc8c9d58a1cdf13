/* What the kernel's numbers about connection tracking mean for addresses. */
#include <string.h>

#include "daemon/engine/tracking.h"
#include "test/unit/unit.h"

static void test_what_is_wrong_is_said_and_does_not_flap(void **state)
{
	static const struct {
		const char *name;
		long count, max, loose;
		const char *says; /* NULL: nothing */
	} rows[] = {
		{ "the kernel tracks nothing", -1, -1, -1, NULL },
		{ "as it is set by itself", 10, 262144, 1, NULL },
		{ "no limit", 1000000, 0, 1, NULL },
		{ "none is believed that began elsewhere", 10, 262144, 0, "nf_conntrack_tcp_loose is 0" },
		{ "room for a few", 949, 1000, 1, NULL },
		{ "nearly full", 950, 1000, 1, "full, or nearly so (1000)" },
		{ "still", 901, 1000, 0, "full, or nearly so (1000)" },
		{ "room again", 899, 1000, 0, "nf_conntrack_tcp_loose is 0" },
		{ "not full before it is", 901, 1000, 1, NULL },
		{ "more than there may be", 1001, 1000, 1, "Raise net.netfilter.nf_conntrack_max" },
		{ "the limit is gone", 1001, -1, 1, NULL },
	};
	bool full = false;
	char text[256];

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		tracking_judge(rows[i].count, rows[i].max, rows[i].loose, &full, text, sizeof text);
		ASSERT_ROW(rows[i].name, rows[i].says ? strstr(text, rows[i].says) != NULL : !*text);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_wrong_is_said_and_does_not_flap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
