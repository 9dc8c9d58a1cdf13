#pragma once

#include <syslog.h>

#include "base/error.h"
#include "base/reason.h"

/*
 * The only place that logs. One sentence for people, fields for machines.
 *
 * With a journal (run as a unit: JOURNAL_STREAM is set; or VIPD_LOG=journal) a line is a native
 * entry with MESSAGE_ID and all fields. Otherwise it is one `key=value` line on stderr, field
 * names in lower case, msg="..." last; with the <N> priority prefix only where stderr is the journal.
 *
 * Fields (api.md): VIP VRID LEASE TERM OLD_STATE NEW_STATE SERVICE POOL INTERFACE PEER OUTAGE_USEC
 * ERRNO; NODE and REASON come by themselves. Never a secret.
 */
struct log_field {
	const char *name; /* NULL ends the list */
	const char *value; /* NULL or "": the field is left out */
};

#define LOG_FIELDS(...) ((const struct log_field[]){ __VA_ARGS__, { NULL, NULL } })
#define LOG_NO_FIELDS	((const struct log_field[]){ { NULL, NULL } })

/*
 * Once at start: "engine", "agent", "controller", ...; node may be NULL. Reads VIPD_LOG (journal,
 * stderr) and VIPD_LOG_LEVEL (error, warning, notice, info, debug; anything else is info).
 */
void log_open(const char *program, const char *node);

/* priority: LOG_ERR .. LOG_DEBUG. Reason BASE_REASON_NONE: no REASON=, no MESSAGE_ID=. */
__attribute__((format(printf, 4, 5))) void log_line(int priority, enum base_reason reason,
						    const struct log_field *fields,
						    const char *format, ...);

/*
 * For what repeats: says yes at the first time and then at growing intervals (1 s doubling to
 * 10 min); `suppressed` tells how many were not said. Zero-initialise the gate; clear it when the
 * trouble is over so that the next one is said at once.
 */
struct log_gate {
	unsigned long long next_us, interval_us;
	unsigned suppressed;
};
int log_gate_pass(struct log_gate *gate, unsigned *suppressed);
void log_gate_clear(struct log_gate *gate);
