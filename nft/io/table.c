#include "nft/io/table.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io/clock.h"
#include "nft/io/errors.h"
#include "nft/io/foreign.h"
#include "nft/io/guard.h"
#include "nft/io/ledger.h"
#include "nft/io/loader.h"
#include "nft/io/reader.h"
#include "nft/io/rewrite.h"
#include "nft/io/transfer.h"
#include "nft/io/wire.h"

#define PROBE "vipd-probe" /* a table that is there for an instant when a process starts */

/* How long one call of commit may take, more or less: the loop that calls has 10 ms or so for everything. */
#define BUDGET_US 5000

#define AGAIN_MAX 5 /* loads in one go, because the tables went meanwhile; somebody who does nothing else is not fought with */

enum stage {
	STAGE_IDLE,
	STAGE_SKELETON, /* rules */
	STAGE_LOAD,	/* a child puts them there */
	STAGE_RULES,	/* those that the child cannot say */
	STAGE_FORGET,	/* what the kernel had before */
	STAGE_READ,	/* what the kernel has, set by set */
	STAGE_COMPARE,
	STAGE_APPLY,
};

struct nft_table {
	struct nft_loader loader;
	struct nft_wire *wire;	/* for what is changed */
	struct nft_wire *asker; /* for what is looked up meanwhile */
	struct nft_wire *looker; /* for fences that are read in pieces */
	struct nft_ledger *ledger;
	struct nft_foreign foreign;
	int watch; /* the epoll instance of whatever the caller is to wake up for */
	bool round;    /* begun and not ended */
	bool guard_able, guarded, arp_able;
	bool loaded; /* the rules are those of `skeleton`, and `ledger` knows what the kernel has */
	struct nft_skeleton skeleton; /* that is there, or being loaded */
	uint64_t revision;

	enum stage stage;
	bool forgotten; /* while it was being loaded */
	bool reread;   /* since the commit began; a refusal is an element's own fault then */
	bool mismatch; /* a set is not of our making */
	bool compare;  /* the next commit is to look */
	bool comparing;
	size_t differences;
	bool anew;     /* the tables were made by this commit: there is nothing to read */
	bool adding; /* such rules: the kernel has not answered yet */
	unsigned again; /* how often the tables went while they were being filled */
	struct nft_reader reader;
	struct nft_transfer transfer;
};

static int watch(struct nft_table *table, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(table->watch, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_watch(struct nft_table *table)
{
	int r;

	table->watch = epoll_create1(EPOLL_CLOEXEC);
	if (table->watch < 0)
		return -errno;
	r = watch(table, table->foreign.fd);
	if (r == 0)
		r = watch(table, nft_wire_fd(table->wire));
	return r < 0 ? r : watch(table, table->loader.fd);
}

/* Tries in a table of its own what the skeleton will need, and takes it away again. */
#define TRIES(family, hook)                                                                         \
	"add table " family " " PROBE "\n"                                                          \
	"add chain " family " " PROBE " c { type filter hook " hook " priority 0; }\n"              \
	"delete table " family " " PROBE "\n"
#define TRIES_INGRESS TRIES("netdev", "ingress device \"lo\"")
#define TRIES_EGRESS  TRIES("netdev", "egress device \"lo\"")
#define TRIES_ARP     TRIES("arp", "input")

/* A child each takes its time, and most kernels can do all of it. */
static int probe(struct nft_table *table, struct nft_abilities *abilities, struct base_error *error)
{
	abilities->egress = abilities->arp =
		nft_loader_run(&table->loader, TRIES_INGRESS TRIES_EGRESS TRIES_ARP, NULL) == 0;
	if (abilities->egress)
		return 0;
	abilities->egress = nft_loader_run(&table->loader, TRIES_EGRESS, NULL) == 0;
	abilities->arp = nft_loader_run(&table->loader, TRIES_ARP, NULL) == 0;
	return nft_loader_run(&table->loader, TRIES_INGRESS, error);
}

int nft_table_drain(struct nft_table *table)
{
	nft_loader_reap(&table->loader);
	return nft_foreign_drain(&table->foreign, &table->loader);
}

const char *nft_table_culprit(const struct nft_table *table)
{
	return table->foreign.culprit;
}

int nft_table_new(struct nft_table **result, struct nft_abilities *abilities,
		  struct base_error *error)
{
	struct nft_table *table = calloc(1, sizeof *table);
	int r;

	if (!table)
		return -ENOMEM;
	table->watch = -1;
	table->foreign = (struct nft_foreign)NFT_FOREIGN_NONE;
	table->loader = (struct nft_loader)NFT_LOADER_NONE;
	r = nft_ledger_new(&table->ledger);
	if (r == 0)
		r = nft_wire_new(&table->wire);
	if (r == 0)
		r = nft_wire_new(&table->asker);
	if (r == 0)
		r = nft_wire_new(&table->looker);
	if (r == 0)
		r = nft_foreign_open(&table->foreign, nft_wire_port(table->wire));
	if (r >= 0)
		r = nft_loader_open(&table->loader);
	if (r >= 0)
		r = open_watch(table);
	if (r < 0) {
		nft_table_free(table);
		return base_error_set(error, r, "no netfilter socket: %s", strerror(-r));
	}
	table->reader.ledger = table->ledger;
	nft_transfer_init(&table->transfer, table->ledger, table->wire);
	r = probe(table, abilities, error);
	if (r < 0) {
		nft_table_free(table);
		if (r == -ENOPKG)
			return r;
		return base_error_set(error, -EOPNOTSUPP,
				      "this kernel or container has no nf_tables with the netdev "
				      "ingress hook (CONFIG_NETFILTER_INGRESS), or CAP_NET_ADMIN is "
				      "missing");
	}
	table->arp_able = table->reader.arp = abilities->arp;
	abilities->guard = table->guard_able = nft_guard_make(table->wire) == 0;
	if (abilities->guard)
		nft_guard_remove(table->wire);
	nft_table_drain(table);
	*result = table;
	return 0;
}

void nft_table_free(struct nft_table *table)
{
	if (!table)
		return;
	nft_loader_close(&table->loader);
	if (table->watch >= 0)
		close(table->watch);
	nft_foreign_close(&table->foreign);
	nft_wire_free(table->wire);
	nft_wire_free(table->asker);
	nft_wire_free(table->looker);
	nft_reader_end(&table->reader);
	nft_ledger_free(table->ledger);
	free(table);
}

/* --- wishes --- */

void nft_table_begin(struct nft_table *table)
{
	nft_ledger_begin(table->ledger);
	nft_ledger_source(table->ledger, "", 0);
	table->round = true;
}

int nft_table_source(struct nft_table *table, const void *key, size_t size)
{
	return nft_ledger_source(table->ledger, key, size);
}

int nft_table_want(void *userdata, const struct nft_element *element)
{
	struct nft_table *table = userdata;
	const char *name = nft_sets[element->set].table;

	if ((strcmp(name, "guard") == 0 && !table->guard_able) || (strcmp(name, "arp") == 0 && !table->arp_able))
		return 0;
	return nft_ledger_claim(table->ledger, element);
}

struct listener {
	void (*tell)(void *userdata, const struct nft_refusal *refusal);
	void *userdata;
};

static void tell_refusal(void *userdata, const struct nft_record *record, int error)
{
	const struct listener *listener = userdata;
	struct nft_refusal refusal = { .error = error };
	struct nft_element element;

	nft_record_element(record, &element);
	nft_element_format(&element, refusal.element);
	refusal.source = nft_record_source(record, &refusal.source_size);
	listener->tell(listener->userdata, &refusal);
}

void nft_table_each_refusal(const struct nft_table *table,
			    void (*tell)(void *userdata, const struct nft_refusal *refusal),
			    void *userdata)
{
	struct listener listener = { tell, userdata };

	nft_ledger_each_refusal(table->ledger, tell_refusal, &listener);
}

void nft_table_retry(struct nft_table *table)
{
	nft_ledger_retry(table->ledger);
}

/* --- the skeleton --- */

static int say_skeleton(const void *userdata, char *text, size_t size, struct base_error *error)
{
	const struct nft_table *table = userdata;
	struct nft_skeleton skeleton = table->skeleton;
	int r;

	/* A VM's, which went meanwhile: a kernel before 6.16 would refuse everything for it. */
	for (unsigned i = 0; i < skeleton.port_count; i++)
		skeleton.ports[i].gone = if_nametoindex(skeleton.ports[i].name) != skeleton.ports[i].index;
	r = nft_skeleton_render(&skeleton, table->anew, text, size);
	if (r == -EINVAL)
		return base_error_set(error, r, "an interface has a name that nftables cannot say: "
						"rename it to letters, digits, dot, dash");
	if (r < 0)
		return base_error_set(error, r, "the rules have no room: too many segments, "
						"intervals or addresses");
	return r;
}

/* Somebody takes the tables away while they are being filled: they are loaded once more. */
static int gone(struct nft_table *table)
{
	if (table->again++ >= AGAIN_MAX)
		return -ENOENT;
	table->loaded = false;
	table->stage = STAGE_SKELETON;
	return 0;
}

/* The rules of `skeleton`, into the tables that are there or into new ones. */
static int load(struct nft_table *table, bool anew, struct base_error *error)
{
	int r;

	table->anew = anew;
	r = nft_loader_start(&table->loader, say_skeleton, table);
	if (r < 0)
		return base_error_set(error, r, "no process to load the rules: %s", strerror(-r));
	table->stage = STAGE_LOAD;
	return 0;
}

static void ignore_element(void *userdata, const struct nft_found *found)
{
	(void)userdata;
	(void)found;
}

static bool is_there(struct nft_table *table)
{
	return nft_wire_dump(table->asker, "inet", "revision", ignore_element, NULL) != -ENOENT &&
	       nft_wire_dump(table->asker, "netdev", "peers", ignore_element, NULL) != -ENOENT;
}

static void lose(struct nft_table *table, bool guard, bool others)
{
	bool lost[NFT_SETS];

	for (unsigned i = 0; i < NFT_SETS; i++)
		lost[i] = strcmp(nft_sets[i].table, "guard") == 0 ? guard : others;
	nft_ledger_lost(table->ledger, lost);
}

static int begin_reading(struct nft_table *table)
{
	int r = nft_reader_begin(&table->reader);

	if (r < 0)
		return r;
	table->stage = STAGE_READ;
	lose(table, false, true);
	return 0;
}

static int begin_load(struct nft_table *table, const struct nft_skeleton *skeleton,
		      struct base_error *error)
{
	bool anew = table->mismatch || !is_there(table);

	table->loaded = table->mismatch = table->forgotten = false;
	table->skeleton = *skeleton;
	table->revision = nft_skeleton_revision(skeleton);
	return load(table, anew, error);
}

/* NFT_TABLE_WAIT, NFT_TABLE_ANEW or 0. */
static int end_load(struct nft_table *table, struct base_error *error)
{
	int r = nft_loader_end(&table->loader, error);

	if (r == -EAGAIN)
		return NFT_TABLE_WAIT;
	if (r < 0)
		return table->anew ? r : load(table, true, error);
	if (table->guard_able && !table->guarded) {
		table->guarded = nft_guard_make(table->wire) == 0;
		lose(table, true, false);
	}
	table->loaded = !table->forgotten;
	table->stage = STAGE_RULES;
	return table->anew ? NFT_TABLE_ANEW : 0;
}

static int add_rules(struct nft_table *table)
{
	int r;

	if (table->adding) {
		r = nft_wire_result(table->wire, false);
	} else {
		nft_wire_begin(table->wire);
		nft_errors_put(table->wire);
		if (nft_skeleton_virtual(&table->skeleton))
			nft_rewrite_put(table->wire);
		r = nft_wire_submit(table->wire);
	}
	table->adding = r == -EINPROGRESS;
	if (table->adding)
		return NFT_TABLE_WAIT;
	if (r == 0)
		table->stage = STAGE_FORGET;
	return r == -ENOENT ? gone(table) : r;
}

static int forget(struct nft_table *table)
{
	if (!table->anew)
		return begin_reading(table);
	lose(table, false, true);
	table->stage = STAGE_COMPARE;
	return 0;
}

static bool is_loaded(struct nft_table *table, const struct nft_skeleton *skeleton)
{
	return table->loaded && (memcmp(&table->skeleton, skeleton, sizeof *skeleton) == 0 ||
				 nft_skeleton_revision(skeleton) == table->revision);
}

/* --- elements --- */

static int read_more(struct nft_table *table)
{
	int r = nft_reader_turn(&table->reader);

	if (r == 0) {
		table->stage = STAGE_COMPARE;
	} else if (r == -ENOENT || r == NFT_READER_FOREIGN) {
		table->mismatch = r == NFT_READER_FOREIGN;
		r = gone(table);
	}
	return r < 0 ? r : 0;
}

static int compare(struct nft_table *table)
{
	int r = nft_transfer_look(&table->transfer);

	if (r == 0) {
		table->stage = STAGE_APPLY;
		if (table->comparing)
			table->differences = table->transfer.count;
		table->comparing = false;
	}
	return r < 0 ? r : 0;
}

static int apply(struct nft_table *table)
{
	int r = nft_transfer_turn(&table->transfer, table->reread);

	if (r == 0) {
		nft_ledger_settle(table->ledger);
		table->stage = nft_ledger_dirty(table->ledger) ? STAGE_COMPARE : STAGE_IDLE;
	} else if (r == NFT_TRANSFER_DOUBT) {
		table->reread = true;
		return begin_reading(table);
	}
	return r == -EINPROGRESS ? NFT_TABLE_WAIT : r < 0 ? r : 0;
}

static int work(struct nft_table *table, const struct nft_skeleton *skeleton,
		struct base_error *error)
{
	int r = 0;

	switch (table->stage) {
	case STAGE_IDLE:
		return 0;
	case STAGE_SKELETON:
		return begin_load(table, skeleton, error); /* has said why */
	case STAGE_LOAD:
		return end_load(table, error);
	case STAGE_RULES:
		r = add_rules(table);
		break;
	case STAGE_FORGET:
		r = forget(table);
		break;
	case STAGE_READ:
		r = read_more(table);
		break;
	case STAGE_COMPARE:
		r = compare(table);
		break;
	case STAGE_APPLY:
		r = apply(table);
		break;
	}
	if (r < 0)
		base_error_set(error, r, "nftables refused to change table vipd: %s",
			       strerror(-r));
	return r;
}

int nft_table_commit(struct nft_table *table, const struct nft_skeleton *skeleton,
		     struct base_error *error)
{
	uint64_t end = base_clock_us(CLOCK_MONOTONIC) + BUDGET_US;
	int result = 0;

	if (table->round) {
		nft_ledger_end(table->ledger);
		table->round = false;
	}
	if (table->stage == STAGE_LOAD || table->adding || table->transfer.under_way > 0) {
		/* To the end, whatever is wanted now; then it is looked at. */
	} else if (!is_loaded(table, skeleton)) {
		table->stage = STAGE_SKELETON;
		table->loaded = false;
	} else if (table->stage == STAGE_IDLE && nft_ledger_dirty(table->ledger)) {
		table->stage = STAGE_COMPARE; /* what is wished first: then a difference is none of ours */
	} else if (table->stage == STAGE_IDLE && table->compare) {
		table->compare = false;
		table->comparing = true;
		table->anew = false;
		table->stage = STAGE_FORGET;
	}
	do {
		int r = work(table, skeleton, error);

		if (r < 0) {
			table->loaded = false; /* all of it again */
			table->again = 0;
			table->stage = STAGE_IDLE;
			nft_ledger_settle(table->ledger);
			return r;
		}
		result |= r;
		if (table->stage == STAGE_FORGET && !is_loaded(table, skeleton))
			table->stage = STAGE_SKELETON; /* others are wanted meanwhile */
	} while (table->stage != STAGE_IDLE && !(result & NFT_TABLE_WAIT) &&
		 base_clock_us(CLOCK_MONOTONIC) < end);
	if (result & NFT_TABLE_WAIT)
		return result;
	if (table->stage != STAGE_IDLE || table->compare)
		return result | NFT_TABLE_MORE;
	table->reread = false;
	table->again = 0;
	return result;
}

void nft_table_forget(struct nft_table *table)
{
	table->loaded = table->comparing = false;
	table->forgotten = true; /* before or after a child that runs did its part: nobody knows */
}

void nft_table_compare(struct nft_table *table)
{
	table->compare = true;
}

size_t nft_table_differences(struct nft_table *table)
{
	size_t differences = table->differences;

	table->differences = 0;
	return differences;
}

int nft_table_fd(const struct nft_table *table)
{
	return table->watch;
}

struct revision {
	uint64_t expected;
	bool found;
};

static void on_revision(void *userdata, const struct nft_found *found)
{
	struct revision *revision = userdata;
	uint32_t half[2];

	if (found->key_size != sizeof half)
		return;
	memcpy(half, found->key, sizeof half);
	revision->found |= half[0] == (uint32_t)(revision->expected >> 32) &&
			   half[1] == (uint32_t)revision->expected;
}

bool nft_table_present(struct nft_table *table)
{
	struct revision revision = { .expected = table->revision };

	if (!table->loaded)
		return false;
	return nft_wire_dump(table->asker, "inet", "revision", on_revision, &revision) == 0 &&
	       revision.found && is_there(table);
}

int nft_table_alive(struct nft_table *table, struct nft_alive *alive)
{
	return nft_alive_read(alive, table->asker);
}

int nft_table_alive_start(struct nft_table *table, struct nft_alive *alive)
{
	return nft_alive_start(alive, table->looker);
}

int nft_table_alive_more(struct nft_table *table, struct nft_alive *alive)
{
	return nft_alive_more(alive, table->looker);
}

#define REMOVES(family) "add table " family " vipd\ndelete table " family " vipd\n"

int nft_table_remove(struct nft_table *table)
{
	bool all[NFT_SETS];

	nft_loader_cancel(&table->loader);
	if (table->adding)
		nft_wire_result(table->wire, true);
	table->adding = false;
	nft_transfer_cancel(&table->transfer);
	memset(all, true, sizeof all);
	nft_ledger_begin(table->ledger);
	nft_ledger_end(table->ledger);
	table->round = false;
	nft_ledger_lost(table->ledger, all);
	while (nft_transfer_look(&table->transfer) == 1)
		;
	nft_ledger_settle(table->ledger);
	nft_transfer_cancel(&table->transfer);
	table->stage = STAGE_IDLE;
	table->loaded = false;
	if (table->guarded)
		nft_guard_remove(table->wire);
	table->guarded = false;
	return nft_loader_run(&table->loader,
			      table->arp_able ? REMOVES("netdev") REMOVES("inet") REMOVES("arp")
					      : REMOVES("netdev") REMOVES("inet"),
			      NULL);
}
