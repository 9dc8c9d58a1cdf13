#pragma once

#include <stdbool.h>
#include <stddef.h>

struct engine;

/*
 * The kernel's connection tracking translates for us. It can be told to believe no connection that it did not see begin
 * (then those of a VM that moves here hang), and when its table is full it drops what is new. Both are the node's settings, not ours.
 */

/* What the numbers mean; -1: not there. "" if nothing is wrong. `full`: what it was before, so that it does not flap. */
void tracking_judge(long count, long max, long loose, bool *full, char *text, size_t size);

/* Every few seconds: what is wrong, said once. */
void tracking_look(struct engine *engine);
