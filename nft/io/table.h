#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "nft/desired.h"
#include "nft/skeleton.h"

/*
 * The rules in the kernel. A round of wishes (`begin`, any number of `want`, `commit`) becomes the
 * difference to what was committed before; a new process, a new skeleton or a foreign flush makes it
 * everything, in one transaction, so that no packet sees half of it.
 */
struct nft_table;

/* What this kernel can do; 0, or -errno and why nothing works. */
struct nft_abilities {
	bool egress; /* netdev egress hook: the fence is refreshed by the adverts themselves */
};
int nft_table_new(struct nft_table **table, struct nft_abilities *abilities,
		  struct base_error *error);
void nft_table_free(struct nft_table *table); /* the rules stay */

void nft_table_begin(struct nft_table *table);
/* For nft_emit_...(): userdata is the table. */
int nft_table_want(void *userdata, const struct nft_element *element);

/*
 * 0: a fence that was open is open; 1: the tables are new, and the fence is closed until the next
 * advert. The first commit of a process keeps what its predecessor left in the tables open, too.
 */
int nft_table_commit(struct nft_table *table, const struct nft_skeleton *skeleton,
		     struct base_error *error);

/* The kernel lost our tables (a foreign flush): the next commit loads everything. */
void nft_table_forget(struct nft_table *table);

/* Readable when tables changed. Drain says what somebody else did to ours since it was called last. */
int nft_table_fd(const struct nft_table *table);
enum nft_table_verdict {
	NFT_TABLE_UNCHANGED,
	NFT_TABLE_CHANGED, /* forget it and commit */
	NFT_TABLE_UNKNOWN, /* events were lost: ask nft_table_present() */
};
int nft_table_drain(struct nft_table *table);
/* Who did it: "nft (pid 4711)". */
const char *nft_table_culprit(const struct nft_table *table);
bool nft_table_present(struct nft_table *table);

/* Is the fence open for the address? Asks the kernel; for status, not for decisions. */
#define NFT_ALIVE_MAX 4096
struct nft_alive {
	size_t count;
	struct base_address addresses[NFT_ALIVE_MAX]; /* sorted */
};
int nft_table_alive(struct nft_table *table, struct nft_alive *alive);
bool nft_alive_has(const struct nft_alive *alive, const struct base_address *address);

/* Takes our tables out of the kernel. */
int nft_table_remove(struct nft_table *table);
