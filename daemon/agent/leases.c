#include "daemon/agent/leases.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/io/clock.h"
#include "base/time.h"

void wall_time(char text[static 40], uint64_t ago_us, bool micro)
{
	uint64_t then_us = base_clock_us(CLOCK_REALTIME) - ago_us;
	time_t seconds;
	struct tm utc;
	size_t at;

	seconds = (time_t)(then_us / BASE_USEC_PER_SEC);
	gmtime_r(&seconds, &utc);
	at = strftime(text, 40, "%Y-%m-%dT%H:%M:%S", &utc);
	if (micro)
		snprintf(text + at, 40 - at, ".%06uZ", (unsigned)(then_us % BASE_USEC_PER_SEC));
	else
		snprintf(text + at, 40 - at, "Z");
}

static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static uint32_t number_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= INT32_MAX
		       ? (uint32_t)item->valuedouble
		       : 0;
}

void lease_read(const cJSON *object, struct message_lease *lease)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(object, "spec");
	const cJSON *notes = cJSON_GetObjectItemCaseSensitive(metadata, "annotations");

	memset(lease, 0, sizeof *lease);
	snprintf(lease->router, sizeof lease->router, "%s", text_of(metadata, "name"));
	lease->exists = true;
	snprintf(lease->holder, sizeof lease->holder, "%s", text_of(spec, "holderIdentity"));
	lease->term = number_of(spec, "leaseTransitions");
	lease->duration_ms = number_of(spec, "leaseDurationSeconds");
	lease->duration_ms = lease->duration_ms > UINT32_MAX / 1000 ? UINT32_MAX
								    : lease->duration_ms * 1000;
	snprintf(lease->version, sizeof lease->version, "%s", text_of(metadata, "resourceVersion"));
	snprintf(lease->successor, sizeof lease->successor, "%s",
		 text_of(notes, ANNOTATION_SUCCESSOR));
	lease->degraded = *text_of(notes, ANNOTATION_DEGRADED) != '\0';
}

cJSON *lease_write(const struct message_lease *lease, const char *namespace, const char *acquired,
		   const cJSON *owners)
{
	cJSON *object = cJSON_CreateObject(), *metadata, *labels, *notes, *spec;
	char now[40];

	wall_time(now, 0, true);
	cJSON_AddStringToObject(object, "apiVersion", "coordination.k8s.io/v1");
	cJSON_AddStringToObject(object, "kind", "Lease");
	metadata = cJSON_AddObjectToObject(object, "metadata");
	cJSON_AddStringToObject(metadata, "name", lease->router);
	cJSON_AddStringToObject(metadata, "namespace", namespace);
	if (lease->version[0])
		cJSON_AddStringToObject(metadata, "resourceVersion", lease->version);
	if (owners)
		cJSON_AddItemToObject(metadata, "ownerReferences", cJSON_Duplicate(owners, true));
	labels = cJSON_AddObjectToObject(metadata, "labels");
	cJSON_AddStringToObject(labels, LEASE_LABEL, "true");
	notes = cJSON_AddObjectToObject(metadata, "annotations");
	if (lease->successor[0])
		cJSON_AddStringToObject(notes, ANNOTATION_SUCCESSOR, lease->successor);
	if (lease->degraded)
		cJSON_AddStringToObject(notes, ANNOTATION_DEGRADED, "GatewayUnreachable");
	spec = cJSON_AddObjectToObject(object, "spec");
	cJSON_AddStringToObject(spec, "holderIdentity", lease->holder);
	cJSON_AddNumberToObject(spec, "leaseTransitions", lease->term);
	cJSON_AddNumberToObject(spec, "leaseDurationSeconds",
				lease->duration_ms >= 1000 ? lease->duration_ms / 1000 : 1);
	cJSON_AddStringToObject(spec, "acquireTime", acquired && *acquired ? acquired : now);
	cJSON_AddStringToObject(spec, "renewTime", now);
	return object;
}
