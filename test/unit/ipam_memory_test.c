#include <errno.h>
#include <stdlib.h>

#include "test/unit/ipam_fixture.h"

/*
 * Every allocation of every call is made to fail once: the call answers -ENOMEM and nothing has
 * changed, and without the failure it does what it should. The linker puts these in place of the
 * real ones (ipam/CMakeLists.txt).
 */
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

static long fail_at = -1; /* the n-th from now; -1: none */

static bool fails(void)
{
	return fail_at >= 0 && fail_at-- == 0;
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return fails() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

/* Everything that can be asked, as text. */
struct dump {
	char text[16384];
	size_t at;
};

__attribute__((format(printf, 2, 3))) static void say(struct dump *dump, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	dump->at += (size_t)vsnprintf(dump->text + dump->at, sizeof dump->text - dump->at, format,
				      arguments);
	va_end(arguments);
	assert_true(dump->at < sizeof dump->text);
}

static bool say_record(void *userdata, const struct ipam_record *record)
{
	char address[BASE_ADDRESS_TEXT_SIZE];

	say(userdata, "%s %s %s %u:", base_address_format(&record->address, address), record->pool,
	    record->router, record->router_id);
	for (size_t i = 0; i < record->service_count; i++)
		say(userdata, " %s/%s", record->services[i].namespace, record->services[i].name);
	say(userdata, "\n");
	return true;
}

static bool say_quarantine(void *userdata, const struct ipam_quarantine *quarantine)
{
	char address[BASE_ADDRESS_TEXT_SIZE];

	say(userdata, "%s %s %s/%s %llu\n", base_address_format(&quarantine->address, address),
	    quarantine->pool, quarantine->service.namespace, quarantine->service.name,
	    (unsigned long long)quarantine->until_us);
	return true;
}

static void dump_all(struct ipam *ipam, struct dump *dump)
{
	static const char *const pools[] = { "lab", "other", "new", "gone" };
	static const char *const probes[] = { "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9",
					      "192.0.2.20", "192.0.2.30" };

	dump->at = 0;
	ipam_record_each(ipam, say_record, dump);
	for (size_t i = 0; i < BASE_COUNT_OF(pools); i++) {
		struct ipam_pool_status status;
		bool there = ipam_pool_status(ipam, pools[i], NOW, &status);
		const struct ipam_family_status *f = &status.ipv4;

		say(dump, "%s %d: %llu %llu %llu %llu %llu %llu %llu\n", pools[i], there,
		    (unsigned long long)f->capacity, (unsigned long long)f->assigned,
		    (unsigned long long)f->orphans, (unsigned long long)f->available,
		    (unsigned long long)f->reserved, (unsigned long long)f->quarantined,
		    (unsigned long long)f->blocked);
		ipam_quarantine_each(ipam, pools[i], NOW, say_quarantine, dump);
	}
	for (size_t i = 0; i < BASE_COUNT_OF(probes); i++) {
		struct base_address address = address_of(probes[i]);
		struct base_error error = { 0 };

		say(dump, "%d %s\n", ipam_record_check(ipam, &address, &error), error.message);
	}
}

/* Some of everything. */
static struct ipam *world(void)
{
	struct ipam *ipam = ipam_new();
	struct ipam_range ranges[FIXTURE_RANGES_MAX];
	size_t count = ranges_of("192.0.2.9 192.0.2.40-192.0.2.50", ranges);

	assert_non_null(ipam);
	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/26",
					    .reserved = "192.0.2.5", .reserved_for = "dns/r" });
	put_simple_pool(ipam, "other", "192.0.2.16-192.0.2.80");
	put_service(ipam, "vms/a", "k", "tcp/1");
	put_service(ipam, "vms/b", "k", "tcp/2");
	put_service(ipam, "vms/c", NULL, "tcp/3");
	put_service(ipam, "dns/r", NULL, "udp/53");
	put_record(ipam, "192.0.2.1", "lab", "vms/a", "lab.ipv4.1", 1);
	put_record(ipam, "192.0.2.2", "lab", "vms/x vms/y", "lab.ipv4.2", 2);
	put_record(ipam, "192.0.2.30", "other", "vms/old", "", 0);
	assert_int_equal(releases(ipam, "vms/old", "192.0.2.30", NOW), 0);
	assert_int_equal(ipam_taken_put(ipam, "Node n1", BASE_REASON_ADDRESS_IN_USE, NULL, count,
					ranges),
			 0);
	return ipam;
}

/* Each answers what the call under test answered. */
static int do_new(struct ipam *ipam)
{
	struct ipam *another = ipam_new();

	(void)ipam;
	ipam_free(another);
	return another ? 0 : -ENOMEM;
}

static int do_pool(struct ipam *ipam)
{
	return with_pool(&(struct pool_text){ .name = "new", .addresses = "192.0.2.0/27 2001:db8::/64",
					      .exclude = "192.0.2.3", .namespace = "vms",
					      .reserved = "192.0.2.20", .reserved_for = "q/q" },
			 ipam_pool_put, ipam, NULL);
}

static int do_edit(struct ipam *ipam)
{
	return with_pool(&(struct pool_text){ .name = "lab", .addresses = "192.0.2.1-192.0.2.8",
					      .exclude = "192.0.2.2", .namespace = "vms",
					      .reserved = "192.0.2.6", .reserved_for = "q/q" },
			 ipam_pool_put, ipam, NULL);
}

static int do_record(struct ipam *ipam)
{
	struct ipam_name names[] = { { "n", "1" }, { "n", "2" }, { "m", "1" } };
	struct ipam_record record = { .address = address_of("192.0.2.20"),
				      .pool = "gone",
				      .router = "else.ipv4.7",
				      .router_id = 7,
				      .service_count = 3,
				      .services = names };

	return ipam_record_put(ipam, &record, NULL);
}

static int do_record_again(struct ipam *ipam)
{
	struct ipam_name names[] = { { "n", "1" }, { "vms", "y" }, { "vms", "x" }, { "m", "1" } };
	struct ipam_record record = { .address = address_of("192.0.2.2"),
				      .pool = "other",
				      .router = "lab.ipv4.9",
				      .router_id = 9,
				      .service_count = 4,
				      .services = names };

	return ipam_record_put(ipam, &record, NULL);
}

static int do_remove(struct ipam *ipam)
{
	struct base_address address = address_of("192.0.2.2");

	return ipam_record_remove(ipam, &address);
}

static int do_quarantine(struct ipam *ipam)
{
	struct ipam_quarantine quarantine = { .address = address_of("192.0.2.20"),
					      .pool = "gone",
					      .service = { "q", "q" },
					      .until_us = NOW + 5 * SECOND };

	return ipam_quarantine_put(ipam, &quarantine, NOW);
}

static int do_taken(struct ipam *ipam)
{
	struct ipam_name service = { "q", "q" };
	struct ipam_range ranges[FIXTURE_RANGES_MAX];
	size_t count = ranges_of("192.0.2.3 192.0.2.20 192.0.2.60-192.0.2.70", ranges);

	return ipam_taken_put(ipam, "Node n1", BASE_REASON_FOREIGN_ADDRESS, &service, count, ranges);
}

static int do_service(struct ipam *ipam)
{
	struct base_address external = { 4, { 192, 0, 2, 1 } };
	struct ipam_port port = { IPPROTO_TCP, 9 };
	struct ipam_service service = { { "vms", "a" }, "another", 1, &port, .external_count = 1,
					.external_ips = &external };

	return ipam_service_put(ipam, &service);
}

static int do_service_new(struct ipam *ipam)
{
	struct ipam_service service = { .name = { "vms", "new" }, .sharing_key = "k" };

	return ipam_service_put(ipam, &service);
}

static int ask_for(struct ipam *ipam, const char *service, const char *wanted)
{
	struct asked answer;

	asked(ipam, &(struct ask){ .service = service, .wanted = wanted }, &answer);
	return answer.code;
}

static int do_allocate(struct ipam *ipam)
{
	return ask_for(ipam, "vms/c", NULL);
}

static int do_allocate_shared(struct ipam *ipam)
{
	return ask_for(ipam, "vms/b", "192.0.2.1");
}

static int do_allocate_reserved(struct ipam *ipam)
{
	return ask_for(ipam, "dns/r", NULL);
}

static int do_release(struct ipam *ipam)
{
	return releases(ipam, "vms/a", "192.0.2.1", NOW);
}

static int do_router(struct ipam *ipam)
{
	struct base_address address = address_of("192.0.2.2");
	struct ipam_ids avoid = { 0 };
	struct ipam_router router;

	ipam_ids_add(&avoid, 2, 2);
	return ipam_router_choose(ipam, &address, 0, &avoid, &router, NULL);
}

static int do_preview(struct ipam *ipam)
{
	struct ipam_pool pool = { .name = "lab" };
	struct ipam_range range = { 0 };

	ipam_range_parse("192.0.2.0/30", &range);
	pool.addresses = &range;
	pool.address_count = 1;
	ipam_ids_add(&pool.virtual_router_ids, 1, 255);
	return ipam_pool_preview(ipam, &pool, NULL, NULL, NULL);
}

static void test_a_call_without_memory_changes_nothing(void **state)
{
	static const struct {
		const char *name;
		int (*call)(struct ipam *ipam);
		bool changes; /* something that the dump shows */
	} rows[] = {
		{ "new", do_new, false },
		{ "a pool", do_pool, true },
		{ "a pool edited", do_edit, true },
		{ "a record", do_record, true },
		{ "a record replaced", do_record_again, true },
		{ "a record removed", do_remove, true },
		{ "quarantine", do_quarantine, true },
		{ "taken", do_taken, true },
		{ "a Service", do_service, false },
		{ "a new Service", do_service_new, false },
		{ "allocation", do_allocate, true },
		{ "allocation, shared", do_allocate_shared, true },
		{ "allocation, reserved", do_allocate_reserved, true },
		{ "release", do_release, true },
		{ "a virtual router", do_router, true },
		{ "preview", do_preview, false },
	};
	static struct dump before, after;
	unsigned tried = 0;

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		int r = -ENOMEM;

		for (long n = 0; r == -ENOMEM; n++) {
			struct ipam *ipam = world();

			assert_true(n < 1000);
			dump_all(ipam, &before);
			fail_at = n;
			r = rows[i].call(ipam);
			if (fail_at >= 0) /* the call needed less than n: it is whole */
				assert_int_equal(r, 0);
			else if (r != -ENOMEM)
				fail_msg("%s: allocation %ld failed and the answer is %d",
					 rows[i].name, n, r);
			fail_at = -1;
			dump_all(ipam, &after);
			if (r == -ENOMEM && strcmp(before.text, after.text) != 0)
				fail_msg("%s, allocation %ld, before:\n%sand after:\n%s",
					 rows[i].name, n, before.text, after.text);
			if (r == 0 && rows[i].changes)
				assert_string_not_equal(before.text, after.text);
			if (r == -ENOMEM)
				assert_int_equal(rows[i].call(ipam), 0);
			ipam_free(ipam);
			tried += r == -ENOMEM;
		}
	}
	print_message("%u allocations failed\n", tried);
	assert_true(tried > 50);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_call_without_memory_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
