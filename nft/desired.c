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

/* An element without key and data of the set that holds addresses of this family. */
static struct nft_element element_of(enum nft_set_id set, const struct base_address *family)
{
	return (struct nft_element){ .set = (uint8_t)((int)set + is6(family)) };
}

/* Fields are padded to 4 bytes, the last one, too. */
static uint8_t put(uint8_t *at, uint8_t size, const void *field, size_t field_size)
{
	memcpy(at + size, field, field_size);
	memset(at + size + field_size, 0, -field_size & 3);
	return (uint8_t)(size + ((field_size + 3) & ~(size_t)3));
}

static void put_key(struct nft_element *element, const void *field, size_t size)
{
	element->key_size = put(element->key, element->key_size, field, size);
}

static void put_data(struct nft_element *element, const void *field, size_t size)
{
	element->data_size = put(element->data, element->data_size, field, size);
}

static void put_address(struct nft_element *element, const struct base_address *address)
{
	put_key(element, address->bytes, base_address_size(address));
}

static void put_address_data(struct nft_element *element, const struct base_address *address)
{
	put_data(element, address->bytes, base_address_size(address));
}

static void put_end(struct nft_element *element, const struct base_address *address,
		    uint8_t protocol, uint16_t port)
{
	uint8_t number[2] = { (uint8_t)(port >> 8), (uint8_t)port };

	put_address(element, address);
	put_key(element, &protocol, 1);
	put_key(element, number, 2);
}

static void put_end_data(struct nft_element *element, const struct base_address *address,
			 uint16_t port)
{
	uint8_t number[2] = { (uint8_t)(port >> 8), (uint8_t)port };

	put_address_data(element, address);
	put_data(element, number, 2);
}

static int emit_virtual_mac(const struct base_address *address, const struct base_mac *mac,
			    nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of(NFT_SET_VIRTUAL, address);

	put_address(&element, address);
	element.data_size = sizeof mac->bytes; /* as in the frame: not padded */
	memcpy(element.data, mac->bytes, sizeof mac->bytes);
	return emit(userdata, &element);
}

static int emit_segment(const struct base_address *address, uint32_t interface, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .set = NFT_SET_ASKED };

	put_address(&element, address);
	put_data(&element, &interface, sizeof interface);
	return emit(userdata, &element);
}

int nft_emit_vip(const struct base_address *address, enum nft_dataplane dataplane, unsigned interface,
		 const struct base_mac *virtual_mac, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of(NFT_SET_FENCED, address);
	int r = virtual_mac ? emit_virtual_mac(address, virtual_mac, emit, userdata) : 0;

	put_address(&element, address);
	if (r >= 0)
		r = emit(userdata, &element);
	if (r >= 0 && !is6(address))
		r = emit_segment(address, interface, emit, userdata);
	if (r < 0 || dataplane == NFT_DATAPLANE_ANNOUNCE)
		return r;
	element.set = (uint8_t)(NFT_SET_GUARDED + is6(address));
	r = emit(userdata, &element);
	if (r < 0)
		return r;
	element.set = (uint8_t)(NFT_SET_VIPS + is6(address));
	return emit(userdata, &element);
}

int nft_emit_peer(const struct base_mac *mac, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = { .set = NFT_SET_PEERS, .key_size = sizeof mac->bytes };
	int r;

	memcpy(element.key, mac->bytes, sizeof mac->bytes);
	r = emit(userdata, &element);
	if (r < 0)
		return r;
	element.set = NFT_SET_MEMBERS;
	return emit(userdata, &element);
}

/* "192.0.2.10 . tcp . 22" */
static struct nft_element element_of_port(enum nft_set_id set, const struct nft_port *port)
{
	struct nft_element element = element_of(set, &port->address);

	put_end(&element, &port->address, port->protocol, port->port);
	return element;
}

static int emit_port_in(enum nft_set_id set, const struct nft_port *port, nft_emit_fn *emit,
			void *userdata)
{
	struct nft_element element = element_of_port(set, port);

	return emit(userdata, &element);
}

static int emit_address_in(enum nft_set_id set, const struct nft_port *port, nft_emit_fn *emit,
			   void *userdata)
{
	struct nft_element element = element_of(set, &port->address);

	put_address(&element, &port->address);
	return emit(userdata, &element);
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

static int emit_ranges(const struct nft_port *port, bool whole, nft_emit_fn *emit, void *userdata)
{
	const struct base_prefix *last = NULL;
	struct nft_element key = { 0 };
	int r;

	if (port->range_count == 0)
		return 0;
	put_address(&key, &port->address);
	if (!whole)
		key = element_of_port(NFT_SET_RANGED, port);
	key.set = (uint8_t)((whole ? NFT_SET_WHOLERANGED : NFT_SET_RANGED) + is6(&port->address));
	r = emit(userdata, &key);
	for (size_t i = 0; i < port->range_count && r >= 0; i++) {
		struct base_address first = base_prefix_first(&port->ranges[i]);
		uint8_t length = port->ranges[i].length;
		bool host = length == base_address_size(&first) * 8;
		enum nft_set_id set = whole  ? host ? NFT_SET_WHOLESOURCEHOST : NFT_SET_WHOLESOURCE
				      : host ? NFT_SET_SOURCEHOST
					     : NFT_SET_SOURCE;
		struct nft_element element = key;

		if (first.family != port->address.family ||
		    (last && base_prefix_contains(last, &first)))
			continue; /* of the other address, or inside the one before */
		last = &port->ranges[i];
		if (!host) /* as chain sources4 and sources6 look for it */
			first.bytes[length / 8] |= (uint8_t)(0x80 >> length % 8);
		element.set = (uint8_t)(set + is6(&port->address));
		put_address(&element, &first);
		r = emit(userdata, &element);
	}
	return r;
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

/* On this node; or asked by the owner itself, so that its packets may come to where it is by any way. */
static int emit_place(const struct nft_port *port, const struct nft_endpoint *endpoint,
		      nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of(NFT_SET_LOCAL, &port->address);
	bool placed = !endpoint->attached && port->dataplane == NFT_DATAPLANE_DIRECTOR;
	int r = 0;

	put_address(&element, &endpoint->address);
	if (endpoint->local && !endpoint->attached)
		r = emit(userdata, &element);
	if (r < 0 || (placed && (endpoint->local || next_node(port, endpoint))))
		return r;
	element.set = (uint8_t)(NFT_SET_UNPLACED + is6(&port->address));
	r = emit(userdata, &element);
	if (r < 0 || !endpoint->attached)
		return r;
	element.set = (uint8_t)(NFT_SET_ATTACHED + is6(&port->address));
	return emit(userdata, &element);
}

/* What the endpoint's own node needs for replies, hairpins and migrated connections. */
static int emit_endpoint(const struct nft_port *port, const struct nft_endpoint *endpoint,
			 nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of(NFT_SET_HAIRPIN, &port->address);
	int r;

	put_address(&element, &endpoint->address);
	put_address(&element, &endpoint->address);
	r = emit(userdata, &element);
	if (r >= 0)
		r = emit_place(port, endpoint, emit, userdata);
	/* What is attached is masqueraded, so there is nothing to be said of its replies. */
	if (r < 0 || endpoint->attached || port->protocol != IPPROTO_TCP)
		return r;
	element = element_of(NFT_SET_HELDEND, &port->address);
	put_end(&element, &endpoint->address, IPPROTO_TCP, endpoint->port);
	if (endpoint->held) {
		r = emit(userdata, &element);
		if (r < 0)
			return r;
	}
	element.set = (uint8_t)(NFT_SET_REVERSE + is6(&port->address));
	element.exclusive = true;
	put_end_data(&element, &port->address, port->port);
	return emit(userdata, &element);
}

/*
 * Fragments name no port: they follow the address, if all of it lives on one other
 * node. An endpoint that is here, or off the segment, is a contradiction like a second node.
 */
static int emit_one_node(const struct nft_port *port, const struct nft_endpoint *endpoint,
			 nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of(NFT_SET_ONENODE, &port->address);
	const struct base_address *node = next_node(port, endpoint);

	if (port->dataplane != NFT_DATAPLANE_DIRECTOR)
		return 0;
	element.exclusive = true;
	put_address(&element, &port->address);
	if (node)
		put_address_data(&element, node);
	return emit(userdata, &element);
}

static int emit_single(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of_port(NFT_SET_SERVICE, port);

	put_end_data(&element, &port->endpoints[0].address, port->endpoints[0].port);
	return emit(userdata, &element);
}

/*
 * What the owner does with its packets, in the one set that also counts them. Without an endpoint it may still
 * be a port of an address that is one VM's as a whole.
 */
static int emit_way(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	const struct base_address *node;
	struct nft_element element;

	if (port->dataplane == NFT_DATAPLANE_DIRECTOR && port->endpoint_count != 1)
		return emit_port_in(NFT_SET_UNSETTLED, port, emit, userdata);
	node = port->endpoint_count == 1 ? next_node(port, port->endpoints) : NULL;
	if (!node)
		return emit_port_in(NFT_SET_HERE, port, emit, userdata);
	element = element_of_port(NFT_SET_NODE, port);
	put_address_data(&element, node);
	return emit(userdata, &element);
}

static enum nft_set_id slots_set(const struct nft_port *port)
{
	bool client = port->client_affinity;

	switch (port->protocol) {
	case IPPROTO_UDP:
		return client ? NFT_SET_SLOTCLIENTUDP : NFT_SET_SLOTFLOWUDP;
	case IPPROTO_SCTP:
		return client ? NFT_SET_SLOTCLIENTSCTP : NFT_SET_SLOTFLOWSCTP;
	default:
		return client ? NFT_SET_SLOTCLIENT : NFT_SET_SLOTFLOW;
	}
}

static int emit_many(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	enum nft_set_id slot_set = slots_set(port);
	enum nft_set_id node_set = port->client_affinity ? NFT_SET_NODECLIENT : NFT_SET_NODEFLOW;
	uint16_t slots[NFT_SLOTS];
	int r = 0;

	if (port->dataplane == NFT_DATAPLANE_DIRECTOR)
		r = emit_address_in(NFT_SET_MANY, port, emit, userdata);
	nft_slots_fill(port->endpoints, port->endpoint_count, slots);
	for (uint32_t slot = 0; slot < NFT_SLOTS && r >= 0; slot++) {
		const struct nft_endpoint *endpoint = &port->endpoints[slots[slot]];
		const struct base_address *node = next_node(port, endpoint);
		struct nft_element element = element_of_port(slot_set, port);

		/* In host order: so the kernel's hash comes out of its register. */
		put_key(&element, &slot, sizeof slot);
		put_end_data(&element, &endpoint->address, endpoint->port);
		r = emit(userdata, &element);
		if (r < 0 || !node)
			continue;
		element = element_of_port(node_set, port);
		put_key(&element, &slot, sizeof slot);
		put_address_data(&element, node);
		r = emit(userdata, &element);
	}
	return r;
}

/* What a VM says right after its migration, before it is an endpoint here, comes from the address its client knows. */
static int emit_prepared(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	int r = 0;

	if (port->protocol != IPPROTO_TCP)
		return 0;
	for (size_t i = 0; i < port->prepared_count && r >= 0; i++) {
		struct nft_element element = element_of(NFT_SET_REVERSE, &port->address);

		element.exclusive = true;
		put_end(&element, &port->prepared[i].address, IPPROTO_TCP, port->prepared[i].port);
		put_end_data(&element, &port->address, port->port);
		r = emit(userdata, &element);
	}
	return r;
}

int nft_emit_port(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	int r;

	if (port->dataplane == NFT_DATAPLANE_ANNOUNCE)
		return 0;
	r = emit_way(port, emit, userdata);
	if (r >= 0)
		r = emit_port_in(NFT_SET_ARRIVED, port, emit, userdata);
	if (r >= 0)
		r = emit_ranges(port, false, emit, userdata);
	if (r >= 0)
		r = emit_prepared(port, emit, userdata);
	if (r < 0 || port->endpoint_count == 0)
		return r;
	if (port->held)
		r = emit_port_in(NFT_SET_HELD, port, emit, userdata);
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

static int emit_whole_reverse(const struct nft_port *port, const struct nft_endpoint *endpoint,
			      nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of(NFT_SET_WHOLEREVERSE, &port->address);

	element.exclusive = true;
	put_address(&element, &endpoint->address);
	put_address_data(&element, &port->address);
	return emit(userdata, &element);
}

int nft_emit_whole(const struct nft_port *port, nft_emit_fn *emit, void *userdata)
{
	struct nft_element element = element_of(NFT_SET_WHOLE, &port->address);
	const struct nft_endpoint *endpoint = port->endpoints;
	const struct base_address *node;
	int r;

	if (port->dataplane == NFT_DATAPLANE_ANNOUNCE || port->endpoint_count > 1)
		return 0;
	for (size_t i = 0; i < port->prepared_count; i++) {
		r = emit_whole_reverse(port, &port->prepared[i], emit, userdata);
		if (r < 0)
			return r;
	}
	if (port->endpoint_count == 0)
		return 0;
	r = emit_ranges(port, true, emit, userdata);
	if (r >= 0)
		r = emit_endpoint(port, endpoint, emit, userdata); /* no port: hairpin and local only */
	if (r >= 0)
		r = emit_one_node(port, endpoint, emit, userdata);
	put_address(&element, &port->address);
	put_address_data(&element, &endpoint->address);
	if (r >= 0)
		r = emit(userdata, &element);
	if (r >= 0 && !endpoint->attached)
		r = emit_whole_reverse(port, endpoint, emit, userdata);
	node = next_node(port, endpoint);
	if (r < 0 || !node)
		return r;
	r = emit_address_in(NFT_SET_MANY, port, emit, userdata);
	if (r < 0)
		return r;
	element = element_of(NFT_SET_WHOLENODE, &port->address);
	put_address(&element, &port->address);
	put_address_data(&element, node);
	return emit(userdata, &element);
}

/* --- as text --- */

struct words {
	char *text;
	size_t size, length;
};

__attribute__((format(printf, 2, 3))) static void say(struct words *words, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(words->text + words->length, words->size - words->length, format, arguments);
	va_end(arguments);
	if (n > 0)
		words->length += (size_t)n;
	if (words->length >= words->size)
		words->length = words->size - 1;
}

static void say_protocol(struct words *words, uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		say(words, "tcp");
		return;
	case IPPROTO_UDP:
		say(words, "udp");
		return;
	case IPPROTO_SCTP:
		say(words, "sctp");
		return;
	default:
		say(words, "%u", protocol);
	}
}

static size_t say_field(struct words *words, char letter, const uint8_t *at)
{
	struct base_address address;
	char text[BASE_ADDRESS_TEXT_SIZE];
	uint32_t number;

	switch (letter) {
	case 'p':
		say_protocol(words, *at);
		return 4;
	case 's':
		say(words, "%u", at[0] << 8 | at[1]);
		return 4;
	case 'i':
	case 'm':
		memcpy(&number, at, sizeof number);
		say(words, letter == 'i' ? "%u" : "0x%08x", number);
		return 4;
	case 'e':
		say(words, "%02x:%02x:%02x:%02x:%02x:%02x", at[0], at[1], at[2], at[3], at[4], at[5]);
		return 6;
	case 'N':
		say(words, "0x");
		for (int i = 0; i < 16; i++)
			say(words, "%02x", at[i]);
		return 16;
	default:
		break;
	}
	address = base_address_from_bytes(letter == 'a' ? BASE_FAMILY_IPV4 : BASE_FAMILY_IPV6, at);
	say(words, "%s", base_address_format(&address, text));
	return base_address_size(&address);
}

const char *nft_element_format(const struct nft_element *element,
			       char text[static NFT_ELEMENT_TEXT_SIZE])
{
	const struct nft_set *set = &nft_sets[element->set];
	struct words words = { text, NFT_ELEMENT_TEXT_SIZE, 0 };
	size_t at = 0;

	say(&words, "%s %s {", set->table, set->name);
	for (const char *letter = set->key; *letter; letter++) {
		say(&words, "%s", letter == set->key ? " " : " . ");
		at += say_field(&words, *letter, element->key + at);
	}
	at = 0;
	for (const char *letter = set->data; *letter && element->data_size > 0; letter++) {
		say(&words, "%s", letter == set->data ? " : " : " . ");
		at += say_field(&words, *letter, element->data + at);
	}
	say(&words, " }");
	return text;
}

/* Not of its port: a client that is bound to one VM finds the same one behind every port of a Service. */
static uint64_t endpoint_hash(const struct nft_endpoint *endpoint, uint8_t salt)
{
	uint8_t bytes[17] = { salt };

	if (endpoint->vm)
		memcpy(bytes + 1, &endpoint->vm, sizeof endpoint->vm);
	else
		memcpy(bytes + 1, endpoint->address.bytes, 16);
	return base_hash(bytes, 17) * UINT64_C(0x9e3779b97f4a7c15) >> 20;
}

static int compare(const struct nft_endpoint *a, const struct nft_endpoint *b)
{
	int r = a->vm < b->vm ? -1 : a->vm > b->vm;

	if (r == 0)
		r = base_address_compare(&a->address, &b->address);
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
