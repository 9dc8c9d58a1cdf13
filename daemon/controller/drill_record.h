#pragma once

#include "daemon/controller/drill.h"

/*
 * What a drill writes: orders, and FailoverDrill.status as a merge patch. The caller frees. `wall_us`:
 * the time of day.
 */

/* Status of a run that begins: phase Running and status.run. `left`: addresses that come after it. */
cJSON *drill_record_begin(const cJSON *drill, const struct drill_plan *plan, const char *address,
			  const cJSON *left, uint64_t wall_us);
/* What was ordered is under way. */
cJSON *drill_record_ordered(void);
/*
 * Status of a run that has ended. `measure` NULL: nothing was measured. With addresses left the phase
 * stays Running; the last run of a round makes it the worst of them.
 */
cJSON *drill_record_end(const cJSON *drill, enum drill_verdict verdict,
			const struct drill_measure *measure, const char *message, const cJSON *left,
			uint64_t wall_us);
/* Status of one that waits for its time. */
cJSON *drill_record_next(const cJSON *drill, uint64_t next_us);

/* To a speaker that is to look on: Speaker.status.lookout. */
cJSON *drill_record_lookout(const cJSON *drill, uint64_t wall_us);
/* To the owner's speaker that is to be broken: Speaker.status.fault. */
cJSON *drill_record_fault(const cJSON *drill, uint64_t wall_us);
/* To the owner: the annotation vipd.dev/handover of the VirtualIP. */
cJSON *drill_record_handover(const cJSON *drill);
