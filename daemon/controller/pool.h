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
/*
 * When it may be written again. It is as long as its quarantine, and every change of it is made,
 * sent and read whole: counts alone wait a second, somebody who waits (`urgent`) longer the more is
 * `noted`.
 */
uint64_t pool_status_due(uint64_t written_us, bool urgent, size_t noted);

/* Entries in a status, the lowest addresses: an object has an upper size. */
#define POOL_QUARANTINE_MAX 5000

/* The addresses that the pool's status as it stands names in its quarantine, in order. */
struct pool_noted {
	size_t count;
	struct base_address *items;
};

void pool_noted_read(struct pool_noted *noted, const cJSON *status);
bool pool_noted_has(const struct pool_noted *noted, const struct base_address *address);
void pool_noted_clear(struct pool_noted *noted);
