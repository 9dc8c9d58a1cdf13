#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nft/desired.h"

/*
 * Who claims which element, what the kernel has of it, and what is to be done about the difference.
 *
 * A source is whatever is wished and withdrawn as one: a port, an address. The same element may be
 * claimed by many. Where they contradict each other, an exclusive map carries nobody's (nft/desired.h),
 * another one the claim with the smallest bytes. That nobody's stands there is an element of its own where
 * nft/desired.h has a set for it.
 */
struct nft_ledger;
struct nft_record;

int nft_ledger_new(struct nft_ledger **ledger);
void nft_ledger_free(struct nft_ledger *ledger);

/*
 * What the source claimed before is void; the claims that follow are its. Key of up to 255 bytes, copied.
 * A round (begin to end) voids what is claimed by sources that were not named in it. 0 or -ENOMEM.
 */
int nft_ledger_source(struct nft_ledger *ledger, const void *key, size_t size);
int nft_ledger_claim(struct nft_ledger *ledger, const struct nft_element *element);
void nft_ledger_begin(struct nft_ledger *ledger);
void nft_ledger_end(struct nft_ledger *ledger);

/* The kernel has none of the elements of these sets, and all is compared again; it has this one. */
void nft_ledger_lost(struct nft_ledger *ledger, const bool lost[static NFT_SETS]);
int nft_ledger_found(struct nft_ledger *ledger, const struct nft_element *element);

/*
 * What is to be done, in an order in which it may be done piece by piece: an address is announced to
 * the rules when everything that is behind it stands. Both sides of a change go into one transaction.
 * Records stay where they are until nft_ledger_settle(), which forgets what neither side has any more.
 *
 * Looks at `limit` keys and answers 1 as long as there are more, without changes; then 0 and all of
 * them; or -ENOMEM. Whatever is claimed in between makes it begin again.
 */
struct nft_change {
	struct nft_record *old, *new; /* one may be NULL */
	uint8_t rank;
	bool moved; /* an endpoint that the kernel knows becomes `local` */
};
int nft_ledger_changes(struct nft_ledger *ledger, size_t limit, struct nft_change **changes,
		       size_t *count);
void nft_ledger_done(const struct nft_change *change);
/* The kernel will not have it (-errno): it is not tried again before its source says something new. */
void nft_ledger_refused(struct nft_ledger *ledger, const struct nft_change *change, int error);
void nft_ledger_settle(struct nft_ledger *ledger);
bool nft_ledger_dirty(const struct nft_ledger *ledger);
/* What was refused is a difference again. */
void nft_ledger_retry(struct nft_ledger *ledger);

void nft_record_element(const struct nft_record *record, struct nft_element *element);
/* Key of the record's source; NULL: it has none any more. */
const void *nft_record_source(const struct nft_record *record, size_t *size);

size_t nft_ledger_count(const struct nft_ledger *ledger); /* records */
/* Each that is refused; looks at every record there is, if there are any. */
void nft_ledger_each_refusal(const struct nft_ledger *ledger,
			     void (*tell)(void *userdata, const struct nft_record *record, int error),
			     void *userdata);
