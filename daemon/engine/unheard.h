#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

struct engine;
struct router;
struct segment;

/*
 * Adverts that do not reach this node though their sender is there: it answers for its address (ARP, NDP). A firewall
 * on this node that knows no IP protocol 112, or a switch that keeps multicast back. Such a node takes nothing over while
 * the owner answers (rule 2 of election/), but it is slower, and blind without the API server; nothing else tells.
 * Said after UNHEARD_US, or three intervals if those are longer, in which none came, of any sender; over with the next one.
 */
#define UNHEARD_US (5 * BASE_USEC_PER_SEC)

struct unheard {
	uint64_t since_us, last_us; /* a member answered for an address and was not heard; 0: nothing of it */
	char node[64]; /* that member */
	bool told;
};

/* A member answers for an address of `router`; its adverts do not reach us. */
void unheard_note(struct router *router, const struct base_address *member, uint64_t now_us);
/* An advert came. */
void unheard_end(struct segment *segment, enum base_family family);
/* What a user is told; "": everything is heard. */
void unheard_say(const struct engine *engine, char *text, size_t size);
