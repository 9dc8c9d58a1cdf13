#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "vrrp/packet.h"

/*
 * The advert socket of one interface and family: raw protocol 112, bound to the interface, member
 * of 224.0.0.18 or ff02::12, TTL 255, own packets not looped back, non-blocking, close-on-exec.
 */
struct vrrp_socket;

struct vrrp_received {
	struct vrrp_packet_meta meta;
	const uint8_t *data; /* behind the IP header; borrowed for the call */
	size_t size;
};

int vrrp_socket_new(struct vrrp_socket **socket, enum base_family family, unsigned interface_index);
void vrrp_socket_free(struct vrrp_socket *socket); /* NULL is fine */
int vrrp_socket_fd(const struct vrrp_socket *socket);

/* Calls back for what waits, one batch of it: a flood leaves room for more urgent things. The count or -errno. */
int vrrp_socket_receive(struct vrrp_socket *socket,
			void (*callback)(void *userdata, const struct vrrp_received *received),
			void *userdata);

/* To the group (`destination` NULL) or unicast, from `source`. 0 or -errno. */
int vrrp_socket_send(struct vrrp_socket *socket, const struct base_address *source,
		     const struct base_address *destination, const uint8_t *data, size_t size);

/* Adverts the kernel dropped because we did not read fast enough, since the socket was made. */
uint32_t vrrp_socket_drops(const struct vrrp_socket *socket);

/* 224.0.0.18 or ff02::12 */
struct base_address vrrp_group(enum base_family family);
