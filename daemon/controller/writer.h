#pragma once

#include <systemd/sd-event.h>

#include "k8s/io/client.h"

/*
 * Ordinary writes to the API, with manners (`manners.h`). Who has work asks writer_ready() first and decides
 * only then, so nothing is decided earlier than it is sent. Renewals of Leases do not come this way.
 */
struct writer;

/* `wake` is called from the loop whenever writer_ready() may have become true again. */
int writer_new(struct writer **writer, struct k8s_client *client, sd_event *event,
	       void (*wake)(void *userdata), void *userdata);
void writer_free(struct writer *writer);

/* May one more be sent now? Events (`idle`) only while there is plenty of room. */
bool writer_ready(struct writer *writer, bool idle);

/*
 * Sends; `done` is called once, from the loop, unless the writer is freed before. Takes `body` (may be
 * NULL). A request that could not even be made answers as UNREACHABLE. At most `timeout_ms` of 10 s.
 */
void writer_send(struct writer *writer, const char *method, const char *path,
		 const char *content_type, cJSON *body, k8s_done_fn *done, void *userdata);

/* Requests under way, and all that were ever sent. */
unsigned writer_busy(const struct writer *writer);
