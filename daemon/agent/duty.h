#pragma once

#include "daemon/agent/room.h"

/*
 * An order of the controller to this node's speaker, and the answer to it, both in Speaker.status: the
 * order has an `id` and the time of day when it `expires`; the answer names the id. Each order is taken
 * once, also by an agent that was started again.
 */
struct duty {
	struct agent *agent;
	const char *order, *answer; /* names of the fields */
	/* The newest answer is written. */
	void (*on_written)(void *userdata);
	void *userdata;
	char id[80];   /* of the order that was taken last */
	cJSON *saying; /* the newest answer to it */
	bool due;      /* and it has to be written */
	unsigned tries;
	struct k8s_request *request;
	sd_event_source *timer;
};

int duty_init(struct duty *duty); /* the fields before `id` are filled in */
void duty_clear(struct duty *duty);

/* Any Speaker, from the informer. An order that has to be carried out now, borrowed; or NULL. */
const cJSON *duty_take(struct duty *duty, const cJSON *object);
/* Takes `answer`, adds the id and writes it, now or when the one before it has been written. */
void duty_answer(struct duty *duty, cJSON *answer);

/* A number of an order, 0 if it is none. */
uint32_t duty_number(const cJSON *order, const char *name);
