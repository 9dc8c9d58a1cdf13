#pragma once

#include "daemon/controller/drill.h"

/*
 * What a drill writes: orders, and FailoverDrill.status as a merge patch. The caller frees. `wall_us`:
 * the time of day.
 */

/* Status of one that begins: phase Running and status.run. */
cJSON *drill_record_begin(const cJSON *drill, const struct drill_plan *plan, const char *address,
			  uint64_t wall_us);
/* What was ordered is under way. */
cJSON *drill_record_ordered(void);
/* Status of one that has ended. `measure` NULL: nothing was measured. */
cJSON *drill_record_end(const cJSON *drill, enum drill_verdict verdict,
			const struct drill_measure *measure, const char *message, uint64_t wall_us);

/* To a speaker that is to look on: Speaker.status.lookout. */
cJSON *drill_record_lookout(const cJSON *drill, uint64_t wall_us);
/* To the owner: the annotation vipd.dev/handover of the VirtualIP. */
cJSON *drill_record_handover(const cJSON *drill);
