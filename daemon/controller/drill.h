#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "base/address.h"
#include "base/error.h"
#include "base/reason.h"

/*
 * A FailoverDrill: may it be run, by whom, and what came of it. Objects in, answers out; no clock and no
 * request. What is done with the answers: daemon/controller/drills.h.
 */
#define DRILL_PROBERS_MAX 3
#define DRILL_NAME_SIZE   256
#define DRILL_INTERVAL_MS 5
#define DRILL_DURATION_MS 6000 /* a failover with all that follows it takes two seconds */
#define DRILL_HOLD_MS     5000
#define DRILL_RUNS_MAX    32

enum drill_action {
	DRILL_ACTION_HANDOVER,
	DRILL_ACTION_CRASH,
	DRILL_ACTION_HANG,
	DRILL_ACTION_ISOLATE,
	DRILL_ACTION_COUNT
};

/* A node as the drill sees it. */
struct drill_node {
	const char *name;
	bool fit;        /* its speaker lives, is ready and not told to stay away */
	bool on_segment; /* of the address */
};

struct drill_plan {
	char from[DRILL_NAME_SIZE], to[DRILL_NAME_SIZE];
	char router[DRILL_NAME_SIZE]; /* of the address; "": the node as a whole is broken */
	char protocol[8];             /* "ARP", "ICMP", "TCP", "UDP" */
	uint16_t port;
	uint16_t connection_port; /* 0: no connections are held */
	unsigned prober_count;
	char probers[DRILL_PROBERS_MAX][DRILL_NAME_SIZE];
};

/* What the probers measured, the worst of each. */
struct drill_measure {
	unsigned probers; /* who asked until the end */
	uint64_t sent, lost;
	double outage_ms, two_ms;
	const char *owner;     /* who has it now; borrowed, or NULL */
	const cJSON *timeline; /* of the one who saw the longest outage; borrowed, or NULL */
	uint64_t kept, connections_lost; /* of the connections of all of them */
	const char *prober; /* if it was one alone; borrowed, or NULL */
};

enum drill_verdict {
	DRILL_VERDICT_SUCCEEDED,
	DRILL_VERDICT_FAILED,
	DRILL_VERDICT_REFUSED,
};
const char *drill_verdict_word(enum drill_verdict verdict);
enum base_reason drill_verdict_reason(enum drill_verdict verdict);

/* Is it to be run now? Once for each generation of its spec; those with a schedule: drill_schedule.h. */
bool drill_is_due(const cJSON *drill);
bool drill_is_running(const cJSON *drill);
/* Neither suspended nor being deleted. */
bool drill_is_wanted(const cJSON *drill);

/* DRILL_ACTION_COUNT: a word that is none. */
enum drill_action drill_action(const char *word);
/* Of the run under way: what is done, how long it is held, how long it is looked on. */
enum drill_action drill_run_action(const cJSON *drill);
uint32_t drill_run_hold_ms(const cJSON *drill);
uint32_t drill_run_duration_ms(const cJSON *drill);

/* Connections are held, and so many may be lost. False: none are. */
bool drill_budget_connections(const cJSON *drill, uint64_t *allowed);

/* Of the spec alone: 0, or -errno and what is wrong. */
int drill_check_spec(const cJSON *drill, struct base_error *error);

/*
 * From whom to whom and who looks on: 0, or -EBUSY and why it would be an outage, or could not be
 * measured. `vip`: the VirtualIP as the API server has it. Of a fault `to` is who is expected.
 */
int drill_plan(const cJSON *drill, const cJSON *vip, const struct drill_node *nodes, size_t count,
	       struct drill_plan *plan, struct base_error *error);

/* `vip`: as it is afterwards, NULL if it is gone. `message`: one sentence. */
enum drill_verdict drill_judge(const cJSON *drill, const cJSON *vip,
			       const struct drill_measure *measure, struct base_error *message);

/* For people: "192.0.2.10", "vms/myvm-ssh". */
void drill_target(const cJSON *drill, char text[static DRILL_NAME_SIZE]);
