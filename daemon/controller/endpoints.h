#pragma once

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "daemon/controller/table.h"

/*
 * On which nodes a Service has endpoints: all that placement wants of EndpointSlices, for Services
 * with externalTrafficPolicy: Local.
 */
struct endpoints {
	struct table slices;   /* by "namespace/name" */
	struct table services; /* by "namespace/service" */
};

/* The "namespace/service" whose endpoints changed, borrowed until the next call; NULL: nobody's did. */
const char *endpoints_put(struct endpoints *endpoints, const cJSON *slice);
const char *endpoints_drop(struct endpoints *endpoints, const char *namespace, const char *name);
void endpoints_clear(struct endpoints *endpoints);

/*
 * Has the Service an endpoint on this node that traffic may go to: a ready one; or, if it has no
 * ready one anywhere, one that still serves while it ends (KEP-1669)?
 */
bool endpoints_on(const struct endpoints *endpoints, const char *service, const char *node);
