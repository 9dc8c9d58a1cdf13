#include "daemon/controller/page.h"

#include <string.h>
#include <unistd.h>

#include "daemon/metrics/render.h"

static const char *const kinds[WORK_KIND_COUNT] = { [WORK_SERVICE] = "service",
						    [WORK_VIP] = "virtualip",
						    [WORK_POOL] = "addresspool",
						    [WORK_LEASE] = "lease",
						    [WORK_SPEAKER] = "speaker" };

/* --- pools --- */

enum column {
	COLUMN_CAPACITY,
	COLUMN_ASSIGNED,
	COLUMN_AVAILABLE,
	COLUMN_QUARANTINED,
};

static uint64_t cell(const struct ipam_family_status *status, enum column column)
{
	switch (column) {
	case COLUMN_CAPACITY:
		return status->capacity;
	case COLUMN_ASSIGNED:
		return status->assigned;
	case COLUMN_AVAILABLE:
		return status->available;
	case COLUMN_QUARANTINED:
		return status->quarantined;
	}
	return 0;
}

static void render_pools(struct metrics_text *text, const struct state *state)
{
	static const struct {
		enum column column;
		const char *name, *help;
	} columns[] = {
		{ COLUMN_CAPACITY, "vipd_pool_capacity",
		  "Addresses that the pool may give at all." },
		{ COLUMN_ASSIGNED, "vipd_pool_assigned", "Addresses that somebody holds." },
		{ COLUMN_AVAILABLE, "vipd_pool_available",
		  "Addresses that could be given to anybody now." },
		{ COLUMN_QUARANTINED, "vipd_pool_quarantined",
		  "Addresses that were given back and wait." },
	};

	for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
		metrics_family(text, METRICS_GAUGE, columns[i].name, columns[i].help);
		TABLE_EACH(&state->pools, entry) {
			const struct pool *pool = TABLE_OF(entry, struct pool, entry);
			struct ipam_pool_status status;

			if (!pool->exists ||
			    !ipam_pool_status(state->ipam, pool->name, reconciler_wall(), &status))
				continue;
			if (status.ipv4.capacity || status.ipv4.assigned)
				metrics_count(text, cell(&status.ipv4, columns[i].column), "pool",
					      pool->name, "family", "ipv4", NULL);
			if (status.ipv6.capacity || status.ipv6.assigned)
				metrics_count(text, cell(&status.ipv6, columns[i].column), "pool",
					      pool->name, "family", "ipv6", NULL);
		}
	}
	metrics_family(text, METRICS_GAUGE, "vipd_pool_accepted",
		       "1: the pool's spec is in force as it stands.");
	TABLE_EACH(&state->pools, entry) {
		const struct pool *pool = TABLE_OF(entry, struct pool, entry);

		if (pool->exists)
			metrics_count(text, !pool->problem[0], "pool", pool->name, NULL);
	}
}

/* --- the rest --- */

static void render_queue(struct metrics_text *text, const struct controller_view *view)
{
	const struct queue_counts *counts = &view->state->queue.counts;
	static const struct {
		const char *name, *help;
		enum metrics_type type;
		size_t offset;
	} columns[] = {
		{ "workqueue_depth", "What is to be looked at again, now.", METRICS_GAUGE,
		  offsetof(struct queue_counts, depth) },
		{ "workqueue_adds_total", "How often something came to it.", METRICS_COUNTER,
		  offsetof(struct queue_counts, adds) },
		{ "workqueue_retries_total", "How often it came again after a failure.",
		  METRICS_COUNTER, offsetof(struct queue_counts, retries) },
	};

	for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
		const uint64_t *values = (const void *)((const char *)counts + columns[i].offset);

		metrics_family(text, columns[i].type, columns[i].name, columns[i].help);
		for (int kind = 0; kind < WORK_KIND_COUNT; kind++)
			metrics_count(text, values[kind], "name", kinds[kind], NULL);
	}
	metrics_family(text, METRICS_HISTOGRAM, "workqueue_queue_duration_seconds",
		       "How long things waited for their turn.");
	metrics_histogram(text, &counts->waits, NULL, NULL);
	metrics_family(text, METRICS_HISTOGRAM, "workqueue_work_duration_seconds",
		       "How long it took to decide about one; its request is not in it.");
	metrics_histogram(text, &view->reconciler->runs, NULL, NULL);
}

static void render_objects(struct metrics_text *text, const struct state *state)
{
	uint64_t services = 0, vips = 0, unserved = 0;

	TABLE_EACH(&state->claims, entry) {
		const struct claim *claim = TABLE_OF(entry, struct claim, entry);

		services += claim->exists;
		unserved += claim->exists && claim->unserved_us > 0;
	}
	TABLE_EACH(&state->vips, entry)
		vips += TABLE_OF(entry, struct vip, entry)->exists;
	metrics_gauge(text, "vipd_services", "Services that are ours.", services);
	metrics_gauge(text, "vipd_services_waiting", "Services whose address was refused.",
		      state->waiting);
	metrics_gauge(text, "vipd_services_unserved",
		      "Services that have an address for which nobody answers.", unserved);
	metrics_gauge(text, "vipd_virtual_ips", "VirtualIP objects.", vips);
	metrics_gauge(text, "vipd_handovers_pending",
		      "Handovers that were ordered and not carried out yet.", state->moving);
}

static void answer_metrics(const struct controller_view *view, struct server_answer *answer)
{
	struct metrics_text *text = &answer->text;
	bool leads = view->leads(view->userdata) && view->state->ipam;

	answer->status = 200;
	answer->type = SERVER_TYPE_METRICS;
	render_build(text, "controller", "");
	metrics_gauge(text, "vipd_ready", "1: everything was read once.", *view->ready);
	metrics_family(text, METRICS_GAUGE, "leader_election_master_status",
		       "1: this controller leads.");
	metrics_count(text, leads, "name", "vipd-controller", NULL);
	metrics_gauge(text, "vipd_api_reachable", "1: the API server answers.",
		      watches_away(*view->watches) == 0 && *view->ready);
	render_queue(text, view);
	if (leads) {
		render_pools(text, view->state);
		render_objects(text, view->state);
		drills_render(*view->drills, text);
	}
	render_api(text, view->counters);
	render_process(text, (unsigned)getpid(), reconciler_wall());
}

static cJSON *describe_pools(const struct state *state)
{
	cJSON *list = cJSON_CreateArray();

	TABLE_EACH(&state->pools, entry) {
		const struct pool *pool = TABLE_OF(entry, struct pool, entry);
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "name", pool->name);
		cJSON_AddStringToObject(item, "problem", pool->problem);
		if (pool->status)
			cJSON_AddItemToObject(item, "status", cJSON_Duplicate(pool->status, true));
		cJSON_AddItemToArray(list, item);
	}
	return list;
}

static cJSON *describe_services(const struct state *state)
{
	cJSON *list = cJSON_CreateArray();

	TABLE_EACH(&state->claims, entry) {
		const struct claim *claim = TABLE_OF(entry, struct claim, entry);
		cJSON *item;

		if (!claim->exists)
			continue;
		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "name", claim->key);
		cJSON_AddBoolToObject(item, "waiting", claim->waiting);
		cJSON_AddNumberToObject(item, "virtualIPs", claim->vip_count);
		cJSON_AddNumberToObject(item, "failures", claim->work.failures);
		cJSON_AddItemToArray(list, item);
	}
	return list;
}

static cJSON *describe_vips(const struct state *state)
{
	cJSON *list = cJSON_CreateArray();

	TABLE_EACH(&state->vips, entry) {
		const struct vip *vip = TABLE_OF(entry, struct vip, entry);
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "name", vip->name);
		cJSON_AddBoolToObject(item, "exists", vip->exists);
		cJSON_AddStringToObject(item, "pool", vip->pool);
		cJSON_AddStringToObject(item, "virtualRouter", vip->router);
		cJSON_AddStringToObject(
			item, "unplaced",
			vip->unplaced == BASE_REASON_NONE ? "" : base_reason_word(vip->unplaced));
		cJSON_AddNumberToObject(item, "failures", vip->work.failures);
		cJSON_AddItemToArray(list, item);
	}
	return list;
}

static void answer_state(const struct controller_view *view, struct server_answer *answer)
{
	cJSON *tree = cJSON_CreateObject(), *queue = cJSON_AddObjectToObject(tree, "queue");
	char *text;

	cJSON_AddStringToObject(tree, "version", VIPD_VERSION);
	cJSON_AddBoolToObject(tree, "ready", *view->ready);
	cJSON_AddBoolToObject(tree, "leads", view->leads(view->userdata) && view->state->ipam);
	cJSON_AddBoolToObject(tree, "apiReachable", watches_away(*view->watches) == 0 && *view->ready);
	for (int kind = 0; kind < WORK_KIND_COUNT; kind++)
		cJSON_AddNumberToObject(queue, kinds[kind],
					(double)view->state->queue.counts.depth[kind]);
	cJSON_AddItemToObject(tree, "pools", describe_pools(view->state));
	cJSON_AddItemToObject(tree, "services", describe_services(view->state));
	cJSON_AddItemToObject(tree, "virtualIPs", describe_vips(view->state));
	text = cJSON_PrintUnformatted(tree);
	cJSON_Delete(tree);
	answer->status = text ? 200 : 503;
	answer->type = text ? SERVER_TYPE_JSON : SERVER_TYPE_TEXT;
	metrics_print(&answer->text, "%s\n", text ? text : "out of memory");
	cJSON_free(text);
}

void controller_page(void *userdata, const char *path, struct server_answer *answer)
{
	const struct controller_view *view = userdata;

	if (strcmp(path, "/metrics") == 0) {
		answer_metrics(view, answer);
	} else if (strcmp(path, "/state") == 0) {
		answer_state(view, answer);
	} else if (strcmp(path, "/healthz") == 0) {
		answer->status = 200; /* the loop turns, or nobody would say so */
		metrics_print(&answer->text, "ok\n");
	} else if (strcmp(path, "/readyz") == 0) {
		answer->status = *view->ready ? 200 : 503;
		metrics_print(
			&answer->text, "%s\n",
			*view->ready
				? "ok"
				: "not ready: not everything was read from the API server yet");
	}
}
