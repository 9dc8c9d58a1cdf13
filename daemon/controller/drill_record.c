#include "daemon/controller/drill_record.h"

#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/time.h"
#include "k8s/object.h"

#define EXPIRES_S 20

/* --- orders --- */

/* {"status": {NAME: ORDER}}, which whoever is told forgets after a while. Returns the order. */
static cJSON *begin_order(cJSON *body, const char *name, const cJSON *drill, uint64_t wall_us)
{
	cJSON *order = cJSON_AddObjectToObject(cJSON_AddObjectToObject(body, "status"), name);

	cJSON_AddStringToObject(order, "id", k8s_object_text(drill, "status/run/id"));
	cJSON_AddNumberToObject(order, "expires",
				(double)(wall_us / BASE_USEC_PER_SEC + EXPIRES_S));
	return order;
}

cJSON *drill_record_lookout(const cJSON *drill, uint64_t wall_us)
{
	cJSON *body = cJSON_CreateObject();
	cJSON *order = begin_order(body, "lookout", drill, wall_us);

	cJSON_AddStringToObject(order, "address", k8s_object_text(drill, "status/run/virtualIP"));
	cJSON_AddNumberToObject(order, "intervalMilliseconds",
				(double)k8s_object_number(drill, "spec/probe/intervalMilliseconds",
							  1, 1000, DRILL_INTERVAL_MS));
	cJSON_AddStringToObject(order, "protocol", k8s_object_text(drill, "status/run/protocol"));
	cJSON_AddNumberToObject(order, "port",
				(double)k8s_object_number(drill, "status/run/port", 0, 65535, 0));
	cJSON_AddNumberToObject(
		order, "connectionPort",
		(double)k8s_object_number(drill, "status/run/connectionPort", 0, 65535, 0));
	cJSON_AddNumberToObject(order, "durationMilliseconds", drill_run_duration_ms(drill));
	return body;
}

cJSON *drill_record_fault(const cJSON *drill, uint64_t wall_us)
{
	cJSON *body = cJSON_CreateObject();
	cJSON *order = begin_order(body, "fault", drill, wall_us);

	cJSON_AddStringToObject(order, "action", k8s_object_text(drill, "status/run/action"));
	cJSON_AddStringToObject(order, "virtualRouter",
				k8s_object_text(drill, "status/run/virtualRouter"));
	cJSON_AddNumberToObject(order, "holdMilliseconds", drill_run_hold_ms(drill));
	return body;
}

cJSON *drill_record_handover(const cJSON *drill)
{
	cJSON *order = cJSON_CreateObject(), *body = cJSON_CreateObject(), *notes;
	char *text;

	cJSON_AddStringToObject(order, "to", k8s_object_text(drill, "status/run/to"));
	cJSON_AddStringToObject(order, "id", k8s_object_text(drill, "status/run/id"));
	text = cJSON_PrintUnformatted(order);
	notes = cJSON_AddObjectToObject(cJSON_AddObjectToObject(body, "metadata"), "annotations");
	cJSON_AddStringToObject(notes, "vipd.dev/handover", text ? text : "");
	cJSON_free(text);
	cJSON_Delete(order);
	return body;
}

/* --- status --- */

/* A merge patch: of what stood there before, nothing may stay. */
static void clear_what_is_missing(cJSON *run, const cJSON *before)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, before)
		if (!cJSON_GetObjectItemCaseSensitive(run, item->string))
			cJSON_AddNullToObject(run, item->string);
}

static uint32_t wanted_hold_ms(const cJSON *drill, enum drill_action action)
{
	if (action != DRILL_ACTION_HANG && action != DRILL_ACTION_ISOLATE)
		return 0;
	return 1000 *
	       (uint32_t)k8s_object_number(drill, "spec/holdSeconds", 1, 300, DRILL_HOLD_MS / 1000);
}

/* For kubectl wait --for=condition=Succeeded: of the last run, or of the one under way. */
static void add_condition(cJSON *status, const cJSON *drill, const char *value,
			  enum base_reason reason, const char *message, uint64_t wall_us)
{
	cJSON *condition = cJSON_CreateObject();
	char now[K8S_TIME_SIZE];

	cJSON_AddStringToObject(condition, "type", "Succeeded");
	cJSON_AddStringToObject(condition, "status", value);
	cJSON_AddStringToObject(condition, "reason", base_reason_word(reason));
	cJSON_AddStringToObject(condition, "message", message);
	cJSON_AddStringToObject(condition, "lastTransitionTime",
				k8s_time_format(now, wall_us, false));
	cJSON_AddNumberToObject(
		condition, "observedGeneration",
		(double)k8s_object_number(drill, "metadata/generation", 0, INT64_MAX, 0));
	cJSON_AddItemToArray(cJSON_AddArrayToObject(status, "conditions"), condition);
}

cJSON *drill_record_begin(const cJSON *drill, const struct drill_plan *plan, const char *address,
			  const cJSON *left, uint64_t wall_us)
{
	const char *action = k8s_object_text(drill, "spec/action");
	cJSON *status = cJSON_CreateObject(), *run = cJSON_AddObjectToObject(status, "run"),
	      *probers;
	char target[DRILL_NAME_SIZE], now[K8S_TIME_SIZE], id[96];

	snprintf(id, sizeof id, "drill-%.40s-%llu", k8s_object_text(drill, "metadata/name"),
		 (unsigned long long)(wall_us / BASE_USEC_PER_MSEC));
	k8s_time_format(now, wall_us, false);
	drill_target(drill, target);
	cJSON_AddStringToObject(status, "target", target);
	cJSON_AddStringToObject(status, "phase", "Running");
	add_condition(status, drill, "Unknown", BASE_REASON_DRILL_STARTED, "it is running",
		      wall_us);
	cJSON_AddStringToObject(run, "id", id);
	cJSON_AddStringToObject(run, "started", now);
	cJSON_AddStringToObject(run, "virtualIP", address);
	cJSON_AddStringToObject(run, "from", plan->from);
	cJSON_AddStringToObject(run, "to", plan->to);
	cJSON_AddStringToObject(run, "action", action);
	cJSON_AddNumberToObject(run, "holdMilliseconds",
				wanted_hold_ms(drill, drill_action(action)));
	cJSON_AddStringToObject(run, "protocol", plan->protocol);
	if (plan->port)
		cJSON_AddNumberToObject(run, "port", plan->port);
	if (plan->connection_port)
		cJSON_AddNumberToObject(run, "connectionPort", plan->connection_port);
	if (*plan->router)
		cJSON_AddStringToObject(run, "virtualRouter", plan->router);
	if (cJSON_GetArraySize(left) > 0)
		cJSON_AddItemToObject(run, "left", cJSON_Duplicate(left, true));
	cJSON_AddBoolToObject(run, "ordered", false);
	probers = cJSON_AddArrayToObject(run, "probers");
	for (unsigned i = 0; i < plan->prober_count; i++)
		cJSON_AddItemToArray(probers, cJSON_CreateString(plan->probers[i]));
	if (k8s_object_bool(drill, "status/run/failed", false))
		cJSON_AddBoolToObject(run, "failed", true);
	clear_what_is_missing(run, k8s_object_get(drill, "status/run"));
	return status;
}

cJSON *drill_record_ordered(void)
{
	cJSON *status = cJSON_CreateObject();

	cJSON_AddBoolToObject(cJSON_AddObjectToObject(status, "run"), "ordered", true);
	return status;
}

static cJSON *make_run(const cJSON *drill, enum drill_verdict verdict,
		       const struct drill_measure *measure, const char *message, uint64_t wall_us)
{
	static const char *const copied[] = { "started", "virtualIP", "action", "from", "to" };
	const cJSON *run = k8s_object_get(drill, "status/run");
	cJSON *made = cJSON_CreateObject();
	char now[K8S_TIME_SIZE];

	for (size_t i = 0; i < BASE_COUNT_OF(copied); i++)
		if (*k8s_object_text(run, copied[i]))
			cJSON_AddStringToObject(made, copied[i], k8s_object_text(run, copied[i]));
	k8s_time_format(now, wall_us, false);
	cJSON_AddStringToObject(made, "finished", now);
	cJSON_AddStringToObject(made, "verdict", drill_verdict_word(verdict));
	cJSON_AddStringToObject(made, "message", message);
	if (measure && measure->owner && *measure->owner)
		cJSON_ReplaceItemInObjectCaseSensitive(made, "to",
						       cJSON_CreateString(measure->owner));
	if (!measure || measure->probers == 0)
		return made;
	cJSON_AddNumberToObject(made, "outageMilliseconds", measure->outage_ms);
	cJSON_AddNumberToObject(made, "answeredByTwoMilliseconds", measure->two_ms);
	cJSON_AddNumberToObject(made, "probesSent", (double)measure->sent);
	cJSON_AddNumberToObject(made, "probesLost", (double)measure->lost);
	if (k8s_object_get(run, "connectionPort")) {
		cJSON_AddNumberToObject(made, "connectionsKept", (double)measure->kept);
		cJSON_AddNumberToObject(made, "connectionsLost", (double)measure->connections_lost);
	}
	if (measure->timeline)
		cJSON_AddItemToObject(made, "timeline", cJSON_Duplicate(measure->timeline, true));
	return made;
}

/* Another address of this round comes after it: what `run` says of this one has to go. */
static cJSON *make_rest(const cJSON *drill, enum drill_verdict verdict, const cJSON *left)
{
	cJSON *run = cJSON_CreateObject();

	cJSON_AddItemToObject(run, "left", cJSON_Duplicate(left, true));
	cJSON_AddBoolToObject(run, "failed",
			      verdict != DRILL_VERDICT_SUCCEEDED ||
				      k8s_object_bool(drill, "status/run/failed", false));
	clear_what_is_missing(run, k8s_object_get(drill, "status/run"));
	return run;
}

static const char *phase_after(const cJSON *drill, enum drill_verdict verdict, bool more)
{
	if (more)
		return "Running";
	return drill_verdict_word(k8s_object_bool(drill, "status/run/failed", false)
					  ? DRILL_VERDICT_FAILED
					  : verdict);
}

cJSON *drill_record_end(const cJSON *drill, enum drill_verdict verdict,
			const struct drill_measure *measure, const char *message, const cJSON *left,
			uint64_t wall_us)
{
	const cJSON *before = k8s_object_get(drill, "status/runs");
	cJSON *status = cJSON_CreateObject(), *runs, *run;
	bool more = cJSON_GetArraySize(left) > 0;
	char target[DRILL_NAME_SIZE];

	run = make_run(drill, verdict, measure, message, wall_us);
	runs = before ? cJSON_Duplicate(before, true) : cJSON_CreateArray();
	while (cJSON_GetArraySize(runs) >= DRILL_RUNS_MAX)
		cJSON_DeleteItemFromArray(runs, 0);
	cJSON_AddItemToArray(runs, cJSON_Duplicate(run, true));
	drill_target(drill, target);
	cJSON_AddStringToObject(status, "target", target);
	cJSON_AddStringToObject(status, "phase", phase_after(drill, verdict, more));
	if (!more)
		cJSON_AddNumberToObject(
			status, "observedGeneration",
			(double)k8s_object_number(drill, "metadata/generation", 0, INT64_MAX, 0));
	if (!more)
		add_condition(status, drill,
			      strcmp(phase_after(drill, verdict, false), "Succeeded") == 0
				      ? "True"
				      : "False",
			      drill_verdict_reason(verdict), message, wall_us);
	clear_what_is_missing(run, k8s_object_get(drill, "status/last"));
	cJSON_AddItemToObject(status, "last", run);
	cJSON_AddItemToObject(status, "runs", runs);
	cJSON_AddItemToObject(status, "run",
			      more ? make_rest(drill, verdict, left) : cJSON_CreateNull());
	if (k8s_object_get(drill, "status/nextRun"))
		cJSON_AddNullToObject(status, "nextRun"); /* it is reckoned anew */
	return status;
}

cJSON *drill_record_next(const cJSON *drill, uint64_t next_us)
{
	cJSON *status = cJSON_CreateObject();
	char target[DRILL_NAME_SIZE], next[K8S_TIME_SIZE];

	drill_target(drill, target);
	k8s_time_format(next, next_us, false);
	cJSON_AddStringToObject(status, "target", target);
	if (!*k8s_object_text(drill, "status/phase"))
		cJSON_AddStringToObject(status, "phase", "Pending");
	cJSON_AddStringToObject(status, "nextRun", next);
	cJSON_AddNumberToObject(
		status, "observedGeneration",
		(double)k8s_object_number(drill, "metadata/generation", 0, INT64_MAX, 0));
	return status;
}
