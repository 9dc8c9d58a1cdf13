/* Rules and fence in a real kernel: what nft says stands there, and what a neighbour hears. */
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "nft/io/counters.h"
#include "test/adapter/rules.h"

/* Those that the tests use. */
static void allow_lengths(struct nft_skeleton *skeleton)
{
	skeleton->source4[0] = skeleton->source4[8] = skeleton->source4[16] = true;
	skeleton->source4[24] = skeleton->source6[0] = skeleton->source6[64] = true;
}

static void want_port(const char *vip, uint16_t number, const char *endpoint, const char *node,
		      const char *const *ranges)
{
	struct nft_endpoint one = { .address = place_address(endpoint), .port = 22 };
	struct base_prefix prefixes[8];
	struct nft_port port = { .address = place_address(vip),
				 .protocol = IPPROTO_TCP,
				 .port = number,
				 .dataplane = NFT_DATAPLANE_DIRECTOR,
				 .ranges = prefixes,
				 .endpoint_count = 1,
				 .endpoints = &one };

	if (node)
		one.node = place_address(node);
	for (; ranges && ranges[port.range_count]; port.range_count++)
		assert_true(
			base_prefix_parse(ranges[port.range_count], &prefixes[port.range_count]));
	nft_ranges_sort(prefixes, port.range_count);
	assert_int_equal(nft_emit_port(&port, nft_table_want, table), 0);
}

/* Three endpoints: one here, one on another node, one off the segment. */
static void want_many(const char *vip, const char *const endpoints[3], const char *node,
		      bool affinity)
{
	struct nft_endpoint three[3] = { { .local = true }, { .node = place_address(node) } };
	struct nft_port port = { .address = place_address(vip),
				 .protocol = IPPROTO_UDP,
				 .port = 53,
				 .client_affinity = affinity,
				 .dataplane = NFT_DATAPLANE_DIRECTOR,
				 .endpoint_count = 3,
				 .endpoints = three };

	for (int i = 0; i < 3; i++) {
		three[i].address = place_address(endpoints[i]);
		three[i].port = 5353;
	}
	assert_int_equal(nft_emit_port(&port, nft_table_want, table), 0);
}

static bool holds(const char *set, const char *element)
{
	return place_try("nft get element %s '{ %s }' >/dev/null 2>&1", set, element) == 0;
}

static void test_the_kernel_takes_the_rules_in_every_shape(void **state)
{
	static const struct {
		const char *name;
		bool egress;
		unsigned addresses, intervals, segments;
		bool pods;
	} rows[] = {
		{ "one segment, egress fence", true, 1, 1, 1, true },
		{ "one segment, loopback fence", false, 1, 1, 1, true },
		{ "two segments, one of them a VLAN", true, 1, 2, 2, true },
		{ "no pod range known yet", true, 1, 1, 1, false },
		{ "14 addresses behind one virtual router", true, 14, 2, 1, true },
		{ "no segment yet", true, 1, 1, 0, true },
	};

	(void)state;
	place_run("ip link delete lan2 2>/dev/null; ip link add eth1.100 type veth peer name lan2");
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct nft_skeleton skeleton = skeleton_of(rows[i].egress);

		skeleton.addresses_per_router = rows[i].addresses;
		skeleton.interval_count = rows[i].intervals;
		skeleton.segment_count = rows[i].segments;
		if (i % 2)
			allow_lengths(&skeleton);
		strcpy(skeleton.segments[1], "eth1.100");
		if (!rows[i].pods)
			skeleton.range_count = 0;
		nft_table_begin(table);
		print_message("%s\n", rows[i].name);
		commit(&skeleton);
		ASSERT_ROW(rows[i].name, nft_table_present(table));
	}
	/* Those that nft has no words for: it lists them, and no copy more each time. */
	assert_string_equal(place_read("for i in 4 6; do nft list chain netdev vipd errors$i | grep -c fwd; done"),
			    "4\n4\n");
	assert_int_equal(place_try("nft -j list ruleset >/dev/null"), 0);
}

static void test_wishes_become_elements_and_go_when_they_are_no_longer_wished(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	want_vip("2001:db8::100", NFT_DATAPLANE_DIRECTOR);
	want_port("192.0.2.100", 22, "10.244.2.5", "192.0.2.2", NULL);
	want_port("2001:db8::100", 22, "fd00::2:5", "2001:db8::2", NULL);
	assert_int_equal(commit(&skeleton), 1);
	assert_true(holds("netdev vipd vips4", "192.0.2.100"));
	assert_true(holds("netdev vipd vips6", "0x20010db8000000000000000000000100"));
	assert_true(holds("netdev vipd node4", "192.0.2.100 . tcp . 22"));
	assert_true(holds("netdev vipd node6", "2001:db8::100 . tcp . 22"));
	assert_true(holds("inet vipd service4", "192.0.2.100 . tcp . 22"));

	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_NAT);
	want_port("192.0.2.100", 80, "10.244.2.5", NULL, NULL);
	assert_int_equal(commit(&skeleton), 0);
	assert_true(holds("netdev vipd vips4", "192.0.2.100"));
	assert_false(holds("netdev vipd vips6", "0x20010db8000000000000000000000100"));
	assert_false(holds("netdev vipd node4", "192.0.2.100 . tcp . 22"));
	assert_false(holds("inet vipd service4", "192.0.2.100 . tcp . 22"));
	assert_true(holds("inet vipd service4", "192.0.2.100 . tcp . 80"));
}

/* Seconds that the endpoint will stand in the set; 0: it does not. */
static int stays(const char *set, const char *endpoint)
{
	const char *at = strstr(place_read("nft list set inet vipd %s", set), endpoint);

	at = at ? strstr(at, "expires ") : NULL;
	return at ? atoi(at + strlen("expires ")) : 0;
}

/* Which are on this node and which on another. */
static void want_places(const char *here, const char *there)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	const char *const endpoints[] = { here, there };

	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	for (uint16_t i = 0; i < 2; i++) {
		struct nft_endpoint one = { .port = 22, .local = i == 0, .node = place_address("192.0.2.2") };
		struct nft_port port = { .address = place_address("192.0.2.100"), .protocol = IPPROTO_TCP,
					 .port = (uint16_t)(22 + i), .endpoint_count = 1, .endpoints = &one };

		if (!endpoints[i])
			continue;
		one.address = place_address(endpoints[i]);
		assert_int_equal(nft_emit_port(&port, nft_table_want, table), 0);
	}
	commit(&skeleton);
}

/* What is new did not move; what comes back has all of its time again. */
static void test_an_endpoint_that_moves_here_is_told_apart_for_a_while(void **state)
{
	(void)state;
	want_places("10.244.1.5", "10.244.1.6");
	assert_true(holds("inet vipd local4", "10.244.1.5"));
	assert_int_equal(stays("moved4", "10.244.1.5"), 0);
	want_places("10.244.1.6", "10.244.1.5");
	assert_true(holds("inet vipd local4", "10.244.1.6"));
	assert_true(stays("moved4", "10.244.1.6") > 10);
	assert_non_null(strstr(place_read("nft list set inet vipd early4"), "10.244.1.6"));
	assert_int_equal(stays("moved4", "10.244.1.5"), 0);
	place_run("nft 'delete element inet vipd moved4 { 10.244.1.6 }; "
		  "add element inet vipd moved4 { 10.244.1.6 timeout 30s expires 9s }'");
	want_places("10.244.1.5", "10.244.1.6");
	assert_in_range(stays("moved4", "10.244.1.6"), 0, 9);
	want_places("10.244.1.6", NULL);
	assert_true(stays("moved4", "10.244.1.6") > 10);
	want_places("10.244.1.7", NULL);
	assert_int_equal(stays("moved4", "10.244.1.7"), 0);
}

/* Elements that this socket heard come and go since it was opened, or asked the last time. */
static void count_elements(int fd, unsigned *come, unsigned *gone)
{
	_Alignas(struct nlmsghdr) char buffer[65536];
	ssize_t size;

	*come = *gone = 0;
	while ((size = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
		for (struct nlmsghdr *header = (struct nlmsghdr *)buffer;
		     NLMSG_OK(header, (unsigned)size); header = NLMSG_NEXT(header, size)) {
			*come += (header->nlmsg_type & 0xff) == NFT_MSG_NEWSETELEM;
			*gone += (header->nlmsg_type & 0xff) == NFT_MSG_DELSETELEM;
		}
}

static void test_only_the_difference_is_told_to_the_kernel(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	struct sockaddr_nl local = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	int group = NFNLGRP_NFTABLES, room = 8 << 20; /* the rules are told of, too */
	unsigned come, gone;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&local, sizeof local), 0);
	assert_int_equal(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group),
			 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room), 0);
	for (int round = 0; round < 4; round++) {
		nft_table_begin(table);
		for (int i = 0; i < 50; i++) {
			char vip[32];

			snprintf(vip, sizeof vip, "198.51.100.%d", i + 1);
			want_vip(vip, NFT_DATAPLANE_ANNOUNCE);
		}
		if (round == 2)
			want_vip("192.0.2.100", NFT_DATAPLANE_ANNOUNCE);
		commit(&skeleton);
		count_elements(fd, &come, &gone);
		if (round == 0)
			assert_true(come >= 50);
		else
			assert_int_equal(come, round == 2 ? 2 : 0); /* in netdev and arp */
		assert_int_equal(gone, round == 3 ? 2 : 0);
	}
	close(fd);
}

static void test_a_contradiction_in_an_exclusive_map_is_carried_by_nobody(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	want_vip("192.0.2.101", NFT_DATAPLANE_DIRECTOR);
	want_vip("192.0.2.102", NFT_DATAPLANE_DIRECTOR);
	/* .100 lives on two nodes; one pod is behind .101 and .102; .102 has a port off the segment. */
	want_port("192.0.2.100", 22, "10.244.2.5", "192.0.2.2", NULL);
	want_port("192.0.2.100", 80, "10.244.3.5", "192.0.2.3", NULL);
	want_port("192.0.2.101", 22, "10.244.2.9", "192.0.2.2", NULL);
	want_port("192.0.2.102", 22, "10.244.2.9", "192.0.2.2", NULL);
	want_port("192.0.2.102", 80, "10.244.9.9", NULL, NULL);
	commit(&skeleton);
	assert_false(holds("netdev vipd onenode4", "192.0.2.100"));
	assert_true(holds("netdev vipd onenode4", "192.0.2.101"));
	assert_false(holds("netdev vipd onenode4", "192.0.2.102"));
	assert_true(holds("inet vipd reverse4", "10.244.2.5 . tcp . 22"));
	assert_false(holds("inet vipd reverse4", "10.244.2.9 . tcp . 22"));
	/* That it is somebody's stands in a set of its own, until it is one's alone. */
	assert_true(holds("inet vipd doubtful4", "10.244.2.9 . tcp . 22"));
	assert_false(holds("inet vipd doubtful4", "10.244.2.5 . tcp . 22"));
	for (int both = 0; both < 3; both++) {
		nft_table_begin(table);
		if (both < 2)
			want_port("192.0.2.101", 22, "10.244.2.9", "192.0.2.2", NULL);
		if (both > 0)
			want_port("192.0.2.102", 22, both < 2 ? "10.244.2.9" : "10.244.2.10", "192.0.2.2", NULL);
		commit(&skeleton);
		assert_int_equal(holds("inet vipd reverse4", "10.244.2.9 . tcp . 22"), both == 0);
		assert_int_equal(holds("inet vipd doubtful4", "10.244.2.9 . tcp . 22"), both == 1);
	}
}

/* How a range stands there: nft/skeleton.c, put_sources(). */
static void test_source_ranges_may_overlap_and_change_their_width(void **state)
{
	static const struct {
		const char *ranges[5], *elements[4], *absent[4];
	} rounds[] = {
		{ { "10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8" },
		  { "10.128.0.0" },
		  { "10.1.128.0" } },
		{ { "10.1.0.0/16", "203.0.113.0/24", "203.0.114.1/32" },
		  { "10.1.128.0", "203.0.113.128" },
		  { "10.128.0.0", "203.0.114.1" } },
		{ { "203.0.113.0/24", "0.0.0.0/0" }, { "128.0.0.0" }, { "203.0.113.128" } },
	};
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	allow_lengths(&skeleton);
	for (size_t i = 0; i < 6; i++) {
		const char *const *ranges = rounds[i % 3].ranges;
		char key[64];

		nft_table_begin(table);
		want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
		want_port("192.0.2.100", 22, "10.244.2.5", "192.0.2.2", ranges);
		assert_int_equal(commit(&skeleton), i == 0);
		for (const char *const *at = rounds[i % 3].elements; *at; at++) {
			snprintf(key, sizeof key, "192.0.2.100 . tcp . 22 . %s", *at);
			assert_true(holds("inet vipd source4", key));
		}
		for (const char *const *at = rounds[i % 3].absent; *at; at++) {
			snprintf(key, sizeof key, "192.0.2.100 . tcp . 22 . %s", *at);
			assert_false(holds("inet vipd source4", key));
		}
		assert_int_equal(holds("inet vipd sourcehost4", "192.0.2.100 . tcp . 22 . 203.0.114.1"),
				 i % 3 == 1);
	}
}

static void test_a_foreign_flush_is_noticed_and_everything_comes_back(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	commit(&skeleton);
	nft_table_drain(table);
	assert_true(nft_table_present(table));

	/* Somebody else's table coming and going is none of our business. */
	place_run("nft add table inet other && nft delete table inet other");
	nft_table_drain(table);
	assert_true(nft_table_present(table));

	place_run("nft flush ruleset");
	assert_int_equal(nft_table_drain(table), 1);
	assert_false(nft_table_present(table));
	nft_table_forget(table);
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	assert_int_equal(commit(&skeleton), 1);
	assert_true(nft_table_present(table));
	assert_true(holds("netdev vipd vips4", "192.0.2.100"));
}

static void test_half_of_it_flushed_is_noticed_too(void **state)
{
	static const char *const families[] = { "inet", "netdev" };
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(families); i++) {
		nft_table_begin(table);
		commit(&skeleton);
		nft_table_drain(table);
		place_run("nft delete table %s vipd", families[i]);
		assert_int_equal(nft_table_drain(table), 1);
		assert_false(nft_table_present(table));
		nft_table_forget(table);
	}
}

/* Two commands of an administrator, one after the other: the second finds the first half undone. */
static void test_tables_that_go_while_they_are_filled_are_made_once_more(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	struct base_error error = { 0 };
	int r;

	(void)state;
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	commit(&skeleton);
	place_run("nft delete table inet vipd");
	nft_table_drain(table);
	nft_table_forget(table);
	do
		r = nft_table_commit(table, &skeleton, &error);
	while (r == NFT_TABLE_MORE); /* a busy machine: the turn was over when the child had begun */
	assert_int_equal(r, NFT_TABLE_WAIT);
	while (place_try("nft list table inet vipd >/dev/null 2>&1"))
		usleep(1000); /* the child puts it back */
	place_run("nft delete table netdev vipd");
	assert_true(commit(&skeleton) & NFT_TABLE_ANEW);
	assert_true(nft_table_present(table));
	assert_true(holds("netdev vipd vips4", "192.0.2.100"));
	assert_true(holds("inet vipd vips4", "192.0.2.100"));
}

static void test_whose_change_it_was_is_known(void **state)
{
	static const char *const changes[] = {
		"nft flush chain netdev vipd in-eth1",
		"nft delete element inet vipd vips4 '{ 192.0.2.100 }'",
		"nft add rule inet vipd input counter",
	};
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(changes); i++) {
		nft_table_begin(table);
		want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
		commit(&skeleton);
		nft_table_begin(table);
		want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
		want_vip("192.0.2.102", NFT_DATAPLANE_DIRECTOR);
		commit(&skeleton);
		assert_int_equal(nft_table_drain(table), NFT_TABLE_UNCHANGED);
		place_run("nft add table inet other && nft delete table inet other");
		assert_int_equal(nft_table_drain(table), NFT_TABLE_UNCHANGED);
		place_run("%s", changes[i]);
		assert_int_equal(nft_table_drain(table), NFT_TABLE_CHANGED);
		assert_memory_equal(nft_table_culprit(table), "nft (pid ", 9);
		nft_table_forget(table);
	}
}

static void test_a_foreign_change_of_elements_is_healed_without_closing_the_fence(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	struct base_address vip = place_address("192.0.2.100");

	(void)state;
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	want_vip("192.0.2.101", NFT_DATAPLANE_DIRECTOR);
	commit(&skeleton);
	place_run("nft delete element inet vipd vips4 '{ 192.0.2.101 }'");
	place_run("nft add element netdev vipd alive4 '{ 192.0.2.100 timeout 60s }'");
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	assert_int_equal(commit(&skeleton), 0);
	assert_true(is_alive(&vip));
	assert_true(holds("inet vipd vips4", "192.0.2.100"));
	assert_false(holds("netdev vipd vips4", "192.0.2.101"));
}

/* A crash of the daemon, a restart, an upgrade with other rules: who was alive stays alive. */
static void test_a_restarted_process_takes_over_without_closing_the_fence(void **state)
{
	struct base_address vip = place_address("192.0.2.100");

	static const char *const four[] = { "10.244.1.7", "10.244.2.7", "10.244.3.7" };
	static const char *const six[] = { "fd00::1:7", "fd00::2:7", "fd00::3:7" };

	(void)state;
	for (int upgrade = 0; upgrade < 2; upgrade++) {
		struct nft_skeleton skeleton = skeleton_of(true);

		nft_table_begin(table);
		want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
		want_many("192.0.2.100", four, "192.0.2.2", true);
		want_many("2001:db8::100", six, "2001:db8::2", true);
		want_vip("192.0.2.101", NFT_DATAPLANE_DIRECTOR);
		want_port("192.0.2.100", 22, "10.244.2.5", "192.0.2.2", NULL);
		commit(&skeleton);
		place_run("nft add element netdev vipd alive4 '{ 192.0.2.100 timeout 60s }'");
		nft_table_free(table);

		open_table();
		if (upgrade)
			skeleton.addresses_per_router = 3;
		nft_table_begin(table);
		want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
		want_port("192.0.2.100", 22, "10.244.3.5", "192.0.2.3", NULL);
		want_many("192.0.2.100", four, "192.0.2.2", false);
		want_many("2001:db8::100", six, "2001:db8::2", false);
		assert_int_equal(commit(&skeleton), 0);
		assert_true(holds("inet vipd slotflowudp4", "192.0.2.100 . udp . 53 . 250"));
		assert_true(holds("inet vipd slotflowudp6", "2001:db8::100 . udp . 53 . 250"));
		assert_false(holds("inet vipd slotclientudp4", "192.0.2.100 . udp . 53 . 250"));
		assert_null(strstr(place_read("nft list map netdev vipd nodeclient6"), "elements"));
		assert_non_null(
			strstr(place_read("nft list map netdev vipd nodeflow6"), "elements"));
		assert_true(is_alive(&vip));
		assert_false(holds("netdev vipd vips4", "192.0.2.101"));
		assert_non_null(
			strstr(place_read("nft list map netdev vipd node4"),
			       "192.0.2.100 . tcp . 22 counter packets 0 bytes 0 : 192.0.2.3"));
		/* And once only: the second load left no second copy of any rule. */
		assert_null(strstr(strstr(place_read("nft list chain inet vipd prerouting"),
					  "ip daddr @vips4 jump dnat4") +
					   1,
				   "ip daddr @vips4 jump dnat4"));
	}
}

static void test_tables_of_another_making_are_replaced(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	place_run("nft 'table netdev vipd { set vips4 { type ether_addr; }; }; "
		  "table inet vipd { set revision { type mark . mark; }; chain service4 { }; }'");
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	assert_int_equal(commit(&skeleton), 1);
	assert_true(holds("netdev vipd vips4", "192.0.2.100"));
	assert_true(nft_table_present(table));
}

static size_t refused_count;
static struct nft_refusal refused; /* the last one of them */

static void on_refusal(void *userdata, const struct nft_refusal *refusal)
{
	(void)userdata;
	refused = *refusal;
	refused_count++;
}

static size_t count_refusals(void)
{
	refused_count = 0;
	nft_table_each_refusal(table, on_refusal, NULL);
	return refused_count;
}

/* One element that no kernel takes (a map without data), among many that are good. */
static void test_what_the_kernel_refuses_is_found_and_the_rest_is_there(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	struct nft_element bad = { .set = NFT_SET_SERVICE, .key_size = 12, .key = { 192, 0, 2, 7 } };

	(void)state;
	for (int round = 0; round < 2; round++) {
		nft_table_begin(table);
		for (int i = 0; i < 100; i++) {
			char vip[32];

			snprintf(vip, sizeof vip, "198.51.100.%d", i + 1);
			assert_int_equal(nft_table_source(table, vip, strlen(vip)), 0);
			want_vip(vip, NFT_DATAPLANE_DIRECTOR);
			want_port(vip, 22, "10.244.2.5", "192.0.2.2", NULL);
			if (i == 70)
				assert_int_equal(nft_table_want(table, &bad), 0);
		}
		commit(&skeleton);
		assert_int_equal(count_refusals(), 1);
		assert_int_equal(refused.source_size, strlen("198.51.100.71"));
		assert_memory_equal(refused.source, "198.51.100.71", refused.source_size);
		assert_int_equal(refused.error, -EINVAL);
		print_message("%s: %s\n", refused.element, strerror(-refused.error));
		for (int i = 0; i < 100; i += 9) {
			char key[64];

			snprintf(key, sizeof key, "198.51.100.%d . tcp . 22", i + 1);
			assert_true(holds("inet vipd service4", key));
		}
		nft_table_retry(table);
	}
	/* Its source thinks better of it. */
	assert_int_equal(nft_table_source(table, "198.51.100.71", strlen("198.51.100.71")), 0);
	commit(&skeleton);
	assert_int_equal(count_refusals(), 0);
	assert_false(holds("inet vipd service4", "198.51.100.71 . tcp . 22"));
	assert_true(holds("inet vipd service4", "198.51.100.70 . tcp . 22"));
}

/* Whoever asks for tens of thousands of pods at once fills the sets of those that moved. */
static void test_where_an_endpoint_is_does_not_depend_on_who_filled_other_sets(void **state)
{
	(void)state;
	want_places("10.244.1.5", "10.244.1.6");
	for (int i = 0; i < 2; i++)
		place_run("awk 'BEGIN { printf \"add element inet vipd %s4 {\"; for (i = 0; i < 65535; i++) "
			  "printf \" 11.0.%%d.%%d,\", i / 256, i %% 256; print \"}\" }' | nft -f -", i ? "moved" : "early");
	want_places("10.244.1.6", "10.244.1.5");
	assert_true(holds("inet vipd local4", "10.244.1.6"));
	assert_false(holds("inet vipd local4", "10.244.1.5"));
	assert_int_equal(count_refusals(), 0);
	assert_int_equal(stays("moved4", "10.244.1.6"), 0);
}

/* A source replaces what it said before and nothing else, without a round. */
static void test_a_source_speaks_for_itself_alone(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	nft_table_begin(table);
	nft_table_source(table, "a", 1);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	want_port("192.0.2.100", 22, "10.244.2.5", "192.0.2.2", NULL);
	nft_table_source(table, "b", 1);
	want_port("192.0.2.100", 80, "10.244.2.5", "192.0.2.2", NULL);
	commit(&skeleton);
	nft_table_source(table, "b", 1);
	want_port("192.0.2.100", 80, "10.244.3.5", "192.0.2.3", NULL);
	commit(&skeleton);
	assert_true(holds("inet vipd service4", "192.0.2.100 . tcp . 22 : 10.244.2.5 . 22"));
	assert_true(holds("inet vipd service4", "192.0.2.100 . tcp . 80 : 10.244.3.5 . 22"));
	/* Two nodes behind one address now: fragments cannot follow it. */
	assert_false(holds("netdev vipd onenode4", "192.0.2.100"));
	nft_table_source(table, "b", 1);
	commit(&skeleton);
	assert_false(holds("inet vipd service4", "192.0.2.100 . tcp . 80"));
	assert_true(holds("netdev vipd onenode4", "192.0.2.100"));
	/* And a round forgets who is not named in it. */
	nft_table_begin(table);
	nft_table_source(table, "b", 1);
	want_vip("192.0.2.101", NFT_DATAPLANE_DIRECTOR);
	commit(&skeleton);
	assert_false(holds("inet vipd service4", "192.0.2.100 . tcp . 22"));
	assert_true(holds("inet vipd vips4", "192.0.2.101"));
}

/* A change that no event told of: found by reading, put right, and counted. */
static void test_elements_are_compared_when_asked_for(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	want_port("192.0.2.100", 22, "10.244.2.5", "192.0.2.2", NULL);
	commit(&skeleton);
	nft_table_compare(table);
	commit(&skeleton);
	assert_int_equal(nft_table_differences(table), 0);
	place_run("nft delete element inet vipd vips4 '{ 192.0.2.100 }'");
	place_run("nft delete element inet vipd service4 '{ 192.0.2.100 . tcp . 22 }'");
	place_run("nft add element inet vipd service4 '{ 192.0.2.100 . tcp . 22 : 10.9.9.9 . 22 }'");
	place_run("nft add element netdev vipd node4 '{ 192.0.2.101 . tcp . 22 : 192.0.2.3 }'");
	nft_table_compare(table);
	commit(&skeleton);
	assert_int_equal(nft_table_differences(table), 3);
	assert_int_equal(nft_table_differences(table), 0);
	assert_true(holds("inet vipd vips4", "192.0.2.100"));
	assert_true(holds("inet vipd service4", "192.0.2.100 . tcp . 22 : 10.244.2.5 . 22"));
	assert_false(holds("netdev vipd node4", "192.0.2.101 . tcp . 22"));
}

static FILE *questions;

static int ask_for(void *userdata, const struct nft_element *element)
{
	char text[NFT_ELEMENT_TEXT_SIZE], *name;

	(void)userdata;
	if (strcmp(nft_sets[element->set].table, "guard") == 0 || element->exclusive)
		return 0;
	nft_element_format(element, text);
	name = strchr(text, ' ');
	fprintf(questions, "get element %.*s vipd%s\n", (int)(name - text), text, name);
	return 0;
}

#define MANY 1200

static void want_everything(nft_emit_fn *emit, unsigned ranges)
{
	static struct base_prefix prefixes[256];

	for (unsigned i = 0; i < MANY; i++) {
		bool six = i % 2;
		struct nft_endpoint ends[3] = { { .port = 22, .local = true }, { .port = 22 },
						{ .port = 22 } };
		struct nft_port port = { .protocol = (const uint8_t[]){ IPPROTO_TCP, IPPROTO_UDP,
									IPPROTO_SCTP }[i % 3],
					 .port = (uint16_t)(i + 1),
					 .dataplane = NFT_DATAPLANE_DIRECTOR,
					 .client_affinity = i % 4 == 0,
					 .held = i % 7 == 0,
					 .ranges = prefixes,
					 .endpoint_count = i % 100 == 50 ? 3 : 1,
					 .endpoints = ends };
		struct base_address vip = place_address(six ? "2001:db8::1:0" : "198.51.0.0");

		vip.bytes[six ? 15 : 3] = (uint8_t)(i >> 8);
		vip.bytes[six ? 14 : 2] = (uint8_t)i;
		port.address = vip;
		for (unsigned e = 0; e < 3; e++) {
			char text[32];

			snprintf(text, sizeof text, six ? "fd00:0:0:%u::%x" : "10.244.%u.%u", e + 1,
				 i % 250 + 1);
			ends[e].address = place_address(text);
			snprintf(text, sizeof text, six ? "2001:db8::%u" : "192.0.2.%u", e + 1);
			ends[e].node = place_address(text);
		}
		for (; i % 400 < 2 && port.range_count < ranges; port.range_count++) {
			char text[48];

			snprintf(text, sizeof text, six ? "2001:db8:f:%x::/64" : "10.%u.0.0/16",
				 (unsigned)port.range_count);
			assert_true(base_prefix_parse(text, &prefixes[port.range_count]));
		}
		nft_ranges_sort(prefixes, port.range_count);
		if (emit == nft_table_want)
			assert_int_equal(nft_table_source(table, &i, sizeof i), 0);
		assert_int_equal(nft_emit_vip(&vip, port.dataplane, 0, NULL, emit, table), 0);
		assert_int_equal(nft_emit_port(&port, emit, table), 0);
	}
}

/* nft is asked for every element that was emitted; and nothing is there that was not. */
static void assert_everything(unsigned ranges)
{
	unsigned come = 0, asked = 0;
	char line[512];

	questions = fopen("/tmp/vipd-nft-test", "we");
	assert_non_null(questions);
	want_everything(ask_for, ranges);
	fclose(questions);
	place_run("nft -f /tmp/vipd-nft-test >/dev/null");
	questions = popen("sort -u /tmp/vipd-nft-test | wc -l; nft -j list table inet vipd | "
			  "grep -o '\"concat\": *\\[' | wc -l", "re");
	assert_non_null(questions);
	if (fgets(line, sizeof line, questions))
		asked = (unsigned)atoi(line);
	if (fgets(line, sizeof line, questions))
		come = (unsigned)atoi(line);
	pclose(questions);
	unlink("/tmp/vipd-nft-test");
	assert_true(asked > 5 * MANY);
	assert_true(come > 2 * MANY);
}

static void test_thousands_of_elements_are_what_nft_lists(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	char before[64], after[64];

	(void)state;
	nft_table_begin(table);
	want_everything(nft_table_want, 200);
	assert_int_equal(commit(&skeleton), 1);
	assert_everything(200);
	snprintf(before, sizeof before, "%s",
		 place_read("nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//' | md5sum"));

	/* Others and the same again, and nothing is left of the others. */
	nft_table_begin(table);
	want_everything(nft_table_want, 90);
	assert_int_equal(commit(&skeleton), 0);
	assert_everything(90);
	nft_table_begin(table);
	commit(&skeleton);
	assert_null(strstr(place_read("nft list map inet vipd service4"), "elements"));
	assert_null(strstr(place_read("nft list set inet vipd source6"), "elements"));
	nft_table_begin(table);
	want_everything(nft_table_want, 200);
	assert_int_equal(commit(&skeleton), 0);
	snprintf(after, sizeof after, "%s",
		 place_read("nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//' | md5sum"));
	assert_everything(200);
	print_message("%s%s", before, after);
}

/* Longest turn of a loop that loads much, and while somebody else has many rules. */
static void test_no_turn_takes_long(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	uint64_t longest = 0;
	unsigned turns = 0;
	int r;

	(void)state;
	nft_table_begin(table);
	commit(&skeleton);
	nft_table_begin(table);
	want_everything(nft_table_want, 200);
	do {
		struct base_error error = { 0 };
		uint64_t begin = place_now_us(), took;

		r = nft_table_commit(table, &skeleton, &error);
		assert_true(r >= 0);
		took = place_now_us() - begin;
		longest = took > longest ? took : longest;
		turns++;
		if (r & NFT_TABLE_WAIT)
			wait_for_table();
	} while (r & (NFT_TABLE_MORE | NFT_TABLE_WAIT));
	print_message("%u turns, the longest %llu us\n", turns, (unsigned long long)longest);
	assert_true(turns > 1);
	assert_true(longest < 100000); /* 10 ms without sanitizers on a quiet machine */
}

static unsigned counted[2];
static uint64_t counted_packets[2];

static void on_count(void *userdata, const struct nft_count *count)
{
	(void)userdata;
	counted[count->kind]++;
	counted_packets[count->kind] += count->packets;
	assert_true(count->port > 0);
	assert_true(count->protocol == IPPROTO_TCP || count->protocol == IPPROTO_UDP ||
		    count->protocol == IPPROTO_SCTP);
}

static void test_counters_of_every_port_are_read_in_pieces(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);
	struct nft_counters *counters;
	int r, pieces = 0;

	(void)state;
	assert_int_equal(nft_counters_new(&counters), 0);
	nft_counters_start(counters);
	assert_int_equal(nft_counters_run(counters, on_count, NULL), -ENOENT);
	nft_table_begin(table);
	want_everything(nft_table_want, 2);
	commit(&skeleton);
	for (int round = 0; round < 3; round++) {
		memset(counted, 0, sizeof counted);
		nft_counters_start(counters);
		if (round == 1)
			assert_int_equal(nft_counters_run(counters, on_count, NULL), 1);
		else
			while ((r = nft_counters_run(counters, on_count, NULL)) == 1)
				pieces++;
		if (round == 1)
			continue; /* begun again in the middle */
		assert_int_equal(r, 0);
		assert_int_equal(counted[NFT_COUNT_TRAFFIC], MANY);
		assert_int_equal(counted[NFT_COUNT_CONNECTIONS], MANY);
	}
	assert_true(pieces > 4);
	/* And they are those of the kernel. */
	place_run("nft 'delete element inet vipd arrived4 { 198.51.0.0 . tcp . 1 }; add element inet vipd "
		  "arrived4 { 198.51.0.0 . tcp . 1 counter packets 5 bytes 300 }'");
	memset(counted_packets, 0, sizeof counted_packets);
	nft_counters_start(counters);
	while (nft_counters_run(counters, on_count, NULL) == 1)
		;
	assert_int_equal(counted_packets[NFT_COUNT_CONNECTIONS], 5);
	assert_int_equal(counted_packets[NFT_COUNT_TRAFFIC], 0);
	nft_counters_free(counters);
}

static void test_the_guard_outlives_a_foreign_flush(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	if (!abilities.guard) {
		print_message("this kernel has no tables with an owner\n");
		return;
	}
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	want_vip("2001:db8::100", NFT_DATAPLANE_NAT);
	want_vip("192.0.2.101", NFT_DATAPLANE_ANNOUNCE);
	commit(&skeleton);
	place_run("nft flush ruleset");
	assert_true(holds("inet vipd-guard vips4", "192.0.2.100"));
	assert_true(holds("inet vipd-guard vips6", "2001:db8::100"));
	assert_false(holds("inet vipd-guard vips4", "192.0.2.101"));
	nft_table_forget(table);
	nft_table_begin(table);
	want_vip("192.0.2.102", NFT_DATAPLANE_DIRECTOR);
	assert_int_equal(commit(&skeleton), 1);
	assert_false(holds("inet vipd-guard vips4", "192.0.2.100"));
	assert_true(holds("inet vipd-guard vips4", "192.0.2.102"));
	/* It goes with us. */
	nft_table_free(table);
	assert_null(strstr(place_read("nft list ruleset"), "vipd-guard"));
	assert_non_null(strstr(place_read("nft list ruleset"), "table inet vipd "));
	open_table();
}

static void test_removed_means_nothing_left_and_others_untouched(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	place_run("nft add table inet other");
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	commit(&skeleton);
	assert_int_equal(nft_table_remove(table), 0);
	assert_string_equal(place_read("nft list ruleset"), "table inet other {\n}\n");
	assert_int_equal(nft_table_remove(table), 0); /* twice is fine */
	assert_false(nft_table_present(table));
}

/* --- the fence --- */

static const struct fence {
	const char *name, *vip;
	bool egress;
} fences[] = {
	{ "egress, IPv4", "192.0.2.100", true },
	{ "egress, IPv6", "2001:db8::100", true },
	{ "loopback, IPv4", "192.0.2.100", false },
	{ "loopback, IPv6", "2001:db8::100", false },
};

static void fenced(const struct fence *fence)
{
	struct nft_skeleton skeleton = skeleton_of(fence->egress);

	if (fence->egress && !abilities.egress)
		place_skip("this kernel has no netdev egress hook");
	place_run("ip address add %s/%d dev eth1 %s 2>/dev/null", fence->vip,
		  strchr(fence->vip, ':') ? 128 : 32, strchr(fence->vip, ':') ? "nodad" : "");
	nft_table_begin(table);
	want_vip(fence->vip, NFT_DATAPLANE_DIRECTOR);
	commit(&skeleton);
}

static void test_the_kernel_answers_only_while_adverts_leave(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(fences); i++) {
		const struct fence *fence = &fences[i];
		struct base_address vip = place_address(fence->vip);
		struct base_address own =
			place_address(vip.family == BASE_FAMILY_IPV4 ? "192.0.2.1" : "2001:db8::1");
		uint64_t start_us;
		int lan;

		fenced(fence);
		lan = place_open("lan");
		/* The address is on the interface, and nobody hears of it. */
		ASSERT_ROW(fence->name, !place_answers(lan, &vip));
		ASSERT_ROW(fence->name, place_answers(lan, &own));
		ASSERT_ROW(fence->name, !is_alive(&vip));

		send_advert(fence->egress, &vip, 3, 100, 100);
		start_us = place_now_us();
		ASSERT_ROW(fence->name, is_alive(&vip));
		ASSERT_ROW(fence->name, place_answers(lan, &vip));
		/* And no longer than 250 ms after the last one, with nobody's help. */
		for (bool open = true; open; open = place_answers(lan, &vip))
			ASSERT_ROW(fence->name, place_now_us() - start_us < 2000000);
		ASSERT_ROW(fence->name, place_now_us() - start_us > 200000);
		ASSERT_ROW(fence->name, !is_alive(&vip));
		ASSERT_ROW(fence->name, place_answers(lan, &own));
		close(lan);
		tear_down(NULL);
		set_up(NULL);
	}
}

static void test_the_fence_closes_at_once_when_the_owner_resigns(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(fences); i++)
		for (int resigns = 0; resigns < 2; resigns++) {
			const struct fence *fence = &fences[i];
			struct base_address vip = place_address(fence->vip);
			uint8_t frame[2048];
			bool heard = false;
			int lan;

			fenced(fence);
			lan = place_open("lan");
			send_advert(fence->egress, &vip, 3, 100, 1000); /* open for 2.5 s */
			ASSERT_ROW(fence->name, place_answers(lan, &vip));
			while (place_hear(lan, frame, sizeof frame, 0) > 0)
				;
			send_advert(fence->egress, &vip, resigns ? 3 : NFT_CLOSE_VERSION, 0, 1000);
			ASSERT_ROW(fence->name, !is_alive(&vip));
			while (place_hear(lan, frame, sizeof frame, 30) > 0)
				heard |= vip.family == BASE_FAMILY_IPV4
						 ? frame[12] == 8 && frame[13] == 0 &&
							   frame[23] == 112
						 : frame[12] == 0x86 && frame[20] == 112;
			/* Priority 0 is said to the LAN, the packet that only closes is not. */
			ASSERT_ROW(fence->name, heard == (resigns && fence->egress));
			ASSERT_ROW(fence->name, !place_answers(lan, &vip));
			close(lan);
			tear_down(NULL);
			set_up(NULL);
		}
}

/* Make before break: who hands over answers until the successor is heard, and not longer. */
static void test_a_leaving_address_is_answered_for_until_a_member_is_heard(void **state)
{
	static const struct base_mac member = { { 2, 0, 0, 0, 0, 2 } };
	static const struct base_mac stranger = { { 2, 0, 0, 0, 0, 3 } };
	struct base_address vip = place_address("192.0.2.100");
	struct nft_skeleton skeleton = skeleton_of(true);
	int lan;

	(void)state;
	fenced(&fences[0]);
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	assert_int_equal(nft_emit_peer(&member, nft_table_want, table), 0);
	commit(&skeleton);
	lan = place_open("lan");
	send_advert(true, &vip, 3, 100, 1000);
	assert_true(place_answers(lan, &vip));
	send_advert(true, &vip, NFT_LINGER_VERSION, 0, 1000);
	send_advert(true, &vip, 3, 0, 1000); /* "I am going" */
	assert_true(place_answers(lan, &vip));
	hear_advert(lan, &vip, &stranger);
	assert_true(place_answers(lan, &vip));
	hear_advert(lan, &vip, &member);
	assert_false(place_answers(lan, &vip));
	assert_false(is_alive(&vip));
	close(lan);
}

static void want_announced(const char *vip, const struct base_mac *peer)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	nft_table_begin(table);
	want_vip(vip, NFT_DATAPLANE_ANNOUNCE);
	if (peer)
		assert_int_equal(nft_emit_peer(peer, nft_table_want, table), 0);
	assert_int_equal(commit(&skeleton), 0);
}

/* RFC 9568 6.4.2-5: a Backup accepts no packet to the address, even when a switch floods it there. */
static void test_packets_to_the_address_come_in_only_while_the_fence_is_open(void **state)
{
	struct base_address vip = place_address("192.0.2.100");
	int lan, udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in local = { .sin_family = AF_INET, .sin_port = htons(4000) };
	static const uint8_t peer[6] = { 2, 0, 0, 0, 0, 2 };
	uint8_t frame[14 + 20 + 8 + 4] = { 2,   0,    0,   0,   0,    1,    2,    0,    0, 0,
					   0,   0xfe, 8,   0,   0x45, 0,    0,    32,   0, 0,
					   0,   0,    64,  17,  0,    0,    192,  0,    2, 250,
					   192, 0,    2,   100, 0x0f, 0xa0, 0x0f, 0xa0, 0, 12,
					   0,   0,    'p', 'i', 'n',  'g' };
	struct base_mac mac;
	char text[16];
	uint16_t sum;

	(void)state;
	sum = vrrp_checksum_finish(vrrp_checksum_add(0, frame + 14, 20));
	frame[24] = (uint8_t)(sum >> 8);
	frame[25] = (uint8_t)sum;
	memcpy(&local.sin_addr, vip.bytes, 4);
	fenced(&fences[0]);
	/* The closed-port rules of the inet table are another matter: they do not know this address. */
	want_announced("192.0.2.100", NULL);
	lan = place_open("lan");
	assert_int_equal(bind(udp, (struct sockaddr *)&local, sizeof local), 0);

	assert_int_equal(send(lan, frame, sizeof frame, 0), sizeof frame);
	place_sleep_ms(30);
	assert_int_equal(recv(udp, text, sizeof text, 0), -1);

	send_advert(true, &vip, 3, 100, 100);
	assert_int_equal(send(lan, frame, sizeof frame, 0), sizeof frame);
	place_sleep_ms(30);
	assert_int_equal(recv(udp, text, sizeof text, 0), 4);

	/* What a member's director sends on comes in whoever owns the address. */
	place_sleep_ms(300);
	memcpy(mac.bytes, peer, 6);
	want_announced("192.0.2.100", &mac);
	assert_int_equal(send(lan, frame, sizeof frame, 0), sizeof frame);
	place_sleep_ms(30);
	assert_int_equal(recv(udp, text, sizeof text, 0), -1);
	memcpy(frame + 6, peer, 6);
	assert_int_equal(send(lan, frame, sizeof frame, 0), sizeof frame);
	place_sleep_ms(30);
	assert_int_equal(recv(udp, text, sizeof text, 0), 4);
	close(udp);
	close(lan);
}

static void test_an_advert_of_another_interval_or_for_another_address_opens_nothing(void **state)
{
	struct base_address vip = place_address("192.0.2.100"),
			    other = place_address("192.0.2.101");
	int lan;

	(void)state;
	fenced(&fences[0]);
	lan = place_open("lan");
	send_advert(true, &other, 3, 100, 100);
	assert_false(is_alive(&vip));
	send_advert(true, &vip, 3, 100, 500); /* no virtual router here has this interval */
	assert_false(is_alive(&vip));
	assert_false(place_answers(lan, &vip));
	send_advert(true, &vip, 2, 100, 1000); /* version 2 counts seconds */
	assert_true(is_alive(&vip));
	assert_true(place_answers(lan, &vip));
	close(lan);
}

static void test_every_open_fence_is_known_of_thousands(void **state)
{
	const unsigned count = 6000;
	struct nft_alive alive = { 0 }, between = { 0 };
	unsigned pieces = 0;
	int r;
	struct base_address address = place_address("198.51.0.0");
	FILE *nft;

	(void)state;
	fenced(&fences[0]);
	nft = popen("nft -f -", "w");
	assert_non_null(nft);
	for (unsigned i = 0; i < count; i++)
		fprintf(nft, "add element netdev vipd alive4 { 198.51.%u.%u timeout 60s }\n", i / 250, i % 250);
	assert_int_equal(pclose(nft), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(nft_table_alive(table, &alive), 0);
		assert_int_equal(alive.count, count);
	}
	alive.count = 0;
	assert_int_equal(nft_table_alive_start(table, &alive), 0);
	while ((r = nft_table_alive_more(table, &alive)) == 1)
		if (pieces++ == 3) { /* somebody else may ask meanwhile */
			assert_int_equal(nft_table_alive(table, &between), 0);
			assert_int_equal(between.count, count);
		}
	nft_alive_free(&between);
	assert_int_equal(r, 0);
	assert_in_range(pieces, count / 1000, count); /* none of them takes long */
	assert_int_equal(alive.count, count);
	for (unsigned i = 0; i < count; i++) {
		address.bytes[2] = (uint8_t)(i / 250);
		address.bytes[3] = (uint8_t)(i % 250);
		assert_true(nft_alive_has(&alive, &address));
	}
	address.bytes[3] = 250;
	assert_false(nft_alive_has(&alive, &address));
	nft_alive_free(&alive);
	assert_false(nft_alive_has(&alive, &address));
}

/* A VM's on a bridge: it went after the rules were wished for, and is no reason to have none. */
static void test_a_port_that_went_is_left_out(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(abilities.egress);

	(void)state;
	skeleton.port_count = 2;
	for (unsigned i = 0; i < skeleton.port_count; i++) {
		strcpy(skeleton.ports[i].name, i ? "tap7" : "lan");
		strcpy(skeleton.ports[i].segment, "eth1");
		skeleton.ports[i].index = i ? 4711 : if_nametoindex("lan");
		skeleton.ports[i].called[0] = true;
	}
	nft_table_begin(table);
	commit(&skeleton);
	assert_non_null(strstr(place_read("nft list chain netdev vipd port-lan"), "alive4"));
	assert_null(strstr(place_read("nft list table netdev vipd"), "tap7\" priority"));
	assert_true(nft_table_present(table)); /* the next look at the links has other wishes */
}

static unsigned said;

static int say_once_wrong(const void *userdata, char *text, size_t size, struct base_error *error)
{
	(void)userdata;
	(void)error;
	return snprintf(text, size, said++ ? "add table netdev second" : "add rule netdev second none accept");
}

static int say_always_wrong(const void *userdata, char *text, size_t size, struct base_error *error)
{
	(void)userdata;
	(void)error;
	return snprintf(text, size, "add rule netdev second none accept");
}

static int loaded(nft_loader_say_fn *say)
{
	struct nft_loader loader = NFT_LOADER_NONE;
	struct base_error error = { 0 };
	int r;

	assert_int_equal(nft_loader_open(&loader), 0);
	assert_int_equal(nft_loader_start(&loader, say, NULL), 0);
	while ((r = nft_loader_end(&loader, &error)) == -EAGAIN)
		poll(&(struct pollfd){ .fd = loader.report, .events = POLLIN }, 1, -1);
	nft_loader_close(&loader);
	return r;
}

static void test_what_is_refused_is_said_again_if_it_is_another_thing_now(void **state)
{
	(void)state;
	assert_int_equal(loaded(say_always_wrong), -EINVAL);
	assert_int_equal(loaded(say_once_wrong), 0);
	assert_non_null(strstr(place_read("nft list tables"), "netdev second"));
}

static void test_an_interface_made_anew_is_fenced_again(void **state)
{
	struct base_address vip = place_address("192.0.2.100");
	struct nft_skeleton skeleton;
	int lan;

	(void)state;
	fenced(&fences[0]);
	place_run("ip link delete eth1");
	place_cable();
	place_run("ip address add 192.0.2.100/32 dev eth1");
	skeleton = skeleton_of(true);
	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_DIRECTOR);
	commit(&skeleton);
	lan = place_open("lan");
	assert_false(place_answers(lan, &vip));
	send_advert(true, &vip, 3, 100, 100);
	assert_true(place_answers(lan, &vip));
	close(lan);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_the_kernel_takes_the_rules_in_every_shape),
		TEST(test_wishes_become_elements_and_go_when_they_are_no_longer_wished),
		TEST(test_an_endpoint_that_moves_here_is_told_apart_for_a_while),
		TEST(test_where_an_endpoint_is_does_not_depend_on_who_filled_other_sets),
		TEST(test_only_the_difference_is_told_to_the_kernel),
		TEST(test_a_contradiction_in_an_exclusive_map_is_carried_by_nobody),
		TEST(test_source_ranges_may_overlap_and_change_their_width),
		TEST(test_a_foreign_flush_is_noticed_and_everything_comes_back),
		TEST(test_half_of_it_flushed_is_noticed_too),
		TEST(test_tables_that_go_while_they_are_filled_are_made_once_more),
		TEST(test_whose_change_it_was_is_known),
		TEST(test_a_foreign_change_of_elements_is_healed_without_closing_the_fence),
		TEST(test_a_restarted_process_takes_over_without_closing_the_fence),
		TEST(test_tables_of_another_making_are_replaced),
		TEST(test_what_the_kernel_refuses_is_found_and_the_rest_is_there),
		TEST(test_a_source_speaks_for_itself_alone),
		TEST(test_elements_are_compared_when_asked_for),
		TEST(test_thousands_of_elements_are_what_nft_lists),
		TEST(test_no_turn_takes_long),
		TEST(test_counters_of_every_port_are_read_in_pieces),
		TEST(test_the_guard_outlives_a_foreign_flush),
		TEST(test_removed_means_nothing_left_and_others_untouched),
		TEST(test_the_kernel_answers_only_while_adverts_leave),
		TEST(test_the_fence_closes_at_once_when_the_owner_resigns),
		TEST(test_a_leaving_address_is_answered_for_until_a_member_is_heard),
		TEST(test_packets_to_the_address_come_in_only_while_the_fence_is_open),
		TEST(test_an_advert_of_another_interval_or_for_another_address_opens_nothing),
		TEST(test_every_open_fence_is_known_of_thousands),
		TEST(test_a_port_that_went_is_left_out),
		TEST(test_what_is_refused_is_said_again_if_it_is_another_thing_now),
		TEST(test_an_interface_made_anew_is_fenced_again),
	};

	place_enter();
	place_need_nft();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
