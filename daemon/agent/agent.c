#include "daemon/agent/agent.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io/clock.h"
#include "base/time.h"
#include "daemon/agent/access.h"
#include "daemon/agent/address_book.h"
#include "daemon/agent/events.h"
#include "daemon/agent/lease_book.h"
#include "daemon/agent/liveness.h"
#include "daemon/agent/lookout.h"
#include "daemon/agent/room.h"
#include "daemon/agent/scratch.h"
#include "daemon/agent/sources.h"
#include "daemon/agent/speaker.h"
#include "daemon/agent/victim.h"
#include "daemon/options.h"

#define NAMESPACE	"vipd-system"
#define STOP_US		(1500 * BASE_USEC_PER_MSEC) /* for what is under way at the end */
#define TRIM_US		(3 * BASE_USEC_PER_SEC)
#define PRIORITY_CHANNEL (-10)
#define PRIORITY_FLUSH	100 /* after whatever has arrived */

/* --- what the rooms share --- */

uint64_t agent_now(const struct agent *agent)
{
	(void)agent; /* the true time, not the loop's: the process may have been stopped */
	return base_clock_us(CLOCK_BOOTTIME);
}

struct message *agent_message(struct agent *agent, enum message_type type)
{
	static struct message message; /* 120 KB: none for the stack */

	(void)agent;
	message.type = type;
	return &message;
}

int agent_send(struct agent *agent, const struct message *message)
{
	int r = channel_send(agent->channel, message);

	/* The engine's end is gone or stuck: on_lost follows. What cannot be encoded is our mistake. */
	if (r == -EINVAL || r == -EMSGSIZE)
		log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS,
			 "a message of type %s is out of bounds and was not sent",
			 message_type_name(message->type));
	return r;
}

void agent_flush_soon(struct agent *agent)
{
	sd_event_source_set_enabled(agent->flush, SD_EVENT_ONESHOT);
}

const char *agent_text(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

/* --- to the engine --- */

static void on_skipped(void *userdata, const struct base_error *error)
{
	(void)userdata;
	log_line(LOG_WARNING, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS,
		 "%s; what was known of it before stays in force", error->message);
}

static void on_endpoints(void *userdata, const char *virtual_ip)
{
	struct agent *agent = userdata;

	address_book_endpoints(agent->addresses, virtual_ip);
}

static int tell(void *userdata, const struct message *message)
{
	struct agent *agent = userdata;
	int r = agent_send(agent, message);

	if (r < 0)
		return r;
	if (message->type == MESSAGE_ROUTER) {
		lease_book_wished(agent->leases, message->router.name);
	} else if (message->type == MESSAGE_REMOVE && message->remove.kind == MESSAGE_KIND_ROUTER) {
		lease_book_unwished(agent->leases, message->remove.name);
		address_book_unwished(agent->addresses, message->remove.name);
	}
	return 0;
}

static void synchronise(struct agent *agent)
{
	speaker_tell_settings(agent->speaker);
	agent_send(agent, agent_message(agent, MESSAGE_SYNC_BEGIN));
	wish_set_emit_changes(agent->wishes, tell, agent);
	agent_send(agent, agent_message(agent, MESSAGE_SYNC_END));
	agent->synced = true;
	log_line(LOG_INFO, BASE_REASON_CONFIGURED, LOG_NO_FIELDS,
		 "everything the API server knows has been told to the engine");
}

static int on_flush(sd_event_source *source, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	if (!agent->client)
		return 0;
	if (wish_set_wants_vms(agent->wishes))
		sources_start_vms(agent);
	if (!agent->synced && sources_complete(agent) && speaker_settled(agent->speaker))
		synchronise(agent);
	else if (agent->synced)
		wish_set_emit_changes(agent->wishes, tell, agent);
	if (agent->synced) {
		lease_book_flush(agent->leases);
		liveness_flush(agent->liveness);
	}
	if (sd_event_source_get_enabled(agent->trim, NULL) == 0) {
		sd_event_source_set_time_relative(agent->trim, TRIM_US);
		sd_event_source_set_enabled(agent->trim, SD_EVENT_ONESHOT);
	}
	address_book_flush(agent->addresses);
	speaker_flush(agent->speaker);
	event_queue_flush(agent->events);
	if (agent->stopping && !address_book_busy(agent->addresses) &&
	    !speaker_busy(agent->speaker) && lease_book_writing(agent->leases) == 0)
		return sd_event_exit(agent->event, 0);
	return 0;
}

/* After a burst of work what it took is given back. */
static int on_trim(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	(void)userdata;
	malloc_trim(0);
	return 0;
}

/* --- from the engine --- */

static int on_stop_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	(void)usec;
	return sd_event_exit(agent->event, 0);
}

static void shut_down(struct agent *agent)
{
	if (agent->stopping)
		return;
	agent->stopping = true;
	if (!agent->client || !agent->synced || !agent->contact.reachable) {
		sd_event_exit(agent->event, 0);
		return;
	}
	address_book_stop(agent->addresses);
	speaker_stop(agent->speaker);
	liveness_stop(agent->liveness);
	sd_event_source_set_time(agent->stop_limit, agent_now(agent) + STOP_US);
	sd_event_source_set_enabled(agent->stop_limit, SD_EVENT_ONESHOT);
	agent_flush_soon(agent);
}

static void on_message(void *userdata, const struct message *message)
{
	struct agent *agent = userdata;

	switch (message->type) {
	case MESSAGE_HELLO:
		return;
	case MESSAGE_LEASE_WRITE:
		if (agent->client)
			lease_book_write(agent->leases, &message->lease_write);
		return;
	case MESSAGE_LEASE_READ:
		if (agent->client)
			lease_book_read(agent->leases, message->lease_read.router);
		return;
	case MESSAGE_ROUTER_STATUS:
		address_book_status(agent->addresses, &message->router_status);
		return;
	case MESSAGE_NODE_STATUS:
		speaker_status(agent->speaker, &message->node_status);
		return;
	case MESSAGE_TRANSITION:
		address_book_transition(agent->addresses, &message->transition);
		event_queue_transition(agent->events, &message->transition);
		return;
	case MESSAGE_REFUSAL:
		event_queue_refusal(agent->events, &message->refusal);
		return;
	case MESSAGE_SHUTDOWN:
		shut_down(agent);
		return;
	case MESSAGE_ALIVE:
		liveness_engine(agent->liveness);
		return;
	case MESSAGE_PROBE_RESULT:
		lookout_result(agent->lookout, &message->probe_result);
		return;
	case MESSAGE_FAULT_REFUSED:
		victim_refused(agent->victim, &message->fault_refused);
		return;
	case MESSAGE_SYNC_BEGIN:
	case MESSAGE_SYNC_END:
	case MESSAGE_NODE:
	case MESSAGE_ROUTER:
	case MESSAGE_SERVICE_PORT:
	case MESSAGE_REMOVE:
	case MESSAGE_LEASE:
	case MESSAGE_LEASE_RESULT:
	case MESSAGE_API_CONTACT:
	case MESSAGE_ORDER:
	case MESSAGE_SETTINGS:
	case MESSAGE_RENEWAL:
	case MESSAGE_PROBE:
	case MESSAGE_FAULT:
	case MESSAGE_TYPE_COUNT:
		return; /* not for an engine to say */
	}
}

static void on_lost(void *userdata, int error)
{
	struct agent *agent = userdata;

	(void)error;
	sd_event_exit(agent->event, 1);
}

/* --- start and end --- */

int agent_add_timer(struct agent *agent, sd_event_source **source, sd_event_time_handler_t handler)
{
	int r = sd_event_add_time(agent->event, source, CLOCK_BOOTTIME, BASE_USEC_NEVER,
				  BASE_USEC_PER_MSEC, handler, agent);

	return r < 0 ? r : sd_event_source_set_enabled(*source, SD_EVENT_OFF);
}

static int start(struct agent *agent)
{
	static const struct channel_handlers handlers = { on_message, on_lost };
	int r = sd_event_default(&agent->event);

	agent->wishes = wish_set_new(true);
	if (!agent->wishes)
		return -ENOMEM;
	wish_set_on_skipped(agent->wishes, on_skipped, agent);
	wish_set_on_endpoints(agent->wishes, on_endpoints, agent);
	if (r >= 0)
		r = channel_new(&agent->channel, agent->event, CHANNEL_FD, PRIORITY_CHANNEL,
				&handlers, agent);
	if (r >= 0)
		r = sd_event_add_defer(agent->event, &agent->flush, on_flush, agent);
	if (r >= 0)
		r = sd_event_source_set_priority(agent->flush, PRIORITY_FLUSH);
	if (r >= 0)
		r = agent_add_timer(agent, &agent->stop_limit, on_stop_limit);
	if (r >= 0)
		r = agent_add_timer(agent, &agent->trim, on_trim);
	if (r >= 0)
		r = lease_book_new(&agent->leases, agent);
	if (r >= 0)
		r = address_book_new(&agent->addresses, agent);
	if (r >= 0)
		r = speaker_new(&agent->speaker, agent);
	if (r >= 0)
		r = liveness_new(&agent->liveness, agent);
	if (r >= 0)
		r = lookout_new(&agent->lookout, agent);
	if (r >= 0)
		r = victim_new(&agent->victim, agent);
	if (r >= 0)
		r = event_queue_new(&agent->events, agent);
	if (r >= 0)
		r = access_open(agent);
	return r;
}

static void stop(struct agent *agent)
{
	sources_free(agent);
	event_queue_free(agent->events);
	liveness_free(agent->liveness);
	lookout_free(agent->lookout);
	victim_free(agent->victim);
	speaker_free(agent->speaker);
	address_book_free(agent->addresses);
	lease_book_free(agent->leases);
	access_close(agent);
	channel_free(agent->channel);
	wish_set_free(agent->wishes);
	sd_event_source_disable_unref(agent->flush);
	sd_event_source_disable_unref(agent->stop_limit);
	sd_event_source_disable_unref(agent->trim);
	sd_event_unref(agent->event);
}

/* Little memory is what a node has for us: one arena, and what is freed goes back. */
static void tune_memory(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024);
}

int agent_check(const char *kubeconfig)
{
	struct base_error error = { 0 };
	struct k8s_config config;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		int r = k8s_config_load(&config, kubeconfig, NULL, &error);

		if (r < 0)
			fprintf(stderr, "cannot use the kubeconfig: %s\n",
				error.message[0] ? error.message : strerror(-r));
		_exit(r < 0 ? 1 : 0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

int agent_main(int argc, char **argv)
{
	static struct agent agent;
	const struct option_spec specs[] = {
		{ "node", &agent.node, false, "NAME", "this node" },
		{ "kubeconfig", &agent.kubeconfig, false, "FILE", "how to reach the API server" },
		{ "namespace", &agent.namespace, false, "NAME", "where the Leases are" },
		{ NULL, NULL, false, NULL, NULL },
	};
	struct message_hello *hello;
	sigset_t blocked;
	int r;

	agent.namespace = NAMESPACE;
	r = options_parse(argc, argv, "vipd agent (run by vipd speaker)", specs);
	if (r < 0 || !agent.node)
		return 2;
	tune_memory();
	scratch_install();
	log_open("agent", agent.node);
	agent.held_only = agent_drop_privileges(agent.kubeconfig, &agent.held) > 0;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = start(&agent);
	if (r < 0)
		return 1;
	hello = &agent_message(&agent, MESSAGE_HELLO)->hello;
	memset(hello, 0, sizeof *hello);
	snprintf(hello->node, sizeof hello->node, "%s", agent.node);
	snprintf(hello->program, sizeof hello->program, "vipd %s agent", VIPD_VERSION);
	agent_send(&agent, agent_message(&agent, MESSAGE_HELLO));
	r = sd_event_loop(agent.event);
	stop(&agent);
	return r < 0 ? 1 : r;
}
