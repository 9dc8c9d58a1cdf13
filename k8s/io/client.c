#include "k8s/io/client.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "base/hash.h"
#include "base/time.h"
#include "k8s/object.h"

#define TOKEN_AGE_US	 (50 * BASE_USEC_PER_SEC)
#define TOKEN_SIZE_MAX	 (64 * 1024)
#define LINE_SIZE_MAX	 (8 * 1024 * 1024)
#define BODY_SIZE_MAX	 (64 * 1024 * 1024)
#define TIMEOUT_MS	 30000
#define RAW_TIMEOUT_MS	 300000
#define STALL_S		 15L
#define CONNECT_MS	 5000
#define DEAD_PEER_MS	 15000 /* TCP_USER_TIMEOUT: unacknowledged for so long is dead */
#define IDLE_CONNECTIONS 2L /* in each lane */
#define ROOM_FIRST	 16384
#define ROOM_WATCH	 1024 /* a watch mostly waits */
#define ROOM_WATCH_MAX	 8192 /* what was larger is given back */
#define UPLOAD_BUFFER	 16384L /* libcurl keeps one of 64 KiB in each, where nothing is said */
#define CHUNK_WATCH	 4096L /* and libcurl has such a buffer for each, too */
#define KEEP_IDLE_S	 10L
#define KEEP_INTERVAL_S	 5L
#define WARNINGS_MAX	 128
#define WARNING_SIZE	 512

struct k8s_request {
	struct k8s_request *next, **link;
	struct k8s_client *client;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	char *url, *upload, *method;
	bool lease, watch, raw, retried;
	char *data;
	size_t size, capacity;
	uint64_t retry_after_us, started_us;
	int (*line)(void *userdata, const cJSON *event);
	k8s_done_fn *done;
	void *userdata;
	const char *content_type;
	uint32_t timeout_ms;
	bool overlong, malformed, ended;
	char error[CURL_ERROR_SIZE];
};

/*
 * Each lane has connections of its own. libcurl 7.88 keeps what it knows of a host, HTTP/2 or not,
 * in one place for all connections to it: sharing them, a watch was put onto a busy HTTP/1.1
 * connection of the Lease lane, and each got the other's answer.
 */
struct lane {
	struct k8s_client *client;
	CURLM *multi;
	sd_event_source *timer;
};

struct k8s_client {
	sd_event *event;
	struct k8s_config config;
	char *agent;
	struct lane common, leases;
	struct k8s_request *requests;
	unsigned lease_count; /* under way in the Lease lane; further ones wait */
	sd_event_source *patience;
	char *token;
	uint64_t token_read_us;
	void (*contact)(void *userdata, bool answered);
	void *userdata;
	void (*warning)(void *userdata, const char *text);
	void *warning_userdata;
	uint64_t warned[WARNINGS_MAX]; /* hashes of what was told */
	unsigned warned_count;
	struct k8s_counters *counters; /* NULL: nobody counts */
	struct watch_fd {
		struct watch_fd *next;
		curl_socket_t fd;
		sd_event_source *source;
	} *fds;
};

static uint64_t now_usec(struct k8s_client *client)
{
	uint64_t now = 0;

	sd_event_now(client->event, CLOCK_BOOTTIME, &now);
	return now;
}

/* --- token --- */

/* It becomes a header: nothing may be in it that would end one. */
static bool is_header_text(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || *text == 0x7f)
			return false;
	return true;
}

static void read_token(struct k8s_client *client)
{
	char buffer[TOKEN_SIZE_MAX];
	size_t size;
	FILE *file;

	if (!client->config.token_file) {
		if (!client->token && client->config.token && is_header_text(client->config.token))
			client->token = strdup(client->config.token);
		return;
	}
	file = fopen(client->config.token_file, "re"); /* by path each time: it is swapped by link */
	if (!file)
		return; /* the one we have may still do */
	size = fread(buffer, 1, sizeof buffer - 1, file);
	fclose(file);
	while (size > 0 && (buffer[size - 1] == '\n' || buffer[size - 1] == '\r' ||
			    buffer[size - 1] == ' '))
		size--;
	buffer[size] = '\0';
	if (size == 0 || !is_header_text(buffer))
		return;
	free(client->token);
	client->token = strdup(buffer);
	client->token_read_us = now_usec(client);
}

/* --- curl on the loop --- */

static void pump(struct lane *lane);

static int on_fd(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct lane *lane = userdata;
	int running, flags = 0;

	(void)source;
	if (revents & EPOLLIN)
		flags |= CURL_CSELECT_IN;
	if (revents & EPOLLOUT)
		flags |= CURL_CSELECT_OUT;
	if (revents & (EPOLLERR | EPOLLHUP))
		flags |= CURL_CSELECT_ERR;
	curl_multi_socket_action(lane->multi, fd, flags, &running);
	pump(lane);
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
	struct lane *lane = userdata;
	int running;

	(void)source;
	(void)usec;
	curl_multi_socket_action(lane->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	pump(lane);
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

/* --- one request --- */

static CURLM *multi_of(const struct k8s_request *request)
{
	return request->lease ? request->client->leases.multi : request->client->common.multi;
}

static void request_free(struct k8s_request *request)
{
	if (request->easy) {
		curl_multi_remove_handle(multi_of(request), request->easy);
		curl_easy_cleanup(request->easy);
		if (request->lease)
			request->client->lease_count--;
	}
	curl_slist_free_all(request->headers);
	curl_slist_free_all(request->connect_to);
	if (request->link) {
		*request->link = request->next;
		if (request->next)
			request->next->link = request->link;
	}
	free(request->url);
	free(request->upload);
	free(request->method);
	free(request->data);
	free(request);
}

static void deliver_lines(struct k8s_request *request)
{
	char *start = request->data, *end;

	while ((end = memchr(start, '\n', request->size - (size_t)(start - request->data)))) {
		cJSON *event = cJSON_ParseWithLength(start, (size_t)(end - start));

		if (event)
			request->ended = request->line(request->userdata, event) < 0;
		else
			request->malformed = true;
		cJSON_Delete(event);
		start = end + 1;
		if (request->ended || request->malformed)
			return;
		if (request->client->contact)
			request->client->contact(request->client->userdata, true);
	}
	request->size -= (size_t)(start - request->data);
	if (request->size == 0 && request->capacity > ROOM_WATCH_MAX) {
		free(request->data);
		request->data = NULL;
		request->capacity = 0;
	} else {
		memmove(request->data, start, request->size);
	}
}

static size_t on_data(char *data, size_t one, size_t count, void *userdata)
{
	struct k8s_request *request = userdata;
	size_t size = one * count, limit = request->watch ? LINE_SIZE_MAX : BODY_SIZE_MAX;
	long status = 0;

	if (request->size + size > limit) {
		request->overlong = true;
		return 0;
	}
	if (request->size + size + 1 > request->capacity) {
		size_t capacity = request->capacity ? request->capacity * 2
				  : request->watch  ? ROOM_WATCH
						    : ROOM_FIRST;
		char *grown;

		while (capacity < request->size + size + 1)
			capacity *= 2;
		grown = realloc(request->data, capacity);
		if (!grown)
			return 0;
		request->data = grown;
		request->capacity = capacity;
	}
	memcpy(request->data + request->size, data, size);
	request->size += size;
	request->data[request->size] = '\0';
	curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	if (request->watch && status == 200)
		deliver_lines(request);
	return request->ended || request->malformed ? 0 : size;
}

/*
 * RFC 9110's predecessor, section 5.5: 299 agent "text", as the API server says what is deprecated
 * or ignored. The text is somebody else's: what is no printable ASCII becomes '?'.
 */
static void note_warning(struct k8s_client *client, const char *value, size_t size)
{
	const char *begin = memchr(value, '"', size);
	char text[WARNING_SIZE];
	size_t length = 0;
	uint64_t hash;

	if (!client->warning || !begin)
		return;
	for (const char *at = begin + 1; at < value + size && *at != '"'; at++) {
		if (*at == '\\' && at + 1 < value + size)
			at++;
		if (length + 1 < sizeof text)
			text[length++] = *at >= ' ' && *at < 0x7f ? *at : '?';
	}
	text[length] = '\0';
	hash = base_hash(text, length);
	for (unsigned i = 0; i < client->warned_count; i++)
		if (client->warned[i] == hash)
			return;
	if (client->warned_count == WARNINGS_MAX)
		return;
	client->warned[client->warned_count++] = hash;
	client->warning(client->warning_userdata, text);
}

static size_t on_header(char *data, size_t one, size_t count, void *userdata)
{
	struct k8s_request *request = userdata;
	size_t size = one * count;

	if (size > 12 && strncasecmp(data, "retry-after:", 12) == 0) {
		long seconds = strtol(data + 12, NULL, 10);

		if (seconds > 0 && seconds < 3600)
			request->retry_after_us = (uint64_t)seconds * BASE_USEC_PER_SEC;
	}
	if (size > 8 && strncasecmp(data, "warning:", 8) == 0)
		note_warning(request->client, data + 8, size - 8);
	return size;
}

static int on_new_socket(void *userdata, curl_socket_t fd, curlsocktype purpose)
{
	unsigned dead_ms = DEAD_PEER_MS;

	(void)userdata;
	(void)purpose;
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof dead_ms);
	return CURL_SOCKOPT_OK;
}

static void set_blob(CURL *easy, CURLoption option, char *pem)
{
	struct curl_blob blob = { .data = pem, .len = strlen(pem), .flags = CURL_BLOB_COPY };

	curl_easy_setopt(easy, option, &blob);
}

static void set_security(struct k8s_client *client, CURL *easy)
{
	const struct k8s_config *config = &client->config;

	if (config->ca_data)
		set_blob(easy, CURLOPT_CAINFO_BLOB, config->ca_data);
	else if (config->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
	if (config->cert_data)
		set_blob(easy, CURLOPT_SSLCERT_BLOB, config->cert_data);
	else if (config->cert_file)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, config->cert_file);
	if (config->key_data)
		set_blob(easy, CURLOPT_SSLKEY_BLOB, config->key_data);
	else if (config->key_file)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, config->key_file);
	if (config->insecure) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (config->in_cluster)
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	else if (config->proxy)
		curl_easy_setopt(easy, CURLOPT_PROXY, config->proxy);
}

/*
 * tls-server-name: the certificate is for another name than the one that is dialled. The URL
 * carries the certificate's name, and libcurl is told where to connect instead.
 */
static char *make_url(const struct k8s_client *client, const char *path, char **connect_to)
{
	const char *server = client->config.server, *name = client->config.tls_server_name;
	const char *host = strstr(server, "://"), *end, *port;
	char *url = NULL;

	*connect_to = NULL;
	if (!name || !host) {
		return asprintf(&url, "%s%s", server, path) < 0 ? NULL : url;
	}
	host += 3;
	end = host + strcspn(host, "/");
	port = *host == '[' ? memchr(host, ']', (size_t)(end - host)) : host;
	port = port ? memchr(port, ':', (size_t)(end - port)) : NULL;
	if (asprintf(&url, "https://%s:%.*s%s%s", name, port ? (int)(end - port - 1) : 3,
		     port ? port + 1 : "443", end, path) < 0)
		return NULL;
	if (asprintf(connect_to, "::%.*s:%.*s", (int)((port ? port : end) - host), host,
		     port ? (int)(end - port - 1) : 3, port ? port + 1 : "443") < 0)
		*connect_to = NULL;
	return url;
}

static int set_headers(struct k8s_request *request)
{
	struct k8s_client *client = request->client;
	char line[TOKEN_SIZE_MAX + 64];

	curl_slist_free_all(request->headers);
	request->headers = curl_slist_append(NULL, "Accept: application/json");
	snprintf(line, sizeof line, "Content-Type: %s", request->content_type);
	if (request->upload)
		request->headers = curl_slist_append(request->headers, line);
	request->headers = curl_slist_append(request->headers, "Expect:");
	if (client->token) {
		snprintf(line, sizeof line, "Authorization: Bearer %s", client->token);
		request->headers = curl_slist_append(request->headers, line);
	}
	curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers);
	return request->headers ? 0 : -ENOMEM;
}

/* Hands it to libcurl, also for the second time with a fresh token. */
static int launch(struct k8s_request *request)
{
	struct k8s_client *client = request->client;
	CURL *easy = curl_easy_init();

	if (!easy)
		return -ENOMEM;
	request->easy = easy;
	if (request->lease)
		client->lease_count++;
	if (client->config.token_file
		    ? base_usec_since(now_usec(client), client->token_read_us) > TOKEN_AGE_US ||
			      !client->token
		    : !client->token)
		read_token(client);
	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	if (request->raw) {
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALL_S);
	}
	if (request->watch)
		curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, CHUNK_WATCH);
	if (request->connect_to)
		curl_easy_setopt(easy, CURLOPT_CONNECT_TO, request->connect_to);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->error);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, client->agent);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEP_IDLE_S);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEP_INTERVAL_S);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https,http");
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
			 request->lease ? (long)CURL_HTTP_VERSION_1_1
					: (long)CURL_HTTP_VERSION_2TLS);
	if (!request->lease)
		curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
	set_security(client, easy);
	if (strcmp(request->method, "GET") != 0)
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	if (request->upload) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->upload);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)strlen(request->upload));
	}
	if (set_headers(request) < 0)
		return -ENOMEM;
	return curl_multi_add_handle(multi_of(request), easy) == CURLM_OK ? 0 : -ENOMEM;
}

static enum k8s_result classify(long status, const char *reason)
{
	switch (status) {
	case 401:
		return K8S_RESULT_UNAUTHORIZED;
	case 403:
		return K8S_RESULT_FORBIDDEN;
	case 404:
		return K8S_RESULT_NOT_FOUND;
	case 409:
		return strcmp(reason, "AlreadyExists") == 0 ? K8S_RESULT_EXISTS
							     : K8S_RESULT_CONFLICT;
	case 410:
		return K8S_RESULT_GONE;
	case 429:
		return K8S_RESULT_THROTTLED;
	default:
		break;
	}
	if (status >= 200 && status < 300)
		return K8S_RESULT_OK;
	return status >= 500 ? K8S_RESULT_SERVER_ERROR : K8S_RESULT_INVALID;
}

/* Failures before anything was sent: a write cannot have landed. */
static bool not_sent(CURLcode code)
{
	switch ((int)code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_URL_MALFORMAT:
		return true;
	default:
		return false;
	}
}

/* Does this answer say that the server works for us, or that it does not? */
static void tell_contact(struct k8s_client *client, const struct k8s_response *response)
{
	if (!client->contact)
		return;
	switch (response->result) {
	case K8S_RESULT_OK:
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_NOT_FOUND:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
		client->contact(client->userdata, true);
		return;
	case K8S_RESULT_FORBIDDEN:
	case K8S_RESULT_THROTTLED:
		return;
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
		client->contact(client->userdata, false);
		return;
	}
}

void k8s_client_count(struct k8s_client *client, struct k8s_counters *counters)
{
	client->counters = counters;
}

static void count(const struct k8s_request *request, long status)
{
	static const char *const methods[] = {
#define METHOD_NAME(name) #name,
		K8S_COUNTED_METHODS(METHOD_NAME)
#undef METHOD_NAME
	};
	struct k8s_counters *counters = request->client->counters;
	unsigned method = 0, code = K8S_COUNTED_OTHER;
	curl_off_t took_us = 0;

	while (method < K8S_COUNTED_METHOD_COUNT && strcmp(methods[method], request->method) != 0)
		method++;
	if (!counters || method == K8S_COUNTED_METHOD_COUNT)
		return;
	switch (status) {
	case 0:
		code = K8S_COUNTED_NO_ANSWER;
		break;
#define CODE_CASE(value)                                                                           \
	case value:                                                                                \
		code = K8S_COUNTED_##value;                                                        \
		break;
		K8S_COUNTED_CODES(CODE_CASE)
#undef CODE_CASE
	default:
		break;
	}
	counters->answers[method][code]++;
	if (status == 0 || request->watch || !request->easy)
		return;
	curl_easy_getinfo(request->easy, CURLINFO_TOTAL_TIME_T, &took_us);
	base_histogram_add(&counters->durations[method], (uint64_t)took_us);
}

static void launch_waiting(struct k8s_client *client);

static void finish_unsent(struct k8s_request *request, const char *why)
{
	struct k8s_response response = { .result = K8S_RESULT_UNREACHABLE };
	struct k8s_client *client = request->client;

	snprintf(response.message, sizeof response.message, "%s", why);
	count(request, 0);
	tell_contact(client, &response);
	if (request->done)
		request->done(request->userdata, &response);
	request_free(request);
}

static void finish(struct k8s_request *request, CURLcode code)
{
	struct k8s_client *client = request->client;
	struct k8s_response response = { .retry_after_us = request->retry_after_us,
					 .malformed = request->malformed };
	const char *reason = "", *message = NULL;
	double connected = 0;

	curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &response.status);
	curl_easy_getinfo(request->easy, CURLINFO_PRETRANSFER_TIME, &connected);
	if (response.status == 401 && !request->retried && client->config.token_file) {
		/* The token may have been rotated since: read it at once, and try once more. */
		request->retried = true;
		curl_multi_remove_handle(multi_of(request), request->easy);
		curl_easy_cleanup(request->easy);
		request->easy = NULL;
		request->size = 0;
		if (request->lease)
			client->lease_count--;
		client->token_read_us = 0;
		if (launch(request) == 0)
			return;
	}
	if (response.status && !(request->watch && response.status == 200) && request->size) {
		if (request->raw && response.status < 300) {
			response.text = request->data;
			response.size = request->size;
		} else {
			response.body = cJSON_ParseWithLength(request->data, request->size);
		}
	}
	if (response.body && response.status >= 300) {
		const cJSON *item = cJSON_GetObjectItemCaseSensitive(response.body, "reason");

		reason = cJSON_IsString(item) ? item->valuestring : "";
		item = cJSON_GetObjectItemCaseSensitive(response.body, "message");
		message = cJSON_IsString(item) ? item->valuestring : NULL;
	}
	if (request->ended)
		response.result = K8S_RESULT_OK;
	else if (request->malformed || request->overlong)
		response.result = K8S_RESULT_UNKNOWN;
	else if (code != CURLE_OK && response.status == 0)
		response.result = not_sent(code) || connected == 0 ? K8S_RESULT_UNREACHABLE
								    : K8S_RESULT_UNKNOWN;
	else if (code != CURLE_OK && response.status < 300)
		response.result = K8S_RESULT_UNKNOWN;
	else
		response.result = classify(response.status, reason);
	if (!message)
		message = request->overlong	? "a line or answer is beyond all bounds"
			  : request->malformed	? "a line of the stream is no JSON"
			  : request->ended	? ""
			  : code == CURLE_OK	? ""
			  : *request->error	? request->error
						: curl_easy_strerror(code);
	snprintf(response.message, sizeof response.message, "%s", message);
	count(request, response.status);
	tell_contact(client, &response);
	if (request->easy)
		curl_multi_remove_handle(multi_of(request), request->easy);
	if (request->done)
		request->done(request->userdata, &response);
	cJSON_Delete(response.body);
	request_free(request);
	launch_waiting(client);
}

/* The Lease lane: first come, first served, a bounded number of connections. */
static void launch_waiting(struct k8s_client *client)
{
	while (client->lease_count < K8S_LEASE_CONNECTIONS) {
		struct k8s_request *oldest = NULL;

		for (struct k8s_request *r = client->requests; r; r = r->next)
			if (r->lease && !r->easy)
				oldest = r; /* new ones are put in front */
		if (!oldest)
			return;
		if (launch(oldest) < 0)
			finish_unsent(oldest, "out of memory");
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

static void pump(struct lane *lane)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(lane->multi, &left))) {
		struct k8s_request *request;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
		finish(request, message->data.result);
	}
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
		request_free(client->requests);
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

static struct k8s_request *request_new(struct k8s_client *client, const char *method,
				       const char *path)
{
	struct k8s_request *request = calloc(1, sizeof *request);
	char *connect_to = NULL;

	if (!request)
		return NULL;
	request->client = client;
	request->method = strdup(method);
	request->content_type = "application/json";
	request->started_us = now_usec(client);
	request->url = make_url(client, path, &connect_to);
	if (connect_to)
		request->connect_to = curl_slist_append(NULL, connect_to);
	free(connect_to);
	if (!request->method || !request->url) {
		request_free(request);
		return NULL;
	}
	request->next = client->requests;
	request->link = &client->requests;
	if (request->next)
		request->next->link = &request->next;
	client->requests = request;
	return request;
}

struct k8s_request *k8s_client_call(struct k8s_client *client, const struct k8s_call *call,
				    k8s_done_fn *done, void *userdata)
{
	struct k8s_request *request = request_new(client, call->method, call->path);

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
		request_free(request);
		return NULL;
	}
	if (request->lease && client->lease_count >= K8S_LEASE_CONNECTIONS) {
		sd_event_source_set_time(client->patience, request->started_us);
		sd_event_source_set_enabled(client->patience, SD_EVENT_ONESHOT);
		return request; /* its turn comes when another one ends */
	}
	if (launch(request) < 0) {
		request_free(request);
		return NULL;
	}
	return request;
}

struct k8s_request *k8s_client_watch(struct k8s_client *client, const char *path,
				     uint32_t timeout_ms,
				     int (*line)(void *userdata, const cJSON *event),
				     k8s_done_fn *done, void *userdata)
{
	struct k8s_request *request = request_new(client, "GET", path);

	if (!request)
		return NULL;
	request->watch = true;
	request->line = line;
	request->done = done;
	request->userdata = userdata;
	request->timeout_ms = timeout_ms;
	if (launch(request) < 0) {
		request_free(request);
		return NULL;
	}
	return request;
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
	client = request->client;
	request_free(request);
	launch_waiting(client);
}

const char *k8s_result_name(enum k8s_result result)
{
	static const char *const names[] = {
		[K8S_RESULT_OK] = "ok",
		[K8S_RESULT_CONFLICT] = "conflict",
		[K8S_RESULT_EXISTS] = "exists already",
		[K8S_RESULT_NOT_FOUND] = "not found",
		[K8S_RESULT_GONE] = "gone",
		[K8S_RESULT_INVALID] = "invalid",
		[K8S_RESULT_UNAUTHORIZED] = "unauthorized",
		[K8S_RESULT_FORBIDDEN] = "forbidden",
		[K8S_RESULT_THROTTLED] = "throttled",
		[K8S_RESULT_SERVER_ERROR] = "server error",
		[K8S_RESULT_UNREACHABLE] = "unreachable",
		[K8S_RESULT_UNKNOWN] = "no answer",
	};

	return names[result];
}
