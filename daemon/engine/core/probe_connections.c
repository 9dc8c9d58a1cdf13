#include "daemon/engine/core/probe_connections.h"

#include <string.h>

#define UNANSWERED_MAX 3 /* of a connection that is kept: the last answer may be on its way */

void probe_connections_init(struct probe_connection list[PROBE_CONNECTIONS],
			    const uint16_t own_ports[PROBE_CONNECTIONS], uint32_t numbers)
{
	memset(list, 0, PROBE_CONNECTIONS * sizeof *list);
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++) {
		list[i].own_port = own_ports[i];
		list[i].sent = numbers;
	}
}

static bool is_live(const struct probe_connection *connection)
{
	return connection->state == PROBE_CONNECTION_OPENING ||
	       connection->state == PROBE_CONNECTION_OPEN;
}

static struct probe_segment make(const struct probe_connection *connection, uint8_t flags)
{
	return (struct probe_segment){ .own_port = connection->own_port,
				       .flags = flags,
				       .sequence = connection->sent,
				       .acknowledgement = connection->received };
}

bool probe_connection_ask(struct probe_connection *connection, struct probe_segment *segment)
{
	if (!is_live(connection))
		return false;
	connection->unanswered++;
	if (connection->state == PROBE_CONNECTION_OPENING) {
		*segment = make(connection, PROBE_TCP_SYN);
		return true;
	}
	/* With a byte, because of segments without one only some are answered each second. */
	*segment = make(connection, PROBE_TCP_ACK);
	segment->sequence--;
	segment->data_size = 1;
	return true;
}

static bool hear_opening(struct probe_connection *connection, const struct probe_segment *heard,
			 struct probe_segment *answer)
{
	if (!(heard->flags & PROBE_TCP_ACK) || heard->acknowledgement != connection->sent + 1)
		return false;
	if (heard->flags & PROBE_TCP_RST) {
		connection->state = PROBE_CONNECTION_RESET;
		return false;
	}
	if (!(heard->flags & PROBE_TCP_SYN))
		return false;
	connection->state = PROBE_CONNECTION_OPEN;
	connection->unanswered = 0;
	connection->sent++;
	connection->received = heard->sequence + 1;
	*answer = make(connection, PROBE_TCP_ACK);
	return true;
}

static bool hear_open(struct probe_connection *connection, const struct probe_segment *heard,
		      struct probe_segment *answer)
{
	bool in_order = heard->sequence == connection->received;

	if (heard->flags & PROBE_TCP_RST) {
		if (in_order)
			connection->state = PROBE_CONNECTION_RESET;
		return false;
	}
	if (!(heard->flags & PROBE_TCP_ACK) || heard->acknowledgement != connection->sent)
		return false;
	connection->unanswered = 0;
	if (in_order)
		connection->received += heard->data_size;
	if (in_order && heard->flags & PROBE_TCP_FIN) {
		connection->received++;
		connection->state = PROBE_CONNECTION_ENDED;
		*answer = make(connection, PROBE_TCP_RST | PROBE_TCP_ACK);
		return true;
	}
	*answer = make(connection, PROBE_TCP_ACK);
	return heard->data_size > 0 || heard->flags & (PROBE_TCP_SYN | PROBE_TCP_FIN);
}

bool probe_connections_hear(struct probe_connection list[PROBE_CONNECTIONS],
			    const struct probe_segment *heard, struct probe_segment *answer)
{
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++) {
		if (list[i].own_port != heard->own_port)
			continue;
		if (list[i].state == PROBE_CONNECTION_OPENING)
			return hear_opening(&list[i], heard, answer);
		return list[i].state == PROBE_CONNECTION_OPEN && hear_open(&list[i], heard, answer);
	}
	return false;
}

bool probe_connection_reset(const struct probe_connection *connection,
			    struct probe_segment *segment)
{
	if (!is_live(connection))
		return false;
	*segment = make(connection, PROBE_TCP_RST | PROBE_TCP_ACK);
	return true;
}

bool probe_connections_are_open(const struct probe_connection list[PROBE_CONNECTIONS])
{
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++)
		if (list[i].state != PROBE_CONNECTION_OPEN)
			return false;
	return true;
}

void probe_connections_count(const struct probe_connection list[PROBE_CONNECTIONS], uint32_t *kept,
			     uint32_t *lost)
{
	*kept = *lost = 0;
	for (unsigned i = 0; i < PROBE_CONNECTIONS; i++) {
		if (list[i].state == PROBE_CONNECTION_ENDED)
			continue;
		if (list[i].state == PROBE_CONNECTION_OPEN && list[i].unanswered <= UNANSWERED_MAX)
			++*kept;
		else
			++*lost;
	}
}
