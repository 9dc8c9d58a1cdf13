#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <systemd/sd-event.h>

#include "base/address.h"
#include "daemon/engine/address_index.h"
#include "daemon/engine/core/timing.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/feeder.h"
#include "daemon/engine/page.h"
#include "daemon/engine/router.h"
#include "daemon/engine/segment.h"
#include "daemon/engine/status.h"
#include "daemon/engine/store.h"
#include "daemon/log.h"
#include "daemon/metrics/record.h"
#include "nft/io/table.h"
#include "vrrp/io/link.h"
#include "vrrp/packet.h"

/*
 * Everything one node's engine holds, and what its rooms ask of each other. What is owned is kept alive
 * before anything else; then sockets before timers before netlink before the rest: queued adverts are
 * read before a late timer is believed. No turn may last: an owner whose adverts are late has no fence.
 */
#define ENGINE_PRIORITY_OWNER_TIMER (-110)
#define ENGINE_PRIORITY_VRRP_SOCKET (-100)
#define ENGINE_PRIORITY_VRRP_TIMER  (-90)
#define ENGINE_PRIORITY_NEIGHBOUR   (-80)
#define ENGINE_PRIORITY_ANNOUNCE    (-70)
#define ENGINE_PRIORITY_REVIEW	    (-65) /* that is under way; it begins with the rules */
#define ENGINE_PRIORITY_LINKS	    (-60)
#define ENGINE_PRIORITY_RULES	    (-50)
#define ENGINE_PRIORITY_FEEDER	    0
#define ENGINE_PRIORITY_STATUS	    50

#define ENGINE_GATEWAY_FRESH_US	 (3000 * BASE_USEC_PER_MSEC)
#define ENGINE_ADDRESS_WAIT_US	 (5 * BASE_USEC_PER_MSEC)
#define ENGINE_SAVE_DELAY_US	 (1 * BASE_USEC_PER_SEC)
#define ENGINE_TRANSITIONS	 100

struct fault;
struct prober;
struct rules;
struct served;
struct traffic;

struct engine_node {
	struct engine_node *next;
	char name[MESSAGE_NAME_SIZE];
	unsigned address_count;
	struct base_address addresses[MESSAGE_NODE_ADDRESSES_MAX];
	unsigned range_count;
	struct base_prefix pod_ranges[4];
};

/* Where a review goes on in the next turn of the loop: what is to be looked at next. */
enum engine_review {
	ENGINE_REVIEW_NOTHING,
	ENGINE_REVIEW_WISHES,
	ENGINE_REVIEW_RULES,
	ENGINE_REVIEW_ELIGIBILITY,
};

#define ENGINE_WAYS 2

struct engine {
	sd_event *event;
	const struct engine_options *options;
	const char *node;
	struct feeder *feeder;
	struct store *store;
	struct vrrp_links *links;
	struct nft_table *table;
	struct nft_abilities abilities;
	struct rules *rules;
	struct served *served;
	struct traffic *traffic;
	const struct balancer *balancer; /* somebody else who would balance; NULL: nobody */
	struct status_server *status, *health, *verify;
	struct page *page;
	struct prober *prober;
	struct fault *fault;
	struct segment *segments;
	struct router *routers;
	struct timers *owner_timers, *backup_timers, *other_timers; /* of the routers */
	struct address_index addresses; /* of the routers */
	struct engine_node *nodes;
	unsigned node_count;
	bool synced; /* what is wanted is known, from the feeder or the state file */
	bool restarted; /* a predecessor's fence was open when we began: its routers are adopted */
	bool reviewed;	/* once, so leftovers of a predecessor are gone */
	uint64_t alive_us, alive_begun_us; /* when `alive` was read; and `alive_next` */
	bool alive_looking;		   /* it is being read */
	bool ready;
	bool maintenance, excluded, stopping;
	uint32_t release_share; /* stopping: so many addresses are handed over at once */
	bool api_reachable;
	bool rules_due, routers_due, rules_present;
	uint64_t review_rest_us; /* no review before that */
	uint64_t links_rest_us; /* the links are not read anew before that */
	uint64_t review_took_us; /* the one under way, so far */
	enum engine_review reviewing;
	unsigned review_round; /* of a look at each router */
	int loopback[2]; /* sockets of the loopback fence, IPv4 and IPv6, or -1 */
	char rules_message[2 * MESSAGE_TEXT_SIZE];
	size_t rules_refused; /* elements that the kernel does not take */
	char untracked[256]; /* what is wrong with the kernel's connection tracking: tracking.h; "": nothing */
	bool tracking_full;
	char no_way_back[256]; /* why clients beyond a LAN get no replies: way_back.h; "": they do */
	struct vrrp_link_way ways_out[2][ENGINE_WAYS]; /* to anywhere, IPv4 and IPv6: by what packets leave now */
	uint64_t ways, ways_revision; /* hash of what way_back.h wants of the rules, and of which links */
	uint64_t bridged_revision;    /* of the links that bridged.h looked at */
	uint64_t names, names_revision; /* hash of what own_names.h wants of the rules, and of which links */
	sd_event_source *review, *refresh, *links_look, *fence_look, *save, *state_wait, *stop_limit, *release;
	int lock;
	pid_t saver;
	uint64_t saved_revision, trimmed_revision;
	struct message_transition transitions[ENGINE_TRANSITIONS];
	uint64_t transition_us[ENGINE_TRANSITIONS];
	unsigned transition_count; /* ever; the newest is at (count - 1) % ENGINE_TRANSITIONS */
	struct nft_alive alive, alive_next;
	uint64_t told; /* hash of the status of this node; 0: nothing */
	uint64_t verdicts[VRRP_VERDICT_COUNT];
	struct record_counts counts;
	struct engine_verified {
		unsigned times;
		uint64_t when_us;
		size_t differed; /* elements, then; put right since */
	} verified; /* what the kernel has of the rules, with what is wanted */
	uint64_t rules_restored_us; /* since when it is counted how often somebody's change of our rules was undone */
	unsigned rules_restored;
	struct log_gate packet_gate, send_gate, rules_gate, foreign_gate;
	int exit_code;
};

/* engine.c: start and end */
uint64_t engine_now(struct engine *engine);
int engine_add_timer(struct engine *engine, sd_event_source **source, int64_t priority,
		     sd_event_time_handler_t handler, uint64_t first_us); /* UINT64_MAX: off */
void engine_router_released(struct engine *engine);

/* review.c: rules and routers are looked at again, once, soon: all rules, or what is due of them */
int engine_review_start(struct engine *engine);
void engine_rules_changed(struct engine *engine);
void engine_rules_soon(struct engine *engine);
void engine_cluster_changed(struct engine *engine);

/* wishes.c: what is wanted, as the feeder or the state file says */
int engine_store_start(struct engine *engine);
int engine_feeder_start(struct engine *engine);
void engine_set_synced(struct engine *engine); /* all of it was said */
/* Who has the address, by wish; the node of that name; the node that an address belongs to. Or NULL. */
struct router *engine_router_at(struct engine *engine, const struct base_address *address);
struct router *engine_router_named(struct engine *engine, const char *name);
/* Forgets all that it knew, and begins again with what is wanted of it; NULL: out of memory. */
struct router *engine_router_anew(struct engine *engine, struct router *router);
struct engine_node *engine_node_named(struct engine *engine, const char *name);
const struct engine_node *engine_node_at(const struct engine *engine,
					 const struct base_address *address);
/* The node's address in a subnet; family NONE: it has none there, or there is no such node. */
struct base_address engine_node_on(const struct engine_node *node, const struct base_prefix *subnet);

/* state_file.c */
int engine_state_start(struct engine *engine);
void engine_state_save_later(struct engine *engine);
void engine_state_end(struct engine *engine); /* asked to end with nothing to serve: it leaves no file */

/* report.c: to the feeder, if there is one */
/*
 * The one that is filled next, to be told at once; what was in it before is in it still. One for all: a message has
 * more than 100 KiB, and pages of a stack that were used once stay.
 */
struct message *engine_message(enum message_type type);
void engine_tell(struct engine *engine, const struct message *message);
void engine_note_transition(struct engine *engine, const struct message_transition *transition);
void engine_report_node(struct engine *engine); /* if it is news */

/* describe.c: everything this node knows, for `vipd status` */
cJSON *engine_describe(void *userdata);
cJSON *engine_describe_health(void *userdata); /* for probes */
cJSON *engine_describe_verify(void *userdata); /* and begins to verify the rules */

/* addresses.c; the router's segment is not NULL */
int engine_addresses_add(struct router *router);
void engine_addresses_renew(struct router *router); /* when it is time: ENGINE_REFRESH_US or longer after the last */
void engine_addresses_wait(struct engine *engine, const struct base_address *addresses,
			   size_t count);
void engine_addresses_remove(struct engine *engine, struct segment *segment,
			     const struct base_address *addresses, size_t count);
/* Removes what is in the router's wish and not in `next`. */
void engine_addresses_replace(struct router *router, const struct router_wish *next);
bool engine_addresses_present(struct router *router); /* as the links were read last */
void engine_addresses_remove_leftovers(struct engine *engine);

/* adverts.c: what goes out, orders to the fence with it, and what comes in */
void engine_send_advert(struct router *router, uint8_t priority);
void engine_close_fence(struct router *router);
void engine_linger(struct router *router);
void engine_note_disbelieved(struct router *router, const char *node, const char *message);
void engine_advert_received(struct segment *segment, const struct vrrp_packet_meta *meta,
			    const uint8_t *data, size_t size);
/* The neighbour behind a link-local address answered: adverts that waited for it are heard now. */
void engine_sender_known(struct segment *segment, const struct base_address *source);

/* fence.c */
int engine_fence_start(struct engine *engine); /* says what is wrong itself */
int engine_fence_watch(struct engine *engine); /* what others do to our tables */
void engine_fence_read(struct engine *engine); /* which are open, from the kernel */
void engine_fence_look(struct engine *engine); /* the same in turns of the loop; until then stands what was read before */
void engine_fence_show(struct engine *engine); /* to somebody who asks: now, or with thousands as they were read last */
bool engine_fence_ready(const struct engine *engine);
bool engine_fence_open(const struct router *router);
const char *engine_fence_name(const struct engine *engine);

/* witnesses.c */
/* One answered after those who asked were told that it did not: all are told again. */
void engine_witness_late(struct engine *engine);
void engine_ask_witnesses(struct router *router, uint64_t now_us);
/* The same without asking who has the router's addresses. */
void engine_ask_candidates(struct router *router, uint64_t now_us);
/* The other candidates whose address is known, and those that answered when asked last; an owner asks each second. */
void engine_count_witnesses(const struct router *router, unsigned *known, unsigned *answered);
/* Their MACs, which loop protection and IPv6 adverts need. */
void engine_ask_members(struct engine *engine);
bool engine_members_known(struct segment *segment); /* of each that has an address there */
/* For a foreign holder, changing nobody's cache. */
void engine_probe_addresses(struct router *router);

/*
 * rules.c: what was said to have changed goes into the kernel, in turns of some milliseconds; `rules_present`
 * is true when it had everything at least once. After a failure everything is said anew.
 */
int engine_rules_new(struct engine *engine);
void engine_rules_free(struct engine *engine);
void engine_rules_apply(struct engine *engine);
void engine_rules_continue(struct engine *engine); /* if it waits for the table, which has woken us up */
void engine_rules_all(struct engine *engine); /* is due; whoever says so sees to the review */
void engine_rules_port_changed(struct engine *engine, const struct base_address *address,
			       uint8_t protocol, uint16_t port);
/* Itself, and all its ports. */
void engine_rules_address_changed(struct engine *engine, const struct base_address *address);
void engine_rules_segment_changed(struct router *router); /* it has another one, or none */
void engine_rules_members_changed(struct engine *engine); /* their MACs */
void engine_rules_refresh(struct engine *engine); /* now and then: is the kernel as it should be? */
void engine_rules_verify(struct engine *engine);  /* now */
/* enum message_dataplane in force for the router on this node, and in words why. */
uint8_t engine_dataplane(const struct router *router);
void engine_dataplane_why(const struct router *router, char *text, size_t size);
