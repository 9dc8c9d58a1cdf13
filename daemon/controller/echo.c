#include "daemon/controller/echo.h"

#include <stdio.h>

#include "k8s/object.h"

void echo_expect(struct echo *echo, const char *version, uint64_t now_us)
{
	if (echo->version[0])
		return;
	snprintf(echo->version, sizeof echo->version, "%s", version);
	echo->since_us = now_us;
}

void echo_clear(struct echo *echo)
{
	echo->version[0] = '\0';
}

enum echo_verdict echo_check(struct echo *echo, const char *shown, uint64_t watching_us,
			     uint64_t now_us)
{
	if (!echo->version[0])
		return ECHO_FINE;
	if (*shown && k8s_version_compare(shown, echo->version) >= 0) {
		echo_clear(echo);
		return ECHO_FINE;
	}
	/* A stream that was opened meanwhile has its own time. */
	if (watching_us < ECHO_US || base_usec_since(now_us, echo->since_us) < ECHO_US)
		return ECHO_WAIT;
	echo->since_us = now_us;
	return ECHO_SILENT;
}
