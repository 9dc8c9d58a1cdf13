#include "daemon/agent/agent.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io/clock.h"
#include "base/time.h"
#include "daemon/agent/address_book.h"
#include "daemon/agent/events.h"
#include "daemon/agent/lease_book.h"
#include "daemon/agent/leases.h"
#include "daemon/agent/liveness.h"
#include "daemon/agent/lookout.h"
#include "daemon/agent/room.h"
#include "daemon/agent/scratch.h"
#include "daemon/agent/speaker.h"
#include "daemon/agent/victim.h"
#include "daemon/metrics/counters.h"
#include "daemon/options.h"
#include "k8s/object.h"

#define NAMESPACE	"vipd-system"
#define PROBE_MS	1000
#define STOP_US		(1500 * BASE_USEC_PER_MSEC) /* for what is under way at the end */
#define TRIM_US		(3 * BASE_USEC_PER_SEC)
#define CONFIGURE_US	(5 * BASE_USEC_PER_SEC)	    /* the kubeconfig is not read more often */
#define HELD_US		(30 * BASE_USEC_PER_SEC)    /* nor credentials that only root can read */
#define PRIORITY_CHANNEL (-10)
#define PRIORITY_FLUSH	100 /* after whatever has arrived */

static const struct {
	const char *resource, *kind, *path;
	bool ours; /* of a CustomResourceDefinition of deploy/crds.yaml */
} kinds[AGENT_KIND_COUNT] = {
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

/* --- what the rooms share --- */

uint64_t agent_now(const struct agent *agent)
{
	(void)agent; /* the true time, not the loop's: the process may have been stopped */
	return base_clock_us(CLOCK_BOOTTIME);
}

struct message *agent_message(struct agent *agent, enum message_type type)
{
	static struct message message; /* 120 KB: none for the stack */

	(void)agent;
	message.type = type;
	return &message;
}

int agent_send(struct agent *agent, const struct message *message)
{
	int r = channel_send(agent->channel, message);

	/* The engine's end is gone or stuck: on_lost follows. What cannot be encoded is our mistake. */
	if (r == -EINVAL || r == -EMSGSIZE)
		log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS,
			 "a message of type %s is out of bounds and was not sent",
			 message_type_name(message->type));
	return r;
}

void agent_flush_soon(struct agent *agent)
{
	sd_event_source_set_enabled(agent->flush, SD_EVENT_ONESHOT);
}

const char *agent_text(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

int agent_compare_versions(const char *a, const char *b)
{
	size_t left, right;

	if (!is_number(a) || !is_number(b))
		return strcmp(a, b) == 0 ? 0 : 1;
	a += strspn(a, "0");
	b += strspn(b, "0");
	left = strlen(a);
	right = strlen(b);
	return left != right ? (left < right ? -1 : 1) : strcmp(a, b);
}

/* --- trouble, in words --- */

static const char *task_name(enum agent_task task)
{
	if (task < AGENT_TASK_LEASE_WRITE)
		return kinds[task - AGENT_TASK_READ].resource;
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

/* What a person can do about it. */
static const char *advice(enum agent_task task, const struct k8s_response *response)
{
	bool crd = task < AGENT_TASK_LEASE_WRITE ? kinds[task - AGENT_TASK_READ].ours
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
		return strstr(response->message, "certificate")
			       ? ": certificate-authority of the kubeconfig must be the one that "
				 "signed the server's certificate"
			       : "";
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

/* That nothing works at all is told once, not by everybody who notices. */
static bool concerns_all(const struct k8s_response *response)
{
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
		log_line(LOG_WARNING, BASE_REASON_API_UNREACHABLE, LOG_NO_FIELDS,
			 "API server: %s: %s: %s%s (%u times more since the last line)",
			 task_name(task), k8s_result_name(response->result), response->message,
			 advice(task, response), suppressed);
	else
		log_line(LOG_WARNING, BASE_REASON_API_UNREACHABLE, LOG_NO_FIELDS,
			 "API server: %s: %s: %s%s", task_name(task),
			 k8s_result_name(response->result), response->message,
			 advice(task, response));
}

/* --- does the API server answer? --- */

static void step_contact(struct agent *agent);

static void contact_changed(struct agent *agent)
{
	struct message *message = agent_message(agent, MESSAGE_API_CONTACT);

	message->api_contact.reachable = agent->contact.reachable;
	agent_send(agent, message);
	if (!agent->contact.reachable)
		return;
	for (int kind = 0; kind < AGENT_KIND_COUNT; kind++)
		k8s_informer_kick(agent->sources[kind].informer);
	address_book_retry(agent->addresses);
	speaker_retry(agent->speaker);
}

static void on_probe(void *userdata, const struct k8s_response *response)
{
	struct agent *agent = userdata;

	agent->contact.probing = false;
	agent_report(agent, AGENT_TASK_PROBE, response);
	step_contact(agent);
}

static void step_contact(struct agent *agent)
{
	struct k8s_call call = { .method = "GET", .path = "/readyz", .lane = K8S_LANE_LEASE,
				 .timeout_ms = PROBE_MS, .raw = true };
	uint64_t now_us = agent_now(agent), deadline_us;

	if (contact_step(&agent->contact, now_us))
		contact_changed(agent);
	if (agent->client && !agent->stopping &&
	    contact_wants_probe(&agent->contact, now_us)) {
		agent->contact.asked_us = now_us;
		agent->contact.probing = true;
		if (!k8s_client_call(agent->client, &call, on_probe, agent))
			agent->contact.probing = false;
	}
	deadline_us = contact_deadline(&agent->contact);
	sd_event_source_set_enabled(agent->judge, deadline_us == BASE_USEC_NEVER ? SD_EVENT_OFF
									       : SD_EVENT_ONESHOT);
	if (deadline_us != BASE_USEC_NEVER)
		sd_event_source_set_time(agent->judge, deadline_us);
}

static void on_contact(void *userdata, bool answered)
{
	struct agent *agent = userdata;
	bool doubted = agent->contact.failed_us != 0;

	if (contact_note(&agent->contact, answered, agent_now(agent)))
		contact_changed(agent);
	/* The deadline may only have moved away; it is looked at when it comes. */
	if (doubted != (agent->contact.failed_us != 0))
		step_contact(agent);
}

static int on_judge(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	step_contact(userdata);
	return 0;
}

/* --- what there is --- */

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
	if (wish_set_put(agent->wishes, kinds[source->kind].kind, object) == 1)
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
	wish_set_drop(agent->wishes, kinds[source->kind].kind, namespace, name);
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

static void reconfigure(struct agent *agent);

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
		reconfigure(source->agent);
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
	snprintf(path, sizeof path, kinds[kind].path, agent->namespace);
	return k8s_informer_new(&source->informer, agent->client, agent->event, path, NULL, &handlers,
				source);
}

static void on_skipped(void *userdata, const struct base_error *error)
{
	(void)userdata;
	log_line(LOG_WARNING, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS,
		 "%s; what was known of it before stays in force", error->message);
}

static void on_endpoints(void *userdata, const char *virtual_ip)
{
	struct agent *agent = userdata;

	address_book_endpoints(agent->addresses, virtual_ip);
}

/* --- to the engine --- */

static int tell(void *userdata, const struct message *message)
{
	struct agent *agent = userdata;
	int r = agent_send(agent, message);

	if (r < 0)
		return r;
	if (message->type == MESSAGE_ROUTER) {
		lease_book_wished(agent->leases, message->router.name);
	} else if (message->type == MESSAGE_REMOVE && message->remove.kind == MESSAGE_KIND_ROUTER) {
		lease_book_unwished(agent->leases, message->remove.name);
		address_book_unwished(agent->addresses, message->remove.name);
	}
	return 0;
}

/* Nothing is said while a list is incomplete: what is missing would seem to be gone. */
static bool lists_complete(const struct agent *agent)
{
	for (int kind = 0; kind < AGENT_KIND_COUNT; kind++) {
		const struct agent_source *source = &agent->sources[kind];

		if (kind != AGENT_LEASES && source->informer && !source->without &&
		    !k8s_informer_synced(source->informer))
			return false;
	}
	return true;
}

static void synchronise(struct agent *agent)
{
	speaker_tell_settings(agent->speaker);
	agent_send(agent, agent_message(agent, MESSAGE_SYNC_BEGIN));
	wish_set_emit_changes(agent->wishes, tell, agent);
	agent_send(agent, agent_message(agent, MESSAGE_SYNC_END));
	agent->synced = true;
	log_line(LOG_INFO, BASE_REASON_CONFIGURED, LOG_NO_FIELDS,
		 "everything the API server knows has been told to the engine");
}

static int on_flush(sd_event_source *source, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	if (!agent->client)
		return 0;
	if (wish_set_wants_vms(agent->wishes) && !agent->sources[AGENT_VMS].informer)
		start_informer(agent, AGENT_VMS);
	if (!agent->synced && lists_complete(agent))
		synchronise(agent);
	else if (agent->synced)
		wish_set_emit_changes(agent->wishes, tell, agent);
	if (agent->synced) {
		lease_book_flush(agent->leases);
		liveness_flush(agent->liveness);
	}
	if (sd_event_source_get_enabled(agent->trim, NULL) == 0) {
		sd_event_source_set_time_relative(agent->trim, TRIM_US);
		sd_event_source_set_enabled(agent->trim, SD_EVENT_ONESHOT);
	}
	address_book_flush(agent->addresses);
	speaker_flush(agent->speaker);
	event_queue_flush(agent->events);
	if (agent->stopping && !address_book_busy(agent->addresses) &&
	    !speaker_busy(agent->speaker) && lease_book_writing(agent->leases) == 0)
		return sd_event_exit(agent->event, 0);
	return 0;
}

/* After a burst of work what it took is given back. */
static int on_trim(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	(void)userdata;
	malloc_trim(0);
	return 0;
}

/* --- from the engine --- */

static int on_stop_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	(void)usec;
	return sd_event_exit(agent->event, 0);
}

static void shut_down(struct agent *agent)
{
	if (agent->stopping)
		return;
	agent->stopping = true;
	if (!agent->client || !agent->synced || !agent->contact.reachable) {
		sd_event_exit(agent->event, 0);
		return;
	}
	address_book_stop(agent->addresses);
	speaker_stop(agent->speaker);
	liveness_stop(agent->liveness);
	sd_event_source_set_time(agent->stop_limit, agent_now(agent) + STOP_US);
	sd_event_source_set_enabled(agent->stop_limit, SD_EVENT_ONESHOT);
	agent_flush_soon(agent);
}

static void on_message(void *userdata, const struct message *message)
{
	struct agent *agent = userdata;

	switch (message->type) {
	case MESSAGE_HELLO:
		return;
	case MESSAGE_LEASE_WRITE:
		if (agent->client)
			lease_book_write(agent->leases, &message->lease_write);
		return;
	case MESSAGE_LEASE_READ:
		if (agent->client)
			lease_book_read(agent->leases, message->lease_read.router);
		return;
	case MESSAGE_ROUTER_STATUS:
		address_book_status(agent->addresses, &message->router_status);
		return;
	case MESSAGE_NODE_STATUS:
		speaker_status(agent->speaker, &message->node_status);
		return;
	case MESSAGE_TRANSITION:
		address_book_transition(agent->addresses, &message->transition);
		event_queue_transition(agent->events, &message->transition);
		return;
	case MESSAGE_SHUTDOWN:
		shut_down(agent);
		return;
	case MESSAGE_ALIVE:
		liveness_engine(agent->liveness);
		return;
	case MESSAGE_PROBE_RESULT:
		lookout_result(agent->lookout, &message->probe_result);
		return;
	case MESSAGE_FAULT_REFUSED:
		victim_refused(agent->victim, &message->fault_refused);
		return;
	case MESSAGE_SYNC_BEGIN:
	case MESSAGE_SYNC_END:
	case MESSAGE_NODE:
	case MESSAGE_ROUTER:
	case MESSAGE_SERVICE_PORT:
	case MESSAGE_REMOVE:
	case MESSAGE_LEASE:
	case MESSAGE_LEASE_RESULT:
	case MESSAGE_API_CONTACT:
	case MESSAGE_ORDER:
	case MESSAGE_SETTINGS:
	case MESSAGE_RENEWAL:
	case MESSAGE_PROBE:
	case MESSAGE_FAULT:
	case MESSAGE_TYPE_COUNT:
		return; /* not for an engine to say */
	}
}

static void on_lost(void *userdata, int error)
{
	struct agent *agent = userdata;

	(void)error;
	sd_event_exit(agent->event, 1);
}

/* --- start and end --- */

static int start_informers(struct agent *agent)
{
	int r = 0;

	for (int kind = 0; kind < AGENT_KIND_COUNT && r >= 0; kind++)
		if (kind != AGENT_VMS)
			r = start_informer(agent, (enum agent_kind)kind);
	return r;
}

static int configure(struct agent *agent, struct k8s_config *config)
{
	struct base_error error = { 0 };
	int r;

	agent->configured_us = agent_now(agent);
	if (agent->held.server) {
		*config = agent->held;
		memset(&agent->held, 0, sizeof agent->held);
		return 0;
	}
	if (agent->held_only)
		return -EACCES; /* said when they were read */
	r = k8s_config_load(config, agent->kubeconfig, NULL, &error);
	if (r < 0 && log_gate_pass(&agent->transport_gate, NULL))
		log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS, "%s%s",
			 error.message[0] ? error.message : strerror(-r),
			 agent->client ? "; the configuration read before stays in force" : "");
	return r;
}

/* The next one is root when it starts, and reads them: see identity.c. */
static void start_again(struct agent *agent)
{
	log_line(LOG_NOTICE, BASE_REASON_NONE, LOG_NO_FIELDS,
		 "the agent starts again to read its credentials");
	sd_event_exit(agent->event, 0);
}

/* Credentials that stand in the kubeconfig itself may have been replaced there. */
static void reconfigure(struct agent *agent)
{
	uint64_t pause_us = agent->held_only ? HELD_US : CONFIGURE_US;
	struct k8s_config config;

	if (base_usec_since(agent_now(agent), agent->configured_us) < pause_us)
		return;
	if (agent->held_only) {
		start_again(agent);
		return;
	}
	if (configure(agent, &config) >= 0)
		k8s_client_configure(agent->client, &config);
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	(void)info;
	agent->configured_us = 0;
	if (agent->client)
		reconfigure(agent);
	return 0;
}

static void on_warning(void *userdata, const char *text)
{
	(void)userdata;
	log_line(LOG_WARNING, BASE_REASON_NONE, LOG_NO_FIELDS, "the API server warns: %s", text);
}

static int connect_to_api(struct agent *agent)
{
	struct k8s_config config;
	int r = configure(agent, &config);

	if (r < 0)
		return r;
	r = k8s_client_new(&agent->client, agent->event, &config,
			   "vipd-speaker/" VIPD_VERSION " (linux)", on_contact, agent);
	if (r < 0)
		return r;
	k8s_client_on_warning(agent->client, on_warning, agent);
	k8s_client_count(agent->client, &counters_own()->api);
	return start_informers(agent);
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;

	if (agent->held_only && agent->configured_us) {
		start_again(agent); /* they were of no use, and only a new process can read more */
		return 0;
	}
	if (connect_to_api(agent) < 0) {
		sd_event_source_set_time(source, usec + CONFIGURE_US);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	return 0;
}

static int add_timer(struct agent *agent, sd_event_source **source,
		     sd_event_time_handler_t handler, uint64_t when_us)
{
	int r = sd_event_add_time(agent->event, source, CLOCK_BOOTTIME, when_us,
				  BASE_USEC_PER_MSEC, handler, agent);

	if (r >= 0 && when_us == BASE_USEC_NEVER)
		r = sd_event_source_set_enabled(*source, SD_EVENT_OFF);
	return r;
}

static int start(struct agent *agent)
{
	static const struct channel_handlers handlers = { on_message, on_lost };
	int r = sd_event_default(&agent->event);

	contact_init(&agent->contact, agent_now(agent));
	agent->wishes = wish_set_new(true);
	if (!agent->wishes)
		return -ENOMEM;
	wish_set_on_skipped(agent->wishes, on_skipped, agent);
	wish_set_on_endpoints(agent->wishes, on_endpoints, agent);
	if (r >= 0)
		r = channel_new(&agent->channel, agent->event, CHANNEL_FD, PRIORITY_CHANNEL,
				&handlers, agent);
	if (r >= 0)
		r = sd_event_add_defer(agent->event, &agent->flush, on_flush, agent);
	if (r >= 0)
		r = sd_event_source_set_priority(agent->flush, PRIORITY_FLUSH);
	if (r >= 0)
		r = add_timer(agent, &agent->judge, on_judge, BASE_USEC_NEVER);
	if (r >= 0)
		r = add_timer(agent, &agent->stop_limit, on_stop_limit, BASE_USEC_NEVER);
	if (r >= 0)
		r = add_timer(agent, &agent->trim, on_trim, BASE_USEC_NEVER);
	if (r >= 0)
		r = sd_event_add_signal(agent->event, NULL, SIGHUP, on_hangup, agent);
	if (r >= 0)
		r = lease_book_new(&agent->leases, agent);
	if (r >= 0)
		r = address_book_new(&agent->addresses, agent);
	if (r >= 0)
		r = speaker_new(&agent->speaker, agent);
	if (r >= 0)
		r = liveness_new(&agent->liveness, agent);
	if (r >= 0)
		r = lookout_new(&agent->lookout, agent);
	if (r >= 0)
		r = victim_new(&agent->victim, agent);
	if (r >= 0)
		r = event_queue_new(&agent->events, agent);
	return r;
}

static void stop(struct agent *agent)
{
	for (int kind = 0; kind < AGENT_KIND_COUNT; kind++)
		k8s_informer_free(agent->sources[kind].informer);
	event_queue_free(agent->events);
	liveness_free(agent->liveness);
	lookout_free(agent->lookout);
	victim_free(agent->victim);
	speaker_free(agent->speaker);
	address_book_free(agent->addresses);
	lease_book_free(agent->leases);
	k8s_client_free(agent->client);
	channel_free(agent->channel);
	wish_set_free(agent->wishes);
	sd_event_source_disable_unref(agent->flush);
	sd_event_source_disable_unref(agent->judge);
	sd_event_source_disable_unref(agent->stop_limit);
	sd_event_source_disable_unref(agent->trim);
	sd_event_unref(agent->event);
}

/* Little memory is what a node has for us: one arena, and what is freed goes back. */
static void tune_memory(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024);
}

int agent_check(const char *kubeconfig)
{
	struct base_error error = { 0 };
	struct k8s_config config;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		int r = k8s_config_load(&config, kubeconfig, NULL, &error);

		if (r < 0)
			fprintf(stderr, "cannot use the kubeconfig: %s\n",
				error.message[0] ? error.message : strerror(-r));
		_exit(r < 0 ? 1 : 0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

int agent_main(int argc, char **argv)
{
	static struct agent agent;
	const struct option_spec specs[] = {
		{ "node", &agent.node, false, "NAME", "this node" },
		{ "kubeconfig", &agent.kubeconfig, false, "FILE", "how to reach the API server" },
		{ "namespace", &agent.namespace, false, "NAME", "where the Leases are" },
		{ NULL, NULL, false, NULL, NULL },
	};
	struct message_hello *hello;
	sd_event_source *reconnect = NULL;
	sigset_t blocked;
	int r;

	agent.namespace = NAMESPACE;
	r = options_parse(argc, argv, "vipd agent (run by vipd speaker)", specs);
	if (r < 0 || !agent.node)
		return 2;
	tune_memory();
	scratch_install();
	log_open("agent", agent.node);
	agent.held_only = agent_drop_privileges(agent.kubeconfig, &agent.held) > 0;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = start(&agent);
	if (r < 0)
		return 1;
	hello = &agent_message(&agent, MESSAGE_HELLO)->hello;
	memset(hello, 0, sizeof *hello);
	snprintf(hello->node, sizeof hello->node, "%s", agent.node);
	snprintf(hello->program, sizeof hello->program, "vipd %s agent", VIPD_VERSION);
	agent_send(&agent, agent_message(&agent, MESSAGE_HELLO));
	r = sd_event_add_time_relative(agent.event, &reconnect, CLOCK_BOOTTIME, 0,
				       BASE_USEC_PER_MSEC, on_reconnect, &agent);
	if (r >= 0)
		r = sd_event_loop(agent.event);
	sd_event_source_disable_unref(reconnect);
	stop(&agent);
	return r < 0 ? 1 : r;
}
