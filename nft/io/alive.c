#include "nft/io/alive.h"

#include <errno.h>
#include <stdlib.h>

#include "base/array.h"

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

int nft_alive_read(struct nft_alive *alive, struct nft_wire *wire)
{
	static const char *const sets[] = { "alive4", "alive6" };
	int failed = 0;

	alive->count = 0;
	for (size_t i = 0; i < BASE_COUNT_OF(sets) && failed == 0; i++) {
		size_t before = alive->count;
		int r = -EAGAIN;

		for (int tries = 0; r == -EAGAIN && tries < 10; tries++) {
			alive->count = before;
			r = nft_wire_dump(wire, "netdev", sets[i], on_element, alive);
		}
		if (r < 0 && r != -EAGAIN)
			failed = r;
	}
	if (alive->count > 0)
		qsort(alive->addresses, alive->count, sizeof alive->addresses[0], compare);
	return failed;
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
