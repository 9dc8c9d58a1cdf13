/* Which elements a port with its endpoints needs, per data plane; and which slot is whose. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/random.h"
#include "nft/desired.h"
#include "test/unit/unit.h"

struct lines {
	char text[65536];
	size_t length;
	int count, fail_at;
};

static int collect(void *userdata, const struct nft_element *element)
{
	struct lines *lines = userdata;

	char text[NFT_ELEMENT_TEXT_SIZE];
	const char *rest;

	if (++lines->count == lines->fail_at)
		return -12;
	nft_element_format(element, text);
	rest = strstr(text, " {");
	lines->length += (size_t)snprintf(lines->text + lines->length,
					  sizeof lines->text - lines->length, "%.*s%s%s\n",
					  (int)(rest - text), text, element->exclusive ? "!" : "",
					  rest);
	assert_true(lines->length < sizeof lines->text);
	return 0;
}

/* Every port that is not only announced is counted, endpoints or not: what its owner does with it says where. */
#define ARRIVED "inet arrived4 { 192.0.2.10 . tcp . 22 }\n"
#define COUNTED "netdev unsettled4 { 192.0.2.10 . tcp . 22 }\n" ARRIVED
#define HERE	"netdev here4 { 192.0.2.10 . tcp . 22 }\n" ARRIVED

static struct base_address address(const char *text)
{
	struct base_address parsed = { 0 };

	if (*text)
		assert_true(base_address_parse(text, &parsed));
	return parsed;
}

static struct nft_endpoint endpoint(const char *text, uint16_t port, bool local, const char *node)
{
	return (struct nft_endpoint){ .address = address(text), .port = port, .local = local,
				      .node = address(node) };
}

static void test_an_address_is_known_to_the_tables_that_its_data_plane_needs(void **state)
{
	static const struct {
		const char *name, *address;
		enum nft_dataplane dataplane;
		const char *expected;
	} rows[] = {
		{ "director", "192.0.2.10", NFT_DATAPLANE_DIRECTOR,
		  "netdev vips4 { 192.0.2.10 }\n"
		  "arp vips4 { 192.0.2.10 : 0x00000003 }\n"
		  "guard vips4 { 192.0.2.10 }\n"
		  "inet vips4 { 192.0.2.10 }\n" },
		{ "nat: the owner passes nothing on", "192.0.2.10", NFT_DATAPLANE_NAT,
		  "netdev vips4 { 192.0.2.10 }\n"
		  "arp vips4 { 192.0.2.10 : 0x00000003 }\n"
		  "guard vips4 { 192.0.2.10 }\n"
		  "inet vips4 { 192.0.2.10 }\n" },
		{ "announce: only the fence", "192.0.2.10", NFT_DATAPLANE_ANNOUNCE,
		  "netdev vips4 { 192.0.2.10 }\n"
		  "arp vips4 { 192.0.2.10 : 0x00000003 }\n" },
		{ "director, IPv6: a number where the fence looks", "2001:db8::10",
		  NFT_DATAPLANE_DIRECTOR,
		  "netdev vips6 { 0x20010db8000000000000000000000010 }\n"
		  "guard vips6 { 2001:db8::10 }\n"
		  "inet vips6 { 2001:db8::10 }\n" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct lines lines = { .fail_at = 0 };
		struct base_address vip = address(rows[i].address);

		assert_int_equal(nft_emit_vip(&vip, rows[i].dataplane, 3, NULL, collect, &lines), 0);
		assert_string_equal(lines.text, rows[i].expected);
	}
}

static void test_a_virtual_mac_is_said_to_the_rules(void **state)
{
	static const struct base_mac macs[] = { { { 0, 0, 0x5e, 0, 1, 7 } },
						{ { 0, 0, 0x5e, 0, 2, 255 } } };
	static const struct {
		const char *address, *expected;
	} rows[] = {
		{ "192.0.2.10", "netdev virtual4 { 192.0.2.10 : 00:00:5e:00:01:07 }\n"
				"netdev vips4 { 192.0.2.10 }\n"
				"arp vips4 { 192.0.2.10 : 0x00000003 }\n" },
		{ "2001:db8::10", "netdev virtual6 { 0x20010db8000000000000000000000010 : "
				  "00:00:5e:00:02:ff }\n"
				  "netdev vips6 { 0x20010db8000000000000000000000010 }\n" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct lines lines = { .fail_at = 0 };
		struct base_address vip = address(rows[i].address);

		assert_int_equal(nft_emit_vip(&vip, NFT_DATAPLANE_ANNOUNCE, 3, &macs[i], collect, &lines),
				 0);
		assert_string_equal(lines.text, rows[i].expected);
	}
}

/* What is in `expected` is all that is emitted; "!" marks an exclusive map. */
static void test_one_endpoint_is_one_entry_where_it_is_needed(void **state)
{
	static const struct {
		const char *name, *vip;
		uint8_t protocol;
		enum nft_dataplane dataplane;
		const char *address;
		bool local;
		const char *node, *expected;
	} rows[] = {
		{ "director, the endpoint is elsewhere: forwarded there, translated there",
		  "192.0.2.10", IPPROTO_TCP, NFT_DATAPLANE_DIRECTOR, "10.244.2.5", false,
		  "192.0.2.2",
		  "netdev node4 { 192.0.2.10 . tcp . 22 : 192.0.2.2 }\n"
		  "inet arrived4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet service4 { 192.0.2.10 . tcp . 22 : 10.244.2.5 . 2222 }\n"
		  "inet hairpin4 { 10.244.2.5 . 10.244.2.5 }\n"
		  "inet reverse4! { 10.244.2.5 . tcp . 2222 : 192.0.2.10 . 22 }\n"
		  "netdev onenode4! { 192.0.2.10 : 192.0.2.2 }\n" },
		{ "director, the endpoint is here: nothing is forwarded", "192.0.2.10", IPPROTO_TCP,
		  NFT_DATAPLANE_DIRECTOR, "10.244.1.5", true, "192.0.2.1",
		  "netdev here4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet arrived4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet service4 { 192.0.2.10 . tcp . 22 : 10.244.1.5 . 2222 }\n"
		  "inet hairpin4 { 10.244.1.5 . 10.244.1.5 }\n"
		  "inet local4 { 10.244.1.5 }\n"
		  "inet reverse4! { 10.244.1.5 . tcp . 2222 : 192.0.2.10 . 22 }\n"
		  "netdev onenode4! { 192.0.2.10 }\n" },
		{ "director, the endpoint's node is off the segment: the owner translates",
		  "192.0.2.10", IPPROTO_TCP, NFT_DATAPLANE_DIRECTOR, "10.244.3.5", false, "",
		  "netdev here4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet arrived4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet service4 { 192.0.2.10 . tcp . 22 : 10.244.3.5 . 2222 }\n"
		  "inet hairpin4 { 10.244.3.5 . 10.244.3.5 }\n"
		  "inet unplaced4 { 10.244.3.5 }\n"
		  "inet reverse4! { 10.244.3.5 . tcp . 2222 : 192.0.2.10 . 22 }\n"
		  "netdev onenode4! { 192.0.2.10 }\n" },
		{ "nat: the owner translates", "192.0.2.10", IPPROTO_TCP, NFT_DATAPLANE_NAT,
		  "10.244.2.5", false, "192.0.2.2",
		  "netdev here4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet arrived4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet service4 { 192.0.2.10 . tcp . 22 : 10.244.2.5 . 2222 }\n"
		  "inet hairpin4 { 10.244.2.5 . 10.244.2.5 }\n"
		  "inet unplaced4 { 10.244.2.5 }\n"
		  "inet reverse4! { 10.244.2.5 . tcp . 2222 : 192.0.2.10 . 22 }\n" },
		{ "nat, and the endpoint is here: another owner asks it itself, too", "192.0.2.10", IPPROTO_TCP,
		  NFT_DATAPLANE_NAT, "10.244.1.5", true, "192.0.2.1",
		  "netdev here4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet arrived4 { 192.0.2.10 . tcp . 22 }\n"
		  "inet service4 { 192.0.2.10 . tcp . 22 : 10.244.1.5 . 2222 }\n"
		  "inet hairpin4 { 10.244.1.5 . 10.244.1.5 }\n"
		  "inet local4 { 10.244.1.5 }\n"
		  "inet unplaced4 { 10.244.1.5 }\n"
		  "inet reverse4! { 10.244.1.5 . tcp . 2222 : 192.0.2.10 . 22 }\n" },
		{ "announce: the CNI balances", "192.0.2.10", IPPROTO_TCP, NFT_DATAPLANE_ANNOUNCE,
		  "10.244.2.5", false, "192.0.2.2", "" },
		{ "UDP has no connection that could be known too late", "192.0.2.10", IPPROTO_UDP,
		  NFT_DATAPLANE_DIRECTOR, "10.244.2.5", false, "192.0.2.2",
		  "netdev node4 { 192.0.2.10 . udp . 22 : 192.0.2.2 }\n"
		  "inet arrived4 { 192.0.2.10 . udp . 22 }\n"
		  "inet service4 { 192.0.2.10 . udp . 22 : 10.244.2.5 . 2222 }\n"
		  "inet hairpin4 { 10.244.2.5 . 10.244.2.5 }\n"
		  "netdev onenode4! { 192.0.2.10 : 192.0.2.2 }\n" },
		{ "SCTP is called by its name", "192.0.2.10", IPPROTO_SCTP, NFT_DATAPLANE_NAT,
		  "10.244.2.5", false, "192.0.2.2",
		  "netdev here4 { 192.0.2.10 . sctp . 22 }\n"
		  "inet arrived4 { 192.0.2.10 . sctp . 22 }\n"
		  "inet service4 { 192.0.2.10 . sctp . 22 : 10.244.2.5 . 2222 }\n"
		  "inet hairpin4 { 10.244.2.5 . 10.244.2.5 }\n"
		  "inet unplaced4 { 10.244.2.5 }\n" },
		{ "IPv6", "2001:db8::10", IPPROTO_TCP, NFT_DATAPLANE_DIRECTOR, "fd00::2:5", false,
		  "2001:db8::2",
		  "netdev node6 { 2001:db8::10 . tcp . 22 : 2001:db8::2 }\n"
		  "inet arrived6 { 2001:db8::10 . tcp . 22 }\n"
		  "inet service6 { 2001:db8::10 . tcp . 22 : fd00::2:5 . 2222 }\n"
		  "inet hairpin6 { fd00::2:5 . fd00::2:5 }\n"
		  "inet reverse6! { fd00::2:5 . tcp . 2222 : 2001:db8::10 . 22 }\n"
		  "netdev onenode6! { 2001:db8::10 : 2001:db8::2 }\n" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct nft_endpoint one =
			endpoint(rows[i].address, 2222, rows[i].local, rows[i].node);
		struct nft_port port = { .address = address(rows[i].vip),
					 .protocol = rows[i].protocol,
					 .port = 22,
					 .dataplane = rows[i].dataplane,
					 .endpoint_count = 1,
					 .endpoints = &one };
		struct lines lines = { .fail_at = 0 };

		assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
		if (strcmp(lines.text, rows[i].expected) != 0)
			fail_msg("%s:\n%s", rows[i].name, lines.text);
	}
}

static void test_a_port_without_endpoints_has_no_entry_and_is_refused_by_the_rules(void **state)
{
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = IPPROTO_TCP,
				 .port = 22 };
	struct lines lines = { .fail_at = 0 };

	(void)state;
	assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
	assert_string_equal(lines.text, COUNTED);
}

/* A range inside another one of the same key makes the kernel refuse the whole transaction. */
static void test_source_ranges_are_those_of_the_family_without_what_others_cover(void **state)
{
	static const char *const texts[] = { "198.51.100.0/24", "10.1.0.0/16",   "10.0.0.0/8",
					     "10.0.0.0/8",      "10.255.0.1/32", "203.0.113.7/24",
					     "2001:db8:f::/48" };
	struct base_prefix ranges[BASE_COUNT_OF(texts)];
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .dataplane = NFT_DATAPLANE_NAT,
				 .range_count = BASE_COUNT_OF(texts),
				 .ranges = ranges };
	struct lines lines = { .fail_at = 0 };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(texts); i++)
		assert_true(base_prefix_parse(texts[i], &ranges[i]));
	nft_ranges_sort(ranges, BASE_COUNT_OF(ranges));
	assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
	assert_string_equal(lines.text,
			    HERE "inet ranged4 { 192.0.2.10 . tcp . 22 }\n"
			    "inet source4 { 192.0.2.10 . tcp . 22 . 10.128.0.0 }\n"
			    "inet source4 { 192.0.2.10 . tcp . 22 . 198.51.100.128 }\n"
			    "inet source4 { 192.0.2.10 . tcp . 22 . 203.0.113.128 }\n");
}

/* Ranges of the other family alone still mean "not everybody". */
static void test_ranges_of_the_other_family_alone_let_nobody_in(void **state)
{
	struct base_prefix range;
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .range_count = 1,
				 .ranges = &range };
	struct lines lines = { .fail_at = 0 };

	(void)state;
	assert_true(base_prefix_parse("2001:db8:f::/48", &range));
	assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
	assert_string_equal(lines.text, COUNTED "inet ranged4 { 192.0.2.10 . tcp . 22 }\n");
}

static unsigned count_of(const char *text, const char *what)
{
	unsigned count = 0;

	for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
		count++;
	return count;
}

static void test_several_endpoints_share_the_slots_and_the_owner_knows_the_nodes(void **state)
{
	static const struct {
		const char *name;
		bool affinity;
		enum nft_dataplane dataplane;
		const char *slots, *nodes;
	} rows[] = {
		{ "by flow", false, NFT_DATAPLANE_DIRECTOR, "inet slotflow4 {",
		  "netdev nodeflow4 {" },
		{ "by client", true, NFT_DATAPLANE_DIRECTOR, "inet slotclient4 {",
		  "netdev nodeclient4 {" },
		{ "nat", false, NFT_DATAPLANE_NAT, "inet slotflow4 {", NULL },
	};
	struct nft_endpoint three[] = { endpoint("10.244.1.5", 22, true, "192.0.2.1"),
					endpoint("10.244.2.5", 22, false, "192.0.2.2"),
					endpoint("10.244.3.5", 22, false, "") };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct nft_port port = { .address = address("192.0.2.10"),
					 .protocol = IPPROTO_TCP,
					 .port = 22,
					 .client_affinity = rows[i].affinity,
					 .dataplane = rows[i].dataplane,
					 .endpoint_count = 3,
					 .endpoints = three };
		struct lines lines = { .fail_at = 0 };
		unsigned here, there, off;

		assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
		ASSERT_ROW(rows[i].name, count_of(lines.text, rows[i].slots) == NFT_SLOTS);
		here = count_of(lines.text, " : 10.244.1.5 . 22 }");
		there = count_of(lines.text, " : 10.244.2.5 . 22 }");
		off = count_of(lines.text, " : 10.244.3.5 . 22 }");
		ASSERT_ROW(rows[i].name, here + there + off == NFT_SLOTS);
		ASSERT_ROW(rows[i].name, here > 0 && there > 0 && off > 0);
		ASSERT_ROW(rows[i].name, count_of(lines.text, "service4") == 0);
		if (!rows[i].nodes) {
			ASSERT_ROW(rows[i].name, count_of(lines.text, "netdev node") == 0);
			continue;
		}
		/* Only what is neither here nor off the segment is sent on. */
		ASSERT_ROW(rows[i].name, count_of(lines.text, rows[i].nodes) == there);
		ASSERT_ROW(rows[i].name, count_of(lines.text, " : 192.0.2.2 }") == there + 1);
		ASSERT_ROW(rows[i].name, count_of(lines.text, "netdev many4 { 192.0.2.10 }") == 1);
		/* Not all of it lives on one other node: fragments cannot follow the address. */
		ASSERT_ROW(rows[i].name,
			   count_of(lines.text, "netdev onenode4! { 192.0.2.10 }") == 2);
	}
}

/* A pod that serves one address alone and another one together with others: which one is a reply of? */
static void test_of_several_pods_each_has_its_own_reverse_entry(void **state)
{
	struct nft_endpoint two[] = { endpoint("10.244.1.5", 22, true, "192.0.2.1"),
				      endpoint("10.244.2.5", 22, false, "192.0.2.2") };
	struct nft_port port = { .address = address("192.0.2.11"),
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .dataplane = NFT_DATAPLANE_NAT,
				 .endpoint_count = 2,
				 .endpoints = two };
	struct lines lines = { .fail_at = 0 };

	(void)state;
	assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
	assert_int_equal(
		count_of(lines.text, "inet reverse4! { 10.244.1.5 . tcp . 22 : 192.0.2.11 . 22 }"), 1);
	assert_int_equal(
		count_of(lines.text, "inet reverse4! { 10.244.2.5 . tcp . 22 : 192.0.2.11 . 22 }"), 1);
}

/* Slots stand in a map of their protocol: one for all would be asked for TCP alone. */
static void test_slots_of_each_protocol_have_a_map_of_their_own(void **state)
{
	static const struct {
		uint8_t protocol;
		const char *flow, *client;
	} cases[] = { { IPPROTO_TCP, "inet slotflow4 {", "inet slotclient4 {" },
		      { IPPROTO_UDP, "inet slotflowudp4 {", "inet slotclientudp4 {" },
		      { IPPROTO_SCTP, "inet slotflowsctp4 {", "inet slotclientsctp4 {" } };
	struct nft_endpoint two[] = { endpoint("10.244.1.5", 22, true, "192.0.2.1"),
				      endpoint("10.244.2.5", 22, false, "192.0.2.2") };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(cases); i++)
		for (int client = 0; client < 2; client++) {
			struct nft_port port = { .address = address("192.0.2.10"),
						 .protocol = cases[i].protocol,
						 .port = 53,
						 .client_affinity = client,
						 .endpoint_count = 2,
						 .endpoints = two };
			struct lines lines = { .fail_at = 0 };

			assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
			assert_int_equal(
				count_of(lines.text, client ? cases[i].client : cases[i].flow),
				NFT_SLOTS);
		}
}

/* Held: everything as before, and said of the port and of its endpoint. */
static void test_a_held_port_keeps_its_endpoints_and_says_so(void **state)
{
	struct nft_endpoint one = endpoint("10.244.1.5", 2222, true, "192.0.2.1");
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .held = one.held = true,
				 .endpoint_count = 1,
				 .endpoints = &one };
	struct lines lines = { .fail_at = 0 };

	(void)state;
	assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
	assert_int_equal(count_of(lines.text, "inet held4 { 192.0.2.10 . tcp . 22 }"), 1);
	assert_int_equal(count_of(lines.text, "inet heldend4 { 10.244.1.5 . tcp . 2222 }"), 1);
	assert_int_equal(count_of(lines.text, "inet service4 { 192.0.2.10 . tcp . 22 : "), 1);
	port.held = one.held = false;
	lines = (struct lines){ .fail_at = 0 };
	assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
	assert_int_equal(count_of(lines.text, "held"), 0);
}

/* The VM that is being migrated to this node speaks with the Service's address at once. */
static void test_where_a_vm_may_arrive_is_prepared(void **state)
{
	static const char wanted[] = "inet reverse4! { 10.244.2.7 . tcp . 2222 : 192.0.2.10 . 22 }";
	struct nft_endpoint two[] = { endpoint("10.244.1.5", 2222, false, "192.0.2.1"),
				      endpoint("10.244.3.5", 2222, false, "192.0.2.3") };
	struct nft_endpoint here = endpoint("10.244.2.7", 2222, true, "192.0.2.2");
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .endpoints = two,
				 .prepared_count = 1,
				 .prepared = &here };

	(void)state;
	for (port.endpoint_count = 0; port.endpoint_count <= 2; port.endpoint_count++) {
		struct lines lines = { .fail_at = 0 };

		assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
		assert_int_equal(count_of(lines.text, wanted), 1);
		assert_int_equal(count_of(lines.text, "10.244.2.7"), 1);
	}
}

/* With two VMs nobody can say whose the other ports are, before a migration and in it. */
static void test_where_a_vm_may_arrive_with_every_port_is_prepared(void **state)
{
	static const char wanted[] = "inet wholereverse4! { 10.244.2.7 : 192.0.2.10 }";
	struct nft_endpoint two[] = { endpoint("10.244.1.5", 0, false, "192.0.2.1"),
				      endpoint("10.244.3.5", 0, false, "192.0.2.3") };
	struct nft_endpoint here = endpoint("10.244.2.7", 0, true, "192.0.2.2");
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = 255,
				 .endpoints = two,
				 .prepared_count = 1,
				 .prepared = &here };

	(void)state;
	for (port.endpoint_count = 0; port.endpoint_count <= 2; port.endpoint_count++) {
		struct lines lines = { .fail_at = 0 };

		assert_int_equal(nft_emit_whole(&port, collect, &lines), 0);
		assert_int_equal(count_of(lines.text, wanted), port.endpoint_count < 2);
		assert_int_equal(count_of(lines.text, "10.244.2.7"), port.endpoint_count < 2);
		assert_int_equal(count_of(lines.text, "inet whole4 {"), port.endpoint_count == 1);
	}
}

/* Its replies take another way out than this node, unless this node is who asked. */
static void test_an_attached_endpoint_is_asked_in_the_node_s_name(void **state)
{
	struct nft_endpoint one = endpoint("10.50.0.9", 22, true, "192.0.2.1");
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .endpoint_count = 1,
				 .endpoints = &one };

	(void)state;
	for (int attached = 0; attached < 2; attached++) {
		struct lines lines = { .fail_at = 0 };

		one.attached = attached;
		assert_int_equal(nft_emit_port(&port, collect, &lines), 0);
		assert_int_equal(count_of(lines.text, "inet service4 { 192.0.2.10 . tcp . 22 : 10.50.0.9"), 1);
		assert_int_equal(count_of(lines.text, "inet local4 { 10.50.0.9 }"), !attached);
		assert_int_equal(count_of(lines.text, "inet unplaced4 { 10.50.0.9 }"), attached);
		assert_int_equal(count_of(lines.text, "inet attached4 { 10.50.0.9 }"), attached);
		assert_int_equal(count_of(lines.text, "inet reverse4! { 10.50.0.9"), !attached);
	}
}

/* Its address on another node is of another order, and hashes to something else: neither may matter. */
static void test_a_vm_that_moves_keeps_its_slots(void **state)
{
	struct nft_endpoint before[] = { endpoint("10.244.1.5", 22, true, "192.0.2.1"),
					 endpoint("10.244.2.5", 22, false, "192.0.2.2"),
					 endpoint("10.244.3.5", 22, false, "192.0.2.3") };
	struct nft_endpoint after[3];
	uint16_t slots_before[NFT_SLOTS], slots_after[NFT_SLOTS];
	unsigned moved = 0;

	(void)state;
	for (int i = 0; i < 3; i++)
		before[i].vm = 1000 + (uint64_t)i * 7919;
	memcpy(after, before, sizeof before);
	after[0].address = address("10.244.9.200");
	nft_slots_fill(before, 3, slots_before);
	nft_slots_fill(after, 3, slots_after);
	assert_memory_equal(slots_before, slots_after, sizeof slots_before);
	for (int i = 0; i < 3; i++) /* without the number of the VM it would matter */
		before[i].vm = after[i].vm = 0;
	nft_slots_fill(before, 3, slots_before);
	nft_slots_fill(after, 3, slots_after);
	for (int i = 0; i < NFT_SLOTS; i++)
		moved += slots_before[i] != slots_after[i];
	assert_true(moved > NFT_SLOTS / 10);
}

static void test_a_callback_that_fails_ends_it(void **state)
{
	struct base_prefix range;
	struct nft_endpoint two[] = { endpoint("10.244.1.5", 22, true, "192.0.2.1"),
				      endpoint("10.244.2.5", 22, false, "192.0.2.2") };
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .range_count = 1,
				 .ranges = &range,
				 .endpoints = two };

	(void)state;
	assert_true(base_prefix_parse("10.0.0.0/8", &range));
	for (port.endpoint_count = 1; port.endpoint_count <= 2; port.endpoint_count++) {
		struct lines all = { .fail_at = 0 };

		assert_int_equal(nft_emit_port(&port, collect, &all), 0);
		for (int n = 1; n <= all.count; n++) {
			struct lines lines = { .fail_at = n };

			assert_int_equal(nft_emit_port(&port, collect, &lines), -12);
			assert_int_equal(lines.count, n);
		}
	}
}

/* An address that is one VM's as a whole; a port of its own would come before it. */
static void test_every_port_of_an_address_goes_to_one_vm(void **state)
{
	struct nft_endpoint two[] = { endpoint("10.244.2.5", 0, false, "192.0.2.2"),
				      endpoint("10.244.3.5", 0, false, "192.0.2.3") };
	struct base_prefix ranges[2];
	struct nft_port port = { .address = address("192.0.2.10"),
				 .protocol = 255,
				 .dataplane = NFT_DATAPLANE_DIRECTOR,
				 .range_count = 2,
				 .ranges = ranges,
				 .endpoint_count = 1,
				 .endpoints = two };
	struct lines lines = { .fail_at = 0 };

	(void)state;
	assert_true(base_prefix_parse("198.51.100.0/24", &ranges[0]));
	assert_true(base_prefix_parse("203.0.113.9/32", &ranges[1]));
	assert_int_equal(nft_emit_whole(&port, collect, &lines), 0);
	assert_string_equal(lines.text,
			    "inet wholeranged4 { 192.0.2.10 }\n"
			    "inet wholesource4 { 192.0.2.10 . 198.51.100.128 }\n"
			    "inet wholesourcehost4 { 192.0.2.10 . 203.0.113.9 }\n"
			    "inet hairpin4 { 10.244.2.5 . 10.244.2.5 }\n"
			    "netdev onenode4! { 192.0.2.10 : 192.0.2.2 }\n"
			    "inet whole4 { 192.0.2.10 : 10.244.2.5 }\n"
			    "inet wholereverse4! { 10.244.2.5 : 192.0.2.10 }\n"
			    "netdev many4 { 192.0.2.10 }\n"
			    "netdev wholenode4 { 192.0.2.10 : 192.0.2.2 }\n");
	/* Which of two it should be nobody can say; and what is only announced is not ours. */
	lines = (struct lines){ .fail_at = 0 };
	port.endpoint_count = 2;
	assert_int_equal(nft_emit_whole(&port, collect, &lines), 0);
	port.endpoint_count = 0;
	assert_int_equal(nft_emit_whole(&port, collect, &lines), 0);
	port.endpoint_count = 1;
	port.dataplane = NFT_DATAPLANE_ANNOUNCE;
	assert_int_equal(nft_emit_whole(&port, collect, &lines), 0);
	assert_string_equal(lines.text, "");
	for (int n = 1; n <= 9; n++) {
		lines = (struct lines){ .fail_at = n };
		port.dataplane = NFT_DATAPLANE_DIRECTOR;
		assert_int_equal(nft_emit_whole(&port, collect, &lines), -12);
		assert_int_equal(lines.count, n);
	}
}

static void test_a_peer_is_known_by_its_mac(void **state)
{
	struct base_mac mac = { { 2, 0, 0, 0, 0, 0xab } };
	struct lines lines = { .fail_at = 0 };

	(void)state;
	assert_int_equal(nft_emit_peer(&mac, collect, &lines), 0);
	assert_string_equal(lines.text, "netdev peers { 02:00:00:00:00:ab }\n"
				       "inet members { 02:00:00:00:00:ab }\n");
}

static void make_endpoints(struct nft_endpoint *endpoints, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		endpoints[i] = (struct nft_endpoint){
			.address = base_address_ipv4(10, 244, (uint8_t)(i / 200 + 1),
						     (uint8_t)(i % 200 + 2)),
			.port = 22,
		};
}

static bool same(const struct nft_endpoint *a, const struct nft_endpoint *b)
{
	return base_address_equal(&a->address, &b->address) && a->port == b->port;
}

static void test_slots_do_not_depend_on_the_order_in_which_endpoints_are_named(void **state)
{
	struct base_random random = { 1 };

	(void)state;
	for (unsigned count = 1; count <= 40; count++) {
		struct nft_endpoint sorted[40], mixed[40];
		uint16_t expected[NFT_SLOTS], slots[NFT_SLOTS];

		make_endpoints(sorted, count);
		/* Some share an address and differ in their ports. */
		for (unsigned i = 1; i < count; i += 3) {
			sorted[i].address = sorted[i - 1].address;
			sorted[i].port = i & 2 ? 21 : 0x1616;
		}
		nft_slots_fill(sorted, count, expected);
		for (int round = 0; round < 20; round++) {
			memcpy(mixed, sorted, sizeof mixed);
			for (unsigned i = count; i > 1; i--) {
				unsigned j = (unsigned)base_random_below(&random, i);
				struct nft_endpoint swap = mixed[i - 1];

				mixed[i - 1] = mixed[j];
				mixed[j] = swap;
			}
			nft_slots_fill(mixed, count, slots);
			for (unsigned slot = 0; slot < NFT_SLOTS; slot++)
				assert_true(same(&mixed[slots[slot]], &sorted[expected[slot]]));
		}
	}
}

/* The same on every node and in every version: a change of the hash would move live connections. */
static void test_slots_are_the_same_in_every_version(void **state)
{
	static const struct {
		unsigned count;
		uint64_t hash; /* of all slots */
	} rows[] = { { 1, UINT64_C(0x99a289429e208ad7) },
		     { 2, UINT64_C(0x72e5a7ec27479b56) },
		     { 3, UINT64_C(0x6489c3d3f0779fdf) },
		     { 20, UINT64_C(0xb80678ffe3364dc8) } };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct nft_endpoint endpoints[20];
		uint8_t owners[NFT_SLOTS];
		uint16_t slots[NFT_SLOTS];

		make_endpoints(endpoints, rows[i].count);
		nft_slots_fill(endpoints, rows[i].count, slots);
		for (unsigned slot = 0; slot < NFT_SLOTS; slot++)
			owners[slot] = (uint8_t)slots[slot];
		if (base_hash(owners, sizeof owners) != rows[i].hash)
			fail_msg("%u endpoints: 0x%llx", rows[i].count,
				 (unsigned long long)base_hash(owners, sizeof owners));
	}
}

/* Maglev, section 5.3: even shares, and few slots of the survivors move. Limits are twice the measured. */
static void test_load_is_even_and_a_lost_endpoint_moves_little_else(void **state)
{
	static const struct {
		unsigned count;
		double share_limit, moved_limit; /* greatest share over mean; of survivors' slots */
	} rows[] = { { 2, 1.02, 0.001 }, { 3, 1.02, 0.03 },  { 5, 1.05, 0.06 },
		     { 10, 1.10, 0.10 }, { 20, 1.12, 0.17 }, { 50, 1.30, 0.12 } };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		unsigned count = rows[i].count, greatest = 0, moved = 0, kept = 0;
		struct nft_endpoint all[50], rest[50];
		uint16_t before[NFT_SLOTS], after[NFT_SLOTS];
		unsigned shares[50] = { 0 };

		make_endpoints(all, count);
		nft_slots_fill(all, count, before);
		for (unsigned slot = 0; slot < NFT_SLOTS; slot++)
			if (++shares[before[slot]] > greatest)
				greatest = shares[before[slot]];
		for (unsigned lost = 0; lost < count; lost++) {
			memcpy(rest, all, lost * sizeof *all);
			memcpy(rest + lost, all + lost + 1, (count - lost - 1) * sizeof *all);
			nft_slots_fill(rest, count - 1, after);
			for (unsigned slot = 0; slot < NFT_SLOTS; slot++) {
				if (before[slot] == lost)
					continue;
				kept++;
				moved += !same(&all[before[slot]], &rest[after[slot]]);
			}
		}
		print_message("%2u endpoints: greatest share %.3f of the mean; one lost moves "
			      "%.1f%% of the others' slots\n",
			      count, greatest * (double)count / NFT_SLOTS, 100.0 * moved / kept);
		assert_true(greatest * (double)count / NFT_SLOTS <= rows[i].share_limit);
		assert_true((double)moved / kept <= rows[i].moved_limit);
	}
}

static void test_more_endpoints_than_slots_fill_every_slot_once(void **state)
{
	static struct nft_endpoint many[1100];
	uint16_t slots[NFT_SLOTS];
	bool used[1100] = { false };

	(void)state;
	make_endpoints(many, 1100);
	nft_slots_fill(many, 1100, slots);
	for (unsigned slot = 0; slot < NFT_SLOTS; slot++) {
		assert_true(slots[slot] < 1100);
		assert_false(used[slots[slot]]);
		used[slots[slot]] = true;
	}
	/* Two that are the same (an EndpointSlice listed twice) do no harm. */
	many[1] = many[0];
	nft_slots_fill(many, 2, slots);
	for (unsigned slot = 0; slot < NFT_SLOTS; slot++)
		assert_true(slots[slot] < 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_address_is_known_to_the_tables_that_its_data_plane_needs),
		cmocka_unit_test(test_a_virtual_mac_is_said_to_the_rules),
		cmocka_unit_test(test_one_endpoint_is_one_entry_where_it_is_needed),
		cmocka_unit_test(
			test_a_port_without_endpoints_has_no_entry_and_is_refused_by_the_rules),
		cmocka_unit_test(
			test_source_ranges_are_those_of_the_family_without_what_others_cover),
		cmocka_unit_test(test_ranges_of_the_other_family_alone_let_nobody_in),
		cmocka_unit_test(
			test_several_endpoints_share_the_slots_and_the_owner_knows_the_nodes),
		cmocka_unit_test(test_of_several_pods_each_has_its_own_reverse_entry),
		cmocka_unit_test(test_slots_of_each_protocol_have_a_map_of_their_own),
		cmocka_unit_test(test_a_held_port_keeps_its_endpoints_and_says_so),
		cmocka_unit_test(test_where_a_vm_may_arrive_is_prepared),
		cmocka_unit_test(test_where_a_vm_may_arrive_with_every_port_is_prepared),
		cmocka_unit_test(test_an_attached_endpoint_is_asked_in_the_node_s_name),
		cmocka_unit_test(test_a_vm_that_moves_keeps_its_slots),
		cmocka_unit_test(test_a_callback_that_fails_ends_it),
		cmocka_unit_test(test_every_port_of_an_address_goes_to_one_vm),
		cmocka_unit_test(test_a_peer_is_known_by_its_mac),
		cmocka_unit_test(
			test_slots_do_not_depend_on_the_order_in_which_endpoints_are_named),
		cmocka_unit_test(test_slots_are_the_same_in_every_version),
		cmocka_unit_test(test_load_is_even_and_a_lost_endpoint_moves_little_else),
		cmocka_unit_test(test_more_endpoints_than_slots_fill_every_slot_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
