#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/kubectl-vip/commands.h"
#include "daemon/kubectl-vip/explain.h"
#include "k8s/object.h"

DEFINE_CLEANUP(cJSON, cJSON_Delete)

static bool is_on(const cJSON *endpoint, const char *what, bool otherwise)
{
	return k8s_object_bool(k8s_object_get(endpoint, "conditions"), what, otherwise);
}

/* The virtual machine that the Service selects, as virtctl does it today or did before 2025-10; NULL: in another way. */
static const char *selected_machine(const struct facts *facts)
{
	const cJSON *selector = k8s_object_get(facts->service, "spec/selector");
	const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(selector, "vmi.kubevirt.io/id"));

	return name ? name : cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(selector, "vm.kubevirt.io/name"));
}

/* Nobody is ready. A virtual machine that is paused has its pod, and that says no more. */
static void remedy_endpoints(struct facts *facts)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *machine = NULL;
	const char *name = selected_machine(facts);
	struct base_error error = { 0 };
	const cJSON *paused;
	char path[512];

	snprintf(path, sizeof path, "/apis/kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s",
		 facts->namespace, name ? name : "");
	if (name && api_get(facts->api, path, &machine, &error) >= 0 &&
	    strcmp(condition_status(machine, "Paused"), "True") == 0) {
		paused = condition_of(machine, "Paused");
		chain_remedy(facts->chain, "virtual machine %s is paused (%s): virtctl -n %s unpause vm %s",
			     name, k8s_object_text(paused, "reason"), facts->namespace, name);
		return;
	}
	chain_remedy(facts->chain,
		     "start the virtual machine, or correct the selector of the Service: "
		     "kubectl -n %s get vmi,pods --show-labels",
		     facts->namespace);
}

void explain_endpoints(struct facts *facts, const cJSON *vip, const char *address)
{
	const char *owner = k8s_object_text(vip, "status/owner");
	const char *family = strchr(address, ':') ? "IPv6" : "IPv4";
	bool local = strcmp(k8s_object_text(facts->service, "spec/externalTrafficPolicy"), "Local") == 0;
	unsigned all = 0, ready = 0, serving = 0, here = 0;
	const cJSON *slice, *endpoint;

	if (!facts->slices)
		return;
	cJSON_ArrayForEach(slice, k8s_object_get(facts->slices, "items")) {
		if (strcmp(k8s_object_text(slice, "addressType"), family) != 0)
			continue;
		cJSON_ArrayForEach(endpoint, k8s_object_get(slice, "endpoints")) {
			bool is_ready = is_on(endpoint, "ready", true);

			all++;
			ready += is_ready;
			serving += !is_ready && is_on(endpoint, "serving", false);
			here += is_ready && strcmp(k8s_object_text(endpoint, "nodeName"), owner) == 0;
		}
	}
	if (ready == 0 && serving == 0) {
		if (all)
			chain_add(facts->chain, VERDICT_BROKEN, "endpoints", address,
				  "none of %u %s is ready", all, family);
		else
			chain_add(facts->chain, VERDICT_BROKEN, "endpoints", address, "there is no %s one",
				  family);
		remedy_endpoints(facts);
		return;
	}
	if (local && *owner && !here) {
		chain_add(facts->chain, VERDICT_BROKEN, "endpoints", address,
			  "%u ready, none on %s, and externalTrafficPolicy is Local", ready, owner);
		chain_remedy(facts->chain, "kubectl vip handover %s --to a node with an endpoint, or set "
					   "externalTrafficPolicy: Cluster",
			     address);
		return;
	}
	chain_add(facts->chain, ready ? VERDICT_OK : VERDICT_NOTE, "endpoints", address,
		  "%u of %u %s ready%s", ready, all, family,
		  ready ? "" : "; those that are ending serve until then");
}

/* Replies leave from where the VM is, and, masqueraded or the owner's own, from the owner. */
static bool serves(const struct facts *facts, const cJSON *vip, const char *node)
{
	const cJSON *slice, *endpoint;

	if (strcmp(k8s_object_text(vip, "status/owner"), node) == 0)
		return true;
	cJSON_ArrayForEach(slice, k8s_object_get(facts->slices, "items"))
		cJSON_ArrayForEach(endpoint, k8s_object_get(slice, "endpoints"))
			if (is_on(endpoint, "ready", true) &&
			    strcmp(k8s_object_text(endpoint, "nodeName"), node) == 0)
				return true;
	return false;
}

static void note_condition(struct facts *facts, const cJSON *speaker, const char *type, const char *link,
			   const char *address, const char *words)
{
	const cJSON *condition = condition_of(speaker, type);

	if (strcmp(k8s_object_text(condition, "status"), "False") != 0)
		return;
	chain_add(facts->chain, VERDICT_NOTE, link, address, "%s %s: %s", words, k8s_object_text(speaker, "metadata/name"),
		  k8s_object_text(condition, "message"));
	chain_remedy_of(facts->chain, k8s_object_text(condition, "reason"));
}

void explain_remote(struct facts *facts, const cJSON *vip, const char *address)
{
	const char *owner = k8s_object_text(vip, "status/owner");
	const cJSON *speaker;

	cJSON_ArrayForEach(speaker, k8s_object_get(facts->speakers, "items")) {
		const char *node = k8s_object_text(speaker, "metadata/name");

		if (serves(facts, vip, node)) {
			note_condition(facts, speaker, "RemoteClientsServed", "clients", address,
				       "beyond the LAN get no replies from");
			note_condition(facts, speaker, "ConnectionsTracked", "connections", address, "are not safe on");
		}
		if (strcmp(owner, node) == 0)
			note_condition(facts, speaker, "RemoteEndpointsServed", "endpoints", address,
				       "on other nodes may be out of reach for");
	}
}
