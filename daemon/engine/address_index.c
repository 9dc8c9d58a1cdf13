#include "daemon/engine/address_index.h"

#include <stdlib.h>

#include "daemon/engine/router.h"

static int compare(const void *left, const void *right)
{
	const struct address_index_entry *a = left, *b = right;

	return base_address_compare(&a->address, &b->address);
}

static bool make(struct address_index *index, struct router *routers)
{
	size_t count = 0;

	for (const struct router *router = routers; router; router = router->next)
		count += router->wish.address_count;
	if (count > index->capacity) {
		struct address_index_entry *grown =
			realloc(index->entries, 2 * count * sizeof *grown);

		if (!grown)
			return false;
		index->entries = grown;
		index->capacity = 2 * count;
	}
	index->count = 0;
	for (struct router *router = routers; router; router = router->next)
		for (uint32_t i = 0; i < router->wish.address_count; i++)
			index->entries[index->count++] = (struct address_index_entry){
				router->wish.addresses[i], router
			};
	if (index->count > 0)
		qsort(index->entries, index->count, sizeof index->entries[0], compare);
	return true;
}

/* What an index is for, done without one: memory is out. */
static struct router *search(struct router *routers, const struct base_address *address)
{
	for (struct router *router = routers; router; router = router->next)
		for (uint32_t i = 0; i < router->wish.address_count; i++)
			if (base_address_equal(&router->wish.addresses[i], address))
				return router;
	return NULL;
}

void address_index_forget(struct address_index *index)
{
	index->known = false;
}

void address_index_free(struct address_index *index)
{
	free(index->entries);
	*index = (struct address_index){ 0 };
}

struct router *address_index_find(struct address_index *index, struct router *routers,
				  const struct base_address *address)
{
	const struct address_index_entry wanted = { *address, NULL }, *found;

	if (!index->known)
		index->known = make(index, routers);
	if (!index->known)
		return search(routers, address);
	if (index->count == 0)
		return NULL;
	found = bsearch(&wanted, index->entries, index->count, sizeof wanted, compare);
	return found ? found->router : NULL;
}
