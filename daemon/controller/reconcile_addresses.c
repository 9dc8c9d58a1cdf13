#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/controller/reconcile_addresses.h"

static struct ipam_name name_of(const struct claim *claim, char namespace[static 64],
				char name[static 256])
{
	size_t length = strcspn(claim->key, "/");

	snprintf(namespace, 64, "%.*s", (int)length, claim->key);
	snprintf(name, 256, "%s", claim->key + length + 1);
	return (struct ipam_name){ .namespace = namespace, .name = name };
}

/* --- what it holds --- */

struct search {
	const struct service *service;
	struct held *held;
};

static bool is_external(const struct service *service, const struct base_address *address)
{
	for (size_t i = 0; i < service->external_count; i++)
		if (base_address_equal(&service->external_ips[i], address))
			return true;
	return false;
}

static bool add_held(void *userdata, const struct ipam_record *record)
{
	struct search *search = userdata;
	struct held *held = search->held;

	if (held->count == HELD_MAX)
		return false;
	held->items[held->count].address = record->address;
	held->items[held->count].external = is_external(search->service, &record->address);
	snprintf(held->items[held->count++].pool, IPAM_NAME_SIZE, "%s", record->pool);
	return true;
}

void addresses_held(struct reconciler *reconciler, const struct claim *claim, struct held *held)
{
	char namespace[64], name[256];
	struct ipam_name key = name_of(claim, namespace, name);
	struct search search = { &claim->service, held };

	held->count = 0;
	ipam_record_each_of(reconciler->state->ipam, &key, add_held, &search);
}

/* --- giving back --- */

static void release(struct reconciler *reconciler, struct claim *claim,
		    const struct base_address *address, const char *pool)
{
	struct state *state = reconciler->state;
	char namespace[64], name[256], text[BASE_ADDRESS_TEXT_SIZE], note[128];
	struct ipam_name key = name_of(claim, namespace, name);

	state_touch(state, address);
	if (ipam_release(state->ipam, &key, address, reconciler_wall()) < 0)
		return;
	base_address_format(address, text);
	snprintf(note, sizeof note, "%s of pool %s is released", text, pool);
	if (claim->exists)
		reconciler_tell(reconciler, &claim->service, BASE_REASON_ADDRESS_RELEASED, text,
				pool, note);
	else /* its name is enough for the journal */
		log_line(LOG_NOTICE, BASE_REASON_ADDRESS_RELEASED,
			 LOG_FIELDS({ "SERVICE", claim->key }, { "VIP", text }, { "POOL", pool }),
			 "%s: %s", claim->key, note);
	state->retry = true;
}

void addresses_release(struct reconciler *reconciler, struct claim *claim, bool keep_external)
{
	struct held held;

	addresses_held(reconciler, claim, &held);
	for (unsigned i = 0; i < held.count; i++)
		if (!keep_external || !held.items[i].external)
			release(reconciler, claim, &held.items[i].address, held.items[i].pool);
}

void addresses_release_surplus(struct reconciler *reconciler, struct claim *claim,
			       const struct grant *grants, unsigned count)
{
	struct held held;

	addresses_held(reconciler, claim, &held);
	for (unsigned i = 0; i < held.count; i++) {
		bool kept = held.items[i].external;

		for (unsigned j = 0; j < count; j++)
			kept |= grants[j].held &&
				(base_address_equal(&grants[j].address, &held.items[i].address) ||
				 (grants[j].address.family == held.items[i].address.family &&
				  !grants[j].recorded));
		if (!kept)
			release(reconciler, claim, &held.items[i].address, held.items[i].pool);
	}
}

/* --- its own --- */

/* Does the VirtualIP, as the server has it, say that this very Service holds it? */
static bool is_recorded(const struct vip *vip, const struct service *service)
{
	if (!vip || !vip->exists || vip->deleting)
		return false;
	for (size_t i = 0; i < vip->holder_count; i++)
		if (strcmp(vip->holders[i].namespace, service->namespace) == 0 &&
		    strcmp(vip->holders[i].name, service->name) == 0)
			return strcmp(vip->holders[i].uid, service->uid) == 0;
	return false;
}

void addresses_describe(struct reconciler *reconciler, const struct service *service,
			struct grant *grant)
{
	const struct vip *vip = state_vip(reconciler->state, &grant->address);

	if (!grant->held || !vip)
		return;
	grant->recorded = is_recorded(vip, service);
	grant->status = vip->status;
	grant->unplaced = vip->unplaced;
	grant->placed = vip->unplaced == BASE_REASON_NONE;
	snprintf(grant->unplaced_message, sizeof grant->unplaced_message, "%s",
		 vip->unplaced_message ? vip->unplaced_message : "");
	if (!vip->exists && !grant->placed && vip->unplaced == BASE_REASON_POOL_EXHAUSTED) {
		grant->refusal = vip->unplaced; /* no virtual router is left to carry it */
		snprintf(grant->message, sizeof grant->message, "%s", grant->unplaced_message);
	}
}

void addresses_allocate(struct reconciler *reconciler, struct claim *claim, struct grant *grant,
			const struct held *held)
{
	struct state *state = reconciler->state;
	const struct service *service = &claim->service;
	struct state_selection selection = { .state = state, .service = service };
	struct ipam_request request = {
		.service = { .namespace = service->namespace, .name = service->name },
		.family = grant->wish.family,
		.wanted = grant->wish.wanted,
		.pool = service->pool,
		.selects = state_selects,
		.userdata = &selection,
		.now_us = reconciler_wall(),
	};
	struct ipam_answer answer;
	struct base_error error = { 0 };
	int r = ipam_allocate(state->ipam, &request, &answer, &error);

	if (r == 0) {
		grant->held = true;
		grant->address = answer.address;
		if (!answer.kept)
			state_touch(state, &answer.address);
		return;
	}
	grant->refusal = r > 0 ? (enum base_reason)r : BASE_REASON_POOL_EXHAUSTED;
	snprintf(grant->message, sizeof grant->message, "%s",
		 r > 0 ? error.message : "the controller is out of memory");
	/* It keeps what it has until it can have what it asks for. */
	for (unsigned i = 0; i < held->count && !grant->held; i++)
		if (held->items[i].address.family == (uint8_t)grant->wish.family &&
		    !held->items[i].external) {
			grant->held = true;
			grant->address = held->items[i].address;
		}
}

unsigned addresses_keep(const struct service *service, const struct held *held,
			struct grant grants[static 2])
{
	unsigned count = 0;

	for (unsigned f = 0; f < service->family_count; f++)
		for (unsigned i = 0; i < held->count && count < 2; i++)
			if (held->items[i].address.family == (uint8_t)service->families[f] &&
			    !held->items[i].external) {
				grants[count].held = true;
				grants[count].wish.family = service->families[f];
				grants[count++].address = held->items[i].address;
				break;
			}
	return count;
}

/* --- spec.externalIPs --- */

/* What is in no pool is between the Service and whoever routes the address to a node. */
static bool take_external(struct reconciler *reconciler, struct claim *claim,
			  const struct base_address *address, struct base_error *error)
{
	struct state *state = reconciler->state;
	const struct service *service = &claim->service;
	struct state_selection selection = { .state = state, .service = service };
	struct ipam_request request = {
		.service = { .namespace = service->namespace, .name = service->name },
		.family = (enum base_family)address->family,
		.wanted = *address,
		.external_ip = true,
		.selects = state_selects,
		.userdata = &selection,
		.now_us = reconciler_wall(),
	};
	struct ipam_answer answer;
	char text[BASE_ADDRESS_TEXT_SIZE], note[MESSAGE_SIZE];
	int r;

	if (!ipam_in_pools(state->ipam, address))
		return false;
	r = ipam_allocate(state->ipam, &request, &answer, error);
	if (r != 0)
		return false;
	if (answer.kept)
		return true;
	state_touch(state, address);
	base_address_format(address, text);
	snprintf(note, sizeof note, "%s of pool %s (spec.externalIPs)", text, answer.pool);
	reconciler_tell(reconciler, &claim->service, BASE_REASON_ADDRESS_ALLOCATED, text,
			answer.pool, note);
	return true;
}

/* OpenShift gives every new Service of this type one of its own; nobody asked for two. */
static void note_second_allocator(struct state *state, const struct service *service,
				  const struct base_address *address, struct base_error *error)
{
	char text[BASE_ADDRESS_TEXT_SIZE];

	if (service->load_balancer &&
	    openshift_assigns(&state->openshift, address))
		base_error_set(error, BASE_REASON_ADDRESS_IN_USE,
			       "%s in spec.externalIPs was assigned by OpenShift beside the address "
			       "of the pool: remove it, and spec.externalIP.autoAssignCIDRs of "
			       "networks.config.openshift.io cluster",
			       base_address_format(address, text));
}

static void tell_external(struct reconciler *reconciler, struct claim *claim, uint64_t told,
			  const struct base_error *errors, size_t count)
{
	bool changed = told != claim->told_external;

	claim->told_external = told;
	for (size_t i = 0; changed && i < count; i++)
		if (errors[i].code > 0)
			reconciler_tell(reconciler, &claim->service,
					(enum base_reason)errors[i].code, "", "",
					errors[i].message);
}

static void release_external(struct reconciler *reconciler, struct claim *claim)
{
	struct held held;

	addresses_held(reconciler, claim, &held);
	for (unsigned i = 0; i < held.count; i++)
		if (held.items[i].external && !service_serves_external(&claim->service))
			release(reconciler, claim, &held.items[i].address, held.items[i].pool);
}

unsigned addresses_external(struct reconciler *reconciler, struct claim *claim)
{
	struct state *state = reconciler->state;
	const struct service *service = &claim->service;
	struct base_error errors[HELD_MAX];
	size_t count = service->external_count < HELD_MAX ? service->external_count : HELD_MAX;
	uint64_t told = 0;
	unsigned recorded = 0;
	bool waiting = false;

	release_external(reconciler, claim);
	if (!service_serves_external(service))
		return 0;
	memset(errors, 0, sizeof errors);
	for (size_t i = 0; i < count; i++) {
		const struct base_address *address = &service->external_ips[i];

		if (take_external(reconciler, claim, address, &errors[i]))
			recorded += is_recorded(state_vip(state, address), service);
		else
			note_second_allocator(state, service, address, &errors[i]);
		waiting |= errors[i].code > 0;
		told = told * 31 + base_hash(errors[i].message, strlen(errors[i].message));
	}
	if (!service->ours || waiting)
		state_set_waiting(state, claim, waiting);
	tell_external(reconciler, claim, told, errors, count);
	return recorded;
}
