#include <stdio.h>
#include <string.h>

#include "test/sim/sim.h"

/*
 * Which cells of the cores' tables were entered: state x event x (acted, ignored). The linker puts
 * these functions between virtual_router and the two machines (--wrap), so the cores stay as they
 * are released.
 */
#define ELECTION_STATES (ELECTION_STATE_RELEASED + 1)
#define ELECTION_EVENTS (ELECTION_EVENT_OVERSLEPT + 1)
#define VRRP_STATES     (VRRP_STATE_ACTIVE + 1)
#define VRRP_EVENTS     (VRRP_EVENT_LISTEN + 1)

static uint64_t election_cells[ELECTION_STATES][ELECTION_EVENTS][2];
static uint64_t vrrp_cells[VRRP_STATES][VRRP_EVENTS][2];
static uint64_t reasons[BASE_REASON_COUNT];
/* The same while a fault was active, whether acted on or not. */
static uint64_t fault_cells[SIM_FAULT_COUNT][ELECTION_STATES][ELECTION_EVENTS];
static unsigned active[SIM_FAULT_COUNT];

static const char *const election_events[ELECTION_EVENTS] = {
	[ELECTION_EVENT_TIMER] = "timer",
	[ELECTION_EVENT_MISSED] = "missed",
	[ELECTION_EVENT_SUSPECT] = "suspect",
	[ELECTION_EVENT_SILENCE] = "silence",
	[ELECTION_EVENT_HEARD] = "heard",
	[ELECTION_EVENT_HELD] = "held",
	[ELECTION_EVENT_LEASE] = "lease",
	[ELECTION_EVENT_RENEWED] = "renewed",
	[ELECTION_EVENT_WRITTEN] = "written",
	[ELECTION_EVENT_API] = "api",
	[ELECTION_EVENT_WITNESSES] = "witnesses",
	[ELECTION_EVENT_ELIGIBLE] = "eligible",
	[ELECTION_EVENT_ADDRESS_FREE] = "free",
	[ELECTION_EVENT_ADDRESS_TAKEN] = "taken",
	[ELECTION_EVENT_HANDOVER] = "handover",
	[ELECTION_EVENT_RELEASE] = "release",
	[ELECTION_EVENT_ADOPT] = "adopt",
	[ELECTION_EVENT_DOZED] = "dozed",
	[ELECTION_EVENT_OVERSLEPT] = "overslept",
};

static const char *const vrrp_states[VRRP_STATES] = { "Initialize", "Backup", "Active" };
static const char *const vrrp_events[VRRP_EVENTS] = { "startup",  "shutdown", "timer",  "advert",
						      "activate", "yield",    "resign", "listen" };

void __real_election_elector_step(struct election_elector *elector,
				  const struct election_event *event,
				  struct election_actions *actions);
void __wrap_election_elector_step(struct election_elector *elector,
				  const struct election_event *event,
				  struct election_actions *actions);
void __real_vrrp_router_step(struct vrrp_router *router, const struct vrrp_event *event,
			     struct vrrp_actions *actions);
void __wrap_vrrp_router_step(struct vrrp_router *router, const struct vrrp_event *event,
			     struct vrrp_actions *actions);

static enum sim_mutant mutant;

void sim_cover_mutate(enum sim_mutant wanted)
{
	mutant = wanted;
	memset(active, 0, sizeof active); /* a run begins */
}

void sim_cover_fault(enum sim_fault fault, bool begin)
{
	active[fault] += begin ? 1 : (unsigned)-1;
}

/* The core stays as it is: what goes in is bent, or what comes out is lost. */
static bool mutate(struct election_elector *elector, struct election_event *event)
{
	switch (mutant) {
	case SIM_MUTANT_HEARD:
		elector->heard_in_term = true;
		return true;
	case SIM_MUTANT_QUORUM:
		if (event->type == ELECTION_EVENT_WITNESSES) {
			event->witnesses = UINT32_MAX;
			event->gateway_reachable = event->gateway_known;
		}
		return true;
	case SIM_MUTANT_OVERSLEPT:
		return event->type != ELECTION_EVENT_OVERSLEPT;
	case SIM_MUTANT_FENCE: /* or whoever is still answered for would be left alone */
	case SIM_MUTANT_HELD:
		return event->type != ELECTION_EVENT_HELD;
	case SIM_MUTANT_RIVAL:
		return event->type != ELECTION_EVENT_HEARD || !election_elector_owns(elector);
	case SIM_MUTANT_WITNESS:
		if (event->type == ELECTION_EVENT_HEARD && event->from < elector->config.candidate_count)
			elector->config.peers[event->from].answered_us = event->now_us;
		return true;
	case SIM_MUTANT_ABSENT: /* two adverts missing are enough, its fence may be open */
		event->missing = UINT32_MAX;
		return true;
	case SIM_MUTANT_PROOF:
		elector->unanswered = 0;
		return true;
	case SIM_MUTANT_TURN:
	case SIM_MUTANT_NONE:
	case SIM_MUTANT_CAS:
	case SIM_MUTANT_COUNT:
		break;
	}
	return true;
}

void __wrap_election_elector_step(struct election_elector *elector,
				  const struct election_event *event,
				  struct election_actions *actions)
{
	enum election_state before = elector->state;
	struct election_event bent = *event;
	bool acted;

	actions->count = 0;
	if (!mutate(elector, &bent))
		return;
	__real_election_elector_step(elector, &bent, actions);
	for (unsigned i = 0; mutant == SIM_MUTANT_TURN && i < actions->count; i++)
		actions->items[i].planned |= actions->items[i].type == ELECTION_ACTION_ACTIVATE;
	acted = actions->count > 0 || elector->state != before;
	election_cells[before][event->type][acted]++;
	for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
		fault_cells[i][before][event->type] += active[i] > 0;
	for (unsigned i = 0; i < actions->count; i++)
		if (actions->items[i].type == ELECTION_ACTION_TRANSITION)
			reasons[actions->items[i].why]++;
}

void __wrap_vrrp_router_step(struct vrrp_router *router, const struct vrrp_event *event,
			     struct vrrp_actions *actions)
{
	enum vrrp_state before = router->state;
	uint8_t priority = router->config.priority;
	bool acted;

	/* A backup's turns: a sixteenth of an interval one after the other, no more. */
	if (mutant == SIM_MUTANT_TURN && before == VRRP_STATE_BACKUP &&
	    event->type != VRRP_EVENT_ACTIVATE)
		router->config.priority = (uint8_t)(254 - (254 - priority) / 4);
	__real_vrrp_router_step(router, event, actions);
	router->config.priority = priority;
	acted = actions->count > 0 || router->state != before;
	vrrp_cells[before][event->type][acted]++;
}

static void print_count(uint64_t count)
{
	if (count >= 10000000)
		printf("%6lluM", (unsigned long long)(count / 1000000));
	else if (count >= 10000)
		printf("%6lluk", (unsigned long long)(count / 1000));
	else if (count > 0)
		printf("%7llu", (unsigned long long)count);
	else
		printf("      .");
}

void sim_cover_print(void)
{
	printf("election: state x event, acted over ignored\n%-10s", "");
	for (unsigned e = 0; e < ELECTION_EVENTS; e++)
		printf("%10s", election_events[e]);
	printf("\n");
	for (unsigned s = 0; s < ELECTION_STATES; s++)
		for (int acted = 1; acted >= 0; acted--) {
			printf("%-10s", acted ? election_state_name((enum election_state)s) : "");
			for (unsigned e = 0; e < ELECTION_EVENTS; e++) {
				printf("   ");
				print_count(election_cells[s][e][acted]);
			}
			printf("\n");
		}
	printf("vrrp: state x event, acted over ignored\n%-10s", "");
	for (unsigned e = 0; e < VRRP_EVENTS; e++)
		printf("%10s", vrrp_events[e]);
	printf("\n");
	for (unsigned s = 0; s < VRRP_STATES; s++)
		for (int acted = 1; acted >= 0; acted--) {
			printf("%-10s", acted ? vrrp_states[s] : "");
			for (unsigned e = 0; e < VRRP_EVENTS; e++) {
				printf("   ");
				print_count(vrrp_cells[s][e][acted]);
			}
			printf("\n");
		}
	printf("reasons:");
	for (unsigned i = 0; i < BASE_REASON_COUNT; i++)
		if (reasons[i])
			printf(" %s %llu", base_reason_word((enum base_reason)i),
			       (unsigned long long)reasons[i]);
	printf("\n");
}

static int column_of(const char *word)
{
	for (unsigned e = 0; e < ELECTION_EVENTS; e++)
		if (strcmp(word, election_events[e]) == 0)
			return (int)e;
	return -1;
}

static char *cell(char **line)
{
	char *start = *line, *end;

	if (*start == '|')
		start++;
	while (*start == ' ')
		start++;
	end = strchr(start, '|');
	if (!end)
		return NULL;
	*line = end + 1;
	do
		*end-- = '\0';
	while (end >= start && *end == ' ');
	return start;
}

/* Nothing is heard of the API server while it is away; what happens in an instant has no time. */
static bool has_no_time(enum sim_fault fault)
{
	return fault == SIM_FAULT_HANDOVER || fault == SIM_FAULT_ADDRESS ||
	       fault == SIM_FAULT_LEASE || fault == SIM_FAULT_PRIORITIES;
}

static bool cannot_be(enum sim_fault fault, unsigned event)
{
	return fault == SIM_FAULT_API_DOWN &&
	       (event == ELECTION_EVENT_LEASE || event == ELECTION_EVENT_WRITTEN);
}

/* Held: under every fault nine of ten cells that are reached often must have been entered. */
static bool faults_complete(bool often[ELECTION_STATES][ELECTION_EVENTS], bool held)
{
	bool complete = true;

	printf("fault x state x event: cells entered while it was active, and which were not\n");
	for (unsigned f = 0; f < SIM_FAULT_COUNT; f++) {
		unsigned entered = 0, all = 0;

		printf("%-12s", sim_fault_name((enum sim_fault)f));
		for (unsigned s = 0; s < ELECTION_STATES; s++)
			for (unsigned e = 0; e < ELECTION_EVENTS; e++) {
				if (!often[s][e] || cannot_be((enum sim_fault)f, e))
					continue;
				all++;
				entered += fault_cells[f][s][e] > 0;
				if (!fault_cells[f][s][e] && !has_no_time((enum sim_fault)f))
					printf(" %s/%s",
					       election_state_name((enum election_state)s),
					       election_events[e]);
			}
		printf(" %u of %u\n", entered, all);
		if (held && !has_no_time((enum sim_fault)f) && entered * 10 < all * 9) {
			printf("not covered: %s\n", sim_fault_name((enum sim_fault)f));
			complete = false;
		}
	}
	return complete;
}

/*
 * The table of election/README.md: a cell that does not say "-" is reachable and must be reached;
 * with `rare` also those marked by "~".
 */
bool sim_cover_complete(const char *readme, bool rare)
{
	FILE *file = fopen(readme, "r");
	char text[512], *at, *word;
	int columns[ELECTION_EVENTS + 1] = { 0 }, count = 0, rows = 0;
	bool often[ELECTION_STATES][ELECTION_EVENTS] = { { false } };
	bool complete = true;

	if (!file) {
		printf("cannot read the table in %s\n", readme);
		return false;
	}
	while (fgets(text, sizeof text, file)) {
		unsigned state = 0;

		at = text;
		if (text[0] != '|' || !(word = cell(&at)))
			continue;
		if (strcmp(word, "state") == 0) {
			for (count = 0; (word = cell(&at)) && count < (int)ELECTION_EVENTS; count++)
				columns[count] = column_of(word);
			continue;
		}
		while (state < ELECTION_STATES &&
		       strcmp(word, election_state_name((enum election_state)state)) != 0)
			state++;
		if (count == 0 || state == ELECTION_STATES)
			continue;
		rows++;
		for (int i = 0; i < count && (word = cell(&at)); i++) {
			if (columns[i] >= 0)
				often[state][columns[i]] = word[0] != '-' && word[0] != '~';
			if (columns[i] >= 0 && strcmp(word, "-") != 0 && (rare || word[0] != '~') &&
			    election_cells[state][columns[i]][1] == 0) {
				printf("not covered: %s x %s: %s\n",
				       election_state_name((enum election_state)state),
				       election_events[columns[i]], word);
				complete = false;
			}
		}
	}
	fclose(file);
	if (rows != ELECTION_STATES) {
		printf("%s has a table of %d states, there are %d\n", readme, rows,
		       (int)ELECTION_STATES);
		complete = false;
	}
	return faults_complete(often, rare) && complete;
}
