#pragma once

#include <stdbool.h>

struct engine;

/*
 * Network plugins that take packets to a Service's address before our rules see them, or instead of
 * them, known by the interface they make. Where one is, the data plane `auto` means `announce`.
 */
struct balancer {
	const char *interface, *name;
};

/* Looks what is on this node; true: it is something else than before (and the log says so). */
bool balancer_review(struct engine *engine);
