#include "daemon/agent/access.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/agent/address_book.h"
#include "daemon/agent/sources.h"
#include "daemon/agent/speaker.h"
#include "daemon/metrics/counters.h"

#define PROBE_MS     1000
#define CONFIGURE_US (5 * BASE_USEC_PER_SEC)  /* the kubeconfig is not read more often */
#define HELD_US	     (30 * BASE_USEC_PER_SEC) /* nor credentials that only root can read */

/* --- does the API server answer? --- */

static void step_contact(struct agent *agent);

static void contact_changed(struct agent *agent)
{
	struct message *message = agent_message(agent, MESSAGE_API_CONTACT);

	message->api_contact.reachable = agent->contact.reachable;
	agent_send(agent, message);
	if (!agent->contact.reachable)
		return;
	sources_kick(agent);
	address_book_retry(agent->addresses);
	speaker_retry(agent->speaker);
}

static void on_probe(void *userdata, const struct k8s_response *response)
{
	struct agent *agent = userdata;

	agent->contact.probing = false;
	agent_report(agent, AGENT_TASK_PROBE, response);
	step_contact(agent);
}

static void step_contact(struct agent *agent)
{
	struct k8s_call call = { .method = "GET", .path = "/readyz", .lane = K8S_LANE_LEASE,
				 .timeout_ms = PROBE_MS, .raw = true };
	uint64_t now_us = agent_now(agent), deadline_us;

	if (contact_step(&agent->contact, now_us))
		contact_changed(agent);
	if (agent->client && !agent->stopping &&
	    contact_wants_probe(&agent->contact, now_us)) {
		agent->contact.asked_us = now_us;
		agent->contact.probing = true;
		if (!k8s_client_call(agent->client, &call, on_probe, agent))
			agent->contact.probing = false;
	}
	deadline_us = contact_deadline(&agent->contact);
	sd_event_source_set_enabled(agent->judge, deadline_us == BASE_USEC_NEVER ? SD_EVENT_OFF
									       : SD_EVENT_ONESHOT);
	if (deadline_us != BASE_USEC_NEVER)
		sd_event_source_set_time(agent->judge, deadline_us);
}

static void on_contact(void *userdata, bool answered)
{
	struct agent *agent = userdata;
	bool doubted = agent->contact.failed_us != 0;

	if (contact_note(&agent->contact, answered, agent_now(agent)))
		contact_changed(agent);
	/* The deadline may only have moved away; it is looked at when it comes. */
	if (doubted != (agent->contact.failed_us != 0))
		step_contact(agent);
}

static int on_judge(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	step_contact(userdata);
	return 0;
}

/* --- with what, and as whom --- */

static int configure(struct agent *agent, struct k8s_config *config)
{
	struct base_error error = { 0 };
	int r;

	agent->configured_us = agent_now(agent);
	if (agent->held.server) {
		*config = agent->held;
		memset(&agent->held, 0, sizeof agent->held);
		return 0;
	}
	if (agent->held_only)
		return -EACCES; /* said when they were read */
	r = k8s_config_load(config, agent->kubeconfig, NULL, &error);
	if (r < 0 && log_gate_pass(&agent->transport_gate, NULL))
		log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS, "%s%s",
			 error.message[0] ? error.message : strerror(-r),
			 agent->client ? "; the configuration read before stays in force" : "");
	return r;
}

/* The next one is root when it starts, and reads them: see identity.c. */
static void start_again(struct agent *agent)
{
	log_line(LOG_NOTICE, BASE_REASON_NONE, LOG_NO_FIELDS,
		 "the agent starts again to read its credentials");
	sd_event_exit(agent->event, 0);
}

/* Credentials that stand in the kubeconfig itself may have been replaced there. */
void access_reconfigure(struct agent *agent)
{
	uint64_t pause_us = agent->held_only ? HELD_US : CONFIGURE_US;
	struct k8s_config config;

	if (base_usec_since(agent_now(agent), agent->configured_us) < pause_us)
		return;
	if (agent->held_only) {
		start_again(agent);
		return;
	}
	if (configure(agent, &config) >= 0)
		k8s_client_configure(agent->client, &config);
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct agent *agent = userdata;

	(void)source;
	(void)info;
	agent->configured_us = 0;
	if (agent->client)
		access_reconfigure(agent);
	return 0;
}

static void on_warning(void *userdata, const char *text)
{
	(void)userdata;
	log_line(LOG_WARNING, BASE_REASON_NONE, LOG_NO_FIELDS, "the API server warns: %s", text);
}

static int connect_to_api(struct agent *agent)
{
	struct k8s_config config;
	int r = configure(agent, &config);

	if (r < 0)
		return r;
	r = k8s_client_new(&agent->client, agent->event, &config,
			   "vipd-speaker/" VIPD_VERSION " (linux)", on_contact, agent);
	if (r < 0)
		return r;
	k8s_client_on_warning(agent->client, on_warning, agent);
	k8s_client_count(agent->client, &counters_own()->api);
	return sources_start(agent);
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct agent *agent = userdata;

	if (agent->held_only && agent->configured_us) {
		start_again(agent); /* they were of no use, and only a new process can read more */
		return 0;
	}
	if (connect_to_api(agent) < 0) {
		sd_event_source_set_time(source, usec + CONFIGURE_US);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	return 0;
}

int access_open(struct agent *agent)
{
	int r = agent_add_timer(agent, &agent->judge, on_judge);

	contact_init(&agent->contact, agent_now(agent));
	if (r >= 0)
		r = sd_event_add_signal(agent->event, NULL, SIGHUP, on_hangup, agent);
	if (r >= 0)
		r = sd_event_add_time_relative(agent->event, &agent->reconnect, CLOCK_BOOTTIME, 0,
					       BASE_USEC_PER_MSEC, on_reconnect, agent);
	return r;
}

void access_close(struct agent *agent)
{
	k8s_client_free(agent->client);
	sd_event_source_disable_unref(agent->judge);
	sd_event_source_disable_unref(agent->reconnect);
}
