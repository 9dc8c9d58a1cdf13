#pragma once

#include "base/reason.h"
#include "daemon/controller/writer.h"

/*
 * Events (events.k8s.io/v1) of the objects a user looks at. Best effort: a bounded queue behind all
 * other writes; what does not fit or is refused is dropped and counted. The same words about the same
 * object within six minutes are one Event with a series.
 */
struct events;

struct events_subject {
	const char *api, *kind;
	const char *namespace; /* NULL: cluster-scoped; its Events live in "default" */
	const char *name, *uid;
};

int events_new(struct events **events, struct writer *writer, const char *instance);
void events_free(struct events *events);

/* `action`: what was being done, CamelCase. `note`: one sentence without times and counters. */
void events_say(struct events *events, const struct events_subject *subject,
		enum base_reason reason, const char *action, const char *note);
/* Sends what the writer has room for. */
void events_pump(struct events *events);
