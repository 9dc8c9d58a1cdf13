#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "k8s/io/request.h"
#include "k8s/object.h"
#include "k8s/trim.h"

#define LINE_SIZE_MAX  (8 * 1024 * 1024)
#define BODY_SIZE_MAX  (64 * 1024 * 1024)
#define ROOM_FIRST     16384
#define ROOM_WATCH     1024 /* a watch mostly waits */
#define ROOM_WATCH_MAX 8192 /* what was larger is given back when less comes at a time */
#define WARNING_SIZE   512

/* `came`: bytes, just now. A stream that tells all there is keeps its room from one turn to the next. */
static void deliver_lines(struct k8s_request *request, size_t came)
{
	char *start = request->data, *end;

	while ((end = memchr(start, '\n', request->size - (size_t)(start - request->data)))) {
		cJSON *event = cJSON_ParseWithLength(start, k8s_trim(start, (size_t)(end - start)));

		if (!event)
			request->malformed = true;
		else if (request->line(request->userdata, event) < 0)
			request->ended = true;
		cJSON_Delete(event);
		start = end + 1;
		if (request->ended || request->malformed || request->cancelled)
			return;
		if (request->client->contact)
			request->client->contact(request->client->userdata, true);
	}
	request->size -= (size_t)(start - request->data);
	if (request->size == 0 && request->capacity > ROOM_WATCH_MAX && came < ROOM_WATCH_MAX) {
		free(request->data);
		request->data = NULL;
		request->capacity = 0;
	} else {
		memmove(request->data, start, request->size);
	}
}

size_t k8s_answer_data(char *data, size_t one, size_t count, void *userdata)
{
	struct k8s_request *request = userdata;
	size_t size = one * count, limit = request->watch ? LINE_SIZE_MAX : BODY_SIZE_MAX;
	long status = 0;

	if (request->cancelled)
		return 0;
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
		deliver_lines(request, size);
	return request->ended || request->malformed || request->cancelled ? 0 : size;
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
	if (client->warned_count == K8S_WARNINGS_MAX)
		return;
	client->warned[client->warned_count++] = hash;
	client->warning(client->warning_userdata, text);
}

/* Once for each answer. */
static void count_answer(struct k8s_request *request, long status)
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
	if (!counters || method == K8S_COUNTED_METHOD_COUNT || request->counted)
		return;
	request->counted = true;
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

size_t k8s_answer_header(char *data, size_t one, size_t count, void *userdata)
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
	if (request->watch && (*data == '\r' || *data == '\n')) { /* the last line of them */
		long status = 0;

		curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
		if (status >= 200)
			count_answer(request, status); /* its end may be minutes away */
	}
	return size;
}

static enum k8s_result classify(long status, const char *reason, const char *message)
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
	/* Kubernetes 1.28 answers 500 to a server-side apply that names a field of a later version. */
	if (status == 500 && strstr(message, "field not declared in schema"))
		return K8S_RESULT_INVALID;
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


static const char *message_of(const struct k8s_request *request, CURLcode code)
{
	if (request->overlong)
		return "a line or answer is beyond all bounds";
	if (request->malformed)
		return "a line of the stream is no JSON";
	if (request->ended || code == CURLE_OK)
		return "";
	return *request->error ? request->error : curl_easy_strerror(code);
}

static enum k8s_result result_of(const struct k8s_request *request, CURLcode code, long status,
				 const char *reason, const char *message)
{
	double connected = 0;

	curl_easy_getinfo(request->easy, CURLINFO_PRETRANSFER_TIME, &connected);
	if (request->ended)
		return K8S_RESULT_OK;
	if (request->malformed || request->overlong)
		return K8S_RESULT_UNKNOWN;
	if (code != CURLE_OK && status == 0)
		return not_sent(code) || connected == 0 ? K8S_RESULT_UNREACHABLE
							 : K8S_RESULT_UNKNOWN;
	if (code != CURLE_OK && status < 300)
		return K8S_RESULT_UNKNOWN;
	return classify(status, reason, message);
}

void k8s_answer_read(struct k8s_request *request, CURLcode code, struct k8s_response *response)
{
	const char *reason = "", *message = "";

	*response = (struct k8s_response){ .retry_after_us = request->retry_after_us,
					   .malformed = request->malformed };
	curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &response->status);
	if (response->status && !(request->watch && response->status == 200) && request->size) {
		if (request->raw && response->status < 300) {
			response->text = request->data;
			response->size = request->size;
		} else {
			response->body = cJSON_ParseWithLength(request->data, request->size);
		}
	}
	if (response->body && response->status >= 300) {
		reason = k8s_object_text(response->body, "reason");
		message = k8s_object_text(response->body, "message");
	}
	response->result = result_of(request, code, response->status, reason, message);
	snprintf(response->message, sizeof response->message, "%s",
		 *message ? message : message_of(request, code));
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

void k8s_answer_tell(struct k8s_request *request, const struct k8s_response *response)
{
	count_answer(request, response->status);
	tell_contact(request->client, response);
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
