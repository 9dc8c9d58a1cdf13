#include "daemon/agent/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/agent/leases.h"
#include "k8s/object.h"

/*
 * A node that dies may leave its heirs thousands of statuses to write. What protects the server is that few are under way at
 * once, so that they get slower as it does, and its own priority and fairness (deploy/flowschema.yaml); the budget is twice
 * what a kubelet may (50/s, 100 at once), for a write more or less each address.
 */
#define WRITING_MAX	 8
#define BUDGET_MAX	 100
#define BUDGET_REFILL_US (BASE_USEC_PER_SEC / 100)

/* --- who is who --- */

static struct router **router_slot(struct address_book *book, const char *name)
{
	struct router **slot = &book->routers[base_hash(name, strlen(name)) % ADDRESS_BUCKETS];

	while (*slot && strcmp((*slot)->name, name) != 0)
		slot = &(*slot)->next;
	return slot;
}

static struct router *router_get(struct address_book *book, const char *name)
{
	struct router **slot = router_slot(book, name);

	if (!*slot) {
		*slot = calloc(1, sizeof **slot + strlen(name) + 1);
		if (*slot)
			strcpy((*slot)->name, name);
	}
	return *slot;
}

static void router_forget(struct address_book *book, struct router *router)
{
	struct router **slot;

	if (router->addresses || router->known)
		return;
	slot = router_slot(book, router->name);
	*slot = router->next;
	free(router->transition);
	free(router);
}

static struct address **address_slot(struct address_book *book, const char *name)
{
	struct address **slot = &book->addresses[base_hash(name, strlen(name)) % ADDRESS_BUCKETS];

	while (*slot && strcmp((*slot)->name, name) != 0)
		slot = &(*slot)->next;
	return slot;
}

void address_due(struct address *address)
{
	struct address_book *book = address->book;

	if (!address->due) {
		address->due = true;
		address->next_due = book->due;
		book->due = address;
	}
	agent_flush_soon(book->agent);
}

/* Who has it is told before all that only became true of it since: endpoints, a fence, another node's eligibility. */
static void note_news(struct address *address)
{
	struct address_book *book = address->book;

	if (address->news || !address->router || !address->router->known ||
	    address->router->status.owned == address->recorded)
		return;
	address->news = true;
	address->next_news = book->news;
	book->news = address;
}

static void router_due(struct router *router)
{
	for (struct address *address = router->addresses; address;
	     address = address->next_of_router) {
		note_news(address);
		address_due(address);
	}
}

static void leave_router(struct address *address)
{
	struct router *router = address->router;
	struct address **slot;

	if (!router)
		return;
	slot = &router->addresses;
	while (*slot != address)
		slot = &(*slot)->next_of_router;
	*slot = address->next_of_router;
	address->router = NULL;
	router_forget(address->book, router);
}

static void join_router(struct address *address, const char *name)
{
	struct router *router;

	if (address->router && strcmp(address->router->name, name) == 0)
		return;
	leave_router(address);
	router = router_get(address->book, name);
	if (!router)
		return;
	address->router = router;
	address->next_of_router = router->addresses;
	router->addresses = address;
}

void address_set_text(char **slot, const char *text)
{
	if (*slot && text && strcmp(*slot, text) == 0)
		return;
	free(*slot);
	*slot = text ? strdup(text) : NULL;
}

static void address_free(struct address *address)
{
	struct address **slot = &address->book->due, **news = &address->book->news;

	if (address->request) {
		k8s_request_cancel(address->request);
		address->book->writing--;
	}
	while (address->due && *slot != address)
		slot = &(*slot)->next_due;
	if (address->due)
		*slot = address->next_due;
	while (address->news && *news != address)
		news = &(*news)->next_news;
	if (address->news)
		*news = address->next_news;
	leave_router(address);
	free(address->uid);
	free(address->version);
	free(address->services);
	free(address->status);
	free(address->order_to);
	free(address->order_id);
	free(address->order_done);
	free(address->ordering);
	free(address);
}

/* --- objects --- */

static void read_order(struct address *address, const cJSON *metadata)
{
	const cJSON *notes = cJSON_GetObjectItemCaseSensitive(metadata, "annotations");
	const char *text = agent_text(notes, "vipd.dev/handover");
	cJSON *order = *text ? cJSON_Parse(text) : NULL;
	const char *id = agent_text(order, "id"), *to = agent_text(order, "to");

	if (*text && (!*id || strlen(id) > 128) && !address->order_id)
		log_line(LOG_WARNING, BASE_REASON_INVALID_CONFIGURATION,
			 LOG_FIELDS({ "VIP", address->name }),
			 "VirtualIP %s: annotation vipd.dev/handover is not {\"to\": NODE, \"id\": "
			 "ID}: nothing is done",
			 address->name);
	address_set_text(&address->order_id, *text ? id : NULL);
	address_set_text(&address->order_to, *text ? to : NULL);
	cJSON_Delete(order);
}

static void read_spec(struct address *address, const cJSON *spec)
{
	const cJSON *item;
	char services[ADDRESS_TEXT_MAX] = "";

	address->candidate = false;
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(spec, "candidates"))
		if (strcmp(agent_text(item, "node"), address->book->agent->node) == 0)
			address->candidate = true;
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(spec, "services")) {
		size_t at = strlen(services);

		snprintf(services + at, sizeof services - at, "%s%s/%s", at ? "," : "",
			 agent_text(item, "namespace"), agent_text(item, "name"));
	}
	address_set_text(&address->services, services);
	join_router(address, agent_text(spec, "virtualRouter"));
}

void address_take(struct address *address, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const cJSON *status = cJSON_GetObjectItemCaseSensitive(object, "status");
	char *text = k8s_object_print(status);

	address_set_text(&address->uid, agent_text(metadata, "uid"));
	address_set_text(&address->version, agent_text(metadata, "resourceVersion"));
	address->stale = false;
	free(address->status);
	address->status = text ? k8s_pack(text) : NULL;
	free(text);
	address->recorded = strcmp(agent_text(status, "owner"), address->book->agent->node) == 0;
	read_order(address, metadata);
	read_spec(address, cJSON_GetObjectItemCaseSensitive(object, "spec"));
	note_news(address);
	address_due(address);
}

void address_book_object(struct address_book *book, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const char *name = agent_text(metadata, "name");
	struct address **slot = address_slot(book, name), *address = *slot;

	if (!address) {
		address = calloc(1, sizeof *address + strlen(name) + 1);
		if (!address)
			return;
		address->book = book;
		strcpy(address->name, name);
		*slot = address;
	} else if (strcmp(address->uid, agent_text(metadata, "uid")) == 0 &&
		   k8s_version_compare(agent_text(metadata, "resourceVersion"),
					  address->version) <= 0) {
		return; /* our own write, or older than its answer */
	}
	address_take(address, object);
}

void address_book_gone(struct address_book *book, const char *name)
{
	struct address **slot = address_slot(book, name), *address = *slot;

	if (!address)
		return;
	*slot = address->next;
	address_free(address);
}

/* --- the engine --- */

void address_book_status(struct address_book *book, const struct message_router_status *status)
{
	struct router *router = router_get(book, status->router);
	uint64_t now_us = agent_now(book->agent);

	if (!router)
		return;
	book->owned += (status->owned ? 1u : 0u) - (router->status.owned ? 1u : 0u);
	if (!router->known || router->status.owned != status->owned) {
		router->owned_us = now_us - status->since_ms * BASE_USEC_PER_MSEC;
		wall_time(router->since, status->since_ms * BASE_USEC_PER_MSEC, false);
	}
	if (!router->known || router->status.eligible != status->eligible ||
	    router->status.not_eligible_why != status->not_eligible_why) {
		router->eligible_us = now_us;
		wall_time(router->not_eligible_since, 0, false);
	}
	if (!router->known || router->status.state != status->state)
		router->status_us = now_us;
	if (!router->known)
		router->known_us = now_us;
	router->status = *status;
	router->held |= status->owned;
	router->known = true;
	router_due(router);
}

void address_book_transition(struct address_book *book, const struct message_transition *said)
{
	struct router *router = router_get(book, said->router);
	const char *node = book->agent->node;
	struct status_transition *transition;

	if (!router || (strcmp(said->to, node) != 0 && strcmp(said->from, node) != 0))
		return;
	transition = router->transition;
	if (!transition)
		transition = router->transition = calloc(1, sizeof *transition);
	if (!transition)
		return;
	transition->known = true;
	transition->old = said->age_us > 0;
	transition->reason = (enum base_reason)said->reason;
	transition->outage_us = said->outage_us;
	snprintf(transition->from, sizeof transition->from, "%s", said->from);
	snprintf(transition->message, sizeof transition->message, "%s", said->message);
	wall_time(transition->time, said->age_us, false);
	router_due(router);
}

void address_book_unwished(struct address_book *book, const char *name)
{
	struct router *router = *router_slot(book, name);

	if (!router)
		return;
	book->owned -= router->status.owned;
	memset(&router->status, 0, sizeof router->status);
	router->known = router->held = false;
	free(router->transition);
	router->transition = NULL;
	router_forget(book, router);
}

void address_book_endpoints(struct address_book *book, const char *virtual_ip)
{
	struct address *address = *address_slot(book, virtual_ip);

	if (address)
		address_due(address);
}

unsigned address_book_owned(const struct address_book *book)
{
	return book->owned;
}

cJSON *address_book_owners(struct address_book *book, const char *name)
{
	const struct router *router = *router_slot(book, name);
	cJSON *list;

	if (!router || !router->addresses)
		return NULL;
	list = cJSON_CreateArray();
	for (const struct address *address = router->addresses; address;
	     address = address->next_of_router) {
		cJSON *owner = cJSON_CreateObject();

		cJSON_AddStringToObject(owner, "apiVersion", "vipd.dev/v1alpha1");
		cJSON_AddStringToObject(owner, "kind", "VirtualIP");
		cJSON_AddStringToObject(owner, "name", address->name);
		cJSON_AddStringToObject(owner, "uid", address->uid);
		cJSON_AddItemToArray(list, owner);
	}
	return list;
}

void address_book_each(struct address_book *book, const char *name,
		       void (*callback)(void *userdata, const char *name, const char *uid,
					const char *services),
		       void *userdata)
{
	const struct router *router = *router_slot(book, name);

	for (const struct address *address = router ? router->addresses : NULL; address;
	     address = address->next_of_router)
		callback(userdata, address->name, address->uid, address->services);
}

/* --- writing, within a budget --- */

static void refill(struct address_book *book, uint64_t now_us)
{
	book->budget += (double)base_usec_since(now_us, book->budget_us) / BUDGET_REFILL_US;
	book->budget_us = now_us;
	if (book->budget > BUDGET_MAX)
		book->budget = BUDGET_MAX;
}

static void arm(struct address_book *book, uint64_t when_us)
{
	if (when_us == BASE_USEC_NEVER)
		return;
	sd_event_source_set_time(book->timer, when_us);
	sd_event_source_set_enabled(book->timer, SD_EVENT_ONESHOT);
}

static bool may_write(const struct address_book *book)
{
	return book->writing < WRITING_MAX && book->budget >= 1;
}

/* They stay among those that are due as well, and have nothing to say when it is their turn there. */
static void flush_news(struct address_book *book, uint64_t now_us)
{
	while (book->news && may_write(book)) {
		struct address *address = book->news;

		book->news = address->next_news;
		address->news = false;
		if (address->not_before_us <= now_us && !address->request &&
		    address_write(address, now_us))
			book->budget--;
	}
}

/* Thousands may be due, and each answer leads here: those behind the last that may be written are not looked at. */
void address_book_flush(struct address_book *book)
{
	uint64_t now_us = agent_now(book->agent), next_us = BASE_USEC_NEVER;
	struct address *list, **end = &book->due;

	if (!book->due || !book->agent->synced)
		return;
	refill(book, now_us);
	flush_news(book, now_us);
	list = book->due;
	book->due = NULL;
	while (list && may_write(book)) {
		struct address *address = list;

		list = address->next_due;
		address->due = false;
		if (address->not_before_us <= now_us && !address->request) {
			address->not_before_us = 0;
			if (address_write(address, now_us))
				book->budget--;
			if (address->due)
				next_us = base_usec_earlier(next_us, address->not_before_us);
			continue;
		}
		address->due = true; /* again later, when its time or an answer comes */
		address->next_due = book->due;
		book->due = address;
		if (!address->request)
			next_us = base_usec_earlier(next_us, address->not_before_us);
	}
	while (*end)
		end = &(*end)->next_due;
	*end = list;
	if (list && book->writing < WRITING_MAX)
		next_us = base_usec_earlier(next_us, now_us + BUDGET_REFILL_US);
	arm(book, next_us);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct address_book *book = userdata;

	(void)source;
	(void)usec;
	agent_flush_soon(book->agent);
	return 0;
}

void address_book_retry(struct address_book *book)
{
	for (struct address *address = book->due; address; address = address->next_due)
		if (address->retry_us) {
			address->not_before_us = 0;
			address->retry_us = 0;
		}
	agent_flush_soon(book->agent);
}

static bool mentions(const struct k8s_packed *status, const char *node)
{
	char *text = status ? k8s_unpack(status) : NULL;
	bool found = text && strstr(text, node);

	free(text);
	return found;
}

void address_book_stop(struct address_book *book)
{
	for (size_t i = 0; i < ADDRESS_BUCKETS; i++)
		for (struct router *router = book->routers[i]; router; router = router->next)
			for (struct address *address = router->addresses; address;
			     address = address->next_of_router) {
				if (mentions(address->status, book->agent->node)) {
					address->not_before_us = 0;
					address_due(address);
				}
			}
	agent_flush_soon(book->agent);
}

bool address_book_busy(const struct address_book *book)
{
	const struct address *address = book->due;

	while (address && address->not_before_us > agent_now(book->agent))
		address = address->next_due;
	return book->writing > 0 || address;
}

int address_book_new(struct address_book **book, struct agent *agent)
{
	struct address_book *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -1;
	new->agent = agent;
	new->budget = BUDGET_MAX;
	new->budget_us = agent_now(agent);
	r = sd_event_add_time(agent->event, &new->timer, CLOCK_BOOTTIME, UINT64_MAX,
			      BASE_USEC_PER_MSEC, on_timer, new);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->timer, SD_EVENT_OFF);
	*book = new;
	return r;
}

void address_book_free(struct address_book *book)
{
	if (!book)
		return;
	for (size_t i = 0; i < ADDRESS_BUCKETS; i++) {
		while (book->addresses[i]) {
			struct address *next = book->addresses[i]->next;

			address_free(book->addresses[i]);
			book->addresses[i] = next;
		}
	}
	for (size_t i = 0; i < ADDRESS_BUCKETS; i++)
		while (book->routers[i]) {
			struct router *next = book->routers[i]->next;

			free(book->routers[i]->transition);
			free(book->routers[i]);
			book->routers[i] = next;
		}
	sd_event_source_disable_unref(book->timer);
	free(book);
}
