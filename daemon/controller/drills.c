#include "daemon/controller/drills.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/controller/drill_course.h"
#include "daemon/controller/drill_record.h"
#include "daemon/controller/drill_targets.h"
#include "daemon/controller/zone.h"
#include "k8s/object.h"

#define GROUP     "/apis/vipd.dev/v1alpha1"
#define STEP_US   (200 * BASE_USEC_PER_MSEC)
#define RETRY_US  (1 * BASE_USEC_PER_SEC)
#define NODES_MAX 512
#define LOOK_US   (60 * BASE_USEC_PER_SEC)  /* at the clock, which may be set */
#define MISSED_US (600 * BASE_USEC_PER_SEC) /* a run that nobody led to is left out */

struct drill {
	struct drill *next;
	struct drills *drills;
	char name[DRILL_NAME_SIZE];
	cJSON *object;
	bool busy, gone;         /* a request of it is under way; it was deleted meanwhile */
	cJSON *left;             /* being planned: addresses that come after it; NULL: nothing is */
	unsigned asked;          /* probers whose order was written by us */
	enum base_reason reason; /* to be told when the status is written; NONE: nothing */
	char note[300];
};

DEFINE_CLEANUP(cJSON, cJSON_Delete)

struct drills {
	struct reconciler *reconciler;
	struct drill *list;
	struct drill_lookers *lookers;
	sd_event_source *timer;
	struct trouble trouble;
};

/* --- what is known --- */

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
	cJSON_Delete(drill->left);
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

	cJSON_Delete(TAKE(drill->left));
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

static const cJSON *addresses_left(const struct drill *drill)
{
	return drill->left ? drill->left : k8s_object_get(drill->object, "status/run/left");
}

static void finish(struct drill *drill, enum drill_verdict verdict,
		   const struct drill_measure *measure, const char *message)
{
	drill->reason = drill_verdict_reason(verdict);
	snprintf(drill->note, sizeof drill->note, "%s", message);
	write_status(drill, drill_record_end(drill->object, verdict, measure, message,
					     addresses_left(drill), reconciler_wall()));
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
	drill_lookers_measure(drill->drills->lookers, drill->object, &measure);
	if (drill_run_action(drill->object) != DRILL_ACTION_HANDOVER)
		measure.owner = k8s_object_text(response->body, "status/owner");
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

static void on_probe_ordered(void *userdata, const struct k8s_response *response)
{
	struct drill *drill = userdata;

	answered(drill, response, "telling a speaker to look on (status of a Speaker)");
}

static void order_probe(struct drill *drill, const char *node)
{
	char path[512];

	snprintf(path, sizeof path, GROUP "/speakers/%s/status", node);
	send_request(drill, "PATCH", path, drill_record_lookout(drill->object, reconciler_wall()),
		     on_probe_ordered);
}

static void on_ordered(void *userdata, const struct k8s_response *response)
{
	struct drill *drill = userdata;

	if (!answered(drill, response, "ordering the failover of a drill") ||
	    response->result != K8S_RESULT_OK || !leads(drill->drills))
		return;
	write_status(drill, drill_record_ordered());
}

static void order_failover(struct drill *drill)
{
	char path[512];

	if (drill_run_action(drill->object) == DRILL_ACTION_HANDOVER) {
		vip_path(drill, path);
		send_request(drill, "PATCH", path, drill_record_handover(drill->object),
			     on_ordered);
		return;
	}
	snprintf(path, sizeof path, GROUP "/speakers/%s/status",
		 k8s_object_text(drill->object, "status/run/from"));
	send_request(drill, "PATCH", path, drill_record_fault(drill->object, reconciler_wall()),
		     on_ordered);
}

static void tell_looker(struct drill *drill, int index)
{
	const char *node = cJSON_GetStringValue(
		cJSON_GetArrayItem(k8s_object_get(drill->object, "status/run/probers"), index));

	drill->asked |= 1u << index;
	if (node)
		order_probe(drill, node);
}

static void step_running(struct drill *drill)
{
	uint64_t started_us = 0;
	struct base_error why = { 0 };
	struct drill_progress progress;
	char path[512];

	k8s_time_parse(k8s_object_text(drill->object, "status/run/started"), &started_us);
	drill_lookers_look(drill->drills->lookers, drill->object, drill->asked, &progress);
	switch (drill_course(drill->object, &progress,
			     base_usec_since(reconciler_wall(), started_us), &why)) {
	case DRILL_STEP_WAIT:
		return;
	case DRILL_STEP_TELL:
		tell_looker(drill, progress.untold);
		return;
	case DRILL_STEP_ORDER:
		order_failover(drill);
		return;
	case DRILL_STEP_JUDGE:
		vip_path(drill, path);
		send_request(drill, "GET", path, NULL, on_judged);
		return;
	case DRILL_STEP_REFUSE:
		finish(drill, DRILL_VERDICT_REFUSED, NULL, why.message);
		return;
	}
}

/* --- the beginning --- */

static const struct drill *other_running(const struct drill *drill)
{
	for (const struct drill *other = drill->drills->list; other; other = other->next)
		if (other != drill && (drill_is_running(other->object) || other->left))
			return other;
	return NULL;
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
	drill->asked = 0;
	drill->reason = BASE_REASON_DRILL_STARTED;
	snprintf(drill->note, sizeof drill->note, "%s: %s is to go from %s to %s",
		 k8s_object_text(drill->object, "spec/action"), address, plan->from, plan->to);
	write_status(drill, drill_record_begin(drill->object, plan, address, drill->left,
					       reconciler_wall()));
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
	if (drill_plan(drill->object, response->body, nodes, count, &plan, &error) < 0 ||
	    drill_choose_probe(drill->drills->reconciler->state, drill->object, &address, &plan,
			       &error) < 0)
		finish(drill, DRILL_VERDICT_REFUSED, NULL, error.message);
	else
		start_run(drill, &plan, base_address_format(&address, text));
}

/* The first of the addresses that are left; the others wait. */
static void plan_next_address(struct drill *drill)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *first = cJSON_DetachItemFromArray(drill->left, 0);
	const char *text = cJSON_GetStringValue(first);
	char name[BASE_ADDRESS_NAME_SIZE] = "", path[512];
	struct base_address address;

	if (text && base_address_parse(text, &address))
		base_address_name(&address, name);
	snprintf(path, sizeof path, GROUP "/virtualips/%s", name);
	send_request(drill, "GET", path, NULL, on_planned);
}

static void begin(struct drill *drill)
{
	const struct drill *other = other_running(drill);
	struct base_error error = { 0 };

	if (other && k8s_object_get(drill->object, "spec/schedule"))
		return; /* it is still due when that one has ended */
	if (other)
		base_error_set(&error, -EBUSY, "drill %s is running: one after another",
			       other->name);
	if (other || drill_check_spec(drill->object, &error) < 0 ||
	    drill_targets(drill->drills->reconciler->state, drill->object, &drill->left, &error) <
		    0)
		finish(drill, DRILL_VERDICT_REFUSED, NULL, error.message);
	else
		plan_next_address(drill);
}

/* One address of a round was judged. */
static void go_on(struct drill *drill)
{
	const cJSON *left = k8s_object_get(drill->object, "status/run/left");

	drill->left = left ? cJSON_Duplicate(left, true) : cJSON_CreateArray();
	plan_next_address(drill);
}

/* --- by schedule --- */

static void reckon_next(struct drill *drill, uint64_t now_us)
{
	const char *text = k8s_object_text(drill->object, "spec/schedule");
	const char *zone = k8s_object_text(drill->object, "spec/timeZone");
	struct base_error error = { 0 };
	struct schedule schedule;
	uint64_t next_s = 0;
	int r;

	r = schedule_parse(&schedule, text, &error);
	if (r >= 0)
		r = zone_next(&schedule, zone, now_us / BASE_USEC_PER_SEC, &next_s, &error);
	if (r >= 0 && next_s == 0)
		r = base_error_set(&error, -EINVAL,
				   "spec.schedule %s: there is no such time in the next five years",
				   text);
	if (r >= 0)
		write_status(drill, drill_record_next(drill->object, next_s * BASE_USEC_PER_SEC));
	else if (drill_is_due(drill->object)) /* else it was said before */
		finish(drill, DRILL_VERDICT_REFUSED, NULL, error.message);
}

/* Answers how long it may be left alone. */
static uint64_t step_scheduled(struct drill *drill)
{
	uint64_t now_us = reconciler_wall(), next_us = 0;

	if (drill_is_due(drill->object) ||
	    !k8s_time_parse(k8s_object_text(drill->object, "status/nextRun"), &next_us)) {
		reckon_next(drill, now_us);
		return LOOK_US;
	}
	if (now_us < next_us)
		return next_us - now_us < LOOK_US ? next_us - now_us : LOOK_US;
	if (now_us - next_us < MISSED_US) {
		begin(drill);
		return STEP_US;
	}
	log_line(LOG_WARNING, BASE_REASON_DRILL_REFUSED, LOG_NO_FIELDS,
		 "drill %s: its run of %s is left out: no controller led then", drill->name,
		 k8s_object_text(drill->object, "status/nextRun"));
	reckon_next(drill, now_us);
	return LOOK_US;
}

/* Answers how long it may be left alone. */
static uint64_t step(struct drill *drill)
{
	if (drill->busy)
		return STEP_US;
	cJSON_Delete(TAKE(drill->left));
	if (drill_is_running(drill->object)) {
		if (*k8s_object_text(drill->object, "status/run/id"))
			step_running(drill);
		else
			go_on(drill);
		return STEP_US;
	}
	if (k8s_object_get(drill->object, "spec/schedule"))
		return drill_is_wanted(drill->object) ? step_scheduled(drill) : BASE_USEC_NEVER;
	if (!drill_is_due(drill->object))
		return BASE_USEC_NEVER;
	begin(drill);
	return STEP_US;
}

static void step_all(struct drills *drills)
{
	uint64_t wait_us = BASE_USEC_NEVER;

	if (!leads(drills) || !drills->list)
		return;
	if (!writer_ready(drills->reconciler->writer, false)) {
		step_soon(drills, STEP_US);
		return;
	}
	for (struct drill *drill = drills->list, *next; drill; drill = next) {
		uint64_t its_us;

		next = drill->next;
		its_us = step(drill);
		if (its_us < wait_us)
			wait_us = its_us;
	}
	if (wait_us != BASE_USEC_NEVER)
		step_soon(drills, wait_us);
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
	drill_lookers_put(drills->lookers, object);
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
	new->lookers = drill_lookers_new();
	if (!new->lookers) {
		drills_free(new);
		return -ENOMEM;
	}
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
	drill_lookers_free(drills->lookers);
	free(drills);
}
