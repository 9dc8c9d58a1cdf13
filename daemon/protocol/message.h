#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/address.h"
#include "base/reason.h"

/*
 * What the engine (privileged; VRRP, election, fence, netlink, nft) and its feeder (unprivileged;
 * the agent with the Kubernetes API, or the manifests of standalone mode) say to each other.
 *
 * One message is one datagram of a SOCK_SEQPACKET pair. Little endian, every field checked on
 * both sides: a decoder answers a struct or -EBADMSG and never trusts a count, a length or a
 * missing NUL. The version is in every message; another version is -EPROTONOSUPPORT.
 *
 * Feeder to engine: HELLO, then SYNC_BEGIN, everything that is wanted, SYNC_END; from then on
 * differences. What was wanted before SYNC_BEGIN and not named again by SYNC_END is removed at
 * SYNC_END, so a restarted feeder never has to know what its predecessor said.
 * Engine to feeder: HELLO, then status and wishes. The engine goes on without a feeder.
 */
#define MESSAGE_VERSION            3

#define MESSAGE_SIZE_MAX	 (192 * 1024)
#define MESSAGE_NAME_SIZE	 64  /* node, pool */
#define MESSAGE_ROUTER_NAME_SIZE 96  /* "<pool>.ipv4.<vrid>", also the name of the Lease */
#define MESSAGE_SERVICE_SIZE	 160 /* "namespace/name" */
#define MESSAGE_TEXT_SIZE	 256
#define MESSAGE_VERSION_SIZE	 32 /* resourceVersion, opaque */
#define MESSAGE_INTERFACE_SIZE	 16
#define MESSAGE_ADDRESSES_MAX	 90 /* per virtual router: what fits one IPv6 advert */
#define MESSAGE_NODE_ADDRESSES_MAX 16
#define MESSAGE_CANDIDATES_MAX	 32
#define MESSAGE_INTERFACES_MAX	 8
#define MESSAGE_ENDPOINTS_MAX	 1024
#define MESSAGE_PREPARED_MAX	 64
#define MESSAGE_RANGES_MAX	 2048
#define MESSAGE_SEGMENTS_MAX	 16
#define MESSAGE_STRANGERS_MAX	 8

enum message_type {
	MESSAGE_HELLO = 1,
	/* feeder to engine */
	MESSAGE_SYNC_BEGIN,
	MESSAGE_SYNC_END,
	MESSAGE_NODE,
	MESSAGE_ROUTER,
	MESSAGE_SERVICE_PORT,
	MESSAGE_REMOVE,
	MESSAGE_LEASE,
	MESSAGE_LEASE_RESULT,
	MESSAGE_API_CONTACT,
	MESSAGE_ORDER,
	MESSAGE_SETTINGS,
	MESSAGE_RENEWAL,
	/* engine to feeder */
	MESSAGE_LEASE_WRITE,
	MESSAGE_LEASE_READ,
	MESSAGE_ROUTER_STATUS,
	MESSAGE_NODE_STATUS,
	MESSAGE_TRANSITION,
	MESSAGE_REFUSAL,
	MESSAGE_SHUTDOWN, /* the engine is done: write last status and end */
	MESSAGE_ALIVE,	  /* every few seconds: its loop turns, what it owns it stands behind */
	/* of drills: to the engine, and back when it begins and when it ends */
	MESSAGE_PROBE,
	MESSAGE_PROBE_RESULT,
	/* of drills here: to the engine, and back if it cannot be done */
	MESSAGE_FAULT,
	MESSAGE_FAULT_REFUSED,
	MESSAGE_TYPE_COUNT
};

struct message_hello {
	char node[MESSAGE_NAME_SIZE];
	char program[MESSAGE_NAME_SIZE]; /* "vipd v0.1.0 engine" */
};

/* A member of the cluster. `addresses`: InternalIPs and the segment addresses its Speaker reports. */
struct message_node {
	char name[MESSAGE_NAME_SIZE];
	uint32_t address_count;
	struct base_address addresses[MESSAGE_NODE_ADDRESSES_MAX];
	uint32_t pod_range_count;
	struct base_prefix pod_ranges[4];
};

enum message_dataplane {
	MESSAGE_DATAPLANE_AUTO,
	MESSAGE_DATAPLANE_DIRECTOR,
	MESSAGE_DATAPLANE_NAT,
	MESSAGE_DATAPLANE_ANNOUNCE,
	MESSAGE_DATAPLANE_COUNT
};

struct message_candidate {
	char node[MESSAGE_NAME_SIZE];
	uint8_t priority; /* 1..254 */
};

/* A virtual router: what moves together. Replaces what was said of this name before. */
struct message_router {
	char name[MESSAGE_ROUTER_NAME_SIZE];
	char pool[MESSAGE_NAME_SIZE];
	char services[MESSAGE_TEXT_SIZE]; /* for people: "vms/myvm-ssh, ..." */
	uint8_t virtual_router_id;
	uint8_t family; /* enum base_family */
	uint8_t version;
	bool unicast;
	bool virtual_mac;
	bool leased; /* there is a Lease to win */
	uint8_t dataplane; /* enum message_dataplane */
	uint32_t interval_ms;
	uint32_t address_count; /* 1.. */
	struct base_address addresses[MESSAGE_ADDRESSES_MAX];
	uint32_t interface_count; /* patterns; none: the interface whose subnet holds the address */
	char interfaces[MESSAGE_INTERFACES_MAX][MESSAGE_INTERFACE_SIZE];
	uint32_t candidate_count;
	struct message_candidate candidates[MESSAGE_CANDIDATES_MAX];
};

enum message_affinity {
	MESSAGE_AFFINITY_NONE,
	MESSAGE_AFFINITY_CLIENT_IP,
	MESSAGE_AFFINITY_COUNT
};

struct message_endpoint {
	struct base_address address;
	uint16_t port;
	uint64_t vm; /* a number that stays when the VM moves to another node and address; 0: no VM */
	bool attached; /* on a network of its own: its replies come this way only if asked by this node */
	char node[MESSAGE_NAME_SIZE]; /* "" unknown */
};

/* One port of one address. Key: address, protocol, port. No endpoint: refused politely. */
/* Every port of every protocol that no other one names: the address is one VM's as a whole. */
#define MESSAGE_PROTOCOL_EVERY 255

struct message_service_port {
	char service[MESSAGE_SERVICE_SIZE];
	struct base_address address;
	uint8_t protocol; /* IPPROTO_TCP, _UDP, _SCTP; or MESSAGE_PROTOCOL_EVERY */
	uint16_t port;	  /* MESSAGE_PROTOCOL_EVERY: 0, and so are those of the endpoints */
	uint8_t affinity; /* enum message_affinity */
	bool local_only;  /* externalTrafficPolicy: Local */
	uint32_t range_count; /* source ranges; none: everybody */
	struct base_prefix ranges[MESSAGE_RANGES_MAX];
	uint32_t endpoint_count;
	struct message_endpoint endpoints[MESSAGE_ENDPOINTS_MAX];
	uint32_t prepared_count; /* not ready, perhaps soon: where a VM is being migrated to */
	struct message_endpoint prepared[MESSAGE_PREPARED_MAX];
};

enum message_kind {
	MESSAGE_KIND_NODE,
	MESSAGE_KIND_ROUTER,
	MESSAGE_KIND_SERVICE_PORT,
	MESSAGE_KIND_COUNT
};

struct message_remove {
	uint8_t kind; /* enum message_kind */
	char name[MESSAGE_ROUTER_NAME_SIZE]; /* node, router */
	struct base_address address;	     /* service port */
	uint8_t protocol;
	uint16_t port;
};

/* A Lease as the API server told it last (virtual_router.h has the meaning of the fields). */
struct message_lease {
	char router[MESSAGE_ROUTER_NAME_SIZE];
	bool exists;
	char holder[MESSAGE_NAME_SIZE];
	uint32_t term;
	uint32_t duration_ms;
	char version[MESSAGE_VERSION_SIZE];
	char successor[MESSAGE_NAME_SIZE];
	bool degraded;
};

enum message_write_result {
	MESSAGE_WRITE_OK,
	MESSAGE_WRITE_CONFLICT,
	MESSAGE_WRITE_UNKNOWN,
	MESSAGE_WRITE_REFUSED,
	MESSAGE_WRITE_RESULT_COUNT
};

struct message_lease_result {
	uint32_t id; /* of the LEASE_WRITE */
	uint8_t result;
	struct message_lease lease; /* as written, with MESSAGE_WRITE_OK; router name always */
};

/* Compare-and-swap: lands only if the Lease still has `lease.version` ("": must not exist). */
struct message_lease_write {
	uint32_t id;
	uint64_t sent_us; /* CLOCK_BOOTTIME: a feeder that was stopped drops what is too old */
	struct message_lease lease;
};

struct message_lease_read {
	char router[MESSAGE_ROUTER_NAME_SIZE];
};

struct message_api_contact {
	bool reachable;
};

enum message_order_type {
	MESSAGE_ORDER_HANDOVER, /* router to node ("": the best) */
	MESSAGE_ORDER_COUNT
};

struct message_order {
	uint8_t order; /* enum message_order_type */
	uint8_t reason; /* enum base_reason */
	char router[MESSAGE_ROUTER_NAME_SIZE];
	char node[MESSAGE_NAME_SIZE];
};

/*
 * The speaker of `node` gave a sign of life just now: all Leases that name it as their holder count
 * as renewed.
 */
struct message_renewal {
	char node[MESSAGE_NAME_SIZE];
};

/* Speaker.spec of this node. */
struct message_settings {
	bool maintenance;
	bool excluded;
};

struct message_router_status {
	char router[MESSAGE_ROUTER_NAME_SIZE];
	char owner[MESSAGE_NAME_SIZE]; /* as this node knows it; "" unknown */
	uint8_t state;		       /* enum virtual_router_state */
	bool owned;		       /* by this node */
	bool confirmed;
	bool addresses_present; /* verified in the kernel */
	bool fence_open;	/* verified in the kernel */
	bool rules_present;
	bool heard_by_peers;
	bool eligible;
	uint8_t not_eligible_why; /* enum base_reason */
	uint8_t dataplane;	  /* in force */
	uint8_t conflict_mac[6];
	bool conflict;
	uint32_t term;
	uint64_t since_ms; /* how long it has been so */
};

/* Somebody outside the cluster who sends adverts with this virtual router ID. */
struct message_stranger {
	uint8_t virtual_router_id;
	struct base_address source;
};

struct message_segment {
	char interface[MESSAGE_INTERFACE_SIZE];
	struct base_prefix prefix;    /* of the subnet */
	struct base_address address; /* of this node in it */
	struct base_address gateway; /* none: unknown */
	uint8_t mac[6];
	bool up;
	uint32_t stranger_count; /* of the family of the prefix */
	struct message_stranger strangers[MESSAGE_STRANGERS_MAX];
};

enum message_fence {
	MESSAGE_FENCE_NONE,
	MESSAGE_FENCE_OWNER_TABLE,
	MESSAGE_FENCE_LOOPBACK,
	MESSAGE_FENCE_EGRESS,
	MESSAGE_FENCE_COUNT
};

struct message_node_status {
	bool ready;
	bool safe_to_reboot; /* owns nothing and hands nothing over */
	bool programmed;     /* the rules wanted are the rules in the kernel */
	bool unshown;	     /* the page with the metrics could not take its port */
	uint8_t fence;	     /* enum message_fence */
	uint8_t dataplane;
	uint32_t owned;
	uint32_t eligible;
	char message[2 * MESSAGE_TEXT_SIZE]; /* what is wrong, "" if nothing */
	char no_way_back[MESSAGE_TEXT_SIZE]; /* why clients beyond the LAN get no replies, "": they do */
	char untracked[MESSAGE_TEXT_SIZE]; /* what is wrong with the kernel's connection tracking, "": nothing */
	char unheard[MESSAGE_TEXT_SIZE]; /* whose adverts do not reach this node, and what to do; "": nobody's */
	char in_the_way[2 * MESSAGE_TEXT_SIZE]; /* what a bridge drops of what it serves, and what to do; "": nothing */
	uint32_t segment_count;
	struct message_segment segments[MESSAGE_SEGMENTS_MAX];
};

/* For an Event of the Service of whose rules the kernel of this node refuses one. */
struct message_refusal {
	char service[MESSAGE_SERVICE_SIZE];
	char message[2 * MESSAGE_TEXT_SIZE];
};

/* For Events and VirtualIP.status.lastTransition; said once, by the node it happened to. */
struct message_transition {
	char router[MESSAGE_ROUTER_NAME_SIZE];
	char from[MESSAGE_NAME_SIZE], to[MESSAGE_NAME_SIZE];
	uint8_t reason; /* enum base_reason */
	uint32_t term;
	uint64_t outage_us;
	uint64_t age_us; /* how long ago, for the wall clock of the agent */
	char message[MESSAGE_TEXT_SIZE];
};

/* In what was asked: from `at_us` on it was answered by `node`. */
#define MESSAGE_SPANS_MAX 16
#define MESSAGE_SPAN_TWO  "*" /* two or more */
struct message_span {
	uint64_t at_us;		      /* since the first question */
	char node[MESSAGE_NAME_SIZE]; /* "": nobody; who is no member: its MAC */
};

/* Ask for so long who has the address, without a part in what happens to it. */
struct message_probe {
	uint32_t id;
	struct base_address address;
	uint8_t protocol; /* 0: for its MAC alone; IPPROTO_ICMP, _TCP, _UDP: that, too */
	uint16_t port;
	uint16_t connection_port; /* 0: none; connections to it are held meanwhile */
	uint32_t interval_ms, duration_ms;
};

struct message_probe_result {
	uint32_t id; /* of the PROBE */
	bool done;   /* false: it has begun */
	uint32_t sent, lost;
	uint64_t outage_us, two_us; /* the longest; answered by two altogether */
	uint32_t connections_kept, connections_lost; /* of those that were held to the end */
	uint32_t span_count;
	struct message_span spans[MESSAGE_SPANS_MAX]; /* the first ones, in order */
	char why_not[MESSAGE_TEXT_SIZE]; /* "": it was asked until the end */
};

enum message_fault_kind {
	MESSAGE_FAULT_CRASH,   /* killed, and back some seconds later */
	MESSAGE_FAULT_HANG,    /* stopped for hold_ms */
	MESSAGE_FAULT_ISOLATE, /* cut off from the LAN for hold_ms */
	MESSAGE_FAULT_COUNT
};

/* Break for a while, on purpose (daemon/engine/fault.h). */
struct message_fault {
	uint32_t id;
	uint8_t kind;			       /* enum message_fault_kind */
	char router[MESSAGE_ROUTER_NAME_SIZE]; /* "": this node's engine as a whole */
	uint32_t hold_ms;
};

struct message_fault_refused {
	uint32_t id; /* of the FAULT */
	char why[MESSAGE_TEXT_SIZE];
};

struct message {
	enum message_type type;
	union {
		struct message_hello hello;
		struct message_node node;
		struct message_router router;
		struct message_service_port service_port;
		struct message_remove remove;
		struct message_lease lease;
		struct message_lease_result lease_result;
		struct message_api_contact api_contact;
		struct message_order order;
		struct message_settings settings;
		struct message_renewal renewal;
		struct message_lease_write lease_write;
		struct message_lease_read lease_read;
		struct message_router_status router_status;
		struct message_node_status node_status;
		struct message_transition transition;
		struct message_refusal refusal;
		struct message_probe probe;
		struct message_probe_result probe_result;
		struct message_fault fault;
		struct message_fault_refused fault_refused;
	};
};

/*
 * Makes it an empty one of this type. A message is as large as the largest of them, more than 100 KiB:
 * to clear it whole costs time, and memory that stays.
 */
#define MESSAGE_CLEAR(message, kind, member)                                                       \
	((message)->type = (kind), memset(&(message)->member, 0, sizeof(message)->member))

/* Bytes written to `data`, or -EMSGSIZE, -EINVAL (a count or enum out of range). */
int message_encode(const struct message *message, uint8_t *data, size_t size);

/* 0; -EBADMSG: malformed; -EPROTONOSUPPORT: another version. `*message` is undefined then. */
int message_decode(struct message *message, const uint8_t *data, size_t size);

const char *message_type_name(enum message_type type);
