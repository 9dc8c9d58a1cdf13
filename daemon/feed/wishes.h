#pragma once

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "base/error.h"
#include "daemon/protocol/message.h"

/*
 * From objects to wishes: Nodes, AddressPools, VirtualIPs, Services, EndpointSlices and Speakers
 * become NODE, ROUTER and SERVICE_PORT messages for the engine.
 *
 * Manifests (`cluster` false): a set is read whole, checked whole and emitted whole; a set with one
 * error is no set, and whoever runs keeps the one it had. Addresses stand in the Services.
 *
 * Cluster: the VirtualIP that the controller wrote is the record, Leases are to be won. Objects
 * come and go one by one, and what is emitted is what has changed. One bad object is skipped and
 * told; what had been said of it stays in force.
 */
struct wish_set;

struct wish_set *wish_set_new(bool cluster);
void wish_set_free(struct wish_set *set);

/* --- manifests --- */

/*
 * A file, "-" (standard input), or every *.yaml, *.yml and *.json in a folder (in order of names).
 * 0 or -errno.
 */
int wish_set_read(struct wish_set *set, const char *path, struct base_error *error);

/*
 * Checks what only the whole set shows: every address in a pool, no address twice, VRIDs free of
 * collisions. Then emits the messages. `node` (NULL: any) must be one of the Nodes.
 */
int wish_set_emit(struct wish_set *set, const char *node,
		  int (*emit)(void *userdata, const struct message *message), void *userdata,
		  struct base_error *error);

/* --- cluster --- */

/*
 * One object of the API server; what is needed of it is copied. `kind` as items of a list do not
 * say it. 1: something that matters changed, 0: nothing did, -ENOMEM.
 */
int wish_set_put(struct wish_set *set, const char *kind, const cJSON *tree);
void wish_set_drop(struct wish_set *set, const char *kind, const char *namespace,
		   const char *name);

/*
 * Sends what the engine does not know yet, then REMOVEs what is no longer so. Cost: the objects
 * that changed and what they belong to. An error of `send` is answered (and the set is of no use
 * any more: the channel is gone).
 */
int wish_set_emit_changes(struct wish_set *set,
			  int (*send)(void *userdata, const struct message *message),
			  void *userdata);
bool wish_set_due(const struct wish_set *set); /* there may be something to emit */

/*
 * Hears of every object that is skipped while emitting. With manifests: of every fault while reading
 * and while emitting; both answer 0 then, and what was emitted is of no use.
 */
void wish_set_on_skipped(struct wish_set *set,
			 void (*callback)(void *userdata, const struct base_error *error),
			 void *userdata);

/* Hears, while emitting, of VirtualIPs with a Service that got its first or lost its last endpoint, or whose remark changed. */
void wish_set_on_endpoints(struct wish_set *set,
			   void (*callback)(void *userdata, const char *virtual_ip),
			   void *userdata);
/* Has the Service an endpoint for one of its addresses? As of the last emission. */
bool wish_set_available(struct wish_set *set, const char *namespace, const char *service);

/* What a person should know of endpoints that the Service could have and has not; "": nothing. */
const char *wish_set_remark(struct wish_set *set, const char *namespace, const char *service);
/* A Service asks for an attached network: VirtualMachineInstances are to be put, too. */
bool wish_set_wants_vms(const struct wish_set *set);

/* metadata.uid of a Service; "" if it is not known. */
void wish_set_uid(struct wish_set *set, const char *namespace, const char *service,
		  char uid[static 64]);
