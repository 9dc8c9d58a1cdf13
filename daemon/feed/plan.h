#pragma once

#include "daemon/feed/set.h"

/*
 * Of manifests: what a controller would decide is decided here, the same on every node that reads the same files.
 * For manifests.c (reads and tells), pools.c, plan.c (addresses and their Services) and plan_routers.c (IDs and
 * candidates). Each returns 0 or what complain() said, with file and line, in set->error; -ENOMEM.
 */

#define VIPS_MAX    4096
#define VIP_BUCKETS 1024
#define SHARERS_MAX 64

struct vip {
	struct vip *next; /* in its bucket */
	struct base_address address;
	const struct object *origin; /* what asked for it first */
	const cJSON *item;	     /* where, for messages */
	const struct object *pool, *object; /* AddressPool; VirtualIP if there is one */
	unsigned id;			    /* 0: not given yet */
	struct vip *leader, *next_carried;  /* of the virtual router; the leader is its first */
	unsigned carried_count;		    /* the leader's: addresses of the virtual router */
	unsigned sharer_count;
	const struct object *sharers[SHARERS_MAX]; /* Services */
	char services[MESSAGE_TEXT_SIZE];
};

/* All addresses of a set, for as long as it is emitted. */
struct plan {
	struct wish_set *set;
	struct vip *buckets[VIP_BUCKETS], *vips[VIPS_MAX];
	unsigned count;
	int (*emit)(void *userdata, const struct message *message);
	void *userdata;
};

/* `vipd check` wants to hear of every fault: 0, and counted. Who is to serve by it stops at the first: r. */
int manifest_tolerate(struct wish_set *set, int r);

int pool_check(struct wish_set *set, const struct object *pool); /* also one that nobody uses yet */
/* The first that holds the address; NULL: none. */
int pool_find(struct wish_set *set, const struct base_address *address, const struct object **pool);
/* Sets `allowed` to `value` where the list says so; where it allows (true) and there is one, all else is not. */
int pool_read_ids(struct wish_set *set, const struct object *pool, const char *list, bool value,
		  bool allowed[256]);

/* Every address of the set with pool, Services and virtual router. */
int plan_collect(struct plan *plan);
struct vip **plan_slot(struct plan *plan, const struct base_address *address);
struct unit *plan_unit(struct wish_set *set, const struct object *service);
/* What the Service asks for, then what VirtualIPs give it, each once; `item` is where it stands. */
int plan_each_address(struct plan *plan, const struct object *service,
		      int (*callback)(struct plan *plan, const struct object *service,
				      const struct base_address *address, const cJSON *item));

int plan_assign_ids(struct plan *plan);
int plan_emit_router(struct plan *plan, const struct vip *vip); /* a leader, with all it carries */
