#pragma once

/* A place with a cable, and its links as the library says them. */

#include "test/adapter/place.h"
#include "vrrp/io/link.h"

static struct vrrp_links *links;
static unsigned eth1;

static int set_up(void **state)
{
	(void)state;
	place_try("ip link delete eth1 2>/dev/null");
	place_cable();
	eth1 = if_nametoindex("eth1");
	return vrrp_links_new(&links);
}

static int tear_down(void **state)
{
	(void)state;
	vrrp_links_free(links);
	links = NULL;
	return 0;
}

static const struct vrrp_link *link_of(const char *name)
{
	size_t count;
	const struct vrrp_link *all;

	assert_int_equal(vrrp_links_refresh(links), 0);
	all = vrrp_links_get(links, &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(all[i].name, name) == 0)
			return &all[i];
	return NULL;
}
