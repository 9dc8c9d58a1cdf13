#include "daemon/controller/drills.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/controller/drill.h"
#include "k8s/object.h"

#define GROUP       "/apis/vipd.dev/v1alpha1"
#define STEP_US     (200 * BASE_USEC_PER_MSEC)
#define RETRY_US    (1 * BASE_USEC_PER_SEC)
#define BEGIN_US    (6 * BASE_USEC_PER_SEC)  /* for lookers-on to begin */
#define PATIENCE_US (2 * BASE_USEC_PER_SEC)  /* with those that do not, if another one did */
#define END_US      (10 * BASE_USEC_PER_SEC) /* after the probing should have ended */
#define EXPIRES_S   20
#define NODES_MAX   512

struct looker {
	struct looker *next;
	char node[DRILL_NAME_SIZE];
	char ordered[96]; /* id of the order in its status */
	cJSON *probe;     /* status.probe; NULL: none */
};

struct drill {
	struct drill *next;
	struct drills *drills;
	char name[DRILL_NAME_SIZE];
	cJSON *object;
	bool busy, gone;         /* a request of it is under way; it was deleted meanwhile */
	unsigned asked;          /* probers whose order was written by us */
	enum base_reason reason; /* to be told when the status is written; NONE: nothing */
	char note[300];
};

struct drills {
	struct reconciler *reconciler;
	struct drill *list;
	struct looker *lookers;
	sd_event_source *timer;
	struct trouble trouble;
};

/* --- what is known --- */

static struct looker *looker_of(struct drills *drills, const char *node, bool make)
{
	struct looker *looker = drills->lookers;

	while (looker && strcmp(looker->node, node) != 0)
		looker = looker->next;
	if (looker || !make)
		return looker;
	looker = calloc(1, sizeof *looker);
	if (!looker)
		return NULL;
	snprintf(looker->node, sizeof looker->node, "%s", node);
	looker->next = drills->lookers;
	drills->lookers = looker;
	return looker;
}

/* Of a node: what it said about this run; NULL: nothing yet. */
static const cJSON *said(struct drills *drills, const char *node, const char *id)
{
	struct looker *looker = looker_of(drills, node, false);

	return looker && strcmp(k8s_object_text(looker->probe, "id"), id) == 0 ? looker->probe
									       : NULL;
}

static bool is_done(const cJSON *probe)
{
	return strcmp(k8s_object_text(probe, "state"), "Done") == 0;
}

static double decimal(const cJSON *object, const char *path)
{
	const cJSON *item = k8s_object_get(object, path);

	return cJSON_IsNumber(item) && item->valuedouble >= 0 ? item->valuedouble : 0;
}

static bool leads(const struct drills *drills)
{
	return drills->reconciler->state->ipam &&
	       drills->reconciler->leads(drills->reconciler->userdata);
}

static void forget(struct drill *drill)
{
	struct drill **slot = &drill->drills->list;

	while (*slot != drill)
		slot = &(*slot)->next;
	*slot = drill->next;
	cJSON_Delete(drill->object);
	free(drill);
}

/* --- requests --- */

static void step_soon(struct drills *drills, uint64_t wait_us)
{
	sd_event_source_set_time_relative(drills->timer, wait_us);
	sd_event_source_set_enabled(drills->timer, SD_EVENT_ONESHOT);
}

/* The request of a drill has its answer; false: the drill is of no interest any more. */
static bool answered(struct drill *drill, const struct k8s_response *response, const char *doing)
{
	drill->busy = false;
	step_soon(drill->drills, response->result == K8S_RESULT_OK ? 0 : RETRY_US);
	if (drill->gone) {
		forget(drill);
		return false;
	}
	if (response->result == K8S_RESULT_OK)
		trouble_over(&drill->drills->trouble, doing);
	else if (response->result != K8S_RESULT_NOT_FOUND &&
		 response->result != K8S_RESULT_CONFLICT)
		trouble_report(&drill->drills->trouble, doing, response);
	return true;
}

static void send_request(struct drill *drill, const char *method, const char *path, cJSON *body,
			 k8s_done_fn *done)
{
	drill->busy = true;
	writer_send(drill->drills->reconciler->writer, method, path, body ? MERGE_PATCH : NULL,
		    body, done, drill);
}

static void tell(struct drill *drill)
{
	const struct base_reason_info *info = base_reason_info(drill->reason);
	struct events_subject subject = { .api = "vipd.dev/v1alpha1",
					  .kind = "FailoverDrill",
					  .name = drill->name,
					  .uid = k8s_object_text(drill->object, "metadata/uid") };

	if (drill->reason == BASE_REASON_NONE)
		return;
	log_line(info->severity == BASE_SEVERITY_WARNING ? LOG_WARNING : LOG_NOTICE, drill->reason,
		 LOG_NO_FIELDS, "drill %s: %s", drill->name, drill->note);
	events_say(drill->drills->reconciler->events, &subject, drill->reason, "Drill",
		   drill->note);
	events_pump(drill->drills->reconciler->events);
	drill->reason = BASE_REASON_NONE;
}

static void on_status(void *userdata, const struct k8s_response *response)
{
	struct drill *drill = userdata;

	if (!answered(drill, response, "writing the status of a FailoverDrill") ||
	    response->result != K8S_RESULT_OK || !response->body)
		return;
	drills_put(drill->drills, response->body);
	tell(drill);
}

/* Takes `status`. Only over the version that was decided upon. */
static void write_status(struct drill *drill, cJSON *status)
{
	cJSON *body = cJSON_CreateObject(), *metadata = cJSON_AddObjectToObject(body, "metadata");
	char path[512];

	cJSON_AddStringToObject(metadata, "resourceVersion",
				k8s_object_text(drill->object, "metadata/resourceVersion"));
	cJSON_AddItemToObject(body, "status", status);
	snprintf(path, sizeof path, GROUP "/failoverdrills/%s/status", drill->name);
	send_request(drill, "PATCH", path, body, on_status);
}

/* --- the end of a run --- */

static cJSON *make_run(const struct drill *drill, enum drill_verdict verdict,
		       const struct drill_measure *measure, const char *message)
{
	const cJSON *run = k8s_object_get(drill->object, "status/run");
	cJSON *made = cJSON_CreateObject();
	char now[K8S_TIME_SIZE];
	const char *const copied[] = { "started", "virtualIP", "from", "to" };

	for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
		if (*k8s_object_text(run, copied[i]))
			cJSON_AddStringToObject(made, copied[i], k8s_object_text(run, copied[i]));
	k8s_time_format(now, reconciler_wall(), false);
	cJSON_AddStringToObject(made, "finished", now);
	cJSON_AddStringToObject(made, "verdict", drill_verdict_word(verdict));
	cJSON_AddStringToObject(made, "message", message);
	if (!measure || measure->probers == 0)
		return made;
	cJSON_AddNumberToObject(made, "outageMilliseconds", measure->outage_ms);
	cJSON_AddNumberToObject(made, "answeredByTwoMilliseconds", measure->two_ms);
	cJSON_AddNumberToObject(made, "probesSent", (double)measure->sent);
	cJSON_AddNumberToObject(made, "probesLost", (double)measure->lost);
	return made;
}

static void finish(struct drill *drill, enum drill_verdict verdict,
		   const struct drill_measure *measure, const char *message)
{
	static const enum base_reason reasons[] = {
		[DRILL_VERDICT_SUCCEEDED] = BASE_REASON_DRILL_SUCCEEDED,
		[DRILL_VERDICT_FAILED] = BASE_REASON_DRILL_FAILED,
		[DRILL_VERDICT_REFUSED] = BASE_REASON_DRILL_REFUSED,
	};
	const cJSON *before = k8s_object_get(drill->object, "status/runs");
	cJSON *status = cJSON_CreateObject(), *runs, *run;
	char target[DRILL_NAME_SIZE];

	drill->reason = reasons[verdict];
	snprintf(drill->note, sizeof drill->note, "%s", message);
	run = make_run(drill, verdict, measure, message);
	runs = before ? cJSON_Duplicate(before, true) : cJSON_CreateArray();
	while (cJSON_GetArraySize(runs) >= DRILL_RUNS_MAX)
		cJSON_DeleteItemFromArray(runs, 0);
	cJSON_AddItemToArray(runs, cJSON_Duplicate(run, true));
	drill_target(drill->object, target);
	cJSON_AddStringToObject(status, "target", target);
	cJSON_AddStringToObject(status, "phase", drill_verdict_word(verdict));
	cJSON_AddNumberToObject(status, "observedGeneration",
				decimal(drill->object, "metadata/generation"));
	/* Of `last` nothing of the run before may stay. */
	for (const char *const *name =
		     (const char *const[]){ "from", "to", "virtualIP", "started",
					    "outageMilliseconds", "probesSent", "probesLost",
					    "answeredByTwoMilliseconds", NULL };
	     *name; name++)
		if (!cJSON_GetObjectItemCaseSensitive(run, *name))
			cJSON_AddNullToObject(run, *name);
	cJSON_AddItemToObject(status, "last", run);
	cJSON_AddItemToObject(status, "runs", runs);
	cJSON_AddNullToObject(status, "run");
	write_status(drill, status);
}

static void measure_run(struct drill *drill, struct drill_measure *measure)
{
	const char *id = k8s_object_text(drill->object, "status/run/id");
	const cJSON *node;

	memset(measure, 0, sizeof *measure);
	cJSON_ArrayForEach(node, k8s_object_get(drill->object, "status/run/probers")) {
		const cJSON *probe =
			said(drill->drills, cJSON_IsString(node) ? node->valuestring : "", id);

		if (!probe || !is_done(probe) || *k8s_object_text(probe, "message"))
			continue;
		measure->probers++;
		measure->sent += (uint64_t)decimal(probe, "sent");
		measure->lost += (uint64_t)decimal(probe, "lost");
		if (decimal(probe, "outageMilliseconds") > measure->outage_ms)
			measure->outage_ms = decimal(probe, "outageMilliseconds");
		if (decimal(probe, "answeredByTwoMilliseconds") > measure->two_ms)
			measure->two_ms = decimal(probe, "answeredByTwoMilliseconds");
	}
}

static void on_judged(void *userdata, const struct k8s_response *response)
{
	struct drill *drill = userdata;
	struct drill_measure measure;
	struct base_error message = { 0 };
	enum drill_verdict verdict;

	if (!answered(drill, response, "reading a VirtualIP") ||
	    (response->result != K8S_RESULT_OK && response->result != K8S_RESULT_NOT_FOUND) ||
	    !leads(drill->drills))
		return;
	measure_run(drill, &measure);
	verdict = drill_judge(drill->object,
			      response->result == K8S_RESULT_OK ? response->body : NULL, &measure,
			      &message);
	finish(drill, verdict, &measure, message.message);
}

/* --- a run --- */

static void vip_path(const struct drill *drill, char path[static 512])
{
	struct base_address address;
	char name[BASE_ADDRESS_NAME_SIZE] = "";

	if (base_address_parse(k8s_object_text(drill->object, "status/run/virtualIP"), &address))
		base_address_name(&address, name);
	snprintf(path, 512, GROUP "/virtualips/%s", name);
}

static cJSON *annotate(const char *key, const cJSON *value)
{
	cJSON *body = cJSON_CreateObject(), *notes;
	char *text = cJSON_PrintUnformatted(value);

	notes = cJSON_AddObjectToObject(cJSON_AddObjectToObject(body, "metadata"), "annotations");
	cJSON_AddStringToObject(notes, key, text ? text : "");
	cJSON_free(text);
	return body;
}

static void on_probe_ordered(void *userdata, const struct k8s_response *response)
{
	struct drill *drill = userdata;

	answered(drill, response, "telling a speaker to look on (status of a Speaker)");
}

static void order_probe(struct drill *drill, const char *node)
{
	cJSON *body = cJSON_CreateObject(), *order;
	char path[512];

	order = cJSON_AddObjectToObject(cJSON_AddObjectToObject(body, "status"), "lookout");
	cJSON_AddStringToObject(order, "id", k8s_object_text(drill->object, "status/run/id"));
	cJSON_AddStringToObject(order, "address",
				k8s_object_text(drill->object, "status/run/virtualIP"));
	cJSON_AddNumberToObject(order, "intervalMilliseconds",
				(double)k8s_object_number(drill->object,
							  "spec/probe/intervalMilliseconds", 1,
							  1000, DRILL_INTERVAL_MS));
	cJSON_AddNumberToObject(order, "durationMilliseconds", DRILL_DURATION_MS);
	cJSON_AddNumberToObject(order, "expires",
				(double)(reconciler_wall() / BASE_USEC_PER_SEC + EXPIRES_S));
	snprintf(path, sizeof path, GROUP "/speakers/%s/status", node);
	send_request(drill, "PATCH", path, body, on_probe_ordered);
}

static void on_handover_ordered(void *userdata, const struct k8s_response *response)
{
	struct drill *drill = userdata;
	cJSON *status;

	if (!answered(drill, response, "ordering the handover of a drill") ||
	    response->result != K8S_RESULT_OK || !leads(drill->drills))
		return;
	status = cJSON_CreateObject();
	cJSON_AddBoolToObject(cJSON_AddObjectToObject(status, "run"), "ordered", true);
	write_status(drill, status);
}

static void order_handover(struct drill *drill)
{
	cJSON *order = cJSON_CreateObject();
	char path[512];

	cJSON_AddStringToObject(order, "to", k8s_object_text(drill->object, "status/run/to"));
	cJSON_AddStringToObject(order, "id", k8s_object_text(drill->object, "status/run/id"));
	vip_path(drill, path);
	send_request(drill, "PATCH", path, annotate("vipd.dev/handover", order),
		     on_handover_ordered);
	cJSON_Delete(order);
}

struct progress {
	unsigned probers, begun, done, failed;
	const char *unasked; /* one that was not told yet; NULL: none */
	char why[200];       /* of one that failed */
};

static void look(struct drill *drill, struct progress *progress)
{
	const char *id = k8s_object_text(drill->object, "status/run/id");
	const cJSON *item;

	memset(progress, 0, sizeof *progress);
	cJSON_ArrayForEach(item, k8s_object_get(drill->object, "status/run/probers")) {
		const char *node = cJSON_IsString(item) ? item->valuestring : "";
		const cJSON *probe = said(drill->drills, node, id);
		struct looker *looker = looker_of(drill->drills, node, false);

		if ((!looker || strcmp(looker->ordered, id) != 0) && !probe &&
		    !(drill->asked & 1u << progress->probers))
			progress->unasked = node;
		if (progress->unasked == node)
			drill->asked |= 1u << progress->probers;
		progress->probers++;
		if (!probe)
			continue;
		if (*k8s_object_text(probe, "message")) {
			progress->failed++;
			snprintf(progress->why, sizeof progress->why, "%s: %s", node,
				 k8s_object_text(probe, "message"));
		} else if (is_done(probe)) {
			progress->done++;
		} else {
			progress->begun++;
		}
		if (progress->unasked)
			return;
	}
}

static void step_running(struct drill *drill)
{
	uint64_t started_us = 0, now_us = reconciler_wall(), age_us;
	struct progress progress;
	char path[512], why[300];

	k8s_time_parse(k8s_object_text(drill->object, "status/run/started"), &started_us);
	age_us = base_usec_since(now_us, started_us);
	look(drill, &progress);
	if (k8s_object_bool(drill->object, "status/run/ordered", false)) {
		if (progress.begun == 0 ||
		    age_us > BEGIN_US + DRILL_DURATION_MS * BASE_USEC_PER_MSEC + END_US) {
			vip_path(drill, path);
			send_request(drill, "GET", path, NULL, on_judged);
		}
	} else if (progress.unasked) {
		order_probe(drill, progress.unasked);
	} else if (progress.begun > 0 &&
		   (progress.begun + progress.failed == progress.probers || age_us > PATIENCE_US)) {
		order_handover(drill);
	} else if (progress.failed == progress.probers || age_us > BEGIN_US) {
		if (progress.done > 0)
			snprintf(why, sizeof why,
				 "no controller led when the handover was to be ordered: nothing "
				 "moved");
		else
			snprintf(why, sizeof why, "nobody could look on: %s",
				 progress.why[0] ? progress.why : "no speaker answered in time");
		finish(drill, DRILL_VERDICT_REFUSED, NULL, why);
	}
}

/* --- the beginning --- */

static const struct drill *other_running(const struct drill *drill)
{
	for (const struct drill *other = drill->drills->list; other; other = other->next)
		if (other != drill && (drill_is_running(other->object) || other->busy))
			return other;
	return NULL;
}

/* The address of the target; false: there is none, and `error` says why. */
static bool find_address(const struct drill *drill, char address[static BASE_ADDRESS_TEXT_SIZE],
			 struct base_error *error)
{
	const struct state *state = drill->drills->reconciler->state;
	const char *namespace = k8s_object_text(drill->object, "spec/target/service/namespace");
	const char *name = k8s_object_text(drill->object, "spec/target/service/name");
	struct base_address parsed;

	if (!*name) {
		if (!base_address_parse(k8s_object_text(drill->object, "spec/target/virtualIP"),
					&parsed)) {
			base_error_set(error, -EINVAL, "spec.target.virtualIP is no address");
			return false;
		}
		base_address_format(&parsed, address);
		return true;
	}
	TABLE_EACH(&state->vips, entry) {
		const struct vip *vip = TABLE_OF(entry, struct vip, entry);

		for (size_t i = 0; vip->exists && i < vip->holder_count; i++)
			if (strcmp(vip->holders[i].namespace, namespace) == 0 &&
			    strcmp(vip->holders[i].name, name) == 0) {
				base_address_format(&vip->address, address);
				return true;
			}
	}
	base_error_set(error, -ENOENT, "Service %s/%s has no address", namespace, name);
	return false;
}

static size_t list_nodes(struct drills *drills, const struct base_address *address,
			 struct drill_node *nodes)
{
	size_t count = 0;

	TABLE_EACH(&drills->reconciler->state->nodes.table, entry) {
		const struct node *node = TABLE_OF(entry, struct node, entry);
		struct drill_node *found = &nodes[count];

		if (count == NODES_MAX || !node->exists || !node->speaks)
			continue;
		*found = (struct drill_node){ .name = node->name,
					      .fit = node->speaker.ready && !node->silent &&
						     !node->speaker.maintenance &&
						     !node->speaker.excluded };
		for (size_t i = 0; i < node->speaker.segment_count; i++)
			found->on_segment |=
				base_prefix_contains(&node->speaker.segments[i].prefix, address);
		count++;
	}
	return count;
}

static void start_run(struct drill *drill, const struct drill_plan *plan, const char *address)
{
	cJSON *status = cJSON_CreateObject(), *run = cJSON_AddObjectToObject(status, "run"),
	      *probers;
	char target[DRILL_NAME_SIZE], now[K8S_TIME_SIZE], id[96];
	uint64_t wall_us = reconciler_wall();

	snprintf(id, sizeof id, "drill-%.40s-%llu", drill->name,
		 (unsigned long long)(wall_us / BASE_USEC_PER_MSEC));
	k8s_time_format(now, wall_us, false);
	drill_target(drill->object, target);
	cJSON_AddStringToObject(status, "target", target);
	cJSON_AddStringToObject(status, "phase", "Running");
	cJSON_AddStringToObject(run, "id", id);
	cJSON_AddStringToObject(run, "started", now);
	cJSON_AddStringToObject(run, "virtualIP", address);
	cJSON_AddStringToObject(run, "from", plan->from);
	cJSON_AddStringToObject(run, "to", plan->to);
	cJSON_AddBoolToObject(run, "ordered", false);
	probers = cJSON_AddArrayToObject(run, "probers");
	for (unsigned i = 0; i < plan->prober_count; i++)
		cJSON_AddItemToArray(probers, cJSON_CreateString(plan->probers[i]));
	drill->asked = 0;
	drill->reason = BASE_REASON_DRILL_STARTED;
	snprintf(drill->note, sizeof drill->note, "%s is to go from %s to %s", address, plan->from,
		 plan->to);
	write_status(drill, status);
}

static void on_planned(void *userdata, const struct k8s_response *response)
{
	static struct drill_node nodes[NODES_MAX];
	struct drill *drill = userdata;
	struct base_error error = { 0 };
	struct base_address address;
	char text[BASE_ADDRESS_TEXT_SIZE], note[300];
	struct drill_plan plan;
	size_t count;

	if (!answered(drill, response, "reading a VirtualIP") || !leads(drill->drills))
		return;
	if (response->result == K8S_RESULT_NOT_FOUND) {
		drill_target(drill->object, note);
		base_error_set(&error, -ENOENT, "there is no VirtualIP of %s: kubectl get vip",
			       note);
		finish(drill, DRILL_VERDICT_REFUSED, NULL, error.message);
		return;
	}
	if (response->result != K8S_RESULT_OK || !response->body)
		return;
	if (!base_address_parse(k8s_object_text(response->body, "spec/address"), &address))
		return;
	count = list_nodes(drill->drills, &address, nodes);
	if (drill_plan(response->body, nodes, count, &plan, &error) < 0)
		finish(drill, DRILL_VERDICT_REFUSED, NULL, error.message);
	else
		start_run(drill, &plan, base_address_format(&address, text));
}

static void begin(struct drill *drill)
{
	const struct drill *other = other_running(drill);
	struct base_error error = { 0 };
	struct base_address address;
	char text[BASE_ADDRESS_TEXT_SIZE], name[BASE_ADDRESS_NAME_SIZE], path[512];

	if (other)
		base_error_set(&error, -EBUSY, "drill %s is running: one after another",
			       other->name);
	if (other || drill_check_spec(drill->object, &error) < 0 ||
	    !find_address(drill, text, &error)) {
		finish(drill, DRILL_VERDICT_REFUSED, NULL, error.message);
		return;
	}
	base_address_parse(text, &address);
	base_address_name(&address, name);
	snprintf(path, sizeof path, GROUP "/virtualips/%s", name);
	send_request(drill, "GET", path, NULL, on_planned);
}

static void step_all(struct drills *drills)
{
	bool running = false;

	if (!leads(drills) || !drills->list)
		return;
	if (!writer_ready(drills->reconciler->writer, false)) {
		step_soon(drills, STEP_US);
		return;
	}
	for (struct drill *drill = drills->list, *next; drill; drill = next) {
		next = drill->next;
		if (drill->busy)
			continue;
		if (drill_is_running(drill->object))
			step_running(drill);
		else if (drill_is_due(drill->object))
			begin(drill);
		running |= drill->busy || drill_is_running(drill->object);
	}
	if (running)
		step_soon(drills, STEP_US);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	step_all(userdata);
	return 0;
}

/* --- from outside --- */

static struct drill *find(struct drills *drills, const char *name)
{
	struct drill *drill = drills->list;

	while (drill && strcmp(drill->name, name) != 0)
		drill = drill->next;
	return drill;
}

void drills_put(struct drills *drills, const cJSON *object)
{
	const char *name = k8s_object_text(object, "metadata/name");
	const char *version = k8s_object_text(object, "metadata/resourceVersion");
	struct drill *drill = find(drills, name);

	/* The answer to what we wrote may be newer than what the watch says now. */
	if (drill && k8s_version_compare(version, k8s_object_text(drill->object,
								  "metadata/resourceVersion")) < 0)
		return;
	if (!drill) {
		drill = calloc(1, sizeof *drill);
		if (!drill)
			return;
		drill->drills = drills;
		snprintf(drill->name, sizeof drill->name, "%s", name);
		drill->next = drills->list;
		drills->list = drill;
	}
	drill->gone = false;
	cJSON_Delete(drill->object);
	drill->object = cJSON_Duplicate(object, true);
	step_soon(drills, 0);
}

void drills_drop(struct drills *drills, const char *name)
{
	struct drill *drill = find(drills, name);

	if (drill && drill->busy)
		drill->gone = true;
	else if (drill)
		forget(drill);
}

void drills_speaker(struct drills *drills, const cJSON *object)
{
	const cJSON *probe = k8s_object_get(object, "status/probe");
	const char *id = k8s_object_text(object, "status/lookout/id");
	struct looker *looker =
		looker_of(drills, k8s_object_text(object, "metadata/name"), probe || *id);

	if (!looker)
		return;
	cJSON_Delete(looker->probe);
	looker->probe = probe ? cJSON_Duplicate(probe, true) : NULL;
	snprintf(looker->ordered, sizeof looker->ordered, "%s", id);
	if (drills->list)
		step_soon(drills, 0);
}

void drills_consider(struct drills *drills)
{
	step_soon(drills, 0);
}

void drills_render(const struct drills *drills, struct metrics_text *text)
{
	metrics_family(
		text, METRICS_GAUGE, "vipd_drill_failed",
		"1: the drill's last run went over its budget, or the address did not move.");
	for (const struct drill *drill = drills->list; drill; drill = drill->next) {
		const char *phase = k8s_object_text(drill->object, "status/phase");

		if (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0)
			metrics_count(text, strcmp(phase, "Failed") == 0, "drill", drill->name,
				      NULL);
	}
}

int drills_new(struct drills **drills, struct reconciler *reconciler)
{
	struct drills *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->reconciler = reconciler;
	r = sd_event_add_time(reconciler->event, &new->timer, CLOCK_BOOTTIME, UINT64_MAX, 1000,
			      on_timer, new);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->timer, SD_EVENT_OFF);
	if (r < 0) {
		drills_free(new);
		return r;
	}
	*drills = new;
	return 0;
}

void drills_free(struct drills *drills)
{
	if (!drills)
		return;
	sd_event_source_disable_unref(drills->timer);
	while (drills->list)
		forget(drills->list);
	while (drills->lookers) {
		struct looker *next = drills->lookers->next;

		cJSON_Delete(drills->lookers->probe);
		free(drills->lookers);
		drills->lookers = next;
	}
	free(drills);
}
