#include "test/sim/sim.h"
struct scenario *scenario_read(const char *path, struct sim_config *config){(void)path;(void)config;return 0;}
void scenario_start(struct sim_world *world){(void)world;}
void scenario_free(struct scenario *scenario){(void)scenario;}
void scenario_check(struct sim_world *world){(void)world;}
