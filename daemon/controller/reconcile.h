#pragma once

#include <systemd/sd-event.h>

#include "base/random.h"
#include "daemon/controller/events.h"
#include "daemon/controller/state.h"
#include "daemon/controller/trouble.h"
#include "daemon/controller/writer.h"

enum step_type {
	STEP_SERVICE_FINALIZER,
	STEP_SERVICE_STATUS,
	STEP_SERVICE_READ,
	STEP_VIP_CREATE,
	STEP_VIP_UPDATE,
	STEP_VIP_DELETE,
	STEP_POOL_STATUS,
	STEP_LEASE_DELETE,
	STEP_VIP_ORDER,
	STEP_VIP_STATUS,
	STEP_SPEAKER_STATUS,
	STEP_SIGN_READ,
	STEP_COUNT,
};

/*
 * From what is known to what is written, one step at a time: look at a thing, find the next write that
 * is missing, send it, feed its answer to the state, look again. Never two requests for one thing, every
 * write with a precondition; so a crash between any two of them, or a second controller, loses nothing
 * and doubles nothing.
 *
 * A Service: finalizer, address (ipam), status; and backwards: address released, conditions off,
 * finalizer off, once no VirtualIP names it. A VirtualIP: made, changed, deleted after its quarantine
 * stands in the pool. A pool: status. A Lease that no VirtualIP uses: deleted.
 */
struct reconciler {
	sd_event *event;
	struct state *state;
	struct writer *writer;
	struct events *events;
	const char *namespace; /* of Leases */
	/* Asked before every write. */
	bool (*leads)(void *userdata);
	/* The server answered with an object of this version: its watch should show it soon. */
	void (*known)(void *userdata, enum step_type type, const char *version);
	void *userdata;
	sd_event_source *defer, *timer, *quarantine, *balance;
	struct under_way *steps;
	struct base_random random;
	struct trouble troubles[STEP_COUNT]; /* by enum step_type */
	bool no_ip_mode; /* the server is older than 1.29 and refuses a status with ipMode */
	/* API requests answered, for those who measure. */
	uint64_t writes;
	struct base_histogram runs; /* how long it took to look at one thing */
};

int reconciler_init(struct reconciler *reconciler);
/* After the writer was freed: nothing is under way any more. */
void reconciler_clear(struct reconciler *reconciler);
/* Soon, when everything that has arrived was read. */
void reconciler_wake(struct reconciler *reconciler);
/* Now, as far as the writer has room. */
void reconciler_pump(struct reconciler *reconciler);
/* Nothing to do and nothing under way. */
bool reconciler_idle(const struct reconciler *reconciler);

/* --- between the files of it --- */

/* One request for one thing. The answer takes the right course by type; see reconcile.c. */
struct step {
	enum step_type type;
	const char *method, *content_type;
	char path[512];
	cJSON *body; /* taken */
	/* Said when it landed: an Event about the Service (reason NONE: nothing). */
	enum base_reason reason;
	char note[MESSAGE_SIZE];
};

#define MERGE_PATCH "application/merge-patch+json"
#define JSON_PATCH  "application/json-patch+json"
#define APPLY_PATCH "application/apply-patch+yaml"

void step_send(struct reconciler *reconciler, struct work *work, const struct step *step);

void reconcile_service(struct reconciler *reconciler, struct claim *claim);
void reconcile_vip(struct reconciler *reconciler, struct vip *vip);
void reconcile_pool(struct reconciler *reconciler, struct pool *pool);
void reconcile_lease(struct reconciler *reconciler, struct lease *lease);
void reconcile_speaker(struct reconciler *reconciler, struct node *node);
/* Now and then. */
void reconcile_balance(struct reconciler *reconciler);
/* Parts of reconcile_vip(); true: a request was sent. */
bool reconcile_silent_owner(struct reconciler *reconciler, struct vip *vip);
void reconcile_move(struct reconciler *reconciler, struct vip *vip,
		    const struct placement_answer *placement, bool local_only, bool preferred);

uint64_t reconciler_now(void);  /* CLOCK_BOOTTIME */
uint64_t reconciler_wall(void); /* CLOCK_REALTIME */

/* An Event about a Service and the line in the journal. `vip`, `pool`: fields, may be "". */
void reconciler_tell(struct reconciler *reconciler, const struct service *service,
		     enum base_reason reason, const char *vip, const char *pool, const char *note);
