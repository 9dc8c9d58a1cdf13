#include "daemon/controller/drill_lookers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/object.h"

struct looker {
	struct looker *next;
	char node[DRILL_NAME_SIZE];
	char told[96]; /* id of the order in its status */
	cJSON *probe;  /* status.probe; NULL: none */
	cJSON *taken;  /* status.faultTaken; NULL: none */
};

struct drill_lookers {
	struct looker *list;
};

static struct looker *find(const struct drill_lookers *lookers, const char *node)
{
	struct looker *looker = lookers->list;

	while (looker && strcmp(looker->node, node) != 0)
		looker = looker->next;
	return looker;
}

static struct looker *add(struct drill_lookers *lookers, const char *node)
{
	struct looker *looker = calloc(1, sizeof *looker);

	if (!looker)
		return NULL;
	snprintf(looker->node, sizeof looker->node, "%s", node);
	looker->next = lookers->list;
	lookers->list = looker;
	return looker;
}

/* What it said about this run; NULL: nothing yet. */
static const cJSON *said(const struct looker *looker, const char *id)
{
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

void drill_lookers_put(struct drill_lookers *lookers, const cJSON *object)
{
	const cJSON *probe = k8s_object_get(object, "status/probe");
	const cJSON *taken = k8s_object_get(object, "status/faultTaken");
	const char *id = k8s_object_text(object, "status/lookout/id");
	const char *node = k8s_object_text(object, "metadata/name");
	struct looker *looker = find(lookers, node);

	if (!looker && (probe || taken || *id))
		looker = add(lookers, node);
	if (!looker)
		return;
	cJSON_Delete(looker->probe);
	cJSON_Delete(looker->taken);
	looker->probe = probe ? cJSON_Duplicate(probe, true) : NULL;
	looker->taken = taken ? cJSON_Duplicate(taken, true) : NULL;
	snprintf(looker->told, sizeof looker->told, "%s", id);
}

void drill_lookers_look(const struct drill_lookers *lookers, const cJSON *drill, unsigned asked,
			struct drill_progress *progress)
{
	const char *id = k8s_object_text(drill, "status/run/id");
	const struct looker *victim = find(lookers, k8s_object_text(drill, "status/run/from"));
	const cJSON *item;

	*progress = (struct drill_progress){ .untold = -1 };
	cJSON_ArrayForEach(item, k8s_object_get(drill, "status/run/probers")) {
		const char *node = cJSON_IsString(item) ? item->valuestring : "";
		const struct looker *looker = find(lookers, node);
		const cJSON *probe = said(looker, id);
		unsigned index = progress->lookers++;

		if (!probe && (!looker || strcmp(looker->told, id) != 0) &&
		    !(asked & 1u << index) && progress->untold < 0)
			progress->untold = (int)index;
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
	}
	if (victim && strcmp(k8s_object_text(victim->taken, "id"), id) == 0)
		snprintf(progress->unbroken, sizeof progress->unbroken, "%s",
			 k8s_object_text(victim->taken, "message"));
}

void drill_lookers_measure(const struct drill_lookers *lookers, const cJSON *drill,
			   struct drill_measure *measure)
{
	const char *id = k8s_object_text(drill, "status/run/id");
	const cJSON *node;

	memset(measure, 0, sizeof *measure);
	cJSON_ArrayForEach(node, k8s_object_get(drill, "status/run/probers")) {
		const cJSON *probe =
			said(find(lookers, cJSON_IsString(node) ? node->valuestring : ""), id);

		if (!probe || !is_done(probe) || *k8s_object_text(probe, "message"))
			continue;
		measure->probers++;
		measure->prober = measure->probers == 1 ? node->valuestring : NULL;
		measure->sent += (uint64_t)decimal(probe, "sent");
		measure->lost += (uint64_t)decimal(probe, "lost");
		measure->kept += (uint64_t)decimal(probe, "connectionsKept");
		measure->connections_lost += (uint64_t)decimal(probe, "connectionsLost");
		if (!measure->timeline || decimal(probe, "outageMilliseconds") > measure->outage_ms)
			measure->timeline = k8s_object_get(probe, "timeline");
		if (decimal(probe, "outageMilliseconds") > measure->outage_ms)
			measure->outage_ms = decimal(probe, "outageMilliseconds");
		if (decimal(probe, "answeredByTwoMilliseconds") > measure->two_ms)
			measure->two_ms = decimal(probe, "answeredByTwoMilliseconds");
	}
}

struct drill_lookers *drill_lookers_new(void)
{
	return calloc(1, sizeof(struct drill_lookers));
}

void drill_lookers_free(struct drill_lookers *lookers)
{
	while (lookers && lookers->list) {
		struct looker *next = lookers->list->next;

		cJSON_Delete(lookers->list->probe);
		cJSON_Delete(lookers->list->taken);
		free(lookers->list);
		lookers->list = next;
	}
	free(lookers);
}
