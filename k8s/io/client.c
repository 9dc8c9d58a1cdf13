#include "k8s/io/client.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/time.h"
#include "k8s/io/request.h"
#include "k8s/object.h"

#define TIMEOUT_MS	 30000
#define RAW_TIMEOUT_MS	 300000
#define IDLE_CONNECTIONS 2L /* in each lane */

uint64_t k8s_client_now(struct k8s_client *client)
{
	uint64_t now = 0;

	sd_event_now(client->event, CLOCK_BOOTTIME, &now);
	return now;
}

/* --- how requests end --- */

static void launch_waiting(struct k8s_client *client);

/* It was never sent. */
static void finish_unsent(struct k8s_request *request, const char *why)
{
	struct k8s_response response = { .result = K8S_RESULT_UNREACHABLE };

	snprintf(response.message, sizeof response.message, "%s", why);
	k8s_answer_tell(request, &response);
	if (request->done)
		request->done(request->userdata, &response);
	k8s_request_free(request);
}

/* The token may have been rotated since it was read: read at once, and tried once more. */
static bool try_again(struct k8s_request *request, long status)
{
	struct k8s_client *client = request->client;

	if (status != 401 || request->retried || !client->config.token_file)
		return false;
	request->retried = true;
	request->counted = false;
	k8s_request_recall(request);
	client->token_read_us = 0;
	return k8s_request_launch(request) == 0;
}

static void finish(struct k8s_request *request, CURLcode code)
{
	struct k8s_client *client = request->client;
	struct k8s_response response;

	k8s_answer_read(request, code, &response);
	if (try_again(request, response.status)) {
		cJSON_Delete(response.body);
		return;
	}
	k8s_answer_tell(request, &response);
	if (request->easy)
		curl_multi_remove_handle(k8s_request_lane(request)->multi, request->easy);
	if (request->done)
		request->done(request->userdata, &response);
	cJSON_Delete(response.body);
	k8s_request_free(request);
	launch_waiting(client);
}

/* In the Lease lane there is a bounded number of connections. */
static bool has_to_wait(const struct k8s_request *request)
{
	return k8s_request_lane(request)->busy ||
	       (request->lease && request->client->lease_count >= K8S_LEASE_CONNECTIONS);
}

/* First come, first served. */
static void launch_waiting(struct k8s_client *client)
{
	for (;;) {
		struct k8s_request *oldest = NULL;

		for (struct k8s_request *r = client->requests; r; r = r->next)
			if (!r->easy && !has_to_wait(r))
				oldest = r; /* new ones are put in front */
		if (!oldest)
			return;
		if (k8s_request_launch(oldest) < 0)
			finish_unsent(oldest, "out of memory");
	}
}

static void free_cancelled(struct k8s_client *client)
{
	for (struct k8s_request *r = client->requests, *next; r; r = next) {
		next = r->next;
		if (r->cancelled && !k8s_request_lane(r)->busy)
			k8s_request_free(r);
	}
}

/* A request whose time has passed while it waited for its turn: it was never sent. */
static int on_patience(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct k8s_client *client = userdata;
	uint64_t next_us = BASE_USEC_NEVER;

	for (struct k8s_request *r = client->requests, *next; r; r = next) {
		uint64_t end_us = r->started_us + r->timeout_ms * BASE_USEC_PER_MSEC;

		next = r->next;
		if (!r->lease || r->easy)
			continue;
		if (end_us <= usec) {
			finish_unsent(r, "too many requests before it");
			next = client->requests; /* `done` may have started or ended others */
		} else {
			next_us = base_usec_earlier(next_us, end_us);
		}
	}
	if (next_us != BASE_USEC_NEVER) {
		sd_event_source_set_time(source, next_us);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	return 0;
}

/* --- libcurl on the loop --- */

static void act(struct lane *lane, curl_socket_t fd, int flags)
{
	CURLMsg *message;
	int running, left;

	lane->busy = true;
	curl_multi_socket_action(lane->multi, fd, flags, &running);
	lane->busy = false;
	free_cancelled(lane->client);
	launch_waiting(lane->client);
	while ((message = curl_multi_info_read(lane->multi, &left))) {
		struct k8s_request *request;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
		finish(request, message->data.result);
	}
}

static int on_fd(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	int flags = 0;

	(void)source;
	if (revents & EPOLLIN)
		flags |= CURL_CSELECT_IN;
	if (revents & EPOLLOUT)
		flags |= CURL_CSELECT_OUT;
	if (revents & (EPOLLERR | EPOLLHUP))
		flags |= CURL_CSELECT_ERR;
	act(userdata, fd, flags);
	return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data)
{
	struct lane *lane = userdata;
	struct k8s_client *client = lane->client;
	struct watch_fd **slot = &client->fds, *watch;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0u) |
			  (what & CURL_POLL_OUT ? EPOLLOUT : 0u);

	(void)easy;
	(void)socket_data;
	while (*slot && (*slot)->fd != fd)
		slot = &(*slot)->next;
	watch = *slot;
	if (what == CURL_POLL_REMOVE) {
		if (watch) {
			*slot = watch->next;
			sd_event_source_disable_unref(watch->source);
			free(watch);
		}
		return 0;
	}
	if (watch) {
		sd_event_source_set_io_events(watch->source, events);
		return 0;
	}
	watch = calloc(1, sizeof *watch);
	if (!watch)
		return -1;
	watch->fd = fd;
	if (sd_event_add_io(client->event, &watch->source, fd, events, on_fd, lane) < 0) {
		free(watch);
		return -1;
	}
	watch->next = client->fds;
	client->fds = watch;
	return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	act(userdata, CURL_SOCKET_TIMEOUT, 0);
	return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *userdata)
{
	struct lane *lane = userdata;

	(void)multi;
	if (timeout_ms < 0) {
		sd_event_source_set_enabled(lane->timer, SD_EVENT_OFF);
		return 0;
	}
	/* Also for 0: libcurl must not be called from inside its own callback. */
	sd_event_source_set_time_relative(lane->timer, (uint64_t)timeout_ms * 1000);
	sd_event_source_set_enabled(lane->timer, SD_EVENT_ONESHOT);
	return 0;
}

/* --- the interface --- */

static int open_lane(struct lane *lane, struct k8s_client *client)
{
	lane->client = client;
	lane->multi = curl_multi_init();
	if (!lane->multi)
		return -ENOMEM;
	curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane);
	curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane);
	/* Each idle TLS connection is some 80 KB: one that is warm, and one more. */
	curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS);
	return sd_event_add_time_relative(client->event, &lane->timer, CLOCK_BOOTTIME, 0, 1,
					  on_timeout, lane);
}

static void close_lane(struct lane *lane)
{
	if (lane->multi)
		curl_multi_cleanup(lane->multi);
	sd_event_source_disable_unref(lane->timer);
}

/*
 * The texts of all of libcrypto's errors are 170 KiB in each process, of which libcurl says those of libssl and of
 * certificates, kept elsewhere. Another TLS library has no such function.
 */
static void leave_out_error_strings(void)
{
	int (*init)(uint64_t options, const void *settings);

	*(void **)&init = dlsym(RTLD_DEFAULT, "OPENSSL_init_crypto");
	if (init)
		init(1 /* OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS */, NULL);
}

int k8s_client_new(struct k8s_client **result, sd_event *event, struct k8s_config *config,
		   const char *agent, void (*contact)(void *userdata, bool answered), void *userdata)
{
	struct k8s_client *client = calloc(1, sizeof *client);
	int r;

	leave_out_error_strings();
	if (!client || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		free(client);
		return -ENOMEM;
	}
	client->event = sd_event_ref(event);
	client->config = *config;
	memset(config, 0, sizeof *config);
	client->agent = strdup(agent);
	client->contact = contact;
	client->userdata = userdata;
	r = open_lane(&client->common, client);
	if (r >= 0)
		r = open_lane(&client->leases, client);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &client->patience, CLOCK_BOOTTIME, 0, 1000,
					       on_patience, client);
	if (r < 0) {
		k8s_client_free(client);
		return r;
	}
	*result = client;
	return 0;
}

void k8s_client_free(struct k8s_client *client)
{
	if (!client)
		return;
	while (client->requests)
		k8s_request_free(client->requests);
	close_lane(&client->common);
	close_lane(&client->leases);
	while (client->fds) {
		struct watch_fd *next = client->fds->next;

		sd_event_source_disable_unref(client->fds->source);
		free(client->fds);
		client->fds = next;
	}
	sd_event_source_disable_unref(client->patience);
	sd_event_unref(client->event);
	k8s_config_clear(&client->config);
	free(client->token);
	free(client->agent);
	free(client);
}

void k8s_client_configure(struct k8s_client *client, struct k8s_config *config)
{
	k8s_config_clear(&client->config);
	client->config = *config;
	memset(config, 0, sizeof *config);
	free(client->token);
	client->token = NULL;
	client->token_read_us = 0;
}

void k8s_client_count(struct k8s_client *client, struct k8s_counters *counters)
{
	client->counters = counters;
}

/* NULL: it is gone. */
static struct k8s_request *launch_or_wait(struct k8s_request *request)
{
	if (has_to_wait(request) || k8s_request_launch(request) == 0)
		return request;
	k8s_request_free(request);
	return NULL;
}

struct k8s_request *k8s_client_call(struct k8s_client *client, const struct k8s_call *call,
				    k8s_done_fn *done, void *userdata)
{
	struct k8s_request *request = k8s_request_new(client, call->method, call->path);

	if (!request)
		return NULL;
	request->done = done;
	request->userdata = userdata;
	request->lease = call->lane == K8S_LANE_LEASE;
	request->timeout_ms = call->timeout_ms ? call->timeout_ms
			      : call->raw	? RAW_TIMEOUT_MS
						: TIMEOUT_MS;
	if (call->content_type)
		request->content_type = call->content_type; /* literals */
	request->raw = call->raw;
	if (call->body)
		request->upload = k8s_object_print(call->body);
	else if (call->text)
		request->upload = strdup(call->text);
	if ((call->body || call->text) && !request->upload) {
		k8s_request_free(request);
		return NULL;
	}
	if (request->lease && has_to_wait(request)) {
		sd_event_source_set_time(client->patience, request->started_us);
		sd_event_source_set_enabled(client->patience, SD_EVENT_ONESHOT);
	}
	return launch_or_wait(request);
}

struct k8s_request *k8s_client_watch(struct k8s_client *client, const char *path,
				     uint32_t timeout_ms,
				     int (*line)(void *userdata, const cJSON *event),
				     k8s_done_fn *done, void *userdata)
{
	struct k8s_request *request = k8s_request_new(client, "GET", path);

	if (!request)
		return NULL;
	request->watch = true;
	request->line = line;
	request->done = done;
	request->userdata = userdata;
	request->timeout_ms = timeout_ms;
	return launch_or_wait(request);
}

bool k8s_request_break(struct k8s_request *request)
{
	curl_socket_t fd = CURL_SOCKET_BAD;

	if (!request || !request->easy ||
	    curl_easy_getinfo(request->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
	    fd == CURL_SOCKET_BAD)
		return false;
	shutdown(fd, SHUT_RDWR); /* libcurl reads the end of it, and tells all who wait there */
	return true;
}

void k8s_client_on_warning(struct k8s_client *client,
			   void (*warning)(void *userdata, const char *text), void *userdata)
{
	client->warning = warning;
	client->warning_userdata = userdata;
}

void k8s_request_cancel(struct k8s_request *request)
{
	struct k8s_client *client;

	if (!request)
		return;
	if (k8s_request_lane(request)->busy) {
		request->cancelled = true;
		request->done = NULL;
		return;
	}
	client = request->client;
	k8s_request_free(request);
	launch_waiting(client);
}
