#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-event.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/feed/wishes.h"
#include "daemon/log.h"
#include "daemon/metrics/counters.h"
#include "daemon/options.h"
#include "daemon/protocol/channel.h"
#include "daemon/standalone/standalone.h"

#define DEBOUNCE_US (50 * BASE_USEC_PER_MSEC)
#define LOOK_US	    (2 * BASE_USEC_PER_SEC)

struct feeder {
	sd_event *event;
	const char *node, *manifests;
	struct channel *channel;
	sd_event_source *settle, *look, *watch;
	uint64_t seen; /* what the folder looked like */
	char last_error[sizeof(((struct base_error *)0)->message)];
	struct counters *counters;
	bool fed;
};

static int send_message(void *userdata, const struct message *message)
{
	struct feeder *feeder = userdata;
	int r = channel_send(feeder->channel, message);

	return r == -EINVAL || r == -EMSGSIZE
		       ? base_error_set(NULL, r, "%s", "") /* the caller says which object */
		       : r;
}

static int check_message(void *userdata, const struct message *message)
{
	static uint8_t data[MESSAGE_SIZE_MAX];

	(void)userdata;
	return message_encode(message, data, sizeof data) < 0 ? -EINVAL : 0;
}

/* Names, sizes and times of everything in the folder, in one number; 0: it is not there. */
static uint64_t fingerprint(const char *folder)
{
	uint64_t sum = 1;
	struct dirent *entry;
	struct stat status;
	DIR *dir = opendir(folder);

	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		uint64_t parts[5] = { base_hash(entry->d_name, strlen(entry->d_name)) };

		if (strcmp(entry->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &status, 0) == 0) {
			parts[1] = status.st_ino;
			parts[2] = (uint64_t)status.st_size;
			parts[3] = (uint64_t)status.st_mtim.tv_sec;
			parts[4] = (uint64_t)status.st_mtim.tv_nsec;
		}
		sum += base_hash(parts, sizeof parts);
	}
	closedir(dir);
	return sum;
}

static void count(struct counters *counters, bool failed)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	counters->reads++;
	counters->reads_failed += failed;
	counters->read_failed = failed;
	if (!failed)
		counters->read_wall_us = (uint64_t)now.tv_sec * BASE_USEC_PER_SEC +
					 (uint64_t)now.tv_nsec / 1000;
}

/* Reads everything; only a set without a fault replaces what the engine has. */
static void feed(struct feeder *feeder)
{
	struct wish_set *set = wish_set_new(false);
	struct message sync = { .type = MESSAGE_SYNC_BEGIN };
	struct base_error error = { 0 };
	int r;

	feeder->seen = fingerprint(feeder->manifests);
	r = set ? wish_set_read(set, feeder->manifests, &error) : -ENOMEM;
	if (r >= 0)
		r = wish_set_emit(set, feeder->node, check_message, NULL, &error);
	count(feeder->counters, r < 0);
	if (r < 0) {
		if (strcmp(feeder->last_error, error.message) != 0)
			log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS, "%s; %s",
				 error.message[0] ? error.message : strerror(-r),
				 feeder->fed ? "the last good manifests stay in force"
					     : "nothing is served until it is mended");
		snprintf(feeder->last_error, sizeof feeder->last_error, "%s", error.message);
	} else {
		channel_send(feeder->channel, &sync);
		wish_set_emit(set, feeder->node, send_message, feeder, &error);
		sync.type = MESSAGE_SYNC_END;
		channel_send(feeder->channel, &sync);
		feeder->last_error[0] = '\0';
		feeder->fed = true;
	}
	wish_set_free(set);
}

static int on_settled(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	feed(userdata);
	return 0;
}

static int on_change(sd_event_source *source, const struct inotify_event *change, void *userdata)
{
	struct feeder *feeder = userdata;

	(void)source;
	(void)change;
	/* An editor's burst is one change. */
	sd_event_source_set_time_relative(feeder->settle, DEBOUNCE_US);
	sd_event_source_set_enabled(feeder->settle, SD_EVENT_ONESHOT);
	return 0;
}

static int watch(struct feeder *feeder)
{
	sd_event_source *source;
	int r = sd_event_add_inotify(feeder->event, &source, feeder->manifests,
				     IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
					     IN_ONLYDIR,
				     on_change, feeder);

	if (r < 0)
		return r;
	sd_event_source_disable_unref(feeder->watch);
	feeder->watch = source;
	return 0;
}

/*
 * inotify says nothing of what another machine does on a network file system, nor of another folder
 * under the same name: so the folder is looked at, too.
 */
static int on_look(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct feeder *feeder = userdata;

	sd_event_source_set_time(source, usec + LOOK_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	if (fingerprint(feeder->manifests) == feeder->seen)
		return 0;
	watch(feeder);
	return on_change(feeder->settle, NULL, feeder);
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	(void)source;
	(void)info;
	feed(userdata);
	return 0;
}

static void on_message(void *userdata, const struct message *message)
{
	struct feeder *feeder = userdata;

	if (message->type == MESSAGE_SHUTDOWN)
		sd_event_exit(feeder->event, 0);
}

static void on_lost(void *userdata, int error)
{
	struct feeder *feeder = userdata;

	(void)error;
	sd_event_exit(feeder->event, 0);
}

/* Nobody, with nothing, unless the files are for root alone: then root with nothing. */
static void drop_privileges(const char *manifests)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (getuid() != 0)
		return;
	if (seteuid(65534) == 0 && access(manifests, R_OK | X_OK) == 0 &&
	    eaccess(manifests, R_OK | X_OK) == 0 && seteuid(0) == 0 && setgroups(0, NULL) == 0 &&
	    setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0)
		return;
	if (seteuid(0) == 0)
		log_line(LOG_INFO, BASE_REASON_NONE, LOG_NO_FIELDS,
			 "%s can be read by root only: the reader stays root", manifests);
}

int standalone_feeder_main(int argc, char **argv)
{
	static const struct channel_handlers handlers = { on_message, on_lost };
	struct feeder feeder = { 0 };
	const struct option_spec specs[] = {
		{ "node", &feeder.node, false, "NAME", "this node" },
		{ "manifests", &feeder.manifests, false, "DIR", "folder of YAML files" },
		{ NULL, NULL, false, NULL, NULL },
	};
	struct message hello = { .type = MESSAGE_HELLO };
	sigset_t blocked;
	int r = options_parse(argc, argv, "vipd feeder (run by vipd standalone)", specs);

	if (r < 0 || !feeder.node || !feeder.manifests)
		return 2;
	log_open("feeder", feeder.node);
	prctl(PR_SET_NAME, "vipd-feeder");
	feeder.counters = counters_own();
	drop_privileges(feeder.manifests);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	r = sd_event_default(&feeder.event);
	if (r >= 0)
		r = channel_new(&feeder.channel, feeder.event, CHANNEL_FD, 0, &handlers, &feeder);
	if (r >= 0)
		r = sd_event_add_time_relative(feeder.event, &feeder.settle, CLOCK_BOOTTIME, 0, 1000,
					       on_settled, &feeder);
	if (r >= 0)
		r = sd_event_add_signal(feeder.event, NULL, SIGHUP, on_hangup, &feeder);
	if (r >= 0)
		r = sd_event_add_time_relative(feeder.event, &feeder.look, CLOCK_BOOTTIME, LOOK_US,
					       BASE_USEC_PER_SEC / 10, on_look, &feeder);
	if (r < 0)
		return 1;
	watch(&feeder); /* a folder that is gone is said while feeding, and looked for */
	snprintf(hello.hello.node, sizeof hello.hello.node, "%s", feeder.node);
	snprintf(hello.hello.program, sizeof hello.hello.program, "vipd %s feeder", VIPD_VERSION);
	channel_send(feeder.channel, &hello);
	r = sd_event_loop(feeder.event);
	channel_free(feeder.channel);
	sd_event_source_disable_unref(feeder.settle);
	sd_event_source_disable_unref(feeder.look);
	sd_event_source_disable_unref(feeder.watch);
	sd_event_unref(feeder.event);
	return r < 0 ? 1 : 0;
}

static void on_finding(void *userdata, const struct base_error *error)
{
	int *findings = userdata;

	printf("%s\n", error->message[0] ? error->message : strerror(-error->code));
	++*findings;
}

int check_main(int argc, char **argv)
{
	const struct option_spec specs[] = { { NULL, NULL, false, NULL, NULL } };
	int first = options_parse(argc, argv, "vipd check PATH...", specs), findings = 0, r = 0;
	struct wish_set *set;
	struct base_error error = { 0 };

	if (first < 0)
		return first == -2 ? 0 : 2;
	if (first == argc) {
		fprintf(stderr, "which manifests? vipd check PATH...\n");
		return 2;
	}
	set = wish_set_new(false);
	if (!set)
		return 1;
	wish_set_on_skipped(set, on_finding, &findings);
	for (int i = first; i < argc && r >= 0; i++)
		r = wish_set_read(set, argv[i], &error);
	/* What a faulty object would have said is missing in the whole: look at that another time. */
	if (r >= 0 && findings == 0)
		r = wish_set_emit(set, NULL, check_message, NULL, &error);
	if (r < 0)
		on_finding(&findings, &error);
	wish_set_free(set);
	return findings > 0;
}
