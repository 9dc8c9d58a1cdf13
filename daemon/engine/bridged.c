#include "daemon/engine/bridged.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/engine/segment.h"
#include "daemon/log.h"

static bool is_on(const char *path)
{
	char value = '0';
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (read(fd, &value, 1) != 1)
		value = '0';
	close(fd);
	return value == '1';
}

/* One of the two is enough: the bridge's own setting, or everybody's. */
static bool is_called(const char *interface, const char *tables)
{
	char own[96], all[80];

	snprintf(own, sizeof own, "/sys/class/net/%s/bridge/nf_call_%s", interface, tables);
	if (access(own, F_OK) < 0)
		return false; /* no bridge, or one that no rules are asked for */
	snprintf(all, sizeof all, "/proc/sys/net/bridge/bridge-nf-call-%s", tables);
	return is_on(own) || is_on(all);
}

void bridged_look(struct engine *engine)
{
	for (struct segment *segment = engine->segments; segment; segment = segment->next) {
		bool called = !engine->balancer && (is_called(segment->name, "iptables") ||
						    is_called(segment->name, "ip6tables"));

		if (called == segment->bridged)
			continue;
		segment->bridged = called;
		if (called)
			log_line(LOG_WARNING, BASE_REASON_UNSUPPORTED_FEATURE,
				 LOG_FIELDS({ "INTERFACE", segment->name }),
				 "%s is a bridge, and br_netfilter has its frames translated before it takes them: "
				 "this node passes no client on to another one. If no other bridge needs it: "
				 "sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0; "
				 "else let it own no address (vipd.dev/nodes, nodes of the pool)",
				 segment->name);
		else
			log_line(LOG_NOTICE, BASE_REASON_AS_EXPECTED, LOG_FIELDS({ "INTERFACE", segment->name }),
				 "br_netfilter leaves the frames of %s alone: clients are passed on", segment->name);
	}
}
