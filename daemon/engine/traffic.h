#pragma once

#include <stddef.h>

#include "daemon/metrics/record.h"

struct engine;

/*
 * What the kernel counted per address, protocol and port (nft/io/counters.h), as of the last reading: it takes
 * longer than one turn of the loop may, so asking begins the next one and answers what the one before found.
 */
struct traffic;

int traffic_new(struct traffic **traffic, struct engine *engine);
void traffic_free(struct traffic *traffic);

/* Those that counted anything; valid until the loop's next turn. NULL is fine: none. */
const struct record_traffic *traffic_get(struct traffic *traffic, size_t *count);
