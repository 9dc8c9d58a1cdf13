#pragma once

#include "nft/skeleton.h"

struct engine;

/*
 * Clients beyond the LAN of an address, on a node with another network that has the default route: what they send comes
 * by the LAN, and what they are answered would leave by the other one, with an address that is nobody's there. nft/ has
 * it leave by the LAN, to the gateway of whatever other default route there is by that interface.
 */

/* The exits and returns of the skeleton; none where every default route is by the one segment. */
void way_back_fill(struct engine *engine, struct nft_skeleton *skeleton);

/* After the links were read: rules are due when they have to differ. */
void way_back_review(struct engine *engine);

/* Every few seconds: the gateways are known before there is something to send to them. */
void way_back_keep(struct engine *engine);

/* Every few seconds, not when a route just went and another one is coming: what keeps clients from being answered, said once. */
void way_back_look(struct engine *engine);
