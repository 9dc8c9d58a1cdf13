#include "k8s/io/informer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/random.h"
#include "base/time.h"
#include "k8s/list.h"

#define BUCKETS		 1024
#define PAGE		 200
#define BACKOFF_FIRST_US (800 * BASE_USEC_PER_MSEC)
#define BACKOFF_MAX_US	 (30 * BASE_USEC_PER_SEC)
#define HEALTHY_US	 (120 * BASE_USEC_PER_SEC)
#define WATCH_MIN_S	 300 /* the server ends a watch after 5 to 10 minutes */
#define WATCH_GRACE_S	 30  /* then we do, if it did not */
#define SOON_US		 (200 * BASE_USEC_PER_MSEC) /* a stream that broke is first tried again */
#define VERSION_SIZE	 64

struct known {
	struct known *next;
	uint64_t uid; /* its hash */
	uint32_t round;
	uint16_t name_at; /* in text: namespace, NUL, name, NUL */
	char text[];
};

struct k8s_informer {
	struct k8s_client *client;
	sd_event *event;
	char *path, *selector;
	struct k8s_informer_handlers handlers;
	void *userdata;
	struct k8s_request *request;
	sd_event_source *timer;
	struct known *buckets[BUCKETS];
	uint32_t round;
	char version[VERSION_SIZE];
	char *next_page;
	bool synced, troubled, relist, broken;
	bool watching; /* the request is a watch */
	bool distrustful;
	bool patient; /* the server said how long to wait */
	uint64_t backoff_us, started_us;
	struct base_random random;
};

static void start_list(struct k8s_informer *informer);
static void start_watch(struct k8s_informer *informer);

static uint64_t now_usec(struct k8s_informer *informer)
{
	uint64_t now = 0;

	sd_event_now(informer->event, CLOCK_BOOTTIME, &now);
	return now;
}

static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static struct known **find(struct k8s_informer *informer, const char *namespace, const char *name)
{
	uint64_t hash = base_hash(namespace, strlen(namespace)) * 31 + base_hash(name, strlen(name));
	struct known **slot = &informer->buckets[hash % BUCKETS];

	while (*slot && (strcmp((*slot)->text, namespace) != 0 ||
			 strcmp((*slot)->text + (*slot)->name_at, name) != 0))
		slot = &(*slot)->next;
	return slot;
}

static void drop(struct k8s_informer *informer, struct known **slot)
{
	struct known *known = *slot;

	*slot = known->next;
	informer->handlers.on_gone(informer->userdata, known->text, known->text + known->name_at);
	free(known);
}

static void note_version(struct k8s_informer *informer, const cJSON *metadata)
{
	const char *version = text_of(metadata, "resourceVersion");

	if (*version && strlen(version) < VERSION_SIZE)
		strcpy(informer->version, version);
}

static uint64_t uid_of(const cJSON *metadata)
{
	const char *uid = text_of(metadata, "uid");

	return base_hash(uid, strlen(uid));
}

static void upsert(struct k8s_informer *informer, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const char *namespace = text_of(metadata, "namespace"), *name = text_of(metadata, "name");
	uint64_t uid = uid_of(metadata);
	struct known **slot, *known;

	if (!*name)
		return;
	slot = find(informer, namespace, name);
	/* Deleted and made again while we looked elsewhere: two different things. */
	if (*slot && (*slot)->uid != uid)
		drop(informer, slot);
	slot = find(informer, namespace, name);
	known = *slot;
	if (!known) {
		size_t namespace_size = strlen(namespace) + 1;

		known = calloc(1, sizeof *known + namespace_size + strlen(name) + 1);
		if (!known)
			return;
		known->name_at = namespace_size;
		strcpy(known->text, namespace);
		strcpy(known->text + namespace_size, name);
		known->uid = uid;
		known->next = *slot;
		*slot = known;
	}
	known->round = informer->round;
	informer->handlers.on_object(informer->userdata, object);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct k8s_informer *informer = userdata;

	(void)source;
	(void)usec;
	informer->patient = false;
	if (informer->request)
		return 0;
	if (informer->relist || !informer->version[0])
		start_list(informer);
	else
		start_watch(informer);
	return 0;
}

static void later(struct k8s_informer *informer, uint64_t wait_us)
{
	sd_event_source_set_time(informer->timer, now_usec(informer) + wait_us);
	sd_event_source_set_enabled(informer->timer, SD_EVENT_ONESHOT);
}

static void grow_backoff(struct k8s_informer *informer)
{
	informer->backoff_us *= 2;
	if (informer->backoff_us > BACKOFF_MAX_US)
		informer->backoff_us = BACKOFF_MAX_US;
}

static void trouble(struct k8s_informer *informer, const struct k8s_response *response)
{
	uint64_t wait_us = informer->backoff_us;

	informer->troubled = true;
	informer->handlers.on_trouble(informer->userdata, response);
	wait_us += base_random_below(&informer->random, wait_us);
	if (response->retry_after_us > wait_us)
		wait_us = response->retry_after_us;
	informer->patient = response->retry_after_us > 0;
	grow_backoff(informer);
	later(informer, wait_us);
}

static void works_again(struct k8s_informer *informer)
{
	struct k8s_response fine = { .result = K8S_RESULT_OK, .status = 200 };

	if (informer->troubled)
		informer->handlers.on_trouble(informer->userdata, &fine);
	informer->troubled = false;
	informer->broken = false;
}

/* 410: the version is of no use any more. Anything else, too, is cured by a list, after a while. */
static void on_watch_error(struct k8s_informer *informer, const cJSON *status)
{
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(status, "code");
	struct k8s_response response = { .result = K8S_RESULT_SERVER_ERROR };

	informer->relist = true;
	if (cJSON_IsNumber(code) && code->valuedouble == 410)
		return;
	informer->broken = true; /* told and waited for when the stream has ended */
	response.status = cJSON_IsNumber(code) ? code->valueint : 0;
	snprintf(response.message, sizeof response.message, "%s", text_of(status, "message"));
	informer->handlers.on_trouble(informer->userdata, &response);
	informer->troubled = true;
}

static int on_watch_line(void *userdata, const cJSON *event)
{
	struct k8s_informer *informer = userdata;
	const char *type = text_of(event, "type");
	const cJSON *object = cJSON_GetObjectItemCaseSensitive(event, "object");
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");

	if (strcmp(type, "ERROR") == 0) {
		on_watch_error(informer, object);
		return -1;
	}
	works_again(informer);
	if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0) {
		upsert(informer, object);
	} else if (strcmp(type, "DELETED") == 0) {
		struct known **slot =
			find(informer, text_of(metadata, "namespace"), text_of(metadata, "name"));

		if (*slot && (*slot)->uid == uid_of(metadata))
			drop(informer, slot);
	}
	note_version(informer, metadata);
	return 0;
}

static void on_watch_end(void *userdata, const struct k8s_response *response)
{
	struct k8s_informer *informer = userdata;
	uint64_t lasted_us = base_usec_since(now_usec(informer), informer->started_us);
	bool ended = response->result == K8S_RESULT_OK && !informer->broken;

	informer->request = NULL;
	if (response->result == K8S_RESULT_GONE || response->malformed ||
	    (informer->distrustful && !ended))
		informer->relist = true;
	if (lasted_us > HEALTHY_US)
		informer->backoff_us = BACKOFF_FIRST_US;
	if (informer->relist && (ended || response->result == K8S_RESULT_GONE)) {
		later(informer, base_random_below(&informer->random, SOON_US));
	} else if (ended && lasted_us > BASE_USEC_PER_SEC) {
		later(informer, 0); /* a watch ends now and then: normal */
	} else if (response->result == K8S_RESULT_UNKNOWN && lasted_us > BASE_USEC_PER_SEC) {
		/* The connection broke. That is worth a line only if the next one fails, too. */
		later(informer, SOON_US + base_random_below(&informer->random, SOON_US));
	} else if (ended || informer->broken) {
		later(informer, informer->backoff_us +
					base_random_below(&informer->random, informer->backoff_us));
		grow_backoff(informer);
	} else {
		trouble(informer, response);
	}
	informer->broken = false;
}

static void start_watch(struct k8s_informer *informer)
{
	unsigned seconds = WATCH_MIN_S + (unsigned)base_random_below(&informer->random, WATCH_MIN_S);
	char *path;

	if (asprintf(&path, "%s?watch=true&allowWatchBookmarks=true&timeoutSeconds=%u&resourceVersion=%s%s%s",
		     informer->path, seconds, informer->version,
		     informer->selector ? "&labelSelector=" : "",
		     informer->selector ? informer->selector : "") < 0)
		return;
	informer->started_us = now_usec(informer);
	informer->watching = true;
	informer->request = k8s_client_watch(informer->client, path,
					     (seconds + WATCH_GRACE_S) * 1000, on_watch_line,
					     on_watch_end, informer);
	free(path);
	if (!informer->request)
		later(informer, informer->backoff_us);
}

static void end_list(struct k8s_informer *informer)
{
	bool first = !informer->synced;

	for (size_t i = 0; i < BUCKETS; i++)
		for (struct known **slot = &informer->buckets[i]; *slot;) {
			if ((*slot)->round == informer->round)
				slot = &(*slot)->next;
			else
				drop(informer, slot);
		}
	informer->relist = false;
	informer->synced = true;
	informer->backoff_us = BACKOFF_FIRST_US;
	informer->handlers.on_synced(informer->userdata, first);
}

static void list_page(struct k8s_informer *informer);

static void on_item(void *userdata, const cJSON *object)
{
	upsert(userdata, object);
}

static void list_failed(struct k8s_informer *informer, const struct k8s_response *response)
{
	free(informer->next_page);
	informer->next_page = NULL; /* a page token that failed: from the start */
	informer->relist = true;
	trouble(informer, response);
}

static void on_list(void *userdata, const struct k8s_response *response)
{
	struct k8s_informer *informer = userdata;
	struct k8s_response malformed = { .result = K8S_RESULT_UNKNOWN };
	struct base_error error = { 0 };
	struct k8s_list list;

	informer->request = NULL;
	if (response->result != K8S_RESULT_OK) {
		list_failed(informer, response);
		return;
	}
	if (k8s_list_parse(response->text ? response->text : "", response->size, on_item, informer,
			   &list, &error) < 0 ||
	    !list.version[0]) {
		snprintf(malformed.message, sizeof malformed.message, "%s",
			 error.message[0] ? error.message : "a list without resourceVersion");
		list_failed(informer, &malformed);
		return;
	}
	works_again(informer);
	free(informer->next_page);
	informer->next_page = list.more[0] ? strdup(list.more) : NULL;
	if (informer->next_page) {
		list_page(informer);
		return;
	}
	snprintf(informer->version, sizeof informer->version, "%s", list.version);
	end_list(informer);
	start_watch(informer);
}

static void list_page(struct k8s_informer *informer)
{
	struct k8s_call call = { .method = "GET", .raw = true };
	char *path;

	if (asprintf(&path, "%s?limit=%d%s%s%s%s", informer->path, PAGE,
		     informer->selector ? "&labelSelector=" : "",
		     informer->selector ? informer->selector : "",
		     informer->next_page ? "&continue=" : "",
		     informer->next_page ? informer->next_page : "") < 0)
		return;
	call.path = path;
	informer->watching = false;
	informer->request = k8s_client_call(informer->client, &call, on_list, informer);
	free(path);
	if (!informer->request)
		later(informer, informer->backoff_us);
}

static void start_list(struct k8s_informer *informer)
{
	informer->round++;
	list_page(informer);
}

int k8s_informer_new(struct k8s_informer **result, struct k8s_client *client, sd_event *event,
		     const char *path, const char *selector,
		     const struct k8s_informer_handlers *handlers, void *userdata)
{
	struct k8s_informer *informer = calloc(1, sizeof *informer);
	int r;

	if (!informer)
		return -ENOMEM;
	informer->client = client;
	informer->event = sd_event_ref(event);
	informer->path = strdup(path);
	informer->selector = selector ? strdup(selector) : NULL;
	informer->handlers = *handlers;
	informer->userdata = userdata;
	informer->backoff_us = BACKOFF_FIRST_US;
	if (getrandom(&informer->random.state, sizeof informer->random.state, 0) < 0)
		informer->random.state = (uint64_t)(uintptr_t)informer;
	r = sd_event_add_time_relative(event, &informer->timer, CLOCK_BOOTTIME, 0, 1000, on_timer,
				       informer);
	if (r < 0) {
		k8s_informer_free(informer);
		return r;
	}
	*result = informer;
	return 0;
}

void k8s_informer_free(struct k8s_informer *informer)
{
	if (!informer)
		return;
	k8s_request_cancel(informer->request);
	for (size_t i = 0; i < BUCKETS; i++)
		while (informer->buckets[i]) {
			struct known *next = informer->buckets[i]->next;

			free(informer->buckets[i]);
			informer->buckets[i] = next;
		}
	sd_event_source_disable_unref(informer->timer);
	sd_event_unref(informer->event);
	free(informer->path);
	free(informer->selector);
	free(informer->next_page);
	free(informer);
}

void k8s_informer_kick(struct k8s_informer *informer)
{
	if (informer->request || informer->patient)
		return;
	informer->backoff_us = BACKOFF_FIRST_US;
	/* Not all nodes at once, when a server has come back for all of them. */
	later(informer, base_random_below(&informer->random, SOON_US));
}

void k8s_informer_distrust(struct k8s_informer *informer)
{
	informer->distrustful = true;
}

uint64_t k8s_informer_watching_us(struct k8s_informer *informer)
{
	return informer->request && informer->watching
		       ? base_usec_since(now_usec(informer), informer->started_us)
		       : 0;
}

void k8s_informer_restart(struct k8s_informer *informer, bool relist)
{
	informer->relist = informer->relist || relist;
	if (!informer->request || !informer->watching)
		return; /* listing; or waiting, and then it does as it is told */
	if (k8s_request_break(informer->request))
		return; /* on_watch_end() follows */
	k8s_request_cancel(informer->request);
	informer->request = NULL;
	later(informer, base_random_below(&informer->random, SOON_US));
}

bool k8s_informer_synced(const struct k8s_informer *informer)
{
	return informer->synced;
}

bool k8s_informer_knows(struct k8s_informer *informer, const char *namespace, const char *name)
{
	return *find(informer, namespace, name) != NULL;
}

const char *k8s_informer_path(const struct k8s_informer *informer)
{
	return informer->path;
}

const char *k8s_informer_version(const struct k8s_informer *informer)
{
	return informer->version;
}
