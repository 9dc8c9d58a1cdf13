#include <stdlib.h>

#include "test/sim/sim.h"

/* A binary heap by time, then by the order of scheduling: no other order ever decides. */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->time_us != b->time_us ? a->time_us < b->time_us : a->sequence < b->sequence;
}

void sim_schedule(struct sim_world *world, struct sim_event *event)
{
	unsigned at = world->heap_count;

	if (event->time_us < world->now_us)
		event->time_us = world->now_us;
	event->sequence = world->sequence++;
	if (world->heap_count == world->heap_size) {
		world->heap_size = world->heap_size ? world->heap_size * 2 : 256;
		world->heap = realloc(world->heap, world->heap_size * sizeof *world->heap);
		if (!world->heap)
			abort();
	}
	world->heap_count++;
	while (at > 0 && before(event, &world->heap[(at - 1) / 2])) {
		world->heap[at] = world->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	world->heap[at] = *event;
}

void sim_at(struct sim_world *world, uint64_t time_us, enum sim_event_type type, unsigned host)
{
	struct sim_event event = { .time_us = time_us, .type = type, .host = (uint8_t)host };

	sim_schedule(world, &event);
}

bool sim_next(struct sim_world *world, struct sim_event *event)
{
	struct sim_event *heap = world->heap, *last;
	unsigned at = 0;

	if (world->heap_count == 0)
		return false;
	*event = heap[0];
	last = &heap[--world->heap_count];
	for (;;) {
		unsigned child = 2 * at + 1;

		if (child >= world->heap_count)
			break;
		if (child + 1 < world->heap_count && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = *last;
	return true;
}
