#include "test/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/feed/wishes.h"

/* What a set of files says of its virtual routers. */
struct routers {
	unsigned count, addresses, largest;
	struct message_router items[600];
};

static int on_message(void *userdata, const struct message *message)
{
	struct routers *routers = userdata;

	if (message->type != MESSAGE_ROUTER)
		return 0;
	assert_in_range(routers->count, 0, BASE_COUNT_OF(routers->items) - 1);
	routers->items[routers->count++] = message->router;
	routers->addresses += message->router.address_count;
	if (message->router.address_count > routers->largest)
		routers->largest = message->router.address_count;
	return 0;
}

static void write_service(FILE *file, unsigned number)
{
	fprintf(file,
		"---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s-%u\n  namespace: vms\n"
		"  annotations: {vipd.dev/addresses: 10.0.%u.%u}\n"
		"spec: {type: LoadBalancer, ports: [{name: ssh, port: 22}]}\n",
		number, number / 250, number % 250 + 1);
}

/* `count` Services with an address each in one pool, first to last or last to first. */
static int read_services(struct routers *routers, unsigned count, const char *vrrp, bool backwards,
			 struct base_error *error)
{
	char path[] = "/tmp/feed_manifests_test.XXXXXX";
	struct wish_set *set = wish_set_new(false);
	int fd = mkstemp(path), r;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	assert_non_null(set);
	assert_non_null(file);
	fprintf(file,
		"apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"
		"status: {addresses: [{type: InternalIP, address: 10.0.9.1}]}\n"
		"---\napiVersion: vipd.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: lab}\n"
		"spec:\n  addresses: [10.0.0.0/21]\n%s",
		vrrp);
	for (unsigned i = 0; i < count; i++)
		write_service(file, backwards ? count - 1 - i : i);
	assert_int_equal(fclose(file), 0);
	memset(routers, 0, sizeof *routers);
	r = wish_set_read(set, path, error);
	unlink(path);
	if (r >= 0)
		r = wish_set_emit(set, "n1", on_message, routers, error);
	wish_set_free(set);
	return r;
}

static void test_each_address_has_a_virtual_router_while_they_last(void **state)
{
	static struct routers routers;
	struct base_error error = { 0 };

	(void)state;
	assert_int_equal(read_services(&routers, 255, "", false, &error), 0);
	assert_int_equal(routers.count, 255);
	assert_int_equal(routers.largest, 1);
}

static void test_more_addresses_than_virtual_routers_are_carried_together(void **state)
{
	static struct routers routers, again;
	struct base_error error = { 0 };
	bool ids[256] = { false };

	(void)state;
	assert_int_equal(read_services(&routers, 500, "", false, &error), 0);
	assert_int_equal(routers.count, 255);
	assert_int_equal(routers.addresses, 500);
	assert_in_range(routers.largest, 2, 4);
	for (unsigned i = 0; i < routers.count; i++) {
		assert_false(ids[routers.items[i].virtual_router_id]);
		ids[routers.items[i].virtual_router_id] = true;
	}
	/* Whatever the order of the files: every node comes to the same. */
	assert_int_equal(read_services(&again, 500, "", true, &error), 0);
	assert_memory_equal(&again, &routers, sizeof routers);
}

static void test_one_more_address_moves_no_other_to_another_virtual_router(void **state)
{
	static struct routers before, after;
	struct base_error error = { 0 };

	(void)state;
	assert_int_equal(read_services(&before, 499, "", false, &error), 0);
	assert_int_equal(read_services(&after, 500, "", false, &error), 0);
	for (unsigned i = 0; i < before.count; i++)
		for (uint32_t j = 0; j < before.items[i].address_count; j++) {
			bool kept = false;

			for (uint32_t k = 0; k < after.items[i].address_count; k++)
				kept |= base_address_equal(&before.items[i].addresses[j],
							   &after.items[i].addresses[k]);
			assert_true(kept);
		}
}

static void test_a_virtual_router_carries_what_one_advert_holds(void **state)
{
	static struct routers routers;
	struct base_error error = { 0 };

	(void)state;
	assert_int_equal(read_services(&routers, 180, "  vrrp: {virtualRouterIDs: [7, 9]}\n", false,
				       &error),
			 0);
	assert_int_equal(routers.count, 2);
	assert_int_equal(routers.largest, MESSAGE_ADDRESSES_MAX);
	assert_true(read_services(&routers, 181, "  vrrp: {virtualRouterIDs: [7, 9]}\n", false,
				  &error) < 0);
	assert_non_null(strstr(error.message, "no virtual router ID is left for this address"));
	assert_non_null(strstr(error.message, "allow more IDs"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_address_has_a_virtual_router_while_they_last),
		cmocka_unit_test(test_more_addresses_than_virtual_routers_are_carried_together),
		cmocka_unit_test(test_one_more_address_moves_no_other_to_another_virtual_router),
		cmocka_unit_test(test_a_virtual_router_carries_what_one_advert_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
