#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

/*
 * Interfaces, their addresses and gateways as the kernel has them, followed by netlink events, and
 * the virtual addresses that we put there.
 *
 * Ours carry IFA_PROTO = VRRP_LINK_TAG (rt_addrprotos leaves 4..255 to user space), are /32 or
 * /128, without route, without duplicate address detection, with preferred lifetime 0 and a finite
 * valid lifetime: what a dead daemon left behind goes away by itself.
 */
#define VRRP_LINK_TAG		0x76
#define VRRP_LINK_ADDRESSES_MAX 32
#define VRRP_LINK_NAME_SIZE	16

struct vrrp_link {
	unsigned index, master; /* of the bridge or bond that it is a port of; 0: none */
	unsigned lower; /* of the interface that it stands on, a macvlan or a VLAN; 0: none */
	bool vlan;
	char name[VRRP_LINK_NAME_SIZE];
	struct base_mac mac;
	unsigned mtu;
	bool ethernet, up; /* up: administratively, and with carrier */
	unsigned address_count; /* without those of ours */
	struct base_prefix addresses[VRRP_LINK_ADDRESSES_MAX];
	/* Of the best default route through it, IPv4 and IPv6: where to (family NONE: no gateway), and which one that is. */
	struct base_address gateways[2];
	uint64_t routes[2]; /* 0: none; else the smaller the better, those of tables that only rules ask come last */
};
#define VRRP_LINK_ROUTE_BY_RULE (UINT64_C(1) << 33)

struct vrrp_links;

int vrrp_links_new(struct vrrp_links **links);
void vrrp_links_free(struct vrrp_links *links);

/* Becomes readable when something changed: then read it and refresh. */
int vrrp_links_fd(const struct vrrp_links *links);

/*
 * Takes events off the socket (also after ENOBUFS), some hundred at a time. 1: refresh is due, 0: not. An address of
 * ours that is renewed is nothing new.
 */
int vrrp_links_drain(struct vrrp_links *links);

/* Asks the kernel anew; pointers from vrrp_links_get() end here. 0 or -errno. */
int vrrp_links_refresh(struct vrrp_links *links);

/* Another one after each refresh, never 0. */
uint64_t vrrp_links_revision(const struct vrrp_links *links);

const struct vrrp_link *vrrp_links_get(const struct vrrp_links *links, size_t *count);
const struct vrrp_link *vrrp_links_at(const struct vrrp_links *links, unsigned index); /* NULL: none */

/*
 * Adds or refreshes our addresses. 0 or the first -errno; the others are added all the same. -EEXIST:
 * somebody else has it on this interface, and his stays as it is.
 */
int vrrp_links_add(struct vrrp_links *links, unsigned index, const struct base_address *addresses,
		   size_t count, uint32_t valid_s);

/*
 * Waits, for `patience_us` at the most, until the kernel takes what is sent to them: it finishes a
 * new IPv6 address (group, route) in a work queue. False: not all are there yet.
 */
bool vrrp_links_wait(struct vrrp_links *links, const struct base_address *addresses, size_t count,
		     unsigned patience_us);

/* By which interface the kernel would send to this address, as its routes and rules are now. 0: by none. */
struct vrrp_link_way {
	unsigned index;
	unsigned mtu; /* if its route has one of its own; 0: as the interface */
	bool local;
};
struct vrrp_link_way vrrp_links_way(struct vrrp_links *links, const struct base_address *address);

/* Removes ours; one that is gone already, or is not ours, is fine (and left alone). */
int vrrp_links_remove(struct vrrp_links *links, unsigned index,
		      const struct base_address *addresses, size_t count);

/*
 * The interface also takes, or no longer takes, frames to `mac`, a virtual MAC: in its filter, not as its own.
 * (The kernel calls such frames somebody else's; nft/ tells it otherwise.) It is there already, or not any more:
 * fine. Does not go away by itself. 0 or -errno.
 */
int vrrp_links_listen(struct vrrp_links *links, unsigned index, const struct base_mac *mac);
int vrrp_links_ignore(struct vrrp_links *links, unsigned index, const struct base_mac *mac);

/*
 * Asks the kernel once which virtual MACs its interfaces take frames to, and has those ignored that are `unwanted`.
 * Others' are among them, of macvlans for one. How many, or the first -errno.
 */
typedef bool (*vrrp_link_unwanted)(const void *userdata, unsigned index, const struct base_mac *mac);
int vrrp_links_ignore_unwanted(struct vrrp_links *links, vrrp_link_unwanted unwanted,
			       const void *userdata);

/*
 * A neighbour for the group of adverts that stays. The kernel has one table of limited size for all neighbours of a
 * family; when it is full, after a scan of the LAN for one, groups go first, and nothing is sent to what has no room,
 * which over IPv4 nobody is told (net/core/neighbour.c, ip_send_skb()). It goes when the interface is set down or gets another MAC. 0 or -errno.
 */
int vrrp_links_keep_group(struct vrrp_links *links, unsigned index, enum base_family family);
int vrrp_links_forget_group(struct vrrp_links *links, unsigned index, enum base_family family);

/*
 * The kernel finds out where this neighbour is, or whether it is there still, as if there was something to send to it.
 * Who does this again and again has it known always: the kernel clears away whom nobody asked for in a minute. 0 or -errno.
 */
int vrrp_links_use(struct vrrp_links *links, unsigned index, const struct base_address *address);

/* Every address with our tag as of the last refresh, sorted by index and address. */
struct vrrp_link_tagged {
	unsigned index;
	struct base_address address;
};
const struct vrrp_link_tagged *vrrp_links_tagged(const struct vrrp_links *links, size_t *count);
bool vrrp_links_is_tagged(const struct vrrp_links *links, unsigned index,
			  const struct base_address *address);
