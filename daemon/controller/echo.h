#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

/*
 * A watch that says nothing: is there nothing to say, or does nobody hear it any more? A connection that
 * is half open, a proxy or a server that keeps a stream and sends nothing down it look the same as peace.
 * But what was just written, and answered for, must come back through the watch soon.
 *
 * Pure. Versions are resourceVersions of one kind.
 */
#define ECHO_US (5 * BASE_USEC_PER_SEC) /* for a watch to show what was written */

struct echo {
	char version[24]; /* awaited; "": nothing is */
	uint64_t since_us;
};

/* The server said that the kind is at this version. An older one that is awaited comes first. */
void echo_expect(struct echo *echo, const char *version, uint64_t now_us);
/* All was listed: what is missing in a list is not awaited (a backup was restored, for one). */
void echo_clear(struct echo *echo);

enum echo_verdict {
	ECHO_FINE,   /* nothing is awaited (any more) */
	ECHO_WAIT,   /* not yet: ask again after ECHO_US */
	ECHO_SILENT, /* it should have come; awaited anew from now on */
};

/* `shown`: what the list or the watch told last. `watching_us`: since when this stream is open; 0: it is not. */
enum echo_verdict echo_check(struct echo *echo, const char *shown, uint64_t watching_us,
			     uint64_t now_us);
