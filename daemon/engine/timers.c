#include "daemon/engine/timers.h"

#include <errno.h>
#include <stdlib.h>

#include "base/io/clock.h"
#include "base/time.h"

/* The time stands beside the timer: looking for the next one does not go through the memory of 250 routers. */
struct slot {
	uint64_t due_us;
	struct timer *timer;
};

struct timers {
	sd_event_source *source;
	unsigned turn;
	uint64_t armed_us; /* what the source is set to: not later than the first is due */
	size_t count, capacity, reserved;
	struct slot *heap; /* from 1 */
};

static void put(struct timers *timers, size_t place, struct slot slot)
{
	timers->heap[place] = slot;
	slot.timer->place = place;
}

static void rise(struct timers *timers, size_t place)
{
	struct slot slot = timers->heap[place];

	for (; place > 1 && timers->heap[place / 2].due_us > slot.due_us; place /= 2)
		put(timers, place, timers->heap[place / 2]);
	put(timers, place, slot);
}

static void sink(struct timers *timers, size_t place)
{
	struct slot slot = timers->heap[place];

	for (size_t child; (child = 2 * place) <= timers->count; place = child) {
		if (child < timers->count &&
		    timers->heap[child + 1].due_us < timers->heap[child].due_us)
			child++;
		if (timers->heap[child].due_us >= slot.due_us)
			break;
		put(timers, place, timers->heap[child]);
	}
	put(timers, place, slot);
}

static void take_out(struct timers *timers, struct timer *timer)
{
	size_t place = timer->place;
	struct slot last = timers->heap[timers->count--];

	timer->place = 0;
	if (last.timer == timer)
		return;
	put(timers, place, last);
	rise(timers, place);
	sink(timers, last.timer->place);
}

static void arm(struct timers *timers)
{
	uint64_t due_us = timers->count > 0 ? timers->heap[1].due_us : BASE_USEC_NEVER;

	if (due_us >= timers->armed_us)
		return; /* woken early it looks, and is armed anew */
	timers->armed_us = due_us;
	sd_event_source_set_time(timers->source, due_us);
	sd_event_source_set_enabled(timers->source, SD_EVENT_ONESHOT);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct timers *timers = userdata;

	(void)source;
	(void)usec;
	for (unsigned i = 0; i < timers->turn && timers->count > 0; i++) {
		struct timer *timer = timers->heap[1].timer;

		if (timer->due_us > base_clock_us(CLOCK_BOOTTIME))
			break;
		take_out(timers, timer);
		timer->fire(timer, timer->due_us);
	}
	timers->armed_us = BASE_USEC_NEVER;
	arm(timers);
	return 0;
}

int timers_new(struct timers **timers, sd_event *event, int64_t priority, unsigned turn)
{
	struct timers *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->armed_us = BASE_USEC_NEVER;
	new->turn = turn;
	r = sd_event_add_time(event, &new->source, CLOCK_BOOTTIME, BASE_USEC_NEVER,
			      BASE_USEC_PER_MSEC, on_time, new);
	if (r >= 0)
		r = sd_event_source_set_priority(new->source, priority);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->source, SD_EVENT_OFF);
	if (r < 0) {
		timers_free(new);
		return r;
	}
	*timers = new;
	return 0;
}

void timers_free(struct timers *timers)
{
	if (!timers)
		return;
	sd_event_source_disable_unref(timers->source);
	free(timers->heap);
	free(timers);
}

int timers_reserve(struct timers *timers, size_t more)
{
	size_t wanted = timers->reserved + more;

	if (wanted > timers->capacity) {
		size_t capacity = wanted * 2;
		struct slot *grown =
			realloc(timers->heap, (capacity + 1) * sizeof *grown); /* 0 is not used */

		if (!grown)
			return -ENOMEM;
		timers->heap = grown;
		timers->capacity = capacity;
	}
	timers->reserved = wanted;
	return 0;
}

void timers_release(struct timers *timers, size_t fewer)
{
	timers->reserved -= fewer;
}

void timers_set(struct timers *timers, struct timer *timer, uint64_t due_us)
{
	if (due_us == BASE_USEC_NEVER) {
		if (timer->place)
			take_out(timers, timer);
		return;
	}
	timer->due_us = due_us;
	if (timer->place) {
		timers->heap[timer->place].due_us = due_us;
		rise(timers, timer->place);
		sink(timers, timer->place);
	} else {
		put(timers, ++timers->count, (struct slot){ due_us, timer });
		rise(timers, timers->count);
	}
	arm(timers);
}
