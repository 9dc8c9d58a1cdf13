#pragma once

#include <systemd/sd-event.h>

#include "daemon/protocol/channel.h"

/*
 * The unprivileged half as a child process: started with its end of the channel as fd 3, started
 * again with back-off (0.1 s doubling to 30 s) when it ends, and ended with the engine. Its loss
 * changes nothing on the wire.
 */
struct feeder;

#define FEEDER_FD 3

struct feeder_handlers {
	void (*on_message)(void *userdata, const struct message *message);
	void (*on_started)(void *userdata); /* a new one: it will synchronise from nothing */
	void (*on_lost)(void *userdata, const char *why);
};

/* Inherited by every child as COUNTERS_FD; borrowed. -1: nothing. */
void feeder_share(struct feeder *feeder, int counters);

/*
 * The file `program` is opened now and run as often as needed: an upgrade that replaces it does not
 * give a running engine another version's feeder. `argv` is copied. `node` goes into our hello.
 */
int feeder_new(struct feeder **feeder, sd_event *event, const char *program, char *const *argv,
	       const char *node, int64_t priority, const struct feeder_handlers *handlers,
	       void *userdata);

/* -ENOTCONN while there is none. */
int feeder_send(struct feeder *feeder, const struct message *message);

/* Ends the child (SIGTERM; it gets `grace_us` to write its last words, then SIGKILL). */
void feeder_stop(struct feeder *feeder);
/* SIGHUP to the child: it reads its configuration again. */
void feeder_reload(struct feeder *feeder);
bool feeder_running(const struct feeder *feeder);
void feeder_free(struct feeder *feeder); /* kills what still runs */
