#include "daemon/feed/set.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "k8s/object.h"

/*
 * Annotation vipd.dev/network: the VM's address on an attached (Multus) network, which stands in no EndpointSlice.
 * It may be another one at every boot. The guest's agent reports it, and the guest belongs to a tenant: an address
 * counts only inside the ranges that the pool allows for the network, or a VM could aim a public address at
 * any host.
 */

bool attached_is_asked(const cJSON *service)
{
	return *tree_annotation(service, "vipd.dev/network");
}

/* The first remark of a unit is the one that is told. */
__attribute__((format(printf, 2, 3))) static void remark(struct wish_set *set, const char *format, ...)
{
	va_list arguments;

	if (set->remark[0])
		return;
	va_start(arguments, format);
	vsnprintf(set->remark, sizeof set->remark, format, arguments);
	va_end(arguments);
}

struct network {
	char name[256];	       /* "namespace/name" */
	const char *namespace; /* of the Service and its VMs */
	const char *pool;
	const cJSON *ranges;
};

/* Within one namespace its name may stand alone. */
static bool is_named(const struct network *network, const char *text)
{
	char full[256];

	snprintf(full, sizeof full, "%s%s%s", strchr(text, '/') ? "" : network->namespace,
		 strchr(text, '/') ? "" : "/", text);
	return strcmp(full, network->name) == 0;
}

/* What the pool allows stands in the VirtualIP of the address. */
static bool find_network(struct wish_set *set, const struct object *service, const struct unit *unit,
			 const struct base_address *address, struct network *network)
{
	const char *asked = tree_annotation(object_tree(set, service), "vipd.dev/network");

	*network = (struct network){ .namespace = service->namespace, .pool = "" };
	snprintf(network->name, sizeof network->name, "%s%s%s",
		 strchr(asked, '/') ? "" : service->namespace, strchr(asked, '/') ? "" : "/", asked);
	for (const struct link *link = unit->members; link; link = link->next_of_unit) {
		const cJSON *tree = object_tree(set, link->object), *item;
		struct base_address its;

		if (link->object->kind != KIND_VIRTUAL_IP ||
		    !base_address_parse(tree_text(tree, "spec/address"), &its) ||
		    !base_address_equal(&its, address))
			continue;
		network->pool = tree_text(tree, "spec/pool");
		cJSON_ArrayForEach(item, tree_get(tree, "spec/attachedNetworks"))
			if (strcmp(tree_text(item, "network"), network->name) == 0)
				network->ranges = tree_get(item, "ranges");
	}
	return network->ranges;
}

static bool is_allowed(const struct network *network, const struct base_address *address)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, network->ranges) {
		struct base_prefix range;

		if (cJSON_IsString(item) && base_prefix_parse(item->valuestring, &range) &&
		    base_prefix_contains(&range, address))
			return true;
	}
	return false;
}

/* What it reports of its interface there, one address after the other; NULL: no more. */
static const char *reported(const cJSON *interface, int index)
{
	const cJSON *list = tree_get(interface, "ipAddresses");
	const cJSON *item = cJSON_GetArrayItem(list, index);

	if (cJSON_GetArraySize(list) == 0)
		return index == 0 && *tree_text(interface, "ipAddress")
			       ? tree_text(interface, "ipAddress")
			       : NULL;
	return !item ? NULL : cJSON_IsString(item) ? item->valuestring : "";
}

static const cJSON *interface_of(const cJSON *vm, const struct network *network)
{
	const cJSON *item, *interface;

	cJSON_ArrayForEach(item, tree_get(vm, "spec/networks")) {
		if (!is_named(network, tree_text(item, "multus/networkName")))
			continue;
		cJSON_ArrayForEach(interface, tree_get(vm, "interfaces"))
			if (strcmp(tree_text(interface, "name"), tree_text(item, "name")) == 0)
				return interface;
	}
	return NULL;
}

/* Made of its MAC (RFC 4291, appendix A): it stays, where temporary ones beside it come and go (RFC 8981). */
static bool is_of_mac(const struct base_address *address, const cJSON *interface)
{
	struct base_mac mac;
	const uint8_t *b = mac.bytes;

	if (address->family != BASE_FAMILY_IPV6 || !base_mac_parse(tree_text(interface, "mac"), &mac))
		return false;
	return memcmp(address->bytes + 8, (const uint8_t[8]){ b[0] ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5] }, 8) == 0;
}

/* The first address of the family that is allowed; rather one that stays. */
static bool find_address(struct wish_set *set, const struct object *object, const struct network *network,
			 enum base_family family, struct base_address *address)
{
	const cJSON *interface = interface_of(object_tree(set, object), network);
	const char *word = family == BASE_FAMILY_IPV6 ? "IPv6" : "IPv4", *text, *outside = NULL;
	struct base_address one;
	bool found = false;

	if (!interface) {
		remark(set, "VM %s reports no interface on network %s", object->name, network->name);
		return false;
	}
	for (int i = 0; (text = reported(interface, i)); i++) {
		if (!base_address_parse(text, &one) || one.family != family || base_address_is_special(&one))
			continue;
		if (!is_allowed(network, &one)) {
			outside = text;
			continue;
		}
		if (!found || is_of_mac(&one, interface))
			*address = one;
		found = true;
	}
	if (found)
		return true;
	if (outside)
		remark(set, "VM %s reports %s on network %s, which is in no range that pool %s allows for it",
		       object->name, outside, network->name, network->pool);
	else
		remark(set, "VM %s reports no %s address on network %s: does its guest agent run?",
		       object->name, word, network->name);
	return false;
}

static bool is_running(const cJSON *vm)
{
	return strcmp(tree_text(vm, "phase"), "Running") == 0 &&
	       !tree_get(vm, "metadata/deletionTimestamp") && *tree_text(vm, "nodeName");
}

static bool is_selected(const cJSON *service, const cJSON *vm)
{
	const cJSON *item, *selector = tree_get(service, "spec/selector");

	cJSON_ArrayForEach(item, selector) {
		const cJSON *label = cJSON_GetObjectItemCaseSensitive(
			tree_get(vm, "metadata/labels"), item->string);

		if (!cJSON_IsString(label) || !cJSON_IsString(item) ||
		    strcmp(label->valuestring, item->valuestring) != 0)
			return false;
	}
	return selector && selector->child;
}

static void add(struct wish_set *set, const struct object *object, const struct network *network,
		uint16_t number, struct message_service_port *wish)
{
	const cJSON *vm = object_tree(set, object);
	struct message_endpoint endpoint;
	char pod[320];

	memset(&endpoint, 0, sizeof endpoint);
	if (!find_address(set, object, network, wish->address.family, &endpoint.address))
		return;
	if (wish->endpoint_count == MESSAGE_ENDPOINTS_MAX) {
		remark(set, "more than %d VMs: the rest is left out", MESSAGE_ENDPOINTS_MAX);
		return;
	}
	endpoint.port = number;
	endpoint.attached = true;
	snprintf(pod, sizeof pod, "virt-launcher-%s", object->name);
	endpoint.vm = translate_vm(object->namespace, pod);
	snprintf(endpoint.node, sizeof endpoint.node, "%s", tree_text(vm, "nodeName"));
	translate_add_endpoint(&endpoint, wish->endpoints, &wish->endpoint_count);
}

int attached_endpoints(struct wish_set *set, const struct object *service, const cJSON *port,
		       const struct unit *unit, struct message_service_port *wish)
{
	const struct unit *namespace = unit_find(set, UNIT_NAMESPACE, service->namespace);
	const cJSON *tree = object_tree(set, service), *target = tree_get(port, "targetPort");
	uint16_t number = cJSON_IsNumber(target) && target->valuedouble >= 1 && target->valuedouble <= 65535
				  ? (uint16_t)target->valuedouble
				  : wish->port;
	struct network network;

	if (cJSON_IsString(target)) {
		remark(set, "targetPort \"%s\" is the name of a port of a pod: on an attached network write "
			    "its number", target->valuestring);
		return 0;
	}
	if (!find_network(set, service, unit, &wish->address, &network)) {
		remark(set, "network %s is not among spec.attachedNetworks of pool %s", network.name,
		       network.pool);
		return 0;
	}
	for (const struct link *link = namespace ? namespace->members : NULL; link;
	     link = link->next_of_unit) {
		const struct object *object = link->object;

		if (object->kind == KIND_VM && is_running(object_tree(set, object)) &&
		    is_selected(tree, object_tree(set, object)))
			add(set, object, &network, number, wish);
	}
	return 0;
}
