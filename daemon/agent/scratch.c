#include "daemon/agent/scratch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#define BLOCK_SIZE (16 * 1024) /* one of them stays */
#define ALIGNMENT  16

/* The sanitizers see more of ordinary memory. */
#ifdef __SANITIZE_ADDRESS__
static const bool wanted = false;
#else
static const bool wanted = true;
#endif

struct block {
	struct block *next;
	size_t size, used;
	_Alignas(ALIGNMENT) uint8_t data[];
};

static struct block *blocks; /* the newest is filled */
static size_t live;

static void *take(size_t size)
{
	size_t need = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	void *result;

	if (need < size)
		return NULL;
	if (!blocks || blocks->size - blocks->used < need) {
		size_t room = need > BLOCK_SIZE ? need : BLOCK_SIZE;
		struct block *block = malloc(sizeof *block + room);

		if (!block)
			return NULL;
		block->next = blocks;
		block->size = room;
		block->used = 0;
		blocks = block;
	}
	result = blocks->data + blocks->used;
	blocks->used += need;
	live++;
	return result;
}

static void give(void *memory)
{
	if (!memory || --live > 0)
		return;
	while (blocks->next) {
		struct block *next = blocks->next;

		free(blocks);
		blocks = next;
	}
	blocks->used = 0; /* the first one stays */
}

void scratch_install(void)
{
	if (wanted)
		cJSON_InitHooks(&(cJSON_Hooks){ take, give });
}
