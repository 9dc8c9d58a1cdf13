#include "daemon/controller/drill_course.h"

#include <errno.h>

#include "base/time.h"
#include "k8s/object.h"

#define BEGIN_US    (6 * BASE_USEC_PER_SEC)  /* for lookers-on to begin */
#define PATIENCE_US (2 * BASE_USEC_PER_SEC)  /* with those that do not, if another one did */
#define END_US      (10 * BASE_USEC_PER_SEC) /* after the probing should have ended */

enum drill_step drill_course(const cJSON *drill, const struct drill_progress *progress,
			     uint64_t age_us, struct base_error *why)
{
	uint64_t over_us = BEGIN_US + drill_run_duration_ms(drill) * BASE_USEC_PER_MSEC + END_US;

	if (progress->unbroken[0]) {
		base_error_set(why, -EBUSY, "%s: %s", k8s_object_text(drill, "status/run/from"),
			       progress->unbroken);
		return DRILL_STEP_REFUSE;
	}
	if (k8s_object_bool(drill, "status/run/ordered", false))
		return progress->begun == 0 || age_us > over_us ? DRILL_STEP_JUDGE
								: DRILL_STEP_WAIT;
	if (progress->untold >= 0)
		return DRILL_STEP_TELL;
	if (progress->begun > 0)
		return progress->begun + progress->failed == progress->lookers ||
				       age_us > PATIENCE_US
			       ? DRILL_STEP_ORDER
			       : DRILL_STEP_WAIT;
	if (progress->failed < progress->lookers && age_us <= BEGIN_US)
		return DRILL_STEP_WAIT;
	if (progress->done > 0)
		base_error_set(why, -EIO,
			       "no controller led when the failover was to be ordered: nothing "
			       "moved");
	else
		base_error_set(why, -EIO, "nobody could look on: %s",
			       progress->why[0] ? progress->why : "no speaker answered in time");
	return DRILL_STEP_REFUSE;
}
