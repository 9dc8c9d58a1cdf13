#include "daemon/engine/feeder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "daemon/metrics/counters.h"

#define BACKOFF_FIRST_US (100 * BASE_USEC_PER_MSEC)
#define BACKOFF_MAX_US	 (30 * BASE_USEC_PER_SEC)
#define HEALTHY_AFTER_US (30 * BASE_USEC_PER_SEC)
#define ARGUMENTS_MAX	 32

struct feeder {
	sd_event *event;
	int program; /* the file to run */
	char *argv[ARGUMENTS_MAX + 1];
	char node[MESSAGE_NAME_SIZE];
	int64_t priority;
	int counters;
	struct feeder_handlers handlers;
	void *userdata;
	struct channel *channel;
	pid_t pid;
	sd_event_source *child, *restart;
	uint64_t backoff_us, started_us;
	bool stopping;
};

static int start(struct feeder *feeder);

static uint64_t now_usec(struct feeder *feeder)
{
	uint64_t now = 0;

	sd_event_now(feeder->event, CLOCK_BOOTTIME, &now);
	return now;
}

static int on_restart(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	start(userdata);
	return 0;
}

static void restart_later(struct feeder *feeder)
{
	if (feeder->stopping)
		return;
	if (base_usec_since(now_usec(feeder), feeder->started_us) > HEALTHY_AFTER_US)
		feeder->backoff_us = BACKOFF_FIRST_US;
	sd_event_source_set_time(feeder->restart, now_usec(feeder) + feeder->backoff_us);
	sd_event_source_set_enabled(feeder->restart, SD_EVENT_ONESHOT);
	feeder->backoff_us *= 2;
	if (feeder->backoff_us > BACKOFF_MAX_US)
		feeder->backoff_us = BACKOFF_MAX_US;
}

static void lose_channel(struct feeder *feeder, const char *why)
{
	if (!feeder->channel)
		return;
	channel_free(feeder->channel);
	feeder->channel = NULL;
	feeder->handlers.on_lost(feeder->userdata, why);
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct feeder *feeder = userdata;
	char why[64];

	(void)source;
	if (info->si_code == CLD_EXITED)
		snprintf(why, sizeof why, "it ended with code %d", info->si_status);
	else
		snprintf(why, sizeof why, "it was ended by signal %d", info->si_status);
	feeder->pid = 0;
	feeder->child = sd_event_source_disable_unref(feeder->child);
	lose_channel(feeder, why);
	restart_later(feeder);
	return 0;
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
	if (feeder->pid > 0)
		kill(feeder->pid, feeder->stopping ? SIGTERM : SIGKILL);
	lose_channel(feeder, why);
}

static void run_child(struct feeder *feeder, int fd)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* an agent without its engine has nothing to say */
	/* Out of the way of the two numbers first. */
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	if (fd < 0 || (feeder->counters >= 0 && dup2(feeder->counters, COUNTERS_FD) < 0) ||
	    dup2(fd, FEEDER_FD) < 0)
		_exit(126);
	execveat(feeder->program, "", feeder->argv, environ, AT_EMPTY_PATH);
	_exit(127);
}

static int start(struct feeder *feeder)
{
	static const struct channel_handlers handlers = {
		.on_message = on_channel_message,
		.on_lost = on_channel_lost,
	};
	struct message hello;
	int fds[2], r;

	feeder->started_us = now_usec(feeder);
	r = channel_pair(fds);
	if (r < 0)
		return r;
	feeder->pid = fork();
	if (feeder->pid == 0)
		run_child(feeder, fds[1]);
	close(fds[1]);
	if (feeder->pid < 0) {
		feeder->pid = 0;
		close(fds[0]);
		restart_later(feeder);
		return 0;
	}
	r = sd_event_add_child(feeder->event, &feeder->child, feeder->pid, WEXITED, on_child,
			       feeder);
	if (r < 0) {
		close(fds[0]);
		return r;
	}
	sd_event_source_set_priority(feeder->child, feeder->priority);
	r = channel_new(&feeder->channel, feeder->event, fds[0], feeder->priority, &handlers,
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

/* Out of the way of the child's channel. */
static int open_program(const char *path)
{
	int fd = open(path, O_PATH | O_CLOEXEC), moved;

	if (fd < 0)
		return -errno;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, COUNTERS_FD + 1);
	close(fd);
	return moved < 0 ? -errno : moved;
}

int feeder_new(struct feeder **feeder, sd_event *event, const char *program, char *const *argv,
	       const char *node, int64_t priority, const struct feeder_handlers *handlers,
	       void *userdata)
{
	struct feeder *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->event = sd_event_ref(event);
	new->handlers = *handlers;
	new->userdata = userdata;
	new->priority = priority;
	new->backoff_us = BACKOFF_FIRST_US;
	new->counters = -1;
	snprintf(new->node, sizeof new->node, "%s", node);
	r = new->program = open_program(program);
	if (r > 0)
		r = 0;
	for (int i = 0; argv[i] && r == 0; i++) {
		new->argv[i] = i < ARGUMENTS_MAX ? strdup(argv[i]) : NULL;
		if (!new->argv[i])
			r = -ENOMEM;
	}
	if (r == 0)
		r = sd_event_add_time_relative(event, &new->restart, CLOCK_BOOTTIME, 0,
					       BASE_USEC_PER_MSEC, on_restart, new);
	if (r >= 0)
		r = sd_event_source_set_priority(new->restart, priority);
	if (r < 0) {
		feeder_free(new);
		return r;
	}
	*feeder = new; /* the first start happens on the loop, like every other one */
	return 0;
}

void feeder_share(struct feeder *feeder, int counters)
{
	feeder->counters = counters;
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
	sd_event_source_set_enabled(feeder->restart, SD_EVENT_OFF);
	if (feeder_send(feeder, &message) < 0 && feeder->pid > 0)
		kill(feeder->pid, SIGTERM);
}

void feeder_reload(struct feeder *feeder)
{
	if (feeder && feeder->pid > 0)
		kill(feeder->pid, SIGHUP);
}

bool feeder_running(const struct feeder *feeder)
{
	return feeder && feeder->pid > 0;
}

void feeder_free(struct feeder *feeder)
{
	if (!feeder)
		return;
	channel_free(feeder->channel);
	sd_event_source_disable_unref(feeder->child);
	sd_event_source_disable_unref(feeder->restart);
	if (feeder->pid > 0) {
		kill(feeder->pid, SIGKILL);
		waitpid(feeder->pid, NULL, 0);
	}
	for (int i = 0; i < ARGUMENTS_MAX; i++)
		free(feeder->argv[i]);
	if (feeder->program >= 0)
		close(feeder->program);
	sd_event_unref(feeder->event);
	free(feeder);
}
