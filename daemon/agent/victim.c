#include "daemon/agent/victim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/agent/duty.h"

struct victim {
	struct agent *agent;
	struct duty duty;
	struct message_fault fault; /* the one that was taken last */
	bool waiting;               /* until it is written down that it was taken */
};

static const char *const actions[MESSAGE_FAULT_COUNT] = {
	[MESSAGE_FAULT_CRASH] = "Crash",
	[MESSAGE_FAULT_HANG] = "Hang",
	[MESSAGE_FAULT_ISOLATE] = "Isolate",
};

static void answer(struct victim *victim, const char *message)
{
	cJSON *taken = cJSON_CreateObject();

	cJSON_AddStringToObject(taken, "message", message);
	duty_answer(&victim->duty, taken);
}

static void on_written(void *userdata)
{
	struct victim *victim = userdata;
	struct message *message;

	if (!victim->waiting)
		return;
	victim->waiting = false;
	message = agent_message(victim->agent, MESSAGE_FAULT);
	message->fault = victim->fault;
	agent_send(victim->agent, message);
}

static uint8_t kind_of(const cJSON *order)
{
	uint8_t kind = 0;

	while (kind < MESSAGE_FAULT_COUNT &&
	       strcmp(actions[kind], agent_text(order, "action")) != 0)
		kind++;
	return kind;
}

void victim_object(struct victim *victim, const cJSON *object)
{
	const cJSON *order = duty_take(&victim->duty, object);
	struct message_fault *fault = &victim->fault;

	if (!order)
		return;
	*fault = (struct message_fault){ .id = fault->id + 1,
					 .kind = kind_of(order),
					 .hold_ms = duty_number(order, "holdMilliseconds") };
	snprintf(fault->router, sizeof fault->router, "%s", agent_text(order, "virtualRouter"));
	victim->waiting = fault->kind < MESSAGE_FAULT_COUNT;
	answer(victim, victim->waiting ? "" : "this version of vipd knows no such action");
}

void victim_refused(struct victim *victim, const struct message_fault_refused *refused)
{
	if (refused->id == victim->fault.id)
		answer(victim, refused->why);
}

int victim_new(struct victim **victim, struct agent *agent)
{
	struct victim *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->agent = agent;
	new->duty = (struct duty){ .agent = agent,
				   .order = "fault",
				   .answer = "faultTaken",
				   .on_written = on_written,
				   .userdata = new };
	r = duty_init(&new->duty);
	if (r < 0) {
		victim_free(new);
		return r;
	}
	*victim = new;
	return 0;
}

void victim_free(struct victim *victim)
{
	if (!victim)
		return;
	duty_clear(&victim->duty);
	free(victim);
}
