#include "ipam/range.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- text --- */

bool ipam_range_parse(const char *text, struct ipam_range *range)
{
	const char *dash = strchr(text, '-');
	struct ipam_range parsed = { 0 };
	struct base_prefix prefix;
	char head[BASE_ADDRESS_TEXT_SIZE];

	if (dash) {
		if ((size_t)(dash - text) >= sizeof head)
			return false;
		memcpy(head, text, (size_t)(dash - text));
		head[dash - text] = '\0';
		if (!base_address_parse(head, &parsed.first) ||
		    !base_address_parse(dash + 1, &parsed.last) ||
		    parsed.first.family != parsed.last.family ||
		    base_address_compare(&parsed.first, &parsed.last) > 0)
			return false;
	} else if (base_prefix_parse(text, &prefix)) {
		parsed.first = base_prefix_first(&prefix);
		parsed.last = base_prefix_last(&prefix);
		parsed.prefix = true;
	} else if (base_address_parse(text, &parsed.first)) {
		parsed.last = parsed.first;
	} else {
		return false;
	}
	*range = parsed;
	return true;
}

struct ipam_range ipam_range_single(const struct base_address *address)
{
	return (struct ipam_range){ .first = *address, .last = *address };
}

const char *ipam_range_format(const struct ipam_range *range,
			      char text[static IPAM_RANGE_TEXT_SIZE])
{
	char first[BASE_ADDRESS_TEXT_SIZE], last[BASE_ADDRESS_TEXT_SIZE];

	base_address_format(&range->first, first);
	if (range->prefix) {
		unsigned bits = (unsigned)base_address_size(&range->first) * 8;
		ipam_number hosts = ipam_number_of(&range->last) - ipam_number_of(&range->first);

		for (; hosts & 1; hosts >>= 1)
			bits--;
		snprintf(text, IPAM_RANGE_TEXT_SIZE, "%s/%u", first, bits);
	} else if (base_address_equal(&range->first, &range->last)) {
		snprintf(text, IPAM_RANGE_TEXT_SIZE, "%s", first);
	} else {
		snprintf(text, IPAM_RANGE_TEXT_SIZE, "%s-%s", first,
			 base_address_format(&range->last, last));
	}
	return text;
}

/* --- virtual router IDs --- */

void ipam_ids_add(struct ipam_ids *ids, unsigned first, unsigned last)
{
	for (unsigned id = first < 1 ? 1 : first; id <= last && id <= 255; id++)
		ids->bits[id / 8] |= (uint8_t)(1 << id % 8);
}

void ipam_ids_remove(struct ipam_ids *ids, unsigned first, unsigned last)
{
	for (unsigned id = first; id <= last && id <= 255; id++)
		ids->bits[id / 8] &= (uint8_t) ~(1 << id % 8);
}

bool ipam_ids_contain(const struct ipam_ids *ids, unsigned id)
{
	return id >= 1 && id <= 255 && ids->bits[id / 8] & 1 << id % 8;
}

/* --- numbers --- */

ipam_number ipam_number_of(const struct base_address *address)
{
	ipam_number number = 0;

	for (size_t i = 0; i < base_address_size(address); i++)
		number = number << 8 | address->bytes[i];
	return number;
}

struct base_address ipam_number_address(enum base_family family, ipam_number number)
{
	struct base_address address = { .family = (uint8_t)family };

	for (size_t i = base_address_size(&address); i-- > 0; number >>= 8)
		address.bytes[i] = (uint8_t)number;
	return address;
}

bool ipam_number_avoided(enum base_family family, ipam_number number)
{
	if (family == BASE_FAMILY_IPV4)
		return (number & 255) == 0 || (number & 255) == 255;
	return (uint64_t)number == 0;
}

/* How many of 0..number are avoided. */
static ipam_number avoided_up_to(enum base_family family, ipam_number number)
{
	if (family == BASE_FAMILY_IPV4)
		return (number >> 8) * 2 + 1 + ((number & 255) == 255);
	return (number >> 64) + 1;
}

static bool allowed(const struct ipam_set *set, ipam_number number)
{
	return !set->avoid || !ipam_number_avoided(set->family, number);
}

/* The nearest one that may be given, itself included; at most two steps. */
static ipam_number up(const struct ipam_set *set, ipam_number number)
{
	while (!allowed(set, number))
		number++;
	return number;
}

static ipam_number down(const struct ipam_set *set, ipam_number number)
{
	while (number > 0 && !allowed(set, number))
		number--;
	return number;
}

static ipam_number size_of(const struct ipam_set *set, struct ipam_span span)
{
	ipam_number size = span.last - span.first + 1;

	if (!set->avoid)
		return size;
	return size - (avoided_up_to(set->family, span.last) -
		       (span.first > 0 ? avoided_up_to(set->family, span.first - 1) : 0));
}

/* False: nothing of it may be given. */
static bool trim(const struct ipam_set *set, struct ipam_span *span)
{
	if (span->first > span->last)
		return false;
	span->first = up(set, span->first);
	span->last = down(set, span->last);
	return span->first <= span->last && allowed(set, span->last);
}

/* --- sets --- */

static int compare_spans(const void *a, const void *b)
{
	const struct ipam_span *left = a, *right = b;

	return left->first < right->first ? -1 : left->first > right->first;
}

/* Sorts, and joins what overlaps or touches. Returns how many remain. */
static size_t unite(struct ipam_span *spans, size_t count)
{
	size_t used = 0;

	qsort(spans, count, sizeof *spans, compare_spans);
	for (size_t i = 0; i < count; i++) {
		if (used > 0 && (spans[used - 1].last >= spans[i].first ||
				 spans[i].first - spans[used - 1].last == 1)) {
			if (spans[used - 1].last < spans[i].last)
				spans[used - 1].last = spans[i].last;
		} else {
			spans[used++] = spans[i];
		}
	}
	return used;
}

/* Network and broadcast address of a CIDR are not for hosts; a /31 and a /32 have none. */
static struct ipam_span span_of(const struct ipam_range *range, bool avoid)
{
	struct ipam_span span = { ipam_number_of(&range->first), ipam_number_of(&range->last) };

	if (avoid && range->prefix && range->first.family == BASE_FAMILY_IPV4 &&
	    span.last - span.first >= 3) {
		span.first++;
		span.last--;
	}
	return span;
}

static size_t collect(enum base_family family, bool avoid, size_t count,
		      const struct ipam_range *ranges, struct ipam_span *spans)
{
	size_t used = 0;

	for (size_t i = 0; i < count; i++)
		if (ranges[i].first.family == family)
			spans[used++] = span_of(&ranges[i], avoid);
	return unite(spans, used);
}

static void add_span(struct ipam_set *set, struct ipam_span span)
{
	if (!trim(set, &span))
		return;
	set->spans[set->count++] = span;
	set->size += size_of(set, span);
}

int ipam_set_build(struct ipam_set *set, enum base_family family, bool avoid,
		   size_t address_count, const struct ipam_range *addresses, size_t exclude_count,
		   const struct ipam_range *exclude)
{
	struct ipam_span *in = calloc(address_count + 1, sizeof *in);
	struct ipam_span *out = calloc(exclude_count + 1, sizeof *out);
	size_t in_count, out_count, at = 0;

	*set = (struct ipam_set){ .family = family, .avoid = avoid };
	set->spans = calloc(address_count + exclude_count + 1, sizeof *set->spans);
	if (!in || !out || !set->spans) {
		free(in);
		free(out);
		free(set->spans);
		set->spans = NULL;
		return -ENOMEM;
	}
	in_count = collect(family, avoid, address_count, addresses, in);
	out_count = collect(family, false, exclude_count, exclude, out);
	for (size_t i = 0; i < in_count; i++) {
		struct ipam_span rest = in[i];
		bool more = true;

		while (at < out_count && out[at].last < rest.first)
			at++;
		for (size_t j = at; more && j < out_count && out[j].first <= rest.last; j++) {
			if (out[j].first > rest.first)
				add_span(set, (struct ipam_span){ rest.first, out[j].first - 1 });
			more = out[j].last < rest.last;
			rest.first = out[j].last + 1;
		}
		if (more)
			add_span(set, rest);
	}
	free(in);
	free(out);
	return 0;
}

/* The first span that ends at or behind `number`. */
static size_t seek(const struct ipam_set *set, ipam_number number)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (set->spans[middle].last < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool ipam_set_contains(const struct ipam_set *set, ipam_number number)
{
	size_t i = seek(set, number);

	return i < set->count && set->spans[i].first <= number && allowed(set, number);
}

bool ipam_set_overlaps(const struct ipam_set *a, const struct ipam_set *b)
{
	for (size_t i = 0, j = 0; i < a->count && j < b->count;) {
		struct ipam_span both = { a->spans[i].first, a->spans[i].last };

		if (both.first < b->spans[j].first)
			both.first = b->spans[j].first;
		if (both.last > b->spans[j].last)
			both.last = b->spans[j].last;
		if (both.first <= both.last && trim(a, &both) && trim(b, &both))
			return true;
		if (a->spans[i].last < b->spans[j].last)
			i++;
		else
			j++;
	}
	return false;
}

/* --- free ranges --- */

int ipam_reserve_grow(struct ipam_reserve *reserve, size_t count)
{
	while (reserve->count < count) {
		struct ipam_free_node *node = calloc(1, sizeof *node);

		if (!node)
			return -ENOMEM;
		node->next = reserve->first;
		reserve->first = node;
		reserve->count++;
	}
	return 0;
}

static void put_back(struct ipam_reserve *reserve, struct ipam_free_node *node)
{
	node->next = reserve->first;
	reserve->first = node;
	reserve->count++;
}

void ipam_reserve_clear(struct ipam_reserve *reserve)
{
	while (reserve->first) {
		struct ipam_free_node *next = reserve->first->next;

		free(reserve->first);
		reserve->first = next;
	}
	reserve->count = 0;
}

static struct ipam_free_node *node_of(struct ipam_tree_node *tree)
{
	return tree ? IPAM_TREE_ITEM(tree, struct ipam_free_node, tree) : NULL;
}

static int compare_number(const void *key, const struct ipam_tree_node *node)
{
	const ipam_number *number = key;
	const struct ipam_free_node *item = IPAM_TREE_ITEM(node, struct ipam_free_node, tree);

	return *number < item->span.first ? -1 : *number > item->span.first;
}

void ipam_free_init(struct ipam_free *unused)
{
	unused->size = 0;
	ipam_tree_init(&unused->tree, compare_number);
}

static void drop(struct ipam_free *unused, struct ipam_free_node *node,
		 struct ipam_reserve *reserve)
{
	ipam_tree_remove(&unused->tree, &node->tree);
	put_back(reserve, node);
}

void ipam_free_clear(struct ipam_free *unused, struct ipam_reserve *reserve)
{
	while (unused->tree.root)
		drop(unused, node_of(unused->tree.root), reserve);
	unused->size = 0;
}

static void insert(struct ipam_free *unused, struct ipam_span span, struct ipam_reserve *reserve)
{
	struct ipam_free_node *node = reserve->first;

	reserve->first = node->next;
	reserve->count--;
	node->span = span;
	ipam_tree_insert(&unused->tree, &span.first, &node->tree);
}

void ipam_free_append(struct ipam_free *unused, const struct ipam_set *set, struct ipam_span span,
		      struct ipam_reserve *reserve)
{
	if (!trim(set, &span))
		return;
	unused->size += size_of(set, span);
	insert(unused, span, reserve);
}

void ipam_free_take(struct ipam_free *unused, const struct ipam_set *set, ipam_number number,
		    struct ipam_reserve *reserve)
{
	struct ipam_free_node *node = node_of(ipam_tree_floor(&unused->tree, &number));
	struct ipam_span span;

	if (!node || node->span.last < number || !allowed(set, number))
		return;
	span = node->span;
	unused->size--;
	if (span.first == number)
		drop(unused, node, reserve);
	else
		node->span.last = down(set, number - 1);
	if (number < span.last)
		insert(unused, (struct ipam_span){ up(set, number + 1), span.last }, reserve);
}

void ipam_free_give(struct ipam_free *unused, const struct ipam_set *set, ipam_number number,
		    struct ipam_reserve *reserve)
{
	ipam_number behind = up(set, number + 1);
	struct ipam_free_node *left = node_of(ipam_tree_floor(&unused->tree, &number));
	struct ipam_free_node *right = node_of(ipam_tree_find(&unused->tree, &behind));
	struct ipam_span span = { number, number };

	if (left && left->span.last >= number)
		return;
	unused->size++;
	if (right) {
		span.last = right->span.last;
		drop(unused, right, reserve);
	}
	if (left && number > 0 && left->span.last == down(set, number - 1))
		left->span.last = span.last;
	else
		insert(unused, span, reserve);
}

bool ipam_free_lowest(const struct ipam_free *unused, ipam_number *number)
{
	struct ipam_free_node *node = node_of(ipam_tree_first(&unused->tree));

	if (node)
		*number = node->span.first;
	return node != NULL;
}
