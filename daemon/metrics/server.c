#include "daemon/metrics/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io/clock.h"
#include "base/time.h"
#include "daemon/metrics/request.h"

#define SWEEP_S	    1
#define EVENTS_MAX  8 /* in one turn, then others on the loop have theirs */
#define ACCEPT_MAX  8 /* in one go, then the others have their turn */
#define HEADER_SIZE 256

enum doing {
	DOING_NOTHING, /* between two requests; also the order in which they make room */
	DOING_REQUEST,
	DOING_ANSWER,
};

struct connection {
	struct connection *next;
	struct server *server;
	int fd;
	uint32_t events;
	enum doing doing;
	uint64_t since_us, deadline_us;
	char request[REQUEST_SIZE_MAX];
	size_t size;
	bool close;
	char header[HEADER_SIZE];
	size_t header_size, sent;
	struct metrics_text body;
};

struct server {
	int epoll, fd, sweep; /* sweep: a timer */
	bool deaf;	      /* no descriptor was left for who came; until the sweep */
	server_handler *handler;
	void *userdata;
	struct connection *connections;
	unsigned count;
};

/* `who`: the connection, or the address of the descriptor in the server. */
static int watch(struct server *server, int operation, int fd, uint32_t events, void *who)
{
	struct epoll_event event = { .events = events, .data.ptr = who };

	return epoll_ctl(server->epoll, operation, fd, &event) < 0 ? -errno : 0;
}

/* --- connections --- */

static void connection_free(struct connection *connection)
{
	struct connection **slot = &connection->server->connections;

	while (*slot != connection)
		slot = &(*slot)->next;
	*slot = connection->next;
	connection->server->count--;
	watch(connection->server, EPOLL_CTL_DEL, connection->fd, 0, NULL);
	close(connection->fd);
	metrics_text_clear(&connection->body);
	free(connection);
}

static void become(struct connection *connection, enum doing doing)
{
	static const uint64_t patience[] = { [DOING_NOTHING] = SERVER_IDLE_US,
					     [DOING_REQUEST] = SERVER_REQUEST_US,
					     [DOING_ANSWER] = SERVER_ANSWER_US };

	connection->doing = doing;
	connection->since_us = base_clock_us(CLOCK_BOOTTIME);
	connection->deadline_us = connection->since_us + patience[doing];
}

static void make_room(struct server *server)
{
	struct connection *least = server->connections;

	for (struct connection *c = server->connections; c; c = c->next)
		if (c->doing < least->doing ||
		    (c->doing == least->doing && c->since_us <= least->since_us))
			least = c;
	connection_free(least);
}

/* --- requests and answers --- */

static void answer(struct connection *connection, int status, bool head,
		   struct server_answer *given)
{
	connection->body = given->text;
	connection->header_size = (size_t)snprintf(
		connection->header, sizeof connection->header,
		"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
		"Cache-Control: no-store\r\n%s\r\n",
		status, request_status_text(status), given->type ? given->type : SERVER_TYPE_TEXT,
		given->text.size, status == 405 ? "Allow: GET, HEAD\r\n" : "",
		connection->close ? "Connection: close\r\n" : "");
	if (head)
		metrics_text_clear(&connection->body);
	connection->sent = 0;
	become(connection, DOING_ANSWER);
}

static void refuse(struct connection *connection, enum request_verdict verdict)
{
	int status = request_verdict_status(verdict);
	struct server_answer refusal = { 0 };

	metrics_print(&refusal.text, "%s\n", request_status_text(status));
	connection->close = true;
	connection->size = 0;
	answer(connection, status, false, &refusal);
}

static void handle(struct connection *connection, const struct request *request)
{
	struct server *server = connection->server;
	struct server_answer given = { .status = 404 };

	server->handler(server->userdata, request->path, &given);
	if (given.status == 404)
		metrics_print(&given.text, "There are /metrics, /healthz, /readyz and /state.\n");
	if (given.text.failed) {
		metrics_text_clear(&given.text);
		given = (struct server_answer){ .status = 503 };
		metrics_print(&given.text, "out of memory\n");
	}
	connection->close = request->close;
	connection->size -= request->size;
	memmove(connection->request, connection->request + request->size, connection->size);
	answer(connection, given.status, request->head, &given);
}

/* False: nothing more can be done now. */
static bool step_request(struct connection *connection)
{
	struct request request;
	enum request_verdict verdict =
		request_parse(connection->request, connection->size, &request);

	if (connection->size == 0)
		return false;
	if (connection->doing == DOING_NOTHING)
		become(connection, DOING_REQUEST);
	if (verdict == REQUEST_VERDICT_MORE)
		return false;
	if (verdict == REQUEST_VERDICT_OK)
		handle(connection, &request);
	else
		refuse(connection, verdict);
	return true;
}

/* 1: all of it is sent, 0: the client takes no more now, -1: it is gone. */
static int step_answer(struct connection *connection)
{
	size_t total = connection->header_size + connection->body.size;

	while (connection->sent < total) {
		bool header = connection->sent < connection->header_size;
		size_t at = header ? connection->sent : connection->sent - connection->header_size;
		const char *data = header ? connection->header : connection->body.data;
		size_t size = header ? connection->header_size : connection->body.size;
		ssize_t done = send(connection->fd, data + at, size - at,
				    MSG_NOSIGNAL | MSG_DONTWAIT |
					    (header && connection->body.size ? MSG_MORE : 0));

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return errno == EAGAIN ? 0 : -1;
		connection->sent += (size_t)done;
	}
	metrics_text_clear(&connection->body);
	return 1;
}

/* Nothing comes after this answer. What the client still said is read away, or it would see a reset. */
static void end(struct connection *connection)
{
	shutdown(connection->fd, SHUT_WR);
	while (recv(connection->fd, connection->request, sizeof connection->request, MSG_DONTWAIT) >
	       0)
		;
	connection_free(connection);
}

/* One request at most: then everybody else has a turn. */
static void advance(struct connection *connection)
{
	bool again = false;
	uint32_t events;

	if (connection->doing == DOING_ANSWER || step_request(connection)) {
		int r = step_answer(connection);

		if (r < 0 || (r > 0 && connection->close)) {
			end(connection);
			return;
		}
		if (r > 0) {
			become(connection, DOING_NOTHING);
			again = connection->size > 0; /* the next one has come already */
		}
	}
	events = again || connection->doing == DOING_ANSWER ? EPOLLOUT : EPOLLIN;
	if (events != connection->events)
		watch(connection->server, EPOLL_CTL_MOD, connection->fd, events, connection);
	connection->events = events;
}

static void on_connection(struct connection *connection, uint32_t events)
{
	ssize_t got;

	if (events & EPOLLIN) {
		got = recv(connection->fd, connection->request + connection->size,
			   sizeof connection->request - connection->size, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			connection_free(connection);
			return;
		}
		connection->size += (size_t)got;
	} else if (events & (EPOLLERR | EPOLLHUP)) {
		connection_free(connection);
		return;
	}
	advance(connection);
}

static void take(struct server *server, int fd)
{
	struct connection *connection = calloc(1, sizeof *connection);

	if (!connection || watch(server, EPOLL_CTL_ADD, fd, EPOLLIN, connection) < 0) {
		free(connection);
		close(fd);
		return;
	}
	connection->server = server;
	connection->fd = fd;
	connection->events = EPOLLIN;
	/* Who has just come has a request, so it is not the first to make room. */
	become(connection, DOING_REQUEST);
	connection->next = server->connections;
	server->connections = connection;
	server->count++;
}

static void sweep_later(struct server *server)
{
	struct itimerspec when = { .it_value.tv_sec = SWEEP_S };

	timerfd_settime(server->sweep, 0, &when, NULL);
}

static void be_deaf(struct server *server, bool deaf)
{
	if (deaf != server->deaf)
		watch(server, EPOLL_CTL_MOD, server->fd, deaf ? 0 : EPOLLIN, &server->fd);
	server->deaf = deaf;
}

static void on_listen(struct server *server)
{
	for (int i = 0; i < ACCEPT_MAX; i++) {
		int client = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (client < 0 && errno != EAGAIN)
			be_deaf(server, true);
		if (client < 0)
			break;
		if (server->count >= SERVER_CONNECTIONS_MAX)
			make_room(server);
		take(server, client);
	}
	sweep_later(server);
}

static void on_sweep(struct server *server)
{
	struct connection *next;
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME), times;

	(void)!read(server->sweep, &times, sizeof times);
	for (struct connection *c = server->connections; c; c = next) {
		next = c->next;
		if (now_us >= c->deadline_us)
			connection_free(c);
	}
	be_deaf(server, false);
	if (server->count > 0)
		sweep_later(server);
}

int server_fd(const struct server *server)
{
	return server->epoll;
}

void server_turn(struct server *server)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(server->epoll, events, BASE_COUNT_OF(events), 0);
	bool came = false, sweep = false;

	/* What frees connections comes last: the others may have something in this turn. */
	for (int i = 0; i < count; i++) {
		if (events[i].data.ptr == &server->fd)
			came = true;
		else if (events[i].data.ptr == &server->sweep)
			sweep = true;
		else
			on_connection(events[i].data.ptr, events[i].events);
	}
	if (came)
		on_listen(server);
	if (sweep)
		on_sweep(server);
}

/* --- the way in and out --- */

struct place {
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} address;
	bool both; /* every address of both families */
};

static int parse_place(const char *listen, struct place *place, struct base_error *error)
{
	const char *colon = strrchr(listen, ':');
	char host[64] = "", *end;
	unsigned long port = 0;

	memset(place, 0, sizeof *place);
	if (colon && (size_t)(colon - listen) < sizeof host) {
		memcpy(host, listen, (size_t)(colon - listen));
		port = strtoul(colon + 1, &end, 10);
	}
	if (!colon || (size_t)(colon - listen) >= sizeof host || colon[1] < '0' || colon[1] > '9' ||
	    *end || port > 65535)
		return base_error_set(
			error, -EINVAL,
			"%.80s is no address and port: say 127.0.0.1:9461, [::1]:9461 "
			"or :9461, or nothing at all to switch it off",
			listen);
	place->address.six.sin6_port = htons((uint16_t)port); /* of both families at one place */
	if (!*host) {
		place->address.six.sin6_family = AF_INET6;
		place->both = true;
	} else if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		place->address.six.sin6_family = AF_INET6;
		if (inet_pton(AF_INET6, host + 1, &place->address.six.sin6_addr) == 1)
			return 0;
		return base_error_set(error, -EINVAL, "%s is no IPv6 address", host + 1);
	} else {
		place->address.four.sin_family = AF_INET;
		if (inet_pton(AF_INET, host, &place->address.four.sin_addr) != 1)
			return base_error_set(
				error, -EINVAL,
				"%s is no IPv4 address (IPv6 stands in brackets, names "
				"are not looked up)",
				host);
	}
	return 0;
}

int server_check(const char *listen, struct base_error *error)
{
	struct place place;

	return parse_place(listen, &place, error);
}

static int bind_place(const struct place *place)
{
	int family = place->address.any.sa_family, off = 0, on = 1, error;
	socklen_t size = family == AF_INET ? sizeof place->address.four : sizeof place->address.six;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, place->both ? &off : &on, sizeof on);
	if (bind(fd, &place->address.any, size) == 0 && listen(fd, SERVER_CONNECTIONS_MAX) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

/* On a host without IPv6 "every address" is every IPv4 address. */
static int bind_any(struct place *place)
{
	int fd = bind_place(place);
	uint16_t port = place->address.six.sin6_port;

	if (!place->both || (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL))
		return fd;
	memset(&place->address, 0, sizeof place->address);
	place->address.four.sin_family = AF_INET;
	place->address.four.sin_port = port;
	return bind_place(place);
}

int server_new(struct server **server, const char *listen, server_handler *handler, void *userdata,
	       struct base_error *error)
{
	struct place place;
	struct server *new;
	int r = parse_place(listen, &place, error);

	if (r < 0)
		return r;
	new = calloc(1, sizeof *new);
	if (!new)
		return base_error_set(error, -ENOMEM, "out of memory");
	new->fd = new->sweep = -1;
	new->handler = handler;
	new->userdata = userdata;
	new->epoll = epoll_create1(EPOLL_CLOEXEC);
	r = new->epoll < 0 ? -errno : 0;
	if (r >= 0)
		r = new->fd = bind_any(&place);
	if (r >= 0)
		r = watch(new, EPOLL_CTL_ADD, new->fd, EPOLLIN, &new->fd);
	if (r >= 0) {
		new->sweep = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
		r = new->sweep < 0 ? -errno
				   : watch(new, EPOLL_CTL_ADD, new->sweep, EPOLLIN, &new->sweep);
	}
	if (r < 0) {
		base_error_set(error, r, "cannot listen on %s: %s%s", listen, strerror(-r),
			       r == -EADDRINUSE ? "; take another with --metrics-listen" : "");
		server_free(new);
		return r;
	}
	*server = new;
	return 0;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	while (server->connections)
		connection_free(server->connections);
	if (server->sweep >= 0)
		close(server->sweep);
	if (server->fd >= 0)
		close(server->fd);
	if (server->epoll >= 0)
		close(server->epoll);
	free(server);
}

unsigned server_port(const struct server *server)
{
	struct place place = { 0 };
	socklen_t size = sizeof place.address;

	if (getsockname(server->fd, &place.address.any, &size) < 0)
		return 0;
	return ntohs(place.address.six.sin6_port);
}
