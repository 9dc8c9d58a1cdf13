#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"

#define PROBE_SPANS_MAX 16

/* From a question on it was answered by nobody, by `mac` or by two. */
struct probe_span {
	uint64_t at_us; /* since the first question */
	unsigned answerers;
	struct base_mac mac;
};

/*
 * How long nobody answered for an address, and how long two did: questions at an interval, answers as
 * they come. An outage lasts from the sending of the first question that nobody answered to the sending
 * of the next one that somebody did, so a stall of who asks is none. Two answer from the first question
 * that both answered to the last one in a row: one alone was under way while the address moved (the old
 * owner's fence closes when the new one's first advert arrives), or has the late answer to the question
 * before, since an answer belongs to the question asked last. Pure.
 */
struct probe_series {
	uint64_t interval_us;
	uint64_t asked_us;  /* the last question */
	uint64_t silent_us; /* the first one without an answer; with `dark` */
	bool dark;
	unsigned answerers;    /* of the last question: none, one, two or more */
	struct base_mac first; /* the one of them */
	uint64_t sent, lost;
	uint64_t outage_us; /* the longest */
	bool two;           /* answered the question before the last one, too */
	uint64_t two_us;    /* altogether */
	uint64_t begun_us;  /* the first question */
	unsigned span_count;
	struct probe_span spans[PROBE_SPANS_MAX]; /* the first ones */
};

void probe_series_init(struct probe_series *series, uint64_t interval_us);
void probe_series_ask(struct probe_series *series, uint64_t now_us);
void probe_series_answer(struct probe_series *series, const struct base_mac *mac);
/* Nothing is asked any more: the last question counts only if it was answered. */
void probe_series_end(struct probe_series *series);
