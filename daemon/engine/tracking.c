#include "daemon/engine/tracking.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/node.h"
#include "daemon/engine/setting.h"

#define FULL_PERCENT 95
#define ROOM_PERCENT 90 /* again */

void tracking_judge(long count, long max, long loose, bool *full, char *text, size_t size)
{
	*full = max > 0 && count >= 0 && count / (double)max * 100 >= (*full ? ROOM_PERCENT : FULL_PERCENT);
	*text = '\0';
	if (*full)
		snprintf(text, size,
			 "the table of connections is full, or nearly so (%ld): what is new is dropped. Raise "
			 "net.netfilter.nf_conntrack_max, or see with conntrack -L who has so many",
			 max);
	else if (loose == 0)
		snprintf(text, size,
			 "net.netfilter.nf_conntrack_tcp_loose is 0: connections hang when their VM moves to this node. Set it to 1");
}

/* Where a network plugin or a process takes what comes, no connection is ours. */
static bool translates(const struct engine *engine)
{
	for (const struct router *router = engine->routers; router; router = router->next)
		if (engine_dataplane(router) != MESSAGE_DATAPLANE_ANNOUNCE)
			return true;
	return false;
}

void tracking_look(struct engine *engine)
{
	char text[sizeof engine->untracked] = "";

	if (translates(engine))
		tracking_judge(setting_number("/proc/sys/net/netfilter/nf_conntrack_count"),
			       setting_number("/proc/sys/net/netfilter/nf_conntrack_max"),
			       setting_number("/proc/sys/net/netfilter/nf_conntrack_tcp_loose"), &engine->tracking_full,
			       text, sizeof text);
	if (strcmp(text, engine->untracked) == 0)
		return;
	memcpy(engine->untracked, text, sizeof text);
	if (*text)
		log_line(LOG_WARNING, BASE_REASON_CONNECTIONS_UNTRACKED, LOG_NO_FIELDS, "%s", text);
	else
		log_line(LOG_NOTICE, BASE_REASON_AS_EXPECTED, LOG_NO_FIELDS,
			 "connections are tracked as addresses need it again");
}
