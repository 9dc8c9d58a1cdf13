#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

/*
 * What a drill sends to an address besides asking for its MAC: an echo request, the SYN of a connection
 * that is not made, a datagram. Whole Ethernet frames, so that neither the rules nor the connection
 * tracking of this node answer in the owner's place. Pure.
 */
#define PROBE_PACKET_SIZE_MAX 86
#define PROBE_PACKET_PORTS    8192
#define PROBE_PACKET_LAST     64

struct probe_packet {
	uint8_t protocol;        /* IPPROTO_ICMP (of IPv6, too), IPPROTO_TCP, IPPROTO_UDP */
	uint16_t port, own_port; /* own_port: the first of our ports, or of ICMP the identifier */
	uint16_t number;         /* of this one */
	struct base_address source, target; /* of one family */
	struct base_mac source_mac, target_mac;
};

#define PROBE_TCP_FIN 0x01
#define PROBE_TCP_SYN 0x02
#define PROBE_TCP_RST 0x04
#define PROBE_TCP_ACK 0x10

/* Of TCP, as it leaves for the target or came from there. */
struct probe_segment {
	uint16_t own_port;
	uint8_t flags;
	uint32_t sequence, acknowledgement;
	uint32_t data_size; /* of ours at most one byte, a zero */
};

/* Answers the size of the frame. */
size_t probe_packet_build(const struct probe_packet *packet, uint8_t data[PROBE_PACKET_SIZE_MAX]);

/*
 * An echo reply, SYN and ACK, a datagram: from the target, for us, to one of the last questions. Each comes from a
 * port of its own, because one that is used again is an old connection to whoever remembers it.
 */
bool probe_packet_is_answer(const struct probe_packet *packet, const uint8_t *data, size_t size);

/* A segment to the port of the packet, whose protocol is TCP. Answers the size of the frame. */
size_t probe_packet_build_segment(const struct probe_packet *packet,
				  const struct probe_segment *segment,
				  uint8_t data[PROBE_PACKET_SIZE_MAX]);
/* One from there to us; false: it is none. What is cut off at its end does not matter. */
bool probe_packet_read_segment(const struct probe_packet *packet, const uint8_t *data, size_t size,
			       struct probe_segment *segment);
