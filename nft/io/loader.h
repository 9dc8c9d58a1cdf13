#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * What libnftables is told, it is told by a child process. It parses, asks the kernel for all tables of
 * everybody and waits for it at its end: 25 to 40 ms for our rules and more beside large tables of others,
 * which a loop with adverts to send does not have. The child has a copy of this process, does this one
 * thing, at a lower priority, and dies with its parent.
 *
 * A child has copies of all descriptors, and a lower priority than who waits for it. What is closed here while a
 * copy is open stays in whatever epoll instance it is in, and a loop that is told of it again and again never lets
 * the child run that would end that. Hence the instance is the loader's own: it takes out what it closes.
 */
#define NFT_LOADER_CHILDREN 4

struct nft_loader_child {
	pid_t pid; /* 0: none, not even a dead one */
	int fd;	   /* readable when it has ended; -1: this kernel cannot tell */
};

struct nft_loader {
	int fd;	    /* epoll: readable when nft_loader_end() or nft_loader_reap() has something to do */
	int report; /* from the child; -1: none is expected */
	/* The last one started, and those before it that have done their work and are ending. */
	struct nft_loader_child children[NFT_LOADER_CHILDREN];
	unsigned child; /* index of the last one */
	uint32_t ports[NFT_LOADER_CHILDREN]; /* netlink's names for them: their changes are ours */
	unsigned port_count;
	bool done; /* it has said how it went */
	int result;
	char why[200];
};

#define NFT_LOADER_NONE { .fd = -1, .report = -1 }

/* 0 or -errno. */
int nft_loader_open(struct nft_loader *loader);
/* Ends all children; harmless on one that was never opened. */
void nft_loader_close(struct nft_loader *loader);

/*
 * Writes the commands; called in the child, and again when they were refused: if it says others then, those are tried. Their
 * length, or -errno, said by `error` if it has something to say.
 */
typedef int nft_loader_say_fn(const void *userdata, char *text, size_t size, struct base_error *error);
/* What `userdata`, a string, says already. */
nft_loader_say_fn nft_loader_say_text;

/* Something was started, and nft_loader_end() has not said yet how it went. */
static inline bool nft_loader_is_busy(const struct nft_loader *loader)
{
	return loader->report >= 0;
}

/* Nothing may be under way. 0 or -errno. */
int nft_loader_start(struct nft_loader *loader, nft_loader_say_fn *say, const void *userdata);

/* 0: done; -EAGAIN: not yet (`fd` becomes readable); other -errno: refused, `error` says why. */
int nft_loader_end(struct nft_loader *loader, struct base_error *error);

/* The same at once: waits for the child. */
int nft_loader_run(struct nft_loader *loader, const char *commands, struct base_error *error);

/* Is this a change that a child of ours made? */
bool nft_loader_is_own(struct nft_loader *loader, uint32_t port);

/* Takes away children that have ended. */
void nft_loader_reap(struct nft_loader *loader);
/* Ends all; what the one that ran did or did not do is not known then. */
void nft_loader_cancel(struct nft_loader *loader);
