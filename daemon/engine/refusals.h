#pragma once

#include "daemon/engine/node.h"

/* Who wants an element, as nft/io/table.h keeps it: a port, an address (no protocol), the members (nothing). */
struct refusals_source {
	struct base_address address;
	uint8_t protocol;
	uint16_t port;
};

/*
 * What the kernel does not take of the rules, whose it is, and what to do, for the log, the status and the feeder; said
 * when it begins, when it changes and when it is over. All else is in the kernel. A router whose own elements are
 * among them has no fence, or is not translated: it may not own its address.
 */
void refusals_review(struct engine *engine);
