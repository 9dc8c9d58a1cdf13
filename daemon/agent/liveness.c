#include "daemon/agent/liveness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/random.h"
#include "base/time.h"
#include "daemon/agent/cadence.h"
#include "daemon/agent/leases.h"
#include "daemon/agent/speaker.h"
#include "k8s/object.h"

#define PREFIX	     "speaker-"
#define WRITE_MS     2000
#define READY_US     (BASE_USEC_PER_SEC / 2) /* then it is looked whether it can begin */
#define RETRY_US     (BASE_USEC_PER_SEC)
#define VERSION_SIZE 64

/* Another node's Lease. A few hundred at the most: a list does. */
struct sign {
	struct sign *next;
	bool due;
	char version[VERSION_SIZE];
	char node[MESSAGE_NAME_SIZE];
};

struct liveness {
	struct agent *agent;
	struct sign *signs;
	unsigned count;
	struct k8s_request *request;
	sd_event_source *renew, *echo;
	struct base_random random;
	uint64_t engine_us;
	bool known; /* `version` says what it is: "" that it does not exist */
	bool ending;
	char version[VERSION_SIZE];  /* of our Lease as it was written last */
	char seen[VERSION_SIZE];     /* and as the watch showed it last */
	char awaited[VERSION_SIZE];  /* the watch has not shown this one yet */
	unsigned swallowed;	     /* times in a row that it did not */
	struct log_gate echo_gate;
};

static void copy_version(char to[static VERSION_SIZE], const cJSON *object)
{
	snprintf(to, VERSION_SIZE, "%s", k8s_object_text(object, "metadata/resourceVersion"));
}

/* --- the watch shows what is written --- */

static void arm_echo(struct liveness *liveness, uint64_t wait_us)
{
	sd_event_source_set_time(liveness->echo, agent_now(liveness->agent) + wait_us);
	sd_event_source_set_enabled(liveness->echo, SD_EVENT_ONESHOT);
}

static void await_echo(struct liveness *liveness)
{
	if (liveness->awaited[0] ||
	    (liveness->seen[0] &&
	     k8s_version_compare(liveness->seen, liveness->version) >= 0))
		return; /* an older one is waited for already, or the watch was faster */
	memcpy(liveness->awaited, liveness->version, sizeof liveness->awaited);
	arm_echo(liveness, CADENCE_ECHO_US);
}

static void note_echo(struct liveness *liveness, const cJSON *object)
{
	copy_version(liveness->seen, object);
	if (!liveness->awaited[0] ||
	    k8s_version_compare(liveness->seen, liveness->awaited) < 0)
		return;
	liveness->awaited[0] = '\0';
	if (liveness->swallowed)
		log_line(LOG_INFO, BASE_REASON_API_REACHABLE, LOG_NO_FIELDS,
			 "API server: the watches tell what happens again");
	liveness->swallowed = 0;
	log_gate_clear(&liveness->echo_gate);
	sd_event_source_set_enabled(liveness->echo, SD_EVENT_OFF);
}

/*
 * It was written, the server said so, and the watch says nothing: what else does it keep from us?
 * All streams may share that connection. If starting them anew did not help, lists do.
 */
static int on_echo(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct liveness *liveness = userdata;
	struct agent *agent = liveness->agent;
	uint64_t watching_us = k8s_informer_watching_us(agent->sources[AGENT_LEASES].informer);

	(void)source;
	(void)usec;
	if (!liveness->awaited[0] || liveness->ending)
		return 0;
	if (watching_us < CADENCE_ECHO_US) { /* it is being started, or was just now */
		arm_echo(liveness, CADENCE_ECHO_US - watching_us);
		return 0;
	}
	liveness->swallowed++;
	if (log_gate_pass(&liveness->echo_gate, NULL))
		log_line(LOG_WARNING, BASE_REASON_API_UNREACHABLE, LOG_NO_FIELDS,
			 "API server: it took what this node wrote, but the watch of Leases has "
			 "not shown it for %u s: all watches are started again",
			 (unsigned)(CADENCE_ECHO_US / BASE_USEC_PER_SEC));
	for (int kind = 0; kind < AGENT_KIND_COUNT; kind++)
		k8s_informer_restart(agent->sources[kind].informer, liveness->swallowed > 1);
	arm_echo(liveness, CADENCE_ECHO_US);
	return 0;
}

/* --- the other nodes --- */

static struct sign **find(struct liveness *liveness, const char *node)
{
	struct sign **slot = &liveness->signs;

	while (*slot && strcmp((*slot)->node, node) != 0)
		slot = &(*slot)->next;
	return slot;
}

void liveness_object(struct liveness *liveness, const cJSON *object)
{
	const char *name = k8s_object_text(object, "metadata/name"), *node = name + strlen(PREFIX);
	char version[VERSION_SIZE];
	struct sign **slot, *sign;

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 || strlen(node) >= MESSAGE_NAME_SIZE ||
	    strcmp(k8s_object_text(object, "spec/holderIdentity"), node) != 0)
		return;
	if (strcmp(node, liveness->agent->node) == 0) {
		note_echo(liveness, object);
		return;
	}
	copy_version(version, object);
	slot = find(liveness, node);
	sign = *slot;
	if (!sign) {
		sign = *slot = calloc(1, sizeof *sign);
		if (!sign)
			return;
		strcpy(sign->node, node);
		memcpy(sign->version, version, sizeof version);
		liveness->count++;
		return;
	}
	if (strcmp(sign->version, version) == 0)
		return;
	memcpy(sign->version, version, sizeof version);
	sign->due = true;
	agent_flush_soon(liveness->agent);
}

void liveness_gone(struct liveness *liveness, const char *name)
{
	struct sign **slot, *sign;

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return;
	slot = find(liveness, name + strlen(PREFIX));
	sign = *slot;
	if (!sign)
		return;
	*slot = sign->next;
	liveness->count--;
	free(sign);
}

void liveness_flush(struct liveness *liveness)
{
	for (struct sign *sign = liveness->signs; sign; sign = sign->next) {
		struct message *message;

		if (!sign->due)
			continue;
		sign->due = false;
		message = agent_message(liveness->agent, MESSAGE_RENEWAL);
		memset(&message->renewal, 0, sizeof message->renewal);
		strcpy(message->renewal.node, sign->node);
		agent_send(liveness->agent, message);
	}
}

/* --- this node --- */

static void renew_after(struct liveness *liveness, uint64_t wait_us)
{
	if (liveness->ending)
		return;
	sd_event_source_set_time(liveness->renew, agent_now(liveness->agent) + wait_us);
	sd_event_source_set_enabled(liveness->renew, SD_EVENT_ONESHOT);
}

static uint64_t pace_us(struct liveness *liveness)
{
	uint64_t pace_us = cadence_renew_us(liveness->count + 1);

	return pace_us - base_random_below(&liveness->random, pace_us / 8);
}

static void on_renewed(void *userdata, const struct k8s_response *response)
{
	struct liveness *liveness = userdata;

	liveness->request = NULL;
	switch (response->result) {
	case K8S_RESULT_OK:
		agent_report(liveness->agent, AGENT_TASK_LIVENESS, response);
		copy_version(liveness->version, response->body);
		/* After a read: at once, with the version that was read. */
		renew_after(liveness, liveness->known ? pace_us(liveness) : 0);
		if (liveness->known)
			await_echo(liveness);
		liveness->known = true;
		return;
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
		liveness->known = false;
		renew_after(liveness, 0);
		return;
	case K8S_RESULT_NOT_FOUND:
		if (liveness->known && !liveness->version[0])
			break; /* it could not be made: the namespace is missing */
		liveness->known = true;
		liveness->version[0] = liveness->awaited[0] = '\0';
		renew_after(liveness, 0);
		return;
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_FORBIDDEN:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
		break;
	}
	agent_report(liveness->agent, AGENT_TASK_LIVENESS, response);
	renew_after(liveness, response->retry_after_us > CADENCE_RENEW_MIN_US
				      ? response->retry_after_us
				      : CADENCE_RENEW_MIN_US);
}

static cJSON *make_lease(const struct liveness *liveness, const char *name)
{
	struct agent *agent = liveness->agent;
	cJSON *body = k8s_object_new("coordination.k8s.io/v1", "Lease", agent->namespace, name);
	cJSON *metadata = cJSON_GetObjectItemCaseSensitive(body, "metadata"), *spec;
	cJSON *owners = speaker_owners(agent->speaker);
	char now[40];

	wall_time(now, 0, true);
	if (liveness->version[0])
		cJSON_AddStringToObject(metadata, "resourceVersion", liveness->version);
	if (owners)
		cJSON_AddItemToObject(metadata, "ownerReferences", owners);
	cJSON_AddStringToObject(cJSON_AddObjectToObject(metadata, "labels"), LIVENESS_LABEL,
				"true");
	spec = cJSON_AddObjectToObject(body, "spec");
	cJSON_AddStringToObject(spec, "holderIdentity", agent->node);
	cJSON_AddNumberToObject(spec, "leaseDurationSeconds", CADENCE_DURATION_S);
	cJSON_AddStringToObject(spec, "renewTime", now);
	return body;
}

/*
 * It speaks for the engine, which knows what this node owns: not before the engine was told
 * everything, and not while it hangs.
 */
static bool may_renew(const struct liveness *liveness)
{
	const struct agent *agent = liveness->agent;

	return agent->client && agent->synced && !liveness->request &&
	       base_usec_since(agent_now(agent), liveness->engine_us) < CADENCE_ENGINE_US;
}

/* Nobody else writes it: the version of the last answer is the precondition of the next write. */
static int on_renew(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct liveness *liveness = userdata;
	struct agent *agent = liveness->agent;
	struct k8s_call call = { .method = "GET", .lane = K8S_LANE_LEASE, .timeout_ms = WRITE_MS };
	char name[128], path[512];
	cJSON *body = NULL;

	(void)source;
	(void)usec;
	if (!may_renew(liveness)) {
		renew_after(liveness, READY_US);
		return 0;
	}
	snprintf(name, sizeof name, PREFIX "%s", agent->node);
	snprintf(path, sizeof path, "/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s",
		 agent->namespace, name);
	if (liveness->known) {
		body = make_lease(liveness, name);
		call.method = liveness->version[0] ? "PUT" : "POST";
		if (!liveness->version[0])
			*strrchr(path, '/') = '\0';
	}
	call.path = path;
	call.body = body;
	liveness->request = k8s_client_call(agent->client, &call, on_renewed, liveness);
	cJSON_Delete(body);
	if (!liveness->request)
		renew_after(liveness, RETRY_US);
	return 0;
}

void liveness_engine(struct liveness *liveness)
{
	liveness->engine_us = agent_now(liveness->agent);
}

void liveness_stop(struct liveness *liveness)
{
	liveness->ending = true;
	sd_event_source_set_enabled(liveness->renew, SD_EVENT_OFF);
}

int liveness_new(struct liveness **result, struct agent *agent)
{
	struct liveness *liveness = calloc(1, sizeof *liveness);
	int r;

	if (!liveness)
		return -1;
	*result = liveness;
	liveness->agent = agent;
	liveness->engine_us = agent_now(agent); /* it has just started us */
	if (getrandom(&liveness->random.state, sizeof liveness->random.state, 0) < 0)
		liveness->random.state = liveness->engine_us;
	r = sd_event_add_time_relative(agent->event, &liveness->renew, CLOCK_BOOTTIME, 0,
				       BASE_USEC_PER_MSEC, on_renew, liveness);
	if (r >= 0)
		r = sd_event_add_time(agent->event, &liveness->echo, CLOCK_BOOTTIME,
				      BASE_USEC_NEVER, BASE_USEC_PER_MSEC, on_echo, liveness);
	if (r >= 0)
		r = sd_event_source_set_enabled(liveness->echo, SD_EVENT_OFF);
	return r;
}

void liveness_free(struct liveness *liveness)
{
	if (!liveness)
		return;
	k8s_request_cancel(liveness->request);
	sd_event_source_disable_unref(liveness->renew);
	sd_event_source_disable_unref(liveness->echo);
	while (liveness->signs) {
		struct sign *next = liveness->signs->next;

		free(liveness->signs);
		liveness->signs = next;
	}
	free(liveness);
}
