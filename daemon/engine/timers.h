#pragma once

#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

/*
 * Many timers behind one source of the loop, the next one on top of a heap. A timer that is moved to
 * later costs no system call, and those that are due at the same time one wake-up: a backup of 250
 * virtual routers moves 2500 deadlines a second.
 *
 * Times are microseconds of CLOCK_BOOTTIME.
 */
struct timers;

struct timer {
	uint64_t due_us;
	size_t place; /* in the heap, from 1; 0: off */
	void (*fire)(struct timer *timer, uint64_t due_us);
};

/* What a timer is a member of. */
#define TIMER_ITEM(timer, type, member)                                                            \
	((type *)(void *)((char *)(timer)-offsetof(type, member)))

/* `turn`: so many fire at the most before the loop looks at what is more urgent. */
int timers_new(struct timers **timers, sd_event *event, int64_t priority, unsigned turn);
void timers_free(struct timers *timers);

/* Room for so many more, so that setting one cannot fail; given back with timers_release(). */
int timers_reserve(struct timers *timers, size_t more);
void timers_release(struct timers *timers, size_t fewer);

/* BASE_USEC_NEVER switches it off. When it fires it is off. */
void timers_set(struct timers *timers, struct timer *timer, uint64_t due_us);
