#include "vrrp/io/neighbour.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"

#define BATCH	       64
#define BUFFER_SIZE    256
#define FRAMES_A_TURN  512

struct vrrp_neighbour {
	int fd;
	unsigned interface_index;
};

/* ARP, and ICMPv6 solicitations and advertisements; the rest of the LAN's traffic stays away. */
static int filter(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 6, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 6),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 40),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 135, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, BUFFER_SIZE),
	};
	struct sock_fprog program = { BASE_COUNT_OF(code), code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno
											   : 0;
}

int vrrp_neighbour_new(struct vrrp_neighbour **neighbour, unsigned interface_index)
{
	struct sockaddr_ll local = { .sll_family = AF_PACKET,
				     .sll_protocol = htons(ETH_P_ALL),
				     .sll_ifindex = (int)interface_index };
	struct vrrp_neighbour *new = calloc(1, sizeof *new);
	int on = 1, r = 0;

	if (!new)
		return -ENOMEM;
	new->interface_index = interface_index;
	/* Protocol 0 hears nothing until the filter is in place and the interface is bound. */
	new->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (new->fd < 0)
		r = -errno;
	if (r == 0)
		r = filter(new->fd);
	if (r == 0 && setsockopt(new->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0)
		r = -errno;
	if (r == 0 && bind(new->fd, (struct sockaddr *)&local, sizeof local) < 0)
		r = -errno;
	if (r < 0) {
		vrrp_neighbour_free(new);
		return r;
	}
	*neighbour = new;
	return 0;
}

void vrrp_neighbour_free(struct vrrp_neighbour *neighbour)
{
	if (!neighbour)
		return;
	if (neighbour->fd >= 0)
		close(neighbour->fd);
	free(neighbour);
}

int vrrp_neighbour_fd(const struct vrrp_neighbour *neighbour)
{
	return neighbour->fd;
}

int vrrp_neighbour_receive(struct vrrp_neighbour *neighbour,
			   void (*callback)(void *userdata, const struct vrrp_neighbour_seen *seen),
			   void *userdata)
{
	uint8_t frame[BUFFER_SIZE];
	int count = 0;

	while (count < FRAMES_A_TURN) {
		ssize_t size = recv(neighbour->fd, frame, sizeof frame, MSG_DONTWAIT);
		struct vrrp_neighbour_seen seen;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0)
			return errno == EAGAIN ? count : -errno;
		count++;
		if (vrrp_frame_read(frame, (size_t)size, &seen))
			callback(userdata, &seen);
	}
	return count;
}

int vrrp_neighbour_send(struct vrrp_neighbour *neighbour, const struct vrrp_frame *frames,
			size_t count)
{
	struct mmsghdr headers[BATCH];
	struct iovec vectors[BATCH];

	while (count > 0) {
		unsigned batch = count < BATCH ? (unsigned)count : BATCH;
		int sent;

		memset(headers, 0, sizeof headers);
		for (unsigned i = 0; i < batch; i++) {
			vectors[i] = (struct iovec){ (void *)frames[i].data, frames[i].size };
			headers[i].msg_hdr.msg_iov = &vectors[i];
			headers[i].msg_hdr.msg_iovlen = 1;
		}
		sent = sendmmsg(neighbour->fd, headers, batch, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -errno;
		frames += sent;
		count -= (size_t)sent;
	}
	return 0;
}
