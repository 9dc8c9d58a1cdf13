#include "daemon/agent/status.h"

#include <stdio.h>
#include <string.h>

static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static double number_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const cJSON *find_condition(const cJSON *list, const char *type)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
		if (strcmp(text_of(item, "type"), type) == 0)
			return item;
	return NULL;
}

cJSON *status_condition(const cJSON *existing, const char *type, bool value,
			enum base_reason reason, const char *message, const char *now)
{
	const cJSON *old = find_condition(existing, type);
	const char *status = value ? "True" : "False";
	const char *since = text_of(old, "lastTransitionTime");
	cJSON *condition = cJSON_CreateObject();

	if (strcmp(text_of(old, "status"), status) != 0 || !*since)
		since = now;
	cJSON_AddStringToObject(condition, "type", type);
	cJSON_AddStringToObject(condition, "status", status);
	cJSON_AddStringToObject(condition, "reason", base_reason_word(reason));
	cJSON_AddStringToObject(condition, "message", message);
	cJSON_AddStringToObject(condition, "lastTransitionTime", since);
	return condition;
}

void status_difference(const cJSON *existing, cJSON *wanted, cJSON *patch)
{
	for (cJSON *item = wanted->child, *next; item; item = next) {
		const cJSON *old = cJSON_GetObjectItemCaseSensitive(existing, item->string);

		next = item->next;
		if (cJSON_IsNull(item) ? !old : cJSON_Compare(old, item, true))
			continue;
		cJSON_AddItemToObject(patch, item->string, cJSON_DetachItemViaPointer(wanted, item));
	}
}

/* In a merge patch objects are merged: what shall go must be named. */
static void null_missing(const cJSON *existing, cJSON *wanted)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, existing)
		if (!cJSON_GetObjectItemCaseSensitive(wanted, item->string))
			cJSON_AddNullToObject(wanted, item->string);
}

static bool is_recorded(const cJSON *existing, const struct status_wish *wish)
{
	const cJSON *last = cJSON_GetObjectItemCaseSensitive(existing, "lastTransition");

	return strcmp(text_of(last, "time"), wish->transition.time) == 0 &&
	       strcmp(text_of(last, "to"), wish->owned ? wish->node : "") == 0;
}

/* True: there is a transition that the status does not tell yet. */
static bool is_news(const cJSON *existing, const struct status_wish *wish)
{
	bool same_owner = strcmp(text_of(existing, "owner"), wish->node) == 0;

	if (wish->given_up)
		return same_owner;
	if (!same_owner)
		return true;
	/* Taken up again after a restart in place: nothing has moved. */
	return wish->transition.known && !wish->transition.old &&
	       wish->transition.reason != BASE_REASON_STARTED && !is_recorded(existing, wish);
}

static void add_transition(const cJSON *existing, const struct status_wish *wish, cJSON *wanted)
{
	const cJSON *old = cJSON_GetObjectItemCaseSensitive(existing, "lastTransition");
	const struct status_transition *transition = &wish->transition;
	cJSON *last = cJSON_AddObjectToObject(wanted, "lastTransition");
	const char *from = transition->known ? transition->from : "";
	const char *before = text_of(existing, "owner");
	enum base_reason reason = transition->known ? transition->reason : BASE_REASON_OWNER_LOST;

	/* A node that came late does not know who had it; the record does. */
	if (!*from && *before && strcmp(before, wish->node) != 0)
		from = before;
	if (wish->given_up)
		from = wish->node;
	cJSON_AddStringToObject(last, "time",
				transition->known ? transition->time : wish->since);
	if (*from)
		cJSON_AddStringToObject(last, "from", from);
	if (wish->owned)
		cJSON_AddStringToObject(last, "to", wish->node);
	cJSON_AddStringToObject(last, "reason", base_reason_word(reason));
	if (transition->known)
		cJSON_AddStringToObject(last, "message", transition->message);
	if (transition->known && transition->outage_us)
		cJSON_AddNumberToObject(last, "outageMilliseconds",
					(double)(transition->outage_us / 100) / 10);
	null_missing(old, last);
	cJSON_AddNumberToObject(wanted, "transitions", number_of(existing, "transitions") + 1);
	cJSON_AddStringToObject(wanted, "since",
				transition->known ? transition->time : wish->since);
}

static void add_conditions(const cJSON *existing, const struct status_wish *wish, cJSON *wanted)
{
	const cJSON *old = cJSON_GetObjectItemCaseSensitive(existing, "conditions"), *item;
	const cJSON *last = cJSON_GetObjectItemCaseSensitive(wanted, "lastTransition");
	cJSON *list = cJSON_CreateArray(), *owned;
	enum base_reason lost = wish->conflict ? BASE_REASON_FOREIGN_ADDRESS
				: wish->transition.known ? wish->transition.reason
							 : BASE_REASON_NO_ELIGIBLE_NODE;
	const char *remark = wish->remark ? wish->remark : "";
	char message[160], endpoints[400];

	snprintf(message, sizeof message, "%s%s", wish->owned ? wish->node : "",
		 wish->owned ? " owns the address" : "no node owns the address");
	owned = status_condition(old, "Owned", wish->owned,
				 wish->owned ? BASE_REASON_OWNER_ELECTED : lost, message, wish->now);
	if (wish->owned) {
		/* Why it is owned by this one: the last transition's reason, also from before. */
		if (!last)
			last = cJSON_GetObjectItemCaseSensitive(existing, "lastTransition");
		if (*text_of(last, "reason"))
			cJSON_ReplaceItemInObjectCaseSensitive(
				owned, "reason", cJSON_CreateString(text_of(last, "reason")));
	}
	cJSON_AddItemToArray(list, owned);
	cJSON_AddItemToArray(
		list, status_condition(old, "Announced", wish->owned && wish->announced,
				       wish->owned && wish->announced ? BASE_REASON_AS_EXPECTED
				       : wish->owned		       ? BASE_REASON_FENCE_EXPIRED
								       : lost,
				       wish->owned && wish->announced
					       ? "the owner's kernel answers for the address"
				       : wish->owned
					       ? "the owner's kernel does not answer for the address"
					       : message,
				       wish->now));
	snprintf(endpoints, sizeof endpoints, "%s%s%s",
		 wish->available ? "there is an endpoint to send to" : "no Service of it has an endpoint",
		 remark[0] ? "; " : "", remark);
	cJSON_AddItemToArray(list,
			     status_condition(old, "EndpointsAvailable", wish->available,
					      wish->available ? BASE_REASON_AS_EXPECTED
							      : BASE_REASON_NO_ENDPOINTS,
					      endpoints, wish->now));
	snprintf(message, sizeof message,
		 "a host outside the cluster answers for the address: "
		 "%02x:%02x:%02x:%02x:%02x:%02x",
		 wish->conflict_mac[0], wish->conflict_mac[1], wish->conflict_mac[2],
		 wish->conflict_mac[3], wish->conflict_mac[4], wish->conflict_mac[5]);
	cJSON_AddItemToArray(list, status_condition(old, "Conflict", wish->conflict,
						    wish->conflict ? BASE_REASON_FOREIGN_ADDRESS
								   : BASE_REASON_AS_EXPECTED,
						    wish->conflict ? message
								   : "nobody else answers for it",
						    wish->now));
	/* The list is replaced as a whole: other people's conditions stay in it. */
	cJSON_ArrayForEach(item, old)
		if (!find_condition(list, text_of(item, "type")))
			cJSON_AddItemToArray(list, cJSON_Duplicate(item, true));
	cJSON_AddItemToObject(wanted, "conditions", list);
}

cJSON *status_patch(const cJSON *existing, const struct status_wish *wish)
{
	cJSON *patch = cJSON_CreateObject(), *status = cJSON_AddObjectToObject(patch, "status");
	cJSON *wanted = cJSON_CreateObject();
	const char *owner = text_of(existing, "owner");
	bool free_to_tell = !*owner || strcmp(owner, wish->node) == 0;

	if (wish->owned || (free_to_tell && (wish->given_up || wish->conflict))) {
		if (is_news(existing, wish) && (wish->owned || wish->given_up))
			add_transition(existing, wish, wanted);
		if (wish->owned)
			cJSON_AddStringToObject(wanted, "owner", wish->node);
		else
			cJSON_AddNullToObject(wanted, "owner");
		cJSON_AddStringToObject(wanted, "state", !wish->owned ? wish->conflict ? "Conflict"
										       : "Unowned"
							 : wish->moving ? "Moving"
									: "Active");
		if (wish->owned && wish->term > 0)
			cJSON_AddNumberToObject(wanted, "term", wish->term);
		add_conditions(existing, wish, wanted);
	}
	if (wish->handover_id)
		cJSON_AddStringToObject(wanted, "handoverID", wish->handover_id);
	status_difference(existing, wanted, status);
	cJSON_Delete(wanted);
	if (!status->child) {
		cJSON_Delete(patch);
		return NULL;
	}
	return patch;
}
