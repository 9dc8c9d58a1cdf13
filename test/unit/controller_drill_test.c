/* Drills: what is refused because it would be an outage, who looks on, and the verdict. */
#include <string.h>

#include "base/time.h"
#include "daemon/controller/drill_course.h"
#include "daemon/controller/drill_record.h"
#include "k8s/object.h"
#include "test/unit/unit.h"

static const struct drill_node four[] = {
	{ "n1", true, true },
	{ "n2", true, true },
	{ "n3", true, true },
	{ "n4", true, false },
};

#define ADDRESS              "\"virtualIP\":\"192.0.2.10\""
#define SPEC(action, target) "{\"spec\":{\"action\":\"" action "\",\"target\":{" target "}}}"
#define HANDOVER             SPEC("Handover", ADDRESS)
#define VIP(status, notes)                                                                         \
	"{\"metadata\":{\"annotations\":{" notes "}},\"spec\":{\"address\":\"192.0.2.10\","        \
	"\"virtualRouter\":\"lab.ipv4.10\",\"candidates\":[{\"node\":\"n1\"},{\"node\":\"n2\"},{"  \
	"\"node\":\"n4\"}]},\"status\":"                                                           \
	"{" status "}}"
#define ACTIVE "\"owner\":\"n1\",\"state\":\"Active\""

static const struct {
	const char *name, *vip;
	const struct drill_node *nodes;
	size_t count;
	const char *to, *prober; /* NULL: refused, and: */
	const char *says;
	const char *drill;
} plans[] = {
	{ "from the owner to the next candidate, a third looks on", VIP(ACTIVE, ""), four, 4, "n2",
	  "n3", NULL, HANDOVER },
	{ "one that may not is passed over",
	  VIP(ACTIVE ",\"notEligible\":[{\"node\":\"n2\",\"reason\":\"LinkDown\"}]", ""), four, 4,
	  "n4", "n2", NULL, HANDOVER },
	{ "nobody else may",
	  VIP(ACTIVE ",\"notEligible\":[{\"node\":\"n2\",\"reason\":\"LinkDown\"},{\"node\":\"n4\","
		     "\"reason\":\"NotOnSegment\"}]",
	      ""),
	  four, 4, NULL, NULL, "n2: LinkDown, n4: NotOnSegment", HANDOVER },
	{ "the others' speakers are silent", VIP(ACTIVE, ""),
	  (const struct drill_node[]){
		  { "n1", true, true }, { "n2", false, true }, { "n3", true, true } },
	  3, NULL, NULL, "n2: its speaker is not ready", HANDOVER },
	{ "nobody could look on", VIP(ACTIVE, ""), four, 2, NULL, NULL,
	  "besides n1 and n2 no node on the segment", HANDOVER },
	{ "one on another segment sees nothing", VIP(ACTIVE, ""),
	  (const struct drill_node[]){
		  { "n1", true, true }, { "n2", true, true }, { "n4", true, false } },
	  3, NULL, NULL, "could look on", HANDOVER },
	{ "no owner", VIP("\"state\":\"Unowned\"", ""), four, 4, NULL, NULL, "state Unowned",
	  HANDOVER },
	{ "a foreigner has it", VIP("\"owner\":\"n1\",\"state\":\"Conflict\"", ""), four, 4, NULL,
	  NULL, "state Conflict", HANDOVER },
	{ "it moves", VIP("\"owner\":\"n1\",\"state\":\"Moving\"", ""), four, 4, NULL, NULL,
	  "on the move", HANDOVER },
	{ "a handover was ordered",
	  VIP(ACTIVE ",\"handoverID\":\"a\"", "\"vipd.dev/handover\":\"{\\\"id\\\":\\\"b\\\"}\""),
	  four, 4, NULL, NULL, "on the move", HANDOVER },
	{ "a handover was carried out",
	  VIP(ACTIVE ",\"handoverID\":\"b\"", "\"vipd.dev/handover\":\"{\\\"id\\\":\\\"b\\\"}\""),
	  four, 4, "n2", "n3", NULL, HANDOVER },
	{ "an object of nonsense", "{\"spec\":[],\"status\":7}", four, 4, NULL, NULL, "no owner",
	  HANDOVER },
	{ "a router is to crash", VIP(ACTIVE, ""), four, 4, "n2", "n3", NULL,
	  SPEC("Crash", ADDRESS) },
	{ "a router that has no name",
	  "{\"spec\":{\"address\":\"192.0.2.10\"},\"status\":{" ACTIVE "}}", four, 4, NULL, NULL,
	  "names no spec.virtualRouter", SPEC("Hang", ADDRESS) },
	{ "a node is to hang", VIP(ACTIVE, ""), four, 4, "n2", "n3", NULL,
	  SPEC("Hang", "\"node\":\"n1\"") },
	{ "a node that does not own it any more", VIP(ACTIVE, ""), four, 4, NULL, NULL,
	  "not at n2 any more", SPEC("Hang", "\"node\":\"n2\"") },
	{ "a fault without a second node",
	  VIP(ACTIVE ",\"notEligible\":[{\"node\":\"n2\",\"reason\":\"LinkDown\"},"
		     "{\"node\":\"n4\",\"reason\":\"LinkDown\"}]",
	      ""),
	  four, 4, NULL, NULL, "it would be an outage", SPEC("Isolate", ADDRESS) },
};

static void test_a_drill_that_would_be_an_outage_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(plans); i++) {
		cJSON *vip = cJSON_Parse(plans[i].vip), *drill = cJSON_Parse(plans[i].drill);
		struct base_error error = { 0 };
		struct drill_plan plan;
		int r;

		ASSERT_ROW(plans[i].name, vip != NULL && drill != NULL);
		r = drill_plan(drill, vip, plans[i].nodes, plans[i].count, &plan, &error);
		cJSON_Delete(vip);
		cJSON_Delete(drill);
		ASSERT_ROW(plans[i].name, (r == 0) == (plans[i].to != NULL));
		if (r < 0) {
			ASSERT_ROW(plans[i].name, strstr(error.message, plans[i].says) != NULL);
			continue;
		}
		ASSERT_ROW(plans[i].name, strcmp(plan.from, "n1") == 0);
		ASSERT_ROW(plans[i].name, strcmp(plan.to, plans[i].to) == 0);
		ASSERT_ROW(plans[i].name, plan.prober_count >= 1);
		ASSERT_ROW(plans[i].name, strcmp(plan.probers[0], plans[i].prober) == 0);
	}
}

static const struct {
	const char *name, *spec, *says; /* says NULL: it can be run */
} specs[] = {
	{ "an address", "{\"action\":\"Handover\",\"target\":{\"virtualIP\":\"192.0.2.10\"}}",
	  NULL },
	{ "a Service",
	  "{\"action\":\"Handover\",\"target\":{\"service\":{\"namespace\":\"a\",\"name\":\"b\"}},"
	  "\"probe\":{\"protocol\":\"ARP\"},\"budget\":{\"outageMilliseconds\":100}}",
	  NULL },
	{ "a crash", "{\"action\":\"Crash\",\"target\":{\"virtualIP\":\"192.0.2.10\"}}", NULL },
	{ "a word that is no action", "{\"action\":\"Explode\",\"target\":{\"node\":\"n1\"}}",
	  "spec.action Explode" },
	{ "a budget of connections",
	  "{\"action\":\"Handover\",\"target\":{\"virtualIP\":\"192.0.2.10\"},\"budget\":{"
	  "\"lostConnections\":0}}",
	  NULL },
};

/* Nothing is left out in silence: what was asked for and cannot be measured is no success. */
static void test_what_this_version_cannot_do_is_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(specs); i++) {
		cJSON *drill = cJSON_CreateObject();
		struct base_error error = { 0 };
		int r;

		cJSON_AddItemToObject(drill, "spec", cJSON_Parse(specs[i].spec));
		r = drill_check_spec(drill, &error);
		cJSON_Delete(drill);
		ASSERT_ROW(specs[i].name, (r == 0) == (specs[i].says == NULL));
		if (specs[i].says)
			ASSERT_ROW(specs[i].name,
				   strstr(error.message, specs[i].says) == error.message);
	}
}

static const struct {
	const char *name, *owner;
	struct drill_measure measure;
	enum drill_verdict verdict;
	const char *says;
} verdicts[] = {
	{ "within the budget",
	  "n2",
	  { 1, 1200, 2, 10, 0, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_SUCCEEDED,
	  "answered for 10.0 ms" },
	{ "as long as was allowed",
	  "n2",
	  { 1, 1200, 20, 100, 0, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_SUCCEEDED,
	  "from n1 to n2" },
	{ "longer",
	  "n2",
	  { 1, 1200, 21, 100.1, 0, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_FAILED,
	  "100 ms were allowed" },
	{ "as many connections lost as were allowed",
	  "n2",
	  { 1, 1200, 2, 10, 0, NULL, NULL, 2, 1, NULL },
	  DRILL_VERDICT_SUCCEEDED,
	  "from n1 to n2" },
	{ "one more",
	  "n2",
	  { 1, 1200, 2, 10, 0, NULL, NULL, 4, 2, NULL },
	  DRILL_VERDICT_FAILED,
	  "2 of 6 connections were lost; 1 were allowed" },
	{ "none was held to the end",
	  "n2",
	  { 1, 1200, 2, 10, 0, NULL, NULL, 0, 0, NULL },
	  DRILL_VERDICT_FAILED,
	  "no connection could be followed" },
	{ "none was answered, and not for long",
	  "n2",
	  { 1, 12, 12, 60, 0, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_FAILED,
	  "none of 12 probes was answered" },
	{ "two answered",
	  "n2",
	  { 1, 1200, 0, 0, 5, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_FAILED,
	  "two nodes answered for 5.0 ms" },
	{ "it stayed", "n1", { 1, 1200, 0, 0, 0, NULL, NULL, 3, 0, NULL }, DRILL_VERDICT_FAILED, "is at n1" },
	{ "it went elsewhere",
	  "n3",
	  { 1, 1200, 0, 0, 0, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_FAILED,
	  "is at n3" },
	{ "it is gone",
	  "",
	  { 1, 1200, 0, 0, 0, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_FAILED,
	  "is at nobody" },
	{ "nobody saw it to the end",
	  "n2",
	  { 0, 0, 0, 0, 0, NULL, NULL, 3, 0, NULL },
	  DRILL_VERDICT_FAILED,
	  "nobody measured it" },
};

static void test_the_verdict_is_what_was_measured_against_the_budget(void **state)
{
	cJSON *drill = cJSON_Parse("{\"spec\":{\"budget\":{\"outageMilliseconds\":100,"
				   "\"lostConnections\":1}},"
				   "\"status\":{\"run\":{\"from\":\"n1\",\"to\":\"n2\"}}}");

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(verdicts); i++) {
		cJSON *vip = cJSON_CreateObject();
		struct base_error message = { 0 };

		cJSON_AddStringToObject(cJSON_AddObjectToObject(vip, "status"), "owner",
					verdicts[i].owner);
		ASSERT_ROW(verdicts[i].name,
			   drill_judge(drill, *verdicts[i].owner ? vip : NULL, &verdicts[i].measure,
				       &message) == verdicts[i].verdict);
		ASSERT_ROW(verdicts[i].name, strstr(message.message, verdicts[i].says) != NULL);
		cJSON_Delete(vip);
	}
	cJSON_Delete(drill);
}

#define ROUTER_RUN                                                                                 \
	"{\"action\":\"Crash\",\"virtualRouter\":\"lab.ipv4.10\",\"from\":\"n1\",\"to\":\"n2\"}"
#define NODE_RUN "{\"action\":\"Crash\",\"from\":\"n1\",\"to\":\"n2\"}"

static const struct {
	const char *name, *run, *vip;
	enum drill_verdict verdict;
	const char *says;
} faults[] = {
	{ "somebody else has it", ROUTER_RUN, "{\"owner\":\"n3\",\"state\":\"Active\"}",
	  DRILL_VERDICT_SUCCEEDED, "from n1 to n3" },
	{ "a router alone cannot have kept it", ROUTER_RUN,
	  "{\"owner\":\"n1\",\"state\":\"Active\"}", DRILL_VERDICT_FAILED, "is at n1" },
	{ "an engine that came back at once can", NODE_RUN,
	  "{\"owner\":\"n1\",\"state\":\"Active\"}", DRILL_VERDICT_SUCCEEDED, "from n1 to n1" },
	{ "somebody has it, and is not well", NODE_RUN, "{\"owner\":\"n2\",\"state\":\"Conflict\"}",
	  DRILL_VERDICT_FAILED, "is at n2" },
	{ "nobody has it", NODE_RUN, "{\"state\":\"Unowned\"}", DRILL_VERDICT_FAILED,
	  "is at nobody" },
};

static void test_after_a_fault_somebody_stands_by_it(void **state)
{
	const struct drill_measure measure = { .probers = 1, .sent = 100, .outage_ms = 70 };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(faults); i++) {
		cJSON *drill = cJSON_CreateObject(), *vip = cJSON_CreateObject();
		struct base_error message = { 0 };

		cJSON_AddItemToObject(cJSON_AddObjectToObject(drill, "status"), "run",
				      cJSON_Parse(faults[i].run));
		cJSON_AddItemToObject(vip, "status", cJSON_Parse(faults[i].vip));
		ASSERT_ROW(faults[i].name,
			   drill_judge(drill, vip, &measure, &message) == faults[i].verdict);
		ASSERT_ROW(faults[i].name, strstr(message.message, faults[i].says) != NULL);
		cJSON_Delete(drill);
		cJSON_Delete(vip);
	}
}

static void test_a_drill_runs_once_for_each_of_its_specs(void **state)
{
	static const struct {
		const char *name, *object;
		bool due;
	} rows[] = {
		{ "new", "{\"metadata\":{\"generation\":1},\"spec\":{}}", true },
		{ "done",
		  "{\"metadata\":{\"generation\":1},\"spec\":{},\"status\":{\"phase\":\"Failed\","
		  "\"observedGeneration\":1}}",
		  false },
		{ "changed",
		  "{\"metadata\":{\"generation\":2},\"spec\":{},\"status\":{\"phase\":\"Failed\","
		  "\"observedGeneration\":1}}",
		  true },
		{ "running",
		  "{\"metadata\":{\"generation\":2},\"spec\":{},\"status\":{\"phase\":\"Running\","
		  "\"observedGeneration\":1}}",
		  false },
		{ "suspended", "{\"metadata\":{\"generation\":1},\"spec\":{\"suspend\":true}}",
		  false },
		{ "being deleted",
		  "{\"metadata\":{\"generation\":1,\"deletionTimestamp\":\"x\"},\"spec\":{}}",
		  false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		cJSON *drill = cJSON_Parse(rows[i].object);

		ASSERT_ROW(rows[i].name, drill && drill_is_due(drill) == rows[i].due);
		cJSON_Delete(drill);
	}
}

#define SAYS(state) "\"probe\":{\"id\":\"r1\",\"state\":\"" state "\",\"message\":\"\"}"
#define REFUSED     "\"probe\":{\"id\":\"r1\",\"state\":\"Done\",\"message\":\"not on it\"}"
#define TOLD        "\"lookout\":{\"id\":\"r1\"}"
#define RUN(ordered)                                                                               \
	"{\"status\":{\"run\":{\"id\":\"r1\",\"ordered\":" ordered ",\"probers\":[\"n3\",\"n4\"]}" \
	"}}"
#define LONG_AGO_S 40

/* What two lookers-on say, each of them the status of a Speaker, and what the controller does then. */
static const struct {
	const char *name, *n3, *n4;
	bool ordered;
	unsigned age_s;
	enum drill_step step;
	const char *why;
} courses[] = {
	{ "nobody was told", "", "", false, 0, DRILL_STEP_TELL, NULL },
	{ "one was told", TOLD, "", false, 0, DRILL_STEP_TELL, NULL },
	{ "both were told", TOLD, TOLD, false, 1, DRILL_STEP_WAIT, NULL },
	{ "one has begun", SAYS("Probing"), TOLD, false, 1, DRILL_STEP_WAIT, NULL },
	{ "one has begun, the other takes its time", SAYS("Probing"), TOLD, false, 3,
	  DRILL_STEP_ORDER, NULL },
	{ "both have begun", SAYS("Probing"), SAYS("Probing"), false, 1, DRILL_STEP_ORDER, NULL },
	{ "one has begun, the other cannot", SAYS("Probing"), REFUSED, false, 1, DRILL_STEP_ORDER,
	  NULL },
	{ "neither can", REFUSED, REFUSED, false, 1, DRILL_STEP_REFUSE, "n4: not on it" },
	{ "no answer", TOLD, TOLD, false, 7, DRILL_STEP_REFUSE, "no speaker answered" },
	{ "they ended before anything was ordered", SAYS("Done"), SAYS("Done"), false, 9,
	  DRILL_STEP_REFUSE, "nothing moved" },
	{ "it was ordered", SAYS("Probing"), SAYS("Done"), true, 3, DRILL_STEP_WAIT, NULL },
	{ "they are done", SAYS("Done"), SAYS("Done"), true, 8, DRILL_STEP_JUDGE, NULL },
	{ "one of them died", SAYS("Probing"), SAYS("Done"), true, LONG_AGO_S, DRILL_STEP_JUDGE,
	  NULL },
};

static void put_looker(struct drill_lookers *lookers, const char *node, const char *status)
{
	char text[256];
	cJSON *object;

	snprintf(text, sizeof text, "{\"metadata\":{\"name\":\"%s\"},\"status\":{%s}}", node,
		 status);
	object = cJSON_Parse(text);
	assert_non_null(object);
	drill_lookers_put(lookers, object);
	cJSON_Delete(object);
}

static void test_the_course_of_a_run(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(courses); i++) {
		struct drill_lookers *lookers = drill_lookers_new();
		struct drill_progress progress;
		struct base_error why = { 0 };
		cJSON *drill = cJSON_Parse(courses[i].ordered ? RUN("true") : RUN("false"));

		put_looker(lookers, "n3", courses[i].n3);
		put_looker(lookers, "n4", courses[i].n4);
		drill_lookers_look(lookers, drill, 0, &progress);
		ASSERT_ROW(courses[i].name,
			   drill_course(drill, &progress, courses[i].age_s * BASE_USEC_PER_SEC,
					&why) == courses[i].step);
		if (courses[i].why)
			ASSERT_ROW(courses[i].name, strstr(why.message, courses[i].why) != NULL);
		drill_lookers_free(lookers);
		cJSON_Delete(drill);
	}
}

static void test_figures_that_are_the_new_owners_own_are_said_to_be(void **state)
{
	static const struct {
		const char *name, *n3, *n4;
		bool own;
	} rows[] = {
		{ "it alone", SAYS("Done"), TOLD, true },
		{ "it and another one", SAYS("Done"), SAYS("Done"), false },
		{ "another one alone", TOLD, SAYS("Done"), false },
	};
	cJSON *vip = cJSON_Parse("{\"status\":{\"owner\":\"n3\",\"state\":\"Active\"}}");

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct drill_lookers *lookers = drill_lookers_new();
		cJSON *drill = cJSON_Parse(RUN("true"));
		struct drill_measure measure;
		struct base_error message = { 0 };

		cJSON_AddStringToObject(cJSON_GetObjectItem(cJSON_GetObjectItem(drill, "status"), "run"),
					"action", "Crash");
		put_looker(lookers, "n3", rows[i].n3);
		put_looker(lookers, "n4", rows[i].n4);
		drill_lookers_measure(lookers, drill, &measure);
		ASSERT_ROW(rows[i].name, drill_judge(drill, vip, &measure, &message) ==
						 DRILL_VERDICT_SUCCEEDED);
		ASSERT_ROW(rows[i].name, (strstr(message.message, "says the new owner") != NULL) ==
						 rows[i].own);
		drill_lookers_free(lookers);
		cJSON_Delete(drill);
	}
	cJSON_Delete(vip);
}

/* RFC 7396, as the API server does it. */
static void merge(cJSON *target, const cJSON *patch)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, patch) {
		cJSON *old = cJSON_GetObjectItemCaseSensitive(target, item->string);

		if (cJSON_IsObject(item) && !cJSON_IsObject(old)) {
			cJSON_DeleteItemFromObjectCaseSensitive(target, item->string);
			old = cJSON_AddObjectToObject(target, item->string);
		}
		if (cJSON_IsObject(item)) {
			merge(old, item);
			continue;
		}
		cJSON_DeleteItemFromObjectCaseSensitive(target, item->string);
		if (!cJSON_IsNull(item))
			cJSON_AddItemToObject(target, item->string, cJSON_Duplicate(item, true));
	}
}

static cJSON *applied(const cJSON *drill, cJSON *status)
{
	cJSON *patch = cJSON_CreateObject(), *after = cJSON_Duplicate(drill, true);

	cJSON_AddItemToObject(patch, "status", status);
	merge(after, patch);
	cJSON_Delete(patch);
	return after;
}

/* Two addresses, one after another, as merge patches: nothing of the first stays with the second. */
static void test_a_round_has_an_end(void **state)
{
	const struct drill_plan plan = { .from = "n1", .to = "n2", .router = "lab.ipv4.4" };
	cJSON *drill =
		cJSON_Parse("{\"metadata\":{\"name\":\"d\",\"generation\":1},\"spec\":{\"action\":"
			    "\"Crash\",\"target\":{\"pool\":\"lab\"}}}");
	cJSON *left = cJSON_Parse("[\"192.0.2.5\"]"), *none = cJSON_CreateArray();
	cJSON *first, *between, *second, *end;

	(void)state;
	first = applied(drill, drill_record_begin(drill, &plan, "192.0.2.4", left, 1));
	assert_string_equal(k8s_object_text(first, "status/run/virtualIP"), "192.0.2.4");
	between = applied(first, drill_record_end(first, DRILL_VERDICT_FAILED, NULL, "no",
						  k8s_object_get(first, "status/run/left"), 2));
	assert_true(drill_is_running(between));
	assert_null(k8s_object_get(between, "status/run/id"));
	second = applied(between, drill_record_begin(between, &plan, "192.0.2.5", none, 3));
	assert_string_equal(k8s_object_text(second, "status/run/virtualIP"), "192.0.2.5");
	assert_null(k8s_object_get(second, "status/run/left"));
	end = applied(second, drill_record_end(second, DRILL_VERDICT_SUCCEEDED, NULL, "yes",
					       k8s_object_get(second, "status/run/left"), 4));
	assert_string_equal(k8s_object_text(end, "status/phase"), "Failed"); /* the worst of them */
	assert_int_equal(cJSON_GetArraySize(k8s_object_get(end, "status/runs")), 2);
	assert_null(k8s_object_get(end, "status/run"));
	assert_false(drill_is_due(end));
	for (size_t i = 0; i < 7; i++)
		cJSON_Delete((cJSON *[]){ drill, left, none, first, between, second, end }[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_drill_that_would_be_an_outage_is_refused),
		cmocka_unit_test(test_what_this_version_cannot_do_is_said),
		cmocka_unit_test(test_the_verdict_is_what_was_measured_against_the_budget),
		cmocka_unit_test(test_after_a_fault_somebody_stands_by_it),
		cmocka_unit_test(test_figures_that_are_the_new_owners_own_are_said_to_be),
		cmocka_unit_test(test_a_drill_runs_once_for_each_of_its_specs),
		cmocka_unit_test(test_the_course_of_a_run),
		cmocka_unit_test(test_a_round_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
