#include "nft/desired.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define ENDPOINTS_MAX 1024

static bool is6(const struct base_address *address)
{
	return address->family == BASE_FAMILY_IPV6;
}

static const char *pick(const struct base_address *address, const char *four, const char *six)
{
	return is6(address) ? six : four;
}

static const char *protocol_name(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_SCTP:
		return "sctp";
	default:
		return "tcp";
	}
}

static void put_address(char *text, size_t size, const struct base_address *address)
{
	char one[BASE_ADDRESS_TEXT_SIZE];

	snprintf(text, size, "%s", base_address_format(address, one));
}

int nft_emit_vip(const struct base_address *address, enum nft_dataplane dataplane,
		 nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "netdev",
				       .set = pick(address, "vips4", "vips6") };
	int r;

	put_address(element.key, sizeof element.key, address);
	if (is6(address)) { /* a plain number there, see the skeleton */
		char *at = element.key + snprintf(element.key, 3, "0x");

		for (int i = 0; i < 16; i++)
			at += snprintf(at, 3, "%02x", address->bytes[i]);
	}
	r = emit(userdata, &element);
	if (r < 0 || dataplane == NFT_DATAPLANE_ANNOUNCE)
		return r;
	put_address(element.key, sizeof element.key, address);
	element.table = "inet";
	r = emit(userdata, &element);
	if (r < 0 || dataplane == NFT_DATAPLANE_NAT)
		return r;
	element.table = "netdev";
	element.set = pick(address, "direct4", "direct6");
	return emit(userdata, &element);
}

int nft_emit_peer(const struct base_mac *mac, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "netdev", .set = "peers" };
	char text[BASE_MAC_TEXT_SIZE];

	snprintf(element.key, sizeof element.key, "%s", base_mac_format(mac, text));
	return emit(userdata, &element);
}

/* "192.0.2.10 . tcp . 22" and whatever follows */
__attribute__((format(printf, 3, 4))) static void
put_key(struct nft_element *element, const struct nft_port *port, const char *format, ...)
{
	char address[BASE_ADDRESS_TEXT_SIZE];
	va_list arguments;
	int n = snprintf(element->key, sizeof element->key, "%s . %s . %u",
			 base_address_format(&port->address, address),
			 protocol_name(port->protocol), port->port);

	va_start(arguments, format);
	vsnprintf(element->key + n, sizeof element->key - (size_t)n, format, arguments);
	va_end(arguments);
}

static void put_target(struct nft_element *element, const struct nft_endpoint *endpoint)
{
	char address[BASE_ADDRESS_TEXT_SIZE];

	snprintf(element->data, sizeof element->data, "%s . %u",
		 base_address_format(&endpoint->address, address), endpoint->port);
}

static int compare_ranges(const void *a, const void *b)
{
	struct base_address first_a = base_prefix_first(a), first_b = base_prefix_first(b);
	int r = base_address_compare(&first_a, &first_b);

	return r ? r
		 : (int)((const struct base_prefix *)a)->length -
			   (int)((const struct base_prefix *)b)->length;
}

void nft_ranges_sort(struct base_prefix *ranges, size_t count)
{
	qsort(ranges, count, sizeof *ranges, compare_ranges);
}

static int emit_ranges(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "inet",
				       .set = pick(&port->address, "ranged4", "ranged6") };
	const struct base_prefix *last = NULL;
	int r;

	if (port->range_count == 0)
		return 0;
	put_key(&element, port, "%s", "");
	r = emit(userdata, &element);
	element.set = pick(&port->address, "source4", "source6");
	for (size_t i = 0; i < port->range_count && r >= 0; i++) {
		struct base_prefix range = { base_prefix_first(&port->ranges[i]),
					     port->ranges[i].length };
		char text[BASE_PREFIX_TEXT_SIZE];

		/* The kernel refuses a range inside another one, and with it the whole transaction. */
		if (range.address.family != port->address.family ||
		    (last && base_prefix_contains(last, &range.address)))
			continue;
		last = &port->ranges[i];
		put_key(&element, port, " . %s", base_prefix_format(&range, text));
		r = emit(userdata, &element);
	}
	return r;
}

/* What the endpoint's own node needs for replies, hairpins and migrated connections. */
static int emit_endpoint(const struct nft_port *port, const struct nft_endpoint *endpoint,
			 nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "inet" };
	char address[BASE_ADDRESS_TEXT_SIZE], vip[BASE_ADDRESS_TEXT_SIZE];
	int r;

	base_address_format(&endpoint->address, address);
	element.set = pick(&port->address, "hairpin4", "hairpin6");
	snprintf(element.key, sizeof element.key, "%s . %s", address, address);
	r = emit(userdata, &element);
	if (r >= 0 && endpoint->local) {
		element.set = pick(&port->address, "local4", "local6");
		snprintf(element.key, sizeof element.key, "%s", address);
		r = emit(userdata, &element);
	}
	if (r < 0 || port->protocol != IPPROTO_TCP)
		return r;
	snprintf(element.key, sizeof element.key, "%s . tcp . %u", address, endpoint->port);
	if (port->held) {
		element.set = pick(&port->address, "heldend4", "heldend6");
		r = emit(userdata, &element);
		if (r < 0)
			return r;
	}
	element.set = pick(&port->address, "reverse4", "reverse6");
	element.exclusive = true;
	if (port->endpoint_count == 1)
		snprintf(element.data, sizeof element.data, "%s . %u",
			 base_address_format(&port->address, vip), port->port);
	return emit(userdata, &element);
}

/* Where the owner sends packets on to; nothing if they are translated right here. */
static const struct base_address *next_node(const struct nft_port *port,
					    const struct nft_endpoint *endpoint)
{
	if (port->dataplane != NFT_DATAPLANE_DIRECTOR || endpoint->local ||
	    endpoint->node.family != port->address.family)
		return NULL;
	return &endpoint->node;
}

/*
 * Fragments and ICMP errors name no port: they follow the address, if all of it lives on one other
 * node. An endpoint that is here, or off the segment, is a contradiction like a second node.
 */
static int emit_one_node(const struct nft_port *port, const struct nft_endpoint *endpoint,
			 nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "netdev",
				       .set = pick(&port->address, "onenode4", "onenode6"),
				       .exclusive = true };
	const struct base_address *node = next_node(port, endpoint);

	if (port->dataplane != NFT_DATAPLANE_DIRECTOR)
		return 0;
	put_address(element.key, sizeof element.key, &port->address);
	if (node)
		put_address(element.data, sizeof element.data, node);
	return emit(userdata, &element);
}

static int emit_held(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "inet",
				       .set = pick(&port->address, "held4", "held6") };

	if (!port->held)
		return 0;
	put_key(&element, port, "%s", "");
	return emit(userdata, &element);
}

static int emit_single(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "inet",
				       .set = pick(&port->address, "service4", "service6") };
	const struct base_address *node = next_node(port, &port->endpoints[0]);
	int r;

	put_key(&element, port, "%s", "");
	put_target(&element, &port->endpoints[0]);
	r = emit(userdata, &element);
	if (r < 0 || !node)
		return r;
	element.table = "netdev";
	element.set = pick(&port->address, "node4", "node6");
	put_address(element.data, sizeof element.data, node);
	return emit(userdata, &element);
}

static const char *slots_set(const struct nft_port *port)
{
	bool client = port->client_affinity;

	switch (port->protocol) {
	case IPPROTO_UDP:
		return client ? pick(&port->address, "slotclientudp4", "slotclientudp6")
			      : pick(&port->address, "slotflowudp4", "slotflowudp6");
	case IPPROTO_SCTP:
		return client ? pick(&port->address, "slotclientsctp4", "slotclientsctp6")
			      : pick(&port->address, "slotflowsctp4", "slotflowsctp6");
	default:
		return client ? pick(&port->address, "slotclient4", "slotclient6")
			      : pick(&port->address, "slotflow4", "slotflow6");
	}
}

static int emit_many(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .table = "netdev",
				       .set = pick(&port->address, "many4", "many6") };
	const char *nodes;
	uint16_t slots[NFT_SLOTS];
	int r = 0;

	nodes = port->client_affinity ? pick(&port->address, "nodeclient4", "nodeclient6")
				      : pick(&port->address, "nodeflow4", "nodeflow6");
	if (port->dataplane == NFT_DATAPLANE_DIRECTOR) {
		put_address(element.key, sizeof element.key, &port->address);
		r = emit(userdata, &element);
	}
	nft_slots_fill(port->endpoints, port->endpoint_count, slots);
	for (unsigned slot = 0; slot < NFT_SLOTS && r >= 0; slot++) {
		const struct nft_endpoint *endpoint = &port->endpoints[slots[slot]];
		const struct base_address *node = next_node(port, endpoint);

		put_key(&element, port, " . %u", slot);
		element.table = "inet";
		element.set = slots_set(port);
		put_target(&element, endpoint);
		r = emit(userdata, &element);
		if (r < 0 || !node)
			continue;
		put_key(&element, port, " . 0x%08x", slot);
		element.table = "netdev";
		element.set = nodes;
		put_address(element.data, sizeof element.data, node);
		r = emit(userdata, &element);
	}
	return r;
}

int nft_emit_port(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	int r;

	if (port->dataplane == NFT_DATAPLANE_ANNOUNCE)
		return 0;
	r = emit_ranges(port, emit, userdata);
	if (r < 0 || port->endpoint_count == 0)
		return r;
	r = emit_held(port, emit, userdata);
	if (r >= 0)
		r = port->endpoint_count == 1 ? emit_single(port, emit, userdata)
					      : emit_many(port, emit, userdata);
	for (size_t i = 0; i < port->endpoint_count && r >= 0; i++) {
		r = emit_endpoint(port, &port->endpoints[i], emit, userdata);
		if (r >= 0)
			r = emit_one_node(port, &port->endpoints[i], emit, userdata);
	}
	return r;
}

/* Not of its port: a client that is bound to one VM finds the same one behind every port of a Service. */
static uint64_t endpoint_hash(const struct nft_endpoint *endpoint, uint8_t salt)
{
	uint8_t bytes[17] = { salt };

	memcpy(bytes + 1, endpoint->address.bytes, 16);
	return base_hash(bytes, 17) * UINT64_C(0x9e3779b97f4a7c15) >> 20;
}

static int compare(const struct nft_endpoint *a, const struct nft_endpoint *b)
{
	int r = base_address_compare(&a->address, &b->address);

	return r ? r : (int)a->port - (int)b->port;
}

void nft_slots_fill(const struct nft_endpoint *endpoints, size_t count,
		    uint16_t slots[static NFT_SLOTS])
{
	uint16_t order[ENDPOINTS_MAX], offset[ENDPOINTS_MAX], skip[ENDPOINTS_MAX];
	uint16_t next[ENDPOINTS_MAX] = { 0 };
	unsigned filled = 0;

	assert(count > 0);
	if (count > ENDPOINTS_MAX)
		count = ENDPOINTS_MAX;
	/* Insertion sort: every node must see the same order whatever the API's was. */
	for (size_t i = 0; i < count; i++) {
		size_t j = i;

		for (; j > 0 && compare(&endpoints[order[j - 1]], &endpoints[i]) > 0; j--)
			order[j] = order[j - 1];
		order[j] = (uint16_t)i;
	}
	for (size_t i = 0; i < count; i++) {
		offset[i] = (uint16_t)(endpoint_hash(&endpoints[order[i]], 1) % NFT_SLOTS);
		skip[i] = (uint16_t)(endpoint_hash(&endpoints[order[i]], 2) % (NFT_SLOTS - 1) + 1);
	}
	for (unsigned i = 0; i < NFT_SLOTS; i++)
		slots[i] = UINT16_MAX;
	while (filled < NFT_SLOTS)
		for (size_t i = 0; i < count && filled < NFT_SLOTS; i++) {
			unsigned slot;

			do
				slot = (offset[i] + (unsigned)next[i]++ * skip[i]) % NFT_SLOTS;
			while (slots[slot] != UINT16_MAX);
			slots[slot] = order[i];
			filled++;
		}
}
