#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/agent/cadence.h"
#include "test/sim/sim.h"

/*
 * A run told line by line instead of drawn: what was once wrong, kept. Times are seconds, victims
 * are n1..n5, "owner" or "other" (a candidate that does not own it).
 *
 *	# what went wrong
 *	nodes 3  leased  interval 100  regime single  priorities 200,150,100
 *	at 2.000 pause owner for 0.400
 *	at 4.000 cut owner other for 1
 *	at 6.000 stop owner for 6
 *	expect transitions <= 2
 *	expect dark <= 0.300
 *	expect dual <= 0.002
 *
 * Everything that judge.c holds against a drawn run holds here, too. The last fault must be healed
 * before the end: the run ends when all is settled.
 */
#define STEPS_MAX   32
#define EXPECTS_MAX 8

struct step {
	uint64_t time_us, duration_us;
	enum sim_fault fault;
	char victim[16], second[16];
	bool done;
};

struct expect {
	char what[16];
	double most;
};

struct scenario {
	unsigned step_count, expect_count;
	struct step steps[STEPS_MAX];
	struct expect expects[EXPECTS_MAX];
};

static bool parse_settings(char *line, struct sim_config *config)
{
	char *save = NULL, *word = strtok_r(line, " \t\n", &save);

	for (; word; word = strtok_r(NULL, " \t\n", &save)) {
		char *value;

		if (strcmp(word, "leased") == 0 || strcmp(word, "unleased") == 0) {
			config->leased = word[0] == 'l';
			continue;
		}
		if (strcmp(word, "unicast") == 0 || strcmp(word, "nogateway") == 0) {
			config->unicast = config->unicast || word[0] == 'u';
			config->gateway = config->gateway && word[0] == 'u';
			continue;
		}
		value = strtok_r(NULL, " \t\n", &save);
		if (!value)
			return false;
		if (strcmp(word, "seed") == 0) {
			config->seed = strtoull(value, NULL, 0);
		} else if (strcmp(word, "nodes") == 0) {
			config->nodes = (unsigned)strtoul(value, NULL, 10);
		} else if (strcmp(word, "interval") == 0) {
			config->interval_us = (uint32_t)strtoul(value, NULL, 10) * 1000;
		} else if (strcmp(word, "api") == 0) {
			config->api_min_us = config->api_max_us =
				(uint32_t)(strtod(value, NULL) * 1000);
			config->watch_min_us = config->watch_max_us = config->api_min_us;
		} else if (strcmp(word, "watch") == 0) { /* after `api`, if it is not the same */
			config->watch_min_us = config->watch_max_us =
				(uint32_t)(strtod(value, NULL) * 1000);
		} else if (strcmp(word, "regime") == 0) {
			config->regime = value[0] == 's'   ? SIM_REGIME_SINGLE
					 : value[0] == 'd' ? SIM_REGIME_DOUBLE
							   : SIM_REGIME_CHAOS;
		} else if (strcmp(word, "priorities") == 0) {
			for (unsigned i = 0; i < SIM_NODES_MAX && *value; i++) {
				config->priorities[i] = (uint8_t)strtoul(value, &value, 10);
				value += *value == ',';
			}
		} else {
			return false;
		}
	}
	return config->nodes >= 2 && config->nodes <= SIM_NODES_MAX && config->interval_us > 0;
}

static bool parse_step(const char *line, struct step *step)
{
	char fault[24], rest[64] = "";
	double time, duration = 0.001;

	if (sscanf(line, "at %lf %23s %63[^\n]", &time, fault, rest) < 2 ||
	    !sim_fault_parse(fault, &step->fault))
		return false;
	step->time_us = (uint64_t)(time * 1e6);
	if (sscanf(rest, "for %lf", &duration) != 1 &&
	    sscanf(rest, "%15s for %lf", step->victim, &duration) != 2 &&
	    sscanf(rest, "%15s %15s for %lf", step->victim, step->second, &duration) != 3 &&
	    rest[0] && sscanf(rest, "%15s %15s", step->victim, step->second) < 1)
		return false;
	step->duration_us = (uint64_t)(duration * 1e6);
	return true;
}

static bool parse_line(char *line, struct scenario *scenario, struct sim_config *config)
{
	struct expect *expect = &scenario->expects[scenario->expect_count];

	if (line[0] == '#' || line[0] == '\n' || line[0] == '\0')
		return true;
	if (strncmp(line, "at ", 3) == 0)
		return scenario->step_count < STEPS_MAX &&
		       parse_step(line, &scenario->steps[scenario->step_count++]);
	if (strncmp(line, "expect ", 7) == 0)
		return scenario->expect_count++ < EXPECTS_MAX &&
		       sscanf(line, "expect %15s <= %lf", expect->what, &expect->most) == 2;
	return parse_settings(line, config);
}

struct scenario *scenario_read(const char *path, struct sim_config *config)
{
	FILE *file = fopen(path, "r");
	struct scenario *scenario = calloc(1, sizeof *scenario);
	char line[256], copy[256];
	unsigned number = 0;

	*config = (struct sim_config){ .seed = 1,
				       .nodes = 3,
				       .leased = true,
				       .gateway = true,
				       .regime = SIM_REGIME_SINGLE,
				       .interval_us = 100000,
				       .lan_min_us = 50,
				       .lan_max_us = 200,
				       .api_min_us = 2500,
				       .api_max_us = 2500,
				       .watch_min_us = 3000,
				       .watch_max_us = 3000,
				       .renew_us = CADENCE_RENEW_MIN_US,
				       .wake_max_us = 1000,
				       .priorities = { 200, 150, 100, 80, 60 } };
	if (!file || !scenario) {
		fprintf(stderr, "sim: %s: %s\n", path, strerror(errno));
		free(scenario);
		return NULL;
	}
	while (fgets(line, sizeof line, file)) {
		number++;
		memcpy(copy, line, sizeof copy);
		if (parse_line(copy, scenario, config))
			continue;
		fprintf(stderr, "sim: %s:%u: not understood: %s", path, number, line);
		free(scenario);
		scenario = NULL;
		break;
	}
	fclose(file);
	return scenario;
}

static unsigned victim(const struct sim_world *world, const char *word, unsigned not_this)
{
	for (unsigned i = 0; i < world->config.nodes; i++)
		if (strcmp(word, sim_host_name(i)) == 0)
			return i;
	if (strcmp(word, "other") != 0 && world->owner != SIM_NOBODY && world->owner != not_this)
		return world->owner;
	for (unsigned i = 0; i < world->config.nodes; i++)
		if (i != world->owner && i != not_this)
			return i;
	return 0;
}

/* Called by the plan at every tick; false: the last step is done. */
bool scenario_step(struct sim_world *world)
{
	struct scenario *scenario = world->scenario;
	bool more = false;

	for (unsigned i = 0; i < scenario->step_count; i++) {
		struct step *step = &scenario->steps[i];
		unsigned a, b;

		if (step->done)
			continue;
		more = true;
		if (world->now_us < step->time_us)
			continue;
		step->done = true;
		a = victim(world, step->victim, SIM_NOBODY);
		b = victim(world, step->second[0] ? step->second : "other", a);
		sim_fault_begin(world, step->fault, a, b, step->duration_us, world->config.seed);
	}
	return more;
}

void scenario_check(struct sim_world *world)
{
	const struct scenario *scenario = world->scenario;

	for (unsigned i = 0; i < scenario->expect_count; i++) {
		const struct expect *expect = &scenario->expects[i];
		double is;

		if (strcmp(expect->what, "transitions") == 0)
			is = world->statistics->transitions;
		else if (strcmp(expect->what, "dark") == 0)
			is = (double)world->episode_unserved_us / 1e6;
		else if (strcmp(expect->what, "unanswered") == 0) /* for who does not know where it is */
			is = (double)world->unanswered_us / 1e6;
		else if (strcmp(expect->what, "dual") == 0)
			is = (double)world->statistics->dual_max_us[world->config.regime] / 1e6;
		else if (strcmp(expect->what, "first") == 0)
			is = (double)world->statistics->first_max_us / 1e6;
		else
			is = expect->most + 1;
		if (is > expect->most)
			sim_fail(world, SIM_LIVENESS, "%s is %.6f, expected at most %.6f",
				 expect->what, is, expect->most);
	}
}

void scenario_free(struct scenario *scenario)
{
	free(scenario);
}
