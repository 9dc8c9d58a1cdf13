#pragma once

#include "daemon/engine/node.h"

/*
 * Every few seconds: is a segment's interface a bridge whose frames br_netfilter shows to the rules first? Then the kernel
 * translates before the bridge has taken the packet, sends it back to the port that it came from, and drops it there:
 * this node passes nothing on, in no data plane but `announce`. Said when it begins and when it is over.
 */
void bridged_look(struct engine *engine);
