#pragma once

#include <cjson/cJSON.h>

#include "base/error.h"
#include "daemon/protocol/message.h"

/*
 * A set of manifests: read whole, checked whole, and only then turned into messages. A set with
 * one error is no set: whoever runs keeps the one it had.
 */
struct manifest_set;

struct manifest_set *manifest_set_new(void);
void manifest_set_free(struct manifest_set *set);

/* A file, or every *.yaml, *.yml and *.json in a folder (in order of names). 0 or -errno. */
int manifest_set_read(struct manifest_set *set, const char *path, struct base_error *error);

/*
 * Checks what only the whole set shows: every Service address in a pool or refused, no address
 * twice, VRIDs free of collisions, candidates that exist. Then emits NODE, ROUTER and SERVICE_PORT
 * messages. `node` (NULL: any) must be one of the Nodes.
 */
int manifest_set_emit(struct manifest_set *set, const char *node,
		      int (*emit)(void *userdata, const struct message *message), void *userdata,
		      struct base_error *error);
