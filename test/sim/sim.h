#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"
#include "base/time.h"
#include "daemon/engine/core/virtual_router.h"

/*
 * A whole cluster in virtual time: the release cores of every node, and models of everything they
 * touch. One run is a function of its configuration and its seed, to the bit.
 *
 * One virtual router with one address; hosts are the nodes, the gateway, two clients and a stranger
 * that is no member. Judged by what the clients see.
 */
#define SIM_NODES_MAX   5
#define SIM_GATEWAY     5
#define SIM_CLIENT      6 /* the first; the second is on the far side of every partition */
#define SIM_CLIENTS     2
#define SIM_STRANGER    8
#define SIM_HOSTS       9
#define SIM_NOBODY      255
#define SIM_QUEUE_MAX   64  /* packets a socket holds */
#define SIM_MESSAGES    64  /* from an agent to its engine */
#define SIM_TRACE_LINES 120 /* kept for the report of a failure */

/* X(enumerator, "word"): what can go wrong, or be ordered. Scenario files use the words. */
#define SIM_FAULTS(X)                                                                              \
	X(CRASH, "crash")             /* engine and agent killed, started again */                 \
	X(POWER, "power")             /* the machine is gone, boots again */                       \
	X(PAUSE, "pause")             /* SIGSTOP, SIGCONT; the kernel runs on */                   \
	X(FREEZE, "freeze")           /* the whole machine is suspended, its timers too */         \
	X(LATE, "late")               /* timers late by up to five intervals */                    \
	X(AGENT, "agent")             /* only the unprivileged half is killed */                   \
	X(ISOLATE, "isolate")         /* a node is cut from everybody, carrier stays */            \
	X(CARRIER, "carrier")         /* its interface is down */                                  \
	X(CUT, "cut")                 /* two nodes are cut from each other */                      \
	X(ONEWAY, "oneway")           /* one of them does not reach the other */                   \
	X(DEAF, "deaf")               /* a node receives nothing, sends well */                    \
	X(MUTE, "mute")               /* a node sends nothing that arrives, receives well */       \
	X(MULTICAST, "multicast")     /* adverts of a node do not arrive, unicast does */          \
	X(SPLIT, "split")             /* two halves; each client with one */                       \
	X(LOSS, "loss")               /* many packets are lost */                                  \
	X(DELAY, "delay")             /* packets take up to half an interval */                    \
	X(DUPLICATE, "duplicate")     /* packets twice, the second late */                         \
	X(REPLAY, "replay")           /* old adverts again, priority 0 among them */               \
	X(API_DOWN, "api-down")       /* nobody reaches the API server */                          \
	X(API_CUT, "api-cut")         /* one node does not */                                      \
	X(API_SLOW, "api-slow")       /* answers take up to a second */                            \
	X(API_LOST, "api-lost")       /* writes land, their answers are lost */                    \
	X(WATCH, "watch")             /* watch events late by up to a second */                    \
	X(SWALLOW, "swallow")         /* watch events vanish, until the watch is started again */  \
	X(KERNEL, "kernel")           /* addresses and adverts cannot be placed on a node */       \
	X(SLOW_KERNEL, "slow-kernel") /* placing an address takes up to an interval */             \
	X(ADDRESS, "address")         /* somebody deletes the address on the owner */              \
	X(GATEWAY, "gateway")         /* the gateway does not answer one node */                   \
	X(LEASE, "lease")             /* somebody deletes the Lease */                             \
	X(STRANGER, "stranger")       /* adverts of our VRID from no member */                     \
	X(FORGED, "forged")           /* a stranger's that bear the address of a member */           \
	X(FOREIGN, "foreign")         /* a host outside the cluster answers for the address */     \
	X(PRIORITIES, "priorities")   /* the controller changes the priorities */                  \
	X(CANDIDATE, "candidate")     /* a node stops being a candidate, and is one again */       \
	X(MAINTENANCE, "maintenance") /* a node is drained, and comes back */                      \
	X(HANDOVER, "handover")       /* the owner is ordered to hand over */                      \
	X(STOP, "stop")               /* SIGTERM, and started again */                             \
	X(HIDDEN, "hidden")           /* killed, stopped or off, and a stranger's adverts hide it */

enum sim_fault {
#define SIM_FAULT_ENUM(name, word) SIM_FAULT_##name,
	SIM_FAULTS(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
		SIM_FAULT_COUNT
};

/* How many faults at a time, and therefore what is promised. */
enum sim_regime {
	SIM_REGIME_SINGLE,
	SIM_REGIME_DOUBLE,
	SIM_REGIME_CHAOS,
	SIM_REGIME_COUNT,
};

/* X(enumerator, "word"): rules taken out, to see that the judge misses them. */
#define SIM_MUTANTS(X)                                                                             \
	X(NONE, "none")                                                                            \
	X(FENCE, "fence")         /* rule 1: fences last ten times as long, and nobody asks */     \
	X(HEARD, "heard")         /* rule 2: whoever never heard the holder claims as well */      \
	X(CAS, "cas")             /* writes land whatever version they expect */                   \
	X(QUORUM, "quorum")       /* rule 6: everybody counts as reachable */                      \
	X(OVERSLEPT, "overslept") /* rule 8: nobody notices that it woke up late */                \
	X(HELD, "held")           /* nobody asks who answers for the address */                    \
	X(RIVAL, "rival")         /* rule 5: an owner does not hear another one */                 \
	X(ABSENT, "absent")       /* rule 2: two adverts missing are enough, whoever answers */    \
	X(WITNESS, "witness")     /* rule 13: an advert is believed without a second witness */    \
	X(PROOF, "proof")         /* rule 13: nobody asks whether the Lease's holder is there */   \
	X(TURN, "turn")           /* rule 2: a sixteenth of an interval apart, adverts after addresses */

enum sim_mutant {
#define SIM_MUTANT_ENUM(name, word) SIM_MUTANT_##name,
	SIM_MUTANTS(SIM_MUTANT_ENUM)
#undef SIM_MUTANT_ENUM
		SIM_MUTANT_COUNT
};

struct sim_config {
	uint64_t seed;
	unsigned nodes;
	bool leased, unicast, gateway, egress;
	enum sim_regime regime;
	uint32_t interval_us;
	uint32_t lan_min_us, lan_max_us; /* one way */
	uint32_t api_min_us, api_max_us; /* one way */
	uint32_t watch_min_us, watch_max_us;
	uint64_t renew_us; /* between the signs of life of a speaker */
	uint32_t wake_max_us; /* how late a loop wakes up in health */
	uint32_t stall_max_us; /* busy machines: and now and then so late, every node; 0: not */
	uint32_t loss_ppm;    /* in health */
	uint8_t priorities[SIM_NODES_MAX];
	uint64_t faults;        /* bit set of the classes in this run */
	unsigned episodes;      /* or number of faults in chaos */
	uint64_t quiet_us;      /* judged after everything is healed */
	enum sim_mutant mutant; /* a rule taken out: must be found */
};

/* X(enumerator, "text with %s/%u"): lines of the trace. */
enum sim_trace_kind {
	SIM_TRACE_FAULT,
	SIM_TRACE_HEAL,
	SIM_TRACE_PROCESS,
	SIM_TRACE_ADVERT,
	SIM_TRACE_HEARD,
	SIM_TRACE_DISBELIEVE,
	SIM_TRACE_FENCE,
	SIM_TRACE_ADDRESS,
	SIM_TRACE_ANNOUNCE,
	SIM_TRACE_TRANSITION,
	SIM_TRACE_STATE,
	SIM_TRACE_WRITE,
	SIM_TRACE_LANDED,
	SIM_TRACE_RESULT,
	SIM_TRACE_LEASE,
	SIM_TRACE_API,
	SIM_TRACE_CACHE,
	SIM_TRACE_PROBE,
	SIM_TRACE_JUDGE,
};

struct sim_line {
	uint64_t time_us;
	uint8_t kind, host;
	uint32_t a, b, c;
};

/* --- the LAN --- */

enum sim_packet_type {
	SIM_PACKET_ADVERT,
	SIM_PACKET_ASK,    /* ARP request or NS; .target */
	SIM_PACKET_ANSWER, /* ARP reply or NA: .target is at .from */
	SIM_PACKET_ANNOUNCE,
};

#define SIM_TARGET_VIP 254 /* else a host */

struct sim_packet {
	uint8_t type;
	uint8_t from; /* the MAC, so the host that sent it */
	uint8_t source; /* ADVERT: of the IP header, whose address it bears */
	uint8_t target;
	uint8_t priority;
	bool probe; /* sender address 0: changes nobody's cache */
	uint32_t interval_us;
};

struct sim_path {
	uint32_t cuts, multicast_cuts; /* how many faults cut it now */
	uint32_t loss_ppm, delay_us, duplicate_ppm;
	uint64_t last_arrival_us; /* of the fifo that a healthy path is */
};

/* --- the API server --- */

struct sim_lease {
	bool exists;
	uint8_t holder, successor;
	bool degraded;
	uint32_t term, duration_ms;
	uint64_t version;
};

enum sim_message_type {
	SIM_MESSAGE_LEASE,
	SIM_MESSAGE_RENEWAL, /* .to gave a sign of life */
	SIM_MESSAGE_RESULT,
	SIM_MESSAGE_CONTACT,
	SIM_MESSAGE_WISH,
	SIM_MESSAGE_ORDER,
};

struct sim_wish {
	uint32_t version;
	uint8_t priorities[SIM_NODES_MAX]; /* 0: no candidate */
	uint8_t maintenance;               /* bit per node */
};

struct sim_message {
	uint8_t type;
	uint8_t result; /* enum virtual_router_write_result */
	uint8_t to;
	bool reachable;
	uint32_t id;
	uint64_t version; /* RENEWAL */
	struct sim_lease lease;
	struct sim_wish wish;
};

struct sim_request {
	uint32_t id;
	bool read;
	bool renewal;      /* of speaker-NODE */
	uint64_t expected; /* version; 0: create */
	struct sim_lease lease;
};

struct sim_agent {
	bool running, connected, contact, listed;
	bool breaking; /* connected still, but what it hears is incomplete */
	uint64_t told_version;
	uint32_t incarnation; /* of the process */
	uint32_t connection;  /* of the watch */
	uint32_t request;     /* the newest; older ones are answered too */
	uint64_t last_watch_us;
	uint32_t api_cuts, api_slow, answers_lost, watch_slow, swallowing;
	bool deaf;                            /* something was swallowed: what follows is, too */
	bool renewing;                        /* a renewal is under way */
	uint32_t renewal;                     /* its number */
	uint64_t engine_us;                   /* last sign of life of its engine */
	uint64_t cut_us;                      /* when its connection began to be half-open */
	uint64_t signs[SIM_NODES_MAX];        /* versions of speaker-NODE as told; 0: never seen */
};

/* --- a node --- */

struct sim_node {
	bool powered, carrier, frozen;
	uint32_t carrier_faults;

	/* kernel */
	uint64_t alive_until_us; /* the fence */
	uint64_t frozen_left_us, frozen_at_us;
	uint64_t leaving_until_us; /* make before break: passes what is in flight, NFT_GRACE_MS */
	bool address;
	uint64_t address_until_us;
	uint32_t kernel_fails, kernel_slow, late;

	/* engine */
	bool running, stopping, was_synced;
	uint32_t incarnation;
	uint64_t paused_until_us, busy_until_us, wake_at_us;
	bool synced, rules, eligible, eligible_told, links_changed;
	uint64_t synced_at_us, rules_at_us, stop_limit_us, exit_at_us;
	uint64_t witnesses_at_us, probe_end_us, announce_at_us, refresh_at_us;
	unsigned announced;
	bool probing, addresses_added, released, lingering, restarted;
	bool queued; /* for the lock that addresses are added under */
	uint64_t linger_end_us, crossed_until_us, holder_asked_us, refused_us;
	uint64_t heard_us[SIM_HOSTS], asked_us[SIM_HOSTS];
	uint64_t answered_us[SIM_HOSTS], asked_last_us[SIM_HOSTS];
	bool mac_known[SIM_HOSTS];
	uint8_t foreign; /* who was taken for a foreign host: whoever answered and was not known */
	struct virtual_router router;
	struct virtual_router_config config;
	struct virtual_router_candidate candidates[2][SIM_NODES_MAX];
	struct election_peer peers[2][SIM_NODES_MAX];
	struct sim_wish wish, disk;
	unsigned packet_count, neighbour_count, message_count;
	struct sim_packet packets[SIM_QUEUE_MAX], neighbours[SIM_QUEUE_MAX];
	struct sim_message messages[SIM_MESSAGES];
	struct virtual_router_actions pending; /* interrupted by a slow call */
	unsigned pending_at;
	uint64_t last_advert_us; /* S2 */
	uint64_t sent_us;
	unsigned spins; /* S7: wake-ups without time passing */
	uint64_t spin_us;

	struct sim_agent agent;
};

struct sim_client {
	uint8_t cache; /* host, or SIM_NOBODY */
	uint64_t updated_us, unserved_us, asked_us;
	uint64_t needed_until_us[SIM_NODES_MAX]; /* packets for its MAC are still in flight */
	uint64_t dual_us, dual_bound_us; /* since when two answer it, and how long they may */
};

/* --- events --- */

enum sim_event_type {
	SIM_EVENT_PACKET,
	SIM_EVENT_WAKE,
	SIM_EVENT_CONTINUE,
	SIM_EVENT_EDGE, /* something in a kernel expires: look */
	SIM_EVENT_REQUEST,
	SIM_EVENT_ANSWER,
	SIM_EVENT_TIMEOUT,
	SIM_EVENT_WATCH,
	SIM_EVENT_CONNECT,
	SIM_EVENT_CONTACT_LOST,
	SIM_EVENT_RENEW,
	SIM_EVENT_ECHO,
	SIM_EVENT_MESSAGE,
	SIM_EVENT_START,
	SIM_EVENT_AGENT_START,
	SIM_EVENT_CLIENT,
	SIM_EVENT_STRANGER,
	SIM_EVENT_FORGE,
	SIM_EVENT_PLAN,
	SIM_EVENT_HEAL,
};

/* FORGE: .host says what and how often; the bit: to hide that the member is dead. */
#define SIM_FORGE_HIDES 64

struct sim_event {
	uint64_t time_us, sequence;
	uint8_t type, host;
	uint32_t incarnation;
	union {
		struct sim_packet packet;
		struct sim_message message;
		struct sim_request request;
		uint32_t slot;
		uint64_t version;
	};
};

/* --- faults --- */

#define SIM_ACTIVE_MAX 16

/* HIDDEN, from its mask: what becomes of the member. */
enum sim_hides {
	SIM_HIDES_POWER,
	SIM_HIDES_PAUSE,
	SIM_HIDES_CRASH, /* or more */
};
#define SIM_HIDES_HOW(mask) ((mask) >> 8 & 3)

struct sim_active {
	bool used;
	enum sim_fault fault;
	uint8_t a, b; /* victims */
	uint32_t mask;
	uint64_t begin_us, end_us;
	bool owner; /* a was the owner when it began */
};

/* --- verdicts --- */

enum sim_verdict {
	SIM_PASSED = 0,
	SIM_USAGE = 2,
	SIM_CRASHED = 127, /* an assertion of our own */
	SIM_LIVENESS = 128,
	SIM_SAFETY = 129,
	SIM_NOT_DETERMINISTIC = 130,
	SIM_NOT_COVERED = 131,
};

enum sim_phase {
	SIM_PHASE_FAULTS,
	SIM_PHASE_RECOVER, /* everything is healed: one owner, then settled */
	SIM_PHASE_QUIET,
};

struct sim_statistics {
	uint64_t events, faults, transitions, virtual_us;
	uint64_t dual_max_us[SIM_REGIME_COUNT];
	uint32_t outages[SIM_FAULT_COUNT];
	uint32_t moves_max[SIM_FAULT_COUNT]; /* transitions because of one fault */
	uint64_t outage_max_us[SIM_FAULT_COUNT], outage_sum_us[SIM_FAULT_COUNT];
	uint64_t recover_max_us, first_max_us;
	uint64_t fault_states[SIM_FAULT_COUNT][ELECTION_STATE_RELEASED + 1];
};

struct sim_world {
	struct sim_config config;
	uint64_t now_us, sequence, hash, until_us;
	bool trace, done;
	enum sim_verdict verdict;
	char failure[256];

	struct base_random net, process, api, clock, plan, jitter;
	struct sim_path paths[SIM_HOSTS][SIM_HOSTS];
	struct sim_packet history[32]; /* for replays */
	unsigned history_count;
	struct sim_node nodes[SIM_NODES_MAX];
	struct sim_client clients[SIM_CLIENTS];
	struct sim_lease lease;
	uint64_t signs[SIM_NODES_MAX]; /* versions of speaker-NODE */
	uint64_t revision, written_us; /* the Lease, last time; or asked for */
	uint32_t api_down;
	struct sim_wish wish;
	bool stranger, foreign, forged, hidden;
	bool foreign_young; /* he said so while an owner had it for a few seconds only: it may give it up */
	bool foreign_higher; /* the MAC of whoever has the address as well is higher than everybody's */
	uint8_t forged_as, hidden_as;

	/* plan */
	enum sim_phase phase;
	uint64_t phase_us;
	unsigned episode;
	struct sim_active active[SIM_ACTIVE_MAX];
	struct sim_active last[2]; /* what this episode is about */
	unsigned last_count;
	uint64_t healed_us, settled_us, settle_for_us, next_fault_us;
	uint64_t moves_until_us; /* from an owner that was deposed and has to learn it */
	uint64_t without; /* classes drawn, but left out */
	bool recovered;
	const char *unsettled; /* what is missing still */
	unsigned unsettled_node;

	/* judge */
	bool dirty;
	uint32_t answering; /* bit per node */
	uint64_t answering_us, unanswered_us; /* since when; the longest that it was nobody */
	uint8_t owner;      /* the one that answers every client, or SIM_NOBODY */
	uint8_t last_owner; /* the last one that did */
	uint64_t owner_us;  /* since when that is this one */
	uint64_t episode_unserved_us; /* worst of the clients, longest in one piece */
	uint8_t episode_owner;
	uint64_t episode_owner_us;
	bool episode_dark;
	unsigned episode_transitions;
	uint64_t started_us;
	bool first_served;

	struct sim_line lines[SIM_TRACE_LINES];
	unsigned line_count;

	struct sim_event *heap;
	unsigned heap_count, heap_size;

	struct scenario *scenario; /* NULL: the plan is drawn */
	struct sim_statistics *statistics;
};

/* queue.c */
void sim_schedule(struct sim_world *world, struct sim_event *event);
bool sim_next(struct sim_world *world, struct sim_event *event);
void sim_at(struct sim_world *world, uint64_t time_us, enum sim_event_type type, unsigned host);

/* trace.c */
void sim_trace(struct sim_world *world, enum sim_trace_kind kind, unsigned host, uint32_t a,
	       uint32_t b, uint32_t c);
void sim_print_lines(const struct sim_world *world);
const char *sim_host_name(unsigned host);
const char *sim_fault_name(enum sim_fault fault);
bool sim_fault_parse(const char *word, enum sim_fault *fault);
__attribute__((format(printf, 3, 4))) void sim_fail(struct sim_world *world,
						    enum sim_verdict verdict, const char *format,
						    ...);

/* lan.c */
void sim_lan_init(struct sim_world *world);
bool sim_lan_open(const struct sim_world *world, unsigned from, unsigned to);
void sim_lan_send(struct sim_world *world, unsigned to, const struct sim_packet *packet);
void sim_lan_broadcast(struct sim_world *world, const struct sim_packet *packet);
void sim_lan_arrive(struct sim_world *world, unsigned host, const struct sim_packet *packet);
void sim_lan_replay(struct sim_world *world, unsigned pick);
/* A foreign host says to all nodes that it has the address. */
void sim_lan_claim(struct sim_world *world);

/* kernel.c: what a node's kernel does by itself */
bool sim_kernel_answers(const struct sim_world *world, unsigned node); /* ARP for the address */
bool sim_kernel_accepts(const struct sim_world *world, unsigned node); /* packets for it */
bool sim_kernel_advert(struct sim_world *world, unsigned node, uint8_t priority);
void sim_kernel_close(struct sim_world *world, unsigned node);
void sim_kernel_linger(struct sim_world *world, unsigned node);
int sim_kernel_address(struct sim_world *world, unsigned node, bool present);
void sim_kernel_packet(struct sim_world *world, unsigned node, const struct sim_packet *packet);
void sim_kernel_edge(struct sim_world *world, unsigned node);
uint64_t sim_fence_us(const struct sim_world *world);

/* engine.c: the daemon's adapters, as daemon/engine has them */
void sim_engine_start(struct sim_world *world, unsigned node);
void sim_engine_kill(struct sim_world *world, unsigned node);
void sim_engine_terminate(struct sim_world *world, unsigned node);
void sim_engine_wake(struct sim_world *world, unsigned node);
void sim_engine_continue(struct sim_world *world, unsigned node);
void sim_engine_poke(struct sim_world *world, unsigned node); /* something is there to read */
void sim_engine_message(struct sim_world *world, unsigned node, const struct sim_message *message);
void sim_engine_arm(struct sim_world *world, unsigned node);

/* api.c: API server and agents */
void sim_agent_start(struct sim_world *world, unsigned node);
void sim_agent_kill(struct sim_world *world, unsigned node);
void sim_agent_request(struct sim_world *world, unsigned node, const struct sim_request *request);
void sim_agent_path_changed(struct sim_world *world, unsigned node);
void sim_api_event(struct sim_world *world, const struct sim_event *event);
void sim_api_delete_lease(struct sim_world *world);
void sim_api_publish(struct sim_world *world); /* a new wish, to every node */

/* client.c */
void sim_client_packet(struct sim_world *world, unsigned client, const struct sim_packet *packet);
void sim_client_timer(struct sim_world *world, unsigned client);
bool sim_client_served(const struct sim_world *world, unsigned client);

/* plan.c */
void sim_plan_start(struct sim_world *world);
void sim_plan_step(struct sim_world *world);
void sim_plan_heal(struct sim_world *world, unsigned slot);
void sim_fault_begin(struct sim_world *world, enum sim_fault fault, unsigned a, unsigned b,
		     uint64_t duration_us, uint64_t draw);
void sim_heal_all(struct sim_world *world);
unsigned sim_active_count(const struct sim_world *world);
bool sim_is_active(const struct sim_world *world, enum sim_fault fault);

/* What one fault by itself may do: the promises of election/README.md. */
struct sim_promise {
	bool planned;     /* an order, not trouble: nobody may be cut off */
	bool api;         /* the API alone: nothing may move */
	bool moves_owner; /* the address may move if the owner is the victim */
	bool moves_other; /* ... if somebody else is */
	bool splits;      /* two may answer until an advert crosses after the healing */
	bool lan;         /* packets get lost at random: several adverts may be needed */
};

const struct sim_promise *sim_promise(enum sim_fault fault);

/* judge.c */
void sim_judge_look(struct sim_world *world);
void sim_judge_transition(struct sim_world *world, unsigned node,
			  const struct virtual_router_action *action);
void sim_judge_write(struct sim_world *world, const struct sim_lease *before,
		     const struct sim_lease *after);
void sim_judge_episode_begin(struct sim_world *world);
void sim_judge_episode_end(struct sim_world *world);
uint64_t sim_settle_us(const struct sim_world *world); /* how long recovery may take */

/* swarm.c */
void sim_swarm_draw(uint64_t seed, struct sim_config *config);
void sim_config_print(const struct sim_config *config);

/* scenario.c */
struct scenario *scenario_read(const char *path, struct sim_config *config);
bool scenario_step(struct sim_world *world);
void scenario_free(struct scenario *scenario);
void scenario_check(struct sim_world *world);

/* cover.c: which cells of the cores' tables were entered */
void sim_cover_mutate(enum sim_mutant mutant);
void sim_cover_fault(enum sim_fault fault, bool begin);
void sim_cover_print(void);
bool sim_cover_complete(const char *readme, bool rare);

/* world.c */
void sim_world_run(struct sim_world *world);
