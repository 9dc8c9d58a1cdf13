#include "daemon/metrics/render.h"

#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io/clock.h"
#include "daemon/metrics/record.h"

struct records {
	const struct record_head *head;
	const struct record_router **routers;
	const struct record_peer *peers;
	const struct record_traffic *traffic;
};

static const struct base_address *addresses_of(const struct record_router *router)
{
	return (const struct base_address *)(router + 1);
}

/* False: it is not what record.h says. */
static bool read_records(struct records *records, const void *data, size_t size)
{
	const char *at = data, *end = at + size;

	if (size < sizeof *records->head)
		return false;
	records->head = (const void *)at;
	at += sizeof *records->head;
	if (records->head->router_count > size / sizeof(struct record_router))
		return false;
	records->routers = calloc(records->head->router_count + 1, sizeof *records->routers);
	if (!records->routers)
		return false;
	for (uint32_t i = 0; i < records->head->router_count; i++) {
		const struct record_router *router = (const void *)at;

		if ((size_t)(end - at) < sizeof *router ||
		    router->address_count > MESSAGE_ADDRESSES_MAX ||
		    (size_t)(end - at) < record_router_size(router->address_count))
			return false;
		records->routers[i] = router;
		at += record_router_size(router->address_count);
	}
	records->peers = (const void *)at;
	if ((size_t)(end - at) / sizeof *records->peers < records->head->peer_count)
		return false;
	at += records->head->peer_count * sizeof *records->peers;
	records->traffic = (const void *)at;
	return (size_t)(end - at) == records->head->traffic_count * sizeof *records->traffic;
}

typedef void one_vip(struct metrics_text *text, const char *vip, const struct record_router *router,
		     const char *node);

static void each_vip(struct metrics_text *text, const struct records *records, bool owned_only,
		     const char *node, one_vip *one)
{
	char vip[BASE_ADDRESS_TEXT_SIZE];

	for (uint32_t i = 0; i < records->head->router_count; i++) {
		const struct record_router *router = records->routers[i];

		for (uint32_t j = 0; j < router->address_count && (router->owned || !owned_only);
		     j++)
			one(text, base_address_format(&addresses_of(router)[j], vip), router, node);
	}
}

static void one_owner(struct metrics_text *text, const char *vip,
		      const struct record_router *router, const char *node)
{
	metrics_count(text, router->owned, "vip", vip, "node", node, "pool", router->pool, NULL);
}

static void one_eligible(struct metrics_text *text, const char *vip,
			 const struct record_router *router, const char *node)
{
	metrics_count(text, router->eligible, "vip", vip, "node", node, NULL);
}

static void one_reason(struct metrics_text *text, const char *vip,
		       const struct record_router *router, const char *node)
{
	if (!router->eligible && router->not_eligible_why != BASE_REASON_NONE)
		metrics_count(text, 1, "vip", vip, "node", node, "reason",
			      base_reason_word((enum base_reason)router->not_eligible_why), NULL);
}

static void one_info(struct metrics_text *text, const char *vip, const struct record_router *router,
		     const char *node)
{
	static const char *const dataplanes[MESSAGE_DATAPLANE_COUNT] = { "auto", "director", "nat",
									 "announce" };

	(void)node;
	metrics_count(text, 1, "vip", vip, "router", router->name, "services", router->services,
		      "interface", router->interface, "dataplane",
		      router->dataplane < MESSAGE_DATAPLANE_COUNT ? dataplanes[router->dataplane]
								  : "",
		      NULL);
}

static void one_present(struct metrics_text *text, const char *vip,
			const struct record_router *router, const char *node)
{
	(void)node;
	metrics_count(text, router->addresses_present, "vip", vip, NULL);
}

static void one_fence(struct metrics_text *text, const char *vip,
		      const struct record_router *router, const char *node)
{
	(void)node;
	metrics_count(text, router->fence_open, "vip", vip, NULL);
}

static void one_confirmed(struct metrics_text *text, const char *vip,
			  const struct record_router *router, const char *node)
{
	(void)node;
	metrics_count(text, router->confirmed, "vip", vip, NULL);
}

static void one_term(struct metrics_text *text, const char *vip, const struct record_router *router,
		     const char *node)
{
	(void)node;
	metrics_count(text, router->term, "vip", vip, NULL);
}

static void one_conflict(struct metrics_text *text, const char *vip,
			 const struct record_router *router, const char *node)
{
	if (router->conflict)
		metrics_count(text, 1, "vip", vip, "node", node, NULL);
}

static void one_gained(struct metrics_text *text, const char *vip,
		       const struct record_router *router, const char *node)
{
	(void)node;
	metrics_count(text, router->gained, "vip", vip, NULL);
}

static void render_vips(struct metrics_text *text, const struct records *records, const char *node)
{
	metrics_family(
		text, METRICS_GAUGE, "vipd_vip_owner",
		"1: this node owns the address and answers for it. The sum over all nodes is 1.");
	each_vip(text, records, false, node, one_owner);
	metrics_family(text, METRICS_GAUGE, "vipd_vip_eligible",
		       "1: this node may own the address.");
	each_vip(text, records, false, node, one_eligible);
	metrics_family(text, METRICS_GAUGE, "vipd_vip_not_eligible",
		       "Why this node may not own it.");
	each_vip(text, records, false, node, one_reason);
	metrics_family(text, METRICS_GAUGE, "vipd_vip_conflict",
		       "1: a host outside the cluster answers for the address.");
	each_vip(text, records, false, node, one_conflict);
	metrics_family(text, METRICS_COUNTER, "vipd_vip_gained_total",
		       "How often this node became the owner.");
	each_vip(text, records, false, node, one_gained);
	metrics_family(text, METRICS_GAUGE, "vipd_vip_info",
		       "What the address is for, by its owner.");
	each_vip(text, records, true, node, one_info);
	metrics_family(text, METRICS_GAUGE, "vipd_vip_address_present",
		       "By its owner: the kernel has the address.");
	each_vip(text, records, true, node, one_present);
	metrics_family(text, METRICS_GAUGE, "vipd_vip_fence_open",
		       "By its owner: the kernel answers for it, as long as adverts leave.");
	each_vip(text, records, true, node, one_fence);
	metrics_family(text, METRICS_GAUGE, "vipd_vip_term", "By its owner: leaseTransitions.");
	each_vip(text, records, true, node, one_term);
	if (!records->head->leased)
		return;
	metrics_family(text, METRICS_GAUGE, "vipd_vip_lease_confirmed",
		       "By its owner: the Lease says so, too.");
	each_vip(text, records, true, node, one_confirmed);
}

static void render_routers(struct metrics_text *text, const struct records *records)
{
	metrics_family(text, METRICS_COUNTER, "vipd_adverts_sent_total",
		       "VRRP adverts of a virtual router that this node was to send.");
	for (uint32_t i = 0; i < records->head->router_count; i++)
		if (records->routers[i]->adverts_sent > 0)
			metrics_count(text, records->routers[i]->adverts_sent, "router",
				      records->routers[i]->name, NULL);
	metrics_family(text, METRICS_GAUGE, "vipd_timer_lateness_worst_seconds",
		       "How late the timer of a virtual router was at worst.");
	for (uint32_t i = 0; i < records->head->router_count; i++)
		if (records->routers[i]->worst_lateness_us > 0)
			metrics_seconds(text, records->routers[i]->worst_lateness_us, "router",
					records->routers[i]->name, NULL);
}

static void render_verdicts(struct metrics_text *text, const struct record_head *head)
{
	static const char *const names[VRRP_VERDICT_COUNT] = {
#define VERDICT_NAME(name, meaning) #name,
		VRRP_VERDICTS(VERDICT_NAME)
#undef VERDICT_NAME
	};

	metrics_counter(text, "vipd_adverts_received_total",
			"VRRP adverts of others that were accepted.",
			head->verdicts[VRRP_VERDICT_OK]);
	metrics_family(text, METRICS_COUNTER, "vipd_adverts_refused_total",
		       "VRRP adverts that were dropped, and why.");
	for (int i = 0; i < VRRP_VERDICT_COUNT; i++) {
		char word[32];
		size_t at = 0;

		if (i == VRRP_VERDICT_OK)
			continue;
		for (const char *c = names[i]; *c && at < sizeof word - 1; c++)
			word[at++] = (char)tolower((unsigned char)*c);
		word[at] = '\0';
		metrics_count(text, head->verdicts[i], "verdict", word, NULL);
	}
}

static void render_transitions(struct metrics_text *text, const struct record_counts *counts)
{
	/* Those that belong to it are there from the beginning, or their first would not be seen. */
	static const enum base_reason usual[] = {
		BASE_REASON_OWNER_ELECTED,
		BASE_REASON_OWNER_OBSERVED,
		BASE_REASON_OWNER_LOST,
		BASE_REASON_OWNER_RESIGNED,
		BASE_REASON_HANDOVER,
		BASE_REASON_REBALANCED,
		BASE_REASON_DEPOSED,
		BASE_REASON_FENCE_EXPIRED,
		BASE_REASON_OVERSLEPT,
		BASE_REASON_QUORUM_LOST,
		BASE_REASON_GATEWAY_UNREACHABLE,
		BASE_REASON_LINK_DOWN,
		BASE_REASON_MAINTENANCE,
		BASE_REASON_SPLIT_BRAIN_RESOLVED,
		BASE_REASON_FOREIGN_ADDRESS,
	};

	metrics_family(text, METRICS_COUNTER, "vipd_transitions_total",
		       "Changes of an owner, as this node saw them, and why.");
	for (int i = 0; i < BASE_REASON_COUNT; i++) {
		bool wanted = counts->transitions[i] > 0;

		for (size_t j = 0; j < BASE_COUNT_OF(usual) && !wanted; j++)
			wanted = usual[j] == (enum base_reason)i;
		if (wanted)
			metrics_count(text, counts->transitions[i], "reason",
				      base_reason_word((enum base_reason)i), NULL);
	}
	metrics_family(text, METRICS_HISTOGRAM, "vipd_outage_seconds",
		       "From the last advert of the old owner to the first of this node.");
	metrics_histogram(text, &counts->outages, NULL, NULL);
}

static void each_port(struct metrics_text *text, const struct records *records, bool connections,
		      bool bytes)
{
	for (uint32_t i = 0; i < records->head->traffic_count; i++) {
		const struct record_traffic *traffic = &records->traffic[i];
		char vip[BASE_ADDRESS_TEXT_SIZE], port[8];

		if (traffic->connections != connections)
			continue;
		snprintf(port, sizeof port, "%u", traffic->port);
		metrics_count(text, bytes ? traffic->bytes : traffic->packets, "vip",
			      base_address_format(&traffic->address, vip), "protocol",
			      traffic->protocol == IPPROTO_UDP	  ? "UDP"
			      : traffic->protocol == IPPROTO_SCTP ? "SCTP"
								  : "TCP",
			      "port", port, NULL);
	}
}

static void render_traffic(struct metrics_text *text, const struct records *records)
{
	metrics_family(text, METRICS_COUNTER, "vipd_port_packets_total",
		       "Packets of clients that came to the owner for a port, as of the scrape before.");
	each_port(text, records, false, false);
	metrics_family(text, METRICS_COUNTER, "vipd_port_bytes_total",
		       "Their bytes; answers do not pass the owner and are not among them.");
	each_port(text, records, false, true);
	metrics_family(text, METRICS_COUNTER, "vipd_port_connections_total",
		       "New connections to a port, counted on the node that translates them.");
	each_port(text, records, true, false);
}

static void render_peers(struct metrics_text *text, const struct records *records, uint64_t wall_us)
{
	metrics_family(text, METRICS_GAUGE, "vipd_peer_heard_timestamp_seconds",
		       "When another node was heard on a segment last; 0: never.");
	for (uint32_t i = 0; i < records->head->peer_count; i++) {
		const struct record_peer *peer = &records->peers[i];
		char address[BASE_ADDRESS_TEXT_SIZE];
		/* To the tenth: ages are measured from here, and would tremble. */
		uint64_t when_us = wall_us / 100000 * 100000 - peer->heard_us / 100000 * 100000;

		metrics_seconds(text, peer->heard ? when_us : 0, "peer", peer->node, "address",
				base_address_format(&peer->address, address), "interface",
				peer->interface, NULL);
	}
}

static void render_leases(struct metrics_text *text, const struct record_counts *counts)
{
	static const char *const results[MESSAGE_WRITE_RESULT_COUNT] = {
		[MESSAGE_WRITE_OK] = "ok",
		[MESSAGE_WRITE_CONFLICT] = "conflict",
		[MESSAGE_WRITE_UNKNOWN] = "unknown",
		[MESSAGE_WRITE_REFUSED] = "refused",
	};

	metrics_family(text, METRICS_COUNTER, "vipd_lease_writes_total",
		       "Writes of Leases of virtual routers, by what became of them.");
	for (int i = 0; i < MESSAGE_WRITE_RESULT_COUNT; i++)
		metrics_count(text, counts->lease_results[i], "result", results[i], NULL);
}

static void render_head(struct metrics_text *text, const struct record_head *head)
{
	static const char *const fences[MESSAGE_FENCE_COUNT] = { "none", "owner-table", "loopback",
								 "egress" };

	metrics_gauge(text, "vipd_ready",
		      "1: what is wanted was read once and the fence is in place.", head->ready);
	metrics_family(text, METRICS_GAUGE, "vipd_fence_info", "By what the kernel is held back.");
	metrics_count(text, 1, "fence", fences[head->fence < MESSAGE_FENCE_COUNT ? head->fence : 0],
		      NULL);
	metrics_gauge(text, "vipd_rules_present",
		      "1: the rules in the kernel are those that are wanted.", head->rules_present);
	metrics_counter(text, "vipd_rules_restored_total",
			"How often somebody's change of our rules was undone.",
			head->counts.rules_restored);
	metrics_gauge(text, "vipd_virtual_routers", "Virtual routers that this node knows.",
		      head->router_count);
	metrics_gauge(text, "vipd_virtual_routers_owned", "Of those, how many it owns.",
		      head->owned);
	metrics_gauge(text, "vipd_service_ports", "Ports of Services that this node has rules for.",
		      head->ports);
	metrics_gauge(text, "vipd_maintenance", "1: the node owns nothing, as was asked for.",
		      head->maintenance);
	metrics_gauge(text, "vipd_excluded", "1: the node is never a candidate.", head->excluded);
	metrics_gauge(text, "vipd_feeder_running",
		      "1: the unprivileged half, which reads what is wanted, runs.",
		      head->feeder_running);
	metrics_counter(text, "vipd_feeder_starts_total", "How often it was started.",
			head->counts.feeder_starts);
	metrics_counter(text, "vipd_fence_refreshes_total",
			"Adverts that left, so that the kernel goes on answering.",
			head->counts.fence_refreshes);
}

static void render_engine(struct metrics_text *text, const struct render_node *node,
			  const struct records *records)
{
	render_head(text, records->head);
	render_vips(text, records, node->node);
	render_routers(text, records);
	render_verdicts(text, records->head);
	render_transitions(text, &records->head->counts);
	render_peers(text, records, node->wall_us);
	render_traffic(text, records);
	if (strcmp(node->role, "speaker") != 0)
		return;
	metrics_gauge(text, "vipd_api_reachable", "1: the API server answers this node.",
		      records->head->api_reachable);
	render_leases(text, &records->head->counts);
}

static void render_reads(struct metrics_text *text, const struct counters *counters)
{
	metrics_gauge(text, "vipd_config_last_reload_successful",
		      "1: the manifests had no fault when they were read last.",
		      counters->reads > 0 && !counters->read_failed);
	metrics_family(text, METRICS_GAUGE, "vipd_config_last_reload_success_timestamp_seconds",
		       "When they were read without a fault last; 0: never.");
	metrics_seconds(text, counters->read_wall_us, NULL);
	metrics_counter(text, "vipd_config_reloads_total", "How often they were read.",
			counters->reads);
	metrics_counter(text, "vipd_config_reload_failures_total",
			"How often they had a fault and were not taken.", counters->reads_failed);
}

void render_build(struct metrics_text *text, const char *role, const char *node)
{
	metrics_family(text, METRICS_GAUGE, "vipd_build_info", "What runs here.");
	metrics_count(text, 1, "version", VIPD_VERSION, "role", role, "node", node, NULL);
}

void render_api(struct metrics_text *text, const struct k8s_counters *counters)
{
	static const char *const methods[K8S_COUNTED_METHOD_COUNT] = {
#define METHOD_NAME(name) #name,
		K8S_COUNTED_METHODS(METHOD_NAME)
#undef METHOD_NAME
	};
	static const char *const codes[K8S_COUNTED_CODE_COUNT] = {
		[K8S_COUNTED_NO_ANSWER] = "<error>",
#define CODE_NAME(code) [K8S_COUNTED_##code] = #code,
		K8S_COUNTED_CODES(CODE_NAME)
#undef CODE_NAME
			[K8S_COUNTED_OTHER] = "other",
	};

	metrics_family(text, METRICS_COUNTER, "rest_client_requests_total",
		       "Requests to the API server, by status and method.");
	for (int i = 0; i < K8S_COUNTED_METHOD_COUNT; i++)
		for (int j = 0; j < K8S_COUNTED_CODE_COUNT; j++)
			if (counters->answers[i][j] > 0 || (i == 0 && j <= K8S_COUNTED_200))
				metrics_count(text, counters->answers[i][j], "code", codes[j],
					      "method", methods[i], NULL);
	metrics_family(text, METRICS_HISTOGRAM, "rest_client_request_duration_seconds",
		       "How long the API server took to answer; watches do not count.");
	for (int i = 0; i < K8S_COUNTED_METHOD_COUNT; i++)
		metrics_histogram(text, &counters->durations[i], "verb", methods[i]);
}

void render_process(struct metrics_text *text, unsigned pid, uint64_t wall_us)
{
	unsigned long long user, system, started, pages;
	uint64_t per_second = (uint64_t)sysconf(_SC_CLK_TCK), up_us;
	char path[64], line[1024] = "", *at;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%u/stat", pid);
	file = pid ? fopen(path, "re") : NULL;
	if (!file)
		return;
	at = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	fclose(file);
	/* Fields 14, 15, 22 and 24 of proc(5); after the name, which may hold anything. */
	if (!at || sscanf(at + 1,
			  " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu %*s %*s %*s %*s "
			  "%*s %*s %llu %*s %llu",
			  &user, &system, &started, &pages) != 4)
		return;
	up_us = base_clock_us(CLOCK_BOOTTIME);
	metrics_family(text, METRICS_COUNTER, "process_cpu_seconds_total", "User and system time.");
	metrics_seconds(text, (user + system) * BASE_USEC_PER_SEC / per_second, NULL);
	metrics_family(text, METRICS_GAUGE, "process_start_time_seconds", "When it was started.");
	metrics_seconds(text,
			(wall_us - up_us + started * BASE_USEC_PER_SEC / per_second) /
				BASE_USEC_PER_SEC * BASE_USEC_PER_SEC,
			NULL);
	metrics_gauge(text, "process_resident_memory_bytes", "Resident memory.",
		      pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

void render_node(struct metrics_text *text, const struct render_node *node, const void *data,
		 size_t size)
{
	struct records records = { 0 };
	bool known = data && read_records(&records, data, size);

	render_build(text, node->role, node->node);
	metrics_gauge(text, "vipd_engine_up", "1: the engine answers.", known);
	if (known)
		render_engine(text, node, &records);
	if (strcmp(node->role, "speaker") == 0)
		render_api(text, &node->counters->api);
	else
		render_reads(text, node->counters);
	render_process(text, node->engine, node->wall_us);
	free(records.routers);
}
