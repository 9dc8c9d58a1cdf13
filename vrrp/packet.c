#include "vrrp/packet.h"

#include <string.h>

#define HEADER_SIZE	 8
#define AUTH_SIZE	 8 /* version 2: authentication data behind the addresses */
#define TYPE_ADVERT	 1
#define CENTISECOND_US	 10000u
#define INTERVAL_CS_MAX	 4095
#define VERSION2_UNIT_US 1000000u

uint32_t vrrp_checksum_add(uint32_t sum, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)data[i] << 8 | data[i + 1];
	if (size & 1)
		sum += (uint32_t)data[size - 1] << 8;
	return (sum & 0xffff) + (sum >> 16);
}

uint16_t vrrp_checksum_finish(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint32_t vrrp_checksum_pseudo(const struct base_address *source,
			      const struct base_address *destination, uint8_t protocol, size_t size)
{
	uint32_t sum = 0;

	sum = vrrp_checksum_add(sum, source->bytes, base_address_size(source));
	sum = vrrp_checksum_add(sum, destination->bytes, base_address_size(destination));
	return sum + protocol + (uint32_t)size;
}

static size_t packet_size(unsigned version, unsigned count, const struct base_address *family)
{
	return HEADER_SIZE + count * base_address_size(family) + (version == 2 ? AUTH_SIZE : 0);
}

/* Which of the legal sums matches; false: none. */
static bool checksum_matches(const uint8_t *data, size_t size, unsigned version,
			     const struct vrrp_packet_meta *meta, bool *pseudo)
{
	uint32_t plain = vrrp_checksum_add(0, data, size);
	uint32_t covered = plain + vrrp_checksum_pseudo(&meta->source, &meta->destination,
							VRRP_PROTOCOL, size);

	*pseudo = false;
	if (meta->source.family == BASE_FAMILY_IPV4 && vrrp_checksum_finish(plain) == 0)
		return true;
	*pseudo = version == 3;
	return version == 3 && vrrp_checksum_finish(covered) == 0;
}

enum vrrp_verdict vrrp_packet_parse(const uint8_t *data, size_t size,
				    const struct vrrp_packet_meta *meta, struct vrrp_advert *advert)
{
	bool ipv4 = meta->source.family == BASE_FAMILY_IPV4, pseudo;
	unsigned version, count;
	uint32_t interval_us;

	if (meta->ttl != 255)
		return VRRP_VERDICT_BAD_TTL;
	if (size < HEADER_SIZE)
		return VRRP_VERDICT_TOO_SHORT;
	version = data[0] >> 4;
	if (version != 3 && !(version == 2 && ipv4))
		return VRRP_VERDICT_BAD_VERSION;
	if ((data[0] & 0x0f) != TYPE_ADVERT)
		return VRRP_VERDICT_BAD_TYPE;
	if (data[1] == 0)
		return VRRP_VERDICT_BAD_VRID;
	count = data[3];
	if (count == 0)
		return VRRP_VERDICT_NO_ADDRESS;
	if (size < packet_size(version, count, &meta->source))
		return VRRP_VERDICT_TOO_SHORT;
	size = packet_size(version, count, &meta->source); /* trailing bytes are padding */
	if (!checksum_matches(data, size, version, meta, &pseudo))
		return VRRP_VERDICT_BAD_CHECKSUM;
	interval_us = version == 3 ? ((uint32_t)(data[4] & 0x0f) << 8 | data[5]) * CENTISECOND_US
				   : data[5] * VERSION2_UNIT_US;
	if (interval_us == 0)
		return VRRP_VERDICT_BAD_INTERVAL;
	if (version == 2 && data[4] != 0)
		return VRRP_VERDICT_BAD_AUTHENTICATION; /* RFC 3768 7.1: it must be ours: none */
	if (!ipv4) {
		struct base_address first =
			base_address_from_bytes(BASE_FAMILY_IPV6, data + HEADER_SIZE);

		if (!base_address_is_link_local(&first))
			return VRRP_VERDICT_NOT_LINK_LOCAL;
	}
	advert->version = (uint8_t)version;
	advert->virtual_router_id = data[1];
	advert->priority = data[2];
	advert->pseudo_header = pseudo;
	advert->interval_us = interval_us;
	advert->address_count = count;
	for (unsigned i = 0; i < count; i++)
		advert->addresses[i] = base_address_from_bytes(
			ipv4 ? BASE_FAMILY_IPV4 : BASE_FAMILY_IPV6,
			data + HEADER_SIZE + i * base_address_size(&meta->source));
	return VRRP_VERDICT_OK;
}

size_t vrrp_packet_build(const struct vrrp_advert *advert, const struct vrrp_packet_meta *meta,
			 uint8_t *data, size_t size)
{
	size_t each = base_address_size(&meta->source), at = HEADER_SIZE;
	size_t total = packet_size(advert->version, advert->address_count, &meta->source);
	uint32_t sum;
	uint16_t checksum;

	if (total > size || advert->address_count == 0 ||
	    advert->address_count > VRRP_ADDRESSES_MAX ||
	    (advert->version == 2 && meta->source.family != BASE_FAMILY_IPV4))
		return 0;
	memset(data, 0, total);
	data[0] = (uint8_t)(advert->version << 4 | TYPE_ADVERT);
	data[1] = advert->virtual_router_id;
	data[2] = advert->priority;
	data[3] = (uint8_t)advert->address_count;
	if (advert->version == 3) {
		uint32_t interval_cs = advert->interval_us / CENTISECOND_US;

		if (interval_cs > INTERVAL_CS_MAX)
			interval_cs = INTERVAL_CS_MAX;
		data[4] = (uint8_t)(interval_cs >> 8);
		data[5] = (uint8_t)interval_cs;
	} else {
		uint32_t interval_s = advert->interval_us / VERSION2_UNIT_US;

		data[5] = interval_s ? (uint8_t)interval_s : 1;
	}
	for (unsigned i = 0; i < advert->address_count; i++, at += each)
		memcpy(data + at, advert->addresses[i].bytes, each);
	sum = vrrp_checksum_add(0, data, total);
	if (meta->source.family == BASE_FAMILY_IPV6 ||
	    (advert->version == 3 && advert->pseudo_header))
		sum += vrrp_checksum_pseudo(&meta->source, &meta->destination, VRRP_PROTOCOL,
					    total);
	checksum = vrrp_checksum_finish(sum);
	data[6] = (uint8_t)(checksum >> 8);
	data[7] = (uint8_t)checksum;
	return total;
}

const char *vrrp_verdict_text(enum vrrp_verdict verdict)
{
	static const char *const texts[VRRP_VERDICT_COUNT] = {
#define VRRP_VERDICT_TEXT(name, text) [VRRP_VERDICT_##name] = text,
		VRRP_VERDICTS(VRRP_VERDICT_TEXT)
#undef VRRP_VERDICT_TEXT
	};

	return (unsigned)verdict < VRRP_VERDICT_COUNT ? texts[verdict] : "unknown";
}

#define VIRTUAL_MAC_PREFIX 0x00, 0x00, 0x5e, 0x00

struct base_mac vrrp_virtual_mac(enum base_family family, uint8_t virtual_router_id)
{
	return (struct base_mac){ { VIRTUAL_MAC_PREFIX, family == BASE_FAMILY_IPV6 ? 2 : 1,
				    virtual_router_id } };
}

bool vrrp_is_virtual_mac(const struct base_mac *mac)
{
	static const uint8_t prefix[] = { VIRTUAL_MAC_PREFIX };

	return memcmp(mac->bytes, prefix, sizeof prefix) == 0 &&
	       (mac->bytes[4] == 1 || mac->bytes[4] == 2);
}
