#pragma once

#include "daemon/controller/decide.h"
#include "daemon/controller/endpoints.h"
#include "daemon/controller/moves.h"
#include "daemon/controller/nodes.h"
#include "daemon/controller/openshift.h"
#include "daemon/controller/pool.h"
#include "daemon/controller/queue.h"
#include "daemon/controller/table.h"

/*
 * Everything the controller knows: what the API server says of Services, VirtualIPs, AddressPools and
 * Leases, what ipam/ made of it, and what has to be looked at again because of it. Fed by informers and
 * by the answers to own writes; an older version of an object never replaces a newer one. Decides and
 * writes nothing.
 *
 * Who holds what is ipam's; a VirtualIP object is how it is written down. So a `vip` may be there before
 * its object and after it.
 */

/* A Service by name, or the name of one that some VirtualIP still names. */
struct claim {
	struct table_entry entry;
	struct work work;
	char *key;               /* "namespace/name" */
	bool exists, known_gone; /* known_gone: seen to be deleted, not only never seen */
	struct service service;
	bool waiting;         /* refused: tried again when something changes */
	uint64_t pending_us;  /* since when an address is not written down; 0: none is */
	uint64_t unserved_us; /* since when Serving should be False; 0: it is as it should be */
	uint64_t told;        /* digest of the last refusal told by an Event */
	uint64_t told_external; /* and of those of spec.externalIPs */
	unsigned vip_count;   /* VirtualIP objects that name it */
};

struct vip {
	struct table_entry entry;
	struct work work;
	char name[BASE_ADDRESS_NAME_SIZE];
	struct base_address address;
	/* the object */
	bool exists, deleting; /* deleting: by somebody, or by us and answered */
	char uid[40], version[24];
	uint64_t digest; /* vip_spec_digest() */
	size_t holder_count;
	struct vip_holder *holders;
	size_t candidate_count;
	const char **candidates; /* names of nodes, first one first */
	uint8_t priorities[IPAM_CANDIDATES_MAX];
	struct vip_settings settings;
	char router[IPAM_ROUTER_NAME_SIZE];
	char pool[IPAM_NAME_SIZE];
	struct vip_status status;
	/* what became of it here */
	bool created;              /* our POST is under way, and then: */
	bool created_gone;         /* it was seen to be deleted again meanwhile */
	struct node *first;        /* whose load it is */
	enum base_reason unplaced; /* why nobody may own it */
	char *unplaced_message;
	uint64_t order_seen_us; /* since when status.order is the one it is */
	struct move_history moves;
	struct node *rebalance; /* who shall own it to even things out; NULL: stays where it is */
	uint64_t rebalance_us;  /* since when */
	struct calm routed;     /* with the virtual router ID it has; up since the first change of it */
	uint64_t kin;           /* as ipam was told: what it asks of nodes */
	bool unnoted;       /* it goes when the quarantine of its address is written down */
	bool label_ignored; /* nobody without the label that excludes nodes was left */
};

struct pool {
	struct table_entry entry;
	struct work work;
	char *name;
	bool exists;
	char uid[40], version[24];
	int64_t generation;
	cJSON *spec, *status;
	struct pool_noted noted; /* of the status */
	char problem[256]; /* why the spec is not in force; "": it is */
	bool urgent;       /* somebody waits for a quarantine to be written */
	uint64_t written_us;
};

struct lease {
	struct table_entry entry;
	struct work work;
	char *name;
	char uid[40];
	bool used;          /* a VirtualIP that names it was seen */
	uint64_t unused_us; /* since when none does; 0: one does */
};

struct space {
	struct table_entry entry;
	char *name;
	cJSON *labels;
};

struct state {
	struct queue queue;
	struct ipam *ipam; /* NULL unless active */
	struct table claims, vips, pools, leases, spaces, routers;
	struct nodes nodes;
	struct endpoints endpoints;
	struct openshift openshift;
	bool local_wanted; /* a Service of ours has externalTrafficPolicy: Local */
	bool slices_known; /* and all EndpointSlices were listed */
	unsigned moving;   /* orders for a handover that were not carried out yet */
	bool default_class;
	unsigned waiting; /* claims that were refused */
	bool retry;       /* something changed that may help those who wait */
};

int state_init(struct state *state, bool default_class);
void state_clear(struct state *state);

enum state_origin {
	STATE_FROM_WATCH,
	STATE_FROM_READ, /* the answer to a GET */
	STATE_FROM_OWN,  /* the answer to what was written here: ipam knows it */
};

/*
 * Is this older than what is known? To be asked once for every object that comes; `exists`, `version`:
 * what is known of it. An answer may overtake the watch, and the watch an answer: versions of one kind
 * can be compared (KEP-5504), but "gone" has none, so what is answered to a request during which that
 * happened is not looked at. Without an answer in between the watch is always right, also when versions
 * went back because a backup was restored.
 */
bool state_is_stale(struct work *work, bool exists, const char *version, const cJSON *object,
		    enum state_origin origin);

/* From informers and answers. The object is borrowed. */
void state_put_service(struct state *state, const cJSON *object, enum state_origin origin);
void state_drop_service(struct state *state, const char *namespace, const char *name);
void state_put_vip(struct state *state, const cJSON *object, enum state_origin origin);
void state_drop_vip(struct state *state, const char *name);
/*
 * After a complete list of `version`: what is not in it is gone. Of a VirtualIP that we made and deleted while
 * nothing was watched nobody else says so.
 */
void state_drop_unlisted_vips(struct state *state, const char *version,
			      bool (*listed)(void *userdata, const char *name), void *userdata);
void state_put_pool(struct state *state, const cJSON *object, enum state_origin origin);
void state_drop_pool(struct state *state, const char *name);
void state_put_lease(struct state *state, const cJSON *object, enum state_origin origin);
void state_drop_lease(struct state *state, const char *name);
void state_put_slice(struct state *state, const cJSON *object);
void state_drop_slice(struct state *state, const char *namespace, const char *name);
/* All of them were listed. */
void state_slices_known(struct state *state);
/* A Lease speaker-NODE; when it changed, the speaker lives. */
void state_put_sign(struct state *state, const cJSON *object, uint64_t now_us);
void state_drop_sign(struct state *state, const char *lease);
void state_node_silent(struct state *state, struct node *node);
/* It was silent for NODE_FORGOTTEN_US now. */
void state_node_forgotten(struct state *state, struct node *node);
/* infrastructures and networks of config.openshift.io; NULL: gone. */
void state_put_infrastructure(struct state *state, const cJSON *object);
void state_put_network(struct state *state, const cJSON *object);
void state_put_namespace(struct state *state, const cJSON *object);
void state_drop_namespace(struct state *state, const char *name);
void state_put_node(struct state *state, const cJSON *object);
void state_drop_node(struct state *state, const char *name);
void state_put_speaker(struct state *state, const cJSON *object);
void state_drop_speaker(struct state *state, const char *name);

/*
 * Begins to allocate: every kind was listed, this process leads. What is held, reserved and kept is
 * read anew from the objects; everything is marked. -ENOMEM: not active.
 */
int state_activate(struct state *state, uint64_t wall_us, uint64_t now_us);
void state_deactivate(struct state *state);

/* Parts of the above, between state.c and state_pools.c. */
void state_feed_service(struct state *state, const struct service *service);
void state_feed_record(struct state *state, const struct vip *vip);
void state_clear_objects(struct state *state);

struct claim *state_claim(struct state *state, const char *namespace, const char *name);
struct vip *state_vip(struct state *state, const struct base_address *address);
/* Makes one that has no object yet; NULL: no memory. */
struct vip *state_vip_make(struct state *state, const struct base_address *address);
struct pool *state_pool(struct state *state, const char *name);

/* Does any VirtualIP, written or about to be, use the virtual router of this Lease? */
bool state_router_used(struct state *state, const char *router);

/* Of the virtual router that the object names; 0: of none. */
uint8_t state_router_id(const struct vip *vip);

/* Who is first among the candidates counts as its load; NULL: nobody. */
void state_vip_first(struct state *state, struct vip *vip, const char *node);
/* After the answer to a DELETE of it. */
void state_lease_done(struct state *state, struct lease *lease);

/* The vip is neither an object nor held: forgotten. */
void state_forget_vip(struct state *state, struct vip *vip);
void state_forget_claim(struct state *state, struct claim *claim);

/* Marks all that hold, or held, this address, its pool and its object. */
void state_touch(struct state *state, const struct base_address *address);
void state_set_waiting(struct state *state, struct claim *claim, bool waiting);
/* Marks those that were refused if something changed since. */
void state_retry_waiting(struct state *state);
/* For ipam: pool's selectors on a Service. */
bool state_selects(void *userdata, const char *pool, enum ipam_selector selector);
struct state_selection {
	struct state *state;
	const struct service *service;
};
