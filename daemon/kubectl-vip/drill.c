#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/kubectl-vip/commands.h"
#include "daemon/kubectl-vip/output.h"
#include "daemon/kubectl-vip/timeline.h"
#include "k8s/object.h"

#define POLL_US (500 * BASE_USEC_PER_MSEC)

DEFINE_CLEANUP(cJSON, cJSON_Delete)

static bool has_ended(const cJSON *drill)
{
	const char *phase = k8s_object_text(drill, "status/phase");

	return strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0 ||
	       strcmp(phase, "Refused") == 0;
}

/* "61.2ms", or "" if it was not measured. */
static const char *milliseconds(const cJSON *object, const char *path, char text[static 32])
{
	const cJSON *item = k8s_object_get(object, path);

	*text = '\0';
	if (cJSON_IsNumber(item))
		snprintf(text, 32, "%.4gms", item->valuedouble);
	return text;
}

/* "3/3", kept of all that were held, or "". */
static const char *kept(const cJSON *run, char text[static 32])
{
	long long count = (long long)k8s_object_number(run, "connectionsKept", 0, INT64_MAX, -1);
	long long lost = (long long)k8s_object_number(run, "connectionsLost", 0, INT64_MAX, 0);

	*text = '\0';
	if (count >= 0)
		snprintf(text, 32, "%lld/%lld", count, count + lost);
	return text;
}

/* --- list --- */

static void list_table(const cJSON *items, const struct arguments *arguments)
{
	struct table table;
	const cJSON *item;

	table_start(&table, "NAME|TARGET|ACTION|PHASE|OUTAGE|BUDGET|KEPT|FROM|TO|LAST|NEXT");
	cJSON_ArrayForEach(item, items) {
		const char *target = k8s_object_text(item, "status/target");
		const char *phase = k8s_object_text(item, "status/phase");
		char outage[32], budget[32], connections[32], age[16];

		table_add(&table, "%s", k8s_object_text(item, "metadata/name"));
		table_add(&table, "%s",
			  *target ? target : k8s_object_text(item, "spec/target/virtualIP"));
		table_add(&table, "%s", k8s_object_text(item, "spec/action"));
		table_add(&table, "%s", *phase ? phase : "Pending");
		table_add(&table, "%s",
			  milliseconds(item, "status/last/outageMilliseconds", outage));
		table_add(&table, "%s",
			  milliseconds(item, "spec/budget/outageMilliseconds", budget));
		table_add(&table, "%s", kept(k8s_object_get(item, "status/last"), connections));
		table_add(&table, "%s", k8s_object_text(item, "status/last/from"));
		table_add(&table, "%s", k8s_object_text(item, "status/last/to"));
		table_add(&table, "%s",
			  output_since(k8s_object_text(item, "status/last/finished"), age));
		table_add(&table, "%s", k8s_object_text(item, "status/nextRun"));
	}
	table_print(&table, arguments->no_headers);
}

static int list_drills(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL;
	cJSON *items;
	int r = api_get(api, API_GROUP "/failoverdrills", &list, error);

	if (r < 0)
		return r;
	if (arguments->output == OUTPUT_SVG)
		return base_error_set(error, -EINVAL, "-o svg draws one drill: kubectl vip drill show NAME");
	items = cJSON_DetachItemFromObject(list, "items");
	if (arguments->output != OUTPUT_TABLE && arguments->output != OUTPUT_WIDE) {
		output_objects(arguments->output, items, false, "FailoverDrill",
			       "failoverdrill.vipd.dev");
		return 0;
	}
	if (cJSON_GetArraySize(items) == 0)
		fputs("No drills yet: kubectl vip drill run ADDRESS\n", stderr);
	else
		list_table(items, arguments);
	cJSON_Delete(items);
	return 0;
}

/* --- show --- */

static void show_runs(const cJSON *drill, const struct arguments *arguments)
{
	const cJSON *run;
	struct table table;

	table_start(&table, "FINISHED|ADDRESS|FROM|TO|OUTAGE|TWO|SENT|LOST|KEPT|VERDICT|MESSAGE");
	cJSON_ArrayForEach(run, k8s_object_get(drill, "status/runs")) {
		char outage[32], two[32], connections[32];

		table_add(&table, "%s", k8s_object_text(run, "finished"));
		table_add(&table, "%s", k8s_object_text(run, "virtualIP"));
		table_add(&table, "%s", k8s_object_text(run, "from"));
		table_add(&table, "%s", k8s_object_text(run, "to"));
		table_add(&table, "%s", milliseconds(run, "outageMilliseconds", outage));
		table_add(&table, "%s", milliseconds(run, "answeredByTwoMilliseconds", two));
		table_add(&table, "%lld",
			  (long long)k8s_object_number(run, "probesSent", 0, INT64_MAX, 0));
		table_add(&table, "%lld",
			  (long long)k8s_object_number(run, "probesLost", 0, INT64_MAX, 0));
		table_add(&table, "%s", kept(run, connections));
		table_add(&table, "%s", k8s_object_text(run, "verdict"));
		table_add(&table, "%s", k8s_object_text(run, "message"));
	}
	table_print(&table, arguments->no_headers);
}

static int draw(const cJSON *drill, struct base_error *error)
{
	const cJSON *last = k8s_object_get(drill, "status/last");
	char title[400];

	if (!k8s_object_get(last, "timeline"))
		return base_error_set(error, -ENOENT, "of %s no run was measured that could be drawn",
				      k8s_object_text(drill, "metadata/name"));
	snprintf(title, sizeof title, "%s of %s, %s: %s", k8s_object_text(last, "action"),
		 k8s_object_text(last, "virtualIP"), k8s_object_text(last, "started"),
		 k8s_object_text(last, "verdict"));
	timeline_draw(stdout, last, title);
	return 0;
}

static int show_drill(struct api *api, const struct arguments *arguments, const char *name,
		      struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL;
	cJSON *items;
	const cJSON *drill;
	int r = api_get(api, API_GROUP "/failoverdrills", &list, error);

	if (r < 0)
		return r;
	drill = api_pick(list, "FailoverDrill", name, error);
	if (!drill)
		return error->code;
	if (arguments->output == OUTPUT_SVG)
		return draw(drill, error);
	if (arguments->output != OUTPUT_TABLE && arguments->output != OUTPUT_WIDE) {
		items = cJSON_CreateArray();
		cJSON_AddItemToArray(items, cJSON_Duplicate(drill, true));
		output_objects(arguments->output, items, true, "FailoverDrill",
			       "failoverdrill.vipd.dev");
		return 0;
	}
	if (!has_ended(drill) && strcmp(k8s_object_text(drill, "status/phase"), "Running") == 0)
		printf("running: %s from %s to %s\n",
		       k8s_object_text(drill, "status/run/virtualIP"),
		       k8s_object_text(drill, "status/run/from"),
		       k8s_object_text(drill, "status/run/to"));
	if (cJSON_GetArraySize(k8s_object_get(drill, "status/runs")) > 0) {
		show_runs(drill, arguments);
		timeline_print(stdout, k8s_object_get(drill, "status/last"));
	} else if (*k8s_object_text(drill, "status/nextRun")) {
		printf("its first run: %s\n", k8s_object_text(drill, "status/nextRun"));
	} else if (!has_ended(drill)) {
		puts("it has not run yet; does a controller lead? kubectl get lease -n "
		     "vipd-system");
	}
	return strcmp(k8s_object_text(drill, "status/phase"), "Failed") == 0 ||
			       strcmp(k8s_object_text(drill, "status/phase"), "Refused") == 0
		       ? 1
		       : 0;
}

/* --- run --- */

static int wait_for_end(struct api *api, const char *name, uint64_t timeout_us,
			struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *drill = NULL;
	char path[512];

	snprintf(path, sizeof path, API_GROUP "/failoverdrills/%s", name);
	api_set_deadline(api, timeout_us);
	do {
		int r;

		cJSON_Delete(TAKE(drill));
		r = api_get(api, path, &drill, error);
		if (r < 0)
			return r;
		if (has_ended(drill)) {
			const char *phase = k8s_object_text(drill, "status/phase");

			printf("%s: %s\n", phase, k8s_object_text(drill, "status/last/message"));
			return strcmp(phase, "Succeeded") == 0 ? 0 : 1;
		}
		api_sleep(api, POLL_US);
	} while (!api_expired(api));
	fprintf(stderr, "drill %s has not ended after %.0f s: kubectl vip drill show %s\n", name,
		(double)timeout_us / (double)BASE_USEC_PER_SEC, name);
	return 1;
}

/* TARGET: an address, a Service as NAME or NAMESPACE/NAME, node/NAME, pool/NAME. */
static void add_target(cJSON *spec, const char *word, const char *namespace)
{
	cJSON *target = cJSON_AddObjectToObject(spec, "target"), *service;
	const char *slash = strchr(word, '/');
	struct base_address address;
	char text[256];

	if (base_address_parse(word, &address)) {
		cJSON_AddStringToObject(target, "virtualIP", word);
		return;
	}
	if (slash && (strncmp(word, "node/", 5) == 0 || strncmp(word, "pool/", 5) == 0)) {
		snprintf(text, sizeof text, "%.4s", word);
		cJSON_AddStringToObject(target, text, slash + 1);
		return;
	}
	service = cJSON_AddObjectToObject(target, "service");
	snprintf(text, sizeof text, "%.*s", slash ? (int)(slash - word) : 0, word);
	cJSON_AddStringToObject(service, "namespace", slash ? text : namespace);
	cJSON_AddStringToObject(service, "name", slash ? slash + 1 : word);
}

static int run_drill(struct api *api, const struct arguments *arguments, const char *word,
		     struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *drill = NULL;
	cJSON *spec, *budget;
	uint32_t salt;
	char name[32];

	if (getrandom(&salt, sizeof salt, 0) != sizeof salt)
		return base_error_set(error, -EIO, "the kernel gives no random numbers");
	snprintf(name, sizeof name, "drill-%08x", salt);
	drill = k8s_object_new("vipd.dev/v1alpha1", "FailoverDrill", NULL, name);
	spec = cJSON_AddObjectToObject(drill, "spec");
	add_target(spec, word, arguments->namespace ? arguments->namespace : api_namespace(api));
	cJSON_AddStringToObject(spec, "action", arguments->action);
	if (arguments->hold_s > 0)
		cJSON_AddNumberToObject(spec, "holdSeconds", arguments->hold_s);
	budget = cJSON_AddObjectToObject(spec, "budget");
	if (arguments->budget_ms >= 0)
		cJSON_AddNumberToObject(budget, "outageMilliseconds", arguments->budget_ms);
	if (arguments->lost_connections >= 0)
		cJSON_AddNumberToObject(budget, "lostConnections", arguments->lost_connections);
	if (api_create(api, API_GROUP "/failoverdrills", drill, error) < 0)
		return error->code;
	printf("failoverdrill.vipd.dev/%s created\n", name);
	fflush(stdout);
	return arguments->wait ? wait_for_end(api, name, arguments->timeout_us, error) : 0;
}

int drill_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	const char *what = arguments->words[0];
	unsigned more = arguments->word_count - 1;

	if (strcmp(what, "list") == 0 && more == 0)
		return list_drills(api, arguments, error);
	if (strcmp(what, "show") == 0 && more == 1)
		return show_drill(api, arguments, arguments->words[1], error);
	if (strcmp(what, "run") == 0 && more == 1)
		return run_drill(api, arguments, arguments->words[1], error);
	fputs("error: usage: kubectl vip drill run ADDRESS|SERVICE|node/NAME|pool/NAME, list, or show NAME\n", stderr);
	return 2;
}
