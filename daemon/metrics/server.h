#pragma once

#include <stdint.h>

#include "base/error.h"
#include "daemon/metrics/text.h"

/*
 * A small HTTP server for any loop: GET and HEAD, keep-alive, nothing else. Bounded in everything a
 * client decides: connections, bytes of a request, time for a request and for taking the answer. When
 * there is no room, the connection that does least makes room: an idle one, one whose request does
 * not come to an end, one that does not take its answer; the oldest of them.
 */
struct server;

#define SERVER_CONNECTIONS_MAX 16
#define SERVER_REQUEST_US      (5 * BASE_USEC_PER_SEC)
#define SERVER_IDLE_US         (90 * BASE_USEC_PER_SEC) /* longer than scrapes are apart */
#define SERVER_ANSWER_US       (10 * BASE_USEC_PER_SEC)

struct server_answer {
	int status;               /* 200, 404, 503 */
	const char *type;         /* Content-Type */
	struct metrics_text text; /* the handler's; taken over */
};

#define SERVER_TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define SERVER_TYPE_TEXT    "text/plain; charset=utf-8"
#define SERVER_TYPE_JSON    "application/json"

/* Fills a zeroed answer. May block shortly, and then so does everybody else on this server. */
typedef void server_handler(void *userdata, const char *path, struct server_answer *answer);

/*
 * `listen`: "ADDRESS:PORT", "[ADDRESS6]:PORT", or ":PORT" for every address of both families. Port 0 is any.
 * 0 or -errno with a sentence in `error`; -EINVAL: no address and port.
 */
int server_new(struct server **server, const char *listen, server_handler *handler, void *userdata,
	       struct base_error *error);
void server_free(struct server *server); /* NULL is fine */

int server_fd(const struct server *server); /* readable: server_turn() has something to do */
/* Does a little of what there is to do, and never waits. */
void server_turn(struct server *server);

/* Reads `listen` as server_new() does, for the command line: 0 or -EINVAL with a sentence. */
int server_check(const char *listen, struct base_error *error);
unsigned server_port(const struct server *server);
