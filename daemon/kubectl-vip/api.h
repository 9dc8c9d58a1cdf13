#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "base/error.h"
#include "k8s/io/informer.h"

/*
 * The API server as a command line tool needs it: one request after another, and every failure as
 * the sentence that a person will read.
 */
struct api;

#define API_GROUP "/apis/vipd.dev/v1alpha1"

/* The kubeconfig as kubectl finds it; `context` NULL: the current one. */
int api_open(struct api **api, const char *kubeconfig, const char *context,
	     struct base_error *error);
void api_close(struct api *api); /* NULL is fine */
const char *api_namespace(const struct api *api); /* of the context, or "default" */
const char *api_server(const struct api *api);
/* Requests end no later than this from now on, each after at most 30 s. */
void api_set_deadline(struct api *api, uint64_t timeout_us);
bool api_expired(struct api *api);
void api_sleep(struct api *api, uint64_t delay_us);

/*
 * 0 and the tree (to be freed), or: -ENOENT no such object; -ENOTDIR the server does not know this
 * kind at all; -EACCES no permission; other values for everything else. `error` says it whole.
 */
int api_get(struct api *api, const char *path, cJSON **tree, struct base_error *error);
int api_merge(struct api *api, const char *path, const cJSON *patch, cJSON **tree,
	      struct base_error *error);
int api_create(struct api *api, const char *path, const cJSON *object, struct base_error *error);

/*
 * All objects at `path`, then whatever becomes of them, until somebody ends the program. Trouble is told
 * on stderr, and tried again: of the handlers on_object and on_gone are called.
 */
int api_follow(struct api *api, const char *path, const struct k8s_informer_handlers *handlers,
	       void *userdata, struct base_error *error);

/* The item of a list (borrowed), or NULL and an error that offers the nearest name. */
const cJSON *api_pick(const cJSON *list, const char *kind, const char *name,
		      struct base_error *error);
