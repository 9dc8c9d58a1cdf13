/* Adverts on a real cable: what leaves, and what is heard of what comes in. */
#include "test/adapter/place.h"
#include "vrrp/io/socket.h"
#include "vrrp/packet.h"

static struct vrrp_socket *sockets[2]; /* IPv4, IPv6 */
static int lan;

static struct {
	unsigned count;
	struct vrrp_packet_meta meta;
	uint8_t data[256];
	size_t size;
} heard;

static void on_received(void *userdata, const struct vrrp_received *received)
{
	assert_ptr_equal(userdata, &heard);
	heard.count++;
	heard.meta = received->meta;
	heard.size = received->size;
	memcpy(heard.data, received->data,
	       received->size < sizeof heard.data ? received->size : sizeof heard.data);
}

/* What arrived for this socket within a moment. */
static unsigned receive(int six)
{
	int count, total = 0;

	memset(&heard, 0, sizeof heard);
	place_sleep_ms(20);
	while ((count = vrrp_socket_receive(sockets[six], on_received, &heard)) > 0)
		total += count;
	assert_int_equal(count, 0);
	assert_int_equal(total, heard.count);
	return heard.count;
}

static int set_up(void **state)
{
	unsigned eth1;

	(void)state;
	place_try("ip link delete eth1 2>/dev/null");
	place_cable();
	eth1 = if_nametoindex("eth1");
	assert_int_equal(vrrp_socket_new(&sockets[0], BASE_FAMILY_IPV4, eth1), 0);
	assert_int_equal(vrrp_socket_new(&sockets[1], BASE_FAMILY_IPV6, eth1), 0);
	lan = place_open("lan");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		vrrp_socket_free(sockets[i]);
		sockets[i] = NULL;
	}
	close(lan);
	return 0;
}

static size_t advert(uint8_t *data, size_t size, const struct vrrp_packet_meta *meta)
{
	static struct vrrp_advert advert;
	bool six = meta->source.family == BASE_FAMILY_IPV6;

	advert = (struct vrrp_advert){ .version = 3,
				       .virtual_router_id = 10,
				       .priority = 100,
				       .interval_us = 100000,
				       .address_count = six ? 2 : 1,
				       .addresses = {
					       place_address(six ? "fe80::100" : "192.0.2.100"),
					       place_address("2001:db8::100") } };
	return vrrp_packet_build(&advert, meta, data, size);
}

static struct vrrp_packet_meta meta_of(int six)
{
	return (struct vrrp_packet_meta){
		.source = place_address(six ? "fe80::ff:fe00:1" : "192.0.2.1"),
		.destination = vrrp_group(six ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4),
	};
}

/* The next VRRP frame at the far end; 0: none. */
static size_t hear_vrrp(uint8_t *frame, size_t size)
{
	for (;;) {
		size_t got = place_hear(lan, frame, size, 100);

		if (got == 0 ||
		    (got > 54 && frame[12] == 8 && frame[13] == 0 && frame[23] == 112) ||
		    (got > 54 && frame[12] == 0x86 && frame[20] == 112) ||
		    (got > 33 && frame[12] == 8 && frame[13] == 0 && frame[23] == 112))
			return got;
	}
}

/* RFC 9568 5.1.1, 5.1.2, 7.2 */
static void test_adverts_leave_with_ttl_255_to_the_group_from_the_source_given(void **state)
{
	static const uint8_t group_mac[2][6] = { { 1, 0, 0x5e, 0, 0, 0x12 },
						 { 0x33, 0x33, 0, 0, 0, 0x12 } };

	(void)state;
	for (int six = 0; six < 2; six++) {
		struct vrrp_packet_meta meta = meta_of(six), seen = { .ttl = 0 };
		uint8_t data[VRRP_PACKET_SIZE_MAX], frame[2048] = { 0 };
		size_t size = advert(data, sizeof data, &meta), got, header = six ? 54 : 34;
		static struct vrrp_advert read;

		assert_int_equal(vrrp_socket_send(sockets[six], &meta.source, NULL, data, size), 0);
		got = hear_vrrp(frame, sizeof frame);
		assert_int_equal(got, header + size);
		assert_memory_equal(frame, group_mac[six], 6);
		/* Network control (CS6), so that switches and queues let it pass first. */
		assert_int_equal(six ? (frame[14] << 4 | frame[15] >> 4) & 0xff : frame[15], 0xc0);
		seen.ttl = six ? frame[21] : frame[22];
		assert_int_equal(seen.ttl, 255);
		seen.source = base_address_from_bytes(meta.source.family, frame + (six ? 22 : 26));
		seen.destination =
			base_address_from_bytes(meta.source.family, frame + (six ? 38 : 30));
		assert_true(base_address_equal(&seen.source, &meta.source));
		assert_true(base_address_equal(&seen.destination, &meta.destination));
		assert_int_equal(vrrp_packet_parse(frame + header, got - header, &seen, &read),
				 VRRP_VERDICT_OK);
	}
}

static void test_a_source_of_several_addresses_is_the_one_that_was_named(void **state)
{
	struct vrrp_packet_meta meta = meta_of(0);
	uint8_t data[VRRP_PACKET_SIZE_MAX], frame[2048] = { 0 };
	size_t size;

	(void)state;
	place_run("ip address add 192.0.2.7/24 dev eth1");
	meta.source = place_address("192.0.2.7");
	size = advert(data, sizeof data, &meta);
	assert_int_equal(vrrp_socket_send(sockets[0], &meta.source, NULL, data, size), 0);
	assert_true(hear_vrrp(frame, sizeof frame) > 0);
	assert_memory_equal(frame + 26, meta.source.bytes, 4);
}

static void test_unicast_adverts_have_ttl_255_too(void **state)
{
	(void)state;
	place_run("ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth1 && "
		  "ip neighbour add fe80::2 lladdr 02:00:00:00:00:02 dev eth1");
	for (int six = 0; six < 2; six++) {
		struct vrrp_packet_meta meta = meta_of(six);
		uint8_t data[VRRP_PACKET_SIZE_MAX], frame[2048] = { 0 };
		size_t size;

		meta.destination = place_address(six ? "fe80::2" : "192.0.2.2");
		size = advert(data, sizeof data, &meta);
		assert_int_equal(
			vrrp_socket_send(sockets[six], &meta.source, &meta.destination, data, size),
			0);
		assert_true(hear_vrrp(frame, sizeof frame) > 0);
		assert_int_equal(frame[5], 2);
		assert_int_equal(six ? frame[21] : frame[22], 255);
		assert_memory_equal(frame + (six ? 38 : 30), meta.destination.bytes, six ? 16 : 4);
	}
}

/* A frame as another router would send it; answers its size. */
static size_t frame_of(int six, uint8_t ttl, unsigned option_words, uint8_t *frame)
{
	struct vrrp_packet_meta meta = meta_of(six);
	uint8_t data[VRRP_PACKET_SIZE_MAX];
	size_t size, header = six ? 40 : 20 + option_words * 4;

	meta.source = place_address(six ? "fe80::2" : "192.0.2.2");
	size = advert(data, sizeof data, &meta);
	memset(frame, 0, 14 + header);
	memcpy(frame,
	       six ? (uint8_t[6]){ 0x33, 0x33, 0, 0, 0, 0x12 }
		   : (uint8_t[6]){ 1, 0, 0x5e, 0, 0, 0x12 },
	       6);
	memcpy(frame + 6, (uint8_t[6]){ 2, 0, 0, 0, 0, 2 }, 6);
	if (six) {
		frame[12] = 0x86;
		frame[13] = 0xdd;
		frame[14] = 0x60;
		frame[18] = (uint8_t)(size >> 8);
		frame[19] = (uint8_t)size;
		frame[20] = VRRP_PROTOCOL;
		frame[21] = ttl;
		memcpy(frame + 22, meta.source.bytes, 16);
		memcpy(frame + 38, meta.destination.bytes, 16);
	} else {
		uint16_t sum;

		frame[12] = 8;
		frame[14] = (uint8_t)(0x40 | (5 + option_words));
		frame[17] = (uint8_t)(header + size);
		frame[22] = ttl;
		frame[23] = VRRP_PROTOCOL;
		memcpy(frame + 26, meta.source.bytes, 4);
		memcpy(frame + 30, meta.destination.bytes, 4);
		memset(frame + 34, 1, option_words * 4); /* no-operation */
		sum = vrrp_checksum_finish(vrrp_checksum_add(0, frame + 14, header));
		frame[24] = (uint8_t)(sum >> 8);
		frame[25] = (uint8_t)sum;
	}
	memcpy(frame + 14 + header, data, size);
	return 14 + header + size;
}

static void test_what_comes_in_is_told_with_source_destination_and_ttl(void **state)
{
	static const struct {
		const char *name;
		int six;
		uint8_t ttl;
		unsigned option_words;
	} rows[] = {
		{ "IPv4", 0, 255, 0 },
		{ "IPv4 that was routed", 0, 254, 0 },
		{ "IPv4 with options", 0, 255, 2 },
		{ "IPv6", 1, 255, 0 },
		{ "IPv6 that was routed", 1, 64, 0 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct vrrp_packet_meta expected = meta_of(rows[i].six);
		static struct vrrp_advert read;
		uint8_t frame[2048];
		size_t size = frame_of(rows[i].six, rows[i].ttl, rows[i].option_words, frame);

		expected.source = place_address(rows[i].six ? "fe80::2" : "192.0.2.2");
		assert_int_equal(send(lan, frame, size, 0), size);
		ASSERT_ROW(rows[i].name, receive(rows[i].six) == 1);
		ASSERT_ROW(rows[i].name, heard.meta.ttl == rows[i].ttl);
		ASSERT_ROW(rows[i].name, base_address_equal(&heard.meta.source, &expected.source));
		ASSERT_ROW(rows[i].name,
			   base_address_equal(&heard.meta.destination, &expected.destination));
		ASSERT_ROW(rows[i].name,
			   vrrp_packet_parse(heard.data, heard.size, &heard.meta, &read) ==
				   (rows[i].ttl == 255 ? VRRP_VERDICT_OK : VRRP_VERDICT_BAD_TTL));
	}
}

static void test_the_groups_are_joined_and_left(void **state)
{
	const char *said = place_read("ip maddress show dev eth1");

	(void)state;
	assert_non_null(strstr(said, "inet  224.0.0.18\n"));
	assert_non_null(strstr(said, "inet6 ff02::12\n"));
	for (int i = 0; i < 2; i++) {
		vrrp_socket_free(sockets[i]);
		sockets[i] = NULL;
	}
	said = place_read("ip maddress show dev eth1");
	assert_null(strstr(said, "224.0.0.18"));
	assert_null(strstr(said, "ff02::12"));
}

static void test_own_adverts_and_those_of_other_interfaces_are_not_heard(void **state)
{
	(void)state;
	place_try("ip link delete eth2 2>/dev/null");
	place_run("ip link add eth2 type veth peer name lan2 && ip link set eth2 up && "
		  "ip link set lan2 up && ip address add 198.51.100.1/24 dev eth2");
	for (int six = 0; six < 2; six++) {
		struct vrrp_packet_meta meta = meta_of(six);
		uint8_t data[VRRP_PACKET_SIZE_MAX], frame[2048] = { 0 };
		size_t size = advert(data, sizeof data, &meta);
		int other = place_open("lan2");

		assert_int_equal(vrrp_socket_send(sockets[six], &meta.source, NULL, data, size), 0);
		size = frame_of(six, 255, 0, frame);
		assert_int_equal(send(other, frame, size, 0), size);
		assert_int_equal(receive(six), 0);
		assert_int_equal(send(lan, frame, size, 0), size);
		assert_int_equal(receive(six), 1);
		close(other);
	}
	place_run("ip link delete eth2");
}

static void test_a_burst_is_taken_in_one_turn_and_what_had_no_room_is_counted(void **state)
{
	(void)state;
	for (int six = 0; six < 2; six++) {
		uint8_t frame[2048];
		size_t size = frame_of(six, 255, 0, frame);
		unsigned got;

		for (int i = 0; i < 100; i++)
			assert_int_equal(send(lan, frame, size, 0), size);
		assert_int_equal(receive(six), 100);
		assert_int_equal(vrrp_socket_drops(sockets[six]), 0);
		/* More than the queue holds, and nobody reads. */
		for (int i = 0; i < 20000; i++)
			assert_int_equal(send(lan, frame, size, 0), size);
		got = receive(six);
		assert_true(got > 100 && got < 20000);
		/* The next packet brings the number of those that were lost. */
		assert_int_equal(send(lan, frame, size, 0), size);
		assert_int_equal(receive(six), 1);
		print_message("IPv%d: %u of 20000 kept, %u dropped\n", six ? 6 : 4, got,
			      vrrp_socket_drops(sockets[six]));
		assert_true(vrrp_socket_drops(sockets[six]) + got >= 19000);
	}
}

static void test_trouble_is_an_errno(void **state)
{
	struct vrrp_packet_meta meta = meta_of(0);
	struct vrrp_socket *none = NULL;
	uint8_t data[VRRP_PACKET_SIZE_MAX];
	size_t size = advert(data, sizeof data, &meta);

	(void)state;
	assert_true(vrrp_socket_new(&none, BASE_FAMILY_IPV4, 7777) < 0);
	assert_null(none);
	vrrp_socket_free(NULL);
	place_run("ip link set eth1 down");
	assert_true(vrrp_socket_send(sockets[0], &meta.source, NULL, data, size) < 0);
	place_run("ip link delete eth1");
	assert_true(vrrp_socket_send(sockets[0], &meta.source, NULL, data, size) < 0);
	/* Reading goes on answering, one way or the other; it does not spin. */
	for (int i = 0; i < 3; i++)
		assert_true(vrrp_socket_receive(sockets[0], on_received, &heard) <= 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_adverts_leave_with_ttl_255_to_the_group_from_the_source_given),
		TEST(test_a_source_of_several_addresses_is_the_one_that_was_named),
		TEST(test_unicast_adverts_have_ttl_255_too),
		TEST(test_what_comes_in_is_told_with_source_destination_and_ttl),
		TEST(test_the_groups_are_joined_and_left),
		TEST(test_own_adverts_and_those_of_other_interfaces_are_not_heard),
		TEST(test_a_burst_is_taken_in_one_turn_and_what_had_no_room_is_counted),
		TEST(test_trouble_is_an_errno),
	};

	place_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
