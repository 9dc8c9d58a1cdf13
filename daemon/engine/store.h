#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "daemon/protocol/message.h"

/*
 * What the feeder wants, as it said it: nodes, virtual routers and service ports, each under its
 * key, kept encoded. It outlives the feeder, is told apart by sync rounds (mark and sweep), and is
 * what the state file holds, so that a daemon restarted during an API outage serves from it.
 */
struct store;

struct store_handlers {
	/* `message` is borrowed. Not called for what was there before, unchanged. */
	void (*on_put)(void *userdata, const struct message *message);
	/* `message` is what is no longer wanted. */
	void (*on_removed)(void *userdata, const struct message *message);
};

int store_new(struct store **store, const struct store_handlers *handlers, void *userdata);
void store_free(struct store *store);

/* NODE, ROUTER or SERVICE_PORT. 1 changed, 0 as it was, -errno. */
int store_put(struct store *store, const struct message *message);
/* 1 removed, 0 was not there. */
int store_remove(struct store *store, const struct message_remove *removed);

void store_sync_begin(struct store *store);
void store_sync_end(struct store *store); /* removes what was not named since sync_begin */
bool store_syncing(const struct store *store);

/* Calls back for everything of one type, in no particular order; the store must not change. */
void store_each(const struct store *store, enum message_type type,
		void (*callback)(void *userdata, const struct message *message), void *userdata);
/* NULL: nobody wants such a port. Valid until the next call. */
const struct message_service_port *store_port(struct store *store,
					      const struct base_address *address, uint8_t protocol,
					      uint16_t port);
/* Every port of an address, or (NULL) of all; the store must not change. */
void store_each_port(const struct store *store, const struct base_address *address,
		     void (*callback)(void *userdata, const struct base_address *address,
				      uint8_t protocol, uint16_t port),
		     void *userdata);
size_t store_count(const struct store *store, enum message_type type);
uint64_t store_revision(const struct store *store); /* moves with every change */

/*
 * The state file: versioned, checksummed, replaced atomically. Saving is done by a short-lived
 * child, because fsync() may take long and the loop may not wait; one child at a time, its pid is
 * answered (> 0), reap it with the loop's SIGCHLD. Loading ignores a damaged file and says so.
 */
int store_save(const struct store *store, const char *path);
int store_load(struct store *store, const char *path, struct base_error *error);
