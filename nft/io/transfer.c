#include "nft/io/transfer.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/io/clock.h"

/* How long one transaction may take, more or less, by which the number of changes in it is found. */
#define TRANSACTION_US 2000
#define COMPARE_KEYS   2000
#define STEP_FIRST     256
#define STEP_MIN       16
#define STEP_MAX       4096

void nft_transfer_init(struct nft_transfer *transfer, struct nft_ledger *ledger, struct nft_wire *wire)
{
	*transfer = (struct nft_transfer){ .ledger = ledger, .wire = wire, .step = STEP_FIRST };
}

int nft_transfer_look(struct nft_transfer *transfer)
{
	int r = nft_ledger_changes(transfer->ledger, COMPARE_KEYS, &transfer->changes, &transfer->count);

	if (r == 0)
		transfer->at = transfer->suspects_end = 0;
	return r;
}

/* The next `count` changes; answers as nft_wire_submit() does. */
static int transact(struct nft_transfer *transfer, size_t count)
{
	const struct nft_change *changes = transfer->changes + transfer->at;
	struct nft_element element;

	nft_wire_begin(transfer->wire);
	/* Deleted and added in one transaction: no packet sees the key missing. */
	for (size_t i = 0; i < count; i++)
		if (changes[i].old) {
			nft_record_element(changes[i].old, &element);
			nft_wire_element(transfer->wire, false, &element);
		}
	for (size_t i = 0; i < count; i++)
		if (changes[i].new) {
			nft_record_element(changes[i].new, &element);
			nft_wire_element(transfer->wire, true, &element);
		}
	for (size_t i = 0; i < count; i++)
		if (changes[i].moved) {
			nft_record_element(changes[i].new, &element);
			nft_wire_moved(transfer->wire, &element);
		}
	transfer->under_way = count;
	transfer->waited = false;
	transfer->sent_us = base_clock_us(CLOCK_MONOTONIC);
	return nft_wire_submit(transfer->wire);
}

/* It is not the element's fault. */
static bool is_general(int error)
{
	return error == -ENOMEM || error == -ENOBUFS || error == -EPERM || error == -EIO ||
	       error == -EMSGSIZE;
}

/* How many go into the next transaction. */
static size_t portion(const struct nft_transfer *transfer)
{
	bool suspect = transfer->at < transfer->suspects_end;
	size_t left = (suspect ? transfer->suspects_end : transfer->count) - transfer->at;
	size_t most = suspect ? transfer->share : transfer->step;

	return left < most ? left : most;
}

static void landed(struct nft_transfer *transfer, size_t count)
{
	uint64_t took = base_clock_us(CLOCK_MONOTONIC) - transfer->sent_us;

	for (size_t i = 0; i < count; i++)
		nft_ledger_done(&transfer->changes[transfer->at + i]);
	transfer->at += count;
	if (transfer->at < transfer->suspects_end)
		transfer->share = (transfer->suspects_end - transfer->at + 1) / 2;
	else if (took > TRANSACTION_US && !transfer->waited && transfer->step > STEP_MIN)
		transfer->step /= 2;
	else if (took < TRANSACTION_US / 4 && count == transfer->step && transfer->step < STEP_MAX)
		transfer->step *= 2;
}

/* Halves, until the change is found that the kernel does not take; all others go there. */
static void narrow(struct nft_transfer *transfer, size_t count, int error)
{
	struct nft_change *change = &transfer->changes[transfer->at];

	if (count > 1 || change->moved) {
		transfer->suspects_end = transfer->at + count;
		transfer->share = count > 1 ? count / 2 : 1;
		if (count == 1)
			change->moved = false; /* packets may have filled those sets: once more, without them */
		return;
	}
	nft_ledger_refused(transfer->ledger, &transfer->changes[transfer->at++], error);
	if (transfer->at < transfer->suspects_end)
		transfer->share = transfer->suspects_end - transfer->at;
}

int nft_transfer_turn(struct nft_transfer *transfer, bool known)
{
	size_t count;
	int r;

	if (transfer->under_way > 0)
		r = nft_wire_result(transfer->wire, false);
	else if (transfer->at < transfer->count)
		r = transact(transfer, portion(transfer));
	else
		return 0;
	if (r == -EINPROGRESS) {
		transfer->waited = true;
		return r;
	}
	count = transfer->under_way;
	transfer->under_way = 0;
	if (r == 0)
		landed(transfer, count);
	else if (is_general(r))
		return r;
	else if (!known)
		return NFT_TRANSFER_DOUBT;
	else
		narrow(transfer, count, r);
	return 1;
}

void nft_transfer_cancel(struct nft_transfer *transfer)
{
	if (transfer->under_way > 0)
		nft_wire_result(transfer->wire, true);
	transfer->under_way = transfer->count = transfer->at = 0;
}
