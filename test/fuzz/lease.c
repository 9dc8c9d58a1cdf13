/* Lease objects: whatever JSON says, it becomes a message that the engine takes, and a Lease again. */
#include <string.h>

#include "daemon/agent/leases.h"
#include "test/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message message, got;
	static uint8_t bytes[MESSAGE_SIZE_MAX];
	struct message_lease again;
	cJSON *object = cJSON_ParseWithLength((const char *)data, size), *written;
	int length;

	if (!object)
		return 0;
	message.type = MESSAGE_LEASE;
	lease_read(object, &message.lease);
	cJSON_Delete(object);
	length = message_encode(&message, bytes, sizeof bytes);
	PROMISE(length > 0);
	PROMISE(message_decode(&got, bytes, (size_t)length) == 0);
	PROMISE(strcmp(got.lease.holder, message.lease.holder) == 0);
	PROMISE(message.lease.duration_ms == 0 || message.lease.duration_ms >= 1000);

	written = lease_write(&message.lease, "vipd-system", NULL, NULL);
	PROMISE(written != NULL);
	lease_read(written, &again);
	PROMISE(again.term == message.lease.term);
	PROMISE(strcmp(again.holder, message.lease.holder) == 0);
	PROMISE(strcmp(again.version, message.lease.version) == 0);
	PROMISE(again.degraded == message.lease.degraded);
	cJSON_Delete(written);
	return 0;
}
