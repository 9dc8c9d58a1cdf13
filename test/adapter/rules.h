#pragma once

/* Rules in the namespace of place.h, and what a member sends there. */
#include <netinet/in.h>
#include <poll.h>

#include "nft/io/table.h"
#include "test/adapter/place.h"
#include "vrrp/io/socket.h"
#include "vrrp/packet.h"

PLACE_UNUSED struct nft_table *table;
PLACE_UNUSED struct nft_abilities abilities;

PLACE_UNUSED struct nft_skeleton skeleton_of(bool egress)
{
	struct nft_skeleton skeleton = {
		.egress = egress,
		.arp = abilities.arp,
		.segment_count = 1,
		.segments = { "eth1" },
		.indices = { if_nametoindex("eth1") },
		.interval_count = 2,
		.intervals_cs = { 10, 100 },
		.addresses_per_router = 2,
		.range_count = 2,
	};

	assert_true(base_prefix_parse("10.244.0.0/16", &skeleton.pod_ranges[0]));
	assert_true(base_prefix_parse("10.244.1.0/24", &skeleton.pod_ranges[1]));
	return skeleton;
}

PLACE_UNUSED void open_table(void)
{
	struct base_error error = { 0 };

	if (nft_table_new(&table, &abilities, &error) < 0)
		fail_msg("%s", error.message);
}

PLACE_UNUSED int set_up(void **state)
{
	(void)state;
	place_run("ip link delete eth1 2>/dev/null; nft flush ruleset");
	place_cable();
	open_table();
	return 0;
}

PLACE_UNUSED int tear_down(void **state)
{
	(void)state;
	nft_table_free(table);
	table = NULL;
	return 0;
}

PLACE_UNUSED void wait_for_table(void)
{
	struct pollfd wait = { .fd = nft_table_fd(table), .events = POLLIN };

	assert_true(poll(&wait, 1, 20000) > 0);
}

PLACE_UNUSED int commit(const struct nft_skeleton *skeleton)
{
	int result = 0, r;

	do {
		struct base_error error = { 0 };

		r = nft_table_commit(table, skeleton, &error);
		if (r < 0)
			fail_msg("%s", error.message);
		result |= r & NFT_TABLE_ANEW;
		if (r & NFT_TABLE_WAIT)
			wait_for_table();
	} while (r & (NFT_TABLE_MORE | NFT_TABLE_WAIT));
	return result;
}

PLACE_UNUSED void want_vip(const char *text, enum nft_dataplane dataplane)
{
	struct base_address vip = place_address(text);

	assert_int_equal(nft_emit_vip(&vip, dataplane, 0, NULL, nft_table_want, table), 0);
}

PLACE_UNUSED bool is_alive(const struct base_address *address)
{
	struct nft_alive alive = { 0 };
	bool found = false;

	assert_int_equal(nft_table_alive(table, &alive), 0);
	for (size_t i = 0; i < alive.count && !found; i++)
		found = base_address_equal(&alive.addresses[i], address);
	nft_alive_free(&alive);
	return found;
}

/* An advert as the engine sends it: at the egress, or to the loopback. */
PLACE_UNUSED void send_advert(bool egress, const struct base_address *vip, uint8_t version,
			uint8_t priority, uint32_t interval_ms)
{
	static struct vrrp_advert advert;
	struct vrrp_packet_meta meta = { .destination = vrrp_group(vip->family) };
	uint8_t data[VRRP_PACKET_SIZE_MAX];
	bool six = vip->family == BASE_FAMILY_IPV6;
	size_t size;

	advert = (struct vrrp_advert){ .version = version,
				       .virtual_router_id = 10,
				       .priority = priority,
				       .interval_us = interval_ms * 1000,
				       .address_count = six ? 2 : 1,
				       .addresses = { *vip } };
	meta.source = place_address(six ? "fe80::ff:fe00:1" : "192.0.2.1");
	if (six) {
		advert.addresses[0] = place_address("fe80::200:5eff:fe00:20a");
		advert.addresses[1] = *vip;
	}
	size = vrrp_packet_build(&advert, &meta, data, sizeof data);
	assert_true(size > 0);
	if (egress) {
		struct vrrp_socket *socket;
		int r;

		assert_int_equal(vrrp_socket_new(&socket, vip->family, if_nametoindex("eth1")), 0);
		r = vrrp_socket_send(socket, &meta.source, NULL, data, size);
		/* The chain drops what is meant for the fence alone, and the kernel may say so. */
		if (version < NFT_LINGER_VERSION)
			assert_int_equal(r, 0);
		vrrp_socket_free(socket);
	} else {
		struct sockaddr_in to4 = { .sin_family = AF_INET,
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		struct sockaddr_in6 to6 = { .sin6_family = AF_INET6,
					    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
		int fd = socket(six ? AF_INET6 : AF_INET, SOCK_RAW, VRRP_PROTOCOL);

		assert_true(fd >= 0);
		assert_int_equal(sendto(fd, data, size, 0,
					six ? (struct sockaddr *)&to6 : (struct sockaddr *)&to4,
					six ? sizeof to6 : sizeof to4),
				 size);
		close(fd);
	}
}

/* --- the skeleton --- */

/* An advert for the address as another member sends it, from this MAC, arriving over the cable. */
PLACE_UNUSED void hear_advert(int lan, const struct base_address *vip, const struct base_mac *mac)
{
	static struct vrrp_advert advert;
	struct vrrp_packet_meta meta = { .source = place_address("192.0.2.2"),
					 .destination = vrrp_group(BASE_FAMILY_IPV4) };
	uint8_t frame[14 + 20 + 64] = { 1, 0, 0x5e, 0, 0, 0x12 };
	size_t size;
	uint16_t sum;

	advert = (struct vrrp_advert){ .version = 3,
				       .virtual_router_id = 10,
				       .priority = 120,
				       .interval_us = 1000000,
				       .address_count = 1,
				       .addresses = { *vip } };
	memcpy(frame + 6, mac->bytes, 6);
	frame[12] = 8;
	size = vrrp_packet_build(&advert, &meta, frame + 34, sizeof frame - 34);
	frame[14] = 0x45;
	frame[17] = (uint8_t)(20 + size);
	frame[22] = 255;
	frame[23] = VRRP_PROTOCOL;
	memcpy(frame + 26, meta.source.bytes, 4);
	memcpy(frame + 30, meta.destination.bytes, 4);
	sum = vrrp_checksum_finish(vrrp_checksum_add(0, frame + 14, 20));
	frame[24] = (uint8_t)(sum >> 8);
	frame[25] = (uint8_t)sum;
	assert_int_equal(send(lan, frame, 34 + size, 0), 34 + size);
}

