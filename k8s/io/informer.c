#include "k8s/io/informer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/random.h"
#include "base/time.h"
#include "k8s/known.h"
#include "k8s/list.h"
#include "k8s/object.h"

#define PAGE		 200
#define BACKOFF_FIRST_US (800 * BASE_USEC_PER_MSEC)
#define BACKOFF_MAX_US	 (30 * BASE_USEC_PER_SEC)
#define HEALTHY_US	 (120 * BASE_USEC_PER_SEC)
#define WATCH_MIN_S	 300 /* the server ends a watch after 5 to 10 minutes */
#define WATCH_GRACE_S	 30  /* then we do, if it did not */
#define SOON_US		 (200 * BASE_USEC_PER_MSEC) /* a stream that broke is first tried again */
#define QUIET_US	 (150 * BASE_USEC_PER_SEC)  /* bookmarks come about once a minute */
#define FILL_QUIET_US	 (30 * BASE_USEC_PER_SEC)   /* between two lines while all is told */
#define FILL_BREAKS_MAX	 2 /* streams that ended before all was told; then pages are asked for */
#define VERSION_SIZE	 64

enum phase {
	PHASE_WAITING,
	PHASE_LISTING,	/* a page */
	PHASE_FILLING,	/* a stream that tells all there are first */
	PHASE_ASKING,	/* whether the server is still where it was */
	PHASE_WATCHING, /* a stream of changes */
};

struct k8s_informer {
	struct k8s_client *client;
	sd_event *event;
	char *path, *selector;
	struct k8s_informer_handlers handlers;
	void *userdata;
	enum phase phase;
	struct k8s_request *request;
	sd_event_source *timer; /* waiting: until when; a stream: is it alive? */
	struct k8s_known known;
	char version[VERSION_SIZE];
	char *next_page;
	bool synced, troubled, relist, broken;
	bool pages; /* this server does not tell all in a stream */
	unsigned fill_breaks;
	bool filled;   /* all was told, and nobody of it yet: not from within a line */
	bool doubtful; /* a connection broke: the server may be an older self of it now */
	bool distrustful;
	bool patient; /* the server said how long to wait */
	bool spoke;   /* the stream told of a change: from then on bookmarks come */
	bool silent;  /* the one before fell silent, and this one said nothing yet */
	uint64_t quiet_us;
	uint64_t backoff_us, started_us, heard_us;
	struct base_random random;
};

static void start_list(struct k8s_informer *informer);
static void start_watch(struct k8s_informer *informer);
static void start_asking(struct k8s_informer *informer);
static void check_stream(struct k8s_informer *informer);

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

static void note_version(struct k8s_informer *informer, const char *version)
{
	if (*version && strlen(version) < VERSION_SIZE)
		strcpy(informer->version, version);
}

static void tell_gone(void *userdata, const char *namespace, const char *name)
{
	struct k8s_informer *informer = userdata;

	informer->handlers.on_gone(informer->userdata, namespace, name);
}

static void upsert(struct k8s_informer *informer, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const char *namespace = text_of(metadata, "namespace"), *name = text_of(metadata, "name");
	int change;

	if (!*name)
		return;
	change = k8s_known_put(&informer->known, namespace, name, text_of(metadata, "uid"));
	if (change < 0)
		return;
	if (change == K8S_KNOWN_OTHER)
		tell_gone(informer, namespace, name);
	informer->handlers.on_object(informer->userdata, object);
}

static void drop(struct k8s_informer *informer, const cJSON *metadata)
{
	const char *namespace = text_of(metadata, "namespace"), *name = text_of(metadata, "name");

	if (k8s_known_remove(&informer->known, namespace, name, text_of(metadata, "uid")))
		tell_gone(informer, namespace, name);
}

/* What anybody remembers of versions is of another time. */
static void note_rewound(struct k8s_informer *informer)
{
	informer->version[0] = '\0';
	if (informer->handlers.on_rewound)
		informer->handlers.on_rewound(informer->userdata);
}

/* Everything there is was told. */
static void complete(struct k8s_informer *informer, const char *version)
{
	if (informer->version[0] && k8s_version_compare(version, informer->version) < 0)
		note_rewound(informer);
	snprintf(informer->version, sizeof informer->version, "%s", version);
	k8s_known_sweep(&informer->known, tell_gone, informer);
	informer->relist = informer->doubtful = false;
	informer->backoff_us = BACKOFF_FIRST_US;
	informer->fill_breaks = 0;
}

static void tell_synced(struct k8s_informer *informer)
{
	bool first = !informer->synced;

	informer->filled = false;
	informer->synced = true;
	informer->handlers.on_synced(informer->userdata, first);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct k8s_informer *informer = userdata;

	(void)source;
	(void)usec;
	if (informer->filled)
		tell_synced(informer);
	if (informer->phase != PHASE_WAITING) {
		check_stream(informer);
		return 0;
	}
	informer->patient = false;
	if (informer->relist || !informer->version[0])
		start_list(informer);
	else if (informer->doubtful)
		start_asking(informer);
	else
		start_watch(informer);
	return 0;
}

static void later(struct k8s_informer *informer, uint64_t wait_us)
{
	sd_event_source_set_time(informer->timer, now_usec(informer) + wait_us);
	sd_event_source_set_enabled(informer->timer, SD_EVENT_ONESHOT);
}

static void wait_for(struct k8s_informer *informer, uint64_t wait_us)
{
	informer->request = NULL;
	informer->phase = PHASE_WAITING;
	later(informer, wait_us);
}

/* A request that was just made, or could not be. */
static void begin(struct k8s_informer *informer, enum phase phase, struct k8s_request *request)
{
	informer->request = request;
	informer->phase = phase;
	if (!request)
		wait_for(informer, informer->backoff_us);
	else
		sd_event_source_set_enabled(informer->timer, SD_EVENT_OFF);
}

static void grow_backoff(struct k8s_informer *informer)
{
	informer->backoff_us *= 2;
	if (informer->backoff_us > BACKOFF_MAX_US)
		informer->backoff_us = BACKOFF_MAX_US;
}

static void back_off(struct k8s_informer *informer)
{
	wait_for(informer, informer->backoff_us +
				   base_random_below(&informer->random, informer->backoff_us));
	grow_backoff(informer);
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
	wait_for(informer, wait_us);
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

/* Negative: what follows is of no use. */
static int on_bookmark(struct k8s_informer *informer, const cJSON *object)
{
	const char *version = k8s_object_text(object, "metadata/resourceVersion");

	if (informer->phase == PHASE_WATCHING) {
		informer->spoke = true;
		note_version(informer, version);
		return 0;
	}
	if (strcmp(k8s_object_annotation(object, "k8s.io/initial-events-end"), "true") != 0 ||
	    !*version || strlen(version) >= VERSION_SIZE) {
		informer->pages = true; /* the server did not hear what it was asked for */
		return -1;
	}
	complete(informer, version);
	informer->filled = true;
	informer->phase = PHASE_WATCHING;
	informer->started_us = now_usec(informer);
	later(informer, 0);
	return 0;
}

static int on_line(void *userdata, const cJSON *event)
{
	struct k8s_informer *informer = userdata;
	const char *type = text_of(event, "type");
	const cJSON *object = cJSON_GetObjectItemCaseSensitive(event, "object");
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");

	informer->heard_us = now_usec(informer);
	informer->silent = false;
	if (strcmp(type, "ERROR") == 0) {
		on_watch_error(informer, object);
		return -1;
	}
	works_again(informer);
	if (strcmp(type, "BOOKMARK") == 0)
		return on_bookmark(informer, object);
	if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0)
		upsert(informer, object);
	else if (strcmp(type, "DELETED") == 0)
		drop(informer, metadata);
	if (informer->phase == PHASE_WATCHING) { /* before, they come in no order of versions */
		informer->spoke = true;
		note_version(informer, text_of(metadata, "resourceVersion"));
	}
	return 0;
}

static bool did_not_happen(const struct k8s_response *response)
{
	return response->status == 0 || response->result == K8S_RESULT_THROTTLED ||
	       response->result == K8S_RESULT_UNAUTHORIZED ||
	       response->result == K8S_RESULT_NOT_FOUND || response->status >= 500;
}

/* The stream ended before all was told. */
static void on_fill_end(struct k8s_informer *informer, const struct k8s_response *response)
{
	struct k8s_response cut = { .result = K8S_RESULT_UNKNOWN,
				    .message = "the stream ended before all objects were told" };
	bool refused = response->result == K8S_RESULT_INVALID ||
		       response->result == K8S_RESULT_FORBIDDEN || informer->pages;

	informer->relist = true;
	if (!did_not_happen(response) && ++informer->fill_breaks >= FILL_BREAKS_MAX)
		informer->pages = true;
	informer->pages |= refused;
	if (refused)
		start_list(informer);
	else if (response->result == K8S_RESULT_GONE)
		wait_for(informer, base_random_below(&informer->random, SOON_US));
	else if (informer->broken)
		back_off(informer);
	else
		trouble(informer, response->result == K8S_RESULT_OK ? &cut : response);
}

static void on_watch_end(struct k8s_informer *informer, const struct k8s_response *response)
{
	uint64_t lasted_us = base_usec_since(now_usec(informer), informer->started_us);
	bool ended = response->result == K8S_RESULT_OK && !informer->broken;

	if (response->result == K8S_RESULT_GONE || response->malformed ||
	    (informer->distrustful && !ended))
		informer->relist = true;
	informer->doubtful |= !ended;
	if (lasted_us > HEALTHY_US)
		informer->backoff_us = BACKOFF_FIRST_US;
	if (informer->relist && (ended || response->result == K8S_RESULT_GONE)) {
		wait_for(informer, base_random_below(&informer->random, SOON_US));
	} else if (ended && lasted_us > BASE_USEC_PER_SEC) {
		wait_for(informer, 0); /* a watch ends now and then: normal */
	} else if (response->result == K8S_RESULT_UNKNOWN && !response->malformed &&
		   lasted_us > BASE_USEC_PER_SEC) {
		/* The connection broke. That is worth a line only if the next one fails, too. */
		wait_for(informer, SOON_US + base_random_below(&informer->random, SOON_US));
	} else if (ended || informer->broken) {
		back_off(informer);
	} else {
		trouble(informer, response);
	}
}

static void on_stream_end(void *userdata, const struct k8s_response *response)
{
	struct k8s_informer *informer = userdata;

	informer->request = NULL;
	if (informer->filled)
		tell_synced(informer);
	if (informer->phase == PHASE_FILLING)
		on_fill_end(informer, response);
	else
		on_watch_end(informer, response);
	informer->broken = false;
}

static void start_stream(struct k8s_informer *informer, enum phase phase, const char *from)
{
	unsigned seconds = WATCH_MIN_S + (unsigned)base_random_below(&informer->random, WATCH_MIN_S);
	char *path;

	if (asprintf(&path, "%s?watch=true&allowWatchBookmarks=true&timeoutSeconds=%u%s%s%s%s",
		     informer->path, seconds, from,
		     phase == PHASE_WATCHING ? informer->version : "",
		     informer->selector ? "&labelSelector=" : "",
		     informer->selector ? informer->selector : "") < 0) {
		wait_for(informer, informer->backoff_us);
		return;
	}
	informer->started_us = informer->heard_us = now_usec(informer);
	informer->spoke = informer->silent; /* bookmarks were promised for the one before */
	begin(informer, phase,
	      k8s_client_watch(informer->client, path, (seconds + WATCH_GRACE_S) * 1000, on_line,
			       on_stream_end, informer));
	free(path);
	if (informer->request)
		check_stream(informer);
}

static void start_watch(struct k8s_informer *informer)
{
	start_stream(informer, PHASE_WATCHING, "&resourceVersion=");
}

/* --- a stream that says nothing --- */

/*
 * While all is told something has to come. Later a server sends a bookmark about once a minute, but only
 * if there was ever a change of this kind since it was started: a stream that never said anything proves
 * nothing, one that did and stops is dead, though its connection may be alive.
 */
static void check_stream(struct k8s_informer *informer)
{
	bool filling = informer->phase == PHASE_FILLING;
	uint64_t limit_us = filling ? FILL_QUIET_US : informer->quiet_us;
	uint64_t quiet_us = base_usec_since(now_usec(informer), informer->heard_us);
	struct k8s_response dead = { .result = K8S_RESULT_UNKNOWN,
				     .message = "the stream fell silent" };

	if (!filling && informer->phase != PHASE_WATCHING)
		return;
	if (quiet_us < limit_us || (!filling && !informer->spoke)) {
		later(informer, limit_us - (quiet_us < limit_us ? quiet_us : 0));
		return;
	}
	if (!filling && !informer->silent) {
		/* Perhaps it is this stream alone. */
		informer->silent = true;
		k8s_request_cancel(informer->request);
		wait_for(informer, 0);
		return;
	}
	informer->silent = false;
	informer->relist = true;
	if (k8s_request_break(informer->request))
		return; /* on_stream_end() follows */
	k8s_request_cancel(informer->request);
	on_stream_end(informer, &dead);
}

/* --- lists --- */

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

/* False: told what is wrong. */
static bool read_list(struct k8s_informer *informer, const struct k8s_response *response,
		      void (*item)(void *userdata, const cJSON *object), struct k8s_list *list)
{
	struct k8s_response malformed = { .result = K8S_RESULT_UNKNOWN, .malformed = true };
	struct base_error error = { 0 };

	if (k8s_list_parse(response->text ? response->text : "", response->size, item, informer,
			   list, &error) == 0 &&
	    list->version[0])
		return true;
	snprintf(malformed.message, sizeof malformed.message, "%s",
		 error.message[0] ? error.message : "a list without resourceVersion");
	list_failed(informer, &malformed);
	return false;
}

static void on_list(void *userdata, const struct k8s_response *response)
{
	struct k8s_informer *informer = userdata;
	struct k8s_list list;

	informer->request = NULL;
	if (response->result != K8S_RESULT_OK) {
		list_failed(informer, response);
		return;
	}
	if (!read_list(informer, response, on_item, &list))
		return;
	works_again(informer);
	free(informer->next_page);
	informer->next_page = list.more[0] ? strdup(list.more) : NULL;
	if (informer->next_page) {
		list_page(informer);
		return;
	}
	complete(informer, list.version);
	tell_synced(informer);
	start_watch(informer);
}

static void get(struct k8s_informer *informer, enum phase phase, const char *query,
		const char *value, k8s_done_fn *done)
{
	struct k8s_call call = { .method = "GET", .raw = true };
	char *path;

	if (asprintf(&path, "%s?%s%s%s%s", informer->path, query, value,
		     informer->selector ? "&labelSelector=" : "",
		     informer->selector ? informer->selector : "") < 0) {
		wait_for(informer, informer->backoff_us);
		return;
	}
	call.path = path;
	begin(informer, phase, k8s_client_call(informer->client, &call, done, informer));
	free(path);
}

#define TEXT_(x) #x
#define TEXT(x)	 TEXT_(x)

static void list_page(struct k8s_informer *informer)
{
	get(informer, PHASE_LISTING,
	    informer->next_page ? "limit=" TEXT(PAGE) "&continue=" : "limit=" TEXT(PAGE),
	    informer->next_page ? informer->next_page : "", on_list);
}

static void start_list(struct k8s_informer *informer)
{
	k8s_known_begin(&informer->known);
	if (informer->pages)
		list_page(informer);
	else
		start_stream(informer, PHASE_FILLING,
			     "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
}

/* --- is the server where it was? --- */

static void ignore_item(void *userdata, const cJSON *object)
{
	(void)userdata;
	(void)object;
}

static bool is_behind(const struct k8s_response *response)
{
	const cJSON *cause;

	cJSON_ArrayForEach(cause, k8s_object_get(response->body, "details/causes")) {
		if (strcmp(k8s_object_text(cause, "reason"), "ResourceVersionTooLarge") == 0)
			return true;
	}
	return false;
}

static void on_asked(void *userdata, const struct k8s_response *response)
{
	struct k8s_informer *informer = userdata;
	struct k8s_list list;
	bool behind = is_behind(response) || response->result == K8S_RESULT_GONE ||
		      response->result == K8S_RESULT_INVALID;

	informer->request = NULL;
	if (!behind && response->result != K8S_RESULT_OK) {
		trouble(informer, response);
		return;
	}
	if (!behind && !read_list(informer, response, ignore_item, &list))
		return;
	informer->doubtful = false;
	if (!behind && k8s_version_compare(list.version, informer->version) >= 0) {
		start_watch(informer);
		return;
	}
	note_rewound(informer);
	start_list(informer);
}

/*
 * A server that was set back to a backup would take a watch from a version that it does not have yet, and
 * be silent until it does. Asked for objects that are no older it says that there are none.
 */
static void start_asking(struct k8s_informer *informer)
{
	get(informer, PHASE_ASKING, "limit=1&resourceVersionMatch=NotOlderThan&resourceVersion=",
	    informer->version, on_asked);
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
	informer->quiet_us = QUIET_US;
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
	k8s_known_clear(&informer->known);
	sd_event_source_disable_unref(informer->timer);
	sd_event_unref(informer->event);
	free(informer->path);
	free(informer->selector);
	free(informer->next_page);
	free(informer);
}

void k8s_informer_kick(struct k8s_informer *informer)
{
	if (!informer || informer->phase != PHASE_WAITING || informer->patient)
		return;
	informer->backoff_us = BACKOFF_FIRST_US;
	/* Not all nodes at once, when a server has come back for all of them. */
	later(informer, base_random_below(&informer->random, SOON_US));
}

void k8s_informer_distrust(struct k8s_informer *informer)
{
	informer->distrustful = true;
}

void k8s_informer_expect(struct k8s_informer *informer, uint64_t quiet_us)
{
	informer->quiet_us = quiet_us;
}

uint64_t k8s_informer_watching_us(struct k8s_informer *informer)
{
	return informer && informer->phase == PHASE_WATCHING
		       ? base_usec_since(now_usec(informer), informer->started_us)
		       : 0;
}

void k8s_informer_restart(struct k8s_informer *informer, bool relist)
{
	if (!informer)
		return;
	informer->relist = informer->relist || relist;
	if (informer->phase != PHASE_WATCHING)
		return; /* listing; or waiting, and then it does as it is told */
	if (k8s_request_break(informer->request))
		return; /* on_stream_end() follows */
	k8s_request_cancel(informer->request);
	wait_for(informer, base_random_below(&informer->random, SOON_US));
}

bool k8s_informer_synced(const struct k8s_informer *informer)
{
	return informer && informer->synced;
}

bool k8s_informer_knows(struct k8s_informer *informer, const char *namespace, const char *name)
{
	return informer && k8s_known_has(&informer->known, namespace, name);
}

const char *k8s_informer_version(const struct k8s_informer *informer)
{
	return informer ? informer->version : "";
}
