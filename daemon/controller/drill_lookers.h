#pragma once

#include "daemon/controller/drill.h"

/*
 * What speakers said of drills: Speaker.status.lookout is what each was told, status.probe what it
 * answered; status.faultTaken is what one that was to be broken answered. Kept of every node that ever had
 * a part in it.
 */
struct drill_lookers;

struct drill_lookers *drill_lookers_new(void); /* NULL on ENOMEM */
void drill_lookers_free(struct drill_lookers *lookers);

/* A Speaker as the watch has it. */
void drill_lookers_put(struct drill_lookers *lookers, const cJSON *object);

/*
 * How far those are that `drill` named in status.run.probers. `asked`: a bit for each of them that was
 * told and whose Speaker the watch has not shown since.
 */
struct drill_progress {
	unsigned lookers, begun, done, failed;
	int untold;         /* index of one that has to be told; -1: none */
	char why[200];      /* of one that failed */
	char unbroken[200]; /* why the node that was to be broken refused; "": it did not */
};
void drill_lookers_look(const struct drill_lookers *lookers, const cJSON *drill, unsigned asked,
			struct drill_progress *progress);

/* The worst of what those saw that asked until the end. */
void drill_lookers_measure(const struct drill_lookers *lookers, const cJSON *drill,
			   struct drill_measure *measure);
