#include "ipam/placement.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define PRIORITY_FIRST 254
#define PRIORITY_STEP  7 /* the 32nd place has 37 */

_Static_assert(PRIORITY_FIRST - PRIORITY_STEP * (IPAM_CANDIDATES_MAX - 1) >= 1, "1..254");

static bool interface_matches(const struct ipam_placement *placement, const char *interface)
{
	for (size_t i = 0; i < placement->interface_count; i++)
		if (fnmatch(placement->interfaces[i], interface, 0) == 0)
			return true;
	return placement->interface_count == 0;
}

/* A prefix as long as the address is somebody's virtual address, not a segment. */
static bool on_segment(const struct ipam_placement *placement, const struct ipam_node *node)
{
	for (size_t i = 0; i < node->segment_count; i++) {
		const struct ipam_segment *segment = &node->segments[i];

		if (segment->prefix.length < base_address_size(&segment->prefix.address) * 8 &&
		    base_prefix_contains(&segment->prefix, &placement->address) &&
		    interface_matches(placement, segment->interface))
			return true;
	}
	return false;
}

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static bool is_current(const struct ipam_placement *placement, const struct ipam_node *node)
{
	for (size_t i = 0; i < placement->current_count; i++)
		if (same(placement->current[i], node->name))
			return true;
	return false;
}

/* Why not, the exclude label aside. */
static enum base_reason verdict_of(const struct ipam_placement *placement,
				   const struct ipam_node *node)
{
	if (!node->selected)
		return BASE_REASON_NODE_NOT_SELECTED;
	if (node->excluded)
		return BASE_REASON_NODE_EXCLUDED;
	if (node->maintenance)
		return BASE_REASON_MAINTENANCE;
	if (node->held_back != BASE_REASON_NONE)
		return node->held_back;
	if (!on_segment(placement, node))
		return BASE_REASON_NOT_ON_SEGMENT;
	if (!node->ready && !is_current(placement, node))
		return BASE_REASON_SPEAKER_NOT_READY;
	return BASE_REASON_NONE;
}

struct ranked {
	const struct ipam_node *node;
	bool endpoint; /* counts, and has one */
	uint64_t score;
};

static uint64_t score_of(uint64_t spread, const char *node)
{
	uint64_t mixed = base_hash(node, strlen(node)) ^ (spread * UINT64_C(0x9e3779b97f4a7c15));

	/* FNV leaves the upper bits of similar names alike: SplitMix64's finish spreads them. */
	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
	return mixed ^ (mixed >> 31);
}

/* By what the nodes are, before who they are. */
static int compare_class(const struct ranked *left, const struct ranked *right)
{
	if (left->endpoint != right->endpoint)
		return left->endpoint ? -1 : 1;
	if (left->node->weight != right->node->weight)
		return left->node->weight > right->node->weight ? -1 : 1;
	return 0;
}

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *left = a, *right = b;
	int order = compare_class(left, right);

	if (order == 0 && left->score != right->score)
		order = left->score > right->score ? -1 : 1;
	return order ? order : strcmp(left->node->name, right->node->name);
}

/* Who gets the first place when nobody has it: alive, best class, least load, then the score. */
static size_t least_loaded(const struct ranked *ranked, size_t count)
{
	size_t best = 0;

	for (size_t i = 1; i < count; i++) {
		const struct ipam_node *left = ranked[i].node, *right = ranked[best].node;

		if (left->ready != right->ready) {
			if (left->ready)
				best = i;
		} else if (compare_class(&ranked[i], &ranked[best]) == 0 &&
			   left->load < right->load) {
			best = i;
		}
	}
	return best;
}

/* The first candidate there is, if it may stay; else who takes its place. */
static size_t choose_first(const struct ipam_placement *placement, const struct ranked *ranked,
			   size_t count)
{
	size_t best = least_loaded(ranked, count);

	for (size_t i = 0; placement->current_count > 0 && i < count; i++) {
		if (!same(placement->current[0], ranked[i].node->name))
			continue;
		if (ranked[i].endpoint != ranked[best].endpoint)
			return best; /* `best` has an endpoint: it comes first in the order */
		if (placement->preferred && ranked[i].node->weight < ranked[best].node->weight)
			return best;
		return i;
	}
	/* The first one is gone: the next that was promised moves up, nobody is asked anew. */
	for (size_t j = 1; j < placement->current_count; j++)
		for (size_t i = 0; i < count; i++)
			if (same(placement->current[j], ranked[i].node->name) &&
			    ranked[i].node->ready && compare_class(&ranked[i], &ranked[best]) <= 0)
				return i;
	return best;
}

static bool owner_may_linger(const struct ipam_placement *placement, const struct ipam_node *node,
			     enum base_reason verdict)
{
	return same(placement->owner, node->name) && on_segment(placement, node) &&
	       (verdict == BASE_REASON_MAINTENANCE || verdict == BASE_REASON_NODE_EXCLUDED ||
		verdict == BASE_REASON_NODE_NOT_SELECTED || verdict == node->held_back);
}

static void add(const struct ipam_placement *placement, struct ipam_candidates *candidates,
		const struct ipam_node *node)
{
	struct ipam_candidate *candidate = &candidates->items[candidates->count];

	candidate->node = (size_t)(node - placement->nodes);
	candidate->priority = (uint8_t)(PRIORITY_FIRST - PRIORITY_STEP * candidates->count);
	if (candidates->count >= placement->current_count ||
	    !same(placement->current[candidates->count], node->name))
		candidates->changed = true;
	candidates->count++;
}

static int refuse(const struct ipam_placement *placement, size_t node_count,
		  struct base_error *error)
{
	char name[BASE_ADDRESS_TEXT_SIZE], list[180] = "";
	size_t at = 0;

	base_address_format(&placement->address, name);
	if (node_count == 0)
		return base_error_set(error, BASE_REASON_NO_ELIGIBLE_NODE,
				      "no node may own %s: no speaker runs (kubectl get speakers)",
				      name);
	for (size_t i = 0; i < node_count; i++) {
		const struct ipam_node *node = &placement->nodes[i];
		const char *word = base_reason_word(verdict_of(placement, node));
		size_t length = strlen(node->name) + strlen(word) + 3;

		if (at + length + 6 > sizeof list) {
			snprintf(list + at, sizeof list - at, ", ...");
			break;
		}
		at += (size_t)snprintf(list + at, sizeof list - at, "%s%s %s", at ? ", " : "",
				       node->name, word);
	}
	return base_error_set(error, BASE_REASON_NO_ELIGIBLE_NODE, "no node may own %s: %s", name,
			      list);
}

int ipam_place(const struct ipam_placement *placement, struct ipam_candidates *candidates,
	       enum base_reason *verdicts, struct base_error *error)
{
	struct ranked ranked[IPAM_NODES_MAX];
	enum base_reason why[IPAM_NODES_MAX];
	size_t node_count =
		placement->node_count < IPAM_NODES_MAX ? placement->node_count : IPAM_NODES_MAX;
	size_t count = 0, unlabelled = 0, first;
	const struct ipam_node *lingering = NULL;

	memset(candidates, 0, sizeof *candidates);
	for (size_t i = 0; i < node_count; i++) {
		why[i] = verdict_of(placement, &placement->nodes[i]);
		unlabelled += why[i] == BASE_REASON_NONE && !placement->nodes[i].exclude_label;
	}
	for (size_t i = 0; i < node_count; i++) {
		const struct ipam_node *node = &placement->nodes[i];

		if (why[i] == BASE_REASON_NONE && node->exclude_label) {
			if (unlabelled > 0)
				why[i] = BASE_REASON_NODE_EXCLUDED;
			else
				candidates->exclude_label_ignored = true;
		}
		if (why[i] == BASE_REASON_NONE) {
			ranked[count].node = node;
			ranked[count].endpoint = placement->local_only && node->endpoint;
			ranked[count++].score = score_of(placement->spread, node->name);
		} else if (owner_may_linger(placement, node, why[i])) {
			lingering = node;
		}
	}
	if (verdicts)
		memcpy(verdicts, why, node_count * sizeof *why);
	if (count == 0 && !lingering)
		return refuse(placement, node_count, error);
	qsort(ranked, count, sizeof *ranked, compare_ranked);
	first = choose_first(placement, ranked, count);
	if (count > 0)
		add(placement, candidates, ranked[first].node);
	for (size_t i = 0; i < count; i++) {
		size_t places = IPAM_CANDIDATES_MAX - (lingering ? 1 : 0);

		if (i == first)
			continue;
		if (candidates->count < places)
			add(placement, candidates, ranked[i].node);
		else if (verdicts)
			verdicts[ranked[i].node - placement->nodes] =
				BASE_REASON_UNSUPPORTED_FEATURE;
	}
	if (lingering)
		add(placement, candidates, lingering);
	candidates->changed |= candidates->count != placement->current_count;
	return 0;
}

void ipam_place_explain(const struct ipam_placement *placement, size_t index,
			enum base_reason verdict, struct base_error *error)
{
	const struct ipam_node *node = &placement->nodes[index];
	char name[BASE_ADDRESS_TEXT_SIZE], list[140] = "";
	size_t at = 0;

	base_address_format(&placement->address, name);
	if (verdict == BASE_REASON_NONE) {
		base_error_set(error, 0, "%s may own %s", node->name, name);
		return;
	}
	if (verdict == BASE_REASON_UNSUPPORTED_FEATURE) {
		base_error_set(error, (int)verdict,
			       "%s is behind the first %d candidates of %s: narrow the pool's nodes",
			       node->name, IPAM_CANDIDATES_MAX, name);
		return;
	}
	if (verdict != BASE_REASON_NOT_ON_SEGMENT) {
		base_error_set(error, (int)verdict, "%s may not own %s: %s", node->name, name,
			       base_reason_info(verdict)->meaning);
		return;
	}
	for (size_t i = 0; i < node->segment_count; i++) {
		char prefix[BASE_PREFIX_TEXT_SIZE];

		base_prefix_format(&node->segments[i].prefix, prefix);
		if (at + strlen(prefix) + strlen(node->segments[i].interface) + 9 > sizeof list) {
			snprintf(list + at, sizeof list - at, ", ...");
			break;
		}
		at += (size_t)snprintf(list + at, sizeof list - at, "%s%s %s", at ? ", " : "",
				       node->segments[i].interface, prefix);
	}
	base_error_set(error, (int)verdict, "%s has no interface on the segment of %s: it has %s",
		       node->name, name, at ? list : "none that its speaker reports");
}
