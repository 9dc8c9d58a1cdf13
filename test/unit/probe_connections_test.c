/* Connections that a drill keeps open: what is a life sign, what is an end. */
#include <netinet/in.h>
#include <string.h>

#include "daemon/engine/core/probe_connections.h"
#include "test/unit/unit.h"

#define NUMBERS 0xfffffffeu /* theirs and ours wrap */

static const uint16_t ports[PROBE_CONNECTIONS] = { 58192, 58193, 58194 };
static struct probe_connection list[PROBE_CONNECTIONS];
static struct probe_segment asked, answer;

static bool hear(uint8_t flags, uint32_t sequence, uint32_t acknowledgement, uint32_t data_size)
{
	const struct probe_segment heard = { ports[1], flags, sequence, acknowledgement,
					     data_size };

	return probe_connections_hear(list, &heard, &answer);
}

static uint32_t kept(void)
{
	uint32_t count, lost;

	probe_connections_count(list, &count, &lost);
	return count;
}

static uint32_t lost(void)
{
	uint32_t count, lost;

	probe_connections_count(list, &count, &lost);
	return lost;
}

/* The second of them is open; the server has said nothing yet. Ours are at NUMBERS + 1, theirs at 1. */
static void open_one(void)
{
	probe_connections_init(list, ports, NUMBERS);
	assert_true(probe_connection_ask(&list[1], &asked));
	assert_int_equal(asked.flags, PROBE_TCP_SYN);
	assert_int_equal(asked.sequence, NUMBERS);
	assert_true(hear(PROBE_TCP_SYN | PROBE_TCP_ACK, 0, NUMBERS + 1, 0));
	assert_int_equal(answer.flags, PROBE_TCP_ACK);
	assert_int_equal(answer.sequence, NUMBERS + 1);
	assert_int_equal(answer.acknowledgement, 1);
	assert_int_equal(answer.own_port, ports[1]);
}

static void test_it_opens(void **state)
{
	(void)state;
	open_one();
	assert_false(probe_connections_are_open(list));
	assert_int_equal(kept(), 1);
	assert_int_equal(lost(), 2);
	/* The acknowledgement was lost, and they say it again. */
	assert_true(hear(PROBE_TCP_SYN | PROBE_TCP_ACK, 0, NUMBERS + 1, 0));
	assert_int_equal(answer.acknowledgement, 1);
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++)
		list[i].state = PROBE_CONNECTION_OPEN;
	assert_true(probe_connections_are_open(list));
}

static void test_nobody_listens(void **state)
{
	(void)state;
	probe_connections_init(list, ports, NUMBERS);
	assert_false(hear(PROBE_TCP_RST | PROBE_TCP_ACK, 0, NUMBERS, 0)); /* of somebody else's */
	assert_int_equal(list[1].state, PROBE_CONNECTION_OPENING);
	assert_false(hear(PROBE_TCP_RST | PROBE_TCP_ACK, 0, NUMBERS + 1, 0));
	assert_int_equal(list[1].state, PROBE_CONNECTION_RESET);
	assert_false(probe_connection_ask(&list[1], &asked));
}

static void test_a_question_is_an_old_byte_and_its_answer_a_life_sign(void **state)
{
	(void)state;
	open_one();
	for (int i = 0; i < 20; i++) {
		assert_true(probe_connection_ask(&list[1], &asked));
		assert_int_equal(asked.flags, PROBE_TCP_ACK);
		assert_int_equal(asked.sequence, NUMBERS);
		assert_int_equal(asked.data_size, 1);
		if (i < 10)
			assert_false(hear(PROBE_TCP_ACK, 1, NUMBERS + 1, 0));
		assert_int_equal(kept(), i < 13);
	}
	assert_int_equal(lost(), 3);
	assert_false(hear(PROBE_TCP_ACK, 1, NUMBERS + 1, 0)); /* it was only slow */
	assert_int_equal(kept(), 1);
}

static void test_what_they_say_is_acknowledged_in_order(void **state)
{
	(void)state;
	open_one();
	assert_true(hear(PROBE_TCP_ACK, 1, NUMBERS + 1, 41)); /* the banner of an SSH server */
	assert_int_equal(answer.acknowledgement, 42);
	assert_true(hear(PROBE_TCP_ACK, 1, NUMBERS + 1, 41)); /* again */
	assert_int_equal(answer.acknowledgement, 42);
	assert_true(hear(PROBE_TCP_ACK, 50, NUMBERS + 1, 8)); /* something before it was lost */
	assert_int_equal(answer.acknowledgement, 42);
}

static void test_a_reset_is_its_end_and_a_forged_one_is_not(void **state)
{
	(void)state;
	open_one();
	assert_false(hear(PROBE_TCP_RST, 7, 0, 0));
	assert_int_equal(kept(), 1);
	assert_false(hear(PROBE_TCP_RST, 1, 0, 0));
	assert_int_equal(kept(), 0);
	assert_false(probe_connection_reset(&list[1], &asked));
	assert_false(hear(PROBE_TCP_ACK, 1, NUMBERS + 1, 0));
	assert_int_equal(kept(), 0);
}

static void test_a_server_that_closes_loses_nothing(void **state)
{
	(void)state;
	open_one();
	assert_true(hear(PROBE_TCP_ACK | PROBE_TCP_FIN, 1, NUMBERS + 1, 3));
	assert_int_equal(answer.flags, PROBE_TCP_RST | PROBE_TCP_ACK);
	assert_int_equal(answer.acknowledgement, 5);
	assert_int_equal(kept(), 0);
	assert_int_equal(lost(), 2);
	assert_false(probe_connection_ask(&list[1], &asked));
}

static void test_what_is_of_no_connection_is_nobodys(void **state)
{
	const struct probe_segment other = { 40000, PROBE_TCP_ACK, 1, NUMBERS + 1, 10 };

	(void)state;
	open_one();
	assert_false(probe_connections_hear(list, &other, &answer));
	assert_false(hear(PROBE_TCP_ACK, 1, NUMBERS + 9, 10));
	assert_int_equal(list[1].received, 1);
}

/* --- as they go over the wire --- */

static void test_a_segment_is_read_as_it_was_built(void **state)
{
	(void)state;
	for (int six = 0; six < 2; six++) {
		struct probe_packet there = { .protocol = IPPROTO_TCP, .port = 22 }, back;
		struct probe_segment got,
			sent = { 58192, PROBE_TCP_ACK, 0x89abcdef, 0x01234567, 1 };
		uint8_t data[PROBE_PACKET_SIZE_MAX];
		size_t size, header = six ? 40 : 20;

		assert_true(base_address_parse(six ? "2001:db8::1" : "192.0.2.1", &there.source));
		assert_true(base_address_parse(six ? "2001:db8::10" : "192.0.2.10", &there.target));
		back = there;
		back.source = there.target;
		back.target = there.source;
		back.port = sent.own_port;
		sent.own_port = 22;
		size = probe_packet_build_segment(&back, &sent, data);
		assert_int_equal(size, 14 + header + 20 + 1);
		assert_true(
			probe_packet_read_segment(&there, data, sizeof data, &got)); /* padded */
		assert_int_equal(got.own_port, 58192);
		assert_int_equal(got.flags, PROBE_TCP_ACK);
		assert_int_equal(got.sequence, 0x89abcdef);
		assert_int_equal(got.acknowledgement, 0x01234567);
		assert_int_equal(got.data_size, 1);
		for (size_t shorter = 0; shorter < 14 + header + 20; shorter++)
			assert_false(probe_packet_read_segment(&there, data, shorter, &got));
		there.port = 80;
		assert_false(probe_packet_read_segment(&there, data, size, &got));
		there.port = 22;
		data[14 + header + 12] = 0xf0; /* a header longer than all of it */
		assert_false(probe_packet_read_segment(&there, data, size, &got));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_opens),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_a_question_is_an_old_byte_and_its_answer_a_life_sign),
		cmocka_unit_test(test_what_they_say_is_acknowledged_in_order),
		cmocka_unit_test(test_a_reset_is_its_end_and_a_forged_one_is_not),
		cmocka_unit_test(test_a_server_that_closes_loses_nothing),
		cmocka_unit_test(test_what_is_of_no_connection_is_nobodys),
		cmocka_unit_test(test_a_segment_is_read_as_it_was_built),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
