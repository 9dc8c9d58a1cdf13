#include "nft/io/foreign.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"

#define DRAIN_MAX 32 /* datagrams a turn: somebody who loads a large set sends faster than we read */

/* What the wire does is not told to us: a full load would be tens of thousands of messages. */
static void ignore(int fd, uint32_t port)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(port), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = { BASE_COUNT_OF(code), code };

	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

int nft_foreign_open(struct nft_foreign *foreign, uint32_t wire_port)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	int group = NFNLGRP_NFTABLES, size = 1024 * 1024;

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	ignore(fd, wire_port);
	foreign->fd = fd;
	foreign->wire_port = wire_port;
	return 0;
}

void nft_foreign_close(struct nft_foreign *foreign)
{
	if (foreign->fd >= 0)
		close(foreign->fd);
	foreign->fd = -1;
}

/* The first attribute of every nftables message that has one of these types is the table's name. */
static const char *table_name(const struct nlmsghdr *header)
{
	size_t at = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	const struct nlattr *attribute = (const void *)((const uint8_t *)header + at);

	if (header->nlmsg_len < at + sizeof *attribute + 1 ||
	    (attribute->nla_type & NLA_TYPE_MASK) != NFTA_TABLE_NAME ||
	    attribute->nla_len > header->nlmsg_len - at ||
	    ((const char *)attribute)[attribute->nla_len - 1] != '\0')
		return "";
	return (const char *)attribute + NLA_HDRLEN;
}

static void read_event(struct nft_foreign *foreign, struct nft_loader *loader,
		       const struct nlmsghdr *header)
{
	const char *name;

	switch (header->nlmsg_type & 0xff) {
	case NFT_MSG_NEWTABLE:
	case NFT_MSG_DELTABLE:
	case NFT_MSG_NEWCHAIN:
	case NFT_MSG_DELCHAIN:
	case NFT_MSG_NEWRULE:
	case NFT_MSG_DELRULE:
	case NFT_MSG_NEWSET:
	case NFT_MSG_DELSET:
	case NFT_MSG_NEWSETELEM:
	case NFT_MSG_DELSETELEM:
		break;
	default:
		return;
	}
	name = table_name(header);
	if (strcmp(name, "vipd") == 0 && header->nlmsg_pid != (uint32_t)getpid() &&
	    header->nlmsg_pid != foreign->wire_port &&
	    !nft_loader_is_own(loader, header->nlmsg_pid))
		foreign->changing = true; /* told when the end of the transaction says whose it was */
}

/* The end of a transaction says whose it was. */
static void read_generation(struct nft_foreign *foreign, const struct nlmsghdr *header)
{
	size_t at = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	uint32_t pid = 0;
	char name[32] = "somebody";

	while (at + NLA_HDRLEN <= header->nlmsg_len) {
		const struct nlattr *attribute = (const void *)((const uint8_t *)header + at);
		const char *data = (const char *)attribute + NLA_HDRLEN;
		size_t size = attribute->nla_len;

		if (size < NLA_HDRLEN || at + size > header->nlmsg_len)
			break;
		if (attribute->nla_type == NFTA_GEN_PROC_PID && size == NLA_HDRLEN + 4) {
			memcpy(&pid, data, 4);
			pid = ntohl(pid);
		} else if (attribute->nla_type == NFTA_GEN_PROC_NAME) {
			snprintf(name, sizeof name, "%.*s", (int)(size - NLA_HDRLEN), data);
		}
		at += NLA_ALIGN(size);
	}
	snprintf(foreign->culprit, sizeof foreign->culprit, "%s (pid %u)", name, pid);
}

int nft_foreign_drain(struct nft_foreign *foreign, struct nft_loader *loader)
{
	_Alignas(struct nlmsghdr) char buffer[16384];
	int found = NFT_TABLE_UNCHANGED;

	for (unsigned turn = 0; turn < DRAIN_MAX; turn++) {
		ssize_t size = recv(foreign->fd, buffer, sizeof buffer, MSG_DONTWAIT);
		struct nlmsghdr *header = (struct nlmsghdr *)buffer;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == ENOBUFS) {
			if (found == NFT_TABLE_UNCHANGED)
				found = NFT_TABLE_UNKNOWN;
			foreign->changing = false;
			continue;
		}
		if (size <= 0)
			return found;
		for (; NLMSG_OK(header, (unsigned)size); header = NLMSG_NEXT(header, size)) {
			if ((header->nlmsg_type & 0xff) != NFT_MSG_NEWGEN) {
				read_event(foreign, loader, header);
			} else if (foreign->changing) {
				foreign->changing = false;
				if (found != NFT_TABLE_CHANGED)
					read_generation(foreign, header);
				found = NFT_TABLE_CHANGED;
			}
		}
	}
	return found;
}
