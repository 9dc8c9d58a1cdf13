#pragma once

#include <stdlib.h>
#include <unistd.h>

#include "test/unit/unit.h"

/* stderr goes into a file from begin to end, and what was written there into `line`. */
static char line[65536];
static int saved_stderr, capture_fd;

static inline void capture_begin(void)
{
	char path[] = "/tmp/vipd-log-test-XXXXXX";

	capture_fd = mkstemp(path);
	assert_true(capture_fd >= 0);
	unlink(path);
	saved_stderr = dup(STDERR_FILENO);
	dup2(capture_fd, STDERR_FILENO);
}

static inline void capture_end(void)
{
	ssize_t size;

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	lseek(capture_fd, 0, SEEK_SET);
	size = read(capture_fd, line, sizeof line - 1);
	line[size > 0 ? size : 0] = '\0';
	close(capture_fd);
}
