#include "daemon/controller/objects.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"
#include "k8s/object.h"

#define ANNOTATION_PREFIX "vipd.dev/"

static char *copy(const char *text)
{
	return *text ? strdup(text) : NULL;
}

static uint64_t mix(uint64_t digest, const char *text)
{
	return digest * UINT64_C(0x9e3779b97f4a7c15) + base_hash(text, strlen(text)) + 1;
}

static uint64_t mix_number(uint64_t digest, int64_t number)
{
	return digest * UINT64_C(0x9e3779b97f4a7c15) + base_hash(&number, sizeof number) + 1;
}

/* --- Service --- */

const char *service_condition_name(enum service_condition_type type)
{
	static const char *const names[SERVICE_CONDITION_COUNT] = {
		[SERVICE_CONDITION_ALLOCATED] = CONDITION_ALLOCATED,
		[SERVICE_CONDITION_SERVING] = CONDITION_SERVING,
	};

	return names[type];
}

static const cJSON *find_condition(const cJSON *conditions, const char *type)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, conditions) {
		if (strcmp(k8s_object_text(item, "type"), type) == 0)
			return item;
	}
	return NULL;
}

bool service_serves_external(const struct service *service)
{
	return service->external_count > 0 && !service->deleting &&
	       (service->ours || !service->load_balancer);
}

uint64_t service_status_digest(const cJSON *status)
{
	const cJSON *item, *port;
	uint64_t digest = 0;

	cJSON_ArrayForEach(item, k8s_object_get(status, "loadBalancer/ingress")) {
		const char *mode = k8s_object_text(item, "ipMode");

		digest = mix(digest, k8s_object_text(item, "ip"));
		digest = mix(digest, k8s_object_text(item, "hostname"));
		digest = mix(digest, *mode ? mode : "VIP");
		cJSON_ArrayForEach(port, k8s_object_get(item, "ports")) {
			digest = mix_number(digest, k8s_object_number(port, "port", 0, 65535, 0));
			digest = mix(digest, k8s_object_text(port, "protocol"));
			digest = mix(digest, k8s_object_text(port, "error"));
		}
	}
	for (unsigned i = 0; i < SERVICE_CONDITION_COUNT; i++) {
		item = find_condition(k8s_object_get(status, "conditions"),
				      service_condition_name((enum service_condition_type)i));
		digest = mix_number(digest, item ? (int64_t)i + 1 : 0);
		digest = mix(digest, k8s_object_text(item, "status"));
		digest = mix(digest, k8s_object_text(item, "reason"));
		digest = mix(digest, k8s_object_text(item, "message"));
		digest = mix_number(digest,
				    k8s_object_number(item, "observedGeneration", 0, INT64_MAX, 0));
	}
	return digest;
}

static void read_status(struct service *service, const cJSON *status)
{
	const cJSON *item;

	service->status_digest = service_status_digest(status);
	cJSON_ArrayForEach(item, k8s_object_get(status, "loadBalancer/ingress")) {
		struct base_address address;

		if (service->ingress_count < BASE_COUNT_OF(service->ingress) &&
		    base_address_parse(k8s_object_text(item, "ip"), &address))
			service->ingress[service->ingress_count++] = address;
	}
	for (unsigned i = 0; i < SERVICE_CONDITION_COUNT; i++) {
		item = find_condition(k8s_object_get(status, "conditions"),
				      service_condition_name((enum service_condition_type)i));
		service->conditions[i].there = item != NULL;
		service->conditions[i].is_true =
			strcmp(k8s_object_text(item, "status"), "True") == 0;
		snprintf(service->conditions[i].since, sizeof service->conditions[i].since, "%s",
			 k8s_object_text(item, "lastTransitionTime"));
	}
}

static void read_annotations(struct service *service, const cJSON *annotations)
{
	const struct {
		const char *name;
		char **value;
	} known[] = {
		{ "addresses", &service->addresses },     { "pool", &service->pool },
		{ "sharing-key", &service->sharing_key }, { "nodes", &service->nodes },
		{ "network", &service->network },
		{ "all-ports", NULL }, /* for speakers */
	};
	const cJSON *item;

	cJSON_ArrayForEach(item, annotations) {
		const char *name = item->string + strlen(ANNOTATION_PREFIX);
		size_t i = 0;

		if (!cJSON_IsString(item) ||
		    strncmp(item->string, ANNOTATION_PREFIX, strlen(ANNOTATION_PREFIX)) != 0)
			continue;
		while (i < BASE_COUNT_OF(known) && strcmp(known[i].name, name) != 0)
			i++;
		if (i < BASE_COUNT_OF(known) && known[i].value && !*known[i].value)
			*known[i].value = copy(item->valuestring);
		else if (i == BASE_COUNT_OF(known) && !service->unknown)
			service->unknown = copy(name);
	}
}

static int read_ports(struct service *service, const cJSON *ports)
{
	const cJSON *item;
	int count = cJSON_GetArraySize(ports);

	if (count == 0)
		return 0;
	service->ports = calloc((size_t)count, sizeof(*service->ports));
	if (!service->ports)
		return -ENOMEM;
	cJSON_ArrayForEach(item, ports) {
		const char *protocol = k8s_object_text(item, "protocol");
		struct ipam_port *port = &service->ports[service->port_count];

		port->port = (uint16_t)k8s_object_number(item, "port", 1, 65535, 0);
		port->protocol = strcmp(protocol, "UDP") == 0    ? IPPROTO_UDP
				 : strcmp(protocol, "SCTP") == 0 ? IPPROTO_SCTP
								 : IPPROTO_TCP;
		service->port_count += port->port != 0;
	}
	return 0;
}

static int read_external_ips(struct service *service, const cJSON *list)
{
	const cJSON *item;
	int count = cJSON_GetArraySize(list);

	if (count == 0)
		return 0;
	service->external_ips = calloc((size_t)count, sizeof(*service->external_ips));
	if (!service->external_ips)
		return -ENOMEM;
	cJSON_ArrayForEach(item, list) {
		if (cJSON_IsString(item) &&
		    base_address_parse(item->valuestring,
				       &service->external_ips[service->external_count]))
			service->external_count++;
	}
	return 0;
}

static void read_families(struct service *service, const cJSON *spec)
{
	const char *policy = k8s_object_text(spec, "ipFamilyPolicy");
	const cJSON *item;

	service->policy = strcmp(policy, "RequireDualStack") == 0  ? FAMILY_POLICY_REQUIRE_DUAL
			  : strcmp(policy, "PreferDualStack") == 0 ? FAMILY_POLICY_PREFER_DUAL
								   : FAMILY_POLICY_SINGLE;
	cJSON_ArrayForEach(item, k8s_object_get(spec, "ipFamilies")) {
		bool six = cJSON_IsString(item) && strcmp(item->valuestring, "IPv6") == 0;

		if (service->family_count < 2 && cJSON_IsString(item))
			service->families[service->family_count++] =
				six ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4;
	}
	if (service->family_count == 0) { /* an old server: it goes by the cluster address */
		bool six = strchr(k8s_object_text(spec, "clusterIP"), ':') != NULL;

		service->family_count = 1;
		service->families[0] = six ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4;
	}
}

static void read_finalizers(struct service *service, const cJSON *list)
{
	const cJSON *item;

	service->finalizer = service->finalizer_upstream = -1;
	cJSON_ArrayForEach(item, list) {
		if (cJSON_IsString(item) && strcmp(item->valuestring, FINALIZER) == 0)
			service->finalizer = service->finalizer_count;
		if (cJSON_IsString(item) && strcmp(item->valuestring, FINALIZER_UPSTREAM) == 0)
			service->finalizer_upstream = service->finalizer_count;
		service->finalizer_count++;
	}
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of keys in order: the same selector written in another order is the same. */
static uint64_t selector_hash(const cJSON *selector)
{
	const char *keys[64];
	size_t count = 0;
	uint64_t digest = 0;
	const cJSON *item;

	cJSON_ArrayForEach(item, selector) {
		if (count < BASE_COUNT_OF(keys))
			keys[count++] = item->string;
	}
	qsort(keys, count, sizeof *keys, compare_text);
	for (size_t i = 0; i < count; i++) {
		item = cJSON_GetObjectItemCaseSensitive(selector, keys[i]);
		digest = mix(mix(digest, keys[i]), cJSON_IsString(item) ? item->valuestring : "");
	}
	return digest;
}

int service_read(struct service *service, const cJSON *object, bool default_class)
{
	const cJSON *spec = k8s_object_get(object, "spec");
	const cJSON *labels = k8s_object_get(object, "metadata/labels");
	const char *class = k8s_object_text(spec, "loadBalancerClass");
	int r;

	memset(service, 0, sizeof *service);
	service->namespace = strdup(k8s_object_text(object, "metadata/namespace"));
	service->name = strdup(k8s_object_text(object, "metadata/name"));
	service->uid = strdup(k8s_object_text(object, "metadata/uid"));
	service->version = strdup(k8s_object_text(object, "metadata/resourceVersion"));
	service->generation = k8s_object_number(object, "metadata/generation", 0, INT64_MAX, 0);
	service->load_balancer = strcmp(k8s_object_text(spec, "type"), "LoadBalancer") == 0;
	service->ours = service->load_balancer &&
			(*class ? strcmp(class, LOAD_BALANCER_CLASS) == 0 : default_class);
	service->deleting = k8s_object_get(object, "metadata/deletionTimestamp") != NULL;
	service->local_only = strcmp(k8s_object_text(spec, "externalTrafficPolicy"), "Local") == 0;
	service->load_balancer_ip = copy(k8s_object_text(spec, "loadBalancerIP"));
	service->selector = selector_hash(k8s_object_get(spec, "selector"));
	read_families(service, spec);
	read_annotations(service, k8s_object_get(object, "metadata/annotations"));
	read_finalizers(service, k8s_object_get(object, "metadata/finalizers"));
	read_status(service, k8s_object_get(object, "status"));
	if (cJSON_GetArraySize(labels) > 0)
		service->labels = cJSON_Duplicate(labels, true);
	r = read_ports(service, k8s_object_get(spec, "ports"));
	if (r >= 0)
		r = read_external_ips(service, k8s_object_get(spec, "externalIPs"));
	if (r < 0 || !service->namespace || !service->name || !service->uid || !service->version) {
		service_clear(service);
		return -ENOMEM;
	}
	return 0;
}

void service_clear(struct service *service)
{
	free(service->namespace);
	free(service->name);
	free(service->uid);
	free(service->version);
	free(service->addresses);
	free(service->pool);
	free(service->sharing_key);
	free(service->nodes);
	free(service->network);
	free(service->unknown);
	free(service->load_balancer_ip);
	free(service->ports);
	free(service->external_ips);
	cJSON_Delete(service->labels);
	memset(service, 0, sizeof *service);
}

/* --- VirtualIP --- */

static int read_holders(struct vip_spec *spec, const cJSON *list)
{
	const cJSON *item;
	int count = cJSON_GetArraySize(list);

	if (count == 0)
		return 0;
	spec->holders = calloc((size_t)count, sizeof(*spec->holders));
	if (!spec->holders)
		return -ENOMEM;
	cJSON_ArrayForEach(item, list) {
		struct vip_holder *holder = &spec->holders[spec->holder_count++];

		snprintf(holder->namespace, sizeof holder->namespace, "%s",
			 k8s_object_text(item, "namespace"));
		snprintf(holder->name, sizeof holder->name, "%s", k8s_object_text(item, "name"));
		snprintf(holder->uid, sizeof holder->uid, "%s", k8s_object_text(item, "uid"));
	}
	return 0;
}

void vip_settings_read(struct vip_settings *settings, const cJSON *spec)
{
	const cJSON *item;

	memset(settings, 0, sizeof *settings);
	settings->interval_ms = (uint32_t)k8s_object_number(
		spec, "vrrp/advertisementIntervalMilliseconds", 10, 40950, 100);
	settings->version = (uint8_t)k8s_object_number(spec, "vrrp/version", 2, 3, 3);
	settings->unicast = strcmp(k8s_object_text(spec, "vrrp/mode"), "unicast") == 0;
	settings->virtual_mac = k8s_object_bool(spec, "vrrp/virtualMAC", false);
	snprintf(settings->dataplane, sizeof settings->dataplane, "%s",
		 *k8s_object_text(spec, "dataplane") ? k8s_object_text(spec, "dataplane") : "auto");
	cJSON_ArrayForEach(item, k8s_object_get(spec, "interfaces")) {
		if (settings->interface_count < BASE_COUNT_OF(settings->interfaces) &&
		    cJSON_IsString(item))
			snprintf(settings->interfaces[settings->interface_count++], INTERFACE_SIZE,
				 "%s", item->valuestring);
	}
}

int vip_spec_read(struct vip_spec *spec, const cJSON *object)
{
	const cJSON *tree = k8s_object_get(object, "spec"), *item;
	char name[BASE_ADDRESS_NAME_SIZE];

	memset(spec, 0, sizeof *spec);
	if (!base_address_parse(k8s_object_text(tree, "address"), &spec->address) ||
	    strcmp(base_address_name(&spec->address, name),
		   k8s_object_text(object, "metadata/name")) != 0)
		return -EINVAL;
	snprintf(spec->pool, sizeof spec->pool, "%s", k8s_object_text(tree, "pool"));
	snprintf(spec->router, sizeof spec->router, "%s", k8s_object_text(tree, "virtualRouter"));
	spec->router_id = (uint8_t)k8s_object_number(tree, "virtualRouterID", 1, 255, 0);
	cJSON_ArrayForEach(item, k8s_object_get(tree, "candidates")) {
		if (spec->candidate_count == IPAM_CANDIDATES_MAX)
			break;
		snprintf(spec->candidates[spec->candidate_count].node, NODE_NAME_SIZE, "%s",
			 k8s_object_text(item, "node"));
		spec->candidates[spec->candidate_count++].priority =
			(uint8_t)k8s_object_number(item, "priority", 1, 254, 0);
	}
	vip_settings_read(&spec->settings, tree);
	spec->attached = cJSON_Duplicate(k8s_object_get(tree, "attachedNetworks"), true);
	return read_holders(spec, k8s_object_get(tree, "services"));
}

void vip_spec_clear(struct vip_spec *spec)
{
	free(spec->holders);
	cJSON_Delete(spec->attached);
	spec->attached = NULL;
	spec->holders = NULL;
	spec->holder_count = 0;
}

uint64_t vip_spec_digest(const struct vip_spec *spec)
{
	const struct vip_settings *settings = &spec->settings;
	const cJSON *network, *range;
	char text[BASE_ADDRESS_TEXT_SIZE];
	uint64_t digest = mix(0, base_address_format(&spec->address, text));

	digest = mix(mix(digest, spec->pool), spec->router);
	digest = mix_number(digest, spec->router_id);
	for (size_t i = 0; i < spec->holder_count; i++) {
		digest = mix(mix(digest, spec->holders[i].namespace), spec->holders[i].name);
		digest = mix(digest, spec->holders[i].uid);
	}
	for (size_t i = 0; i < spec->candidate_count; i++)
		digest = mix_number(mix(digest, spec->candidates[i].node),
				    spec->candidates[i].priority);
	digest = mix_number(digest, settings->interval_ms);
	digest = mix_number(digest, settings->version);
	digest = mix_number(digest, settings->unicast + 2 * settings->virtual_mac);
	digest = mix(digest, settings->dataplane);
	for (size_t i = 0; i < settings->interface_count; i++)
		digest = mix(digest, settings->interfaces[i]);
	cJSON_ArrayForEach(network, spec->attached) {
		digest = mix(digest, k8s_object_text(network, "network"));
		cJSON_ArrayForEach(range, k8s_object_get(network, "ranges"))
			digest = mix(digest, k8s_object_text(range, ""));
	}
	return digest;
}

cJSON *vip_spec_write(const struct vip_spec *spec)
{
	const struct vip_settings *settings = &spec->settings;
	cJSON *tree = cJSON_CreateObject(), *list, *item;
	char text[BASE_ADDRESS_TEXT_SIZE];

	cJSON_AddStringToObject(tree, "address", base_address_format(&spec->address, text));
	cJSON_AddStringToObject(tree, "pool", spec->pool);
	cJSON_AddStringToObject(tree, "virtualRouter", spec->router);
	cJSON_AddNumberToObject(tree, "virtualRouterID", spec->router_id);
	list = cJSON_AddArrayToObject(tree, "services");
	for (size_t i = 0; i < spec->holder_count; i++) {
		cJSON_AddItemToArray(list, item = cJSON_CreateObject());
		cJSON_AddStringToObject(item, "namespace", spec->holders[i].namespace);
		cJSON_AddStringToObject(item, "name", spec->holders[i].name);
		if (spec->holders[i].uid[0])
			cJSON_AddStringToObject(item, "uid", spec->holders[i].uid);
	}
	list = cJSON_AddArrayToObject(tree, "candidates");
	for (size_t i = 0; i < spec->candidate_count; i++) {
		cJSON_AddItemToArray(list, item = cJSON_CreateObject());
		cJSON_AddStringToObject(item, "node", spec->candidates[i].node);
		cJSON_AddNumberToObject(item, "priority", spec->candidates[i].priority);
	}
	item = cJSON_AddObjectToObject(tree, "vrrp");
	cJSON_AddNumberToObject(item, "advertisementIntervalMilliseconds", settings->interval_ms);
	cJSON_AddNumberToObject(item, "version", settings->version);
	cJSON_AddStringToObject(item, "mode", settings->unicast ? "unicast" : "multicast");
	cJSON_AddBoolToObject(item, "virtualMAC", settings->virtual_mac);
	cJSON_AddStringToObject(tree, "dataplane", settings->dataplane);
	list = cJSON_AddArrayToObject(tree, "interfaces");
	for (size_t i = 0; i < settings->interface_count; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(settings->interfaces[i]));
	if (spec->attached)
		cJSON_AddItemToObject(tree, "attachedNetworks", cJSON_Duplicate(spec->attached, true));
	return tree;
}

static void read_order(struct vip_status *status, const cJSON *object)
{
	cJSON *order = cJSON_Parse(k8s_object_annotation(object, "vipd.dev/handover"));
	const char *id = k8s_object_text(order, "id");

	if (*id) {
		status->order = mix(1, id);
		status->ordered = strcmp(id, k8s_object_text(object, "status/handoverID")) != 0;
	}
	cJSON_Delete(order);
}

void vip_status_read(struct vip_status *status, const cJSON *object)
{
	static const char *const states[] = {
		[VIP_STATE_PENDING] = "Pending", [VIP_STATE_ACTIVE] = "Active",
		[VIP_STATE_MOVING] = "Moving",   [VIP_STATE_CONFLICT] = "Conflict",
		[VIP_STATE_UNOWNED] = "Unowned", [VIP_STATE_RELEASED] = "Released",
	};
	const cJSON *conditions = k8s_object_get(object, "status/conditions"), *item;
	const char *word = k8s_object_text(object, "status/state"), *first;

	memset(status, 0, sizeof *status);
	for (size_t i = 0; i < BASE_COUNT_OF(states); i++)
		if (strcmp(word, states[i]) == 0)
			status->state = (enum vip_state)i;
	snprintf(status->owner, sizeof status->owner, "%s",
		 k8s_object_text(object, "status/owner"));
	read_order(status, object);
	first = k8s_object_text(cJSON_GetArrayItem(k8s_object_get(object, "spec/candidates"), 0),
				"node");
	cJSON_ArrayForEach(item, k8s_object_get(object, "status/notEligible")) {
		if (*first && strcmp(k8s_object_text(item, "node"), first) == 0)
			status->first_may_not = true;
	}
	item = find_condition(conditions, "EndpointsAvailable");
	status->no_endpoints = strcmp(k8s_object_text(item, "status"), "False") == 0;
	item = find_condition(conditions, "Owned");
	status->says_owned = strcmp(k8s_object_text(item, "status"), "True") == 0;
	item = find_condition(conditions, "Conflict");
	if (strcmp(k8s_object_text(item, "status"), "True") == 0)
		snprintf(status->conflict, sizeof status->conflict, "%s",
			 k8s_object_text(item, "message"));
}
