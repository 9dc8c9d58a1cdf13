/*
 * Whole inputs, and what `nft list` shows of them: test/adapter/golden/NAME.nft. With VIPD_GOLDEN=write in the
 * environment the files are written anew instead of compared; a person reads the difference.
 */
#include <libgen.h>

#include "test/adapter/rules.h"

#define HERE  "192.0.2.1"
#define OTHER "192.0.2.2"
#define FEW   16 /* elements of a set that are shown one by one */

static char shown[1024 * 1024];
static size_t shown_size;

__attribute__((format(printf, 1, 2))) static void show(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	shown_size += (size_t)vsnprintf(shown + shown_size, sizeof shown - shown_size, format, arguments);
	va_end(arguments);
	assert_true(shown_size < sizeof shown);
}

/* --- what nft lists, without what is another number each time --- */

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "KEY counter packets 1 bytes 2 : DATA" becomes "KEY : DATA". */
static void strip_counter(char *element)
{
	char *counter = strstr(element, " counter"), *data = strstr(element, " : ");

	if (!counter)
		return;
	if (data)
		memmove(counter, data, strlen(data) + 1);
	else
		*counter = '\0';
}

/* 251 slots: how many each endpoint has. Which ones, test/unit/nft_desired_test has. */
static void fold_slot(char *element)
{
	char *data = strstr(element, " : ");
	char *slot = data;

	if (!data)
		return;
	while (slot > element && strncmp(slot, " . ", 3) != 0)
		slot--;
	memmove(slot + 3, "*", 1);
	memmove(slot + 4, data, strlen(data) + 1);
}

static void show_elements(const char *block, char *list)
{
	static char *elements[4096];
	size_t count = 0;

	for (char *save, *one = strtok_r(list, ",\n", &save); one; one = strtok_r(NULL, ",\n", &save)) {
		one += strspn(one, " \t");
		if (!*one)
			continue;
		assert_true(count < BASE_COUNT_OF(elements));
		strip_counter(one);
		for (size_t end = strlen(one); end > 0 && one[end - 1] == ' '; end--)
			one[end - 1] = '\0';
		elements[count++] = one;
	}
	for (size_t i = 0; i < count && count > FEW; i++)
		fold_slot(elements[i]);
	qsort(elements, count, sizeof elements[0], compare_words);
	show("\t%s {\n", block);
	for (size_t i = 0, same; i < count; i += same) {
		for (same = 1; i + same < count && strcmp(elements[i], elements[i + same]) == 0; same++)
			;
		if (same == 1)
			show("\t\t%s\n", elements[i]);
		else
			show("\t\t%s  (%zu times)\n", elements[i], same);
	}
	show("\t}\n");
}

/* Sets and maps that are not empty, or the chains. */
static void show_table(const char *name, bool chains)
{
	char *text = strdup(place_read("nft -s list table %s 2>/dev/null", name)), *block = text;

	show("table %s {\n", name);
	while ((block = strstr(block, "\n\t")) != NULL) {
		char *head = block + 2, *end, *elements;
		bool chain = strncmp(head, "chain", 5) == 0;

		block = head;
		if (!chain && strncmp(head, "set", 3) != 0 && strncmp(head, "map", 3) != 0)
			continue; /* flags of the table */
		end = strstr(head, "\n\t}");
		assert_non_null(end);
		*end = '\0';
		block = end + 1;
		head[strcspn(head, "{") - 1] = '\0';
		elements = strstr(head + strlen(head) + 1, "elements = {");
		if (chain && chains)
			show("\t%s {%s\n\t}\n\n", head, head + strlen(head) + 2);
		/* The revision is of this machine: an interface's number is in it. What moved is of the inputs before. */
		if (chain || chains || !elements || strstr(head, "revision") || strstr(head, "moved"))
			continue;
		elements += strlen("elements = {");
		elements[strcspn(elements, "}")] = '\0';
		show_elements(head, elements);
	}
	show("}\n");
	free(text);
}

static void golden(const char *name, const char *story)
{
	char file[] = __FILE__, path[4096], command[4200], expected[sizeof shown] = "";
	char *text = strdup(shown);
	FILE *stream;

	snprintf(path, sizeof path, "%s/golden/%s.nft", dirname(file), name);
	shown_size = 0;
	show("# %s\n%s", story, text);
	free(text);
	if (getenv("VIPD_GOLDEN")) {
		stream = fopen(path, "w");
		assert_non_null(stream);
		fputs(shown, stream);
		assert_int_equal(fclose(stream), 0);
		return;
	}
	stream = fopen(path, "r");
	if (stream) {
		expected[fread(expected, 1, sizeof expected - 1, stream)] = '\0';
		fclose(stream);
	}
	if (strcmp(shown, expected) == 0)
		return;
	snprintf(command, sizeof command, "diff -u %s - >&2", path);
	stream = popen(command, "w");
	assert_non_null(stream);
	fputs(shown, stream);
	pclose(stream);
	fail_msg("%s: nft lists something else; if it is meant so: VIPD_GOLDEN=write", name);
}

/* --- the inputs --- */

static struct nft_endpoint endpoints[4];
static struct base_prefix ranges[8];

/* At `node`: HERE is this one, NULL one that is off the segment. */
static void endpoint(struct nft_port *port, const char *address, const char *node)
{
	struct nft_endpoint *one = &endpoints[port->endpoint_count++];

	*one = (struct nft_endpoint){ .address = place_address(address), .port = port->port, .vm = port->endpoint_count };
	one->local = node && strcmp(node, HERE) == 0;
	if (node)
		one->node = place_address(node);
}

static struct nft_port port_of(const char *address, uint16_t number)
{
	return (struct nft_port){ .address = place_address(address), .protocol = IPPROTO_TCP, .port = number,
				  .endpoints = endpoints, .ranges = ranges };
}

static void want(const struct nft_port *port)
{
	assert_int_equal(nft_emit_port(port, nft_table_want, table), 0);
}

static void one_vm_elsewhere(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);

	want_vip("192.0.2.10", NFT_DATAPLANE_DIRECTOR);
	endpoint(&port, "10.244.2.5", OTHER);
	want(&port);
}

static void one_vm_here(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);

	want_vip("192.0.2.10", NFT_DATAPLANE_DIRECTOR);
	endpoint(&port, "10.244.1.5", HERE);
	want(&port);
}

static void ipv6(void)
{
	struct nft_port port = port_of("2001:db8::10", 22);

	want_vip("2001:db8::10", NFT_DATAPLANE_DIRECTOR);
	endpoint(&port, "fd00::2:5", "2001:db8::2");
	want(&port);
}

static void several_vms(void)
{
	struct nft_port port = port_of("192.0.2.10", 80);

	want_vip("192.0.2.10", NFT_DATAPLANE_DIRECTOR);
	endpoint(&port, "10.244.1.5", HERE);
	endpoint(&port, "10.244.2.5", OTHER);
	endpoint(&port, "10.244.9.5", NULL);
	want(&port);
}

static void no_vm(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);

	want_vip("192.0.2.10", NFT_DATAPLANE_DIRECTOR);
	want(&port);
}

static void nat(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);

	port.dataplane = NFT_DATAPLANE_NAT;
	want_vip("192.0.2.10", NFT_DATAPLANE_NAT);
	endpoint(&port, "10.244.2.5", OTHER);
	want(&port);
}

static void announce(void)
{
	want_vip("192.0.2.10", NFT_DATAPLANE_ANNOUNCE);
}

static void source_ranges(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);
	static const char *const allowed[] = { "10.0.0.0/8", "10.1.0.0/16", "198.51.100.7/32" };

	want_vip("192.0.2.10", NFT_DATAPLANE_DIRECTOR);
	for (; port.range_count < BASE_COUNT_OF(allowed); port.range_count++)
		assert_true(base_prefix_parse(allowed[port.range_count], &ranges[port.range_count]));
	nft_ranges_sort(ranges, port.range_count);
	endpoint(&port, "10.244.2.5", OTHER);
	want(&port);
}

static void all_ports(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);

	one_vm_elsewhere();
	endpoint(&port, "10.244.2.5", OTHER);
	assert_int_equal(nft_emit_whole(&port, nft_table_want, table), 0);
}

static void held(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);

	want_vip("192.0.2.10", NFT_DATAPLANE_DIRECTOR);
	port.held = true;
	endpoint(&port, "10.244.2.5", OTHER);
	endpoints[0].held = true;
	want(&port);
}

static void attached(void)
{
	struct nft_port port = port_of("192.0.2.10", 22);

	want_vip("192.0.2.10", NFT_DATAPLANE_DIRECTOR);
	endpoint(&port, "172.20.0.5", HERE);
	endpoints[0].attached = true;
	want(&port);
}

static void two_services_of_a_vm(void)
{
	struct nft_port port = port_of("192.0.2.11", 22);

	one_vm_here();
	want_vip("192.0.2.11", NFT_DATAPLANE_DIRECTOR);
	endpoint(&port, "10.244.1.5", HERE);
	want(&port);
}

static void virtual_mac(void)
{
	struct base_address vip = place_address("192.0.2.10");
	struct base_mac mac = { { 0x00, 0x00, 0x5e, 0x00, 0x01, 0x0a } };

	assert_int_equal(nft_emit_vip(&vip, NFT_DATAPLANE_DIRECTOR, 0, &mac, nft_table_want, table), 0);
}

static void members(void)
{
	struct base_mac mac = { { 0x02, 0x00, 0x00, 0x00, 0x00, 0x02 } };

	assert_int_equal(nft_emit_peer(&mac, nft_table_want, table), 0);
}

static const struct {
	const char *name, *story;
	void (*input)(void);
} rows[] = {
	{ "one_vm_elsewhere", "192.0.2.10 port 22, one VM 10.244.2.5 on the node 192.0.2.2, as another node has it", one_vm_elsewhere },
	{ "one_vm_here", "The same where the VM is, 10.244.1.5", one_vm_here },
	{ "one_vm_ipv6", "2001:db8::10 port 22, one VM fd00::2:5 on the node 2001:db8::2", ipv6 },
	{ "several_vms", "Port 80 of three VMs: here, on 192.0.2.2, and on a node off the segment; slots are counted", several_vms },
	{ "no_vm", "A port without a VM: refused", no_vm },
	{ "nat", "dataplane: nat; the owner asks the VM itself, and nothing is passed on", nat },
	{ "announce", "dataplane: announce; only the fence is ours", announce },
	{ "source_ranges", "loadBalancerSourceRanges 10.0.0.0/8, 10.1.0.0/16 (in it, so not there), 198.51.100.7/32", source_ranges },
	{ "all_ports", "vipd.dev/all-ports: port 22 by name, every other one as a whole", all_ports },
	{ "held", "A VM that moves: new connections wait, resets of what it left behind are dropped", held },
	{ "attached_network", "vipd.dev/network: a VM that is asked in this node's name", attached },
	{ "two_services_of_a_vm", "Two addresses of one VM: nobody can say whose its mid-stream replies are (doubtful)", two_services_of_a_vm },
	{ "virtual_mac", "An address with a virtual MAC", virtual_mac },
	{ "members", "A node of ours on the segment, by its MAC", members },
};

static void test_each_input_is_shown_as_it_always_was(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	skeleton.virtual_macs[0] = true;
	skeleton.source4[8] = skeleton.source4[16] = skeleton.source4[32] = true;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		print_message("%s\n", rows[i].name);
		nft_table_begin(table);
		rows[i].input();
		commit(&skeleton);
		shown_size = 0;
		show_table("netdev vipd", false);
		show_table("inet vipd", false);
		show_table("arp vipd", false);
		show_table("inet vipd-guard", false);
		golden(rows[i].name, rows[i].story);
	}
}

static void test_the_rules_are_shown_as_they_always_were(void **state)
{
	struct nft_skeleton skeleton = skeleton_of(true);

	(void)state;
	/* A second: what the kernel says of a shorter timeout depends on its ticks. */
	skeleton.interval_count = skeleton.addresses_per_router = 1;
	skeleton.intervals_cs[0] = 100;
	skeleton.source4[8] = skeleton.source4[32] = skeleton.source6[64] = true;
	skeleton.own_count = 2;
	for (unsigned i = 0; i < 2; i++) {
		assert_true(base_prefix_parse(i == 0 ? "192.0.2.1/24" : "fe80::1/64", &skeleton.owns[i].subnet));
		strcpy(skeleton.owns[i].interface, "eth1");
	}
	nft_table_begin(table);
	commit(&skeleton);
	shown_size = 0;
	show_table("netdev vipd", true);
	golden("rules_netdev", "Fence and director of one segment, adverts every second; no Service changes them");
	shown_size = 0;
	show_table("inet vipd", true);
	show_table("inet vipd-guard", true);
	golden("rules_inet", "Translation, and the guard; no Service changes them");
	skeleton.own_count = 3;
	skeleton.indices[0] = 7;
	assert_true(base_prefix_parse("198.51.100.1/24", &skeleton.owns[2].subnet));
	strcpy(skeleton.owns[2].interface, "lan");
	nft_table_begin(table);
	commit(&skeleton);
	shown_size = 0;
	show_table("arp vipd", true);
	golden("rules_arp", "Who is not an address's segment neither answers nor asks for it; another interface with an address; no Service changes them");
	skeleton.own_count = 2;
	skeleton.indices[0] = if_nametoindex("eth1");
	skeleton.virtual_macs[0] = true;
	nft_table_begin(table);
	commit(&skeleton);
	shown_size = 0;
	show_table("netdev vipd", true);
	golden("rules_netdev_virtual_mac", "Fence and director of a segment where an address has a virtual MAC");
	skeleton.port_count = 1;
	strcpy(skeleton.ports[0].name, "lan");
	strcpy(skeleton.ports[0].segment, "eth1");
	skeleton.ports[0].index = if_nametoindex("lan");
	assert_true(base_mac_parse("02:00:00:00:00:01", &skeleton.ports[0].mac));
	skeleton.ports[0].called[0] = skeleton.ports[0].called[1] = skeleton.ports[0].virtual_macs = true;
	nft_table_begin(table);
	commit(&skeleton);
	shown_size = 0;
	show("%s", place_read("nft -s list chain netdev vipd port-lan"));
	golden("rules_netdev_bridge", "At a port of a segment that is a bridge, where br_netfilter is on and an address has a virtual MAC");
	skeleton.port_count = 0;
	skeleton.exit_count = 1;
	strcpy(skeleton.exits[0].name, "lan");
	skeleton.exits[0].index = if_nametoindex("lan");
	skeleton.return_count = 2;
	assert_true(base_prefix_parse("192.0.2.0/24", &skeleton.returns[0].subnet));
	assert_true(base_prefix_parse("2001:db8::/64", &skeleton.returns[1].subnet));
	skeleton.returns[0].gateway = place_address("192.0.2.254");
	skeleton.returns[1].gateway = place_address("fe80::1");
	for (unsigned i = 0; i < skeleton.return_count; i++)
		strcpy(skeleton.returns[i].segment, "eth1");
	nft_table_begin(table);
	commit(&skeleton);
	shown_size = 0;
	show("%s", place_read("nft -s list chain netdev vipd exit-lan"));
	golden("rules_netdev_two_networks", "Where another interface than the segment has the default route");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_each_input_is_shown_as_it_always_was),
		TEST(test_the_rules_are_shown_as_they_always_were),
	};

	place_enter();
	place_need_nft();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
