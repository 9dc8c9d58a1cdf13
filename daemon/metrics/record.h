#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/reason.h"
#include "daemon/protocol/message.h"
#include "vrrp/packet.h"

/*
 * What the engine tells the page (daemon/metrics/page.h) when it is asked: plain structs in a file
 * without a name, whose descriptor comes with the answer. Both ends are of one version.
 *
 *     record_head                                  the node
 *     record_router, base_address * address_count  as often as head.router_count says, padded to 8
 *     record_peer                                  as often as head.peer_count says
 *     record_traffic                               as often as head.traffic_count says
 */

/* One datagram each way; `id` tells an answer to a question that nobody waits for any more. */
enum record_question {
	RECORD_ALIVE = 1, /* nothing but the answer itself */
	RECORD_NUMBERS,   /* comes with a descriptor of the structs below */
	RECORD_STATE,     /* comes with a descriptor of the JSON that `vipd status -o json` shows */
	RECORD_REFUSAL,   /* no question: there is no page, and why; not answered */
};

struct record_ask {
	uint32_t id;
	uint32_t question; /* enum record_question */
	char why[160];     /* RECORD_REFUSAL: a sentence */
};

struct record_answer {
	uint32_t id;
	uint32_t size; /* of what the descriptor holds */
	bool ready;
};

/* What only ever grows, while the process lives. */
struct record_counts {
	uint64_t fence_refreshes; /* adverts that left, so that the kernel goes on answering */
	uint64_t transitions[BASE_REASON_COUNT];
	struct base_histogram outages; /* of those that this node took over */
	uint64_t lease_results[MESSAGE_WRITE_RESULT_COUNT];
	uint64_t feeder_starts;
	uint64_t rules_restored; /* somebody had changed them */
};

struct record_head {
	bool ready, rules_present, feeder_running, api_reachable, leased, maintenance, excluded;
	uint8_t fence; /* enum message_fence */
	uint32_t ports, owned, router_count, peer_count, traffic_count;
	uint64_t verdicts[VRRP_VERDICT_COUNT];
	struct record_counts counts;
};

struct record_router {
	char name[MESSAGE_ROUTER_NAME_SIZE];
	char pool[MESSAGE_NAME_SIZE];
	char owner[MESSAGE_NAME_SIZE];
	char services[MESSAGE_TEXT_SIZE];
	char interface[MESSAGE_INTERFACE_SIZE];
	bool owned, confirmed, eligible, addresses_present, fence_open, rules_present, conflict;
	uint8_t not_eligible_why; /* enum base_reason */
	uint8_t state;            /* enum virtual_router_state */
	uint8_t virtual_router_id;
	uint8_t dataplane; /* enum message_dataplane, in force */
	uint32_t term, gained, address_count;
	uint64_t adverts_sent, adverts_heard, worst_lateness_us, since_us; /* since: so long ago */
};

/* With its addresses and the padding. */
static inline size_t record_router_size(uint32_t address_count)
{
	size_t size = sizeof(struct record_router) + address_count * sizeof(struct base_address);

	return (size + 7) / 8 * 8;
}

struct record_peer {
	char node[MESSAGE_NAME_SIZE];
	char interface[MESSAGE_INTERFACE_SIZE];
	struct base_address address;
	bool heard;
	uint64_t heard_us; /* so long ago */
};

/* nft/io/counters.h; only what counted something. */
struct record_traffic {
	struct base_address address;
	uint8_t protocol;
	uint16_t port;
	bool connections; /* else packets from clients */
	uint64_t packets, bytes;
};
