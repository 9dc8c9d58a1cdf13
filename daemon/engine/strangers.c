#include "daemon/engine/strangers.h"

#include "base/array.h"

static bool is_confirmed(uint64_t first_us, uint64_t heard_us)
{
	return base_usec_since(heard_us, first_us) >= STRANGERS_CONFIRM_US;
}

bool strangers_hear(struct strangers *strangers, const struct base_address *source, uint8_t id,
		    uint64_t now_us)
{
	size_t at = 0;
	bool known;

	for (size_t i = 0; i < BASE_COUNT_OF(strangers->items); i++) {
		if (strangers->items[i].id == id &&
		    base_address_equal(&strangers->items[i].source, source)) {
			at = i;
			break;
		}
		if (strangers->items[i].heard_us < strangers->items[at].heard_us)
			at = i;
	}
	known = strangers->items[at].id == id &&
		base_address_equal(&strangers->items[at].source, source) &&
		base_usec_since(now_us, strangers->items[at].heard_us) < STRANGERS_FORGET_US;
	if (!known) {
		strangers->items[at].source = *source;
		strangers->items[at].id = id;
		strangers->items[at].first_us = strangers->items[at].heard_us = now_us;
		return false;
	}
	known = is_confirmed(strangers->items[at].first_us, strangers->items[at].heard_us);
	strangers->items[at].heard_us = now_us;
	return !known && is_confirmed(strangers->items[at].first_us, now_us);
}

/* Where it goes in the list; the place of the same ID if that is there. */
static uint32_t place_of(const struct message_stranger *list, uint32_t count, uint8_t id)
{
	uint32_t at = 0;

	while (at < count && list[at].virtual_router_id < id)
		at++;
	return at;
}

uint32_t strangers_list(const struct strangers *strangers, enum base_family family, uint64_t now_us,
			struct message_stranger list[static MESSAGE_STRANGERS_MAX])
{
	uint32_t count = 0;

	for (size_t i = 0; i < BASE_COUNT_OF(strangers->items) && count < MESSAGE_STRANGERS_MAX;
	     i++) {
		uint32_t at = place_of(list, count, strangers->items[i].id);

		if (strangers->items[i].source.family != (uint8_t)family ||
		    !is_confirmed(strangers->items[i].first_us, strangers->items[i].heard_us) ||
		    base_usec_since(now_us, strangers->items[i].heard_us) > STRANGERS_FORGET_US ||
		    (at < count && list[at].virtual_router_id == strangers->items[i].id))
			continue;
		for (uint32_t j = count; j > at; j--)
			list[j] = list[j - 1];
		list[at] = (struct message_stranger){ strangers->items[i].id,
						      strangers->items[i].source };
		count++;
	}
	return count;
}
