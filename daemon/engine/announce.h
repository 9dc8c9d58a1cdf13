#pragma once

#include <stddef.h>

#include "base/address.h"

struct segment;

/* Tells the segment that the addresses are at `mac`: gratuitous ARP in both forms, unsolicited NA. */
void announce(struct segment *segment, const struct base_mac *mac,
	      const struct base_address *addresses, size_t count);
