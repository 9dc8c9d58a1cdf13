#include "daemon/engine/feeder.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/engine/child.h"

struct feeder {
	sd_event *event;
	char node[MESSAGE_NAME_SIZE];
	int64_t priority;
	struct feeder_handlers handlers;
	void *userdata;
	struct child *child;
	struct channel *channel;
	bool stopping;
};

static void lose_channel(struct feeder *feeder, const char *why)
{
	if (!feeder->channel)
		return;
	channel_free(feeder->channel);
	feeder->channel = NULL;
	feeder->handlers.on_lost(feeder->userdata, why);
}

static void on_end(void *userdata, const siginfo_t *info)
{
	char why[64];

	if (info->si_code == CLD_EXITED)
		snprintf(why, sizeof why, "it ended with code %d", info->si_status);
	else
		snprintf(why, sizeof why, "it was ended by signal %d", info->si_status);
	lose_channel(userdata, why);
}

static void on_channel_message(void *userdata, const struct message *message)
{
	struct feeder *feeder = userdata;

	feeder->handlers.on_message(feeder->userdata, message);
}

static void on_channel_lost(void *userdata, int error)
{
	struct feeder *feeder = userdata;
	char why[96];

	if (error == -EBADMSG)
		snprintf(why, sizeof why, "it said something malformed");
	else if (error == 0)
		snprintf(why, sizeof why, "it closed its end");
	else
		snprintf(why, sizeof why, "its channel failed: %s", strerror(-error));
	/* Without its channel it is of no use; the next one starts when this one has ended. */
	child_signal(feeder->child, feeder->stopping ? SIGTERM : SIGKILL);
	lose_channel(feeder, why);
}

static int on_start(void *userdata, int fd)
{
	static const struct channel_handlers handlers = {
		.on_message = on_channel_message,
		.on_lost = on_channel_lost,
	};
	struct feeder *feeder = userdata;
	struct message hello;
	int r = channel_new(&feeder->channel, feeder->event, fd, feeder->priority, &handlers,
			    feeder);

	if (r < 0)
		return r;
	MESSAGE_CLEAR(&hello, MESSAGE_HELLO, hello);
	snprintf(hello.hello.node, sizeof hello.hello.node, "%s", feeder->node);
	snprintf(hello.hello.program, sizeof hello.hello.program, "vipd %s engine", VIPD_VERSION);
	channel_send(feeder->channel, &hello);
	feeder->handlers.on_started(feeder->userdata);
	return 0;
}

int feeder_new(struct feeder **feeder, sd_event *event, const struct feeder_options *options,
	       const struct feeder_handlers *handlers, void *userdata)
{
	static const struct child_handlers events = { on_start, on_end };
	struct feeder *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->event = sd_event_ref(event);
	new->handlers = *handlers;
	new->userdata = userdata;
	new->priority = options->priority;
	snprintf(new->node, sizeof new->node, "%s", options->node);
	r = child_new(&new->child, event,
		      &(struct child_options){ .program = options->program,
					       .argv = options->argv,
					       .counters = options->counters,
					       .priority = options->priority,
					       .backoff_max_us = 30 * BASE_USEC_PER_SEC },
		      &events, new);
	if (r < 0) {
		feeder_free(new);
		return r;
	}
	*feeder = new;
	return 0;
}

int feeder_send(struct feeder *feeder, const struct message *message)
{
	return feeder && feeder->channel ? channel_send(feeder->channel, message) : -ENOTCONN;
}

void feeder_stop(struct feeder *feeder)
{
	struct message message;

	message.type = MESSAGE_SHUTDOWN;
	feeder->stopping = true;
	child_retire(feeder->child);
	if (feeder_send(feeder, &message) < 0)
		child_signal(feeder->child, SIGTERM);
}

void feeder_reload(struct feeder *feeder)
{
	if (feeder)
		child_signal(feeder->child, SIGHUP);
}

bool feeder_running(const struct feeder *feeder)
{
	return feeder && child_runs(feeder->child);
}

void feeder_free(struct feeder *feeder)
{
	if (!feeder)
		return;
	channel_free(feeder->channel);
	child_free(feeder->child);
	sd_event_unref(feeder->event);
	free(feeder);
}
