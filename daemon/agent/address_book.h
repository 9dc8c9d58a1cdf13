#pragma once

#include "daemon/agent/room.h"

/*
 * The VirtualIPs, what the engine says about their virtual routers, and what of it stands in
 * VirtualIP.status already. The owner writes owner, state and conditions with the version it read
 * as precondition; every candidate writes its own entry of notEligible by server-side apply. All
 * within a budget (100 at once, then 100/s, 8 under way), new owners first.
 */
struct address_book;

int address_book_new(struct address_book **book, struct agent *agent);
void address_book_free(struct address_book *book);

/* From the informer. */
void address_book_object(struct address_book *book, const cJSON *object);
void address_book_gone(struct address_book *book, const char *name);

/* From the engine. */
void address_book_status(struct address_book *book, const struct message_router_status *status);
void address_book_transition(struct address_book *book,
			     const struct message_transition *transition);
void address_book_unwished(struct address_book *book, const char *router);

/* From the wishes: endpoints came or went. */
void address_book_endpoints(struct address_book *book, const char *virtual_ip);

/* ownerReferences of a router's Lease; free it. NULL: no VirtualIP of it is known. */
cJSON *address_book_owners(struct address_book *book, const char *router);
/* Calls back with the VirtualIPs of a router: name, uid, "namespace/name,..." of their Services. */
void address_book_each(struct address_book *book, const char *router,
		       void (*callback)(void *userdata, const char *name, const char *uid,
					const char *services),
		       void *userdata);
unsigned address_book_owned(const struct address_book *book); /* routers owned by this node */

void address_book_flush(struct address_book *book); /* writes what is due */
void address_book_retry(struct address_book *book); /* the API is back: at once */
/* Shutting down: what has no owner any more is said now. Still something under way? */
void address_book_stop(struct address_book *book);
bool address_book_busy(const struct address_book *book);
