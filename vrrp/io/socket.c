#include "vrrp/io/socket.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"

#define BATCH	     32
#define BUFFER_SIZE  2048
#define CONTROL_SIZE 256
#define QUEUE_SIZE   (1024 * 1024)
#define PRIORITY     7	  /* TC_PRIO_CONTROL */
#define DSCP_CS6     0xc0 /* network control, RFC 4594 */

struct vrrp_socket {
	int fd;
	enum base_family family;
	unsigned interface_index;
	uint32_t drops;
	struct mmsghdr headers[BATCH];
	struct iovec vectors[BATCH];
	struct sockaddr_storage names[BATCH];
	uint8_t buffers[BATCH][BUFFER_SIZE];
	_Alignas(struct cmsghdr) uint8_t control[BATCH][CONTROL_SIZE];
};

struct base_address vrrp_group(enum base_family family)
{
	if (family == BASE_FAMILY_IPV4)
		return base_address_ipv4(224, 0, 0, 18);
	return (struct base_address){ .family = BASE_FAMILY_IPV6,
				      .bytes = { 0xff, 2, [15] = 0x12 } };
}

static int set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

static int set_ipv4(struct vrrp_socket *socket)
{
	struct base_address group = vrrp_group(BASE_FAMILY_IPV4);
	struct ip_mreqn membership = { .imr_ifindex = (int)socket->interface_index };
	int fd = socket->fd, r;

	memcpy(&membership.imr_multiaddr, group.bytes, 4);
	if ((r = set(fd, IPPROTO_IP, IP_MULTICAST_TTL, 255)) < 0 ||
	    (r = set(fd, IPPROTO_IP, IP_TTL, 255)) < 0 ||
	    (r = set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0)) < 0 ||
	    (r = set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0)) < 0 ||
	    (r = set(fd, IPPROTO_IP, IP_PKTINFO, 1)) < 0 ||
	    (r = set(fd, IPPROTO_IP, IP_TOS, DSCP_CS6)) < 0)
		return r;
	if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &membership, sizeof membership) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) < 0)
		return -errno;
	return 0;
}

static int set_ipv6(struct vrrp_socket *socket)
{
	struct base_address group = vrrp_group(BASE_FAMILY_IPV6);
	struct ipv6_mreq membership = { .ipv6mr_interface = socket->interface_index };
	int fd = socket->fd, r;

	memcpy(&membership.ipv6mr_multiaddr, group.bytes, 16);
	if ((r = set(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 255)) < 0 ||
	    (r = set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 255)) < 0 ||
	    (r = set(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0)) < 0 ||
	    (r = set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)socket->interface_index)) < 0 ||
	    (r = set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)) < 0 ||
	    (r = set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)) < 0 ||
	    (r = set(fd, IPPROTO_IPV6, IPV6_TCLASS, DSCP_CS6)) < 0)
		return r;
	if (setsockopt(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &membership, sizeof membership) < 0)
		return -errno;
	return 0;
}

int vrrp_socket_new(struct vrrp_socket **result, enum base_family family, unsigned interface_index)
{
	struct vrrp_socket *new = calloc(1, sizeof *new);
	char name[IF_NAMESIZE];
	int r;

	if (!new)
		return -ENOMEM;
	new->family = family;
	new->interface_index = interface_index;
	new->fd = socket(family == BASE_FAMILY_IPV4 ? AF_INET : AF_INET6,
			 SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, VRRP_PROTOCOL);
	if (new->fd < 0 || !if_indextoname(interface_index, name) ||
	    setsockopt(new->fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)) < 0) {
		r = -errno;
		vrrp_socket_free(new);
		return r;
	}
	r = family == BASE_FAMILY_IPV4 ? set_ipv4(new) : set_ipv6(new);
	if (r == 0)
		r = set(new->fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
	if (r < 0) {
		vrrp_socket_free(new);
		return r;
	}
	/* Both are improvements, not conditions. */
	set(new->fd, SOL_SOCKET, SO_PRIORITY, PRIORITY);
	if (set(new->fd, SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_SIZE) < 0)
		set(new->fd, SOL_SOCKET, SO_RCVBUF, QUEUE_SIZE);
	*result = new;
	return 0;
}

void vrrp_socket_free(struct vrrp_socket *socket)
{
	if (!socket)
		return;
	if (socket->fd >= 0)
		close(socket->fd);
	free(socket);
}

int vrrp_socket_fd(const struct vrrp_socket *socket)
{
	return socket->fd;
}

uint32_t vrrp_socket_drops(const struct vrrp_socket *socket)
{
	return socket->drops;
}

/* IPv4 raw sockets deliver the IP header; everything needed stands in it. */
static bool read_ipv4(const uint8_t *packet, size_t size, struct vrrp_received *received)
{
	size_t header;

	if (size < sizeof(struct iphdr))
		return false;
	header = (size_t)(packet[0] & 0x0f) * 4;
	if (header < sizeof(struct iphdr) || size < header)
		return false;
	received->meta.ttl = packet[8];
	received->meta.source = base_address_from_bytes(BASE_FAMILY_IPV4, packet + 12);
	received->meta.destination = base_address_from_bytes(BASE_FAMILY_IPV4, packet + 16);
	received->data = packet + header;
	received->size = size - header;
	return true;
}

static void read_control(struct vrrp_socket *socket, struct msghdr *header,
			 struct vrrp_received *received)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			memcpy(&socket->drops, CMSG_DATA(c), sizeof socket->drops);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT) {
			int hops;

			memcpy(&hops, CMSG_DATA(c), sizeof hops);
			received->meta.ttl = (uint8_t)hops;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof info);
			received->meta.destination = base_address_from_bytes(
				BASE_FAMILY_IPV6, (const uint8_t *)&info.ipi6_addr);
		}
	}
}

static bool read_one(struct vrrp_socket *socket, int i, struct vrrp_received *received)
{
	memset(received, 0, sizeof *received);
	read_control(socket, &socket->headers[i].msg_hdr, received);
	if (socket->family == BASE_FAMILY_IPV4)
		return read_ipv4(socket->buffers[i], socket->headers[i].msg_len, received);
	received->meta.source = base_address_from_bytes(
		BASE_FAMILY_IPV6,
		(const uint8_t *)&((struct sockaddr_in6 *)&socket->names[i])->sin6_addr);
	received->data = socket->buffers[i];
	received->size = socket->headers[i].msg_len;
	return true;
}

int vrrp_socket_receive(struct vrrp_socket *socket,
			void (*callback)(void *userdata, const struct vrrp_received *received),
			void *userdata)
{
	int count;

	for (int i = 0; i < BATCH; i++) {
		socket->vectors[i] = (struct iovec){ socket->buffers[i], BUFFER_SIZE };
		socket->headers[i].msg_hdr = (struct msghdr){
			.msg_name = &socket->names[i],
			.msg_namelen = sizeof socket->names[i],
			.msg_iov = &socket->vectors[i],
			.msg_iovlen = 1,
			.msg_control = socket->control[i],
			.msg_controllen = CONTROL_SIZE,
		};
	}
	count = recvmmsg(socket->fd, socket->headers, BATCH, MSG_DONTWAIT, NULL);
	if (count < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++) {
		struct vrrp_received received;

		if (read_one(socket, i, &received))
			callback(userdata, &received);
	}
	return count;
}

int vrrp_socket_send(struct vrrp_socket *socket, const struct base_address *source,
		     const struct base_address *destination, const uint8_t *data, size_t size)
{
	struct base_address group = vrrp_group(socket->family);
	struct iovec vector = { (void *)data, size };
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo))] = { 0 };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6,
				    .sin6_scope_id = socket->interface_index };
	struct sockaddr_in to4 = { .sin_family = AF_INET };
	struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control };
	struct cmsghdr *c;

	if (!destination)
		destination = &group;
	if (socket->family == BASE_FAMILY_IPV4) {
		struct in_pktinfo info = { .ipi_ifindex = (int)socket->interface_index };

		memcpy(&to4.sin_addr, destination->bytes, 4);
		memcpy(&info.ipi_spec_dst, source->bytes, 4);
		header.msg_name = &to4;
		header.msg_namelen = sizeof to4;
		header.msg_controllen = CMSG_SPACE(sizeof info);
		c = CMSG_FIRSTHDR(&header);
		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
	} else {
		struct in6_pktinfo info = { .ipi6_ifindex = socket->interface_index };

		memcpy(&to6.sin6_addr, destination->bytes, 16);
		memcpy(&info.ipi6_addr, source->bytes, 16);
		header.msg_name = &to6;
		header.msg_namelen = sizeof to6;
		header.msg_controllen = CMSG_SPACE(sizeof info);
		c = CMSG_FIRSTHDR(&header);
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
	}
	return sendmsg(socket->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}
