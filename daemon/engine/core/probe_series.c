#include "daemon/engine/core/probe_series.h"

#include <string.h>

void probe_series_init(struct probe_series *series, uint64_t interval_us)
{
	memset(series, 0, sizeof *series);
	series->interval_us = interval_us;
}

static void note_span(struct probe_series *series)
{
	const struct probe_span *last =
		series->span_count > 0 ? &series->spans[series->span_count - 1] : NULL;
	struct probe_span span = { .at_us = series->asked_us - series->begun_us,
				   .answerers = series->answerers };

	if (series->answerers == 1)
		span.mac = series->first;
	if (last && last->answerers == span.answerers &&
	    memcmp(&last->mac, &span.mac, sizeof span.mac) == 0)
		return;
	if (series->span_count < PROBE_SPANS_MAX)
		series->spans[series->span_count++] = span;
}

/* The last question had its time. */
static void judge(struct probe_series *series)
{
	uint64_t dark_us = series->asked_us - series->silent_us;

	note_span(series);
	if (series->answerers > 1 && series->two)
		series->two_us += series->interval_us;
	series->two = series->answerers > 1;
	if (series->answerers == 0) {
		series->lost++;
		if (!series->dark)
			series->silent_us = series->asked_us;
		series->dark = true;
		return;
	}
	if (series->dark && dark_us > series->outage_us)
		series->outage_us = dark_us;
	series->dark = false;
}

void probe_series_ask(struct probe_series *series, uint64_t now_us)
{
	if (series->sent > 0)
		judge(series);
	else
		series->begun_us = now_us;
	series->sent++;
	series->asked_us = now_us;
	series->answerers = 0;
}

void probe_series_answer(struct probe_series *series, const struct base_mac *mac)
{
	if (series->sent == 0)
		return;
	if (series->answerers == 0) {
		series->first = *mac;
		series->answerers = 1;
	} else if (memcmp(&series->first, mac, sizeof *mac) != 0) {
		series->answerers = 2;
	}
}

void probe_series_end(struct probe_series *series)
{
	uint64_t dark_us = series->asked_us - series->silent_us;

	if (series->sent > 0 && series->answerers > 0)
		judge(series);
	else if (series->sent > 0)
		series->sent--;
	if (series->dark && dark_us > series->outage_us)
		series->outage_us = dark_us; /* and it is not over */
}
