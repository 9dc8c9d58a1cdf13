#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/array.h"
#include "base/random.h"
#include "daemon/protocol/message.h"

static struct message sent, got;
static uint8_t data[MESSAGE_SIZE_MAX];

static void fill_router(void)
{
	memset(&sent, 0, sizeof sent);
	sent.type = MESSAGE_ROUTER;
	strcpy(sent.router.name, "lab.ipv4.10");
	strcpy(sent.router.pool, "lab");
	sent.router.virtual_router_id = 10;
	sent.router.family = BASE_FAMILY_IPV4;
	sent.router.version = 3;
	sent.router.leased = true;
	sent.router.interval_ms = 100;
	sent.router.address_count = 1;
	sent.router.addresses[0] = base_address_ipv4(192, 0, 2, 10);
	sent.router.candidate_count = 2;
	strcpy(sent.router.candidates[0].node, "n1");
	sent.router.candidates[0].priority = 150;
	strcpy(sent.router.candidates[1].node, "n2");
	sent.router.candidates[1].priority = 120;
}

static void fill_port(void)
{
	memset(&sent, 0, sizeof sent);
	sent.type = MESSAGE_SERVICE_PORT;
	strcpy(sent.service_port.service, "vms/myvm-ssh");
	sent.service_port.address = base_address_ipv4(192, 0, 2, 10);
	sent.service_port.protocol = IPPROTO_TCP;
	sent.service_port.port = 22;
	sent.service_port.endpoint_count = 1;
	sent.service_port.endpoints[0].address = base_address_ipv4(10, 244, 1, 5);
	sent.service_port.endpoints[0].port = 22;
	strcpy(sent.service_port.endpoints[0].node, "n3");
	sent.service_port.prepared_count = 1;
	sent.service_port.prepared[0] = sent.service_port.endpoints[0];
	sent.service_port.prepared[0].address = base_address_ipv4(10, 244, 2, 5);
}

static void fill_drill(int type)
{
	memset(&sent, 0, sizeof sent);
	sent.type = (enum message_type)type;
	if (type == MESSAGE_FAULT) {
		sent.fault.id = 7;
		sent.fault.kind = MESSAGE_FAULT_ISOLATE;
		strcpy(sent.fault.router, "lab.ipv4.10");
		sent.fault.hold_ms = 5000;
		return;
	}
	if (type == MESSAGE_PROBE) {
		sent.probe.id = 7;
		sent.probe.port = 53;
		sent.probe.connection_port = 22;
		sent.probe.interval_ms = 5;
		return;
	}
	sent.probe_result.id = 7;
	sent.probe_result.connections_kept = 3;
	sent.probe_result.connections_lost = 1;
	sent.probe_result.outage_us = 61000;
	sent.probe_result.span_count = 2;
	strcpy(sent.probe_result.spans[0].node, "n1");
	sent.probe_result.spans[1].at_us = 880200;
}

static void test_every_message_comes_back_as_it_was_sent(void **state)
{
	(void)state;
	for (int type = 1; type < MESSAGE_TYPE_COUNT; type++) {
		int size;

		if (type == MESSAGE_ROUTER) {
			fill_router();
		} else if (type == MESSAGE_SERVICE_PORT) {
			fill_port();
		} else if (type == MESSAGE_FAULT || type == MESSAGE_PROBE || type == MESSAGE_PROBE_RESULT) {
			fill_drill(type);
		} else {
			memset(&sent, 0, sizeof sent);
			sent.type = (enum message_type)type;
		}
		size = message_encode(&sent, data, sizeof data);
		assert_true(size > 0);
		memset(&got, 0, sizeof got);
		assert_int_equal(message_decode(&got, data, (size_t)size), 0);
		assert_memory_equal(&got, &sent, sizeof sent);
		assert_string_not_equal(message_type_name(sent.type), "unknown");
	}
}

static void test_a_message_cut_anywhere_is_refused(void **state)
{
	(void)state;
	for (int which = 0; which < 2; which++) {
		int size;

		which ? fill_router() : fill_port();
		size = message_encode(&sent, data, sizeof data);
		for (int cut = 0; cut < size; cut++) {
			/* A copy of exactly that size, so that a sanitizer sees a read behind it. */
			uint8_t *copy = malloc((size_t)cut + 1);

			memcpy(copy, data, (size_t)cut);
			assert_int_equal(message_decode(&got, copy, (size_t)cut), -EBADMSG);
			free(copy);
		}
		data[size] = 0;
		assert_int_equal(message_decode(&got, data, (size_t)size + 1), -EBADMSG);
	}
}

static void test_another_version_is_told_apart_from_garbage(void **state)
{
	int size;

	(void)state;
	fill_router();
	size = message_encode(&sent, data, sizeof data);
	data[0]++;
	assert_int_equal(message_decode(&got, data, (size_t)size), -EPROTONOSUPPORT);
}

static void test_values_out_of_range_are_refused_on_both_sides(void **state)
{
	(void)state;
	fill_router();
	sent.router.candidates[0].priority = 255;
	assert_int_equal(message_encode(&sent, data, sizeof data), -EINVAL);
	fill_router();
	sent.router.interval_ms = 15;
	assert_int_equal(message_encode(&sent, data, sizeof data), -EINVAL);
	fill_router();
	sent.router.addresses[0].family = BASE_FAMILY_IPV6;
	assert_int_equal(message_encode(&sent, data, sizeof data), -EINVAL);
	fill_port();
	sent.service_port.endpoint_count = MESSAGE_ENDPOINTS_MAX + 1;
	assert_int_equal(message_encode(&sent, data, sizeof data), -EINVAL);
	fill_drill(MESSAGE_PROBE_RESULT);
	sent.probe_result.span_count = MESSAGE_SPANS_MAX + 1;
	assert_int_equal(message_encode(&sent, data, sizeof data), -EINVAL);
	fill_drill(MESSAGE_FAULT);
	sent.fault.kind = MESSAGE_FAULT_COUNT;
	assert_int_equal(message_encode(&sent, data, sizeof data), -EINVAL);
	fill_port();
	assert_int_equal(message_encode(&sent, data, 16), -EMSGSIZE);
}

static void test_random_bytes_never_do_more_than_be_refused(void **state)
{
	struct base_random random = { 7 };
	int size;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		round & 1 ? fill_router() : fill_port();
		size = message_encode(&sent, data, sizeof data);
		for (int flips = 0; flips < 3; flips++)
			data[4 + base_random_below(&random, (uint64_t)size - 4)] =
				(uint8_t)base_random_next(&random);
		if (message_decode(&got, data, (size_t)size) == 0)
			assert_true(message_encode(&got, data, sizeof data) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_message_comes_back_as_it_was_sent),
		cmocka_unit_test(test_a_message_cut_anywhere_is_refused),
		cmocka_unit_test(test_another_version_is_told_apart_from_garbage),
		cmocka_unit_test(test_values_out_of_range_are_refused_on_both_sides),
		cmocka_unit_test(test_random_bytes_never_do_more_than_be_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
