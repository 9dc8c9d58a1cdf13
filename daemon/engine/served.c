#include "daemon/engine/served.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/engine/node.h"
#include "nft/io/flows.h"

#define BUCKETS 4096

struct port {
	struct port *next;
	struct base_address address;
	uint8_t protocol;
	uint16_t port;
	uint64_t round;
	uint64_t held_until_us; /* 0: not held */
	bool flows_due;		/* an endpoint is gone */
	uint32_t endpoint_count;
	struct message_endpoint *endpoints;
};

struct served {
	struct engine *engine;
	struct port *buckets[BUCKETS];
	uint64_t round, next_us; /* next_us: when the first one is held no longer; 0: none is held */
	sd_event_source *timer, *io;
	struct nft_flows *flows; /* NULL: this kernel has no ctnetlink */
	struct log_gate gate;
};

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct served *served = userdata;

	(void)source;
	(void)usec;
	engine_rules_changed(served->engine);
	return 0;
}

static void run_flows(struct served *served)
{
	int r = nft_flows_run(served->flows);

	if (r < 0 && log_gate_pass(&served->gate, NULL))
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "cannot read the connections that the kernel tracks (%s): UDP flows may go on "
			 "to an endpoint that is gone until their client pauses",
			 strerror(-r));
}

static int on_flows(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	(void)source;
	(void)fd;
	(void)revents;
	run_flows(userdata);
	return 0;
}

int served_new(struct served **served, struct engine *engine)
{
	struct served *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->engine = engine;
	r = sd_event_add_time(engine->event, &new->timer, CLOCK_BOOTTIME, 0, 1000, on_timer, new);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->timer, SD_EVENT_OFF);
	if (r >= 0 && engine->table && nft_flows_new(&new->flows) == 0) {
		r = sd_event_add_io(engine->event, &new->io, nft_flows_fd(new->flows), EPOLLIN,
				    on_flows, new);
		if (r >= 0) /* after everything that is urgent */
			r = sd_event_source_set_priority(new->io, ENGINE_PRIORITY_STATUS);
	}
	if (r < 0) {
		served_free(new);
		return r;
	}
	*served = new;
	return 0;
}

static void drop(struct port **slot)
{
	struct port *port = *slot;

	*slot = port->next;
	free(port->endpoints);
	free(port);
}

void served_free(struct served *served)
{
	if (!served)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (served->buckets[i])
			drop(&served->buckets[i]);
	sd_event_source_disable_unref(served->timer);
	sd_event_source_disable_unref(served->io);
	nft_flows_free(served->flows);
	free(served);
}

void served_begin(struct served *served)
{
	served->round++;
	served->next_us = 0;
}

static struct port *find(struct served *served, const struct message_service_port *wish)
{
	uint8_t key[20] = { wish->protocol, (uint8_t)(wish->port >> 8), (uint8_t)wish->port,
			    wish->address.family };
	struct port **slot, *port;

	memcpy(key + 4, wish->address.bytes, base_address_size(&wish->address));
	slot = &served->buckets[base_hash(key, 4 + base_address_size(&wish->address)) % BUCKETS];
	for (port = *slot; port; port = port->next)
		if (port->protocol == wish->protocol && port->port == wish->port &&
		    base_address_equal(&port->address, &wish->address))
			return port;
	port = calloc(1, sizeof *port);
	if (!port)
		return NULL;
	port->address = wish->address;
	port->protocol = wish->protocol;
	port->port = wish->port;
	/* What a predecessor served by is not known: flows to whoever is no endpoint now are let go. */
	port->flows_due = true;
	port->next = *slot;
	return *slot = port;
}

static bool is_same(const struct message_endpoint *a, const struct message_endpoint *b)
{
	return a->port == b->port && base_address_equal(&a->address, &b->address);
}

static bool somebody_gone(const struct port *port, const struct message_service_port *wish)
{
	for (uint32_t i = 0; i < port->endpoint_count; i++) {
		uint32_t j = 0;

		/* In the order of addresses on both sides: mostly the same place. */
		if (i < wish->endpoint_count &&
		    is_same(&port->endpoints[i], &wish->endpoints[i]))
			continue;
		while (j < wish->endpoint_count &&
		       !is_same(&port->endpoints[i], &wish->endpoints[j]))
			j++;
		if (j == wish->endpoint_count)
			return true;
	}
	return false;
}

static bool remember(struct port *port, const struct message_service_port *wish)
{
	size_t size = wish->endpoint_count * sizeof *wish->endpoints;

	if (port->endpoint_count == wish->endpoint_count &&
	    (size == 0 || memcmp(port->endpoints, wish->endpoints, size) == 0))
		return true;
	port->flows_due |= somebody_gone(port, wish);
	if (size > 0) {
		struct message_endpoint *grown = realloc(port->endpoints, size);

		if (!grown)
			return false;
		port->endpoints = grown;
		memcpy(grown, wish->endpoints, size);
	}
	port->endpoint_count = wish->endpoint_count;
	return true;
}

struct served_port served_note(struct served *served, const struct message_service_port *wish,
			       uint64_t now_us)
{
	struct port *port = find(served, wish);
	struct served_port result = { false, wish->endpoint_count, wish->endpoints };

	if (!port)
		return result;
	port->round = served->round;
	if (wish->endpoint_count == 0 && port->endpoint_count > 0) {
		if (port->held_until_us == 0)
			port->held_until_us = now_us + SERVED_HOLD_US;
		if (now_us < port->held_until_us) {
			if (served->next_us == 0 || port->held_until_us < served->next_us)
				served->next_us = port->held_until_us;
			return (struct served_port){ true, port->endpoint_count, port->endpoints };
		}
	}
	port->held_until_us = 0;
	remember(port, wish);
	return result;
}

static void release(struct served *served, const struct port *port, bool wanted)
{
	static struct nft_flow_end ends[MESSAGE_ENDPOINTS_MAX]; /* one thread; not kept over a call */
	uint32_t count = wanted ? port->endpoint_count : 0;

	if (!served->flows || port->protocol == IPPROTO_TCP)
		return; /* a TCP connection ends by itself, or moves with its VM */
	for (uint32_t i = 0; i < count; i++)
		ends[i] = (struct nft_flow_end){ port->endpoints[i].address,
						 port->endpoints[i].port };
	nft_flows_release(served->flows, &port->address, port->protocol, port->port, ends, count);
}

void served_end(struct served *served)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct port **slot = &served->buckets[i]; *slot;) {
			struct port *port = *slot;
			bool wanted = port->round == served->round;

			if (port->flows_due || !wanted)
				release(served, port, wanted);
			port->flows_due = false;
			if (wanted)
				slot = &port->next;
			else
				drop(slot);
		}
	if (served->flows)
		run_flows(served);
	if (served->next_us == 0) {
		sd_event_source_set_enabled(served->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time(served->timer, served->next_us);
	sd_event_source_set_enabled(served->timer, SD_EVENT_ONESHOT);
}
