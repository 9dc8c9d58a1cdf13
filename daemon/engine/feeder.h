#pragma once

#include <systemd/sd-event.h>

#include "daemon/protocol/channel.h"

/*
 * The unprivileged half as a child process (child.h): started with its end of the channel, started
 * again when it ends, at most every 30 s, and ended with the engine. Its loss changes nothing on the wire.
 */
struct feeder;

struct feeder_handlers {
	void (*on_message)(void *userdata, const struct message *message);
	void (*on_started)(void *userdata); /* a new one: it will synchronise from nothing */
	void (*on_lost)(void *userdata, const char *why);
};

struct feeder_options {
	const char *program, *node; /* `node` goes into our hello */
	char *const *argv;
	int counters; /* what it counts in; borrowed. -1: nothing */
	int64_t priority;
};

int feeder_new(struct feeder **feeder, sd_event *event, const struct feeder_options *options,
	       const struct feeder_handlers *handlers, void *userdata);

/* -ENOTCONN while there is none. */
int feeder_send(struct feeder *feeder, const struct message *message);

/* Asks it to write its last words and end; no other follows. */
void feeder_stop(struct feeder *feeder);
/* SIGHUP to the child: it reads its configuration again. */
void feeder_reload(struct feeder *feeder);
bool feeder_running(const struct feeder *feeder);
void feeder_free(struct feeder *feeder); /* kills what still runs */
