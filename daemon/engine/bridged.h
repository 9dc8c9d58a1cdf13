#pragma once

#include "daemon/engine/node.h"
#include "nft/skeleton.h"

/*
 * Is a segment's interface a bridge whose frames br_netfilter shows to the rules first? Then the kernel translates before
 * the bridge has taken the packet, and sends it back to the port that it came from, where it is dropped. So fence and
 * director stand at the bridge's ports, too. What is said when it begins, when it is over, and what it cannot mend.
 */
void bridged_look(struct engine *engine); /* every few seconds: nothing tells of a setting */

/* After the links were read: rules are due when ports came or went. */
void bridged_review(struct engine *engine);

/* The ports of such segments. */
void bridged_fill(const struct engine *engine, struct nft_skeleton *skeleton);
