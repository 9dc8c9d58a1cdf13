#pragma once

#include "daemon/agent/room.h"

/*
 * This node's part in drills: Speaker.status.lookout, written by the controller, says which address is
 * to be asked for, how often and how long; the engine asks, Speaker.status.probe says that it has begun
 * and what came of it. Each order is carried out once, and not after it has expired.
 */
struct lookout;

int lookout_new(struct lookout **lookout, struct agent *agent);
void lookout_free(struct lookout *lookout);

/* From the informer: any Speaker. */
void lookout_object(struct lookout *lookout, const cJSON *object);
/* From the engine. */
void lookout_result(struct lookout *lookout, const struct message_probe_result *result);
