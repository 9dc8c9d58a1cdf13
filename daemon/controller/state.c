#include "daemon/controller/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "daemon/controller/pool.h"
#include "k8s/object.h"

struct router {
	struct table_entry entry;
	unsigned vips;
	char name[IPAM_ROUTER_NAME_SIZE];
};

bool state_is_stale(struct work *work, bool exists, const char *version, const cJSON *object,
		    enum state_origin origin)
{
	const char *incoming = k8s_object_text(object, "metadata/resourceVersion");

	if (origin != STATE_FROM_WATCH) {
		if (work->gone || (exists && k8s_version_compare(incoming, version) <= 0))
			return true;
		snprintf(work->answered, sizeof work->answered, "%s", incoming);
		return false;
	}
	if (work->answered[0] && k8s_version_compare(incoming, work->answered) < 0)
		return true;
	work->answered[0] = '\0';
	return exists && strcmp(incoming, version) == 0;
}

static void note_identity(char uid[static 40], char version[static 24], const cJSON *object)
{
	snprintf(uid, 40, "%s", k8s_object_text(object, "metadata/uid"));
	snprintf(version, 24, "%s", k8s_object_text(object, "metadata/resourceVersion"));
}

/* --- Services --- */

struct claim *state_claim(struct state *state, const char *namespace, const char *name)
{
	char key[2 * IPAM_NAME_SIZE + 256];

	snprintf(key, sizeof key, "%s/%s", namespace, name);
	return TABLE_OF(table_find(&state->claims, key), struct claim, entry);
}

static struct claim *make_claim(struct state *state, const char *namespace, const char *name)
{
	struct claim *claim = state_claim(state, namespace, name);

	if (claim)
		return claim;
	claim = calloc(1, sizeof *claim);
	if (!claim)
		return NULL;
	claim->work.kind = WORK_SERVICE;
	if (asprintf(&claim->key, "%s/%s", namespace, name) < 0)
		claim->key = NULL;
	if (!claim->key || table_add(&state->claims, &claim->entry, claim->key) < 0) {
		free(claim->key);
		free(claim);
		return NULL;
	}
	return claim;
}

void state_set_waiting(struct state *state, struct claim *claim, bool waiting)
{
	state->waiting += (unsigned)waiting - (unsigned)claim->waiting;
	claim->waiting = waiting;
}

static void free_claim(struct state *state, struct claim *claim)
{
	state_set_waiting(state, claim, false);
	queue_forget(&state->queue, &claim->work);
	table_remove(&state->claims, &claim->entry);
	service_clear(&claim->service);
	free(claim->key);
	free(claim);
}

void state_forget_claim(struct state *state, struct claim *claim)
{
	if (claim->vip_count == 0 && !claim->work.busy)
		free_claim(state, claim);
}

static struct ipam_name name_of(const struct service *service)
{
	return (struct ipam_name){ .namespace = service->namespace, .name = service->name };
}

static void put_taken(struct state *state, const struct service *service, const char *field,
		      const struct base_address *addresses, size_t count)
{
	struct ipam_name name = name_of(service);
	struct ipam_range *ranges = calloc(count + 1, sizeof(*ranges));
	char who[320];

	snprintf(who, sizeof who, "Service %s/%s (%s)", service->namespace, service->name, field);
	for (size_t i = 0; ranges && i < count; i++)
		ranges[i] = ipam_range_single(&addresses[i]);
	if (ranges)
		ipam_taken_put(state->ipam, who, BASE_REASON_ADDRESS_IN_USE, &name, count, ranges);
	free(ranges);
}

/* What ipam has to know of a Service, whoever serves it. */
void state_feed_service(struct state *state, const struct service *service)
{
	struct ipam_service facts = {
		.name = name_of(service),
		.sharing_key = service->sharing_key,
		.port_count = service->port_count,
		.ports = service->ports,
		.local_only = service->local_only,
		.selector = service->selector,
		.external_count = service->external_count,
		.external_ips = service->external_ips,
	};
	bool foreign = service->load_balancer && !service->ours;

	if (service->ours || service_serves_external(service))
		ipam_service_put(state->ipam, &facts);
	put_taken(state, service, "spec.externalIPs", service->external_ips,
		  service->external_count);
	put_taken(state, service, "status.loadBalancer of another class", service->ingress,
		  foreign ? service->ingress_count : 0);
}

/* Nothing of it concerns us, now or for cleaning up. */
static bool is_stranger(const struct service *service)
{
	return !service->load_balancer && service->finalizer < 0 && service->external_count == 0 &&
	       !service->conditions[SERVICE_CONDITION_ALLOCATED].there &&
	       !service->conditions[SERVICE_CONDITION_SERVING].there;
}

static bool mark_record(void *userdata, const struct ipam_record *record)
{
	struct state *state = userdata;
	struct vip *vip = state_vip(state, &record->address);

	if (vip)
		queue_mark(&state->queue, &vip->work);
	return true;
}

void state_put_service(struct state *state, const cJSON *object, enum state_origin origin)
{
	const char *namespace = k8s_object_text(object, "metadata/namespace");
	const char *name = k8s_object_text(object, "metadata/name");
	struct claim *claim = state_claim(state, namespace, name);
	struct service service;

	if (claim &&
	    state_is_stale(&claim->work, claim->exists, claim->service.version, object, origin))
		return;
	if (service_read(&service, object, state->default_class) < 0)
		return;
	if (!claim && !is_stranger(&service))
		claim = make_claim(state, namespace, name);
	if (!claim) {
		service_clear(&service);
		return;
	}
	if (claim->exists && strcmp(claim->service.uid, service.uid) != 0)
		claim->told = claim->told_external = 0; /* another one of the same name */
	service_clear(&claim->service);
	claim->service = service;
	claim->exists = true;
	claim->known_gone = false;
	state->local_wanted |= claim->service.ours && claim->service.local_only;
	if (state->ipam) {
		struct ipam_name key = name_of(&claim->service);

		state_feed_service(state, &claim->service);
		ipam_record_each_of(state->ipam, &key, mark_record, state);
		state->retry |= claim->service.external_count > 0;
	}
	queue_mark(&state->queue, &claim->work);
}

void state_drop_service(struct state *state, const char *namespace, const char *name)
{
	struct claim *claim = state_claim(state, namespace, name);

	if (!claim)
		return;
	if (state->ipam && claim->exists) {
		put_taken(state, &claim->service, "spec.externalIPs", NULL, 0);
		put_taken(state, &claim->service, "status.loadBalancer of another class", NULL, 0);
		state->retry = true;
	}
	service_clear(&claim->service);
	claim->exists = false;
	claim->known_gone = true;
	claim->work.gone |= claim->work.busy;
	claim->work.answered[0] = '\0';
	state_set_waiting(state, claim, false);
	queue_mark(&state->queue, &claim->work);
}

bool state_selects(void *userdata, const char *name, enum ipam_selector selector)
{
	const struct state_selection *selection = userdata;
	struct pool *pool = state_pool(selection->state, name);
	struct space *space;

	if (!pool)
		return false;
	if (selector == IPAM_SELECTOR_SERVICE)
		return k8s_selector_matches(k8s_object_get(pool->spec, "serviceSelector"),
					    selection->service->labels);
	space = TABLE_OF(table_find(&selection->state->spaces, selection->service->namespace),
			 struct space, entry);
	return space &&
	       k8s_selector_matches(k8s_object_get(pool->spec, "namespaceSelector"), space->labels);
}

/* --- virtual routers in use, for their Leases --- */

bool state_router_used(struct state *state, const char *name)
{
	return table_find(&state->routers, name) != NULL;
}

static void use_router(struct state *state, const char *name)
{
	struct router *router = TABLE_OF(table_find(&state->routers, name), struct router, entry);

	if (!*name)
		return;
	if (!router) {
		router = calloc(1, sizeof *router);
		if (!router)
			return;
		snprintf(router->name, sizeof router->name, "%s", name);
		if (table_add(&state->routers, &router->entry, router->name) < 0) {
			free(router);
			return;
		}
	}
	router->vips++;
}

static void leave_router(struct state *state, const char *name)
{
	struct router *router = TABLE_OF(table_find(&state->routers, name), struct router, entry);
	struct lease *lease;

	if (!router || --router->vips > 0)
		return;
	table_remove(&state->routers, &router->entry);
	lease = TABLE_OF(table_find(&state->leases, name), struct lease, entry);
	if (lease)
		queue_mark(&state->queue, &lease->work);
	free(router);
}

/* --- VirtualIPs --- */

struct vip *state_vip(struct state *state, const struct base_address *address)
{
	char name[BASE_ADDRESS_NAME_SIZE];

	return TABLE_OF(table_find(&state->vips, base_address_name(address, name)), struct vip,
			entry);
}

struct vip *state_vip_make(struct state *state, const struct base_address *address)
{
	struct vip *vip = state_vip(state, address);

	if (vip)
		return vip;
	vip = calloc(1, sizeof *vip);
	if (!vip)
		return NULL;
	vip->work.kind = WORK_VIP;
	vip->address = *address;
	base_address_name(address, vip->name);
	if (table_add(&state->vips, &vip->entry, vip->name) < 0) {
		free(vip);
		return NULL;
	}
	return vip;
}

/* The claims of those whom the object names hear of every change of it. */
static void note_holders(struct state *state, struct vip *vip, int step)
{
	for (size_t i = 0; i < vip->holder_count; i++) {
		const struct vip_holder *holder = &vip->holders[i];
		struct claim *claim = step > 0
					      ? make_claim(state, holder->namespace, holder->name)
					      : state_claim(state, holder->namespace, holder->name);

		if (!claim)
			continue;
		claim->vip_count += (unsigned)step;
		queue_mark(&state->queue, &claim->work);
	}
}

static void set_first(struct vip *vip, struct node *node)
{
	if (vip->first)
		vip->first->load--;
	vip->first = node;
	if (node)
		node->load++;
}

void state_vip_first(struct state *state, struct vip *vip, const char *node)
{
	set_first(vip, node ? nodes_make(&state->nodes, node) : NULL);
}

static void clear_object(struct state *state, struct vip *vip)
{
	note_holders(state, vip, -1);
	free(vip->holders);
	free(vip->candidates);
	vip->holders = NULL;
	vip->candidates = NULL;
	vip->holder_count = vip->candidate_count = 0;
	vip->exists = vip->deleting = false;
	state->moving -= vip->status.ordered;
	vip->status.ordered = false;
	leave_router(state, vip->router);
	vip->router[0] = '\0';
}

static void take_spec(struct state *state, struct vip *vip, struct vip_spec *spec)
{
	vip->digest = vip_spec_digest(spec);
	vip->holders = spec->holders;
	vip->holder_count = spec->holder_count;
	vip->settings = spec->settings;
	spec->holders = NULL;
	memcpy(vip->router, spec->router, sizeof vip->router);
	memcpy(vip->pool, spec->pool, sizeof vip->pool);
	vip->candidates = calloc(spec->candidate_count + 1, sizeof(*vip->candidates));
	for (size_t i = 0; vip->candidates && i < spec->candidate_count; i++) {
		struct node *node = nodes_make(&state->nodes, spec->candidates[i].node);

		if (!node)
			continue;
		vip->priorities[vip->candidate_count] = spec->candidates[i].priority;
		vip->candidates[vip->candidate_count++] = node->name;
	}
	state_vip_first(state, vip, spec->candidate_count ? spec->candidates[0].node : NULL);
	note_holders(state, vip, 1);
	use_router(state, vip->router);
}

uint8_t state_router_id(const struct vip *vip)
{
	const char *dot = strrchr(vip->router, '.');
	int id = dot ? atoi(dot + 1) : 0;

	return id >= 1 && id <= 255 ? (uint8_t)id : 0;
}

void state_feed_record(struct state *state, const struct vip *vip)
{
	struct ipam_name *names = calloc(vip->holder_count + 1, sizeof(*names));
	struct ipam_record record = { .address = vip->address,
				      .pool = vip->pool,
				      .router = vip->router,
				      .router_id = state_router_id(vip),
				      .service_count = vip->holder_count,
				      .services = names };

	for (size_t i = 0; names && i < vip->holder_count; i++)
		names[i] = (struct ipam_name){ vip->holders[i].namespace, vip->holders[i].name };
	if (names)
		ipam_record_put(state->ipam, &record, NULL);
	free(names);
}

/* Who holds it, of which pool and router: what ipam has to hear if somebody else changed it. */
static uint64_t record_digest(const struct vip *vip)
{
	uint64_t digest = base_hash(vip->router, strlen(vip->router)) ^
			  base_hash(vip->pool, strlen(vip->pool));

	for (size_t i = 0; i < vip->holder_count; i++)
		digest = digest * 31 +
			 base_hash(vip->holders[i].namespace, strlen(vip->holders[i].namespace)) +
			 base_hash(vip->holders[i].name, strlen(vip->holders[i].name));
	return digest;
}

static uint64_t candidates_digest(const struct vip *vip)
{
	uint64_t digest = vip->candidate_count;

	for (size_t i = 0; i < vip->candidate_count; i++)
		digest = digest * 31 + base_hash(vip->candidates[i], strlen(vip->candidates[i]));
	return digest;
}

/* Addresses that are packed into one virtual router have the candidates of the lowest of them. */
static void mark_followers(struct state *state, const struct vip *vip)
{
	struct base_address leader;

	if (state->ipam && ipam_router_leader(state->ipam, &vip->address, &leader) &&
	    base_address_equal(&leader, &vip->address))
		ipam_router_each(state->ipam, &vip->address, mark_record, state);
}

void state_put_vip(struct state *state, const cJSON *object, enum state_origin origin)
{
	struct vip_spec spec;
	struct vip *vip;
	uint64_t before, candidates, order;
	uint8_t id;
	bool known;

	if (vip_spec_read(&spec, object) < 0)
		return;
	vip = state_vip_make(state, &spec.address);
	if (!vip || state_is_stale(&vip->work, vip->exists, vip->version, object, origin)) {
		vip_spec_clear(&spec);
		return;
	}
	known = vip->exists;
	id = state_router_id(vip);
	before = record_digest(vip);
	candidates = candidates_digest(vip);
	clear_object(state, vip);
	vip->exists = true;
	vip->deleting = k8s_object_get(object, "metadata/deletionTimestamp") != NULL;
	note_identity(vip->uid, vip->version, object);
	take_spec(state, vip, &spec);
	if (known && id != state_router_id(vip)) {
		calm_note(&vip->routed, false, state->queue.now_us);
		calm_note(&vip->routed, true, state->queue.now_us);
	}
	order = vip->status.order;
	vip_status_read(&vip->status, object);
	state->moving += vip->status.ordered;
	if (vip->status.order != order)
		vip->order_seen_us = 0; /* dated by who looks at it next */
	if (state->ipam && origin != STATE_FROM_OWN && (!known || record_digest(vip) != before)) {
		state_feed_record(state, vip);
		state->retry = true;
		state_touch(state, &vip->address);
	}
	if (candidates_digest(vip) != candidates)
		mark_followers(state, vip);
	queue_mark(&state->queue, &vip->work);
	vip_spec_clear(&spec);
}

static struct base_address address_of(const char *name)
{
	struct base_address address = { 0 };
	char text[BASE_ADDRESS_NAME_SIZE];

	snprintf(text, sizeof text, "%s", name);
	if (!base_address_parse(text, &address)) {
		for (char *c = text; *c; c++)
			*c = *c == '-' ? ':' : *c;
		base_address_parse(text, &address);
	}
	return address;
}

void state_drop_vip(struct state *state, const char *name)
{
	struct base_address address = address_of(name);
	struct vip *vip = state_vip(state, &address);

	if (!vip)
		return;
	vip->work.gone |= vip->work.busy;
	vip->work.answered[0] = '\0';
	clear_object(state, vip);
	memset(&vip->status, 0, sizeof vip->status);
	state->retry = true;
	queue_mark(&state->queue, &vip->work);
}

void state_drop_unlisted_vips(struct state *state, const char *version,
			      bool (*listed)(void *userdata, const char *name), void *userdata)
{
	TABLE_EACH(&state->vips, entry)
	{
		struct vip *vip = TABLE_OF(entry, struct vip, entry);

		if (vip->exists && k8s_version_compare(vip->version, version) <= 0 &&
		    !listed(userdata, vip->name))
			state_drop_vip(state, vip->name);
	}
}

static void free_vip(struct state *state, struct vip *vip)
{
	clear_object(state, vip);
	set_first(vip, NULL);
	queue_forget(&state->queue, &vip->work);
	table_remove(&state->vips, &vip->entry);
	free(vip->unplaced_message);
	free(vip);
}

void state_forget_vip(struct state *state, struct vip *vip)
{
	if (!vip->exists && !vip->work.busy)
		free_vip(state, vip);
}

void state_touch(struct state *state, const struct base_address *address)
{
	struct vip *vip = state_vip_make(state, address);
	struct ipam_record record;
	struct pool *pool;

	if (!vip)
		return;
	queue_mark(&state->queue, &vip->work);
	if (ipam_record_get(state->ipam, address, &record)) {
		for (size_t i = 0; i < record.service_count; i++) {
			struct claim *claim = make_claim(state, record.services[i].namespace,
							 record.services[i].name);

			if (claim)
				queue_mark(&state->queue, &claim->work);
		}
		snprintf(vip->pool, sizeof vip->pool, "%s", record.pool);
	}
	pool = state_pool(state, vip->pool);
	if (pool)
		queue_mark(&state->queue, &pool->work);
}

/* --- Leases --- */

void state_put_lease(struct state *state, const cJSON *object, enum state_origin origin)
{
	const char *name = k8s_object_text(object, "metadata/name");
	struct lease *lease = TABLE_OF(table_find(&state->leases, name), struct lease, entry);

	if (lease && origin != STATE_FROM_WATCH && lease->work.gone)
		return;
	if (!lease) {
		lease = calloc(1, sizeof *lease);
		if (!lease)
			return;
		lease->work.kind = WORK_LEASE;
		lease->name = strdup(name);
		if (!lease->name || table_add(&state->leases, &lease->entry, lease->name) < 0) {
			free(lease->name);
			free(lease);
			return;
		}
		queue_mark(&state->queue, &lease->work);
	}
	snprintf(lease->uid, sizeof lease->uid, "%s", k8s_object_text(object, "metadata/uid"));
	lease->work.gone = false;
}

static void free_lease(struct state *state, struct lease *lease)
{
	queue_forget(&state->queue, &lease->work);
	table_remove(&state->leases, &lease->entry);
	free(lease->name);
	free(lease);
}

void state_drop_lease(struct state *state, const char *name)
{
	struct lease *lease = TABLE_OF(table_find(&state->leases, name), struct lease, entry);

	if (!lease)
		return;
	lease->work.gone = true;
	if (lease->work.busy)
		lease->uid[0] = '\0'; /* the answer to our DELETE frees it */
	else
		free_lease(state, lease);
}

void state_lease_done(struct state *state, struct lease *lease)
{
	if (!lease->uid[0])
		free_lease(state, lease);
}

void state_clear_objects(struct state *state)
{
	struct table_entry *entry;

	while ((entry = table_any(&state->vips)))
		free_vip(state, TABLE_OF(entry, struct vip, entry));
	while ((entry = table_any(&state->claims)))
		free_claim(state, TABLE_OF(entry, struct claim, entry));
	while ((entry = table_any(&state->leases)))
		free_lease(state, TABLE_OF(entry, struct lease, entry));
	while ((entry = table_any(&state->routers))) {
		table_remove(&state->routers, entry);
		free(TABLE_OF(entry, struct router, entry));
	}
	table_clear(&state->vips);
	table_clear(&state->claims);
	table_clear(&state->leases);
	table_clear(&state->routers);
}
