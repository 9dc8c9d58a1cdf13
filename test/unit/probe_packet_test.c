/* What a drill sends over TCP, UDP and ICMP, and what it takes for an answer. */
#include <netinet/in.h>
#include <string.h>

#include "daemon/engine/core/probe_packet.h"
#include "test/unit/unit.h"
#include "vrrp/packet.h"

static struct probe_packet packet(uint8_t protocol, bool six)
{
	struct probe_packet made = { .protocol = protocol,
				     .port = protocol == IPPROTO_ICMP ? 0 : 22,
				     .own_port = 40000,
				     .number = 7,
				     .source_mac = { { 2, 0, 0, 0, 0, 1 } },
				     .target_mac = { { 2, 0, 0, 0, 0, 2 } } };

	assert_true(base_address_parse(six ? "2001:db8::1" : "192.0.2.1", &made.source));
	assert_true(base_address_parse(six ? "2001:db8::10" : "192.0.2.10", &made.target));
	return made;
}

static const struct {
	const char *name;
	uint8_t protocol, in_header;
	bool six;
	size_t size;
} rows[] = {
	{ "ping", IPPROTO_ICMP, IPPROTO_ICMP, false, 14 + 20 + 8 },
	{ "ping of IPv6", IPPROTO_ICMP, IPPROTO_ICMPV6, true, 14 + 40 + 8 },
	{ "TCP", IPPROTO_TCP, IPPROTO_TCP, false, 14 + 20 + 20 },
	{ "TCP over IPv6", IPPROTO_TCP, IPPROTO_TCP, true, 14 + 40 + 20 },
	{ "UDP", IPPROTO_UDP, IPPROTO_UDP, false, 14 + 20 + 8 + 11 },
	{ "UDP over IPv6", IPPROTO_UDP, IPPROTO_UDP, true, 14 + 40 + 8 + 11 },
};

/* Whoever gets it adds it all up to zero. */
static void test_checksums_are_right(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct probe_packet made = packet(rows[i].protocol, rows[i].six);
		uint8_t data[PROBE_PACKET_SIZE_MAX];
		size_t size = probe_packet_build(&made, data), header = rows[i].six ? 40 : 20;
		uint32_t sum = vrrp_checksum_add(0, data + 14 + header, size - 14 - header);

		ASSERT_ROW(rows[i].name, size == rows[i].size);
		ASSERT_ROW(rows[i].name, data[14 + (rows[i].six ? 6 : 9)] == rows[i].in_header);
		if (rows[i].in_header != IPPROTO_ICMP)
			sum += vrrp_checksum_pseudo(&made.source, &made.target, rows[i].in_header,
						    size - 14 - header);
		ASSERT_ROW(rows[i].name, vrrp_checksum_finish(sum) == 0);
		if (!rows[i].six)
			ASSERT_ROW(rows[i].name,
				   vrrp_checksum_finish(vrrp_checksum_add(0, data + 14, 20)) == 0);
	}
}

/* The answer to it: addresses and ports the other way round, and what makes it an answer. */
static size_t answer(const struct probe_packet *asked, uint8_t *data)
{
	struct probe_packet back = *asked;
	size_t body, size;

	back.source = asked->target;
	back.target = asked->source;
	back.port = (uint16_t)(asked->own_port + asked->number);
	back.own_port = asked->protocol == IPPROTO_ICMP ? asked->own_port : asked->port;
	back.number = 0;
	size = probe_packet_build(&back, data);
	body = asked->target.family == BASE_FAMILY_IPV6 ? 54 : 34;
	if (asked->protocol == IPPROTO_ICMP)
		data[body] = asked->target.family == BASE_FAMILY_IPV6 ? 129 : 0;
	if (asked->protocol == IPPROTO_TCP)
		data[body + 13] = 0x12;
	return size;
}

static void test_an_answer_is_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct probe_packet asked = packet(rows[i].protocol, rows[i].six), other;
		uint8_t data[PROBE_PACKET_SIZE_MAX];
		size_t size = probe_packet_build(&asked, data);

		ASSERT_ROW(rows[i].name, !probe_packet_is_answer(&asked, data, size)); /* itself */
		size = answer(&asked, data);
		ASSERT_ROW(rows[i].name, probe_packet_is_answer(&asked, data, size));
		for (size_t shorter = 0; shorter < 14 + (rows[i].six ? 48u : 28u); shorter++)
			ASSERT_ROW(rows[i].name, !probe_packet_is_answer(&asked, data, shorter));
		other = asked;
		other.number += 5; /* late, but of the last ones */
		ASSERT_ROW(rows[i].name, probe_packet_is_answer(&other, data, size));
		other = asked;
		other.own_port += PROBE_PACKET_LAST;
		ASSERT_ROW(rows[i].name, !probe_packet_is_answer(&other, data, size));
		other = packet(rows[i].protocol, !rows[i].six);
		ASSERT_ROW(rows[i].name, !probe_packet_is_answer(&other, data, size));
	}
}

static void test_a_refusal_is_no_answer(void **state)
{
	struct probe_packet asked = packet(IPPROTO_TCP, false);
	uint8_t data[PROBE_PACKET_SIZE_MAX];
	size_t size = answer(&asked, data);

	(void)state;
	data[34 + 13] = 0x14; /* RST and ACK: nobody listens */
	assert_false(probe_packet_is_answer(&asked, data, size));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksums_are_right),
		cmocka_unit_test(test_an_answer_is_one),
		cmocka_unit_test(test_a_refusal_is_no_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
