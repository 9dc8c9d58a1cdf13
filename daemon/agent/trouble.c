#include <stdio.h>
#include <string.h>

#include "daemon/agent/room.h"
#include "daemon/agent/sources.h"

/* What went wrong with the API server, in words. */

static const char *task_name(enum agent_task task)
{
	if (task < AGENT_TASK_LEASE_WRITE)
		return agent_kinds[task - AGENT_TASK_READ].resource;
	switch ((int)task) {
	case AGENT_TASK_LEASE_WRITE:
		return "writing a Lease";
	case AGENT_TASK_STATUS:
		return "writing VirtualIP.status";
	case AGENT_TASK_SPEAKER:
		return "writing this node's Speaker";
	case AGENT_TASK_LIVENESS:
		return "renewing this node's Lease";
	case AGENT_TASK_EVENT:
		return "writing an Event";
	default:
		return "asking whether it is ready";
	}
}

/* libcurl's words. */
static const char *advice_on_certificate(const char *message)
{
	if (strstr(message, "not yet valid"))
		return ": is this node's clock behind?";
	if (strstr(message, "has expired"))
		return ": renew the server's certificate, or is this node's clock ahead?";
	return strstr(message, "certificate") ? ": certificate-authority of the kubeconfig must be the one "
						"that signed the server's certificate"
					      : "";
}

/* What a person can do about it. */
static const char *advice(enum agent_task task, const struct k8s_response *response)
{
	bool crd = task < AGENT_TASK_LEASE_WRITE ? agent_kinds[task - AGENT_TASK_READ].ours
						  : task == AGENT_TASK_SPEAKER;

	if (task == AGENT_TASK_READ + AGENT_VMS && response->result == K8S_RESULT_NOT_FOUND)
		return ": KubeVirt is not installed: Services with vipd.dev/network have no endpoints";
	switch (response->result) {
	case K8S_RESULT_NOT_FOUND:
		return crd ? ": the CustomResourceDefinitions are not installed: kubectl apply -f "
			     "deploy/crds.yaml"
			   : ": is the namespace missing? kubectl apply -f deploy/namespace.yaml";
	case K8S_RESULT_FORBIDDEN:
		return ": kubectl apply -f deploy/rbac.yaml grants what a speaker needs";
	case K8S_RESULT_UNAUTHORIZED:
		return ": the token or certificate is not accepted; has it expired?";
	case K8S_RESULT_UNREACHABLE:
		return advice_on_certificate(response->message);
	case K8S_RESULT_OK:
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNKNOWN:
		return "";
	}
	return "";
}

/*
 * That nothing works at all is told once, not by everybody who notices. An answer that makes no sense is about what was
 * asked: it must not go unsaid because a connection broke just before.
 */
static bool concerns_all(const struct k8s_response *response)
{
	if (response->malformed)
		return false;
	return response->result == K8S_RESULT_UNAUTHORIZED ||
	       response->result == K8S_RESULT_UNREACHABLE ||
	       response->result == K8S_RESULT_UNKNOWN ||
	       response->result == K8S_RESULT_SERVER_ERROR;
}

void agent_report(struct agent *agent, enum agent_task task, const struct k8s_response *response)
{
	bool all = concerns_all(response);
	struct log_gate *gate = all ? &agent->transport_gate : &agent->gates[task];
	unsigned suppressed = 0;
	char times[48] = "";

	if (response->result == K8S_RESULT_OK) {
		if (agent->transport_trouble || agent->trouble[task])
			log_line(LOG_INFO, BASE_REASON_API_REACHABLE, LOG_NO_FIELDS,
				 "API server: %s works again", task_name(task));
		if (agent->trouble[task])
			log_gate_clear(&agent->gates[task]);
		if (agent->transport_trouble)
			log_gate_clear(&agent->transport_gate);
		agent->transport_trouble = agent->trouble[task] = false;
		return;
	}
	*(all ? &agent->transport_trouble : &agent->trouble[task]) = true;
	if (!log_gate_pass(gate, &suppressed))
		return;
	if (suppressed)
		snprintf(times, sizeof times, " (%u times more since the last line)", suppressed);
	log_line(LOG_WARNING, BASE_REASON_API_UNREACHABLE, LOG_NO_FIELDS, "API server: %s: %s: %s%s%s",
		 task_name(task), k8s_result_name(response->result), response->message,
		 advice(task, response), times);
}
