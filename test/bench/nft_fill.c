/*
 * nft_fill SERVICES VIP ENDPOINT NODE INTERFACE: puts so many Services into table vipd of this namespace, as the
 * engine does; the last one is VIP, ports 80 (TCP, UDP) and 81, at ENDPOINT. NODE: where that is, "-": here.
 */
#include <netinet/in.h>

#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft/io/table.h"

static struct nft_table *table;

static void want(struct base_address vip, struct nft_endpoint *endpoint, uint8_t protocol, uint16_t number)
{
	struct nft_port port = { .address = vip,
				 .protocol = protocol,
				 .port = number,
				 .dataplane = NFT_DATAPLANE_DIRECTOR,
				 .endpoint_count = 1,
				 .endpoints = endpoint };

	endpoint->port = number;
	if (nft_emit_port(&port, nft_table_want, table) < 0)
		exit(1);
}

static void want_others(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint8_t third = (uint8_t)(i / 256), fourth = (uint8_t)i;
		struct base_address vip = base_address_ipv4(198, 18, third, fourth);
		struct nft_endpoint endpoint = { .address = base_address_ipv4(10, 245, third, fourth),
						 .node = base_address_ipv4(192, 0, 2, 2) };

		if (nft_emit_vip(&vip, NFT_DATAPLANE_DIRECTOR, 0, NULL, nft_table_want, table) < 0)
			exit(1);
		want(vip, &endpoint, IPPROTO_TCP, 80);
	}
}

static void commit(const char *interface)
{
	struct nft_skeleton skeleton = { .egress = true,
					 .arp = true,
					 .segment_count = 1,
					 .indices = { if_nametoindex(interface) },
					 .interval_count = 1,
					 .intervals_cs = { 10 },
					 .addresses_per_router = 1 };
	struct base_error error = { 0 };
	int r;

	snprintf(skeleton.segments[0], sizeof skeleton.segments[0], "%s", interface);
	do {
		r = nft_table_commit(table, &skeleton, &error);
		if (r < 0) {
			printf("%s\n", error.message);
			exit(1);
		}
		if (r & NFT_TABLE_WAIT) {
			poll(&(struct pollfd){ .fd = nft_table_fd(table), .events = POLLIN }, 1, -1);
			nft_table_drain(table);
		}
	} while (r & (NFT_TABLE_MORE | NFT_TABLE_WAIT));
}

int main(int argc, char **argv)
{
	struct nft_abilities abilities;
	struct base_error error = { 0 };
	struct nft_endpoint endpoint = { 0 };
	struct base_address vip;

	if (argc != 6 || !base_address_parse(argv[2], &vip) ||
	    !base_address_parse(argv[3], &endpoint.address))
		return 2;
	endpoint.local = !base_address_parse(argv[4], &endpoint.node);
	if (nft_table_new(&table, &abilities, &error) < 0) {
		printf("%s\n", error.message);
		return 1;
	}
	nft_table_begin(table);
	want_others((unsigned)atoi(argv[1]) - 1);
	if (nft_emit_vip(&vip, NFT_DATAPLANE_DIRECTOR, 0, NULL, nft_table_want, table) < 0)
		return 1;
	want(vip, &endpoint, IPPROTO_TCP, 80);
	want(vip, &endpoint, IPPROTO_TCP, 81);
	want(vip, &endpoint, IPPROTO_UDP, 80);
	commit(argv[5]);
	nft_table_free(table);
	return 0;
}
