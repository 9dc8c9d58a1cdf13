#pragma once

#include <cjson/cJSON.h>

#include "daemon/kubectl-vip/api.h"
#include "daemon/kubectl-vip/chain.h"

/* Everything that could be read; NULL and a code where not. */
struct facts {
	struct api *api;
	struct chain *chain;
	const char *namespace, *name;
	cJSON *service, *vips, *pools, *speakers, *slices;
};

/* Who is behind the address: nobody, nobody ready, or the VM is not where the Service wants it. */
void explain_endpoints(struct facts *facts, const cJSON *vip, const char *address);

/* Nodes that serve the address and say that they cannot answer clients beyond the LAN, or cannot ask VMs of other nodes. */
void explain_remote(struct facts *facts, const cJSON *vip, const char *address);
