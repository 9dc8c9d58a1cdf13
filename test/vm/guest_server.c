/*
 * guest_server NAME PORT...: what runs in the real guest; the TCP half of test/tools/vm_server.py,
 * static and small. Says "NAME BOOT" at once and answers every line with "NAME line"; BOOT is the
 * kernel's boot id, so that a reset or a restart shows.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 512

static struct pollfd fds[CONNECTIONS_MAX];
static char rest[CONNECTIONS_MAX][4096];
static size_t length[CONNECTIONS_MAX];
static unsigned count, listeners;
static char boot[64];

static void hang_up(unsigned i)
{
	close(fds[i].fd);
	count--;
	fds[i] = fds[count];
	memcpy(rest[i], rest[count], length[count]);
	length[i] = length[count];
}

static void welcome(unsigned i, const char *name)
{
	int fd = accept(fds[i].fd, NULL, NULL), on = 1;

	if (fd < 0)
		return;
	if (count == CONNECTIONS_MAX) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	dprintf(fd, "%s %s\n", name, boot);
	fds[count] = (struct pollfd){ .fd = fd, .events = POLLIN };
	length[count++] = 0;
}

static void answer(unsigned i, const char *name)
{
	ssize_t got = read(fds[i].fd, rest[i] + length[i], sizeof rest[i] - length[i]);
	char *begin = rest[i], *end;

	if (got <= 0) {
		hang_up(i);
		return;
	}
	length[i] += (size_t)got;
	while ((end = memchr(begin, '\n', length[i] - (size_t)(begin - rest[i])))) {
		char line[5000];
		int n = snprintf(line, sizeof line, "%s %.*s\n", name, (int)(end - begin), begin);

		if (write(fds[i].fd, line, (size_t)n) != n) {
			hang_up(i);
			return;
		}
		begin = end + 1;
	}
	length[i] -= (size_t)(begin - rest[i]);
	memmove(rest[i], begin, length[i]);
	if (length[i] == sizeof rest[i])
		hang_up(i);
}

int main(int argc, char **argv)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");

	if (argc < 3 || !file || !fgets(boot, sizeof boot, file))
		return 2;
	boot[strcspn(boot, "\n")] = '\0';
	signal(SIGPIPE, SIG_IGN);
	for (int i = 2; i < argc; i++) {
		struct sockaddr_in6 any = { .sin6_family = AF_INET6,
					    .sin6_port = htons((uint16_t)atoi(argv[i])) };
		int fd = socket(AF_INET6, SOCK_STREAM, 0), on = 1;

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || listen(fd, 64) < 0) {
			perror("listen");
			return 1;
		}
		fds[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	listeners = count;
	puts("GUEST-READY");
	fflush(stdout);
	for (;;) {
		if (poll(fds, count, -1) < 0 && errno != EINTR)
			return 1;
		for (unsigned i = count; i-- > 0;)
			if (fds[i].revents)
				i < listeners ? welcome(i, argv[1]) : answer(i, argv[1]);
	}
}
