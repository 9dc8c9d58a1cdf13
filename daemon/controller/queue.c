#include "daemon/controller/queue.h"

#include <stddef.h>

#include "base/time.h"

#define BACKOFF_FIRST_US (200 * BASE_USEC_PER_MSEC)
#define BACKOFF_MAX_US   (60 * BASE_USEC_PER_SEC)

static void take_out(struct queue *queue, struct work *work)
{
	struct work **first, **last;

	if (work->place == WORK_PLACE_NOWHERE)
		return;
	if (work->place == WORK_PLACE_READY)
		queue->counts.depth[work->kind]--;
	first = work->place == WORK_PLACE_READY ? &queue->ready.first : &queue->later.first;
	last = work->place == WORK_PLACE_READY ? &queue->ready.last : &queue->later.last;
	*(work->previous ? &work->previous->next : first) = work->next;
	*(work->next ? &work->next->previous : last) = work->previous;
	work->next = work->previous = NULL;
	work->place = WORK_PLACE_NOWHERE;
}

static void put_in(struct queue *queue, struct work *work, enum work_place place)
{
	bool ready = place == WORK_PLACE_READY;
	struct work **first = ready ? &queue->ready.first : &queue->later.first;
	struct work **last = ready ? &queue->ready.last : &queue->later.last;

	if (ready) {
		work->ready_us = queue->now_us;
		queue->counts.depth[work->kind]++;
		queue->counts.adds[work->kind]++;
	}
	work->place = place;
	work->next = NULL;
	work->previous = *last;
	*(*last ? &(*last)->next : first) = work;
	*last = work;
}

void queue_mark(struct queue *queue, struct work *work)
{
	if (work->busy) {
		work->again = true;
		return;
	}
	if (work->place == WORK_PLACE_READY)
		return;
	take_out(queue, work);
	put_in(queue, work, WORK_PLACE_READY);
}

void queue_later(struct queue *queue, struct work *work, uint64_t due_us)
{
	if (work->busy || work->place == WORK_PLACE_READY)
		return;
	if (work->place == WORK_PLACE_LATER) {
		work->due_us = base_usec_earlier(work->due_us, due_us);
		queue->later_us = base_usec_earlier(queue->later_us, due_us);
		return;
	}
	work->due_us = due_us;
	if (!queue->later.first || due_us < queue->later_us)
		queue->later_us = due_us;
	put_in(queue, work, WORK_PLACE_LATER);
}

void queue_forget(struct queue *queue, struct work *work)
{
	take_out(queue, work);
}

static void promote(struct queue *queue, uint64_t now_us)
{
	struct work *work = queue->later.first, *next;

	queue->later_us = BASE_USEC_NEVER;
	for (; work; work = next) {
		next = work->next;
		if (work->due_us > now_us) {
			queue->later_us = base_usec_earlier(queue->later_us, work->due_us);
			continue;
		}
		take_out(queue, work);
		put_in(queue, work, WORK_PLACE_READY);
	}
}

struct work *queue_take(struct queue *queue, uint64_t now_us)
{
	struct work *work;

	queue->now_us = now_us;
	if (queue->later.first && now_us >= queue->later_us)
		promote(queue, now_us);
	work = queue->ready.first;
	if (work) {
		take_out(queue, work);
		base_histogram_add(&queue->counts.waits, base_usec_since(now_us, work->ready_us));
	}
	return work;
}

uint64_t queue_deadline(const struct queue *queue)
{
	if (queue->ready.first)
		return 0;
	return queue->later.first ? queue->later_us : BASE_USEC_NEVER;
}

void queue_begin(struct queue *queue, struct work *work)
{
	take_out(queue, work);
	work->busy = true;
	work->again = work->gone = false;
}

void queue_end(struct queue *queue, struct work *work)
{
	work->busy = false;
	work->failures = 0;
	queue_mark(queue, work); /* the answer was a step; is there another? */
}

void queue_fail(struct queue *queue, struct work *work, uint64_t now_us, uint64_t jitter)
{
	uint64_t wait_us = BACKOFF_FIRST_US << (work->failures < 9 ? work->failures : 9);

	work->failures++;
	queue->counts.retries[work->kind]++;
	work->busy = false;
	if (wait_us > BACKOFF_MAX_US)
		wait_us = BACKOFF_MAX_US;
	queue_later(queue, work, now_us + wait_us + jitter % (wait_us / 2));
}
