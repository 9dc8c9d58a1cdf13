#pragma once

#include "k8s/io/client.h"

/*
 * Everything of one kind, kept up to date: all there is, then its changes, again and again. What a
 * complete list does not name any more is told as gone, so no event can be missed for good; nothing is
 * forgotten while the server is away. Back-off 0.8 s doubling to 30 s, with jitter; Retry-After
 * is honoured.
 *
 *     phase      what is under way                  ends with
 *     filling    a watch that tells all first       watching | listing (refused, not understood, or
 *                (sendInitialEvents)                twice ended too early: this and ever after) | waiting
 *     listing    one page                           next page | watching | waiting (failure)
 *     watching   the stream                         watching (normal end) | filling (410) | waiting
 *     asking     are there objects no older than    watching | filling (no: set back to a backup)
 *                ours? (after a connection broke)   | waiting (failure)
 *     waiting    a timer                            filling or listing, asking, watching
 *
 * A watch that told of changes and then says nothing for 150 s, not even a bookmark, is dead: it is begun
 * anew, and when that says nothing either, its connection is broken and all is listed.
 */
struct k8s_informer; /* NULL, of a kind that is not read, does and knows nothing */

struct k8s_informer_handlers {
	/* New, changed, or (after a list) the same again. The object is borrowed. */
	void (*on_object)(void *userdata, const cJSON *object);
	/* Deleted. namespace is "" for cluster-scoped kinds. */
	void (*on_gone)(void *userdata, const char *namespace, const char *name);
	/* After every complete list; `first`: now the state is whole for the first time. */
	void (*on_synced)(void *userdata, bool first);
	/* Something failed and is tried again; RESULT_OK: it works again. */
	void (*on_trouble)(void *userdata, const struct k8s_response *response);
	/*
	 * The server was set back to a backup: versions are lower than they were, and all that follows is
	 * as it was then. Found as soon as one kind has changed since the backup; others may not have. NULL:
	 * does not matter.
	 */
	void (*on_rewound)(void *userdata);
};

/* `path`: "/api/v1/services"; `selector`: label selector, percent-encoded, or NULL. */
int k8s_informer_new(struct k8s_informer **informer, struct k8s_client *client, sd_event *event,
		     const char *path, const char *selector,
		     const struct k8s_informer_handlers *handlers, void *userdata);
void k8s_informer_free(struct k8s_informer *informer);
/* The server is known to answer (again): what waits to be tried again is tried soon. */
void k8s_informer_kick(struct k8s_informer *informer);
/*
 * The watch seems to say less than it should: its connection is broken and a new one taken. With
 * `relist` everything is listed first, also when no watch is under way just now.
 */
void k8s_informer_restart(struct k8s_informer *informer, bool relist);
/*
 * A stream that breaks is followed by a list, always: a server that was down may have been set back to a
 * backup, and a watch from the version it had before would wait for what comes after that. For the few
 * who may not miss it; many would overwhelm a server that has just come back.
 */
void k8s_informer_distrust(struct k8s_informer *informer);
/* Other than 150 s. */
void k8s_informer_expect(struct k8s_informer *informer, uint64_t quiet_us);
uint64_t k8s_informer_watching_us(struct k8s_informer *informer); /* how long; 0: it does not */
bool k8s_informer_synced(const struct k8s_informer *informer);
/* Was it in the last list, or in an event since, and is not gone? */
bool k8s_informer_knows(struct k8s_informer *informer, const char *namespace, const char *name);
/* resourceVersion of the last complete list or event; "" before the first. */
const char *k8s_informer_version(const struct k8s_informer *informer);
