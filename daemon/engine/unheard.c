#include "daemon/engine/unheard.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/node.h"
#include "daemon/engine/segment.h"
#include "daemon/log.h"

static const char *group_of(enum base_family family)
{
	return family == BASE_FAMILY_IPV6 ? "ff02::12" : "224.0.0.18";
}

static int say(const struct segment *segment, enum base_family family, char *text, size_t size)
{
	return snprintf(text, size, "no advert reaches this node on %s, but %s answers for its address: let IP protocol 112 in "
				    "(firewall-cmd --permanent --add-protocol=vrrp), and %s through the switch",
			segment->name, segment->unheard[family == BASE_FAMILY_IPV6].node, group_of(family));
}

void unheard_say(const struct engine *engine, char *text, size_t size)
{
	*text = '\0';
	for (const struct segment *segment = engine->segments; segment; segment = segment->next)
		for (int six = 0; six < 2; six++)
			if (segment->unheard[six].told) {
				say(segment, six ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4, text, size);
				return; /* one is enough to act on; the log has each of them */
			}
}

void unheard_note(struct router *router, const struct base_address *member, uint64_t now_us)
{
	struct segment *segment = router->segment;
	enum base_family family = (enum base_family)router->wish.family;
	struct unheard *unheard = &segment->unheard[family == BASE_FAMILY_IPV6];
	const struct engine_node *node = engine_node_at(segment->engine, member);
	uint64_t patience_us = 3 * (uint64_t)router->core.config.interval_us;
	char text[MESSAGE_TEXT_SIZE];

	if (patience_us < UNHEARD_US)
		patience_us = UNHEARD_US;
	if (!unheard->since_us || base_usec_since(now_us, unheard->last_us) > 2 * patience_us)
		unheard->since_us = now_us; /* once in a while an advert is late */
	unheard->last_us = now_us;
	if (unheard->told || base_usec_since(now_us, unheard->since_us) < patience_us)
		return;
	snprintf(unheard->node, sizeof unheard->node, "%s", node ? node->name : "a member");
	unheard->told = true;
	say(segment, family, text, sizeof text);
	log_line(LOG_WARNING, BASE_REASON_ADVERTS_UNHEARD,
		 LOG_FIELDS({ "INTERFACE", segment->name }, { "PEER", unheard->node }), "%s", text);
	engine_report_node(segment->engine);
}

void unheard_end(struct segment *segment, enum base_family family)
{
	struct unheard *unheard = &segment->unheard[family == BASE_FAMILY_IPV6];
	bool told = unheard->told;

	if (!unheard->since_us)
		return;
	memset(unheard, 0, sizeof *unheard);
	if (!told)
		return;
	log_line(LOG_NOTICE, BASE_REASON_AS_EXPECTED, LOG_FIELDS({ "INTERFACE", segment->name }),
		 "adverts reach this node on %s again", segment->name);
	engine_report_node(segment->engine);
}
