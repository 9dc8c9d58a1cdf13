#include <stdlib.h>

#include "test/unit/ipam_fixture.h"

static int setup(void **state)
{
	*state = ipam_new();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	ipam_free(*state);
	return 0;
}

static void test_the_lowest_free_address_is_given_and_kept(void **state)
{
	struct ipam *ipam = *state;
	struct asked asked_for;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/29",
					    .avoid_first_last = true });
	put_service(ipam, "vms/a", NULL, "tcp/22");
	put_service(ipam, "vms/b", NULL, "tcp/22");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_string_equal(given(ipam, "vms/b"), "192.0.2.2");
	asked(ipam, &(struct ask){ .service = "vms/a" }, &asked_for);
	assert_string_equal(asked_for.text, "192.0.2.1");
	assert_true(asked_for.answer.kept);
	assert_string_equal(asked_for.answer.pool, "lab");
}

static void test_families_are_asked_for_one_by_one(void **state)
{
	struct ipam *ipam = *state;
	struct asked asked_for;

	put_simple_pool(ipam, "lab", "192.0.2.8/29 2001:db8::/64");
	put_service(ipam, "vms/a", NULL, "tcp/22");
	assert_string_equal(asked(ipam, &(struct ask){ .service = "vms/a" }, &asked_for),
			    "192.0.2.8");
	assert_string_equal(
		asked(ipam, &(struct ask){ .service = "vms/a", .family = 6 }, &asked_for),
		"2001:db8::");
	assert_int_equal(releases(ipam, "vms/a", "2001:db8::", NOW), 0);
	assert_string_equal(asked(ipam, &(struct ask){ .service = "vms/a" }, &asked_for),
			    "192.0.2.8");
	assert_true(asked_for.answer.kept);
}

static void test_a_released_address_waits_for_its_last_holder(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_pool_status status;
	struct asked asked_for;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.2");
	put_service(ipam, "vms/a", NULL, "tcp/22");
	put_service(ipam, "vms/b", NULL, "tcp/22");
	put_service(ipam, "vms/c", NULL, "tcp/22");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_int_equal(releases(ipam, "vms/a", "192.0.2.1", NOW), 0);
	assert_string_equal(given(ipam, "vms/b"), "192.0.2.2");
	assert_string_equal(given(ipam, "vms/c"), "PoolExhausted");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_int_equal(releases(ipam, "vms/a", "192.0.2.1", NOW), 0);
	assert_int_equal(ipam_deadline(ipam), NOW + 60 * SECOND);
	ipam_advance(ipam, NOW);
	assert_false(ipam_advance(ipam, NOW + 60 * SECOND - 1));
	/* Who counts first does not keep it from those who wait. */
	assert_true(ipam_pool_status(ipam, "lab", NOW + 60 * SECOND, &status));
	assert_int_equal(status.ipv4.available, 1);
	assert_true(ipam_advance(ipam, NOW + 60 * SECOND));
	assert_string_equal(asked(ipam,
				  &(struct ask){ .service = "vms/c", .now_us = NOW + 60 * SECOND },
				  &asked_for),
			    "192.0.2.1");
}

static void test_of_several_former_addresses_the_latest_comes_back(void **state)
{
	struct ipam *ipam = *state;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	put_service(ipam, "vms/a", NULL, "tcp/22");
	for (unsigned i = 3; i <= 9; i++) {
		static const unsigned seconds[] = { [3] = 20, 40, 50, 10, 50, 5, 1 };
		struct ipam_quarantine former = { .address = base_address_ipv4(192, 0, 2, (uint8_t)i),
						  .pool = "lab",
						  .service = { "vms", "a" },
						  .until_us = NOW + seconds[i] * SECOND };

		assert_int_equal(ipam_quarantine_put(ipam, &former, NOW), 0);
	}
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.5");
}

static void test_sharing_needs_key_ports_and_namespace(void **state)
{
	struct ipam *ipam = *state;
	struct asked asked_for;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	put_service(ipam, "vms/tcp", "dns", "tcp/53");
	put_service(ipam, "vms/udp", "dns", "udp/53");
	put_service(ipam, "vms/tcp2", "dns", "tcp/53");
	put_service(ipam, "other/udp", "dns", "udp/5353");
	assert_string_equal(given(ipam, "vms/tcp"), "192.0.2.1");
	asked(ipam, &(struct ask){ .service = "vms/udp" }, &asked_for);
	assert_string_equal(asked_for.text, "192.0.2.1");
	assert_true(asked_for.answer.shared);
	assert_string_equal(given(ipam, "vms/tcp2"), "192.0.2.2");
	assert_string_equal(given(ipam, "other/udp"), "192.0.2.3");
	assert_int_equal(releases(ipam, "vms/tcp", "192.0.2.1", NOW), 1);
	assert_int_equal(releases(ipam, "vms/udp", "192.0.2.1", NOW), 0);
}

/* --- every refusal, word for word: this is what kubectl describe svc shows --- */

/*
 * One world for all rows: lab is nearly everybody's; dns is reserved in part; big is disabled; web
 * is by request only; team is namespace team's; gold selects labels; ext allows externalIPs; tiny
 * has one address, held; six is IPv6 alone.
 */
static void build_world(struct ipam *ipam)
{
	struct ipam_range node = ipam_range_single(&(struct base_address){ 0 });
	struct ipam_range wide;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.0/26",
					    .exclude = "192.0.2.13 192.0.2.32/29",
					    .avoid_first_last = true, .max_per_namespace = 3,
					    .reserved = "192.0.2.5", .reserved_for = "dns/resolver" });
	put_pool(ipam, &(struct pool_text){ .name = "big", .addresses = "198.51.100.0/24",
					    .disabled = true });
	put_pool(ipam, &(struct pool_text){ .name = "web", .addresses = "203.0.113.0/28",
					    .manual = true });
	put_pool(ipam, &(struct pool_text){ .name = "team", .addresses = "203.0.113.16/28",
					    .namespace = "team" });
	put_pool(ipam, &(struct pool_text){ .name = "gold", .addresses = "203.0.113.32/28",
					    .service_selector = true });
	put_pool(ipam, &(struct pool_text){ .name = "ext", .addresses = "203.0.113.48/28",
					    .external_ips = true, .manual = true });
	put_pool(ipam, &(struct pool_text){ .name = "tiny", .addresses = "203.0.113.64" });
	put_simple_pool(ipam, "six", "2001:db8::/120");

	put_service(ipam, "vms/a", NULL, "tcp/22");
	put_service(ipam, "vms/web1", "web", "tcp/80 tcp/443");
	put_service(ipam, "vms/web2", "web", "tcp/443");
	put_service(ipam, "vms/other-key", "other", "tcp/8080");
	put_service(ipam, "vms/ssh", NULL, "tcp/22");
	put_service(ipam, "shop/web", "web", "tcp/8080");
	put_service(ipam, "full/f", NULL, "tcp/1");
	put_service(ipam, "gone/g", NULL, "tcp/1");
	put_service(ipam, "team/t", NULL, "tcp/1");
	put_record(ipam, "192.0.2.10", "lab", "vms/a", "", 0);
	put_record(ipam, "192.0.2.11", "lab", "vms/web1", "", 0);
	put_record(ipam, "192.0.2.14", "lab", NULL, "", 0);
	put_record(ipam, "203.0.113.64", "tiny", "gone/g", "", 0);
	put_record(ipam, "192.0.2.50", "lab", "full/1", "", 0);
	put_record(ipam, "192.0.2.51", "lab", "full/2", "", 0);
	put_record(ipam, "192.0.2.52", "lab", "full/3", "", 0);
	put_service(ipam, "vms/released", NULL, "tcp/1");
	assert_string_equal(given(ipam, "vms/released"), "192.0.2.1");
	assert_int_equal(releases(ipam, "vms/released", "192.0.2.1", NOW), 0);

	node.first = node.last = address_of("192.0.2.7");
	assert_int_equal(ipam_taken_put(ipam, "Node n1", BASE_REASON_ADDRESS_IN_USE, NULL, 1, &node),
			 0);
	node.first = node.last = address_of("192.0.2.8");
	assert_int_equal(ipam_taken_put(ipam, "host 02:00:00:00:00:99", BASE_REASON_FOREIGN_ADDRESS,
					NULL, 1, &node),
			 0);
	assert_true(ipam_range_parse("192.0.2.56/30", &wide));
	assert_int_equal(ipam_taken_put(ipam, "OpenShift (autoAssignCIDRs)",
					BASE_REASON_ADDRESS_IN_USE, NULL, 1, &wide),
			 0);
}

static void test_every_refusal_says_what_is_wrong_and_what_to_do(void **state)
{
	static const struct {
		struct ask ask;
		const char *reason, *sentence;
	} rows[] = {
		{ { "vms/ssh", .wanted = "192.0.9.9" }, "AddressNotInPool",
		  "192.0.9.9 is in no pool: ext has 203.0.113.48/28; lab has 192.0.2.0/26; tiny has "
		  "203.0.113.64; web has 203.0.113.0/28" },
		{ { "team/t", .wanted = "192.0.9.9", .selects_service = true }, "AddressNotInPool",
		  "192.0.9.9 is in no pool: ext has 203.0.113.48/28; gold has 203.0.113.32/28; lab "
		  "has 192.0.2.0/26; team has 203.0.113.16/28; tiny has 203.0.113.64; web has "
		  "203.0.113.0/28" },
		{ { "vms/ssh", .family = 6, .wanted = "2001:db8:1::1" }, "AddressNotInPool",
		  "2001:db8:1::1 is in no pool: six has 2001:db8::/120" },
		{ { "vms/ssh", .wanted = "192.0.2.13" }, "AddressNotInPool",
		  "192.0.2.13 cannot be given: pool lab excludes it (exclude: 192.0.2.13); ask for "
		  "another address" },
		{ { "vms/ssh", .wanted = "192.0.2.36" }, "AddressNotInPool",
		  "192.0.2.36 cannot be given: pool lab excludes it (exclude: 192.0.2.32/29); ask for "
		  "another address" },
		{ { "vms/ssh", .wanted = "192.0.2.0" }, "AddressNotInPool",
		  "192.0.2.0 cannot be given: pool lab skips it (avoidFirstLast, first or last in "
		  "192.0.2.0/26); ask for another address" },
		{ { "vms/ssh", .wanted = "198.51.100.4" }, "AddressNotInPool",
		  "198.51.100.4 cannot be given: pool big is disabled" },
		{ { "vms/ssh", .wanted = "203.0.113.20" }, "AddressNotInPool",
		  "203.0.113.20 cannot be given: pool team is not for namespace vms" },
		{ { "vms/ssh", .wanted = "203.0.113.33" }, "AddressNotInPool",
		  "203.0.113.33 cannot be given: pool gold does not select the labels of this "
		  "Service" },
		{ { "vms/ssh", .wanted = "203.0.113.3", .external_ip = true }, "AddressNotInPool",
		  "203.0.113.3 cannot be given: pool web does not allow externalIPs" },
		{ { "vms/ssh", .wanted = "203.0.113.3", .pool = "lab" }, "AddressNotInPool",
		  "203.0.113.3 is in pool web, not in pool lab that vipd.dev/pool names: correct one "
		  "of the two" },
		{ { "vms/a", .wanted = "192.0.2.10", .pool = "web" }, "AddressNotInPool",
		  "192.0.2.10 is in pool lab, not in pool web that vipd.dev/pool names: correct one "
		  "of the two" },
		{ { "vms/ssh", .wanted = "192.0.2.10" }, "AddressInUse",
		  "192.0.2.10 is held by Service vms/a: ask for another address, or let both share "
		  "it by the same vipd.dev/sharing-key" },
		{ { "vms/ssh", .wanted = "192.0.2.14" }, "AddressInUse",
		  "192.0.2.14 has a VirtualIP of no Service: delete it, or ask for another address" },
		{ { "vms/ssh", .wanted = "192.0.2.1" }, "AddressInUse",
		  "192.0.2.1 was released by Service vms/released and is in quarantine: wait, or ask "
		  "for another address" },
		{ { "vms/ssh", .wanted = "192.0.2.7" }, "AddressInUse",
		  "192.0.2.7 is in use by Node n1: ask for another address, or free it there" },
		{ { "vms/ssh", .wanted = "192.0.2.57" }, "AddressInUse",
		  "192.0.2.57 is in use by OpenShift (autoAssignCIDRs): ask for another address, or "
		  "free it there" },
		{ { "vms/ssh", .wanted = "192.0.2.8" }, "ForeignAddress",
		  "192.0.2.8 is in use by host 02:00:00:00:00:99: ask for another address, or free "
		  "it there" },
		{ { "vms/ssh", .wanted = "192.0.2.5" }, "AddressReserved",
		  "192.0.2.5 is reserved for Service dns/resolver by pool lab: ask for another "
		  "address" },
		{ { "vms/web2", .wanted = "192.0.2.10" }, "SharingRefused",
		  "192.0.2.10 is held by Service vms/a, which has no vipd.dev/sharing-key: annotate "
		  "both with the same key" },
		{ { "vms/other-key", .wanted = "192.0.2.11" }, "SharingRefused",
		  "192.0.2.11 is held by Service vms/web1 with another vipd.dev/sharing-key "
		  "(\"web\"): annotate both with the same key" },
		{ { "vms/web2", .wanted = "192.0.2.11" }, "SharingRefused",
		  "192.0.2.11 cannot be shared with Service vms/web1: both use port 443/TCP" },
		{ { "shop/web", .wanted = "192.0.2.11" }, "SharingRefused",
		  "192.0.2.11 is held by Service vms/web1: an address is shared within one namespace "
		  "only" },
		{ { "full/f", .wanted = "192.0.2.20" }, "QuotaExceeded",
		  "namespace full holds all 3 addresses that pool lab allows a namespace: delete a "
		  "Service of the namespace, or ask for a higher maxPerNamespace" },
		{ { "full/f", .pool = "lab" }, "QuotaExceeded",
		  "namespace full holds all 3 addresses that pool lab allows a namespace: delete a "
		  "Service of the namespace, or ask for a higher maxPerNamespace" },
		{ { .service = "full/f" }, "QuotaExceeded",
		  "namespace full holds all 3 addresses that pool lab allows a namespace: delete a "
		  "Service of the namespace, or ask for a higher maxPerNamespace" },
		{ { "vms/ssh", .pool = "labb" }, "PoolNotFound",
		  "pool \"labb\" does not exist: vipd.dev/pool can be ext, lab, six, tiny, web" },
		{ { "vms/ssh", .pool = "labb", .wanted = "192.0.2.20" }, "PoolNotFound",
		  "pool \"labb\" does not exist: vipd.dev/pool can be ext, lab, six, tiny, web" },
		{ { "vms/ssh", .pool = "big" }, "PoolNotFound",
		  "pool big is disabled; name another in vipd.dev/pool" },
		{ { "vms/ssh", .pool = "team" }, "PoolNotFound",
		  "pool team is not for namespace vms; name another in vipd.dev/pool" },
		{ { "vms/ssh", .pool = "gold" }, "PoolNotFound",
		  "pool gold does not select the labels of this Service; name another in "
		  "vipd.dev/pool" },
		{ { "vms/ssh", .pool = "tiny" }, "PoolExhausted",
		  "no IPv4 address can be given: pool tiny is full; name another in vipd.dev/pool, or "
		  "wait for a release" },
		{ { "vms/ssh", .pool = "six" }, "PoolExhausted",
		  "no IPv4 address can be given: pool six has no IPv4; name another in "
		  "vipd.dev/pool, or wait for a release" },
		{ { "vms/ssh", .family = 6, .wanted = "192.0.2.20" }, "InvalidConfiguration",
		  "192.0.2.20 is no IPv6 address" },
		{ { "vms/ssh", .wanted = "127.0.0.1" }, "InvalidConfiguration",
		  "127.0.0.1 can be nobody's virtual address (loopback, multicast, link-local or "
		  "unspecified)" },
	};
	struct ipam *ipam = *state;

	build_world(ipam);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct asked answer;

		assert_string_equal(asked(ipam, &rows[i].ask, &answer), rows[i].reason);
		assert_string_equal(answer.error.message, rows[i].sentence);
		assert_int_equal(answer.error.code, answer.code);
	}
}

static void test_a_full_world_is_told_pool_by_pool(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;

	put_service(ipam, "vms/a", NULL, "tcp/22");
	asked(ipam, &(struct ask){ .service = "vms/a" }, &answer);
	assert_string_equal(answer.error.message,
			    "no pool has an IPv4 address to give: there is no AddressPool, create "
			    "one");
	put_pool(ipam, &(struct pool_text){ .name = "z", .addresses = "192.0.2.1", .priority = 5 });
	put_pool(ipam, &(struct pool_text){ .name = "a", .addresses = "192.0.2.2",
					    .manual = true });
	put_pool(ipam, &(struct pool_text){ .name = "b", .addresses = "192.0.2.3",
					    .namespace = "team" });
	put_pool(ipam, &(struct pool_text){ .name = "c", .addresses = "192.0.2.4",
					    .disabled = true });
	put_pool(ipam, &(struct pool_text){ .name = "d", .addresses = "2001:db8::1" });
	put_record(ipam, "192.0.2.1", "z", "vms/z", "", 0);
	asked(ipam, &(struct ask){ .service = "vms/a" }, &answer);
	assert_int_equal(answer.code, BASE_REASON_POOL_EXHAUSTED);
	assert_string_equal(answer.error.message,
			    "no pool has an IPv4 address to give: z is full; a is given on request "
			    "only (autoAssign); b is not for namespace vms; c is disabled; d has no "
			    "IPv4");
	releases(ipam, "vms/z", "192.0.2.1", NOW);
	asked(ipam, &(struct ask){ .service = "vms/a", .pool = "z" }, &answer);
	assert_string_equal(answer.error.message,
			    "no IPv4 address can be given: pool z is full until a quarantine ends; "
			    "name another in vipd.dev/pool, or wait for a release");
}

/* 256 bytes are an Event's note: what does not fit is cut between two pools, never within one. */
static void test_long_lists_end_in_dots(void **state)
{
	struct ipam *ipam = *state;
	char names[40][64];
	struct asked answer;

	put_service(ipam, "vms/a", NULL, NULL);
	for (unsigned i = 0; i < 40; i++) {
		char address[32];

		snprintf(names[i], sizeof names[i], "a-pool-with-a-rather-long-name-%02u", i);
		snprintf(address, sizeof address, "192.0.2.%u", i + 1);
		put_simple_pool(ipam, names[i], address);
		put_record(ipam, address, names[i], "vms/x", "", 0);
	}
	asked(ipam, &(struct ask){ .service = "vms/a" }, &answer);
	assert_string_equal(answer.error.message,
			    "no pool has an IPv4 address to give: a-pool-with-a-rather-long-name-00 "
			    "is full; a-pool-with-a-rather-long-name-01 is full; "
			    "a-pool-with-a-rather-long-name-02 is full; "
			    "a-pool-with-a-rather-long-name-03 is full; ...");
	asked(ipam, &(struct ask){ .service = "vms/a", .wanted = "198.51.100.1" }, &answer);
	assert_string_equal(answer.error.message,
			    "198.51.100.1 is in no pool: a-pool-with-a-rather-long-name-00 has "
			    "192.0.2.1; a-pool-with-a-rather-long-name-01 has 192.0.2.2; "
			    "a-pool-with-a-rather-long-name-02 has 192.0.2.3, ...");
	asked(ipam, &(struct ask){ .service = "vms/a", .pool = "nope" }, &answer);
	assert_string_equal(answer.error.message,
			    "pool \"nope\" does not exist: vipd.dev/pool can be "
			    "a-pool-with-a-rather-long-name-00, a-pool-with-a-rather-long-name-01, "
			    "a-pool-with-a-rather-long-name-02, ...");
}

static void test_local_services_share_only_with_their_own_selector(void **state)
{
	static const struct {
		bool local[2];
		uint64_t selector[2];
		const char *sentence; /* NULL: they share */
	} rows[] = {
		{ { false, false }, { 1, 2 }, NULL },
		{ { true, true }, { 7, 7 }, NULL },
		{ { true, true }, { 7, 8 },
		  "192.0.2.1 cannot be shared with Service vms/a: externalTrafficPolicy Local needs "
		  "the same selector, so that one node has the endpoints of both" },
		{ { true, true }, { 0, 0 },
		  "192.0.2.1 cannot be shared with Service vms/a: externalTrafficPolicy Local needs "
		  "the same selector, so that one node has the endpoints of both" },
		{ { true, false }, { 7, 7 },
		  "192.0.2.1 cannot be shared with Service vms/a: their externalTrafficPolicy "
		  "differs" },
	};
	struct ipam *ipam = *state;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct ipam_port ports[2] = { { IPPROTO_TCP, 1 }, { IPPROTO_TCP, 2 } };
		struct ipam_service a = { { "vms", "a" }, "k", 1, &ports[0], .local_only =
					  rows[i].local[0], .selector = rows[i].selector[0] };
		struct ipam_service b = { { "vms", "b" }, "k", 1, &ports[1], .local_only =
					  rows[i].local[1], .selector = rows[i].selector[1] };
		struct asked answer;

		assert_int_equal(ipam_service_put(ipam, &a), 0);
		assert_int_equal(ipam_service_put(ipam, &b), 0);
		assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
		asked(ipam, &(struct ask){ .service = "vms/b", .wanted = "192.0.2.1" }, &answer);
		assert_int_equal(answer.code, rows[i].sentence ? BASE_REASON_SHARING_REFUSED : 0);
		if (rows[i].sentence)
			assert_string_equal(answer.error.message, rows[i].sentence);
		else
			assert_int_equal(releases(ipam, "vms/b", "192.0.2.1", NOW), 1);
		/* Without the address named, whoever may not share gets one of its own. */
		assert_string_equal(given(ipam, "vms/b"),
				    rows[i].sentence ? "192.0.2.2" : "192.0.2.1");
		releases(ipam, "vms/b", rows[i].sentence ? "192.0.2.2" : "192.0.2.1", NOW);
		releases(ipam, "vms/a", "192.0.2.1", NOW);
		ipam_advance(ipam, NOW + 100 * SECOND);
	}
}

static void test_an_edit_that_clashes_moves_the_younger_holder(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	put_service(ipam, "vms/old", "k", "tcp/80");
	put_service(ipam, "vms/young", "k", "tcp/81");
	assert_string_equal(given(ipam, "vms/old"), "192.0.2.1");
	assert_string_equal(given(ipam, "vms/young"), "192.0.2.1");
	put_service(ipam, "vms/old", "k", "tcp/80 tcp/81");
	assert_string_equal(given(ipam, "vms/old"), "192.0.2.1");
	asked(ipam, &(struct ask){ .service = "vms/young", .wanted = "192.0.2.1" }, &answer);
	assert_string_equal(answer.error.message,
			    "192.0.2.1 cannot be shared with Service vms/old: both use port 81/TCP");
	assert_string_equal(given(ipam, "vms/young"), "192.0.2.2");
	/* Both until the caller has moved it. */
	assert_int_equal(releases(ipam, "vms/young", "192.0.2.1", NOW), 1);
	assert_string_equal(given(ipam, "vms/young"), "192.0.2.2");
}

static void test_a_reservation_is_given_unasked_and_to_nobody_else(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;
	struct ipam_range taken = { 0 };

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.1-192.0.2.3",
					    .namespace = "vms", .manual = true,
					    .reserved = "192.0.2.2", .reserved_for = "dns/resolver" });
	put_pool(ipam, &(struct pool_text){ .name = "rest", .addresses = "192.0.2.100-192.0.2.101" });
	put_service(ipam, "dns/resolver", NULL, "udp/53");
	put_service(ipam, "dns/other", NULL, "udp/53");
	/* Neither autoAssign nor the namespaces of the pool stand against it. */
	assert_string_equal(given(ipam, "dns/other"), "192.0.2.100");
	assert_string_equal(given(ipam, "dns/resolver"), "192.0.2.2");
	/* Not another one while its own is away: it would be written down. */
	assert_int_equal(releases(ipam, "dns/resolver", "192.0.2.2", NOW), 0);
	taken.first = taken.last = address_of("192.0.2.2");
	assert_int_equal(ipam_taken_put(ipam, "Node n1", BASE_REASON_ADDRESS_IN_USE, NULL, 1, &taken),
			 0);
	asked(ipam, &(struct ask){ .service = "dns/resolver" }, &answer);
	assert_string_equal(answer.error.message, "192.0.2.2 is in use by Node n1: ask for another "
						  "address, or free it there");
	assert_int_equal(ipam_taken_put(ipam, "Node n1", BASE_REASON_ADDRESS_IN_USE, NULL, 0, NULL),
			 0);
	assert_string_equal(given(ipam, "dns/resolver"), "192.0.2.2");
}

static void test_pools_are_tried_by_priority_then_name(void **state)
{
	struct ipam *ipam = *state;

	put_pool(ipam, &(struct pool_text){ .name = "b", .addresses = "192.0.2.1" });
	put_pool(ipam, &(struct pool_text){ .name = "a", .addresses = "192.0.2.200" });
	put_pool(ipam, &(struct pool_text){ .name = "z", .addresses = "192.0.2.77", .priority = 1 });
	put_pool(ipam, &(struct pool_text){ .name = "0", .addresses = "192.0.2.5", .priority = -1 });
	for (unsigned i = 0; i < 4; i++) {
		static const char *const expected[] = { "192.0.2.77", "192.0.2.200", "192.0.2.1",
							"192.0.2.5" };
		char name[16];

		snprintf(name, sizeof name, "vms/s%u", i);
		put_service(ipam, name, NULL, "tcp/22");
		assert_string_equal(given(ipam, name), expected[i]);
	}
}

static void test_selectors_admit_as_the_caller_says(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.1-192.0.2.9",
					    .namespace = "listed", .namespace_selector = true,
					    .service_selector = true });
	put_service(ipam, "listed/a", NULL, NULL);
	put_service(ipam, "other/a", NULL, NULL);
	assert_string_equal(asked(ipam, &(struct ask){ .service = "listed/a" }, &answer), "PoolExhausted");
	assert_string_equal(
		asked(ipam, &(struct ask){ "other/a", .selects_service = true }, &answer),
		"PoolExhausted");
	assert_string_equal(
		asked(ipam, &(struct ask){ "listed/a", .selects_service = true }, &answer),
		"192.0.2.1");
	assert_string_equal(asked(ipam,
				  &(struct ask){ "other/a", .selects_service = true,
						 .selects_namespace = true },
				  &answer),
			    "192.0.2.2");
}

static void test_external_ips_are_held_beside_the_own_address(void **state)
{
	struct ipam *ipam = *state;
	struct base_address external = address_of("192.0.2.5");
	struct ipam_service service = { .name = { "vms", "a" }, .external_count = 1,
					.external_ips = &external };
	struct ipam_range range = ipam_range_single(&external);
	struct asked answer;

	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.1-192.0.2.9",
					    .external_ips = true });
	put_service(ipam, "vms/b", NULL, NULL);
	assert_int_equal(ipam_service_put(ipam, &service), 0);
	assert_int_equal(ipam_taken_put(ipam, "Service vms/a (spec.externalIPs)",
					BASE_REASON_ADDRESS_IN_USE, &service.name, 1, &range),
			 0);
	assert_string_equal(asked(ipam, &(struct ask){ "vms/b", .wanted = "192.0.2.5" }, &answer),
			    "AddressInUse");
	assert_string_equal(asked(ipam,
				  &(struct ask){ "vms/a", .wanted = "192.0.2.5",
						 .external_ip = true },
				  &answer),
			    "192.0.2.5");
	/* It is no answer to the question for an address of its own. */
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
}

static void test_a_new_wish_is_honoured_beside_the_old_address(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	put_simple_pool(ipam, "web", "192.0.2.100-192.0.2.109");
	put_service(ipam, "vms/a", NULL, "tcp/22");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_string_equal(asked(ipam, &(struct ask){ "vms/a", .pool = "web" }, &answer),
			    "192.0.2.100");
	assert_false(answer.answer.kept);
	assert_string_equal(asked(ipam, &(struct ask){ "vms/a", .wanted = "192.0.2.7" }, &answer),
			    "192.0.2.7");
	assert_int_equal(releases(ipam, "vms/a", "192.0.2.1", NOW), 0);
	assert_int_equal(releases(ipam, "vms/a", "192.0.2.100", NOW), 0);
	/* Without the annotation what it has is good enough. */
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.7");
}

static void test_a_change_of_mind_needs_no_room_in_the_quota(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;

	put_pool(ipam, &(struct pool_text){ .name = "lab",
					    .addresses = "192.0.2.1-192.0.2.9 2001:db8::1",
					    .max_per_namespace = 1 });
	put_service(ipam, "vms/a", NULL, "tcp/22");
	put_service(ipam, "vms/b", NULL, "tcp/22");
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
	assert_string_equal(asked(ipam, &(struct ask){ "vms/a", .wanted = "192.0.2.7" }, &answer),
			    "192.0.2.7");
	assert_int_equal(releases(ipam, "vms/a", "192.0.2.1", NOW), 0);
	/* For others, and for its own address of the other family, it is one too many. */
	assert_string_equal(given(ipam, "vms/b"), "QuotaExceeded");
	assert_string_equal(asked(ipam, &(struct ask){ "vms/a", .family = 6 }, &answer),
			    "QuotaExceeded");
	/* Leaving an address that another Service of the namespace keeps makes no room. */
	put_service(ipam, "vms/a", "k", "tcp/22");
	put_service(ipam, "vms/c", "k", "tcp/23");
	assert_string_equal(given(ipam, "vms/c"), "192.0.2.7");
	assert_string_equal(asked(ipam, &(struct ask){ "vms/a", .wanted = "192.0.2.8" }, &answer),
			    "QuotaExceeded");
}

static void test_a_clock_that_was_wrong_locks_nothing_away(void **state)
{
	struct ipam *ipam = *state;
	struct ipam_quarantine far = { .address = address_of("192.0.2.1"), .pool = "lab",
				       .service = { "vms", "gone" },
				       .until_us = NOW + 1000000 * SECOND };

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	assert_int_equal(ipam_quarantine_put(ipam, &far, NOW), 0);
	assert_int_equal(ipam_deadline(ipam), NOW + 60 * SECOND);
	/* The clock goes back by a day: 60 s from there. */
	ipam_advance(ipam, NOW - 86400 * SECOND);
	assert_int_equal(ipam_deadline(ipam), NOW - 86400 * SECOND + 60 * SECOND);
	/* The pool is edited to keep less. */
	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.1-192.0.2.9",
					    .quarantine_us = 10 * SECOND });
	assert_int_equal(ipam_deadline(ipam), NOW - 86400 * SECOND + 10 * SECOND);
	put_pool(ipam, &(struct pool_text){ .name = "lab", .addresses = "192.0.2.1-192.0.2.9",
					    .no_quarantine = true });
	ipam_advance(ipam, NOW - 86400 * SECOND);
	assert_int_equal(ipam_deadline(ipam), BASE_USEC_NEVER);
}

static void test_which_quarantines_are_among_the_first_can_be_asked(void **state)
{
	struct ipam *ipam = *state;
	struct base_address first;
	char text[16];

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	for (int i = 1; i <= 3; i++) {
		struct ipam_quarantine one = { .pool = "lab", .until_us = NOW + 10 * SECOND };

		snprintf(text, sizeof text, "192.0.2.%d", i);
		one.address = address_of(text);
		assert_int_equal(ipam_quarantine_put(ipam, &one, NOW), 0);
	}
	for (int i = 1; i <= 4; i++) {
		struct base_address address;

		snprintf(text, sizeof text, "192.0.2.%d", i);
		address = address_of(text);
		for (int limit = 0; limit <= 4; limit++)
			assert_int_equal(
				ipam_quarantined(ipam, "lab", &address, NOW, (size_t)limit),
				i <= 3 && i <= limit);
		assert_false(ipam_quarantined(ipam, "other", &address, NOW, 9));
	}
	/* They are over. */
	first = address_of("192.0.2.1");
	assert_false(ipam_quarantined(ipam, "lab", &first, NOW + 11 * SECOND, 9));
}

static void test_a_service_whose_facts_are_unknown_gets_nothing(void **state)
{
	struct ipam *ipam = *state;
	struct asked answer;

	put_simple_pool(ipam, "lab", "192.0.2.1-192.0.2.9");
	put_record(ipam, "192.0.2.1", "lab", "vms/a", "", 0);
	asked(ipam, &(struct ask){ .service = "vms/a" }, &answer);
	assert_string_equal(answer.error.message, "Service vms/a is not known");
	put_service(ipam, "vms/a", NULL, NULL);
	assert_string_equal(given(ipam, "vms/a"), "192.0.2.1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_the_lowest_free_address_is_given_and_kept),
		TEST(test_families_are_asked_for_one_by_one),
		TEST(test_a_released_address_waits_for_its_last_holder),
		TEST(test_of_several_former_addresses_the_latest_comes_back),
		TEST(test_sharing_needs_key_ports_and_namespace),
		TEST(test_every_refusal_says_what_is_wrong_and_what_to_do),
		TEST(test_a_full_world_is_told_pool_by_pool),
		TEST(test_long_lists_end_in_dots),
		TEST(test_local_services_share_only_with_their_own_selector),
		TEST(test_an_edit_that_clashes_moves_the_younger_holder),
		TEST(test_a_reservation_is_given_unasked_and_to_nobody_else),
		TEST(test_pools_are_tried_by_priority_then_name),
		TEST(test_which_quarantines_are_among_the_first_can_be_asked),
		TEST(test_selectors_admit_as_the_caller_says),
		TEST(test_external_ips_are_held_beside_the_own_address),
		TEST(test_a_new_wish_is_honoured_beside_the_old_address),
		TEST(test_a_change_of_mind_needs_no_room_in_the_quota),
		TEST(test_a_clock_that_was_wrong_locks_nothing_away),
		TEST(test_a_service_whose_facts_are_unknown_gets_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
