#pragma once

#include <systemd/sd-event.h>

#include "daemon/controller/reconcile.h"
#include "daemon/metrics/text.h"

/*
 * FailoverDrills, carried out. Who does what:
 *
 *     controller   refuses what would be an outage; writes status.run (who, from, to, who looks on)
 *     lookers-on   are told by Speaker.status.lookout, ask for the address every
 *                  few milliseconds and say in Speaker.status.probe that they began, and what they saw
 *     controller   orders the handover (annotation vipd.dev/handover of the VirtualIP), or the fault
 *                  (Speaker.status.fault of the owner), once they began
 *     owner        hands over, as for everybody who orders it, or breaks, for as long as it was told
 *     controller   takes the worst of what was seen, compares it with the budget, writes the run down
 *
 * Everything that is known of a run stands in the objects, so another controller goes on with it.
 * There is nothing to roll back: probing ends by itself, a handover is complete or did not happen, a fault
 * is ended by the kernel or with the process that it is in.
 */
struct drills;

int drills_new(struct drills **drills, struct reconciler *reconciler);
void drills_free(struct drills *drills);

/* From the watches. */
void drills_put(struct drills *drills, const cJSON *object);
void drills_drop(struct drills *drills, const char *name);
void drills_speaker(struct drills *drills, const cJSON *object);
/* Everything was listed and this controller leads, or no longer. */
void drills_consider(struct drills *drills);

/* vipd_drill_failed{drill}, for the page. */
void drills_render(const struct drills *drills, struct metrics_text *text);
