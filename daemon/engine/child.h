#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

/*
 * A process of ours beside the engine: started on the loop, started again with back-off when it ends (0.1 s,
 * doubling; from the beginning after 30 s of life), killed when the engine ends, however that does. What it
 * inherits: one end of a SOCK_SEQPACKET pair as CHANNEL_FD, and memory that it counts in as COUNTERS_FD.
 */
struct child;

struct child_options {
	const char *
		program; /* opened now: an upgrade gives a running engine no other version's child */
	char *const *argv; /* copied */
	int counters;      /* borrowed; -1: nothing */
	int64_t priority;  /* of what happens on the loop */
	uint64_t backoff_max_us;
};

struct child_handlers {
	int (*on_start)(void *userdata, int fd); /* takes our end; negative: this one is killed */
	void (*on_end)(void *userdata, const siginfo_t *info);
};

int child_new(struct child **child, sd_event *event, const struct child_options *options,
	      const struct child_handlers *handlers, void *userdata);
/* False: it does not run. */
bool child_signal(const struct child *child, int signal);
bool child_runs(const struct child *child);
void child_retire(struct child *child); /* when this one has ended, no other follows */
void child_free(struct child *child);   /* kills what still runs, without on_end(); NULL is fine */
