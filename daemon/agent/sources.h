#pragma once

#include "daemon/agent/room.h"

/* What is watched at the API server, and who of the agent hears of it. */

struct agent_kind_facts {
	const char *resource, *kind, *path;
	bool ours; /* of a CustomResourceDefinition of deploy/crds.yaml */
};

extern const struct agent_kind_facts agent_kinds[AGENT_KIND_COUNT];

int sources_start(struct agent *agent); /* all but VMs */
void sources_start_vms(struct agent *agent); /* or nothing, if they are watched already */
void sources_kick(struct agent *agent); /* the server answers again: no more waiting */
/* Nothing is said while a list is incomplete: what is missing would seem to be gone. */
bool sources_complete(const struct agent *agent);
void sources_free(struct agent *agent);
