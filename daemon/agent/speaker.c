#include "daemon/agent/speaker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/agent/leases.h"
#include "daemon/agent/status.h"
#include "k8s/object.h"

#define WRITE_EVERY_US	BASE_USEC_PER_SEC
#define COUNTED_US	(3 * BASE_USEC_PER_SEC) /* after a start addresses come back one by one */
#define RETRY_FIRST_US	BASE_USEC_PER_SEC
#define RETRY_MAX_US	(30 * BASE_USEC_PER_SEC)
#define WRITE_MS	10000

struct speaker {
	struct agent *agent;
	bool exists, told, due, ending;
	bool answered; /* the first request, whatever the answer was */
	bool maintenance, excluded;
	char *status;	/* as it stands in the API, JSON */
	char *uid, *node_uid;
	bool status_known; /* the engine's */
	bool said_ready;
	struct message_node_status wanted;
	struct k8s_request *request;
	sd_event_source *timer;
	uint64_t next_us, retry_us, counted_us;
};

static bool is_mine(const struct speaker *speaker, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");

	return strcmp(agent_text(metadata, "name"), speaker->agent->node) == 0;
}

static void set_due(struct speaker *speaker)
{
	speaker->due = true;
	agent_flush_soon(speaker->agent);
}

/* --- the object --- */

static void take(struct speaker *speaker, const cJSON *object)
{
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(object, "spec");
	const cJSON *status = cJSON_GetObjectItemCaseSensitive(object, "status");
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");

	speaker->exists = true;
	free(speaker->status);
	speaker->status = k8s_object_print(status);
	free(speaker->uid);
	speaker->uid = strdup(agent_text(metadata, "uid"));
	speaker->maintenance =
		cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(spec, "maintenance"));
	speaker->excluded = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(spec, "excluded"));
}

static void send_settings(struct speaker *speaker)
{
	struct message *message = agent_message(speaker->agent, MESSAGE_SETTINGS);

	message->settings.maintenance = speaker->maintenance;
	message->settings.excluded = speaker->excluded;
	agent_send(speaker->agent, message);
}

void speaker_tell_settings(struct speaker *speaker)
{
	speaker->told = true;
	send_settings(speaker);
	set_due(speaker);
}

void speaker_object(struct speaker *speaker, const cJSON *object)
{
	bool maintenance = speaker->maintenance, excluded = speaker->excluded;

	if (!is_mine(speaker, object))
		return;
	take(speaker, object);
	if (speaker->told &&
	    (speaker->maintenance != maintenance || speaker->excluded != excluded))
		send_settings(speaker);
	set_due(speaker);
}

void speaker_gone(struct speaker *speaker, const char *name)
{
	if (strcmp(name, speaker->agent->node) != 0)
		return;
	speaker->exists = false;
	free(speaker->status);
	speaker->status = NULL;
	if (speaker->told && (speaker->maintenance || speaker->excluded)) {
		speaker->maintenance = speaker->excluded = false;
		send_settings(speaker);
	}
	set_due(speaker);
}

void speaker_node(struct speaker *speaker, const cJSON *node)
{
	if (!is_mine(speaker, node))
		return;
	free(speaker->node_uid);
	speaker->node_uid = strdup(
		agent_text(cJSON_GetObjectItemCaseSensitive(node, "metadata"), "uid"));
}

/* --- its status --- */

static const char *const fences[MESSAGE_FENCE_COUNT] = {
	[MESSAGE_FENCE_NONE] = "none",
	[MESSAGE_FENCE_OWNER_TABLE] = "owner-table",
	[MESSAGE_FENCE_LOOPBACK] = "loopback",
	[MESSAGE_FENCE_EGRESS] = "egress",
};
static const char *const dataplanes[MESSAGE_DATAPLANE_COUNT] = {
	[MESSAGE_DATAPLANE_AUTO] = "auto",
	[MESSAGE_DATAPLANE_DIRECTOR] = "director",
	[MESSAGE_DATAPLANE_NAT] = "nat",
	[MESSAGE_DATAPLANE_ANNOUNCE] = "announce",
};

static cJSON *make_strangers(const struct message_segment *segment)
{
	cJSON *list = cJSON_CreateArray();

	for (uint32_t i = 0; i < segment->stranger_count; i++) {
		cJSON *item = cJSON_CreateObject();
		char text[BASE_ADDRESS_TEXT_SIZE];

		cJSON_AddNumberToObject(item, "id", segment->strangers[i].virtual_router_id);
		cJSON_AddStringToObject(item, "address",
					base_address_format(&segment->strangers[i].source, text));
		cJSON_AddItemToArray(list, item);
	}
	return list;
}

static cJSON *make_segments(const struct message_node_status *status)
{
	cJSON *list = cJSON_CreateArray();

	for (uint32_t i = 0; i < status->segment_count; i++) {
		const struct message_segment *segment = &status->segments[i];
		struct base_mac mac;
		char text[BASE_PREFIX_TEXT_SIZE], mac_text[BASE_MAC_TEXT_SIZE];
		cJSON *item = cJSON_CreateObject();

		memcpy(mac.bytes, segment->mac, sizeof mac.bytes);
		cJSON_AddStringToObject(item, "interface", segment->interface);
		cJSON_AddStringToObject(item, "prefix", base_prefix_format(&segment->prefix, text));
		cJSON_AddStringToObject(item, "address",
					base_address_format(&segment->address, text));
		cJSON_AddStringToObject(item, "mac", base_mac_format(&mac, mac_text));
		if (segment->gateway.family != BASE_FAMILY_NONE)
			cJSON_AddStringToObject(item, "gateway",
						base_address_format(&segment->gateway, text));
		cJSON_AddBoolToObject(item, "up", segment->up);
		if (segment->stranger_count > 0)
			cJSON_AddItemToObject(item, "foreignVirtualRouters",
					      make_strangers(segment));
		cJSON_AddItemToArray(list, item);
	}
	return list;
}

/* True unless the engine says why not. */
static void add_unless(cJSON *list, const cJSON *old, const char *type, enum base_reason reason, const char *why_not,
		       const char *well, const char *now)
{
	cJSON_AddItemToArray(list, status_condition(old, type, !*why_not, *why_not ? reason : BASE_REASON_AS_EXPECTED,
						    *why_not ? why_not : well, now));
}

static void add_conditions(const struct speaker *speaker, const cJSON *existing, cJSON *wanted)
{
	const struct message_node_status *status = &speaker->wanted;
	const cJSON *old = cJSON_GetObjectItemCaseSensitive(existing, "conditions");
	bool ready = status->ready && !speaker->ending;
	bool fenced = status->fence != MESSAGE_FENCE_NONE;
	cJSON *list = cJSON_AddArrayToObject(wanted, "conditions");
	char now[40];

	wall_time(now, 0, false);
	cJSON_AddItemToArray(
		list, status_condition(old, "Ready", ready,
				       speaker->ending ? BASE_REASON_STOPPED
				       : ready	       ? BASE_REASON_AS_EXPECTED
						       : BASE_REASON_KERNEL_REFUSED,
				       speaker->ending	   ? "the speaker was stopped"
				       : status->message[0] ? status->message
				       : ready ? "everything that is wanted is known and in place"
					       : "not everything that is wanted is in place yet",
				       now));
	cJSON_AddItemToArray(
		list,
		status_condition(old, "SafeToReboot", status->safe_to_reboot,
				 status->safe_to_reboot ? BASE_REASON_MAINTENANCE
							: BASE_REASON_AS_EXPECTED,
				 status->safe_to_reboot
					 ? "in maintenance; the node owns nothing"
				 : speaker->maintenance
					 ? "in maintenance; not everything is handed over yet"
					 : "the node owns addresses or may take some: set "
					   "spec.maintenance first",
				 now));
	cJSON_AddItemToArray(list, status_condition(old, "APIReachable", true,
						    BASE_REASON_API_REACHABLE,
						    "the node could write this", now));
	cJSON_AddItemToArray(list,
			     status_condition(old, "Fenced", fenced,
					      fenced ? BASE_REASON_AS_EXPECTED
						     : BASE_REASON_UNSUPPORTED_FEATURE,
					      fenced ? "the kernel stops answering by itself when "
						       "the speaker fails"
						     : "the kernel has no fence: two nodes may "
						       "answer for an address",
					      now));
	cJSON_AddItemToArray(
		list, status_condition(old, "MetricsServed", !status->unshown,
				       status->unshown ? BASE_REASON_KERNEL_REFUSED
						       : BASE_REASON_AS_EXPECTED,
				       status->unshown
					       ? "another program has the port of --metrics-listen: "
						 "no metrics, addresses are served all the same"
					       : "the page with the metrics is there, or not wanted",
				       now));
	cJSON_AddItemToArray(
		list, status_condition(old, "DataplaneProgrammed", status->programmed,
				       status->programmed ? BASE_REASON_AS_EXPECTED
							  : BASE_REASON_KERNEL_REFUSED,
				       status->programmed ? "the rules wanted are those in the kernel"
				       : status->message[0]
					       ? status->message
					       : "the rules wanted are not in the kernel",
				       now));
	add_unless(list, old, "RemoteClientsServed", BASE_REASON_NO_WAY_BACK, status->no_way_back,
		   "clients beyond the LAN are answered by way of the LAN", now);
	add_unless(list, old, "ConnectionsTracked", BASE_REASON_CONNECTIONS_UNTRACKED, status->untracked,
		   "connections are tracked as addresses need it", now);
	add_unless(list, old, "AdvertsHeard", BASE_REASON_ADVERTS_UNHEARD, status->unheard,
		   "adverts of others reach this node", now);
	add_unless(list, old, "RemoteEndpointsServed", BASE_REASON_BRIDGE_IN_THE_WAY, status->in_the_way,
		   "no bridge keeps this node from VMs of other nodes", now);
}

static cJSON *make_patch(const struct speaker *speaker, bool counted)
{
	const struct message_node_status *status = &speaker->wanted;
	cJSON *existing = speaker->status ? cJSON_Parse(speaker->status) : NULL;
	cJSON *wanted = cJSON_CreateObject(), *patch = cJSON_CreateObject();
	cJSON *changes = cJSON_AddObjectToObject(patch, "status");

	cJSON_AddItemToObject(wanted, "segments", make_segments(status));
	if (counted) {
		cJSON_AddNumberToObject(wanted, "owned", status->owned);
		cJSON_AddNumberToObject(wanted, "eligible", status->eligible);
	}
	cJSON_AddStringToObject(wanted, "fence", fences[status->fence]);
	cJSON_AddStringToObject(wanted, "dataplane", dataplanes[status->dataplane]);
	cJSON_AddStringToObject(wanted, "version", VIPD_VERSION);
	add_conditions(speaker, existing, wanted);
	status_difference(existing, wanted, changes);
	cJSON_Delete(wanted);
	cJSON_Delete(existing);
	if (changes->child)
		return patch;
	cJSON_Delete(patch);
	return NULL;
}

void speaker_status(struct speaker *speaker, const struct message_node_status *status)
{
	if (!speaker->status_known || speaker->wanted.owned != status->owned ||
	    speaker->wanted.eligible != status->eligible)
		speaker->counted_us = agent_now(speaker->agent);
	speaker->wanted = *status;
	speaker->status_known = true;
	set_due(speaker);
}

/* --- requests --- */

static void on_answer(void *userdata, const struct k8s_response *response)
{
	struct speaker *speaker = userdata;
	uint64_t now_us = agent_now(speaker->agent);

	speaker->request = NULL;
	speaker->answered = true;
	set_due(speaker);
	if (response->result == K8S_RESULT_OK) {
		agent_report(speaker->agent, AGENT_TASK_SPEAKER, response);
		speaker->retry_us = 0;
		take(speaker, response->body);
		return;
	}
	if (response->result == K8S_RESULT_EXISTS)
		return; /* the watch brings it */
	if (response->result == K8S_RESULT_NOT_FOUND && speaker->exists) {
		speaker->exists = false; /* deleted meanwhile: made again */
		return;
	}
	agent_report(speaker->agent, AGENT_TASK_SPEAKER, response);
	speaker->retry_us = speaker->retry_us ? speaker->retry_us * 2 : RETRY_FIRST_US;
	if (speaker->retry_us > RETRY_MAX_US)
		speaker->retry_us = RETRY_MAX_US;
	speaker->next_us = now_us + (response->retry_after_us > speaker->retry_us
					     ? response->retry_after_us
					     : speaker->retry_us);
}

/* Gone with its Node: nobody else would clear it away. */
static cJSON *make_owners(const char *api, const char *kind, const char *name, const char *uid)
{
	cJSON *list = cJSON_CreateArray(), *owner = cJSON_CreateObject();

	cJSON_AddStringToObject(owner, "apiVersion", api);
	cJSON_AddStringToObject(owner, "kind", kind);
	cJSON_AddStringToObject(owner, "name", name);
	cJSON_AddStringToObject(owner, "uid", uid);
	cJSON_AddItemToArray(list, owner);
	return list;
}

cJSON *speaker_owners(const struct speaker *speaker)
{
	return speaker->exists && speaker->uid
		       ? make_owners("vipd.dev/v1alpha1", "Speaker", speaker->agent->node,
				     speaker->uid)
		       : NULL;
}

static void create(struct speaker *speaker)
{
	struct k8s_call call = { .method = "POST", .path = AGENT_GROUP "/speakers",
				 .timeout_ms = WRITE_MS };
	cJSON *body = cJSON_CreateObject(), *metadata;

	cJSON_AddStringToObject(body, "apiVersion", "vipd.dev/v1alpha1");
	cJSON_AddStringToObject(body, "kind", "Speaker");
	metadata = cJSON_AddObjectToObject(body, "metadata");
	cJSON_AddStringToObject(metadata, "name", speaker->agent->node);
	if (speaker->node_uid)
		cJSON_AddItemToObject(metadata, "ownerReferences",
				      make_owners("v1", "Node", speaker->agent->node,
						  speaker->node_uid));
	cJSON_AddObjectToObject(body, "spec");
	call.body = body;
	speaker->request = k8s_client_call(speaker->agent->client, &call, on_answer, speaker);
	cJSON_Delete(body);
}

bool speaker_settled(struct speaker *speaker)
{
	if (speaker->exists || speaker->answered || speaker->ending)
		return true;
	if (!speaker->request)
		create(speaker);
	return !speaker->request;
}

static void write_status(struct speaker *speaker, cJSON *patch)
{
	struct k8s_call call = { .method = "PATCH", .body = patch, .timeout_ms = WRITE_MS,
				 .content_type = "application/merge-patch+json" };
	char path[256];

	snprintf(path, sizeof path, AGENT_GROUP "/speakers/%s/status?fieldManager=vipd-speaker",
		 speaker->agent->node);
	call.path = path;
	speaker->request = k8s_client_call(speaker->agent->client, &call, on_answer, speaker);
	speaker->said_ready = speaker->wanted.ready;
}

/*
 * The next second, as a rule. That it is ready is said at once: until then it becomes a candidate of no new
 * address, which would have no heir if the API server fell silent meanwhile. So is the last word of one that
 * ends; but what was refused is not asked again at once.
 */
static uint64_t due_us(const struct speaker *speaker)
{
	bool urgent = !speaker->retry_us &&
		      (speaker->ending || (speaker->wanted.ready && !speaker->said_ready));

	return urgent ? 0 : speaker->next_us;
}

static void wake_at(struct speaker *speaker, uint64_t when_us)
{
	sd_event_source_set_time(speaker->timer, when_us);
	sd_event_source_set_enabled(speaker->timer, SD_EVENT_ONESHOT);
}

void speaker_flush(struct speaker *speaker)
{
	uint64_t now_us = agent_now(speaker->agent);
	bool counted = speaker->ending || base_usec_since(now_us, speaker->counted_us) >= COUNTED_US;
	cJSON *patch;

	if (!speaker->due || speaker->request || !speaker->agent->synced)
		return;
	if (now_us < due_us(speaker)) {
		wake_at(speaker, speaker->next_us);
		return;
	}
	speaker->due = false;
	if (!speaker->exists) {
		if (!speaker->ending)
			create(speaker);
		return;
	}
	patch = speaker->status_known ? make_patch(speaker, counted) : NULL;
	if (!patch && counted)
		return;
	if (patch)
		write_status(speaker, patch);
	cJSON_Delete(patch);
	speaker->next_us = now_us + WRITE_EVERY_US;
	if (!counted) {
		speaker->due = true;
		wake_at(speaker, speaker->next_us);
	}
}

void speaker_retry(struct speaker *speaker)
{
	if (speaker->retry_us)
		speaker->next_us = 0;
	speaker->retry_us = 0;
	agent_flush_soon(speaker->agent);
}

void speaker_stop(struct speaker *speaker)
{
	speaker->ending = true;
	set_due(speaker);
}

bool speaker_busy(const struct speaker *speaker)
{
	return speaker->request || (speaker->due && speaker->agent->synced);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct speaker *speaker = userdata;

	(void)source;
	(void)usec;
	agent_flush_soon(speaker->agent);
	return 0;
}

int speaker_new(struct speaker **speaker, struct agent *agent)
{
	struct speaker *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -1;
	new->agent = agent;
	r = sd_event_add_time(agent->event, &new->timer, CLOCK_BOOTTIME, UINT64_MAX,
			      BASE_USEC_PER_MSEC, on_timer, new);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->timer, SD_EVENT_OFF);
	*speaker = new;
	return r;
}

void speaker_free(struct speaker *speaker)
{
	if (!speaker)
		return;
	k8s_request_cancel(speaker->request);
	sd_event_source_disable_unref(speaker->timer);
	free(speaker->status);
	free(speaker->uid);
	free(speaker->node_uid);
	free(speaker);
}
