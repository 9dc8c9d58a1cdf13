#pragma once

/* test/adapter/tls_server.py, in a network namespace of the test's own. */
#include <signal.h>
#include <sys/wait.h>

#include "k8s/io/config.h"
#include "test/adapter/place.h"

static struct {
	char folder[40]; /* its certificates */
	unsigned port;
	pid_t pid;
	int in; /* closed: it ends */
} server = { .folder = "/tmp/vipd-server-test-XXXXXX" };

PLACE_UNUSED void server_start(void)
{
	int in[2], out[2];
	char line[16] = "";
	FILE *said;

	place_enter();
	signal(SIGPIPE, SIG_IGN);
	assert_non_null(mkdtemp(server.folder));
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	server.pid = fork();
	assert_true(server.pid >= 0);
	if (server.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		close(out[0]);
		execl("/usr/bin/python3", "python3", "test/adapter/tls_server.py", server.folder, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	server.in = in[1];
	said = fdopen(out[0], "r");
	if (!said || !fgets(line, sizeof line, said))
		place_skip("test/adapter/tls_server.py does not start: install python3 and openssl");
	fclose(said);
	server.port = (unsigned)atoi(line);
	assert_true(server.port > 0);
}

PLACE_UNUSED void server_stop(void)
{
	close(server.in);
	kill(server.pid, SIGTERM);
	waitpid(server.pid, NULL, 0);
	place_try("rm -rf %s", server.folder);
}

/* Valid until the next call; `authority`: "ca", or "other", which signed nothing. */
PLACE_UNUSED struct k8s_config *server_config(unsigned port, const char *authority)
{
	static struct k8s_config config;

	memset(&config, 0, sizeof config);
	assert_true(asprintf(&config.server, "https://127.0.0.1:%u", port) > 0);
	assert_true(asprintf(&config.ca_file, "%s/%s.pem", server.folder, authority) > 0);
	return &config;
}
