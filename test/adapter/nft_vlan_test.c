/*
 * What belongs to a VLAN at the hooks of the interface that the VLAN stands on, in a real kernel. That needs no VLAN
 * device, which not every kernel has: what comes in has its tag beside it, and a bridge lets it leave so, as a
 * VLAN's interface does.
 */
#include "test/adapter/rules.h"

static const char vip_text[] = "192.0.2.100";

/* From the VIP to a client beyond, or the other way round, with or without a tag. */
static size_t make_frame(uint8_t *frame, bool tagged, bool from_vip)
{
	static const uint8_t far[] = { 203, 0, 113, 9 };
	struct base_address vip = place_address(vip_text);
	size_t at = 12;
	uint16_t sum;
	uint8_t *ip;

	memset(frame, 0, 64);
	memcpy(frame, from_vip ? "\x02\0\0\0\0\xfe\x02\0\0\0\0\x10" : "\x02\0\0\0\0\x01\x02\0\0\0\0\xfe", 12);
	if (tagged) {
		memcpy(frame + at, "\x81\0\0\x64", 4);
		at += 4;
	}
	frame[at] = 8;
	ip = frame + at + 2;
	memcpy(ip, "\x45\0\0\x1c\0\0\0\0\x40\x11", 10);
	memcpy(ip + 12, from_vip ? vip.bytes : far, 4);
	memcpy(ip + 16, from_vip ? far : vip.bytes, 4);
	sum = vrrp_checksum_finish(vrrp_checksum_add(0, ip, 20));
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	memcpy(ip + 20, "\0\x50\0\x50\0\x08\0\0", 8);
	return at + 2 + 28;
}

static unsigned long stale(void)
{
	const char *counter = strstr(place_read("nft list chain netdev vipd stale4-eth1"), "counter packets ");

	assert_non_null(counter);
	return strtoul(counter + strlen("counter packets "), NULL, 10);
}

static void commit_one(struct nft_skeleton *skeleton)
{
	nft_table_begin(table);
	want_vip(vip_text, NFT_DATAPLANE_DIRECTOR);
	commit(skeleton);
}

static void test_what_comes_in_with_a_tag_is_not_for_this_segment(void **state)
{
	uint8_t frame[64];

	(void)state;
	for (int tagged_rules = 0; tagged_rules < 2; tagged_rules++)
		for (int tagged_frame = 0; tagged_frame < 2; tagged_frame++) {
			struct nft_skeleton skeleton = skeleton_of(abilities.egress);
			bool taken = !(tagged_rules && tagged_frame);
			size_t size = make_frame(frame, tagged_frame, false);
			int lan = place_open("lan");
			unsigned long before;

			skeleton.tagged[0] = tagged_rules;
			commit_one(&skeleton);
			before = stale();
			assert_int_equal(send(lan, frame, size, 0), size);
			/* Without those rules the kernel's hook takes it for one of its own. */
			assert_int_equal(stale() - before, taken);
			close(lan);
		}
}

/* True: it comes out at the far end of the cable, tagged. */
static bool leaves(const uint8_t *frame, size_t size)
{
	uint8_t got[2048];
	int user = place_open("user"), lan = place_open("lan"), on = 1;
	bool found = false;
	uint64_t end_us;

	assert_int_equal(setsockopt(lan, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on), 0);
	assert_int_equal(send(user, frame, size, 0), size);
	end_us = place_now_us() + 100000;
	while (!found && place_now_us() < end_us) {
		char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		struct iovec part = { got, sizeof got };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
		const struct cmsghdr *header;

		if (recvmsg(lan, &message, MSG_DONTWAIT) < 0) {
			place_sleep_ms(1);
			continue;
		}
		header = CMSG_FIRSTHDR(&message);
		if (header && memcmp(got, frame, 12) == 0) {
			struct tpacket_auxdata told;

			memcpy(&told, CMSG_DATA(header), sizeof told);
			found = told.tp_status & TP_STATUS_VLAN_VALID && told.tp_vlan_tci == 100;
		}
	}
	close(user);
	close(lan);
	return found;
}

/* The way back of the segment is by an interface that stands on the one with the default route: rules there see it again. */
static void test_what_leaves_in_a_vlan_is_no_reply_on_a_wrong_way(void **state)
{
	uint8_t frame[64];
	size_t size = make_frame(frame, true, true);

	(void)state;
	if (!abilities.egress)
		place_skip("this kernel has no netdev egress hook");
	place_run("ip link add user type veth peer name port && ip link add bridge type bridge forward_delay 0 mcast_snooping 0");
	place_run("ip link set dev port master bridge up && ip link set dev eth1 master bridge && "
		  "ip link set dev user up && ip link set dev bridge up");
	place_run("ip link add eth2 type veth peer name lan2 && ip link set eth2 up && ip link set lan2 up");
	place_run("ip address add 198.51.100.1/24 dev eth2");
	for (int known = 0; known < 2; known++) {
		struct nft_skeleton skeleton = skeleton_of(true);

		skeleton.segment_count = 1;
		strcpy(skeleton.segments[0], "eth2"); /* in the VLAN's place */
		skeleton.indices[0] = if_nametoindex("eth2");
		skeleton.exit_count = skeleton.return_count = 1;
		strcpy(skeleton.exits[0].name, "eth1");
		skeleton.exits[0].index = if_nametoindex("eth1");
		skeleton.exits[0].tagged = known;
		assert_true(base_prefix_parse("192.0.2.0/24", &skeleton.returns[0].subnet));
		skeleton.returns[0].gateway = place_address("198.51.100.254");
		strcpy(skeleton.returns[0].segment, "eth2");
		commit_one(&skeleton);
		assert_int_equal(leaves(frame, size), known);
	}
	place_run("ip link delete dev user && ip link delete dev bridge && ip link delete eth2");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_comes_in_with_a_tag_is_not_for_this_segment, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_leaves_in_a_vlan_is_no_reply_on_a_wrong_way, set_up, tear_down),
	};

	place_enter();
	place_need_nft();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
