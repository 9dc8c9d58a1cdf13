#include "daemon/engine/bridged.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "daemon/engine/segment.h"
#include "daemon/engine/setting.h"
#include "daemon/log.h"

/* One of the two is enough: the bridge's own setting, or everybody's. No bridge, or one that no rules are asked for: neither. */
static bool is_called(const char *interface, const char *tables)
{
	char own[96];

	snprintf(own, sizeof own, "/sys/class/net/%s/bridge/nf_call_%s", interface, tables);
	return access(own, F_OK) == 0 && (setting_read("%s", own) == '1' ||
					  setting_read("/proc/sys/net/bridge/bridge-nf-call-%s", tables) == '1');
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

/* An owner that translates sends its packets on through the same bridge, which gives none back to where it came from. */
static bool asks_by_nat(const struct segment *segment)
{
	for (const struct router *router = segment->engine->routers; router; router = router->next)
		if (router->segment == segment && engine_dataplane(router) == MESSAGE_DATAPLANE_NAT)
			return true;
	return false;
}

static void say(struct segment *segment, unsigned without)
{
	bool called = segment->called[0] || segment->called[1];
	char text[sizeof segment->bridged] = "";
	bool mended = true;

	if (called && without > 0)
		snprintf(text, sizeof text, "%u of its ports have no rules (more than %u, or a name that nftables cannot say)",
			 without, NFT_PORTS_MAX);
	else if (called && asks_by_nat(segment))
		snprintf(text, sizeof text, "data plane nat reaches VMs of other nodes by a tunnel alone, not through this bridge");
	mended = !*text;
	if (called && mended)
		snprintf(text, sizeof text, "fence and director are at its ports, too");
	if (strcmp(segment->bridged, text) == 0)
		return;
	memcpy(segment->bridged, text, sizeof text);
	if (!called)
		log_line(LOG_NOTICE, BASE_REASON_AS_EXPECTED, LOG_FIELDS({ "INTERFACE", segment->name }),
			 "br_netfilter leaves the frames of %s alone", segment->name);
	else if (mended)
		log_line(LOG_INFO, BASE_REASON_CONFIGURED, LOG_FIELDS({ "INTERFACE", segment->name }),
			 "%s is a bridge, and br_netfilter has its frames translated before it takes them: %s",
			 segment->name, text);
	else
		log_line(LOG_WARNING, BASE_REASON_UNSUPPORTED_FEATURE, LOG_FIELDS({ "INTERFACE", segment->name }),
			 "%s is a bridge, and br_netfilter has its frames translated before it takes them: %s. If no "
			 "other bridge needs it: sysctl net.bridge.bridge-nf-call-iptables=0 "
			 "net.bridge.bridge-nf-call-ip6tables=0",
			 segment->name, text);
}

static void look_at(struct segment *segment)
{
	static struct nft_skeleton skeleton; /* not kept over the call */
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
