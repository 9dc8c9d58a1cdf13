#include "nft/io/ledger.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"
#include "nft/io/shelf.h"

struct source {
	struct source *next;
	struct nft_record *records;
	uint64_t round;
	uint8_t size;
	uint8_t key[];
};

struct nft_ledger {
	struct nft_shelf shelf;
	struct source **sources;
	size_t source_bucket_count, source_count;
	struct source *current;
	uint64_t round;
	struct nft_record **dirty;
	size_t dirty_count, dirty_capacity, unseen; /* unseen: dirty ones that no change stands for yet */
	struct nft_change *changes;
	size_t change_capacity, change_count, looked, refusals, torn;
};

#define FIRST_BUCKETS 1024 /* of sources; a power of 2 */

int nft_ledger_new(struct nft_ledger **ledger)
{
	struct nft_ledger *new = calloc(1, sizeof *new);

	if (!new)
		return -ENOMEM;
	new->source_bucket_count = FIRST_BUCKETS;
	new->sources = calloc(new->source_bucket_count, sizeof(struct source *));
	if (nft_shelf_init(&new->shelf) < 0 || !new->sources) {
		nft_ledger_free(new);
		return -ENOMEM;
	}
	*ledger = new;
	return 0;
}

void nft_ledger_free(struct nft_ledger *ledger)
{
	if (!ledger)
		return;
	for (size_t i = 0; ledger->sources && i < ledger->source_bucket_count; i++)
		while (ledger->sources[i]) {
			struct source *next = ledger->sources[i]->next;

			free(ledger->sources[i]);
			ledger->sources[i] = next;
		}
	nft_shelf_clear(&ledger->shelf);
	free(ledger->sources);
	free(ledger->dirty);
	free(ledger->changes);
	free(ledger);
}

/* --- records --- */

static int mark(struct nft_ledger *ledger, struct nft_record *record)
{
	if (!record->queued) {
		if (ledger->dirty_count == ledger->dirty_capacity) {
			size_t capacity = ledger->dirty_capacity ? ledger->dirty_capacity * 2 : 256;
			struct nft_record **grown =
				realloc(ledger->dirty, capacity * sizeof(struct nft_record *));

			if (!grown)
				return -ENOMEM;
			ledger->dirty = grown;
			ledger->dirty_capacity = capacity;
		}
		ledger->dirty[ledger->dirty_count++] = record;
		record->queued = true;
	}
	ledger->unseen += !record->dirty;
	record->dirty = true;
	return 0;
}

/* What was compared so far is to be compared again: something changes meanwhile. */
static void restart(struct nft_ledger *ledger)
{
	for (size_t i = 0; i < ledger->change_count; i++)
		mark(ledger, ledger->changes[i].new ? ledger->changes[i].new
						     : ledger->changes[i].old);
	ledger->change_count = ledger->looked = 0;
}

/* A record of this element that nobody claims, taken off the shelf or made. NULL: no memory. */
static struct nft_record *record_of(struct nft_ledger *ledger, const struct nft_element *element)
{
	struct nft_record *record = nft_shelf_bucket(&ledger->shelf, element->set, element->key,
						     element->key_size);

	for (; record; record = record->next)
		if (!record->source && nft_record_is(record, element))
			return record;
	return nft_shelf_add(&ledger->shelf, element);
}

/* --- claims --- */

static void withdraw(struct nft_ledger *ledger, struct source *source)
{
	while (source->records) {
		struct nft_record *record = source->records;

		source->records = record->sister;
		record->sister = NULL;
		record->source = NULL;
		ledger->refusals -= record->refused != 0;
		record->refused = 0;
		mark(ledger, record); /* without memory it stays in the kernel until the next resync */
	}
}

static void spread_sources(struct nft_ledger *ledger)
{
	size_t before = ledger->source_bucket_count;
	struct source **old = ledger->sources, **grown;

	if (ledger->source_count < before)
		return;
	grown = calloc(before * 2, sizeof *grown);
	if (!grown)
		return;
	ledger->sources = grown;
	ledger->source_bucket_count = before * 2;
	for (size_t i = 0; i < before; i++)
		while (old[i]) {
			struct source *source = old[i];
			size_t slot = base_hash(source->key, source->size) & (before * 2 - 1);

			old[i] = source->next;
			source->next = grown[slot];
			grown[slot] = source;
		}
	free(old);
}

int nft_ledger_source(struct nft_ledger *ledger, const void *key, size_t size)
{
	size_t slot = base_hash(key, size) & (ledger->source_bucket_count - 1);
	struct source *source = ledger->sources[slot];

	assert(size <= UINT8_MAX);
	restart(ledger);
	while (source && (source->size != size || memcmp(source->key, key, size) != 0))
		source = source->next;
	if (!source) {
		source = calloc(1, sizeof *source + size);
		if (!source)
			return -ENOMEM;
		source->size = (uint8_t)size;
		memcpy(source->key, key, size);
		spread_sources(ledger);
		slot = base_hash(key, size) & (ledger->source_bucket_count - 1);
		source->next = ledger->sources[slot];
		ledger->sources[slot] = source;
		ledger->source_count++;
	}
	withdraw(ledger, source);
	source->round = ledger->round;
	ledger->current = source;
	return 0;
}

int nft_ledger_claim(struct nft_ledger *ledger, const struct nft_element *element)
{
	struct nft_record *record;

	assert(ledger->current);
	record = record_of(ledger, element);
	if (!record)
		return -ENOMEM;
	record->source = ledger->current;
	record->sister = ledger->current->records;
	ledger->current->records = record;
	record->exclusive = element->exclusive;
	return mark(ledger, record);
}

void nft_ledger_begin(struct nft_ledger *ledger)
{
	ledger->round++;
	ledger->current = NULL;
}

/* Sources without a claim are forgotten here, whenever they lost their last one. */
void nft_ledger_end(struct nft_ledger *ledger)
{
	ledger->current = NULL;
	restart(ledger);
	for (size_t i = 0; i < ledger->source_bucket_count; i++)
		for (struct source **slot = &ledger->sources[i]; *slot;) {
			struct source *source = *slot;

			if (source->round != ledger->round)
				withdraw(ledger, source);
			if (source->records) {
				slot = &source->next;
				continue;
			}
			*slot = source->next;
			ledger->source_count--;
			free(source);
		}
}

/* --- the kernel's side --- */

void nft_ledger_lost(struct nft_ledger *ledger, const bool lost[static NFT_SETS])
{
	restart(ledger);
	for (size_t i = 0; i < ledger->shelf.bucket_count; i++)
		for (struct nft_record *record = ledger->shelf.buckets[i]; record; record = record->next) {
			record->present &= !lost[record->set];
			mark(ledger, record);
		}
}

int nft_ledger_found(struct nft_ledger *ledger, const struct nft_element *element)
{
	struct nft_record *record;

	/* Somebody's claim, if one says just this; what nobody claims is only there to be removed. */
	record = nft_shelf_bucket(&ledger->shelf, element->set, element->key, element->key_size);
	while (record && !(record->source && nft_record_is(record, element)))
		record = record->next;
	if (!record)
		record = record_of(ledger, element);
	if (!record)
		return -ENOMEM;
	record->present = true;
	return mark(ledger, record);
}

/* --- the difference --- */

/* Adding goes from 0 up; what is only removed goes after it, in the opposite order. */
#define RANK_LAST 5
#define RANKS	  (2 * RANK_LAST + 2)

static uint8_t rank_of(const struct nft_record *record, bool removed)
{
	uint8_t rank;

	switch (record->set & ~1u) {
	case NFT_SET_GUARDED:
		rank = 0;
		break;
	case NFT_SET_RANGED:
	case NFT_SET_WHOLERANGED:
		rank = 2;
		break;
	case NFT_SET_MANY:
		rank = 3;
		break;
	case NFT_SET_FENCED:
		/* First silent, then translated: an owner with new tables shall not do what its director should. */
		rank = 4;
		break;
	case NFT_SET_VIPS:
		rank = RANK_LAST;
		break;
	default:
		rank = 1;
		break;
	}
	return removed ? (uint8_t)(RANKS - 1 - rank) : rank;
}

static size_t place_of(const struct nft_change *change)
{
	const struct nft_record *record = change->new ? change->new : change->old;

	return change->rank * NFT_SETS + record->set;
}

/* By rank, and by set within it: in one pass, since there may be very many. */
static void sort(const struct nft_change *from, struct nft_change *to, size_t count)
{
	static size_t begins[RANKS * NFT_SETS + 1]; /* one thread; not kept over a call */

	memset(begins, 0, sizeof begins);
	for (size_t i = 0; i < count; i++)
		begins[place_of(&from[i]) + 1]++;
	for (size_t i = 1; i < BASE_COUNT_OF(begins); i++)
		begins[i] += begins[i - 1];
	for (size_t i = 0; i < count; i++)
		to[begins[place_of(&from[i])]++] = from[i];
}

/* Where it stands that the claims to keys of this set contradict each other; NFT_SETS: nowhere. */
static unsigned doubt_of(uint8_t set)
{
	switch (set & ~1u) {
	case NFT_SET_REVERSE:
		return NFT_SET_DOUBTFUL + (set & 1u);
	case NFT_SET_WHOLEREVERSE:
		return NFT_SET_WHOLEDOUBTFUL + (set & 1u);
	default:
		return NFT_SETS;
	}
}

/* Says so, or no longer. Without memory nothing is said, as with sets that have no such place. */
static void tear(struct nft_ledger *ledger, const struct nft_record *record, bool torn)
{
	struct nft_element element = { .set = (uint8_t)doubt_of(record->set), .key_size = record->key_size };
	struct nft_record *doubt;

	if (element.set == NFT_SETS || (!torn && ledger->torn == 0))
		return;
	memcpy(element.key, record->bytes, record->key_size);
	doubt = record_of(ledger, &element);
	if (!doubt)
		return;
	if (torn != doubt->torn)
		ledger->torn += torn ? 1 : SIZE_MAX;
	doubt->torn = torn;
	mark(ledger, doubt);
}

/* The endpoint of this record of `local` is known to the kernel, which nothing of the changes to come has reached yet. */
static bool is_known(const struct nft_ledger *ledger, const struct nft_record *local)
{
	struct nft_element twice = { .set = (uint8_t)(local->set - NFT_SET_LOCAL + NFT_SET_HAIRPIN),
				     .key_size = (uint8_t)(2 * local->key_size) };
	struct nft_record *each;

	memcpy(twice.key, local->bytes, local->key_size);
	memcpy(twice.key + local->key_size, local->bytes, local->key_size);
	each = nft_shelf_bucket(&ledger->shelf, twice.set, twice.key, twice.key_size);
	while (each && !(each->present && nft_record_is(each, &twice)))
		each = each->next;
	return each;
}

/* What the kernel should have for the key of `record`, and what it has. */
static struct nft_change look(struct nft_ledger *ledger, struct nft_record *record)
{
	struct nft_record *each =
		nft_shelf_bucket(&ledger->shelf, record->set, record->bytes, record->key_size);
	struct nft_change change = { 0 };
	bool exclusive = false, differs = false;

	for (; each; each = each->next) {
		if (!nft_record_same_key(each, record))
			continue;
		ledger->unseen -= each->dirty;
		each->dirty = false;
		if (each->present)
			change.old = each;
		if (!each->source && !each->torn)
			continue;
		exclusive |= each->exclusive;
		if (!change.new) {
			change.new = each;
			continue;
		}
		if (nft_record_compare_data(each, change.new) != 0)
			differs = true;
		if (nft_record_compare_data(each, change.new) < 0)
			change.new = each;
	}
	tear(ledger, record, exclusive && differs);
	if (change.new && exclusive && (differs || change.new->data_size == 0))
		change.new = NULL;
	if (change.new && change.new->refused)
		change.new = change.old; /* known not to work: as it is */
	if (change.new && change.old && nft_record_compare_data(change.new, change.old) == 0) {
		/* As it should be; the claim that stays is the one to say so. */
		change.old->present = false;
		change.new->present = true;
		return (struct nft_change){ 0 };
	}
	if (change.new || change.old)
		change.rank = change.new ? rank_of(change.new, false) : rank_of(change.old, true);
	change.moved = change.new && !change.old && (record->set & ~1u) == NFT_SET_LOCAL && is_known(ledger, record);
	return change;
}

/* For a change of each key that is to be looked at; twice, to be sorted from one half into the other. */
static bool make_room(struct nft_ledger *ledger)
{
	size_t capacity = ledger->change_count + ledger->unseen;
	struct nft_change *grown;

	if (capacity <= ledger->change_capacity)
		return true;
	grown = realloc(ledger->changes, 2 * capacity * sizeof *ledger->changes);
	if (!grown)
		return false;
	ledger->changes = grown;
	ledger->change_capacity = capacity;
	return true;
}

int nft_ledger_changes(struct nft_ledger *ledger, size_t limit, struct nft_change **changes,
		       size_t *count)
{
	*count = 0;
	*changes = NULL;
	for (; ledger->looked < ledger->dirty_count && limit > 0; ledger->looked++) {
		struct nft_change change;

		if (!ledger->dirty[ledger->looked]->dirty)
			continue;
		if (!make_room(ledger))
			return -ENOMEM;
		change = look(ledger, ledger->dirty[ledger->looked]);
		if (change.old || change.new)
			ledger->changes[ledger->change_count++] = change;
		limit--;
	}
	if (ledger->looked < ledger->dirty_count)
		return 1;
	*count = ledger->change_count;
	*changes = ledger->changes + ledger->change_capacity;
	sort(ledger->changes, *changes, *count);
	ledger->looked = ledger->change_count = 0;
	return 0;
}

void nft_ledger_done(const struct nft_change *change)
{
	if (change->old)
		change->old->present = false;
	if (change->new)
		change->new->present = true;
}

void nft_ledger_refused(struct nft_ledger *ledger, const struct nft_change *change, int error)
{
	struct nft_record *record = change->new ? change->new : change->old;

	ledger->refusals += record->refused == 0;
	record->refused = (uint8_t)-error;
}

bool nft_ledger_dirty(const struct nft_ledger *ledger)
{
	return ledger->unseen > 0;
}

void nft_ledger_settle(struct nft_ledger *ledger)
{
	size_t kept = 0;

	for (size_t i = 0; i < ledger->dirty_count; i++) {
		struct nft_record *record = ledger->dirty[i];

		if (record->dirty) {
			ledger->dirty[kept++] = record;
			continue;
		}
		record->queued = false;
		if (record->source || record->torn || record->present)
			continue;
		ledger->refusals -= record->refused != 0;
		nft_shelf_remove(&ledger->shelf, record);
	}
	ledger->dirty_count = kept;
	if (kept == 0 && ledger->dirty_capacity > 1024) { /* hardly ever as many again */
		free(ledger->dirty);
		ledger->dirty = NULL;
		ledger->dirty_capacity = 0;
		free(ledger->changes);
		ledger->changes = NULL;
		ledger->change_capacity = 0;
	}
}

void nft_ledger_retry(struct nft_ledger *ledger)
{
	restart(ledger);
	for (size_t i = 0; i < ledger->shelf.bucket_count && ledger->refusals > 0; i++)
		for (struct nft_record *record = ledger->shelf.buckets[i]; record; record = record->next)
			if (record->refused) {
				record->refused = 0;
				ledger->refusals--;
				mark(ledger, record);
			}
}

const void *nft_record_source(const struct nft_record *record, size_t *size)
{
	*size = record->source ? record->source->size : 0;
	return record->source ? record->source->key : NULL;
}

size_t nft_ledger_count(const struct nft_ledger *ledger)
{
	return ledger->shelf.count;
}

void nft_ledger_each_refusal(const struct nft_ledger *ledger,
			     void (*tell)(void *userdata, const struct nft_record *record, int error),
			     void *userdata)
{
	size_t left = ledger->refusals;

	for (size_t i = 0; i < ledger->shelf.bucket_count && left > 0; i++)
		for (struct nft_record *record = ledger->shelf.buckets[i]; record; record = record->next)
			if (record->refused) {
				tell(userdata, record, -record->refused);
				left--;
			}
}
