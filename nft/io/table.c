#include "nft/io/table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nftables/libnftables.h>

#include "base/cleanup.h"

#define PROBE "vipd-probe" /* a table that is there for an instant when a process starts */

struct item {
	const char *table, *set; /* literals of the core */
	bool exclusive, ambiguous;
	char *key, *data;
};

struct items {
	struct item *at;
	size_t count, capacity;
};

struct buffer {
	char *text;
	size_t length, capacity;
	bool failed;
};

struct nft_table {
	struct nft_ctx *context;
	int events;
	struct items wanted, present;
	uint32_t port; /* netlink's name for our context: its changes are ours */
	char culprit[64];
	bool changing; /* the transaction being told touches our tables, and is not ours */
	bool loaded; /* by this process: `present` is what stands in the kernel */
	uint64_t revision;
	struct buffer buffer;
};

static void items_clear(struct items *items)
{
	for (size_t i = 0; i < items->count; i++) {
		free(items->at[i].key);
		free(items->at[i].data);
	}
	items->count = 0;
}

static void items_free(struct items *items)
{
	items_clear(items);
	free(items->at);
	*items = (struct items){ 0 };
}

static void reserve(struct buffer *buffer, size_t size)
{
	size_t capacity = buffer->capacity ? buffer->capacity : 65536;
	char *grown;

	while (capacity - buffer->length < size)
		capacity *= 2;
	if (buffer->failed || capacity == buffer->capacity)
		return;
	grown = realloc(buffer->text, capacity);
	if (!grown) {
		buffer->failed = true;
		return;
	}
	buffer->text = grown;
	buffer->capacity = capacity;
}

__attribute__((format(printf, 2, 3))) static void put(struct buffer *buffer, const char *format, ...)
{
	va_list arguments;
	int n;

	reserve(buffer, 1024); /* more than any line of ours */
	if (buffer->failed)
		return;
	va_start(arguments, format);
	n = vsnprintf(buffer->text + buffer->length, buffer->capacity - buffer->length, format,
		      arguments);
	va_end(arguments);
	if (n > 0)
		buffer->length += (size_t)n;
}

static int run(struct nft_table *table, const char *commands, struct base_error *error)
{
	int r = nft_run_cmd_from_buffer(table->context, commands);
	const char *why = nft_ctx_get_error_buffer(table->context);

	/* Draining both buffers keeps them from growing over the years. */
	if (r != 0) {
		char line[200];

		snprintf(line, sizeof line, "%s", why && *why ? why : "no reason given");
		line[strcspn(line, "\n")] = '\0';
		return base_error_set(error, -EINVAL, "nftables refused: %s", line);
	}
	return 0;
}

static int open_events(void)
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
	return fd;
}

/* Tries in a table of its own what the skeleton will need, and takes it away again. */
static bool probe(struct nft_table *table, const char *chain)
{
	char text[512];

	snprintf(text, sizeof text,
		 "add table netdev " PROBE "\n"
		 "add chain netdev " PROBE " c { type filter hook %s device \"lo\" priority 0; }\n"
		 "delete table netdev " PROBE "\n",
		 chain);
	return run(table, text, NULL) == 0;
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

static void read_event(struct nft_table *table, const struct nlmsghdr *header)
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
	if (table->port == 0 && strcmp(name, PROBE) == 0)
		table->port = header->nlmsg_pid;
	if (header->nlmsg_pid != table->port && header->nlmsg_pid != (uint32_t)getpid() &&
	    strcmp(name, "vipd") == 0)
		table->changing = true; /* told when the end of the transaction says whose it was */
}

/* The end of a transaction says whose it was. */
static void read_generation(struct nft_table *table, const struct nlmsghdr *header)
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
	snprintf(table->culprit, sizeof table->culprit, "%s (pid %u)", name, pid);
}

int nft_table_drain(struct nft_table *table)
{
	_Alignas(struct nlmsghdr) char buffer[16384];
	int found = NFT_TABLE_UNCHANGED;

	for (;;) {
		ssize_t size = recv(table->events, buffer, sizeof buffer, MSG_DONTWAIT);
		struct nlmsghdr *header = (struct nlmsghdr *)buffer;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == ENOBUFS) {
			if (found == NFT_TABLE_UNCHANGED)
				found = NFT_TABLE_UNKNOWN;
			table->changing = false;
			continue;
		}
		if (size <= 0)
			return found;
		for (; NLMSG_OK(header, (unsigned)size); header = NLMSG_NEXT(header, size)) {
			if ((header->nlmsg_type & 0xff) != NFT_MSG_NEWGEN) {
				read_event(table, header);
			} else if (table->changing) {
				table->changing = false;
				if (found != NFT_TABLE_CHANGED)
					read_generation(table, header);
				found = NFT_TABLE_CHANGED;
			}
		}
	}
}

const char *nft_table_culprit(const struct nft_table *table)
{
	return table->culprit;
}

int nft_table_new(struct nft_table **result, struct nft_abilities *abilities,
		  struct base_error *error)
{
	struct nft_table *table = calloc(1, sizeof *table);

	if (!table)
		return -ENOMEM;
	table->events = -1;
	table->context = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!table->context) {
		nft_table_free(table);
		return base_error_set(error, -ENOMEM, "libnftables gave no context");
	}
	nft_ctx_buffer_output(table->context);
	nft_ctx_buffer_error(table->context);
	table->events = open_events();
	if (table->events < 0) {
		int r = table->events;

		nft_table_free(table);
		return base_error_set(error, r, "no netfilter events: %s", strerror(-r));
	}
	if (!probe(table, "ingress")) {
		nft_table_free(table);
		return base_error_set(error, -EOPNOTSUPP,
				      "this kernel or container has no nf_tables with the netdev "
				      "ingress hook (CONFIG_NETFILTER_INGRESS), or CAP_NET_ADMIN is "
				      "missing");
	}
	abilities->egress = probe(table, "egress");
	nft_table_drain(table); /* learns the name of our own changes */
	*result = table;
	return 0;
}

void nft_table_free(struct nft_table *table)
{
	if (!table)
		return;
	if (table->context)
		nft_ctx_free(table->context);
	if (table->events >= 0)
		close(table->events);
	items_free(&table->wanted);
	items_free(&table->present);
	free(table->buffer.text);
	free(table);
}

void nft_table_begin(struct nft_table *table)
{
	items_clear(&table->wanted);
}

int nft_table_want(void *userdata, const struct nft_element *element)
{
	struct nft_table *table = userdata;
	struct items *items = &table->wanted;
	struct item *item;

	if (items->count == items->capacity) {
		size_t capacity = items->capacity ? items->capacity * 2 : 64;
		struct item *grown = realloc(items->at, capacity * sizeof *grown);

		if (!grown)
			return -ENOMEM;
		items->at = grown;
		items->capacity = capacity;
	}
	item = &items->at[items->count];
	*item = (struct item){ .table = element->table,
			       .set = element->set,
			       .exclusive = element->exclusive,
			       .key = strdup(element->key),
			       .data = strdup(element->data) };
	items->count++;
	return item->key && item->data ? 0 : -ENOMEM;
}

static int compare_keys(const struct item *a, const struct item *b)
{
	int r = strcmp(a->table, b->table);

	if (r == 0)
		r = strcmp(a->set, b->set);
	return r ? r : strcmp(a->key, b->key);
}

static int compare_items(const void *left, const void *right)
{
	const struct item *a = left, *b = right;
	int r = compare_keys(a, b);

	return r ? r : strcmp(a->data, b->data);
}

/*
 * Sorts, and leaves one element per key: none where the data contradict in an exclusive map, or where
 * they are empty there.
 */
static void settle(struct items *items)
{
	size_t kept = 0;

	if (items->count == 0)
		return;
	qsort(items->at, items->count, sizeof *items->at, compare_items);
	for (size_t i = 0; i < items->count;) {
		size_t end = i + 1;
		bool differs = false;

		for (; end < items->count && compare_keys(&items->at[i], &items->at[end]) == 0;
		     end++)
			differs |= strcmp(items->at[i].data, items->at[end].data) != 0;
		for (size_t j = i; j < end; j++) {
			if (j == i && !(items->at[i].exclusive &&
					(differs || !items->at[i].data[0]))) {
				items->at[kept++] = items->at[j];
				continue;
			}
			free(items->at[j].key);
			free(items->at[j].data);
		}
		i = end;
	}
	items->count = kept;
}

/* Elements of one set go into one command: libnftables is quick then. */
static void put_items(struct buffer *buffer, const char *verb, const struct items *items,
		      const bool *which)
{
	for (size_t i = 0; i < items->count;) {
		const struct item *first = &items->at[i];
		bool any = false;

		for (; i < items->count && strcmp(items->at[i].table, first->table) == 0 &&
		       strcmp(items->at[i].set, first->set) == 0;
		     i++) {
			const struct item *item = &items->at[i];

			if (which && !which[i])
				continue;
			if (!any)
				put(buffer, "%s element %s vipd %s {", verb, first->table,
				    first->set);
			put(buffer, "%s %s%s%s", any ? "," : "", item->key,
			    item->data[0] ? " : " : "", item->data);
			any = true;
		}
		if (any)
			put(buffer, " }\n");
	}
}

/* Everything, in one transaction: rules, and the elements of every set but the fence's. */
static int load(struct nft_table *table, const struct nft_skeleton *skeleton, bool anew,
		struct base_error *error)
{
	struct buffer *buffer = &table->buffer;
	int r;

	buffer->length = 0;
	buffer->failed = false;
	reserve(buffer, NFT_SKELETON_SIZE);
	if (buffer->failed)
		return -ENOMEM;
	r = nft_skeleton_render(skeleton, anew, buffer->text, buffer->capacity);
	if (r == -EINVAL)
		return base_error_set(error, r, "an interface has a name that nftables cannot say: "
						"rename it to letters, digits, dot, dash");
	if (r < 0)
		return base_error_set(error, r, "the rules have no room: too many segments, "
						"intervals or addresses");
	buffer->length = (size_t)r;
	for (unsigned i = 0; i < NFT_SETS; i++)
		put(buffer, "flush %s %s vipd %s\n", nft_sets[i].kind, nft_sets[i].table,
		    nft_sets[i].name);
	put_items(buffer, "add", &table->wanted, NULL);
	return buffer->failed ? -ENOMEM : run(table, buffer->text, error);
}

static bool is_there(struct nft_table *table)
{
	/* One family at a time: libnftables 1.0.6 reads only one into its cache. */
	return run(table, "list set inet vipd revision\n", NULL) == 0 &&
	       run(table, "list set netdev vipd vips4\n", NULL) == 0;
}

static int commit_everything(struct nft_table *table, const struct nft_skeleton *skeleton,
			     struct base_error *error)
{
	int r;

	if (is_there(table) && load(table, skeleton, false, NULL) == 0)
		return 0;
	/* Nothing there, or of another version's making. */
	r = load(table, skeleton, true, error);
	return r < 0 ? r : 1;
}

static int commit_difference(struct nft_table *table, struct base_error *error)
{
	struct items *old = &table->present, *new = &table->wanted;
	CLEANUP(base_free_cleanup) bool *gone = calloc(old->count + 1, 1);
	CLEANUP(base_free_cleanup) bool *come = calloc(new->count + 1, 1);
	struct buffer *buffer = &table->buffer;
	size_t i = 0, j = 0;

	if (!gone || !come)
		return -ENOMEM;
	while (i < old->count || j < new->count) {
		int r = i == old->count	  ? 1
			: j == new->count ? -1
					  : compare_items(&old->at[i], &new->at[j]);

		if (r < 0)
			gone[i++] = true;
		else if (r > 0)
			come[j++] = true;
		else
			i++, j++;
	}
	buffer->length = 0;
	buffer->failed = false;
	put(buffer, "%s", "");
	/* Deleted and added in one transaction: no packet sees the key missing. */
	put_items(buffer, "delete", old, gone);
	put_items(buffer, "add", new, come);
	if (buffer->failed)
		return -ENOMEM;
	return buffer->length ? run(table, buffer->text, error) : 0;
}

int nft_table_commit(struct nft_table *table, const struct nft_skeleton *skeleton,
		     struct base_error *error)
{
	uint64_t revision = nft_skeleton_revision(skeleton);
	struct items swap;
	int r = -ENOENT;

	settle(&table->wanted);
	if (table->loaded && table->revision == revision)
		r = commit_difference(table, NULL);
	/* A refused difference means that somebody changed what we thought was there. */
	if (r < 0)
		r = commit_everything(table, skeleton, error);
	table->loaded = r >= 0;
	if (r < 0)
		return r;
	table->revision = revision;
	swap = table->present;
	table->present = table->wanted;
	table->wanted = swap;
	items_clear(&table->wanted);
	/* Megabytes when everything is loaded, and hardly ever needed again. */
	free(table->buffer.text);
	table->buffer = (struct buffer){ 0 };
	return r;
}

void nft_table_forget(struct nft_table *table)
{
	table->loaded = false;
}

int nft_table_fd(const struct nft_table *table)
{
	return table->events;
}

bool nft_table_present(struct nft_table *table)
{
	char text[160];

	if (!table->loaded)
		return false;
	snprintf(text, sizeof text, "get element inet vipd revision { 0x%08x . 0x%08x }\n",
		 (unsigned)(table->revision >> 32), (unsigned)table->revision);
	return run(table, text, NULL) == 0 && is_there(table);
}

static void read_alive(const char *text, struct nft_alive *alive)
{
	const char *at = text ? strstr(text, "elements = {") : NULL;

	if (!at)
		return;
	for (at += strlen("elements = {"); *at && *at != '}' && alive->count < NFT_ALIVE_MAX;) {
		struct base_address *address = &alive->addresses[alive->count];
		char word[64];
		size_t length;

		at += strspn(at, " \t\n,");
		length = strcspn(at, " \t\n,}");
		if (length == 0)
			break;
		snprintf(word, sizeof word, "%.*s", (int)(length < 63 ? length : 63), at);
		if (strncmp(word, "0x", 2) == 0) { /* IPv6 as a number, without leading zeros */
			size_t digits = strlen(word) - 2;

			memset(address, 0, sizeof *address);
			address->family = BASE_FAMILY_IPV6;
			for (size_t i = 0; i < digits && i < 32; i++) {
				char c = word[2 + digits - 1 - i];
				int nibble = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;

				address->bytes[15 - i / 2] |=
					(uint8_t)(i & 1 ? nibble << 4 : nibble);
			}
			alive->count++;
		} else if (base_address_parse(word, address)) {
			alive->count++;
		}
		at += length;
		at += strcspn(at, ",}");
	}
}

static int compare_addresses(const void *left, const void *right)
{
	return base_address_compare(left, right);
}

int nft_table_alive(struct nft_table *table, struct nft_alive *alive)
{
	int r;

	alive->count = 0;
	nft_ctx_get_output_buffer(table->context);
	r = run(table, "list set netdev vipd alive4\n", NULL);
	if (r == 0)
		read_alive(nft_ctx_get_output_buffer(table->context), alive);
	if (r == 0)
		r = run(table, "list set netdev vipd alive6\n", NULL);
	if (r == 0)
		read_alive(nft_ctx_get_output_buffer(table->context), alive);
	qsort(alive->addresses, alive->count, sizeof alive->addresses[0], compare_addresses);
	return r;
}

bool nft_alive_has(const struct nft_alive *alive, const struct base_address *address)
{
	return bsearch(address, alive->addresses, alive->count, sizeof *address,
		       compare_addresses);
}

int nft_table_remove(struct nft_table *table)
{
	table->loaded = false;
	return run(table,
		   "add table netdev vipd\ndelete table netdev vipd\n"
		   "add table inet vipd\ndelete table inet vipd\n",
		   NULL);
}
