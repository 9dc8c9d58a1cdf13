#include "nft/io/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <nftables/libnftables.h>

#include "base/array.h"
#include "nft/skeleton.h"

#define LIBRARY	      "libnftables.so.1"
#define AFTERWARDS_US 100000
#define AGAIN_MAX     5

/* The child says its port before it changes anything, and then how it went. */
struct report {
	bool done;
	int result;
	uint32_t port;
	char why[200];
};

/* --- the child --- */

/*
 * Found when it is needed: libnftables and the seven libraries behind it would be 200 KiB in each of the processes
 * of a node, which call nothing of it.
 */
struct library {
	__typeof__(&nft_ctx_new) new;
	__typeof__(&nft_ctx_buffer_output) buffer_output;
	__typeof__(&nft_ctx_buffer_error) buffer_error;
	__typeof__(&nft_run_cmd_from_buffer) run;
	__typeof__(&nft_ctx_get_error_buffer) error;
};

static int open_library(struct library *library, struct base_error *error)
{
	void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (handle) {
		library->new = dlsym(handle, "nft_ctx_new");
		library->buffer_output = dlsym(handle, "nft_ctx_buffer_output");
		library->buffer_error = dlsym(handle, "nft_ctx_buffer_error");
		library->run = dlsym(handle, "nft_run_cmd_from_buffer");
		library->error = dlsym(handle, "nft_ctx_get_error_buffer");
	}
	if (!handle || !library->new || !library->buffer_output || !library->buffer_error ||
	    !library->run || !library->error)
		return base_error_set(error, -ENOPKG, "%s: install the package libnftables1", dlerror());
	return 0;
}

/* The context does not tell: its socket has the number that was the next free one, and no port before it is used. */
static uint32_t port_of(int fd)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	socklen_t size = sizeof address;

	if (bind(fd, (struct sockaddr *)&address, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return 0;
	return address.nl_pid;
}

static int next_free_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd;
}

static int tell(const struct library *library, struct nft_ctx *context, const char *commands,
		struct base_error *error)
{
	const char *why;

	if (library->run(context, commands) == 0)
		return 0;
	why = library->error(context);
	return base_error_set(error, -EINVAL, "nftables refused: %.*s",
			      why ? (int)strcspn(why, "\n") : 0, why ? why : "");
}

/* What they are about went in between: there is something else to say now. */
static bool says_otherwise(nft_loader_say_fn *say, const void *userdata, char *text)
{
	char *now = malloc(NFT_SKELETON_SIZE);
	bool otherwise = now && say(userdata, now, NFT_SKELETON_SIZE, NULL) >= 0 && strcmp(now, text) != 0;

	if (otherwise)
		memcpy(text, now, strlen(now) + 1);
	free(now);
	return otherwise;
}

static int work(nft_loader_say_fn *say, const void *userdata, int fd, struct base_error *error)
{
	char *text = malloc(NFT_SKELETON_SIZE);
	struct report report = { .done = false };
	struct library library = { 0 };
	struct nft_ctx *context;
	int r = open_library(&library, error), socket;

	if (r < 0)
		return r;
	socket = next_free_fd();
	context = library.new(NFT_CTX_DEFAULT);
	if (!text || !context)
		return base_error_set(error, -ENOMEM, "no memory to tell nftables the rules");
	library.buffer_output(context);
	library.buffer_error(context);
	report.port = socket < 0 ? 0 : port_of(socket);
	if (write(fd, &report, sizeof report) != sizeof report)
		return -EIO;
	r = say(userdata, text, NFT_SKELETON_SIZE, error);
	if (r < 0)
		return r;
	r = tell(&library, context, text, error);
	for (unsigned i = 0; r < 0 && i < AGAIN_MAX && says_otherwise(say, userdata, text); i++)
		r = tell(&library, context, text, error);
	return r;
}

/* As urgent as everything here is, but after the caller, who has more urgent things to do. */
static void step_behind(int policy)
{
	struct sched_param parameter = { .sched_priority = 1 };

	if ((policy & ~SCHED_RESET_ON_FORK) != SCHED_OTHER)
		sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter);
}

static _Noreturn void be_child(nft_loader_say_fn *say, const void *userdata, int fd, pid_t parent,
			       int policy)
{
	struct report report = { .done = true };
	struct base_error error = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	step_behind(policy);
	report.result = work(say, userdata, fd, &error);
	snprintf(report.why, sizeof report.why, "%.199s", error.message);
	if (write(fd, &report, sizeof report) != sizeof report)
		_exit(1);
	/*
	 * To close its socket the kernel waits until what was replaced is taken apart, with the lock that all
	 * changes of tables need: up to 20 ms in which the caller could change nothing. Later there is
	 * nothing to wait for.
	 */
	close(fd);
	usleep(AFTERWARDS_US);
	_exit(0);
}

/* --- the caller --- */

static int watch(const struct nft_loader *loader, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(loader->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int let_go(const struct nft_loader *loader, int fd)
{
	if (fd >= 0) {
		epoll_ctl(loader->fd, EPOLL_CTL_DEL, fd, NULL);
		close(fd);
	}
	return -1;
}

static void reap(const struct nft_loader *loader, struct nft_loader_child *child, int how)
{
	if (child->pid == 0 || waitpid(child->pid, NULL, how) == 0)
		return;
	child->fd = let_go(loader, child->fd);
	child->pid = 0;
}

static void end(const struct nft_loader *loader, struct nft_loader_child *child)
{
	if (child->pid != 0)
		kill(child->pid, SIGKILL);
	reap(loader, child, 0);
}

int nft_loader_open(struct nft_loader *loader)
{
	loader->fd = epoll_create1(EPOLL_CLOEXEC);
	return loader->fd < 0 ? -errno : 0;
}

void nft_loader_close(struct nft_loader *loader)
{
	nft_loader_cancel(loader);
	if (loader->fd >= 0)
		close(loader->fd);
	loader->fd = -1;
}

void nft_loader_reap(struct nft_loader *loader)
{
	for (unsigned i = 0; i < NFT_LOADER_CHILDREN; i++)
		reap(loader, &loader->children[i], WNOHANG);
}

void nft_loader_cancel(struct nft_loader *loader)
{
	loader->report = let_go(loader, loader->report);
	loader->done = false;
	for (unsigned i = 0; i < NFT_LOADER_CHILDREN; i++)
		end(loader, &loader->children[i]);
}

int nft_loader_start(struct nft_loader *loader, nft_loader_say_fn *say, const void *userdata)
{
	int ends[2], policy = sched_getscheduler(0), r;
	pid_t parent = getpid(), child;
	struct nft_loader_child *started;

	nft_loader_reap(loader);
	loader->child = (loader->child + 1) % NFT_LOADER_CHILDREN;
	end(loader, &loader->children[loader->child]);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		close(ends[0]);
		be_child(say, userdata, ends[1], parent, policy);
	}
	close(ends[1]);
	if (child < 0) {
		r = -errno;
		close(ends[0]);
		return r;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	loader->report = ends[0];
	started = &loader->children[loader->child];
	*started = (struct nft_loader_child){ child, (int)syscall(SYS_pidfd_open, child, 0) };
	r = watch(loader, loader->report);
	if (r == 0 && started->fd >= 0)
		r = watch(loader, started->fd);
	if (r < 0)
		nft_loader_cancel(loader);
	return r;
}

static void read_reports(struct nft_loader *loader)
{
	struct report report;

	while (loader->report >= 0 && !loader->done) {
		ssize_t size = read(loader->report, &report, sizeof report);

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == EAGAIN)
			return;
		if (size == sizeof report && !report.done) {
			loader->ports[loader->port_count++ % BASE_COUNT_OF(loader->ports)] = report.port;
			continue;
		}
		loader->done = true;
		loader->result = size == sizeof report ? report.result : -EIO;
		snprintf(loader->why, sizeof loader->why, "%.199s",
			 size == sizeof report ? report.why
					       : "the process that loads the rules ended in the middle");
	}
}

int nft_loader_end(struct nft_loader *loader, struct base_error *error)
{
	read_reports(loader);
	if (!loader->done)
		return -EAGAIN;
	loader->done = false;
	loader->report = let_go(loader, loader->report);
	nft_loader_reap(loader);
	return loader->result < 0 ? base_error_set(error, loader->result, "%s", loader->why) : 0;
}

int nft_loader_say_text(const void *userdata, char *text, size_t size, struct base_error *error)
{
	int length = snprintf(text, size, "%s", (const char *)userdata);

	if (length < 0 || (size_t)length >= size)
		return base_error_set(error, -E2BIG, "more than %zu bytes for nftables at once", size);
	return length;
}

int nft_loader_run(struct nft_loader *loader, const char *commands, struct base_error *error)
{
	int r = nft_loader_start(loader, nft_loader_say_text, commands);

	if (r < 0)
		return base_error_set(error, r, "no process to tell nftables anything: %s",
				      strerror(-r));
	while ((r = nft_loader_end(loader, error)) == -EAGAIN) {
		struct pollfd wait = { .fd = loader->report, .events = POLLIN };

		poll(&wait, 1, -1);
	}
	return r;
}

bool nft_loader_is_own(struct nft_loader *loader, uint32_t port)
{
	read_reports(loader); /* it said so before it began */
	for (unsigned i = 0; i < BASE_COUNT_OF(loader->ports); i++)
		if (port != 0 && loader->ports[i] == port)
			return true;
	return false;
}
