#pragma once

#include "daemon/controller/reconcile.h"

/*
 * The addresses of one Service: what ipam/ gives it and what it gives back. Those of spec.externalIPs are
 * held beside its own, from pools that allow it; nobody shows them in a status.
 */
#define HELD_MAX 32

struct held {
	unsigned count;
	struct {
		struct base_address address;
		char pool[IPAM_NAME_SIZE];
		bool external; /* it stands in spec.externalIPs */
	} items[HELD_MAX];
};

void addresses_held(struct reconciler *reconciler, const struct claim *claim, struct held *held);
/* Its own address of `grant->wish`, or why not; then it keeps what it has. */
void addresses_allocate(struct reconciler *reconciler, struct claim *claim, struct grant *grant,
			const struct held *held);
/* A malformed wish: what it has, it keeps. Answers how many grants that are. */
unsigned addresses_keep(const struct service *service, const struct held *held,
			struct grant grants[static 2]);
/* What the VirtualIP of a grant says of it. */
void addresses_describe(struct reconciler *reconciler, const struct service *service,
			struct grant *grant);
/* Gives its own addresses back that no grant names; a new one in their place is written down first. */
void addresses_release_surplus(struct reconciler *reconciler, struct claim *claim,
			       const struct grant *grants, unsigned count);
/* Gives all of its own back; those of spec.externalIPs too, unless `keep_external`. */
void addresses_release(struct reconciler *reconciler, struct claim *claim, bool keep_external);

/*
 * Takes what spec.externalIPs names of pools that allow it, gives back what it does not name any more, and
 * tells of refusals. Answers how many of them VirtualIPs are known to name the Service for.
 */
unsigned addresses_external(struct reconciler *reconciler, struct claim *claim);
