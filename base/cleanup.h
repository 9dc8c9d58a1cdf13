#pragma once

#include <stdlib.h>
#include <unistd.h>

/* Scope-bound destruction, for adapters and the daemon; cores own nothing and need none of this. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Makes `fn##_cleanup`, for `CLEANUP(fn##_cleanup) type *object = NULL;`. */
#define DEFINE_CLEANUP(type, fn)                                                                   \
	static inline void fn##_cleanup(type **object)                                             \
	{                                                                                          \
		if (*object)                                                                       \
			fn(*object);                                                               \
	}

/* Hands ownership on: evaluates to the pointer and clears the variable. */
#define TAKE(pointer)                                                                              \
	({                                                                                         \
		__typeof__(pointer) *base_slot_ = &(pointer);                                      \
		__typeof__(pointer) base_value_ = *base_slot_;                                     \
		*base_slot_ = NULL;                                                                \
		base_value_;                                                                       \
	})

static inline void base_free_cleanup(void *slot)
{
	free(*(void **)slot);
}

static inline void base_close_cleanup(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
