#include "daemon/engine/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "daemon/metrics/counters.h"
#include "daemon/protocol/channel.h"

#define BACKOFF_FIRST_US (100 * BASE_USEC_PER_MSEC)
#define HEALTHY_AFTER_US (30 * BASE_USEC_PER_SEC)
#define ARGUMENTS_MAX    32

struct child {
	sd_event *event;
	int program, counters;
	char *argv[ARGUMENTS_MAX + 1];
	int64_t priority;
	struct child_handlers handlers;
	void *userdata;
	pid_t pid; /* 0: none */
	sd_event_source *end, *restart;
	uint64_t backoff_us, backoff_max_us, started_us;
	bool retired;
};

static uint64_t now_usec(const struct child *child)
{
	uint64_t now = 0;

	sd_event_now(child->event, CLOCK_BOOTTIME, &now);
	return now;
}

static void restart_later(struct child *child)
{
	if (child->retired)
		return;
	if (base_usec_since(now_usec(child), child->started_us) > HEALTHY_AFTER_US)
		child->backoff_us = BACKOFF_FIRST_US;
	sd_event_source_set_time(child->restart, now_usec(child) + child->backoff_us);
	sd_event_source_set_enabled(child->restart, SD_EVENT_ONESHOT);
	child->backoff_us *= 2;
	if (child->backoff_us > child->backoff_max_us)
		child->backoff_us = child->backoff_max_us;
}

static int on_end(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct child *child = userdata;

	(void)source;
	child->pid = 0;
	child->end = sd_event_source_disable_unref(child->end);
	child->handlers.on_end(child->userdata, info);
	restart_later(child);
	return 0;
}

static _Noreturn void become(const struct child *child, int fd)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* without its engine it has nothing to do */
	/* Out of the way of the two numbers first. */
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	if (fd < 0 || (child->counters >= 0 && dup2(child->counters, COUNTERS_FD) < 0) ||
	    dup2(fd, CHANNEL_FD) < 0)
		_exit(126);
	execveat(child->program, "", child->argv, environ, AT_EMPTY_PATH);
	_exit(127);
}

/* What cannot be watched does not live. */
static void kill_now(struct child *child)
{
	child->end = sd_event_source_disable_unref(child->end);
	if (child->pid > 0) {
		kill(child->pid, SIGKILL);
		waitpid(child->pid, NULL, 0);
	}
	child->pid = 0;
}

static int start(struct child *child)
{
	int fds[2], r;

	child->started_us = now_usec(child);
	r = channel_pair(fds);
	if (r < 0)
		return r;
	child->pid = fork();
	if (child->pid == 0)
		become(child, fds[1]);
	r = child->pid < 0 ? -errno : 0;
	close(fds[1]);
	if (r == 0)
		r = sd_event_add_child(child->event, &child->end, child->pid, WEXITED, on_end,
				       child);
	if (r >= 0)
		r = sd_event_source_set_priority(child->end, child->priority);
	if (r < 0) {
		close(fds[0]);
		kill_now(child);
		return r;
	}
	r = child->handlers.on_start(child->userdata, fds[0]);
	if (r < 0)
		kill(child->pid, SIGKILL); /* its end will be told */
	return 0;
}

static int on_restart(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct child *child = userdata;

	(void)source;
	(void)usec;
	if (start(child) < 0)
		restart_later(child);
	return 0;
}

/* Out of the way of what the child inherits. */
static int open_program(const char *path)
{
	int fd = open(path, O_PATH | O_CLOEXEC), moved;

	if (fd < 0)
		return -errno;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, COUNTERS_FD + 1);
	close(fd);
	return moved < 0 ? -errno : moved;
}

int child_new(struct child **child, sd_event *event, const struct child_options *options,
	      const struct child_handlers *handlers, void *userdata)
{
	struct child *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->event = sd_event_ref(event);
	new->counters = options->counters;
	new->priority = options->priority;
	new->backoff_us = BACKOFF_FIRST_US;
	new->backoff_max_us = options->backoff_max_us;
	new->handlers = *handlers;
	new->userdata = userdata;
	r = new->program = open_program(options->program);
	for (int i = 0; options->argv[i] && r >= 0; i++) {
		new->argv[i] = i < ARGUMENTS_MAX ? strdup(options->argv[i]) : NULL;
		if (!new->argv[i])
			r = -ENOMEM;
	}
	if (r >= 0) /* the first start happens on the loop, like every other one */
		r = sd_event_add_time_relative(event, &new->restart, CLOCK_BOOTTIME, 0,
					       BASE_USEC_PER_MSEC, on_restart, new);
	if (r >= 0)
		r = sd_event_source_set_priority(new->restart, new->priority);
	if (r < 0) {
		child_free(new);
		return r;
	}
	*child = new;
	return 0;
}

bool child_signal(const struct child *child, int signal)
{
	return child_runs(child) && kill(child->pid, signal) == 0;
}

bool child_runs(const struct child *child)
{
	return child && child->pid > 0;
}

void child_retire(struct child *child)
{
	child->retired = true;
	sd_event_source_set_enabled(child->restart, SD_EVENT_OFF);
}

void child_free(struct child *child)
{
	if (!child)
		return;
	kill_now(child);
	sd_event_source_disable_unref(child->restart);
	for (int i = 0; i < ARGUMENTS_MAX; i++)
		free(child->argv[i]);
	if (child->program >= 0)
		close(child->program);
	sd_event_unref(child->event);
	free(child);
}
