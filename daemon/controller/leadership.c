#include "daemon/controller/leadership.h"

#include <string.h>

#include "k8s/object.h"

void leadership_init(struct leadership *leadership, const struct leadership_config *config)
{
	memset(leadership, 0, sizeof *leadership);
	leadership->config = *config;
	leadership->state = LEADERSHIP_STATE_FOLLOWING;
	leadership->stale = true;
}

bool leadership_leads(const struct leadership *leadership, uint64_t now_us)
{
	return leadership->state == LEADERSHIP_STATE_LEADING && now_us < leadership->deadline_us;
}

bool leadership_done(const struct leadership *leadership)
{
	return leadership->state == LEADERSHIP_STATE_RELEASED && !leadership->busy;
}

static bool is_own(const struct leadership *leadership)
{
	return leadership->record.exists &&
	       strcmp(leadership->record.holder, leadership->config.identity) == 0;
}

static void become_following(struct leadership *leadership)
{
	leadership->state = LEADERSHIP_STATE_FOLLOWING;
	leadership->deadline_us = 0;
}

static void become_leading(struct leadership *leadership)
{
	leadership->state = LEADERSHIP_STATE_LEADING;
	leadership->deadline_us = base_usec_add(leadership->sent_us, leadership->config.renew_us);
}

static void become_released(struct leadership *leadership)
{
	leadership->state = LEADERSHIP_STATE_RELEASED;
	leadership->deadline_us = 0;
	leadership->next_us = BASE_USEC_NEVER;
}

/* An answer to a READ is what there is, also when versions went back because a backup was restored. */
static void observe(struct leadership *leadership, const struct leadership_record *record,
		    bool answer, uint64_t now_us)
{
	bool changed = !leadership->known ||
		       strcmp(record->version, leadership->record.version) != 0 ||
		       record->exists != leadership->record.exists;

	leadership->known = true;
	/* The watch may lag behind the answers to our own writes. */
	if (!changed || (!answer && record->exists && leadership->record.exists &&
			 k8s_version_compare(record->version, leadership->record.version) < 0))
		return;
	leadership->record = *record;
	leadership->observed_us = now_us;
	if (leadership->state == LEADERSHIP_STATE_LEADING && !is_own(leadership))
		become_following(leadership); /* somebody took it: whatever our clock says */
}

/* When may this process write? Never while another holds an unexpired Lease. */
static uint64_t free_at(const struct leadership *leadership)
{
	const struct leadership_record *record = &leadership->record;

	if (!record->exists || record->holder[0] == '\0' || is_own(leadership))
		return 0;
	return base_usec_add(leadership->observed_us, record->duration_s * BASE_USEC_PER_SEC);
}

static enum leadership_action write_claim(struct leadership *leadership, uint64_t now_us)
{
	struct leadership_record *write = &leadership->write;

	*write = leadership->record;
	if (!is_own(leadership)) {
		write->acquired[0] = '\0';
		write->transitions =
			leadership->record.exists ? leadership->record.transitions + 1 : 0;
	}
	strcpy(write->holder, leadership->config.identity);
	write->duration_s = (uint32_t)(leadership->config.lease_us / BASE_USEC_PER_SEC);
	leadership->busy = true;
	leadership->sent_us = now_us;
	return LEADERSHIP_ACTION_WRITE;
}

static enum leadership_action write_release(struct leadership *leadership)
{
	if (!is_own(leadership) || leadership->stale)
		return LEADERSHIP_ACTION_NONE; /* it runs out by itself */
	leadership->write = leadership->record;
	leadership->write.holder[0] = '\0';
	leadership->write.duration_s = 1;
	leadership->busy = true;
	return LEADERSHIP_ACTION_WRITE;
}

static enum leadership_action proceed(struct leadership *leadership, uint64_t now_us)
{
	uint64_t at_us;

	if (leadership->state == LEADERSHIP_STATE_LEADING && now_us >= leadership->deadline_us)
		become_following(leadership);
	if (leadership->busy || leadership->state == LEADERSHIP_STATE_RELEASED)
		return LEADERSHIP_ACTION_NONE;
	if (now_us < leadership->next_us)
		return LEADERSHIP_ACTION_NONE;
	if (leadership->stale || !leadership->known) {
		leadership->busy = true;
		return LEADERSHIP_ACTION_READ;
	}
	at_us = free_at(leadership);
	if (now_us < at_us) {
		leadership->next_us = at_us;
		return LEADERSHIP_ACTION_NONE;
	}
	return write_claim(leadership, now_us);
}

/* Another's Lease changed: it may be free at another time now, at once for one given back. */
static void plan_again(struct leadership *leadership)
{
	if (leadership->state == LEADERSHIP_STATE_FOLLOWING && !leadership->stale &&
	    !leadership->busy)
		leadership->next_us = free_at(leadership);
}

enum leadership_action leadership_step(struct leadership *leadership,
				       const struct leadership_event *event)
{
	uint64_t retry_us = leadership->config.retry_us + event->jitter_us;

	switch (event->type) {
	case LEADERSHIP_EVENT_TIMER:
		break;
	case LEADERSHIP_EVENT_OBSERVED:
		if (event->answer) {
			leadership->busy = false;
			leadership->stale = false;
		}
		observe(leadership, event->record, event->answer, event->now_us);
		plan_again(leadership);
		break;
	case LEADERSHIP_EVENT_WRITTEN:
		leadership->busy = false;
		leadership->stale = false;
		observe(leadership, event->record, false, event->now_us);
		if (leadership->state == LEADERSHIP_STATE_RELEASED)
			return leadership->record.holder[0] ? write_release(leadership)
							    : LEADERSHIP_ACTION_NONE;
		if (is_own(leadership))
			become_leading(leadership);
		leadership->next_us = base_usec_add(leadership->sent_us, retry_us);
		break;
	case LEADERSHIP_EVENT_REFUSED:
		leadership->busy = false;
		leadership->next_us = base_usec_add(event->now_us, retry_us);
		break;
	case LEADERSHIP_EVENT_UNCLEAR:
		leadership->busy = false;
		leadership->stale = true;
		leadership->next_us = event->now_us;
		break;
	case LEADERSHIP_EVENT_RELEASE:
		become_released(leadership);
		return leadership->busy ? LEADERSHIP_ACTION_NONE : write_release(leadership);
	}
	return proceed(leadership, event->now_us);
}

uint64_t leadership_deadline(const struct leadership *leadership)
{
	uint64_t next_us = leadership->busy ? BASE_USEC_NEVER : leadership->next_us;

	return leadership->state == LEADERSHIP_STATE_LEADING
		       ? base_usec_earlier(next_us, leadership->deadline_us)
		       : next_us;
}
