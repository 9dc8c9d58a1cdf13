#include "nft/io/wire.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io/clock.h"
#include "nft/io/attributes.h"
#include "nft/io/guard.h"

#define LIST_SIZE_MAX 60000 /* of one list of elements: an attribute's size has 16 bits */
#define PIECE_SIZE    65536
#define SEND_SIZE     (8 * 1024 * 1024)
#define ANSWER_SIZE   8192
#define STACK_SIZE    (128 * 1024) /* of the thread; locked memory */
#define PATIENCE_MS   2		   /* with the thread: what no foreign transaction is in the way of takes less */
#define ALERT_US      200	   /* of it awake: most take less, and to sleep and be woken takes as long again */

enum turn {
	TURN_NONE,
	TURN_ASKED,    /* who asked is awake and looks */
	TURN_LEFT,     /* he is to be woken by `done` */
	TURN_ANSWERED, /* he has looked, or will */
};

struct nft_wire {
	int fd;
	uint32_t port, sequence;
	uint8_t *buffer;
	size_t length, capacity;
	bool failed;	  /* out of memory: commit() says so */
	bool interrupted; /* what is being dumped changed meanwhile */
	size_t message;	  /* where the last message begins; 0: none */
	size_t list;	  /* where its list of elements begins; 0: it has none, or it is closed */
	uint8_t list_set; /* whose elements (behind NFT_SETS: of `moved` and `early`), and to what end */
	bool list_add;
	pthread_t thread;
	int policy;
	struct sched_param priority;
	bool threaded, ending;
	int go, done; /* eventfds: there is a transaction for the thread, and its answer */
	_Atomic int answer;
	_Atomic enum turn turn;
};

int nft_wire_new(struct nft_wire **wire)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	socklen_t size = sizeof address;
	struct nft_wire *new = calloc(1, sizeof *new);
	int one = 1, room = SEND_SIZE;

	if (!new)
		return -ENOMEM;
	new->go = eventfd(0, EFD_CLOEXEC);
	new->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	new->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	if (new->go < 0 || new->done < 0 || new->fd < 0 ||
	    bind(new->fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    getsockname(new->fd, (struct sockaddr *)&address, &size) < 0) {
		int r = -errno;

		nft_wire_free(new);
		return r;
	}
	new->port = address.nl_pid;
	/* A refusal does not bring the refused message back; and a whole transaction goes out at once. */
	setsockopt(new->fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
	setsockopt(new->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
	*wire = new;
	return 0;
}

void nft_wire_free(struct nft_wire *wire)
{
	if (!wire)
		return;
	if (wire->threaded) {
		wire->ending = true;
		eventfd_write(wire->go, 1);
		pthread_join(wire->thread, NULL);
	}
	if (wire->go >= 0)
		close(wire->go);
	if (wire->done >= 0)
		close(wire->done);
	if (wire->fd >= 0)
		close(wire->fd);
	free(wire->buffer);
	free(wire);
}

uint32_t nft_wire_port(const struct nft_wire *wire)
{
	return wire->port;
}

/* --- writing --- */

/* Room for `size` bytes at the end, zeroed; NULL: out of memory. */
static void *grow(struct nft_wire *wire, size_t size)
{
	size_t capacity = wire->capacity ? wire->capacity : 4096;
	uint8_t *at;

	while (capacity - wire->length < size)
		capacity *= 2;
	if (capacity != wire->capacity && !wire->failed) {
		uint8_t *grown = realloc(wire->buffer, capacity);

		if (grown) {
			wire->buffer = grown;
			wire->capacity = capacity;
		} else {
			wire->failed = true;
		}
	}
	if (wire->failed)
		return NULL;
	at = wire->buffer + wire->length;
	memset(at, 0, size);
	wire->length += size;
	return at;
}

static void end_message(struct nft_wire *wire)
{
	struct nlmsghdr *header = (struct nlmsghdr *)(wire->buffer + wire->message);

	if (wire->list > 0)
		nft_wire_close(wire, wire->list);
	wire->list = 0;
	if (!wire->failed && wire->length > 0)
		header->nlmsg_len = (uint32_t)(wire->length - wire->message);
}

static void begin_message(struct nft_wire *wire, uint16_t type, uint16_t flags, uint8_t family,
			  uint16_t resource)
{
	struct nlmsghdr *header;
	struct nfgenmsg *generic;

	end_message(wire);
	wire->message = wire->length;
	header = grow(wire, NLMSG_LENGTH(sizeof *generic));
	if (!header)
		return;
	header->nlmsg_type = type;
	header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	header->nlmsg_seq = ++wire->sequence;
	generic = NLMSG_DATA(header);
	generic->nfgen_family = family;
	generic->version = NFNETLINK_V0;
	generic->res_id = htons(resource);
}

void nft_wire_message(struct nft_wire *wire, uint16_t type, uint16_t flags, uint8_t family)
{
	begin_message(wire, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, family, 0);
}

void nft_wire_put(struct nft_wire *wire, uint16_t type, const void *data, size_t size)
{
	struct nlattr *attribute = grow(wire, NLA_HDRLEN + NLA_ALIGN(size));

	if (!attribute)
		return;
	attribute->nla_type = type;
	attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
	memcpy((uint8_t *)attribute + NLA_HDRLEN, data, size);
}

void nft_wire_put_text(struct nft_wire *wire, uint16_t type, const char *text)
{
	nft_wire_put(wire, type, text, strlen(text) + 1);
}

void nft_wire_put_number(struct nft_wire *wire, uint16_t type, uint32_t number)
{
	number = htonl(number);
	nft_wire_put(wire, type, &number, sizeof number);
}

size_t nft_wire_open(struct nft_wire *wire, uint16_t type)
{
	size_t at = wire->length;

	nft_wire_put(wire, (uint16_t)(type | NLA_F_NESTED), "", 0);
	return at;
}

void nft_wire_close(struct nft_wire *wire, size_t opened)
{
	struct nlattr *attribute = (struct nlattr *)(wire->buffer + opened);

	if (!wire->failed)
		attribute->nla_len = (uint16_t)(wire->length - opened);
}

void nft_wire_begin(struct nft_wire *wire)
{
	wire->length = wire->message = wire->list = 0;
	wire->failed = false;
	begin_message(wire, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

static uint8_t family_of(const char *table)
{
	return strcmp(table, "netdev") == 0 ? NFPROTO_NETDEV : strcmp(table, "arp") == 0 ? NFPROTO_ARP : NFPROTO_INET;
}

static const char *name_of(const char *table)
{
	return strcmp(table, "guard") == 0 ? NFT_GUARD : "vipd";
}

static void put_value(struct nft_wire *wire, uint16_t type, const uint8_t *value, size_t size)
{
	size_t opened;

	if (size == 0)
		return;
	opened = nft_wire_open(wire, type);
	nft_wire_put(wire, NFTA_DATA_VALUE, value, size);
	nft_wire_close(wire, opened);
}

static void put_element(struct nft_wire *wire, bool add, uint8_t number, const char *name,
			const struct nft_element *element)
{
	const char *table = nft_sets[element->set].table;
	size_t opened;

	if (wire->list == 0 || wire->list_set != number || wire->list_add != add ||
	    wire->length - wire->list > LIST_SIZE_MAX) {
		nft_wire_message(wire, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
				 add ? NLM_F_CREATE : 0, family_of(table));
		nft_wire_put_text(wire, NFTA_SET_ELEM_LIST_TABLE, name_of(table));
		nft_wire_put_text(wire, NFTA_SET_ELEM_LIST_SET, name);
		wire->list = nft_wire_open(wire, NFTA_SET_ELEM_LIST_ELEMENTS);
		wire->list_set = number;
		wire->list_add = add;
	}
	opened = nft_wire_open(wire, NFTA_LIST_ELEM);
	put_value(wire, NFTA_SET_ELEM_KEY, element->key, element->key_size);
	if (add)
		put_value(wire, NFTA_SET_ELEM_DATA, element->data, element->data_size);
	nft_wire_close(wire, opened);
}

void nft_wire_element(struct nft_wire *wire, bool add, const struct nft_element *element)
{
	put_element(wire, add, element->set, nft_sets[element->set].name, element);
}

void nft_wire_moved(struct nft_wire *wire, const struct nft_element *local)
{
	static const char *const names[] = { "moved4", "moved6", "early4", "early6" };

	/* What is there already would keep what is left of its time; what is not cannot be deleted. */
	for (unsigned i = local->set - (unsigned)NFT_SET_LOCAL; i < 4; i += 2)
		for (int add = 1; add < 4; add++)
			put_element(wire, add & 1, (uint8_t)(NFT_SETS + i), names[i], local);
}

/*
 * The kernel has done it when send() returns, and all of its answers are there. That the last message but the end
 * is accepted is said last.
 */
static int read_answers(struct nft_wire *wire)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[ANSWER_SIZE];
	int result = -EIO;

	for (;;) {
		ssize_t size = recv(wire->fd, buffer, sizeof buffer, 0);
		const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == ENOBUFS) { /* so many refusals */
			result = result < 0 && result != -EIO ? result : -EINVAL;
			continue;
		}
		if (size <= 0)
			return result;
		for (size_t left = (size_t)size; NLMSG_OK(header, left);
		     header = NLMSG_NEXT(header, left)) {
			const struct nlmsgerr *answer = NLMSG_DATA(header);

			if (header->nlmsg_type != NLMSG_ERROR ||
			    header->nlmsg_len < NLMSG_LENGTH(sizeof *answer))
				continue;
			if (result == -EIO && answer->error == 0 && header->nlmsg_seq == wire->sequence - 1)
				return 0;
			if (result == -EIO || result == 0)
				result = answer->error;
		}
	}
}

static int send_off(struct nft_wire *wire)
{
	end_message(wire);
	if (wire->failed)
		return -ENOMEM;
	while (send(wire->fd, wire->buffer, wire->length, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int finish(struct nft_wire *wire)
{
	struct nlmsghdr *last;

	end_message(wire);
	if (wire->failed)
		return -ENOMEM;
	last = (struct nlmsghdr *)(wire->buffer + wire->message);
	last->nlmsg_flags |= NLM_F_ACK; /* without a refusal there would be no answer */
	begin_message(wire, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	return 0;
}

static int exchange(struct nft_wire *wire)
{
	int r = send_off(wire);

	return r < 0 ? r : read_answers(wire);
}

int nft_wire_commit(struct nft_wire *wire)
{
	int r = finish(wire);

	return r < 0 ? r : exchange(wire);
}

/* --- the thread --- */

static void *wait_for_kernel(void *userdata)
{
	struct nft_wire *wire = userdata;
	eventfd_t count;

	sched_setscheduler(0, wire->policy, &wire->priority); /* else it is later than who waits for it */
	eventfd_write(wire->done, 1);
	for (;;) {
		if (eventfd_read(wire->go, &count) < 0)
			continue; /* interrupted, by a debugger: signals are not for this thread */
		if (wire->ending)
			return NULL;
		atomic_store(&wire->answer, exchange(wire));
		if (atomic_exchange(&wire->turn, TURN_ANSWERED) == TURN_LEFT)
			eventfd_write(wire->done, 1);
	}
}

static void start_thread(struct nft_wire *wire)
{
	pthread_attr_t attributes;
	sigset_t all, before;

	if (pthread_attr_init(&attributes) != 0)
		return;
	wire->policy = sched_getscheduler(0);
	sched_getparam(0, &wire->priority);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	wire->threaded = pthread_create(&wire->thread, &attributes, wait_for_kernel, wire) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (wire->threaded)
		nft_wire_result(wire, true); /* who forks now finds no lock held by a thread that begins */
}

/*
 * Whether the thread is done while its caller is awake. Where they share a processor, it is the thread's. Without realtime
 * priority it would be everybody's, for milliseconds: to sleep is better then.
 */
static bool is_quick(struct nft_wire *wire)
{
	int policy = wire->policy & ~SCHED_RESET_ON_FORK;
	bool realtime = policy == SCHED_FIFO || policy == SCHED_RR;
	uint64_t end = base_clock_us(CLOCK_MONOTONIC) + (realtime ? ALERT_US : 0);
	enum turn asked = TURN_ASKED;

	while (atomic_load(&wire->turn) == TURN_ASKED && base_clock_us(CLOCK_MONOTONIC) < end)
		sched_yield();
	return !atomic_compare_exchange_strong(&wire->turn, &asked, TURN_LEFT);
}

int nft_wire_submit(struct nft_wire *wire)
{
	struct pollfd answered = { .fd = wire->done, .events = POLLIN };
	int r;

	if (!wire->threaded)
		start_thread(wire);
	if (!wire->threaded)
		return nft_wire_commit(wire);
	r = finish(wire);
	if (r < 0)
		return r;
	atomic_store(&wire->turn, TURN_ASKED);
	eventfd_write(wire->go, 1);
	if (is_quick(wire))
		return atomic_load(&wire->answer);
	poll(&answered, 1, PATIENCE_MS);
	return nft_wire_result(wire, false);
}

int nft_wire_result(struct nft_wire *wire, bool wait)
{
	struct pollfd answered = { .fd = wire->done, .events = POLLIN };
	eventfd_t count;

	while (eventfd_read(wire->done, &count) < 0) {
		if (!wait)
			return -EINPROGRESS;
		poll(&answered, 1, -1);
	}
	return atomic_load(&wire->answer);
}

int nft_wire_fd(const struct nft_wire *wire)
{
	return wire->done;
}

/* --- reading --- */

static uint64_t read_number(struct attributes counter, uint16_t type)
{
	struct attributes found = attributes_of(counter, type);
	uint64_t number;

	if (found.left != sizeof number)
		return 0;
	memcpy(&number, found.at, sizeof number);
	return be64toh(number);
}

static void read_element(struct attributes element, nft_found_fn *found, void *userdata)
{
	struct attributes key =
		attributes_of(attributes_of(element, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE);
	struct attributes data =
		attributes_of(attributes_of(element, NFTA_SET_ELEM_DATA), NFTA_DATA_VALUE);
	struct attributes counter =
		attributes_of(attributes_of(element, NFTA_SET_ELEM_EXPR), NFTA_EXPR_DATA);
	struct nft_found one = {
		.key_size = key.left,
		.data_size = data.left,
		.key = key.at,
		.data = data.at,
		.packets = read_number(counter, NFTA_COUNTER_PACKETS),
		.bytes = read_number(counter, NFTA_COUNTER_BYTES),
	};

	if (key.left > 0)
		found(userdata, &one);
}

int nft_wire_dump_start(struct nft_wire *wire, const char *table, const char *set)
{
	wire->length = wire->message = wire->list = 0;
	wire->failed = wire->interrupted = false;
	nft_wire_message(wire, NFT_MSG_GETSETELEM, NLM_F_DUMP, family_of(table));
	nft_wire_put_text(wire, NFTA_SET_ELEM_LIST_TABLE, name_of(table));
	nft_wire_put_text(wire, NFTA_SET_ELEM_LIST_SET, set);
	return send_off(wire);
}

int nft_wire_dump_more(struct nft_wire *wire, nft_found_fn *found, void *userdata)
{
	_Alignas(struct nlmsghdr) static uint8_t buffer[PIECE_SIZE]; /* one thread; not kept */
	const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;
	size_t begin = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	ssize_t size;

	do
		size = recv(wire->fd, buffer, sizeof buffer, 0);
	while (size < 0 && errno == EINTR);
	if (size < 0)
		return -errno;
	for (size_t left = (size_t)size; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
		struct attributes list;
		const struct nlattr *element;

		if (header->nlmsg_seq != wire->sequence)
			continue; /* of an earlier question */
		if (header->nlmsg_flags & NLM_F_DUMP_INTR)
			wire->interrupted = true;
		if (header->nlmsg_type == NLMSG_DONE)
			return wire->interrupted ? -EAGAIN : 0;
		if (header->nlmsg_type == NLMSG_ERROR) {
			int error = ((const struct nlmsgerr *)NLMSG_DATA(header))->error;

			return error < 0 ? error : 0;
		}
		if (header->nlmsg_len < begin)
			continue;
		list = attributes_of((struct attributes){ (const uint8_t *)header + begin,
							  header->nlmsg_len - begin },
				     NFTA_SET_ELEM_LIST_ELEMENTS);
		while ((element = attributes_next(&list)))
			read_element(attributes_in(element), found, userdata);
	}
	return 1;
}

int nft_wire_dump(struct nft_wire *wire, const char *table, const char *set, nft_found_fn *found,
		  void *userdata)
{
	int r = nft_wire_dump_start(wire, table, set);

	while (r == 0) {
		r = nft_wire_dump_more(wire, found, userdata);
		if (r <= 0)
			return r;
		r = 0;
	}
	return r;
}
