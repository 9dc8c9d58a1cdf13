#pragma once

#include <stddef.h>
#include <stdint.h>

/* FNV-1a, 64 bits: the same on every node and in every version, so nodes may compare results. */
static inline uint64_t base_hash(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}
