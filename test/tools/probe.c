/*
 * What a client sees, asked every few milliseconds and written down as JSON lines.
 *
 *   probe arp DEVICE ADDRESS INTERVAL_MS           who answers ARP (IPv4) or a neighbour solicitation (IPv6)
 *   probe ping ADDRESS INTERVAL_MS                 ICMP echo
 *   probe udp ADDRESS PORT INTERVAL_MS             a datagram, echoed as "NAME text"
 *   probe connect ADDRESS PORT INTERVAL_MS         a new TCP connection that must say its name
 *   probe stream ADDRESS PORT INTERVAL_MS COUNT    COUNT long-lived connections with data flowing
 *
 * Runs until SIGTERM, SIGINT or the end of standard input, then prints {"event":"summary",...}.
 * Times ("at") are seconds of CLOCK_MONOTONIC. An outage lasts from the sending of the first question
 * that nobody answered to the sending of the next one that somebody did: a stall of the prober itself
 * is none, and is reported as "late_ms".
 *
 * Every ARP question carries a sender of its own (the last octet 192..251; a MAC for each prober), so that
 * a late answer is never counted for another question, and "two" means two answers to one question.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "test/tools/tool.h"

#define QUESTIONS_MAX    4096
#define ANSWERERS_MAX    16
#define SENDERS          60 /* distinct sender addresses of ARP questions */
#define CONNECTIONS_MAX  512
#define NAME_SIZE        64
#define CONNECT_LIMIT_US 900000 /* before TCP's first retransmission of a SYN */

struct question {
	uint64_t sent_us;
	uint32_t answered; /* bit i: answerers[i] did */
	uint64_t answered_us;
};

static struct {
	struct question questions[QUESTIONS_MAX];
	uint64_t next;     /* number of the next question */
	uint64_t judged;   /* questions before this one have been judged */
	uint64_t limit_us; /* answers later than this are none */
	char answerers[ANSWERERS_MAX][NAME_SIZE];
	unsigned answerer_count;
	uint64_t answered, silent, two, outages, longest_us, total_us, silent_since_us, late_us;
	uint64_t round_trip_us;
	uint32_t last;
	bool dark;
	bool closing; /* nothing is asked any more, late answers still count */
} series;

static void print_names(uint32_t mask)
{
	const char *comma = "";

	putchar('[');
	for (unsigned i = 0; i < series.answerer_count; i++)
		if (mask & 1u << i) {
			printf("%s\"%s\"", comma, series.answerers[i]);
			comma = ",";
		}
	putchar(']');
}

static void judge(const struct question *question)
{
	if (question->answered == 0) {
		series.silent++;
		if (!series.dark) {
			series.dark = true;
			series.silent_since_us = question->sent_us;
			printf("{\"event\":\"silent\",\"at\":%.6f}\n", question->sent_us / 1e6);
		}
		return;
	}
	series.answered++;
	if (question->answered_us - question->sent_us > series.round_trip_us)
		series.round_trip_us = question->answered_us - question->sent_us;
	if (series.dark) {
		uint64_t dark_us = question->sent_us - series.silent_since_us;

		series.dark = false;
		series.outages++;
		series.total_us += dark_us;
		if (dark_us > series.longest_us)
			series.longest_us = dark_us;
		printf("{\"event\":\"outage\",\"at\":%.6f,\"ms\":%.3f}\n",
		       series.silent_since_us / 1e6, dark_us / 1e3);
	}
	if (question->answered & (question->answered - 1))
		series.two++;
	if (question->answered != series.last) {
		series.last = question->answered;
		printf("{\"event\":\"answered\",\"at\":%.6f,\"by\":", question->sent_us / 1e6);
		print_names(question->answered);
		puts("}");
	}
}

static void judge_until(uint64_t us)
{
	for (; series.judged < series.next; series.judged++) {
		const struct question *question = &series.questions[series.judged % QUESTIONS_MAX];
		uint64_t limit_us = series.limit_us;

		/* At the end nobody waits for a second answer as long as for a first one. */
		if (series.closing && question->answered && limit_us > 200000)
			limit_us = 200000;
		if (question->sent_us + limit_us > us &&
		    series.next - series.judged < QUESTIONS_MAX)
			return;
		judge(question);
	}
}

static void sent(uint64_t us)
{
	series.questions[series.next++ % QUESTIONS_MAX] = (struct question){ .sent_us = us };
}

static void answer(uint64_t number, const char *name)
{
	struct question *question = &series.questions[number % QUESTIONS_MAX];
	unsigned i;

	if (number < series.judged || number >= series.next)
		return;
	for (i = 0; i < series.answerer_count; i++)
		if (strcmp(series.answerers[i], name) == 0)
			break;
	if (i == ANSWERERS_MAX)
		return;
	if (i == series.answerer_count) {
		snprintf(series.answerers[i], NAME_SIZE, "%s", name);
		series.answerer_count++;
	}
	if (!question->answered)
		question->answered_us = now_us();
	question->answered |= 1u << i;
}

static void summary(void)
{
	if (series.dark)
		series.total_us += now_us() - series.silent_since_us;
	printf("{\"event\":\"summary\",\"questions\":%" PRIu64 ",\"answered\":%" PRIu64
	       ",\"lost\":%" PRIu64 ",\"two\":%" PRIu64 ",\"outages\":%" PRIu64
	       ",\"longest_ms\":%.3f,\"total_ms\":%.3f,\"dark\":%s,\"late_ms\":%.3f"
	       ",\"round_trip_ms\":%.3f,\"answerers\":",
	       series.judged, series.answered, series.silent, series.two, series.outages,
	       series.longest_us / 1e3, series.total_us / 1e3, series.dark ? "true" : "false",
	       series.late_us / 1e3, series.round_trip_us / 1e3);
	print_names(UINT32_MAX);
	puts("}");
}

/* What is asked: set up once, then `ask` every interval and `receive` when the socket has something. */
struct target {
	int family;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} address;
	socklen_t size;
	unsigned device;
	uint8_t mac[6];
	struct in_addr own4;
	int fd; /* -1: none, connections are in the epoll set themselves */
};

static struct target target;
static int epoll_fd;

static void set_target(const char *text, const char *port)
{
	unsigned number = port ? (unsigned)atoi(port) : 0;

	if (inet_pton(AF_INET, text, &target.address.in.sin_addr) == 1) {
		target.family = AF_INET;
		target.address.in.sin_port = htons((uint16_t)number);
		target.size = sizeof target.address.in;
	} else if (inet_pton(AF_INET6, text, &target.address.in6.sin6_addr) == 1) {
		target.family = AF_INET6;
		target.address.in6.sin6_port = htons((uint16_t)number);
		target.size = sizeof target.address.in6;
	} else {
		fprintf(stderr, "probe: %s is no address\n", text);
		exit(2);
	}
	target.address.any.sa_family = (sa_family_t)target.family;
}

static uint16_t checksum(const void *data, size_t size, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (size & 1)
		sum += (uint32_t)bytes[size - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void text_of_mac(const uint8_t *mac, char *text)
{
	snprintf(text, NAME_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
}

/* --- arp: ARP requests and neighbour solicitations ------------------------------------------- */

struct arp_frame {
	struct ether_header ethernet;
	struct arphdr header;
	uint8_t sender_mac[6], sender[4], target_mac[6], target[4];
} __attribute__((packed));

struct neighbour_frame {
	struct ether_header ethernet;
	struct ip6_hdr ip;
	struct nd_neighbor_solicit solicit;
	uint8_t option_type, option_size, option_mac[6];
} __attribute__((packed));

static void arp_open(const char *device)
{
	struct sockaddr_ll link = { .sll_family = AF_PACKET };
	uint16_t protocol = target.family == AF_INET ? ETH_P_ARP : ETH_P_IPV6;

	target.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(protocol));
	if (target.fd < 0)
		die("raw socket");
	/* A MAC of this process alone: answers to another prober beside us are not ours. */
	memcpy(target.mac,
	       (uint8_t[6]){ 0x02, 0xc1, (uint8_t)(getpid() >> 24), (uint8_t)(getpid() >> 16),
			     (uint8_t)(getpid() >> 8), (uint8_t)getpid() },
	       6);
	target.device = if_nametoindex(device);
	if (target.device == 0)
		die(device);
	link.sll_ifindex = (int)target.device;
	link.sll_protocol = htons(protocol);
	if (bind(target.fd,
		 &(union {
			  struct sockaddr_ll l;
			  struct sockaddr a;
		  }){ link }
			  .a,
		 sizeof link) < 0)
		die("bind");
	/* Senders are of the target's own subnet: its first three octets, its first 64 bits. */
	target.own4 = target.address.in.sin_addr;
}

static void arp_ask(uint64_t number)
{
	uint8_t sender = (uint8_t)(192 + number % SENDERS);

	if (target.family == AF_INET) {
		struct arp_frame frame = {
			.header = { htons(ARPHRD_ETHER), htons(ETH_P_IP), 6, 4,
				    htons(ARPOP_REQUEST) },
		};

		memset(frame.ethernet.ether_dhost, 0xff, 6);
		memcpy(frame.ethernet.ether_shost, target.mac, 6);
		frame.ethernet.ether_type = htons(ETH_P_ARP);
		memcpy(frame.sender_mac, target.mac, 6);
		memcpy(frame.sender, &target.own4, 3);
		frame.sender[3] = sender;
		memcpy(frame.target, &target.address.in.sin_addr, 4);
		(void)!send(target.fd, &frame, sizeof frame, 0);
	} else {
		const uint8_t *wanted = target.address.in6.sin6_addr.s6_addr;
		struct neighbour_frame frame = {
			.ip = { .ip6_nxt = IPPROTO_ICMPV6, .ip6_hlim = 255, .ip6_plen = htons(32) },
			.solicit = { .nd_ns_type = ND_NEIGHBOR_SOLICIT },
			.option_type = ND_OPT_SOURCE_LINKADDR,
			.option_size = 1,
		};
		uint8_t *group = frame.ip.ip6_dst.s6_addr, *source = frame.ip.ip6_src.s6_addr;

		frame.ip.ip6_vfc = 0x60; /* another member of the union than the rest */
		memcpy(group, (uint8_t[13]){ 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff }, 13);
		memcpy(group + 13, wanted + 13, 3);
		memcpy(source, wanted, 8);
		memcpy(source + 12, target.mac + 4, 2);
		source[14] = 0x0f;
		source[15] = sender;
		memcpy(frame.ethernet.ether_dhost, (uint8_t[3]){ 0x33, 0x33, 0xff }, 3);
		memcpy(frame.ethernet.ether_dhost + 3, wanted + 13, 3);
		memcpy(frame.ethernet.ether_shost, target.mac, 6);
		frame.ethernet.ether_type = htons(ETH_P_IPV6);
		memcpy(&frame.solicit.nd_ns_target, wanted, 16);
		memcpy(frame.option_mac, target.mac, 6);
		/* Both addresses and the message lie one behind the other: 64 bytes to sum. */
		frame.solicit.nd_ns_cksum = checksum(
			(const uint8_t *)&frame + offsetof(struct neighbour_frame, ip.ip6_src), 64,
			IPPROTO_ICMPV6 + 32);
		(void)!send(target.fd, &frame, sizeof frame, 0);
	}
}

/* The youngest question whose sender address ends in `last`. */
static uint64_t arp_number(uint8_t last)
{
	uint64_t number = series.next, slot = (uint64_t)(last - 192);

	while (number > 0 && series.next - number < SENDERS)
		if (--number % SENDERS == slot)
			return number;
	return UINT64_MAX;
}

static void arp_receive(void)
{
	uint8_t data[256];
	char name[NAME_SIZE];
	ssize_t size;

	while ((size = recv(target.fd, data, sizeof data, 0)) > 0) {
		const struct arp_frame *arp = (const void *)data;
		const struct neighbour_frame *nd = (const void *)data;

		if (target.family == AF_INET && (size_t)size >= sizeof *arp &&
		    arp->header.ar_op == htons(ARPOP_REPLY) &&
		    memcmp(arp->target_mac, target.mac, 6) == 0 &&
		    memcmp(arp->target, &target.own4, 3) == 0 && arp->target[3] >= 192 &&
		    arp->target[3] < 192 + SENDERS &&
		    memcmp(arp->sender, &target.address.in.sin_addr, 4) == 0) {
			text_of_mac(arp->sender_mac, name);
			answer(arp_number(arp->target[3]), name);
		} else if (target.family == AF_INET6 && (size_t)size >= sizeof *nd &&
			   nd->ip.ip6_nxt == IPPROTO_ICMPV6 &&
			   nd->solicit.nd_ns_type == ND_NEIGHBOR_ADVERT &&
			   memcmp(&nd->solicit.nd_ns_target, &target.address.in6.sin6_addr, 16) ==
				   0 &&
			   memcmp(nd->ip.ip6_dst.s6_addr + 12, target.mac + 4, 2) == 0 &&
			   nd->ip.ip6_dst.s6_addr[14] == 0x0f &&
			   nd->ip.ip6_dst.s6_addr[15] >= 192 &&
			   nd->ip.ip6_dst.s6_addr[15] < 192 + SENDERS) {
			text_of_mac(nd->option_mac, name);
			answer(arp_number(nd->ip.ip6_dst.s6_addr[15]), name);
		}
	}
}

/* --- ping and udp ------------------------------------------------------------------------------ */

static void ping_open(void)
{
	bool four = target.family == AF_INET;

	target.fd = socket(target.family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
			   four ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	if (target.fd < 0 || connect(target.fd, &target.address.any, target.size) < 0)
		die("raw socket");
}

static void ping_ask(uint64_t number)
{
	struct {
		uint8_t type, code;
		uint16_t checksum, id, sequence;
		uint64_t number;
	} echo = { .type = target.family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST,
		   .id = htons((uint16_t)getpid()),
		   .sequence = htons((uint16_t)number),
		   .number = number };

	if (target.family == AF_INET)
		echo.checksum = checksum(&echo, sizeof echo, 0);
	(void)!send(target.fd, &echo, sizeof echo, 0);
}

static void ping_receive(void)
{
	uint8_t data[256];
	ssize_t size;

	while ((size = recv(target.fd, data, sizeof data, 0)) > 0) {
		size_t skip = target.family == AF_INET ? (size_t)(data[0] & 15) * 4 : 0;
		uint16_t id;
		uint64_t number;

		if ((size_t)size < skip + 16 ||
		    data[skip] != (target.family == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY))
			continue;
		memcpy(&id, data + skip + 4, 2);
		memcpy(&number, data + skip + 8, 8);
		if (id == htons((uint16_t)getpid()))
			answer(number, "echo");
	}
}

static void udp_open(void)
{
	target.fd = socket(target.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (target.fd < 0 || connect(target.fd, &target.address.any, target.size) < 0)
		die("socket");
}

static void udp_ask(uint64_t number)
{
	char text[32];

	(void)!send(target.fd, text, (size_t)snprintf(text, sizeof text, "%" PRIu64 "\n", number),
		    0);
}

static void udp_receive(void)
{
	char data[256], name[NAME_SIZE];
	uint64_t number;
	ssize_t size;

	/* An ICMP error comes as an errno of recv() and is an answer by nobody. */
	while ((size = recv(target.fd, data, sizeof data - 1, 0)) >= 0 || errno == ECONNREFUSED ||
	       errno == EHOSTUNREACH) {
		if (size < 0)
			continue;
		data[size] = '\0';
		if (sscanf(data, "%63s %" SCNu64, name, &number) == 2)
			answer(number, name);
	}
}

/* --- connect and stream ------------------------------------------------------------------------- */

struct connection {
	int fd; /* -1: unused */
	bool up;
	uint64_t number; /* connect: which question */
	uint64_t started_us;
	uint64_t next_line, next_echo; /* stream */
	uint64_t heard_us, longest_us;
	size_t size;
	char line[1024];
};

static struct connection connections[CONNECTIONS_MAX];
static struct {
	uint64_t lines, echoes, corrupt, lost, refused;
} streams;
static bool streaming;

static void connection_close(struct connection *connection)
{
	/* Reset instead of TIME_WAIT: thousands of these come from one address. */
	struct linger hard = { 1, 0 };

	if (connection->fd < 0)
		return;
	setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	close(connection->fd);
	connection->fd = -1;
}

static void connection_open(struct connection *connection, uint64_t number)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET,
				     .data.ptr = connection };

	memset(connection, 0, sizeof *connection);
	connection->number = number;
	connection->started_us = now_us();
	connection->fd = socket(target.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		die("socket");
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (connect(connection->fd, &target.address.any, target.size) < 0 && errno != EINPROGRESS) {
		connection_close(connection);
		return;
	}
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event);
}

static void connect_ask(uint64_t number)
{
	uint64_t now = now_us();

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		if (connections[i].fd >= 0 && now - connections[i].started_us > CONNECT_LIMIT_US)
			connection_close(&connections[i]);
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		if (connections[i].fd < 0) {
			connection_open(&connections[i], number);
			return;
		}
}

static void stream_lost(struct connection *connection, const char *why)
{
	streams.lost++;
	printf("{\"event\":\"lost\",\"at\":%.6f,\"connection\":%td,\"why\":\"%s\",\"after_lines\":"
	       "%" PRIu64 "}\n",
	       now_us() / 1e6, connection - connections, why, connection->next_echo);
	connection_close(connection);
}

static void stream_line(struct connection *connection, const char *line)
{
	char name[NAME_SIZE];
	uint64_t number, now = now_us();

	if (!connection->up) {
		connection->up = true;
		connection->heard_us = now;
		if (sscanf(line, "%63s", name) == 1)
			printf("{\"event\":\"connected\",\"at\":%.6f,\"connection\":%td,\"to\":\"%"
			       "s\"}\n",
			       now / 1e6, connection - connections, name);
		return;
	}
	if (sscanf(line, "%63s %" SCNu64, name, &number) != 2 || number != connection->next_echo)
		streams.corrupt++;
	connection->next_echo++;
	streams.echoes++;
	if (now - connection->heard_us > connection->longest_us)
		connection->longest_us = now - connection->heard_us;
	connection->heard_us = now;
}

static void connection_receive(struct connection *connection)
{
	ssize_t size;
	char *end;

	while (connection->fd >= 0) {
		size = recv(connection->fd, connection->line + connection->size,
			    sizeof connection->line - 1 - connection->size, 0);
		if (size < 0 && errno == EAGAIN)
			return;
		if (size <= 0) {
			if (streaming)
				stream_lost(connection, size == 0 ? "closed" : strerror(errno));
			connection_close(connection);
			return;
		}
		connection->size += (size_t)size;
		connection->line[connection->size] = '\0';
		while ((end = strchr(connection->line, '\n')) != NULL) {
			*end = '\0';
			if (streaming) {
				stream_line(connection, connection->line);
			} else {
				connection->line[strcspn(connection->line, " ")] = '\0';
				answer(connection->number, connection->line);
				connection_close(connection);
				return;
			}
			connection->size -= (size_t)(end + 1 - connection->line);
			memmove(connection->line, end + 1, connection->size + 1);
		}
	}
}

static void stream_ask(void)
{
	char text[32];

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *connection = &connections[i];
		int size;

		if (connection->fd < 0 || !connection->up)
			continue;
		size = snprintf(text, sizeof text, "%" PRIu64 "\n", connection->next_line);
		if (send(connection->fd, text, (size_t)size, MSG_NOSIGNAL) == size) {
			connection->next_line++;
			streams.lines++;
		} else if (errno != EAGAIN) {
			stream_lost(connection, strerror(errno));
		}
	}
}

static void stream_summary(void)
{
	uint64_t longest = 0, kept = 0, never = 0, waiting = 0, now = now_us();

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *connection = &connections[i];

		if (connection->longest_us > longest)
			longest = connection->longest_us;
		if (connection->fd < 0)
			continue;
		if (!connection->up) {
			never++;
			continue;
		}
		kept++;
		if (connection->next_echo < connection->next_line &&
		    now - connection->heard_us > longest)
			longest = now - connection->heard_us;
		if (now - connection->heard_us > 1000000)
			waiting++;
	}
	printf("{\"event\":\"summary\",\"kept\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"never\":%" PRIu64
	       ",\"stuck\":%" PRIu64 ",\"lines\":%" PRIu64 ",\"echoes\":%" PRIu64
	       ",\"corrupt\":%" PRIu64 ",\"longest_ms\":%.3f,\"late_ms\":%.3f}\n",
	       kept, streams.lost, never, waiting, streams.lines, streams.echoes, streams.corrupt,
	       longest / 1e3, series.late_us / 1e3);
}

/* --- the loop ------------------------------------------------------------------------------------ */

static int usage(void)
{
	fprintf(stderr, "usage: probe arp DEVICE ADDRESS INTERVAL_MS\n"
			"       probe ping ADDRESS INTERVAL_MS\n"
			"       probe udp|connect ADDRESS PORT INTERVAL_MS\n"
			"       probe stream ADDRESS PORT INTERVAL_MS COUNT\n");
	return 2;
}

static void watch(int fd, void *pointer)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = pointer };

	/* Standard input may be a file or /dev/null, which epoll refuses: then it never ends. */
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 && errno != EPERM)
		die("epoll");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	void (*ask)(uint64_t number) = NULL;
	void (*receive)(void) = NULL;
	double interval_ms;
	uint64_t interval_us, due_us;
	int timer, signals, stop_fds[2] = { 0, 0 };
	sigset_t mask;

	for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
		connections[i].fd = -1;
	target.fd = -1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll");

	if (strcmp(mode, "arp") == 0 && argc == 5) {
		set_target(argv[3], NULL);
		arp_open(argv[2]);
		ask = arp_ask, receive = arp_receive;
		interval_ms = atof(argv[4]);
		series.limit_us = (uint64_t)(interval_ms * 1000 * (SENDERS - 2));
	} else if (strcmp(mode, "ping") == 0 && argc == 4) {
		set_target(argv[2], NULL);
		ping_open();
		ask = ping_ask, receive = ping_receive;
		interval_ms = atof(argv[3]);
		series.limit_us = 500000;
	} else if (strcmp(mode, "udp") == 0 && argc == 5) {
		set_target(argv[2], argv[3]);
		udp_open();
		ask = udp_ask, receive = udp_receive;
		interval_ms = atof(argv[4]);
		series.limit_us = 500000;
	} else if (strcmp(mode, "connect") == 0 && argc == 5) {
		set_target(argv[2], argv[3]);
		ask = connect_ask;
		interval_ms = atof(argv[4]);
		series.limit_us = CONNECT_LIMIT_US;
	} else if (strcmp(mode, "stream") == 0 && argc == 6) {
		unsigned count = (unsigned)atoi(argv[5]);

		set_target(argv[2], argv[3]);
		interval_ms = atof(argv[4]);
		streaming = true;
		for (unsigned i = 0; i < count && i < CONNECTIONS_MAX; i++)
			connection_open(&connections[i], i);
	} else {
		return usage();
	}
	if (interval_ms < 0.1 || interval_ms > 60000) {
		fprintf(stderr, "probe: the interval is milliseconds, 0.1 to 60000\n");
		return 2;
	}
	interval_us = (uint64_t)(interval_ms * 1000);

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signals = signalfd(-1, &mask, SFD_CLOEXEC);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	watch(signals, &stop_fds[0]);
	watch(STDIN_FILENO, &stop_fds[1]);
	watch(timer, &due_us);
	if (target.fd >= 0)
		watch(target.fd, &target);

	for (due_us = now_us() + 1000;;) {
		struct itimerspec at = { .it_value = { (time_t)(due_us / 1000000),
						       (long)(due_us % 1000000) * 1000 } };
		struct epoll_event events[64];
		int count;

		timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
		count = epoll_wait(epoll_fd, events, 64, -1);
		for (int i = 0; i < count; i++) {
			void *what = events[i].data.ptr;
			char byte[256];

			if (what == &stop_fds[0] || what == &stop_fds[1]) {
				if (what == &stop_fds[1] &&
				    read(STDIN_FILENO, byte, sizeof byte) > 0)
					continue;
				if (streaming) {
					stream_summary();
					return 0;
				}
				series.closing = true;
				epoll_ctl(epoll_fd, EPOLL_CTL_DEL, signals, NULL);
				epoll_ctl(epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
			} else if (what == &target)
				receive();
			else if (what != &due_us)
				connection_receive(what);
		}
		if (now_us() < due_us)
			continue;
		if (now_us() - due_us > series.late_us)
			series.late_us = now_us() - due_us;
		/* What was missed while stalled is not asked later. */
		while (due_us <= now_us())
			due_us += interval_us;
		if (streaming) {
			stream_ask();
			continue;
		}
		judge_until(now_us());
		if (series.closing) {
			if (series.judged < series.next)
				continue;
			summary();
			return 0;
		}
		sent(now_us());
		ask(series.next - 1);
	}
}
