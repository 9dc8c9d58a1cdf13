#include "nft/io/flows.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "nft/io/attributes.h"

#define BUCKETS	   1024
#define PIECES_MAX 16 /* of the kernel's table, before others have their turn */

struct target {
	struct target *next;
	struct base_address address;
	uint8_t protocol;
	uint16_t port;
	size_t end_count;
	struct nft_flow_end ends[];
};

struct targets {
	size_t count[2]; /* of IPv4, of IPv6 */
	struct target *buckets[BUCKETS];
};

struct nft_flows {
	int fd;
	uint32_t sequence;	/* of the dump that is running */
	uint8_t family;		/* of it; 0: none runs */
	bool again;		/* the other family, too */
	struct targets waiting; /* said since the dump began */
	struct targets active;
	uint64_t released;
};

static void targets_clear(struct targets *targets)
{
	for (size_t i = 0; i < BUCKETS; i++)
		while (targets->buckets[i]) {
			struct target *next = targets->buckets[i]->next;

			free(targets->buckets[i]);
			targets->buckets[i] = next;
		}
	memset(targets->count, 0, sizeof targets->count);
}

static bool is6(const struct base_address *address)
{
	return address->family == BASE_FAMILY_IPV6;
}

/* Where the target stands, or would. */
static struct target **find_target(struct targets *targets, const struct base_address *address,
				   uint8_t protocol, uint16_t port)
{
	size_t size = base_address_size(address);
	uint8_t key[20] = { protocol, (uint8_t)(port >> 8), (uint8_t)port };
	struct target **slot;

	memcpy(key + 3, address->bytes, size);
	slot = &targets->buckets[base_hash(key, 3 + size) % BUCKETS];
	while (*slot && ((*slot)->protocol != protocol || (*slot)->port != port ||
			 !base_address_equal(&(*slot)->address, address)))
		slot = &(*slot)->next;
	return slot;
}

static void forget(struct targets *targets, const struct base_address *address, uint8_t protocol,
		   uint16_t port)
{
	struct target **slot = find_target(targets, address, protocol, port), *target = *slot;

	if (!target)
		return;
	*slot = target->next;
	targets->count[is6(address)]--;
	free(target);
}

int nft_flows_new(struct nft_flows **flows)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	struct nft_flows *new = calloc(1, sizeof *new);
	int r;

	if (!new)
		return -ENOMEM;
	new->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	if (new->fd < 0 || bind(new->fd, (struct sockaddr *)&address, sizeof address) < 0) {
		r = -errno;
		nft_flows_free(new);
		return r;
	}
	*flows = new;
	return 0;
}

void nft_flows_free(struct nft_flows *flows)
{
	if (!flows)
		return;
	if (flows->fd >= 0)
		close(flows->fd);
	targets_clear(&flows->waiting);
	targets_clear(&flows->active);
	free(flows);
}

int nft_flows_release(struct nft_flows *flows, const struct base_address *address, uint8_t protocol,
		      uint16_t port, const struct nft_flow_end *ends, size_t end_count)
{
	struct target *target = malloc(sizeof *target + end_count * sizeof *ends);

	if (!target)
		return -ENOMEM;
	forget(&flows->waiting, address, protocol, port);
	forget(&flows->active, address, protocol, port); /* it would go by what is no longer true */
	target->address = *address;
	target->protocol = protocol;
	target->port = port;
	target->end_count = end_count;
	if (end_count > 0)
		memcpy(target->ends, ends, end_count * sizeof *ends);
	target->next = NULL;
	*find_target(&flows->waiting, address, protocol, port) = target;
	flows->waiting.count[is6(address)]++;
	return 0;
}

/* --- reading --- */

static bool read_address(struct attributes tuple, uint8_t family, bool source,
			 struct base_address *address)
{
	uint16_t type = family == AF_INET6 ? (source ? CTA_IP_V6_SRC : CTA_IP_V6_DST)
					   : (source ? CTA_IP_V4_SRC : CTA_IP_V4_DST);
	struct attributes found = attributes_of(attributes_of(tuple, CTA_TUPLE_IP), type);

	memset(address, 0, sizeof *address);
	address->family = family == AF_INET6 ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4;
	if (found.left != base_address_size(address))
		return false;
	memcpy(address->bytes, found.at, found.left);
	return true;
}

static bool read_port(struct attributes tuple, bool source, uint8_t *protocol, uint16_t *port)
{
	struct attributes proto = attributes_of(tuple, CTA_TUPLE_PROTO);
	struct attributes number = attributes_of(proto, CTA_PROTO_NUM);
	struct attributes value =
		attributes_of(proto, source ? CTA_PROTO_SRC_PORT : CTA_PROTO_DST_PORT);

	if (number.left != 1 || value.left != 2)
		return false;
	*protocol = *number.at;
	*port = (uint16_t)(value.at[0] << 8 | value.at[1]);
	return true;
}

/* Does the flow go where its port has no endpoint (any more)? */
static bool is_stale(struct nft_flows *flows, struct attributes entry, uint8_t family)
{
	struct attributes to = attributes_of(entry, CTA_TUPLE_ORIG);
	struct attributes from = attributes_of(entry, CTA_TUPLE_REPLY);
	struct base_address address, end;
	const struct target *target;
	uint8_t protocol, end_protocol;
	uint16_t port, end_port;

	if (!read_port(to, false, &protocol, &port) || !read_address(to, family, false, &address))
		return false;
	target = *find_target(&flows->active, &address, protocol, port);
	if (!target && protocol != IPPROTO_TCP)
		target = *find_target(&flows->active, &address, NFT_FLOWS_EVERY, 0);
	if (!target || !read_port(from, true, &end_protocol, &end_port) ||
	    !read_address(from, family, true, &end))
		return false;
	for (size_t i = 0; i < target->end_count; i++)
		if ((target->ends[i].port == end_port || target->port == 0) &&
		    base_address_equal(&target->ends[i].address, &end))
			return false;
	return true;
}

/* --- asking --- */

struct request {
	struct nlmsghdr header;
	struct nfgenmsg family;
	uint8_t attributes[512];
};

static void copy_attribute(struct request *request, const struct nlattr *attribute)
{
	size_t at = request->header.nlmsg_len - NLMSG_LENGTH(sizeof request->family);

	if (!attribute || NLA_ALIGN((size_t)attribute->nla_len) > sizeof request->attributes - at)
		return;
	memcpy(request->attributes + at, attribute, attribute->nla_len);
	request->header.nlmsg_len += NLA_ALIGN((uint32_t)attribute->nla_len);
}

/* By its tuple and number: a flow that took its place meanwhile stays. */
static void delete(struct nft_flows *flows, struct attributes entry, uint8_t family)
{
	struct request request = {
		.header = { .nlmsg_len = NLMSG_LENGTH(sizeof request.family),
			    .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
			    .nlmsg_flags = NLM_F_REQUEST,
			    .nlmsg_seq = flows->sequence + 1 },
		.family = { .nfgen_family = family, .version = NFNETLINK_V0 },
	};
	const struct nlattr *tuple = attributes_find(entry, CTA_TUPLE_ORIG);

	if (!tuple)
		return; /* without it the kernel would delete everything */
	copy_attribute(&request, tuple);
	if (request.header.nlmsg_len == NLMSG_LENGTH(sizeof request.family))
		return;
	copy_attribute(&request, attributes_find(entry, CTA_ID));
	copy_attribute(&request, attributes_find(entry, CTA_ZONE));
	if (send(flows->fd, &request, request.header.nlmsg_len, 0) > 0)
		flows->released++;
}

static int ask(struct nft_flows *flows, uint8_t family)
{
	struct request request = {
		.header = { .nlmsg_len = NLMSG_LENGTH(sizeof request.family),
			    .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			    .nlmsg_seq = flows->sequence += 2 },
		.family = { .nfgen_family = family, .version = NFNETLINK_V0 },
	};

	flows->family = 0;
	if (send(flows->fd, &request, request.header.nlmsg_len, 0) < 0)
		return -errno;
	flows->family = family;
	return 0;
}

/* What to read next; 0: nothing. */
static int begin(struct nft_flows *flows)
{
	if (flows->again) {
		flows->again = false;
		return ask(flows, AF_INET6);
	}
	targets_clear(&flows->active);
	if (flows->waiting.count[0] + flows->waiting.count[1] == 0)
		return 0;
	flows->active = flows->waiting;
	memset(&flows->waiting, 0, sizeof flows->waiting);
	flows->again = flows->active.count[0] > 0 && flows->active.count[1] > 0;
	return ask(flows, flows->active.count[0] > 0 ? AF_INET : AF_INET6);
}

/* True: the dump is at its end, as wished or not. */
static bool read_message(struct nft_flows *flows, const struct nlmsghdr *header)
{
	size_t at = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	const struct nfgenmsg *generic = NLMSG_DATA(header);
	struct attributes entry;

	if (header->nlmsg_seq != flows->sequence)
		return false; /* about a deletion: the flow was gone by itself */
	if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR)
		return true;
	if (header->nlmsg_len < at || generic->nfgen_family != flows->family)
		return false;
	entry = (struct attributes){ (const uint8_t *)header + at, header->nlmsg_len - at };
	if (is_stale(flows, entry, flows->family))
		delete(flows, entry, flows->family);
	return false;
}

int nft_flows_run(struct nft_flows *flows)
{
	_Alignas(struct nlmsghdr) static char buffer[32768]; /* one thread; not kept over a call */
	int r = flows->family == 0 ? begin(flows) : 0;

	for (unsigned i = 0; i < PIECES_MAX && r == 0 && flows->family != 0; i++) {
		ssize_t size = recv(flows->fd, buffer, sizeof buffer, 0);
		const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;
		bool done = false;

		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (size < 0)
			done = true; /* ENOBUFS: the rest of it is lost */
		for (size_t left = size < 0 ? 0 : (size_t)size; NLMSG_OK(header, left) && !done;
		     header = NLMSG_NEXT(header, left))
			done = read_message(flows, header);
		if (done) {
			flows->family = 0;
			r = begin(flows);
		}
	}
	return r;
}

int nft_flows_fd(const struct nft_flows *flows)
{
	return flows->fd;
}

uint64_t nft_flows_released(const struct nft_flows *flows)
{
	return flows->released;
}
