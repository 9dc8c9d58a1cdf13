#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * What a client of the page says: HTTP/1.0 or 1.1 (RFC 9112), GET or HEAD, no body. Pure.
 *
 * Everything else is refused by a verdict, which is also the answer's status; nothing is guessed and
 * nothing is skipped over, so nobody can hide a second request in the first.
 */
#define REQUEST_SIZE_MAX  4096 /* request line and header fields; also what a connection may keep */
#define REQUEST_PATH_SIZE 64

#define REQUEST_VERDICTS(X)                                                                        \
	X(OK, 200, "OK")                                                                           \
	X(MALFORMED, 400, "Bad Request")                                                           \
	X(METHOD, 405, "Method Not Allowed")                                                       \
	X(BODY, 413, "Content Too Large")                                                          \
	X(TARGET, 414, "URI Too Long")                                                             \
	X(FIELDS, 431, "Request Header Fields Too Large")                                          \
	X(VERSION, 505, "HTTP Version Not Supported")

enum request_verdict {
	REQUEST_VERDICT_MORE, /* not all of it is here yet */
#define REQUEST_VERDICT_ENUM(name, status, text) REQUEST_VERDICT_##name,
	REQUEST_VERDICTS(REQUEST_VERDICT_ENUM)
#undef REQUEST_VERDICT_ENUM
		REQUEST_VERDICT_COUNT
};

struct request {
	char path[REQUEST_PATH_SIZE]; /* without the query */
	bool head;
	bool close;  /* no other request comes, or none is wanted */
	size_t size; /* of the request; what stands behind it is the next one */
};

/*
 * Reads one request from the beginning of `data`. On REQUEST_VERDICT_OK `*request` is filled; on any
 * other verdict it is undefined, and but for MORE the connection is of no further use.
 */
enum request_verdict request_parse(const char *data, size_t size, struct request *request);

int request_verdict_status(enum request_verdict verdict);
const char *request_status_text(int status); /* also of the statuses that handlers answer */
