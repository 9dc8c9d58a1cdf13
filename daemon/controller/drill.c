#include "daemon/controller/drill.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "k8s/object.h"

const char *drill_verdict_word(enum drill_verdict verdict)
{
	switch (verdict) {
	case DRILL_VERDICT_SUCCEEDED:
		return "Succeeded";
	case DRILL_VERDICT_FAILED:
		return "Failed";
	case DRILL_VERDICT_REFUSED:
		return "Refused";
	}
	return "";
}

enum base_reason drill_verdict_reason(enum drill_verdict verdict)
{
	switch (verdict) {
	case DRILL_VERDICT_SUCCEEDED:
		return BASE_REASON_DRILL_SUCCEEDED;
	case DRILL_VERDICT_FAILED:
		return BASE_REASON_DRILL_FAILED;
	case DRILL_VERDICT_REFUSED:
		return BASE_REASON_DRILL_REFUSED;
	}
	return BASE_REASON_NONE;
}

bool drill_is_running(const cJSON *drill)
{
	return strcmp(k8s_object_text(drill, "status/phase"), "Running") == 0;
}

bool drill_is_wanted(const cJSON *drill)
{
	return !k8s_object_bool(drill, "spec/suspend", false) &&
	       !k8s_object_get(drill, "metadata/deletionTimestamp");
}

bool drill_is_due(const cJSON *drill)
{
	int64_t generation = k8s_object_number(drill, "metadata/generation", 0, INT64_MAX, 0);
	int64_t observed = k8s_object_number(drill, "status/observedGeneration", 0, INT64_MAX, -1);

	return !drill_is_running(drill) && generation != observed && drill_is_wanted(drill);
}

enum drill_action drill_action(const char *word)
{
	static const char *const words[DRILL_ACTION_COUNT] = {
		[DRILL_ACTION_HANDOVER] = "Handover",
		[DRILL_ACTION_CRASH] = "Crash",
		[DRILL_ACTION_HANG] = "Hang",
		[DRILL_ACTION_ISOLATE] = "Isolate",
	};
	unsigned action = 0;

	while (action < DRILL_ACTION_COUNT && strcmp(words[action], word) != 0)
		action++;
	return (enum drill_action)action;
}

enum drill_action drill_run_action(const cJSON *drill)
{
	const char *word = k8s_object_text(drill, "status/run/action");

	return *word ? drill_action(word) : DRILL_ACTION_HANDOVER;
}

uint32_t drill_run_hold_ms(const cJSON *drill)
{
	return (uint32_t)k8s_object_number(drill, "status/run/holdMilliseconds", 0, 300000, 0);
}

uint32_t drill_run_duration_ms(const cJSON *drill)
{
	return DRILL_DURATION_MS + drill_run_hold_ms(drill);
}

bool drill_budget_connections(const cJSON *drill, uint64_t *allowed)
{
	*allowed =
		(uint64_t)k8s_object_number(drill, "spec/budget/lostConnections", 0, INT32_MAX, 0);
	return k8s_object_get(drill, "spec/budget/lostConnections") != NULL;
}

int drill_check_spec(const cJSON *drill, struct base_error *error)
{
	const char *action = k8s_object_text(drill, "spec/action");

	if (drill_action(action) == DRILL_ACTION_COUNT)
		return base_error_set(error, -EOPNOTSUPP,
				      "spec.action %s: say Handover, Crash, Hang or Isolate",
				      action);
	return 0;
}

void drill_target(const cJSON *drill, char text[static DRILL_NAME_SIZE])
{
	if (k8s_object_get(drill, "spec/target/service"))
		snprintf(text, DRILL_NAME_SIZE, "%s/%s",
			 k8s_object_text(drill, "spec/target/service/namespace"),
			 k8s_object_text(drill, "spec/target/service/name"));
	else if (k8s_object_get(drill, "spec/target/node"))
		snprintf(text, DRILL_NAME_SIZE, "node %s",
			 k8s_object_text(drill, "spec/target/node"));
	else if (k8s_object_get(drill, "spec/target/pool"))
		snprintf(text, DRILL_NAME_SIZE, "pool %s",
			 k8s_object_text(drill, "spec/target/pool"));
	else
		snprintf(text, DRILL_NAME_SIZE, "%s",
			 k8s_object_text(drill, "spec/target/virtualIP"));
}

/* --- before --- */

static const struct drill_node *find(const struct drill_node *nodes, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(nodes[i].name, name) == 0)
			return &nodes[i];
	return NULL;
}

static const char *why_not_eligible(const cJSON *vip, const char *node)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, k8s_object_get(vip, "status/notEligible"))
		if (strcmp(k8s_object_text(entry, "node"), node) == 0)
			return k8s_object_text(entry, "reason");
	return NULL;
}

/* A handover that was ordered and not carried out yet. */
static bool is_moving(const cJSON *vip)
{
	cJSON *order = cJSON_Parse(k8s_object_annotation(vip, "vipd.dev/handover"));
	bool open = *k8s_object_text(order, "id") &&
		    strcmp(k8s_object_text(order, "id"),
			   k8s_object_text(vip, "status/handoverID")) != 0;

	cJSON_Delete(order);
	return open || strcmp(k8s_object_text(vip, "status/state"), "Moving") == 0;
}

/* The first candidate that could take it; false: nobody, and `error` says of each why not. */
static bool find_heir(const cJSON *vip, const struct drill_node *nodes, size_t count,
		      struct drill_plan *plan, struct base_error *error)
{
	char others[160] = "";
	const cJSON *entry;

	cJSON_ArrayForEach(entry, k8s_object_get(vip, "spec/candidates")) {
		const char *name = k8s_object_text(entry, "node");
		const char *why = why_not_eligible(vip, name);
		const struct drill_node *node = find(nodes, count, name);
		size_t at = strlen(others);

		if (strcmp(name, plan->from) == 0)
			continue;
		if (!why && (!node || !node->fit))
			why = "its speaker is not ready";
		if (!why) {
			snprintf(plan->to, sizeof plan->to, "%s", name);
			return true;
		}
		snprintf(others + at, sizeof others - at, "%s%s: %s", at ? ", " : "", name, why);
	}
	base_error_set(error, -EBUSY, "no second node may own %s now (%s): it would be an outage",
		       k8s_object_text(vip, "spec/address"),
		       *others ? others : "no other candidate");
	return false;
}

/* Up to some that have no part in it. */
static void find_lookers(const struct drill_node *nodes, size_t count, struct drill_plan *plan)
{
	for (size_t i = 0; i < count && plan->prober_count < DRILL_PROBERS_MAX; i++)
		if (nodes[i].fit && nodes[i].on_segment && strcmp(nodes[i].name, plan->from) != 0 &&
		    strcmp(nodes[i].name, plan->to) != 0)
			snprintf(plan->probers[plan->prober_count++], sizeof plan->probers[0], "%s",
				 nodes[i].name);
}

/* The node that is the target, and what of it is to be broken. */
static int check_owner(const cJSON *drill, const cJSON *vip, struct drill_plan *plan,
		       struct base_error *error)
{
	const char *node = k8s_object_text(drill, "spec/target/node");
	bool handover =
		drill_action(k8s_object_text(drill, "spec/action")) == DRILL_ACTION_HANDOVER;

	snprintf(plan->from, sizeof plan->from, "%s", k8s_object_text(vip, "status/owner"));
	if (*node && strcmp(node, plan->from) != 0)
		return base_error_set(error, -EBUSY, "%s is not at %s any more",
				      k8s_object_text(vip, "spec/address"), node);
	if (!*node || handover)
		snprintf(plan->router, sizeof plan->router, "%s",
			 k8s_object_text(vip, "spec/virtualRouter"));
	if (!*node && !handover && !*plan->router)
		return base_error_set(error, -EBUSY, "VirtualIP %s names no spec.virtualRouter",
				      k8s_object_text(vip, "spec/address"));
	return 0;
}

int drill_plan(const cJSON *drill, const cJSON *vip, const struct drill_node *nodes, size_t count,
	       struct drill_plan *plan, struct base_error *error)
{
	const char *state = k8s_object_text(vip, "status/state");
	const char *address = k8s_object_text(vip, "spec/address");

	memset(plan, 0, sizeof *plan);
	if (is_moving(vip))
		return base_error_set(error, -EBUSY, "%s is on the move already", address);
	if (!*k8s_object_text(vip, "status/owner") || strcmp(state, "Active") != 0)
		return base_error_set(error, -EBUSY, "%s has no owner that is well: state %s",
				      address, *state ? state : "unknown");
	if (check_owner(drill, vip, plan, error) < 0 || !find_heir(vip, nodes, count, plan, error))
		return -EBUSY;
	find_lookers(nodes, count, plan);
	if (plan->prober_count == 0)
		return base_error_set(
			error, -EBUSY,
			"besides %s and %s no node on the segment of %s could look on", plan->from,
			plan->to, address);
	return 0;
}

/* --- after --- */

/*
 * After a fault somebody has it and stands by it. An engine that is started again at once may have kept
 * it; a router that was broken alone cannot.
 */
static bool has_recovered(const cJSON *drill, const cJSON *vip)
{
	const char *owner = k8s_object_text(vip, "status/owner");

	return *owner && strcmp(k8s_object_text(vip, "status/state"), "Active") == 0 &&
	       (!*k8s_object_text(drill, "status/run/virtualRouter") ||
		strcmp(owner, k8s_object_text(drill, "status/run/from")) != 0);
}

/* True: the budget says nothing of connections, or they were within it. */
static bool connections_suffice(const cJSON *drill, const struct drill_measure *measure,
				struct base_error *message)
{
	uint64_t allowed;

	if (!drill_budget_connections(drill, &allowed))
		return true;
	if (measure->kept + measure->connections_lost == 0)
		base_error_set(message, -EIO,
			       "no connection could be followed to the end: their server closed "
			       "them, or the address went to who looked on");
	else if (measure->connections_lost > allowed)
		base_error_set(message, -EIO,
			       "%llu of %llu connections were lost; %llu were allowed",
			       (unsigned long long)measure->connections_lost,
			       (unsigned long long)(measure->kept + measure->connections_lost),
			       (unsigned long long)allowed);
	else
		return true;
	return false;
}

/* The only one who looked on took it over: until when nobody answered is its own word. */
static bool is_own_word(const struct drill_measure *measure, const char *owner)
{
	return measure->prober && strcmp(measure->prober, owner) == 0;
}

enum drill_verdict drill_judge(const cJSON *drill, const cJSON *vip,
			       const struct drill_measure *measure, struct base_error *message)
{
	const char *from = k8s_object_text(drill, "status/run/from");
	const char *to = k8s_object_text(drill, "status/run/to");
	const char *owner = k8s_object_text(vip, "status/owner");
	bool handover = drill_run_action(drill) == DRILL_ACTION_HANDOVER;
	int64_t budget =
		k8s_object_number(drill, "spec/budget/outageMilliseconds", 0, 600000, 600000);

	if (measure->probers == 0) {
		base_error_set(message, -EIO, "nobody measured it until the end; it is at %s now",
			       *owner ? owner : "nobody");
		return DRILL_VERDICT_FAILED;
	}
	if (handover ? strcmp(owner, to) != 0 : !has_recovered(drill, vip)) {
		base_error_set(message, -EIO, "it was to go from %s to %s and is at %s", from, to,
			       *owner ? owner : "nobody");
		return DRILL_VERDICT_FAILED;
	}
	if (measure->sent > 0 && measure->lost >= measure->sent) {
		base_error_set(message, -EIO, "none of %llu probes was answered",
			       (unsigned long long)measure->sent);
		return DRILL_VERDICT_FAILED;
	}
	if (measure->outage_ms > (double)budget) {
		base_error_set(message, -EIO, "nobody answered for %.1f ms; %lld ms were allowed",
			       measure->outage_ms, (long long)budget);
		return DRILL_VERDICT_FAILED;
	}
	if (measure->two_ms > 0) {
		base_error_set(message, -EIO, "two nodes answered for %.1f ms", measure->two_ms);
		return DRILL_VERDICT_FAILED;
	}
	if (!connections_suffice(drill, measure, message))
		return DRILL_VERDICT_FAILED;
	base_error_set(message, 0, "from %s to %s; nobody answered for %.1f ms%s", from, owner,
		       measure->outage_ms,
		       is_own_word(measure, owner) ? ", says the new owner, who alone looked on" : "");
	return DRILL_VERDICT_SUCCEEDED;
}
