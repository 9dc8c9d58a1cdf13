#pragma once

#include "daemon/kubectl-vip/api.h"
#include "daemon/kubectl-vip/arguments.h"

/*
 * Each command: 0 done; 1 not done, or the answer is no; a negative value: failed, and `error` says
 * why. Words were counted already.
 */
int status_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int pools_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int explain_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int handover_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int drain_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int undrain_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int drill_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int check_command(struct api *api, const struct arguments *arguments, struct base_error *error);
int version_command(struct api *api, const struct arguments *arguments, struct base_error *error);

/* Shared: reading VirtualIPs. */

/* The name of the VirtualIP of an address in any spelling; otherwise the word itself. */
const char *vip_name(const char *word, char name[static 64]);
/* Does `spec.services` name it? `name` NULL: any of the namespace. */
bool vip_names(const cJSON *vip, const char *namespace, const char *name);
/* The entry of status.notEligible for this node, or NULL. */
const cJSON *vip_not_eligible(const cJSON *vip, const char *node);
/* status.conditions[type == `type`], or NULL. */
const cJSON *condition_of(const cJSON *object, const char *type);
/* Its status: "True", "False", "Unknown", "" if it is not there. */
const char *condition_status(const cJSON *object, const char *type);
