#include "daemon/metrics/page.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io/clock.h"
#include "daemon/metrics/record.h"
#include "daemon/metrics/render.h"
#include "daemon/metrics/server.h"
#include "daemon/options.h"

#define PATIENCE_US (1 * BASE_USEC_PER_SEC)    /* for an answer; who asks us gets a 503 then */
#define FRESH_US    (100 * BASE_USEC_PER_MSEC) /* an answer younger than this is the answer */
#define NOBODY      65534

struct page {
	const char *node, *role;
	const struct counters *counters;
	uint32_t id;
	uint64_t silent_us; /* when it did not answer last */
	uint64_t alive_us;  /* when it answered last, and what */
	struct record_answer alive;
	void *numbers; /* mapped; NULL: none */
	size_t numbers_size;
	uint64_t numbers_us;
};

/* --- questions to the engine --- */

/* 0, and a descriptor or -1; -EAGAIN: nothing is there; -EPIPE: the engine is gone. */
static int receive(struct record_answer *answer, int *fd)
{
	union {
		struct cmsghdr align;
		char data[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { answer, sizeof *answer };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof control };
	ssize_t got = recvmsg(PAGE_FD, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *header;

	*fd = -1;
	if (got < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(header), sizeof *fd);
	if (got == sizeof *answer)
		return 0;
	if (*fd >= 0)
		close(*fd);
	return got == 0 ? -EPIPE : -EBADMSG;
}

/* Waits for the answer. -ETIMEDOUT: it did not come, or did not come just before. */
static int ask(struct page *page, enum record_question question, struct record_answer *answer,
	       int *fd)
{
	struct record_ask wanted = { .id = ++page->id, .question = question };
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME), until_us = now_us + PATIENCE_US;
	int r;

	if (page->silent_us && base_usec_since(now_us, page->silent_us) < PATIENCE_US)
		return -ETIMEDOUT;
	if (send(PAGE_FD, &wanted, sizeof wanted, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	    errno != EAGAIN)
		return -errno;
	for (; now_us < until_us; now_us = base_clock_us(CLOCK_BOOTTIME)) {
		struct pollfd ready = { .fd = PAGE_FD, .events = POLLIN };

		poll(&ready, 1, (int)((until_us - now_us) / 1000) + 1);
		r = receive(answer, fd);
		if (r == 0 && answer->id == wanted.id) {
			page->silent_us = 0;
			page->alive = *answer;
			page->alive_us = base_clock_us(CLOCK_BOOTTIME);
			return 0;
		}
		if (r == 0 && *fd >= 0)
			close(*fd); /* to a question that nobody waits for any more */
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	page->silent_us = now_us;
	return -ETIMEDOUT;
}

/* Does its loop turn? */
static bool is_alive(struct page *page)
{
	CLEANUP(base_close_cleanup) int fd = -1;
	struct record_answer answer;

	if (page->alive_us && base_usec_since(base_clock_us(CLOCK_BOOTTIME), page->alive_us) < FRESH_US)
		return true;
	return ask(page, RECORD_ALIVE, &answer, &fd) == 0;
}

static void *map(const struct record_answer *answer, int fd)
{
	void *data =
		answer->size ? mmap(NULL, answer->size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;

	return data == MAP_FAILED ? NULL : data;
}

static void refresh_numbers(struct page *page)
{
	CLEANUP(base_close_cleanup) int fd = -1;
	struct record_answer answer;

	if (page->numbers && base_usec_since(base_clock_us(CLOCK_BOOTTIME), page->numbers_us) < FRESH_US)
		return;
	if (page->numbers)
		munmap(page->numbers, page->numbers_size);
	page->numbers = NULL;
	if (ask(page, RECORD_NUMBERS, &answer, &fd) < 0 || fd < 0)
		return;
	page->numbers = map(&answer, fd);
	page->numbers_size = answer.size;
	page->numbers_us = base_clock_us(CLOCK_BOOTTIME);
}

/* --- pages --- */

static void answer_metrics(struct page *page, struct server_answer *answer)
{
	struct render_node node = { .node = page->node,
				    .role = page->role,
				    .wall_us = base_clock_us(CLOCK_REALTIME),
				    .engine = (unsigned)getppid(),
				    .counters = page->counters };

	refresh_numbers(page);
	answer->status = 200;
	answer->type = SERVER_TYPE_METRICS;
	render_node(&answer->text, &node, page->numbers, page->numbers_size);
	malloc_trim(0);
}

static void answer_state(struct page *page, struct server_answer *answer)
{
	CLEANUP(base_close_cleanup) int fd = -1;
	struct record_answer state;
	void *data = NULL;

	if (ask(page, RECORD_STATE, &state, &fd) == 0 && fd >= 0)
		data = map(&state, fd);
	if (!data) {
		answer->status = 503;
		metrics_print(&answer->text, "the engine does not answer\n");
		return;
	}
	answer->status = 200;
	answer->type = SERVER_TYPE_JSON;
	metrics_print(&answer->text, "%.*s\n", (int)state.size, (const char *)data);
	munmap(data, state.size);
}

static void on_request(void *userdata, const char *path, struct server_answer *answer)
{
	struct page *page = userdata;

	if (strcmp(path, "/metrics") == 0) {
		answer_metrics(page, answer);
	} else if (strcmp(path, "/state") == 0) {
		answer_state(page, answer);
	} else if (strcmp(path, "/healthz") == 0) {
		answer->status = is_alive(page) ? 200 : 503;
		metrics_print(&answer->text, "%s\n",
			      answer->status == 200 ? "ok" : "the engine does not answer");
	} else if (strcmp(path, "/readyz") == 0) {
		bool alive = is_alive(page);

		answer->status = alive && page->alive.ready ? 200 : 503;
		metrics_print(&answer->text, "%s\n",
			      answer->status == 200 ? "ok"
			      : alive ? "not ready: what is wanted was not read yet, or the fence "
					"is not in place; vipd status says more"
				      : "the engine does not answer");
	}
}

/* --- start and end --- */

/* The engine says something only when asked: what comes unasked is late, or the end. False: the end. */
static bool hear_engine(void)
{
	struct record_answer late;
	int passed, r = receive(&late, &passed);

	if (passed >= 0)
		close(passed);
	return r != -EPIPE && r != -ECONNRESET;
}

static void serve(struct server *server)
{
	struct pollfd ready[] = { { .fd = PAGE_FD, .events = POLLIN },
				  { .fd = server_fd(server), .events = POLLIN } };

	do {
		if (ready[1].revents)
			server_turn(server);
		poll(ready, 2, -1);
	} while (!ready[0].revents || hear_engine());
}

/* The engine logs it; who says this is of no use and ends. */
static int refuse(const char *format, const char *why)
{
	struct record_ask refusal = { .question = RECORD_REFUSAL };

	snprintf(refusal.why, sizeof refusal.why, format, why);
	(void)!send(PAGE_FD, &refusal, sizeof refusal, MSG_DONTWAIT | MSG_NOSIGNAL);
	return 1;
}

static int drop_privileges(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int i = 0; i < 64; i++)
		prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
	if (getuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			      setresuid(NOBODY, NOBODY, NOBODY) < 0))
		return -errno;
	if (syscall(SYS_capset, &header, none) < 0)
		return -errno;
	/* A change of identity clears it; a page without its engine has nothing to show. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return 0;
}

int main(int argc, char **argv)
{
	static struct page page;
	const char *listen = NULL;
	const struct option_spec specs[] = {
		{ "node", &page.node, false, "NAME", "this node" },
		{ "role", &page.role, false, "ROLE", "speaker or standalone" },
		{ "metrics-listen", &listen, false, "ADDRESS:PORT", "where" },
		{ NULL, NULL, false, NULL, NULL },
	};
	struct base_error error = { 0 };
	struct server *server = NULL;
	int r = options_parse(argc, argv, "vipd-page (run by the engine)", specs);

	if (r < 0 || !page.node || !page.role || !listen)
		return 2;
	prctl(PR_SET_NAME, "vipd-page");
	mallopt(M_ARENA_MAX, 1);
	signal(SIGPIPE, SIG_IGN);
	r = drop_privileges();
	if (r < 0)
		return refuse("cannot give up privileges: %s", strerror(-r));
	page.counters = counters_read();
	if (server_new(&server, listen, on_request, &page, &error) < 0)
		return refuse("%s; give --metrics-listen (VIPD_METRICS_LISTEN) another port",
			      error.message);
	is_alive(&page); /* so that the engine knows that there is a page */
	serve(server);
	server_free(server);
	return 0;
}
