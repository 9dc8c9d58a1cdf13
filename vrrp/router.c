#include "vrrp/router.h"

static void add(struct vrrp_actions *actions, enum vrrp_action_type type, uint8_t priority,
		bool stronger)
{
	if (actions->count < VRRP_ACTIONS_MAX)
		actions->items[actions->count++] = (struct vrrp_action){ type, priority, stronger };
}

uint64_t vrrp_skew_us(uint8_t priority, uint32_t active_interval_us)
{
	return (256 - (uint64_t)priority) * active_interval_us / 256;
}

uint64_t vrrp_active_down_us(uint8_t priority, uint32_t active_interval_us)
{
	return 3 * (uint64_t)active_interval_us + vrrp_skew_us(priority, active_interval_us);
}

/* How long the silence may last from `silence_started_us` on. Version 2 skews in whole seconds. */
static uint64_t silence_us(const struct vrrp_router *router)
{
	uint32_t skewed = router->config.version == 2 ? (uint32_t)BASE_USEC_PER_SEC
						      : router->active_interval_us;
	uint64_t skew = vrrp_skew_us(router->config.priority, skewed);

	return router->resigned ? skew : 3 * (uint64_t)router->active_interval_us + skew;
}

static uint64_t silence_end_us(const struct vrrp_router *router)
{
	return base_usec_add(router->silence_started_us, silence_us(router));
}

/* Its fence lasts 2.5 intervals: whoever answers for it after that is alive, not left over. */
static uint64_t suspicion_us(const struct vrrp_router *router)
{
	uint64_t fence_us = (uint64_t)router->active_interval_us * 13 / 5;

	return base_usec_add(router->silence_started_us,
			     router->resigned ? silence_us(router) / 3 * 2 : fence_us);
}

/* Two adverts are overdue, a tenth of an interval the second; by rank, as everything that ends in a claim. */
static uint64_t missed_us(const struct vrrp_router *router)
{
	uint64_t overdue_us = (uint64_t)router->active_interval_us * 21 / 10;

	return base_usec_add(router->silence_started_us,
			     overdue_us + vrrp_skew_us(router->config.priority, router->active_interval_us));
}

static void start_silence(struct vrrp_router *router, uint64_t now_us, bool resigned)
{
	router->silence_started_us = now_us;
	router->suspected = false;
	router->resigned = resigned;
	router->missed = resigned; /* nothing is missed that is not expected */
	router->deadline_us = router->config.arbitrated
				      ? base_usec_earlier(resigned ? BASE_USEC_NEVER : missed_us(router),
							  suspicion_us(router))
				      : silence_end_us(router);
}

static void become_initialize(struct vrrp_router *router)
{
	router->state = VRRP_STATE_INITIALIZE;
	router->deadline_us = BASE_USEC_NEVER;
}

static void become_backup(struct vrrp_router *router, uint64_t now_us)
{
	router->state = VRRP_STATE_BACKUP;
	start_silence(router, now_us, false);
}

static void become_active(struct vrrp_router *router, uint64_t now_us,
			  struct vrrp_actions *actions)
{
	router->state = VRRP_STATE_ACTIVE;
	router->deadline_us = now_us + router->config.interval_us;
	add(actions, VRRP_ACTION_SEND_ADVERT, router->config.priority, false);
	add(actions, VRRP_ACTION_ACTIVE, 0, false);
}

void vrrp_router_init(struct vrrp_router *router, const struct vrrp_router_config *config)
{
	*router = (struct vrrp_router){
		.config = *config,
		.active_interval_us = config->interval_us,
	};
	become_initialize(router);
}

void vrrp_router_configure(struct vrrp_router *router, const struct vrrp_router_config *config)
{
	bool interval_changed = router->config.interval_us != config->interval_us;

	router->config = *config;
	if (!interval_changed)
		return;
	router->active_interval_us = config->interval_us;
	if (router->state == VRRP_STATE_BACKUP)
		start_silence(router, router->silence_started_us, router->resigned);
}

static void step_initialize(struct vrrp_router *router, const struct vrrp_event *event,
			    struct vrrp_actions *actions)
{
	if (event->type != VRRP_EVENT_STARTUP)
		return;
	if (router->config.priority == 255 && !router->config.arbitrated) {
		become_active(router, event->now_us, actions);
		return;
	}
	router->active_interval_us = router->config.interval_us;
	become_backup(router, event->now_us);
}

static void backup_timer(struct vrrp_router *router, uint64_t now_us, struct vrrp_actions *actions)
{
	if (!router->config.arbitrated) {
		become_active(router, now_us, actions);
		return;
	}
	if (!router->missed) {
		router->missed = true;
		add(actions, VRRP_ACTION_MISSED, 0, false);
		router->deadline_us = suspicion_us(router);
	}
	if (!router->suspected && now_us >= router->deadline_us) {
		router->suspected = true;
		add(actions, VRRP_ACTION_SUSPECT, 0, false);
		router->deadline_us = silence_end_us(router);
	}
	if (now_us >= router->deadline_us) {
		router->deadline_us = BASE_USEC_NEVER; /* until the arbiter or an advert speaks */
		add(actions, VRRP_ACTION_CLAIM, 0, false);
	}
}

static void backup_advert(struct vrrp_router *router, const struct vrrp_event *event)
{
	if (event->advert.priority == 0) {
		start_silence(router, event->now_us, true);
		return;
	}
	if (!router->config.arbitrated && router->config.preempt &&
	    event->advert.priority < router->config.priority)
		return; /* the timer keeps running, so we preempt when it fires */
	router->active_interval_us = router->config.version == 2 ? router->config.interval_us
								 : event->advert.interval_us;
	start_silence(router, event->now_us, false);
}

static void step_backup(struct vrrp_router *router, const struct vrrp_event *event,
			struct vrrp_actions *actions)
{
	switch (event->type) {
	case VRRP_EVENT_STARTUP:
	case VRRP_EVENT_YIELD:
	case VRRP_EVENT_RESIGN:
		return;
	case VRRP_EVENT_SHUTDOWN:
		become_initialize(router);
		return;
	case VRRP_EVENT_TIMER:
		backup_timer(router, event->now_us, actions);
		return;
	case VRRP_EVENT_ADVERT:
		backup_advert(router, event);
		return;
	case VRRP_EVENT_ACTIVATE:
		become_active(router, event->now_us, actions);
		return;
	case VRRP_EVENT_LISTEN:
		start_silence(router, event->now_us, false);
		return;
	}
}

static void active_advert(struct vrrp_router *router, const struct vrrp_event *event,
			  struct vrrp_actions *actions)
{
	bool stronger = event->advert.priority > router->config.priority ||
			(event->advert.priority == router->config.priority &&
			 base_address_compare(&event->advert.source, &router->config.source) > 0);

	if (event->advert.priority == 0 || !stronger) {
		add(actions, VRRP_ACTION_SEND_ADVERT, router->config.priority, false);
		router->deadline_us = event->now_us + router->config.interval_us;
		if (event->advert.priority != 0 && router->config.arbitrated)
			add(actions, VRRP_ACTION_CONTEST, event->advert.priority, false);
		return;
	}
	if (router->config.arbitrated) {
		add(actions, VRRP_ACTION_CONTEST, event->advert.priority, true);
		return;
	}
	router->active_interval_us = router->config.version == 2 ? router->config.interval_us
								 : event->advert.interval_us;
	become_backup(router, event->now_us);
	add(actions, VRRP_ACTION_BACKUP, 0, false);
}

static void step_active(struct vrrp_router *router, const struct vrrp_event *event,
			struct vrrp_actions *actions)
{
	switch (event->type) {
	case VRRP_EVENT_STARTUP:
	case VRRP_EVENT_ACTIVATE:
	case VRRP_EVENT_LISTEN:
		return;
	case VRRP_EVENT_SHUTDOWN:
		become_initialize(router);
		add(actions, VRRP_ACTION_SEND_ADVERT, 0, false);
		add(actions, VRRP_ACTION_BACKUP, 0, false);
		return;
	case VRRP_EVENT_TIMER:
		add(actions, VRRP_ACTION_SEND_ADVERT, router->config.priority, false);
		/* On the grid, unless that is in the past already: then from now. */
		router->deadline_us += router->config.interval_us;
		if (router->deadline_us <= event->now_us)
			router->deadline_us = event->now_us + router->config.interval_us;
		return;
	case VRRP_EVENT_ADVERT:
		active_advert(router, event, actions);
		return;
	case VRRP_EVENT_YIELD:
		become_backup(router, event->now_us);
		add(actions, VRRP_ACTION_BACKUP, 0, false);
		return;
	case VRRP_EVENT_RESIGN:
		become_backup(router, event->now_us);
		add(actions, VRRP_ACTION_SEND_ADVERT, 0, false);
		add(actions, VRRP_ACTION_BACKUP, 0, false);
		return;
	}
}

void vrrp_router_step(struct vrrp_router *router, const struct vrrp_event *event,
		      struct vrrp_actions *actions)
{
	actions->count = 0;
	if (event->type == VRRP_EVENT_TIMER && event->now_us < router->deadline_us)
		return; /* woken early: harmless */

	switch (router->state) {
	case VRRP_STATE_INITIALIZE:
		step_initialize(router, event, actions);
		return;
	case VRRP_STATE_BACKUP:
		step_backup(router, event, actions);
		return;
	case VRRP_STATE_ACTIVE:
		step_active(router, event, actions);
		return;
	}
}

uint64_t vrrp_router_deadline(const struct vrrp_router *router)
{
	return router->deadline_us;
}
