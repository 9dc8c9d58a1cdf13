#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "daemon/kubectl-vip/commands.h"
#include "daemon/kubectl-vip/status.h"
#include "k8s/object.h"

DEFINE_CLEANUP(cJSON, cJSON_Delete)

#define LIST_TEXT_SIZE 1024

/* --- reading --- */

const char *vip_name(const char *word, char name[static 64])
{
	struct base_address address;
	char text[BASE_ADDRESS_NAME_SIZE];

	if (base_address_parse(word, &address))
		word = base_address_name(&address, text);
	snprintf(name, 64, "%s", word);
	return name;
}

bool vip_names(const cJSON *vip, const char *namespace, const char *name)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(vip, "spec/services"))
		if (strcmp(k8s_object_text(item, "namespace"), namespace) == 0 &&
		    (!name || strcmp(k8s_object_text(item, "name"), name) == 0))
			return true;
	return false;
}

const cJSON *vip_not_eligible(const cJSON *vip, const char *node)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(vip, "status/notEligible"))
		if (strcmp(k8s_object_text(item, "node"), node) == 0)
			return item;
	return NULL;
}

const cJSON *condition_of(const cJSON *object, const char *type)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(object, "status/conditions"))
		if (strcmp(k8s_object_text(item, "type"), type) == 0)
			return item;
	return NULL;
}

const char *condition_status(const cJSON *object, const char *type)
{
	return k8s_object_text(condition_of(object, type), "status");
}

bool status_wanted(const cJSON *vip, const struct arguments *arguments)
{
	for (unsigned i = 0; i < arguments->word_count; i++) {
		char name[64];

		if (strcmp(vip_name(arguments->words[i], name), k8s_object_text(vip, "metadata/name")) == 0)
			return true;
	}
	return arguments->word_count == 0 &&
	       (!arguments->namespace || vip_names(vip, arguments->namespace, NULL));
}

/* The items that were asked for by name (all, if none was), detached from the list. */
static cJSON *chosen(cJSON *list, const struct arguments *arguments, const char *kind,
		     struct base_error *error)
{
	cJSON *items = cJSON_CreateArray(), *all = cJSON_GetObjectItem(list, "items"), *next;

	for (unsigned i = 0; i < arguments->word_count; i++) {
		char name[64];
		const cJSON *found =
			api_pick(list, kind, vip_name(arguments->words[i], name), error);

		if (!found) {
			cJSON_Delete(items);
			return NULL;
		}
		cJSON_AddItemToArray(items, cJSON_Duplicate(found, true));
	}
	for (cJSON *item = all ? all->child : NULL; item && arguments->word_count == 0; item = next) {
		next = item->next;
		if (!arguments->namespace || vip_names(item, arguments->namespace, NULL))
			cJSON_AddItemToArray(items, cJSON_DetachItemViaPointer(all, item));
	}
	return items;
}

/* --- status --- */

static void join(char *text, size_t size, const char *separator, const char *word)
{
	size_t at = strlen(text);

	snprintf(text + at, size - at, "%s%s", at ? separator : "", word);
}

static void services_of(const cJSON *vip, char *text, size_t size)
{
	const cJSON *item;

	*text = '\0';
	cJSON_ArrayForEach(item, k8s_object_get(vip, "spec/services")) {
		char one[160];

		snprintf(one, sizeof one, "%s/%s", k8s_object_text(item, "namespace"),
			 k8s_object_text(item, "name"));
		join(text, size, ",", one);
	}
}

/* n1:240,n2:130!  with ! for those that may not own it now. */
static void candidates_of(const cJSON *vip, char *text, size_t size)
{
	const cJSON *item;

	*text = '\0';
	cJSON_ArrayForEach(item, k8s_object_get(vip, "spec/candidates")) {
		const char *node = k8s_object_text(item, "node");
		char one[300];

		snprintf(one, sizeof one, "%s:%d%s", node,
			 (int)k8s_object_number(item, "priority", 0, 255, 0),
			 vip_not_eligible(vip, node) ? "!" : "");
		join(text, size, ",", one);
	}
}

/* Why it is not as it should be; otherwise why its owner owns it. */
static const char *reason_of(const cJSON *vip)
{
	static const char *const wanted[] = { "Owned", "Announced", "EndpointsAvailable" };

	if (strcmp(condition_status(vip, "Conflict"), "True") == 0)
		return k8s_object_text(condition_of(vip, "Conflict"), "reason");
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		if (strcmp(condition_status(vip, wanted[i]), "False") == 0)
			return k8s_object_text(condition_of(vip, wanted[i]), "reason");
	return k8s_object_text(vip, "status/lastTransition/reason");
}

static void outage_of(const cJSON *vip, char text[static 32])
{
	const cJSON *item = k8s_object_get(vip, "status/lastTransition/outageMilliseconds");

	*text = '\0';
	if (cJSON_IsNumber(item))
		snprintf(text, 32, "%.*fms", item->valuedouble < 10 && item->valuedouble > 0 ? 1 : 0,
			 item->valuedouble);
}

static int compare_vips(const void *a, const void *b)
{
	struct base_address left = { 0 }, right = { 0 };

	base_address_parse(k8s_object_text(*(const cJSON *const *)a, "spec/address"), &left);
	base_address_parse(k8s_object_text(*(const cJSON *const *)b, "spec/address"), &right);
	return base_address_compare(&left, &right);
}

void status_start(struct table *table, bool wide)
{
	table_start(table, wide ? "ADDRESS|OWNER|STATE|SINCE|SERVICES|POOL|REASON|OUTAGE|VRID|TERM|"
				  "TRANSITIONS|CANDIDATES|MESSAGE"
				: "ADDRESS|OWNER|STATE|SINCE|SERVICES|POOL|REASON|OUTAGE");
}

void status_row(struct table *table, const cJSON *vip, bool wide)
{
	const char *state = k8s_object_text(vip, "status/state");
	char services[LIST_TEXT_SIZE], candidates[LIST_TEXT_SIZE], since[16], outage[32];

	services_of(vip, services, sizeof services);
	candidates_of(vip, candidates, sizeof candidates);
	outage_of(vip, outage);
	table_add(table, "%s", k8s_object_text(vip, "spec/address"));
	table_add(table, "%s", k8s_object_text(vip, "status/owner"));
	table_add(table, "%s", *state ? state : "Pending");
	table_add(table, "%s", output_since(k8s_object_text(vip, "status/since"), since));
	table_add(table, "%s", services);
	table_add(table, "%s", k8s_object_text(vip, "spec/pool"));
	table_add(table, "%s", reason_of(vip));
	table_add(table, "%s", outage);
	if (!wide)
		return;
	table_add(table, "%d", (int)k8s_object_number(vip, "spec/virtualRouterID", 0, 255, 0));
	table_add(table, "%lld", (long long)k8s_object_number(vip, "status/term", 0, UINT32_MAX, 0));
	table_add(table, "%lld",
		  (long long)k8s_object_number(vip, "status/transitions", 0, UINT32_MAX, 0));
	table_add(table, "%s", candidates);
	table_add(table, "%s", k8s_object_text(vip, "status/lastTransition/message"));
}

int status_rows(struct table *table, const cJSON *vips, bool wide)
{
	size_t count = (size_t)cJSON_GetArraySize(vips), i = 0;
	const cJSON **sorted = calloc(count + 1, sizeof *sorted), *item;

	if (!sorted)
		return -1;
	cJSON_ArrayForEach(item, vips)
		sorted[i++] = item;
	qsort(sorted, count, sizeof *sorted, compare_vips);
	for (i = 0; i < count; i++)
		status_row(table, sorted[i], wide);
	free(sorted);
	return 0;
}

int status_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL, *items = NULL;
	bool wide = arguments->output == OUTPUT_WIDE;
	struct table table;
	int r = api_get(api, API_GROUP "/virtualips", &list, error);

	if (r < 0)
		return r;
	items = chosen(list, arguments, "VirtualIP", error);
	if (!items)
		return error->code;
	if (arguments->watch)
		return status_watch(api, arguments, TAKE(items), error);
	if (arguments->output != OUTPUT_TABLE && !wide) {
		output_objects(arguments->output, TAKE(items), arguments->word_count == 1, "VirtualIP",
			       "virtualip.vipd.dev");
		return 0;
	}
	if (!items->child) {
		fprintf(stderr, "No virtual addresses%s%s.\n", arguments->namespace ? " of namespace " : "",
			arguments->namespace ? arguments->namespace : "");
		return 0;
	}
	status_start(&table, wide);
	r = status_rows(&table, items, wide);
	table_print(&table, arguments->no_headers);
	return r;
}

/* --- pools --- */

/* "58", "58 + 256 IPv6" or "256 IPv6", after what the pool has. */
static void count_of(const cJSON *pool, const char *what, char text[static 64])
{
	const cJSON *count = k8s_object_get(k8s_object_get(pool, "status"), what);
	const cJSON *four = k8s_object_get(count, "ipv4"), *six = k8s_object_get(count, "ipv6");
	const cJSON *capacity = k8s_object_get(pool, "status/capacity/ipv6");
	bool has_six = cJSON_IsNumber(six) && cJSON_IsNumber(capacity) && capacity->valuedouble > 0;
	size_t at;

	capacity = k8s_object_get(pool, "status/capacity/ipv4");
	*text = '\0';
	if (cJSON_IsNumber(four) &&
	    (!has_six || (cJSON_IsNumber(capacity) && capacity->valuedouble > 0)))
		snprintf(text, 64, "%.0f", four->valuedouble);
	at = strlen(text);
	if (has_six)
		snprintf(text + at, 64 - at, "%s%.0f IPv6", at ? " + " : "", six->valuedouble);
}

static void pool_rows(const cJSON *items, const struct arguments *arguments)
{
	bool wide = arguments->output == OUTPUT_WIDE;
	struct table table;
	const cJSON *pool, *item;

	table_start(&table, wide ? "NAME|ADDRESSES|ASSIGNED|AVAILABLE|QUARANTINE|DATAPLANE|ACCEPTED|REASON|"
				   "AGE|PRIORITY|AUTOASSIGN|INTERVAL|MESSAGE"
				 : "NAME|ADDRESSES|ASSIGNED|AVAILABLE|QUARANTINE|DATAPLANE|ACCEPTED|REASON|"
				   "AGE");
	cJSON_ArrayForEach(pool, items) {
		const cJSON *accepted = condition_of(pool, "Accepted");
		bool disabled = k8s_object_bool(pool, "spec/disabled", false);
		char addresses[LIST_TEXT_SIZE] = "", count[64], age[16];

		cJSON_ArrayForEach(item, k8s_object_get(pool, "spec/addresses"))
			if (cJSON_IsString(item))
				join(addresses, sizeof addresses, ",", item->valuestring);
		table_add(&table, "%s", k8s_object_text(pool, "metadata/name"));
		table_add(&table, "%s", addresses);
		count_of(pool, "assigned", count);
		table_add(&table, "%s", count);
		count_of(pool, "available", count);
		table_add(&table, "%s", count);
		table_add(&table, "%d",
			  cJSON_GetArraySize(k8s_object_get(pool, "status/quarantine")));
		table_add(&table, "%s", k8s_object_text(pool, "spec/dataplane"));
		table_add(&table, "%s", accepted ? k8s_object_text(accepted, "status") : "Unknown");
		table_add(&table, "%s", disabled ? "Disabled" : k8s_object_text(accepted, "reason"));
		table_add(&table, "%s",
			  output_since(k8s_object_text(pool, "metadata/creationTimestamp"), age));
		if (!wide)
			continue;
		table_add(&table, "%d",
			  (int)k8s_object_number(pool, "spec/priority", INT32_MIN, INT32_MAX, 0));
		table_add(&table, "%s",
			  k8s_object_bool(pool, "spec/autoAssign", true) ? "true" : "false");
		table_add(&table, "%dms",
			  (int)k8s_object_number(pool, "spec/vrrp/advertisementIntervalMilliseconds", 0,
						 INT32_MAX, 100));
		table_add(&table, "%s", k8s_object_text(accepted, "message"));
	}
	table_print(&table, arguments->no_headers);
}

int pools_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL, *items = NULL;
	int r = api_get(api, API_GROUP "/addresspools", &list, error);

	if (r < 0)
		return r;
	items = chosen(list, arguments, "AddressPool", error);
	if (!items)
		return error->code;
	if (arguments->output != OUTPUT_TABLE && arguments->output != OUTPUT_WIDE) {
		output_objects(arguments->output, TAKE(items), arguments->word_count == 1,
			       "AddressPool", "addresspool.vipd.dev");
		return 0;
	}
	if (!items->child) {
		fputs("No address pools: no Service gets an address. Write an AddressPool: kubectl explain "
		      "addresspool.spec\n",
		      stderr);
		return 0;
	}
	pool_rows(items, arguments);
	return 0;
}
