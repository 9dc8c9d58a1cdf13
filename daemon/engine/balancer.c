#include "daemon/engine/balancer.h"

#include <net/if.h>
#include <stddef.h>

#include "base/array.h"
#include "daemon/engine/node.h"

static const struct balancer balancers[] = {
	{ "cilium_host", "Cilium" },
	{ "ovn-k8s-mp0", "OVN-Kubernetes" },
	{ "bpfin.cali", "Calico's eBPF data plane" },
};

bool balancer_review(struct engine *engine)
{
	const struct balancer *found = NULL;

	for (size_t i = 0; i < BASE_COUNT_OF(balancers) && !found; i++)
		if (if_nametoindex(balancers[i].interface) != 0)
			found = &balancers[i];
	if (found == engine->balancer)
		return false;
	engine->balancer = found;
	if (found)
		log_line(LOG_NOTICE, BASE_REASON_CONFIGURED,
			 LOG_FIELDS({ "INTERFACE", found->interface }),
			 "%s is on this node: addresses with data plane auto are announced only, %s "
			 "balances; say dataplane: director in the pool if it does not",
			 found->name, found->name);
	else
		log_line(LOG_NOTICE, BASE_REASON_CONFIGURED, LOG_NO_FIELDS,
			 "nobody else balances on this node any more: data plane auto means director");
	return true;
}
