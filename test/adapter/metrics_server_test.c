/* The page's server against clients that behave and clients that do not, over a real loopback. */
#include "daemon/metrics/request.h"
#include "daemon/metrics/server.h"
#include "test/adapter/place.h"

#define LARGE (8 * 1024 * 1024) /* more than socket buffers take */

static struct server *server;
static unsigned asked;

static void on_request(void *userdata, const char *path, struct server_answer *answer)
{
	(void)userdata;
	asked++;
	if (strcmp(path, "/healthz") != 0 && strcmp(path, "/large") != 0)
		return;
	answer->status = 200;
	metrics_print(&answer->text, "ok\n");
	while (strcmp(path, "/large") == 0 && answer->text.size < LARGE)
		metrics_print(&answer->text, "%01000d\n", 0);
}

static int set_up(void **state)
{
	struct base_error error = { 0 };

	(void)state;
	asked = 0;
	assert_int_equal(server_new(&server, "127.0.0.1:0", on_request, NULL, &error), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	server_free(server);
	return 0;
}

/* Lets the server work until there is nothing to do for so long. */
static void turn(unsigned quiet_ms)
{
	struct pollfd ready = { .fd = server_fd(server), .events = POLLIN };

	while (poll(&ready, 1, (int)quiet_ms) > 0)
		server_turn(server);
}

static int dial(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons((uint16_t)server_port(server)) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What has come; "" nothing. `*ended`: and then the end. */
static const char *read_all(int fd, bool *ended)
{
	static char text[64 * 1024];
	size_t size = 0;
	ssize_t got;

	*ended = false;
	while (size < sizeof text - 1 &&
	       (got = recv(fd, text + size, sizeof text - 1 - size, MSG_DONTWAIT)) >= 0) {
		if (got == 0) {
			*ended = true;
			break;
		}
		size += (size_t)got;
	}
	if (size < sizeof text - 1 && !*ended && errno == ECONNRESET)
		*ended = true;
	text[size] = '\0';
	return text;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

/* Is a new client served? */
static bool serves(void)
{
	int fd = dial();
	bool ended, ok;

	say(fd, GET("/healthz"));
	turn(20);
	ok = strstr(read_all(fd, &ended), "200 OK") != NULL;
	close(fd);
	turn(1);
	return ok;
}

static void test_one_connection_serves_one_request_after_another(void **state)
{
	int fd = dial();
	bool ended;

	(void)state;
	for (int i = 0; i < 3; i++) {
		const char *text;

		say(fd, GET("/healthz"));
		turn(20);
		text = read_all(fd, &ended);
		assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
		assert_non_null(strstr(text, "\r\nContent-Length: 3\r\n"));
		assert_non_null(strstr(text, "\r\n\r\nok\n"));
		assert_false(ended);
	}
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	turn(20);
	read_all(fd, &ended);
	assert_true(ended);
	close(fd);
}

static void test_requests_that_come_at_once_are_all_answered(void **state)
{
	int fd = dial();
	bool ended;
	const char *text;
	int count = 0;

	(void)state;
	say(fd, GET("/healthz") GET("/nothing") GET("/healthz"));
	turn(20);
	text = read_all(fd, &ended);
	for (const char *at = text; (at = strstr(at, "HTTP/1.1 ")); at++)
		count++;
	assert_int_equal(count, 3);
	assert_non_null(strstr(text, "404 Not Found"));
	close(fd);
}

static void test_head_is_answered_without_the_body(void **state)
{
	int fd = dial();
	bool ended;
	const char *text;

	(void)state;
	say(fd, "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	turn(20);
	text = read_all(fd, &ended);
	assert_non_null(strstr(text, "\r\nContent-Length: 3\r\n"));
	assert_true(strcmp(text + strlen(text) - 4, "\r\n\r\n") == 0);
	close(fd);
}

static void test_what_is_refused_is_told_and_ends(void **state)
{
	static const struct {
		const char *name, *data, *status;
	} rows[] = {
		{ "a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "405" },
		{ "nonsense", "\x16\x03\x01\r\n\r\n", "400" },
		{ "another version", "GET / HTTP/9.9\r\nHost: a\r\n\r\n", "505" },
	};
	static char long_field[REQUEST_SIZE_MAX + 64];

	(void)state;
	for (size_t i = 0; i <= BASE_COUNT_OF(rows); i++) {
		bool last = i == BASE_COUNT_OF(rows), ended;
		int fd = dial();
		const char *text;

		if (last) {
			memset(long_field, 'a', sizeof long_field - 1);
			memcpy(long_field, "GET / HTTP/1.1\r\nA: ", 19);
		}
		say(fd, last ? long_field : rows[i].data);
		turn(20);
		text = read_all(fd, &ended);
		ASSERT_ROW(last ? "an endless field" : rows[i].name,
			   strncmp(text + 9, last ? "431" : rows[i].status, 3) == 0);
		assert_true(ended);
		close(fd);
	}
	assert_int_equal(asked, 0);
}

/* Whatever they hold back, the next one is served; and the oldest of them is sent away. */
static void test_many_who_say_nothing_do_not_keep_anybody_out(void **state)
{
	int fds[4 * SERVER_CONNECTIONS_MAX];
	bool ended;

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(fds); i++) {
		fds[i] = dial();
		if (i % 2)
			say(fds[i], "GET /healthz HTTP/1.1\r\nHost: ");
		if (i % 8 == 7) {
			turn(1);
			assert_true(serves());
		}
	}
	read_all(fds[0], &ended);
	assert_true(ended);
	for (size_t i = 0; i < BASE_COUNT_OF(fds); i++)
		close(fds[i]);
	turn(20);
	assert_true(serves());
}

/* Sixteen ask for more than fits a socket and take nothing. */
static void test_many_who_do_not_read_do_not_keep_anybody_out(void **state)
{
	int fds[SERVER_CONNECTIONS_MAX];

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(fds); i++) {
		fds[i] = dial();
		say(fds[i], GET("/large"));
		turn(1);
	}
	assert_true(serves());
	for (size_t i = 0; i < BASE_COUNT_OF(fds); i++)
		close(fds[i]);
}

static void test_a_large_answer_arrives_whole(void **state)
{
	int fd = dial();
	size_t size = 0;
	bool ended = false;

	(void)state;
	say(fd, "GET /large HTTP/1.0\r\n\r\n");
	while (!ended) {
		turn(0);
		size += strlen(read_all(fd, &ended));
	}
	assert_true(size > LARGE);
	close(fd);
}

/* A letter now and then is no request: the time for the whole of it counts. */
static void test_a_request_that_drips_is_cut_off(void **state)
{
	uint64_t begun_us = place_now_us();
	int fd = dial();
	bool ended = false;

	(void)state;
	while (!ended && place_now_us() - begun_us < 3 * SERVER_REQUEST_US) {
		(void)!send(fd, "G", 1, MSG_NOSIGNAL);
		turn(200);
		read_all(fd, &ended);
	}
	assert_true(ended);
	assert_true(place_now_us() - begun_us < SERVER_REQUEST_US + 3 * BASE_USEC_PER_SEC);
	close(fd);
}

static void test_places_are_read_and_faults_explained(void **state)
{
	static const char *const good[] = { "127.0.0.1:9461", "[::1]:9461", ":9461", "0.0.0.0:1" };
	static const struct {
		const char *listen, *says;
	} bad[] = {
		{ "9461", "is no address and port" },
		{ "127.0.0.1", "is no address and port" },
		{ "127.0.0.1:", "is no address and port" },
		{ "127.0.0.1:99999", "is no address and port" },
		{ "127.0.0.1:94x", "is no address and port" },
		{ "localhost:9461", "names are not looked up" },
		{ "[::g]:1", "is no IPv6 address" },
		{ "::1:9461", "stands in brackets" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(good); i++)
		ASSERT_ROW(good[i], server_check(good[i], &(struct base_error){ 0 }) == 0);
	for (size_t i = 0; i < BASE_COUNT_OF(bad); i++) {
		struct base_error error = { 0 };

		ASSERT_ROW(bad[i].listen, server_check(bad[i].listen, &error) == -EINVAL);
		ASSERT_ROW(bad[i].listen, strstr(error.message, bad[i].says) != NULL);
	}
}

static void test_a_taken_port_is_told_with_a_remedy(void **state)
{
	struct base_error error = { 0 };
	struct server *other = NULL;
	char listen[32];

	(void)state;
	snprintf(listen, sizeof listen, "127.0.0.1:%u", server_port(server));
	assert_int_equal(server_new(&other, listen, on_request, NULL, &error),
			 -EADDRINUSE);
	assert_non_null(strstr(error.message, listen));
	assert_non_null(strstr(error.message, "--metrics-listen"));
}

/* ":PORT" is every address of both families. */
static void test_without_an_address_both_families_are_served(void **state)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct base_error error = { 0 };
	bool ended;
	int fd;

	(void)state;
	server_free(server);
	assert_int_equal(server_new(&server, ":0", on_request, NULL, &error), 0);
	assert_true(serves());
	to.sin6_port = htons((uint16_t)server_port(server));
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	say(fd, GET("/healthz"));
	turn(20);
	assert_non_null(strstr(read_all(fd, &ended), "200 OK"));
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_one_connection_serves_one_request_after_another),
		TEST(test_requests_that_come_at_once_are_all_answered),
		TEST(test_head_is_answered_without_the_body),
		TEST(test_what_is_refused_is_told_and_ends),
		TEST(test_many_who_say_nothing_do_not_keep_anybody_out),
		TEST(test_many_who_do_not_read_do_not_keep_anybody_out),
		TEST(test_a_large_answer_arrives_whole),
		TEST(test_a_request_that_drips_is_cut_off),
		TEST(test_places_are_read_and_faults_explained),
		TEST(test_a_taken_port_is_told_with_a_remedy),
		TEST(test_without_an_address_both_families_are_served),
	};

	place_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
