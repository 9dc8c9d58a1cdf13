/* Adverts: what is read can be built again, and is then read the same. */
#include "vrrp/packet.h"

#include <string.h>

#include "test/fuzz/target.h"

/* The first byte: bit 0 IPv6, bit 1 the checksum is put right first; the rest is the packet. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vrrp_advert advert, again;
	static uint8_t packet[65536], built[VRRP_PACKET_SIZE_MAX];
	struct vrrp_packet_meta meta = { .ttl = 255 };
	bool six = size > 0 && (data[0] & 1);

	if (size < 1 || size > sizeof packet)
		return 0;
	meta.source = base_address_ipv4(192, 0, 2, 1);
	meta.destination = base_address_ipv4(224, 0, 0, 18);
	if (six) {
		base_address_parse("fe80::1", &meta.source);
		base_address_parse("ff02::12", &meta.destination);
	}
	memcpy(packet, data + 1, size - 1);
	if ((data[0] & 2) && size > 8) {
		uint16_t sum;

		packet[6] = packet[7] = 0;
		sum = vrrp_checksum_finish(
			vrrp_checksum_add(0, packet, size - 1) +
			(six ? vrrp_checksum_pseudo(&meta.source, &meta.destination, VRRP_PROTOCOL,
						    size - 1)
			     : 0));
		packet[6] = (uint8_t)(sum >> 8);
		packet[7] = (uint8_t)sum;
	}
	if (vrrp_packet_parse(packet, size - 1, &meta, &advert) == VRRP_VERDICT_OK) {
		size_t length = vrrp_packet_build(&advert, &meta, built, sizeof built);

		PROMISE(length > 0 && length <= size - 1);
		PROMISE(vrrp_packet_parse(built, length, &meta, &again) == VRRP_VERDICT_OK);
		PROMISE(again.priority == advert.priority);
		PROMISE(again.virtual_router_id == advert.virtual_router_id);
		PROMISE(again.interval_us == advert.interval_us);
		PROMISE(again.address_count == advert.address_count);
		PROMISE(memcmp(again.addresses, advert.addresses,
			       advert.address_count * sizeof *advert.addresses) == 0);
	}
	return 0;
}
