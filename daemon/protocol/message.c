#include "daemon/protocol/message.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/*
 * One function per struct serves both directions, so that reader and writer cannot drift apart:
 * `code_x(coder, &field)` writes the field or fills it, depending on the coder.
 */
struct coder {
	uint8_t *data;
	size_t size, at;
	bool writing;
	bool failed;
};

static void code_bytes(struct coder *coder, void *bytes, size_t size)
{
	if (coder->failed || size > coder->size - coder->at) {
		coder->failed = true;
		return;
	}
	if (coder->writing)
		memcpy(coder->data + coder->at, bytes, size);
	else
		memcpy(bytes, coder->data + coder->at, size);
	coder->at += size;
}

static uint64_t code_integer(struct coder *coder, uint64_t value, unsigned size)
{
	uint8_t bytes[8] = { 0 };

	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
	code_bytes(coder, bytes, size);
	value = 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)bytes[i] << (8 * i);
	return value;
}

static void code_u8(struct coder *coder, uint8_t *value)
{
	*value = (uint8_t)code_integer(coder, *value, 1);
}

static void code_u16(struct coder *coder, uint16_t *value)
{
	*value = (uint16_t)code_integer(coder, *value, 2);
}

static void code_u32(struct coder *coder, uint32_t *value)
{
	*value = (uint32_t)code_integer(coder, *value, 4);
}

static void code_u64(struct coder *coder, uint64_t *value)
{
	*value = code_integer(coder, *value, 8);
}

static void code_bool(struct coder *coder, bool *value)
{
	uint64_t number = code_integer(coder, coder->writing && *value, 1);

	if (number > 1)
		coder->failed = true;
	*value = number == 1;
}

static void code_enum(struct coder *coder, uint8_t *value, unsigned count)
{
	code_u8(coder, value);
	if (*value >= count)
		coder->failed = true;
}

static void code_count(struct coder *coder, uint32_t *count, uint32_t max)
{
	code_u32(coder, count);
	if (*count > max) {
		coder->failed = true;
		*count = 0;
	}
}

/* Length and bytes; never an embedded NUL, always one behind the end. */
static void code_text(struct coder *coder, char *text, size_t capacity)
{
	uint16_t length = 0;

	if (coder->writing)
		length = (uint16_t)strnlen(text, capacity - 1);
	code_u16(coder, &length);
	if (length >= capacity) {
		coder->failed = true;
		return;
	}
	code_bytes(coder, text, length);
	if (coder->writing || coder->failed)
		return;
	text[length] = '\0';
	if (strlen(text) != length)
		coder->failed = true;
}

static void code_address(struct coder *coder, struct base_address *address)
{
	if (!coder->writing)
		memset(address, 0, sizeof *address);
	code_u8(coder, &address->family);
	if (address->family != BASE_FAMILY_NONE && base_address_size(address) == 0)
		coder->failed = true;
	code_bytes(coder, address->bytes, base_address_size(address));
}

static void code_prefix(struct coder *coder, struct base_prefix *prefix)
{
	code_address(coder, &prefix->address);
	code_u8(coder, &prefix->length);
	if (prefix->length > base_address_size(&prefix->address) * 8)
		coder->failed = true;
}

static void code_hello(struct coder *coder, struct message_hello *hello)
{
	code_text(coder, hello->node, sizeof hello->node);
	code_text(coder, hello->program, sizeof hello->program);
}

static void code_node(struct coder *coder, struct message_node *node)
{
	code_text(coder, node->name, sizeof node->name);
	code_count(coder, &node->address_count, MESSAGE_NODE_ADDRESSES_MAX);
	for (uint32_t i = 0; i < node->address_count && !coder->failed; i++)
		code_address(coder, &node->addresses[i]);
	code_count(coder, &node->pod_range_count, 4);
	for (uint32_t i = 0; i < node->pod_range_count && !coder->failed; i++)
		code_prefix(coder, &node->pod_ranges[i]);
}

static void code_router(struct coder *coder, struct message_router *router)
{
	code_text(coder, router->name, sizeof router->name);
	code_text(coder, router->pool, sizeof router->pool);
	code_text(coder, router->services, sizeof router->services);
	code_u8(coder, &router->virtual_router_id);
	code_u8(coder, &router->family);
	code_u8(coder, &router->version);
	code_bool(coder, &router->unicast);
	code_bool(coder, &router->virtual_mac);
	code_bool(coder, &router->leased);
	code_enum(coder, &router->dataplane, MESSAGE_DATAPLANE_COUNT);
	code_u32(coder, &router->interval_ms);
	code_count(coder, &router->address_count, MESSAGE_ADDRESSES_MAX);
	for (uint32_t i = 0; i < router->address_count && !coder->failed; i++) {
		code_address(coder, &router->addresses[i]);
		if (router->addresses[i].family != router->family)
			coder->failed = true;
	}
	code_count(coder, &router->interface_count, MESSAGE_INTERFACES_MAX);
	for (uint32_t i = 0; i < router->interface_count && !coder->failed; i++)
		code_text(coder, router->interfaces[i], MESSAGE_INTERFACE_SIZE);
	code_count(coder, &router->candidate_count, MESSAGE_CANDIDATES_MAX);
	for (uint32_t i = 0; i < router->candidate_count && !coder->failed; i++) {
		code_text(coder, router->candidates[i].node, MESSAGE_NAME_SIZE);
		code_u8(coder, &router->candidates[i].priority);
		if (router->candidates[i].priority < 1 || router->candidates[i].priority > 254)
			coder->failed = true;
	}
	if (router->virtual_router_id == 0 || router->address_count == 0 || !router->name[0] ||
	    (router->family != BASE_FAMILY_IPV4 && router->family != BASE_FAMILY_IPV6) ||
	    (router->version != 2 && router->version != 3) || router->interval_ms < 10 ||
	    router->interval_ms > 40950 || router->interval_ms % 10 != 0)
		coder->failed = true;
}

static bool known_protocol(uint8_t protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == MESSAGE_PROTOCOL_EVERY;
}

static void code_endpoints(struct coder *coder, const struct message_service_port *port,
			   uint32_t *count, struct message_endpoint *endpoints, uint32_t count_max)
{
	code_count(coder, count, count_max);
	for (uint32_t i = 0; i < *count && !coder->failed; i++) {
		struct message_endpoint *endpoint = &endpoints[i];

		code_address(coder, &endpoint->address);
		code_u16(coder, &endpoint->port);
		code_u64(coder, &endpoint->vm);
		code_bool(coder, &endpoint->attached);
		code_text(coder, endpoint->node, sizeof endpoint->node);
		if (endpoint->address.family != port->address.family ||
		    (endpoint->port == 0) != (port->protocol == MESSAGE_PROTOCOL_EVERY))
			coder->failed = true;
	}
}

static void code_service_port(struct coder *coder, struct message_service_port *port)
{
	code_text(coder, port->service, sizeof port->service);
	code_address(coder, &port->address);
	code_u8(coder, &port->protocol);
	code_u16(coder, &port->port);
	code_enum(coder, &port->affinity, MESSAGE_AFFINITY_COUNT);
	code_bool(coder, &port->local_only);
	code_count(coder, &port->range_count, MESSAGE_RANGES_MAX);
	for (uint32_t i = 0; i < port->range_count && !coder->failed; i++)
		code_prefix(coder, &port->ranges[i]);
	code_endpoints(coder, port, &port->endpoint_count, port->endpoints, MESSAGE_ENDPOINTS_MAX);
	code_endpoints(coder, port, &port->prepared_count, port->prepared, MESSAGE_PREPARED_MAX);
	if (!known_protocol(port->protocol) ||
	    (port->port == 0) != (port->protocol == MESSAGE_PROTOCOL_EVERY) ||
	    port->address.family == BASE_FAMILY_NONE)
		coder->failed = true;
}

static void code_remove(struct coder *coder, struct message_remove *removed)
{
	code_enum(coder, &removed->kind, MESSAGE_KIND_COUNT);
	code_text(coder, removed->name, sizeof removed->name);
	code_address(coder, &removed->address);
	code_u8(coder, &removed->protocol);
	code_u16(coder, &removed->port);
}

static void code_lease(struct coder *coder, struct message_lease *lease)
{
	code_text(coder, lease->router, sizeof lease->router);
	code_bool(coder, &lease->exists);
	code_text(coder, lease->holder, sizeof lease->holder);
	code_u32(coder, &lease->term);
	code_u32(coder, &lease->duration_ms);
	code_text(coder, lease->version, sizeof lease->version);
	code_text(coder, lease->successor, sizeof lease->successor);
	code_bool(coder, &lease->degraded);
}

static void code_order(struct coder *coder, struct message_order *order)
{
	code_enum(coder, &order->order, MESSAGE_ORDER_COUNT);
	code_enum(coder, &order->reason, BASE_REASON_COUNT);
	code_text(coder, order->router, sizeof order->router);
	code_text(coder, order->node, sizeof order->node);
}

static void code_router_status(struct coder *coder, struct message_router_status *status)
{
	code_text(coder, status->router, sizeof status->router);
	code_text(coder, status->owner, sizeof status->owner);
	code_u8(coder, &status->state);
	code_bool(coder, &status->owned);
	code_bool(coder, &status->confirmed);
	code_bool(coder, &status->addresses_present);
	code_bool(coder, &status->fence_open);
	code_bool(coder, &status->rules_present);
	code_bool(coder, &status->heard_by_peers);
	code_bool(coder, &status->eligible);
	code_enum(coder, &status->not_eligible_why, BASE_REASON_COUNT);
	code_enum(coder, &status->dataplane, MESSAGE_DATAPLANE_COUNT);
	code_bytes(coder, status->conflict_mac, sizeof status->conflict_mac);
	code_bool(coder, &status->conflict);
	code_u32(coder, &status->term);
	code_u64(coder, &status->since_ms);
}

static void code_node_status(struct coder *coder, struct message_node_status *status)
{
	code_bool(coder, &status->ready);
	code_bool(coder, &status->safe_to_reboot);
	code_bool(coder, &status->programmed);
	code_bool(coder, &status->unshown);
	code_enum(coder, &status->fence, MESSAGE_FENCE_COUNT);
	code_enum(coder, &status->dataplane, MESSAGE_DATAPLANE_COUNT);
	code_u32(coder, &status->owned);
	code_u32(coder, &status->eligible);
	code_text(coder, status->message, sizeof status->message);
	code_text(coder, status->no_way_back, sizeof status->no_way_back);
	code_text(coder, status->untracked, sizeof status->untracked);
	code_text(coder, status->unheard, sizeof status->unheard);
	code_text(coder, status->in_the_way, sizeof status->in_the_way);
	code_count(coder, &status->segment_count, MESSAGE_SEGMENTS_MAX);
	for (uint32_t i = 0; i < status->segment_count && !coder->failed; i++) {
		struct message_segment *segment = &status->segments[i];

		code_text(coder, segment->interface, sizeof segment->interface);
		code_prefix(coder, &segment->prefix);
		code_address(coder, &segment->address);
		code_address(coder, &segment->gateway);
		code_bytes(coder, segment->mac, sizeof segment->mac);
		code_bool(coder, &segment->up);
		code_count(coder, &segment->stranger_count, MESSAGE_STRANGERS_MAX);
		for (uint32_t j = 0; j < segment->stranger_count && !coder->failed; j++) {
			code_u8(coder, &segment->strangers[j].virtual_router_id);
			code_address(coder, &segment->strangers[j].source);
		}
	}
}

static void code_transition(struct coder *coder, struct message_transition *transition)
{
	code_text(coder, transition->router, sizeof transition->router);
	code_text(coder, transition->from, sizeof transition->from);
	code_text(coder, transition->to, sizeof transition->to);
	code_enum(coder, &transition->reason, BASE_REASON_COUNT);
	code_u32(coder, &transition->term);
	code_u64(coder, &transition->outage_us);
	code_u64(coder, &transition->age_us);
	code_text(coder, transition->message, sizeof transition->message);
}

static void code_probe(struct coder *coder, struct message_probe *probe)
{
	code_u32(coder, &probe->id);
	code_address(coder, &probe->address);
	code_u8(coder, &probe->protocol);
	code_u16(coder, &probe->port);
	code_u16(coder, &probe->connection_port);
	code_u32(coder, &probe->interval_ms);
	code_u32(coder, &probe->duration_ms);
}

static void code_probe_result(struct coder *coder, struct message_probe_result *result)
{
	code_u32(coder, &result->id);
	code_bool(coder, &result->done);
	code_u32(coder, &result->sent);
	code_u32(coder, &result->lost);
	code_u64(coder, &result->outage_us);
	code_u64(coder, &result->two_us);
	code_u32(coder, &result->connections_kept);
	code_u32(coder, &result->connections_lost);
	code_count(coder, &result->span_count, MESSAGE_SPANS_MAX);
	for (uint32_t i = 0; i < result->span_count && !coder->failed; i++) {
		code_u64(coder, &result->spans[i].at_us);
		code_text(coder, result->spans[i].node, sizeof result->spans[i].node);
	}
	code_text(coder, result->why_not, sizeof result->why_not);
}

static void code_fault(struct coder *coder, struct message_fault *fault)
{
	code_u32(coder, &fault->id);
	code_enum(coder, &fault->kind, MESSAGE_FAULT_COUNT);
	code_text(coder, fault->router, sizeof fault->router);
	code_u32(coder, &fault->hold_ms);
}

static void code_payload(struct coder *coder, struct message *message)
{
	switch (message->type) {
	case MESSAGE_HELLO:
		code_hello(coder, &message->hello);
		return;
	case MESSAGE_SYNC_BEGIN:
	case MESSAGE_SYNC_END:
	case MESSAGE_SHUTDOWN:
	case MESSAGE_ALIVE:
		return;
	case MESSAGE_NODE:
		code_node(coder, &message->node);
		return;
	case MESSAGE_ROUTER:
		code_router(coder, &message->router);
		return;
	case MESSAGE_SERVICE_PORT:
		code_service_port(coder, &message->service_port);
		return;
	case MESSAGE_REMOVE:
		code_remove(coder, &message->remove);
		return;
	case MESSAGE_LEASE:
		code_lease(coder, &message->lease);
		return;
	case MESSAGE_LEASE_RESULT:
		code_u32(coder, &message->lease_result.id);
		code_enum(coder, &message->lease_result.result, MESSAGE_WRITE_RESULT_COUNT);
		code_lease(coder, &message->lease_result.lease);
		return;
	case MESSAGE_API_CONTACT:
		code_bool(coder, &message->api_contact.reachable);
		return;
	case MESSAGE_ORDER:
		code_order(coder, &message->order);
		return;
	case MESSAGE_PROBE:
		code_probe(coder, &message->probe);
		return;
	case MESSAGE_PROBE_RESULT:
		code_probe_result(coder, &message->probe_result);
		return;
	case MESSAGE_FAULT:
		code_fault(coder, &message->fault);
		return;
	case MESSAGE_FAULT_REFUSED:
		code_u32(coder, &message->fault_refused.id);
		code_text(coder, message->fault_refused.why, sizeof message->fault_refused.why);
		return;
	case MESSAGE_SETTINGS:
		code_bool(coder, &message->settings.maintenance);
		code_bool(coder, &message->settings.excluded);
		return;
	case MESSAGE_RENEWAL:
		code_text(coder, message->renewal.node, MESSAGE_NAME_SIZE);
		return;
	case MESSAGE_LEASE_WRITE:
		code_u32(coder, &message->lease_write.id);
		code_u64(coder, &message->lease_write.sent_us);
		code_lease(coder, &message->lease_write.lease);
		return;
	case MESSAGE_LEASE_READ:
		code_text(coder, message->lease_read.router, MESSAGE_ROUTER_NAME_SIZE);
		return;
	case MESSAGE_ROUTER_STATUS:
		code_router_status(coder, &message->router_status);
		return;
	case MESSAGE_NODE_STATUS:
		code_node_status(coder, &message->node_status);
		return;
	case MESSAGE_TRANSITION:
		code_transition(coder, &message->transition);
		return;
	case MESSAGE_REFUSAL:
		code_text(coder, message->refusal.service, sizeof message->refusal.service);
		code_text(coder, message->refusal.message, sizeof message->refusal.message);
		return;
	case MESSAGE_TYPE_COUNT:
		break;
	}
	coder->failed = true;
}

int message_encode(const struct message *message, uint8_t *data, size_t size)
{
	struct coder coder = { .data = data, .size = size, .writing = true };
	uint16_t version = MESSAGE_VERSION, type = (uint16_t)message->type;

	code_u16(&coder, &version);
	code_u16(&coder, &type);
	/* A writing coder only reads the message; the cast keeps one function for both ways. */
	code_payload(&coder, (struct message *)message);
	if (!coder.failed)
		return (int)coder.at;
	return coder.at + MESSAGE_TEXT_SIZE > size ? -EMSGSIZE : -EINVAL;
}

int message_decode(struct message *message, const uint8_t *data, size_t size)
{
	struct coder coder = { .data = (uint8_t *)data, .size = size };
	uint16_t version = 0, type = 0;

	code_u16(&coder, &version);
	code_u16(&coder, &type);
	if (coder.failed)
		return -EBADMSG;
	if (version != MESSAGE_VERSION)
		return -EPROTONOSUPPORT;
	if (type == 0 || type >= MESSAGE_TYPE_COUNT)
		return -EBADMSG;
	message->type = (enum message_type)type;
	code_payload(&coder, message);
	return coder.failed || coder.at != size ? -EBADMSG : 0;
}

const char *message_type_name(enum message_type type)
{
	static const char *const names[MESSAGE_TYPE_COUNT] = {
		[MESSAGE_HELLO] = "hello",
		[MESSAGE_SYNC_BEGIN] = "sync-begin",
		[MESSAGE_SYNC_END] = "sync-end",
		[MESSAGE_NODE] = "node",
		[MESSAGE_ROUTER] = "router",
		[MESSAGE_SERVICE_PORT] = "service-port",
		[MESSAGE_REMOVE] = "remove",
		[MESSAGE_LEASE] = "lease",
		[MESSAGE_LEASE_RESULT] = "lease-result",
		[MESSAGE_API_CONTACT] = "api-contact",
		[MESSAGE_ORDER] = "order",
		[MESSAGE_SETTINGS] = "settings",
		[MESSAGE_RENEWAL] = "renewal",
		[MESSAGE_LEASE_WRITE] = "lease-write",
		[MESSAGE_LEASE_READ] = "lease-read",
		[MESSAGE_ROUTER_STATUS] = "router-status",
		[MESSAGE_NODE_STATUS] = "node-status",
		[MESSAGE_TRANSITION] = "transition",
		[MESSAGE_REFUSAL] = "refusal",
		[MESSAGE_SHUTDOWN] = "shutdown",
		[MESSAGE_ALIVE] = "alive",
		[MESSAGE_PROBE] = "probe",
		[MESSAGE_PROBE_RESULT] = "probe-result",
		[MESSAGE_FAULT] = "fault",
		[MESSAGE_FAULT_REFUSED] = "fault-refused",
	};

	return (unsigned)type < MESSAGE_TYPE_COUNT && names[type] ? names[type] : "unknown";
}
