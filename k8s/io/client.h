#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <systemd/sd-event.h>

#include "k8s/io/config.h"
#include "k8s/io/counters.h"

/*
 * Requests to an API server, on the loop: libcurl's multi interface, one HTTP/2 connection for
 * watches and ordinary requests, HTTP/1.1 for Lease writes (a request that times out on HTTP/2
 * leaves its dead connection in libcurl's pool, and the next renewal would go the same way).
 */
struct k8s_client;
struct k8s_request;

enum k8s_result {
	K8S_RESULT_OK,
	K8S_RESULT_CONFLICT,	 /* 409: the version is stale */
	K8S_RESULT_EXISTS,	 /* 409: AlreadyExists */
	K8S_RESULT_NOT_FOUND,
	K8S_RESULT_GONE,	 /* 410: list again */
	K8S_RESULT_INVALID,	 /* 400, 405, 415, 422: our own mistake, or the object's; 500: a field that an
				  * old server does not know */
	K8S_RESULT_UNAUTHORIZED, /* 401, also after the token was read again */
	K8S_RESULT_FORBIDDEN,	 /* 403: the message names verb and resource */
	K8S_RESULT_THROTTLED,	 /* 429 */
	K8S_RESULT_SERVER_ERROR, /* 5xx */
	K8S_RESULT_UNREACHABLE,	 /* the request was not sent: a write did not land */
	K8S_RESULT_UNKNOWN,	 /* no answer: a write may have landed */
};

struct k8s_response {
	enum k8s_result result;
	long status; /* HTTP; 0: none */
	char message[512]; /* of the Status object, or of the transport; no secrets */
	bool malformed;		 /* what came makes no sense: a line or a list that is no JSON */
	uint64_t retry_after_us; /* 0: not said */
	cJSON *body; /* borrowed for the call; NULL if there was none, or with `text` */
	const char *text; /* of a call with `raw` that succeeded; borrowed, `size` bytes and a NUL */
	size_t size;
};

typedef void k8s_done_fn(void *userdata, const struct k8s_response *response);

enum k8s_lane {
	K8S_LANE_SHARED, /* HTTP/2, one connection */
	K8S_LANE_LEASE,	 /* HTTP/1.1, its own connections */
};

struct k8s_call {
	const char *method; /* GET, POST, PUT, PATCH, DELETE */
	const char *path;   /* with query */
	const char *content_type; /* NULL: application/json */
	const cJSON *body;	  /* NULL: none; borrowed for the call */
	const char *text;	  /* the body as text instead; borrowed */
	enum k8s_lane lane;
	uint32_t timeout_ms; /* 0: 30 s; waiting for a turn in the lane counts */
	/*
	 * The answer comes as text: lists, which are large as trees. It may be slow (5 minutes)
	 * as long as it does not stall (15 s).
	 */
	bool raw;
};

#define K8S_LEASE_CONNECTIONS 16 /* in the Lease lane at a time; others wait for their turn */

/*
 * `config` is taken over. `contact` (may be NULL) hears of every useful answer and of every line
 * of a watch: true; of silence, refused connections, 401 and 5xx: false. A 403 or 429 tells
 * nothing either way.
 */
int k8s_client_new(struct k8s_client **client, sd_event *event, struct k8s_config *config,
		   const char *agent, void (*contact)(void *userdata, bool answered),
		   void *userdata);
void k8s_client_free(struct k8s_client *client); /* ends everything; no callback is called any more */

/* Another way to the server, or other credentials; requests under way end as they began. */
void k8s_client_configure(struct k8s_client *client, struct k8s_config *config);

/* From now on, what is asked and answered is counted there; borrowed. NULL: no longer. */
void k8s_client_count(struct k8s_client *client, struct k8s_counters *counters);

/* `done` is called once, from the loop. The handle is valid until then; NULL: out of memory. */
struct k8s_request *k8s_client_call(struct k8s_client *client, const struct k8s_call *call,
				    k8s_done_fn *done, void *userdata);

/*
 * A stream of JSON lines (a watch): `line` for each, `done` at its end. A line that is no JSON or
 * longer than 8 MiB ends it (RESULT_UNKNOWN), and so does a negative answer of `line`
 * (RESULT_OK). Local deadline: `timeout_ms`. `line` may call and cancel, itself too.
 */
struct k8s_request *k8s_client_watch(struct k8s_client *client, const char *path,
				     uint32_t timeout_ms,
				     int (*line)(void *userdata, const cJSON *event),
				     k8s_done_fn *done, void *userdata);

/*
 * Shuts the connection that carries it, and with it all that shares it: they end with RESULT_UNKNOWN
 * soon, and what is asked next gets a connection of its own. False: it has none.
 */
bool k8s_request_break(struct k8s_request *request);

/* `warning` hears of each different "Warning:" header once (of the first hundred or so). */
void k8s_client_on_warning(struct k8s_client *client,
			   void (*warning)(void *userdata, const char *text), void *userdata);

/* No callback comes any more. NULL is fine. */
void k8s_request_cancel(struct k8s_request *request);

const char *k8s_result_name(enum k8s_result result);
