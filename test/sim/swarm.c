#include <inttypes.h>
#include <stdio.h>

#include "base/array.h"
#include "daemon/agent/cadence.h"
#include "test/sim/sim.h"

/* Everything a run depends on, drawn from its seed. */

#define BIT(fault) (UINT64_C(1) << SIM_FAULT_##fault)

static uint64_t between(struct base_random *random, uint64_t low, uint64_t high)
{
	return low + base_random_below(random, high - low + 1);
}

static const uint64_t only_leased = BIT(AGENT) | BIT(API_DOWN) | BIT(API_CUT) | BIT(API_SLOW) |
				    BIT(API_LOST) | BIT(WATCH) | BIT(SWALLOW) | BIT(LEASE) | BIT(HANDOVER) |
				    BIT(FORGED) | BIT(HIDDEN); /* nothing but the Lease helps against those */

void sim_swarm_draw(uint64_t seed, struct sim_config *config)
{
	static const uint32_t intervals_ms[] = { 10, 20, 50, 100, 100, 100, 100, 200, 1000 };
	struct base_random random = { seed };

	*config = (struct sim_config){ .seed = seed };
	config->nodes = (unsigned)between(&random, 2, SIM_NODES_MAX);
	config->leased = between(&random, 0, 2) > 0;
	config->unicast = between(&random, 0, 4) == 0;
	config->gateway = between(&random, 0, 3) > 0;
	config->regime = (enum sim_regime)between(&random, 0, SIM_REGIME_COUNT - 1);
	config->interval_us =
		intervals_ms[between(&random, 0, BASE_COUNT_OF(intervals_ms) - 1)] * 1000;
	config->lan_min_us = (uint32_t)between(&random, 10, 100);
	config->lan_max_us = config->lan_min_us + (uint32_t)between(&random, 10, 400);
	config->api_min_us = (uint32_t)between(&random, 500, 3000);
	config->api_max_us = config->api_min_us + (uint32_t)between(&random, 500, 10000);
	config->watch_min_us = (uint32_t)between(&random, 500, 3000);
	config->watch_max_us = config->watch_min_us + (uint32_t)between(&random, 500, 10000);
	config->wake_max_us = (uint32_t)between(&random, 100, 1100);
	for (unsigned i = 0; i < SIM_NODES_MAX; i++)
		config->priorities[i] = (uint8_t)between(&random, 1, 254);
	if (between(&random, 0, 3) == 0) /* equal ones: addresses decide */
		for (unsigned i = 1; i < SIM_NODES_MAX; i++)
			config->priorities[i] = config->priorities[0];
	/* All classes, or a few of them often. */
	config->faults = (UINT64_C(1) << SIM_FAULT_COUNT) - 1;
	if (between(&random, 0, 2) > 0)
		config->faults &= base_random_next(&random) | base_random_next(&random);
	if (!config->leased)
		config->faults &= ~only_leased;
	if (!config->gateway)
		config->faults &= ~BIT(GATEWAY);
	config->episodes = (unsigned)between(&random, 10, 40);
	config->renew_us = between(&random, 0, 1) ? CADENCE_RENEW_MIN_US : CADENCE_RENEW_MAX_US;
	config->quiet_us = (between(&random, 0, 29) == 0 ? 3600 : 40) * BASE_USEC_PER_SEC;
	if (between(&random, 0, 3) == 0) /* last, so that older seeds stay what they were */
		config->stall_max_us = config->interval_us < 100000 ? config->interval_us / 10 : 10000;
}

void sim_config_print(const struct sim_config *config)
{
	static const char *const regimes[] = { "single", "double", "chaos" };

	printf("seed=0x%" PRIx64 " version=%s nodes=%u %s %s interval=%u regime=%s lan=%u-%u "
	       "api=%u-%u watch=%u-%u wake=%u stall=%u gateway=%s priorities=",
	       config->seed, VIPD_VERSION, config->nodes, config->leased ? "leased" : "unleased",
	       config->unicast ? "unicast" : "multicast", config->interval_us / 1000,
	       regimes[config->regime], config->lan_min_us, config->lan_max_us, config->api_min_us,
	       config->api_max_us, config->watch_min_us, config->watch_max_us, config->wake_max_us,
	       config->stall_max_us,
	       config->gateway ? "yes" : "no");
	for (unsigned i = 0; i < config->nodes; i++)
		printf("%s%u", i ? "," : "", config->priorities[i]);
	printf(" renew=%" PRIu64, config->renew_us / BASE_USEC_PER_SEC);
	printf(" episodes=%u quiet=%" PRIu64 " faults=", config->episodes,
	       config->quiet_us / BASE_USEC_PER_SEC);
	for (unsigned i = 0, any = 0; i < SIM_FAULT_COUNT; i++)
		if (config->faults >> i & 1)
			printf("%s%s", any++ ? "," : "", sim_fault_name((enum sim_fault)i));
	printf("\n");
}
