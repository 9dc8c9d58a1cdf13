#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/protocol/message.h"

struct engine;

/*
 * What each port was served by last. Endpoints that are briefly none (a live migration, a readiness
 * probe that failed once) are held for SERVED_HOLD_US: who is connected goes on to where the VM was, who
 * wants to connect is kept waiting, and nobody is refused. So is a VM that is not ready while it moves and
 * others serve beside it: as long as its old pod is there, that one, then the one it moves to. UDP and SCTP flows to an endpoint that is
 * gone are let go, so that the next datagram finds a living one.
 */
#define SERVED_HOLD_US (5 * BASE_USEC_PER_SEC)

struct served;

int served_new(struct served **served, struct engine *engine);
void served_free(struct served *served);

struct served_port {
	bool held; /* all of them */
	uint32_t endpoint_count;
	uint32_t held_from; /* those from here on are held; == endpoint_count: none */
	const struct message_endpoint *endpoints; /* until the port is noted again */
};
/*
 * Which endpoints the rules are to have. Out of memory: those of the wish. When a port is held no longer,
 * engine_rules_port_changed() is called for it.
 */
struct served_port served_note(struct served *served, const struct message_service_port *wish,
			       uint64_t now_us);
/* Nobody wants it (here) any more. */
void served_forget(struct served *served, const struct base_address *address, uint8_t protocol,
		   uint16_t port);

/* The rules stand in the kernel: flows of what is gone, since it was called last, are let go. */
void served_end(struct served *served);
