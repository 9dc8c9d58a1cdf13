#include "daemon/controller/decide.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"

static const char *family_name(enum base_family family)
{
	return family == BASE_FAMILY_IPV6 ? "IPv6" : "IPv4";
}

/* --- wishes --- */

static struct wish *wish_of(struct wishes *wishes, enum base_family family)
{
	for (unsigned i = 0; i < wishes->count; i++)
		if (wishes->items[i].family == family)
			return &wishes->items[i];
	return NULL;
}

/* One word of the list. `where` names the field for the sentence. */
static int want(const struct service *service, struct wishes *wishes, const char *word,
		const char *where, struct base_error *error)
{
	struct base_address address;
	struct wish *wish;

	if (!base_address_parse(word, &address)) {
		base_error_set(error, -EINVAL,
			       "\"%.64s\" in %s is no address; write one such as 192.0.2.10 or "
			       "2001:db8::10, two separated by a comma",
			       word, where);
		return BASE_REASON_INVALID_CONFIGURATION;
	}
	wish = wish_of(wishes, (enum base_family)address.family);
	if (!wish) {
		base_error_set(error, -EINVAL,
			       "%s asks for the %s address %s, but the Service is %s only; set "
			       "spec.ipFamilyPolicy to PreferDualStack or ask for an %s address",
			       where, family_name((enum base_family)address.family), word,
			       family_name(service->families[0]),
			       family_name(service->families[0]));
		return BASE_REASON_INVALID_CONFIGURATION;
	}
	if (wish->wanted.family != BASE_FAMILY_NONE) {
		base_error_set(error, -EINVAL,
			       "%s asks for more than one %s address; a Service gets one of each "
			       "family",
			       where, family_name(wish->family));
		return BASE_REASON_INVALID_CONFIGURATION;
	}
	wish->wanted = address;
	return 0;
}

/* "name" or "namespace/name" */
static bool is_network(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
	size_t length = strspn(text, letters);

	if (length > 0 && text[length] == '/') {
		text += length + 1;
		length = strspn(text, letters);
	}
	return length > 0 && text[length] == '\0';
}

int decide_wishes(const struct service *service, struct wishes *wishes, struct base_error *error)
{
	const char *where =
		service->addresses ? "annotation vipd.dev/addresses" : "spec.loadBalancerIP";
	const char *text = service->addresses ? service->addresses : service->load_balancer_ip;
	bool prefer = service->policy == FAMILY_POLICY_PREFER_DUAL && service->family_count == 2;
	char word[128];

	memset(wishes, 0, sizeof *wishes);
	for (unsigned i = 0; i < service->family_count; i++)
		wishes->items[wishes->count++] =
			(struct wish){ .family = service->families[i], .optional = prefer };
	if (service->network && !is_network(service->network)) {
		base_error_set(error, -EINVAL,
			       "annotation vipd.dev/network: \"%s\" is no network: write "
			       "NAMESPACE/NAME of a NetworkAttachmentDefinition",
			       service->network);
		return BASE_REASON_INVALID_CONFIGURATION;
	}
	if (service->port_count > SERVICE_PORTS_MAX) {
		base_error_set(error, -E2BIG,
			       "the Service has %zu ports, at most %d of one can be served: make "
			       "several Services of it that share an address (vipd.dev/sharing-key)",
			       service->port_count, SERVICE_PORTS_MAX);
		return BASE_REASON_INVALID_CONFIGURATION;
	}
	while (text && *text) {
		size_t length;
		int r;

		text += strspn(text, ", \t\n");
		length = strcspn(text, ", \t\n");
		if (length == 0)
			break;
		snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : 127),
			 text);
		r = want(service, wishes, word, where, error);
		if (r != 0)
			return r;
		text += length;
	}
	return 0;
}

/* --- annotations --- */

static const char *const annotations[] = { "addresses", "all-ports", "network",
					   "nodes",     "pool",	"sharing-key" };

/* Levenshtein, of words up to 31 characters; longer ones are far from everything. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[32], previous, kept;
	size_t left = strlen(a), right = strlen(b);

	if (left > 31 || right > 31)
		return 99;
	for (size_t j = 0; j <= right; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= left; i++) {
		previous = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= right; j++) {
			unsigned change = previous + (a[i - 1] != b[j - 1]);
			unsigned gap = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			kept = row[j];
			row[j] = change < gap ? change : gap;
			previous = kept;
		}
	}
	return row[right];
}

void decide_unknown_annotation(const char *name, char message[static MESSAGE_SIZE])
{
	const char *best = NULL;
	unsigned nearest = 4;

	for (size_t i = 0; i < BASE_COUNT_OF(annotations); i++) {
		unsigned d = distance(name, annotations[i]);

		if (d < nearest) {
			nearest = d;
			best = annotations[i];
		}
	}
	if (best)
		snprintf(message, MESSAGE_SIZE,
			 "annotation vipd.dev/%.100s is unknown and ignored; did you mean "
			 "vipd.dev/%s?",
			 name, best);
	else
		snprintf(message, MESSAGE_SIZE,
			 "annotation vipd.dev/%.100s is unknown and ignored; known are "
			 "vipd.dev/addresses, vipd.dev/all-ports, vipd.dev/nodes, vipd.dev/pool "
			 "and vipd.dev/sharing-key",
			 name);
}

bool decide_node_allowed(const char *list, const char *node)
{
	size_t length = strlen(node);

	if (!list)
		return true;
	while (*list) {
		size_t word;

		list += strspn(list, ", \t\n");
		word = strcspn(list, ", \t\n");
		if (word == length && strncmp(list, node, length) == 0)
			return true;
		list += word;
	}
	return false;
}

/* --- verdict --- */

static void say(struct verdict_condition *condition, bool is_true, const char *reason)
{
	condition->is_true = is_true;
	condition->reason = reason;
}

static void append(char message[static MESSAGE_SIZE], const char *text)
{
	size_t at = strlen(message);

	snprintf(message + at, MESSAGE_SIZE - at, "%s%s", at ? "; " : "", text);
}

static void name_addresses(const struct verdict *verdict, char *text, size_t size)
{
	char one[BASE_ADDRESS_TEXT_SIZE];
	size_t at = 0;

	*text = '\0';
	for (unsigned i = 0; i < verdict->ingress_count && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%s", i ? " and " : "",
				       base_address_format(&verdict->ingress[i], one));
}

static void judge_allocation(const struct grant *grants, unsigned count, struct verdict *verdict)
{
	struct verdict_condition *condition = &verdict->conditions[SERVICE_CONDITION_ALLOCATED];
	enum base_reason refusal = BASE_REASON_NONE;
	bool lacking = verdict->ingress_count == 0, waiting = false;
	char addresses[128], text[400];

	name_addresses(verdict, addresses, sizeof addresses);
	for (unsigned i = 0; i < count; i++) {
		const struct grant *grant = &grants[i];

		waiting |= grant->held && !grant->recorded;
		if (grant->refusal == BASE_REASON_NONE)
			continue;
		if (refusal == BASE_REASON_NONE)
			refusal = grant->refusal;
		lacking |= !grant->wish.optional && !grant->held;
		snprintf(text, sizeof text, "%s%s%s",
			 count > 1 ? family_name(grant->wish.family) : "", count > 1 ? ": " : "",
			 grant->message);
		append(condition->message, text);
	}
	verdict->event = refusal;
	snprintf(verdict->note, sizeof verdict->note, "%s", condition->message);
	if (refusal != BASE_REASON_NONE) {
		if (verdict->ingress_count) {
			snprintf(text, sizeof text, "meanwhile it has %s", addresses);
			append(condition->message, text);
		}
		say(condition, !lacking, base_reason_word(refusal));
	} else if (verdict->ingress_count) {
		snprintf(condition->message, sizeof condition->message, "%s", addresses);
		say(condition, !waiting,
		    base_reason_word(waiting ? BASE_REASON_PROVISIONING
					     : BASE_REASON_ADDRESS_ALLOCATED));
	} else {
		snprintf(condition->message, sizeof condition->message,
			 "an address is being allocated");
		say(condition, false, base_reason_word(BASE_REASON_PROVISIONING));
	}
}

/* Why this address is not served; NONE if it is. */
static enum base_reason unserved(const struct grant *grant, bool *passing, char message[static 320])
{
	char address[BASE_ADDRESS_TEXT_SIZE];

	base_address_format(&grant->address, address);
	if (grant->status.state == VIP_STATE_CONFLICT) {
		snprintf(message, 320, "%s",
			 grant->status.conflict[0] ? grant->status.conflict
						   : "another host answers for the address");
		return BASE_REASON_FOREIGN_ADDRESS;
	}
	if (grant->status.state == VIP_STATE_ACTIVE || grant->status.state == VIP_STATE_MOVING) {
		if (!grant->status.no_endpoints)
			return BASE_REASON_NONE;
		snprintf(message, 320, "no ready endpoint is behind %s", address);
		return BASE_REASON_NO_ENDPOINTS;
	}
	if (!grant->placed) {
		snprintf(message, 320, "%s", grant->unplaced_message);
		return grant->unplaced;
	}
	*passing = true;
	snprintf(message, 320, "no node has taken %s yet", address);
	return BASE_REASON_PROVISIONING;
}

static void judge_serving(const struct grant *grants, unsigned count, struct verdict *verdict)
{
	struct verdict_condition *condition = &verdict->conditions[SERVICE_CONDITION_SERVING];
	enum base_reason reason = BASE_REASON_NONE;
	char text[320];

	if (verdict->ingress_count == 0) {
		say(condition, false, verdict->conditions[SERVICE_CONDITION_ALLOCATED].reason);
		snprintf(condition->message, sizeof condition->message, "no address to serve");
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		enum base_reason why;

		if (!grants[i].recorded)
			continue;
		why = unserved(&grants[i], &verdict->passing, text);
		if (why == BASE_REASON_NONE)
			continue;
		append(condition->message, text);
		if (!grants[i].placed)
			verdict->unplaced = why;
		if (reason == BASE_REASON_NONE || reason == BASE_REASON_PROVISIONING)
			reason = why;
	}
	verdict->passing &= reason == BASE_REASON_PROVISIONING;
	if (reason != BASE_REASON_NONE) {
		say(condition, false, base_reason_word(reason));
		return;
	}
	name_addresses(verdict, text, sizeof text);
	snprintf(condition->message, sizeof condition->message, "%.200s", text);
	say(condition, true, base_reason_word(BASE_REASON_SERVING));
}

void decide_verdict(const struct service *service, const struct grant *grants, unsigned count,
		    struct verdict *verdict)
{
	(void)service;
	memset(verdict, 0, sizeof *verdict);
	for (unsigned i = 0; i < count; i++)
		if (grants[i].recorded)
			verdict->ingress[verdict->ingress_count++] = grants[i].address;
	judge_allocation(grants, count, verdict);
	judge_serving(grants, count, verdict);
}

void decide_refusal(const struct service *service, enum base_reason reason, const char *message,
		    const struct grant *grants, unsigned count, struct verdict *verdict)
{
	struct verdict_condition *condition = &verdict->conditions[SERVICE_CONDITION_ALLOCATED];
	char addresses[128], text[200];

	decide_verdict(service, grants, count, verdict);
	snprintf(condition->message, sizeof condition->message, "%s", message);
	name_addresses(verdict, addresses, sizeof addresses);
	if (verdict->ingress_count) {
		snprintf(text, sizeof text, "meanwhile it has %s", addresses);
		append(condition->message, text);
	}
	say(condition, verdict->ingress_count > 0, base_reason_word(reason));
	if (verdict->ingress_count == 0)
		verdict->conditions[SERVICE_CONDITION_SERVING].reason = condition->reason;
	verdict->event = reason;
	snprintf(verdict->note, sizeof verdict->note, "%s", message);
}

/* --- status --- */

static const char *protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? "UDP" : protocol == IPPROTO_SCTP ? "SCTP" : "TCP";
}

static void add_ingress(cJSON *list, const struct service *service,
			const struct base_address *address)
{
	cJSON *item = cJSON_CreateObject(), *ports, *port;
	char text[BASE_ADDRESS_TEXT_SIZE];

	cJSON_AddItemToArray(list, item);
	cJSON_AddStringToObject(item, "ip", base_address_format(address, text));
	cJSON_AddStringToObject(item, "ipMode", "VIP");
	ports = cJSON_AddArrayToObject(item, "ports"); /* if any, then all of them */
	for (size_t i = 0; i < service->port_count; i++) {
		cJSON_AddItemToArray(ports, port = cJSON_CreateObject());
		cJSON_AddNumberToObject(port, "port", service->ports[i].port);
		cJSON_AddStringToObject(port, "protocol",
					protocol_name(service->ports[i].protocol));
	}
}

cJSON *decide_status(const struct service *service, const struct verdict *verdict, const char *now)
{
	cJSON *status = cJSON_CreateObject(), *list, *item;

	if (verdict->ingress_count) {
		list = cJSON_AddArrayToObject(cJSON_AddObjectToObject(status, "loadBalancer"),
					      "ingress");
		for (unsigned i = 0; i < verdict->ingress_count; i++)
			add_ingress(list, service, &verdict->ingress[i]);
	}
	list = cJSON_AddArrayToObject(status, "conditions");
	for (unsigned i = 0; i < SERVICE_CONDITION_COUNT; i++) {
		const struct verdict_condition *condition = &verdict->conditions[i];
		bool same = service->conditions[i].there && service->conditions[i].since[0] &&
			    service->conditions[i].is_true == condition->is_true;

		cJSON_AddItemToArray(list, item = cJSON_CreateObject());
		cJSON_AddStringToObject(item, "type",
					service_condition_name((enum service_condition_type)i));
		cJSON_AddStringToObject(item, "status", condition->is_true ? "True" : "False");
		cJSON_AddStringToObject(item, "reason", condition->reason);
		cJSON_AddStringToObject(item, "message", condition->message);
		cJSON_AddStringToObject(item, "lastTransitionTime",
					same ? service->conditions[i].since : now);
		if (service->generation)
			cJSON_AddNumberToObject(item, "observedGeneration",
						(double)service->generation);
	}
	return status;
}

void decide_status_of_old(cJSON *status)
{
	cJSON *balancer = cJSON_GetObjectItemCaseSensitive(status, "loadBalancer"), *item;

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(balancer, "ingress"))
		cJSON_DeleteItemFromObjectCaseSensitive(item, "ipMode");
}
