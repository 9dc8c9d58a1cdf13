#include "ipam/ipam.h"

#include <netinet/in.h>
#include <string.h>

#include "ipam/state.h"

bool ipam_is_external(const struct service *service, const struct base_address *address)
{
	for (size_t i = 0; i < service->external_count; i++)
		if (base_address_equal(&service->external_ips[i], address))
			return true;
	return false;
}

/* Who has a key in `shared`: namespace, key, address, name; the name "" comes before all. */
struct key {
	const char *namespace, *sharing_key, *name;
	const struct base_address *address;
};

static struct key key_of(const struct holding *holding)
{
	return (struct key){ holding->service->namespace, holding->service->sharing_key,
			     holding->service->name, &holding->entry->address };
}

int ipam_sharing_compare(const void *key, const struct ipam_tree_node *node)
{
	const struct key *left = key;
	struct key right = key_of(IPAM_TREE_ITEM(node, struct holding, shared));
	int order = strcmp(left->namespace, right.namespace);

	if (order == 0)
		order = strcmp(left->sharing_key, right.sharing_key);
	if (order == 0)
		order = base_address_compare(left->address, right.address);
	return order ? order : strcmp(left->name, right.name);
}

void ipam_sharing_join(struct ipam *ipam, struct holding *holding)
{
	struct key key;

	if (holding->is_shared || !holding->service->sharing_key)
		return;
	key = key_of(holding);
	ipam_tree_insert(&ipam->shared, &key, &holding->shared);
	holding->is_shared = true;
}

void ipam_sharing_leave(struct ipam *ipam, struct holding *holding)
{
	if (!holding->is_shared)
		return;
	ipam_tree_remove(&ipam->shared, &holding->shared);
	holding->is_shared = false;
}

struct holding *ipam_sharing_first(const struct ipam *ipam, const struct service *service,
				   enum base_family family)
{
	struct base_address lowest = { .family = (uint8_t)family };
	struct key key = { service->namespace, service->sharing_key, "", &lowest };
	struct ipam_tree_node *node = ipam_tree_ceiling(&ipam->shared, &key);
	struct holding *holding = node ? IPAM_TREE_ITEM(node, struct holding, shared) : NULL;

	if (!holding || strcmp(holding->service->namespace, service->namespace) != 0 ||
	    strcmp(holding->service->sharing_key, service->sharing_key) != 0 ||
	    holding->entry->address.family != family)
		return NULL;
	return holding;
}

struct holding *ipam_sharing_next(const struct holding *holding)
{
	const struct service *service = holding->service;
	struct ipam_tree_node *node = ipam_tree_next(&holding->shared);

	for (; node; node = ipam_tree_next(node)) {
		struct holding *next = IPAM_TREE_ITEM(node, struct holding, shared);

		if (next->entry == holding->entry)
			continue; /* another Service at the same address */
		if (next->entry->address.family == holding->entry->address.family &&
		    strcmp(next->service->namespace, service->namespace) == 0 &&
		    strcmp(next->service->sharing_key, service->sharing_key) == 0)
			return next;
		break;
	}
	return NULL;
}

static const char *protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? "UDP" : protocol == IPPROTO_SCTP ? "SCTP" : "TCP";
}

static const struct ipam_port *common_port(const struct service *a, const struct service *b)
{
	for (size_t i = 0; i < a->port_count; i++)
		for (size_t j = 0; j < b->port_count; j++)
			if (a->ports[i].protocol == b->ports[j].protocol &&
			    a->ports[i].port == b->ports[j].port)
				return &a->ports[i];
	return NULL;
}

int ipam_sharing_check(const struct service *service, const struct service *holder,
		       const struct base_address *address, struct base_error *error)
{
	const int refused = BASE_REASON_SHARING_REFUSED;
	const struct ipam_port *port;
	char name[BASE_ADDRESS_TEXT_SIZE] = "";

	if (error) /* else it is one of many that are looked at */
		base_address_format(address, name);
	if (strcmp(service->namespace, holder->namespace) != 0)
		return base_error_set(error, refused,
				      "%s is held by Service %s/%s: an address is shared within one "
				      "namespace only",
				      name, holder->namespace, holder->name);
	if (!holder->sharing_key)
		return base_error_set(error, refused,
				      "%s is held by Service %s/%s, which has no "
				      "vipd.dev/sharing-key: annotate both with the same key",
				      name, holder->namespace, holder->name);
	if (!service->sharing_key || strcmp(service->sharing_key, holder->sharing_key) != 0)
		return base_error_set(error, refused,
				      "%s is held by Service %s/%s with another vipd.dev/sharing-key "
				      "(\"%.60s\"): annotate both with the same key",
				      name, holder->namespace, holder->name, holder->sharing_key);
	port = common_port(service, holder);
	if (port)
		return base_error_set(error, refused,
				      "%s cannot be shared with Service %s/%s: both use port %u/%s",
				      name, holder->namespace, holder->name, port->port,
				      protocol_name(port->protocol));
	if (service->local_only != holder->local_only)
		return base_error_set(error, refused,
				      "%s cannot be shared with Service %s/%s: their "
				      "externalTrafficPolicy differs",
				      name, holder->namespace, holder->name);
	if (service->local_only && (!service->selector || service->selector != holder->selector))
		return base_error_set(error, refused,
				      "%s cannot be shared with Service %s/%s: externalTrafficPolicy "
				      "Local needs the same selector, so that one node has the "
				      "endpoints of both",
				      name, holder->namespace, holder->name);
	return 0;
}

int ipam_sharing_check_all(const struct service *service, const struct entry *entry,
			   struct base_error *error)
{
	bool is_holder = false;

	for (size_t i = 0; i < entry->holder_count; i++)
		is_holder |= entry->holders[i]->service == service;
	for (size_t i = 0; i < entry->holder_count; i++) {
		const struct service *holder = entry->holders[i]->service;
		int r;

		if (holder == service)
			return 0;
		if (is_holder && !holder->known)
			continue; /* on its way out: no reason to move for it */
		r = ipam_sharing_check(service, holder, &entry->address, error);
		if (r)
			return r;
	}
	return 0;
}
