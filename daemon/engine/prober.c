#include "daemon/engine/prober.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/core/probe_series.h"
#include "vrrp/io/neighbour.h"

#define INTERVAL_MAX_MS 1000
#define DURATION_MAX_MS 320000 /* the longest fault, and what comes before and after it */

_Static_assert(PROBE_SPANS_MAX <= MESSAGE_SPANS_MAX, "what was seen can be told");

struct prober {
	struct engine *engine;
	sd_event_source *timer;
	bool running;
	struct message_probe order;
	unsigned interface; /* its index: the segment may come and go */
	uint64_t end_us;
	struct probe_series series;
};

static struct segment *segment_of(struct prober *prober)
{
	struct segment *segment = prober->engine->segments;

	while (segment && segment->index != prober->interface)
		segment = segment->next;
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
	struct message message;
	struct message_probe_result *result = &message.probe_result;

	MESSAGE_CLEAR(&message, MESSAGE_PROBE_RESULT, probe_result);
	result->id = prober->order.id;
	result->done = done;
	result->sent = (uint32_t)prober->series.sent;
	result->lost = (uint32_t)prober->series.lost;
	result->outage_us = prober->series.outage_us;
	result->two_us = prober->series.two_us;
	result->span_count = prober->series.span_count;
	for (unsigned i = 0; i < prober->series.span_count; i++)
		fill_span(prober, &result->spans[i], &prober->series.spans[i]);
	snprintf(result->why_not, sizeof result->why_not, "%s", why_not);
	engine_tell(prober->engine, &message);
}

static void finish(struct prober *prober, const char *why_not)
{
	prober->running = false;
	sd_event_source_set_enabled(prober->timer, SD_EVENT_OFF);
	probe_series_end(&prober->series);
	tell(prober, true, why_not);
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
		/* It came here instead: nobody hears his own answers, but there they are. */
		probe_series_answer(&prober->series, &segment->mac);
		return true;
	}
	frame.size = vrrp_frame_ask(target, &source, &segment->mac, NULL, frame.data);
	vrrp_neighbour_send(segment->neighbour, &frame, 1);
	return true;
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
	/* What was overslept is not caught up on. */
	usec += interval_us;
	sd_event_source_set_time(source, usec > now_us ? usec : now_us + interval_us);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
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
	return NULL;
}

void prober_start(struct prober *prober, const struct message_probe *order)
{
	const char *why_not;

	if (prober->running)
		finish(prober, "another drill began");
	prober->order = *order;
	probe_series_init(&prober->series, order->interval_ms * BASE_USEC_PER_MSEC);
	why_not = refusal(prober, order);
	if (!why_not && !ask(prober, engine_now(prober->engine)))
		why_not = "this node has no address on the segment";
	if (why_not) {
		tell(prober, true, why_not);
		return;
	}
	prober->running = true;
	prober->end_us = engine_now(prober->engine) + order->duration_ms * BASE_USEC_PER_MSEC;
	sd_event_source_set_time(prober->timer, engine_now(prober->engine) +
							order->interval_ms * BASE_USEC_PER_MSEC);
	sd_event_source_set_enabled(prober->timer, SD_EVENT_ONESHOT);
	tell(prober, false, "");
}

void prober_seen(struct prober *prober, const struct segment *segment,
		 const struct vrrp_neighbour_seen *seen)
{
	if (prober && prober->running && segment->index == prober->interface && seen->answer &&
	    seen->to_one && base_address_equal(&seen->address, &prober->order.address))
		probe_series_answer(&prober->series, &seen->mac);
}

int prober_new(struct prober **prober, struct engine *engine)
{
	struct prober *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->engine = engine;
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
	sd_event_source_disable_unref(prober->timer);
	free(prober);
}
