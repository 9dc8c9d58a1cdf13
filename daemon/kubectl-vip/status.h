#pragma once

#include "daemon/kubectl-vip/api.h"
#include "daemon/kubectl-vip/arguments.h"
#include "daemon/kubectl-vip/output.h"

/* The rows of `status`, for status.c and watch.c alone. `wide`: with more columns. */
void status_start(struct table *table, bool wide);
void status_row(struct table *table, const cJSON *vip, bool wide);
/* One for each of an array, in the order of their addresses; -1: out of memory. */
int status_rows(struct table *table, const cJSON *vips, bool wide);

/* Was it asked for, by address or by the namespace of a Service (or was everything)? */
bool status_wanted(const cJSON *vip, const struct arguments *arguments);

/*
 * `status --watch`: these (an array, taken over), then each that changes, comes or goes, until somebody
 * ends the program. One that is gone is shown as it was, its state Released.
 */
int status_watch(struct api *api, const struct arguments *arguments, cJSON *vips,
		 struct base_error *error);
