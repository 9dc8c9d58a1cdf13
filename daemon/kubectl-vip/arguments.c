#include "daemon/kubectl-vip/arguments.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/array.h"
#include "base/time.h"

enum option {
	OPTION_KUBECONFIG,
	OPTION_CONTEXT,
	OPTION_NAMESPACE,
	OPTION_OUTPUT,
	OPTION_NO_HEADERS,
	OPTION_WATCH,
	OPTION_WAIT,
	OPTION_TIMEOUT,
	OPTION_TO,
	OPTION_FORCE,
	OPTION_BUDGET,
	OPTION_LOST_CONNECTIONS,
	OPTION_ACTION,
	OPTION_HOLD,
	OPTION_FILE,
	OPTION_HELP,
};

static const struct {
	enum option option;
	char letter; /* 0: none */
	const char *name, *argument, *help; /* argument NULL: takes none */
	unsigned taken;			    /* 0: every command takes it */
} options[] = {
	{ OPTION_NAMESPACE, 'n', "namespace", "NAME", "instead of the context's namespace",
	  ARGUMENTS_NAMESPACE },
	{ OPTION_OUTPUT, 'o', "output", "FORMAT", "json, yaml, name or wide", ARGUMENTS_OUTPUT },
	{ OPTION_NO_HEADERS, 0, "no-headers", NULL, "the table without its first line",
	  ARGUMENTS_OUTPUT },
	{ OPTION_TO, 0, "to", "NODE", "who shall own it; the best candidate if not said",
	  ARGUMENTS_TO },
	{ OPTION_WATCH, 'w', "watch", NULL, "go on, with a line for whatever changes", ARGUMENTS_WATCH },
	{ OPTION_WAIT, 'w', "wait", NULL, "return when it is done; exit 1 if it was not in time",
	  ARGUMENTS_WAIT },
	{ OPTION_TIMEOUT, 0, "timeout", "TIME", "how long to wait, as 30s or 5m (60s if not said)",
	  ARGUMENTS_WAIT },
	{ OPTION_FORCE, 0, "force", NULL, "also if an address would be left without an owner",
	  ARGUMENTS_FORCE },
	{ OPTION_BUDGET, 0, "budget", "MS", "how many milliseconds nobody may answer",
	  ARGUMENTS_DRILL },
	{ OPTION_LOST_CONNECTIONS, 0, "lost-connections", "N",
	  "hold TCP connections, of which so many may be lost", ARGUMENTS_DRILL },
	{ OPTION_ACTION, 0, "action", "ACTION", "Handover (if not said), Crash, Hang or Isolate",
	  ARGUMENTS_DRILL },
	{ OPTION_HOLD, 0, "hold", "SECONDS", "of Hang and Isolate, 1 to 300 (5 if not said)",
	  ARGUMENTS_DRILL },
	{ OPTION_FILE, 'f', "filename", "FILE", "as FILE alone; - reads what is piped in", ARGUMENTS_FILE },
	{ OPTION_KUBECONFIG, 0, "kubeconfig", "FILE", "instead of KUBECONFIG and ~/.kube/config", 0 },
	{ OPTION_CONTEXT, 0, "context", "NAME", "instead of the current context", 0 },
	{ OPTION_HELP, 'h', "help", NULL, "this", 0 },
};

static const struct {
	const char *word;
	enum output output;
} outputs[] = {
	{ "wide", OUTPUT_WIDE },
	{ "json", OUTPUT_JSON },
	{ "yaml", OUTPUT_YAML },
	{ "name", OUTPUT_NAME },
	{ "svg", OUTPUT_SVG },
};

static const char *const actions[] = { "Handover", "Crash", "Hang", "Isolate" };

void arguments_help(FILE *file, unsigned taken)
{
	for (size_t i = 0; i < BASE_COUNT_OF(options); i++) {
		char left[32], letter[8] = "    ";

		if (options[i].taken && !(options[i].taken & taken))
			continue;
		if (options[i].letter)
			snprintf(letter, sizeof letter, "-%c, ", options[i].letter);
		snprintf(left, sizeof left, "--%s%s%s", options[i].name,
			 options[i].argument ? " " : "", options[i].argument ? options[i].argument : "");
		fprintf(file, "  %s%-20s %s\n", letter, left, options[i].help);
	}
}

/* --- did you mean --- */

/* Levenshtein's distance, ignoring case; names beyond 255 characters are far from everything. */
static unsigned distance(const char *a, const char *b)
{
	size_t length = strlen(b);
	unsigned row[256];

	if (length >= BASE_COUNT_OF(row) || strlen(a) >= BASE_COUNT_OF(row))
		return UINT32_MAX;
	for (size_t j = 0; j <= length; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= length; j++) {
			unsigned best = diagonal + (tolower((unsigned char)a[i - 1]) !=
						    tolower((unsigned char)b[j - 1]));

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[length];
}

void nearest_offer(struct nearest *nearest, const char *candidate)
{
	unsigned far = distance(nearest->wanted, candidate);
	unsigned limit = (unsigned)strlen(nearest->wanted) / 3;

	if (far > (limit > 1 ? limit : 1) || (nearest->name[0] && far >= nearest->distance))
		return;
	nearest->distance = far;
	snprintf(nearest->name, sizeof nearest->name, "%s", candidate);
}

/* --- reading --- */

static int read_output(struct arguments *arguments, const char *value, unsigned taken)
{
	struct nearest nearest = { .wanted = value };

	for (size_t i = 0; i < BASE_COUNT_OF(outputs); i++) {
		if (outputs[i].output == OUTPUT_SVG && !(taken & ARGUMENTS_DRILL))
			continue;
		if (strcmp(outputs[i].word, value) == 0) {
			arguments->output = outputs[i].output;
			return 0;
		}
		nearest_offer(&nearest, outputs[i].word);
	}
	fprintf(stderr, "error: no output format \"%s\": say json, yaml, name or wide%s%s%s\n", value,
		nearest.name[0] ? " (did you mean " : "", nearest.name, nearest.name[0] ? "?)" : "");
	return -1;
}

static int read_timeout(struct arguments *arguments, const char *value)
{
	char *end;
	double number = strtod(value, &end);
	double unit = strcmp(end, "ms") == 0			  ? 0.001
		      : strcmp(end, "s") == 0 || *end == '\0' ? 1
		      : strcmp(end, "m") == 0		  ? 60
		      : strcmp(end, "h") == 0		  ? 3600
							  : 0;

	if (end == value || unit <= 0 || !(number > 0) || number * unit > 7 * 86400) {
		fprintf(stderr, "error: --timeout %s is no time: write 30s, 5m or 1h\n", value);
		return -1;
	}
	arguments->timeout_us = (uint64_t)(number * unit * (double)BASE_USEC_PER_SEC);
	return 0;
}

static int read_count(const char *option, const char *value, const char *of, int max, int *count)
{
	char *end;
	long number = strtol(value, &end, 10);

	if (end == value || *end || number < 0 || number > max) {
		fprintf(stderr, "error: --%s %s is none: write %s, 0 to %d\n", option, value, of, max);
		return -1;
	}
	*count = (int)number;
	return 0;
}

static int read_action(struct arguments *arguments, const char *value)
{
	for (size_t i = 0; i < BASE_COUNT_OF(actions); i++)
		if (strcasecmp(actions[i], value) == 0) {
			arguments->action = actions[i];
			return 0;
		}
	fprintf(stderr, "error: --action %s is none: say Handover, Crash, Hang or Isolate\n", value);
	return -1;
}

static int read_hold(struct arguments *arguments, const char *value)
{
	char *end;
	long number = strtol(value, &end, 10);

	if (end == value || (*end && strcmp(end, "s") != 0) || number < 1 || number > 300) {
		fprintf(stderr, "error: --hold %s is none: write seconds, 1 to 300\n", value);
		return -1;
	}
	arguments->hold_s = (unsigned)number;
	return 0;
}

static int apply(struct arguments *arguments, enum option option, const char *value,
		 unsigned taken)
{
	switch (option) {
	case OPTION_KUBECONFIG:
		arguments->kubeconfig = value;
		return 0;
	case OPTION_CONTEXT:
		arguments->context = value;
		return 0;
	case OPTION_NAMESPACE:
		arguments->namespace = value;
		return 0;
	case OPTION_OUTPUT:
		return read_output(arguments, value, taken);
	case OPTION_NO_HEADERS:
		arguments->no_headers = true;
		return 0;
	case OPTION_WATCH:
		arguments->watch = true;
		return 0;
	case OPTION_WAIT:
		arguments->wait = true;
		return 0;
	case OPTION_TIMEOUT:
		return read_timeout(arguments, value);
	case OPTION_TO:
		arguments->to = value;
		return 0;
	case OPTION_FORCE:
		arguments->force = true;
		return 0;
	case OPTION_BUDGET:
		return read_count("budget", value, "milliseconds", 600000, &arguments->budget_ms);
	case OPTION_LOST_CONNECTIONS:
		return read_count("lost-connections", value, "a number", 1000000,
				  &arguments->lost_connections);
	case OPTION_ACTION:
		return read_action(arguments, value);
	case OPTION_HOLD:
		return read_hold(arguments, value);
	case OPTION_FILE:
		if (arguments->word_count < ARGUMENTS_WORDS_MAX)
			arguments->words[arguments->word_count++] = value;
		return 0;
	case OPTION_HELP:
		arguments->help = true;
		return 0;
	}
	return -1;
}

static int unknown_option(const char *word, unsigned taken)
{
	char name[64];
	struct nearest nearest = { .wanted = name };

	snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
	for (size_t i = 0; word[1] == '-' && i < BASE_COUNT_OF(options); i++)
		if (!options[i].taken || (options[i].taken & taken))
			nearest_offer(&nearest, options[i].name);
	fprintf(stderr, "error: unknown option %s; %s%s%s\n", word,
		nearest.name[0] ? "did you mean --" : "try --help", nearest.name,
		nearest.name[0] ? "?" : "");
	return -1;
}

/* The option that this command takes under this word, "--name", "--name=value", "-n" or "-nvalue"; or none. */
static size_t find_option(const char *word, unsigned taken)
{
	size_t length = strcspn(word, "="), at;

	for (at = 0; at < BASE_COUNT_OF(options); at++) {
		bool named = word[1] == '-' ? strlen(options[at].name) == length - 2 &&
						      strncmp(options[at].name, word + 2, length - 2) == 0
					    : options[at].letter == word[1];

		if (named && (!options[at].taken || (options[at].taken & taken)))
			break;
	}
	return at;
}

int arguments_parse(struct arguments *arguments, int argc, char **argv, unsigned taken)
{
	bool only_words = false;

	*arguments = (struct arguments){ .timeout_us = 60 * BASE_USEC_PER_SEC,
					 .to = "",
					 .budget_ms = -1,
					 .lost_connections = -1,
					 .action = actions[0] };
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *equals = strchr(word, '='), *value = NULL;
		size_t at;

		if (only_words || word[0] != '-' || !word[1]) {
			if (arguments->word_count == ARGUMENTS_WORDS_MAX) {
				fprintf(stderr, "error: more than %d names\n", ARGUMENTS_WORDS_MAX);
				return -1;
			}
			arguments->words[arguments->word_count++] = word;
			continue;
		}
		if (strcmp(word, "--") == 0) {
			only_words = true;
			continue;
		}
		at = find_option(word, taken);
		if (at == BASE_COUNT_OF(options))
			return unknown_option(word, taken);
		if (word[1] == '-')
			value = equals ? equals + 1 : NULL;
		else if (word[2])
			value = word + 2 + (word[2] == '=');
		if (!options[at].argument && value && strcmp(value, "true") != 0) {
			if (word[1] == '-' && strcmp(value, "false") == 0)
				continue;
			fprintf(stderr, "error: --%s takes no value\n", options[at].name);
			return -1;
		}
		if (options[at].argument && !value)
			value = i + 1 < argc ? argv[++i] : NULL;
		if (options[at].argument && (!value || !*value)) {
			fprintf(stderr, "error: --%s wants %s\n", options[at].name,
				options[at].argument);
			return -1;
		}
		if (apply(arguments, options[at].option, value, taken) < 0)
			return -1;
	}
	return 0;
}
