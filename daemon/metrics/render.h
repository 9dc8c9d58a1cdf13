#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/metrics/counters.h"
#include "daemon/metrics/text.h"

/*
 * From numbers to the page of a node. `data`, `size`: what the engine told (daemon/metrics/record.h);
 * NULL: it does not answer. Names and labels are a stable interface; README.md lists them.
 *
 * Of a virtual IP everybody who knows it says whether he owns it and whether he may; the rest is said
 * by its owner alone, or a thousand addresses would be many thousand series on every node.
 */
struct render_node {
	const char *node, *role; /* "speaker", "standalone" */
	uint64_t wall_us;
	unsigned engine; /* its process, for process_*; 0: not known */
	const struct counters *counters;
};

void render_node(struct metrics_text *text, const struct render_node *node, const void *data,
		 size_t size);

/* What is asked of the API server; also a part of the controller's page. */
void render_api(struct metrics_text *text, const struct k8s_counters *counters);
void render_build(struct metrics_text *text, const char *role, const char *node);
/* process_* of a process, as far as it lets itself be read. */
void render_process(struct metrics_text *text, unsigned pid, uint64_t wall_us);
