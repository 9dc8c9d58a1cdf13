#pragma once

#include "ipam/ipam.h"
#include "ipam/range.h"
#include "ipam/tree.h"

/*
 * What ipam.h keeps, and how it hangs together; for the files of this folder only.
 *
 * Objects are named by others before they are known themselves (a record names a pool that is not
 * read yet), so pools and Services exist as soon as somebody names them and are swept when nobody
 * does. Whatever may fail (memory) happens before the first change of a call.
 */
struct service;
struct entry;
struct pool;

enum { V4, V6, FAMILIES };

static inline unsigned family_index(const struct base_address *address)
{
	return address->family == BASE_FAMILY_IPV6 ? V6 : V4;
}

static inline enum base_family family_of(unsigned index)
{
	return index == V6 ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4;
}

/* One Service holds one address. In the tree `shared` while it has a sharing key. */
struct holding {
	struct service *service;
	struct entry *entry;
	struct holding *next; /* of the Service, in order of addresses */
	struct ipam_tree_node shared;
	bool is_shared;
};

struct reservation {
	struct entry *entry;
	struct pool *pool;
	struct service *service;
	struct reservation *next_of_entry, *next_of_service;
};

struct service {
	struct ipam_tree_node tree; /* by namespace and name */
	char namespace[IPAM_NAME_SIZE], name[IPAM_NAME_SIZE];
	bool known; /* facts were put */
	char *sharing_key;
	size_t port_count, external_count;
	struct ipam_port *ports;
	struct base_address *external_ips;
	bool local_only;
	uint64_t selector;
	struct holding *holdings;
	struct reservation *reservations;
	struct entry *quarantined; /* list */
	unsigned named; /* by owners of taken addresses, and by calls that run */
};

/* What one `who` has. */
struct taken {
	struct ipam_tree_node tree; /* by who */
	char *who;
	enum base_reason reason;
	struct service *service; /* may have it nevertheless */
	size_t single_count, wide_count;
	struct taken_single *singles;
	struct ipam_range *wides; /* of more than one address */
	struct taken *next_wide;  /* who has such */
};

struct taken_single {
	struct taken *taken;
	struct entry *entry;
	struct taken_single *next; /* of the entry */
};

struct router {
	struct ipam_tree_node tree; /* by name and ID */
	struct router *next;	    /* of the same family and ID */
	char name[IPAM_ROUTER_NAME_SIZE];
	uint8_t id;
	unsigned family;
	struct pool *pool;
	struct ipam_tree carried; /* entries by address */
	unsigned named; /* by a call that runs */
};

enum entry_state {
	ENTRY_IDLE, /* only reserved or taken */
	ENTRY_HELD,
	ENTRY_QUARANTINED,
};

/* An address of which something is known. */
struct entry {
	struct ipam_tree_node tree; /* by address */
	struct base_address address;
	enum entry_state state;
	struct pool *pool;	   /* HELD, QUARANTINED */
	struct ipam_tree_node of_pool; /* among the held or the quarantined of the pool */
	bool orphan;
	bool blocked; /* in no free range */
	unsigned named; /* by a call that runs */

	struct router *router;
	struct ipam_tree_node of_router;
	uint64_t kin; /* 0: not known, or everybody's */
	size_t holder_count, holder_room;
	struct holding **holders; /* the oldest first */
	struct ipam_name *names;  /* of the holders, for struct ipam_record */

	struct service *last_holder; /* QUARANTINED; NULL: not known */
	struct entry *next_of_service;
	uint64_t told_us, seen_us, until_us;
	struct ipam_tree_node by_time;

	struct reservation *reservations;
	struct taken_single *taken;
};

struct quota {
	struct ipam_tree_node tree; /* by namespace */
	char namespace[IPAM_NAME_SIZE];
	size_t count; /* addresses */
};

struct pool {
	struct ipam_tree_node tree;	/* by name */
	struct ipam_tree_node by_order; /* by priority and name, while present */
	char name[IPAM_NAME_SIZE];
	struct ipam_tree held[FAMILIES], quarantined[FAMILIES]; /* entries by address */
	size_t orphan_count[FAMILIES];
	struct ipam_tree quotas;
	unsigned named; /* by routers, and by calls that run */

	bool present; /* the rest is of a pool that was put */
	bool retired; /* on its way out */
	struct ipam_pool spec; /* all it points to is owned */
	struct ipam_set set[FAMILIES];
	struct ipam_free unused[FAMILIES];
	size_t reservation_count;
	struct reservation *reservations;
};

struct ipam {
	struct ipam_tree pools, order;	/* all; the present ones in the order they are tried */
	struct ipam_tree services;
	struct ipam_tree entries;
	struct ipam_tree until;		/* quarantined entries by end */
	struct ipam_tree shared;	/* holdings by namespace, key, address, Service */
	struct ipam_tree takens;
	struct ipam_tree routers;
	struct router *ids[FAMILIES][256];
	struct taken *wides; /* those of `takens` that have any, by who */
	size_t wide_count;   /* in all of them */
	struct ipam_reserve reserve;
	uint64_t now_us;
	bool freed; /* something became free since the last ipam_advance() that said so */
};

static inline const char *text(const char *string)
{
	return string ? string : "";
}

/* --- ipam.c --- */

bool ipam_is_name(const char *string);
int ipam_service_check_name(const struct ipam_name *name, struct base_error *error);

/* Found or made; NULL: no memory. What nobody uses in the end goes with the sweep. */
struct pool *ipam_pool_get(struct ipam *ipam, const char *name);
struct pool *ipam_pool_find(const struct ipam *ipam, const char *name);
void ipam_pool_sweep(struct ipam *ipam, struct pool *pool);
struct service *ipam_service_get(struct ipam *ipam, const struct ipam_name *name);
struct service *ipam_service_find(const struct ipam *ipam, const struct ipam_name *name);
void ipam_service_sweep(struct ipam *ipam, struct service *service);
struct entry *ipam_entry_get(struct ipam *ipam, const struct base_address *address);
struct entry *ipam_entry_find(const struct ipam *ipam, const struct base_address *address);
void ipam_entry_sweep(struct ipam *ipam, struct entry *entry);

struct entry *ipam_entry_of(struct ipam_tree_node *node);
struct pool *ipam_pool_in_order(struct ipam_tree_node *node);

/* Nodes for `changes` addresses that become free or not, in every pool. */
int ipam_prepare(struct ipam *ipam, size_t changes);
/* Sets `blocked` as the rest of the entry says and carries it to the free ranges of all pools. */
void ipam_entry_update(struct ipam *ipam, struct entry *entry);

/* --- record.c --- */

/* Room for so many holders, and for the count of a namespace: 0 or -ENOMEM. */
int ipam_entry_room(struct entry *entry, size_t count);
int ipam_quota_room(struct pool *pool, const char *namespace);
size_t ipam_quota_count(const struct pool *pool, const char *namespace);
/* Holds one more; the room was made, `holding` is new and is taken. */
void ipam_hold(struct ipam *ipam, struct entry *entry, struct pool *pool, struct holding *holding);
/* From held to idle; the caller decides what comes then and updates the free ranges. */
void ipam_record_end(struct ipam *ipam, struct entry *entry);
void ipam_record_view(const struct entry *entry, struct ipam_record *record);

/* --- quarantine.c --- */

/* From idle to quarantined and back; the caller updates the free ranges. */
void ipam_quarantine_begin(struct ipam *ipam, struct entry *entry, struct pool *pool,
			   struct service *service, uint64_t told_us, uint64_t seen_us);
void ipam_quarantine_end(struct ipam *ipam, struct entry *entry);
/* The period of its pool has changed. */
void ipam_quarantine_clamp(struct ipam *ipam, struct entry *entry);
/* What is over by now, as far as memory lasts; leaves `freed` for ipam_advance(). */
void ipam_expire(struct ipam *ipam, uint64_t now_us);

/* --- router.c --- */

struct router *ipam_router_get(struct ipam *ipam, struct pool *pool, unsigned family,
			       const char *name, uint8_t id);
void ipam_router_sweep(struct ipam *ipam, struct router *router);
void ipam_router_attach(struct ipam *ipam, struct entry *entry, struct router *router);
/* Another router that must not have the same ID, or NULL. */
const struct router *ipam_router_rival(const struct ipam *ipam, unsigned family, uint8_t id,
				       const struct pool *pool, const char *name);
int ipam_router_compare(const void *key, const struct ipam_tree_node *node);

/* --- pool.c --- */

/* From now on it gives nothing and takes nothing back. */
void ipam_pool_retire(struct ipam *ipam, struct pool *pool);
/* Forgets what was put; goes, unless somebody still names it. */
void ipam_pool_unput(struct ipam *ipam, struct pool *pool);
/* Fills every free range anew, as after ranges were taken; the bound is in nodes of the reserve. */
size_t ipam_pool_refill_bound(const struct ipam *ipam, size_t wide_count);
void ipam_pool_refill_all(struct ipam *ipam);
bool ipam_pool_contains(const struct pool *pool, const struct base_address *address);
/* Why the address is not in the pool: the exclusion that hits, avoidFirstLast, or nothing of it. */
int ipam_pool_why_not(const struct ipam_pool *spec, const struct base_address *address,
		      struct base_error *error);

/* --- taken.c --- */

/* Who else has the address, except what `service` may have; NULL: nobody. */
const struct taken *ipam_taken_by(const struct ipam *ipam, const struct base_address *address,
				  const struct service *service);
bool ipam_taken_wide(const struct ipam *ipam, const struct base_address *address);
void ipam_taken_clear(struct ipam *ipam);
int ipam_taken_compare(const void *key, const struct ipam_tree_node *node);

/* --- sharing.c --- */

bool ipam_is_external(const struct service *service, const struct base_address *address);
/* 0, or SHARING_REFUSED with why the two cannot have one address. */
int ipam_sharing_check(const struct service *service, const struct service *holder,
		       const struct base_address *address, struct base_error *error);
/* May `service` have the address beside its holders, or (it is one of them) beside the older ones? */
int ipam_sharing_check_all(const struct service *service, const struct entry *entry,
			   struct base_error *error);
void ipam_sharing_join(struct ipam *ipam, struct holding *holding);
void ipam_sharing_leave(struct ipam *ipam, struct holding *holding);
int ipam_sharing_compare(const void *key, const struct ipam_tree_node *node);
/* One holding of the lowest address with this namespace, key and family; of the next address. */
struct holding *ipam_sharing_first(const struct ipam *ipam, const struct service *service,
				   enum base_family family);
struct holding *ipam_sharing_next(const struct holding *holding);
