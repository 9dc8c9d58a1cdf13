#pragma once

#include <stddef.h>

#include <systemd/sd-event.h>

#include "daemon/protocol/message.h"

/*
 * One end of the socket pair, on the loop. Never blocks: what the other side does not take yet
 * waits in a bounded queue in order. A peer that stops reading for so long that the queue is full,
 * or that says something malformed, has lost the channel: `on_lost` with the reason.
 */
struct channel;

struct channel_handlers {
	/* The message is borrowed for the call. May not free the channel. */
	void (*on_message)(void *userdata, const struct message *message);
	/* error: 0 = the other side closed, else -errno. Called at most once, from the loop. */
	void (*on_lost)(void *userdata, int error);
};

#define CHANNEL_QUEUE_MAX (8 * 1024 * 1024) /* bytes waiting for the other side */

/* Both ends, SOCK_SEQPACKET, close-on-exec, buffers as large as allowed. 0 or -errno. */
int channel_pair(int fds[2]);
/* Where a child finds its end. */
#define CHANNEL_FD 3

/* Takes `fd`, also on failure. 0 or -errno. `priority` as of sd_event_source_set_priority(). */
int channel_new(struct channel **channel, sd_event *event, int fd, int64_t priority,
		const struct channel_handlers *handlers, void *userdata);

/* Copies. 0; -ENOTCONN after the channel was lost; -ENOBUFS: queue full, on_lost follows. */
int channel_send(struct channel *channel, const struct message *message);

void channel_free(struct channel *channel); /* NULL is fine; sends nothing more */
