#include "daemon/engine/refusals.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/router.h"
#include "daemon/engine/store.h"
#include "daemon/log.h"
#include "nft/io/table.h"

#define NAMED_MAX 8 /* so many of whom something is refused are named */

struct refusal {
	char whose[MESSAGE_SERVICE_SIZE + 16]; /* "Service vms/ssh", "address 192.0.2.10" */
	char service[MESSAGE_SERVICE_SIZE];    /* "": no Service's */
	char element[NFT_ELEMENT_TEXT_SIZE];
	int error;
};

struct refusals {
	struct engine *engine;
	size_t count;
	unsigned named;
	bool more; /* than have room here */
	struct refusal list[NAMED_MAX];
};

static void find_owner(struct refusals *refusals, const struct nft_refusal *found, struct refusal *refusal)
{
	struct engine *engine = refusals->engine;
	const struct message_service_port *port = NULL;
	char address[BASE_ADDRESS_TEXT_SIZE];
	struct refusals_source source;
	struct router *router;

	if (found->source_size != sizeof source) {
		snprintf(refusal->whose, sizeof refusal->whose, "nobody");
		return;
	}
	memcpy(&source, found->source, sizeof source);
	if (source.address.family == BASE_FAMILY_NONE) {
		snprintf(refusal->whose, sizeof refusal->whose, "the members");
		return;
	}
	router = engine_router_at(engine, &source.address);
	if (source.protocol)
		port = store_port(engine->store, &source.address, source.protocol, source.port);
	else if (router)
		router->rules_refused = true;
	if (port)
		snprintf(refusal->service, sizeof refusal->service, "%s", port->service);
	snprintf(refusal->whose, sizeof refusal->whose, "%s %s", port ? "Service" : "address",
		 port ? port->service : base_address_format(&source.address, address));
}

static void note(void *userdata, const struct nft_refusal *found)
{
	struct refusals *refusals = userdata;
	struct refusal refusal = { .error = found->error };

	refusals->count++;
	find_owner(refusals, found, &refusal);
	for (unsigned i = 0; i < refusals->named; i++)
		if (strcmp(refusals->list[i].whose, refusal.whose) == 0)
			return; /* one element of each is enough to look for */
	if (refusals->named == NAMED_MAX) {
		refusals->more = true;
		return;
	}
	memcpy(refusal.element, found->element, sizeof refusal.element);
	refusals->list[refusals->named++] = refusal;
}

/* Only a set that somebody gave a size is ever full: none of ours has one. */
static const char *advice(const struct refusal *refusal)
{
	if (refusal->error != -ENFILE)
		return "tried again every minute";
	return strncmp(refusal->element, "arp ", 4) == 0
		       ? "somebody gave the set a size: nft 'delete table arp vipd', it is made anew without at once"
		       : "somebody gave the set a size: nft 'delete table inet vipd; delete table netdev vipd', they are "
			 "made anew without at once";
}

static void summarize(const struct refusals *refusals, char *text, size_t size)
{
	size_t at = (size_t)snprintf(text, size, "the kernel refuses %zu elements of table vipd, all others are there: of ",
				     refusals->count);

	for (unsigned i = 0; i < refusals->named && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%s", i ? ", " : "", refusals->list[i].whose);
	if (at < size)
		snprintf(text + at, size - at, "%s: %s; %s", refusals->more ? " and others" : "",
			 strerror(-refusals->list[0].error), advice(&refusals->list[0]));
}

static void tell(struct engine *engine, const struct refusal *refusal)
{
	struct message *message = engine_message(MESSAGE_REFUSAL);

	log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_FIELDS({ "SERVICE", refusal->service }),
		 "the kernel refuses an element of %s: %s: %s; %s", refusal->whose, refusal->element,
		 strerror(-refusal->error), advice(refusal));
	if (!refusal->service[0])
		return;
	MESSAGE_CLEAR(message, MESSAGE_REFUSAL, refusal);
	snprintf(message->refusal.service, sizeof message->refusal.service, "%s", refusal->service);
	snprintf(message->refusal.message, sizeof message->refusal.message,
		 "the kernel of %s refuses a rule of this Service: %s; %s", engine->node,
		 strerror(-refusal->error), advice(refusal));
	engine_tell(engine, message);
}

void refusals_review(struct engine *engine)
{
	struct refusals refusals = { .engine = engine };
	char text[sizeof engine->rules_message] = "";
	bool before = engine->rules_refused > 0;

	for (struct router *router = engine->routers; router; router = router->next)
		router->rules_refused = false;
	nft_table_each_refusal(engine->table, note, &refusals);
	engine->rules_refused = refusals.count;
	if (refusals.count > 0)
		summarize(&refusals, text, sizeof text);
	if (refusals.count == 0)
		log_gate_clear(&engine->rules_gate);
	if (before && refusals.count == 0)
		log_line(LOG_NOTICE, BASE_REASON_CONFIGURED, LOG_NO_FIELDS,
			 "the kernel has all elements of table vipd again");
	if (strcmp(text, engine->rules_message) == 0)
		return; /* said before */
	memcpy(engine->rules_message, text, sizeof text);
	if (log_gate_pass(&engine->rules_gate, NULL) || !before)
		for (unsigned i = 0; i < refusals.named; i++)
			tell(engine, &refusals.list[i]);
}
