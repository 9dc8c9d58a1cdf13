#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"
#include "base/reason.h"

/*
 * Which address a Service gets, and which virtual router carries it: pools, holders, quotas,
 * reservations, sharing, quarantine. Placement on nodes is placement.h.
 *
 * Pure: no clock, no I/O, no log. The same calls in the same order give the same answers. Pools,
 * records (VirtualIPs), quarantine and Services, put in any order, give the same state again: what
 * is held lives in the records and nowhere else. Unlike other cores it allocates memory (100,000
 * addresses do not fit a fixed array); a call that answers -ENOMEM changed nothing.
 *
 * Contradictory input is kept and told, never lost and never doubled: a holder keeps its address
 * whatever happens to the pool; ipam_record_check() and ipam_pool_status() say what is odd.
 *
 * Times are microseconds since the epoch of the wall clock, since they outlive the process in
 * AddressPool.status.quarantine. A quarantine never lasts longer than its pool says from the
 * moment it is seen, so a clock that was wrong once locks nothing away.
 *
 * Strings that go in are copied; strings that come out in a struct of pointers are borrowed until
 * the next call that changes something. NULL and "" mean the same: not said.
 *
 * Functions answer 0, a negative errno, or (where said) a positive enum base_reason: the refusal,
 * with a sentence for the owner of the Service in `error`.
 */
struct ipam;

#define IPAM_NAME_SIZE	      64  /* namespace, Service, pool, with the NUL */
#define IPAM_ROUTER_NAME_SIZE 96  /* "<pool>.ipv4.<id>" */
#define IPAM_ROUTER_ADDRESSES_MAX 90 /* that one advert holds, of either family */
#define IPAM_SERVICES_MAX     256 /* that share one address */
#define IPAM_OVERLAPS_MAX     8
#define IPAM_COUNT_MAX	      UINT64_C(9007199254740991) /* 2^53-1: counts saturate where JSON numbers do */
#define IPAM_QUARANTINE_DEFAULT_US UINT64_C(60000000) /* of an address whose pool is gone */

struct ipam *ipam_new(void); /* NULL: no memory */
void ipam_free(struct ipam *ipam);

/* --- words --- */

/* A Service by name. */
struct ipam_name {
	const char *namespace, *name;
};

/* An item of spec.addresses or spec.exclude: "192.0.2.0/26", "192.0.2.5-192.0.2.9", "192.0.2.5". */
struct ipam_range {
	struct base_address first, last; /* of one family, first <= last */
	bool prefix;			 /* written as a CIDR: has a network and a broadcast address */
};

#define IPAM_RANGE_TEXT_SIZE (2 * BASE_ADDRESS_TEXT_SIZE)

bool ipam_range_parse(const char *text, struct ipam_range *range);
struct ipam_range ipam_range_single(const struct base_address *address);
const char *ipam_range_format(const struct ipam_range *range,
			      char text[static IPAM_RANGE_TEXT_SIZE]);

/* A set of virtual router IDs, 1..255; 0 is never in it. */
struct ipam_ids {
	uint8_t bits[32];
};

void ipam_ids_add(struct ipam_ids *ids, unsigned first, unsigned last);
void ipam_ids_remove(struct ipam_ids *ids, unsigned first, unsigned last);
bool ipam_ids_contain(const struct ipam_ids *ids, unsigned id);

/* --- pools --- */

struct ipam_reservation {
	struct base_address address;
	struct ipam_name service;
};

/* AddressPool.spec, defaults filled in by the caller. */
struct ipam_pool {
	const char *name;
	size_t address_count, exclude_count;
	const struct ipam_range *addresses, *exclude;
	bool avoid_first_last; /* IPv4: .0 and .255 of every /24, first and last of every CIDR up to
				* /30; IPv6: the Subnet-Router anycast address of every /64
				* (RFC 4291 section 2.6.1) */
	bool auto_assign;
	bool disabled;
	bool external_ips;
	int32_t priority; /* higher is tried first, ties by name */
	/* A Service is admitted when its namespace is listed or selected (or neither is said), and
	 * its labels are selected (or nothing is said). A reservation admits too. */
	size_t namespace_count;
	const char *const *namespaces;
	bool namespace_selector, service_selector; /* there is one: ipam_request.selects is asked */
	uint32_t max_per_namespace;		   /* addresses; 0: no limit */
	size_t reservation_count;
	const struct ipam_reservation *reservations;
	uint64_t quarantine_us;
	struct ipam_ids virtual_router_ids; /* allowed ones, excludeVirtualRouterIDs taken out */
	uint8_t leap; /* how many unused IDs an address passes over that leaves its ID to a stranger: clusters
		       * that met on one segment are not to go to the same next one, so each has its own */
	const char *segment; /* pools that name different segments may use the same virtual router
			      * ID; "": unknown, shares its IDs with every pool */
};

/* -EINVAL and what to write instead. ipam_pool_put() does it first, and then keeps the old pool. */
int ipam_pool_check(const struct ipam_pool *pool, struct base_error *error);
int ipam_pool_put(struct ipam *ipam, const struct ipam_pool *pool, struct base_error *error);
void ipam_pool_remove(struct ipam *ipam, const char *name);

/* Per family. capacity = available + reserved + quarantined + (assigned - orphans) + blocked. */
struct ipam_family_status {
	uint64_t capacity;    /* addresses that the pool may give at all */
	uint64_t assigned;    /* held, whose record names this pool */
	uint64_t orphans;     /* of those, not (any more) in the pool: still held */
	uint64_t available;   /* could be given to anybody now */
	uint64_t reserved;    /* for somebody who does not hold it */
	uint64_t quarantined; /* released from this pool */
	uint64_t blocked;     /* taken elsewhere, or held through an overlapping pool */
};

struct ipam_pool_status {
	struct ipam_family_status ipv4, ipv6;
	unsigned overlap_count; /* pools that contain an address of this one; the first by name: */
	char overlaps[IPAM_OVERLAPS_MAX][IPAM_NAME_SIZE];
};

/* Is the address in any pool, whoever may have it? */
bool ipam_in_pools(const struct ipam *ipam, const struct base_address *address);

/* Also of a pool that is gone (false) while records name it: assigned and orphans count on. */
bool ipam_pool_status(struct ipam *ipam, const char *name, uint64_t now_us,
		      struct ipam_pool_status *status);

/* --- records: what VirtualIPs say --- */

struct ipam_record {
	struct base_address address;
	const char *pool;
	const char *router; /* spec.virtualRouter; "" not chosen yet */
	uint8_t router_id;
	size_t service_count;
	const struct ipam_name *services; /* the oldest holder first; none: held by nobody known */
};

/*
 * Says what the VirtualIP of this address says, instead of what was known of it. Accepts what no
 * allocation would give; ends a quarantine of the address. To be called for every VirtualIP at
 * start, and after that for changes that somebody else wrote; an allocation is known already.
 */
int ipam_record_put(struct ipam *ipam, const struct ipam_record *record, struct base_error *error);
/*
 * The VirtualIP is not there (a create failed for good): free at once, without quarantine.
 * 0, -ENOENT (nobody held it) or -ENOMEM.
 */
int ipam_record_remove(struct ipam *ipam, const struct base_address *address);

bool ipam_record_get(const struct ipam *ipam, const struct base_address *address,
		     struct ipam_record *record);
/* In order of addresses, IPv4 first. A callback must not change `ipam`; it returns false to stop. */
typedef bool ipam_record_fn(void *userdata, const struct ipam_record *record);
void ipam_record_each(const struct ipam *ipam, ipam_record_fn *callback, void *userdata);
/* Every address this Service holds: more than one of a family is a contradiction, or externalIPs. */
void ipam_record_each_of(const struct ipam *ipam, const struct ipam_name *service,
			 ipam_record_fn *callback, void *userdata);

/*
 * What is wrong with an address that is held and stays held: 0, or a reason with a sentence:
 * ADDRESS_NOT_IN_POOL (pool gone or edited), ADDRESS_RESERVED (for another since),
 * ADDRESS_IN_USE or FOREIGN_ADDRESS (somebody else has it too), INVALID_CONFIGURATION (its
 * virtual router ID is used by another virtual router). -ENOENT: not held.
 */
int ipam_record_check(const struct ipam *ipam, const struct base_address *address,
		      struct base_error *error);

/* Before a pool is edited or removed (`edited` without addresses): the holders that would be orphans. */
typedef bool ipam_affected_fn(void *userdata, const struct ipam_record *record, const char *why);
int ipam_pool_preview(const struct ipam *ipam, const struct ipam_pool *edited,
		      ipam_affected_fn *callback, void *userdata, struct base_error *error);

/* --- quarantine: released, and kept for its last holder for a while --- */

struct ipam_quarantine {
	struct base_address address;
	const char *pool;
	struct ipam_name service; /* may have it back at once */
	uint64_t until_us;
};

/* From AddressPool.status. Of no effect while the address is held, or when it is over. */
int ipam_quarantine_put(struct ipam *ipam, const struct ipam_quarantine *quarantine,
			uint64_t now_us);
/* What AddressPool.status.quarantine should say, in order of addresses. */
typedef bool ipam_quarantine_fn(void *userdata, const struct ipam_quarantine *quarantine);
void ipam_quarantine_each(struct ipam *ipam, const char *pool, uint64_t now_us,
			  ipam_quarantine_fn *callback, void *userdata);

/* Is the address among the first `limit` that ipam_quarantine_each() tells of? */
bool ipam_quarantined(struct ipam *ipam, const char *pool, const struct base_address *address,
		      uint64_t now_us, size_t limit);

/* When the next quarantine ends; BASE_USEC_NEVER: none. */
uint64_t ipam_deadline(const struct ipam *ipam);
/* Ends what is over. True: an address became free, Services that wait may be tried again. */
bool ipam_advance(struct ipam *ipam, uint64_t now_us);

/* --- addresses that somebody else has --- */

/*
 * Everything that `who` ("Node n1", "Service shop/web (spec.externalIPs)", "host 02:00:00:00:00:01")
 * has, instead of what it had; count 0 forgets it. Never given, except to `service` (may be NULL);
 * whoever holds one already keeps it. `reason` is what a refusal says: ADDRESS_IN_USE or
 * FOREIGN_ADDRESS.
 */
int ipam_taken_put(struct ipam *ipam, const char *who, enum base_reason reason,
		   const struct ipam_name *service, size_t count, const struct ipam_range *ranges);

/* --- Services: what sharing depends on --- */

struct ipam_port {
	uint8_t protocol; /* IPPROTO_TCP, _UDP, _SCTP */
	uint16_t port;
};

struct ipam_service {
	struct ipam_name name;
	const char *sharing_key; /* annotation vipd.dev/sharing-key */
	size_t port_count;
	const struct ipam_port *ports;
	bool local_only;   /* externalTrafficPolicy: Local; shares only with the same selector */
	uint64_t selector; /* hash of the selector's canonical text */
	size_t external_count;
	const struct base_address *external_ips; /* held for these, not as its own address */
};

/* Of every Service that may hold an address; again whenever one of these fields changes. */
int ipam_service_put(struct ipam *ipam, const struct ipam_service *service);
/* Forgets the facts, not what it holds: that is ipam_release(). */
void ipam_service_remove(struct ipam *ipam, const struct ipam_name *service);

/* --- allocation --- */

enum ipam_selector {
	IPAM_SELECTOR_NAMESPACE,
	IPAM_SELECTOR_SERVICE,
};

struct ipam_request {
	struct ipam_name service; /* its facts were put before */
	enum base_family family;
	struct base_address wanted; /* annotation or loadBalancerIP; family NONE: any */
	const char *pool;	    /* annotation vipd.dev/pool */
	bool external_ip; /* `wanted` stands in spec.externalIPs: only pools with external_ips */
	/* Does the pool's selector match the Service or its namespace? Asked only where there is
	 * one; NULL: nothing matches. */
	bool (*selects)(void *userdata, const char *pool, enum ipam_selector selector);
	void *userdata;
	uint64_t now_us;
};

struct ipam_answer {
	struct base_address address;
	char pool[IPAM_NAME_SIZE];
	bool kept;   /* it held this before: nothing to write */
	bool shared; /* others hold it too */
};

/*
 * One address of one family, recorded at once as held by the Service: asked again it answers the
 * same with `kept`, also when the pool has changed. In this order: the address that was asked for
 * or none; what it holds (if the annotation does not say otherwise, and it may share with the older
 * holders still); what is reserved for it, or none; an address with its sharing key; the address it
 * had before (quarantine); the lowest free address of the first pool that may be used.
 *
 * 0, a refusal, -ENOENT (facts of the Service were not put) or -ENOMEM. A refusal changes nothing:
 * what the Service holds it still holds, and whether it keeps that instead is the caller's choice.
 * After a change of mind it holds both addresses, until the caller has moved it and releases the
 * old one; for its own quota the old one does not count any more.
 *
 * Refusals: INVALID_CONFIGURATION (wanted address malformed for this family or special),
 * POOL_NOT_FOUND, ADDRESS_NOT_IN_POOL, ADDRESS_IN_USE, FOREIGN_ADDRESS, ADDRESS_RESERVED,
 * SHARING_REFUSED, QUOTA_EXCEEDED, POOL_EXHAUSTED.
 */
int ipam_allocate(struct ipam *ipam, const struct ipam_request *request,
		  struct ipam_answer *answer, struct base_error *error);

/*
 * The Service gives the address back. The last holder leaves it in quarantine (ask
 * ipam_quarantine_each() and write that down before the VirtualIP is deleted).
 * Answers how many still hold it, -ENOENT (did not hold it) or -ENOMEM.
 */
int ipam_release(struct ipam *ipam, const struct ipam_name *service,
		 const struct base_address *address, uint64_t now_us);

/* --- virtual routers --- */

struct ipam_router {
	char name[IPAM_ROUTER_NAME_SIZE];
	uint8_t id;
	size_t address_count; /* that it carries, this one included */
};

/*
 * The virtual router for an address that is held, remembered in its record. The one it has is kept
 * while its ID is allowed by the pool, not in `avoid` (IDs of strangers on the segment; may be NULL)
 * and used by no other virtual router. Else an unused ID: the first one from the last octet of the address upwards,
 * or, for one that leaves its ID to a stranger, from that ID upwards but for the pool's `leap`. When none is left, the
 * virtual router of this pool and family that carries the fewest addresses. `kin` is a number for what placement asks of the address beside its pool
 * (allowed nodes, endpoints): others of its kin come first, and it leaves those that are not for them or
 * for an unused ID. Kin is not recorded; 0 goes with everybody.
 * 0, POOL_EXHAUSTED with a sentence, -ENOENT (not held, or its pool is gone), -ENOMEM.
 */
int ipam_router_choose(struct ipam *ipam, const struct base_address *address, uint64_t kin,
		       const struct ipam_ids *avoid, struct ipam_router *router,
		       struct base_error *error);

/*
 * The lowest address of the virtual router that carries this one. What is packed together moves
 * together: place the leader, and let the others have its candidates word for word. False: not
 * held, or no virtual router yet.
 */
bool ipam_router_leader(const struct ipam *ipam, const struct base_address *address,
			struct base_address *leader);

/* Every address of the virtual router that carries this one, in order; none if none does. */
void ipam_router_each(const struct ipam *ipam, const struct base_address *address,
		      ipam_record_fn *callback, void *userdata);
