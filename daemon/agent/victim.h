#pragma once

#include "daemon/agent/room.h"

/*
 * This node as the one that a drill breaks: Speaker.status.fault, written by the controller, says what is
 * to crash, hang or be isolated, and how long. That it was taken is written to Speaker.status.faultTaken
 * before the engine is told, so that nothing that is killed by it is told twice.
 */
struct victim;

int victim_new(struct victim **victim, struct agent *agent);
void victim_free(struct victim *victim);

/* From the informer: any Speaker. */
void victim_object(struct victim *victim, const cJSON *object);
/* From the engine. */
void victim_refused(struct victim *victim, const struct message_fault_refused *refused);
