#pragma once

#include "daemon/agent/room.h"

/*
 * events.k8s.io/v1 about VirtualIPs and their Services. Best effort: a bounded queue, a budget
 * (50 at once, then 10/s), few tries. What repeats within six minutes becomes a series.
 */
struct event_queue;

int event_queue_new(struct event_queue **queue, struct agent *agent);
void event_queue_free(struct event_queue *queue);

/* A change of owner, as the node it happened to tells it: about the router's VIPs and Services. */
void event_queue_transition(struct event_queue *queue, const struct message_transition *transition);
/* The kernel of this node refuses a rule of a Service: about that Service. */
void event_queue_refusal(struct event_queue *queue, const struct message_refusal *refusal);

void event_queue_flush(struct event_queue *queue);
