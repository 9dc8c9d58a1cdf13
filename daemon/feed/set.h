#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "base/address.h"
#include "base/error.h"
#include "daemon/feed/wishes.h"
#include "daemon/protocol/message.h"
#include "k8s/packed.h"

/* What the files of this folder share. */

enum object_kind {
	KIND_NODE,
	KIND_POOL,
	KIND_SERVICE,
	KIND_VIRTUAL_IP,
	KIND_SLICE,
	KIND_SPEAKER,
	KIND_VM, /* a VirtualMachineInstance with attached networks */
	KIND_COUNT
};

/* What becomes messages together, and is made anew when one of its members changes. */
enum unit_kind {
	UNIT_NODE,    /* Node and Speaker of one name -> NODE */
	UNIT_ROUTER,  /* VirtualIPs of one virtual router -> ROUTER */
	UNIT_NAMESPACE, /* VMs with attached networks, and the Services that ask for those -> UNIT_SERVICE */
	UNIT_SERVICE, /* Service, its slices, the VirtualIPs that name it -> SERVICE_PORTs */
	UNIT_COUNT
};

struct link {
	struct link *next_of_object, *next_of_unit;
	struct object *object;
	struct unit *unit;
};

/*
 * Of a manifest the tree is kept, with its line numbers. Of an object of the API server only what
 * the translation reads is kept, packed, and becomes a tree while it is looked at: 10000 Services with
 * their slices and addresses are some 3 MB packed, 10 MB as text, and ten times that as trees.
 */
struct object {
	struct object *next;	     /* in its bucket */
	struct object *before, *after; /* in order of appearance */
	struct object *next_opened;
	struct link *links;
	enum object_kind kind;
	char *file; /* manifests */
	cJSON *tree;
	struct k8s_packed *packed; /* API */
	const char *name;
	char namespace[]; /* NUL, name, NUL */
};

/* One thing the engine was told, as a promise to take it back. */
struct told {
	struct told *next_key;
	struct told *next, **link; /* in the list of its unit, or of what is stale */
	struct unit *unit;	   /* NULL: stale */
	uint64_t hash, round;
	uint8_t key_size;
	uint8_t key[];
};

struct unit {
	struct unit *next, *next_due;
	enum unit_kind kind;
	bool due;
	bool blocked; /* what it wanted to say is another unit's: again when that one goes */
	bool available; /* service: has an endpoint */
	char *remark;	/* service: what a person should know of endpoints that it has not; NULL: nothing */
	struct link *members;
	struct told *told;
	char name[]; /* node, router, "namespace/name" */
};

#define SET_BUCKETS 2048

struct wish_set {
	bool cluster;
	struct object *buckets[SET_BUCKETS];
	struct object *first, *last, *opened;
	struct unit *units[SET_BUCKETS], *due[UNIT_COUNT];
	struct told *told[SET_BUCKETS], *stale;
	uint64_t round;
	bool any_blocked;
	bool wants_vms; /* since a Service asked for an attached network */
	char remark[256]; /* of the unit that is being made */
	const char *reading;
	unsigned faults; /* told to on_skipped, of manifests */
	struct base_error *error;
	void (*on_skipped)(void *userdata, const struct base_error *error);
	void *skipped_userdata;
	void (*on_endpoints)(void *userdata, const char *virtual_ip);
	void *endpoints_userdata;
	struct message message; /* the one that is being made */
};

/* objects.c */
enum object_kind object_kind_of(const char *kind); /* KIND_COUNT: none of ours */
const char *object_kind_name(enum object_kind kind);
const char *object_kind_api(enum object_kind kind);
struct object *object_find(struct wish_set *set, enum object_kind kind, const char *namespace,
			   const char *name);
/* Of manifests: takes the tree. NULL: out of memory. */
struct object *object_put(struct wish_set *set, enum object_kind kind, cJSON *tree);
void object_drop(struct wish_set *set, struct object *object);
const cJSON *object_tree(struct wish_set *set, const struct object *object);
void objects_close(struct wish_set *set); /* frees what object_tree() unpacked */
struct unit *unit_find(struct wish_set *set, enum unit_kind kind, const char *name);
void unit_set_due(struct wish_set *set, struct unit *unit);
void unit_forget(struct wish_set *set, struct unit *unit); /* if nothing needs it any more */

/* check.c: the fields of one manifest, each for itself. */
#define MANIFEST_INTERVAL_MS 100
int manifest_check(struct wish_set *set, const struct object *object);

/* lean.c: what the translation reads of an object of the API server. 0: nothing; 1; -ENOMEM. */
int lean_pack(enum object_kind kind, const cJSON *tree, struct k8s_packed **packed);
bool lean_is_balanced(const cJSON *service); /* a Service of type LoadBalancer and of our class */

/* translate.c */
const cJSON *tree_get(const cJSON *item, const char *path); /* "spec/vrrp/mode"; NULL for null */
const char *tree_text(const cJSON *item, const char *path); /* "" if it is no text */
const char *tree_annotation(const cJSON *tree, const char *name);
const char *tree_namespace(const cJSON *tree); /* "default" if it says none */
__attribute__((format(printf, 4, 5))) int complain(struct wish_set *set,
						    const struct object *object, const cJSON *item,
						    const char *format, ...);
int translate_node(struct wish_set *set, const struct object *node, const struct object *speaker,
		   struct message *message);
/* What pools and VirtualIPs say about their virtual routers. */
int translate_settings(struct wish_set *set, const struct object *object,
		       struct message_router *router);
int translate_candidates(struct wish_set *set, const struct object *virtual_ip,
			 struct message_router *router);
/* The endpoint is the pod that a VM runs in, as KubeVirt names it. */
bool translate_is_launcher(const cJSON *endpoint);
int translate_port(struct wish_set *set, const struct object *service, const cJSON *port,
		   const struct unit *unit, const struct base_address *address,
		   struct message_service_port *wish);
/* Adds it, if it is not there yet; its list has room. */
void translate_add_endpoint(const struct message_endpoint *endpoint, struct message_endpoint *endpoints,
			    uint32_t *count);
/* message_endpoint.vm, for a pod of this name; 0: no VM runs in it. */
uint64_t translate_vm(const char *namespace, const char *pod);

/*
 * attached.c: annotation vipd.dev/network. What VMs report of their interface on that network are the endpoints,
 * as far as the pool's attachedNetworks (in the VirtualIP) allow the address; the rest becomes a remark.
 */
int attached_endpoints(struct wish_set *set, const struct object *service, const cJSON *port,
		       const struct unit *unit, struct message_service_port *wish);
bool attached_is_asked(const cJSON *service);

/*
 * Annotation vipd.dev/all-ports: "true": every port that the Service does not name. 1: there is such a wish;
 * 0: not asked for, or the address may be shared (vipd.dev/sharing-key), which it must not be.
 */
int translate_every_port(struct wish_set *set, const struct object *service, const struct unit *unit,
			 const struct base_address *address, struct message_service_port *wish);
/* Adds one to names, "a,b,..." when no more fit. */
void translate_add_name(char *names, size_t size, const char *name);
void translate_service_name(const char *namespace, const char *name, char *services, size_t size);
