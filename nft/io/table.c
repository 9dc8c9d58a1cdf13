#include "nft/io/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io/clock.h"
#include "nft/io/foreign.h"
#include "nft/io/guard.h"
#include "nft/io/ledger.h"
#include "nft/io/loader.h"
#include "nft/io/rewrite.h"
#include "nft/io/wire.h"

#define PROBE "vipd-probe" /* a table that is there for an instant when a process starts */

/*
 * How long one call of commit may take, more or less; and how long one transaction, by which the number of
 * changes in it is found. The loop that calls has a deadline of 10 ms or so for everything.
 */
#define BUDGET_US      5000
#define TRANSACTION_US 2000
#define COMPARE_KEYS   2000
#define STEP_FIRST     256
#define STEP_MIN       16
#define STEP_MAX       4096

enum stage {
	STAGE_IDLE,
	STAGE_SKELETON, /* rules */
	STAGE_LOAD,	/* a child puts them there */
	STAGE_REWRITE,	/* the rule that the child cannot say */
	STAGE_FORGET,	/* what the kernel had before */
	STAGE_READ,	/* what the kernel has, set by set */
	STAGE_COMPARE,
	STAGE_APPLY,
};

struct nft_table {
	struct nft_loader loader;
	struct nft_wire *wire;	/* for what is changed */
	struct nft_wire *asker; /* for what is looked up meanwhile */
	struct nft_ledger *ledger;
	struct nft_foreign foreign;
	int watch; /* the epoll instance of whatever the caller is to wake up for */
	bool round;    /* begun and not ended */
	bool guard_able, guarded;
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
	int read_error;
	struct nft_wire *reader;
	bool reading; /* a dump runs on it */
	unsigned read_set, read_tries;
	struct nft_change *changes;
	size_t change_count, change_at, step;
	size_t under_way; /* changes, in a transaction that the kernel has not answered yet */
	bool waited;	  /* for a foreign one */
	uint64_t sent_us;
	size_t suspects_end, share; /* up to there one is refused; so many at a time until it is found */
	unsigned refusal_count;
	struct nft_refusal refusals[NFT_REFUSALS_MAX];
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
static int probe(struct nft_table *table, const char *chain, struct base_error *error)
{
	char text[512];

	snprintf(text, sizeof text,
		 "add table netdev " PROBE "\n"
		 "add chain netdev " PROBE " c { type filter hook %s device \"lo\" priority 0; }\n"
		 "delete table netdev " PROBE "\n",
		 chain);
	return nft_loader_run(&table->loader, text, error);
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
	table->step = STEP_FIRST;
	r = nft_ledger_new(&table->ledger);
	if (r == 0)
		r = nft_wire_new(&table->wire);
	if (r == 0)
		r = nft_wire_new(&table->asker);
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
	r = probe(table, "ingress", error);
	if (r < 0) {
		nft_table_free(table);
		if (r == -ENOPKG)
			return r;
		return base_error_set(error, -EOPNOTSUPP,
				      "this kernel or container has no nf_tables with the netdev "
				      "ingress hook (CONFIG_NETFILTER_INGRESS), or CAP_NET_ADMIN is "
				      "missing");
	}
	abilities->egress = probe(table, "egress", NULL) == 0;
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
	nft_wire_free(table->reader);
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

	if (strcmp(nft_sets[element->set].table, "guard") == 0 && !table->guard_able)
		return 0;
	return nft_ledger_claim(table->ledger, element);
}

size_t nft_table_refusals(const struct nft_table *table, const struct nft_refusal **refusals)
{
	*refusals = table->refusals;
	return nft_ledger_refusals(table->ledger);
}

void nft_table_retry(struct nft_table *table)
{
	nft_ledger_retry(table->ledger);
}

/* --- the skeleton --- */

static int say_skeleton(const void *userdata, char *text, size_t size, struct base_error *error)
{
	const struct nft_table *table = userdata;
	int r = nft_skeleton_render(&table->skeleton, table->anew, text, size);

	if (r == -EINVAL)
		return base_error_set(error, r, "an interface has a name that nftables cannot say: "
						"rename it to letters, digits, dot, dash");
	if (r < 0)
		return base_error_set(error, r, "the rules have no room: too many segments, "
						"intervals or addresses");
	return r;
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
	struct nft_wire *reader;
	int r;

	/* A socket of its own: in between others ask, too. One that is half read is of no use. */
	if (table->reading || !table->reader) {
		r = nft_wire_new(&reader);
		if (r < 0)
			return r;
		nft_wire_free(table->reader);
		table->reader = reader;
	}
	table->reading = false;
	table->read_tries = 0;
	table->read_set = 0;
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
	table->stage = nft_skeleton_virtual(&table->skeleton) ? STAGE_REWRITE : STAGE_FORGET;
	return table->anew ? NFT_TABLE_ANEW : 0;
}

static int rewrite(struct nft_table *table)
{
	int r;

	if (table->under_way > 0) {
		r = nft_wire_result(table->wire, false);
	} else {
		nft_rewrite_begin(table->wire);
		table->under_way = 1;
		r = nft_wire_submit(table->wire);
	}
	if (r == -EINPROGRESS)
		return NFT_TABLE_WAIT;
	table->under_way = 0;
	if (r == 0)
		table->stage = STAGE_FORGET;
	return r;
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

static size_t size_of(const char *letters)
{
	size_t size = 0;

	for (; *letters; letters++)
		size += strchr("ar", *letters)	  ? 4
			: strchr("ANR", *letters) ? 16
			: *letters == 'e'	  ? 6
						  : 4;
	return size;
}

static void on_found(void *userdata, const struct nft_found *found)
{
	struct nft_table *table = userdata;
	const struct nft_set *set = &nft_sets[table->read_set];
	struct nft_element element = { .set = (uint8_t)table->read_set,
				       .key_size = (uint8_t)found->key_size,
				       .data_size = (uint8_t)found->data_size };

	if (found->key_size != size_of(set->key) || found->data_size != size_of(set->data)) {
		table->mismatch = true;
		return;
	}
	memcpy(element.key, found->key, found->key_size);
	if (found->data_size > 0)
		memcpy(element.data, found->data, found->data_size);
	if (nft_ledger_found(table->ledger, &element) < 0)
		table->read_error = -ENOMEM;
}

/* A piece of a set. */
static int read_set(struct nft_table *table)
{
	const struct nft_set *set = &nft_sets[table->read_set];
	int r = 0;

	if (strcmp(set->table, "guard") != 0) { /* nobody but us changes the guard */
		if (!table->reading)
			r = nft_wire_dump_start(table->reader, set->table, set->name);
		table->reading = r == 0;
		table->read_error = 0;
		if (r == 0)
			r = nft_wire_dump_more(table->reader, on_found, table);
		if (r == 1)
			return table->read_error;
		table->reading = false;
		if (r == -EAGAIN && table->read_tries++ < 10)
			return 0; /* somebody changes it meanwhile: the same set again */
		table->read_tries = 0;
	}
	if (r == -ENOENT || table->mismatch) {
		table->loaded = false;
		table->stage = STAGE_SKELETON;
		return 0;
	}
	if (r == 0)
		r = table->read_error;
	if (r == 0 && ++table->read_set == NFT_SETS)
		table->stage = STAGE_COMPARE;
	return r;
}

static int compare(struct nft_table *table)
{
	int r = nft_ledger_changes(table->ledger, COMPARE_KEYS, &table->changes,
				   &table->change_count);

	if (r == 0) {
		table->change_at = table->suspects_end = 0;
		table->stage = STAGE_APPLY;
		if (table->comparing)
			table->differences = table->change_count;
		table->comparing = false;
	}
	return r < 0 ? r : 0;
}

/* The next `count` changes; answers as nft_wire_submit() does. */
static int transact(struct nft_table *table, size_t count)
{
	const struct nft_change *changes = table->changes + table->change_at;
	struct nft_element element;

	nft_wire_begin(table->wire);
	/* Deleted and added in one transaction: no packet sees the key missing. */
	for (size_t i = 0; i < count; i++)
		if (changes[i].old) {
			nft_record_element(changes[i].old, &element);
			nft_wire_element(table->wire, false, &element);
		}
	for (size_t i = 0; i < count; i++)
		if (changes[i].new) {
			nft_record_element(changes[i].new, &element);
			nft_wire_element(table->wire, true, &element);
		}
	table->under_way = count;
	table->waited = false;
	table->sent_us = base_clock_us(CLOCK_MONOTONIC);
	return nft_wire_submit(table->wire);
}

static void refuse(struct nft_table *table, const struct nft_change *change, int error)
{
	const struct nft_record *record = change->new ? change->new : change->old;
	struct nft_refusal *refusal;
	struct nft_element element;
	const void *source;
	size_t size;

	nft_ledger_refused(table->ledger, change);
	refusal = &table->refusals[table->refusal_count++ % NFT_REFUSALS_MAX];
	nft_record_element(record, &element);
	nft_element_format(&element, refusal->element);
	refusal->error = error;
	source = nft_record_source(record, &size);
	refusal->source_size = size <= NFT_SOURCE_MAX ? size : 0;
	if (refusal->source_size > 0)
		memcpy(refusal->source, source, size);
}

/* It is not the element's fault. */
static bool is_general(int error)
{
	return error == -ENOMEM || error == -ENOBUFS || error == -EPERM || error == -EIO ||
	       error == -EMSGSIZE;
}

/* How many go into the next transaction. */
static size_t portion(const struct nft_table *table)
{
	bool suspect = table->change_at < table->suspects_end;
	size_t left = (suspect ? table->suspects_end : table->change_count) - table->change_at;
	size_t most = suspect ? table->share : table->step;

	return left < most ? left : most;
}

static void landed(struct nft_table *table, size_t count)
{
	uint64_t took = base_clock_us(CLOCK_MONOTONIC) - table->sent_us;

	for (size_t i = 0; i < count; i++)
		nft_ledger_done(&table->changes[table->change_at + i]);
	table->change_at += count;
	if (table->change_at < table->suspects_end)
		table->share = (table->suspects_end - table->change_at + 1) / 2;
	else if (took > TRANSACTION_US && !table->waited && table->step > STEP_MIN)
		table->step /= 2;
	else if (took < TRANSACTION_US / 4 && count == table->step && table->step < STEP_MAX)
		table->step *= 2;
}

/* Halves, until the change is found that the kernel does not take; all others go there. */
static void narrow(struct nft_table *table, size_t count, int error)
{
	if (count > 1) {
		table->suspects_end = table->change_at + count;
		table->share = count / 2;
		return;
	}
	refuse(table, &table->changes[table->change_at++], error);
	if (table->change_at < table->suspects_end)
		table->share = table->suspects_end - table->change_at;
}

static int apply(struct nft_table *table)
{
	size_t count;
	int r;

	if (table->under_way > 0) {
		r = nft_wire_result(table->wire, false);
	} else if (table->change_at < table->change_count) {
		r = transact(table, portion(table));
	} else {
		nft_ledger_settle(table->ledger);
		table->stage = nft_ledger_dirty(table->ledger) ? STAGE_COMPARE : STAGE_IDLE;
		return 0;
	}
	if (r == -EINPROGRESS) {
		table->waited = true;
		return NFT_TABLE_WAIT;
	}
	count = table->under_way;
	table->under_way = 0;
	if (r == 0) {
		landed(table, count);
		return 0;
	}
	if (is_general(r))
		return r;
	if (!table->reread) {
		/* Is the kernel's state another one than we think? */
		table->reread = true;
		return begin_reading(table);
	}
	narrow(table, count, r);
	return 0;
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
	case STAGE_REWRITE:
		r = rewrite(table);
		break;
	case STAGE_FORGET:
		r = forget(table);
		break;
	case STAGE_READ:
		r = read_set(table);
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
	if (table->stage == STAGE_LOAD || table->under_way > 0) {
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

static void on_alive(void *userdata, const struct nft_found *found)
{
	struct nft_alive *alive = userdata;
	enum base_family family = found->key_size == 4	  ? BASE_FAMILY_IPV4
				  : found->key_size == 16 ? BASE_FAMILY_IPV6
							  : BASE_FAMILY_NONE;

	if (family != BASE_FAMILY_NONE && alive->count < NFT_ALIVE_MAX)
		alive->addresses[alive->count++] = base_address_from_bytes(family, found->key);
}

static int compare_addresses(const void *left, const void *right)
{
	return base_address_compare(left, right);
}

int nft_table_alive(struct nft_table *table, struct nft_alive *alive)
{
	static const char *const sets[] = { "alive4", "alive6" };

	alive->count = 0;
	for (size_t i = 0; i < BASE_COUNT_OF(sets); i++) {
		size_t before = alive->count;
		int r = 0;

		for (int tries = 0; tries == 0 || (r == -EAGAIN && tries < 10); tries++) {
			alive->count = before;
			r = nft_wire_dump(table->asker, "netdev", sets[i], on_alive, alive);
		}
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	qsort(alive->addresses, alive->count, sizeof alive->addresses[0], compare_addresses);
	return 0;
}

bool nft_alive_has(const struct nft_alive *alive, const struct base_address *address)
{
	return bsearch(address, alive->addresses, alive->count, sizeof *address,
		       compare_addresses);
}

int nft_table_remove(struct nft_table *table)
{
	bool all[NFT_SETS];

	nft_loader_cancel(&table->loader);
	if (table->under_way > 0)
		nft_wire_result(table->wire, true);
	table->under_way = 0;
	memset(all, true, sizeof all);
	nft_ledger_begin(table->ledger);
	nft_ledger_end(table->ledger);
	table->round = false;
	nft_ledger_lost(table->ledger, all);
	while (nft_ledger_changes(table->ledger, SIZE_MAX, &table->changes, &table->change_count) == 1)
		;
	nft_ledger_settle(table->ledger);
	table->change_count = table->change_at = 0;
	table->stage = STAGE_IDLE;
	table->loaded = false;
	if (table->guarded)
		nft_guard_remove(table->wire);
	table->guarded = false;
	return nft_loader_run(&table->loader,
			      "add table netdev vipd\ndelete table netdev vipd\n"
			      "add table inet vipd\ndelete table inet vipd\n",
			      NULL);
}
