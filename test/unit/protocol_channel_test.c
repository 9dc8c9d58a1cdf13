/* One end of the socket pair on a loop, the other end in the test's hands. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/protocol/channel.h"
#include "test/unit/unit.h"

static sd_event *event;
static struct channel *channel;
static int peer;

static struct {
	unsigned messages, losses;
	uint32_t numbers[100000]; /* of the messages, in the order in which they came */
	int error;
	struct message last;
} heard;

static void on_message(void *userdata, const struct message *message)
{
	assert_ptr_equal(userdata, &heard);
	heard.last = *message;
	if (message->type == MESSAGE_LEASE_READ)
		heard.numbers[heard.messages] =
			(uint32_t)strtoul(message->lease_read.router, NULL, 10);
	heard.messages++;
}

static void on_lost(void *userdata, int error)
{
	assert_ptr_equal(userdata, &heard);
	heard.losses++;
	heard.error = error;
}

static const struct channel_handlers handlers = { on_message, on_lost };

static int set_up(void **state)
{
	int fds[2];

	(void)state;
	memset(&heard, 0, sizeof heard);
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(channel_pair(fds), 0);
	peer = fds[1];
	assert_int_equal(channel_new(&channel, event, fds[0], 0, &handlers, &heard), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	channel_free(channel);
	channel = NULL;
	if (peer >= 0)
		close(peer);
	sd_event_unref(event);
	return 0;
}

static void run(void)
{
	while (sd_event_run(event, 0) > 0)
		;
}

static struct message *numbered(uint32_t number)
{
	static struct message message;

	message.type = MESSAGE_LEASE_READ;
	snprintf(message.lease_read.router, sizeof message.lease_read.router, "%u", number);
	return &message;
}

static void peer_sends(const struct message *message)
{
	static uint8_t data[MESSAGE_SIZE_MAX];
	int size = message_encode(message, data, sizeof data);

	assert_true(size > 0);
	assert_int_equal(send(peer, data, (size_t)size, 0), size);
}

/* The number of the next message at the peer; -1: none. */
static int64_t peer_reads(void)
{
	static uint8_t data[MESSAGE_SIZE_MAX];
	static struct message message;
	ssize_t size = recv(peer, data, sizeof data, MSG_DONTWAIT);

	if (size <= 0)
		return -1;
	assert_int_equal(message_decode(&message, data, (size_t)size), 0);
	return (int64_t)strtoul(message.lease_read.router, NULL, 10);
}

static void test_messages_pass_both_ways_in_order(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 10; i++) {
		peer_sends(numbered(i));
		assert_int_equal(channel_send(channel, numbered(100 + i)), 0);
	}
	run();
	assert_int_equal(heard.messages, 10);
	for (uint32_t i = 0; i < 10; i++) {
		assert_int_equal(heard.numbers[i], i);
		assert_int_equal(peer_reads(), 100 + i);
	}
	assert_int_equal(heard.losses, 0);
}

static void test_the_largest_message_fits(void **state)
{
	static struct message message;
	struct message_service_port *port = &message.service_port;
	static uint8_t data[MESSAGE_SIZE_MAX];
	ssize_t size;

	(void)state;
	message.type = MESSAGE_SERVICE_PORT;
	memset(port->service, 's', sizeof port->service - 1);
	assert_true(base_address_parse("2001:db8::1", &port->address));
	port->protocol = IPPROTO_TCP;
	port->port = 22;
	port->range_count = MESSAGE_RANGES_MAX;
	for (unsigned i = 0; i < MESSAGE_RANGES_MAX; i++)
		port->ranges[i] = (struct base_prefix){ port->address, 128 };
	port->endpoint_count = MESSAGE_ENDPOINTS_MAX;
	for (unsigned i = 0; i < MESSAGE_ENDPOINTS_MAX; i++) {
		port->endpoints[i].address = port->address;
		port->endpoints[i].port = 22;
		memset(port->endpoints[i].node, 'n', MESSAGE_NAME_SIZE - 1);
	}
	peer_sends(&message);
	run();
	assert_int_equal(heard.messages, 1);
	assert_memory_equal(&heard.last, &message, sizeof message);
	assert_int_equal(channel_send(channel, &message), 0);
	run();
	size = recv(peer, data, sizeof data, 0);
	assert_true(size > 100000);
	assert_int_equal(message_decode(&heard.last, data, (size_t)size), 0);
	assert_memory_equal(&heard.last, &message, sizeof message);
}

static void test_what_the_peer_does_not_take_yet_waits_in_order(void **state)
{
	uint32_t sent = 0, got = 0;

	(void)state;
	/* More than any socket buffer holds, less than the queue may. */
	for (; sent < 60000; sent++)
		assert_int_equal(channel_send(channel, numbered(sent)), 0);
	while (got < sent) {
		int64_t number = peer_reads();

		if (number < 0) {
			assert_true(sd_event_run(event, 1000000) > 0);
			continue;
		}
		assert_int_equal(number, got);
		got++;
	}
	assert_int_equal(peer_reads(), -1);
	assert_int_equal(heard.losses, 0);
	assert_int_equal(channel_send(channel, numbered(7)), 0);
	assert_int_equal(peer_reads(), 7);
}

static void test_a_peer_that_never_reads_is_given_up_when_the_queue_is_full(void **state)
{
	uint32_t sent = 0;
	int r;

	(void)state;
	while ((r = channel_send(channel, numbered(sent))) == 0) {
		sent++;
		assert_true(sent < 10000000);
	}
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(heard.losses, 0); /* never from inside channel_send() */
	assert_int_equal(channel_send(channel, numbered(1)), -ENOTCONN);
	run();
	run();
	assert_int_equal(heard.losses, 1);
	assert_int_equal(heard.error, -ENOBUFS);
	/* What was taken over before comes in order, nothing behind it. */
	for (int64_t expected = 0, number; (number = peer_reads()) >= 0; expected++)
		assert_int_equal(number, expected);
}

static void test_a_closed_peer_is_told_once_after_its_last_words(void **state)
{
	(void)state;
	peer_sends(numbered(1));
	peer_sends(numbered(2));
	close(peer);
	peer = -1;
	run();
	run();
	assert_int_equal(heard.messages, 2);
	assert_int_equal(heard.losses, 1);
	assert_int_equal(heard.error, 0);
	assert_int_equal(channel_send(channel, numbered(3)), -ENOTCONN);
	run();
	assert_int_equal(heard.losses, 1);
}

static void test_sending_to_a_closed_peer_is_no_signal_and_no_second_loss(void **state)
{
	(void)state;
	close(peer);
	peer = -1;
	assert_int_equal(channel_send(channel, numbered(1)), -ENOTCONN);
	assert_int_equal(channel_send(channel, numbered(2)), -ENOTCONN);
	run();
	assert_int_equal(heard.losses, 1);
	assert_int_equal(heard.error, -EPIPE);
}

static void test_what_is_malformed_loses_the_channel_and_nothing_behind_it_is_believed(void **state)
{
	static const struct {
		const char *name;
		uint8_t data[8];
		size_t size;
		int error;
	} rows[] = {
		{ "one byte", { 1 }, 1, -EBADMSG },
		{ "another version", { 9, 9, 1, 0 }, 4, -EPROTONOSUPPORT },
		{ "no such type", { MESSAGE_VERSION, 0, 200, 0 }, 4, -EBADMSG },
		{ "too little", { MESSAGE_VERSION, 0, MESSAGE_NODE, 0, 5 }, 5, -EBADMSG },
		{ "too much", { MESSAGE_VERSION, 0, MESSAGE_SYNC_BEGIN, 0, 1 }, 5, -EBADMSG },
	};

	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		assert_int_equal(send(peer, rows[i].data, rows[i].size, 0), rows[i].size);
		peer_sends(numbered(1));
		run();
		ASSERT_ROW(rows[i].name, heard.losses == 1);
		ASSERT_ROW(rows[i].name, heard.error == rows[i].error);
		ASSERT_ROW(rows[i].name, heard.messages == 0);
		tear_down(state);
		set_up(state);
	}
}

static void test_a_datagram_beyond_all_bounds_is_refused(void **state)
{
	size_t size = MESSAGE_SIZE_MAX + 1;
	uint8_t *data = calloc(1, size);

	(void)state;
	data[0] = MESSAGE_VERSION;
	data[2] = MESSAGE_SYNC_BEGIN;
	if (send(peer, data, size, 0) == (ssize_t)size) { /* else the kernel refuses it already */
		run();
		assert_int_equal(heard.losses, 1);
		assert_int_equal(heard.error, -EMSGSIZE);
	}
	free(data);
}

static void test_a_flood_leaves_turns_to_what_is_more_urgent(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 200; i++)
		peer_sends(numbered(i));
	assert_true(sd_event_run(event, 0) > 0);
	assert_in_range(heard.messages, 1, 64);
	run();
	assert_int_equal(heard.messages, 200);
}

static void test_a_wrong_message_is_refused_and_costs_nothing(void **state)
{
	struct message *message = calloc(1, sizeof *message);

	(void)state;
	message->type = MESSAGE_ROUTER; /* without a name */
	assert_int_equal(channel_send(channel, message), -EINVAL);
	assert_int_equal(channel_send(channel, numbered(4)), 0);
	assert_int_equal(peer_reads(), 4);
	run();
	assert_int_equal(heard.losses, 0);
	free(message);
}

static void test_freeing_with_messages_waiting_or_without_a_channel_is_fine(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 60000; i++)
		assert_int_equal(channel_send(channel, numbered(i)), 0);
	channel_free(channel);
	channel = NULL;
	channel_free(NULL);
	run();
	assert_int_equal(heard.losses, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_messages_pass_both_ways_in_order),
		TEST(test_the_largest_message_fits),
		TEST(test_what_the_peer_does_not_take_yet_waits_in_order),
		TEST(test_a_peer_that_never_reads_is_given_up_when_the_queue_is_full),
		TEST(test_a_closed_peer_is_told_once_after_its_last_words),
		TEST(test_sending_to_a_closed_peer_is_no_signal_and_no_second_loss),
		TEST(test_what_is_malformed_loses_the_channel_and_nothing_behind_it_is_believed),
		TEST(test_a_datagram_beyond_all_bounds_is_refused),
		TEST(test_a_flood_leaves_turns_to_what_is_more_urgent),
		TEST(test_a_wrong_message_is_refused_and_costs_nothing),
		TEST(test_freeing_with_messages_waiting_or_without_a_channel_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
