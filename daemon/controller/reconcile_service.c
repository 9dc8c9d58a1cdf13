#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/controller/reconcile_addresses.h"
#include "k8s/object.h"

#define PENDING_US                                                                                 \
	(2 * BASE_USEC_PER_SEC) /* so long an address may take before the user hears why */
#define UNSERVED_US (3 * BASE_USEC_PER_SEC) /* a failover is over by then */

static void service_path(const struct service *service, const char *suffix, char *path, size_t size)
{
	snprintf(path, size, "/api/v1/namespaces/%s/services/%s%s", service->namespace,
		 service->name, suffix);
}

/* --- finalizers --- */

static cJSON *add_operation(cJSON *list, const char *operation, const char *path)
{
	cJSON *item = cJSON_CreateObject();

	cJSON_AddItemToArray(list, item);
	cJSON_AddStringToObject(item, "op", operation);
	cJSON_AddStringToObject(item, "path", path);
	return item;
}

static void add_test(cJSON *list, const char *path, const char *value)
{
	cJSON_AddStringToObject(add_operation(list, "test", path), "value", value);
}

/* Of exactly the object we saw, or not at all: nobody else's finalizer is touched. */
static cJSON *patch_of(const struct service *service)
{
	cJSON *list = cJSON_CreateArray();

	add_test(list, "/metadata/uid", service->uid);
	add_test(list, "/metadata/resourceVersion", service->version);
	return list;
}

static void add_finalizers(struct reconciler *reconciler, struct claim *claim)
{
	const struct service *service = &claim->service;
	struct step step = { .type = STEP_SERVICE_FINALIZER,
			     .method = "PATCH",
			     .content_type = JSON_PATCH,
			     .body = patch_of(service) };
	cJSON *names = cJSON_CreateArray(), *name;

	cJSON_AddItemToArray(names, cJSON_CreateString(FINALIZER));
	if (service->finalizer_upstream < 0)
		cJSON_AddItemToArray(names, cJSON_CreateString(FINALIZER_UPSTREAM));
	if (service->finalizer_count == 0) {
		cJSON_AddItemToObject(add_operation(step.body, "add", "/metadata/finalizers"),
				      "value", names);
	} else {
		cJSON_ArrayForEach(name, names)
			cJSON_AddStringToObject(
				add_operation(step.body, "add", "/metadata/finalizers/-"), "value",
				name->valuestring);
		cJSON_Delete(names);
	}
	service_path(service, "", step.path, sizeof step.path);
	step_send(reconciler, &claim->work, &step);
}

static void remove_one(cJSON *list, int index, const char *name)
{
	char path[64];

	snprintf(path, sizeof path, "/metadata/finalizers/%d", index);
	add_test(list, path, name);
	add_operation(list, "remove", path);
}

static void remove_finalizers(struct reconciler *reconciler, struct claim *claim)
{
	const struct service *service = &claim->service;
	struct step step = { .type = STEP_SERVICE_FINALIZER,
			     .method = "PATCH",
			     .content_type = JSON_PATCH,
			     .body = patch_of(service) };

	/* The later one first, so that the other keeps its place. */
	if (service->finalizer_upstream > service->finalizer)
		remove_one(step.body, service->finalizer_upstream, FINALIZER_UPSTREAM);
	remove_one(step.body, service->finalizer, FINALIZER);
	if (service->finalizer_upstream >= 0 && service->finalizer_upstream < service->finalizer)
		remove_one(step.body, service->finalizer_upstream, FINALIZER_UPSTREAM);
	service_path(service, "", step.path, sizeof step.path);
	step_send(reconciler, &claim->work, &step);
}

/* --- status --- */

/* The moves in which something reads Serving=False for a moment are not worth a write. */
static bool wait_for_serving(struct reconciler *reconciler, struct claim *claim,
			     struct verdict *verdict)
{
	uint64_t now_us = reconciler_now();

	if (verdict->conditions[SERVICE_CONDITION_SERVING].is_true || !verdict->passing ||
	    !claim->service.conditions[SERVICE_CONDITION_SERVING].is_true) {
		claim->unserved_us = 0;
		return false;
	}
	if (!claim->unserved_us)
		claim->unserved_us = now_us;
	if (now_us >= claim->unserved_us + UNSERVED_US)
		return false;
	queue_later(&reconciler->state->queue, &claim->work, claim->unserved_us + UNSERVED_US);
	return true;
}

/* The VirtualIP is being written: its answer comes back here at once. */
static bool wait_for_record(struct reconciler *reconciler, struct claim *claim,
			    const struct grant *grants, unsigned count)
{
	uint64_t now_us = reconciler_now();
	bool pending = false;

	for (unsigned i = 0; i < count; i++)
		pending |= grants[i].held && !grants[i].recorded &&
			   grants[i].refusal == BASE_REASON_NONE;
	if (!pending) {
		claim->pending_us = 0;
		return false;
	}
	if (!claim->pending_us)
		claim->pending_us = now_us;
	if (now_us >= claim->pending_us + PENDING_US)
		return false;
	queue_later(&reconciler->state->queue, &claim->work, claim->pending_us + PENDING_US);
	return true;
}

static void tell_refusal(struct reconciler *reconciler, struct claim *claim,
			 const struct verdict *verdict)
{
	const char *unplaced = verdict->conditions[SERVICE_CONDITION_SERVING].message;
	char text[MESSAGE_SIZE] = "";
	uint64_t digest;

	if (claim->service.unknown)
		decide_unknown_annotation(claim->service.unknown, text);
	digest = base_hash(verdict->note, strlen(verdict->note)) ^ verdict->event ^
		 base_hash(text, strlen(text));
	if (verdict->unplaced != BASE_REASON_NONE)
		digest ^= base_hash(unplaced, strlen(unplaced)) * 31;
	if (digest == claim->told)
		return;
	claim->told = digest;
	if (text[0])
		reconciler_tell(reconciler, &claim->service, BASE_REASON_INVALID_CONFIGURATION, "",
				"", text);
	if (verdict->event != BASE_REASON_NONE)
		reconciler_tell(reconciler, &claim->service, verdict->event, "",
				claim->service.pool ? claim->service.pool : "", verdict->note);
	if (verdict->unplaced != BASE_REASON_NONE)
		reconciler_tell(reconciler, &claim->service, verdict->unplaced, "", "", unplaced);
}

static bool same_ingress(const struct service *service, const struct verdict *verdict)
{
	if (service->ingress_count != verdict->ingress_count)
		return false;
	for (unsigned i = 0; i < verdict->ingress_count; i++)
		if (!base_address_equal(&service->ingress[i], &verdict->ingress[i]))
			return false;
	return true;
}

static void note_allocation(struct reconciler *reconciler, const struct service *service,
			    const struct verdict *verdict, struct step *step)
{
	char text[BASE_ADDRESS_TEXT_SIZE];
	size_t at = 0;

	if (verdict->ingress_count == 0 || same_ingress(service, verdict))
		return;
	step->reason =
		service->ingress_count ? BASE_REASON_ADDRESS_MOVED : BASE_REASON_ADDRESS_ALLOCATED;
	for (unsigned i = 0; i < verdict->ingress_count; i++) {
		struct vip *vip = state_vip(reconciler->state, &verdict->ingress[i]);

		at += (size_t)snprintf(
			step->note + at, sizeof step->note - at, "%s%s of pool %s", i ? ", " : "",
			base_address_format(&verdict->ingress[i], text), vip ? vip->pool : "");
	}
}

static cJSON *status_object(const struct service *service, cJSON *status)
{
	cJSON *object = k8s_object_new("v1", "Service", service->namespace, service->name);
	cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");

	cJSON_AddStringToObject(metadata, "uid", service->uid);
	cJSON_AddStringToObject(metadata, "resourceVersion", service->version);
	cJSON_AddItemToObject(object, "status", status);
	return object;
}

static void apply_status(struct reconciler *reconciler, struct claim *claim, struct step *step,
			 cJSON *status)
{
	step->type = STEP_SERVICE_STATUS;
	step->method = "PATCH";
	step->content_type = APPLY_PATCH;
	step->body = status_object(&claim->service, status);
	service_path(&claim->service, "/status?fieldManager=vipd-controller&force=true", step->path,
		     sizeof step->path);
	step_send(reconciler, &claim->work, step);
}

static void write_status(struct reconciler *reconciler, struct claim *claim,
			 const struct verdict *verdict)
{
	const struct service *service = &claim->service;
	struct step step = { .reason = BASE_REASON_NONE };
	char now[K8S_TIME_SIZE];
	cJSON *status;

	status = decide_status(service, verdict, k8s_time_format(now, reconciler_wall(), false));
	if (service_status_digest(status) == service->status_digest) {
		cJSON_Delete(status);
		return;
	}
	if (reconciler->no_ip_mode)
		decide_status_of_old(status);
	note_allocation(reconciler, service, verdict, &step);
	apply_status(reconciler, claim, &step, status);
}

/* --- a Service --- */

static void serve(struct reconciler *reconciler, struct claim *claim)
{
	const struct service *service = &claim->service;
	struct grant grants[2];
	struct wishes wishes;
	struct verdict verdict;
	struct base_error error = { 0 };
	struct held held;
	unsigned count;
	int r;

	memset(grants, 0, sizeof grants);
	addresses_held(reconciler, claim, &held);
	r = decide_wishes(service, &wishes, &error);
	if (r == 0) {
		for (count = 0; count < wishes.count; count++) {
			grants[count].wish = wishes.items[count];
			addresses_allocate(reconciler, claim, &grants[count], &held);
		}
	} else {
		count = addresses_keep(service, &held, grants);
	}
	for (unsigned i = 0; i < count; i++)
		addresses_describe(reconciler, service, &grants[i]);
	if (r == 0)
		addresses_release_surplus(reconciler, claim, grants, count);
	if (r == 0)
		decide_verdict(service, grants, count, &verdict);
	else
		decide_refusal(service, (enum base_reason)r, error.message, grants, count,
			       &verdict);
	state_set_waiting(reconciler->state, claim, verdict.event != BASE_REASON_NONE);
	addresses_external(reconciler, claim);
	tell_refusal(reconciler, claim, &verdict);
	/*
	 * The finalizer is sent before the VirtualIP; its answer is not waited for. Should it fail and
	 * the Service go, the VirtualIP still names the Service and is found and released.
	 */
	if (service->finalizer < 0)
		add_finalizers(reconciler, claim);
	else if (!wait_for_record(reconciler, claim, grants, count) &&
		 !wait_for_serving(reconciler, claim, &verdict))
		write_status(reconciler, claim, &verdict);
}

/* Backwards, and never further than the last step that is known to have landed. */
static void withdraw(struct reconciler *reconciler, struct claim *claim)
{
	const struct service *service = &claim->service;
	struct step step = { .reason = BASE_REASON_NONE };
	unsigned external;

	state_set_waiting(reconciler->state, claim, false);
	claim->told = 0;
	claim->pending_us = claim->unserved_us = 0;
	addresses_release(reconciler, claim, true);
	external = addresses_external(reconciler, claim);
	if (claim->vip_count > external)
		return;
	if (!service->deleting && (service->conditions[SERVICE_CONDITION_ALLOCATED].there ||
				   service->conditions[SERVICE_CONDITION_SERVING].there))
		apply_status(reconciler, claim, &step, cJSON_CreateObject());
	else if (service->finalizer >= 0)
		remove_finalizers(reconciler, claim);
	else if (!service->load_balancer && service->external_count == 0)
		state_forget_claim(reconciler->state, claim);
}

static void read_service(struct reconciler *reconciler, struct claim *claim)
{
	struct step step = { .type = STEP_SERVICE_READ, .method = "GET" };
	size_t length = strcspn(claim->key, "/");

	snprintf(step.path, sizeof step.path, "/api/v1/namespaces/%.*s/services/%s", (int)length,
		 claim->key, claim->key + length + 1);
	step_send(reconciler, &claim->work, &step);
}

void reconcile_service(struct reconciler *reconciler, struct claim *claim)
{
	struct held held;

	if (claim->exists && claim->service.ours && !claim->service.deleting) {
		serve(reconciler, claim);
		return;
	}
	if (claim->exists) {
		withdraw(reconciler, claim);
		return;
	}
	addresses_held(reconciler, claim, &held);
	if (held.count == 0 && claim->vip_count == 0) {
		state_forget_claim(reconciler->state, claim);
	} else if (!claim->known_gone) {
		read_service(reconciler, claim); /* never seen: the watch may lag, so ask */
	} else {
		addresses_release(reconciler, claim, false);
		if (claim->vip_count == 0)
			state_forget_claim(reconciler->state, claim);
	}
}
