#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

/*
 * Ethernet frames of ARP (RFC 826, 5227) and neighbour discovery (RFC 4861): what announces,
 * probes and asks, built and read. One call for both families: the address decides.
 */
#define VRRP_FRAME_SIZE_MAX 96

/*
 * "It is at `mac`": gratuitous ARP (request or reply form), or an unsolicited NA with R=1 S=0 O=1
 * (RFC 9568 6.4.2), from the address itself to all nodes.
 */
size_t vrrp_frame_announce(const struct base_address *address, const struct base_mac *mac,
			   bool reply_form, uint8_t frame[static VRRP_FRAME_SIZE_MAX]);

/*
 * "Who has `target`?": ARP request or neighbour solicitation. `source` family NONE makes it a
 * probe (RFC 5227 / DAD form) that changes nobody's cache. `to` NULL: broadcast or the
 * solicited-node multicast address; else unicast.
 */
size_t vrrp_frame_ask(const struct base_address *target, const struct base_address *source,
		      const struct base_mac *mac, const struct base_mac *to,
		      uint8_t frame[static VRRP_FRAME_SIZE_MAX]);

/* What a received frame says: this address is at this MAC. */
struct vrrp_neighbour_seen {
	struct base_address address;
	struct base_mac mac;
	bool answer; /* an ARP reply or NA; else a request or solicitation from that address */
	bool to_one; /* the frame was for one host alone: an answer to a question, no announcement */
};

/*
 * False: no ARP/NDP, not valid by RFC 826 or RFC 4861 section 7.1 (hop limit, code, checksum, target,
 * options), or it says nothing (a probe). `frame` starts at the Ethernet header; on false `*seen` is
 * left as it was.
 */
bool vrrp_frame_read(const uint8_t *frame, size_t size, struct vrrp_neighbour_seen *seen);
