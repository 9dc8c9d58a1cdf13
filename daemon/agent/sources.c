#include "daemon/agent/sources.h"

#include <stdio.h>

#include "daemon/agent/access.h"
#include "daemon/agent/address_book.h"
#include "daemon/agent/lease_book.h"
#include "daemon/agent/leases.h"
#include "daemon/agent/liveness.h"
#include "daemon/agent/lookout.h"
#include "daemon/agent/speaker.h"
#include "daemon/agent/victim.h"
#include "k8s/object.h"

const struct agent_kind_facts agent_kinds[AGENT_KIND_COUNT] = {
	[AGENT_NODES] = { "nodes", "Node", "/api/v1/nodes", false },
	[AGENT_SPEAKERS] = { "speakers", "Speaker", AGENT_GROUP "/speakers", true },
	[AGENT_VIRTUAL_IPS] = { "virtualips", "VirtualIP", AGENT_GROUP "/virtualips", true },
	[AGENT_SERVICES] = { "services", "Service", "/api/v1/services", false },
	[AGENT_SLICES] = { "endpointslices", "EndpointSlice",
			   "/apis/discovery.k8s.io/v1/endpointslices", false },
	[AGENT_VMS] = { "virtualmachineinstances", "VirtualMachineInstance",
			"/apis/kubevirt.io/v1/virtualmachineinstances", false },
	[AGENT_LEASES] = { "leases", "Lease", "/apis/coordination.k8s.io/v1/namespaces/%s/leases",
			   false },
};

static void on_object(void *userdata, const cJSON *object)
{
	struct agent_source *source = userdata;
	struct agent *agent = source->agent;

	if (source->kind == AGENT_LEASES) {
		if (*k8s_object_label(object, LEASE_LABEL))
			lease_book_object(agent->leases, object);
		else if (*k8s_object_label(object, LIVENESS_LABEL))
			liveness_object(agent->liveness, object);
		return;
	}
	if (source->kind == AGENT_VIRTUAL_IPS)
		address_book_object(agent->addresses, object);
	if (source->kind == AGENT_SPEAKERS) {
		speaker_object(agent->speaker, object);
		lookout_object(agent->lookout, object);
		victim_object(agent->victim, object);
	}
	if (source->kind == AGENT_NODES)
		speaker_node(agent->speaker, object);
	if (wish_set_put(agent->wishes, agent_kinds[source->kind].kind, object) == 1)
		agent_flush_soon(agent);
}

static void on_gone(void *userdata, const char *namespace, const char *name)
{
	struct agent_source *source = userdata;
	struct agent *agent = source->agent;

	if (source->kind == AGENT_LEASES) {
		lease_book_gone(agent->leases, name);
		liveness_gone(agent->liveness, name);
		return;
	}
	if (source->kind == AGENT_VIRTUAL_IPS)
		address_book_gone(agent->addresses, name);
	if (source->kind == AGENT_SPEAKERS)
		speaker_gone(agent->speaker, name);
	wish_set_drop(agent->wishes, agent_kinds[source->kind].kind, namespace, name);
	agent_flush_soon(agent);
}

static void on_synced(void *userdata, bool first)
{
	struct agent_source *source = userdata;

	(void)first;
	if (source->kind == AGENT_LEASES)
		lease_book_synced(source->agent->leases);
	agent_flush_soon(source->agent);
}

static void on_trouble(void *userdata, const struct k8s_response *response)
{
	struct agent_source *source = userdata;

	agent_report(source->agent, AGENT_TASK_READ + source->kind, response);
	if (source->kind == AGENT_VMS && !source->without &&
	    (response->result == K8S_RESULT_NOT_FOUND || response->result == K8S_RESULT_FORBIDDEN)) {
		source->without = true;
		agent_flush_soon(source->agent);
	}
	if (response->result == K8S_RESULT_UNAUTHORIZED)
		access_reconfigure(source->agent);
}

/*
 * Leases, VirtualIPs and signs of life would be compared with versions of a time that never was, and kinds
 * that changed little would not even know. The next agent has no memory; the engine goes on meanwhile.
 */
static void on_rewound(void *userdata)
{
	struct agent_source *source = userdata;

	log_line(LOG_WARNING, BASE_REASON_API_REACHABLE, LOG_NO_FIELDS,
		 "API server: its versions went back, as after a backup was restored: the agent "
		 "ends, and another one reads everything anew");
	sd_event_exit(source->agent->event, 0);
}

static int start_informer(struct agent *agent, enum agent_kind kind)
{
	static const struct k8s_informer_handlers handlers = { on_object, on_gone, on_synced,
							       on_trouble, on_rewound };
	struct agent_source *source = &agent->sources[kind];
	char path[512];

	source->agent = agent;
	source->kind = kind;
	snprintf(path, sizeof path, agent_kinds[kind].path, agent->namespace);
	return k8s_informer_new(&source->informer, agent->client, agent->event, path, NULL, &handlers,
				source);
}

/* --- the interface --- */

int sources_start(struct agent *agent)
{
	int r = 0;

	for (int kind = 0; kind < AGENT_KIND_COUNT && r >= 0; kind++)
		if (kind != AGENT_VMS)
			r = start_informer(agent, (enum agent_kind)kind);
	return r;
}

void sources_start_vms(struct agent *agent)
{
	if (!agent->sources[AGENT_VMS].informer)
		start_informer(agent, AGENT_VMS);
}

void sources_kick(struct agent *agent)
{
	for (int kind = 0; kind < AGENT_KIND_COUNT; kind++)
		k8s_informer_kick(agent->sources[kind].informer);
}

bool sources_complete(const struct agent *agent)
{
	for (int kind = 0; kind < AGENT_KIND_COUNT; kind++) {
		const struct agent_source *source = &agent->sources[kind];

		if (kind != AGENT_LEASES && source->informer && !source->without &&
		    !k8s_informer_synced(source->informer))
			return false;
	}
	return true;
}

void sources_free(struct agent *agent)
{
	for (int kind = 0; kind < AGENT_KIND_COUNT; kind++)
		k8s_informer_free(agent->sources[kind].informer);
}
