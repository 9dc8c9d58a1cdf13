/* In which order what is claimed goes into the kernel, which may see any part of it standing alone. */
#include <netinet/in.h>

#include "nft/io/ledger.h"
#include "test/unit/unit.h"

static int claim(void *ledger, const struct nft_element *element)
{
	return nft_ledger_claim(ledger, element);
}

/* The sets, those of IPv4, in the order in which they are to be changed. */
static size_t order_of(struct nft_ledger *ledger, unsigned sets[static 16])
{
	struct nft_change *changes;
	size_t count;

	assert_int_equal(nft_ledger_changes(ledger, 1000, &changes, &count), 0);
	assert_in_range(count, 1, 16);
	for (size_t i = 0; i < count; i++) {
		struct nft_element element;

		nft_record_element(changes[i].new ? changes[i].new : changes[i].old, &element);
		sets[i] = element.set;
		nft_ledger_done(&changes[i]);
	}
	nft_ledger_settle(ledger);
	return count;
}

static size_t place(const unsigned *sets, size_t count, unsigned set)
{
	for (size_t i = 0; i < count; i++)
		if (sets[i] == set)
			return i;
	fail_msg("nothing for set %u", set);
	return 0;
}

static void test_an_address_goes_on_air_last_and_comes_off_first(void **state)
{
	struct base_address address, pod;
	struct nft_endpoint endpoint = { .port = 22, .local = true };
	struct nft_port port = { .protocol = IPPROTO_TCP, .port = 22, .endpoint_count = 1 };
	unsigned sets[16];
	struct nft_ledger *ledger;
	size_t count, guarded, service, fenced, translated;

	(void)state;
	assert_true(base_address_parse("192.0.2.10", &address));
	assert_true(base_address_parse("10.244.1.5", &pod));
	port.address = address;
	endpoint.address = pod;
	port.endpoints = &endpoint;
	assert_int_equal(nft_ledger_new(&ledger), 0);
	assert_int_equal(nft_ledger_source(ledger, "vip", 3), 0);
	assert_int_equal(nft_emit_vip(&address, NFT_DATAPLANE_DIRECTOR, 0, NULL, claim, ledger), 0);
	assert_int_equal(nft_ledger_source(ledger, "port", 4), 0);
	assert_int_equal(nft_emit_port(&port, claim, ledger), 0);
	count = order_of(ledger, sets);
	guarded = place(sets, count, NFT_SET_GUARDED);
	service = place(sets, count, NFT_SET_SERVICE);
	fenced = place(sets, count, NFT_SET_FENCED);
	translated = place(sets, count, NFT_SET_VIPS);
	assert_int_equal(guarded, 0);	   /* nothing of it reaches the node's own daemons meanwhile */
	assert_true(service < fenced);	   /* all that is behind it stands */
	assert_true(fenced < translated);  /* an owner does not translate what is its director's to pass on */
	assert_int_equal(translated, count - 1);

	assert_int_equal(nft_ledger_source(ledger, "vip", 3), 0);
	assert_int_equal(nft_ledger_source(ledger, "port", 4), 0);
	assert_int_equal(order_of(ledger, sets), count);
	assert_int_equal(place(sets, count, NFT_SET_VIPS), 0);
	assert_int_equal(place(sets, count, NFT_SET_FENCED), 1);
	assert_int_equal(place(sets, count, NFT_SET_GUARDED), count - 1);
	nft_ledger_free(ledger);
}

/* How many keys change when the only endpoint is on `node` now, with this address. */
static size_t changed_by(struct nft_ledger *ledger, const char *node, const char *pod)
{
	struct nft_endpoint endpoint = { .port = 22 };
	struct nft_port port = {
		.protocol = IPPROTO_TCP, .port = 22, .endpoint_count = 1, .endpoints = &endpoint
	};
	unsigned sets[16];

	assert_true(base_address_parse("192.0.2.10", &port.address));
	assert_true(base_address_parse(pod, &endpoint.address));
	assert_true(base_address_parse(node, &endpoint.node));
	assert_int_equal(nft_ledger_source(ledger, "port", 4), 0);
	assert_int_equal(nft_emit_vip(&port.address, NFT_DATAPLANE_DIRECTOR, 0, NULL, claim, ledger), 0);
	assert_int_equal(nft_emit_port(&port, claim, ledger), 0);
	return order_of(ledger, sets);
}

/* The kernel takes some 4 us for each: what stays as it was is not said again. */
static void test_an_endpoint_that_moves_changes_nothing_but_where_it_is(void **state)
{
	struct nft_ledger *ledger;

	(void)state;
	assert_int_equal(nft_ledger_new(&ledger), 0);
	changed_by(ledger, "192.0.2.2", "10.244.1.5");
	/* `node`, `onenode`, `service`; `reverse` and `hairpin`, whose keys are its address: one goes, one comes. */
	assert_int_equal(changed_by(ledger, "192.0.2.3", "10.244.2.5"), 7);
	/* It keeps its address: `node` and `onenode`. */
	assert_int_equal(changed_by(ledger, "192.0.2.2", "10.244.2.5"), 2);
	nft_ledger_free(ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_address_goes_on_air_last_and_comes_off_first),
		cmocka_unit_test(test_an_endpoint_that_moves_changes_nothing_but_where_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
