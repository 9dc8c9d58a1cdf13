#include "daemon/engine/core/probe_packet.h"

#include <netinet/in.h>
#include <string.h>

#include "vrrp/packet.h"

#define ETHERNET_SIZE 14
#define ETHERTYPE_IP4 0x0800
#define ETHERTYPE_IP6 0x86dd
#define IP4_SIZE      20
#define IP6_SIZE      40
#define TCP_SIZE      20
#define SHORT_SIZE    8 /* UDP's header, and ICMP's of an echo */
#define HOPS          64
#define ECHO4         8
#define ECHO4_REPLY   0
#define ECHO6         128
#define ECHO6_REPLY   129

static const char said[] = "vipd drill\n"; /* of a datagram */

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static bool is_six(const struct probe_packet *packet)
{
	return packet->target.family == BASE_FAMILY_IPV6;
}

/* As it stands in the IP header. */
static uint8_t protocol_of(const struct probe_packet *packet)
{
	return packet->protocol == IPPROTO_ICMP && is_six(packet) ? IPPROTO_ICMPV6
								  : packet->protocol;
}

static uint16_t port_of(const struct probe_packet *packet)
{
	return (uint16_t)(packet->own_port + packet->number % PROBE_PACKET_PORTS);
}

static size_t put_segment(const struct probe_packet *packet, const struct probe_segment *segment,
			  uint8_t *at)
{
	put16(at, segment->own_port);
	put16(at + 2, packet->port);
	put32(at + 4, segment->sequence);
	put32(at + 8, segment->acknowledgement);
	at[12] = TCP_SIZE / 4 << 4;
	at[13] = segment->flags;
	put16(at + 14, 1024);
	return TCP_SIZE + segment->data_size;
}

static size_t put_tcp(const struct probe_packet *packet, uint8_t *at)
{
	const struct probe_segment segment = { .own_port = port_of(packet),
					       .flags = PROBE_TCP_SYN,
					       .sequence = (uint32_t)packet->number << 16 };

	return put_segment(packet, &segment, at);
}

static size_t put_udp(const struct probe_packet *packet, uint8_t *at)
{
	size_t size = SHORT_SIZE + sizeof said - 1;

	put16(at, port_of(packet));
	put16(at + 2, packet->port);
	put16(at + 4, (uint32_t)size);
	memcpy(at + SHORT_SIZE, said, sizeof said - 1);
	return size;
}

static size_t put_echo(const struct probe_packet *packet, uint8_t *at)
{
	at[0] = is_six(packet) ? ECHO6 : ECHO4;
	put16(at + 4, packet->own_port);
	put16(at + 6, packet->number);
	return SHORT_SIZE;
}

static void put_checksum(const struct probe_packet *packet, uint8_t *at, size_t size)
{
	size_t offset = packet->protocol == IPPROTO_TCP   ? 16
			: packet->protocol == IPPROTO_UDP ? 6
							  : 2;
	uint32_t sum = vrrp_checksum_add(0, at, size);
	uint16_t checksum;

	if (protocol_of(packet) != IPPROTO_ICMP)
		sum += vrrp_checksum_pseudo(&packet->source, &packet->target, protocol_of(packet),
					    size);
	checksum = vrrp_checksum_finish(sum);
	put16(at + offset, packet->protocol == IPPROTO_UDP && checksum == 0 ? 0xffff : checksum);
}

static void put_ip4(const struct probe_packet *packet, uint8_t *at, size_t size)
{
	at[0] = 0x45;
	put16(at + 2, (uint32_t)(IP4_SIZE + size));
	put16(at + 4, packet->number);
	at[8] = HOPS;
	at[9] = protocol_of(packet);
	memcpy(at + 12, packet->source.bytes, 4);
	memcpy(at + 16, packet->target.bytes, 4);
	put16(at + 10, vrrp_checksum_finish(vrrp_checksum_add(0, at, IP4_SIZE)));
}

static void put_ip6(const struct probe_packet *packet, uint8_t *at, size_t size)
{
	at[0] = 0x60;
	put16(at + 4, (uint32_t)size);
	at[6] = protocol_of(packet);
	at[7] = HOPS;
	memcpy(at + 8, packet->source.bytes, 16);
	memcpy(at + 24, packet->target.bytes, 16);
}

/* Where the transport header begins in a frame of ours. */
static size_t body_offset(const struct probe_packet *packet)
{
	return ETHERNET_SIZE + (is_six(packet) ? IP6_SIZE : IP4_SIZE);
}

/* What goes around `size` bytes of transport. Answers the size of the frame. */
static size_t wrap(const struct probe_packet *packet, uint8_t *data, size_t size)
{
	bool six = is_six(packet);

	memcpy(data, packet->target_mac.bytes, 6);
	memcpy(data + 6, packet->source_mac.bytes, 6);
	put16(data + 12, six ? ETHERTYPE_IP6 : ETHERTYPE_IP4);
	put_checksum(packet, data + body_offset(packet), size);
	six ? put_ip6(packet, data + ETHERNET_SIZE, size)
	    : put_ip4(packet, data + ETHERNET_SIZE, size);
	return body_offset(packet) + size;
}

size_t probe_packet_build(const struct probe_packet *packet, uint8_t data[PROBE_PACKET_SIZE_MAX])
{
	uint8_t *body = data + body_offset(packet);

	memset(data, 0, PROBE_PACKET_SIZE_MAX);
	return wrap(packet, data,
		    packet->protocol == IPPROTO_TCP   ? put_tcp(packet, body)
		    : packet->protocol == IPPROTO_UDP ? put_udp(packet, body)
						      : put_echo(packet, body));
}

size_t probe_packet_build_segment(const struct probe_packet *packet,
				  const struct probe_segment *segment,
				  uint8_t data[PROBE_PACKET_SIZE_MAX])
{
	memset(data, 0, PROBE_PACKET_SIZE_MAX);
	return wrap(packet, data, put_segment(packet, segment, data + body_offset(packet)));
}

/* --- answers --- */

/* Where the transport header begins; NULL: not from the target to us. */
static const uint8_t *body_of(const struct probe_packet *packet, const uint8_t *data, size_t size,
			      size_t *left)
{
	bool six = is_six(packet);
	size_t header = six ? IP6_SIZE : IP4_SIZE, length = six ? 16 : 4;
	const uint8_t *ip = data + ETHERNET_SIZE;

	if (size < ETHERNET_SIZE + header ||
	    get16(data + 12) != (six ? ETHERTYPE_IP6 : ETHERTYPE_IP4))
		return NULL;
	if (!six)
		header = (size_t)(ip[0] & 15) * 4;
	if (ip[six ? 6 : 9] != protocol_of(packet) || header < IP4_SIZE ||
	    size < ETHERNET_SIZE + header + SHORT_SIZE ||
	    memcmp(ip + (six ? 8 : 12), packet->target.bytes, length) != 0 ||
	    memcmp(ip + (six ? 24 : 16), packet->source.bytes, length) != 0)
		return NULL;
	*left = size - ETHERNET_SIZE - header;
	return ip + header;
}

bool probe_packet_is_answer(const struct probe_packet *packet, const uint8_t *data, size_t size)
{
	size_t left = 0;
	const uint8_t *body = body_of(packet, data, size, &left);

	if (!body)
		return false;
	if (packet->protocol == IPPROTO_ICMP)
		return body[0] == (is_six(packet) ? ECHO6_REPLY : ECHO4_REPLY) &&
		       get16(body + 4) == packet->own_port;
	if (get16(body) != packet->port ||
	    (uint16_t)(port_of(packet) - get16(body + 2)) % PROBE_PACKET_PORTS >= PROBE_PACKET_LAST)
		return false;
	return packet->protocol == IPPROTO_UDP ||
	       (left >= TCP_SIZE &&
		(body[13] & (PROBE_TCP_SYN | PROBE_TCP_ACK)) == (PROBE_TCP_SYN | PROBE_TCP_ACK));
}

bool probe_packet_read_segment(const struct probe_packet *packet, const uint8_t *data, size_t size,
			       struct probe_segment *segment)
{
	const uint8_t *ip = data + ETHERNET_SIZE, *body;
	size_t left = 0, header, length;

	body = body_of(packet, data, size, &left);
	if (!body || left < TCP_SIZE || get16(body) != packet->port)
		return false;
	header = (size_t)(body[12] >> 4) * 4;
	/* As the IP header has it: short frames are padded, long ones cut off. */
	length = is_six(packet) ? get16(ip + 4) : get16(ip + 2) - (size_t)(ip[0] & 15) * 4;
	if (header < TCP_SIZE || length < header || length > UINT16_MAX)
		return false;
	*segment = (struct probe_segment){ .own_port = get16(body + 2),
					   .flags = body[13],
					   .sequence = get32(body + 4),
					   .acknowledgement = get32(body + 8),
					   .data_size = (uint32_t)(length - header) };
	return true;
}
