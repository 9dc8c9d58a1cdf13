#pragma once

#include <cjson/cJSON.h>

#include "ipam/ipam.h"

/* AddressPools: spec in, status out. No decision about addresses: that is ipam/. */

/* AddressPool.spec as ipam wants it; the texts in it are borrowed from the object. */
struct pool_spec {
	struct ipam_pool pool;
	struct ipam_range *ranges;
	struct ipam_reservation *reservations;
	const char **namespaces;
};

/* -EINVAL with field and what to write instead, -ENOMEM. */
int pool_spec_read(struct pool_spec *spec, const cJSON *object, struct base_error *error);
void pool_spec_clear(struct pool_spec *spec);

struct pool_facts {
	const char *name;
	int64_t generation;
	bool disabled;
	const char *problem; /* why the spec as it stands is not in force; "": it is */
};

/*
 * AddressPool.status, whole. `observed`: the one that stands there, for times of conditions that did
 * not change; `now`: RFC 3339. Free with cJSON_Delete().
 */
cJSON *pool_status(struct ipam *ipam, const struct pool_facts *facts, const cJSON *observed,
		   uint64_t now_us, const char *now);
/* Does the pool's status as it stands name this address in its quarantine? */
bool pool_status_quarantines(const cJSON *status, const struct base_address *address);
