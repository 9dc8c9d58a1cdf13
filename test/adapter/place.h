#pragma once

/*
 * A network namespace of the test's own, made as root or in a user namespace, with a cable in it:
 * eth1 (MAC 02:00:00:00:00:01) is the node's interface, lan is the other end, where the test stands.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "test/unit/unit.h"
#include "vrrp/frame.h"

#define PLACE_UNUSED __attribute__((unused)) static

/* Exit 77 is a skip; the last line is its reason. */
__attribute__((noreturn)) PLACE_UNUSED void place_skip(const char *reason)
{
	printf("skipped: %s\n", reason);
	exit(77);
}

__attribute__((format(printf, 1, 2))) PLACE_UNUSED int place_try(const char *format, ...)
{
	char command[2048];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command, sizeof command, format, arguments);
	va_end(arguments);
	return system(command);
}

#define place_run(...) assert_int_equal(place_try(__VA_ARGS__), 0)

/* What a command says on stdout, in a buffer that the next call uses again. */
__attribute__((format(printf, 1, 2))) PLACE_UNUSED const char *place_read(const char *format, ...)
{
	static char text[1024 * 1024];
	char command[2048];
	va_list arguments;
	size_t size;
	FILE *pipe;

	va_start(arguments, format);
	vsnprintf(command, sizeof command, format, arguments);
	va_end(arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	size = fread(text, 1, sizeof text - 1, pipe);
	text[size] = '\0';
	pclose(pipe);
	return text;
}

PLACE_UNUSED void place_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd >= 0) {
		(void)!write(fd, text, strlen(text));
		close(fd);
	}
}

/* Before anything else, and before there is a second thread. */
PLACE_UNUSED void place_enter(void)
{
	uid_t uid = getuid();
	gid_t gid = getgid();
	char map[64];

	if (unshare(CLONE_NEWNET) < 0) {
		if (errno != EPERM || unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
			place_skip(
				"no right to make a network namespace: run as root, or allow user "
				"namespaces");
		place_write("/proc/self/setgroups", "deny");
		snprintf(map, sizeof map, "0 %u 1", uid);
		place_write("/proc/self/uid_map", map);
		snprintf(map, sizeof map, "0 %u 1", gid);
		place_write("/proc/self/gid_map", map);
	}
	/* No duplicate address detection, so that addresses are there at once. */
	place_write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
	place_write("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
	if (place_try("ip link set lo up") != 0)
		place_skip("no ip command: install iproute2");
}

PLACE_UNUSED void place_need_nft(void)
{
	if (place_try("nft list ruleset >/dev/null 2>&1") != 0)
		place_skip("no nft command that works here: install nftables");
}

PLACE_UNUSED void place_cable(void)
{
	place_run("ip link add eth1 address 02:00:00:00:00:01 type veth peer name lan");
	place_run("ip link set eth1 up && ip link set lan up");
	place_run("ip address add 192.0.2.1/24 dev eth1 && "
		  "ip address add 2001:db8::1/64 dev eth1 nodad");
}

PLACE_UNUSED struct base_address place_address(const char *text)
{
	struct base_address address;

	assert_true(base_address_parse(text, &address));
	return address;
}

PLACE_UNUSED uint64_t place_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

PLACE_UNUSED void place_sleep_ms(unsigned ms)
{
	usleep(ms * 1000);
}

/* A raw socket at the far end of the cable. */
PLACE_UNUSED int place_open(const char *interface)
{
	struct sockaddr_ll local = { .sll_family = AF_PACKET,
				     .sll_protocol = htons(ETH_P_ALL),
				     .sll_ifindex = (int)if_nametoindex(interface) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)), on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&local, sizeof local), 0);
	return fd;
}

/* The next frame within the time; 0: none. */
PLACE_UNUSED size_t place_hear(int fd, uint8_t *frame, size_t size, unsigned wait_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	ssize_t got;

	if (poll(&poll_fd, 1, (int)wait_ms) <= 0)
		return 0;
	got = recv(fd, frame, size, MSG_DONTWAIT);
	return got > 0 ? (size_t)got : 0;
}

/* Asks from the far end who has the address; true: the node's kernel says "I" within 150 ms. */
PLACE_UNUSED bool place_answers(int fd, const struct base_address *target)
{
	static const struct base_mac own_mac = { { 2, 0, 0, 0, 0, 0xfe } };
	struct base_address source =
		place_address(target->family == BASE_FAMILY_IPV4 ? "192.0.2.250" : "2001:db8::250");
	uint8_t frame[2048];
	struct vrrp_neighbour_seen seen;
	size_t size = vrrp_frame_ask(target, &source, &own_mac, NULL, frame);
	uint64_t end;

	while (place_hear(fd, frame + 256, sizeof frame - 256, 0) > 0)
		;
	assert_int_equal(send(fd, frame, size, 0), size);
	end = place_now_us() + 150000;
	while (place_now_us() < end) {
		size = place_hear(fd, frame, sizeof frame, 20);
		if (size > 0 && vrrp_frame_read(frame, size, &seen) && seen.answer &&
		    base_address_equal(&seen.address, target))
			return true;
	}
	return false;
}
