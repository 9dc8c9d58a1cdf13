#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/node.h"

void engine_state_save_later(struct engine *engine)
{
	int enabled = 0;

	sd_event_source_get_enabled(engine->save, &enabled);
	if (!engine->options->state_dir || enabled != SD_EVENT_OFF)
		return;
	sd_event_source_set_time(engine->save, engine_now(engine) + ENGINE_SAVE_DELAY_US);
	sd_event_source_set_enabled(engine->save, SD_EVENT_ONESHOT);
}

static void state_path(const struct engine *engine, char path[static 512])
{
	snprintf(path, 512, "%s/engine.state", engine->options->state_dir);
}

static int on_saved(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct engine *engine = userdata;

	engine->saver = 0;
	if (info->si_code != CLD_EXITED || info->si_status != 0)
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot write the state file in %s: a restart without the API server "
			 "would not know what to serve",
			 engine->options->state_dir);
	sd_event_source_unref(source);
	return 0;
}

static int on_save(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	char path[512];
	int pid;

	(void)source;
	(void)usec;
	if (store_revision(engine->store) == engine->saved_revision || !engine->synced)
		return 0;
	if (engine->saver > 0 || store_syncing(engine->store)) {
		engine_state_save_later(engine);
		return 0;
	}
	state_path(engine, path);
	pid = store_save(engine->store, path);
	if (pid <= 0)
		return 0;
	engine->saved_revision = store_revision(engine->store);
	if (sd_event_add_child(engine->event, &(sd_event_source *){ NULL }, pid, WEXITED, on_saved,
			       engine) >= 0)
		engine->saver = pid;
	return 0;
}

/* Rule 14: the feeder has nothing to say (yet): what was wanted last is served. */
static int on_state_wait(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct engine *engine = userdata;
	struct base_error error = { 0 };
	char path[512];

	(void)source;
	(void)usec;
	if (engine->synced || !engine->options->state_dir)
		return 0;
	state_path(engine, path);
	if (store_load(engine->store, path, &error) < 0) {
		if (error.code != -ENOENT)
			log_line(LOG_WARNING, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS,
				 "state file %s is not used: %s", path, error.message);
		return 0;
	}
	engine->saved_revision = store_revision(engine->store);
	if (engine->restarted)
		log_line(LOG_NOTICE, BASE_REASON_STARTED, LOG_NO_FIELDS,
			 "restarted in place: going on with %zu virtual routers from %s",
			 store_count(engine->store, MESSAGE_ROUTER), path);
	else
		log_line(LOG_WARNING, BASE_REASON_API_UNREACHABLE, LOG_NO_FIELDS,
			 "nothing is known from outside yet: serving %zu virtual routers from %s",
			 store_count(engine->store, MESSAGE_ROUTER), path);
	engine_set_synced(engine);
	return 0;
}

int engine_state_start(struct engine *engine)
{
	uint64_t now_us = engine_now(engine);
	int r = engine_add_timer(engine, &engine->save, ENGINE_PRIORITY_STATUS, on_save, UINT64_MAX);

	if (r < 0)
		return r;
	return engine_add_timer(engine, &engine->state_wait, ENGINE_PRIORITY_FEEDER, on_state_wait,
				engine->restarted ? now_us : now_us + ENGINE_STATE_WAIT_US);
}

void engine_state_end(struct engine *engine)
{
	char path[512];

	if (!engine->stopping || !engine->options->state_dir || !engine->synced ||
	    store_count(engine->store, MESSAGE_ROUTER) > 0)
		return;
	state_path(engine, path);
	unlink(path);
}
