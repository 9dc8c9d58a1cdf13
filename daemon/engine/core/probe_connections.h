#pragma once

#include "daemon/engine/core/probe_packet.h"

/*
 * TCP connections that a drill keeps open, to see whether they live through it: opened before the failover,
 * asked again and again as keep-alives do (an old byte: whoever knows the connection acknowledges it once more,
 * whoever does not answers with a reset), and reset at the end. Segments in, segments out; no clock. Pure.
 *
 * Few of each looker-on: an SSH server turns away who comes as the eleventh and says nothing.
 */
#define PROBE_CONNECTIONS 3

enum probe_connection_state {
	PROBE_CONNECTION_OPENING,
	PROBE_CONNECTION_OPEN,
	PROBE_CONNECTION_RESET,
	PROBE_CONNECTION_ENDED, /* by the server, in order: neither kept nor lost */
};

struct probe_connection {
	enum probe_connection_state state;
	uint16_t own_port;
	uint32_t sent, received; /* the next number of ours, of theirs */
	unsigned unanswered;     /* questions since they were heard last */
};

/* `numbers`: where ours begin. All of one address and port, each from a port of its own. */
void probe_connections_init(struct probe_connection list[PROBE_CONNECTIONS],
			    const uint16_t own_ports[PROBE_CONNECTIONS], uint32_t numbers);
/* What a connection asks now; false: nothing, it is no more. */
bool probe_connection_ask(struct probe_connection *connection, struct probe_segment *segment);
/* What was heard of one of them; true: `answer` goes back. */
bool probe_connections_hear(struct probe_connection list[PROBE_CONNECTIONS],
			    const struct probe_segment *heard, struct probe_segment *answer);
/* Makes whoever knows it forget it; false: there is nothing to forget. */
bool probe_connection_reset(const struct probe_connection *connection,
			    struct probe_segment *segment);

bool probe_connections_are_open(const struct probe_connection list[PROBE_CONNECTIONS]);
/* Lost: reset, or without an answer to the last questions. */
void probe_connections_count(const struct probe_connection list[PROBE_CONNECTIONS], uint32_t *kept,
			     uint32_t *lost);
