#include "daemon/engine/router_lease.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/node.h"
#include "daemon/engine/router.h"

void router_lease_write(struct router *router, const struct virtual_router_action *action)
{
	struct message *message = engine_message(MESSAGE_LEASE_WRITE);
	struct message_lease *lease = &message->lease_write.lease;

	MESSAGE_CLEAR(message, MESSAGE_LEASE_WRITE, lease_write);
	message->lease_write.id = action->write.id;
	message->lease_write.sent_us = engine_now(router->engine);
	snprintf(lease->router, sizeof lease->router, "%s", router->wish.name);
	lease->exists = true;
	snprintf(lease->holder, sizeof lease->holder, "%s", action->write.lease.holder);
	lease->term = action->write.lease.term;
	lease->duration_ms = action->write.lease.duration_ms;
	snprintf(lease->version, sizeof lease->version, "%s", action->write.expected_version);
	snprintf(lease->successor, sizeof lease->successor, "%s", action->write.lease.successor);
	lease->degraded = action->write.lease.degraded;
	/* Without a feeder nobody answers, and the elector goes on as with a silent API server. */
	engine_tell(router->engine, message);
}

void router_lease_read(struct router *router)
{
	struct message *message = engine_message(MESSAGE_LEASE_READ);

	MESSAGE_CLEAR(message, MESSAGE_LEASE_READ, lease_read);
	snprintf(message->lease_read.router, sizeof message->lease_read.router, "%s",
		 router->wish.name);
	engine_tell(router->engine, message);
}

static void copy_lease(struct virtual_router_lease *to, const struct message_lease *from)
{
	memset(to, 0, sizeof *to);
	to->exists = from->exists;
	to->term = from->term;
	to->duration_ms = from->duration_ms;
	to->degraded = from->degraded;
	snprintf(to->holder, sizeof to->holder, "%s", from->holder);
	snprintf(to->version, sizeof to->version, "%s", from->version);
	snprintf(to->successor, sizeof to->successor, "%s", from->successor);
}

void router_lease(struct router *router, const struct message_lease *lease)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_LEASE };

	event.now_us = engine_now(router->engine);
	copy_lease(&event.lease, lease);
	router_feed(router, &event);
}

void router_renewed(struct router *router, const char *node)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_RENEWED };

	if (strcmp(router->core.lease.holder, node) != 0)
		return; /* as the core would say, but this is cheaper for a thousand of them */
	event.now_us = engine_now(router->engine);
	snprintf(event.node, sizeof event.node, "%s", node);
	router_feed(router, &event);
}

void router_lease_result(struct router *router, const struct message_lease_result *result)
{
	static const enum virtual_router_write_result results[MESSAGE_WRITE_RESULT_COUNT] = {
		[MESSAGE_WRITE_OK] = VIRTUAL_ROUTER_WRITE_OK,
		[MESSAGE_WRITE_CONFLICT] = VIRTUAL_ROUTER_WRITE_CONFLICT,
		[MESSAGE_WRITE_UNKNOWN] = VIRTUAL_ROUTER_WRITE_UNKNOWN,
		[MESSAGE_WRITE_REFUSED] = VIRTUAL_ROUTER_WRITE_REFUSED,
	};
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_LEASE_RESULT };

	event.now_us = engine_now(router->engine);
	event.write.id = result->id;
	event.write.result = results[result->result];
	copy_lease(&event.write.lease, &result->lease);
	router_feed(router, &event);
}
