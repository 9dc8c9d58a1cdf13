/*
 * As much as goes through, for benches.
 *
 *   load serve PORT                               TCP: a byte, then whatever comes is thrown away; PORT + 1:
 *                                                 zeros without end; UDP: counted, a datagram of one byte asks
 *   load connect ADDRESS PORT SECONDS PARALLEL    new connections: {"per_second", "p50_us", "p99_us", "failed"}
 *   load download ADDRESS PORT SECONDS            zeros: {"mbit"}
 *   load udp ADDRESS PORT SECONDS                 64 bytes each: {"sent_per_second", "arrived_per_second"}
 *   load frames DEVICE MAC SOURCE ADDRESS PORT    what a datagram costs this processor on its way through the
 *                                                 namespaces that stand here for machines, IPv4:
 *                                                 {"same_ns", "new_ns"}: always the same flow, which ADDRESS
 *                                                 (`load serve`) has answered; always another
 *
 * A connection counts when its byte is there, and is reset then, so that ports do not run out.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/ether.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/tools/tool.h"

#define PARALLEL_MAX  1024
#define SAMPLES_MAX   (1 << 20)
#define BATCH	      64
#define DATAGRAM      64
#define COUNT_IDLE_US 5000

static struct addrinfo *resolve(const char *address, const char *port, int type)
{
	struct addrinfo hints = { .ai_socktype = type,
				  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found;

	if (getaddrinfo(address, port, &hints, &found) != 0) {
		fprintf(stderr, "load: %s port %s is no address and port\n", address, port);
		exit(2);
	}
	return found;
}

/* --- the server --- */

enum role { ROLE_GREETER, ROLE_SOURCE, ROLE_COUNTER, ROLE_SINK, ROLE_SENDER };

struct peer {
	enum role role;
	int fd;
};

static void add_peer(int epoll, enum role role, int fd, uint32_t events)
{
	struct peer *peer = malloc(sizeof *peer);
	struct epoll_event event = { .events = events, .data.ptr = peer };

	*peer = (struct peer){ role, fd };
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll");
}

static void listen_on(int epoll, enum role role, int type, unsigned port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, size = 8 << 20;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 4096) < 0))
		die("listen");
	add_peer(epoll, role, fd, EPOLLIN);
}

static void accept_all(int epoll, const struct peer *peer)
{
	int fd;

	while ((fd = accept4(peer->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (peer->role == ROLE_GREETER && write(fd, "x", 1) != 1) {
			close(fd);
			continue;
		}
		if (peer->role == ROLE_GREETER)
			add_peer(epoll, ROLE_SINK, fd, EPOLLIN);
		else
			add_peer(epoll, ROLE_SENDER, fd, EPOLLOUT);
	}
}

static void answer_count(int fd, const struct sockaddr_in6 *to, uint64_t count)
{
	char text[32];

	snprintf(text, sizeof text, "%" PRIu64, count);
	sendto(fd, text, strlen(text), 0, (const struct sockaddr *)to, sizeof *to);
}

/* Counts on until nothing has come for a while: waking up for each datagram would cost more than its way here. */
static void count_all(int fd)
{
	static uint64_t count;
	static char data[BATCH][2048];
	struct sockaddr_in6 from[BATCH];
	struct iovec pieces[BATCH];
	struct mmsghdr batch[BATCH];
	uint64_t last_us = now_us();

	for (int i = 0; i < BATCH; i++)
		pieces[i] = (struct iovec){ data[i], sizeof data[i] };
	while (now_us() - last_us < COUNT_IDLE_US) {
		int came;

		for (int i = 0; i < BATCH; i++)
			batch[i].msg_hdr = (struct msghdr){ .msg_name = &from[i],
							    .msg_namelen = sizeof from[i],
							    .msg_iov = &pieces[i],
							    .msg_iovlen = 1 };
		came = recvmmsg(fd, batch, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < came; i++) {
			if (batch[i].msg_len != 1) {
				count++;
				continue;
			}
			answer_count(fd, &from[i], count);
			count = 0;
		}
		if (came > 0)
			last_us = now_us();
	}
}

static void move_data(struct peer *peer)
{
	static char data[256 * 1024];
	ssize_t size = peer->role == ROLE_SENDER ? write(peer->fd, data, sizeof data)
						 : read(peer->fd, data, sizeof data);

	if (size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	close(peer->fd);
	free(peer);
}

static _Noreturn void serve(unsigned port)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	listen_on(epoll, ROLE_GREETER, SOCK_STREAM, port);
	listen_on(epoll, ROLE_SOURCE, SOCK_STREAM, port + 1);
	listen_on(epoll, ROLE_COUNTER, SOCK_DGRAM, port);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		struct epoll_event events[256];
		int count = epoll_wait(epoll, events, 256, -1);

		for (int i = 0; i < count; i++) {
			struct peer *peer = events[i].data.ptr;

			switch (peer->role) {
			case ROLE_GREETER:
			case ROLE_SOURCE:
				accept_all(epoll, peer);
				break;
			case ROLE_COUNTER:
				count_all(peer->fd);
				break;
			case ROLE_SINK:
			case ROLE_SENDER:
				move_data(peer);
				break;
			}
		}
	}
}

/* --- the client --- */

struct attempt {
	int fd;
	uint64_t begin_us;
};

static void begin(int epoll, const struct addrinfo *to, struct attempt *attempt)
{
	struct linger reset = { .l_onoff = 1 };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = attempt };

	attempt->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(attempt->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	attempt->begin_us = now_us();
	if (connect(attempt->fd, to->ai_addr, to->ai_addrlen) < 0 && errno != EINPROGRESS)
		die("connect");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, attempt->fd, &event) < 0)
		die("epoll");
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void connections(const struct addrinfo *to, double seconds, unsigned parallel)
{
	static struct attempt attempts[PARALLEL_MAX];
	static uint32_t samples[SAMPLES_MAX];
	uint64_t start = now_us(), end = start + (uint64_t)(seconds * 1e6);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	size_t count = 0, failed = 0;

	if (parallel > PARALLEL_MAX)
		parallel = PARALLEL_MAX;
	for (unsigned i = 0; i < parallel; i++)
		begin(epoll, to, &attempts[i]);
	while (now_us() < end && count < SAMPLES_MAX) {
		struct epoll_event events[256];
		int ready = epoll_wait(epoll, events, 256, 100);

		for (int i = 0; i < ready && count < SAMPLES_MAX; i++) {
			struct attempt *attempt = events[i].data.ptr;
			char byte;

			if (read(attempt->fd, &byte, 1) == 1)
				samples[count++] = (uint32_t)(now_us() - attempt->begin_us);
			else
				failed++;
			close(attempt->fd);
			begin(epoll, to, attempt);
		}
	}
	if (count == 0) {
		fprintf(stderr, "load: nobody answered\n");
		exit(1);
	}
	seconds = (double)(now_us() - start) / 1e6;
	qsort(samples, count, sizeof samples[0], compare);
	printf("{\"per_second\":%.0f,\"p50_us\":%u,\"p99_us\":%u,\"failed\":%zu}\n",
	       (double)count / seconds, samples[count / 2], samples[count * 99 / 100], failed);
}

static void download(const struct addrinfo *to, double seconds)
{
	static char data[256 * 1024];
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t start, bytes = 0, took;

	if (connect(fd, to->ai_addr, to->ai_addrlen) < 0)
		die("connect");
	start = now_us();
	while ((took = now_us() - start) < (uint64_t)(seconds * 1e6)) {
		ssize_t size = read(fd, data, sizeof data);

		if (size <= 0)
			die("download");
		bytes += (uint64_t)size;
	}
	printf("{\"mbit\":%.0f}\n", (double)bytes * 8 / (double)took);
}

static uint64_t ask_count(int fd)
{
	struct timeval patience = { .tv_usec = 200000 };
	char text[32] = "";

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	for (int i = 0; i < 20; i++) {
		ssize_t size = send(fd, "?", 1, 0) == 1 ? recv(fd, text, sizeof text - 1, 0) : -1;

		if (size > 0)
			return strtoull(text, NULL, 10);
	}
	die("nobody counts");
	return 0;
}

static void datagrams(const struct addrinfo *to, double seconds)
{
	int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char data[DATAGRAM] = { 0 };
	struct iovec piece = { data, sizeof data };
	struct mmsghdr batch[BATCH];
	uint64_t start, sent = 0, took;

	memset(batch, 0, sizeof batch);
	for (int i = 0; i < BATCH; i++)
		batch[i].msg_hdr = (struct msghdr){ .msg_iov = &piece, .msg_iovlen = 1 };
	if (connect(fd, to->ai_addr, to->ai_addrlen) < 0)
		die("connect");
	ask_count(fd); /* from here on */
	start = now_us();
	while ((took = now_us() - start) < (uint64_t)(seconds * 1e6)) {
		int count = sendmmsg(fd, batch, BATCH, 0);

		sent += count > 0 ? (uint64_t)count : 0;
	}
	usleep(50000); /* the last ones are there, and counted */
	printf("{\"sent_per_second\":%.0f,\"arrived_per_second\":%.0f}\n", (double)sent * 1e6 / (double)took,
	       (double)ask_count(fd) * 1e6 / (double)took);
}

/* --- frames --- */

#define FRAME_SIZE (14 + 20 + 8 + DATAGRAM)
#define BURSTS	   100
#define SOURCE_PORT "1024"

static uint16_t checksum(const uint8_t *data, size_t size)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < size; i += 2)
		sum += (uint32_t)(data[i] << 8 | data[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* A datagram without a checksum; its source port is at offset 34. */
static void fill_frame(uint8_t frame[static FRAME_SIZE], char *const *words)
{
	static const uint8_t ip[] = { 0x45, 0, 0, 20 + 8 + DATAGRAM, 0, 0, 0, 0, 64, IPPROTO_UDP };
	struct ether_addr *to = ether_aton(words[1]);

	if (!to) {
		fprintf(stderr, "load: %s is no MAC address\n", words[1]);
		exit(2);
	}
	memset(frame, 0, FRAME_SIZE);
	memcpy(frame, to, ETH_ALEN);
	frame[6] = 2; /* from nobody */
	put16(frame + 12, ETH_P_IP);
	memcpy(frame + 14, ip, sizeof ip);
	if (inet_pton(AF_INET, words[2], frame + 26) != 1 || inet_pton(AF_INET, words[3], frame + 30) != 1) {
		fprintf(stderr, "load: %s and %s must be IPv4 addresses\n", words[2], words[3]);
		exit(2);
	}
	put16(frame + 24, checksum(frame + 14, 20));
	put16(frame + 34, (unsigned)atoi(SOURCE_PORT));
	put16(frame + 36, (unsigned)atoi(words[4]));
	put16(frame + 38, 8 + DATAGRAM);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Sent is gone through, for the kernel does both in one go. A tenth of the bursts is faster: what disturbs is not counted. */
static uint32_t frame_ns(int fd, const uint8_t *frame, bool fresh)
{
	static uint8_t frames[BATCH][FRAME_SIZE];
	static uint32_t samples[BURSTS];
	static unsigned port = 1024; /* SOURCE_PORT is known */
	struct iovec pieces[BATCH];
	struct mmsghdr batch[BATCH];

	for (int i = 0; i < BATCH; i++) {
		memcpy(frames[i], frame, FRAME_SIZE);
		pieces[i] = (struct iovec){ frames[i], FRAME_SIZE };
		batch[i].msg_hdr = (struct msghdr){ .msg_iov = &pieces[i], .msg_iovlen = 1 };
	}
	for (int burst = 0; burst < BURSTS; burst++) {
		uint64_t start;

		for (int i = 0; fresh && i < BATCH; i++)
			put16(frames[i] + 34, ++port);
		start = now_ns();
		if (sendmmsg(fd, batch, BATCH, 0) != BATCH)
			die("frames");
		samples[burst] = (uint32_t)((now_ns() - start) / BATCH);
	}
	qsort(samples, BURSTS, sizeof samples[0], compare);
	return samples[BURSTS / 10];
}

/* The flow of the first frame is one that was answered, as nearly all are: to the kernel those are another state. */
static void answered_once(char *const *words)
{
	struct addrinfo *from = resolve(words[2], SOURCE_PORT, SOCK_DGRAM);
	struct addrinfo *to = resolve(words[3], words[4], SOCK_DGRAM);
	int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (bind(fd, from->ai_addr, from->ai_addrlen) < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0)
		die(words[2]);
	ask_count(fd);
	close(fd);
}

static void measure_frames(char *const *words)
{
	struct sockaddr_ll device = { .sll_family = AF_PACKET,
				      .sll_protocol = htons(ETH_P_IP),
				      .sll_ifindex = (int)if_nametoindex(words[0]) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	uint8_t frame[FRAME_SIZE];
	uint32_t same;

	fill_frame(frame, words);
	if (bind(fd, (struct sockaddr *)&device, sizeof device) < 0)
		die(words[0]);
	answered_once(words);
	frame_ns(fd, frame, false);
	same = frame_ns(fd, frame, false);
	printf("{\"same_ns\":%u,\"new_ns\":%u}\n", same, frame_ns(fd, frame, true));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "serve") == 0 && argc == 3)
		serve((unsigned)atoi(argv[2]));
	if (strcmp(mode, "connect") == 0 && argc == 6)
		connections(resolve(argv[2], argv[3], SOCK_STREAM), atof(argv[4]), (unsigned)atoi(argv[5]));
	else if (strcmp(mode, "download") == 0 && argc == 5)
		download(resolve(argv[2], argv[3], SOCK_STREAM), atof(argv[4]));
	else if (strcmp(mode, "frames") == 0 && argc == 7)
		measure_frames(argv + 2);
	else if (strcmp(mode, "udp") == 0 && argc == 5)
		datagrams(resolve(argv[2], argv[3], SOCK_DGRAM), atof(argv[4]));
	else {
		fprintf(stderr, "load serve PORT | connect ADDRESS PORT SECONDS PARALLEL | download ADDRESS PORT "
				"SECONDS | udp ADDRESS PORT SECONDS | frames DEVICE MAC SOURCE ADDRESS PORT\n");
		return 2;
	}
	return 0;
}
