#pragma once

#include "daemon/controller/drills.h"
#include "daemon/controller/reconcile.h"
#include "daemon/controller/watches.h"
#include "daemon/metrics/server.h"
#include "k8s/io/client.h"

/*
 * /metrics, /healthz, /readyz and /state of a controller. Only who leads speaks of pools, Services and
 * VirtualIPs: two who say the same would be counted twice.
 */
struct controller_view {
	const struct state *state;
	const struct reconciler *reconciler;
	const struct k8s_counters *counters;
	const bool *ready;          /* everything was listed once */
	struct watches *const *watches;
	struct drills *const *drills;
	bool (*leads)(void *userdata);
	void *userdata;
};

/* A server_handler; `userdata`: struct controller_view. */
void controller_page(void *userdata, const char *path, struct server_answer *answer);
