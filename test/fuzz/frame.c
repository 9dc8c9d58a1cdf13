/* ARP and neighbour discovery: what is read names an address of its family. */
#include "vrrp/frame.h"

#include "test/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vrrp_neighbour_seen seen;

	if (vrrp_frame_read(data, size, &seen))
		PROMISE(base_address_size(&seen.address) == (data[12] == 0x86 ? 16 : 4));
	return 0;
}
