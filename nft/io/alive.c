#include "nft/io/alive.h"

#include <errno.h>
#include <stdlib.h>

#include "base/array.h"

#define TRIES_MAX 10 /* of a set that changes while it is read */

static bool has_room(struct nft_alive *alive)
{
	size_t capacity = alive->capacity ? alive->capacity * 2 : 64;
	struct base_address *grown;

	if (alive->count < alive->capacity)
		return true;
	grown = realloc(alive->addresses, capacity * sizeof *grown);
	if (!grown)
		return false;
	alive->addresses = grown;
	alive->capacity = capacity;
	return true;
}

static void on_element(void *userdata, const struct nft_found *found)
{
	struct nft_alive *alive = userdata;
	enum base_family family = found->key_size == 4	  ? BASE_FAMILY_IPV4
				  : found->key_size == 16 ? BASE_FAMILY_IPV6
							  : BASE_FAMILY_NONE;

	if (family != BASE_FAMILY_NONE && has_room(alive))
		alive->addresses[alive->count++] = base_address_from_bytes(family, found->key);
}

static int compare(const void *left, const void *right)
{
	return base_address_compare(left, right);
}

static const char *const sets[] = { "alive4", "alive6" };

/* The next set, or the same one anew. */
static int start(struct nft_alive *alive, struct nft_wire *wire)
{
	alive->count = alive->before;
	return nft_wire_dump_start(wire, "netdev", sets[alive->set]);
}

int nft_alive_start(struct nft_alive *alive, struct nft_wire *wire)
{
	alive->count = alive->before = 0;
	alive->set = alive->tries = 0;
	return start(alive, wire);
}

int nft_alive_more(struct nft_alive *alive, struct nft_wire *wire)
{
	int r = nft_wire_dump_more(wire, on_element, alive);

	if (r == 1)
		return 1;
	if (r == -EAGAIN && ++alive->tries < TRIES_MAX) {
		r = start(alive, wire);
		return r < 0 ? r : 1;
	}
	if (r < 0 && r != -EAGAIN)
		return r;
	if (++alive->set < BASE_COUNT_OF(sets)) {
		alive->before = alive->count;
		alive->tries = 0;
		r = start(alive, wire);
		return r < 0 ? r : 1;
	}
	if (alive->count > 0)
		qsort(alive->addresses, alive->count, sizeof alive->addresses[0], compare);
	return 0;
}

int nft_alive_read(struct nft_alive *alive, struct nft_wire *wire)
{
	int r = nft_alive_start(alive, wire);

	if (r >= 0)
		while ((r = nft_alive_more(alive, wire)) == 1)
			;
	if (r < 0)
		alive->count = 0;
	return r;
}

bool nft_alive_has(const struct nft_alive *alive, const struct base_address *address)
{
	return alive->count > 0 && bsearch(address, alive->addresses, alive->count,
					   sizeof *address, compare);
}

void nft_alive_free(struct nft_alive *alive)
{
	free(alive->addresses);
	*alive = (struct nft_alive){ 0 };
}
