#pragma once

#include <curl/curl.h>

#include "k8s/io/client.h"

/*
 * What client.c (the loop and who is whose turn), request.c (what is sent) and answer.c (what comes back)
 * know together; for these three only.
 */
#define K8S_WARNINGS_MAX 128

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
	bool overlong, malformed, ended, counted;
	bool cancelled; /* from within libcurl, which has it still */
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
	bool busy; /* libcurl calls us: it takes no handle, and gives none back, before it returns */
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
	uint64_t warned[K8S_WARNINGS_MAX]; /* hashes of what was told */
	unsigned warned_count;
	struct k8s_counters *counters; /* NULL: nobody counts */
	struct watch_fd {
		struct watch_fd *next;
		curl_socket_t fd;
		sd_event_source *source;
	} *fds;
};


uint64_t k8s_client_now(struct k8s_client *client);

/* request.c: copies the texts; in the client's list from now on. NULL: no memory. */
struct k8s_request *k8s_request_new(struct k8s_client *client, const char *method,
				    const char *path);
void k8s_request_free(struct k8s_request *request);
/* Hands it to libcurl, also for the second time, with a fresh token. */
int k8s_request_launch(struct k8s_request *request);
/* Takes it back, answer and all. */
void k8s_request_recall(struct k8s_request *request);
struct lane *k8s_request_lane(const struct k8s_request *request);

/* answer.c: libcurl's callbacks with the request as userdata. */
size_t k8s_answer_data(char *data, size_t one, size_t count, void *userdata);
size_t k8s_answer_header(char *data, size_t one, size_t count, void *userdata);
/* What it was, all in all; response->body is the caller's to free, texts are the request's. */
void k8s_answer_read(struct k8s_request *request, CURLcode code, struct k8s_response *response);
/* For those who look on: counters, and whether the server works for us. */
void k8s_answer_tell(struct k8s_request *request, const struct k8s_response *response);
