#include "daemon/agent/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/agent/lease_book.h"
#include "daemon/agent/leases.h"
#include "daemon/engine/core/virtual_router.h"
#include "k8s/object.h"

#define WRITE_MS	10000
#define RETRY_FIRST_US	BASE_USEC_PER_SEC
#define RETRY_MAX_US	(30 * BASE_USEC_PER_SEC)
#define GIVEN_UP_US	BASE_USEC_PER_SEC /* for a successor to say that it has it */
#define RETURN_US	(10 * BASE_USEC_PER_SEC) /* for an engine that began anew to go on with it */
#define SETTLED_US	(2 * BASE_USEC_PER_SEC) /* eligibility is not told while it flaps */
#define MOVING_US	(500 * BASE_USEC_PER_MSEC)
#define FENCE_KNOWN_US	(5 * BASE_USEC_PER_SEC) /* the engine reads it back every 3 s */

/* The first remark of a Service is the one that is told. */
static bool is_available(const struct address *address, const char **remark)
{
	char services[ADDRESS_TEXT_MAX];
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
	address_due(address);
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
		address_take(address, response->body);
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

	address_set_text(&address->order_done, address->ordering);
	address_set_text(&address->ordering, NULL);
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
	address_due(address); /* there may be more to say */
	switch (response->result) {
	case K8S_RESULT_OK:
		agent_report(agent, AGENT_TASK_STATUS, response);
		address->retry_us = 0;
		if (response->body)
			address_take(address, response->body);
		if (address->ordering)
			carry_out(address);
		return;
	case K8S_RESULT_CONFLICT:
		address_set_text(&address->ordering, NULL);
		reread(address);
		return;
	case K8S_RESULT_NOT_FOUND: /* the watch will say so, too */
		address_set_text(&address->ordering, NULL);
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
		address_set_text(&address->ordering, NULL);
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

/* From when on an address that the record says is ours, and nobody has, is told of. */
static uint64_t given_up_us(const struct address *address)
{
	const struct router *router = address->router;
	const struct status_transition *transition = router->transition;
	bool seen = router->held ||
		    (transition && strcmp(transition->from, address->book->agent->node) == 0);

	return seen ? router->owned_us + GIVEN_UP_US : router->known_us + RETURN_US;
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
		wish.given_up = agent->stopping || now_us >= given_up_us(address);
		if (!wish.given_up)
			wait_until(address, given_up_us(address));
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
	address_set_text(&address->ordering, order);
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

bool address_write(struct address *address, uint64_t now_us)
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
