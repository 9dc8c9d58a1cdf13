/* Default routes of a real kernel, and neighbours that it is to know before it needs them. */
#include "test/adapter/links.h"

static bool leads_to(const char *interface, bool six, const char *gateway)
{
	const struct vrrp_link *link = link_of(interface);
	struct base_address wanted = place_address(gateway);

	return link && base_address_equal(&link->gateways[six], &wanted);
}

static uint64_t route_of(const char *interface, bool six)
{
	const struct vrrp_link *link = link_of(interface);

	assert_non_null(link);
	return link->routes[six];
}

/* The best one by each interface, whichever is the best of all; one that only a rule asks for is the last. */
static void test_default_routes_are_known_by_interface_and_metric(void **state)
{
	(void)state;
	place_run("ip link add other type bridge && ip link set other up && "
		  "ip address add 10.98.0.1/24 dev other && ip address add fd98::1/64 dev other nodad");
	assert_int_equal(route_of("eth1", false), 0);
	place_run("ip route add default via 192.0.2.77 dev eth1 table 100 && "
		  "ip -6 route add default via 2001:db8::77 dev eth1 table 100");
	assert_true(leads_to("eth1", false, "192.0.2.77") && leads_to("eth1", true, "2001:db8::77"));
	assert_true(route_of("eth1", false) >= VRRP_LINK_ROUTE_BY_RULE);
	place_run("ip route add default via 192.0.2.254 dev eth1 metric 300 && "
		  "ip route add default via 192.0.2.253 dev eth1 metric 200 && "
		  "ip -6 route add default via 2001:db8::fe dev eth1 metric 300 && "
		  "ip -6 route add default via 2001:db8::fd dev eth1 metric 200");
	assert_true(leads_to("eth1", false, "192.0.2.253") && leads_to("eth1", true, "2001:db8::fd"));
	place_run("ip route add default via 10.98.0.254 dev other metric 100 && "
		  "ip -6 route add default dev other metric 4000000000");
	assert_true(leads_to("other", false, "10.98.0.254"));
	assert_int_equal(link_of("other")->gateways[1].family, BASE_FAMILY_NONE);
	assert_true(route_of("other", false) < route_of("eth1", false));
	assert_true(route_of("other", true) > route_of("eth1", true));
	assert_true(route_of("other", true) < VRRP_LINK_ROUTE_BY_RULE);
	/* One route by both. */
	place_run("ip route add default metric 50 nexthop via 192.0.2.9 dev eth1 nexthop via 10.98.0.9 dev other && "
		  "ip -6 route add default metric 50 nexthop via 2001:db8::9 dev eth1 nexthop via fd98::9 dev other");
	for (int six = 0; six < 2; six++) {
		assert_true(leads_to("eth1", six, six ? "2001:db8::9" : "192.0.2.9"));
		assert_true(leads_to("other", six, six ? "fd98::9" : "10.98.0.9"));
		assert_int_equal(route_of("eth1", six), route_of("other", six));
	}
	place_run("ip link delete other");
}

static void test_a_neighbour_is_asked_for_before_there_is_something_to_send(void **state)
{
	static const char *const addresses[] = { "192.0.2.254", "2001:db8::fe" };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(addresses); i++) {
		struct base_address address = place_address(addresses[i]);

		for (int n = 0; n < 2; n++) { /* unknown, and known */
			assert_int_equal(vrrp_links_use(links, eth1, &address), 0);
			place_run("ip neigh show %s dev eth1 | grep -q .", addresses[i]);
		}
		assert_int_equal(vrrp_links_use(links, 7777, &address), -ENODEV);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_default_routes_are_known_by_interface_and_metric),
		TEST(test_a_neighbour_is_asked_for_before_there_is_something_to_send),
	};

	place_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
