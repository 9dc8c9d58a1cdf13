#pragma once

#include "nft/skeleton.h"

struct engine;

/*
 * In whose name this node asks for MACs, where the kernel would ask in that of an address of ours: its own addresses, of
 * segments and, for table arp, of the other interfaces. Of those that have no room the kernel asks in nobody's name.
 */
void own_names_fill(struct engine *engine, struct nft_skeleton *skeleton);

/* After the links were read: rules are due when they have to differ. */
void own_names_review(struct engine *engine);
