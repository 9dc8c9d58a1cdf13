#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/controller/pool.h"
#include "daemon/controller/state.h"
#include "k8s/object.h"

/* The rest of the state: pools, namespaces, nodes, and how all of it becomes an ipam. */

struct pool *state_pool(struct state *state, const char *name)
{
	struct pool *pool = TABLE_OF(table_find(&state->pools, name), struct pool, entry);

	return pool && pool->exists ? pool : NULL;
}

static void feed_pool(struct state *state, struct pool *pool)
{
	struct base_error error = { 0 };
	struct pool_spec spec;
	cJSON *tree = cJSON_CreateObject(), *metadata;
	int r;

	metadata = cJSON_AddObjectToObject(tree, "metadata");
	cJSON_AddStringToObject(metadata, "name", pool->name);
	cJSON_AddItemReferenceToObject(tree, "spec", pool->spec);
	r = pool_spec_read(&spec, tree, &error);
	if (r >= 0) {
		spec.pool.leap = (uint8_t)base_hash(pool->uid, strlen(pool->uid));
		r = ipam_pool_put(state->ipam, &spec.pool, &error);
		pool_spec_clear(&spec);
	}
	cJSON_Delete(tree);
	snprintf(pool->problem, sizeof pool->problem, "%s",
		 r >= 0             ? ""
		 : error.message[0] ? error.message
				    : strerror(-r));
}

static struct pool *make_pool(struct state *state, const char *name)
{
	struct pool *pool = TABLE_OF(table_find(&state->pools, name), struct pool, entry);

	if (pool)
		return pool;
	pool = calloc(1, sizeof *pool);
	if (!pool)
		return NULL;
	pool->work.kind = WORK_POOL;
	pool->name = strdup(name);
	if (!pool->name || table_add(&state->pools, &pool->entry, pool->name) < 0) {
		free(pool->name);
		free(pool);
		return NULL;
	}
	return pool;
}

/* What its VirtualIPs copy of a pool changed, or what it counts. */
static void mark_vips(struct state *state, const char *pool)
{
	TABLE_EACH(&state->vips, entry) {
		struct vip *vip = TABLE_OF(entry, struct vip, entry);

		if (!pool || strcmp(vip->pool, pool) == 0)
			queue_mark(&state->queue, &vip->work);
	}
}

/* Another pool overlaps, or does no more. */
static void mark_pools(struct state *state)
{
	TABLE_EACH(&state->pools, entry)
		queue_mark(&state->queue, &TABLE_OF(entry, struct pool, entry)->work);
}

void state_put_pool(struct state *state, const cJSON *object, enum state_origin origin)
{
	struct pool *pool = make_pool(state, k8s_object_text(object, "metadata/name"));
	const cJSON *spec = k8s_object_get(object, "spec");
	const cJSON *status = k8s_object_get(object, "status");
	const char *version = k8s_object_text(object, "metadata/resourceVersion");
	bool changed;

	if (!pool || state_is_stale(&pool->work, pool->exists, pool->version, object, origin))
		return;
	changed = !pool->exists || !cJSON_Compare(pool->spec, spec, true);
	snprintf(pool->uid, sizeof pool->uid, "%s", k8s_object_text(object, "metadata/uid"));
	snprintf(pool->version, sizeof pool->version, "%s", version);
	pool->generation = k8s_object_number(object, "metadata/generation", 0, INT64_MAX, 0);
	pool->exists = true;
	cJSON_Delete(pool->status);
	pool->status = status ? cJSON_Duplicate(status, true) : NULL;
	pool_noted_read(&pool->noted, status);
	if (changed) {
		cJSON_Delete(pool->spec);
		pool->spec = spec ? cJSON_Duplicate(spec, true) : cJSON_CreateObject();
	}
	if (changed && state->ipam) {
		feed_pool(state, pool);
		state->retry = true;
		mark_vips(state, pool->name);
		mark_pools(state);
	}
	queue_mark(&state->queue, &pool->work);
}

static void clear_pool(struct pool *pool)
{
	cJSON_Delete(pool->spec);
	cJSON_Delete(pool->status);
	pool->spec = pool->status = NULL;
	pool_noted_clear(&pool->noted);
	pool->exists = pool->urgent = false;
	pool->problem[0] = '\0';
}

void state_drop_pool(struct state *state, const char *name)
{
	struct pool *pool = TABLE_OF(table_find(&state->pools, name), struct pool, entry);

	if (!pool)
		return;
	pool->work.gone |= pool->work.busy;
	pool->work.answered[0] = '\0';
	clear_pool(pool); /* the entry stays: a request for it may be under way */
	if (!state->ipam)
		return;
	ipam_pool_remove(state->ipam, name);
	state->retry = true;
	mark_vips(state, name);
	mark_pools(state);
}

/* --- namespaces --- */

void state_put_namespace(struct state *state, const cJSON *object)
{
	const char *name = k8s_object_text(object, "metadata/name");
	const cJSON *labels = k8s_object_get(object, "metadata/labels");
	struct space *space = TABLE_OF(table_find(&state->spaces, name), struct space, entry);

	if (!space) {
		space = calloc(1, sizeof *space);
		if (!space)
			return;
		space->name = strdup(name);
		if (!space->name || table_add(&state->spaces, &space->entry, space->name) < 0) {
			free(space->name);
			free(space);
			return;
		}
	}
	if (cJSON_Compare(space->labels, labels, true))
		return;
	cJSON_Delete(space->labels);
	space->labels = labels ? cJSON_Duplicate(labels, true) : NULL;
	state->retry = true;
}

static void free_space(struct state *state, struct space *space)
{
	table_remove(&state->spaces, &space->entry);
	cJSON_Delete(space->labels);
	free(space->name);
	free(space);
}

void state_drop_namespace(struct state *state, const char *name)
{
	struct space *space = TABLE_OF(table_find(&state->spaces, name), struct space, entry);

	if (space)
		free_space(state, space);
}

/* --- nodes --- */

static void feed_node(struct state *state, const struct node *node)
{
	struct ipam_range ranges[NODE_ADDRESSES_MAX];
	char who[300];

	snprintf(who, sizeof who, "Node %s", node->name);
	ipam_taken_put(state->ipam, who, BASE_REASON_ADDRESS_IN_USE, NULL,
		       node_addresses(node, ranges), ranges);
}

static void node_changed(struct state *state, struct node *node)
{
	calm_note(&node->calm, node_is_up(node), state->queue.now_us);
	if (!state->ipam)
		return;
	feed_node(state, node);
	state->retry = true;
	mark_vips(state, NULL);
}

void state_put_node(struct state *state, const cJSON *object)
{
	struct node *node = nodes_make(&state->nodes, k8s_object_text(object, "metadata/name"));

	if (node && node_set_object(node, object))
		node_changed(state, node);
}

void state_drop_node(struct state *state, const char *name)
{
	struct node *node = nodes_find(&state->nodes, name);

	if (node && node_set_object(node, NULL))
		node_changed(state, node);
}

void state_put_speaker(struct state *state, const cJSON *object)
{
	struct node *node = nodes_make(&state->nodes, k8s_object_text(object, "metadata/name"));

	if (node && node_set_speaker(node, object))
		node_changed(state, node);
}

void state_drop_speaker(struct state *state, const char *name)
{
	struct node *node = nodes_find(&state->nodes, name);

	if (node && node_set_speaker(node, NULL))
		node_changed(state, node);
}

/* --- OpenShift --- */

static void feed_openshift(struct state *state)
{
	const struct openshift *openshift = &state->openshift;

	ipam_taken_put(state->ipam, "OpenShift (apiServerInternalIPs)", BASE_REASON_ADDRESS_IN_USE,
		       NULL, openshift->api_count, openshift->api);
	ipam_taken_put(state->ipam, "OpenShift (ingressIPs)", BASE_REASON_ADDRESS_IN_USE, NULL,
		       openshift->ingress_count, openshift->ingress);
	ipam_taken_put(state->ipam, "OpenShift (externalIP.autoAssignCIDRs)",
		       BASE_REASON_ADDRESS_IN_USE, NULL, openshift->assigned_count,
		       openshift->assigned);
}

static void openshift_changed(struct state *state, bool changed)
{
	if (!changed || !state->ipam)
		return;
	feed_openshift(state);
	state->retry = true;
	mark_vips(state, NULL);
	mark_pools(state);
	TABLE_EACH(&state->claims, entry)
		queue_mark(&state->queue, &TABLE_OF(entry, struct claim, entry)->work);
}

void state_put_infrastructure(struct state *state, const cJSON *object)
{
	openshift_changed(state, openshift_put_infrastructure(&state->openshift, object));
}

void state_put_network(struct state *state, const cJSON *object)
{
	openshift_changed(state, openshift_put_network(&state->openshift, object));
}

/* --- signs of life --- */

#define SIGN_PREFIX "speaker-"

static struct node *node_of_sign(struct state *state, const char *lease)
{
	return strncmp(lease, SIGN_PREFIX, strlen(SIGN_PREFIX)) == 0
		       ? nodes_make(&state->nodes, lease + strlen(SIGN_PREFIX))
		       : NULL;
}

void state_put_sign(struct state *state, const cJSON *object, uint64_t now_us)
{
	struct node *node = node_of_sign(state, k8s_object_text(object, "metadata/name"));
	const char *version = k8s_object_text(object, "metadata/resourceVersion");

	if (!node || (node->signs && strcmp(node->sign, version) == 0))
		return;
	node->work.kind = WORK_SPEAKER;
	node->signs = true;
	node->forgotten = false;
	node->sign_us = now_us;
	node->duration_us =
		(uint64_t)k8s_object_number(object, "spec/leaseDurationSeconds", 1, 3600, 30) *
		BASE_USEC_PER_SEC;
	snprintf(node->sign, sizeof node->sign, "%s", version);
	if (node_set_silent(node, false))
		node_changed(state, node);
	queue_mark(&state->queue, &node->work);
}

void state_drop_sign(struct state *state, const char *lease)
{
	struct node *node = node_of_sign(state, lease);

	if (node)
		node->signs = false; /* by hand: nothing can be said of it */
}

void state_node_silent(struct state *state, struct node *node)
{
	if (node_set_silent(node, true))
		node_changed(state, node);
}

void state_node_forgotten(struct state *state, struct node *node)
{
	if (node->forgotten)
		return;
	node->forgotten = true;
	mark_vips(state, NULL);
}

/* --- EndpointSlices --- */

static bool mark_record(void *userdata, const struct ipam_record *record)
{
	struct state *state = userdata;
	struct vip *vip = state_vip(state, &record->address);

	if (vip)
		queue_mark(&state->queue, &vip->work);
	return true;
}

static void endpoints_changed(struct state *state, const char *service)
{
	struct claim *claim =
		service ? TABLE_OF(table_find(&state->claims, service), struct claim, entry) : NULL;
	struct ipam_name name;

	if (!claim || !claim->exists || !claim->service.local_only || !state->ipam)
		return;
	name = (struct ipam_name){ claim->service.namespace, claim->service.name };
	ipam_record_each_of(state->ipam, &name, mark_record, state);
}

void state_put_slice(struct state *state, const cJSON *object)
{
	endpoints_changed(state, endpoints_put(&state->endpoints, object));
}

void state_drop_slice(struct state *state, const char *namespace, const char *name)
{
	endpoints_changed(state, endpoints_drop(&state->endpoints, namespace, name));
}

void state_slices_known(struct state *state)
{
	state->slices_known = true;
	if (state->ipam)
		mark_vips(state, NULL);
}

/* --- from objects to ipam --- */

static void feed_quarantine(struct state *state, const struct pool *pool, uint64_t wall_us)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(pool->status, "quarantine")) {
		struct ipam_quarantine quarantine = { .pool = pool->name };
		char service[2 * IPAM_NAME_SIZE], *slash;

		snprintf(service, sizeof service, "%s", k8s_object_text(item, "service"));
		slash = strchr(service, '/');
		if (slash)
			*slash = '\0';
		quarantine.service.namespace = service;
		quarantine.service.name = slash ? slash + 1 : "";
		if (base_address_parse(k8s_object_text(item, "address"), &quarantine.address) &&
		    k8s_time_parse(k8s_object_text(item, "until"), &quarantine.until_us))
			ipam_quarantine_put(state->ipam, &quarantine, wall_us);
	}
}

int state_activate(struct state *state, uint64_t wall_us, uint64_t now_us)
{
	state_deactivate(state);
	state->ipam = ipam_new();
	if (!state->ipam)
		return -ENOMEM;
	TABLE_EACH(&state->pools, entry) {
		struct pool *pool = TABLE_OF(entry, struct pool, entry);

		if (!pool->exists)
			continue;
		feed_pool(state, pool);
		queue_mark(&state->queue, &pool->work);
	}
	TABLE_EACH(&state->nodes.table, entry) {
		struct node *node = TABLE_OF(entry, struct node, entry);

		feed_node(state, node);
		/* While this process could not reach the server, neither could they, perhaps. */
		node->sign_us = now_us;
		if (node->signs)
			queue_mark(&state->queue, &node->work);
	}
	feed_openshift(state);
	TABLE_EACH(&state->claims, entry) {
		struct claim *claim = TABLE_OF(entry, struct claim, entry);

		if (claim->exists)
			state_feed_service(state, &claim->service);
		state_set_waiting(state, claim, false);
		queue_mark(&state->queue, &claim->work);
	}
	TABLE_EACH(&state->vips, entry) {
		struct vip *vip = TABLE_OF(entry, struct vip, entry);

		if (vip->exists)
			state_feed_record(state, vip);
		queue_mark(&state->queue, &vip->work);
	}
	TABLE_EACH(&state->pools, entry)
		feed_quarantine(state, TABLE_OF(entry, struct pool, entry), wall_us);
	TABLE_EACH(&state->leases, entry)
		queue_mark(&state->queue, &TABLE_OF(entry, struct lease, entry)->work);
	state->retry = false;
	return 0;
}

void state_deactivate(struct state *state)
{
	ipam_free(state->ipam);
	state->ipam = NULL;
}

void state_retry_waiting(struct state *state)
{
	if (!state->retry)
		return;
	state->retry = false;
	if (state->waiting == 0)
		return;
	TABLE_EACH(&state->claims, entry) {
		struct claim *claim = TABLE_OF(entry, struct claim, entry);

		if (claim->waiting)
			queue_mark(&state->queue, &claim->work);
	}
}

/* --- all --- */

int state_init(struct state *state, bool default_class)
{
	memset(state, 0, sizeof *state);
	state->default_class = default_class;
	return 0;
}

void state_clear(struct state *state)
{
	struct table_entry *entry;

	state_deactivate(state);
	state_clear_objects(state);
	while ((entry = table_any(&state->pools))) {
		struct pool *pool = TABLE_OF(entry, struct pool, entry);

		queue_forget(&state->queue, &pool->work);
		table_remove(&state->pools, entry);
		clear_pool(pool);
		free(pool->name);
		free(pool);
	}
	while ((entry = table_any(&state->spaces)))
		free_space(state, TABLE_OF(entry, struct space, entry));
	table_clear(&state->pools);
	table_clear(&state->spaces);
	TABLE_EACH(&state->nodes.table, node)
		queue_forget(&state->queue, &TABLE_OF(node, struct node, entry)->work);
	nodes_clear(&state->nodes);
	endpoints_clear(&state->endpoints);
}
