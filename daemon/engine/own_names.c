#include "daemon/engine/own_names.h"

#include <string.h>

#include "base/hash.h"
#include "daemon/engine/node.h"

/* One for each subnet, in the order of the link's addresses. */
static void add(struct nft_skeleton *skeleton, const struct vrrp_link *link, bool ipv6)
{
	for (unsigned i = 0; i < link->address_count && skeleton->own_count < NFT_OWNS_MAX; i++) {
		const struct base_prefix *own = &link->addresses[i];
		bool six = own->address.family == BASE_FAMILY_IPV6, there = false;

		if (base_address_is_link_local(&own->address) != six || (six ? !ipv6 : own->length == 32))
			continue;
		for (unsigned j = 0; j < skeleton->own_count && !there; j++)
			there = strcmp(skeleton->owns[j].interface, link->name) == 0 &&
				skeleton->owns[j].subnet.length == own->length &&
				base_prefix_contains(own, &skeleton->owns[j].subnet.address);
		if (there)
			continue;
		skeleton->owns[skeleton->own_count].subnet = *own;
		memcpy(skeleton->owns[skeleton->own_count++].interface, link->name, VRRP_LINK_NAME_SIZE);
	}
}

void own_names_fill(struct engine *engine, struct nft_skeleton *skeleton)
{
	size_t count;
	const struct vrrp_link *links = vrrp_links_get(engine->links, &count);

	for (const struct segment *segment = engine->segments; segment; segment = segment->next)
		if (segment_link(segment))
			add(skeleton, segment_link(segment), true);
	for (size_t i = 0; i < count && engine->abilities.arp; i++)
		if (links[i].ethernet && nft_is_sayable(links[i].name) && !segment_at(engine, links[i].index))
			add(skeleton, &links[i], false);
}

void own_names_review(struct engine *engine)
{
	static struct nft_skeleton skeleton; /* not kept over the call */
	uint64_t names;

	if (engine->names_revision == vrrp_links_revision(engine->links))
		return;
	engine->names_revision = vrrp_links_revision(engine->links);
	memset(&skeleton, 0, sizeof skeleton);
	own_names_fill(engine, &skeleton);
	names = base_hash(skeleton.owns, sizeof skeleton.owns);
	if (engine->names != names)
		engine_rules_soon(engine);
	engine->names = names;
}
