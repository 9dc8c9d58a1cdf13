#include "daemon/engine/held.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"
#include "base/time.h"

#define PORT_FIRST 58192 /* behind those of prober.c */
#define PORT_LAST  60991
#define ASK_US     (250 * BASE_USEC_PER_MSEC)

void held_init(struct held *held)
{
	memset(held, 0, sizeof *held);
	held->next_port = PORT_FIRST;
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++)
		held->sockets[i] = -1;
}

union socket_address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

static socklen_t fill(union socket_address *to, const struct base_address *address, uint16_t port)
{
	memset(to, 0, sizeof *to);
	if (address->family == BASE_FAMILY_IPV6) {
		to->six.sin6_family = AF_INET6;
		to->six.sin6_port = htons(port);
		memcpy(&to->six.sin6_addr, address->bytes, 16);
		return sizeof to->six;
	}
	to->four.sin_family = AF_INET;
	to->four.sin_port = htons(port);
	memcpy(&to->four.sin_addr, address->bytes, 4);
	return sizeof to->four;
}

/* Hears nothing, sends nothing, and nobody else gets what is for it. */
static int stand_in_the_way(int fd, const struct held *held, uint16_t own_port)
{
	struct sock_filter deaf = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { 1, &deaf };
	union socket_address here, there;
	socklen_t size = fill(&here, &held->packet.source, own_port);
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0 ||
	    bind(fd, &here.any, size) < 0)
		return -errno;
	size = fill(&there, &held->packet.target, held->packet.port);
	return connect(fd, &there.any, size) < 0 ? -errno : 0;
}

/* Takes the next port that is free. */
static int open_socket(struct held *held, int *fd, uint16_t *own_port)
{
	int family = held->packet.target.family == BASE_FAMILY_IPV6 ? AF_INET6 : AF_INET;
	int r = -EADDRINUSE;

	for (unsigned tries = 0; tries < 64 && r == -EADDRINUSE; tries++) {
		*own_port = held->next_port;
		held->next_port = *own_port == PORT_LAST ? PORT_FIRST : (uint16_t)(*own_port + 1);
		*fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (*fd < 0)
			return -errno;
		r = stand_in_the_way(*fd, held, *own_port);
		if (r < 0) {
			close(*fd);
			*fd = -1;
		}
	}
	return r;
}

int held_open(struct held *held, const struct base_address *source,
	      const struct base_address *target, uint16_t port, uint64_t now_us)
{
	uint16_t own_ports[PROBE_CONNECTIONS];

	held->wanted = true;
	held->asked_us = 0;
	held->packet = (struct probe_packet){
		.protocol = IPPROTO_TCP, .port = port, .source = *source, .target = *target
	};
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++) {
		int r = open_socket(held, &held->sockets[i], &own_ports[i]);

		if (r < 0) {
			held_close(held, -1);
			return r;
		}
	}
	probe_connections_init(held->list, own_ports, (uint32_t)now_us);
	return 0;
}

static void send_segment(struct held *held, int fd, const struct probe_segment *segment)
{
	uint8_t data[PROBE_PACKET_SIZE_MAX];
	size_t size;

	held->packet.number++;
	size = probe_packet_build_segment(&held->packet, segment, data);
	(void)!send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void held_ask(struct held *held, int fd, uint64_t now_us, const struct base_mac *from,
	      const struct base_mac *to)
{
	struct probe_segment segment;

	held->packet.source_mac = *from;
	held->packet.target_mac = *to;
	if (base_usec_since(now_us, held->asked_us) < ASK_US)
		return;
	held->asked_us = now_us;
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++)
		if (probe_connection_ask(&held->list[i], &segment))
			send_segment(held, fd, &segment);
}

void held_hear(struct held *held, int fd, const uint8_t *data, size_t size)
{
	struct probe_segment heard, answer;

	if (probe_packet_read_segment(&held->packet, data, size, &heard) &&
	    probe_connections_hear(held->list, &heard, &answer))
		send_segment(held, fd, &answer);
}

void held_close(struct held *held, int fd)
{
	struct probe_segment segment;

	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++) {
		if (held->sockets[i] < 0)
			continue;
		if (fd >= 0 && held->wanted && probe_connection_reset(&held->list[i], &segment))
			send_segment(held, fd, &segment);
		close(held->sockets[i]);
		held->sockets[i] = -1;
	}
	held->wanted = false;
}
