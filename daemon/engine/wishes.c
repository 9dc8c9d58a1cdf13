#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/balancer.h"
#include "daemon/engine/fault.h"
#include "daemon/engine/node.h"
#include "daemon/engine/prober.h"
#include "daemon/engine/router_lease.h"

struct router *engine_router_named(struct engine *engine, const char *name)
{
	for (struct router *router = engine->routers; router; router = router->next)
		if (strcmp(router->wish.name, name) == 0)
			return router;
	return NULL;
}

struct router *engine_router_at(struct engine *engine, const struct base_address *address)
{
	return address_index_find(&engine->addresses, engine->routers, address);
}

struct engine_node *engine_node_named(struct engine *engine, const char *name)
{
	struct engine_node *node = engine->nodes;

	while (node && strcmp(node->name, name) != 0)
		node = node->next;
	return node;
}

const struct engine_node *engine_node_at(const struct engine *engine,
					 const struct base_address *address)
{
	for (const struct engine_node *node = engine->nodes; node; node = node->next)
		for (unsigned i = 0; i < node->address_count; i++)
			if (base_address_equal(&node->addresses[i], address))
				return node;
	return NULL;
}

struct base_address engine_node_on(const struct engine_node *node, const struct base_prefix *subnet)
{
	for (unsigned i = 0; node && i < node->address_count; i++)
		if (base_prefix_contains(subnet, &node->addresses[i]))
			return node->addresses[i];
	return (struct base_address){ 0 };
}

static void put_node(struct engine *engine, const struct message_node *wish)
{
	struct engine_node *node = engine_node_named(engine, wish->name);

	if (!node) {
		node = calloc(1, sizeof *node);
		if (!node)
			return;
		snprintf(node->name, sizeof node->name, "%s", wish->name);
		node->next = engine->nodes;
		engine->nodes = node;
		engine->node_count++;
	}
	node->address_count = wish->address_count;
	memcpy(node->addresses, wish->addresses, sizeof node->addresses);
	node->range_count = wish->pod_range_count;
	memcpy(node->pod_ranges, wish->pod_ranges, sizeof node->pod_ranges);
	engine_cluster_changed(engine);
	engine_rules_changed(engine);
}

static void addresses_changed(struct engine *engine, const struct router *router)
{
	for (uint32_t i = 0; i < router->wish.address_count; i++)
		engine_rules_address_changed(engine, &router->wish.addresses[i]);
}

static void port_changed(struct engine *engine, const struct message_service_port *port)
{
	engine_rules_port_changed(engine, &port->address, port->protocol, port->port);
}

/* NULL: out of memory. */
static struct router *add_router(struct engine *engine, const struct message_router *wish)
{
	struct router *router = router_new(engine, wish);

	if (!router)
		return NULL;
	router->next = engine->routers;
	engine->routers = router;
	address_index_forget(&engine->addresses);
	return router;
}

static void take_router(struct engine *engine, struct router *router)
{
	struct router **slot = &engine->routers;

	while (*slot != router)
		slot = &(*slot)->next;
	*slot = router->next;
	address_index_forget(&engine->addresses);
	router_free(router);
}

struct anew {
	char name[MESSAGE_ROUTER_NAME_SIZE];
	struct engine *engine;
	struct router *made;
};

static void make_anew(void *userdata, const struct message *message)
{
	struct anew *anew = userdata;

	if (strcmp(message->router.name, anew->name) == 0)
		anew->made = add_router(anew->engine, &message->router);
}

struct router *engine_router_anew(struct engine *engine, struct router *router)
{
	struct anew anew = { .engine = engine };

	snprintf(anew.name, sizeof anew.name, "%s", router->wish.name);
	take_router(engine, router);
	store_each(engine->store, MESSAGE_ROUTER, make_anew, &anew);
	engine_cluster_changed(engine);
	engine_rules_changed(engine);
	return anew.made;
}

static void on_put(void *userdata, const struct message *message)
{
	struct engine *engine = userdata;
	struct router *router;

	switch ((int)message->type) {
	case MESSAGE_NODE:
		put_node(engine, &message->node);
		return;
	case MESSAGE_ROUTER:
		router = engine_router_named(engine, message->router.name);
		if (router && router->frozen) {
			fault_end(engine->fault);
			router = engine_router_named(engine, message->router.name);
		}
		if (router) {
			addresses_changed(engine, router); /* those that it loses, too */
			router_configure(router, &message->router);
		} else {
			router = add_router(engine, &message->router);
			if (!router)
				return;
			log_line(LOG_INFO, BASE_REASON_CONFIGURED,
				 LOG_FIELDS({ "LEASE", router->wish.name },
					    { "SERVICE", router->wish.services }),
				 "%s is wanted: %u addresses, %u candidates", router->wish.name,
				 router->wish.address_count, message->router.candidate_count);
		}
		address_index_forget(&engine->addresses);
		addresses_changed(engine, router);
		engine_cluster_changed(engine);
		break;
	default:
		port_changed(engine, &message->service_port);
		break;
	}
}

static void on_removed(void *userdata, const struct message *message)
{
	struct engine *engine = userdata;

	if (message->type == MESSAGE_NODE) {
		for (struct engine_node **slot = &engine->nodes; *slot; slot = &(*slot)->next)
			if (strcmp((*slot)->name, message->node.name) == 0) {
				struct engine_node *node = *slot;

				*slot = node->next;
				free(node);
				engine->node_count--;
				break;
			}
	} else if (message->type == MESSAGE_ROUTER) {
		struct router *router = engine_router_named(engine, message->router.name);

		if (router) {
			fault_router_gone(engine->fault, router);
			addresses_changed(engine, router);
			log_line(LOG_NOTICE, BASE_REASON_REMOVED,
				 LOG_FIELDS({ "LEASE", router->wish.name }),
				 "%s is no longer wanted", router->wish.name);
			take_router(engine, router);
		}
	}
	if (message->type == MESSAGE_SERVICE_PORT) {
		port_changed(engine, &message->service_port);
		return;
	}
	if (message->type == MESSAGE_NODE)
		engine_rules_changed(engine);
	engine_cluster_changed(engine);
}

void engine_set_synced(struct engine *engine)
{
	if (engine->synced)
		return;
	balancer_review(engine);
	engine->synced = true;
	sd_event_source_set_enabled(engine->state_wait, SD_EVENT_OFF);
	segments_review(engine);
	engine_cluster_changed(engine);
	engine_rules_changed(engine);
}

static void set_api(struct engine *engine, bool reachable)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_API_CONTACT,
					      .reachable = reachable };

	if (engine->api_reachable != reachable)
		log_line(reachable ? LOG_NOTICE : LOG_WARNING,
			 reachable ? BASE_REASON_API_REACHABLE : BASE_REASON_API_UNREACHABLE,
			 LOG_NO_FIELDS, "%s",
			 reachable ? "the API server answers"
				   : "the API server does not answer: VRRP alone decides");
	engine->api_reachable = reachable;
	for (struct router *router = engine->routers; router; router = router->next) {
		event.now_us = engine_now(engine);
		router_feed(router, &event);
	}
}

static void on_settings(struct engine *engine, const struct message_settings *settings)
{
	if (engine->maintenance == settings->maintenance && engine->excluded == settings->excluded)
		return;
	engine->maintenance = settings->maintenance;
	engine->excluded = settings->excluded;
	log_line(LOG_NOTICE, BASE_REASON_MAINTENANCE, LOG_NO_FIELDS, "maintenance %s, excluded %s",
		 settings->maintenance ? "begins" : "is off", settings->excluded ? "yes" : "no");
	engine_cluster_changed(engine);
}

static void on_order(struct engine *engine, const struct message_order *order)
{
	struct virtual_router_event event = { .type = VIRTUAL_ROUTER_EVENT_HANDOVER };
	struct router *router = engine_router_named(engine, order->router);

	if (!router || order->order != MESSAGE_ORDER_HANDOVER)
		return;
	event.now_us = engine_now(engine);
	snprintf(event.order.node, sizeof event.order.node, "%s", order->node);
	event.order.why = (enum base_reason)order->reason;
	router_feed(router, &event);
}

static void on_message(void *userdata, const struct message *message)
{
	struct engine *engine = userdata;
	struct router *router;

	switch (message->type) {
	case MESSAGE_HELLO:
		log_line(LOG_INFO, BASE_REASON_STARTED, LOG_NO_FIELDS, "%s is there",
			 message->hello.program);
		return;
	case MESSAGE_SYNC_BEGIN:
		store_sync_begin(engine->store);
		return;
	case MESSAGE_SYNC_END:
		store_sync_end(engine->store);
		engine_set_synced(engine);
		engine_state_save_later(engine);
		return;
	case MESSAGE_NODE:
	case MESSAGE_ROUTER:
	case MESSAGE_SERVICE_PORT:
		if (store_put(engine->store, message) < 0)
			log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
				 "out of memory: a wish is not carried out");
		engine_state_save_later(engine);
		return;
	case MESSAGE_REMOVE:
		store_remove(engine->store, &message->remove);
		engine_state_save_later(engine);
		return;
	case MESSAGE_LEASE:
		router = engine_router_named(engine, message->lease.router);
		if (router)
			router_lease(router, &message->lease);
		return;
	case MESSAGE_LEASE_RESULT:
		engine->counts.lease_results[message->lease_result.result]++;
		router = engine_router_named(engine, message->lease_result.lease.router);
		if (router)
			router_lease_result(router, &message->lease_result);
		return;
	case MESSAGE_API_CONTACT:
		set_api(engine, message->api_contact.reachable);
		return;
	case MESSAGE_ORDER:
		on_order(engine, &message->order);
		return;
	case MESSAGE_FAULT:
		fault_begin(engine->fault, &message->fault);
		return;
	case MESSAGE_PROBE:
		prober_start(engine->prober, &message->probe);
		return;
	case MESSAGE_SETTINGS:
		on_settings(engine, &message->settings);
		return;
	case MESSAGE_RENEWAL:
		for (router = engine->routers; router; router = router->next)
			router_renewed(router, message->renewal.node);
		return;
	case MESSAGE_LEASE_WRITE:
	case MESSAGE_LEASE_READ:
	case MESSAGE_ROUTER_STATUS:
	case MESSAGE_NODE_STATUS:
	case MESSAGE_TRANSITION:
	case MESSAGE_REFUSAL:
	case MESSAGE_SHUTDOWN:
	case MESSAGE_ALIVE:
	case MESSAGE_PROBE_RESULT:
	case MESSAGE_FAULT_REFUSED:
	case MESSAGE_TYPE_COUNT:
		log_line(LOG_WARNING, BASE_REASON_NONE, LOG_NO_FIELDS,
			 "the feeder said %s, which is not for it to say",
			 message_type_name(message->type));
		return;
	}
}

/* Its predecessor may have ended before it wrote down how we came to own what we own. */
static void tell_transitions(struct engine *engine)
{
	unsigned count = engine->transition_count;

	for (unsigned i = count > ENGINE_TRANSITIONS ? count - ENGINE_TRANSITIONS : 0; i < count;
	     i++) {
		unsigned at = i % ENGINE_TRANSITIONS;
		struct message *message = engine_message(MESSAGE_TRANSITION);

		if (strcmp(engine->transitions[at].to, engine->node) != 0)
			continue;
		message->transition = engine->transitions[at];
		message->transition.age_us =
			1 + base_usec_since(engine_now(engine), engine->transition_us[at]);
		engine_tell(engine, message);
	}
}

static void on_feeder_started(void *userdata)
{
	struct engine *engine = userdata;

	engine->counts.feeder_starts++;
	engine->told = 0;
	tell_transitions(engine);
	for (struct router *router = engine->routers; router; router = router->next) {
		router->told = 0;
		router_report(router);
	}
	engine_report_node(engine);
}

static void on_feeder_lost(void *userdata, const char *why)
{
	struct engine *engine = userdata;

	if (!engine->stopping)
		log_line(LOG_WARNING, BASE_REASON_AGENT_LOST, LOG_NO_FIELDS,
			 "the unprivileged half is gone: %s; addresses stay, it is started again",
			 why);
	if (engine->api_reachable)
		set_api(engine, false);
}

int engine_store_start(struct engine *engine)
{
	static const struct store_handlers handlers = { on_put, on_removed };

	return store_new(&engine->store, &handlers, engine);
}

int engine_feeder_start(struct engine *engine)
{
	static const struct feeder_handlers handlers = { on_message, on_feeder_started,
							 on_feeder_lost };

	return feeder_new(&engine->feeder, engine->event,
			  &(struct feeder_options){ .program = engine->options->feeder_program,
						    .argv = engine->options->feeder_argv,
						    .node = engine->node,
						    .counters = page_counters(engine->page),
						    .priority = ENGINE_PRIORITY_FEEDER },
			  &handlers, engine);
}
