#include "daemon/agent/contact.h"

#include <string.h>

#include "base/time.h"

void contact_init(struct contact *contact, uint64_t now_us)
{
	memset(contact, 0, sizeof *contact);
	contact->asked_us = contact->good_us = now_us;
}

bool contact_note(struct contact *contact, bool answered, uint64_t now_us)
{
	bool was = contact->reachable;

	if (!answered) {
		if (!contact->failed_us)
			contact->failed_us = now_us;
		return contact_step(contact, now_us);
	}
	contact->good_us = now_us;
	contact->failed_us = 0;
	contact->reachable = true;
	return !was;
}

bool contact_step(struct contact *contact, uint64_t now_us)
{
	if (!contact->reachable || !contact->failed_us ||
	    base_usec_since(now_us, contact->good_us) < CONTACT_SILENCE_US)
		return false;
	contact->reachable = false;
	return true;
}

static uint64_t probe_us(const struct contact *contact)
{
	uint64_t last_us = contact->good_us > contact->asked_us ? contact->good_us
								: contact->asked_us;

	if (contact->probing)
		return BASE_USEC_NEVER;
	if (!contact->reachable)
		return last_us + CONTACT_AWAY_US;
	return contact->failed_us ? last_us + CONTACT_DOUBT_US : BASE_USEC_NEVER;
}

bool contact_wants_probe(const struct contact *contact, uint64_t now_us)
{
	return now_us >= probe_us(contact);
}

uint64_t contact_deadline(const struct contact *contact)
{
	uint64_t deadline_us = probe_us(contact);

	if (contact->reachable && contact->failed_us)
		deadline_us = base_usec_earlier(deadline_us,
						contact->good_us + CONTACT_SILENCE_US);
	return deadline_us;
}
