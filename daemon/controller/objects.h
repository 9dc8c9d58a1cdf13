#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "base/address.h"
#include "ipam/ipam.h"
#include "ipam/placement.h"

/*
 * What the controller keeps of each object: text in, struct out, no decision. Ten thousand Services
 * are kept at once, so trees are not. Every `_read` fills a struct that held nothing and takes nothing;
 * `_clear` frees what it holds and may be called twice.
 */
#define SERVICE_PORTS_MAX   1024
#define NODE_NAME_SIZE      64
#define INTERFACE_SIZE      16 /* with the NUL, as the kernel has it */

#define FINALIZER           "vipd.dev/address"
#define FINALIZER_UPSTREAM  "service.kubernetes.io/load-balancer-cleanup"
#define LOAD_BALANCER_CLASS "vipd.dev/vip"
#define CONDITION_ALLOCATED "vipd.dev/AddressAllocated"
#define CONDITION_SERVING   "vipd.dev/Serving"

enum family_policy {
	FAMILY_POLICY_SINGLE,
	FAMILY_POLICY_PREFER_DUAL,
	FAMILY_POLICY_REQUIRE_DUAL,
};

enum service_condition_type {
	SERVICE_CONDITION_ALLOCATED,
	SERVICE_CONDITION_SERVING,
	SERVICE_CONDITION_COUNT,
};

struct service {
	char *namespace, *name, *uid, *version;
	int64_t generation; /* 0: the server does not count it */
	bool load_balancer; /* spec.type */
	bool ours;          /* and of our class */
	bool deleting, local_only;
	enum family_policy policy;
	unsigned family_count;
	enum base_family families[2];
	/* annotations vipd.dev/...; NULL: not there */
	char *addresses, *pool, *sharing_key, *nodes, *network;
	char *unknown; /* the first vipd.dev/ annotation that is none of ours */
	char *load_balancer_ip;
	uint64_t selector; /* hash of the selector's canonical text */
	size_t port_count;
	struct ipam_port *ports;
	size_t external_count;
	struct base_address *external_ips;
	cJSON *labels; /* NULL: none */
	/* metadata.finalizers: how many, and where the two that are ours stand (-1: nowhere) */
	int finalizer_count, finalizer, finalizer_upstream;
	/* status as it is */
	unsigned ingress_count; /* addresses; at most two are kept */
	struct base_address ingress[2];
	uint64_t status_digest; /* service_status_digest() of it */
	struct {
		bool there, is_true;
		char since[24]; /* lastTransitionTime */
	} conditions[SERVICE_CONDITION_COUNT];
};

/* `default_class`: class-less Services are ours. */
int service_read(struct service *service, const cJSON *object, bool default_class);
void service_clear(struct service *service);
/* Is what it names in spec.externalIPs brought up, where a pool allows it? */
bool service_serves_external(const struct service *service);
const char *service_condition_name(enum service_condition_type type);
/* One number for what this controller writes of a Service's status: ingress and its two conditions,
 * their times apart. A server that drops ipMode says the same without it. */
uint64_t service_status_digest(const cJSON *status);

struct vip_holder {
	char namespace[IPAM_NAME_SIZE], name[IPAM_NAME_SIZE];
	char uid[40]; /* "": not said */
};

/* What a VirtualIP copies from its pool, so that speakers need not read pools. */
struct vip_settings {
	uint32_t interval_ms; /* 0: not said */
	uint8_t version;
	bool unicast, virtual_mac;
	char dataplane[16];
	size_t interface_count;
	char interfaces[8][INTERFACE_SIZE];
};

/* From AddressPool.spec. */
void vip_settings_read(struct vip_settings *settings, const cJSON *spec);

/* VirtualIP.spec, whole. */
struct vip_spec {
	struct base_address address;
	char pool[IPAM_NAME_SIZE], router[IPAM_ROUTER_NAME_SIZE];
	uint8_t router_id;
	size_t holder_count; /* the oldest first */
	struct vip_holder *holders;
	size_t candidate_count;
	struct {
		char node[NODE_NAME_SIZE];
		uint8_t priority;
	} candidates[IPAM_CANDIDATES_MAX];
	struct vip_settings settings;
	cJSON *attached; /* the pool's attachedNetworks; NULL: none */
};

enum vip_state {
	VIP_STATE_PENDING, /* also: nobody said anything yet */
	VIP_STATE_ACTIVE,
	VIP_STATE_MOVING,
	VIP_STATE_CONFLICT,
	VIP_STATE_UNOWNED,
	VIP_STATE_RELEASED,
};

struct vip_status {
	enum vip_state state;
	char owner[NODE_NAME_SIZE];
	bool no_endpoints;  /* condition EndpointsAvailable is False */
	char conflict[160]; /* message of the condition Conflict, if it is True */
	bool says_owned;    /* condition Owned is True */
	bool first_may_not; /* the first candidate says that it may not own it now */
	/* annotation vipd.dev/handover */
	uint64_t order; /* a hash of its id; 0: none */
	bool ordered;   /* and status.handoverID is another: not carried out yet */
};

/* -EINVAL: spec.address is no address, or not that of the name. */
int vip_spec_read(struct vip_spec *spec, const cJSON *object);
void vip_spec_clear(struct vip_spec *spec);
void vip_status_read(struct vip_status *status, const cJSON *object);
uint64_t vip_spec_digest(const struct vip_spec *spec);
cJSON *vip_spec_write(const struct vip_spec *spec);

/* Node and Speaker of one name, as far as placement looks. */
#define NODE_SEGMENTS_MAX  16
#define SPEAKER_STRANGERS_MAX 8
#define NODE_ADDRESSES_MAX (16 + 2 * NODE_SEGMENTS_MAX)

struct speaker_facts {
	bool excluded, maintenance, ready;
	bool unknown; /* condition Ready is Unknown: told by a controller */
	size_t segment_count;
	struct {
		char interface[INTERFACE_SIZE];
		struct base_prefix prefix;
		struct base_address address, gateway; /* of its node on it; family NONE: not said */
		size_t stranger_count;
		struct speaker_stranger {
			uint8_t id;
			struct base_address address;
		} strangers[SPEAKER_STRANGERS_MAX]; /* virtual routers of others that it hears */
	} segments[NODE_SEGMENTS_MAX];
};

void speaker_read(struct speaker_facts *facts, const cJSON *object);

struct node_facts {
	bool exclude_label; /* node.kubernetes.io/exclude-from-external-load-balancers */
	bool leaving;       /* being deleted, by hand or by the cluster autoscaler */
	size_t address_count;
	struct base_address addresses[16];
};

void node_read(struct node_facts *facts, const cJSON *object);
