#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <systemd/sd-event.h>

#include "daemon/agent/contact.h"
#include "daemon/feed/wishes.h"
#include "daemon/log.h"
#include "daemon/protocol/channel.h"
#include "k8s/io/informer.h"

/* What the files of the agent share; each of them has a header of its own for the others. */

#define AGENT_GROUP "/apis/vipd.dev/v1alpha1"

enum agent_kind {
	AGENT_NODES,
	AGENT_SPEAKERS,
	AGENT_VIRTUAL_IPS,
	AGENT_SERVICES,
	AGENT_SLICES,
	AGENT_LEASES,
	AGENT_VMS, /* from when a Service first asks for an attached network */
	AGENT_KIND_COUNT
};

/* For the log: what went wrong, each at its own growing intervals. */
enum agent_task {
	AGENT_TASK_READ, /* + enum agent_kind */
	AGENT_TASK_LEASE_WRITE = AGENT_TASK_READ + AGENT_KIND_COUNT,
	AGENT_TASK_STATUS,
	AGENT_TASK_SPEAKER,
	AGENT_TASK_LIVENESS,
	AGENT_TASK_EVENT,
	AGENT_TASK_PROBE,
	AGENT_TASK_COUNT
};

struct agent;

struct agent_source {
	struct agent *agent;
	enum agent_kind kind;
	struct k8s_informer *informer;
	bool without; /* the server has none, or not for us: not waited for */
};

struct agent {
	sd_event *event;
	const char *node, *kubeconfig, *namespace;
	struct channel *channel;
	struct k8s_client *client;
	struct wish_set *wishes;
	struct agent_source sources[AGENT_KIND_COUNT];
	sd_event_source *flush;	   /* once more before the loop sleeps */
	sd_event_source *judge;	   /* when the contact is to be looked at again */
	sd_event_source *reconnect; /* until there is a client */
	sd_event_source *stop_limit, *trim;
	struct contact contact;
	bool synced;		   /* the engine was told everything once */
	bool stopping;
	struct lease_book *leases;
	struct address_book *addresses;
	struct speaker *speaker;
	struct liveness *liveness;
	struct lookout *lookout;
	struct victim *victim;
	struct event_queue *events;
	struct log_gate transport_gate, gates[AGENT_TASK_COUNT];
	bool transport_trouble, trouble[AGENT_TASK_COUNT];
	uint64_t configured_us; /* when the kubeconfig was read last */
	struct k8s_config held; /* read as root, before we were nobody; empty: taken, or none */
	bool held_only;		/* we cannot read it again: another process has to */
};

uint64_t agent_now(const struct agent *agent);
/* The one message that is being made; what a type has must be filled in. For agent_send(). */
struct message *agent_message(struct agent *agent, enum message_type type);
int agent_send(struct agent *agent, const struct message *message);
/* What changed is sent to the engine, and written to the API, before the loop sleeps. */
void agent_flush_soon(struct agent *agent);
/* A timer of the agent's that is off; CLOCK_BOOTTIME. */
int agent_add_timer(struct agent *agent, sd_event_source **source, sd_event_time_handler_t handler);
/* trouble.c: says what went wrong, in words, not too often; RESULT_OK: it works (again). */
void agent_report(struct agent *agent, enum agent_task task, const struct k8s_response *response);

/* A text field of an object; "" if it is none. */
const char *agent_text(const cJSON *object, const char *name);

/*
 * identity.c: the least that can still read the credentials. 1: nobody can, but root; they are in
 * `held` and we are nobody. 0: they can be read again and again.
 */
int agent_drop_privileges(const char *kubeconfig, struct k8s_config *held);
