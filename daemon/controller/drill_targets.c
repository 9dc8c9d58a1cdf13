#include "daemon/controller/drill_targets.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/object.h"

static bool holds(const struct vip *vip, const char *namespace, const char *name)
{
	for (size_t i = 0; i < vip->holder_count; i++)
		if (strcmp(vip->holders[i].namespace, namespace) == 0 &&
		    strcmp(vip->holders[i].name, name) == 0)
			return true;
	return false;
}

static bool is_meant(const struct vip *vip, const cJSON *drill)
{
	const char *node = k8s_object_text(drill, "spec/target/node");
	const char *pool = k8s_object_text(drill, "spec/target/pool");

	if (!vip->exists)
		return false;
	if (*node)
		return strcmp(vip->status.owner, node) == 0;
	if (*pool)
		return strcmp(vip->pool, pool) == 0;
	return holds(vip, k8s_object_text(drill, "spec/target/service/namespace"),
		     k8s_object_text(drill, "spec/target/service/name"));
}

static int compare(const void *a, const void *b)
{
	return base_address_compare(a, b);
}

static int none(const cJSON *drill, struct base_error *error)
{
	const char *node = k8s_object_text(drill, "spec/target/node");
	const char *pool = k8s_object_text(drill, "spec/target/pool");

	if (*node)
		return base_error_set(error, -ENOENT,
				      "node %s owns no address: there is nothing to fail over",
				      node);
	if (*pool)
		return base_error_set(error, -ENOENT, "no address of AddressPool %s is in use",
				      pool);
	return base_error_set(error, -ENOENT, "Service %s/%s has no address",
			      k8s_object_text(drill, "spec/target/service/namespace"),
			      k8s_object_text(drill, "spec/target/service/name"));
}

static void add(cJSON *addresses, const struct base_address *address)
{
	char text[BASE_ADDRESS_TEXT_SIZE];

	cJSON_AddItemToArray(addresses, cJSON_CreateString(base_address_format(address, text)));
}

static cJSON *make_list(struct base_address *found, size_t count)
{
	cJSON *addresses = cJSON_CreateArray();

	qsort(found, count, sizeof *found, compare);
	for (size_t i = 0; i < count; i++)
		add(addresses, &found[i]);
	return addresses;
}

int drill_targets(const struct state *state, const cJSON *drill, cJSON **addresses,
		  struct base_error *error)
{
	const char *text = k8s_object_text(drill, "spec/target/virtualIP");
	bool whole_node = *k8s_object_text(drill, "spec/target/node") &&
			  strcmp(k8s_object_text(drill, "spec/action"), "Handover") != 0;
	struct base_address *found, parsed;
	size_t count = 0;

	if (*text) {
		if (!base_address_parse(text, &parsed))
			return base_error_set(error, -EINVAL,
					      "spec.target.virtualIP is no address");
		*addresses = cJSON_CreateArray();
		add(*addresses, &parsed);
		return 0;
	}
	found = calloc(state->vips.count + 1, sizeof *found);
	if (!found)
		return base_error_set(error, -ENOMEM, "out of memory");
	TABLE_EACH(&state->vips, entry) {
		const struct vip *vip = TABLE_OF(entry, struct vip, entry);

		if (is_meant(vip, drill))
			found[count++] = vip->address;
	}
	if (count > 0)
		*addresses = make_list(found, count);
	free(found);
	if (count == 0)
		return none(drill, error);
	while (whole_node && cJSON_GetArraySize(*addresses) > 1)
		cJSON_DeleteItemFromArray(*addresses, 1);
	return 0;
}

/* --- how it is asked for --- */

static const struct vip *vip_at(const struct state *state, const struct base_address *address)
{
	TABLE_EACH(&state->vips, entry) {
		const struct vip *vip = TABLE_OF(entry, struct vip, entry);

		if (vip->exists && base_address_equal(&vip->address, address))
			return vip;
	}
	return NULL;
}

static uint16_t first_port(const struct state *state, const struct vip *vip, uint8_t protocol)
{
	TABLE_EACH(&state->claims, entry) {
		const struct claim *claim = TABLE_OF(entry, struct claim, entry);

		if (!claim->exists || !vip ||
		    !holds(vip, claim->service.namespace, claim->service.name))
			continue;
		for (size_t i = 0; i < claim->service.port_count; i++)
			if (claim->service.ports[i].protocol == protocol)
				return claim->service.ports[i].port;
	}
	return 0;
}

/* The port that is said or the Service's first one; -ENOENT: neither. */
static int choose_port(const struct state *state, const cJSON *drill,
		       const struct base_address *address, const char *protocol, uint16_t *port,
		       struct base_error *error)
{
	bool tcp = strcmp(protocol, "TCP") == 0;

	*port = (uint16_t)k8s_object_number(drill, "spec/probe/port", 1, 65535, 0);
	if (*port == 0)
		*port = first_port(state, vip_at(state, address), tcp ? IPPROTO_TCP : IPPROTO_UDP);
	return *port ? 0
		     : base_error_set(error, -ENOENT,
				      "no Service of the address has a %s port: say "
				      "spec.probe.port",
				      protocol);
}

int drill_choose_probe(const struct state *state, const cJSON *drill,
		       const struct base_address *address, struct drill_plan *plan,
		       struct base_error *error)
{
	const char *protocol = k8s_object_text(drill, "spec/probe/protocol");
	bool udp = strcmp(protocol, "UDP") == 0;
	uint64_t allowed;
	int r = 0;

	snprintf(plan->protocol, sizeof plan->protocol, "%s", *protocol ? protocol : "ARP");
	if (udp || strcmp(protocol, "TCP") == 0)
		r = choose_port(state, drill, address, protocol, &plan->port, error);
	if (r == 0 && drill_budget_connections(drill, &allowed))
		r = choose_port(state, udp ? NULL : drill, address, "TCP", &plan->connection_port,
				error);
	return r;
}
