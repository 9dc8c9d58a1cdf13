#pragma once

#include <stdbool.h>

#include "daemon/kubectl-vip/arguments.h"

/* What `explain` found: one link after another, from the Service to the packet. */
#define CHAIN_LINKS_MAX 128

enum verdict {
	VERDICT_OK,
	VERDICT_NOTE,	 /* worth knowing, nothing is wrong */
	VERDICT_UNKNOWN, /* could not be looked at */
	VERDICT_BROKEN,
};

struct chain {
	char about[256];
	unsigned count;
	struct link {
		enum verdict verdict;
		const char *name; /* literal */
		char address[46]; /* whose link it is; "": the whole Service's */
		char text[512];
		char remedy[320]; /* "": none */
	} links[CHAIN_LINKS_MAX];
};

/* Which address the links that follow belong to. */
__attribute__((format(printf, 5, 6))) void chain_add(struct chain *chain, enum verdict verdict,
						     const char *name, const char *address,
						     const char *format, ...);
/* What to do about the last link. */
__attribute__((format(printf, 2, 3))) void chain_remedy(struct chain *chain, const char *format, ...);
/* The same from the vocabulary: what base/reason.h says to this word; nothing for unknown words. */
void chain_remedy_of(struct chain *chain, const char *reason);
bool chain_broken(const struct chain *chain);
void chain_print(const struct chain *chain, enum output output);
