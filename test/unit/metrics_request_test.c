/* Requests as bytes: RFC 9112, as far as a page that is only read needs it. */
#include <string.h>

#include "base/random.h"
#include "daemon/metrics/request.h"
#include "test/unit/unit.h"

static const struct {
	const char *name, *data, *path;
	enum request_verdict verdict;
	bool head, close;
} rows[] = {
	{ "what Prometheus says",
	  "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9461\r\nUser-Agent: Prometheus/2.42.0\r\n"
	  "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"
	  "Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
	  "/metrics", REQUEST_VERDICT_OK, false, false },
	{ "what a kubelet says",
	  "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:9461\r\nUser-Agent: kube-probe/1.32\r\n"
	  "Accept: */*\r\nConnection: close\r\n\r\n",
	  "/healthz", REQUEST_VERDICT_OK, false, true },
	{ "the query is not the path", "GET /state?a=b HTTP/1.1\r\nHost: a\r\n\r\n", "/state",
	  REQUEST_VERDICT_OK, false, false },
	{ "HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "/", REQUEST_VERDICT_OK, true, false },
	{ "version 1.0 closes and needs no Host", "GET / HTTP/1.0\r\n\r\n", "/", REQUEST_VERDICT_OK,
	  false, true },
	{ "close stands among other words",
	  "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE , Close\r\n\r\n", "/", REQUEST_VERDICT_OK,
	  false, true },
	{ "a body of nothing is none", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	  "/", REQUEST_VERDICT_OK, false, false },
	{ "nothing yet", "", NULL, REQUEST_VERDICT_MORE, false, false },
	{ "the empty line is missing", "GET / HTTP/1.1\r\nHost: a\r\n", NULL, REQUEST_VERDICT_MORE,
	  false, false },
	{ "half a line's end", "GET / HTTP/1.1\r\nHost: a\r\n\r", NULL, REQUEST_VERDICT_MORE, false,
	  false },
	{ "no Host in 1.1", "GET / HTTP/1.1\r\n\r\n", NULL, REQUEST_VERDICT_MALFORMED, false,
	  false },
	{ "two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", NULL,
	  REQUEST_VERDICT_MALFORMED, false, false },
	{ "a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", NULL,
	  REQUEST_VERDICT_BODY, false, false },
	{ "a body in chunks", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
	  NULL, REQUEST_VERDICT_BODY, false, false },
	{ "a number that is none", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n", NULL,
	  REQUEST_VERDICT_BODY, false, false },
	{ "another method", "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n", NULL,
	  REQUEST_VERDICT_METHOD, false, false },
	{ "methods are told by their case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", NULL,
	  REQUEST_VERDICT_METHOD, false, false },
	{ "version 2 in the clothes of 1", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", NULL,
	  REQUEST_VERDICT_VERSION, false, false },
	{ "version 0.9", "GET /\r\n\r\n", NULL, REQUEST_VERDICT_MALFORMED, false, false },
	{ "no path", "GET metrics HTTP/1.1\r\nHost: a\r\n\r\n", NULL, REQUEST_VERDICT_MALFORMED,
	  false, false },
	{ "for a proxy", "GET http://a/metrics HTTP/1.1\r\nHost: a\r\n\r\n", NULL,
	  REQUEST_VERDICT_MALFORMED, false, false },
	{ "two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", NULL, REQUEST_VERDICT_MALFORMED,
	  false, false },
	{ "a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", NULL,
	  REQUEST_VERDICT_MALFORMED, false, false },
	{ "a folded line", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", NULL,
	  REQUEST_VERDICT_MALFORMED, false, false },
	{ "a line feed alone", "GET / HTTP/1.1\nHost: a\n\r\n\r\n", NULL, REQUEST_VERDICT_MALFORMED,
	  false, false },
	{ "a carriage return alone", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", NULL,
	  REQUEST_VERDICT_MALFORMED, false, false },
	{ "a path that is too long",
	  "GET /0123456789012345678901234567890123456789012345678901234567890123 HTTP/1.1\r\n"
	  "Host: a\r\n\r\n",
	  NULL, REQUEST_VERDICT_TARGET, false, false },
	{ "a character that is no path", "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", NULL,
	  REQUEST_VERDICT_MALFORMED, false, false },
	{ "a TLS client", "\x16\x03\x01\x02\x01\x01\xfc\x03\r\n\r\n", NULL,
	  REQUEST_VERDICT_MALFORMED, false, false },
};

static void test_each_request_has_its_verdict(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct request request;

		ASSERT_ROW(rows[i].name, request_parse(rows[i].data, strlen(rows[i].data),
						       &request) == rows[i].verdict);
		if (rows[i].verdict != REQUEST_VERDICT_OK)
			continue;
		ASSERT_ROW(rows[i].name, strcmp(request.path, rows[i].path) == 0);
		ASSERT_ROW(rows[i].name, request.head == rows[i].head);
		ASSERT_ROW(rows[i].name, request.close == rows[i].close);
		ASSERT_ROW(rows[i].name, request.size == strlen(rows[i].data));
	}
}

/* However it is cut, it is not complete before its last byte. */
static void test_a_part_of_a_request_is_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++)
		for (size_t size = 0;
		     rows[i].verdict == REQUEST_VERDICT_OK && size < strlen(rows[i].data); size++)
			ASSERT_ROW(rows[i].name,
				   request_parse(rows[i].data, size, &(struct request){ .head = false }) ==
					   REQUEST_VERDICT_MORE);
}

static void test_what_follows_is_the_next_request(void **state)
{
	const char *two = "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n";
	struct request request;

	(void)state;
	assert_int_equal(request_parse(two, strlen(two), &request), REQUEST_VERDICT_OK);
	assert_string_equal(request.path, "/a");
	assert_int_equal(request_parse(two + request.size, strlen(two) - request.size, &request),
			 REQUEST_VERDICT_OK);
	assert_string_equal(request.path, "/b");
}

/* Without an end nobody waits longer than the buffer. */
static void test_endless_lines_and_fields_are_refused(void **state)
{
	char data[REQUEST_SIZE_MAX];
	struct request request;

	(void)state;
	memset(data, 'a', sizeof data);
	assert_int_equal(request_parse(data, sizeof data - 1, &request), REQUEST_VERDICT_MORE);
	assert_int_equal(request_parse(data, sizeof data, &request), REQUEST_VERDICT_TARGET);
	memcpy(data, "GET / HTTP/1.1\r\nHost: ", 22);
	assert_int_equal(request_parse(data, sizeof data, &request), REQUEST_VERDICT_FIELDS);
}

/* Bytes turned at random in good requests: a verdict, and nothing else (sanitizers look on). */
static void test_damaged_requests_get_a_verdict(void **state)
{
	struct base_random random = { .state = 7 };

	(void)state;
	for (int i = 0; i < 20000; i++) {
		const char *from = rows[base_random_next(&random) % 7].data;
		size_t size = strlen(from);
		char data[512];
		struct request request;

		memcpy(data, from, size);
		for (int j = 0; j < 3; j++)
			data[base_random_next(&random) % size] = (char)base_random_next(&random);
		if (request_parse(data, size, &request) == REQUEST_VERDICT_OK) {
			assert_true(request.size <= size);
			assert_true(request.path[0] == '/');
			assert_true(memchr(request.path, '\0', sizeof request.path) != NULL);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_request_has_its_verdict),
		cmocka_unit_test(test_a_part_of_a_request_is_none),
		cmocka_unit_test(test_what_follows_is_the_next_request),
		cmocka_unit_test(test_endless_lines_and_fields_are_refused),
		cmocka_unit_test(test_damaged_requests_get_a_verdict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
