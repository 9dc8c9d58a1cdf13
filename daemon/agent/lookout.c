#include "daemon/agent/lookout.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/agent/duty.h"

struct lookout {
	struct agent *agent;
	struct duty duty;
	uint32_t number; /* of the order that was taken last, for the engine */
};

static void add_spans(cJSON *probe, const struct message_probe_result *result)
{
	cJSON *spans = cJSON_AddArrayToObject(probe, "timeline");

	for (uint32_t i = 0; i < result->span_count; i++) {
		cJSON *span = cJSON_CreateObject();

		cJSON_AddNumberToObject(span, "atMilliseconds",
					(double)result->spans[i].at_us / 1000);
		cJSON_AddStringToObject(span, "answeredBy", result->spans[i].node);
		cJSON_AddItemToArray(spans, span);
	}
}

static cJSON *make_probe(const struct message_probe_result *result)
{
	cJSON *probe = cJSON_CreateObject();

	cJSON_AddStringToObject(probe, "state", result->done ? "Done" : "Probing");
	cJSON_AddNumberToObject(probe, "sent", result->sent);
	cJSON_AddNumberToObject(probe, "lost", result->lost);
	cJSON_AddNumberToObject(probe, "outageMilliseconds", (double)result->outage_us / 1000);
	cJSON_AddNumberToObject(probe, "answeredByTwoMilliseconds", (double)result->two_us / 1000);
	cJSON_AddNumberToObject(probe, "connectionsKept", result->connections_kept);
	cJSON_AddNumberToObject(probe, "connectionsLost", result->connections_lost);
	cJSON_AddStringToObject(probe, "message", result->why_not);
	add_spans(probe, result);
	return probe;
}

static uint8_t protocol_of(const cJSON *order)
{
	const char *word = agent_text(order, "protocol");

	return strcmp(word, "TCP") == 0    ? IPPROTO_TCP
	       : strcmp(word, "UDP") == 0  ? IPPROTO_UDP
	       : strcmp(word, "ICMP") == 0 ? IPPROTO_ICMP
					   : 0;
}

void lookout_object(struct lookout *lookout, const cJSON *object)
{
	const cJSON *order = duty_take(&lookout->duty, object);
	struct base_address address;
	struct message *message;

	if (!order || !base_address_parse(agent_text(order, "address"), &address))
		return;
	message = agent_message(lookout->agent, MESSAGE_PROBE);
	message->probe = (struct message_probe){
		.id = ++lookout->number,
		.address = address,
		.protocol = protocol_of(order),
		.port = (uint16_t)duty_number(order, "port"),
		.connection_port = (uint16_t)duty_number(order, "connectionPort"),
		.interval_ms = duty_number(order, "intervalMilliseconds"),
		.duration_ms = duty_number(order, "durationMilliseconds"),
	};
	agent_send(lookout->agent, message);
}

void lookout_result(struct lookout *lookout, const struct message_probe_result *result)
{
	if (result->id == lookout->number) /* else of a drill that another one ended */
		duty_answer(&lookout->duty, make_probe(result));
}

int lookout_new(struct lookout **lookout, struct agent *agent)
{
	struct lookout *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->agent = agent;
	new->duty = (struct duty){ .agent = agent, .order = "lookout", .answer = "probe" };
	r = duty_init(&new->duty);
	if (r < 0) {
		lookout_free(new);
		return r;
	}
	*lookout = new;
	return 0;
}

void lookout_free(struct lookout *lookout)
{
	if (!lookout)
		return;
	duty_clear(&lookout->duty);
	free(lookout);
}
