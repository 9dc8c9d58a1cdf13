#include "daemon/controller/reconcile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/io/clock.h"
#include "base/time.h"
#include "k8s/object.h"

#define BUDGET           200 /* things looked at before others have their turn */
#define QUARANTINE_SLACK (500 * BASE_USEC_PER_MSEC)
#define CONFLICTS_MAX    5 /* in a row, at once; then with pauses */

/* A request under way. Its thing is not freed meanwhile: work.busy. */
struct under_way {
	struct under_way *next, **link;
	struct reconciler *reconciler;
	struct work *work;
	enum step_type type;
	enum base_reason reason;
	char note[MESSAGE_SIZE];
};

uint64_t reconciler_now(void)
{
	return base_clock_us(CLOCK_BOOTTIME);
}

uint64_t reconciler_wall(void)
{
	return base_clock_us(CLOCK_REALTIME);
}

static struct claim *claim_of(struct work *work)
{
	return TABLE_OF(work, struct claim, work);
}

static struct vip *vip_of(struct work *work)
{
	return TABLE_OF(work, struct vip, work);
}

static struct pool *pool_of(struct work *work)
{
	return TABLE_OF(work, struct pool, work);
}

static struct lease *lease_of(struct work *work)
{
	return TABLE_OF(work, struct lease, work);
}

static struct node *node_of(struct work *work)
{
	return TABLE_OF(work, struct node, work);
}

void reconciler_tell(struct reconciler *reconciler, const struct service *service,
		     enum base_reason reason, const char *vip, const char *pool, const char *note)
{
	const struct base_reason_info *info = base_reason_info(reason);
	struct events_subject subject = { .api = "v1",
					  .kind = "Service",
					  .namespace = service->namespace,
					  .name = service->name,
					  .uid = service->uid };
	char name[320];

	snprintf(name, sizeof name, "%s/%s", service->namespace, service->name);
	log_line(info->severity == BASE_SEVERITY_WARNING ? LOG_WARNING : LOG_NOTICE, reason,
		 LOG_FIELDS({ "SERVICE", name }, { "VIP", vip }, { "POOL", pool }), "%s: %s", name,
		 note);
	events_say(reconciler->events, &subject, reason,
		   reason == BASE_REASON_ADDRESS_RELEASED ? "Release" : "Allocate", note);
}

/* --- answers --- */

static const char *doing(enum step_type type)
{
	static const char *const words[] = {
		[STEP_SERVICE_FINALIZER] = "changing the finalizer of a Service",
		[STEP_SERVICE_STATUS] = "writing the status of a Service",
		[STEP_SERVICE_READ] = "reading a Service",
		[STEP_VIP_CREATE] = "creating a VirtualIP (virtualips.vipd.dev)",
		[STEP_VIP_UPDATE] = "changing a VirtualIP (virtualips.vipd.dev)",
		[STEP_VIP_DELETE] = "deleting a VirtualIP (virtualips.vipd.dev)",
		[STEP_POOL_STATUS] = "writing the status of an AddressPool (addresspools.vipd.dev)",
		[STEP_LEASE_DELETE] = "deleting a Lease",
		[STEP_VIP_ORDER] = "ordering a handover (virtualips.vipd.dev)",
		[STEP_VIP_STATUS] = "writing the status of a VirtualIP (virtualips.vipd.dev)",
		[STEP_SPEAKER_STATUS] = "writing the status of a Speaker (speakers.vipd.dev)",
		[STEP_SIGN_READ] = "reading the Lease of a speaker",
	};

	return words[type];
}

/* A fresh read says the same as the watch did, long after its time: the speaker is silent. */
static void put_sign(struct state *state, struct node *node, const cJSON *lease)
{
	if (strcmp(node->sign, k8s_object_text(lease, "metadata/resourceVersion")) == 0)
		state_node_silent(state, node);
	else
		state_put_sign(state, lease, reconciler_now());
}

/* The object as the server had it when it answered. */
static void feed_object(struct under_way *step, const cJSON *object, enum state_origin origin)
{
	struct reconciler *reconciler = step->reconciler;
	struct state *state = reconciler->state;

	reconciler->known(reconciler->userdata, step->type,
			  k8s_object_text(object, "metadata/resourceVersion"));
	switch (step->work->kind) {
	case WORK_SERVICE:
		state_put_service(state, object, origin);
		return;
	case WORK_VIP:
		state_put_vip(state, object, origin);
		return;
	case WORK_POOL:
		state_put_pool(state, object, origin);
		return;
	case WORK_LEASE:
		state_put_lease(state, object, origin);
		return;
	case WORK_SPEAKER:
		if (step->type == STEP_SIGN_READ)
			put_sign(state, node_of(step->work), object);
		else
			state_put_speaker(state, object);
		return;
	}
}

static void feed_absence(struct under_way *step)
{
	struct state *state = step->reconciler->state;
	struct claim *claim;

	if (step->work->gone)
		return; /* the watch was first; what is there now is another of that name */
	switch (step->work->kind) {
	case WORK_SERVICE:
		claim = claim_of(step->work);
		if (claim->exists)
			state_drop_service(state, claim->service.namespace, claim->service.name);
		claim->known_gone = true;
		return;
	case WORK_VIP:
		state_drop_vip(state, vip_of(step->work)->name);
		return;
	case WORK_POOL:
		state_drop_pool(state, pool_of(step->work)->name);
		return;
	case WORK_LEASE:
		lease_of(step->work)->uid[0] = '\0';
		return;
	case WORK_SPEAKER:
		if (step->type == STEP_SIGN_READ)
			node_of(step->work)->signs = false;
		return;
	}
}

static void forget_step(struct under_way *step)
{
	*step->link = step->next;
	if (step->next)
		step->next->link = step->link;
	free(step);
}

static void finish(struct under_way *step)
{
	struct work *work = step->work;

	work->gone = false;
	if (work->kind == WORK_LEASE)
		state_lease_done(step->reconciler->state, lease_of(work));
	forget_step(step);
}

static void again_later(struct under_way *step)
{
	queue_fail(&step->reconciler->state->queue, step->work, reconciler_now(),
		   base_random_next(&step->reconciler->random));
	finish(step);
}

static void on_reread(void *userdata, const struct k8s_response *response)
{
	struct under_way *step = userdata;
	struct work *work = step->work;

	if (response->result == K8S_RESULT_OK && response->body)
		feed_object(step, response->body, STATE_FROM_READ);
	else if (response->result == K8S_RESULT_NOT_FOUND)
		feed_absence(step);
	if ((response->result != K8S_RESULT_OK && response->result != K8S_RESULT_NOT_FOUND) ||
	    work->failures >= CONFLICTS_MAX) {
		again_later(step);
		return;
	}
	work->failures++;
	work->busy = false;
	queue_mark(&step->reconciler->state->queue, work);
	finish(step);
}

static void path_of(struct under_way *step, char *path, size_t size)
{
	const struct claim *claim;

	switch (step->work->kind) {
	case WORK_SERVICE:
		claim = claim_of(step->work);
		snprintf(path, size, "/api/v1/namespaces/%.*s/services/%s",
			 (int)strcspn(claim->key, "/"), claim->key, strchr(claim->key, '/') + 1);
		return;
	case WORK_VIP:
		snprintf(path, size, "/apis/vipd.dev/v1alpha1/virtualips/%s",
			 vip_of(step->work)->name);
		return;
	case WORK_POOL:
		snprintf(path, size, "/apis/vipd.dev/v1alpha1/addresspools/%s",
			 pool_of(step->work)->name);
		return;
	case WORK_SPEAKER:
		snprintf(path, size, "/apis/vipd.dev/v1alpha1/speakers/%s",
			 node_of(step->work)->name);
		return;
	case WORK_LEASE:
		snprintf(path, size, "/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s",
			 step->reconciler->namespace, lease_of(step->work)->name);
		return;
	}
}

/* Somebody else was faster, or nobody knows whether it landed: read, then decide again. */
static void read_again(struct under_way *step)
{
	char path[512];

	path_of(step, path, sizeof path);
	writer_send(step->reconciler->writer, "GET", path, NULL, NULL, on_reread, step);
}

static void on_landed(struct under_way *step, const struct k8s_response *response)
{
	struct reconciler *reconciler = step->reconciler;
	struct work *work = step->work;
	bool deleted = step->type == STEP_VIP_DELETE || step->type == STEP_LEASE_DELETE;

	if (deleted && work->kind == WORK_VIP)
		vip_of(work)->deleting = true; /* the watch says when it is gone */
	else if (deleted)
		lease_of(work)->uid[0] = '\0';
	else if (response->body)
		feed_object(step, response->body,
			    step->type == STEP_SERVICE_READ ? STATE_FROM_READ : STATE_FROM_OWN);
	trouble_over(&reconciler->troubles[step->type], doing(step->type));
	if (step->reason != BASE_REASON_NONE && work->kind == WORK_SERVICE &&
	    claim_of(work)->exists)
		reconciler_tell(reconciler, &claim_of(work)->service, step->reason, "", "",
				step->note);
	queue_end(&reconciler->state->queue, work);
	finish(step);
}

static void on_answer(void *userdata, const struct k8s_response *response)
{
	struct under_way *step = userdata;
	struct trouble *trouble = &step->reconciler->troubles[step->type];

	step->reconciler->writes++;
	step->reconciler->state->queue.now_us = reconciler_now();
	switch (response->result) {
	case K8S_RESULT_OK:
		on_landed(step, response);
		return;
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_UNKNOWN:
		read_again(step);
		return;
	case K8S_RESULT_INVALID: /* also the failed test of a JSON patch */
		if (step->type == STEP_SERVICE_STATUS && !step->reconciler->no_ip_mode &&
		    strstr(response->message, ".ipMode: field not declared in schema"))
			step->reconciler->no_ip_mode = true;
		else if (step->work->failures)
			trouble_report(trouble, doing(step->type), response);
		read_again(step);
		return;
	case K8S_RESULT_NOT_FOUND:
	case K8S_RESULT_GONE:
		if (step->type == STEP_VIP_CREATE) { /* of what is not there the kind is missing */
			trouble_report(trouble, doing(step->type), response);
			again_later(step);
			return;
		}
		feed_absence(step);
		queue_end(&step->reconciler->state->queue, step->work);
		finish(step);
		return;
	case K8S_RESULT_FORBIDDEN:
		trouble_report(trouble, doing(step->type), response);
		again_later(step);
		return;
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE: /* told by the writer, for all */
		again_later(step);
		return;
	}
}

void step_send(struct reconciler *reconciler, struct work *work, const struct step *step)
{
	struct under_way *sent = calloc(1, sizeof *sent);

	if (!sent) {
		cJSON_Delete(step->body);
		queue_fail(&reconciler->state->queue, work, reconciler_now(), 0);
		return;
	}
	sent->reconciler = reconciler;
	sent->work = work;
	sent->type = step->type;
	sent->reason = step->reason;
	memcpy(sent->note, step->note, sizeof sent->note);
	sent->next = reconciler->steps;
	sent->link = &reconciler->steps;
	if (sent->next)
		sent->next->link = &sent->next;
	reconciler->steps = sent;
	queue_begin(&reconciler->state->queue, work);
	writer_send(reconciler->writer, step->method, step->path, step->content_type, step->body,
		    on_answer, sent);
}

/* --- the loop --- */

static void run(struct reconciler *reconciler, struct work *work)
{
	switch (work->kind) {
	case WORK_SERVICE:
		reconcile_service(reconciler, claim_of(work));
		return;
	case WORK_VIP:
		reconcile_vip(reconciler, vip_of(work));
		return;
	case WORK_POOL:
		reconcile_pool(reconciler, pool_of(work));
		return;
	case WORK_LEASE:
		reconcile_lease(reconciler, lease_of(work));
		return;
	case WORK_SPEAKER:
		reconcile_speaker(reconciler, node_of(work));
		return;
	}
}

/* Quarantines that ended free addresses; their pools say so. */
static void advance(struct reconciler *reconciler)
{
	struct state *state = reconciler->state;
	uint64_t deadline_us;

	/* Also what ended while a pool was counted or an address chosen: those do not tell. */
	if (ipam_advance(state->ipam, reconciler_wall())) {
		state->retry = true;
		TABLE_EACH(&state->pools, entry)
			queue_mark(&state->queue, &TABLE_OF(entry, struct pool, entry)->work);
	}
	deadline_us = ipam_deadline(state->ipam);
	sd_event_source_set_time(reconciler->quarantine, deadline_us == BASE_USEC_NEVER
								 ? 0
								 : deadline_us + QUARANTINE_SLACK);
	sd_event_source_set_enabled(reconciler->quarantine, deadline_us == BASE_USEC_NEVER
								    ? SD_EVENT_OFF
								    : SD_EVENT_ONESHOT);
}

void reconciler_pump(struct reconciler *reconciler)
{
	struct state *state = reconciler->state;
	uint64_t deadline_us;

	if (!state->ipam)
		return;
	advance(reconciler);
	for (unsigned left = BUDGET; left > 0; left--) {
		struct work *work;
		uint64_t begun_us;

		state_retry_waiting(state);
		if (!reconciler->leads(reconciler->userdata) ||
		    !writer_ready(reconciler->writer, false))
			return; /* the writer, or the leader, wakes us */
		begun_us = reconciler_now();
		work = queue_take(&state->queue, begun_us);
		if (!work)
			break;
		run(reconciler, work);
		base_histogram_add(&reconciler->runs, base_usec_since(reconciler_now(), begun_us));
		if (!state->ipam)
			return;
	}
	deadline_us = queue_deadline(&state->queue);
	if (deadline_us == 0) {
		reconciler_wake(reconciler);
		return;
	}
	sd_event_source_set_time(reconciler->timer, deadline_us);
	sd_event_source_set_enabled(reconciler->timer, deadline_us == BASE_USEC_NEVER
							       ? SD_EVENT_OFF
							       : SD_EVENT_ONESHOT);
	events_pump(reconciler->events);
}

void reconciler_wake(struct reconciler *reconciler)
{
	sd_event_source_set_enabled(reconciler->defer, SD_EVENT_ONESHOT);
}

bool reconciler_idle(const struct reconciler *reconciler)
{
	return !reconciler->state->queue.ready.first && writer_busy(reconciler->writer) == 0;
}

static int on_defer(sd_event_source *source, void *userdata)
{
	(void)source;
	reconciler_pump(userdata);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	reconciler_pump(userdata);
	return 0;
}

static int on_balance(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct reconciler *reconciler = userdata;

	(void)usec;
	if (reconciler->state->ipam && reconciler->leads(reconciler->userdata)) {
		reconcile_balance(reconciler);
		reconciler_wake(reconciler);
	}
	sd_event_source_set_time_relative(source, BALANCE_EVERY_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int reconciler_init(struct reconciler *reconciler)
{
	sd_event *event = reconciler->event;
	int r;

	if (getrandom(&reconciler->random.state, sizeof reconciler->random.state, 0) < 0)
		reconciler->random.state = reconciler_now();
	r = sd_event_add_defer(event, &reconciler->defer, on_defer, reconciler);
	if (r >= 0)
		/* After the sockets: all that has arrived is read before anything is decided. */
		r = sd_event_source_set_priority(reconciler->defer, SD_EVENT_PRIORITY_NORMAL + 10);
	if (r >= 0)
		r = sd_event_source_set_enabled(reconciler->defer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(event, &reconciler->timer, CLOCK_BOOTTIME, UINT64_MAX, 1000,
				      on_timer, reconciler);
	if (r >= 0)
		r = sd_event_add_time(event, &reconciler->quarantine, CLOCK_REALTIME, UINT64_MAX,
				      100000, on_timer, reconciler);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &reconciler->balance, CLOCK_BOOTTIME,
					       BALANCE_EVERY_US, 100000, on_balance, reconciler);
	return r;
}

void reconciler_clear(struct reconciler *reconciler)
{
	while (reconciler->steps)
		forget_step(reconciler->steps);
	sd_event_source_disable_unref(reconciler->defer);
	sd_event_source_disable_unref(reconciler->timer);
	sd_event_source_disable_unref(reconciler->quarantine);
	sd_event_source_disable_unref(reconciler->balance);
	reconciler->defer = reconciler->timer = reconciler->quarantine = NULL;
	reconciler->balance = NULL;
}
