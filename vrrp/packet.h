#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

/*
 * VRRP advertisements, bytes to struct and back: RFC 9568 section 5 (version 3), RFC 3768
 * (version 2, IPv4). `data` is what stands behind the IP header.
 *
 * Checksum of version 3 over IPv4: RFC 9568 5.2.8 covers the message alone, keepalived and FRR add
 * a pseudo-header. Both are accepted on receipt and told apart.
 */
#define VRRP_PROTOCOL		112
#define VRRP_ADDRESSES_MAX	255
#define VRRP_PACKET_SIZE_MAX	(8 + VRRP_ADDRESSES_MAX * 16)

#define VRRP_VERDICTS(X)                                                                           \
	X(OK, "ok")                                                                                \
	X(BAD_TTL, "ttl or hop limit is not 255")                                                  \
	X(TOO_SHORT, "packet is incomplete")                                                       \
	X(BAD_VERSION, "version is neither 3 nor 2")                                               \
	X(BAD_TYPE, "type is not advertisement")                                                   \
	X(BAD_CHECKSUM, "checksum does not match")                                                 \
	X(NO_ADDRESS, "address count is 0")                                                        \
	X(BAD_INTERVAL, "advertised interval is 0")                                                \
	X(BAD_VRID, "virtual router ID is 0")                                                      \
	X(NOT_LINK_LOCAL, "first IPv6 address is not link-local")                                  \
	X(BAD_AUTHENTICATION, "version 2 with authentication, which is not supported")             \
	X(UNKNOWN_VRID, "virtual router ID is not configured here")                                \
	X(STRANGER, "sender is no candidate, or nothing else confirms what it says")

enum vrrp_verdict {
#define VRRP_VERDICT_ENUM(name, text) VRRP_VERDICT_##name,
	VRRP_VERDICTS(VRRP_VERDICT_ENUM)
#undef VRRP_VERDICT_ENUM
	VRRP_VERDICT_COUNT
};

/* What the socket knows about a packet. */
struct vrrp_packet_meta {
	struct base_address source, destination; /* their family is the packet's */
	uint8_t ttl;				 /* or hop limit */
};

struct vrrp_advert {
	uint8_t version;
	uint8_t virtual_router_id;
	uint8_t priority;
	bool pseudo_header; /* IPv4 version 3: checksum with pseudo-header (keepalived, FRR) */
	uint32_t interval_us;
	unsigned address_count;
	struct base_address addresses[VRRP_ADDRESSES_MAX]; /* as sent; IPv6: link-local first */
};

/* On any verdict but OK `*advert` is left as it was. Keeps no reference, allocates nothing. */
enum vrrp_verdict vrrp_packet_parse(const uint8_t *data, size_t size,
				    const struct vrrp_packet_meta *meta, struct vrrp_advert *advert);

/*
 * Writes the advert for packets from meta->source to meta->destination (for the checksum); answers
 * its size, 0 if it does not fit or there is no such advert (no address, version 2 over IPv6). Over
 * IPv6 the caller puts the link-local address first.
 */
size_t vrrp_packet_build(const struct vrrp_advert *advert, const struct vrrp_packet_meta *meta,
			 uint8_t *data, size_t size);

const char *vrrp_verdict_text(enum vrrp_verdict verdict);

/* RFC 9568 section 7.3: 00-00-5E-00-01-VRID over IPv4, 00-00-5E-00-02-VRID over IPv6. */
struct base_mac vrrp_virtual_mac(enum base_family family, uint8_t virtual_router_id);
bool vrrp_is_virtual_mac(const struct base_mac *mac); /* of any virtual router */

/* One's complement sum over big-endian 16-bit words, folded; chain with `sum`. RFC 1071. */
uint32_t vrrp_checksum_add(uint32_t sum, const uint8_t *data, size_t size);
uint16_t vrrp_checksum_finish(uint32_t sum);
/* The pseudo-header of either family (RFC 8200 section 8.1 for IPv6). */
uint32_t vrrp_checksum_pseudo(const struct base_address *source,
			      const struct base_address *destination, uint8_t protocol,
			      size_t size);
