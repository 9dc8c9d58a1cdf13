#pragma once

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "base/error.h"
#include "daemon/protocol/message.h"

/*
 * From objects to wishes: Nodes, AddressPools, VirtualIPs, Services, EndpointSlices and Speakers
 * become NODE, ROUTER and SERVICE_PORT messages for the engine.
 *
 * Of manifests (`cluster` false) a set is read whole and checked whole; a set with one error is no
 * set, and whoever runs keeps the one it had. Addresses stand in the Services. In a cluster the
 * VirtualIP that the controller wrote is the record, Leases are to be won, and one bad object is
 * skipped and told.
 */
struct wish_set;

struct wish_set *wish_set_new(bool cluster);
void wish_set_free(struct wish_set *set);

/* A file, or every *.yaml, *.yml and *.json in a folder (in order of names). 0 or -errno. */
int wish_set_read(struct wish_set *set, const char *path, struct base_error *error);

/* One object of the API server; takes the tree. `kind` as items of a list do not say it. */
int wish_set_put(struct wish_set *set, const char *kind, cJSON *tree);
void wish_set_drop(struct wish_set *set, const char *kind, const char *namespace,
		   const char *name);
/* Borrowed until the set changes; NULL: not there. */
const cJSON *wish_set_get(struct wish_set *set, const char *kind, const char *namespace,
			  const char *name);
void wish_set_each(struct wish_set *set, const char *kind,
		   void (*callback)(void *userdata, const cJSON *tree), void *userdata);

/* Hears of every object that is skipped while emitting (in a cluster). */
void wish_set_on_skipped(struct wish_set *set,
			 void (*callback)(void *userdata, const struct base_error *error),
			 void *userdata);

/*
 * Checks what only the whole set shows: every address in a pool, no address twice, VRIDs free of
 * collisions. Then emits the messages. `node` (NULL: any) must be one of the Nodes of manifests.
 */
int wish_set_emit(struct wish_set *set, const char *node,
		  int (*emit)(void *userdata, const struct message *message), void *userdata,
		  struct base_error *error);
