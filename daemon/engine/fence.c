#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/engine/node.h"
#include "vrrp/packet.h"

#define RESTORED_MAX 5 /* times a second: several commands of an administrator in a row, but no fight */
#define SHOWN_MAX 500 /* open fences that are read in one turn of the loop, a millisecond, when somebody asks */

static void open_loopback(struct engine *engine)
{
	int hops = 255;

	engine->loopback[0] = engine->loopback[1] = -1;
	if (engine->abilities.egress || !engine->table)
		return;
	engine->loopback[0] = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, VRRP_PROTOCOL);
	engine->loopback[1] =
		socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, VRRP_PROTOCOL);
	for (int i = 0; i < 2; i++)
		if (engine->loopback[i] >= 0)
			setsockopt(engine->loopback[i], i ? IPPROTO_IPV6 : IPPROTO_IP,
				   i ? IPV6_UNICAST_HOPS : IP_TTL, &hops, sizeof hops);
	log_line(LOG_NOTICE, BASE_REASON_UNSUPPORTED_FEATURE, LOG_NO_FIELDS, "%s",
		 strcmp(engine->options->fence, "loopback") == 0
			 ? "the fence is refreshed over loopback, as --fence says"
			 : "this kernel has no netdev egress hook: the fence is refreshed over loopback");
}

static int open_table(struct engine *engine)
{
	bool unfenced = engine->options->unfenced && strcmp(engine->options->unfenced, "true") == 0;
	struct base_error error = { 0 };

	if (nft_table_new(&engine->table, &engine->abilities, &error) >= 0) {
		if (strcmp(engine->options->fence, "egress") == 0 && !engine->abilities.egress) {
			log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
				 "this kernel has no netdev egress hook (5.16 and later do): take "
				 "--fence auto or loopback");
			return -1;
		}
		if (strcmp(engine->options->fence, "loopback") == 0)
			engine->abilities.egress = false;
		if (!engine->abilities.arp)
			log_line(LOG_NOTICE, BASE_REASON_UNSUPPORTED_FEATURE, LOG_NO_FIELDS,
				 "this kernel has no rules for ARP (CONFIG_NF_TABLES_ARP): if another interface of this node "
				 "is on the same Ethernet as the LAN's, set its net.ipv4.conf.INTERFACE.arp_ignore to 1 and "
				 "arp_announce to 2");
		return 0;
	}
	log_line(LOG_ERR, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
		 "no fence and no rules: %s%s", error.message,
		 unfenced ? "; going on unfenced, as --allow-unfenced says"
			  : " (--allow-unfenced runs without, at the risk of two owners)");
	return unfenced ? 0 : -1;
}

void engine_fence_read(struct engine *engine)
{
	engine->alive.count = 0;
	if (engine->table)
		nft_table_alive(engine->table, &engine->alive);
	engine->alive_us = engine_now(engine);
}

static int on_look(sd_event_source *source, void *userdata)
{
	struct engine *engine = userdata;
	struct nft_alive before = engine->alive;
	int r = nft_table_alive_more(engine->table, &engine->alive_next);

	if (r == 1)
		return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	engine->alive_looking = false;
	if (r < 0)
		engine->alive_next.count = 0; /* no table, no fence */
	engine->alive = engine->alive_next;
	engine->alive_next = before;
	engine->alive_us = engine->alive_begun_us;
	return 0;
}

void engine_fence_look(struct engine *engine)
{
	if (!engine->fence_look || engine->alive_looking)
		return;
	engine->alive_begun_us = engine_now(engine);
	if (nft_table_alive_start(engine->table, &engine->alive_next) < 0) {
		engine->alive.count = 0;
		return;
	}
	engine->alive_looking = true;
	sd_event_source_set_enabled(engine->fence_look, SD_EVENT_ONESHOT);
}

void engine_fence_show(struct engine *engine)
{
	if (!engine->routers || engine->restarted)
		return;
	if (engine->alive.count > SHOWN_MAX)
		engine_fence_look(engine);
	else
		engine_fence_read(engine);
}

bool engine_fence_ready(const struct engine *engine)
{
	return engine->rules_present;
}

bool engine_fence_open(const struct router *router)
{
	return nft_alive_has(&router->engine->alive, &router->wish.addresses[0]);
}

/* Somebody changed tables, or ours can be gone on with. */
static int on_rules(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct engine *engine = userdata;
	uint64_t now_us = engine_now(engine);
	int verdict;

	(void)source;
	(void)fd;
	(void)revents;
	verdict = nft_table_drain(engine->table);
	engine_rules_continue(engine);
	if (verdict == NFT_TABLE_UNCHANGED || !engine->routers || !engine->rules_present)
		return 0;
	if (verdict == NFT_TABLE_UNKNOWN && nft_table_present(engine->table)) {
		engine_rules_verify(engine); /* the rules are there; and the elements? */
		return 0;
	}
	nft_table_forget(engine->table);
	nft_table_retry(engine->table); /* it may have been what a refusal was for */
	engine->counts.rules_restored++;
	engine->rules_due = true;
	if (base_usec_since(now_us, engine->rules_restored_us) > BASE_USEC_PER_SEC) {
		engine->rules_restored_us = now_us;
		engine->rules_restored = 0;
	}
	if (engine->rules_restored++ < RESTORED_MAX)
		engine_rules_apply(engine); /* else the next refresh: nobody is fought with */
	if (log_gate_pass(&engine->foreign_gate, NULL))
		log_line(LOG_WARNING, BASE_REASON_KERNEL_REFUSED, LOG_NO_FIELDS,
			 "%s changed the rules of vipd: put back",
			 verdict == NFT_TABLE_CHANGED ? nft_table_culprit(engine->table)
						      : "somebody");
	return 0;
}

const char *engine_fence_name(const struct engine *engine)
{
	return !engine->table ? "none" : engine->abilities.egress ? "egress" : "loopback";
}

int engine_fence_start(struct engine *engine)
{
	if (open_table(engine) < 0)
		return -1;
	open_loopback(engine);
	engine_fence_read(engine);
	engine->restarted = engine->alive.count > 0;
	return 0;
}

int engine_fence_watch(struct engine *engine)
{
	sd_event_source *source;
	int r;

	if (!engine->table)
		return 0;
	r = sd_event_add_io(engine->event, &source, nft_table_fd(engine->table), EPOLLIN, on_rules,
			    engine);
	if (r >= 0)
		r = sd_event_source_set_priority(source, ENGINE_PRIORITY_RULES);
	if (r >= 0)
		r = sd_event_add_defer(engine->event, &engine->fence_look, on_look, engine);
	if (r >= 0)
		r = sd_event_source_set_enabled(engine->fence_look, SD_EVENT_OFF);
	return r < 0 ? r : sd_event_source_set_priority(engine->fence_look, ENGINE_PRIORITY_RULES);
}
