#include <errno.h>
#include <string.h>

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <sys/socket.h>

#include "vrrp/io/link_private.h"
#include "vrrp/io/socket.h"
#include "vrrp/packet.h"

/*
 * What the kernel keeps of neighbours: the filter of an interface, in which virtual MACs are, the group of
 * adverts as an entry that stays, and a gateway that is known before there is something to send to it.
 */

static int request_filter(struct vrrp_links *links, int type, unsigned index,
			  const struct base_mac *mac)
{
	struct ndmsg info = { .ndm_family = AF_BRIDGE,
			      .ndm_ifindex = (int)index,
			      .ndm_state = NUD_PERMANENT,
			      .ndm_flags = NTF_SELF };
	struct nl_msg *message =
		nlmsg_alloc_simple(type, type == RTM_NEWNEIGH ? NLM_F_CREATE : 0);

	if (!message)
		return -ENOMEM;
	if (nlmsg_append(message, &info, sizeof info, NLMSG_ALIGNTO) < 0 ||
	    nla_put(message, NDA_LLADDR, sizeof mac->bytes, mac->bytes) < 0) {
		nlmsg_free(message);
		return -ENOMEM;
	}
	return vrrp_link_error(nl_send_sync(links->request, message)); /* takes the message */
}

int vrrp_links_listen(struct vrrp_links *links, unsigned index, const struct base_mac *mac)
{
	int r = request_filter(links, RTM_NEWNEIGH, index, mac);

	return r == -EEXIST ? 0 : r;
}

int vrrp_links_ignore(struct vrrp_links *links, unsigned index, const struct base_mac *mac)
{
	int r = request_filter(links, RTM_DELNEIGH, index, mac);

	return r == -ENODEV ? 0 : r; /* no such interface, or it has no such MAC */
}

static int request_group(struct vrrp_links *links, int type, unsigned index,
			 enum base_family family)
{
	struct base_address group = vrrp_group(family);
	const uint8_t *end = group.bytes + base_address_size(&group);
	/* RFC 1112 6.4, RFC 2464 7 */
	const uint8_t mac4[6] = { 0x01, 0x00, 0x5e, end[-3] & 0x7f, end[-2], end[-1] };
	const uint8_t mac6[6] = { 0x33, 0x33, end[-4], end[-3], end[-2], end[-1] };
	struct ndmsg info = { .ndm_family = family == BASE_FAMILY_IPV4 ? AF_INET : AF_INET6,
			      .ndm_ifindex = (int)index,
			      .ndm_state = NUD_PERMANENT };
	struct nl_msg *message = nlmsg_alloc_simple(
		type, type == RTM_NEWNEIGH ? NLM_F_CREATE | NLM_F_REPLACE : 0);

	if (!message)
		return -ENOMEM;
	if (nlmsg_append(message, &info, sizeof info, NLMSG_ALIGNTO) < 0 ||
	    nla_put(message, NDA_DST, (int)base_address_size(&group), group.bytes) < 0 ||
	    nla_put(message, NDA_LLADDR, 6, family == BASE_FAMILY_IPV4 ? mac4 : mac6) < 0) {
		nlmsg_free(message);
		return -ENOMEM;
	}
	return vrrp_link_error(nl_send_sync(links->request, message)); /* takes the message */
}

int vrrp_links_keep_group(struct vrrp_links *links, unsigned index, enum base_family family)
{
	return request_group(links, RTM_NEWNEIGH, index, family);
}

int vrrp_links_forget_group(struct vrrp_links *links, unsigned index, enum base_family family)
{
	int r = request_group(links, RTM_DELNEIGH, index, family);

	return r == -ENODEV || r == -ENOENT ? 0 : r; /* no such interface, or none there */
}

int vrrp_links_use(struct vrrp_links *links, unsigned index, const struct base_address *address)
{
	struct ndmsg info = { .ndm_family = address->family == BASE_FAMILY_IPV4 ? AF_INET : AF_INET6,
			      .ndm_ifindex = (int)index,
			      .ndm_flags = NTF_USE };
	struct nl_msg *message = nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_CREATE);

	if (!message)
		return -ENOMEM;
	if (nlmsg_append(message, &info, sizeof info, NLMSG_ALIGNTO) < 0 ||
	    nla_put(message, NDA_DST, (int)base_address_size(address), address->bytes) < 0) {
		nlmsg_free(message);
		return -ENOMEM;
	}
	return vrrp_link_error(nl_send_sync(links->request, message)); /* takes the message */
}

static int on_filter(struct nl_msg *message, void *userdata)
{
	struct vrrp_links *links = userdata;
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct ndmsg *info = nlmsg_data(header);
	struct nlattr *attributes[NDA_MAX + 1];
	struct filter *filters, *filter;

	if (header->nlmsg_type != RTM_NEWNEIGH ||
	    nlmsg_parse(header, sizeof *info, attributes, NDA_MAX, NULL) < 0 ||
	    !(info->ndm_state & NUD_PERMANENT) || !attributes[NDA_LLADDR] ||
	    nla_len(attributes[NDA_LLADDR]) != sizeof filter->mac.bytes ||
	    !vrrp_is_virtual_mac(nla_data(attributes[NDA_LLADDR])))
		return NL_SKIP;
	filters = vrrp_link_grow(links->filters, sizeof *filters, links->filter_count,
		       &links->filter_capacity);
	if (!filters) {
		links->error = -ENOMEM;
		return NL_STOP;
	}
	links->filters = filters;
	filter = &filters[links->filter_count++];
	filter->index = (unsigned)info->ndm_ifindex;
	memcpy(filter->mac.bytes, nla_data(attributes[NDA_LLADDR]), sizeof filter->mac.bytes);
	return NL_OK;
}

int vrrp_links_ignore_unwanted(struct vrrp_links *links, vrrp_link_unwanted unwanted,
			       const void *userdata)
{
	int first, gone = 0;

	links->filter_count = 0;
	links->error = 0;
	first = vrrp_link_dump(links, RTM_GETNEIGH, sizeof(struct ndmsg), AF_BRIDGE, on_filter);
	for (size_t i = 0; i < links->filter_count; i++) {
		const struct filter *filter = &links->filters[i];
		int r;

		if (!unwanted(userdata, filter->index, &filter->mac))
			continue;
		r = vrrp_links_ignore(links, filter->index, &filter->mac);
		gone += r == 0;
		if (r < 0 && first == 0)
			first = r;
	}
	return first < 0 ? first : gone;
}
