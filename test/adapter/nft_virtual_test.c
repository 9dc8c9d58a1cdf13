/* Virtual MACs in a real kernel: what a client and a member hear, and which frames to them come in. */
#include "test/adapter/rules.h"

/* The router that send_advert() speaks for has ID 10. */
static const struct family {
	const char *name, *vip, *own, *client, *plain; /* plain: an address without a virtual MAC */
	struct base_mac mac;
	int length;
} families[] = {
	{ "IPv4", "192.0.2.100", "192.0.2.1", "192.0.2.250", "192.0.2.101",
	  { { 0, 0, 0x5e, 0, 1, 10 } }, 32 },
	{ "IPv6", "2001:db8::100", "2001:db8::1", "2001:db8::250", "2001:db8::101",
	  { { 0, 0, 0x5e, 0, 2, 10 } }, 128 },
};

static const struct base_mac node_mac = { { 2, 0, 0, 0, 0, 1 } };
static const struct base_mac member_mac = { { 2, 0, 0, 0, 0, 2 } };
static const struct base_mac client_mac = { { 2, 0, 0, 0, 0, 0xfe } };

static bool same(const struct base_mac *a, const uint8_t *b)
{
	return memcmp(a->bytes, b, sizeof a->bytes) == 0;
}

static struct nft_skeleton virtual_skeleton(void)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	skeleton.virtual_macs[0] = true;
	return skeleton;
}

static void wish(const struct family *family, bool virtual)
{
	struct nft_skeleton skeleton = virtual_skeleton();
	struct base_address vip = place_address(family->vip);

	nft_table_begin(table);
	assert_int_equal(nft_emit_vip(&vip, NFT_DATAPLANE_ANNOUNCE, 0, virtual ? &family->mac : NULL,
				      nft_table_want, table), 0);
	want_vip(family->plain, NFT_DATAPLANE_ANNOUNCE);
	assert_int_equal(nft_emit_peer(&member_mac, nft_table_want, table), 0);
	commit(&skeleton);
}

/* Both addresses on the interface, one of them with a virtual MAC. */
static int begin(const struct family *family)
{
	if (!abilities.egress)
		place_skip("this kernel has no netdev egress hook");
	place_run("ip address add %s/%d dev eth1", family->vip, family->length);
	place_run("ip address add %s/%d dev eth1", family->plain, family->length);
	wish(family, true);
	return place_open("lan");
}

static void end(int lan)
{
	close(lan);
	tear_down(NULL);
	set_up(NULL);
}

/* An advert that leaves, and opens the fence for 2.5 s. */
static void open_fence(const char *vip)
{
	struct base_address address = place_address(vip);

	send_advert(true, &address, 3, 100, 1000);
	assert_true(is_alive(&address));
}

static void drain(int lan)
{
	uint8_t frame[2048];

	while (place_hear(lan, frame, sizeof frame, 0) > 0)
		;
}

/* What is heard of the address within 300 ms; false: nothing. `frame` keeps it. */
static bool hear_of(int lan, const char *address, uint8_t frame[static 2048],
		    struct vrrp_neighbour_seen *seen)
{
	struct base_address about = place_address(address);
	uint64_t end_us = place_now_us() + 300000;

	while (place_now_us() < end_us) {
		size_t size = place_hear(lan, frame, 2048, 20);

		/* With its checksum, and all that RFC 4861 demands. */
		if (size > 0 && vrrp_frame_read(frame, size, seen) &&
		    base_address_equal(&seen->address, &about))
			return true;
	}
	return false;
}

/*
 * Asks for `target`, everybody if `to` is NULL. Is it `by` who answers, in what the answer says and where it comes
 * from? NULL: does nobody?
 */
static bool answers(int lan, const struct family *family, const char *target, const struct base_mac *from,
		    const struct base_mac *to, const struct base_mac *by)
{
	struct base_address about = place_address(target), source = place_address(family->client);
	struct vrrp_neighbour_seen seen;
	uint8_t frame[2048];
	size_t size = vrrp_frame_ask(&about, &source, from, to, frame);

	drain(lan);
	assert_int_equal(send(lan, frame, size, 0), size);
	if (!hear_of(lan, target, frame, &seen) || !seen.answer)
		return !by;
	return by && same(by, seen.mac.bytes) && same(by, frame + 6);
}

/* RFC 9568 6.4.3-1, 8.1.2-1: with the virtual MAC, but for members, who must see which of them it is. */
static void test_a_client_is_answered_with_the_virtual_mac_and_a_member_is_not(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(families); i++) {
		const struct family *family = &families[i];
		int lan = begin(family);

		open_fence(family->vip);
		ASSERT_ROW(family->name, answers(lan, family, family->vip, &client_mac, NULL, &family->mac));
		ASSERT_ROW(family->name, answers(lan, family, family->vip, &member_mac, NULL, &node_mac));
		/* Others on the same segment are where they were. */
		open_fence(family->plain);
		ASSERT_ROW(family->name, answers(lan, family, family->plain, &client_mac, NULL, &node_mac));
		ASSERT_ROW(family->name, answers(lan, family, family->own, &client_mac, NULL, &node_mac));
		end(lan);
	}
}

/* Linux asks for a neighbour in the name of the address that it has something to send from. */
static void test_a_question_in_its_name_does_not_say_the_nodes_mac(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(families); i++) {
		const struct family *family = &families[i];
		struct vrrp_neighbour_seen seen;
		uint8_t frame[2048];
		int lan = begin(family);

		open_fence(family->vip);
		drain(lan);
		place_run("ping -c 1 -W 1 -I %s %s >/dev/null 2>&1 & true", family->vip, family->client);
		ASSERT_ROW(family->name, hear_of(lan, family->vip, frame, &seen) && !seen.answer);
		ASSERT_ROW(family->name, same(&family->mac, seen.mac.bytes));
		ASSERT_ROW(family->name, same(&family->mac, frame + 6));
		end(lan);
	}
}

/* RFC 9568 7.2, 7.3. */
static void test_adverts_come_from_the_virtual_mac(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(families); i++)
		for (int virtual = 0; virtual < 2; virtual++) {
			const struct family *family = &families[i];
			bool six = family->length == 128;
			uint8_t frame[2048];
			bool heard = false;
			int lan = begin(family);

			wish(family, virtual);
			drain(lan);
			open_fence(family->vip);
			while (!heard && place_hear(lan, frame, sizeof frame, 300) > 0)
				heard = six ? frame[12] == 0x86 && frame[20] == VRRP_PROTOCOL
					    : frame[12] == 8 && frame[13] == 0 && frame[23] == VRRP_PROTOCOL;
			ASSERT_ROW(family->name, heard);
			ASSERT_ROW(family->name, same(virtual ? &family->mac : &node_mac, frame + 6));
			end(lan);
		}
}

/* RFC 9568 6.4.2-4: what is sent to the virtual MAC comes in where the address is answered for, only there. */
static void test_frames_to_the_virtual_mac_come_in_at_the_owner_alone(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(families); i++) {
		const struct family *family = &families[i];
		const struct base_mac other = { { 2, 0, 0, 0, 0, 9 } };
		int lan = begin(family);

		ASSERT_ROW(family->name, answers(lan, family, family->vip, &client_mac, &family->mac, NULL));
		open_fence(family->vip);
		/* As Linux looks whether a neighbour that it knows is still there. */
		ASSERT_ROW(family->name, answers(lan, family, family->vip, &client_mac, &family->mac, &family->mac));
		/* Neither what the node has besides, nor what is somebody else's. */
		ASSERT_ROW(family->name, answers(lan, family, family->own, &client_mac, &family->mac, NULL));
		ASSERT_ROW(family->name, answers(lan, family, family->vip, &client_mac, &other, NULL));
		end(lan);
	}
}

/* As br-ex is: the card behind it, eth0, is its port, and what is sent to the virtual MAC goes no further. */
static void test_a_bridge_takes_them_as_a_card_does(void **state)
{
	const struct family *family = &families[0];
	int lan;

	(void)state;
	place_run("ip link delete eth1 && ip link add eth0 type veth peer name lan && "
		  "ip link add eth1 address 02:00:00:00:00:01 type bridge forward_delay 0 && "
		  "ip link set eth0 master eth1 && ip link set eth0 up && ip link set lan up && "
		  "ip link set eth1 up && ip address add 192.0.2.1/24 dev eth1 && "
		  "bridge fdb add 00:00:5e:00:01:0a dev eth1 self permanent");
	lan = begin(family);
	open_fence(family->vip);
	assert_true(answers(lan, family, family->vip, &client_mac, &family->mac, &family->mac));
	close(lan);
	place_run("ip link delete eth0");
}

/* A successor's advert has no member's MAC, and ends the leaving all the same. */
static void test_a_leaving_address_is_let_go_when_the_virtual_mac_is_heard(void **state)
{
	const struct family *family = &families[0];
	struct base_address vip = place_address(family->vip);
	int lan = begin(family);

	(void)state;
	open_fence(family->vip);
	send_advert(true, &vip, NFT_LINGER_VERSION, 0, 1000);
	send_advert(true, &vip, 3, 0, 1000);
	assert_true(is_alive(&vip));
	hear_advert(lan, &vip, &client_mac);
	assert_true(is_alive(&vip));
	hear_advert(lan, &vip, &family->mac);
	assert_false(is_alive(&vip));
	close(lan);
}

/* The kernel goes on answering, first with one MAC and then with the other, and takes what is sent to either. */
static void test_a_change_of_the_setting_leaves_no_address_unanswered(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(families); i++) {
		const struct family *family = &families[i];
		int lan = begin(family);

		for (int virtual = 1; virtual >= 0; virtual--) {
			wish(family, virtual);
			open_fence(family->vip);
			for (int to = 0; to < 2; to++)
				ASSERT_ROW(family->name, answers(lan, family, family->vip, &client_mac,
								 to ? &family->mac : &node_mac,
								 virtual ? &family->mac : &node_mac));
		}
		end(lan);
	}
}

/* Rules are loaded anew whenever a segment or an interval comes: the one that nft has no words for, too. */
static void test_the_rules_can_be_loaded_again_and_listed(void **state)
{
	const struct family *family = &families[1];
	struct nft_skeleton skeleton = virtual_skeleton();
	int lan = begin(family);

	(void)state;
	skeleton.intervals_cs[skeleton.interval_count++] = 200;
	commit(&skeleton);
	open_fence(family->vip);
	assert_true(answers(lan, family, family->vip, &client_mac, NULL, &family->mac));
	/* One rule, and not one more each time. */
	assert_string_equal(place_read("nft list chain netdev vipd " NFT_REWRITE_CHAIN " | grep -c @virtual6"),
			    "1\n");
	close(lan);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_a_client_is_answered_with_the_virtual_mac_and_a_member_is_not),
		TEST(test_a_question_in_its_name_does_not_say_the_nodes_mac),
		TEST(test_adverts_come_from_the_virtual_mac),
		TEST(test_frames_to_the_virtual_mac_come_in_at_the_owner_alone),
		TEST(test_a_bridge_takes_them_as_a_card_does),
		TEST(test_a_leaving_address_is_let_go_when_the_virtual_mac_is_heard),
		TEST(test_a_change_of_the_setting_leaves_no_address_unanswered),
		TEST(test_the_rules_can_be_loaded_again_and_listed),
	};

	place_enter();
	place_need_nft();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
