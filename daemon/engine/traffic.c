#include "daemon/engine/traffic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/node.h"
#include "nft/io/counters.h"

#define PIECES 4 /* a turn, of some 0.1 to 1 ms each */

struct found {
	struct record_traffic *at;
	size_t count, capacity;
};

struct traffic {
	struct nft_counters *reader;
	sd_event_source *work;
	bool running;
	struct found next, shown;
};

static void on_count(void *userdata, const struct nft_count *count)
{
	struct found *found = &((struct traffic *)userdata)->next;

	if (count->packets == 0)
		return;
	if (found->count == found->capacity) {
		size_t capacity = found->capacity ? found->capacity * 2 : 64;
		struct record_traffic *grown = realloc(found->at, capacity * sizeof *grown);

		if (!grown)
			return; /* some are not shown this time */
		found->at = grown;
		found->capacity = capacity;
	}
	memset(&found->at[found->count], 0, sizeof found->at[0]);
	found->at[found->count++] = (struct record_traffic){
		.address = count->address,
		.protocol = count->protocol,
		.port = count->port,
		.connections = count->kind == NFT_COUNT_CONNECTIONS,
		.packets = count->packets,
		.bytes = count->bytes,
	};
}

static int on_work(sd_event_source *source, void *userdata)
{
	struct traffic *traffic = userdata;
	int r = 1;

	for (int i = 0; i < PIECES && r == 1; i++)
		r = nft_counters_run(traffic->reader, on_count, traffic);
	if (r == 1) {
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		return 0;
	}
	traffic->running = false;
	if (r == 0) {
		struct found swap = traffic->shown;

		traffic->shown = traffic->next;
		traffic->next = swap;
	} else {
		traffic->shown.count = 0; /* no tables, no numbers */
	}
	return 0;
}

int traffic_new(struct traffic **traffic, struct engine *engine)
{
	struct traffic *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	r = nft_counters_new(&new->reader);
	if (r >= 0)
		r = sd_event_add_defer(engine->event, &new->work, on_work, new);
	if (r >= 0)
		r = sd_event_source_set_priority(new->work, ENGINE_PRIORITY_STATUS);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->work, SD_EVENT_OFF);
	if (r < 0) {
		traffic_free(new);
		return r;
	}
	*traffic = new;
	return 0;
}

void traffic_free(struct traffic *traffic)
{
	if (!traffic)
		return;
	sd_event_source_disable_unref(traffic->work);
	nft_counters_free(traffic->reader);
	free(traffic->next.at);
	free(traffic->shown.at);
	free(traffic);
}

const struct record_traffic *traffic_get(struct traffic *traffic, size_t *count)
{
	*count = traffic ? traffic->shown.count : 0;
	if (traffic && !traffic->running) {
		traffic->running = true;
		traffic->next.count = 0;
		nft_counters_start(traffic->reader);
		sd_event_source_set_enabled(traffic->work, SD_EVENT_ONESHOT);
	}
	return traffic ? traffic->shown.at : NULL;
}
