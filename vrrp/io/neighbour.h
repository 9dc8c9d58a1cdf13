#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vrrp/frame.h"

/*
 * ARP and neighbour discovery frames of one interface, sent and heard below the IP stack: to
 * announce addresses, to ask whether somebody is there, to see who answers for an address.
 */
struct vrrp_neighbour;

int vrrp_neighbour_new(struct vrrp_neighbour **neighbour, unsigned interface_index);
void vrrp_neighbour_free(struct vrrp_neighbour *neighbour); /* NULL is fine */
int vrrp_neighbour_fd(const struct vrrp_neighbour *neighbour);

/* Calls back for every frame that says something; our own are not heard. Count or -errno. */
int vrrp_neighbour_receive(struct vrrp_neighbour *neighbour,
			   void (*callback)(void *userdata, const struct vrrp_neighbour_seen *seen),
			   void *userdata);

/* Sends frames made by vrrp/frame.h in one go. 0 or -errno. */
struct vrrp_frame {
	size_t size;
	uint8_t data[VRRP_FRAME_SIZE_MAX];
};
int vrrp_neighbour_send(struct vrrp_neighbour *neighbour, const struct vrrp_frame *frames,
			size_t count);
