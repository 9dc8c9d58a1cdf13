#include "nft/io/reader.h"

#include <errno.h>
#include <string.h>

#define TRIES_MAX 10 /* of a set that somebody changes meanwhile */

int nft_reader_begin(struct nft_reader *reader)
{
	struct nft_wire *wire;
	int r;

	/* A socket that is half read is of no use. */
	if (reader->reading || !reader->wire) {
		r = nft_wire_new(&wire);
		if (r < 0)
			return r;
		nft_wire_free(reader->wire);
		reader->wire = wire;
	}
	reader->reading = reader->mismatch = false;
	reader->set = reader->tries = 0;
	return 0;
}

void nft_reader_end(struct nft_reader *reader)
{
	nft_wire_free(reader->wire);
	reader->wire = NULL;
}

static size_t size_of(const char *letters)
{
	size_t size = 0;

	for (; *letters; letters++)
		size += strchr("ar", *letters)	  ? 4
			: strchr("ANR", *letters) ? 16
			: *letters == 'e'	  ? 6
						  : 4;
	return size;
}

static void on_found(void *userdata, const struct nft_found *found)
{
	struct nft_reader *reader = userdata;
	const struct nft_set *set = &nft_sets[reader->set];
	struct nft_element element = { .set = (uint8_t)reader->set,
				       .key_size = (uint8_t)found->key_size,
				       .data_size = (uint8_t)found->data_size };

	if (found->key_size != size_of(set->key) || found->data_size != size_of(set->data)) {
		reader->mismatch = true;
		return;
	}
	memcpy(element.key, found->key, found->key_size);
	if (found->data_size > 0)
		memcpy(element.data, found->data, found->data_size);
	if (nft_ledger_found(reader->ledger, &element) < 0)
		reader->error = -ENOMEM;
}

static bool is_read(const struct nft_reader *reader, const struct nft_set *set)
{
	return strcmp(set->table, "guard") != 0 && (reader->arp || strcmp(set->table, "arp") != 0);
}

int nft_reader_turn(struct nft_reader *reader)
{
	const struct nft_set *set = &nft_sets[reader->set];
	int r = 0;

	if (is_read(reader, set)) {
		if (!reader->reading)
			r = nft_wire_dump_start(reader->wire, set->table, set->name);
		reader->reading = r == 0;
		reader->error = 0;
		if (r == 0)
			r = nft_wire_dump_more(reader->wire, on_found, reader);
		if (r == 1)
			return reader->error < 0 ? reader->error : 1;
		reader->reading = false;
		if (r == -EAGAIN && reader->tries++ < TRIES_MAX)
			return 1; /* the same set again */
		reader->tries = 0;
	}
	if (reader->mismatch)
		return NFT_READER_FOREIGN;
	if (r == 0)
		r = reader->error;
	if (r < 0)
		return r;
	return ++reader->set < NFT_SETS;
}
