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

/*
 * What this node, as the owner, asks itself (nat, or an endpoint's node that is not on the segment) through such a bridge is
 * dropped there, whatever is done. One endpoint for each router is remembered, and one that is not reached rather than
 * another; forgotten with its port.
 */
void bridged_asks(struct router *router, uint8_t protocol, uint16_t port, const struct base_address *endpoint);
void bridged_forget(struct router *router, uint8_t protocol, uint16_t port);
void bridged_say(const struct engine *engine, char *text, size_t size); /* what is not served, and what to do; "": nothing */

/* The ports of such segments. */
void bridged_fill(const struct engine *engine, struct nft_skeleton *skeleton);
