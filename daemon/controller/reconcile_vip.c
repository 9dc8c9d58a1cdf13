#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/controller/pool.h"
#include "daemon/controller/reconcile.h"
#include "k8s/object.h"

#define VIPS         "/apis/vipd.dev/v1alpha1/virtualips"
#define POOLS        "/apis/vipd.dev/v1alpha1/addresspools"
#define LEASE_AGE_US BASE_USEC_PER_SEC /* speakers end what they have in it */
#define STRAY_AGE_US                                                                               \
	(5 * BASE_USEC_PER_SEC) /* never seen in use: the watch of VirtualIPs may lag */
#define REBALANCE_US (60 * BASE_USEC_PER_SEC) /* a handover that was not made by then is not made */

/* --- what a VirtualIP should say --- */

static void copy_holders(struct state *state, const struct vip *vip,
			 const struct ipam_record *record, struct vip_spec *spec)
{
	spec->holders = calloc(record->service_count + 1, sizeof(*spec->holders));
	for (size_t i = 0; spec->holders && i < record->service_count; i++) {
		const struct ipam_name *name = &record->services[i];
		struct vip_holder *holder = &spec->holders[spec->holder_count++];
		struct claim *claim = state_claim(state, name->namespace, name->name);

		snprintf(holder->namespace, sizeof holder->namespace, "%s", name->namespace);
		snprintf(holder->name, sizeof holder->name, "%s", name->name);
		if (claim && claim->exists)
			snprintf(holder->uid, sizeof holder->uid, "%s", claim->service.uid);
		for (size_t j = 0; !holder->uid[0] && j < vip->holder_count; j++)
			if (strcmp(vip->holders[j].namespace, name->namespace) == 0 &&
			    strcmp(vip->holders[j].name, name->name) == 0)
				memcpy(holder->uid, vip->holders[j].uid, sizeof holder->uid);
	}
}

struct restriction {
	struct state *state;
	const struct vip_spec *spec;
	const char *node; /* that is asked about */
	bool allowed;
};

static bool allow_all(void *userdata, const struct ipam_record *record)
{
	struct restriction *restriction = userdata;

	for (size_t i = 0; i < record->service_count; i++) {
		struct claim *claim = state_claim(restriction->state, record->services[i].namespace,
						  record->services[i].name);

		if (claim && claim->exists &&
		    !decide_node_allowed(claim->service.nodes, restriction->node))
			restriction->allowed = false;
	}
	return restriction->allowed;
}

/* Every Service that shares the address must allow the node, and all that are packed with it. */
static bool is_allowed(void *userdata, const char *node)
{
	struct restriction *restriction = userdata;

	restriction->node = node;
	restriction->allowed = true;
	ipam_router_each(restriction->state->ipam, &restriction->spec->address, allow_all,
			 restriction);
	return restriction->allowed;
}

/* What it asks of nodes, in one number: who asks the same may be packed together. */
static uint64_t kin_of(struct state *state, const struct vip_spec *spec)
{
	uint64_t kin = 1;

	for (size_t i = 0; i < spec->holder_count; i++) {
		const struct vip_holder *holder = &spec->holders[i];
		struct claim *claim = state_claim(state, holder->namespace, holder->name);
		const char *nodes = claim && claim->exists && claim->service.nodes
					    ? claim->service.nodes
					    : "";

		if (*nodes)
			kin = kin * 31 + base_hash(nodes, strlen(nodes));
		if (claim && claim->exists && claim->service.local_only)
			kin = kin * 31 + base_hash(claim->key, strlen(claim->key));
	}
	return kin;
}

/* The one whose candidates it follows has to be placed anew: it asks for something else, or came to it. */
static void mark_leader(struct state *state, struct vip *vip, uint64_t kin, const char *router)
{
	bool changed = vip->kin != kin || strcmp(vip->router, router) != 0;
	struct base_address address;
	struct vip *leader;

	vip->kin = kin;
	if (!changed || !ipam_router_leader(state->ipam, &vip->address, &address))
		return;
	leader = state_vip(state, &address);
	if (leader && leader != vip)
		queue_mark(&state->queue, &leader->work);
}

/* Services that share an address and say Local have the same selector: one's endpoints are the other's. */
static bool has_endpoint(void *userdata, const char *node)
{
	const struct restriction *restriction = userdata;

	for (size_t i = 0; i < restriction->spec->holder_count; i++) {
		const struct vip_holder *holder = &restriction->spec->holders[i];
		struct claim *claim =
			state_claim(restriction->state, holder->namespace, holder->name);

		if (claim && claim->exists && claim->service.local_only &&
		    endpoints_on(&restriction->state->endpoints, claim->key, node))
			return true;
	}
	return false;
}

static bool is_local_only(struct state *state, const struct vip_spec *spec)
{
	for (size_t i = 0; i < spec->holder_count; i++) {
		struct claim *claim =
			state_claim(state, spec->holders[i].namespace, spec->holders[i].name);

		if (claim && claim->exists && claim->service.local_only)
			return true;
	}
	return false;
}

static void set_unplaced(struct state *state, struct vip *vip, enum base_reason reason,
			 const char *message)
{
	bool changed = reason != vip->unplaced ||
		       strcmp(message, vip->unplaced_message ? vip->unplaced_message : "") != 0;

	if (!changed)
		return;
	vip->unplaced = reason;
	free(vip->unplaced_message);
	vip->unplaced_message = reason != BASE_REASON_NONE ? strdup(message) : NULL;
	state_touch(state, &vip->address); /* those who hold it say so in their status */
}

/* Said once, and loudly: an administrator meant these nodes to own nothing. */
static void tell_label_ignored(struct reconciler *reconciler, struct vip *vip,
			       const struct vip_spec *spec, bool ignored)
{
	char note[MESSAGE_SIZE], address[BASE_ADDRESS_TEXT_SIZE];
	bool tell = ignored && !vip->label_ignored;

	vip->label_ignored = ignored;
	if (!tell)
		return;
	base_address_format(&vip->address, address);
	snprintf(
		note, sizeof note,
		"only nodes with the label node.kubernetes.io/exclude-from-external-load-balancers "
		"could own %s: the label is ignored",
		address);
	for (size_t i = 0; i < spec->holder_count; i++) {
		struct claim *claim = state_claim(reconciler->state, spec->holders[i].namespace,
						  spec->holders[i].name);

		if (claim && claim->exists)
			reconciler_tell(reconciler, &claim->service, BASE_REASON_NO_ELIGIBLE_NODE,
					address, spec->pool, note);
	}
}

static bool is_in(const struct vip *vip, const char *router)
{
	return vip && vip->exists && strcmp(vip->router, router) == 0;
}

struct companion {
	struct state *state;
	const char *router;
	struct vip *found;
};

static bool find_companion(void *userdata, const struct ipam_record *record)
{
	struct companion *companion = userdata;
	struct vip *vip = state_vip(companion->state, &record->address);

	companion->found = is_in(vip, companion->router) ? vip : NULL;
	return !companion->found;
}

/* Whom it follows; NULL: it leads, or nobody is written yet. */
static struct vip *leader_of(struct state *state, struct vip *vip, const char *router)
{
	struct companion companion = { .state = state, .router = router };
	struct base_address address;
	struct vip *leader;

	if (!ipam_router_leader(state->ipam, &vip->address, &address))
		return NULL;
	leader = state_vip(state, &address);
	if (leader != vip)
		return is_in(leader, router) ? leader : NULL;
	/* A newcomer, though the lowest, finds things as they are. */
	if (!is_in(vip, router))
		ipam_router_each(state->ipam, &vip->address, find_companion, &companion);
	return companion.found;
}

/* Packed into one virtual router: the lowest address is placed, the others follow it word for word. */
static bool copy_leader(struct state *state, struct vip *vip, struct vip_spec *spec)
{
	struct vip *leader = leader_of(state, vip, spec->router);

	if (!leader)
		return false;
	for (size_t i = 0; i < leader->candidate_count; i++) {
		snprintf(spec->candidates[i].node, NODE_NAME_SIZE, "%s", leader->candidates[i]);
		spec->candidates[i].priority = leader->priorities[i];
	}
	spec->candidate_count = leader->candidate_count;
	set_unplaced(state, vip, leader->unplaced,
		     leader->unplaced_message ? leader->unplaced_message : "");
	return true;
}

/*
 * Who is to be first stands first: for another virtual router who has the address now, so that nothing
 * moves; else who shall have it to even things out.
 */
static size_t list_current(const struct vip *vip, const struct vip_spec *spec,
			   const char *current[static IPAM_CANDIDATES_MAX])
{
	bool other = vip->exists && strcmp(vip->router, spec->router) != 0;
	const char *wanted = vip->rebalance ? vip->rebalance->name : other ? vip->status.owner : NULL;
	const char *first = NULL;
	size_t count = 0;

	for (size_t i = 0; wanted && i < vip->candidate_count; i++)
		if (strcmp(vip->candidates[i], wanted) == 0)
			first = current[count++] = vip->candidates[i];
	for (size_t i = 0; i < vip->candidate_count; i++)
		if (vip->candidates[i] != first)
			current[count++] = vip->candidates[i];
	return count;
}

static void choose_candidates(struct reconciler *reconciler, struct vip *vip,
			      const cJSON *pool_spec, struct vip_spec *spec,
			      struct placement_answer *answer)
{
	struct state *state = reconciler->state;
	struct restriction restriction = { .state = state, .spec = spec };
	const char *current[IPAM_CANDIDATES_MAX];
	struct placement_question question = {
		.address = vip->address,
		.spread = base_hash(spec->router, strlen(spec->router)),
		.pool_spec = pool_spec,
		.local_only = is_local_only(state, spec),
		.owner = vip->status.owner,
		.current_count = list_current(vip, spec, current),
		.current = current,
		.allowed = is_allowed,
		.endpoint = state->slices_known ? has_endpoint : NULL,
		.userdata = &restriction,
	};

	memset(answer, 0, sizeof *answer);
	if (copy_leader(state, vip, spec))
		return;
	nodes_place(&state->nodes, &question, answer);
	for (size_t i = 0; i < answer->candidates.count; i++) {
		snprintf(spec->candidates[i].node, NODE_NAME_SIZE, "%s", answer->nodes[i]->name);
		spec->candidates[i].priority = answer->candidates.items[i].priority;
	}
	spec->candidate_count = answer->candidates.count;
	tell_label_ignored(reconciler, vip, spec, answer->candidates.exclude_label_ignored);
	set_unplaced(state, vip, answer->reason, answer->error.message);
}

/*
 * The IDs that are not for it: OpenShift's, and those of strangers; but a stranger that follows it from ID to
 * ID does not keep it moving: each time it stays for longer.
 */
static void ids_to_avoid(struct state *state, struct vip *vip, struct ipam_ids *avoid)
{
	uint64_t now_us = state->queue.now_us;
	uint8_t id = state_router_id(vip);

	*avoid = state->openshift.ids;
	if (nodes_strangers(&state->nodes, &vip->address, id, avoid) && vip->routed.up &&
	    !calm_lasts(&vip->routed, now_us) && !ipam_ids_contain(&state->openshift.ids, id)) {
		ipam_ids_remove(avoid, id, id);
		queue_later(&state->queue, &vip->work, now_us + BALANCE_CALM_FIRST_US);
	}
}

/* False: it cannot be said now (no virtual router is left). */
static bool desire(struct reconciler *reconciler, struct vip *vip, const struct ipam_record *record,
		   struct vip_spec *spec, struct placement_answer *answer)
{
	struct state *state = reconciler->state;
	struct pool *pool = state_pool(state, record->pool);
	struct ipam_router router = { .id = record->router_id };
	struct ipam_ids avoid;
	uint64_t kin;
	struct base_error error = { 0 };
	int r;

	memset(spec, 0, sizeof *spec);
	spec->address = vip->address;
	snprintf(spec->pool, sizeof spec->pool, "%s", record->pool);
	snprintf(router.name, sizeof router.name, "%s", record->router ? record->router : "");
	copy_holders(state, vip, record, spec);
	/* From here on `record` is not valid any more. */
	ids_to_avoid(state, vip, &avoid);
	kin = kin_of(state, spec);
	r = ipam_router_choose(state->ipam, &vip->address, kin, &avoid, &router, &error);
	if (r > 0 || !router.name[0]) {
		set_unplaced(state, vip, BASE_REASON_POOL_EXHAUSTED,
			     r > 0 ? error.message : "its pool is gone");
		vip_spec_clear(spec);
		return false;
	}
	snprintf(spec->router, sizeof spec->router, "%s", router.name);
	spec->router_id = router.id;
	mark_leader(state, vip, kin, router.name);
	if (pool) {
		vip_settings_read(&spec->settings, pool->spec);
		spec->attached = cJSON_Duplicate(k8s_object_get(pool->spec, "attachedNetworks"), true);
	} else {
		spec->settings = vip->settings; /* the pool is gone: as it was */
	}
	choose_candidates(reconciler, vip, pool ? pool->spec : NULL, spec, answer);
	return true;
}

static void create_vip(struct reconciler *reconciler, struct vip *vip, const struct vip_spec *spec)
{
	struct step step = { .type = STEP_VIP_CREATE, .method = "POST", .path = VIPS };

	step.body = k8s_object_new("vipd.dev/v1alpha1", "VirtualIP", NULL, vip->name);
	cJSON_AddItemToObject(step.body, "spec", vip_spec_write(spec));
	state_vip_first(reconciler->state, vip,
			spec->candidate_count ? spec->candidates[0].node : NULL);
	step_send(reconciler, &vip->work, &step);
}

/* Somebody else turned up with the virtual router ID that it had. */
static void tell_collision(struct reconciler *reconciler, struct vip *vip,
			   const struct vip_spec *spec)
{
	struct state *state = reconciler->state;
	struct ipam_ids ids = { 0 };
	uint8_t id = state_router_id(vip);
	const struct speaker_stranger *stranger =
		nodes_strangers(&state->nodes, &vip->address, id, &ids);
	char note[MESSAGE_SIZE], address[BASE_ADDRESS_TEXT_SIZE], who[BASE_ADDRESS_TEXT_SIZE];

	if (spec->router_id == id || !stranger)
		return;
	snprintf(note, sizeof note,
		 "%s, which is no node, sends VRRP adverts with virtual router ID %u on the segment: "
		 "%s gets virtual router ID %u instead",
		 base_address_format(&stranger->address, who), id,
		 base_address_format(&vip->address, address), spec->router_id);
	for (size_t i = 0; i < spec->holder_count; i++) {
		struct claim *claim = state_claim(state, spec->holders[i].namespace,
						  spec->holders[i].name);

		if (claim && claim->exists)
			reconciler_tell(reconciler, &claim->service,
					BASE_REASON_FOREIGN_VIRTUAL_ROUTER, address, spec->pool,
					note);
	}
}

static void update_vip(struct reconciler *reconciler, struct vip *vip, const struct vip_spec *spec)
{
	struct step step = { .type = STEP_VIP_UPDATE,
			     .method = "PATCH",
			     .content_type = MERGE_PATCH };
	cJSON *metadata;

	tell_collision(reconciler, vip, spec);
	step.body = cJSON_CreateObject();
	metadata = cJSON_AddObjectToObject(step.body, "metadata");
	cJSON_AddStringToObject(metadata, "uid", vip->uid);
	cJSON_AddStringToObject(metadata, "resourceVersion", vip->version);
	cJSON_AddItemToObject(step.body, "spec", vip_spec_write(spec));
	snprintf(step.path, sizeof step.path, VIPS "/%s", vip->name);
	step_send(reconciler, &vip->work, &step);
}

/* --- and how it goes --- */

/* The address is kept from others for a while: that has to be written down before the record goes. */
static bool needs_quarantine(struct reconciler *reconciler, struct vip *vip)
{
	struct state *state = reconciler->state;
	struct pool *pool = state_pool(state, vip->pool);

	vip->unnoted = pool && !pool_noted_has(&pool->noted, &vip->address) &&
		       ipam_quarantined(state->ipam, pool->name, &vip->address, reconciler_wall(),
					POOL_QUARANTINE_MAX);
	if (!vip->unnoted)
		return false;
	pool->urgent = true;
	queue_mark(&state->queue, &pool->work);
	return true;
}

static void add_preconditions(cJSON *body, const char *uid, const char *version)
{
	cJSON *preconditions = cJSON_AddObjectToObject(body, "preconditions");

	cJSON_AddStringToObject(preconditions, "uid", uid);
	if (version)
		cJSON_AddStringToObject(preconditions, "resourceVersion", version);
}

static void delete_vip(struct reconciler *reconciler, struct vip *vip)
{
	struct step step = { .type = STEP_VIP_DELETE, .method = "DELETE" };

	if (vip->deleting || needs_quarantine(reconciler, vip))
		return;
	step.body = cJSON_CreateObject();
	add_preconditions(step.body, vip->uid, vip->version);
	snprintf(step.path, sizeof step.path, VIPS "/%s", vip->name);
	step_send(reconciler, &vip->work, &step);
}

static bool is_preferred(struct state *state, const struct vip_spec *spec)
{
	struct pool *pool = state_pool(state, spec->pool);

	return pool && strcmp(k8s_object_text(pool->spec, "preemption"), "preferred") == 0;
}

/* It is where it should be, or nobody took it there in time. */
static void end_rebalance(struct vip *vip)
{
	if (vip->rebalance &&
	    (strcmp(vip->status.owner, vip->rebalance->name) == 0 ||
	     base_usec_since(reconciler_now(), vip->rebalance_us) > REBALANCE_US))
		vip->rebalance = NULL;
}

void reconcile_vip(struct reconciler *reconciler, struct vip *vip)
{
	struct state *state = reconciler->state;
	struct ipam_record record;
	struct placement_answer placement;
	struct vip_spec spec;

	if (!ipam_record_get(state->ipam, &vip->address, &record)) {
		if (vip->exists)
			delete_vip(reconciler, vip);
		else
			state_forget_vip(state, vip);
		return;
	}
	if (vip->exists && vip->deleting)
		return; /* it is made anew when it is gone */
	if (!vip->exists && record.service_count == 0) {
		/* Made by hand, and deleted by hand. */
		ipam_record_remove(state->ipam, &vip->address);
		state_forget_vip(state, vip);
		return;
	}
	end_rebalance(vip);
	if (!desire(reconciler, vip, &record, &spec, &placement))
		return;
	if (!vip->exists)
		create_vip(reconciler, vip, &spec);
	else if (vip_spec_digest(&spec) != vip->digest)
		update_vip(reconciler, vip, &spec);
	else if (!reconcile_silent_owner(reconciler, vip))
		reconcile_move(reconciler, vip, &placement, is_local_only(state, &spec),
			       is_preferred(state, &spec));
	vip_spec_clear(&spec);
}

/* --- pools --- */

static void write_pool(struct reconciler *reconciler, struct pool *pool, cJSON *status)
{
	struct step step = { .type = STEP_POOL_STATUS,
			     .method = "PATCH",
			     .content_type = MERGE_PATCH };
	cJSON *metadata;

	step.body = cJSON_CreateObject();
	metadata = cJSON_AddObjectToObject(step.body, "metadata");
	cJSON_AddStringToObject(metadata, "uid", pool->uid);
	cJSON_AddStringToObject(metadata, "resourceVersion", pool->version);
	cJSON_AddItemToObject(step.body, "status", status);
	snprintf(step.path, sizeof step.path, POOLS "/%s/status", pool->name);
	pool->written_us = reconciler_now();
	step_send(reconciler, &pool->work, &step);
}

/* Those that wait for their quarantine to be written down look again; if in vain, they ask again. */
static void mark_waiting(struct state *state, struct pool *pool)
{
	if (!pool->urgent)
		return;
	pool->urgent = false;
	TABLE_EACH(&state->vips, entry) {
		struct vip *vip = TABLE_OF(entry, struct vip, entry);

		if (vip->unnoted && strcmp(vip->pool, pool->name) == 0)
			queue_mark(&state->queue, &vip->work);
	}
}

void reconcile_pool(struct reconciler *reconciler, struct pool *pool)
{
	struct state *state = reconciler->state;
	struct pool_facts facts = {
		.name = pool->name,
		.generation = pool->generation,
		.disabled = k8s_object_bool(pool->spec, "disabled", false),
		.problem = pool->problem,
	};
	uint64_t wall_us = reconciler_wall();
	uint64_t next_us = pool_status_due(pool->written_us, pool->urgent, pool->noted.count);
	char now[K8S_TIME_SIZE];
	cJSON *status;

	if (!pool->exists)
		return;
	if (reconciler_now() < next_us) {
		queue_later(&state->queue, &pool->work, next_us);
		return;
	}
	mark_waiting(state, pool);
	status = pool_status(state->ipam, &facts, pool->status, wall_us,
			     k8s_time_format(now, wall_us, false));
	if (cJSON_Compare(status, pool->status, true))
		cJSON_Delete(status);
	else
		write_pool(reconciler, pool, status);
}

/* --- Leases --- */

void reconcile_lease(struct reconciler *reconciler, struct lease *lease)
{
	struct state *state = reconciler->state;
	struct step step = { .type = STEP_LEASE_DELETE, .method = "DELETE" };
	uint64_t now_us = reconciler_now(), age_us = lease->used ? LEASE_AGE_US : STRAY_AGE_US;

	if (state_router_used(state, lease->name)) {
		lease->used = true;
		lease->unused_us = 0;
		return;
	}
	if (!lease->unused_us)
		lease->unused_us = now_us;
	if (now_us < lease->unused_us + age_us) {
		queue_later(&state->queue, &lease->work, lease->unused_us + age_us);
		return;
	}
	step.body = cJSON_CreateObject();
	add_preconditions(step.body, lease->uid, NULL);
	snprintf(step.path, sizeof step.path,
		 "/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s", reconciler->namespace,
		 lease->name);
	step_send(reconciler, &lease->work, &step);
}
