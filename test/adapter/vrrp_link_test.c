/* Interfaces and addresses of a real kernel: ours come, expire and go, others' are left alone. */
#include <sys/syscall.h>

#include "test/adapter/links.h"
#include "vrrp/io/socket.h"

static unsigned sent; /* requests to the kernel: libnl finds this sendmsg() before the library's */

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	sent++;
	return syscall(SYS_sendmsg, fd, message, flags);
}

static bool has(const struct vrrp_link *link, const char *prefix)
{
	struct base_prefix wanted;

	assert_true(base_prefix_parse(prefix, &wanted));
	for (unsigned i = 0; i < link->address_count; i++)
		if (base_address_equal(&link->addresses[i].address, &wanted.address) &&
		    link->addresses[i].length == wanted.length)
			return true;
	return false;
}

static unsigned tagged(const char *text)
{
	struct base_address wanted = place_address(text);
	size_t count;
	const struct vrrp_link_tagged *all;
	unsigned found = 0;

	assert_int_equal(vrrp_links_refresh(links), 0);
	all = vrrp_links_tagged(links, &count);
	for (size_t i = 0; i < count; i++)
		found += all[i].index == eth1 && base_address_equal(&all[i].address, &wanted);
	return found;
}

static int add(const char *text, uint32_t valid_s)
{
	struct base_address address = place_address(text);

	return vrrp_links_add(links, eth1, &address, 1, valid_s);
}

static int remove_one(const char *text)
{
	struct base_address address = place_address(text);

	return vrrp_links_remove(links, eth1, &address, 1);
}

/* What `ip address` says of one address: the line, and the one with the lifetimes. */
static const char *kernel_says(const char *address)
{
	return place_read("ip address show dev eth1 to %s", address);
}

static bool readable(void)
{
	struct pollfd poll_fd = { .fd = vrrp_links_fd(links), .events = POLLIN };

	return poll(&poll_fd, 1, 300) == 1;
}

static void test_interfaces_are_known_with_addresses_and_gateways(void **state)
{
	const struct vrrp_link *link;
	struct base_address gateway4 = place_address("192.0.2.254");
	struct base_address gateway6 = place_address("2001:db8::fe");
	static const struct base_mac mac = { { 2, 0, 0, 0, 0, 1 } };

	(void)state;
	place_run("ip route add default via 192.0.2.254 && ip route add default via 2001:db8::fe");
	place_run("ip route add default via 192.0.2.77 table 100");
	place_run("ip route add unreachable default metric 9000");
	link = link_of("eth1");
	assert_non_null(link);
	assert_int_equal(link->index, eth1);
	assert_memory_equal(&link->mac, &mac, 6);
	assert_true(link->ethernet);
	assert_true(link->up);
	assert_true(has(link, "192.0.2.1/24"));
	assert_true(has(link, "2001:db8::1/64"));
	assert_true(has(link, "fe80::ff:fe00:1/64"));
	assert_true(base_address_equal(&link->gateways[0], &gateway4));
	assert_true(base_address_equal(&link->gateways[1], &gateway6));
	link = link_of("lo");
	assert_non_null(link);
	assert_false(link->ethernet);
}

/* No route, no duplicate address detection, no use as a source, and an end by itself. */
static void test_our_addresses_are_marked_bare_and_mortal(void **state)
{
	static const char *const rows[] = { "192.0.2.100", "2001:db8::100" };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		bool six = strchr(rows[i], ':');
		const char *said;

		assert_int_equal(add(rows[i], 10), 0);
		said = kernel_says(rows[i]);
		ASSERT_ROW(rows[i], strstr(said, six ? "2001:db8::100/128" : "192.0.2.100/32"));
		ASSERT_ROW(rows[i], strstr(said, "deprecated"));
		ASSERT_ROW(rows[i], strstr(said, "noprefixroute"));
		ASSERT_ROW(rows[i], strstr(said, "preferred_lft 0sec"));
		ASSERT_ROW(rows[i],
			   strstr(said, "valid_lft 10sec") || strstr(said, "valid_lft 9sec"));
		ASSERT_ROW(rows[i], !strstr(said, "tentative"));
		if (six)
			ASSERT_ROW(rows[i], strstr(said, "nodad"));
		ASSERT_ROW(rows[i], tagged(rows[i]) == 1);
		ASSERT_ROW(rows[i],
			   !has(link_of("eth1"), six ? "2001:db8::100/128" : "192.0.2.100/32"));
	}
	assert_null(strstr(place_read("ip route; ip -6 route"), "::100"));
	assert_null(strstr(place_read("ip route; ip -6 route"), "192.0.2.100"));
}

static void test_adding_again_prolongs_and_a_second_time_is_no_second_address(void **state)
{
	const char *said;

	(void)state;
	for (int six = 0; six < 2; six++) {
		const char *address = six ? "2001:db8::100" : "192.0.2.100";

		assert_int_equal(add(address, 5), 0);
		assert_int_equal(add(address, 1000), 0);
		said = kernel_says(address);
		assert_true(strstr(said, "valid_lft 1000sec") || strstr(said, "valid_lft 999sec"));
		assert_non_null(strstr(said, "preferred_lft 0sec"));
		assert_int_equal(tagged(address), 1);
	}
}

static void test_what_a_dead_daemon_left_expires(void **state)
{
	uint64_t start_us = place_now_us();

	(void)state;
	assert_int_equal(add("192.0.2.100", 1), 0);
	assert_int_equal(add("2001:db8::100", 1), 0);
	while (tagged("192.0.2.100") || tagged("2001:db8::100")) {
		assert_true(place_now_us() - start_us < 8000000);
		place_sleep_ms(50);
	}
	assert_true(place_now_us() - start_us > 900000);
}

static void test_a_restarted_daemon_recognises_and_removes_its_own(void **state)
{
	(void)state;
	assert_int_equal(add("192.0.2.100", 60), 0);
	assert_int_equal(add("2001:db8::100", 60), 0);
	vrrp_links_free(links);
	assert_int_equal(vrrp_links_new(&links), 0);
	assert_int_equal(tagged("192.0.2.100"), 1);
	assert_int_equal(tagged("2001:db8::100"), 1);
	assert_int_equal(remove_one("192.0.2.100"), 0);
	assert_int_equal(remove_one("2001:db8::100"), 0);
	assert_int_equal(tagged("192.0.2.100"), 0);
	assert_int_equal(tagged("2001:db8::100"), 0);
	/* What is gone already is as wanted. */
	assert_int_equal(remove_one("192.0.2.100"), 0);
	assert_int_equal(remove_one("2001:db8::100"), 0);
}

/* An administrator's own address, be it in the way or only beside. */
static void test_addresses_of_others_are_never_touched(void **state)
{
	static const char *const rows[] = { "192.0.2.200", "2001:db8::200" };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		int length = strchr(rows[i], ':') ? 128 : 32;

		place_run("ip address add %s/%d dev eth1", rows[i], length);
		assert_int_equal(vrrp_links_refresh(links), 0);
		ASSERT_ROW(rows[i], add(rows[i], 5) == -EEXIST);
		ASSERT_ROW(rows[i], strstr(kernel_says(rows[i]), "valid_lft forever"));
		ASSERT_ROW(rows[i], tagged(rows[i]) == 0);
		ASSERT_ROW(rows[i], remove_one(rows[i]) == 0);
		ASSERT_ROW(rows[i], strstr(kernel_says(rows[i]), "valid_lft forever"));
	}
	/* The same address with the subnet's length is the node's own. */
	assert_int_equal(add("192.0.2.1", 5), -EEXIST);
	assert_non_null(strstr(kernel_says("192.0.2.1"), "192.0.2.1/24"));
	assert_null(strstr(kernel_says("192.0.2.1"), "192.0.2.1/32"));
}

/* So long as the kernel asks on the segment whether it is somebody's, it is the administrator's all the same. */
static void test_an_address_that_is_tentative_is_somebodys(void **state)
{
	(void)state;
	place_write("/proc/sys/net/ipv6/conf/eth1/accept_dad", "1");
	place_write("/proc/sys/net/ipv6/conf/eth1/dad_transmits", "10");
	place_run("ip address add 2001:db8::201/128 dev eth1");
	assert_non_null(strstr(kernel_says("2001:db8::201"), "tentative"));
	assert_int_equal(vrrp_links_refresh(links), 0);
	assert_int_equal(add("2001:db8::201", 5), -EEXIST);
	assert_int_equal(remove_one("2001:db8::201"), 0);
	assert_non_null(strstr(kernel_says("2001:db8::201"), "valid_lft forever"));
}

static void test_one_that_is_refused_does_not_hold_up_the_others(void **state)
{
	struct base_address addresses[] = { place_address("192.0.2.100"), place_address("ff02::5"),
					    place_address("2001:db8::100") };

	(void)state;
	assert_true(vrrp_links_add(links, eth1, addresses, 3, 60) < 0);
	assert_int_equal(tagged("192.0.2.100"), 1);
	assert_int_equal(tagged("2001:db8::100"), 1);
	assert_int_equal(vrrp_links_add(links, 7777, addresses, 1, 60), -ENODEV);
	assert_int_equal(vrrp_links_remove(links, 7777, addresses, 1), 0);
}

static void test_changes_wake_us_and_silence_does_not(void **state)
{
	static const struct {
		const char *name, *command;
		bool up;
	} rows[] = {
		{ "the cable is pulled at the far end", "ip link set lan down", false },
		{ "and plugged in again", "ip link set lan up", true },
		{ "the interface is shut", "ip link set eth1 down", false },
		{ "and opened", "ip link set eth1 up", true },
		{ "an address comes", "ip address add 192.0.2.9/24 dev eth1", true },
		{ "an address goes", "ip address del 192.0.2.9/24 dev eth1", true },
		{ "a gateway comes", "ip route add default via 192.0.2.254", true },
	};

	(void)state;
	place_sleep_ms(100);
	vrrp_links_drain(links);
	vrrp_links_refresh(links);
	assert_int_equal(vrrp_links_drain(links), 0);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		const struct vrrp_link *link;
		bool up = !rows[i].up;

		place_run("%s", rows[i].command);
		ASSERT_ROW(rows[i].name, readable());
		/* Link changes come in several steps. */
		for (int wait = 0; wait < 40 && up != rows[i].up; wait++) {
			place_sleep_ms(25);
			vrrp_links_drain(links);
			link = link_of("eth1");
			up = link && link->up;
		}
		ASSERT_ROW(rows[i].name, up == rows[i].up);
		place_sleep_ms(50);
		vrrp_links_drain(links);
		vrrp_links_refresh(links);
		ASSERT_ROW(rows[i].name, vrrp_links_drain(links) == 0);
	}
}

static void test_an_address_that_somebody_removes_is_missed_at_once(void **state)
{
	(void)state;
	assert_int_equal(add("192.0.2.100", 60), 0);
	vrrp_links_drain(links);
	assert_int_equal(tagged("192.0.2.100"), 1);
	place_run("ip address del 192.0.2.100/32 dev eth1");
	assert_true(readable());
	assert_int_equal(vrrp_links_drain(links), 1);
	assert_int_equal(tagged("192.0.2.100"), 0);
}

static void test_a_renewal_of_an_address_is_nothing_new(void **state)
{
	(void)state;
	assert_int_equal(add("192.0.2.100", 60), 0);
	assert_int_equal(vrrp_links_drain(links), 1);
	assert_int_equal(tagged("192.0.2.100"), 1);
	assert_int_equal(add("192.0.2.100", 90), 0);
	assert_true(readable());
	assert_int_equal(vrrp_links_drain(links), 0);
	assert_false(readable());
	assert_int_equal(add("192.0.2.101", 60), 0); /* another one is */
	assert_int_equal(vrrp_links_drain(links), 1);
	assert_int_equal(tagged("192.0.2.101"), 1);
	place_run("ip address add 192.0.2.102/32 dev eth1"); /* and so is what somebody else adds, or changes */
	assert_int_equal(vrrp_links_drain(links), 1);
	vrrp_links_refresh(links);
	place_run("ip address change 192.0.2.102/32 dev eth1 valid_lft 60 preferred_lft 60");
	assert_int_equal(vrrp_links_drain(links), 1);
	place_run("ip address del 192.0.2.102/32 dev eth1");
}

static void test_an_interface_that_vanishes_is_gone_and_its_successor_is_another(void **state)
{
	(void)state;
	assert_non_null(link_of("eth1"));
	place_run("ip link delete eth1");
	assert_int_equal(vrrp_links_drain(links), 1);
	assert_null(link_of("eth1"));
	assert_int_equal(add("192.0.2.100", 60), -ENODEV);
	assert_int_equal(remove_one("192.0.2.100"), 0);
	place_cable();
	assert_non_null(link_of("eth1"));
	assert_int_not_equal(link_of("eth1")->index, eth1);
}

/* More events than the socket holds: what was missed is looked at anew, and then it is quiet. */
static void test_lost_events_are_a_reason_to_look(void **state)
{
	FILE *batch = fopen("/tmp/vipd-link-test-batch", "we");

	(void)state;
	assert_non_null(batch);
	for (int round = 0; round < 10; round++)
		for (int i = 0; i < 500; i++)
			fprintf(batch, "address %s 10.%d.%d.1/32 dev eth1\n",
				round & 1 ? "del" : "add", i / 250, i % 250);
	fclose(batch);
	place_run("ip -batch /tmp/vipd-link-test-batch");
	unlink("/tmp/vipd-link-test-batch");
	assert_int_equal(vrrp_links_drain(links), 1);
	for (int i = 0; i < 100 && vrrp_links_drain(links) == 1; i++)
		assert_int_equal(vrrp_links_refresh(links), 0);
	assert_true(has(link_of("eth1"), "192.0.2.1/24"));
	assert_int_equal(vrrp_links_drain(links), 0);
}

static void test_hundreds_of_addresses_are_added_and_removed(void **state)
{
	struct base_address addresses[300];
	size_t count;

	(void)state;
	for (unsigned i = 0; i < 300; i++)
		addresses[i] = base_address_ipv4(198, 51, (uint8_t)(100 + i / 200),
						 (uint8_t)(i % 200 + 1));
	assert_int_equal(vrrp_links_add(links, eth1, addresses, 300, 60), 0);
	assert_int_equal(vrrp_links_refresh(links), 0);
	vrrp_links_tagged(links, &count);
	assert_int_equal(count, 300);
	assert_int_equal(vrrp_links_remove(links, eth1, addresses, 300), 0);
	assert_int_equal(vrrp_links_refresh(links), 0);
	vrrp_links_tagged(links, &count);
	assert_int_equal(count, 0);
}

static bool filters(const char *interface, const char *mac)
{
	return place_try("bridge fdb show dev %s | grep -q '^%s .*permanent'", interface, mac) == 0;
}

/* RFC 9568 section 7.3: it is taken in besides the interface's own, on a card as on a bridge. */
static void test_frames_to_a_virtual_mac_are_taken_in_or_not_any_more(void **state)
{
	static const char *const interfaces[] = { "eth1", "br-ex" };
	static const struct base_mac mac = { { 0, 0, 0x5e, 0, 1, 9 } };

	(void)state;
	place_run("ip link add br-ex type bridge && ip link set br-ex up");
	for (size_t i = 0; i < BASE_COUNT_OF(interfaces); i++) {
		unsigned index = if_nametoindex(interfaces[i]);

		assert_int_equal(vrrp_links_ignore(links, index, &mac), 0); /* it is not there */
		for (int n = 0; n < 2; n++) {
			assert_int_equal(vrrp_links_listen(links, index, &mac), 0);
			assert_true(filters(interfaces[i], "00:00:5e:00:01:09"));
		}
		assert_int_equal(vrrp_links_ignore(links, index, &mac), 0);
		assert_false(filters(interfaces[i], "00:00:5e:00:01:09"));
	}
	place_run("ip link delete br-ex");
	assert_int_equal(vrrp_links_ignore(links, 7777, &mac), 0);
	assert_int_equal(vrrp_links_listen(links, 7777, &mac), -ENODEV);
}

static unsigned asked_about;

static bool of_family(const void *userdata, unsigned index, const struct base_mac *mac)
{
	asked_about++;
	return index == eth1 && mac->bytes[4] == *(const uint8_t *)userdata && mac->bytes[5] <= 5;
}

/* A predecessor's: where one is left, nobody wrote down. One question, and what is there and unwanted goes. */
static void test_virtual_macs_nobody_wants_are_found_by_one_question(void **state)
{
	static const uint8_t four = 1, six = 2;
	struct base_mac mac = { { 0, 0, 0x5e, 0, 1, 0 } };
	unsigned other, before;

	(void)state;
	place_run("ip link add br-ex type bridge && ip link set br-ex up");
	other = if_nametoindex("br-ex");
	before = sent;
	asked_about = 0; /* groups that it listens to are in its filter, too: nobody's virtual MAC */
	assert_int_equal(vrrp_links_ignore_unwanted(links, of_family, &four), 0);
	assert_int_equal(asked_about, 0);
	assert_int_equal(sent - before, 1);
	place_run("bridge fdb add 02:00:00:00:01:01 dev eth1 self");
	for (mac.bytes[5] = 1; mac.bytes[5] <= 6; mac.bytes[5]++) {
		assert_int_equal(vrrp_links_listen(links, eth1, &mac), 0);
		assert_int_equal(vrrp_links_listen(links, other, &mac), 0);
	}
	before = sent;
	assert_int_equal(vrrp_links_ignore_unwanted(links, of_family, &six), 0);
	assert_in_range(asked_about, 12, 18); /* Linux 6.1 lists what a bridge has twice */
	assert_int_equal(sent - before, 1);
	assert_int_equal(vrrp_links_ignore_unwanted(links, of_family, &four), 5);
	assert_int_equal(sent - before, 2 + 5);
	assert_false(filters("eth1", "00:00:5e:00:01:01"));
	assert_false(filters("eth1", "00:00:5e:00:01:05"));
	assert_true(filters("eth1", "00:00:5e:00:01:06"));
	assert_true(filters("eth1", "02:00:00:00:01:01"));
	assert_true(filters("br-ex", "00:00:5e:00:01:01"));
	place_run("ip link delete br-ex");
}

/* More neighbours than the kernel takes; it has one table for all namespaces. */
static void write_neighbours(const char *path, const char *form)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	for (unsigned i = 0; i < 20000; i++) {
		fputs("neigh replace ", file);
		fprintf(file, form, i / 250, 1 + i % 250);
		fputs(" lladdr 02:00:00:00:00:77 dev eth2 nud reachable\n", file);
	}
	fclose(file);
}

/* Heard on the cable: over IPv4 the kernel does not say that it had no room (ip_send_skb()). */
static bool leaves(struct vrrp_socket *socket, const struct base_address *own, int lan)
{
	uint8_t frame[256];
	size_t size;

	while (place_hear(lan, frame, sizeof frame, 0) > 0)
		;
	(void)!vrrp_socket_send(socket, own, NULL, (const uint8_t[8]){ 0 }, 8);
	while ((size = place_hear(lan, frame, sizeof frame, 20)) > 0)
		if (size >= 42 && frame[own->family == BASE_FAMILY_IPV4 ? 23 : 20] == VRRP_PROTOCOL)
			return true;
	return false;
}

/* Whoever has something in the table may make room for one more by letting it go, so: again. */
static bool stops_when_full(struct vrrp_socket *socket, const struct base_address *own,
			    const char *path, int lan)
{
	for (unsigned i = 0; i < 20; i++) {
		assert_int_not_equal(place_try("ip -batch %s 2>/dev/null", path), 0);
		if (!leaves(socket, own, lan))
			return true;
	}
	return false;
}

static void test_adverts_leave_while_the_table_of_neighbours_is_full(void **state)
{
	static const struct {
		enum base_family family;
		const char *own, *form;
	} rows[] = {
		{ BASE_FAMILY_IPV4, "192.0.2.1", "10.7.%u.%u" },
		{ BASE_FAMILY_IPV6, "fe80::1", "fd00:7::%x:%x" },
	};

	char path[] = "/tmp/vipd-neighbours-XXXXXX";
	int lan = place_open("lan");

	(void)state;
	close(mkstemp(path));
	place_run("ip address add fe80::1/64 dev eth1 nodad");
	for (size_t row = 0; row < BASE_COUNT_OF(rows); row++) {
		struct base_address own = place_address(rows[row].own);
		struct vrrp_socket *socket;

		write_neighbours(path, rows[row].form);
		place_run("ip link add eth2 type veth peer name lan2 && ip link set eth2 up && "
			  "ip link set lan2 up");
		assert_int_equal(vrrp_socket_new(&socket, rows[row].family, eth1), 0);
		ASSERT_ROW(rows[row].own, stops_when_full(socket, &own, path, lan));
		assert_int_equal(vrrp_links_keep_group(links, eth1, rows[row].family), 0);
		ASSERT_ROW(rows[row].own, !stops_when_full(socket, &own, path, lan));
		assert_int_equal(vrrp_links_forget_group(links, eth1, rows[row].family), 0);
		assert_int_equal(vrrp_links_forget_group(links, eth1, rows[row].family), 0);
		ASSERT_ROW(rows[row].own, stops_when_full(socket, &own, path, lan));
		place_run("ip link delete eth2");
		vrrp_socket_free(socket);
	}
	unlink(path);
	close(lan);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_interfaces_are_known_with_addresses_and_gateways),
		TEST(test_our_addresses_are_marked_bare_and_mortal),
		TEST(test_adding_again_prolongs_and_a_second_time_is_no_second_address),
		TEST(test_what_a_dead_daemon_left_expires),
		TEST(test_a_restarted_daemon_recognises_and_removes_its_own),
		TEST(test_addresses_of_others_are_never_touched),
		TEST(test_an_address_that_is_tentative_is_somebodys),
		TEST(test_one_that_is_refused_does_not_hold_up_the_others),
		TEST(test_changes_wake_us_and_silence_does_not),
		TEST(test_an_address_that_somebody_removes_is_missed_at_once),
		TEST(test_a_renewal_of_an_address_is_nothing_new),
		TEST(test_an_interface_that_vanishes_is_gone_and_its_successor_is_another),
		TEST(test_lost_events_are_a_reason_to_look),
		TEST(test_hundreds_of_addresses_are_added_and_removed),
		TEST(test_frames_to_a_virtual_mac_are_taken_in_or_not_any_more),
		TEST(test_virtual_macs_nobody_wants_are_found_by_one_question),
		TEST(test_adverts_leave_while_the_table_of_neighbours_is_full),
	};

	place_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
