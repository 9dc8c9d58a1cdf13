#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/array.h"
#include "base/hash.h"
#include "test/sim/sim.h"

#define NIGHTLY_RUNS 50000 /* from here on rare cells must be reached, too */

struct options {
	uint64_t seed, until_us, without;
	unsigned runs, nodes, first;
	int regime, leased;
	unsigned interval_ms, episodes;
	bool trace, verbose, survey;
	enum sim_mutant mutant;
	const char *cover;
	char base[160]; /* options to repeat for one run */
};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: sim [--seed=N] [--runs=N] [--until=SECONDS] [--trace] "
		"[--without=FAULT,...]\n"
		"           [--nodes=N] [--regime=single|double|chaos] [--leased=yes|no]\n"
		"           [--interval=MS] [--episodes=N] [--mutant=RULE] [--verbose] [--survey]\n"
		"           [--cover=README]\n"
		"       sim --scenario=FILE [--trace] [--until=SECONDS] [--mutant=RULE]\n"
		"       sim --seeds=FILE\n"
		"A seed may be a number or any word, such as the hash of a commit. One run is what "
		"its\n"
		"seed says; with --runs the seeds of the runs come from it.\n"
		"Ends with 0 passed, 2 usage, 127 assertion, 128 liveness, 129 safety,\n"
		"130 not deterministic, 131 not covered.\n");
}

static uint64_t parse_seed(const char *text)
{
	char *end;
	uint64_t seed;

	errno = 0;
	seed = strtoull(text, &end, 0);
	return *end || errno ? base_hash(text, strlen(text)) : seed;
}

static bool parse_without(const char *list, uint64_t *without)
{
	char copy[512], *save = NULL;

	snprintf(copy, sizeof copy, "%s", list);
	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		enum sim_fault fault;

		if (!sim_fault_parse(word, &fault)) {
			fprintf(stderr, "sim: --without=%s: there is no fault \"%s\"; there are",
				list, word);
			for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
				fprintf(stderr, " %s", sim_fault_name((enum sim_fault)i));
			fprintf(stderr, "\n");
			return false;
		}
		*without |= UINT64_C(1) << fault;
	}
	return true;
}

static void make_config(const struct options *options, uint64_t seed, struct sim_config *config)
{
	sim_swarm_draw(seed, config);
	if (options->nodes)
		config->nodes = options->nodes;
	if (options->regime >= 0)
		config->regime = (enum sim_regime)options->regime;
	if (options->leased >= 0)
		config->leased = options->leased;
	if (options->interval_ms)
		config->interval_us = options->interval_ms * 1000;
	if (options->episodes)
		config->episodes = options->episodes;
	config->mutant = options->mutant;
}

static uint64_t run(const struct options *options, const struct sim_config *config,
		    struct scenario *scenario, struct sim_statistics *statistics,
		    struct sim_world *world)
{
	memset(world, 0, sizeof *world);
	world->config = *config;
	world->until_us = options->until_us ? options->until_us : BASE_USEC_NEVER;
	world->without = options->without;
	world->trace = options->trace;
	world->statistics = statistics;
	world->scenario = scenario;
	sim_cover_mutate(config->mutant);
	sim_world_run(world);
	return world->hash;
}

static long long relative(const struct sim_world *w, uint64_t time_us)
{
	return time_us == BASE_USEC_NEVER ? -1 : (long long)(time_us - w->now_us);
}

/* What each node believed when it went wrong. */
static void print_nodes(const struct sim_world *w)
{
	for (unsigned i = 0; i < w->config.nodes; i++) {
		const struct sim_node *node = &w->nodes[i];
		const struct election_elector *e = &node->router.elector;

		printf("%s %s%s%s%s: %s claim=%d speaker=%u holder=%u term=%u%s%s%s%s%s%s%s%s, "
		       "deadline "
		       "%lld claim %lld offer %lld vrrp %lld us from now\n",
		       sim_host_name(i), node->powered ? "" : "off ",
		       node->running ? "" : "not running ", node->synced ? "" : "not synced ",
		       e->config.self == ELECTION_NOBODY ? "no candidate"
		       : e->config.excluded              ? "excluded"
		       : node->eligible                  ? "eligible"
							 : "not eligible",
		       election_state_name(e->state), (int)e->claim, e->speaker,
		       e->lease.exists ? e->lease.holder : ELECTION_NOBODY, e->lease.term,
		       e->lease_seen ? "" : " lease-unseen", e->api_reachable ? " api" : "",
		       e->writing ? " writing" : "", e->silent ? " silent" : "",
		       e->heard_in_term ? " heard-in-term" : "", e->witnessed ? " witnessed" : "",
		       e->offered ? " offered" : "", e->confirmed ? " confirmed" : "",
		       relative(w, virtual_router_deadline(&node->router)),
		       relative(w, e->claim_at_us), relative(w, e->offer_at_us),
		       relative(w, vrrp_router_deadline(&node->router.vrrp)));
	}
}

static void report(const struct options *options, const struct sim_world *w, const char *scenario)
{
	if (!options->trace)
		sim_print_lines(w);
	print_nodes(w);
	sim_config_print(&w->config);
	printf("FAILED at %.6f s: %s\n", (double)w->now_us / 1e6, w->failure);
	if (scenario)
		printf("again: build/dev/test/sim/sim --scenario=%s --trace\n", scenario);
	else
		printf("again: build/dev/test/sim/sim --seed=0x%" PRIx64
		       "%s --until=%.3f --trace\n",
		       w->config.seed, options->base, (double)w->now_us / 1e6 + 0.001);
}

static void print_statistics(const struct sim_statistics *s, unsigned runs, double seconds)
{
	double processor_s = (double)clock() / CLOCKS_PER_SEC;

	printf("%u runs, %" PRIu64 " faults, %" PRIu64 " transitions, %.1f virtual hours, %" PRIu64
	       " events, %.0f s\n",
	       runs, s->faults, s->transitions, (double)s->virtual_us / 3.6e9, s->events, seconds);
	printf("%.0f faults a minute of processor time (%.0f s)\n",
	       (double)s->faults * 60 / processor_s, processor_s);
	printf("two answered one client for at most: single %.3f ms, double %.3f ms; recovery at "
	       "most "
	       "%.1f ms; first answer after at most %.1f ms\n",
	       (double)s->dual_max_us[SIM_REGIME_SINGLE] / 1e3,
	       (double)s->dual_max_us[SIM_REGIME_DOUBLE] / 1e3, (double)s->recover_max_us / 1e3,
	       (double)s->first_max_us / 1e3);
	printf("one fault alone: times, outage of a client in ms (mean, max), transitions "
	       "(max):\n");
	for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
		if (s->outages[i])
			printf("%-13s%8u%10.1f%10.1f%6u\n", sim_fault_name((enum sim_fault)i),
			       s->outages[i], (double)s->outage_sum_us[i] / s->outages[i] / 1e3,
			       (double)s->outage_max_us[i] / 1e3, s->moves_max[i]);
	printf("fault x state of the victim:\n%-13s", "");
	for (unsigned state = 0; state <= ELECTION_STATE_RELEASED; state++)
		printf("%10s", election_state_name((enum election_state)state));
	for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
		printf("\n%-13s", sim_fault_name((enum sim_fault)i));
		for (unsigned state = 0; state <= ELECTION_STATE_RELEASED; state++)
			printf("%10" PRIu64, s->fault_states[i][state]);
	}
	printf("\n");
}

static struct sim_statistics total, second;
static struct sim_world world;

static int run_one(const struct options *options, uint64_t seed, bool twice)
{
	struct sim_config config;
	uint64_t hash;

	make_config(options, seed, &config);
	if (options->verbose || options->runs == 1)
		sim_config_print(&config);
	fflush(stdout);
	hash = run(options, &config, NULL, &total, &world);
	if (world.verdict != SIM_PASSED && options->survey) {
		printf("0x%016" PRIx64 " %s at %.3f s: %s\n", seed,
		       config.leased ? "leased" : "unleased", (double)world.now_us / 1e6,
		       world.failure);
		return (int)world.verdict;
	}
	if (world.verdict != SIM_PASSED) {
		report(options, &world, NULL);
		return (int)world.verdict;
	}
	if (options->verbose || options->runs == 1)
		printf("PASSED 0x%016" PRIx64 " after %.1f s\n", hash, (double)world.now_us / 1e6);
	if (twice && run(options, &config, NULL, &second, &world) != hash) {
		sim_config_print(&config);
		printf("FAILED: the same seed gave 0x%016" PRIx64 " and then 0x%016" PRIx64 "\n",
		       hash, world.hash);
		return SIM_NOT_DETERMINISTIC;
	}
	return 0;
}

static int run_many(const struct options *options)
{
	struct base_random seeds = { options->seed };
	struct timespec begin, now;
	unsigned failed = 0;
	int code = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned i = 0; i < options->runs && (code == 0 || options->survey); i++) {
		uint64_t seed = options->runs > 1 ? base_random_next(&seeds) : options->seed;
		int one = 0;

		if (i >= options->first)
			one = run_one(options, seed, i % 20 == 0 && !options->trace);
		failed += one != 0;
		code = code ? code : one;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (options->runs > 1) {
		print_statistics(&total, options->runs, (double)(now.tv_sec - begin.tv_sec));
		sim_cover_print();
	}
	if (code == 0 && options->cover &&
	    !sim_cover_complete(options->cover, options->runs >= NIGHTLY_RUNS))
		code = SIM_NOT_COVERED;
	if (options->runs > 1)
		printf("%s seed=0x%" PRIx64 " runs=%u failed=%u\n", code ? "FAILED" : "PASSED",
		       options->seed, options->runs, failed);
	return code;
}

static int run_scenario(const struct options *options, const char *path)
{
	struct sim_config config;
	struct scenario *scenario = scenario_read(path, &config);
	int code = SIM_USAGE;

	if (!scenario)
		return SIM_USAGE;
	config.mutant = options->mutant;
	sim_config_print(&config);
	run(options, &config, scenario, &total, &world);
	code = (int)world.verdict;
	if (code)
		report(options, &world, path);
	else
		printf("PASSED 0x%016" PRIx64 " %s\n", world.hash, path);
	scenario_free(scenario);
	return code;
}

/* "SEED [OPTION...] # story" a line. */
static int run_seeds(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[512];
	int code = 0;

	if (!file) {
		fprintf(stderr, "sim: %s: %s\n", path, strerror(errno));
		return SIM_USAGE;
	}
	while (code == 0 && fgets(line, sizeof line, file)) {
		struct options options = { .runs = 2, .regime = -1, .leased = -1 };
		char *word = strtok(line, " \t\n");

		if (!word || word[0] == '#')
			continue;
		code = run_one(&options, parse_seed(word), false);
		printf("%s %s\n", code ? "FAILED" : "PASSED", word);
	}
	fclose(file);
	return code;
}

static bool parse_regime(const char *word, int *regime)
{
	static const char *const words[] = { "single", "double", "chaos" };

	for (unsigned i = 0; i < BASE_COUNT_OF(words); i++)
		if (strcmp(word, words[i]) == 0) {
			*regime = (int)i;
			return true;
		}
	fprintf(stderr, "sim: --regime=%s: single, double or chaos\n", word);
	return false;
}

static bool parse_mutant(const char *word, enum sim_mutant *mutant)
{
	static const char *const words[SIM_MUTANT_COUNT] = {
#define SIM_MUTANT_WORD(name, text) [SIM_MUTANT_##name] = text,
		SIM_MUTANTS(SIM_MUTANT_WORD)
#undef SIM_MUTANT_WORD
	};

	for (unsigned i = 0; i < SIM_MUTANT_COUNT; i++)
		if (strcmp(word, words[i]) == 0) {
			*mutant = (enum sim_mutant)i;
			return true;
		}
	fprintf(stderr, "sim: --mutant=%s: there are", word);
	for (unsigned i = 0; i < SIM_MUTANT_COUNT; i++)
		fprintf(stderr, " %s", words[i]);
	fprintf(stderr, "\n");
	return false;
}

static void remember(struct options *options, const char *format, const char *value)
{
	size_t at = strlen(options->base);

	snprintf(options->base + at, sizeof options->base - at, format, value);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "runs", required_argument, NULL, 'r' },
		{ "until", required_argument, NULL, 'u' },
		{ "trace", no_argument, NULL, 't' },
		{ "without", required_argument, NULL, 'w' },
		{ "nodes", required_argument, NULL, 'n' },
		{ "regime", required_argument, NULL, 'g' },
		{ "leased", required_argument, NULL, 'l' },
		{ "interval", required_argument, NULL, 'i' },
		{ "episodes", required_argument, NULL, 'e' },
		{ "mutant", required_argument, NULL, 'm' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "cover", required_argument, NULL, 'C' },
		{ "scenario", required_argument, NULL, 'S' },
		{ "seeds", required_argument, NULL, 'f' },
		{ "first", required_argument, NULL, 'F' },
		{ "survey", no_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct options options = { .seed = 1, .runs = 1, .regime = -1, .leased = -1 };
	const char *scenario = NULL, *seeds = NULL;
	int option;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		switch (option) {
		case 's':
			options.seed = parse_seed(optarg);
			break;
		case 'r':
			options.runs = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'F':
			options.first = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'u':
			options.until_us = (uint64_t)(strtod(optarg, NULL) * 1e6);
			break;
		case 't':
			options.trace = true;
			break;
		case 'w':
			if (!parse_without(optarg, &options.without))
				return SIM_USAGE;
			remember(&options, " --without=%s", optarg);
			break;
		case 'n':
			options.nodes = (unsigned)strtoul(optarg, NULL, 0);
			if (options.nodes < 2 || options.nodes > SIM_NODES_MAX) {
				fprintf(stderr, "sim: --nodes=%s: 2 to %d\n", optarg,
					SIM_NODES_MAX);
				return SIM_USAGE;
			}
			remember(&options, " --nodes=%s", optarg);
			break;
		case 'g':
			if (!parse_regime(optarg, &options.regime))
				return SIM_USAGE;
			remember(&options, " --regime=%s", optarg);
			break;
		case 'l':
			options.leased = strcmp(optarg, "no") != 0;
			remember(&options, " --leased=%s", optarg);
			break;
		case 'i':
			options.interval_ms = (unsigned)strtoul(optarg, NULL, 0);
			remember(&options, " --interval=%s", optarg);
			break;
		case 'e':
			options.episodes = (unsigned)strtoul(optarg, NULL, 0);
			remember(&options, " --episodes=%s", optarg);
			break;
		case 'm':
			if (!parse_mutant(optarg, &options.mutant))
				return SIM_USAGE;
			remember(&options, " --mutant=%s", optarg);
			break;
		case 'v':
			options.verbose = true;
			break;
		case 'k':
			options.survey = true;
			break;
		case 'C':
			options.cover = optarg;
			break;
		case 'S':
			scenario = optarg;
			break;
		case 'f':
			seeds = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return SIM_USAGE;
		}
	}
	if (optind < argc || options.runs == 0) {
		usage(stderr);
		return SIM_USAGE;
	}
	if (scenario)
		return run_scenario(&options, scenario);
	return seeds ? run_seeds(seeds) : run_many(&options);
}
