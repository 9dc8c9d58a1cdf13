#pragma once

#include <systemd/sd-event.h>

#include "daemon/controller/drills.h"
#include "daemon/controller/reconcile.h"
#include "k8s/io/client.h"

/*
 * What the controller reads of the API server: an informer a kind, each object put into the state.
 * Watches that fall silent are noticed (echo.h) and begun anew, all of them: they share a connection.
 */
struct watches;

struct watches_options {
	struct k8s_client *client;
	sd_event *event;
	const char *namespace; /* of Leases */
	struct state *state;
	struct reconciler *reconciler;
	struct drills *drills;
	void (*on_synced)(void *userdata); /* after every complete list */
	void *userdata;
};

/* Everything in `options` is borrowed. */
int watches_new(struct watches **watches, const struct watches_options *options);
void watches_free(struct watches *watches);

/* All that allocation depends on was listed. */
bool watches_synced(const struct watches *watches);
/* How many fail because the server as a whole is away. */
unsigned watches_away(const struct watches *watches);

/* The server answered a request of this type with an object of this version: the watch must show it. */
void watches_expect(struct watches *watches, enum step_type type, const char *version);
/* What was to be heard was not: everything is listed anew, on a connection of its own. */
void watches_restart(struct watches *watches);
