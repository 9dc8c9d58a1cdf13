#include "daemon/engine/prober.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"
#include "daemon/engine/core/probe_packet.h"
#include "daemon/engine/core/probe_series.h"
#include "daemon/engine/held.h"
#include "vrrp/io/neighbour.h"

#define FIRST_PORT      50000 /* and those after it: seldom anybody's */
#define INTERVAL_MAX_MS 1000
#define OPENING_US      (1500 * BASE_USEC_PER_MSEC) /* for connections to open */
#define DURATION_MAX_MS 320000 /* the longest fault, and what comes before and after it */

_Static_assert(PROBE_SPANS_MAX <= MESSAGE_SPANS_MAX, "what was seen can be told");

struct prober {
	struct engine *engine;
	sd_event_source *timer;
	bool running;
	bool begun; /* and the feeder knows */
	struct message_probe order;
	unsigned interface; /* its index: the segment may come and go */
	uint64_t begun_us, end_us;
	struct probe_series series; /* who has it */
	/* With a protocol: does it answer? Asked at the MAC that answered last. */
	struct probe_series packets;
	struct probe_packet packet;
	bool known; /* its target_mac */
	struct held held;
	int packet_fd;
	sd_event_source *packet_io;
};

static struct segment *segment_of(struct prober *prober)
{
	struct segment *segment = segment_at(prober->engine, prober->interface);

	return segment && segment->neighbour ? segment : NULL;
}

static void fill_span(struct prober *prober, struct message_span *told,
		      const struct probe_span *span)
{
	const struct segment *segment = segment_of(prober);
	const struct segment_peer *member;
	const struct engine_node *node;

	told->at_us = span->at_us;
	if (span->answerers != 1) {
		snprintf(told->node, sizeof told->node, "%s",
			 span->answerers ? MESSAGE_SPAN_TWO : "");
		return;
	}
	base_mac_format(&span->mac, told->node);
	if (!segment)
		return;
	if (memcmp(&segment->mac, &span->mac, sizeof span->mac) == 0) {
		snprintf(told->node, sizeof told->node, "%s", prober->engine->node);
		return;
	}
	member = segment_member_by_mac(segment, BASE_FAMILY_NONE, &span->mac);
	node = member ? engine_node_at(prober->engine, &member->address) : NULL;
	if (node)
		snprintf(told->node, sizeof told->node, "%s", node->name);
}

static void tell(struct prober *prober, bool done, const char *why_not)
{
	struct message *message = engine_message(MESSAGE_PROBE_RESULT);
	struct message_probe_result *result = &message->probe_result;
	const struct probe_series *measured =
		prober->order.protocol ? &prober->packets : &prober->series;

	MESSAGE_CLEAR(message, MESSAGE_PROBE_RESULT, probe_result);
	result->id = prober->order.id;
	result->done = done;
	result->sent = (uint32_t)measured->sent;
	result->lost = (uint32_t)measured->lost;
	result->outage_us = measured->outage_us;
	result->two_us = prober->series.two_us;
	if (prober->held.wanted)
		probe_connections_count(prober->held.list, &result->connections_kept,
					&result->connections_lost);
	result->span_count = prober->series.span_count;
	for (unsigned i = 0; i < prober->series.span_count; i++)
		fill_span(prober, &result->spans[i], &prober->series.spans[i]);
	snprintf(result->why_not, sizeof result->why_not, "%s", why_not);
	engine_tell(prober->engine, message);
}

/* --- packets --- */

static void close_packets(struct prober *prober)
{
	prober->packet_io = sd_event_source_disable_unref(prober->packet_io);
	if (prober->packet_fd >= 0)
		close(prober->packet_fd);
	prober->packet_fd = -1;
}

static int on_packet(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct prober *prober = userdata;
	uint8_t data[2048];
	ssize_t size;

	(void)source;
	(void)revents;
	while ((size = recv(fd, data, sizeof data, MSG_DONTWAIT)) > 0) {
		if (prober->order.protocol &&
		    probe_packet_is_answer(&prober->packet, data, (size_t)size))
			probe_series_answer(&prober->packets, &prober->packet.target_mac);
		if (prober->held.wanted)
			held_hear(&prober->held, fd, data, (size_t)size);
	}
	return 0;
}

/* What comes from the address alone: the rest of the LAN's traffic stays away. */
static int attach_filter(int fd, const struct base_address *from)
{
	bool six = from->family == BASE_FAMILY_IPV6;
	const uint8_t *last = from->bytes + (six ? 12 : 0);
	uint32_t wanted = (uint32_t)last[0] << 24 | (uint32_t)last[1] << 16 |
			  (uint32_t)last[2] << 8 | last[3];
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 14 + (six ? 8 + 12 : 12)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, wanted, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 2048),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { BASE_COUNT_OF(code), code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno
											  : 0;
}

static int open_packets(struct prober *prober)
{
	bool six = prober->order.address.family == BASE_FAMILY_IPV6;
	struct sockaddr_ll local = { .sll_family = AF_PACKET,
				     .sll_protocol = htons(six ? ETH_P_IPV6 : ETH_P_IP),
				     .sll_ifindex = (int)prober->interface };
	int r = 0;

	prober->packet_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (prober->packet_fd < 0)
		return -errno;
	r = attach_filter(prober->packet_fd, &prober->order.address);
	if (r == 0 && bind(prober->packet_fd, (struct sockaddr *)&local, sizeof local) < 0)
		r = -errno;
	if (r == 0)
		r = sd_event_add_io(prober->engine->event, &prober->packet_io, prober->packet_fd,
				    EPOLLIN, on_packet, prober);
	if (r >= 0)
		r = sd_event_source_set_priority(prober->packet_io, ENGINE_PRIORITY_NEIGHBOUR);
	if (r < 0)
		close_packets(prober);
	return r < 0 ? r : 0;
}

/*
 * Not from our own MAC: members' packets pass a closed fence, because a director may have sent them on, and
 * a client's do not.
 */
static struct base_mac clients_mac(const struct segment *segment)
{
	struct base_mac mac = segment->mac;

	mac.bytes[0] ^= 2;
	return mac;
}

static void send_packet(struct prober *prober, uint64_t now_us, const struct segment *segment,
			const struct base_address *source)
{
	struct probe_packet *packet = &prober->packet;
	uint8_t data[PROBE_PACKET_SIZE_MAX];
	size_t size;

	packet->protocol = prober->order.protocol;
	packet->port = prober->order.port;
	packet->own_port = FIRST_PORT;
	packet->number++;
	packet->source = *source;
	packet->target = prober->order.address;
	packet->source_mac = clients_mac(segment);
	probe_series_ask(&prober->packets, now_us);
	size = probe_packet_build(packet, data);
	(void)!send(prober->packet_fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void finish(struct prober *prober, const char *why_not)
{
	prober->running = false;
	sd_event_source_set_enabled(prober->timer, SD_EVENT_OFF);
	probe_series_end(&prober->series);
	probe_series_end(&prober->packets);
	tell(prober, true, why_not);
	held_close(&prober->held, prober->packet_fd);
	close_packets(prober);
}

/* False: it did not leave, and is no question. */
static bool ask(struct prober *prober, uint64_t now_us)
{
	const struct base_address *target = &prober->order.address;
	struct segment *segment = segment_of(prober);
	struct base_address source;
	struct router *router;
	struct vrrp_frame frame;

	if (!segment)
		return false;
	source = segment_own_address(segment, target);
	if (source.family == BASE_FAMILY_NONE)
		return false;
	router = engine_router_at(prober->engine, target);
	probe_series_ask(&prober->series, now_us);
	if (router && virtual_router_owns(&router->core)) {
		/* It came here instead: nobody hears his own answers, but there they are. What is behind
		 * the address cannot be asked from here any more. */
		probe_series_answer(&prober->series, &segment->mac);
		held_close(&prober->held, -1);
		return true;
	}
	if (prober->order.protocol && prober->known)
		send_packet(prober, now_us, segment, &source);
	if (prober->held.wanted && prober->known) {
		struct base_mac from = clients_mac(segment);

		held_ask(&prober->held, prober->packet_fd, now_us, &from,
			 &prober->packet.target_mac);
	}
	frame.size = vrrp_frame_ask(target, &source, &segment->mac, NULL, frame.data);
	vrrp_neighbour_send(segment->neighbour, &frame, 1);
	return true;
}

/* It has begun when its connections are open: what happens to the address before that would not be seen. */
static void begin(struct prober *prober, uint64_t now_us)
{
	char why_not[MESSAGE_TEXT_SIZE];

	if (!prober->held.wanted || probe_connections_are_open(prober->held.list)) {
		prober->begun = true;
		tell(prober, false, "");
	} else if (base_usec_since(now_us, prober->begun_us) > OPENING_US) {
		snprintf(
			why_not, sizeof why_not,
			"%u connections to port %u could not be opened: does anybody listen there?",
			PROBE_CONNECTIONS, prober->order.connection_port);
		finish(prober, why_not);
	}
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct prober *prober = userdata;
	uint64_t now_us = engine_now(prober->engine);
	uint64_t interval_us = prober->order.interval_ms * BASE_USEC_PER_MSEC;

	if (now_us >= prober->end_us) {
		finish(prober, "");
		return 0;
	}
	if (!ask(prober, now_us)) {
		finish(prober, "this node lost its link to the segment");
		return 0;
	}
	if (!prober->begun)
		begin(prober, now_us);
	if (!prober->running)
		return 0;
	/* What was overslept is not caught up on. */
	usec += interval_us;
	sd_event_source_set_time(source, usec > now_us ? usec : now_us + interval_us);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

struct search {
	const struct engine *engine;
	bool found;
};

static void look_for_endpoint(void *userdata, const struct base_address *address, uint8_t protocol,
			      uint16_t port)
{
	struct search *search = userdata;
	const struct message_service_port *wish =
		store_port(search->engine->store, address, protocol, port);

	for (uint32_t i = 0; wish && i < wish->endpoint_count; i++)
		search->found |= strcmp(wish->endpoints[i].node, search->engine->node) == 0;
}

/* What the owner sends on to an endpoint here would come back from our own address, and be dropped. */
static bool has_endpoint_here(struct prober *prober, const struct base_address *address)
{
	struct search search = { .engine = prober->engine };

	store_each_port(prober->engine->store, address, look_for_endpoint, &search);
	return search.found;
}

static int open_connections(struct prober *prober, struct segment *segment)
{
	const struct message_probe *order = &prober->order;
	struct base_address source = segment_own_address(segment, &order->address);

	return held_open(&prober->held, &source, &order->address, order->connection_port,
			 engine_now(prober->engine));
}

static const char *refusal(struct prober *prober, const struct message_probe *order)
{
	struct router *router = engine_router_at(prober->engine, &order->address);

	if (order->interval_ms < 1 || order->interval_ms > INTERVAL_MAX_MS ||
	    order->duration_ms > DURATION_MAX_MS)
		return "interval or duration is out of bounds";
	if (!router || !router->segment || !router->segment->neighbour)
		return "this node is not on the segment of the address";
	if (virtual_router_owns(&router->core))
		return "this node owns the address: it cannot ask itself";
	prober->interface = router->segment->index;
	if (((order->protocol && order->protocol != IPPROTO_ICMP) || order->connection_port) &&
	    has_endpoint_here(prober, &order->address))
		return "an endpoint of the address is on this node: TCP and UDP can be asked from "
		       "others only";
	if ((order->protocol || order->connection_port) && open_packets(prober) < 0)
		return "this node cannot send packets of its own making";
	if (order->connection_port && open_connections(prober, router->segment) < 0)
		return "this node cannot hold connections of its own making";
	return NULL;
}

void prober_start(struct prober *prober, const struct message_probe *order)
{
	const char *why_not;

	if (prober->running)
		finish(prober, "another drill began");
	prober->order = *order;
	probe_series_init(&prober->series, order->interval_ms * BASE_USEC_PER_MSEC);
	probe_series_init(&prober->packets, order->interval_ms * BASE_USEC_PER_MSEC);
	prober->packet = (struct probe_packet){ 0 };
	prober->known = false;
	why_not = refusal(prober, order);
	if (!why_not && !ask(prober, engine_now(prober->engine)))
		why_not = "this node has no address on the segment";
	if (why_not) {
		held_close(&prober->held, prober->packet_fd);
		close_packets(prober);
		tell(prober, true, why_not);
		return;
	}
	prober->running = true;
	prober->begun_us = engine_now(prober->engine);
	prober->end_us = prober->begun_us + order->duration_ms * BASE_USEC_PER_MSEC;
	sd_event_source_set_time(prober->timer, engine_now(prober->engine) +
							order->interval_ms * BASE_USEC_PER_MSEC);
	sd_event_source_set_enabled(prober->timer, SD_EVENT_ONESHOT);
	prober->begun = false;
	begin(prober, prober->begun_us);
}

static void heard(struct prober *prober, const struct base_mac *mac)
{
	prober->packet.target_mac = *mac;
	prober->known = true;
	probe_series_answer(&prober->series, mac);
}

void prober_seen(struct prober *prober, const struct segment *segment,
		 const struct vrrp_neighbour_seen *seen)
{
	if (prober && prober->running && segment->index == prober->interface && seen->answer &&
	    seen->to_one && base_address_equal(&seen->address, &prober->order.address))
		heard(prober, &seen->mac);
}

int prober_new(struct prober **prober, struct engine *engine)
{
	struct prober *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->engine = engine;
	new->packet_fd = -1;
	held_init(&new->held);
	/* After answers were read, and as sharp as the kernel can. */
	r = sd_event_add_time(engine->event, &new->timer, CLOCK_BOOTTIME, UINT64_MAX, 1, on_timer,
			      new);
	if (r >= 0)
		r = sd_event_source_set_priority(new->timer, ENGINE_PRIORITY_ANNOUNCE);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->timer, SD_EVENT_OFF);
	if (r < 0) {
		prober_free(new);
		return r;
	}
	*prober = new;
	return 0;
}

void prober_free(struct prober *prober)
{
	if (!prober)
		return;
	held_close(&prober->held, prober->packet_fd);
	close_packets(prober);
	sd_event_source_disable_unref(prober->timer);
	free(prober);
}
