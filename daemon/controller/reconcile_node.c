#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "daemon/controller/reconcile.h"
#include "k8s/object.h"

#define GRACE_US (5 * BASE_USEC_PER_SEC) /* on top of what a sign of life lasts */

/* Speakers that fell silent, and addresses that should have another owner. */

/* --- speakers --- */

static void read_sign(struct reconciler *reconciler, struct node *node)
{
	struct step step = { .type = STEP_SIGN_READ, .method = "GET" };

	snprintf(step.path, sizeof step.path,
		 "/apis/coordination.k8s.io/v1/namespaces/%s/leases/speaker-%s",
		 reconciler->namespace, node->name);
	step_send(reconciler, &node->work, &step);
}

/* What nobody can vouch for any more; who can say better writes it again. */
static cJSON *unknown_conditions(const char *const *types, const char *message)
{
	cJSON *list = cJSON_CreateArray();
	char now[K8S_TIME_SIZE];

	k8s_time_format(now, reconciler_wall(), false);
	for (; *types; types++) {
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "type", *types);
		cJSON_AddStringToObject(item, "status", "Unknown");
		cJSON_AddStringToObject(item, "reason",
					base_reason_word(BASE_REASON_SPEAKER_NOT_READY));
		cJSON_AddStringToObject(item, "message", message);
		cJSON_AddStringToObject(item, "lastTransitionTime", now);
		cJSON_AddItemToArray(list, item);
	}
	return list;
}

/* Applied over the version that was looked at; `conditions` is taken. */
static void apply_conditions(struct step *step, const char *kind, const char *name, const char *uid,
			     const char *version, cJSON *conditions)
{
	cJSON *metadata;

	step->method = "PATCH";
	step->content_type = APPLY_PATCH;
	step->body = k8s_object_new("vipd.dev/v1alpha1", kind, NULL, name);
	metadata = cJSON_GetObjectItemCaseSensitive(step->body, "metadata");
	cJSON_AddStringToObject(metadata, "uid", uid);
	cJSON_AddStringToObject(metadata, "resourceVersion", version);
	cJSON_AddItemToObject(cJSON_AddObjectToObject(step->body, "status"), "conditions",
			      conditions);
	snprintf(step->path, sizeof step->path,
		 "/apis/vipd.dev/v1alpha1/%s/%s/status?fieldManager=vipd-controller&force=true",
		 strcmp(kind, "Speaker") == 0 ? "speakers" : "virtualips", name);
}

/* It cannot say so itself. When it is back, it writes its own conditions again. */
static void write_unknown(struct reconciler *reconciler, struct node *node)
{
	static const char *const types[] = { "Ready",  "SafeToReboot",        "APIReachable",
					     "Fenced", "DataplaneProgrammed", "MetricsServed",
					     "RemoteClientsServed", "AdvertsHeard",
					     "RemoteEndpointsServed", "ConnectionsTracked", NULL };
	struct step step = { .type = STEP_SPEAKER_STATUS };
	char message[160];

	snprintf(message, sizeof message, "no sign of life for %llu s (Lease speaker-%s)",
		 (unsigned long long)((node->duration_us + GRACE_US) / BASE_USEC_PER_SEC),
		 node->name);
	apply_conditions(&step, "Speaker", node->name, node->speaker_uid, node->speaker_version,
			 unknown_conditions(types, message));
	log_line(LOG_WARNING, BASE_REASON_SPEAKER_NOT_READY, LOG_FIELDS({ "PEER", node->name }),
		 "speaker of %s: %s", node->name, message);
	step_send(reconciler, &node->work, &step);
}

void reconcile_speaker(struct reconciler *reconciler, struct node *node)
{
	struct queue *queue = &reconciler->state->queue;
	uint64_t now_us = reconciler_now(), due_us = node->sign_us + node->duration_us + GRACE_US;

	if (!node->signs)
		return;
	if (!node->silent) {
		if (now_us < due_us)
			queue_later(queue, &node->work, due_us);
		else
			read_sign(reconciler, node); /* the watch may lag: ask */
		return;
	}
	if (node->speaks && !node->speaker.unknown) {
		write_unknown(reconciler, node);
		return;
	}
	due_us = node->sign_us + NODE_FORGOTTEN_US;
	if (now_us <= due_us)
		queue_later(queue, &node->work, due_us + 1);
	else
		state_node_forgotten(reconciler->state, node);
}

/* --- addresses --- */

/* Nobody owns it, and yet it says so: the one who wrote that fell silent. */
static void write_unowned_conditions(struct reconciler *reconciler, struct vip *vip)
{
	static const char *const types[] = { "Owned", "Announced", NULL };
	struct step step = { .type = STEP_VIP_STATUS };

	apply_conditions(&step, "VirtualIP", vip->name, vip->uid, vip->version,
			 unknown_conditions(types, "the last owner gives no sign of life and no "
						   "other speaker took over"));
	step_send(reconciler, &vip->work, &step);
}

/* The owner is gone without a word and nobody took over: what stands there is no longer true. */
bool reconcile_silent_owner(struct reconciler *reconciler, struct vip *vip)
{
	struct node *owner = nodes_find(&reconciler->state->nodes, vip->status.owner);
	struct step step = { .type = STEP_VIP_STATUS,
			     .method = "PATCH",
			     .content_type = MERGE_PATCH };
	cJSON *metadata, *status;

	if (!vip->status.owner[0] && vip->status.state == VIP_STATE_UNOWNED &&
	    vip->status.says_owned) {
		write_unowned_conditions(reconciler, vip);
		return true;
	}
	if (!vip->status.owner[0] || !owner || !owner->silent)
		return false;
	step.body = cJSON_CreateObject();
	metadata = cJSON_AddObjectToObject(step.body, "metadata");
	cJSON_AddStringToObject(metadata, "uid", vip->uid);
	cJSON_AddStringToObject(metadata, "resourceVersion", vip->version);
	status = cJSON_AddObjectToObject(step.body, "status");
	cJSON_AddStringToObject(status, "state", "Unowned");
	cJSON_AddNullToObject(status, "owner");
	snprintf(step.path, sizeof step.path, "/apis/vipd.dev/v1alpha1/virtualips/%s/status",
		 vip->name);
	log_line(LOG_WARNING, BASE_REASON_OWNER_LOST,
		 LOG_FIELDS({ "VIP", vip->name }, { "PEER", owner->name }),
		 "%s: its owner %s fell silent and no other speaker took over", vip->name,
		 owner->name);
	step_send(reconciler, &vip->work, &step);
	return true;
}

static void order(struct reconciler *reconciler, struct vip *vip, const char *target,
		  enum base_reason reason)
{
	struct step step = { .type = STEP_VIP_ORDER,
			     .method = "PATCH",
			     .content_type = MERGE_PATCH };
	cJSON *metadata, *value = cJSON_CreateObject();
	char id[64], *text;

	snprintf(id, sizeof id, "controller-%016llx",
		 (unsigned long long)base_random_next(&reconciler->random));
	cJSON_AddStringToObject(value, "to", target);
	cJSON_AddStringToObject(value, "id", id);
	text = cJSON_PrintUnformatted(value);
	cJSON_Delete(value);
	if (!text)
		return;
	step.body = cJSON_CreateObject();
	metadata = cJSON_AddObjectToObject(step.body, "metadata");
	cJSON_AddStringToObject(metadata, "uid", vip->uid);
	cJSON_AddStringToObject(metadata, "resourceVersion", vip->version);
	cJSON_AddStringToObject(cJSON_AddObjectToObject(metadata, "annotations"),
				"vipd.dev/handover", text);
	free(text);
	snprintf(step.path, sizeof step.path, "/apis/vipd.dev/v1alpha1/virtualips/%s", vip->name);
	move_ordered(&vip->moves, reconciler_now());
	log_line(LOG_NOTICE, reason,
		 LOG_FIELDS({ "VIP", vip->name }, { "PEER", target }, { "POOL", vip->pool }),
		 "%s: %s is asked to hand it over to %s", vip->name, vip->status.owner, target);
	step_send(reconciler, &vip->work, &step);
}

void reconcile_move(struct reconciler *reconciler, struct vip *vip,
		    const struct placement_answer *placement, bool local_only, bool preferred)
{
	struct state *state = reconciler->state;
	uint64_t now_us = reconciler_now();
	struct move_question question = {
		.now_us = now_us,
		.owned = vip->status.state == VIP_STATE_ACTIVE && vip->status.owner[0],
		.ordered = vip->status.ordered,
		.target_ready = placement->first.ready && !vip->status.first_may_not,
		.owner_may = placement->owner.may,
		.local_only = local_only,
		.owner_endpoint = placement->owner.endpoint,
		.target_endpoint = placement->first.endpoint,
		.preferred = preferred,
		.rebalance = vip->rebalance && placement->candidates.count &&
			     placement->nodes[0] == vip->rebalance,
		.owner_weight = placement->owner.weight,
		.target_weight = placement->first.weight,
		.moving = state->moving,
	};
	struct move_answer answer;

	if (vip->status.ordered && !vip->order_seen_us)
		vip->order_seen_us = now_us;
	question.order_seen_us = vip->order_seen_us;
	if (placement->candidates.count == 0 || !placement->owner.known ||
	    strcmp(placement->nodes[0]->name, vip->status.owner) == 0)
		return;
	answer = move_decide(&question, &vip->moves);
	if (answer.reason != BASE_REASON_NONE)
		order(reconciler, vip, placement->nodes[0]->name, answer.reason);
	else if (answer.again_us != BASE_USEC_NEVER)
		queue_later(&state->queue, &vip->work, answer.again_us);
}
