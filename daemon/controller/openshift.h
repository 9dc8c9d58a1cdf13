#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "ipam/ipam.h"

/*
 * What an OpenShift cluster uses of the LAN itself: addresses of its API and ingress, virtual router IDs of
 * its keepalived, and the ranges from which it fills spec.externalIPs. Pure; empty elsewhere.
 */
#define OPENSHIFT_RANGES_MAX 16

struct openshift {
	size_t api_count, ingress_count, assigned_count;
	struct ipam_range api[OPENSHIFT_RANGES_MAX], ingress[OPENSHIFT_RANGES_MAX];
	struct ipam_range assigned[OPENSHIFT_RANGES_MAX];
	struct ipam_ids ids;
};

/* infrastructures.config.openshift.io cluster; NULL: there is none. True: something changed. */
bool openshift_put_infrastructure(struct openshift *openshift, const cJSON *object);
/* networks.config.openshift.io cluster */
bool openshift_put_network(struct openshift *openshift, const cJSON *object);

/* Does it assign addresses from a range that holds this one? */
bool openshift_assigns(const struct openshift *openshift, const struct base_address *address);
