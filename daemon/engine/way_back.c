#include "daemon/engine/way_back.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/engine/node.h"
#include "daemon/engine/setting.h"

/*
 * By what the kernel sends to clients anywhere it is asked itself: a VPN's client takes the default route's place with two
 * halves of it, with shorter pieces, or with a rule. One address in each half of IPv4; of IPv6, two of what is in use.
 */
static void look_out(struct engine *engine)
{
	static const char *const anywhere[2][ENGINE_WAYS] = { { "8.8.8.8", "193.0.14.129" },
							      { "2001:7fd::1", "3ffe::1" } };

	for (int six = 0; six < 2; six++)
		for (int i = 0; i < ENGINE_WAYS; i++) {
			struct base_address address;

			if (base_address_parse(anywhere[six][i], &address))
				engine->ways_out[six][i] = vrrp_links_way(engine->links, &address);
		}
}

/* A way that everybody's packets may take, not only those that a rule sends there. */
static bool leads_out(const struct engine *engine, const struct vrrp_link *link, int six)
{
	for (int i = 0; i < ENGINE_WAYS; i++)
		if (engine->ways_out[six][i].index == link->index)
			return true;
	return link->routes[six] && link->routes[six] < VRRP_LINK_ROUTE_BY_RULE;
}

static void add_returns(struct nft_skeleton *skeleton, const struct vrrp_link *link)
{
	for (unsigned i = 0; i < link->address_count; i++) {
		const struct base_prefix *own = &link->addresses[i];
		const struct base_address *gateway = &link->gateways[own->address.family == BASE_FAMILY_IPV6];
		struct base_address first = base_prefix_first(own);
		struct nft_return *way = &skeleton->returns[skeleton->return_count];
		bool there = base_address_is_link_local(&own->address) ||
			     own->length == base_address_size(&own->address) * 8;

		for (unsigned j = 0; j < skeleton->return_count; j++)
			there |= strcmp(skeleton->returns[j].segment, link->name) == 0 &&
				 skeleton->returns[j].subnet.length == own->length &&
				 base_address_equal(&skeleton->returns[j].subnet.address, &first);
		if (there || gateway->family == BASE_FAMILY_NONE || skeleton->return_count == NFT_RETURNS_MAX)
			continue;
		way->subnet.address = first;
		way->subnet.length = own->length;
		way->gateway = *gateway;
		memcpy(way->segment, link->name, sizeof way->segment);
		skeleton->return_count++;
	}
}

enum { BY_MACVLAN = 1, BY_VLAN = 2, BY_PORT = 4 };

/* Does what leaves by the interface of that name leave by `lower`, too, and how? Ports of bridges and bonds stand below them. */
static unsigned stands_on(const struct engine *engine, const char *name, const struct vrrp_link *lower, unsigned depth)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(engine->links, &count), *upper = NULL;
	unsigned found = 0;

	for (size_t i = 0; i < count && !upper; i++)
		upper = strcmp(links[i].name, name) == 0 ? &links[i] : NULL;
	for (size_t i = 0; upper && depth < 8 && i < count && !found; i++) {
		unsigned step = links[i].index == upper->lower   ? (upper->vlan ? BY_VLAN : BY_MACVLAN)
				: links[i].master == upper->index ? BY_PORT
								  : 0;
		unsigned rest = !step || links[i].index == lower->index ? 0 : stands_on(engine, links[i].name, lower, depth + 1);

		found = step && (rest || links[i].index == lower->index) ? step | rest : 0;
	}
	return found;
}

/* Is this a way out for addresses of another segment? A name that nft cannot say is as good as none: see why_not(). */
static void add_exit(const struct engine *engine, struct nft_skeleton *skeleton, const struct vrrp_link *link)
{
	struct nft_exit *leaving;
	bool needed = false;

	for (unsigned i = 0; i < skeleton->return_count; i++)
		needed |= nft_return_leads_away(skeleton, &skeleton->returns[i], link->name);
	if (!needed || (!leads_out(engine, link, 0) && !leads_out(engine, link, 1)) || !nft_is_sayable(link->name) ||
	    skeleton->exit_count == NFT_EXITS_MAX)
		return;
	leaving = &skeleton->exits[skeleton->exit_count++];
	memcpy(leaving->name, link->name, sizeof leaving->name);
	leaving->index = link->index;
	leaving->mac = link->mac;
	for (unsigned i = 0; i < skeleton->return_count; i++) {
		unsigned by = stands_on(engine, skeleton->returns[i].segment, link, 0);

		leaving->tagged |= by & BY_VLAN ? UINT32_C(1) << i : 0;
		leaving->macvlans |= by & BY_MACVLAN ? UINT32_C(1) << i : 0;
	}
}

/* In the order of the links, so that the same ones make the same rules. */
void way_back_fill(struct engine *engine, struct nft_skeleton *skeleton)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(engine->links, &count);

	if (!engine->abilities.egress)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct segment *segment = segment_at(engine, links[i].index);

		if (segment && segment->router_count > 0)
			add_returns(skeleton, &links[i]);
	}
	for (size_t i = 0; i < count; i++)
		add_exit(engine, skeleton, &links[i]);
	if (skeleton->exit_count == 0) { /* the usual node: its rules do not change with its gateway */
		memset(skeleton->returns, 0, sizeof skeleton->returns);
		skeleton->return_count = 0;
	}
}

static void use_gateways(struct engine *engine, const struct nft_skeleton *skeleton)
{
	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		for (unsigned i = 0; i < skeleton->return_count; i++)
			if (strcmp(skeleton->returns[i].segment, segment->name) == 0)
				vrrp_links_use(engine->links, segment->index, &skeleton->returns[i].gateway);
}

/*
 * A gateway that the kernel must ask for first costs the first packets: what waits for an answer is sent to the gateway
 * of the route that it was to take, whose MAC is not the LAN's (neigh_update() of the kernel).
 */
static uint64_t ways_of(struct engine *engine)
{
	static struct nft_skeleton skeleton; /* not kept over the call */

	memset(&skeleton, 0, sizeof skeleton);
	way_back_fill(engine, &skeleton);
	use_gateways(engine, &skeleton);
	return base_hash(&skeleton, sizeof skeleton);
}

void way_back_keep(struct engine *engine)
{
	uint64_t ways;

	look_out(engine);
	ways = ways_of(engine);
	if (engine->ways != ways)
		engine_rules_soon(engine);
	engine->ways = ways;
}

void way_back_review(struct engine *engine)
{
	uint64_t revision = vrrp_links_revision(engine->links);

	if (engine->ways_revision == revision)
		return;
	engine->ways_revision = revision;
	way_back_keep(engine);
}

/* --- what keeps clients from being answered --- */

/* The kernel takes the larger number of the two, and 2 is loose. */
static bool is_strict(const char *interface)
{
	char all = setting_read("/proc/sys/net/ipv4/conf/all/rp_filter");
	char own = setting_read("/proc/sys/net/ipv4/conf/%s/rp_filter", interface);

	return (all > own ? all : own) == '1';
}

static bool has_router(struct engine *engine, const struct segment *segment, enum base_family family)
{
	for (struct router *router = engine->routers; router; router = router->next)
		if (router->segment == segment && router->wish.family == family)
			return true;
	return false;
}

/* By which other interface packets to clients beyond `link` leave, or some of them; NULL: by none. */
static const struct vrrp_link *other_way(struct engine *engine, const struct vrrp_link *link, int six,
					 unsigned *mtu)
{
	for (int way = 0; way < ENGINE_WAYS; way++) {
		const struct vrrp_link *other = vrrp_links_at(engine->links, engine->ways_out[six][way].index);

		if (other && other != link) {
			*mtu = engine->ways_out[six][way].mtu ? engine->ways_out[six][way].mtu : other->mtu;
			return other;
		}
	}
	return NULL;
}

__attribute__((format(printf, 3, 4))) static void say(char *text, size_t size, const char *format, ...)
{
	size_t length = strlen(text);
	va_list arguments;

	if (length > 0 && length + 2 < size)
		length += (size_t)snprintf(text + length, size - length, "; ");
	va_start(arguments, format);
	vsnprintf(text + length, size - length, format, arguments);
	va_end(arguments);
}

static void say_why_not(struct engine *engine, const struct vrrp_link *link, int six, char *text, size_t size)
{
	unsigned mtu;
	const struct vrrp_link *other = other_way(engine, link, six, &mtu);
	const char *family = six ? "IPv6" : "IPv4";

	if (!other || !has_router(engine, segment_at(engine, link->index), six ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4))
		return;
	if (!engine->abilities.egress)
		say(text, size, "%s: the default route (%s) is by %s, and only Linux 5.16 can have replies leave here",
		    link->name, family, other->name);
	else if (link->gateways[six].family == BASE_FAMILY_NONE)
		say(text, size, "%s: the default route (%s) is by %s: add one by %s, with a larger metric", link->name,
		    family, other->name, link->name);
	else if (!nft_is_sayable(other->name))
		say(text, size, "%s: the default route is by an interface whose name nftables cannot say", link->name);
	else if (mtu > link->mtu)
		say(text, size,
		    "%s: none larger than its MTU (%u), as the way (%s) by %s has a larger one (%u): give the default route by %s "
		    "'mtu lock %u'",
		    link->name, link->mtu, family, other->name, mtu, other->name, link->mtu);
	if (!six && is_strict(link->name))
		say(text, size, "%s: the default route is by %s: set net.ipv4.conf.%s.rp_filter to 2, or requests are dropped",
		    link->name, other->name, link->name);
}

void way_back_look(struct engine *engine)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(engine->links, &count);
	char text[sizeof engine->no_way_back] = "";

	for (size_t i = 0; i < count; i++) {
		const struct segment *segment = segment_at(engine, links[i].index);

		if (segment && !segment->up)
			return; /* its routes went with it: nobody is answered by it, for another reason */
		for (int six = 0; segment && six < 2; six++)
			say_why_not(engine, &links[i], six, text, sizeof text);
	}
	if (strcmp(text, engine->no_way_back) == 0)
		return;
	memcpy(engine->no_way_back, text, sizeof text);
	if (*text)
		log_line(LOG_WARNING, BASE_REASON_NO_WAY_BACK, LOG_NO_FIELDS,
			 "clients beyond the LAN get no replies from this node: %s", text);
	else
		log_line(LOG_NOTICE, BASE_REASON_AS_EXPECTED, LOG_NO_FIELDS,
			 "clients beyond the LAN get replies from this node again");
}
