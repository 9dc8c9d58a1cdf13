#include "daemon/feed/set.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"

/* --- access, with a place for every complaint --- */

const cJSON *tree_get(const cJSON *item, const char *path)
{
	char part[64];

	while (item && *path) {
		size_t length = strcspn(path, "/");

		snprintf(part, sizeof part, "%.*s", (int)length, path);
		item = cJSON_GetObjectItemCaseSensitive(item, part);
		path += length + (path[length] == '/');
	}
	return item && cJSON_IsNull(item) ? NULL : item;
}

const char *tree_text(const cJSON *item, const char *path)
{
	item = tree_get(item, path);
	return cJSON_IsString(item) ? item->valuestring : "";
}

const char *tree_annotation(const cJSON *tree, const char *name)
{
	const cJSON *item =
		cJSON_GetObjectItemCaseSensitive(tree_get(tree, "metadata/annotations"), name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

const char *tree_namespace(const cJSON *tree)
{
	const char *namespace = tree_text(tree, "metadata/namespace");

	return *namespace ? namespace : "default";
}

int complain(struct wish_set *set, const struct object *object, const cJSON *item,
	     const char *format, ...)
{
	char what[400];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof what, format, arguments);
	va_end(arguments);
	if (set->cluster)
		return base_error_set(set->error, -EINVAL, "%s %s%s%s: %s",
				      object_kind_name(object->kind), object->namespace,
				      *object->namespace ? "/" : "", object->name, what);
	return base_error_set(set->error, -EINVAL, "%s:%d: %s", object->file,
			      item ? item->valueint : object->tree->valueint, what);
}

void translate_add_name(char *names, size_t size, const char *name)
{
	static const char more[] = ",...";
	size_t at = strlen(names), room = size - at;

	if (at == 0)
		snprintf(names, size, "%s", name);
	else if (!*name || (at >= sizeof more && strcmp(names + at - (sizeof more - 1), more) == 0))
		return;
	else if (1 + strlen(name) + sizeof more <= room)
		snprintf(names + at, room, ",%s", name);
	else if (sizeof more <= room)
		snprintf(names + at, room, "%s", more);
}

void translate_service_name(const char *namespace, const char *name, char *services, size_t size)
{
	char text[2 * MESSAGE_NAME_SIZE];

	snprintf(text, sizeof text, "%s/%s", *namespace ? namespace : "default", name);
	translate_add_name(services, size, text);
}

/* --- nodes --- */

/* Where the node's own Speaker says it is: other LANs than the one of its InternalIP. */
static void add_segments(const cJSON *speaker, struct message_node *node)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, tree_get(speaker, "status/segments")) {
		struct base_address address;
		bool known = false;

		if (node->address_count == MESSAGE_NODE_ADDRESSES_MAX ||
		    !base_address_parse(tree_text(item, "address"), &address))
			continue;
		for (uint32_t i = 0; i < node->address_count && !known; i++)
			known = base_address_equal(&node->addresses[i], &address);
		if (!known)
			node->addresses[node->address_count++] = address;
	}
}

static int read_node(struct wish_set *set, const struct object *object, struct message_node *node)
{
	const cJSON *tree = object_tree(set, object), *item;
	const cJSON *addresses = tree_get(tree, "status/addresses");

	cJSON_ArrayForEach(item, addresses) {
		if (strcmp(tree_text(item, "type"), "InternalIP") != 0)
			continue;
		if (node->address_count == MESSAGE_NODE_ADDRESSES_MAX)
			return complain(set, object, item, "more than %d addresses",
					MESSAGE_NODE_ADDRESSES_MAX);
		if (!base_address_parse(tree_text(item, "address"),
					&node->addresses[node->address_count++]))
			return complain(set, object, item, "\"%s\" is no address",
					tree_text(item, "address"));
	}
	cJSON_ArrayForEach(item, tree_get(tree, "spec/podCIDRs"))
		if (node->pod_range_count < 4 && cJSON_IsString(item) &&
		    base_prefix_parse(item->valuestring, &node->pod_ranges[node->pod_range_count]))
			node->pod_range_count++;
	if (node->address_count == 0 && !set->cluster)
		return complain(set, object, addresses,
				"Node %s has no InternalIP in status.addresses", node->name);
	return 0;
}

/* One of the two may be missing: the Node is made by others, and perhaps not yet. */
int translate_node(struct wish_set *set, const struct object *node, const struct object *speaker,
		   struct message *message)
{
	const struct object *any = node ? node : speaker;
	int r = 0;

	memset(message, 0, sizeof *message);
	message->type = MESSAGE_NODE;
	if (strlen(any->name) >= MESSAGE_NAME_SIZE)
		return complain(set, any, NULL, "the name is longer than %d characters",
				MESSAGE_NAME_SIZE - 1);
	strcpy(message->node.name, any->name);
	if (node)
		r = read_node(set, node, &message->node);
	if (r >= 0 && speaker)
		add_segments(object_tree(set, speaker), &message->node);
	return r;
}

/* --- routers --- */

static int read_vrrp(struct wish_set *set, const struct object *object,
		     struct message_router *router)
{
	const cJSON *vrrp = tree_get(object_tree(set, object), "spec/vrrp");
	const cJSON *interval = tree_get(vrrp, "advertisementIntervalMilliseconds");
	const cJSON *mode = tree_get(vrrp, "mode"), *version = tree_get(vrrp, "version");
	const cJSON *virtual_mac = tree_get(vrrp, "virtualMAC");

	if (interval) {
		double ms = interval->valuedouble;

		if (!cJSON_IsNumber(interval) || ms < 10 || ms > 40950 || (int)ms % 10 != 0 ||
		    ms != (int)ms)
			return complain(set, object, interval,
					"advertisementIntervalMilliseconds must be 10 to 40950 in "
					"steps of 10");
		router->interval_ms = (uint32_t)ms;
	}
	if (version) {
		if (!cJSON_IsNumber(version) ||
		    (version->valuedouble != 2 && version->valuedouble != 3))
			return complain(set, object, version, "version must be 3 or 2");
		router->version = (uint8_t)version->valuedouble;
	}
	if (mode && strcmp(tree_text(mode, ""), "multicast") != 0 &&
	    strcmp(tree_text(mode, ""), "unicast") != 0)
		return complain(set, object, mode, "mode must be multicast or unicast");
	if (mode)
		router->unicast = strcmp(tree_text(mode, ""), "unicast") == 0;
	if (virtual_mac && !cJSON_IsBool(virtual_mac))
		return complain(set, object, virtual_mac, "virtualMAC must be true or false");
	if (virtual_mac)
		router->virtual_mac = cJSON_IsTrue(virtual_mac);
	return 0;
}

int translate_settings(struct wish_set *set, const struct object *object,
		       struct message_router *router)
{
	static const struct {
		const char *word;
		enum message_dataplane value;
	} dataplanes[] = {
		{ "auto", MESSAGE_DATAPLANE_AUTO },
		{ "director", MESSAGE_DATAPLANE_DIRECTOR },
		{ "nat", MESSAGE_DATAPLANE_NAT },
		{ "announce", MESSAGE_DATAPLANE_ANNOUNCE },
	};
	const cJSON *tree = object_tree(set, object), *item;
	const cJSON *dataplane = tree_get(tree, "spec/dataplane");
	int r = read_vrrp(set, object, router);

	if (r < 0)
		return r;
	if (dataplane) {
		size_t i = 0;

		while (i < BASE_COUNT_OF(dataplanes) &&
		       strcmp(tree_text(dataplane, ""), dataplanes[i].word) != 0)
			i++;
		if (i == BASE_COUNT_OF(dataplanes))
			return complain(set, object, dataplane,
					"dataplane must be auto, director, nat or announce");
		router->dataplane = (uint8_t)dataplanes[i].value;
	}
	if (tree_get(tree, "spec/interfaces"))
		router->interface_count = 0;
	cJSON_ArrayForEach(item, tree_get(tree, "spec/interfaces")) {
		if (!cJSON_IsString(item) || strlen(item->valuestring) >= MESSAGE_INTERFACE_SIZE ||
		    router->interface_count == MESSAGE_INTERFACES_MAX)
			return complain(set, object, item,
					"interfaces holds at most %d names or patterns of at most %d "
					"characters",
					MESSAGE_INTERFACES_MAX, MESSAGE_INTERFACE_SIZE - 1);
		strcpy(router->interfaces[router->interface_count++], item->valuestring);
	}
	return 0;
}

int translate_candidates(struct wish_set *set, const struct object *virtual_ip,
			 struct message_router *router)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, tree_get(object_tree(set, virtual_ip), "spec/candidates")) {
		const cJSON *priority = tree_get(item, "priority");
		const char *node = tree_text(item, "node");
		struct message_candidate *candidate;

		if (router->candidate_count == MESSAGE_CANDIDATES_MAX)
			return complain(set, virtual_ip, item, "more than %d candidates",
					MESSAGE_CANDIDATES_MAX);
		if (!*node || strlen(node) >= MESSAGE_NAME_SIZE || !cJSON_IsNumber(priority) ||
		    priority->valuedouble < 1 || priority->valuedouble > 254)
			return complain(set, virtual_ip, item,
					"a candidate is {node: NAME of at most %d characters, "
					"priority: 1 to 254}",
					MESSAGE_NAME_SIZE - 1);
		candidate = &router->candidates[router->candidate_count++];
		strcpy(candidate->node, node);
		candidate->priority = (uint8_t)priority->valuedouble;
	}
	return 0;
}

/* --- service ports --- */

static bool port_matches(const cJSON *slice_port, const cJSON *service_port)
{
	const char *protocol = tree_text(service_port, "protocol");
	const char *slice_protocol = tree_text(slice_port, "protocol");

	return strcmp(tree_text(slice_port, "name"), tree_text(service_port, "name")) == 0 &&
	       strcmp(*protocol ? protocol : "TCP", *slice_protocol ? slice_protocol : "TCP") == 0;
}

static bool is_true(const cJSON *item, bool otherwise)
{
	return item && !cJSON_IsNull(item) ? cJSON_IsTrue(item) : otherwise;
}

#define LAUNCHER "virt-launcher-"
#define SUFFIX	 "bcdfghjklmnpqrstvwxz2456789" /* what the API server ends generated names with: five of them */

bool translate_is_launcher(const cJSON *endpoint)
{
	return strncmp(tree_text(endpoint, "targetRef/name"), LAUNCHER, strlen(LAUNCHER)) == 0;
}

/*
 * A VM has another pod wherever it moves: the name without its generated end is what they share. Two VMs
 * that share it, too (long names are cut), are taken for two places of one.
 */
uint64_t translate_vm(const char *namespace, const char *pod)
{
	const char *end = strrchr(pod, '-');
	char name[512];

	if (strncmp(pod, LAUNCHER, strlen(LAUNCHER)) != 0)
		return 0;
	if ((size_t)(end - pod) < strlen(LAUNCHER) || strlen(end + 1) != 5 ||
	    strspn(end + 1, SUFFIX) != 5)
		end = pod + strlen(pod);
	snprintf(name, sizeof name, "%s/%.*s", namespace, (int)(end - pod), pod);
	return base_hash(name, strlen(name));
}

void translate_add_endpoint(const struct message_endpoint *endpoint, struct message_endpoint *endpoints,
			    uint32_t *count)
{
	for (uint32_t i = 0; i < *count; i++)
		if (base_address_equal(&endpoints[i].address, &endpoint->address) &&
		    endpoints[i].port == endpoint->port)
			return;
	endpoints[(*count)++] = *endpoint;
}

/* Adds it, if it is of the address's family and not there yet; its list has room. */
static int add_endpoint(struct wish_set *set, const struct object *slice, const cJSON *item,
			double port, enum base_family family, struct message_endpoint *endpoints,
			uint32_t *count)
{
	const cJSON *address = cJSON_GetArrayItem(tree_get(item, "addresses"), 0);
	struct message_endpoint endpoint;

	memset(&endpoint, 0, sizeof endpoint); /* with its padding: endpoints are compared as bytes */
	if (!cJSON_IsString(address) || !base_address_parse(address->valuestring, &endpoint.address))
		return complain(set, slice, item, "an endpoint without a usable address");
	if (endpoint.address.family != family)
		return 0;
	endpoint.port = (uint16_t)port;
	endpoint.vm = translate_vm(slice->namespace, tree_text(item, "targetRef/name"));
	snprintf(endpoint.node, sizeof endpoint.node, "%s", tree_text(item, "nodeName"));
	translate_add_endpoint(&endpoint, endpoints, count);
	return 0;
}

/*
 * Ready ones, and those that may become ready, as the pod is to which a VM is being migrated: the VM
 * speaks before its slice does. Or, `ending`: those that still serve while they end (KEP-1669).
 */
static int add_endpoints(struct wish_set *set, const struct object *slice, double port, bool ending,
			 struct message_service_port *wish)
{
	const cJSON *item;
	int r = 0;

	cJSON_ArrayForEach(item, tree_get(object_tree(set, slice), "endpoints")) {
		bool ready = is_true(tree_get(item, "conditions/ready"), true);
		bool ends = is_true(tree_get(item, "conditions/terminating"), false);

		if (ending ? ends && is_true(tree_get(item, "conditions/serving"), ready) : ready) {
			if (wish->endpoint_count == MESSAGE_ENDPOINTS_MAX)
				return complain(set, slice, item, "more than %d endpoints",
						MESSAGE_ENDPOINTS_MAX);
			r = add_endpoint(set, slice, item, port, wish->address.family,
					 wish->endpoints, &wish->endpoint_count);
		} else if (!ending && !ends && wish->prepared_count < MESSAGE_PREPARED_MAX) {
			/* Of more than fit the rest is left out: those pods are just starting. */
			r = add_endpoint(set, slice, item, port, wish->address.family,
					 wish->prepared, &wish->prepared_count);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int collect_endpoints(struct wish_set *set, const struct unit *unit,
			     const cJSON *service_port, bool ending,
			     struct message_service_port *wish)
{
	for (const struct link *link = unit->members; link; link = link->next_of_unit) {
		const struct object *slice = link->object;
		const cJSON *port;

		if (slice->kind != KIND_SLICE)
			continue;
		cJSON_ArrayForEach(port, tree_get(object_tree(set, slice), "ports")) {
			const cJSON *number = tree_get(port, "port");
			int r;

			if (!port_matches(port, service_port))
				continue;
			if (!cJSON_IsNumber(number) || number->valuedouble < 1 ||
			    number->valuedouble > 65535)
				return complain(set, slice, port, "a port is 1 to 65535");
			r = add_endpoints(set, slice, number->valuedouble, ending, wish);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int compare_endpoints(const void *a, const void *b)
{
	const struct message_endpoint *left = a, *right = b;
	int r = base_address_compare(&left->address, &right->address);

	return r ? r : left->port - right->port;
}

int translate_port(struct wish_set *set, const struct object *service, const cJSON *port,
		   const struct unit *unit, const struct base_address *address,
		   struct message_service_port *wish)
{
	const cJSON *tree = object_tree(set, service);
	const char *protocol = tree_text(port, "protocol");
	const cJSON *number = tree_get(port, "port"), *item;
	int r;

	memset(wish, 0, offsetof(struct message_service_port, ranges));
	wish->endpoint_count = 0;
	wish->prepared_count = 0;
	translate_service_name(service->namespace, service->name, wish->service,
			       sizeof wish->service);
	wish->address = *address;
	wish->protocol = strcmp(protocol, "UDP") == 0	 ? IPPROTO_UDP
			 : strcmp(protocol, "SCTP") == 0 ? IPPROTO_SCTP
							   : IPPROTO_TCP;
	if (!cJSON_IsNumber(number) || number->valuedouble < 1 || number->valuedouble > 65535)
		return complain(set, service, port, "a port is 1 to 65535");
	wish->port = (uint16_t)number->valuedouble;
	wish->affinity = strcmp(tree_text(tree, "spec/sessionAffinity"), "ClientIP") == 0
				 ? MESSAGE_AFFINITY_CLIENT_IP
				 : MESSAGE_AFFINITY_NONE;
	wish->local_only = strcmp(tree_text(tree, "spec/externalTrafficPolicy"), "Local") == 0;
	cJSON_ArrayForEach(item, tree_get(tree, "spec/loadBalancerSourceRanges")) {
		if (wish->range_count == MESSAGE_RANGES_MAX || !cJSON_IsString(item) ||
		    !base_prefix_parse(item->valuestring, &wish->ranges[wish->range_count]))
			return complain(set, service, item,
					"a source range is a CIDR like 198.51.100.0/24; at most %d",
					MESSAGE_RANGES_MAX);
		wish->range_count++;
	}
	if (set->cluster && attached_is_asked(tree))
		r = attached_endpoints(set, service, port, unit, wish);
	else
		r = collect_endpoints(set, unit, port, false, wish);
	if (r >= 0 && wish->endpoint_count == 0 && !attached_is_asked(tree))
		r = collect_endpoints(set, unit, port, true, wish);
	/* In one order, whichever slice came first: the same endpoints are the same wish. */
	qsort(wish->endpoints, wish->endpoint_count, sizeof *wish->endpoints, compare_endpoints);
	qsort(wish->prepared, wish->prepared_count, sizeof *wish->prepared, compare_endpoints);
	return r;
}

/* VMs are told apart by their address: which of their ports the Service names does not matter here. */
static uint32_t keep_addresses(struct message_endpoint *endpoints, uint32_t count)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < count; i++) {
		endpoints[i].port = 0;
		if (kept == 0 ||
		    !base_address_equal(&endpoints[kept - 1].address, &endpoints[i].address))
			endpoints[kept++] = endpoints[i];
	}
	return kept;
}

int translate_every_port(struct wish_set *set, const struct object *service, const struct unit *unit,
			 const struct base_address *address, struct message_service_port *wish)
{
	const cJSON *tree = object_tree(set, service);
	const cJSON *port = cJSON_GetArrayItem(tree_get(tree, "spec/ports"), 0);
	int r;

	if (!port || strcmp(tree_annotation(tree, "vipd.dev/all-ports"), "true") != 0 ||
	    *tree_annotation(tree, "vipd.dev/sharing-key"))
		return 0;
	r = translate_port(set, service, port, unit, address, wish);
	if (r < 0)
		return r;
	wish->protocol = MESSAGE_PROTOCOL_EVERY;
	wish->port = 0;
	wish->endpoint_count = keep_addresses(wish->endpoints, wish->endpoint_count);
	wish->prepared_count = keep_addresses(wish->prepared, wish->prepared_count);
	return 1;
}
