#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/time.h"
#include "daemon/protocol/message.h"

/*
 * Virtual routers of others that are heard on a segment: whose virtual router ID ours should not have. One
 * advert proves little (a member that is not known yet sends some); who goes on is a stranger, and is
 * remembered for a while after his last one. Pure.
 */
#define STRANGERS_CONFIRM_US (3 * BASE_USEC_PER_SEC)
#define STRANGERS_FORGET_US  (600 * BASE_USEC_PER_SEC)

struct strangers {
	struct {
		struct base_address source; /* family NONE: free */
		uint64_t first_us, heard_us;
		uint8_t id;
	} items[2 * MESSAGE_STRANGERS_MAX]; /* of both families; the one heard longest ago makes room */
};

/* True: this one is confirmed now and was not before. */
bool strangers_hear(struct strangers *strangers, const struct base_address *source, uint8_t id,
		    uint64_t now_us);

/* The confirmed ones of a family, in order of their IDs, each ID once; answers how many. */
uint32_t strangers_list(const struct strangers *strangers, enum base_family family, uint64_t now_us,
			struct message_stranger list[static MESSAGE_STRANGERS_MAX]);
