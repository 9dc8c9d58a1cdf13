#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/time.h"

/*
 * One virtual router: the state machine of RFC 9568 section 6.4 and nothing else.
 *
 * Feed it events, do what it answers in the order of the list, call it again no later than
 * vrrp_router_deadline(). No allocation, no I/O, no log, no clock. The caller owns the memory; the
 * struct may be copied while no step is running.
 *
 * Arbitrated: with `config.arbitrated` the router does not change hands on its own. Where RFC 9568
 * would make it Active (Active_Down_Timer) it asks by VRRP_ACTION_CLAIM; where it would step back
 * for a stronger Active it asks by VRRP_ACTION_CONTEST. The arbiter (election/) answers, now or
 * later, with VRRP_EVENT_ACTIVATE or VRRP_EVENT_YIELD. Everything else is as in the RFC. Without
 * it the router is a plain RFC 9568 router.
 */
enum vrrp_state {
	VRRP_STATE_INITIALIZE,
	VRRP_STATE_BACKUP,
	VRRP_STATE_ACTIVE,
};

struct vrrp_router_config {
	uint8_t version;	   /* 3, or 2 for interoperation (IPv4) */
	uint8_t virtual_router_id; /* 1..255 */
	uint8_t priority;	   /* 1..255; 255 = address owner */
	uint32_t interval_us;	   /* 10,000..40,950,000, whole centiseconds */
	bool preempt;		   /* looked at in Backup only, and not when arbitrated */
	bool arbitrated;
	struct base_address source; /* our primary address on the link: the tie-break */
};

enum vrrp_event_type {
	VRRP_EVENT_STARTUP,
	VRRP_EVENT_SHUTDOWN,
	VRRP_EVENT_TIMER,  /* the deadline was reached; early is harmless */
	VRRP_EVENT_ADVERT, /* a valid advert of this VRID and family, from another router */
	VRRP_EVENT_ACTIVATE, /* arbiter: become Active now */
	VRRP_EVENT_YIELD,    /* arbiter: stop being Active without priority 0, listen as Backup */
	VRRP_EVENT_RESIGN,   /* arbiter: priority 0 advert, then Backup */
	VRRP_EVENT_LISTEN,   /* arbiter: start a full Active_Down_Interval anew (Backup) */
};

struct vrrp_event {
	enum vrrp_event_type type;
	uint64_t now_us;
	struct { /* VRRP_EVENT_ADVERT */
		struct base_address source;
		uint8_t priority;
		uint32_t interval_us; /* as advertised */
	} advert;
};

enum vrrp_action_type {
	VRRP_ACTION_SEND_ADVERT, /* with .priority; 0 = resigning */
	VRRP_ACTION_ACTIVE,	 /* became Active: take the addresses, then announce them */
	VRRP_ACTION_BACKUP,	 /* left Active: drop the addresses before anything else */
	VRRP_ACTION_MISSED,	 /* arbitrated Backup: two adverts did not come; 2.1 intervals + skew */
	VRRP_ACTION_SUSPECT,	 /* arbitrated Backup: 2.6 intervals without an advert */
	VRRP_ACTION_CLAIM,	 /* arbitrated Backup: Active_Down_Timer fired */
	VRRP_ACTION_CONTEST,	 /* arbitrated Active heard another Active; .stronger by the RFC */
};

struct vrrp_action {
	enum vrrp_action_type type;
	uint8_t priority;
	bool stronger;
};

#define VRRP_ACTIONS_MAX 4

struct vrrp_actions {
	unsigned count;
	struct vrrp_action items[VRRP_ACTIONS_MAX]; /* in the order in which they must be done */
};

struct vrrp_router {
	struct vrrp_router_config config;
	enum vrrp_state state;
	uint32_t active_interval_us; /* Active_Adver_Interval, learned from the active router */
	uint64_t silence_started_us; /* start of the running Active_Down_Timer (Backup) */
	uint64_t deadline_us;
	bool missed;	/* MISSED was said for this silence */
	bool suspected; /* SUSPECT was said for this silence */
	bool resigned;	/* the active router sent priority 0: the silence lasts Skew_Time only */
};

void vrrp_router_init(struct vrrp_router *router, const struct vrrp_router_config *config);

/* New settings without losing the state; an unchanged configuration changes nothing (S8). */
void vrrp_router_configure(struct vrrp_router *router, const struct vrrp_router_config *config);

void vrrp_router_step(struct vrrp_router *router, const struct vrrp_event *event,
		      struct vrrp_actions *actions);

uint64_t vrrp_router_deadline(const struct vrrp_router *router); /* BASE_USEC_NEVER: none */

/* RFC 9568 section 6.1, in microseconds: no rounding to centiseconds, so skew works at 10 ms. */
uint64_t vrrp_skew_us(uint8_t priority, uint32_t active_interval_us);
uint64_t vrrp_active_down_us(uint8_t priority, uint32_t active_interval_us);
