#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/array.h"
#include "base/random.h"
#include "daemon/feed/set.h"
#include "daemon/feed/wishes.h"

/* What an engine would know: encoded messages by key. */
#define KNOWN_MAX 4096

struct engine {
	struct entry {
		char key[160];
		uint8_t *data;
		int size;
	} known[KNOWN_MAX];
	unsigned count, told, removed;
};

static uint8_t encoded[MESSAGE_SIZE_MAX];

static void key_of(const struct message *message, char key[static 160])
{
	char text[BASE_ADDRESS_TEXT_SIZE];

	switch ((int)message->type) {
	case MESSAGE_NODE:
		snprintf(key, 160, "node %s", message->node.name);
		return;
	case MESSAGE_ROUTER:
		snprintf(key, 160, "router %s", message->router.name);
		return;
	case MESSAGE_SERVICE_PORT:
		snprintf(key, 160, "port %s %u %u",
			 base_address_format(&message->service_port.address, text),
			 message->service_port.protocol, message->service_port.port);
		return;
	case MESSAGE_REMOVE:
		if (message->remove.kind == MESSAGE_KIND_SERVICE_PORT)
			snprintf(key, 160, "port %s %u %u",
				 base_address_format(&message->remove.address, text),
				 message->remove.protocol, message->remove.port);
		else
			snprintf(key, 160, "%s %s",
				 message->remove.kind == MESSAGE_KIND_NODE ? "node" : "router",
				 message->remove.name);
		return;
	default:
		fail_msg("type %d", message->type);
	}
}

static struct entry *find(struct engine *engine, const char *key)
{
	for (unsigned i = 0; i < engine->count; i++)
		if (strcmp(engine->known[i].key, key) == 0)
			return &engine->known[i];
	return NULL;
}

static int on_message(void *userdata, const struct message *message)
{
	struct engine *engine = userdata;
	struct entry *entry;
	char key[160];
	int size;

	key_of(message, key);
	entry = find(engine, key);
	if (message->type == MESSAGE_REMOVE) {
		assert_non_null(entry); /* only what was told is taken back */
		free(entry->data);
		*entry = engine->known[--engine->count];
		engine->removed++;
		return 0;
	}
	size = message_encode(message, encoded, sizeof encoded);
	assert_true(size > 0);
	/* Nothing is told that is known already. */
	assert_false(entry && entry->size == size && memcmp(entry->data, encoded, (size_t)size) == 0);
	if (!entry) {
		assert_true(engine->count < KNOWN_MAX);
		entry = &engine->known[engine->count++];
		memset(entry, 0, sizeof *entry);
		strcpy(entry->key, key);
	}
	free(entry->data);
	entry->data = malloc((size_t)size);
	entry->size = size;
	memcpy(entry->data, encoded, (size_t)size);
	engine->told++;
	return 0;
}

static struct engine *engine_new(void)
{
	return calloc(1, sizeof(struct engine));
}

static void engine_free(struct engine *engine)
{
	for (unsigned i = 0; i < engine->count; i++)
		free(engine->known[i].data);
	free(engine);
}

static void assert_same(struct engine *a, struct engine *b)
{
	for (unsigned i = 0; i < a->count; i++)
		if (!find(b, a->known[i].key))
			fail_msg("%s was not taken back", a->known[i].key);
	for (unsigned i = 0; i < b->count; i++) {
		const struct entry *entry = find(a, b->known[i].key);

		if (!entry)
			fail_msg("%s was not told", b->known[i].key);
		else if (entry->size != b->known[i].size ||
			 memcmp(entry->data, b->known[i].data, (size_t)entry->size) != 0)
			fail_msg("%s is out of date", b->known[i].key);
	}
}

/* --- a small world of objects --- */

#define NODES	 4
#define SERVICES 12
#define VIPS	 16
#define SLICES	 24

struct world {
	char *nodes[NODES], *services[SERVICES], *vips[VIPS], *slices[SLICES], *speakers[NODES];
};

static void put(struct wish_set *set, const char *kind, const char *text)
{
	cJSON *tree = cJSON_Parse(text);

	assert_non_null(tree);
	assert_true(wish_set_put(set, kind, tree) >= 0);
	cJSON_Delete(tree);
}

static char *format(const char *text, ...)
{
	va_list arguments;
	char *out;

	va_start(arguments, text);
	assert_true(vasprintf(&out, text, arguments) > 0);
	va_end(arguments);
	return out;
}

static unsigned below(struct base_random *random, unsigned bound)
{
	return (unsigned)base_random_below(random, bound);
}

static char *make_node(struct base_random *random, unsigned i)
{
	return format("{\"metadata\":{\"name\":\"n%u\",\"resourceVersion\":\"%u\"},\"status\":{"
		      "\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"192.0.2.%u\"}],"
		      "\"images\":[\"%u\"]}}",
		      i, below(random, 1000), 1 + i + 10 * below(random, 2), below(random, 1000));
}

static char *make_speaker(struct base_random *random, unsigned i)
{
	return format("{\"metadata\":{\"name\":\"n%u\"},\"status\":{\"owned\":%u,\"segments\":["
		      "{\"address\":\"198.51.100.%u\"}]}}",
		      i, below(random, 9), 1 + i + 10 * below(random, 2));
}

static char *make_service(struct base_random *random, unsigned i)
{
	return format("{\"metadata\":{\"name\":\"s%u\",\"namespace\":\"vms\",\"uid\":\"u%u\"},"
		      "\"spec\":{\"type\":\"%s\",\"ports\":[{\"name\":\"p\",\"port\":%u},{\"name\":"
		      "\"q\",\"port\":%u,\"protocol\":\"UDP\"}]},\"status\":{\"x\":%u}}",
		      i, i, below(random, 5) ? "LoadBalancer" : "ClusterIP", 22 + below(random, 2),
		      80 + below(random, 2), below(random, 1000));
}

/* Distinct addresses; several of them may share a virtual router. */
static char *make_vip(struct base_random *random, unsigned i)
{
	unsigned router = i % 8;

	return format("{\"metadata\":{\"name\":\"192.0.2.%u\"%s},\"spec\":{\"address\":\"192.0.2.%u\","
		      "\"pool\":\"lab\",\"virtualRouter\":\"lab.ipv4.%u\",\"virtualRouterID\":%u,"
		      "\"services\":[{\"namespace\":\"vms\",\"name\":\"s%u\"}],\"candidates\":[{"
		      "\"node\":\"n1\",\"priority\":%u}]},\"status\":{\"x\":%u}}",
		      100 + i,
		      below(random, 10) ? "" : ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"",
		      100 + i, 1 + router, 1 + router, below(random, SERVICES),
		      100 + below(random, 2), below(random, 1000));
}

static char *make_slice(struct base_random *random, unsigned i)
{
	return format("{\"metadata\":{\"name\":\"e%u\",\"namespace\":\"vms\",\"labels\":{"
		      "\"kubernetes.io/service-name\":\"s%u\"}},\"addressType\":\"IPv4\",\"ports\":[{"
		      "\"name\":\"p\",\"port\":%u}],\"endpoints\":[{\"addresses\":[\"10.244.1.%u\"],"
		      "\"conditions\":{\"ready\":%s},\"nodeName\":\"n1\"}]}",
		      i, below(random, SERVICES), 2200 + below(random, 2), 1 + below(random, 3),
		      below(random, 2) ? "true" : "false");
}

static void change(struct base_random *random, struct wish_set *set, char **slot,
		   const char *kind, const char *namespace, const char *name, char *made)
{
	free(*slot);
	*slot = NULL;
	if (below(random, 4) == 0) {
		wish_set_drop(set, kind, namespace, name);
		free(made);
		return;
	}
	*slot = made;
	put(set, kind, made);
}

static void change_one(struct base_random *random, struct world *world, struct wish_set *set)
{
	unsigned i;
	char name[32];

	switch (below(random, 5)) {
	case 0:
		i = below(random, NODES);
		snprintf(name, sizeof name, "n%u", i);
		change(random, set, &world->nodes[i], "Node", "", name, make_node(random, i));
		return;
	case 1:
		i = below(random, NODES);
		snprintf(name, sizeof name, "n%u", i);
		change(random, set, &world->speakers[i], "Speaker", "", name,
		       make_speaker(random, i));
		return;
	case 2:
		i = below(random, SERVICES);
		snprintf(name, sizeof name, "s%u", i);
		change(random, set, &world->services[i], "Service", "vms", name,
		       make_service(random, i));
		return;
	case 3:
		i = below(random, VIPS);
		snprintf(name, sizeof name, "192.0.2.%u", 100 + i);
		change(random, set, &world->vips[i], "VirtualIP", "", name, make_vip(random, i));
		return;
	default:
		i = below(random, SLICES);
		snprintf(name, sizeof name, "e%u", i);
		change(random, set, &world->slices[i], "EndpointSlice", "vms", name,
		       make_slice(random, i));
		return;
	}
}

static void put_all(struct wish_set *set, char **texts, unsigned count, const char *kind)
{
	for (unsigned i = 0; i < count; i++)
		if (texts[i])
			put(set, kind, texts[i]);
}

static void free_all(char **texts, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free(texts[i]);
}

static void test_after_any_changes_the_engine_knows_what_a_fresh_start_tells(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct base_random random = { seed };
		struct world world = { 0 };
		struct wish_set *set = wish_set_new(true);
		struct engine *engine = engine_new();

		for (int step = 0; step < 200; step++) {
			for (unsigned n = 1 + below(&random, 4); n; n--)
				change_one(&random, &world, set);
			assert_true(wish_set_emit_changes(set, on_message, engine) >= 0);
			assert_false(wish_set_due(set));
			if (step % 20 == 19) {
				struct wish_set *fresh = wish_set_new(true);
				struct engine *other = engine_new();

				put_all(fresh, world.slices, SLICES, "EndpointSlice");
				put_all(fresh, world.vips, VIPS, "VirtualIP");
				put_all(fresh, world.services, SERVICES, "Service");
				put_all(fresh, world.speakers, NODES, "Speaker");
				put_all(fresh, world.nodes, NODES, "Node");
				assert_true(wish_set_emit_changes(fresh, on_message, other) >= 0);
				assert_same(engine, other);
				engine_free(other);
				wish_set_free(fresh);
			}
		}
		assert_true(engine->told > 100);
		assert_true(engine->removed > 10);
		engine_free(engine);
		wish_set_free(set);
		free_all(world.nodes, NODES);
		free_all(world.speakers, NODES);
		free_all(world.services, SERVICES);
		free_all(world.vips, VIPS);
		free_all(world.slices, SLICES);
	}
}

static struct base_error last_error;

static void on_skipped(void *userdata, const struct base_error *error)
{
	(void)userdata;
	last_error = *error;
}

static const char vip_text[] =
	"{\"metadata\":{\"name\":\"192.0.2.10\"},\"spec\":{\"address\":\"192.0.2.10\",\"pool\":\"lab\","
	"\"virtualRouter\":\"lab.ipv4.10\",\"virtualRouterID\":%s,\"services\":[{\"namespace\":\"vms\","
	"\"name\":\"a\"},{\"namespace\":\"vms\",\"name\":\"b\"}],\"candidates\":[{\"node\":\"n1\","
	"\"priority\":100}],\"vrrp\":{\"mode\":\"unicast\",\"virtualMAC\":true},\"interfaces\":[\"eth1\"]}}";
static const char service_text[] =
	"{\"metadata\":{\"name\":\"%s\",\"namespace\":\"vms\"},\"spec\":{\"type\":\"LoadBalancer\","
	"\"ports\":[{\"name\":\"p\",\"port\":%d}]}}";

static void put_vip(struct wish_set *set, const char *id)
{
	char *text = format(vip_text, id);

	put(set, "VirtualIP", text);
	free(text);
}

static void put_service(struct wish_set *set, const char *name, int port)
{
	char *text = format(service_text, name, port);

	put(set, "Service", text);
	free(text);
}

static void test_a_bad_edit_keeps_what_was_said_before(void **state)
{
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();

	(void)state;
	wish_set_on_skipped(set, on_skipped, NULL);
	put_vip(set, "10");
	wish_set_emit_changes(set, on_message, engine);
	assert_non_null(find(engine, "router lab.ipv4.10"));
	memset(&last_error, 0, sizeof last_error);
	put_vip(set, "\"ten\"");
	wish_set_emit_changes(set, on_message, engine);
	assert_non_null(find(engine, "router lab.ipv4.10"));
	assert_int_equal(engine->removed, 0);
	assert_non_null(strstr(last_error.message, "VirtualIP 192.0.2.10: "));
	assert_non_null(strstr(last_error.message, "virtualRouterID"));
	wish_set_drop(set, "VirtualIP", "", "192.0.2.10");
	wish_set_emit_changes(set, on_message, engine);
	assert_int_equal(engine->count, 0);
	engine_free(engine);
	wish_set_free(set);
}

static const char *service_of(struct engine *engine, const char *key)
{
	static struct message message;
	const struct entry *entry = find(engine, key);

	assert_non_null(entry);
	assert_int_equal(message_decode(&message, entry->data, (size_t)entry->size), 0);
	return message.service_port.service;
}

static void test_of_two_services_with_one_port_the_first_keeps_it_until_it_goes(void **state)
{
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();

	(void)state;
	wish_set_on_skipped(set, on_skipped, NULL);
	put_vip(set, "10");
	put_service(set, "a", 22);
	wish_set_emit_changes(set, on_message, engine);
	memset(&last_error, 0, sizeof last_error);
	put_service(set, "b", 22);
	wish_set_emit_changes(set, on_message, engine);
	assert_string_equal(service_of(engine, "port 192.0.2.10 6 22"), "vms/a");
	assert_non_null(strstr(last_error.message, "vms/b"));
	wish_set_drop(set, "Service", "vms", "a");
	wish_set_emit_changes(set, on_message, engine);
	assert_string_equal(service_of(engine, "port 192.0.2.10 6 22"), "vms/b");
	/* And in one go: one takes over what the other drops, without a moment without it. */
	engine->removed = 0;
	put_service(set, "b", 23);
	put_service(set, "a", 22);
	wish_set_emit_changes(set, on_message, engine);
	assert_string_equal(service_of(engine, "port 192.0.2.10 6 22"), "vms/a");
	assert_string_equal(service_of(engine, "port 192.0.2.10 6 23"), "vms/b");
	assert_int_equal(engine->removed, 0);
	engine_free(engine);
	wish_set_free(set);
}

static void test_what_a_virtual_ip_says_reaches_the_router(void **state)
{
	static struct message message;
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();
	const struct entry *entry;

	(void)state;
	put_vip(set, "10");
	wish_set_emit_changes(set, on_message, engine);
	entry = find(engine, "router lab.ipv4.10");
	assert_non_null(entry);
	assert_int_equal(message_decode(&message, entry->data, (size_t)entry->size), 0);
	assert_true(message.router.leased);
	assert_true(message.router.unicast);
	assert_true(message.router.virtual_mac);
	assert_int_equal(message.router.virtual_router_id, 10);
	assert_int_equal(message.router.interface_count, 1);
	assert_string_equal(message.router.services, "vms/a,vms/b");
	assert_string_equal(message.router.candidates[0].node, "n1");
	engine_free(engine);
	wish_set_free(set);
}

static void test_of_more_names_than_fit_the_first_ones_are_said(void **state)
{
	static const struct {
		const char *before, *name, *after;
	} rows[] = {
		{ "", "a", "vms/a" },
		{ "vms/a", "b", "vms/a,vms/b" },
		{ "vms/first-of-all", "bc", "vms/first-of-all,..." },
		{ "vms/first-of-all,...", "b", "vms/first-of-all,..." },
		{ "", "as-long-as-it-may-be", "vms/as-long-as-it-may-be" },
		{ "vms/as-long-as-it-may", "b", "vms/as-long-as-it-may" },
	};
	char names[25];

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		snprintf(names, sizeof names, "%s", rows[i].before);
		translate_service_name("vms", rows[i].name, names, sizeof names);
		assert_string_equal(names, rows[i].after);
	}
}

static void test_a_change_without_meaning_is_no_change(void **state)
{
	struct wish_set *set = wish_set_new(true);
	cJSON *tree = cJSON_Parse("{\"metadata\":{\"name\":\"n1\",\"resourceVersion\":\"1\"},\"status\":{"
				  "\"addresses\":[]}}");

	(void)state;
	assert_int_equal(wish_set_put(set, "Node", tree), 1);
	cJSON_ReplaceItemInObject(cJSON_GetObjectItem(tree, "metadata"), "resourceVersion",
				  cJSON_CreateString("2"));
	assert_int_equal(wish_set_put(set, "Node", tree), 0);
	cJSON_Delete(tree);
	wish_set_free(set);
}

static char touched[64];

static void on_endpoints(void *userdata, const char *virtual_ip)
{
	(void)userdata;
	snprintf(touched, sizeof touched, "%s", virtual_ip);
}

static void test_the_last_endpoint_that_goes_is_told(void **state)
{
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();
	static const char slice[] =
		"{\"metadata\":{\"name\":\"e\",\"namespace\":\"vms\",\"labels\":{"
		"\"kubernetes.io/service-name\":\"a\"}},\"ports\":[{\"name\":\"p\",\"port\":2200}],"
		"\"endpoints\":[{\"addresses\":[\"10.244.1.1\"],\"conditions\":{\"ready\":true}}]}";

	(void)state;
	wish_set_on_endpoints(set, on_endpoints, NULL);
	put_vip(set, "10");
	put_service(set, "a", 22);
	wish_set_emit_changes(set, on_message, engine);
	assert_false(wish_set_available(set, "vms", "a"));
	put(set, "EndpointSlice", slice);
	wish_set_emit_changes(set, on_message, engine);
	assert_true(wish_set_available(set, "vms", "a"));
	assert_string_equal(touched, "192.0.2.10");
	touched[0] = '\0';
	wish_set_drop(set, "EndpointSlice", "vms", "e");
	wish_set_emit_changes(set, on_message, engine);
	assert_false(wish_set_available(set, "vms", "a"));
	assert_string_equal(touched, "192.0.2.10");
	engine_free(engine);
	wish_set_free(set);
}

/* --- attached networks --- */

static void put_attached(struct wish_set *set, const char *network)
{
	char *service = format(
		"{\"metadata\":{\"name\":\"a\",\"namespace\":\"vms\",\"annotations\":{"
		"\"vipd.dev/network\":\"%s\"}},\"spec\":{\"type\":\"LoadBalancer\",\"selector\":{"
		"\"vmi.kubevirt.io/id\":\"db\"},\"ports\":[{\"name\":\"p\",\"port\":22,\"targetPort\":2222}]}}",
		network);

	put(set, "VirtualIP",
	    "{\"metadata\":{\"name\":\"192.0.2.10\"},\"spec\":{\"address\":\"192.0.2.10\",\"pool\":\"lab\","
	    "\"virtualRouter\":\"lab.ipv4.10\",\"virtualRouterID\":10,\"services\":[{\"namespace\":\"vms\","
	    "\"name\":\"a\"}],\"attachedNetworks\":[{\"network\":\"vms/lan\",\"ranges\":[\"10.50.0.0/16\","
	    "\"10.60.0.0/16\"]}]}}");
	put(set, "Service", service);
	free(service);
}

/* `addresses`: JSON, of the interface on vms/lan; its first interface is the pod network's. */
static void put_vm(struct wish_set *set, const char *name, const char *phase, const char *addresses)
{
	char *vm = format(
		"{\"metadata\":{\"name\":\"%s\",\"namespace\":\"vms\",\"labels\":{\"a\":\"b\"}},\"spec\":{\"networks\":["
		"{\"name\":\"default\",\"pod\":{}},{\"name\":\"second\",\"multus\":{\"networkName\":\"lan\"}}]},"
		"\"status\":{\"phase\":\"%s\",\"nodeName\":\"n3\",\"interfaces\":[{\"name\":\"default\","
		"\"ipAddress\":\"10.50.0.99\"},{\"name\":\"second\",\"mac\":\"02:00:00:00:00:99\",%s}]}}",
		name, phase, addresses);

	put(set, "VirtualMachineInstance", vm);
	free(vm);
}

static const struct message_service_port *port_named(struct wish_set *set, struct engine *engine, const char *name)
{
	static struct message message;
	struct entry *entry;

	wish_set_emit_changes(set, on_message, engine);
	entry = find(engine, name);
	assert_non_null(entry);
	assert_int_equal(message_decode(&message, entry->data, (size_t)entry->size), 0);
	return &message.service_port;
}

static const struct message_service_port *port_of(struct wish_set *set, struct engine *engine)
{
	return port_named(set, engine, "port 192.0.2.10 6 22");
}

static void test_an_address_on_an_attached_network_is_what_the_vm_reports_and_the_pool_allows(void **state)
{
	static const struct {
		const char *phase, *addresses, *wanted, *remark;
	} rows[] = {
		{ "Running", "\"ipAddress\":\"10.50.0.7\"", "10.50.0.7", "" },
		{ "Running", "\"ipAddress\":\"10.60.200.8\"", "10.60.200.8", "" }, /* booted again */
		{ "Running", "\"ipAddresses\":[\"fe80::1\",\"203.0.113.9\",\"10.50.0.8\"]", "10.50.0.8", "" },
		{ "Running", "\"ipAddresses\":[\"203.0.113.9\",\"fe80::1\"]", NULL,
		  "VM db reports 203.0.113.9 on network vms/lan, which is in no range that pool lab allows" },
		{ "Running", "\"ipAddress\":\"10.51.0.1\"", NULL, "VM db reports 10.51.0.1" },
		{ "Running", "\"ipAddresses\":[]", NULL, "VM db reports no IPv4 address on network vms/lan" },
		{ "Running", "\"ipAddresses\":[7,\"\",\"nonsense\"]", NULL, "VM db reports no IPv4 address" },
		{ "Running", "\"ipAddress\":\"10.50.0.7\"", "10.50.0.7", "" },
		{ "Succeeded", "\"ipAddress\":\"10.50.0.7\"", NULL, "" },
	};
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();

	(void)state;
	assert_false(wish_set_wants_vms(set));
	wish_set_on_endpoints(set, on_endpoints, NULL);
	put_attached(set, "vms/lan");
	assert_true(wish_set_wants_vms(set));
	put_vm(set, "other", "Running", "\"ipAddress\":\"10.50.0.55\""); /* of another VM */
	/* The pod network's endpoint is none now. */
	put(set, "EndpointSlice",
	    "{\"metadata\":{\"name\":\"e\",\"namespace\":\"vms\",\"labels\":{\"kubernetes.io/service-name\":\"a\"}},"
	    "\"ports\":[{\"name\":\"p\",\"port\":2222}],\"endpoints\":[{\"addresses\":[\"10.244.1.1\"]}]}");
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		const struct message_service_port *port;
		char text[BASE_ADDRESS_TEXT_SIZE];

		touched[0] = '\0';
		put_vm(set, "db", rows[i].phase, rows[i].addresses);
		port = port_of(set, engine);
		assert_int_equal(port->endpoint_count, rows[i].wanted != NULL);
		assert_int_equal(wish_set_available(set, "vms", "a"), rows[i].wanted != NULL);
		assert_memory_equal(wish_set_remark(set, "vms", "a"), rows[i].remark, strlen(rows[i].remark));
		assert_int_equal(*wish_set_remark(set, "vms", "a") != '\0', *rows[i].remark != '\0');
		if (i != 1 && i != 2 && i != 6)
			assert_string_equal(touched, "192.0.2.10"); /* its condition is another one now */
		if (!rows[i].wanted)
			continue;
		assert_string_equal(base_address_format(&port->endpoints[0].address, text), rows[i].wanted);
		assert_string_equal(port->endpoints[0].node, "n3");
		assert_int_equal(port->endpoints[0].port, 2222);
		assert_true(port->endpoints[0].attached);
		assert_true(port->endpoints[0].vm != 0);
	}
	wish_set_drop(set, "VirtualMachineInstance", "vms", "db");
	assert_int_equal(port_of(set, engine)->endpoint_count, 0);
	/* A name alone is one of the Service's namespace; another network is not allowed. */
	put_vm(set, "db", "Running", "\"ipAddress\":\"10.50.0.7\"");
	put_attached(set, "lan");
	assert_int_equal(port_of(set, engine)->endpoint_count, 1);
	put_attached(set, "others/lan");
	assert_int_equal(port_of(set, engine)->endpoint_count, 0);
	assert_string_equal(wish_set_remark(set, "vms", "a"),
			    "network others/lan is not among spec.attachedNetworks of pool lab");
	engine_free(engine);
	wish_set_free(set);
}

/* Of several, that of its MAC: temporary addresses change every day, and are named in any order. */
static void test_an_ipv6_address_on_an_attached_network_is_one_that_stays(void **state)
{
	static const struct {
		const char *addresses, *wanted;
	} rows[] = {
		{ "\"ipAddresses\":[\"fe80::ff:fe00:99\",\"fd50::dead:1\"]", "fd50::dead:1" },
		{ "\"ipAddresses\":[\"fd50::dead:1\",\"fd50::ff:fe00:99\"]", "fd50::ff:fe00:99" },
		{ "\"ipAddresses\":[\"fd50::ff:fe00:99\",\"fd50::dead:2\"]", "fd50::ff:fe00:99" },
		{ "\"ipAddresses\":[\"fd99::ff:fe00:99\",\"fd50::dead:2\",\"fd50::dead:1\"]", "fd50::dead:2" },
		{ "\"ipAddresses\":[\"10.50.0.7\",\"fd50::ff:fe00:98\"]", "fd50::ff:fe00:98" },
		{ "\"ipAddresses\":[\"fd99::ff:fe00:99\"]", NULL },
		{ "\"ipAddresses\":[\"fe80::ff:fe00:99\"]", NULL },
	};
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();

	(void)state;
	put_attached(set, "vms/lan");
	put(set, "VirtualIP",
	    "{\"metadata\":{\"name\":\"six\"},\"spec\":{\"address\":\"2001:db8::10\",\"pool\":\"lab\","
	    "\"virtualRouter\":\"lab.ipv6.16\",\"virtualRouterID\":16,\"services\":[{\"namespace\":\"vms\","
	    "\"name\":\"a\"}],\"attachedNetworks\":[{\"network\":\"vms/lan\",\"ranges\":[\"fd50::/64\",\"fe80::/10\"]}]}}");
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		const struct message_service_port *port;
		char text[BASE_ADDRESS_TEXT_SIZE];

		put_vm(set, "db", "Running", rows[i].addresses);
		port = port_named(set, engine, "port 2001:db8::10 6 22");
		assert_int_equal(port->endpoint_count, rows[i].wanted != NULL);
		if (rows[i].wanted)
			assert_string_equal(base_address_format(&port->endpoints[0].address, text), rows[i].wanted);
	}
	engine_free(engine);
	wish_set_free(set);
}

/* KubeVirt's pods of one VM share their name but for its generated end; what is no VM's has no number. */
static void test_the_pods_of_one_vm_have_its_number(void **state)
{
	static const char text[] =
		"{\"metadata\":{\"name\":\"e\",\"namespace\":\"vms\",\"labels\":{"
		"\"kubernetes.io/service-name\":\"a\"}},\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"p\","
		"\"port\":2222}],\"endpoints\":[{\"addresses\":[\"10.244.1.5\"],\"targetRef\":{\"name\":\"%s\"}},{"
		"\"addresses\":[\"10.244.2.5\"],\"conditions\":{\"ready\":false},\"targetRef\":{\"name\":"
		"\"%s\"}}]}";
	static const struct {
		const char *from, *to;
		bool same, vm;
	} rows[] = {
		{ "virt-launcher-db-x7k2p", "virt-launcher-db-b9dfc", true, true },
		{ "virt-launcher-db-0-x7k2p", "virt-launcher-db-1-b9dfc", false, true },
		{ "virt-launcher-db", "virt-launcher-db", true, true },
		{ "virt-launcher-web01", "virt-launcher-web02", false, true }, /* no generated end */
		{ "virt-launcher-x7k2p", "virt-launcher-b9dfc", false, true }, /* it would be all of the name */
		{ "virt-launcher-", "virt-launcher-db-b9dfc", false, true },
		{ "web-6d4cf56db6-x7k2p", "web-6d4cf56db6-b9dfc", true, false },
		{ "", "", true, false },
	};
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();

	(void)state;
	put_vip(set, "10");
	put_service(set, "a", 22);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		static struct message message;
		const struct message_service_port *port = &message.service_port;
		char *slice = format(text, rows[i].from, rows[i].to);
		struct entry *entry;

		put(set, "EndpointSlice", slice);
		free(slice);
		wish_set_emit_changes(set, on_message, engine);
		entry = find(engine, "port 192.0.2.10 6 22");
		assert_non_null(entry);
		assert_int_equal(message_decode(&message, entry->data, (size_t)entry->size), 0);
		assert_int_equal(port->endpoint_count, 1);
		assert_int_equal(port->prepared_count, 1);
		assert_int_equal(port->endpoints[0].vm != 0, rows[i].vm);
		assert_int_equal(port->endpoints[0].vm == port->prepared[0].vm, rows[i].same);
	}
	engine_free(engine);
	wish_set_free(set);
}

/* Annotation vipd.dev/all-ports: one more port, number 0 of every protocol; not on a shared address. */
static void test_every_port_of_an_address_is_one_wish_more(void **state)
{
	static const char text[] =
		"{\"metadata\":{\"name\":\"a\",\"namespace\":\"vms\",\"annotations\":{%s}},\"spec\":{"
		"\"type\":\"LoadBalancer\",\"ports\":[{\"name\":\"p\",\"port\":22}],"
		"\"loadBalancerSourceRanges\":[\"198.51.100.0/24\"]}}";
	static const char slice[] =
		"{\"metadata\":{\"name\":\"e\",\"namespace\":\"vms\",\"labels\":{"
		"\"kubernetes.io/service-name\":\"a\"}},\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"p\","
		"\"port\":2222}],\"endpoints\":[{\"addresses\":[\"10.244.3.5\"],\"nodeName\":\"n3\"}]}";
	static const struct {
		const char *annotations;
		bool wished;
	} rows[] = {
		{ "\"vipd.dev/all-ports\":\"true\"", true },
		{ "\"vipd.dev/all-ports\":\"false\"", false },
		{ "\"vipd.dev/all-ports\":\"true\",\"vipd.dev/sharing-key\":\"x\"", false },
		{ "\"vipd.dev/all-ports\":\"true\",\"other\":\"x\"", true },
		{ "", false },
	};
	struct wish_set *set = wish_set_new(true);
	struct engine *engine = engine_new();

	(void)state;
	put_vip(set, "10");
	put(set, "EndpointSlice", slice);
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		static struct message message;
		char *service = format(text, rows[i].annotations);
		const struct entry *entry;

		put(set, "Service", service);
		free(service);
		wish_set_emit_changes(set, on_message, engine);
		assert_non_null(find(engine, "port 192.0.2.10 6 22"));
		entry = find(engine, "port 192.0.2.10 255 0");
		assert_int_equal(entry != NULL, rows[i].wished);
		if (!entry)
			continue;
		assert_int_equal(message_decode(&message, entry->data, (size_t)entry->size), 0);
		assert_int_equal(message.service_port.endpoint_count, 1);
		assert_int_equal(message.service_port.endpoints[0].port, 0);
		assert_string_equal(message.service_port.endpoints[0].node, "n3");
		assert_int_equal(message.service_port.range_count, 1);
	}
	engine_free(engine);
	wish_set_free(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_after_any_changes_the_engine_knows_what_a_fresh_start_tells),
		cmocka_unit_test(test_a_bad_edit_keeps_what_was_said_before),
		cmocka_unit_test(test_of_two_services_with_one_port_the_first_keeps_it_until_it_goes),
		cmocka_unit_test(test_what_a_virtual_ip_says_reaches_the_router),
		cmocka_unit_test(test_of_more_names_than_fit_the_first_ones_are_said),
		cmocka_unit_test(test_a_change_without_meaning_is_no_change),
		cmocka_unit_test(test_the_last_endpoint_that_goes_is_told),
		cmocka_unit_test(test_the_pods_of_one_vm_have_its_number),
		cmocka_unit_test(
			test_an_address_on_an_attached_network_is_what_the_vm_reports_and_the_pool_allows),
		cmocka_unit_test(test_an_ipv6_address_on_an_attached_network_is_one_that_stays),
		cmocka_unit_test(test_every_port_of_an_address_is_one_wish_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
