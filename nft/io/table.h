#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "nft/io/alive.h"
#include "nft/desired.h"
#include "nft/io/foreign.h"
#include "nft/io/transfer.h"
#include "nft/skeleton.h"

/*
 * The rules in the kernel. The skeleton goes there by nft/io/loader.h, elements by nft/io/wire.h: what
 * sources claim (nft/io/ledger.h) becomes the difference to what the kernel has, and that goes out in
 * transactions of some milliseconds each. A change that fits into one is there as a whole or not at all;
 * of a larger one, an address is known to the rules only when all that is behind it stands.
 */
struct nft_table;

/* What this kernel can do; 0, or -errno and why nothing works. */
struct nft_abilities {
	bool egress; /* netdev egress hook: the fence is refreshed by the adverts themselves */
	bool guard;  /* tables with an owner: nft/io/guard.h */
	bool arp;    /* tables of family arp */
};
int nft_table_new(struct nft_table **table, struct nft_abilities *abilities,
		  struct base_error *error);
void nft_table_free(struct nft_table *table); /* the rules stay */

/* A round that names everything: what is claimed by sources not named in it goes with the commit. */
void nft_table_begin(struct nft_table *table);
/*
 * The wishes that follow are of this source; what it wished before is replaced. Without any after
 * nft_table_begin() they are all of one. 0 or -ENOMEM.
 */
int nft_table_source(struct nft_table *table, const void *key, size_t size);
/* For nft_emit_...(): userdata is the table. */
int nft_table_want(void *userdata, const struct nft_element *element);

/*
 * Works for some milliseconds. 0: the kernel has what is wanted; or, added up:
 * NFT_TABLE_ANEW: the tables are new, and the fence is closed until the next advert;
 * NFT_TABLE_MORE: there is more to do, call again soon, with or without new wishes;
 * NFT_TABLE_WAIT: the skeleton is being loaded, or somebody else's transaction is in the way of ours: call
 * again when nft_table_fd() was readable.
 * An element that the kernel refuses is left out, and is among the refusals; the rest goes on. Negative:
 * nothing works. The first commit of a process keeps what its predecessor left in the tables.
 */
#define NFT_TABLE_ANEW 1
#define NFT_TABLE_MORE 2
#define NFT_TABLE_WAIT 4
int nft_table_commit(struct nft_table *table, const struct nft_skeleton *skeleton,
		     struct base_error *error);

/* An element that the kernel does not take, and whose it is. */
struct nft_refusal {
	char element[NFT_ELEMENT_TEXT_SIZE];
	int error;	    /* -errno */
	const void *source; /* its key; NULL: nobody claims the element, it cannot be removed */
	size_t source_size;
};
/* Tells of each that is refused now. */
void nft_table_each_refusal(const struct nft_table *table,
			    void (*tell)(void *userdata, const struct nft_refusal *refusal),
			    void *userdata);
/* The next commit tries them again. */
void nft_table_retry(struct nft_table *table);

/* The kernel lost or changed our tables: the next commit compares everything. */
void nft_table_forget(struct nft_table *table);

/*
 * The elements are read with the next commit, and what differs is put right. What differed, without anybody
 * having wished anything meanwhile, is what nft_table_differences() answers once, after that commit.
 */
void nft_table_compare(struct nft_table *table);
size_t nft_table_differences(struct nft_table *table);

/*
 * Readable when tables changed, and when the commit that waits can go on (until it does). Drain says what
 * somebody else did to ours since it was called last.
 */
int nft_table_fd(const struct nft_table *table);
int nft_table_drain(struct nft_table *table); /* enum nft_table_verdict */
/* Who did it: "nft (pid 4711)". */
const char *nft_table_culprit(const struct nft_table *table);
bool nft_table_present(struct nft_table *table);

/* Whose fence is open. Asks the kernel; for status, not for decisions. 0 or -errno. */
int nft_table_alive(struct nft_table *table, struct nft_alive *alive);
/* In pieces, as alive.h says; one at a time. */
int nft_table_alive_start(struct nft_table *table, struct nft_alive *alive);
int nft_table_alive_more(struct nft_table *table, struct nft_alive *alive);

/* Takes our tables out of the kernel, and waits for it; nobody wishes anything any more. */
int nft_table_remove(struct nft_table *table);
