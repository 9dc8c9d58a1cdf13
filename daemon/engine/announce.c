#include "daemon/engine/announce.h"

#include <string.h>

#include "daemon/engine/segment.h"
#include "vrrp/frame.h"
#include "vrrp/io/neighbour.h"

#define FRAMES_AT_ONCE 64

void announce(struct segment *segment, const struct base_mac *mac,
	      const struct base_address *addresses, size_t count)
{
	struct vrrp_frame frames[FRAMES_AT_ONCE];
	size_t filled = 0;

	if (!segment->neighbour)
		return;
	for (size_t i = 0; i < count; i++) {
		for (int form = 0; form < 2; form++) {
			if (addresses[i].family == BASE_FAMILY_IPV6 && form > 0)
				continue; /* one form is enough there */
			frames[filled].size = vrrp_frame_announce(&addresses[i], mac, form > 0,
								  frames[filled].data);
			filled++;
		}
		if (filled + 2 > FRAMES_AT_ONCE || i + 1 == count) {
			/* A full queue loses some; they are said again in 50 ms. */
			vrrp_neighbour_send(segment->neighbour, frames, filled);
			filled = 0;
		}
	}
}
