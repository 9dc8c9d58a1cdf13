#include "daemon/controller/trouble.h"

#include <stdio.h>
#include <string.h>

static const char *remedy(const char *doing, const struct k8s_response *response)
{
	switch (response->result) {
	case K8S_RESULT_UNAUTHORIZED:
		return "; is the token expired or of another cluster? It is read again for each "
		       "try";
	case K8S_RESULT_FORBIDDEN:
		return "; the roles of deploy/rbac.yaml allow it: kubectl apply -f "
		       "deploy/rbac.yaml";
	case K8S_RESULT_NOT_FOUND:
		return strstr(doing, "vipd.dev")
			       ? "; the definitions are missing: kubectl apply -f "
				 "deploy/crds.yaml"
			       : "";
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
		return "; everything allocated goes on meanwhile";
	case K8S_RESULT_OK:
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
		break;
	}
	return "";
}

void trouble_report(struct trouble *trouble, const char *doing, const struct k8s_response *response)
{
	bool away = response->result == K8S_RESULT_UNREACHABLE ||
		    response->result == K8S_RESULT_UNKNOWN;
	char status[32] = "", times[48] = "";
	unsigned suppressed = 0;

	trouble->told = true;
	if (!log_gate_pass(&trouble->gate, &suppressed))
		return;
	if (response->status)
		snprintf(status, sizeof status, "%ld ", response->status);
	if (suppressed)
		snprintf(times, sizeof times, " (%u more times since the last line)", suppressed);
	log_line(away || response->result == K8S_RESULT_THROTTLED ? LOG_WARNING : LOG_ERR,
		 away ? BASE_REASON_API_UNREACHABLE : BASE_REASON_NONE, LOG_NO_FIELDS,
		 "%s: %s%s: %s%s%s", doing, status, k8s_result_name(response->result),
		 response->message, remedy(doing, response), times);
}

void trouble_over(struct trouble *trouble, const char *doing)
{
	if (!trouble->told)
		return;
	trouble->told = false;
	log_gate_clear(&trouble->gate);
	log_line(LOG_INFO, BASE_REASON_API_REACHABLE, LOG_NO_FIELDS, "%s works again", doing);
}
