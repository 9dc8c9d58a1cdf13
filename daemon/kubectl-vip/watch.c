#include <string.h>

#include "base/cleanup.h"
#include "daemon/kubectl-vip/status.h"
#include "k8s/object.h"

DEFINE_CLEANUP(cJSON, cJSON_Delete)

struct watch {
	const struct arguments *arguments;
	bool wide, rows;    /* more columns; a table at all, not objects */
	struct table table;
	cJSON *shown; /* {name: VirtualIP} as each was printed last */
};

static void show(struct watch *watch, const cJSON *vip)
{
	if (watch->rows) {
		status_row(&watch->table, vip, watch->wide);
		table_flush(&watch->table, watch->arguments->no_headers);
		return;
	}
	cJSON *one = cJSON_CreateArray();

	if (watch->arguments->output == OUTPUT_YAML)
		puts("---");
	cJSON_AddItemToArray(one, cJSON_Duplicate(vip, true));
	output_objects(watch->arguments->output, one, true, "VirtualIP", "virtualip.vipd.dev");
	fflush(stdout);
}

static bool same(const cJSON *one, const cJSON *other, const char *part)
{
	const cJSON *left = k8s_object_get(one, part), *right = k8s_object_get(other, part);

	return left == right || cJSON_Compare(left, right, true);
}

/* Lists tell again what is known already, and notes on an object are of no interest here. */
static void on_vip(void *userdata, const cJSON *vip)
{
	struct watch *watch = userdata;
	const char *name = k8s_object_text(vip, "metadata/name");
	const cJSON *before = cJSON_GetObjectItemCaseSensitive(watch->shown, name);

	if (!status_wanted(vip, watch->arguments) ||
	    (before && same(before, vip, "spec") && same(before, vip, "status")))
		return;
	cJSON_DeleteItemFromObjectCaseSensitive(watch->shown, name);
	cJSON_AddItemToObject(watch->shown, name, cJSON_Duplicate(vip, true));
	show(watch, vip);
}

static void on_gone(void *userdata, const char *namespace, const char *name)
{
	struct watch *watch = userdata;
	CLEANUP(cJSON_Delete_cleanup)
	cJSON *vip = cJSON_DetachItemFromObjectCaseSensitive(watch->shown, name);
	cJSON *status = cJSON_GetObjectItemCaseSensitive(vip, "status");

	(void)namespace;
	if (!vip)
		return;
	if (!status)
		status = cJSON_AddObjectToObject(vip, "status");
	cJSON_DeleteItemFromObjectCaseSensitive(status, "state");
	cJSON_AddStringToObject(status, "state", "Released");
	show(watch, vip);
}

int status_watch(struct api *api, const struct arguments *arguments, cJSON *vips,
		 struct base_error *error)
{
	static const struct k8s_informer_handlers handlers = { .on_object = on_vip,
							       .on_gone = on_gone };
	struct watch watch = { .arguments = arguments,
			       .wide = arguments->output == OUTPUT_WIDE,
			       .shown = cJSON_CreateObject() };
	int r = 0;

	watch.rows = watch.wide || arguments->output == OUTPUT_TABLE;
	status_start(&watch.table, watch.wide);
	if (watch.rows && vips->child) {
		r = status_rows(&watch.table, vips, watch.wide);
		table_flush(&watch.table, arguments->no_headers);
	}
	for (cJSON *vip = vips->child, *next; vip; vip = next) {
		next = vip->next;
		if (!watch.rows)
			show(&watch, vip);
		cJSON_AddItemToObject(watch.shown, k8s_object_text(vip, "metadata/name"),
				      cJSON_DetachItemViaPointer(vips, vip));
	}
	cJSON_Delete(vips);
	if (r >= 0)
		r = api_follow(api, API_GROUP "/virtualips", &handlers, &watch, error);
	table_print(&watch.table, true);
	cJSON_Delete(watch.shown);
	return r;
}
