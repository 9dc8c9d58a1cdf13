#include "vrrp/frame.h"

#include <string.h>

#include "vrrp/packet.h"

#define ETHERTYPE_ARP	 0x0806
#define ETHERTYPE_IPV6	 0x86dd
#define ETHERNET_SIZE	 14
#define ARP_SIZE	 28
#define ARP_REQUEST	 1
#define ARP_REPLY	 2
#define IPV6_SIZE	 40
#define PROTOCOL_ICMPV6	 58
#define ND_SOLICITATION	 135
#define ND_ADVERTISEMENT 136
#define ND_BODY_SIZE	 24 /* type to target address */
#define OPTION_SOURCE	 1
#define OPTION_TARGET	 2
#define OPTION_SIZE	 8
#define NA_ROUTER	 0x80 /* as the kernel of a node that forwards answers */
#define NA_SOLICITED	 0x40
#define NA_OVERRIDE	 0x20

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void ethernet(uint8_t *frame, const uint8_t *to, const struct base_mac *from, uint16_t type)
{
	memcpy(frame, to, 6);
	memcpy(frame + 6, from->bytes, 6);
	put16(frame + 12, type);
}

static size_t arp(uint8_t *frame, const uint8_t *to, uint16_t operation,
		  const struct base_mac *sender_mac, const uint8_t *sender,
		  const uint8_t *target_mac, const uint8_t *target)
{
	uint8_t *arp_at = frame + ETHERNET_SIZE;

	ethernet(frame, to, sender_mac, ETHERTYPE_ARP);
	put16(arp_at, 1); /* Ethernet */
	put16(arp_at + 2, 0x0800);
	arp_at[4] = 6;
	arp_at[5] = 4;
	put16(arp_at + 6, operation);
	memcpy(arp_at + 8, sender_mac->bytes, 6);
	memcpy(arp_at + 14, sender, 4);
	memcpy(arp_at + 18, target_mac, 6);
	memcpy(arp_at + 24, target, 4);
	return ETHERNET_SIZE + ARP_SIZE;
}

/* Fills IPv6 header, checksum and Ethernet header around an ICMPv6 body of `size` bytes. */
static size_t icmpv6(uint8_t *frame, const uint8_t *to, const struct base_mac *mac,
		     const struct base_address *source, const struct base_address *destination,
		     size_t size)
{
	uint8_t *ip = frame + ETHERNET_SIZE, *body = ip + IPV6_SIZE;
	uint32_t sum;

	ethernet(frame, to, mac, ETHERTYPE_IPV6);
	memset(ip, 0, IPV6_SIZE);
	ip[0] = 0x60;
	put16(ip + 4, (uint16_t)size);
	ip[6] = PROTOCOL_ICMPV6;
	ip[7] = 255;
	memcpy(ip + 8, source->bytes, 16);
	memcpy(ip + 24, destination->bytes, 16);
	put16(body + 2, 0);
	sum = vrrp_checksum_pseudo(source, destination, PROTOCOL_ICMPV6, size);
	sum += vrrp_checksum_add(0, body, size);
	put16(body + 2, vrrp_checksum_finish(sum));
	return ETHERNET_SIZE + IPV6_SIZE + size;
}

static size_t body(uint8_t *frame, uint8_t type, uint8_t flags, const struct base_address *target,
		   uint8_t option, const struct base_mac *mac)
{
	uint8_t *at = frame + ETHERNET_SIZE + IPV6_SIZE;

	memset(at, 0, ND_BODY_SIZE + OPTION_SIZE);
	at[0] = type;
	at[4] = flags;
	memcpy(at + 8, target->bytes, 16);
	if (!option)
		return ND_BODY_SIZE;
	at[ND_BODY_SIZE] = option;
	at[ND_BODY_SIZE + 1] = 1; /* in units of 8 bytes */
	memcpy(at + ND_BODY_SIZE + 2, mac->bytes, 6);
	return ND_BODY_SIZE + OPTION_SIZE;
}

static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const uint8_t nobody[6];

size_t vrrp_frame_announce(const struct base_address *address, const struct base_mac *mac,
			   bool reply_form, uint8_t frame[static VRRP_FRAME_SIZE_MAX])
{
	static const uint8_t all_nodes_mac[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	struct base_address all_nodes = { .family = BASE_FAMILY_IPV6,
					  .bytes = { 0xff, 2, [15] = 1 } };

	if (address->family == BASE_FAMILY_IPV4)
		return arp(frame, broadcast, reply_form ? ARP_REPLY : ARP_REQUEST, mac,
			   address->bytes, reply_form ? broadcast : nobody, address->bytes);
	return icmpv6(frame, all_nodes_mac, mac, address, &all_nodes,
		      body(frame, ND_ADVERTISEMENT, NA_ROUTER | NA_OVERRIDE, address,
			   OPTION_TARGET, mac));
}

size_t vrrp_frame_ask(const struct base_address *target, const struct base_address *source,
		      const struct base_mac *mac, const struct base_mac *to,
		      uint8_t frame[static VRRP_FRAME_SIZE_MAX])
{
	bool probe = source->family == BASE_FAMILY_NONE;
	struct base_address group = { .family = BASE_FAMILY_IPV6,
				      .bytes = { 0xff, 2, [11] = 1, [12] = 0xff } };
	struct base_address from = *source;
	uint8_t group_mac[6] = { 0x33, 0x33, 0xff };

	if (target->family == BASE_FAMILY_IPV4)
		return arp(frame, to ? to->bytes : broadcast, ARP_REQUEST, mac, from.bytes, nobody,
			   target->bytes);
	from.family = BASE_FAMILY_IPV6;
	memcpy(group.bytes + 13, target->bytes + 13, 3);
	memcpy(group_mac + 3, target->bytes + 13, 3);
	return icmpv6(frame, to ? to->bytes : group_mac, mac, &from, to ? target : &group,
		      body(frame, ND_SOLICITATION, 0, target, probe ? 0 : OPTION_SOURCE, mac));
}

static bool read_arp(const uint8_t *at, size_t size, struct vrrp_neighbour_seen *seen)
{
	uint16_t operation;
	static const uint8_t zero[4];

	if (size < ARP_SIZE || get16(at) != 1 || get16(at + 2) != 0x0800 || at[4] != 6 || at[5] != 4)
		return false;
	operation = get16(at + 6);
	if ((operation != ARP_REQUEST && operation != ARP_REPLY) || memcmp(at + 14, zero, 4) == 0)
		return false;
	seen->address = base_address_from_bytes(BASE_FAMILY_IPV4, at + 14);
	memcpy(seen->mac.bytes, at + 8, 6);
	seen->answer = operation == ARP_REPLY;
	return true;
}

/* RFC 4861 7.1.1 and 7.1.2, but for the options. */
static bool valid_nd(const uint8_t *ip, size_t length)
{
	const uint8_t *at = ip + IPV6_SIZE;
	struct base_address source = base_address_from_bytes(BASE_FAMILY_IPV6, ip + 8);
	struct base_address destination = base_address_from_bytes(BASE_FAMILY_IPV6, ip + 24);
	uint32_t sum = vrrp_checksum_pseudo(&source, &destination, PROTOCOL_ICMPV6, length);

	if (at[0] != ND_ADVERTISEMENT && at[0] != ND_SOLICITATION)
		return false;
	if (at[0] == ND_ADVERTISEMENT && destination.bytes[0] == 0xff && (at[4] & NA_SOLICITED))
		return false;
	return at[1] == 0 && at[8] != 0xff /* multicast target */ &&
	       vrrp_checksum_finish(sum + vrrp_checksum_add(0, at, length)) == 0;
}

static bool read_nd(const uint8_t *ip, size_t size, const uint8_t *ethernet_source,
		    struct vrrp_neighbour_seen *seen)
{
	static const uint8_t zero[16];
	const uint8_t *at = ip + IPV6_SIZE, *mac = ethernet_source;
	size_t length;
	bool answer;

	if (size < IPV6_SIZE + ND_BODY_SIZE || ip[0] >> 4 != 6 || ip[6] != PROTOCOL_ICMPV6 ||
	    ip[7] != 255)
		return false;
	length = get16(ip + 4);
	if (length < ND_BODY_SIZE || length > size - IPV6_SIZE || !valid_nd(ip, length))
		return false;
	answer = at[0] == ND_ADVERTISEMENT;
	if (!answer && memcmp(ip + 8, zero, 16) == 0)
		return false; /* duplicate address detection says nothing about its sender */
	for (size_t i = ND_BODY_SIZE; i + OPTION_SIZE <= length; i += at[i + 1] * (size_t)8) {
		if (at[i + 1] == 0)
			return false;
		if (at[i] == (answer ? OPTION_TARGET : OPTION_SOURCE) && at[i + 1] == 1)
			mac = at + i + 2;
	}
	seen->address = base_address_from_bytes(BASE_FAMILY_IPV6, answer ? at + 8 : ip + 8);
	seen->answer = answer;
	memcpy(seen->mac.bytes, mac, 6);
	return true;
}

bool vrrp_frame_read(const uint8_t *frame, size_t size, struct vrrp_neighbour_seen *seen)
{
	bool known = false;

	if (size < ETHERNET_SIZE)
		return false;
	if (get16(frame + 12) == ETHERTYPE_ARP)
		known = read_arp(frame + ETHERNET_SIZE, size - ETHERNET_SIZE, seen);
	else if (get16(frame + 12) == ETHERTYPE_IPV6)
		known = read_nd(frame + ETHERNET_SIZE, size - ETHERNET_SIZE, frame + 6, seen);
	if (known)
		seen->to_one = !(frame[0] & 1);
	return known;
}
