#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"
#include "base/reason.h"

/*
 * Which nodes may own an address, and in which order: a pure function of the nodes and of the list
 * that stands in the VirtualIP already. No state, no allocation.
 *
 * Order: nodes with an endpoint before nodes without (externalTrafficPolicy: Local), then by the
 * weight of the pool's preferences, then by a hash of node and address (rendezvous), so that what a
 * lost node had spreads over all others at once. The first place goes to the one of the best
 * endpoint and weight that carries least.
 *
 * Stable: the first candidate stays it while it is eligible (`preferred` and Local excepted), also
 * when a better one joins; the places behind it depend on nothing but the nodes themselves, so one
 * that comes or goes swaps no two others. Priorities depend on the place alone: 254, 247, 240, ...
 */
#define IPAM_CANDIDATES_MAX 32
#define IPAM_NODES_MAX	    1024

/* Speaker.status.segments */
struct ipam_segment {
	const char *interface;
	struct base_prefix prefix;
};

struct ipam_node {
	const char *name;
	size_t segment_count;
	const struct ipam_segment *segments;
	bool selected;	  /* pool's nodes.selector and the Service's vipd.dev/nodes match */
	uint32_t weight;  /* sum of the pool's nodes.preferred that match */
	bool excluded;	  /* Speaker.spec.excluded */
	bool exclude_label; /* node.kubernetes.io/exclude-from-external-load-balancers; ignored
			     * where nobody would be left */
	bool maintenance; /* Speaker.spec.maintenance */
	bool ready;	  /* its speaker is alive. If not it becomes no new candidate, and stays the
			   * one it is: a crash is no reason to rewrite candidates. Leave a node out
			   * that is gone for long: candidates count as witnesses */
	bool endpoint;	  /* has a ready endpoint of the Service */
	enum base_reason held_back; /* any other reason of the caller's: FLAP_HELD_DOWN; or NONE */
	uint32_t load;	  /* addresses whose first candidate it is */
};

struct ipam_candidate {
	size_t node; /* index */
	uint8_t priority;
};

struct ipam_placement {
	struct base_address address;
	uint64_t spread; /* what has another one has other backups: a hash of the virtual router */
	size_t interface_count; /* patterns, `*` and `?`; none: any interface */
	const char *const *interfaces;
	bool local_only; /* externalTrafficPolicy: Local */
	bool preferred;	 /* preemption: preferred; a better weight takes the first place */
	const char *owner; /* VirtualIP.status.owner: stays a candidate, the last, until it has
			    * handed over, if maintenance or exclusion is all that speaks against it */
	size_t current_count; /* names in VirtualIP.spec.candidates, first one first */
	const char *const *current;
	size_t node_count; /* at most IPAM_NODES_MAX; more are not looked at */
	const struct ipam_node *nodes; /* in any order; names differ */
};

struct ipam_candidates {
	size_t count;
	struct ipam_candidate items[IPAM_CANDIDATES_MAX]; /* first one first */
	bool exclude_label_ignored; /* else nobody had been left: to be said loudly */
	bool changed;		    /* differs from `current` */
};

/*
 * 0 with at least one candidate, or NO_ELIGIBLE_NODE with a sentence. `verdicts` (NULL: not
 * asked) gets a word for each of node_count nodes: NONE for a candidate, else why not:
 * NODE_NOT_SELECTED, NODE_EXCLUDED, MAINTENANCE, held_back, NOT_ON_SEGMENT, SPEAKER_NOT_READY;
 * UNSUPPORTED_FEATURE for those behind the 32nd. The owner that stays a candidate has one too.
 */
int ipam_place(const struct ipam_placement *placement, struct ipam_candidates *candidates,
	       enum base_reason *verdicts, struct base_error *error);

/* The sentence for the verdict of one node: "n3 has no interface on ...: it has eth1 192.0.2.0/24". */
void ipam_place_explain(const struct ipam_placement *placement, size_t node,
			enum base_reason verdict, struct base_error *error);
