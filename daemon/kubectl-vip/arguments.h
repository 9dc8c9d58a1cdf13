#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * The command line in kubectl's manner: options and words in any order, `--name value`,
 * `--name=value`, `-n value`, `-nvalue`. No environment but KUBECONFIG.
 */
#define ARGUMENTS_WORDS_MAX 64

enum output {
	OUTPUT_TABLE,
	OUTPUT_WIDE,
	OUTPUT_JSON,
	OUTPUT_YAML,
	OUTPUT_NAME,
	OUTPUT_SVG, /* of drills alone */
};

struct arguments {
	const char *kubeconfig, *context, *namespace; /* NULL: not said */
	const char *to;				      /* handover: "" the best */
	enum output output;
	bool no_headers, watch, wait, force, help;
	int budget_ms; /* drill run: how long nobody may answer; -1: not said */
	int lost_connections; /* drill run: how many may be lost; -1: none are held */
	const char *action; /* drill run: "Handover" if not said */
	unsigned hold_s;    /* drill run: 0: not said */
	uint64_t timeout_us; /* of --wait; of one request it is the smaller of this and 30 s */
	unsigned word_count;
	const char *words[ARGUMENTS_WORDS_MAX]; /* borrowed from argv */
};

/* The options that a command takes, beside --kubeconfig, --context and --help. */
#define ARGUMENTS_OUTPUT    1u
#define ARGUMENTS_NAMESPACE 2u
#define ARGUMENTS_WAIT	    4u
#define ARGUMENTS_TO	    8u
#define ARGUMENTS_FORCE	    16u
#define ARGUMENTS_DRILL	    32u
#define ARGUMENTS_FILE	    64u /* its words may be said by -f, too */
#define ARGUMENTS_WATCH	    128u
#define ARGUMENTS_ALL	    255u

/* 0, or -1 after saying on stderr what is wrong. */
int arguments_parse(struct arguments *arguments, int argc, char **argv, unsigned taken);
/* The lines of --help for these options. */
void arguments_help(FILE *file, unsigned taken);

/*
 * The candidate nearest to `wanted`, if it is near enough to have been meant; NULL otherwise.
 * Feed all with nearest_offer(); start with a zeroed struct and `wanted` set.
 */
struct nearest {
	const char *wanted;
	unsigned distance;
	char name[256]; /* "": none is near */
};
void nearest_offer(struct nearest *nearest, const char *candidate);
