#include "daemon/agent/address_book.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/agent/lease_book.h"
#include "daemon/agent/leases.h"
#include "daemon/agent/status.h"
#include "daemon/engine/core/virtual_router.h"
#include "k8s/object.h"
#include "k8s/packed.h"

#define BUCKETS		1024
#define WRITING_MAX	16
#define BUDGET_MAX	100
#define BUDGET_REFILL_US (BASE_USEC_PER_SEC / 25)
#define WRITE_MS	10000
#define RETRY_FIRST_US	BASE_USEC_PER_SEC
#define RETRY_MAX_US	(30 * BASE_USEC_PER_SEC)
#define GIVEN_UP_US	BASE_USEC_PER_SEC /* for a successor to say that it has it */
#define SETTLED_US	(2 * BASE_USEC_PER_SEC) /* eligibility is not told while it flaps */
#define MOVING_US	(500 * BASE_USEC_PER_MSEC)
#define FENCE_KNOWN_US	(5 * BASE_USEC_PER_SEC) /* the engine reads it back every 3 s */
#define TEXT_MAX	4096

struct router {
	struct router *next;
	bool known; /* the engine has told its status */
	struct message_router_status status;
	uint64_t status_us, owned_us, eligible_us; /* since when it is so */
	char since[40], not_eligible_since[40];
	struct status_transition *transition; /* to this node, or away from it */
	struct address *addresses;
	char name[];
};

struct address {
	struct address *next, *next_of_router, *next_due;
	struct address_book *book;
	struct router *router;
	bool due, candidate, stale; /* stale: its version is known to be old */
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
	struct address *addresses[BUCKETS], *due;
	struct router *routers[BUCKETS];
	sd_event_source *timer;
	unsigned writing, owned;
	double budget;
	uint64_t budget_us;
};

/* --- who is who --- */

static struct router **router_slot(struct address_book *book, const char *name)
{
	struct router **slot = &book->routers[base_hash(name, strlen(name)) % BUCKETS];

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
	struct address **slot = &book->addresses[base_hash(name, strlen(name)) % BUCKETS];

	while (*slot && strcmp((*slot)->name, name) != 0)
		slot = &(*slot)->next;
	return slot;
}

static void set_due(struct address *address)
{
	struct address_book *book = address->book;

	if (!address->due) {
		address->due = true;
		address->next_due = book->due;
		book->due = address;
	}
	agent_flush_soon(book->agent);
}

static void router_due(struct router *router)
{
	for (struct address *address = router->addresses; address;
	     address = address->next_of_router)
		set_due(address);
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

static void replace(char **slot, const char *text)
{
	if (*slot && text && strcmp(*slot, text) == 0)
		return;
	free(*slot);
	*slot = text ? strdup(text) : NULL;
}

static void address_free(struct address *address)
{
	struct address **slot = &address->book->due;

	if (address->request) {
		k8s_request_cancel(address->request);
		address->book->writing--;
	}
	while (address->due && *slot != address)
		slot = &(*slot)->next_due;
	if (address->due)
		*slot = address->next_due;
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
	replace(&address->order_id, *text ? id : NULL);
	replace(&address->order_to, *text ? to : NULL);
	cJSON_Delete(order);
}

static void read_spec(struct address *address, const cJSON *spec)
{
	const cJSON *item;
	char services[TEXT_MAX] = "";

	address->candidate = false;
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(spec, "candidates"))
		if (strcmp(agent_text(item, "node"), address->book->agent->node) == 0)
			address->candidate = true;
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(spec, "services")) {
		size_t at = strlen(services);

		snprintf(services + at, sizeof services - at, "%s%s/%s", at ? "," : "",
			 agent_text(item, "namespace"), agent_text(item, "name"));
	}
	replace(&address->services, services);
	join_router(address, agent_text(spec, "virtualRouter"));
}

static void take(struct address *address, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const cJSON *status = cJSON_GetObjectItemCaseSensitive(object, "status");
	char *text = k8s_object_print(status);

	replace(&address->uid, agent_text(metadata, "uid"));
	replace(&address->version, agent_text(metadata, "resourceVersion"));
	address->stale = false;
	free(address->status);
	address->status = text ? k8s_pack(text) : NULL;
	free(text);
	read_order(address, metadata);
	read_spec(address, cJSON_GetObjectItemCaseSensitive(object, "spec"));
	set_due(address);
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
		   agent_compare_versions(agent_text(metadata, "resourceVersion"),
					  address->version) <= 0) {
		return; /* our own write, or older than its answer */
	}
	take(address, object);
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
	router->status = *status;
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
	router->known = false;
	free(router->transition);
	router->transition = NULL;
	router_forget(book, router);
}

void address_book_endpoints(struct address_book *book, const char *virtual_ip)
{
	struct address *address = *address_slot(book, virtual_ip);

	if (address)
		set_due(address);
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

/* --- writing --- */

/* The first remark of a Service is the one that is told. */
static bool is_available(const struct address *address, const char **remark)
{
	char services[TEXT_MAX];
	bool available = false;

	*remark = "";

	snprintf(services, sizeof services, "%s", address->services ? address->services : "");
	for (char *save, *one = strtok_r(services, ",", &save); one;
	     one = strtok_r(NULL, ",", &save)) {
		char *slash = strchr(one, '/');

		if (!slash)
			continue;
		*slash = '\0';
		available |= wish_set_available(address->book->agent->wishes, one, slash + 1);
		if (!**remark)
			*remark = wish_set_remark(address->book->agent->wishes, one, slash + 1);
	}
	return available;
}

static void wait_until(struct address *address, uint64_t when_us)
{
	if (address->not_before_us > when_us)
		when_us = address->not_before_us;
	address->not_before_us = when_us;
	set_due(address);
}

static void retry_later(struct address *address, const struct k8s_response *response)
{
	uint64_t wait_us = address->retry_us ? address->retry_us * 2 : RETRY_FIRST_US;

	address->retry_us = wait_us > RETRY_MAX_US ? RETRY_MAX_US : wait_us;
	if (response->retry_after_us > wait_us)
		wait_us = response->retry_after_us;
	wait_until(address, agent_now(address->book->agent) + wait_us);
}

static void on_reread(void *userdata, const struct k8s_response *response)
{
	struct address *address = userdata;

	address->request = NULL;
	address->book->writing--;
	if (response->result == K8S_RESULT_OK && response->body)
		take(address, response->body);
	else
		retry_later(address, response);
}

/* Somebody else wrote meanwhile: what stands there now decides what is to be written. */
static void reread(struct address *address)
{
	struct k8s_call call = { .method = "GET", .timeout_ms = WRITE_MS };
	char path[512];

	snprintf(path, sizeof path, AGENT_GROUP "/virtualips/%s", address->name);
	call.path = path;
	address->request = k8s_client_call(address->book->agent->client, &call, on_reread, address);
	if (address->request)
		address->book->writing++;
}

static void carry_out(struct address *address)
{
	struct message *message = agent_message(address->book->agent, MESSAGE_ORDER);
	struct message_order *order = &message->order;

	replace(&address->order_done, address->ordering);
	replace(&address->ordering, NULL);
	if (!address->router || (address->order_to && strcmp(address->order_to,
							      address->book->agent->node) == 0))
		return;
	memset(order, 0, sizeof *order);
	order->order = MESSAGE_ORDER_HANDOVER;
	order->reason = BASE_REASON_HANDOVER;
	snprintf(order->router, sizeof order->router, "%s", address->router->name);
	snprintf(order->node, sizeof order->node, "%s", address->order_to ? address->order_to : "");
	agent_send(address->book->agent, message);
}

static void on_written(void *userdata, const struct k8s_response *response)
{
	struct address *address = userdata;
	struct agent *agent = address->book->agent;

	address->request = NULL;
	address->book->writing--;
	set_due(address); /* there may be more to say */
	switch (response->result) {
	case K8S_RESULT_OK:
		agent_report(agent, AGENT_TASK_STATUS, response);
		address->retry_us = 0;
		if (response->body)
			take(address, response->body);
		if (address->ordering)
			carry_out(address);
		return;
	case K8S_RESULT_CONFLICT:
		replace(&address->ordering, NULL);
		reread(address);
		return;
	case K8S_RESULT_NOT_FOUND: /* the watch will say so, too */
		replace(&address->ordering, NULL);
		address->not_before_us = agent_now(agent) + RETRY_MAX_US;
		return;
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_FORBIDDEN:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
		agent_report(agent, AGENT_TASK_STATUS, response);
		replace(&address->ordering, NULL);
		address->stale = true; /* it may have landed */
		retry_later(address, response);
		return;
	}
}

static void send_patch(struct address *address, const cJSON *patch, bool apply)
{
	struct agent *agent = address->book->agent;
	struct k8s_call call = { .method = "PATCH", .body = patch, .timeout_ms = WRITE_MS };
	char path[512];

	if (apply) {
		snprintf(path, sizeof path,
			 AGENT_GROUP "/virtualips/%s/status?fieldManager=vipd-speaker-%s&force=true",
			 address->name, agent->node);
		call.content_type = "application/apply-patch+yaml";
	} else {
		snprintf(path, sizeof path,
			 AGENT_GROUP "/virtualips/%s/status?fieldManager=vipd-speaker",
			 address->name);
		call.content_type = "application/merge-patch+json";
	}
	call.path = path;
	address->request = k8s_client_call(agent->client, &call, on_written, address);
	if (address->request)
		address->book->writing++;
}

/*
 * An order is noted before it is carried out, so that it is carried out at most once, whoever
 * owns the address by then.
 */
static const char *new_order(const struct address *address, const cJSON *status)
{
	const struct router *router = address->router;
	const char *id = address->order_id;

	if (!id || !*id || !router->status.owned || router->status.state == VIRTUAL_ROUTER_STATE_MOVING ||
	    strcmp(agent_text(status, "handoverID"), id) == 0 ||
	    (address->order_done && strcmp(address->order_done, id) == 0))
		return NULL;
	return id;
}

static bool write_status(struct address *address, const cJSON *status, uint64_t now_us)
{
	const struct router *router = address->router;
	const struct agent *agent = address->book->agent;
	const struct message_router_status *said = &router->status;
	bool mine = strcmp(agent_text(status, "owner"), agent->node) == 0;
	uint64_t held_us = base_usec_since(now_us, router->owned_us);
	char now[40];
	struct status_wish wish = {
		.node = agent->node,
		.owned = said->owned &&
			 !lease_book_overtaken(agent->leases, said->router, said->term),
		.conflict = said->conflict || said->state == VIRTUAL_ROUTER_STATE_CONFLICT,
		.announced = said->addresses_present &&
			     (said->fence_open || held_us < FENCE_KNOWN_US),
		.term = said->term,
		.since = router->since,
		.now = now,
	};
	cJSON *patch;
	const char *order;

	wall_time(now, 0, false);
	wish.available = is_available(address, &wish.remark);
	memcpy(wish.conflict_mac, said->conflict_mac, sizeof wish.conflict_mac);
	if (router->transition)
		wish.transition = *router->transition;
	if (said->owned && said->state == VIRTUAL_ROUTER_STATE_MOVING) {
		wish.moving = base_usec_since(now_us, router->status_us) >= MOVING_US;
		if (!wish.moving)
			wait_until(address, router->status_us + MOVING_US);
	}
	if (!said->owned && mine &&
	    (!said->owner[0] || strcmp(said->owner, agent->node) == 0)) {
		/* The engine knows of nobody else; the Lease may name us still. */
		wish.given_up = agent->stopping || held_us >= GIVEN_UP_US;
		if (!wish.given_up)
			wait_until(address, router->owned_us + GIVEN_UP_US);
	}
	order = wish.handover_id = new_order(address, status);
	patch = status_patch(status, &wish);
	if (!patch)
		return false;
	if (address->stale) {
		cJSON_Delete(patch);
		reread(address);
		return true;
	}
	cJSON_AddStringToObject(cJSON_AddObjectToObject(patch, "metadata"), "resourceVersion",
				address->version);
	replace(&address->ordering, order);
	send_patch(address, patch, false);
	cJSON_Delete(patch);
	return true;
}

static const cJSON *own_entry(const cJSON *status, const char *node)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(status, "notEligible"))
		if (strcmp(agent_text(item, "node"), node) == 0)
			return item;
	return NULL;
}

/* This node's entry of notEligible; the others' are theirs, and apply leaves them alone. */
static bool write_eligibility(struct address *address, const cJSON *status, uint64_t now_us)
{
	const struct router *router = address->router;
	const struct agent *agent = address->book->agent;
	const struct base_reason_info *why =
		base_reason_info((enum base_reason)router->status.not_eligible_why);
	const cJSON *entry = own_entry(status, agent->node);
	bool wanted = address->candidate && !router->status.eligible &&
		      router->status.not_eligible_why != BASE_REASON_NONE;
	cJSON *apply, *list, *item;

	if (agent->stopping || (wanted ? entry && strcmp(agent_text(entry, "reason"), why->word) == 0
				       : !entry))
		return false;
	if (base_usec_since(now_us, router->eligible_us) < SETTLED_US) {
		wait_until(address, router->eligible_us + SETTLED_US);
		return false;
	}
	apply = cJSON_CreateObject();
	cJSON_AddStringToObject(apply, "apiVersion", "vipd.dev/v1alpha1");
	cJSON_AddStringToObject(apply, "kind", "VirtualIP");
	cJSON_AddStringToObject(cJSON_AddObjectToObject(apply, "metadata"), "name", address->name);
	item = cJSON_AddObjectToObject(apply, "status");
	if (wanted) {
		list = cJSON_AddArrayToObject(item, "notEligible");
		item = cJSON_CreateObject();
		cJSON_AddItemToArray(list, item);
		cJSON_AddStringToObject(item, "node", agent->node);
		cJSON_AddStringToObject(item, "reason", why->word);
		cJSON_AddStringToObject(item, "message", why->meaning);
		cJSON_AddStringToObject(item, "since", router->not_eligible_since);
	}
	send_patch(address, apply, true);
	cJSON_Delete(apply);
	return true;
}

/* True: a request was made. */
static bool write_one(struct address *address, uint64_t now_us)
{
	cJSON *status;
	bool wrote;

	if (!address->router || !address->router->known)
		return false;
	status = address->status ? k8s_unpack_tree(address->status) : NULL;
	wrote = write_status(address, status, now_us) ||
		write_eligibility(address, status, now_us);
	cJSON_Delete(status);
	return wrote;
}

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

void address_book_flush(struct address_book *book)
{
	uint64_t now_us = agent_now(book->agent), next_us = BASE_USEC_NEVER;
	struct address *list = book->due;

	if (!list || !book->agent->synced)
		return;
	refill(book, now_us);
	book->due = NULL;
	while (list) {
		struct address *address = list;
		bool ready = address->not_before_us <= now_us && !address->request;

		list = address->next_due;
		address->due = false;
		if (ready && book->writing < WRITING_MAX && book->budget >= 1) {
			address->not_before_us = 0;
			if (write_one(address, now_us))
				book->budget--;
			if (address->due)
				next_us = base_usec_earlier(next_us, address->not_before_us);
			continue;
		}
		address->due = true; /* again later, when its time, an answer or budget comes */
		address->next_due = book->due;
		book->due = address;
		if (!ready && !address->request)
			next_us = base_usec_earlier(next_us, address->not_before_us);
		else if (ready && book->writing < WRITING_MAX)
			next_us = base_usec_earlier(next_us, now_us + BUDGET_REFILL_US);
	}
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
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct router *router = book->routers[i]; router; router = router->next)
			for (struct address *address = router->addresses; address;
			     address = address->next_of_router) {
				if (mentions(address->status, book->agent->node)) {
					address->not_before_us = 0;
					set_due(address);
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
	for (size_t i = 0; i < BUCKETS; i++) {
		while (book->addresses[i]) {
			struct address *next = book->addresses[i]->next;

			address_free(book->addresses[i]);
			book->addresses[i] = next;
		}
	}
	for (size_t i = 0; i < BUCKETS; i++)
		while (book->routers[i]) {
			struct router *next = book->routers[i]->next;

			free(book->routers[i]->transition);
			free(book->routers[i]);
			book->routers[i] = next;
		}
	sd_event_source_disable_unref(book->timer);
	free(book);
}
