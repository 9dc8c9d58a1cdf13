/* The rules that depend on no Service, as text: what must stand in it, and when it must differ. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nft/skeleton.h"
#include "test/unit/unit.h"

static char text[NFT_SKELETON_SIZE];

static struct nft_skeleton plain(void)
{
	return (struct nft_skeleton){
		.egress = true,
		.arp = true,
		.segment_count = 1,
		.segments = { "eth1" },
		.indices = { 2 },
		.interval_count = 1,
		.intervals_cs = { 10 },
		.addresses_per_router = 1,
	};
}

static bool says(const char *what)
{
	return strstr(text, what) != NULL;
}

static void render(const struct nft_skeleton *skeleton, bool anew)
{
	int length = nft_skeleton_render(skeleton, anew, text, sizeof text);

	assert_true(length > 0);
	assert_int_equal(strlen(text), length);
}

/* The fence must fall before the fastest backup may rise: 3 intervals and its skew. election.md */
static void test_the_fence_falls_before_any_backup_may_take_over(void **state)
{
	(void)state;
	for (uint32_t cs = 1; cs <= 4095; cs++) {
		assert_true(nft_fence_ms(cs) > 2 * cs * 10); /* one lost advert is no outage */
		assert_true(nft_fence_ms(cs) < 3 * cs * 10);
	}
}

static void test_adverts_open_the_fence_for_their_interval(void **state)
{
	static const struct {
		const char *name;
		uint32_t interval_cs;
		const char *version3, *version2, *ipv6; /* NULL: no such rule */
	} rows[] = {
		{ "100 ms", 10,
		  "@th,36,12 == 10 @th,0,8 == 0x31 update @alive4 { @th,64,32 timeout 250ms }",
		  NULL,
		  "@th,36,12 == 10 @th,0,8 == 0x31 update @alive6 { @th,192,128 timeout 250ms }" },
		{ "10 ms, the shortest", 1,
		  "@th,36,12 == 1 @th,0,8 == 0x31 update @alive4 { @th,64,32 timeout 25ms }", NULL,
		  "@th,36,12 == 1 @th,0,8 == 0x31 update @alive6 { @th,192,128 timeout 25ms }" },
		{ "2 s, which version 2 can say, too", 200,
		  "@th,36,12 == 200 @th,0,8 == 0x31 update @alive4 { @th,64,32 timeout 5000ms }",
		  "@th,40,8 == 2 @th,0,8 == 0x21 update @alive4 { @th,64,32 timeout 5000ms }",
		  "@th,36,12 == 200 @th,0,8 == 0x31 update @alive6 { @th,192,128 timeout 5000ms "
		  "}" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct nft_skeleton skeleton = plain();

		skeleton.intervals_cs[0] = rows[i].interval_cs;
		render(&skeleton, false);
		ASSERT_ROW(rows[i].name, says(rows[i].version3));
		ASSERT_ROW(rows[i].name, says(rows[i].ipv6));
		if (rows[i].version2)
			ASSERT_ROW(rows[i].name, says(rows[i].version2));
		else
			ASSERT_ROW(rows[i].name, !says("@th,0,8 == 0x21"));
	}
}

static void test_a_router_with_many_addresses_keeps_all_of_them_alive(void **state)
{
	struct nft_skeleton skeleton = plain();

	(void)state;
	skeleton.addresses_per_router = 3;
	render(&skeleton, false);
	assert_true(says("> 0 @th,36,12 == 10 @th,0,8 == 0x31 update @alive4 { @th,64,32"));
	assert_true(says("> 1 @th,36,12 == 10 @th,0,8 == 0x31 update @alive4 { @th,96,32"));
	assert_true(says("> 2 @th,36,12 == 10 @th,0,8 == 0x31 update @alive4 { @th,128,32"));
	assert_false(says("> 3 @th,36,12 == 10 @th,0,8 == 0x31 update @alive4"));
	/* Over IPv6 the first address is the link-local one. */
	assert_true(says("> 1 @th,36,12 == 10 @th,0,8 == 0x31 update @alive6 { @th,192,128"));
	assert_true(says("> 3 @th,36,12 == 10 @th,0,8 == 0x31 update @alive6 { @th,448,128"));
	/* Priority 0 takes every one down that is not leaving, the close packet every one. */
	assert_true(says("@th,16,8 == 0 @th,24,8 > 2 @th,128,32 != @leaving4 delete @alive4 "
			 "{ @th,128,32 }"));
	assert_true(says("@th,16,8 == 0 @th,24,8 > 3 @th,448,128 != @leaving6 delete @alive6 "
			 "{ @th,448,128 }"));
	assert_true(says("@th,0,4 == 15 @th,24,8 > 2 delete @alive4 { @th,128,32 }"));
	assert_true(says("@th,0,4 == 15 @th,24,8 > 3 delete @alive6 { @th,448,128 }"));
}

static void test_the_fence_is_at_the_egress_or_else_at_the_loopback(void **state)
{
	struct nft_skeleton skeleton = plain();

	(void)state;
	render(&skeleton, false);
	assert_true(says("hook egress device \"eth1\""));
	assert_false(says("device \"lo\""));
	skeleton.egress = false;
	render(&skeleton, false);
	assert_false(says("hook egress"));
	assert_true(says("hook ingress device \"lo\""));
	/* Either way it gates what comes in. */
	assert_true(says("arp daddr ip @vips4 arp daddr ip != @alive4 counter drop"));
}

/* Who is asked for its MAC learns the MAC of who asks: not as that of an address that is elsewhere. */
static void test_a_node_asks_in_its_own_name_what_it_would_ask_in_that_of_an_address_it_does_not_own(void **state)
{
	static const char *const owns[][2] = { { "192.0.2.1/24", "eth1" }, { "198.51.100.7/30", "eth1" },
					       { "203.0.113.1/24", "eth2" }, { "fe80::1/64", "eth1" } };
	struct nft_skeleton skeleton = plain();

	(void)state;
	skeleton.arp = false;
	render(&skeleton, false);
	assert_false(says("arp saddr ip set"));
	assert_true(says("\t\ticmpv6 type nd-neighbor-solicit @nh,64,128 @vips6 @nh,64,128 != @alive6 counter drop\n"));
	for (unsigned i = 0; i < 4; i++) {
		assert_true(base_prefix_parse(owns[i][0], &skeleton.owns[i].subnet));
		strcpy(skeleton.owns[i].interface, owns[i][1]);
	}
	skeleton.own_count = 4;
	render(&skeleton, false);
	assert_true(says("\t\tarp operation request arp saddr ip @vips4 arp saddr ip != @alive4 arp daddr ip != @vips4 "
			 "arp daddr ip 192.0.2.0/24 arp saddr ip set 192.0.2.1\n"
			 "\t\tarp operation request arp saddr ip @vips4 arp saddr ip != @alive4 arp daddr ip != @vips4 "
			 "arp daddr ip 198.51.100.4/30 arp saddr ip set 198.51.100.7\n"
			 "\t\ticmpv6 type nd-neighbor-solicit @nh,64,128 @vips6 @nh,64,128 != @alive6 ip6 saddr set fe80::1\n"
			 "\t\tarp saddr ip @vips4 arp saddr ip != @alive4 counter drop\n"));
	assert_false(says("203.0.113.1"));
	skeleton.egress = false;
	render(&skeleton, false);
	assert_false(says("saddr ip set"));
}

/* Nobody pays for a virtual MAC where none is; where there is one, who sends to others pays one comparison. */
static void test_only_a_segment_with_a_virtual_mac_has_rules_for_it(void **state)
{
	struct nft_skeleton skeleton = plain();
	uint64_t before = nft_skeleton_revision(&skeleton);

	(void)state;
	skeleton.segment_count = 2;
	strcpy(skeleton.segments[1], "eth2");
	skeleton.indices[1] = 3;
	render(&skeleton, false);
	assert_false(nft_skeleton_virtual(&skeleton));
	assert_false(says("pkttype other") || says("map @virtual") || says(NFT_REWRITE_CHAIN));
	skeleton.virtual_macs[1] = true;
	assert_true(nft_skeleton_virtual(&skeleton));
	assert_true(nft_skeleton_revision(&skeleton) != before);
	render(&skeleton, false);
	assert_true(says("\tchain in-eth1 {\n\t\ttype filter hook ingress device \"eth1\" priority 0; policy "
			 "accept;\n\t\tip daddr @alive4 goto direct4-eth1\n"));
	assert_true(says("\tchain in-eth2 {\n\t\ttype filter hook ingress device \"eth2\" priority 0; policy "
			 "accept;\n\t\tmeta pkttype other @ll,0,32 0x00005e00 jump virtual\n"
			 "\t\tip daddr @alive4 goto direct4-eth2\n"));
	/* Behind the fence: who may not answer at all does not answer with another MAC. */
	assert_true(strstr(text, "arp saddr ip != @alive4 counter drop") < strstr(text, "map @virtual4"));
	assert_ptr_equal(strstr(strstr(text, "map @virtual4") + 1, "chain out-"), NULL);
	assert_true(says("\tchain " NFT_REWRITE_CHAIN " {\n\t}\n"));
	assert_false(says("ether saddr set")); /* nft would ask for an interface that it came in on */
}

static void add_return(struct nft_skeleton *skeleton, const char *subnet, const char *gateway, const char *segment)
{
	struct nft_return *way = &skeleton->returns[skeleton->return_count++];

	assert_true(base_prefix_parse(subnet, &way->subnet));
	assert_true(base_address_parse(gateway, &way->gateway));
	strcpy(way->segment, segment);
}

/* Replies leave by the segment that was asked, whichever interface has the default route; what else leaves there stays. */
static void test_replies_to_beyond_a_segment_leave_by_it(void **state)
{
	struct nft_skeleton skeleton = plain();

	(void)state;
	skeleton.exit_count = 1;
	strcpy(skeleton.exits[0].name, "eth1");
	add_return(&skeleton, "192.0.2.0/24", "192.0.2.254", "eth1");
	render(&skeleton, false);
	assert_false(says("chain exit-")); /* the default route is by the one segment */
	skeleton.exit_count = 2;
	strcpy(skeleton.exits[1].name, "bond0.7");
	add_return(&skeleton, "2001:db8::/64", "fe80::1", "eth1");
	skeleton.segment_count = 2;
	strcpy(skeleton.segments[1], "eth2");
	add_return(&skeleton, "198.51.100.0/25", "198.51.100.1", "eth2");
	render(&skeleton, false);
	assert_true(says("\tchain exit-eth1 {\n\t\ttype filter hook egress device \"eth1\" priority 0; policy accept;\n"
			 "\t\tip saddr 198.51.100.0/25 ip saddr @vips4 fwd ip to 198.51.100.1 device \"eth2\"\n\t}\n"
			 "\tchain exit-bond0.7 {\n\t\ttype filter hook egress device \"bond0.7\" priority 0; policy accept;\n"
			 "\t\tip saddr 192.0.2.0/24 ip saddr @vips4 fwd ip to 192.0.2.254 device \"eth1\"\n"
			 "\t\tip6 saddr 2001:db8::/64 @nh,64,128 @vips6 fwd ip6 to fe80::1 device \"eth1\"\n"
			 "\t\tip saddr 198.51.100.0/25 ip saddr @vips4 fwd ip to 198.51.100.1 device \"eth2\"\n\t}\n"
			 "}\ntable inet vipd {"));
	/* Another card on one of them: either may answer. */
	strcpy(skeleton.exits[0].name, "eth3");
	add_return(&skeleton, "192.0.2.0/24", "192.0.2.253", "eth3");
	render(&skeleton, false);
	assert_true(says("\tchain exit-eth3 {\n\t\ttype filter hook egress device \"eth3\" priority 0; policy accept;\n"
			 "\t\tip6 saddr 2001:db8::/64 @nh,64,128 @vips6 fwd"));
	/* The second segment stands on the interface with the default route, and what it sends leaves by that. */
	strcpy(skeleton.exits[1].name, "eth0");
	assert_true(base_mac_parse("02:00:00:00:00:10", &skeleton.exits[1].mac));
	skeleton.exits[1].tagged = 1 << 2;
	render(&skeleton, false);
	assert_true(says("\t\tip saddr 192.0.2.0/24 ip saddr @vips4 fwd ip to 192.0.2.254 device \"eth1\"\n"
			 "\t\tip6 saddr 2001:db8::/64 @nh,64,128 @vips6 fwd ip6 to fe80::1 device \"eth1\"\n"
			 "\t\tip saddr 198.51.100.0/25 ip saddr @vips4 @ll,96,16 != 0x8100 @ll,96,16 != 0x88a8 fwd ip to "
			 "198.51.100.1 device \"eth2\"\n"));
	skeleton.exits[1].tagged = 0;
	skeleton.exits[1].macvlans = 1 << 1;
	render(&skeleton, false);
	assert_true(says("\t\tip6 saddr 2001:db8::/64 @nh,64,128 @vips6 ether saddr 02:00:00:00:00:10 fwd ip6 to fe80::1 "
			 "device \"eth1\"\n"
			 "\t\tip saddr 198.51.100.0/25 ip saddr @vips4 fwd ip to 198.51.100.1 device \"eth2\"\n"));
	strcpy(skeleton.exits[1].name, "a b");
	assert_int_equal(nft_skeleton_render(&skeleton, false, text, sizeof text), -EINVAL);
}

/* The kernel shows what is tagged to the hooks of the interface below, too, as IP. */
static void test_what_is_tagged_is_left_to_its_vlan(void **state)
{
	struct nft_skeleton skeleton = plain();

	(void)state;
	render(&skeleton, false);
	assert_false(says("0x8100"));
	skeleton.tagged[0] = true;
	render(&skeleton, false);
	assert_true(says("\t\ttype filter hook ingress device \"eth1\" priority 0; policy accept;\n"
			 "\t\t@ll,96,16 0x8100 accept\n\t\t@ll,96,16 0x88a8 accept\n\t\tip daddr @alive4"));
	assert_true(says("\t\ttype filter hook egress device \"eth1\" priority 0; policy accept;\n"
			 "\t\t@ll,96,16 0x8100 accept\n\t\t@ll,96,16 0x88a8 accept\n\t\tip protocol != 112"));
}

static void add_port(struct nft_skeleton *skeleton, const char *name, const char *segment)
{
	struct nft_bridge_port *port = &skeleton->ports[skeleton->port_count];

	strcpy(port->name, name);
	strcpy(port->segment, segment);
	assert_true(base_mac_parse("02:00:00:00:00:01", &port->mac));
	port->index = 10 + skeleton->port_count++;
	port->called[0] = port->called[1] = true;
}

/* What passes through is let through; what is for the bridge meets fence and director before it is translated. */
static void test_a_bridge_s_ports_have_fence_and_director_too(void **state)
{
	struct nft_skeleton skeleton = plain();
	uint64_t before;

	(void)state;
	render(&skeleton, false);
	assert_false(says("chain port-"));
	assert_true(says("\tchain errors4 {\n\t}\n"));
	add_port(&skeleton, "eno1", "eth1");
	add_port(&skeleton, "tap.7", "eth1");
	skeleton.ports[1].called[1] = false;
	render(&skeleton, false);
	assert_true(says("\tchain port-eno1 {\n\t\ttype filter hook ingress device \"eno1\" priority 0; policy accept;\n"
			 "\t\tether daddr != 02:00:00:00:00:01 accept\n"
			 "\t\tip daddr @alive4 goto direct4-eth1\n"
			 "\t\tmeta protocol ip6 @nh,192,128 @alive6 goto direct6-eth1\n"
			 "\t\tether saddr @peers accept\n"
			 "\t\tip daddr @vips4 meta pkttype set host goto stale4-eth1\n"
			 "\t\tmeta protocol ip6 @nh,192,128 @vips6 meta pkttype set host goto stale6-eth1\n\t}\n"));
	/* Where IPv6 is not translated before, what the port did would be done again. */
	assert_true(says("\tchain port-tap.7 {\n\t\ttype filter hook ingress device \"tap.7\" priority 0; policy accept;\n"
			 "\t\tether daddr != 02:00:00:00:00:01 accept\n"
			 "\t\tip daddr @alive4 goto direct4-eth1\n"
			 "\t\tether saddr @peers accept\n"
			 "\t\tip daddr @vips4 meta pkttype set host goto stale4-eth1\n\t}\n"));
	/* They are sent back by where they came in, which only the bridge can be. */
	assert_true(says("\tchain errors6 {\n\t\tiifname { \"eno1\", \"tap.7\" } return\n\t}\n"));
	before = nft_skeleton_revision(&skeleton);
	skeleton.ports[1].index++; /* made anew */
	assert_true(nft_skeleton_revision(&skeleton) != before);
	skeleton.virtual_macs[0] = skeleton.ports[0].virtual_macs = true;
	render(&skeleton, false);
	assert_true(says("priority 0; policy accept;\n\t\tmeta pkttype other @ll,0,32 0x00005e00 jump virtual\n"
			 "\t\tmeta pkttype host @ll,0,32 0x00005e00 ip daddr @alive4 goto direct4-eth1\n"));
	strcpy(skeleton.ports[1].name, "a b");
	assert_int_equal(nft_skeleton_render(&skeleton, false, text, sizeof text), -EINVAL);
}

static void test_new_rules_go_into_the_old_tables_unless_told_otherwise(void **state)
{
	struct nft_skeleton skeleton = plain();

	(void)state;
	render(&skeleton, false);
	assert_false(says("delete table"));
	assert_true(says("flush table netdev vipd\n") && says("flush table inet vipd\n") && says("flush table arp vipd\n"));
	render(&skeleton, true);
	assert_true(says("delete table netdev vipd\n") && says("delete table inet vipd\n") && says("delete table arp vipd\n"));
	assert_false(says("flush table"));
}

/* A look-up for each length in use, whole addresses apart; who is in none of them is dropped. */
static void test_source_ranges_are_looked_for_by_their_lengths(void **state)
{
	struct nft_skeleton skeleton = plain();
	uint64_t before = nft_skeleton_revision(&skeleton);

	(void)state;
	render(&skeleton, false);
	assert_true(says("\tchain sources4 {\n"
			 "\t\tip daddr . meta l4proto . th dport . ip saddr @sourcehost4 return\n"
			 "\t\tcounter drop\n\t}\n"));
	skeleton.source4[0] = skeleton.source4[24] = skeleton.source4[31] = true;
	skeleton.source6[48] = skeleton.source6[127] = true;
	assert_true(nft_skeleton_revision(&skeleton) != before);
	render(&skeleton, false);
	assert_true(says("ip saddr & 0.0.0.0 ^ 128.0.0.0) @source4 return\n"));
	assert_true(says("ip saddr & 255.255.255.0 ^ 0.0.0.128) @source4 return\n"));
	assert_true(says("ip saddr & 255.255.255.254 ^ 0.0.0.1) @source4 return\n"));
	assert_true(says("ip6 saddr & ffff:ffff:ffff:: ^ 0:0:0:8000::) @source6 return\n"));
	assert_true(says("ip6 saddr & ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe ^ ::1) @source6 return\n"));
	assert_false(says("ip saddr & 255.0.0.0"));
}

/* Every "@name" of a rule is a set of the text, and every set of nft_sets is one that is there. */
static void test_rules_name_only_sets_that_exist_and_all_of_them(void **state)
{
	struct nft_skeleton skeleton = plain();

	(void)state;
	skeleton.source4[24] = skeleton.source6[64] = skeleton.virtual_macs[0] = true;
	render(&skeleton, false);
	for (const char *at = strchr(text, '@'); at; at = strchr(at + 1, '@')) {
		char set[64], map[64], name[32];

		if (sscanf(at, "@%31[a-z0-9]", name) != 1 || strcmp(name, "th") == 0 ||
		    strcmp(name, "nh") == 0 || strcmp(name, "ll") == 0)
			continue;
		snprintf(set, sizeof set, "\tset %s {", name);
		snprintf(map, sizeof map, "\tmap %s {", name);
		if (!says(set) && !says(map))
			fail_msg("@%s is nowhere defined", name);
	}
	for (unsigned i = 0; i < NFT_SETS; i++) {
		char definition[256], use[64];

		if (strcmp(nft_sets[i].table, "guard") == 0)
			continue; /* a table of its own, see nft/io/guard.h */
		snprintf(definition, sizeof definition, "\t%s %s { %s; }\n", nft_sets[i].kind,
			 nft_sets[i].name, nft_sets[i].definition);
		snprintf(use, sizeof use, "@%s", nft_sets[i].name);
		ASSERT_ROW(nft_sets[i].name, says(definition));
		ASSERT_ROW(nft_sets[i].name, says(use));
	}
}

static void test_pods_are_named_by_their_ranges_or_not_at_all(void **state)
{
	struct nft_skeleton skeleton = plain();

	(void)state;
	render(&skeleton, false);
	assert_true(says("saddr : tcp sport\n\t\tsnat ip to ip saddr . meta l4proto . th sport map @reverse4"));
	assert_false(says("saddr {"));
	/* A pod of this node is known by where it comes from. */
	assert_true(says("meta iifkind { \"veth\", \"bridge\", \"openvswitch\" } iifname != "
			 "\"eth1\" accept"));
	skeleton.range_count = 3;
	assert_true(base_prefix_parse("10.244.1.7/24", &skeleton.pod_ranges[0]));
	assert_true(base_prefix_parse("10.244.2.0/24", &skeleton.pod_ranges[1]));
	assert_true(base_prefix_parse("fd00::/64", &skeleton.pod_ranges[2]));
	render(&skeleton, false);
	assert_true(says("ip daddr { 10.244.1.0/24, 10.244.2.0/24 } return"));
	assert_true(says("ip saddr { 10.244.1.0/24, 10.244.2.0/24 } accept"));
	assert_true(says("ip6 saddr { fd00::/64 } accept"));
}

/* By another card on the same Ethernet the kernel would answer as well, past the fence. */
static void test_only_its_segment_answers_and_asks_for_an_address(void **state)
{
	static const char *const owns[][2] = { { "192.0.2.1/24", "eth1" }, { "198.51.100.7/30", "eth0" },
					       { "10.0.0.1/8", "eth0" }, { "fe80::1/64", "eth0" } };
	struct nft_skeleton skeleton = plain();

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		assert_true(base_prefix_parse(owns[i][0], &skeleton.owns[i].subnet));
		strcpy(skeleton.owns[i].interface, owns[i][1]);
	}
	skeleton.own_count = 4;
	skeleton.segment_count = 2;
	strcpy(skeleton.segments[1], "eth2");
	skeleton.indices[1] = 7;
	render(&skeleton, false);
	assert_true(says("table arp vipd {\n\tmap vips4 { type ipv4_addr : mark; }\n"
			 "\tchain asked {\n\t\tiifname { \"eth1\", \"eth2\" } meta mark 0 accept\n"
			 "\t\tiifname { \"eth1\" } meta mark 2 accept\n"
			 "\t\tiifname { \"eth2\" } meta mark 7 accept\n"
			 "\t\tiifname != { \"eth1\", \"eth2\" } meta iifkind { \"macvlan\", \"ipvlan\" } accept\n\t\tcounter drop\n\t}\n"
			 "\tchain asks {\n\t\toifname { \"eth1\", \"eth2\" } meta mark 0 accept\n"
			 "\t\toifname { \"eth1\" } meta mark 2 meta mark set 0 accept\n"
			 "\t\toifname { \"eth2\" } meta mark 7 meta mark set 0 accept\n\t\tmeta mark set 0\n"
			 "\t\toifname != { \"eth1\", \"eth2\" } meta oifkind { \"macvlan\", \"ipvlan\" } accept\n"
			 "\t\toifname \"eth1\" arp daddr ip 192.0.2.0/24 arp saddr ip set 192.0.2.1 accept\n"
			 "\t\toifname \"eth0\" arp daddr ip 198.51.100.4/30 arp saddr ip set 198.51.100.7 accept\n"
			 "\t\toifname \"eth0\" arp daddr ip 10.0.0.0/8 arp saddr ip set 10.0.0.1 accept\n"
			 "\t\tarp saddr ip set 0.0.0.0\n\t}\n"
			 "\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n"
			 "\t\tarp operation request meta mark set arp daddr ip map @vips4 goto asked\n\t}\n"));
	skeleton.segment_count = skeleton.own_count = 0; /* for a moment: the LAN's interface went */
	render(&skeleton, false);
	assert_true(says("\tchain asked {\n\t\tmeta iifkind { \"macvlan\", \"ipvlan\" } accept\n\t\tcounter drop\n\t}\n"
			 "\tchain asks {\n\t\tmeta mark set 0\n\t\tmeta oifkind { \"macvlan\", \"ipvlan\" } accept\n"));
	skeleton.arp = false;
	render(&skeleton, true);
	assert_false(says("table arp"));
}

static void test_the_revision_moves_with_everything_that_changes_the_rules(void **state)
{
	uint64_t seen[16];
	unsigned count = 0;

	(void)state;
	for (int change = 0; change < 12; change++) {
		struct nft_skeleton skeleton = plain();

		if (change == 1)
			skeleton.egress = false;
		if (change == 2)
			strcpy(skeleton.segments[0], "eth2");
		if (change == 3)
			skeleton.indices[0] = 3; /* eth1 was made anew */
		if (change == 4)
			skeleton.intervals_cs[0] = 100;
		if (change == 5)
			skeleton.addresses_per_router = 2;
		if (change == 6)
			skeleton.range_count = base_prefix_parse("10.0.0.0/8", skeleton.pod_ranges);
		if (change == 7) {
			skeleton.segment_count = 2;
			strcpy(skeleton.segments[1], "eth2");
		}
		if (change == 8) {
			skeleton.interval_count = 2;
			skeleton.intervals_cs[1] = 100;
		}
		if (change >= 9) {
			skeleton.exit_count = 1;
			strcpy(skeleton.exits[0].name, "eth0");
			skeleton.exits[0].index = change == 10 ? 4 : 3; /* eth0 was made anew */
			add_return(&skeleton, "192.0.2.0/24", change == 11 ? "192.0.2.254" : "192.0.2.253", "eth1");
		}
		seen[count] = nft_skeleton_revision(&skeleton);
		assert_int_equal(seen[count], nft_skeleton_revision(&skeleton));
		for (unsigned i = 0; i < count; i++)
			assert_true(seen[i] != seen[count]);
		count++;
	}
}

static void test_names_that_nftables_cannot_say_are_refused(void **state)
{
	static const struct {
		const char *name;
		bool fine;
	} rows[] = {
		{ "eth0.100", true },     { "br-ex", true }, { "wlp2s0_1", true },
		{ "0lan", true },         { "a\"b", false }, { "a b", false },
		{ "eth1;", false },       { "", false },     { "a{b", false },
		{ "caf\xc3\xa9", false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct nft_skeleton skeleton = plain();

		strcpy(skeleton.segments[0], rows[i].name);
		ASSERT_ROW(rows[i].name,
			   (nft_skeleton_render(&skeleton, false, text, sizeof text) == -EINVAL) !=
				   rows[i].fine);
	}
}

static void test_the_largest_skeleton_has_room_and_a_small_buffer_is_told(void **state)
{
	struct nft_skeleton skeleton = plain();
	int length;

	(void)state;
	skeleton.segment_count = NFT_SEGMENTS_MAX;
	for (unsigned i = 0; i < NFT_SEGMENTS_MAX; i++)
		snprintf(skeleton.segments[i], sizeof skeleton.segments[i], "interface-%05u", i);
	skeleton.interval_count = NFT_INTERVALS_MAX;
	for (unsigned i = 0; i < NFT_INTERVALS_MAX; i++)
		skeleton.intervals_cs[i] = 4000 - i * 100;
	skeleton.addresses_per_router = 90;
	skeleton.range_count = BASE_COUNT_OF(skeleton.pod_ranges);
	for (unsigned i = 0; i < skeleton.range_count; i++)
		assert_true(
			base_prefix_parse("2001:db8:1234:5678:9abc::/80", &skeleton.pod_ranges[i]));
	skeleton.exit_count = NFT_EXITS_MAX;
	for (unsigned i = 0; i < NFT_EXITS_MAX; i++)
		snprintf(skeleton.exits[i].name, sizeof skeleton.exits[i].name, "exit-to-%07u", i);
	for (unsigned i = 0; i < NFT_RETURNS_MAX; i++)
		add_return(&skeleton, "2001:db8:1234:5678:9abc::/80", "2001:db8:1234:5678:9abc:def0:1234:5678",
			   skeleton.segments[i % NFT_SEGMENTS_MAX]);
	for (unsigned i = 0; i < NFT_PORTS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof name, "port-of-%07u", i);
		add_port(&skeleton, name, skeleton.segments[0]);
		skeleton.ports[i].virtual_macs = skeleton.virtual_macs[0] = true;
	}
	render(&skeleton, false);
	length = (int)strlen(text);
	print_message("largest skeleton: %d bytes of %d\n", length, NFT_SKELETON_SIZE);
	skeleton = plain();
	length = nft_skeleton_render(&skeleton, false, text, sizeof text);
	for (int size = 1; size <= length; size += 97) {
		char *small = malloc((size_t)size);

		assert_int_equal(nft_skeleton_render(&skeleton, false, small, (size_t)size),
				 -ENOSPC);
		free(small);
	}
	assert_int_equal(nft_skeleton_render(&skeleton, false, text, (size_t)length + 1), length);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_fence_falls_before_any_backup_may_take_over),
		cmocka_unit_test(test_adverts_open_the_fence_for_their_interval),
		cmocka_unit_test(test_a_router_with_many_addresses_keeps_all_of_them_alive),
		cmocka_unit_test(test_the_fence_is_at_the_egress_or_else_at_the_loopback),
		cmocka_unit_test(test_a_node_asks_in_its_own_name_what_it_would_ask_in_that_of_an_address_it_does_not_own),
		cmocka_unit_test(test_only_a_segment_with_a_virtual_mac_has_rules_for_it),
		cmocka_unit_test(test_replies_to_beyond_a_segment_leave_by_it),
		cmocka_unit_test(test_what_is_tagged_is_left_to_its_vlan),
		cmocka_unit_test(test_a_bridge_s_ports_have_fence_and_director_too),
		cmocka_unit_test(test_new_rules_go_into_the_old_tables_unless_told_otherwise),
		cmocka_unit_test(test_source_ranges_are_looked_for_by_their_lengths),
		cmocka_unit_test(test_rules_name_only_sets_that_exist_and_all_of_them),
		cmocka_unit_test(test_pods_are_named_by_their_ranges_or_not_at_all),
		cmocka_unit_test(test_only_its_segment_answers_and_asks_for_an_address),
		cmocka_unit_test(test_the_revision_moves_with_everything_that_changes_the_rules),
		cmocka_unit_test(test_names_that_nftables_cannot_say_are_refused),
		cmocka_unit_test(test_the_largest_skeleton_has_room_and_a_small_buffer_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
