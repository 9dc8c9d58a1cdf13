#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/reason.h"
#include "base/time.h"
#include "election/elector.h"
#include "vrrp/router.h"

/*
 * One virtual router on this node: the RFC 9568 machine (vrrp/) and the elector (election/)
 * introduced to each other. Pure like both: the engine feeds it from sockets and timers, the
 * simulation from models, and it is the same code.
 *
 * Unit of ownership: all addresses of one VRID on one segment and family; they move together and
 * have one Lease. Actions must be done in the order of the list.
 */
#define VIRTUAL_ROUTER_NAME_SIZE      96 /* "<pool>.ipv4.<vrid>", also the Lease's name */
#define VIRTUAL_ROUTER_NODE_SIZE      64
#define VIRTUAL_ROUTER_CANDIDATES_MAX 32
#define VIRTUAL_ROUTER_VERSION_SIZE   32 /* resourceVersion, opaque */
#define VIRTUAL_ROUTER_MESSAGE_SIZE   160

struct virtual_router_candidate {
	char node[VIRTUAL_ROUTER_NODE_SIZE];
	struct base_address address; /* on the segment, of the router's family if it has one */
	uint8_t priority;            /* 1..254 */
};

struct virtual_router_config {
	char name[VIRTUAL_ROUTER_NAME_SIZE];
	const char *node; /* this node; borrowed for good */
	uint8_t virtual_router_id;
	uint8_t family; /* enum base_family */
	uint8_t version;
	uint32_t interval_us;
	uint32_t lease_duration_ms; /* of the Leases we write */
	bool leased;   /* a Lease exists for it (Kubernetes); false: standalone */
	bool excluded; /* never own it: maintenance, exclusion; hand over if owning */
	enum base_reason excluded_why; /* with `excluded` */
	struct base_address source;    /* our address on the segment that adverts come from */
	unsigned candidate_count;      /* this node may be missing: then it only watches */
	/* Borrowed until the next virtual_router_init() or _configure() has returned; what is in `peers` is the core's. */
	const struct virtual_router_candidate *candidates;
	struct election_peer *peers;
};

/* The Lease as the API server last told it. */
struct virtual_router_lease {
	bool exists;
	char holder[VIRTUAL_ROUTER_NODE_SIZE]; /* "" = released */
	uint32_t term;                         /* leaseTransitions */
	uint32_t duration_ms;                  /* 0: unset */
	char version[VIRTUAL_ROUTER_VERSION_SIZE];
	char successor[VIRTUAL_ROUTER_NODE_SIZE]; /* planned handover: who may claim it */
	bool degraded;                            /* the holder asks to be relieved (rule 9) */
};

enum virtual_router_event_type {
	VIRTUAL_ROUTER_EVENT_TIMER,
	VIRTUAL_ROUTER_EVENT_ADVERT,        /* valid, ours by VRID and family */
	VIRTUAL_ROUTER_EVENT_ELIGIBLE,      /* .eligible/.why: link, segment, fence, rules */
	VIRTUAL_ROUTER_EVENT_WITNESSES,     /* answer to PROBE_WITNESSES, or a change of it */
	VIRTUAL_ROUTER_EVENT_ADDRESS_FREE,  /* answer to PROBE_ADDRESSES: nobody answered */
	VIRTUAL_ROUTER_EVENT_ADDRESS_TAKEN, /* somebody foreign says that it has one of them; .higher */
	VIRTUAL_ROUTER_EVENT_ADDRESS_HELD, /* .advert.source: a candidate answers for one of them */
	VIRTUAL_ROUTER_EVENT_LEASE,        /* the Lease was seen; also the first time (absent) */
	VIRTUAL_ROUTER_EVENT_RENEWED,      /* .node gave a sign of life: renews what it holds */
	VIRTUAL_ROUTER_EVENT_LEASE_RESULT, /* answer to a LEASE_WRITE */
	VIRTUAL_ROUTER_EVENT_API_CONTACT,  /* .reachable: the API server answers, or does not */
	VIRTUAL_ROUTER_EVENT_HANDOVER,     /* order: hand over to .node ("": whoever is best) */
	VIRTUAL_ROUTER_EVENT_RELEASE,      /* order: give up for good (SIGTERM); RELEASED follows */
	/*
	 * Restarted in place, and the kernel's fence of our predecessor was open less than half an
	 * advertisement interval ago: nobody can have taken over.
	 */
	VIRTUAL_ROUTER_EVENT_ADOPT,
};

enum virtual_router_write_result {
	VIRTUAL_ROUTER_WRITE_OK,       /* landed; .lease is the Lease as written */
	VIRTUAL_ROUTER_WRITE_CONFLICT, /* somebody else was faster; a LEASE event follows or came */
	VIRTUAL_ROUTER_WRITE_UNKNOWN,  /* no answer: counts as landed for safety */
	VIRTUAL_ROUTER_WRITE_REFUSED,  /* 403, 404, ...: did not land */
};

struct virtual_router_event {
	enum virtual_router_event_type type;
	uint64_t now_us;
	uint64_t late_us; /* how late the loop is: rule 8 */
	union {
		struct {
			struct base_address source;
			uint8_t priority;
			uint32_t interval_us;
		} advert;
		struct {
			bool eligible;
			enum base_reason why;
		} eligible;
		struct {
			uint32_t
				reachable; /* bit i: candidate i answered lately (own bit ignored) */
			uint32_t answering; /* ... the last question, by ARP or NDP: not by adverts */
			uint32_t missing; /* ... earlier ones, but not the last, nor was it heard since */
			bool gateway_known;
			bool gateway_reachable;
		} witnesses;
		struct {
			uint32_t id;
			enum virtual_router_write_result result;
			struct virtual_router_lease lease; /* with WRITE_OK */
		} write;
		struct virtual_router_lease lease;
		char node[VIRTUAL_ROUTER_NODE_SIZE];
		bool reachable;
		bool higher; /* his MAC is higher than ours: he goes on, should he have begun just now */
		struct {
			char node[VIRTUAL_ROUTER_NODE_SIZE];
			enum base_reason why; /* HANDOVER, REBALANCED, MAINTENANCE, DRILL_STARTED */
		} order;
	};
};

enum virtual_router_action_type {
	VIRTUAL_ROUTER_ACTION_SEND_ADVERT, /* .priority; opens and refreshes the fence; 0 closes it */
	VIRTUAL_ROUTER_ACTION_ADD_ADDRESSES, /* netlink */
	VIRTUAL_ROUTER_ACTION_REMOVE_ADDRESSES,
	VIRTUAL_ROUTER_ACTION_CLOSE_FENCE, /* at once, by whatever way is fastest */
	/*
	 * Planned handover, before the advert of priority 0: the fence stays open until another
	 * candidate's advert is heard or it runs out; addresses and forwarding stay for a grace
	 * time and end by themselves, or with the next of the actions above.
	 */
	VIRTUAL_ROUTER_ACTION_LINGER,
	VIRTUAL_ROUTER_ACTION_ANNOUNCE,        /* gratuitous ARP / unsolicited NA burst (rule 12) */
	VIRTUAL_ROUTER_ACTION_PROBE_WITNESSES, /* ARP/NS to candidates, gateway, our addresses */
	VIRTUAL_ROUTER_ACTION_PROBE_MEMBERS,   /* the same but for our addresses */
	VIRTUAL_ROUTER_ACTION_PROBE_ADDRESSES, /* one ARP/NS probe for a foreign holder (rule 13) */
	VIRTUAL_ROUTER_ACTION_LEASE_WRITE,     /* .write: compare-and-swap */
	VIRTUAL_ROUTER_ACTION_LEASE_READ,      /* ask what the Lease says now */
	VIRTUAL_ROUTER_ACTION_DISBELIEVE, /* .transition.from, .message: adverts in its name, not its own */
	VIRTUAL_ROUTER_ACTION_TRANSITION,      /* state or owner changed: log, status, Event */
	VIRTUAL_ROUTER_ACTION_RELEASED,        /* after RELEASE: nothing is held any more */
};

struct virtual_router_action {
	enum virtual_router_action_type type;
	uint8_t priority;
	bool first; /* SEND_ADVERT: it becomes owner with this one, so no fence of before counts */
	struct {
		uint32_t id;
		char expected_version[VIRTUAL_ROUTER_VERSION_SIZE]; /* "": create, must not exist */
		struct virtual_router_lease lease;                  /* what to write */
	} write;
	struct {
		enum base_reason reason;
		char from[VIRTUAL_ROUTER_NODE_SIZE], to[VIRTUAL_ROUTER_NODE_SIZE];
		uint64_t
			outage_us; /* as seen here: last advert of the old owner to ours; 0 unknown */
		char message[VIRTUAL_ROUTER_MESSAGE_SIZE];
	} transition;
};

#define VIRTUAL_ROUTER_ACTIONS_MAX 16

struct virtual_router_actions {
	unsigned count;
	struct virtual_router_action items[VIRTUAL_ROUTER_ACTIONS_MAX];
};

/* What api.md calls VirtualIP.status.state, as far as this node knows. */
enum virtual_router_state {
	VIRTUAL_ROUTER_STATE_PENDING,  /* not started, or waiting for its first Lease */
	VIRTUAL_ROUTER_STATE_BACKUP,   /* somebody else owns it, or may */
	VIRTUAL_ROUTER_STATE_CLAIMING, /* claim in flight */
	VIRTUAL_ROUTER_STATE_ACTIVE,   /* we own it */
	VIRTUAL_ROUTER_STATE_MOVING,   /* planned handover under way, we still answer */
	VIRTUAL_ROUTER_STATE_CONFLICT, /* a foreign host holds an address: not claimed */
	VIRTUAL_ROUTER_STATE_RELEASED, /* given up for good */
};

struct virtual_router {
	struct virtual_router_config config;
	struct vrrp_router vrrp;
	struct election_elector elector;
	uint8_t self; /* index of this node among the candidates, or ELECTION_NOBODY */
	struct virtual_router_lease lease; /* last seen */
	uint64_t newest;                   /* its version, as a number; older ones are outdated */
	uint32_t write_id;
	uint64_t last_heard_us; /* any advert of this router */
	bool released;
};

void virtual_router_init(struct virtual_router *router, const struct virtual_router_config *config,
			 uint64_t now_us, uint64_t random_seed);

/* New settings while running; unchanged ones yield no action (S8). */
void virtual_router_configure(struct virtual_router *router,
			      const struct virtual_router_config *config, uint64_t now_us,
			      struct virtual_router_actions *actions);

void virtual_router_step(struct virtual_router *router, const struct virtual_router_event *event,
			 struct virtual_router_actions *actions);

uint64_t virtual_router_deadline(const struct virtual_router *router);

enum virtual_router_state virtual_router_state(const struct virtual_router *router);
bool virtual_router_owns(const struct virtual_router *router); /* addresses and fence wanted */
bool virtual_router_confirmed(
	const struct virtual_router *router); /* the Lease carries our claim */
const char *virtual_router_owner(const struct virtual_router *router); /* node, "" unknown */
uint32_t virtual_router_term(const struct virtual_router *router);
const char *virtual_router_state_name(enum virtual_router_state state);
