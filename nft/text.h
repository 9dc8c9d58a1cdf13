#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Text for libnftables, put together piece by piece in the caller's memory. */
struct nft_text {
	char *at;
	size_t size, length;
	bool full; /* something had no room; the rest is not worth much then */
};

__attribute__((format(printf, 2, 3))) void nft_put(struct nft_text *text, const char *format, ...);
