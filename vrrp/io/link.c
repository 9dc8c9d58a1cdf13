#include "vrrp/io/link_private.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>


#define WAIT_STEP_US 50
#define DRAIN_MAX    256 /* messages; the rest keeps the socket readable */

#ifndef IFA_PROTO
#define IFA_PROTO 11
#endif

int vrrp_link_error(int libnl_error)
{
	switch (-libnl_error) {
	case NLE_SUCCESS:
		return 0;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_EXIST:
		return -EEXIST;
	case NLE_NODEV:
	case NLE_OBJ_NOTFOUND:
		return -ENODEV;
	case NLE_NOADDR:
		return -EADDRNOTAVAIL;
	case NLE_AGAIN:
		return -EAGAIN;
	case NLE_DUMP_INTR:
		return -EINTR;
	default:
		return -EIO;
	}
}

void *vrrp_link_grow(void *items, size_t size, size_t count, size_t *capacity)
{
	void *grown;

	if (count < *capacity)
		return items;
	grown = realloc(items, size * (*capacity ? *capacity * 2 : 16));
	if (grown)
		*capacity = *capacity ? *capacity * 2 : 16;
	return grown;
}

static bool put(struct list *list, unsigned index, const struct base_address *address)
{
	struct vrrp_link_tagged *items =
		vrrp_link_grow(list->items, sizeof *items, list->count, &list->capacity);

	if (!items)
		return false;
	list->items = items;
	items[list->count++] = (struct vrrp_link_tagged){ index, *address };
	return true;
}

static int compare(const void *left, const void *right)
{
	const struct vrrp_link_tagged *a = left, *b = right;

	if (a->index != b->index)
		return a->index < b->index ? -1 : 1;
	return base_address_compare(&a->address, &b->address);
}

static void sort(struct list *list)
{
	if (list->count > 0)
		qsort(list->items, list->count, sizeof *list->items, compare);
}

static bool has(const struct list *list, unsigned index, const struct base_address *address)
{
	struct vrrp_link_tagged wanted = { index, *address };

	return list->count > 0 &&
	       bsearch(&wanted, list->items, list->count, sizeof wanted, compare);
}

static struct vrrp_link *find(struct vrrp_links *links, unsigned index)
{
	return (struct vrrp_link *)vrrp_links_at(links, index);
}

static bool read_address(const struct nlattr *attribute, int family, struct base_address *address)
{
	size_t size = family == AF_INET ? 4 : 16;

	if (!attribute || (size_t)nla_len(attribute) < size)
		return false;
	*address = base_address_from_bytes(family == AF_INET ? BASE_FAMILY_IPV4 : BASE_FAMILY_IPV6,
					   nla_data(attribute));
	return true;
}

/* Others name another interface for other reasons, a veth its peer. */
static void put_lower(struct vrrp_link *link, struct nlattr *lower, struct nlattr *info)
{
	struct nlattr *attributes[IFLA_INFO_MAX + 1];
	const char *kind;

	if (!lower || !info || nla_parse_nested(attributes, IFLA_INFO_MAX, info, NULL) < 0 || !attributes[IFLA_INFO_KIND])
		return;
	kind = nla_get_string(attributes[IFLA_INFO_KIND]);
	link->vlan = strcmp(kind, "vlan") == 0;
	if (link->vlan || strcmp(kind, "macvlan") == 0)
		link->lower = nla_get_u32(lower);
}

static int on_link(struct nl_msg *message, void *userdata)
{
	struct vrrp_links *links = userdata;
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct ifinfomsg *info = nlmsg_data(header);
	struct nlattr *attributes[IFLA_MAX + 1];
	struct vrrp_link *items, *link;

	if (header->nlmsg_type != RTM_NEWLINK ||
	    nlmsg_parse(header, sizeof *info, attributes, IFLA_MAX, NULL) < 0 ||
	    !attributes[IFLA_IFNAME])
		return NL_SKIP;
	items = vrrp_link_grow(links->items, sizeof *items, links->count, &links->capacity);
	if (!items) {
		links->error = -ENOMEM;
		return NL_STOP;
	}
	links->items = items;
	link = &items[links->count++];
	memset(link, 0, sizeof *link);
	link->index = (unsigned)info->ifi_index;
	strncpy(link->name, nla_get_string(attributes[IFLA_IFNAME]), sizeof link->name - 1);
	link->ethernet = info->ifi_type == ARPHRD_ETHER && !(info->ifi_flags & IFF_LOOPBACK);
	link->up = (info->ifi_flags & IFF_UP) && (info->ifi_flags & IFF_RUNNING) &&
		   (info->ifi_flags & IFF_LOWER_UP);
	if (attributes[IFLA_MTU])
		link->mtu = nla_get_u32(attributes[IFLA_MTU]);
	if (attributes[IFLA_MASTER])
		link->master = nla_get_u32(attributes[IFLA_MASTER]);
	if (!attributes[IFLA_LINK_NETNSID])
		put_lower(link, attributes[IFLA_LINK], attributes[IFLA_LINKINFO]);
	if (attributes[IFLA_ADDRESS] && nla_len(attributes[IFLA_ADDRESS]) == 6)
		memcpy(link->mac.bytes, nla_data(attributes[IFLA_ADDRESS]), 6);
	return NL_OK;
}

/* False: it tells of no address that is there. */
static bool read_new_address(struct nl_msg *message, struct base_address *address, bool *tagged)
{
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct ifaddrmsg *info = nlmsg_data(header);
	struct nlattr *attributes[IFA_PROTO + 1];

	if (header->nlmsg_type != RTM_NEWADDR ||
	    nlmsg_parse(header, sizeof *info, attributes, IFA_PROTO, NULL) < 0 ||
	    (info->ifa_family != AF_INET && info->ifa_family != AF_INET6))
		return false;
	if (!read_address(attributes[IFA_LOCAL], info->ifa_family, address) &&
	    !read_address(attributes[IFA_ADDRESS], info->ifa_family, address))
		return false;
	*tagged = attributes[IFA_PROTO] && nla_get_u8(attributes[IFA_PROTO]) == VRRP_LINK_TAG;
	return true;
}

static int on_address(struct nl_msg *message, void *userdata)
{
	struct vrrp_links *links = userdata;
	struct ifaddrmsg *info = nlmsg_data(nlmsg_hdr(message));
	struct base_address address;
	struct vrrp_link *link;
	bool tagged;

	if (!read_new_address(message, &address, &tagged))
		return NL_SKIP;
	if (!put(tagged ? &links->tagged : &links->others, info->ifa_index, &address)) {
		links->error = -ENOMEM;
		return NL_STOP;
	}
	if (tagged)
		return NL_OK;
	link = find(links, info->ifa_index);
	if (link && link->address_count < VRRP_LINK_ADDRESSES_MAX &&
	    !(info->ifa_flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)))
		link->addresses[link->address_count++] =
			(struct base_prefix){ address, info->ifa_prefixlen };
	return NL_OK;
}

/* The best one by each interface; a table that only rules ask says where a gateway is, and no more. */
static void put_route(struct vrrp_links *links, unsigned index, int family, uint64_t route,
		      const struct nlattr *gateway)
{
	struct vrrp_link *link = find(links, index);
	int six = family == AF_INET6;

	if (!link || (link->routes[six] && link->routes[six] <= route))
		return;
	link->routes[six] = route;
	if (!read_address(gateway, family, &link->gateways[six]))
		link->gateways[six] = (struct base_address){ 0 };
}

/* One route by several interfaces. */
static void put_ways(struct vrrp_links *links, int family, uint64_t route, struct nlattr *ways)
{
	struct rtnexthop *way = nla_data(ways);
	int left = nla_len(ways);

	/* RTNH_OK() reads a length before it asks whether there is one. */
	for (; left >= (int)sizeof *way && RTNH_OK(way, left); left -= RTNH_ALIGN(way->rtnh_len), way = RTNH_NEXT(way))
		put_route(links, (unsigned)way->rtnh_ifindex, family, route,
			  nla_find((struct nlattr *)RTNH_DATA(way), way->rtnh_len - (int)sizeof *way,
				   RTA_GATEWAY));
}

static int on_route(struct nl_msg *message, void *userdata)
{
	struct vrrp_links *links = userdata;
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct rtmsg *info = nlmsg_data(header);
	struct nlattr *attributes[RTA_MAX + 1];
	uint64_t route = 1; /* and its metric */
	uint32_t table;

	if (header->nlmsg_type != RTM_NEWROUTE ||
	    nlmsg_parse(header, sizeof *info, attributes, RTA_MAX, NULL) < 0 ||
	    info->rtm_dst_len != 0 || info->rtm_type != RTN_UNICAST)
		return NL_SKIP;
	table = attributes[RTA_TABLE] ? nla_get_u32(attributes[RTA_TABLE]) : info->rtm_table;
	if (attributes[RTA_PRIORITY])
		route += nla_get_u32(attributes[RTA_PRIORITY]);
	if (table != RT_TABLE_MAIN && table != RT_TABLE_DEFAULT)
		route += VRRP_LINK_ROUTE_BY_RULE;
	if (attributes[RTA_OIF])
		put_route(links, nla_get_u32(attributes[RTA_OIF]), info->rtm_family, route,
			  attributes[RTA_GATEWAY]);
	else if (attributes[RTA_MULTIPATH])
		put_ways(links, info->rtm_family, route, attributes[RTA_MULTIPATH]);
	return NL_OK;
}

int vrrp_link_dump(struct vrrp_links *links, int type, size_t header_size, int family,
		nl_recvmsg_msg_cb_t callback)
{
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
		struct rtmsg route;
		struct ndmsg neighbour;
		unsigned char family;
	} request = { 0 };
	int r;

	request.family = (unsigned char)family;
	nl_socket_modify_cb(links->request, NL_CB_VALID, NL_CB_CUSTOM, callback, links);
	r = nl_send_simple(links->request, type, NLM_F_DUMP, &request, header_size);
	if (r >= 0)
		r = nl_recvmsgs_default(links->request);
	if (r < 0)
		return vrrp_link_error(r);
	return links->error;
}

int vrrp_links_refresh(struct vrrp_links *links)
{
	int r;

	for (int attempt = 0; attempt < 5; attempt++) {
		links->count = links->tagged.count = links->others.count = 0;
		links->error = 0;
		links->changed = false;
		links->revision++;
		r = vrrp_link_dump(links, RTM_GETLINK, sizeof(struct ifinfomsg), AF_UNSPEC, on_link);
		if (r == 0)
			r = vrrp_link_dump(links, RTM_GETADDR, sizeof(struct ifaddrmsg), AF_UNSPEC,
				 on_address);
		if (r == 0)
			r = vrrp_link_dump(links, RTM_GETROUTE, sizeof(struct rtmsg), AF_INET, on_route);
		if (r == 0)
			r = vrrp_link_dump(links, RTM_GETROUTE, sizeof(struct rtmsg), AF_INET6, on_route);
		if (r != -EINTR) /* the kernel changed while it was telling */
			break;
	}
	sort(&links->tagged);
	sort(&links->others);
	return r;
}

/* Its owner renews each address every few seconds: thousands of messages that say nothing new. */
static bool is_renewal(const struct vrrp_links *links, struct nl_msg *message)
{
	struct ifaddrmsg *info = nlmsg_data(nlmsg_hdr(message));
	struct base_address address;
	bool tagged;

	return read_new_address(message, &address, &tagged) && tagged &&
	       has(&links->tagged, info->ifa_index, &address);
}

static int on_event(struct nl_msg *message, void *userdata)
{
	struct vrrp_links *links = userdata;

	if (!links->changed && !is_renewal(links, message))
		links->changed = true;
	return NL_OK;
}

int vrrp_links_new(struct vrrp_links **links)
{
	struct vrrp_links *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->request = nl_socket_alloc();
	new->events = nl_socket_alloc();
	if (!new->request || !new->events) {
		vrrp_links_free(new);
		return -ENOMEM;
	}
	nl_socket_disable_seq_check(new->events);
	nl_socket_modify_cb(new->events, NL_CB_VALID, NL_CB_CUSTOM, on_event, new);
	r = nl_connect(new->request, NETLINK_ROUTE);
	if (r == 0)
		r = nl_connect(new->events, NETLINK_ROUTE);
	if (r == 0)
		r = nl_socket_add_memberships(new->events, RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR,
					      RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
					      RTNLGRP_IPV6_ROUTE, 0);
	if (r == 0)
		r = nl_socket_set_nonblocking(new->events);
	if (r == 0)
		nl_socket_set_buffer_size(new->events, 1024 * 1024, 0);
	r = r < 0 ? vrrp_link_error(r) : vrrp_links_refresh(new);
	if (r < 0) {
		vrrp_links_free(new);
		return r;
	}
	*links = new;
	return 0;
}

void vrrp_links_free(struct vrrp_links *links)
{
	if (!links)
		return;
	nl_socket_free(links->request);
	nl_socket_free(links->events);
	free(links->items);
	free(links->tagged.items);
	free(links->others.items);
	free(links->filters);
	free(links);
}

int vrrp_links_fd(const struct vrrp_links *links)
{
	return nl_socket_get_fd(links->events);
}

int vrrp_links_drain(struct vrrp_links *links)
{
	int r = 0;

	for (unsigned i = 0; i < DRAIN_MAX && r == 0; i++)
		r = nl_recvmsgs_default(links->events);
	/* Anything but "nothing more" means that events were lost: look at everything. */
	return links->changed || (r != 0 && vrrp_link_error(r) != -EAGAIN);
}

const struct vrrp_link *vrrp_links_get(const struct vrrp_links *links, size_t *count)
{
	*count = links->count;
	return links->items;
}

const struct vrrp_link *vrrp_links_at(const struct vrrp_links *links, unsigned index)
{
	for (size_t i = 0; i < links->count; i++)
		if (links->items[i].index == index)
			return &links->items[i];
	return NULL;
}

uint64_t vrrp_links_revision(const struct vrrp_links *links)
{
	return links->revision;
}

const struct vrrp_link_tagged *vrrp_links_tagged(const struct vrrp_links *links, size_t *count)
{
	*count = links->tagged.count;
	return links->tagged.items;
}

bool vrrp_links_is_tagged(const struct vrrp_links *links, unsigned index,
			  const struct base_address *address)
{
	return has(&links->tagged, index, address);
}

static struct nl_msg *address_message(int type, unsigned index, const struct base_address *address,
				      uint32_t valid_s)
{
	struct ifaddrmsg info = {
		.ifa_family = address->family == BASE_FAMILY_IPV4 ? AF_INET : AF_INET6,
		.ifa_prefixlen = (uint8_t)(base_address_size(address) * 8),
		.ifa_index = index,
		.ifa_scope = RT_SCOPE_UNIVERSE,
	};
	struct ifa_cacheinfo lifetime = { .ifa_prefered = 0, .ifa_valid = valid_s };
	struct nl_msg *message = nlmsg_alloc_simple(
		type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0);
	int size = (int)base_address_size(address);

	if (!message)
		return NULL;
	if (nlmsg_append(message, &info, sizeof info, NLMSG_ALIGNTO) < 0 ||
	    nla_put(message, IFA_LOCAL, size, address->bytes) < 0 ||
	    nla_put(message, IFA_ADDRESS, size, address->bytes) < 0 ||
	    (type == RTM_NEWADDR &&
	     (nla_put_u32(message, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE) < 0 ||
	      nla_put(message, IFA_CACHEINFO, sizeof lifetime, &lifetime) < 0 ||
	      nla_put_u8(message, IFA_PROTO, VRRP_LINK_TAG) < 0))) {
		nlmsg_free(message);
		return NULL;
	}
	return message;
}

static int request(struct vrrp_links *links, int type, unsigned index,
		   const struct base_address *address, uint32_t valid_s)
{
	struct nl_msg *message = address_message(type, index, address, valid_s);

	if (!message)
		return -ENOMEM;
	return vrrp_link_error(nl_send_sync(links->request, message)); /* takes the message */
}

int vrrp_links_add(struct vrrp_links *links, unsigned index, const struct base_address *addresses,
		   size_t count, uint32_t valid_s)
{
	int first = 0;

	for (size_t i = 0; i < count; i++) {
		/*
		 * An administrator's own address of the same value is never touched, nor while the kernel
		 * still asks whether it is somebody else's, too.
		 */
		int r = has(&links->others, index, &addresses[i])
				? -EEXIST
				: request(links, RTM_NEWADDR, index, &addresses[i], valid_s);

		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

static int on_lookup(struct nl_msg *message, void *userdata)
{
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct nlattr *attributes[RTA_MAX + 1], *metrics[RTAX_MAX + 1];
	struct vrrp_link_way *way = userdata;

	if (header->nlmsg_type != RTM_NEWROUTE ||
	    nlmsg_parse(header, sizeof(struct rtmsg), attributes, RTA_MAX, NULL) < 0)
		return NL_OK;
	way->local = ((struct rtmsg *)nlmsg_data(header))->rtm_type == RTN_LOCAL;
	if (attributes[RTA_OIF])
		way->index = nla_get_u32(attributes[RTA_OIF]);
	if (attributes[RTA_METRICS] && nla_parse_nested(metrics, RTAX_MAX, attributes[RTA_METRICS], NULL) >= 0 &&
	    metrics[RTAX_MTU])
		way->mtu = nla_get_u32(metrics[RTAX_MTU]);
	return NL_OK;
}

struct vrrp_link_way vrrp_links_way(struct vrrp_links *links, const struct base_address *address)
{
	unsigned size = base_address_size(address);
	struct rtmsg info = { .rtm_family = size == 4 ? AF_INET : AF_INET6, .rtm_dst_len = (uint8_t)(size * 8) };
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETROUTE, 0);
	struct vrrp_link_way way = { 0 }, none = { 0 };
	bool failed;

	if (!message)
		return none;
	nl_socket_modify_cb(links->request, NL_CB_VALID, NL_CB_CUSTOM, on_lookup, &way);
	failed = nlmsg_append(message, &info, sizeof info, NLMSG_ALIGNTO) < 0 ||
		 nla_put(message, RTA_DST, (int)size, address->bytes) < 0 ||
		 nl_send_auto(links->request, message) < 0 || nl_recvmsgs_default(links->request) < 0 ||
		 nl_wait_for_ack(links->request) < 0;
	nlmsg_free(message);
	return failed ? none : way;
}

bool vrrp_links_wait(struct vrrp_links *links, const struct base_address *addresses, size_t count,
		     unsigned patience_us)
{
	struct timespec pause = { .tv_nsec = WAIT_STEP_US * 1000 };
	unsigned waited_us = 0;

	for (size_t i = 0; i < count; i++)
		while (addresses[i].family == BASE_FAMILY_IPV6 && !vrrp_links_way(links, &addresses[i]).local) {
			if (waited_us >= patience_us)
				return false;
			nanosleep(&pause, NULL);
			waited_us += WAIT_STEP_US;
		}
	return true;
}

int vrrp_links_remove(struct vrrp_links *links, unsigned index,
		      const struct base_address *addresses, size_t count)
{
	int first = 0;

	for (size_t i = 0; i < count; i++) {
		int r = has(&links->others, index, &addresses[i])
				? 0
				: request(links, RTM_DELADDR, index, &addresses[i], 0);

		if (r < 0 && r != -EADDRNOTAVAIL && r != -ENODEV && first == 0)
			first = r;
	}
	return first;
}
