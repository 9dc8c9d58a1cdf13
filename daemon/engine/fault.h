#pragma once

#include "daemon/engine/node.h"

/*
 * Broken for a while, on purpose, because a drill says so:
 *
 *     Crash     of a router: it is as if the process had been killed, and started again CRASH_MS later;
 *               of the engine: it kills itself, and whoever watches over it starts it again
 *     Hang      of a router: nothing is done for it; of the engine: it stops itself
 *     Isolate   what a router, or all of them, send and are sent on the LAN is lost
 *
 * Nothing lasts longer than it was told to. What a router is made to suffer lives in this process and
 * ends with it; a stopped engine is woken by a timer of the kernel, armed before; what cuts off is
 * elements of a set that the kernel takes out. One fault at a time.
 */
struct fault;

int fault_new(struct fault **fault, struct engine *engine);
void fault_free(struct fault *fault); /* ends it; NULL is fine */

/* An order that cannot be carried out is answered with why. */
void fault_begin(struct fault *fault, const struct message_fault *order);
/* Before its time: there are new wishes, or the engine is to stop. */
void fault_end(struct fault *fault);
/* This router is no longer wanted. */
void fault_router_gone(struct fault *fault, const struct router *router);
/* What a frozen router was not told; the last Lease it will be. */
void fault_missed(struct fault *fault, const struct virtual_router_event *event);
