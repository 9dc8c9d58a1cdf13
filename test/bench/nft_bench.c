/*
 * nft_bench SERVICES [FOREIGN]: how long the element updates of table vipd take, in a namespace of its own.
 * FOREIGN: so many Services in a table like that of kube-proxy stand beside it. One line a measurement.
 * nft_bench SERVICES here: in this namespace, beside whoever writes there; a change every 10 ms, and nothing else.
 */
#include <netinet/in.h>
#include <poll.h>

#include "nft/io/counters.h"
#include "nft/io/table.h"
#include "test/adapter/place.h"

static struct nft_table *table;
static struct nft_skeleton skeleton;
static unsigned services, pause_us;

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void open_table(void)
{
	struct nft_abilities abilities;
	struct base_error error = { 0 };

	if (nft_table_new(&table, &abilities, &error) < 0) {
		printf("%s\n", error.message);
		exit(1);
	}
}

/* Where its endpoint is, and with which of its two addresses. */
static void want_endpoint(unsigned number, unsigned node, unsigned pod, unsigned ranges)
{
	static struct base_prefix prefixes[4096];
	struct base_address vip = base_address_ipv4(198, (uint8_t)(18 + number / 65536),
						    (uint8_t)(number / 256), (uint8_t)number);
	struct nft_endpoint one = {
		.address = base_address_ipv4(10, (uint8_t)(244 + pod % 2),
					     (uint8_t)(number / 256), (uint8_t)number),
		.port = 22,
		.node = base_address_ipv4(192, 0, 2, (uint8_t)(2 + node % 2)),
	};
	struct nft_port port = { .address = vip,
				 .protocol = IPPROTO_TCP,
				 .port = 22,
				 .dataplane = NFT_DATAPLANE_DIRECTOR,
				 .range_count = ranges,
				 .ranges = prefixes,
				 .endpoint_count = 1,
				 .endpoints = &one };

	for (unsigned i = 0; i < ranges; i++)
		prefixes[i] = (struct base_prefix){
			base_address_ipv4(11, (uint8_t)(i / 256), (uint8_t)i, 0), 24
		};
	nft_table_source(table, &number, sizeof number);
	nft_emit_vip(&vip, port.dataplane, 0, NULL, nft_table_want, table);
	nft_emit_port(&port, nft_table_want, table);
}

static void want_service(unsigned number, unsigned endpoint, unsigned ranges)
{
	want_endpoint(number, endpoint, endpoint, ranges);
}

/* Until all is there; the longest turn and how many. */
static void commit(uint64_t *longest_ns, unsigned *turns)
{
	int r;

	*longest_ns = *turns = 0;
	do {
		struct base_error error = { 0 };
		uint64_t begin = clock_ns(), took;

		r = nft_table_commit(table, &skeleton, &error);
		took = clock_ns() - begin;
		if (r < 0) {
			printf("%s\n", error.message);
			exit(1);
		}
		*longest_ns = took > *longest_ns ? took : *longest_ns;
		++*turns;
		if (r & NFT_TABLE_WAIT)
			poll(&(struct pollfd){ .fd = nft_table_fd(table), .events = POLLIN }, 1, -1);
		if (r & NFT_TABLE_WAIT)
			nft_table_drain(table);
	} while (r & (NFT_TABLE_MORE | NFT_TABLE_WAIT));
}

static void report(const char *what, uint64_t begin, uint64_t longest_ns, unsigned turns)
{
	printf("%-44s %9.2f ms, %u turns, the longest %.2f ms\n", what,
	       (double)(clock_ns() - begin) / 1e6, turns, (double)longest_ns / 1e6);
}

static void all(const char *what)
{
	uint64_t begin = clock_ns(), longest;
	unsigned turns;

	nft_table_begin(table);
	for (unsigned i = 0; i < services; i++)
		want_service(i, i, 0);
	report("  wishes alone", begin, 0, 0);
	commit(&longest, &turns);
	report(what, begin, longest, turns);
}

static void want_moved(unsigned i)
{
	want_service(services / 2, i + 1, 0);
}

static void want_moved_alone(unsigned i)
{
	want_endpoint(services / 2, i + 1, 0, 0);
}

/* A member comes, and goes: next to nothing, so it costs what the kernel takes for any transaction at all. */
static void want_member(unsigned i)
{
	static const struct base_mac mac = { { 2, 0, 0, 0, 0, 99 } };

	nft_table_source(table, "member", sizeof "member");
	if (i % 2 == 0)
		nft_emit_peer(&mac, nft_table_want, table);
}

static void changes(const char *what, void want(unsigned i))
{
	static uint64_t took[1000];
	unsigned turns;

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t begin, longest;

		usleep(pause_us);
		begin = clock_ns();
		want(i);
		commit(&longest, &turns);
		took[i] = clock_ns() - begin;
	}
	qsort(took, 1000, sizeof took[0], compare);
	printf("%-44s p50 %.1f us, p99 %.1f us, max %.1f us\n", what, (double)took[500] / 1e3,
	       (double)took[990] / 1e3, (double)took[999] / 1e3);
}

static void ranges(void)
{
	static const unsigned counts[] = { 2000, 1000, 2000, 0 };

	for (size_t i = 0; i < 4; i++) {
		uint64_t begin = clock_ns(), longest;
		unsigned turns;
		char what[64];

		want_service(1, 1, counts[i]);
		commit(&longest, &turns);
		snprintf(what, sizeof what, "one Service has %u source ranges now", counts[i]);
		report(what, begin, longest, turns);
	}
}

static void on_count(void *userdata, const struct nft_count *count)
{
	(void)count;
	++*(unsigned *)userdata;
}

static void counters(void)
{
	struct nft_counters *reader;
	uint64_t begin = clock_ns(), longest = 0;
	unsigned count = 0, turns = 0;
	int r;

	if (nft_counters_new(&reader) < 0)
		exit(1);
	nft_counters_start(reader);
	do {
		uint64_t turn = clock_ns();

		r = nft_counters_run(reader, on_count, &count);
		turn = clock_ns() - turn;
		longest = turn > longest ? turn : longest;
		turns++;
	} while (r == 1);
	report("all counters read", begin, longest, turns);
	nft_counters_free(reader);
}

static void foreign(unsigned count)
{
	FILE *file = popen("nft -f -", "we");

	fprintf(file, "table ip kube-proxy {\n map services { type ipv4_addr . inet_proto . "
		      "inet_service : verdict; }\n");
	for (unsigned i = 0; i < count; i++)
		fprintf(file, " chain service-%u { ip saddr != 10.244.0.0/16 jump masquerade-mark; numgen random "
			      "mod 1 vmap { 0 : goto endpoint-%u }; }\n chain endpoint-%u { meta "
			      "l4proto tcp dnat to 10.244.%u.%u:80; }\n",
			i, i, i, i / 250, i % 250 + 1);
	fprintf(file, " chain masquerade-mark { meta mark set meta mark or 0x4000; }\n}\n");
	for (unsigned i = 0; i < count; i++)
		fprintf(file, "add element ip kube-proxy services { 10.96.%u.%u . tcp . 80 : goto "
			      "service-%u }\n",
			i / 250, i % 250 + 1, i);
	if (pclose(file) != 0)
		exit(1);
}

int main(int argc, char **argv)
{
	bool here = argc > 2 && strcmp(argv[2], "here") == 0;
	uint64_t begin, longest;
	unsigned turns;

	services = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
	if (here) {
		pause_us = 10000;
	} else {
		place_enter();
		place_cable();
		if (argc > 2)
			foreign((unsigned)atoi(argv[2]));
	}
	skeleton = (struct nft_skeleton){ .egress = true,
					  .arp = true,
					  .segment_count = 1,
					  .segments = { "eth1" },
					  .indices = { if_nametoindex("eth1") },
					  .interval_count = 1,
					  .intervals_cs = { 10 },
					  .addresses_per_router = 1,
					  .source4 = { [24] = true } };
	open_table();
	begin = clock_ns();
	nft_table_begin(table);
	commit(&longest, &turns);
	report("skeleton", begin, longest, turns);
	all("full start");
	changes("one Service's endpoint changes", want_moved);
	changes("it moves, and keeps its address", want_moved_alone);
	changes("two elements change: a member", want_member);
	if (here) {
		nft_table_free(table);
		return 0;
	}
	ranges();
	counters();
	all("everything said again, nothing changed");
	nft_table_free(table);
	open_table();
	all("restart: compared with what is there");
	place_run("nft flush ruleset");
	nft_table_forget(table);
	begin = clock_ns();
	commit(&longest, &turns);
	report("after a foreign flush", begin, longest, turns);
	nft_table_free(table);
	return 0;
}
