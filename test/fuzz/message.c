/* Messages between engine and feeder: what is read is written as the same bytes. */
#include "daemon/protocol/message.h"

#include <string.h>

#include "test/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message message;
	static uint8_t again[MESSAGE_SIZE_MAX];
	int length;

	if (message_decode(&message, data, size) < 0)
		return 0;
	length = message_encode(&message, again, sizeof again);
	PROMISE(length == (int)size && memcmp(again, data, size) == 0);
	return 0;
}
