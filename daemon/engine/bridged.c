#include "daemon/engine/bridged.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "daemon/engine/segment.h"
#include "daemon/engine/setting.h"
#include "daemon/log.h"

#define WAYS_MAX 64 /* looked up in one turn, some microseconds each */
#define CURE \
	"If no other bridge needs it: sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"

/* One of the two is enough: the bridge's own setting, or everybody's. No bridge, or one that no rules are asked for: neither. */
static bool is_called(const char *interface, const char *tables)
{
	char own[96];

	snprintf(own, sizeof own, "/sys/class/net/%s/bridge/nf_call_%s", interface, tables);
	return access(own, F_OK) == 0 && (setting_read("%s", own) == '1' ||
					  setting_read("/proc/sys/net/bridge/bridge-nf-call-%s", tables) == '1');
}

/*
 * The bridge that a segment stands on as a macvlan or a VLAN, if br_netfilter has its frames: the bridge is then no segment
 * whose ports could have rules, and what is translated comes by it instead of by the segment. Tagged frames are
 * left alone, as a rule; a bridge that tags them itself has them without a tag before that. NULL: none such.
 */
static const struct vrrp_link *below(const struct segment *segment)
{
	const struct vrrp_link *upper = segment_link(segment);
	const struct vrrp_link *bridge = upper ? vrrp_links_at(segment->engine->links, upper->lower) : NULL;

	if (!bridge || segment->engine->balancer ||
	    (!is_called(bridge->name, "iptables") && !is_called(bridge->name, "ip6tables")) ||
	    (upper->vlan && setting_read("/proc/sys/net/bridge/bridge-nf-filter-vlan-tagged") != '1' &&
	     setting_read("/sys/class/net/%s/bridge/vlan_filtering", bridge->name) != '1'))
		return NULL;
	return bridge;
}

static int compare(const void *left, const void *right)
{
	const struct nft_bridge_port *a = left, *b = right;

	return strcmp(a->name, b->name);
}

/* How many ports have no room or a name that nft cannot say. */
static unsigned add_ports(const struct segment *segment, struct nft_skeleton *skeleton)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(segment->engine->links, &count);
	unsigned without = 0;

	if (!segment->called[0] && !segment->called[1])
		return 0;
	for (size_t i = 0; i < count; i++) {
		struct nft_bridge_port *port = &skeleton->ports[skeleton->port_count];

		if (links[i].master != segment->index)
			continue;
		if (skeleton->port_count == NFT_PORTS_MAX || !nft_is_sayable(links[i].name)) {
			without++;
			continue;
		}
		memcpy(port->name, links[i].name, sizeof port->name);
		memcpy(port->segment, segment->name, sizeof port->segment);
		port->index = links[i].index;
		port->mac = segment->mac;
		memcpy(port->called, segment->called, sizeof port->called);
		port->virtual_macs = segment->virtual_macs;
		skeleton->port_count++;
	}
	return without;
}

/* In the order of their names, so that the same ports make the same rules. */
void bridged_fill(const struct engine *engine, struct nft_skeleton *skeleton)
{
	for (const struct segment *segment = engine->segments; segment; segment = segment->next)
		add_ports(segment, skeleton);
	qsort(skeleton->ports, skeleton->port_count, sizeof skeleton->ports[0], compare);
}

/*
 * An owner that translates for an endpoint elsewhere sends its packets on through the same bridge: br_netfilter has them
 * forwarded as frames, from port to port, and a bridge gives none back to where it came from.
 */
static bool is_in_the_way(const struct segment *segment, const struct base_address *endpoint)
{
	return segment->called[endpoint->family == BASE_FAMILY_IPV6] &&
	       vrrp_links_way(segment->engine->links, endpoint).index == segment->index;
}

void bridged_forget(struct router *router, uint8_t protocol, uint16_t port)
{
	if (router->asked_protocol == protocol && router->asked_port == port)
		router->asked.family = BASE_FAMILY_NONE;
}

void bridged_asks(struct router *router, uint8_t protocol, uint16_t port, const struct base_address *endpoint)
{
	if (router->asked.family != BASE_FAMILY_NONE && (!router->segment || !is_in_the_way(router->segment, endpoint)))
		return;
	router->asked = *endpoint;
	router->asked_protocol = protocol;
	router->asked_port = port;
}

/* The first of the addresses that this node may own, with such an endpoint: one is enough to act on. */
static const struct router *not_passed(const struct segment *segment)
{
	unsigned looked = 0;

	if (!segment->called[0] && !segment->called[1])
		return NULL;
	for (const struct router *router = segment->engine->routers; router; router = router->next)
		if (router->segment == segment && router_is_eligible(router) && router->asked.family != BASE_FAMILY_NONE) {
			if (is_in_the_way(segment, &router->asked))
				return router;
			if (++looked == WAYS_MAX)
				return NULL;
		}
	return NULL;
}

static void say(struct segment *segment, unsigned without)
{
	bool called = segment->called[0] || segment->called[1];
	const struct router *router = not_passed(segment);
	const struct vrrp_link *bridge = below(segment);
	char text[sizeof segment->bridged] = "", vip[BASE_ADDRESS_TEXT_SIZE], endpoint[BASE_ADDRESS_TEXT_SIZE];

	segment->in_the_way = bridge || router || without > 0;
	if (without > 0)
		snprintf(text, sizeof text,
			 "%s is a bridge, and br_netfilter translates its frames before it takes them: %u of its ports have no "
			 "rules (more than %u, or a name that nftables cannot say). " CURE,
			 segment->name, without, NFT_PORTS_MAX);
	else if (bridge)
		snprintf(text, sizeof text,
			 "%s stands on the bridge %s, whose frames br_netfilter translates before %s has them: what needs that is "
			 "not served, and the fence does not stop it. Let the pool's interface be the bridge itself, or a card. " CURE,
			 segment->name, bridge->name, segment->name);
	else if (router)
		snprintf(text, sizeof text,
			 "%s is not served by this node: as the owner it asks %s itself, by way of the bridge %s, where br_netfilter has it "
			 "dropped. Data plane director and nodes on the LAN, or a tunnel between pod networks, need no such way. " CURE,
			 base_address_format(&router->wish.addresses[0], vip), base_address_format(&router->asked, endpoint),
			 segment->name);
	else if (called)
		snprintf(text, sizeof text,
			 "%s is a bridge, and br_netfilter translates its frames before it takes them: fence and director are at "
			 "its ports, too",
			 segment->name);
	if (strcmp(segment->bridged, text) == 0)
		return;
	memcpy(segment->bridged, text, sizeof text);
	if (segment->in_the_way)
		log_line(LOG_WARNING, BASE_REASON_BRIDGE_IN_THE_WAY, LOG_FIELDS({ "INTERFACE", segment->name }), "%s", text);
	else if (called)
		log_line(LOG_INFO, BASE_REASON_CONFIGURED, LOG_FIELDS({ "INTERFACE", segment->name }), "%s", text);
	else
		log_line(LOG_NOTICE, BASE_REASON_AS_EXPECTED, LOG_FIELDS({ "INTERFACE", segment->name }),
			 "br_netfilter leaves the frames of %s alone", segment->name);
}

void bridged_say(const struct engine *engine, char *text, size_t size)
{
	*text = '\0';
	for (const struct segment *segment = engine->segments; segment && !*text; segment = segment->next)
		if (segment->in_the_way)
			snprintf(text, size, "%s", segment->bridged);
}

/* Which endpoints are asked, and how, is looked at with the rules of their ports. */
static void look_at_ports_anew(struct segment *segment)
{
	for (struct router *router = segment->engine->routers; router; router = router->next)
		for (uint32_t i = 0; router->segment == segment && i < router->wish.address_count; i++)
			engine_rules_address_changed(segment->engine, &router->wish.addresses[i]);
}

static void look_at(struct segment *segment)
{
	static struct nft_skeleton skeleton; /* not kept over the call */
	bool called = segment->called[0] || segment->called[1];
	unsigned without;
	uint64_t ports;

	skeleton.port_count = 0;
	memset(skeleton.ports, 0, sizeof skeleton.ports);
	segment->called[0] = !segment->engine->balancer && is_called(segment->name, "iptables");
	segment->called[1] = !segment->engine->balancer && is_called(segment->name, "ip6tables");
	without = add_ports(segment, &skeleton);
	qsort(skeleton.ports, skeleton.port_count, sizeof skeleton.ports[0], compare);
	ports = base_hash(skeleton.ports, sizeof skeleton.ports) | 1;
	if (segment->ports != ports)
		engine_rules_soon(segment->engine);
	segment->ports = ports;
	if (!called && (segment->called[0] || segment->called[1]))
		look_at_ports_anew(segment);
	say(segment, without);
}

void bridged_look(struct engine *engine)
{
	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		look_at(segment);
}

void bridged_review(struct engine *engine)
{
	uint64_t revision = vrrp_links_revision(engine->links);

	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		if (engine->bridged_revision != revision || segment->ports == 0)
			look_at(segment);
	engine->bridged_revision = revision;
}
