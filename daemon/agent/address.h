#pragma once

#include "daemon/agent/address_book.h"
#include "daemon/agent/status.h"
#include "k8s/packed.h"

/*
 * What address_book.c (all of them: objects, what the engine says, whose turn it is) and address_write.c
 * (one of them: what is written, and what becomes of it) know together; for these two only.
 */
#define ADDRESS_BUCKETS	 1024
#define ADDRESS_TEXT_MAX 4096

struct router {
	struct router *next;
	bool known; /* the engine has told its status */
	bool held;  /* and was the owner at least once since */
	struct message_router_status status;
	uint64_t known_us, status_us, owned_us, eligible_us; /* since when it is so */
	char since[40], not_eligible_since[40];
	struct status_transition *transition; /* to this node, or away from it */
	struct address *addresses;
	char name[];
};

struct address {
	struct address *next, *next_of_router, *next_due, *next_news;
	struct address_book *book;
	struct router *router;
	bool due, candidate, stale; /* stale: its version is known to be old */
	bool news, recorded; /* news: before all others that are due; recorded: status.owner is this node */
	uint64_t not_before_us, retry_us;
	struct k8s_request *request;
	bool applying; /* the request is about notEligible */
	char *uid, *version, *services;
	struct k8s_packed *status;
	char *order_to, *order_id, *order_done, *ordering;
	char name[];
};

struct address_book {
	struct agent *agent;
	struct address *addresses[ADDRESS_BUCKETS], *due, *news;
	struct router *routers[ADDRESS_BUCKETS];
	sd_event_source *timer;
	unsigned writing, owned;
	double budget;
	uint64_t budget_us;
};

/* address_book.c: it is looked at again, no earlier than not_before_us. */
void address_due(struct address *address);
/* The object as the server has it now. */
void address_take(struct address *address, const cJSON *object);
void address_set_text(char **slot, const char *text); /* copies; NULL: none */

/* address_write.c: what its status lacks, if anything. True: a request was made. */
bool address_write(struct address *address, uint64_t now_us);
