#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/core/virtual_router.h"
#include "daemon/engine/timers.h"
#include "daemon/log.h"
#include "daemon/protocol/message.h"

struct engine;
struct segment;

/*
 * One virtual router with the world around its pure core: timer, addresses, announcements, status; its Lease is in
 * router_lease.h, who else has its addresses in router_holder.h. Belongs to the engine; found by name, or by segment,
 * family and VRID.
 */
#define ROUTER_ANNOUNCE_TIMES 5

/*
 * What is wanted, as message_router says it, but no larger than it must be: most routers have one
 * address, and there are hundreds. The candidates are the core's.
 */
struct router_wish {
	const char *name, *pool, *services; /* `name` is what the others and the lists are in */
	uint8_t virtual_router_id;
	uint8_t family; /* enum base_family */
	uint8_t version;
	uint8_t dataplane; /* enum message_dataplane */
	bool unicast, leased, virtual_mac;
	uint32_t interval_ms;
	uint32_t address_count;
	const struct base_address *addresses;
	uint32_t interface_count;
	const char (*interfaces)[MESSAGE_INTERFACE_SIZE];
};

struct router {
	struct router *next;
	struct engine *engine;
	struct virtual_router core;
	struct router_wish wish;
	struct segment *segment; /* NULL: this node is not on it */
	struct base_address asked; /* an endpoint that the owner asks itself: bridged.h; family NONE: none */
	uint8_t asked_protocol;
	uint16_t asked_port;
	struct base_prefix subnet; /* of it, or of the last one; length 0: none yet */
	struct timers *timers; /* the owners' or the backups', in which `timer` is */
	struct timer timer, announce_timer, linger_timer, probe_timer, refresh_timer;
	struct timer witness_timer; /* of the backups: what it tells may make an owner */
	unsigned announced; /* how many of the first announcements are out */
	uint64_t crossed_until_us; /* a member's announcement crossed ours: the last word is due */
	bool eligible;
	enum base_reason not_eligible_why, said_why; /* said_why: what the log was told last */
	bool lingering;	      /* handed over; what still comes is passed on for a grace time */
	bool addresses_added; /* by us, as far as we know; the kernel is asked for the status */
	bool rules_present;
	bool rules_refused; /* some of its address: there is no fence, or nothing is translated */
	bool rules_virtual; /* they answer with its virtual MAC */
	bool listening;	    /* its segment takes frames to its virtual MAC; also a while after it has none */
	uint64_t refused_us; /* when the kernel refused an address or adverts; 0: never */
	uint64_t sent_us;    /* the last advert that left, or when the first was due */
	uint64_t looked_at;  /* the revision of the links in which its addresses are `present`; 0: look */
	bool present;
	uint64_t renew_us;   /* its addresses do not stay by themselves for much longer then */
	bool leaving; /* told to give up for good; `released` says that it did */
	bool released;
	bool frozen; /* by a drill: nothing is done, the kernel is left alone */
	bool conflict, probing;
	uint64_t asked_us; /* when everybody was asked who has its addresses */
	struct log_gate conflict_gate, stranger_gate;
	struct base_mac conflict_mac;
	enum base_reason last_reason;
	uint64_t since_us;
	unsigned reviewed; /* the last round of a review that came to it */
	uint64_t told; /* hash of what the feeder heard last; 0: nothing */
	uint32_t told_core; /* what the core said then */
	uint64_t late_us; /* the worst lateness since the last status */
	uint64_t adverts_sent, adverts_heard;
	uint32_t gained; /* how often this node became the owner */
};

/* `wish` is copied. The router starts at once; NULL on ENOMEM. */
struct router *router_new(struct engine *engine, const struct message_router *wish);

/*
 * New wish (NULL: as it was), new segment, new cluster members, maintenance: cheap if nothing changed.
 * Out of memory: goes on as it was.
 */
void router_configure(struct router *router, const struct message_router *wish);

/* No longer wanted: resigns, takes the addresses down at once and forgets it. */
void router_free(struct router *router);

void router_feed(struct router *router, struct virtual_router_event *event);

/*
 * As if the process had stopped, for this router alone: nothing is sent, heard or changed, the kernel
 * goes on with what it has until its fence runs out. Thawed, it knows that it overslept by `held_us`.
 */
void router_freeze(struct router *router);
void router_thaw(struct router *router, uint64_t held_us);

/* The kernel's fence for it was open at `open_us`, before this process began. */
void router_adopt(struct router *router, uint64_t open_us);

/* Looks whether this node may own it (link, segment, fence, rules) and tells the core. */
void router_review(struct router *router);

/* Its interface has another MAC: an owner tells everybody. */
void router_mac_changed(struct router *router);

/* Its interface does not exist any more. */
void router_segment_gone(struct router *router);

/* --- for the files beside router.c --- */

/* To everybody on the segment where its addresses are: from now on, several times. */
void router_start_announcing(struct router *router);
/* Announcements, the end of probing and lingering: later than adverts and their timers. */
/* What its witnesses answered; witnesses.c, fired by `witness_timer`. */
void router_tell_witnesses(struct timer *timer, uint64_t due_us);
void router_set_timer(struct router *router, struct timer *timer, uint64_t due_us);

/* --- router_wish.c, for router.c --- */

bool router_wish_make(struct router_wish *wish, const struct message_router *message); /* copies; false: ENOMEM */
void router_wish_free(struct router_wish *wish);
/* Everything but the candidates. */
void router_make_config(struct router *router, struct virtual_router_config *config);
/*
 * Those of the message, or (NULL) the ones there are, with the addresses that are known of them now, behind the room
 * for what the core will know of them: config->peers is what is to be freed. False: ENOMEM, it is NULL.
 */
bool router_make_candidates(struct router *router, const struct message_router *message,
			    struct virtual_router_config *config);

/* --- virtual_mac.c --- */

struct base_mac router_virtual_mac(const struct router *router); /* whether it is to have it or not */
/* It is to have one, and this node can: so says the wish; the kernel, `rules_virtual`. */
bool router_wants_virtual_mac(const struct router *router);
/* Its virtual MAC: somebody has the addresses who is of this virtual router, or pretends to be. */
bool router_is_said_by_itself(const struct router *router, const struct base_mac *mac);
void router_say_virtual_mac(const struct router *router); /* if it cannot have it here */
/* Where its addresses are, to everybody on its segment. */
void router_announce(struct router *router);
/*
 * Its segment takes frames to its virtual MAC, if it wants one; or does not any more. With one that is no longer
 * wanted an owner goes on: some host may not have heard of the other MAC yet. 0 or -errno.
 */
int router_listen(struct router *router);
void router_ignore(struct router *router);
void router_ignore_leftovers(struct engine *engine); /* what a predecessor had interfaces listen to */
/* What is wanted stands in the kernel, the router's addresses among it. */
void router_rules_stand(struct router *router);

/* --- router_report.c --- */

/* An action of the core's: to log and feeder, and into what `vipd status` shows. */
void router_tell_transition(struct router *router, const struct virtual_router_action *action);

/* It is one of its candidates, and nothing here keeps it from owning it. */
bool router_is_eligible(const struct router *router);

/* Tells the log whether this node may own it, if that is news. */
void router_say_eligibility(struct router *router);

/* Tells the feeder if something changed since it was told last. */
void router_report(struct router *router);
/*
 * The same after an advert, sent or heard, of which nothing came: looks at the core only. What else may have changed,
 * in the kernel, whoever changes it reports, and on_refresh() does every few seconds.
 */
void router_report_routine(struct router *router);
