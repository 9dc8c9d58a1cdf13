#pragma once

#include <systemd/sd-event.h>

#include "k8s/io/client.h"

/*
 * The controller's Lease on the loop: daemon/controller/leadership.h does the thinking. A follower
 * watches the Lease instead of reading it again and again, so one that was given back is taken at once.
 */
struct leader;

struct leader_options {
	const char *namespace, *name; /* of the Lease */
	const char *identity;         /* unique to this process; copied */
};

struct leader_handlers {
	void (*on_change)(void *userdata, bool leads);
	void (*on_released)(void *userdata); /* after leader_release(): nothing is under way */
	void (*on_silent)(void *userdata);   /* the Lease was written, and its watch says nothing */
};

int leader_new(struct leader **leader, struct k8s_client *client, sd_event *event,
	       const struct leader_options *options, const struct leader_handlers *handlers,
	       void *userdata);
void leader_free(struct leader *leader);

/* Ask before every write: true only while nobody else can be leader. */
bool leader_leads(const struct leader *leader);
/* Gives the Lease back, for the way out. */
void leader_release(struct leader *leader);
