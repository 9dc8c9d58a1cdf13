#pragma once

#include "base/time.h"
#include "daemon/controller/balance.h"
#include "daemon/controller/objects.h"
#include "daemon/controller/queue.h"
#include "daemon/controller/table.h"

/*
 * Nodes and their Speakers, as far as placement looks, and the question put to ipam/placement.h.
 */
struct node {
	struct table_entry entry;
	char *name;
	bool exists, speaks; /* there is a Node, a Speaker */
	cJSON *labels;
	struct node_facts facts;
	struct speaker_facts speaker;
	char speaker_uid[40], speaker_version[24];
	uint64_t digest; /* of all that placement looks at */
	uint32_t load;   /* addresses whose first candidate it is */
	/* The Lease by which its speaker gives signs of life. */
	struct work work;
	bool signs;                    /* there is one */
	char sign[24];                 /* its version */
	uint64_t sign_us, duration_us; /* when it was seen to change; what it says it lasts */
	bool silent;                   /* it ran out, and a fresh read said the same */
	bool forgotten; /* and that was NODE_FORGOTTEN_US ago: no candidate, no witness */
	struct calm calm;
	size_t index; /* for who counts over all nodes */
};

#define NODE_FORGOTTEN_US (300 * BASE_USEC_PER_SEC)

struct nodes {
	struct table table;
};

void nodes_clear(struct nodes *nodes);
struct node *nodes_find(struct nodes *nodes, const char *name);
/* Makes one if there is none; NULL: no memory. Never freed before nodes_clear(): names are borrowed. */
struct node *nodes_make(struct nodes *nodes, const char *name);

/* Node and Speaker are there, and it lives and says that it is ready. */
bool node_is_up(const struct node *node);

/* Each answers whether anything that placement looks at changed. NULL: there is none (any more). */
bool node_set_object(struct node *node, const cJSON *object);
bool node_set_speaker(struct node *node, const cJSON *object);
bool node_set_silent(struct node *node, bool silent);

/* Addresses that this node has itself, and gateways it knows: never given to a Service. At most
 * NODE_ADDRESSES_MAX; answers how many. */
size_t node_addresses(const struct node *node, struct ipam_range *ranges);

/*
 * Adds the virtual router IDs that somebody outside the cluster uses on the segment of the address, as any
 * speaker hears. Answers who uses `id`, or NULL.
 */
const struct speaker_stranger *nodes_strangers(const struct nodes *nodes,
					       const struct base_address *address, uint8_t id,
					       struct ipam_ids *ids);

struct placement_question {
	struct base_address address;
	uint64_t spread; /* as in struct ipam_placement */
	const cJSON *pool_spec; /* AddressPool.spec; NULL: the pool is gone */
	bool local_only;
	const char *owner;
	size_t current_count;
	const char *const *current;
	/* Is this node among those that vipd.dev/nodes allows? */
	bool (*allowed)(void *userdata, const char *node);
	/* Has it a ready endpoint? NULL: not asked. */
	bool (*endpoint)(void *userdata, const char *node);
	void *userdata;
};

/* One node in the eyes of a question. */
struct placement_view {
	bool known, may, ready, endpoint;
	uint32_t weight;
};

struct placement_answer {
	struct ipam_candidates candidates;             /* indexes into `nodes` */
	const struct node *nodes[IPAM_CANDIDATES_MAX]; /* of the candidates, first one first */
	struct placement_view owner, first;
	enum base_reason reason; /* NONE, or why there is none */
	struct base_error error;
};

void nodes_place(struct nodes *nodes, const struct placement_question *question,
		 struct placement_answer *answer);
