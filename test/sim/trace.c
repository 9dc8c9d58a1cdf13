#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "test/sim/sim.h"

const char *sim_host_name(unsigned host)
{
	static const char *const names[SIM_HOSTS] = { "n1",      "n2",      "n3",
						      "n4",      "n5",      "gateway",
						      "client1", "client2", "stranger" };

	return host < SIM_HOSTS ? names[host] : host == SIM_TARGET_VIP ? "vip" : "-";
}

static const char *const fault_names[SIM_FAULT_COUNT] = {
#define SIM_FAULT_NAME(name, word) [SIM_FAULT_##name] = word,
	SIM_FAULTS(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
};

const char *sim_fault_name(enum sim_fault fault)
{
	return fault_names[fault];
}

bool sim_fault_parse(const char *word, enum sim_fault *fault)
{
	for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
		if (strcmp(word, fault_names[i]) == 0) {
			*fault = (enum sim_fault)i;
			return true;
		}
	return false;
}

static void print_line(const struct sim_line *line)
{
	static const char *const results[] = { "ok", "conflict", "unknown", "refused" };

	printf("%12.6f %-9s ", (double)line->time_us / 1e6,
	       line->host == SIM_NOBODY ? "" : sim_host_name(line->host));
	switch ((enum sim_trace_kind)line->kind) {
	case SIM_TRACE_FAULT:
		printf("FAULT %s %s for %u us\n", sim_fault_name((enum sim_fault)line->a),
		       sim_host_name(line->b), line->c);
		return;
	case SIM_TRACE_HEAL:
		printf("healed %s %s\n", sim_fault_name((enum sim_fault)line->a),
		       sim_host_name(line->b));
		return;
	case SIM_TRACE_PROCESS: {
		static const char *const what[] = {
			"starts",    "is killed",    "gets SIGTERM",    "ends",    "runs on",
			"is synced", "agent starts", "agent is killed", "may own", "may not own"
		};

		printf("%s\n", what[line->a]);
		return;
	}
	case SIM_TRACE_ADVERT:
		printf("advert %u%s\n", line->a, line->b ? "" : " (could not be sent)");
		return;
	case SIM_TRACE_HEARD:
		printf("hears %u from %s%s\n", line->a, sim_host_name(line->b),
		       line->b == line->c ? "" : " (forged)");
		return;
	case SIM_TRACE_DISBELIEVE:
		printf("does not believe %s\n", sim_host_name(line->a));
		return;
	case SIM_TRACE_FENCE:
		printf("fence %s\n", line->a == 0   ? "closed"
				     : line->a == 1 ? "open"
				     : line->a == 2 ? "leaving"
						    : "expired");
		return;
	case SIM_TRACE_ADDRESS:
		printf("address %s\n", line->a ? "in" : "out");
		return;
	case SIM_TRACE_ANNOUNCE:
		printf("announces\n");
		return;
	case SIM_TRACE_TRANSITION:
		printf("transition %s: %s -> %s\n", base_reason_word((enum base_reason)line->a),
		       sim_host_name(line->b), sim_host_name(line->c));
		return;
	case SIM_TRACE_STATE:
		printf("%s -> %s%s\n", election_state_name((enum election_state)line->a),
		       election_state_name((enum election_state)line->b),
		       line->c ? ", confirmed" : "");
		return;
	case SIM_TRACE_WRITE:
		printf("%s lease: holder %s, term %u\n", line->c ? "writes" : "reads",
		       sim_host_name(line->a), line->b);
		return;
	case SIM_TRACE_LANDED:
		printf("landed: holder %s, term %u, version %u\n", sim_host_name(line->a), line->b,
		       line->c);
		return;
	case SIM_TRACE_RESULT:
		printf("write %u: %s\n", line->b, results[line->a]);
		return;
	case SIM_TRACE_LEASE:
		printf("sees lease: holder %s, term %u, version %u\n", sim_host_name(line->a),
		       line->b, line->c);
		return;
	case SIM_TRACE_API:
		printf("api %s\n", line->a ? "reachable" : "unreachable");
		return;
	case SIM_TRACE_CACHE:
		printf("has the address at %s\n", sim_host_name(line->a));
		return;
	case SIM_TRACE_PROBE:
		printf("asks for %s\n", line->a == 1 ? "the address" : "its witnesses");
		return;
	case SIM_TRACE_JUDGE:
		printf("answering: ");
		for (unsigned i = 0; i < SIM_NODES_MAX; i++)
			if (line->a & 1u << i)
				printf("%s ", sim_host_name(i));
		printf("%s\n", line->a ? "" : "nobody");
		return;
	}
}

void sim_trace(struct sim_world *world, enum sim_trace_kind kind, unsigned host, uint32_t a,
	       uint32_t b, uint32_t c)
{
	struct sim_line *line = &world->lines[world->line_count++ % SIM_TRACE_LINES];
	uint64_t words[3];

	*line = (struct sim_line){ world->now_us, (uint8_t)kind, (uint8_t)host, a, b, c };
	words[0] = line->time_us;
	words[1] = (uint64_t)kind << 40 | (uint64_t)host << 32 | a;
	words[2] = (uint64_t)b << 32 | c;
	for (unsigned i = 0; i < 3; i++) {
		world->hash ^= words[i] + UINT64_C(0x9e3779b97f4a7c15) + (world->hash << 6) +
			       (world->hash >> 2);
		world->hash *= UINT64_C(0xff51afd7ed558ccd);
	}
	if (world->trace)
		print_line(line);
}

void sim_print_lines(const struct sim_world *world)
{
	unsigned first =
		world->line_count > SIM_TRACE_LINES ? world->line_count - SIM_TRACE_LINES : 0;

	for (unsigned i = first; i < world->line_count; i++)
		print_line(&world->lines[i % SIM_TRACE_LINES]);
}

void sim_fail(struct sim_world *world, enum sim_verdict verdict, const char *format, ...)
{
	va_list arguments;

	if (world->verdict != SIM_PASSED)
		return; /* the first is the one to look at */
	va_start(arguments, format);
	vsnprintf(world->failure, sizeof world->failure, format, arguments);
	va_end(arguments);
	world->verdict = verdict;
	world->done = true;
}
