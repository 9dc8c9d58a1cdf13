/* ARP and neighbour discovery as bytes: RFC 826, 5227, 4861, and RFC 9568 section 6.4. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "test/unit/unit.h"
#include "vrrp/frame.h"
#include "vrrp/packet.h"

static const struct base_mac our_mac = { { 2, 0, 0, 0, 0, 1 } };
static const struct base_mac peer_mac = { { 2, 0, 0, 0, 0, 2 } };

/* Captured from Debian 12's keepalived. */
static const uint8_t keepalived_arp[] = {
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06,
	0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01,
	0xc0, 0x00, 0x02, 0x64, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0x00, 0x02, 0x64,
};
static const uint8_t keepalived_na[] = {
	0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x86, 0xdd, 0x60,
	0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x88, 0x00, 0x55, 0x9d, 0x20, 0x00,
	0x00, 0x00, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x01, 0x00, 0x02, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01,
};

static struct base_address address(const char *text)
{
	struct base_address parsed;

	assert_true(base_address_parse(text, &parsed));
	return parsed;
}

static bool icmpv6_sum_is_right(const uint8_t *frame, size_t size)
{
	struct base_address source = base_address_from_bytes(BASE_FAMILY_IPV6, frame + 14 + 8);
	struct base_address destination =
		base_address_from_bytes(BASE_FAMILY_IPV6, frame + 14 + 24);
	size_t length = size - 54;

	return vrrp_checksum_finish(vrrp_checksum_pseudo(&source, &destination, 58, length) +
				    vrrp_checksum_add(0, frame + 54, length)) == 0;
}

/* RFC 9568 6.4.1 (erratum 7947): it carries the virtual address, and the MAC it is reached at. */
static void test_a_gratuitous_arp_names_the_address_twice_and_our_mac(void **state)
{
	static const uint8_t request[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,   1, 0x08, 0x06,
		0,    1,    8,    0,    6,    4,    0, 1, 2, 0, 0,   0, 0,    1,
		192,  0,    2,    100,  0,    0,    0, 0, 0, 0, 192, 0, 2,    100,
	};
	uint8_t frame[VRRP_FRAME_SIZE_MAX], reply[sizeof request];
	struct base_address vip = address("192.0.2.100");

	(void)state;
	assert_int_equal(vrrp_frame_announce(&vip, &our_mac, false, frame), sizeof request);
	assert_memory_equal(frame, request, sizeof request);

	memcpy(reply, request, sizeof reply);
	reply[21] = 2;
	memset(reply + 32, 0xff, 6);
	assert_int_equal(vrrp_frame_announce(&vip, &our_mac, true, frame), sizeof reply);
	assert_memory_equal(frame, reply, sizeof reply);
}

/* RFC 9568 6.4.2: R=1 S=0 O=1; RFC 4861 4.4. */
static void test_an_unsolicited_advertisement_overrides_and_says_router(void **state)
{
	static const uint8_t head[] = { 0x33, 0x33, 0,    0,    0, 1, 2, 0, 0,  0,  0,
					1,    0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255 };
	uint8_t frame[VRRP_FRAME_SIZE_MAX];
	struct base_address vip = address("2001:db8::100"), all_nodes = address("ff02::1");

	(void)state;
	assert_int_equal(vrrp_frame_announce(&vip, &our_mac, false, frame), 86);
	assert_memory_equal(frame, head, sizeof head);
	assert_memory_equal(frame + 22, vip.bytes, 16);
	assert_memory_equal(frame + 38, all_nodes.bytes, 16);
	assert_int_equal(frame[54], 136);
	assert_int_equal(frame[58], 0xa0);
	assert_memory_equal(frame + 62, vip.bytes, 16);
	assert_int_equal(frame[78], 2); /* target link-layer address */
	assert_int_equal(frame[79], 1);
	assert_memory_equal(frame + 80, our_mac.bytes, 6);
	assert_true(icmpv6_sum_is_right(frame, 86));
}

static void test_questions_go_to_everybody_or_to_one_and_probes_name_no_sender(void **state)
{
	struct base_address nobody = { 0 }, own = address("192.0.2.1"),
			    target = address("192.0.2.2");
	struct base_address own6 = address("2001:db8::1"), target6 = address("2001:db8::a1:b2c3");
	static const uint8_t group[] = { 0x33, 0x33, 0xff, 0xa1, 0xb2, 0xc3 };
	uint8_t frame[VRRP_FRAME_SIZE_MAX];

	(void)state;
	/* RFC 826 */
	assert_int_equal(vrrp_frame_ask(&target, &own, &our_mac, NULL, frame), 42);
	assert_int_equal(frame[0], 0xff);
	assert_int_equal(frame[21], 1);
	assert_memory_equal(frame + 28, own.bytes, 4);
	assert_memory_equal(frame + 38, target.bytes, 4);
	assert_int_equal(vrrp_frame_ask(&target, &own, &our_mac, &peer_mac, frame), 42);
	assert_memory_equal(frame, peer_mac.bytes, 6);
	/* RFC 5227 2.1.1: a probe has the sender address 0.0.0.0 */
	assert_int_equal(vrrp_frame_ask(&target, &nobody, &our_mac, NULL, frame), 42);
	assert_memory_equal(frame + 28, nobody.bytes, 4);
	/* RFC 4861 4.3, with the source link-layer address; RFC 4862 5.4.2 without */
	assert_int_equal(vrrp_frame_ask(&target6, &own6, &our_mac, NULL, frame), 86);
	assert_memory_equal(frame, group, 6);
	assert_memory_equal(frame + 22, own6.bytes, 16);
	assert_int_equal(frame[38], 0xff);
	assert_memory_equal(frame + 51, target6.bytes + 13, 3);
	assert_int_equal(frame[78], 1);
	assert_memory_equal(frame + 80, our_mac.bytes, 6);
	assert_true(icmpv6_sum_is_right(frame, 86));
	assert_int_equal(vrrp_frame_ask(&target6, &nobody, &our_mac, NULL, frame), 78);
	assert_memory_equal(frame + 22, nobody.bytes, 16);
	assert_true(icmpv6_sum_is_right(frame, 78));
	assert_int_equal(vrrp_frame_ask(&target6, &own6, &our_mac, &peer_mac, frame), 86);
	assert_memory_equal(frame, peer_mac.bytes, 6);
	assert_memory_equal(frame + 38, target6.bytes, 16);
}

/* Byte by byte, into memory that was not clean before. */
static void test_a_solicitation_is_exactly_this(void **state)
{
	static const uint8_t expected[] = {
		0x33, 0x33, 0xff, 0xa1, 0xb2, 0xc3, 2,  0,   0, 0, 0, 1, 0x86, 0xdd, /* */
		0x60, 0,    0,    0,    0,    32,   58, 255,                         /* */
		0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,  0,   0, 0, 0, 0, 0,    0,
		0,    1, /* */
		0xff, 2,    0,    0,    0,    0,    0,  0,   0, 0, 0, 1, 0xff, 0xa1,
		0xb2, 0xc3,                                /* */
		135,  0,    0x78, 0x86, 0,    0,    0,  0, /* */
		0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,  0,   0, 0, 0, 0, 0,    0xa1,
		0xb2, 0xc3, /* */
		1,    1,    2,    0,    0,    0,    0,  1,
	};
	struct base_address own = address("2001:db8::1"), target = address("2001:db8::a1:b2c3");
	uint8_t frame[VRRP_FRAME_SIZE_MAX];

	(void)state;
	memset(frame, 0xaa, sizeof frame);
	assert_int_equal(vrrp_frame_ask(&target, &own, &our_mac, NULL, frame), sizeof expected);
	assert_memory_equal(frame, expected, 56);
	assert_memory_equal(frame + 58, expected + 58, sizeof expected - 58);
	assert_true(icmpv6_sum_is_right(frame, sizeof expected));
	memset(frame, 0xaa, sizeof frame);
	assert_int_equal(vrrp_frame_announce(&own, &our_mac, false, frame), 86);
	for (int i = 59; i < 62; i++)
		assert_int_equal(frame[i], 0); /* reserved */
}

static void test_frames_of_others_say_who_is_where(void **state)
{
	struct vrrp_neighbour_seen seen;
	char text[BASE_ADDRESS_TEXT_SIZE];

	(void)state;
	assert_true(vrrp_frame_read(keepalived_arp, sizeof keepalived_arp, &seen));
	assert_string_equal(base_address_format(&seen.address, text), "192.0.2.100");
	assert_memory_equal(&seen.mac, &our_mac, 6);
	assert_false(seen.answer);
	assert_true(vrrp_frame_read(keepalived_na, sizeof keepalived_na, &seen));
	assert_string_equal(base_address_format(&seen.address, text), "fe80::100");
	assert_memory_equal(&seen.mac, &our_mac, 6);
	assert_true(seen.answer);
}

static void test_what_we_say_is_what_others_read(void **state)
{
	static const struct {
		const char *name, *about, *source; /* source NULL: an announcement */
		bool reply_form, answer, silent;
	} rows[] = {
		{ "gratuitous request", "192.0.2.100", NULL, false, false, false },
		{ "gratuitous reply", "192.0.2.100", NULL, true, true, false },
		{ "unsolicited advertisement", "2001:db8::100", NULL, false, true, false },
		{ "request", "192.0.2.2", "192.0.2.1", false, false, false },
		{ "solicitation", "2001:db8::2", "2001:db8::1", false, false, false },
		{ "probe", "192.0.2.2", "", false, false, true },
		{ "duplicate address detection", "2001:db8::2", "", false, false, true },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_address about = address(rows[i].about), source = { 0 };
		struct vrrp_neighbour_seen seen;
		uint8_t frame[VRRP_FRAME_SIZE_MAX];
		size_t size;

		if (rows[i].source && *rows[i].source)
			source = address(rows[i].source);
		size = rows[i].source
			       ? vrrp_frame_ask(&about, &source, &our_mac, NULL, frame)
			       : vrrp_frame_announce(&about, &our_mac, rows[i].reply_form, frame);
		ASSERT_ROW(rows[i].name, vrrp_frame_read(frame, size, &seen) == !rows[i].silent);
		if (rows[i].silent)
			continue;
		ASSERT_ROW(rows[i].name,
			   base_address_equal(&seen.address, rows[i].source ? &source : &about));
		ASSERT_ROW(rows[i].name, memcmp(&seen.mac, &our_mac, 6) == 0);
		ASSERT_ROW(rows[i].name, seen.answer == rows[i].answer);
	}
}

static void sum_again(uint8_t *frame, size_t size);

/* RFC 4861 4.6: the option that fits the message counts, wherever it stands; else the frame's sender. */
static void test_the_mac_is_that_of_the_option_or_else_of_the_frame(void **state)
{
	static const struct {
		const char *name;
		uint8_t options[32], size, mac; /* its last byte; 0x11 in the frame */
	} rows[] = {
		{ "none", { 0 }, 0, 0x11 },
		{ "target", { 2, 1, 2, 0, 0, 0, 0, 0x22 }, 8, 0x22 },
		{ "source, which does not belong there", { 1, 1, 2, 0, 0, 0, 0, 0x33 }, 8, 0x11 },
		{ "unknown, then target",
		  { 200, 1, 1, 2, 3, 4, 5, 6, 2, 1, 2, 0, 0, 0, 0, 0x22 },
		  16,
		  0x22 },
		{ "unknown and long, then target",
		  { 14, 2, 2, 1, 2, 0, 0, 0, 0, 0x33, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 0x22 },
		  24,
		  0x22 },
		{ "target of another length", { 2, 2, 2, 0, 0, 0, 0, 0x33 }, 16, 0x11 },
		{ "a tail too short for an option", { 2, 1, 2, 0 }, 4, 0x11 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		size_t size = 78u + rows[i].size;
		uint8_t *frame = malloc(size); /* exactly so long */
		struct vrrp_neighbour_seen seen;

		memcpy(frame, keepalived_na, 78);
		memcpy(frame + 78, rows[i].options, rows[i].size);
		frame[11] = 0x11;
		frame[19] = (uint8_t)(24 + rows[i].size);
		sum_again(frame, size);
		ASSERT_ROW(rows[i].name, vrrp_frame_read(frame, size, &seen));
		if (seen.mac.bytes[5] != rows[i].mac)
			fail_msg("%s: 0x%x", rows[i].name, seen.mac.bytes[5]);
		free(frame);
	}
}

static void test_an_arp_reply_says_its_own_mac_whoever_sent_the_frame(void **state)
{
	uint8_t frame[sizeof keepalived_arp];
	struct vrrp_neighbour_seen seen;

	(void)state;
	memcpy(frame, keepalived_arp, sizeof frame);
	frame[11] = 0x11; /* Ethernet */
	frame[27] = 0x22; /* ARP */
	assert_true(vrrp_frame_read(frame, sizeof frame, &seen));
	assert_int_equal(seen.mac.bytes[5], 0x22);
}

static void sum_again(uint8_t *frame, size_t size)
{
	struct base_address source = base_address_from_bytes(BASE_FAMILY_IPV6, frame + 22);
	struct base_address destination = base_address_from_bytes(BASE_FAMILY_IPV6, frame + 38);
	uint16_t sum;

	frame[56] = frame[57] = 0;
	sum = vrrp_checksum_finish(vrrp_checksum_pseudo(&source, &destination, 58, size - 54) +
				   vrrp_checksum_add(0, frame + 54, size - 54));
	frame[56] = (uint8_t)(sum >> 8);
	frame[57] = (uint8_t)sum;
}

static void test_invalid_frames_say_nothing(void **state)
{
	static const struct {
		const char *name;
		bool ipv6;
		uint8_t offset, value;
		bool sum_again, valid;
	} rows[] = {
		{ "another EtherType", false, 13, 0x00, false, false },
		{ "ARP on no Ethernet", false, 15, 6, false, false },
		{ "ARP for no IPv4", false, 16, 0x86, false, false },
		{ "MACs of 8 bytes", false, 18, 8, false, false },
		{ "addresses of 16 bytes", false, 19, 16, false, false },
		{ "reverse ARP", false, 21, 3, false, false },
		/* RFC 4861 7.1.2 */
		{ "an advertisement that was routed", true, 21, 254, false, false },
		{ "code 1", true, 55, 1, true, false },
		{ "wrong checksum", true, 56, 0x54, false, false },
		{ "the target is multicast", true, 62, 0xff, true, false },
		{ "solicited, yet to everybody", true, 58, 0x60, true, false },
		{ "an option of no length", true, 79, 0, true, false },
		{ "longer than it is", true, 19, 33, true, false },
		{ "shorter than an advertisement can be", true, 19, 23, true, false },
		{ "an echo request", true, 54, 128, true, false },
		{ "a router advertisement", true, 54, 134, true, false },
		{ "TCP", true, 20, 6, true, false },
		{ "IP version 4 behind the EtherType of IPv6", true, 14, 0x40, false, false },
		/* and what must not be refused */
		{ "an option that nobody knows", true, 78, 200, true, true },
		{ "traffic class and flow label", true, 15, 0xff, false, true },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		uint8_t frame[VRRP_FRAME_SIZE_MAX];
		size_t size = rows[i].ipv6 ? sizeof keepalived_na : sizeof keepalived_arp;
		struct vrrp_neighbour_seen seen, before;

		memcpy(frame, rows[i].ipv6 ? keepalived_na : keepalived_arp, size);
		frame[rows[i].offset] = rows[i].value;
		if (rows[i].sum_again)
			sum_again(frame, size);
		memset(&seen, 0x5a, sizeof seen);
		before = seen;
		ASSERT_ROW(rows[i].name, vrrp_frame_read(frame, size, &seen) == rows[i].valid);
		if (!rows[i].valid)
			ASSERT_ROW(rows[i].name, memcmp(&seen, &before, sizeof seen) == 0);
	}
}

static void test_a_frame_cut_anywhere_says_nothing(void **state)
{
	(void)state;
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		size_t size = ipv6 ? sizeof keepalived_na : sizeof keepalived_arp;

		for (size_t cut = 0; cut < size; cut++) {
			struct vrrp_neighbour_seen seen;
			uint8_t *copy = malloc(cut ? cut : 1); /* exactly so long */

			memcpy(copy, ipv6 ? keepalived_na : keepalived_arp, cut);
			assert_false(vrrp_frame_read(copy, cut, &seen));
			free(copy);
		}
	}
}

static void test_random_frames_are_read_without_reading_past_them(void **state)
{
	struct base_random random = { 4861 };

	(void)state;
	for (int round = 0; round < 200000; round++) {
		size_t size = (size_t)base_random_below(&random, 130);
		uint8_t *frame = malloc(size ? size : 1);
		struct vrrp_neighbour_seen seen;

		for (size_t i = 0; i < size; i++)
			frame[i] = (uint8_t)base_random_next(&random);
		if (size >= 86) {
			memcpy(frame, keepalived_na, 78);
			frame[19] = (uint8_t)(size - 54);
			sum_again(frame, size);
		}
		vrrp_frame_read(frame, size, &seen);
		free(frame);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_gratuitous_arp_names_the_address_twice_and_our_mac),
		cmocka_unit_test(test_an_unsolicited_advertisement_overrides_and_says_router),
		cmocka_unit_test(
			test_questions_go_to_everybody_or_to_one_and_probes_name_no_sender),
		cmocka_unit_test(test_a_solicitation_is_exactly_this),
		cmocka_unit_test(test_the_mac_is_that_of_the_option_or_else_of_the_frame),
		cmocka_unit_test(test_an_arp_reply_says_its_own_mac_whoever_sent_the_frame),
		cmocka_unit_test(test_frames_of_others_say_who_is_where),
		cmocka_unit_test(test_what_we_say_is_what_others_read),
		cmocka_unit_test(test_invalid_frames_say_nothing),
		cmocka_unit_test(test_a_frame_cut_anywhere_says_nothing),
		cmocka_unit_test(test_random_frames_are_read_without_reading_past_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
