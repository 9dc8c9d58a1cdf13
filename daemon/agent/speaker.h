#pragma once

#include "daemon/agent/room.h"

/*
 * The Speaker object of this node, made if it is missing: its status is what the engine says of
 * the node (written when it differs, at most once a second), its spec what the administrator wants
 * (told to the engine as SETTINGS).
 */
struct speaker;

int speaker_new(struct speaker **speaker, struct agent *agent);
void speaker_free(struct speaker *speaker);

/* From the informers: any Speaker; the Node of this name. */
void speaker_object(struct speaker *speaker, const cJSON *object);
void speaker_gone(struct speaker *speaker, const char *name);
void speaker_node(struct speaker *speaker, const cJSON *node);

/* ownerReferences for what is to go with it; free them. NULL: it is not there yet. */
cJSON *speaker_owners(const struct speaker *speaker);

/*
 * Asked when the informers know everything: true if it is there, or could not be made. A server holds back what is
 * made of a definition younger than two seconds; who is ready before finds no Speaker to wait for (kubectl wait).
 */
bool speaker_settled(struct speaker *speaker);

void speaker_status(struct speaker *speaker, const struct message_node_status *status);
/* Tells the engine the settings; before the first wishes, so that a drained node takes nothing. */
void speaker_tell_settings(struct speaker *speaker);

void speaker_flush(struct speaker *speaker);
void speaker_retry(struct speaker *speaker);
/* Shutting down: one last status, without waiting for its turn. */
void speaker_stop(struct speaker *speaker);
bool speaker_busy(const struct speaker *speaker);
