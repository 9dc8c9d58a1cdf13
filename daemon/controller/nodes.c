#include "daemon/controller/nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"
#include "base/time.h"
#include "k8s/object.h"

#define EXCLUDE_LABEL    "node.kubernetes.io/exclude-from-external-load-balancers"
#define AUTOSCALER_TAINT "ToBeDeletedByClusterAutoscaler"
#define INTERFACES_MAX   8

/* --- objects --- */

/* "false", "0", "f" and the like say no; everything else, junk included, says yes (strconv.ParseBool). */
static bool label_says_yes(const cJSON *object, const char *key)
{
	static const char *const no[] = { "0", "f", "F", "false", "False", "FALSE" };
	const cJSON *label =
		cJSON_GetObjectItemCaseSensitive(k8s_object_get(object, "metadata/labels"), key);

	if (!cJSON_IsString(label))
		return false;
	for (size_t i = 0; i < BASE_COUNT_OF(no); i++)
		if (strcmp(label->valuestring, no[i]) == 0)
			return false;
	return true;
}

void node_read(struct node_facts *facts, const cJSON *object)
{
	const cJSON *item;

	memset(facts, 0, sizeof *facts);
	facts->exclude_label = label_says_yes(object, EXCLUDE_LABEL);
	facts->leaving = k8s_object_get(object, "metadata/deletionTimestamp") != NULL;
	cJSON_ArrayForEach(item, k8s_object_get(object, "spec/taints")) {
		if (strcmp(k8s_object_text(item, "key"), AUTOSCALER_TAINT) == 0)
			facts->leaving = true;
	}
	cJSON_ArrayForEach(item, k8s_object_get(object, "status/addresses")) {
		if (facts->address_count < BASE_COUNT_OF(facts->addresses) &&
		    base_address_parse(k8s_object_text(item, "address"),
				       &facts->addresses[facts->address_count]))
			facts->address_count++;
	}
}

static void read_strangers(struct speaker_facts *facts, size_t at, const cJSON *list)
{
	size_t *count = &facts->segments[at].stranger_count;
	const cJSON *item;

	cJSON_ArrayForEach(item, list) {
		struct speaker_stranger *stranger = &facts->segments[at].strangers[*count];

		if (*count == SPEAKER_STRANGERS_MAX)
			return;
		stranger->id = (uint8_t)k8s_object_number(item, "id", 1, 255, 0);
		if (stranger->id &&
		    base_address_parse(k8s_object_text(item, "address"), &stranger->address))
			++*count;
	}
}

void speaker_read(struct speaker_facts *facts, const cJSON *object)
{
	const cJSON *item;

	memset(facts, 0, sizeof *facts);
	facts->excluded = k8s_object_bool(object, "spec/excluded", false);
	facts->maintenance = k8s_object_bool(object, "spec/maintenance", false);
	facts->ready = true; /* unless it says otherwise */
	cJSON_ArrayForEach(item, k8s_object_get(object, "status/conditions")) {
		if (strcmp(k8s_object_text(item, "type"), "Ready") == 0)
			facts->ready = strcmp(k8s_object_text(item, "status"), "True") == 0;
		if (strcmp(k8s_object_text(item, "type"), "Ready") == 0)
			facts->unknown = strcmp(k8s_object_text(item, "status"), "Unknown") == 0;
	}
	cJSON_ArrayForEach(item, k8s_object_get(object, "status/segments")) {
		size_t at = facts->segment_count;

		if (at == NODE_SEGMENTS_MAX || !base_prefix_parse(k8s_object_text(item, "prefix"),
								  &facts->segments[at].prefix))
			continue;
		snprintf(facts->segments[at].interface, INTERFACE_SIZE, "%s",
			 k8s_object_text(item, "interface"));
		base_address_parse(k8s_object_text(item, "address"), &facts->segments[at].address);
		base_address_parse(k8s_object_text(item, "gateway"), &facts->segments[at].gateway);
		read_strangers(facts, at, k8s_object_get(item, "foreignVirtualRouters"));
		facts->segment_count++;
	}
}

/* --- the table --- */

struct node *nodes_find(struct nodes *nodes, const char *name)
{
	return TABLE_OF(table_find(&nodes->table, name), struct node, entry);
}

struct node *nodes_make(struct nodes *nodes, const char *name)
{
	struct node *node = nodes_find(nodes, name);

	if (node)
		return node;
	node = calloc(1, sizeof *node);
	if (!node)
		return NULL;
	node->name = strdup(name);
	if (!node->name || table_add(&nodes->table, &node->entry, node->name) < 0) {
		free(node->name);
		free(node);
		return NULL;
	}
	return node;
}

void nodes_clear(struct nodes *nodes)
{
	struct table_entry *entry;

	while ((entry = table_any(&nodes->table))) {
		struct node *node = TABLE_OF(entry, struct node, entry);

		table_remove(&nodes->table, entry);
		cJSON_Delete(node->labels);
		free(node->name);
		free(node);
	}
	table_clear(&nodes->table);
}

/* Structs are zeroed before they are filled, so their bytes may be compared. */
static bool note_change(struct node *node)
{
	char *labels = node->labels ? cJSON_PrintUnformatted(node->labels) : NULL;
	uint64_t parts[5] = { node->exists + 2 * node->silent, node->speaks,
			      base_hash(&node->facts, sizeof node->facts),
			      base_hash(&node->speaker, sizeof node->speaker),
			      labels ? base_hash(labels, strlen(labels)) : 0 };
	uint64_t digest = base_hash(parts, sizeof parts);
	bool changed = digest != node->digest;

	free(labels);
	node->digest = digest;
	return changed;
}

bool node_set_object(struct node *node, const cJSON *object)
{
	const cJSON *labels = k8s_object_get(object, "metadata/labels");

	node->exists = object != NULL;
	cJSON_Delete(node->labels);
	node->labels = labels ? cJSON_Duplicate(labels, true) : NULL;
	node_read(&node->facts, object);
	return note_change(node);
}

bool node_set_speaker(struct node *node, const cJSON *object)
{
	node->speaks = object != NULL;
	snprintf(node->speaker_uid, sizeof node->speaker_uid, "%s",
		 k8s_object_text(object, "metadata/uid"));
	snprintf(node->speaker_version, sizeof node->speaker_version, "%s",
		 k8s_object_text(object, "metadata/resourceVersion"));
	speaker_read(&node->speaker, object);
	return note_change(node);
}

bool node_is_up(const struct node *node)
{
	return node->exists && node->speaks && node->speaker.ready && !node->silent;
}

size_t node_addresses(const struct node *node, struct ipam_range *ranges)
{
	size_t count = 0;

	for (size_t i = 0; i < node->facts.address_count; i++)
		ranges[count++] = ipam_range_single(&node->facts.addresses[i]);
	for (size_t i = 0; i < node->speaker.segment_count; i++) {
		if (node->speaker.segments[i].address.family)
			ranges[count++] = ipam_range_single(&node->speaker.segments[i].address);
		if (node->speaker.segments[i].gateway.family)
			ranges[count++] = ipam_range_single(&node->speaker.segments[i].gateway);
	}
	return count;
}

/* A node that another one does not know yet is no stranger. */
static bool is_member(const struct nodes *nodes, const struct base_address *address)
{
	struct ipam_range ranges[NODE_ADDRESSES_MAX];

	TABLE_EACH(&nodes->table, entry) {
		size_t count = node_addresses(TABLE_OF(entry, struct node, entry), ranges);

		for (size_t i = 0; i < count; i++)
			if (base_address_equal(&ranges[i].first, address))
				return true;
	}
	return false;
}

const struct speaker_stranger *nodes_strangers(const struct nodes *nodes,
					       const struct base_address *address, uint8_t id,
					       struct ipam_ids *ids)
{
	const struct speaker_stranger *found = NULL;

	TABLE_EACH(&nodes->table, entry) {
		const struct node *node = TABLE_OF(entry, struct node, entry);

		for (size_t i = 0; i < node->speaker.segment_count; i++) {
			if (!base_prefix_contains(&node->speaker.segments[i].prefix, address))
				continue;
			for (size_t j = 0; j < node->speaker.segments[i].stranger_count; j++) {
				const struct speaker_stranger *stranger =
					&node->speaker.segments[i].strangers[j];

				if (is_member(nodes, &stranger->address))
					continue;
				ipam_ids_add(ids, stranger->id, stranger->id);
				if (stranger->id == id)
					found = stranger;
			}
		}
	}
	return found;
}

/* --- placement --- */

static uint32_t weight_of(const cJSON *pool_spec, const cJSON *labels)
{
	const cJSON *item;
	uint32_t weight = 0;

	cJSON_ArrayForEach(item, k8s_object_get(pool_spec, "nodes/preferred")) {
		if (k8s_selector_matches(k8s_object_get(item, "selector"), labels))
			weight += (uint32_t)k8s_object_number(item, "weight", 1, 100, 0);
	}
	return weight;
}

static void describe(const struct node *node, const struct placement_question *question,
		     struct ipam_segment segments[static NODE_SEGMENTS_MAX], struct ipam_node *out)
{
	*out = (struct ipam_node){
		.name = node->name,
		.segment_count = node->speaker.segment_count,
		.segments = segments,
		.selected =
			k8s_selector_matches(k8s_object_get(question->pool_spec, "nodes/selector"),
					     node->labels) &&
			question->allowed(question->userdata, node->name),
		.weight = weight_of(question->pool_spec, node->labels),
		.excluded = node->speaker.excluded || node->facts.leaving,
		.exclude_label = node->facts.exclude_label,
		.maintenance = node->speaker.maintenance,
		.ready = node->speaker.ready && !node->silent,
		.endpoint =
			question->endpoint && question->endpoint(question->userdata, node->name),
		.load = node->load,
	};
	for (size_t i = 0; i < node->speaker.segment_count; i++)
		segments[i] =
			(struct ipam_segment){ .interface = node->speaker.segments[i].interface,
					       .prefix = node->speaker.segments[i].prefix };
}

static bool is_eligible(const struct node *node)
{
	return node->exists && node->speaks && !node->forgotten;
}

static struct placement_view view_of(const struct ipam_node *node, enum base_reason verdict)
{
	return (struct placement_view){ .known = true,
					.may = verdict == BASE_REASON_NONE,
					.ready = node->ready,
					.endpoint = node->endpoint,
					.weight = node->weight };
}

struct scratch {
	struct ipam_segment (*segments)[NODE_SEGMENTS_MAX];
	const struct node **who;
	struct ipam_node *list;
	enum base_reason *verdicts;
};

static bool scratch_new(struct scratch *scratch, size_t count)
{
	scratch->list = calloc(count + 1, sizeof(*scratch->list));
	scratch->who = calloc(count + 1, sizeof(*scratch->who));
	scratch->segments = calloc(count + 1, sizeof(*scratch->segments));
	scratch->verdicts = calloc(count + 1, sizeof(*scratch->verdicts));
	return scratch->list && scratch->who && scratch->segments && scratch->verdicts;
}

static void scratch_clear(struct scratch *scratch)
{
	free(scratch->list);
	free(scratch->who);
	free(scratch->segments);
	free(scratch->verdicts);
}

static void place(struct nodes *nodes, const struct placement_question *question,
		  struct ipam_placement *placement, struct scratch *scratch,
		  struct placement_answer *answer)
{
	TABLE_EACH(&nodes->table, entry) {
		const struct node *node = TABLE_OF(entry, struct node, entry);
		size_t at = placement->node_count;

		if (!is_eligible(node))
			continue;
		describe(node, question, scratch->segments[at], &scratch->list[at]);
		scratch->who[at] = node;
		placement->node_count++;
	}
	placement->nodes = scratch->list;
	answer->reason = (enum base_reason)ipam_place(placement, &answer->candidates,
						      scratch->verdicts, &answer->error);
	for (size_t i = 0; i < answer->candidates.count; i++)
		answer->nodes[i] = scratch->who[answer->candidates.items[i].node];
	for (size_t i = 0; i < placement->node_count; i++)
		if (question->owner && strcmp(scratch->who[i]->name, question->owner) == 0)
			answer->owner = view_of(&scratch->list[i], scratch->verdicts[i]);
	if (answer->candidates.count)
		answer->first = view_of(&scratch->list[answer->candidates.items[0].node],
					scratch->verdicts[answer->candidates.items[0].node]);
}

void nodes_place(struct nodes *nodes, const struct placement_question *question,
		 struct placement_answer *answer)
{
	const cJSON *interfaces = k8s_object_get(question->pool_spec, "interfaces"), *item;
	const char *patterns[INTERFACES_MAX];
	struct ipam_placement placement = {
		.address = question->address,
		.spread = question->spread,
		.interfaces = patterns,
		.local_only = question->local_only,
		.preferred = strcmp(k8s_object_text(question->pool_spec, "preemption"),
				    "preferred") == 0,
		.owner = question->owner,
		.current_count = question->current_count,
		.current = question->current,
	};
	struct scratch scratch;

	memset(answer, 0, sizeof *answer);
	cJSON_ArrayForEach(item, interfaces) {
		if (cJSON_IsString(item) && placement.interface_count < INTERFACES_MAX)
			patterns[placement.interface_count++] = item->valuestring;
	}
	if (scratch_new(&scratch, nodes->table.count)) {
		place(nodes, question, &placement, &scratch, answer);
	} else {
		answer->reason = BASE_REASON_NO_ELIGIBLE_NODE;
		base_error_set(&answer->error, -ENOMEM, "out of memory");
	}
	scratch_clear(&scratch);
}

bool node_set_silent(struct node *node, bool silent)
{
	node->silent = silent;
	return note_change(node);
}
