#include "daemon/engine/page.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/engine/child.h"
#include "daemon/engine/node.h"
#include "daemon/engine/traffic.h"
#include "daemon/metrics/counters.h"
#include "daemon/metrics/page.h"
#include "daemon/metrics/record.h"

_Static_assert(PAGE_FD == CHANNEL_FD, "child.c gives it the same number as every child");

#define ASKS_PER_SECOND  30
#define BUFFER_SIZE      (16 * 1024)

struct page {
	struct engine *engine;
	int counters, fd;
	struct child *child;
	sd_event_source *io;
	bool refused; /* it could not take its port; until one asks something */
};

/* --- numbers, into a file without a name --- */

struct output {
	int fd, error;
	size_t size, used;
	char buffer[BUFFER_SIZE];
};

static void flush(struct output *output)
{
	for (size_t at = 0; at < output->used && !output->error;) {
		ssize_t done = write(output->fd, output->buffer + at, output->used - at);

		if (done > 0)
			at += (size_t)done;
		else if (done == 0 || errno != EINTR)
			output->error = EIO;
	}
	output->used = 0;
}

static void put(struct output *output, const void *data, size_t size)
{
	if (output->used + size > sizeof output->buffer)
		flush(output);
	memcpy(output->buffer + output->used, data, size);
	output->used += size;
	output->size += size;
}

static void put_router(struct output *output, struct router *router)
{
	const struct virtual_router *core = &router->core;
	struct record_router record;
	static const char padding[8];
	size_t size;

	memset(&record, 0, sizeof record);
	snprintf(record.name, sizeof record.name, "%s", router->wish.name);
	snprintf(record.pool, sizeof record.pool, "%s", router->wish.pool);
	snprintf(record.owner, sizeof record.owner, "%s", virtual_router_owner(core));
	snprintf(record.services, sizeof record.services, "%s", router->wish.services);
	snprintf(record.interface, sizeof record.interface, "%s",
		 router->segment ? router->segment->name : "");
	record.owned = virtual_router_owns(core);
	record.confirmed = virtual_router_confirmed(core);
	record.eligible = router_is_eligible(router);
	record.addresses_present = record.owned && engine_addresses_present(router);
	record.fence_open = record.owned && engine_fence_open(router);
	record.rules_present = router->rules_present;
	record.conflict = router->conflict;
	record.not_eligible_why =
		(uint8_t)(router->not_eligible_why == BASE_REASON_COUNT ? BASE_REASON_NONE
									: router->not_eligible_why);
	record.state = (uint8_t)virtual_router_state(core);
	record.virtual_router_id = router->wish.virtual_router_id;
	record.dataplane = engine_dataplane(router);
	record.term = virtual_router_term(core);
	record.gained = router->gained;
	record.address_count = router->wish.address_count;
	record.adverts_sent = router->adverts_sent;
	record.adverts_heard = router->adverts_heard;
	record.worst_lateness_us = router->late_us;
	record.since_us = base_usec_since(engine_now(router->engine), router->since_us);
	size = record.address_count * sizeof router->wish.addresses[0];
	put(output, &record, sizeof record);
	put(output, router->wish.addresses, size);
	put(output, padding, record_router_size(record.address_count) - sizeof record - size);
}

/* The other nodes; gateways and strangers are nobody's peers. Counts only without an output. */
static uint32_t put_peers(struct engine *engine, struct output *output)
{
	uint32_t count = 0;

	for (struct segment *segment = engine->segments; segment; segment = segment->next)
		for (unsigned i = 0; i < segment->peer_count; i++) {
			const struct segment_peer *peer = &segment->peers[i];
			const struct engine_node *node = engine_node_at(engine, &peer->address);
			struct record_peer record;

			if (!node || strcmp(node->name, engine->node) == 0)
				continue;
			count++;
			if (!output)
				continue;
			memset(&record, 0, sizeof record);
			snprintf(record.node, sizeof record.node, "%s", node->name);
			snprintf(record.interface, sizeof record.interface, "%s", segment->name);
			record.address = peer->address;
			record.heard = peer->heard_us > 0;
			record.heard_us = base_usec_since(engine_now(engine), peer->heard_us);
			put(output, &record, sizeof record);
		}
	return count;
}

static void put_numbers(struct engine *engine, struct output *output)
{
	struct record_head head;
	const struct record_traffic *traffic;
	size_t traffic_count;

	traffic = traffic_get(engine->traffic, &traffic_count);
	engine_fence_show(engine);
	memset(&head, 0, sizeof head);
	head.ready = engine->ready;
	head.rules_present = engine->rules_present;
	head.feeder_running = feeder_running(engine->feeder);
	head.api_reachable = engine->api_reachable;
	head.maintenance = engine->maintenance;
	head.excluded = engine->excluded;
	head.fence = !engine->table             ? MESSAGE_FENCE_NONE
		     : engine->abilities.egress ? MESSAGE_FENCE_EGRESS
						: MESSAGE_FENCE_LOOPBACK;
	head.ports = (uint32_t)store_count(engine->store, MESSAGE_SERVICE_PORT);
	for (struct router *router = engine->routers; router; router = router->next) {
		head.router_count++;
		head.owned += virtual_router_owns(&router->core);
		head.leased |= router->wish.leased;
	}
	head.peer_count = put_peers(engine, NULL);
	head.traffic_count = (uint32_t)traffic_count;
	memcpy(head.verdicts, engine->verdicts, sizeof head.verdicts);
	head.counts = engine->counts;
	put(output, &head, sizeof head);
	for (struct router *router = engine->routers; router; router = router->next)
		put_router(output, router);
	put_peers(engine, output);
	for (size_t i = 0; i < traffic_count; i++)
		put(output, &traffic[i], sizeof traffic[i]);
	flush(output);
}

static void put_state(struct engine *engine, struct output *output)
{
	cJSON *tree = engine_describe(engine);
	char *text = tree ? cJSON_PrintUnformatted(tree) : NULL;

	cJSON_Delete(tree);
	for (size_t at = 0, size = text ? strlen(text) : 0; at < size;) {
		size_t part = size - at < BUFFER_SIZE ? size - at : BUFFER_SIZE;

		put(output, text + at, part);
		at += part;
	}
	flush(output);
	free(text);
}

/* --- questions --- */

static void tell(struct page *page, const struct record_answer *answer, int fd)
{
	union {
		struct cmsghdr align;
		char data[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { (void *)answer, sizeof *answer };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		control.align.cmsg_len = CMSG_LEN(sizeof fd);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
	}
	/* Who asks and does not read gets no answer. */
	(void)!sendmsg(page->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void answer(struct page *page, const struct record_ask *ask)
{
	static struct output output; /* one thread; 16 KiB are too many for the stack */
	struct record_answer answered = { .id = ask->id, .ready = page->engine->ready };

	output = (struct output){ .fd = -1 };
	if (ask->question == RECORD_NUMBERS || ask->question == RECORD_STATE) {
		output.fd = memfd_create("vipd-page", MFD_CLOEXEC);
		if (output.fd < 0)
			return;
		if (ask->question == RECORD_NUMBERS)
			put_numbers(page->engine, &output);
		else
			put_state(page->engine, &output);
		answered.size = (uint32_t)output.size;
	}
	if (!output.error)
		tell(page, &answered, output.fd);
	if (output.fd >= 0)
		close(output.fd);
}

static void set_refused(struct page *page, bool refused)
{
	if (page->refused == refused)
		return;
	page->refused = refused;
	engine_report_node(page->engine);
}

static void refused(struct page *page, const struct record_ask *refusal)
{
	log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
		 "no metrics: %.*s; everything else goes on", (int)sizeof refusal->why, refusal->why);
	set_refused(page, true);
}

static int on_ask(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct page *page = userdata;
	struct record_ask ask;
	ssize_t got = recv(fd, &ask, sizeof ask, MSG_DONTWAIT);

	(void)revents;
	if (got == sizeof ask && ask.question == RECORD_REFUSAL) {
		refused(page, &ask);
	} else if (got == sizeof ask) {
		set_refused(page, false);
		answer(page, &ask);
	}
	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		sd_event_source_set_enabled(source,
					    SD_EVENT_OFF); /* its end is told by on_end() */
	return 0;
}

/* --- the child --- */

static void disconnect(struct page *page)
{
	page->io = sd_event_source_disable_unref(page->io);
	if (page->fd >= 0)
		close(page->fd);
	page->fd = -1;
}

static void on_end(void *userdata, const siginfo_t *info)
{
	struct page *page = userdata;
	struct record_ask last;

	(void)info;
	/* Its end may be told before what it said last. */
	while (page->fd >= 0 && recv(page->fd, &last, sizeof last, MSG_DONTWAIT) == sizeof last)
		if (last.question == RECORD_REFUSAL)
			refused(page, &last);
	disconnect(page);
}

static int on_start(void *userdata, int fd)
{
	struct page *page = userdata;
	int r;

	page->fd = fd;
	r = sd_event_add_io(page->engine->event, &page->io, fd, EPOLLIN, on_ask, page);
	if (r >= 0)
		r = sd_event_source_set_priority(page->io, ENGINE_PRIORITY_STATUS);
	if (r >= 0)
		r = sd_event_source_set_ratelimit(page->io, BASE_USEC_PER_SEC, ASKS_PER_SECOND);
	return r;
}

int page_new(struct page **page, struct engine *engine)
{
	static const struct child_handlers handlers = { on_start, on_end };
	const struct engine_options *options = engine->options;
	char *argv[] = { "vipd-page",
			 "--node",
			 (char *)options->node,
			 "--role",
			 (char *)options->role,
			 "--metrics-listen",
			 (char *)options->metrics_listen,
			 NULL };
	struct page *new;
	int r;

	if (!options->metrics_listen || !*options->metrics_listen)
		return 0;
	new = calloc(1, sizeof *new);
	if (!new)
		return -ENOMEM;
	new->engine = engine;
	new->fd = -1;
	new->counters = counters_create();
	r = child_new(&new->child, engine->event,
		      &(struct child_options){ .program = options->page_program,
					       .argv = argv,
					       .counters = new->counters,
					       .priority = ENGINE_PRIORITY_STATUS,
					       .backoff_max_us = 10 * BASE_USEC_PER_SEC },
		      &handlers, new);
	if (r < 0) {
		page_free(new);
		return r;
	}
	*page = new;
	return 0;
}

int page_counters(const struct page *page)
{
	return page ? page->counters : -1;
}

bool page_refused(const struct page *page)
{
	return page && page->refused;
}

void page_free(struct page *page)
{
	if (!page)
		return;
	disconnect(page);
	child_free(page->child);
	if (page->counters >= 0)
		close(page->counters);
	free(page);
}
