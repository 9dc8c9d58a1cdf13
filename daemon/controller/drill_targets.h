#pragma once

#include "daemon/controller/drill.h"
#include "daemon/controller/state.h"

/*
 * The addresses that a drill is about, lowest first, as an array of texts that the caller frees: one, those
 * of a Service, those that a node owns (of them the first, if the node as a whole is broken), those of a
 * pool. 0, or -errno and why there is none.
 */
int drill_targets(const struct state *state, const cJSON *drill, cJSON **addresses,
		  struct base_error *error);

/*
 * How the address is asked for: the protocol of the spec (ARP if it says none) and, of TCP and UDP, its port or
 * the first one of a Service that holds the address. 0, or -ENOENT and what is missing.
 */
int drill_choose_probe(const struct state *state, const cJSON *drill,
		       const struct base_address *address, struct drill_plan *plan,
		       struct base_error *error);
