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
	uint64_t held_until_us; /* 0: not held */
	struct port *next_due;
	bool flows_due; /* an endpoint is gone; it is in the list of those */
	bool forgotten; /* kept only until its flows are let go */
	uint32_t endpoint_count;
	struct message_endpoint *endpoints;
};

struct served {
	struct engine *engine;
	struct port *buckets[BUCKETS];
	struct port *due;
	uint64_t next_us; /* when the first one is held no longer; 0: none is held */
	sd_event_source *timer, *io;
	struct nft_flows *flows; /* NULL: this kernel has no ctnetlink */
	struct log_gate gate;
};

static void arm(struct served *served)
{
	if (served->next_us == 0) {
		sd_event_source_set_enabled(served->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time(served->timer, served->next_us);
	sd_event_source_set_enabled(served->timer, SD_EVENT_ONESHOT);
}

static void hold_until(struct served *served, uint64_t until_us)
{
	if (served->next_us != 0 && served->next_us <= until_us)
		return;
	served->next_us = until_us;
	arm(served);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct served *served = userdata;
	uint64_t now_us = engine_now(served->engine);

	(void)source;
	(void)usec;
	served->next_us = 0;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct port *port = served->buckets[i]; port; port = port->next) {
			if (port->held_until_us == 0)
				continue;
			if (port->held_until_us <= now_us)
				engine_rules_port_changed(served->engine, &port->address,
							  port->protocol, port->port);
			else
				hold_until(served, port->held_until_us);
		}
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

static struct port **find(struct served *served, const struct base_address *address,
			  uint8_t protocol, uint16_t number)
{
	uint8_t key[20] = { protocol, (uint8_t)(number >> 8), (uint8_t)number, address->family };
	size_t size = base_address_size(address);
	struct port **slot;

	memcpy(key + 4, address->bytes, size);
	slot = &served->buckets[base_hash(key, 4 + size) % BUCKETS];
	while (*slot && ((*slot)->protocol != protocol || (*slot)->port != number ||
			 !base_address_equal(&(*slot)->address, address)))
		slot = &(*slot)->next;
	return slot;
}

static void release_later(struct served *served, struct port *port)
{
	if (port->flows_due)
		return;
	port->flows_due = true;
	port->next_due = served->due;
	served->due = port;
}

static struct port *port_of(struct served *served, const struct message_service_port *wish)
{
	struct port **slot = find(served, &wish->address, wish->protocol, wish->port), *port;

	if (*slot) {
		(*slot)->forgotten = false;
		return *slot;
	}
	port = calloc(1, sizeof *port);
	if (!port)
		return NULL;
	port->address = wish->address;
	port->protocol = wish->protocol;
	port->port = wish->port;
	/* What a predecessor served by is not known: flows to whoever is no endpoint now are let go. */
	release_later(served, port);
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

static void remember(struct served *served, struct port *port,
		     const struct message_service_port *wish)
{
	size_t size = wish->endpoint_count * sizeof *wish->endpoints;

	if (port->endpoint_count == wish->endpoint_count &&
	    (size == 0 || memcmp(port->endpoints, wish->endpoints, size) == 0))
		return;
	if (somebody_gone(port, wish))
		release_later(served, port);
	if (size > 0) {
		struct message_endpoint *grown = realloc(port->endpoints, size);

		if (!grown)
			return;
		port->endpoints = grown;
		memcpy(grown, wish->endpoints, size);
	}
	port->endpoint_count = wish->endpoint_count;
}

static const struct message_endpoint *find_vm(const struct message_endpoint *endpoints, uint32_t count,
					      uint64_t vm)
{
	for (uint32_t i = 0; i < count && vm; i++)
		if (endpoints[i].vm == vm)
			return &endpoints[i];
	return NULL;
}

/* Who goes on for one that served and does not say now that it does; NULL: the others alone do. */
static const struct message_endpoint *stand_in(const struct message_endpoint *was,
					       const struct message_service_port *wish)
{
	const struct message_endpoint *there;

	if (wish->endpoint_count > 0 && find_vm(wish->endpoints, wish->endpoint_count, was->vm))
		return NULL;
	for (uint32_t i = 0; i < wish->prepared_count && was->vm; i++)
		if (is_same(was, &wish->prepared[i]))
			return was;
	there = find_vm(wish->prepared, wish->prepared_count, was->vm);
	return there || wish->endpoint_count > 0 ? there : was;
}

/* The wish's endpoints, and behind them those that are held. */
static struct served_port hold(const struct port *port, const struct message_service_port *wish)
{
	static struct message_endpoint endpoints[MESSAGE_ENDPOINTS_MAX]; /* one thread */
	struct served_port result = { .endpoints = endpoints, .held_from = wish->endpoint_count };
	uint32_t count = wish->endpoint_count;

	memcpy(endpoints, wish->endpoints, count * sizeof *endpoints);
	for (uint32_t i = 0; i < port->endpoint_count && count < MESSAGE_ENDPOINTS_MAX; i++) {
		const struct message_endpoint *other = stand_in(&port->endpoints[i], wish);

		if (other)
			endpoints[count++] = *other;
	}
	result.endpoint_count = count;
	result.held = wish->endpoint_count == 0;
	return result;
}

struct served_port served_note(struct served *served, const struct message_service_port *wish,
			       uint64_t now_us)
{
	struct port *port = port_of(served, wish);
	struct served_port result = { false, wish->endpoint_count, wish->endpoint_count,
				      wish->endpoints };
	struct served_port held;

	if (!port)
		return result;
	held = hold(port, wish);
	if (held.held_from < held.endpoint_count) {
		if (port->held_until_us == 0)
			port->held_until_us = now_us + SERVED_HOLD_US;
		if (now_us < port->held_until_us) {
			hold_until(served, port->held_until_us);
			return held;
		}
	}
	port->held_until_us = 0;
	remember(served, port, wish);
	return result;
}

void served_forget(struct served *served, const struct base_address *address, uint8_t protocol,
		   uint16_t port)
{
	struct port *found = *find(served, address, protocol, port);

	if (!found)
		return;
	found->forgotten = true;
	found->held_until_us = 0;
	release_later(served, found);
}

static void release(struct served *served, const struct port *port)
{
	static struct nft_flow_end ends[MESSAGE_ENDPOINTS_MAX]; /* one thread; not kept over a call */
	uint32_t count = port->forgotten ? 0 : port->endpoint_count;

	if (!served->flows || port->protocol == IPPROTO_TCP)
		return; /* a TCP connection ends by itself, or moves with its VM */
	for (uint32_t i = 0; i < count; i++)
		ends[i] = (struct nft_flow_end){ port->endpoints[i].address,
						 port->endpoints[i].port };
	nft_flows_release(served->flows, &port->address, port->protocol, port->port, ends, count);
}

void served_end(struct served *served)
{
	while (served->due) {
		struct port *port = served->due;

		served->due = port->next_due;
		port->flows_due = false;
		release(served, port);
		if (port->forgotten)
			drop(find(served, &port->address, port->protocol, port->port));
	}
	if (served->flows)
		run_flows(served);
}
