#pragma once

#include "daemon/agent/room.h"

/*
 * The Leases of the virtual routers as this agent knows them: from the watch, and from the answers
 * to its own writes, whichever is newer. The engine hears each version once and never an older one
 * after a newer one; that a Lease does not exist it hears as soon as the list is complete.
 */
struct lease_book;

int lease_book_new(struct lease_book **book, struct agent *agent);
void lease_book_free(struct lease_book *book);

/* From the informer. */
void lease_book_object(struct lease_book *book, const cJSON *object);
void lease_book_gone(struct lease_book *book, const char *name);
void lease_book_synced(struct lease_book *book);

/* The engine has the router (or has it no more): wishes come before Leases. */
void lease_book_wished(struct lease_book *book, const char *router);
void lease_book_unwished(struct lease_book *book, const char *router);

/* Tells the engine what it does not know yet. After the wishes. */
void lease_book_flush(struct lease_book *book);

/* From the engine: compare-and-swap; LEASE_RESULT follows, exactly one. */
void lease_book_write(struct lease_book *book, const struct message_lease_write *write);
void lease_book_read(struct lease_book *book, const char *router);

/* Another node holds it in a newer term: what an engine still says of this one is what was. */
bool lease_book_overtaken(struct lease_book *book, const char *router, uint32_t term);

unsigned lease_book_writing(const struct lease_book *book); /* writes under way */
