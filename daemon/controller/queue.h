#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"

/*
 * What has to be looked at again: each thing at most once in the queue, never while a request for it
 * is under way, later after a failure. First come, first served.
 */
enum work_kind {
	WORK_SERVICE,
	WORK_VIP,
	WORK_POOL,
	WORK_LEASE,
	WORK_SPEAKER,
};
#define WORK_KIND_COUNT (WORK_SPEAKER + 1)

enum work_place {
	WORK_PLACE_NOWHERE,
	WORK_PLACE_READY,
	WORK_PLACE_LATER, /* not before due_us */
};

struct work {
	struct work *next, *previous;
	enum work_kind kind;
	enum work_place place;
	bool busy, again;  /* a request is under way; look again after it */
	bool gone;         /* and meanwhile the object was seen to be deleted: answers are older */
	char answered[24]; /* version that an answer brought and the watch has not shown yet */
	uint64_t due_us;
	uint64_t ready_us; /* since when it stands among those that are ready */
	unsigned failures;
};

/* For those who look on. */
struct queue_counts {
	uint64_t depth[WORK_KIND_COUNT], adds[WORK_KIND_COUNT], retries[WORK_KIND_COUNT];
	struct base_histogram waits; /* from ready to taken */
};

struct queue {
	struct {
		struct work *first, *last;
	} ready, later;
	uint64_t later_us; /* nothing in `later` is due before; 0 of an empty queue is right, too */
	uint64_t now_us;   /* told by whoever feeds it, for `counts` alone */
	struct queue_counts counts;
};

/* Something about it changed. */
void queue_mark(struct queue *queue, struct work *work);
/* Not before `due_us`, unless it is marked earlier; an earlier date that was set stays. */
void queue_later(struct queue *queue, struct work *work, uint64_t due_us);
/* Out of the queue: the thing is freed. */
void queue_forget(struct queue *queue, struct work *work);

/* The next to look at, taken out; NULL: nothing now. */
struct work *queue_take(struct queue *queue, uint64_t now_us);
/* When queue_take() may answer something again: 0 now, BASE_USEC_NEVER. */
uint64_t queue_deadline(const struct queue *queue);

/* Around a request. It failed: again after a pause that grows from 0.2 s to 60 s; `jitter` is any number. */
void queue_begin(struct queue *queue, struct work *work);
void queue_end(struct queue *queue, struct work *work);
void queue_fail(struct queue *queue, struct work *work, uint64_t now_us, uint64_t jitter);
