/* ARP and neighbour discovery on a real cable. */
#include "test/adapter/place.h"
#include "vrrp/io/neighbour.h"

static struct vrrp_neighbour *neighbour;
static int lan;
static const struct base_mac own_mac = { { 2, 0, 0, 0, 0, 1 } };
static const struct base_mac peer_mac = { { 2, 0, 0, 0, 0, 2 } };

static struct {
	unsigned count;
	struct vrrp_neighbour_seen seen[600];
} heard;

static void on_seen(void *userdata, const struct vrrp_neighbour_seen *seen)
{
	assert_ptr_equal(userdata, &heard);
	heard.seen[heard.count++] = *seen;
}

static int receive(void)
{
	heard.count = 0;
	place_sleep_ms(20);
	return vrrp_neighbour_receive(neighbour, on_seen, &heard);
}

static int set_up(void **state)
{
	(void)state;
	place_try("ip link delete eth1 2>/dev/null");
	place_cable();
	assert_int_equal(vrrp_neighbour_new(&neighbour, if_nametoindex("eth1")), 0);
	lan = place_open("lan");
	place_sleep_ms(20);
	receive();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vrrp_neighbour_free(neighbour);
	neighbour = NULL;
	close(lan);
	return 0;
}

static void send_lan(const uint8_t *frame, size_t size)
{
	assert_int_equal(send(lan, frame, size, 0), size);
}

static void test_questions_and_answers_are_heard_in_both_families(void **state)
{
	static const struct {
		const char *name, *about;
		bool answer;
	} rows[] = {
		{ "gratuitous ARP", "192.0.2.50", false },
		{ "ARP reply", "192.0.2.50", true },
		{ "neighbour advertisement", "2001:db8::50", true },
		{ "solicitation", "2001:db8::50", false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_address about = place_address(rows[i].about);
		struct base_address target = place_address("2001:db8::1");
		uint8_t frame[VRRP_FRAME_SIZE_MAX];
		bool solicitation = about.family == BASE_FAMILY_IPV6 && !rows[i].answer;
		size_t size = solicitation ? vrrp_frame_ask(&target, &about, &peer_mac, NULL, frame)
					   : vrrp_frame_announce(&about, &peer_mac, rows[i].answer,
								 frame);

		send_lan(frame, size);
		ASSERT_ROW(rows[i].name, receive() >= 1);
		ASSERT_ROW(rows[i].name, heard.count == 1);
		ASSERT_ROW(rows[i].name, base_address_equal(&heard.seen[0].address, &about));
		ASSERT_ROW(rows[i].name, memcmp(&heard.seen[0].mac, &peer_mac, 6) == 0);
		ASSERT_ROW(rows[i].name, heard.seen[0].answer == rows[i].answer);
	}
}

/* What the filter in the kernel keeps away costs nothing here. */
static void test_other_traffic_of_the_lan_stays_away(void **state)
{
	static const struct {
		const char *name;
		uint8_t ether_type[2], protocol_at, protocol, icmp_at, icmp;
	} rows[] = {
		{ "IPv4", { 0x08, 0x00 }, 23, 17, 0, 0 },
		{ "IPv4 that looks like ICMPv6", { 0x08, 0x00 }, 20, 58, 54, 136 },
		{ "LLDP", { 0x88, 0xcc }, 0, 0, 0, 0 },
		{ "IPv6 UDP", { 0x86, 0xdd }, 20, 17, 54, 136 },
		{ "echo request", { 0x86, 0xdd }, 20, 58, 54, 128 },
		{ "router advertisement", { 0x86, 0xdd }, 20, 58, 54, 134 },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		uint8_t frame[100] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2 };

		memcpy(frame + 12, rows[i].ether_type, 2);
		if (rows[i].protocol_at)
			frame[rows[i].protocol_at] = rows[i].protocol;
		if (rows[i].icmp_at)
			frame[rows[i].icmp_at] = rows[i].icmp;
		send_lan(frame, sizeof frame);
		ASSERT_ROW(rows[i].name, receive() == 0);
	}
}

static void test_a_probe_is_no_word_about_anybody(void **state)
{
	struct base_address target = place_address("192.0.2.50"), nobody = { 0 };
	uint8_t frame[VRRP_FRAME_SIZE_MAX];

	(void)state;
	send_lan(frame, vrrp_frame_ask(&target, &nobody, &peer_mac, NULL, frame));
	assert_int_equal(receive(), 1);
	assert_int_equal(heard.count, 0);
}

static void test_hundreds_of_announcements_leave_in_one_go_and_in_order(void **state)
{
	static struct vrrp_frame frames[200];
	struct base_address addresses[200];
	unsigned found = 0;

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		addresses[i] = base_address_ipv4(198, 51, 100, (uint8_t)(i + 1));
		frames[i].size =
			vrrp_frame_announce(&addresses[i], &own_mac, i & 1, frames[i].data);
	}
	assert_int_equal(vrrp_neighbour_send(neighbour, frames, 200), 0);
	while (found < 200) {
		uint8_t frame[2048];
		struct vrrp_neighbour_seen seen;
		size_t size = place_hear(lan, frame, sizeof frame, 200);

		assert_true(size > 0);
		if (!vrrp_frame_read(frame, size, &seen) || seen.address.bytes[0] != 198)
			continue;
		assert_true(base_address_equal(&seen.address, &addresses[found]));
		assert_memory_equal(&seen.mac, &own_mac, 6);
		assert_int_equal(seen.answer, found & 1);
		found++;
	}
	/* And none of them is heard by ourselves. */
	receive();
	assert_int_equal(heard.count, 0);
}

static void test_another_interface_is_not_ours(void **state)
{
	struct base_address about = place_address("192.0.2.50");
	uint8_t frame[VRRP_FRAME_SIZE_MAX];
	size_t size = vrrp_frame_announce(&about, &peer_mac, true, frame);
	int other;

	(void)state;
	place_run("ip link add eth2 type veth peer name lan2 && ip link set eth2 up && "
		  "ip link set lan2 up");
	other = place_open("lan2");
	assert_int_equal(send(other, frame, size, 0), size);
	assert_int_equal(receive(), 0);
	close(other);
	place_run("ip link delete eth2");
}

/* A storm is taken in slices, so that the loop gets to its timers. */
static void test_a_storm_is_taken_in_slices(void **state)
{
	struct base_address about = place_address("192.0.2.50");
	uint8_t frame[VRRP_FRAME_SIZE_MAX];
	size_t size = vrrp_frame_announce(&about, &peer_mac, true, frame);
	int total = 0, got;

	(void)state;
	for (int i = 0; i < 2000; i++)
		send_lan(frame, size);
	do {
		got = receive();
		assert_in_range(got, 0, 512);
		assert_int_equal(heard.count, got);
		total += got;
	} while (got > 0);
	assert_true(total > 100);
}

static void test_a_vanished_interface_is_an_error_and_not_a_loop(void **state)
{
	struct base_address about = place_address("192.0.2.100");
	struct vrrp_neighbour *none = NULL;
	struct vrrp_frame frame;
	int r = 0;

	(void)state;
	frame.size = vrrp_frame_announce(&about, &own_mac, false, frame.data);
	place_run("ip link delete eth1");
	for (int i = 0; i < 3; i++) {
		r = receive();
		assert_true(r <= 0);
	}
	assert_int_equal(r, 0); /* the error was told and is over */
	assert_true(vrrp_neighbour_send(neighbour, &frame, 1) < 0);
	assert_int_equal(vrrp_neighbour_new(&none, 7777), -ENODEV);
	assert_null(none);
	vrrp_neighbour_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_questions_and_answers_are_heard_in_both_families),
		TEST(test_other_traffic_of_the_lan_stays_away),
		TEST(test_a_probe_is_no_word_about_anybody),
		TEST(test_hundreds_of_announcements_leave_in_one_go_and_in_order),
		TEST(test_another_interface_is_not_ours),
		TEST(test_a_storm_is_taken_in_slices),
		TEST(test_a_vanished_interface_is_an_error_and_not_a_loop),
	};

	place_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
