#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

struct router;

/*
 * Which router has an address. Whoever asks is told by a search in a sorted list, which is made
 * anew after a router came, went or changed its addresses: every ARP answer on the LAN asks, and
 * every port of every Service when rules are made.
 */
struct address_index {
	bool known;
	size_t count, capacity;
	struct address_index_entry {
		struct base_address address;
		struct router *router;
	} *entries;
};

void address_index_forget(struct address_index *index);
void address_index_free(struct address_index *index);

/* `routers` is the list it is made of. NULL: nobody has the address. */
struct router *address_index_find(struct address_index *index, struct router *routers,
				  const struct base_address *address);
