#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <netlink/netlink.h>

#include "vrrp/io/link.h"

/* Between link.c and link_neighbour.c, and nobody else's. */

struct list {
	struct vrrp_link_tagged *items;
	size_t count, capacity;
};

struct filter {
	unsigned index;
	struct base_mac mac;
};

struct vrrp_links {
	struct nl_sock *request, *events;
	bool changed;
	uint64_t revision;
	size_t count, capacity;
	struct vrrp_link *items;
	struct list tagged, others; /* all addresses, by whose they are; sorted */
	struct filter *filters;	    /* virtual MACs, while somebody goes through them */
	size_t filter_count, filter_capacity;
	int error;
};

int vrrp_link_error(int libnl_error); /* -errno */
/* Room for one more than `count`, or NULL. */
void *vrrp_link_grow(void *items, size_t size, size_t count, size_t *capacity);
int vrrp_link_dump(struct vrrp_links *links, int type, size_t header_size, int family,
		   nl_recvmsg_msg_cb_t callback);
