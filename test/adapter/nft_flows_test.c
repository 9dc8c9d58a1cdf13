/* Flows in a real kernel's table: which ones are deleted, and which are not. */
#include <netinet/in.h>
#include <poll.h>

#include "nft/io/flows.h"
#include "test/adapter/place.h"

#define FLOWS 300 /* more than one piece of the kernel's table */

static struct nft_flows *flows;

/* Both VIPs' port 53 goes to port 5353 of the loopback address; port 54 is tracked, too. */
static int set_up(void **state)
{
	(void)state;
	place_run("ip link set lo up; nft flush ruleset");
	place_run("ip address replace 192.0.2.10/32 dev lo; ip address replace 2001:db8::10/128 dev lo");
	place_run("nft -f - <<'END'\n"
		  "table inet t {\n"
		  " chain out { type nat hook output priority -100;\n"
		  "  ip daddr 192.0.2.10 udp dport 53 dnat ip to 127.0.0.1:5353\n"
		  "  ip6 daddr 2001:db8::10 udp dport 53 dnat ip6 to [::1]:5353\n }\n"
		  "}\nEND");
	assert_int_equal(nft_flows_new(&flows), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	nft_flows_free(flows);
	return 0;
}

static void say(const char *address, uint16_t port, uint16_t from)
{
	struct base_address to = place_address(address);
	union {
		struct sockaddr_in four;
		struct sockaddr_in6 six;
		struct sockaddr any;
	} local = { 0 }, remote = { 0 };
	bool six = to.family == BASE_FAMILY_IPV6;
	socklen_t size = six ? sizeof local.six : sizeof local.four;
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;

	if (six) {
		local.six = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(from) };
		remote.six = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
		memcpy(&remote.six.sin6_addr, to.bytes, 16);
	} else {
		local.four = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(from) };
		remote.four = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
		memcpy(&remote.four.sin_addr, to.bytes, 4);
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	assert_int_equal(bind(fd, &local.any, size), 0);
	assert_int_equal(sendto(fd, "x", 1, 0, &remote.any, size), 1);
	close(fd);
}

/* A server, so that nobody answers "unreachable" and the flows stay in the table. */
static int serve(bool six, uint16_t port)
{
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = 1;
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	if (six)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	assert_int_equal(bind(fd, six ? (struct sockaddr *)&any : (struct sockaddr *)&four,
			      six ? sizeof any : sizeof four),
			 0);
	return fd;
}

/* How many flows went between the beginning of this reading and its end. */
static unsigned released(void)
{
	uint64_t before = nft_flows_released(flows);
	struct pollfd readable = { .fd = nft_flows_fd(flows), .events = POLLIN };

	do
		assert_int_equal(nft_flows_run(flows), 0);
	while (poll(&readable, 1, 100) > 0);
	return (unsigned)(nft_flows_released(flows) - before);
}

static void release(const char *vip, uint16_t port, const char *endpoint)
{
	struct base_address address = place_address(vip);
	struct nft_flow_end end = { .port = 5353 };

	if (endpoint)
		end.address = place_address(endpoint);
	assert_int_equal(nft_flows_release(flows, &address, IPPROTO_UDP, port, &end, endpoint != NULL),
			 0);
}

static void test_flows_to_who_is_gone_are_deleted_and_only_they(void **state)
{
	int servers[] = { serve(false, 5353), serve(true, 5353), serve(false, 54), serve(true, 54) };

	(void)state;
	for (uint16_t i = 0; i < FLOWS; i++) {
		say("192.0.2.10", 53, (uint16_t)(20000 + i));
		say("2001:db8::10", 53, (uint16_t)(20000 + i));
	}
	say("192.0.2.10", 54, 30000);
	say("2001:db8::10", 54, 30000);
	release("192.0.2.10", 53, "127.0.0.1"); /* where they go */
	release("2001:db8::10", 53, "::1");
	assert_int_equal(released(), 0);
	release("192.0.2.10", 53, "127.0.0.2");
	assert_int_equal(released(), FLOWS);
	assert_int_equal(released(), 0);
	release("192.0.2.10", 53, "127.0.0.2");
	release("2001:db8::10", 53, NULL);
	assert_int_equal(released(), FLOWS);
	/* The neighbours on port 54 are still there to be found. */
	release("192.0.2.10", 54, NULL);
	release("2001:db8::10", 54, NULL);
	assert_int_equal(released(), 2);
	for (unsigned i = 0; i < BASE_COUNT_OF(servers); i++)
		close(servers[i]);
}

static void test_what_is_said_last_of_a_port_counts(void **state)
{
	int server = serve(false, 5353);

	(void)state;
	for (uint16_t i = 0; i < FLOWS; i++)
		say("192.0.2.10", 53, (uint16_t)(21000 + i));
	release("192.0.2.10", 53, "127.0.0.2");
	release("192.0.2.10", 53, "127.0.0.1");
	assert_int_equal(released(), 0);
	release("192.0.2.10", 53, "127.0.0.2");
	assert_int_equal(released(), FLOWS);
	close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_flows_to_who_is_gone_are_deleted_and_only_they,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_said_last_of_a_port_counts, set_up,
						tear_down),
	};

	place_enter();
	place_need_nft();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
