/* Another card on the same Ethernet answers for no address of ours, and asks in the name of none. */
#include "test/adapter/rules.h"

static struct nft_skeleton wished(void)
{
	struct nft_skeleton skeleton = skeleton_of(abilities.egress);

	nft_table_begin(table);
	want_vip("192.0.2.100", NFT_DATAPLANE_ANNOUNCE);
	return skeleton;
}

static bool holds_it(void)
{
	return place_try("nft get element arp vipd vips4 '{ 192.0.2.100 }' >/dev/null 2>&1") == 0;
}

static void test_what_somebody_else_takes_comes_back_and_the_fence_stays_open(void **state)
{
	static const char *const changes[] = { "delete table arp vipd", "flush chain arp vipd asked",
					       "delete element arp vipd vips4 '{ 192.0.2.100 }'" };
	struct base_address vip = place_address("192.0.2.100");
	struct nft_skeleton skeleton = wished();

	(void)state;
	commit(&skeleton);
	assert_true(holds_it());
	place_run("nft add element netdev vipd alive4 '{ 192.0.2.100 timeout 60s }'");
	for (size_t i = 0; i < 3; i++) {
		nft_table_drain(table);
		place_run("nft %s", changes[i]);
		ASSERT_ROW(changes[i], nft_table_drain(table) == NFT_TABLE_CHANGED);
		nft_table_forget(table);
		ASSERT_ROW(changes[i], commit(&skeleton) == 0);
		ASSERT_ROW(changes[i], holds_it() && is_alive(&vip));
		ASSERT_ROW(changes[i], strstr(place_read("nft list chain arp vipd asked"), "drop"));
	}
	/* Unnoticed, and found when elements are compared. */
	place_run("nft delete table arp vipd");
	nft_table_drain(table);
	nft_table_compare(table);
	commit(&skeleton);
	assert_true(holds_it() && is_alive(&vip));
}

static void test_another_set_of_that_name_is_replaced(void **state)
{
	struct nft_skeleton skeleton;

	(void)state;
	place_run("nft 'table arp vipd { set vips4 { type ipv4_addr; }; }'");
	skeleton = wished();
	commit(&skeleton);
	assert_true(holds_it());
	assert_int_equal(nft_table_remove(table), 0);
	assert_null(strstr(place_read("nft list ruleset"), "vipd"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_what_somebody_else_takes_comes_back_and_the_fence_stays_open),
		TEST(test_another_set_of_that_name_is_replaced),
	};

	place_enter();
	place_need_nft();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
