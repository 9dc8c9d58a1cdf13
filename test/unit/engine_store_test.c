/* What is wanted, over sync rounds, and over a file that somebody may have damaged. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/store.h"
#include "test/unit/unit.h"

static struct store *store;
static char path[128], folder[] = "/tmp/vipd-store-test-XXXXXX";

/* "+r:lab.ipv4.10 -n:n1 ": what the handlers heard since the last look. */
static char heard[65536];

static void hear(char sign, const struct message *message)
{
	size_t at = strlen(heard);
	char text[BASE_ADDRESS_TEXT_SIZE];

	switch ((int)message->type) {
	case MESSAGE_NODE:
		snprintf(heard + at, sizeof heard - at, "%cn:%s ", sign, message->node.name);
		return;
	case MESSAGE_ROUTER:
		snprintf(heard + at, sizeof heard - at, "%cr:%s ", sign, message->router.name);
		return;
	case MESSAGE_SERVICE_PORT:
		snprintf(heard + at, sizeof heard - at, "%cp:%s/%u/%u ", sign,
			 base_address_format(&message->service_port.address, text),
			 message->service_port.protocol, message->service_port.port);
		return;
	default:
		fail_msg("unexpected type %d", message->type);
	}
}

static void on_put(void *userdata, const struct message *message)
{
	assert_ptr_equal(userdata, heard);
	hear('+', message);
}

static void on_removed(void *userdata, const struct message *message)
{
	assert_ptr_equal(userdata, heard);
	hear('-', message);
}

static void assert_heard(const char *expected)
{
	assert_string_equal(heard, expected);
	heard[0] = '\0';
}

static const struct store_handlers handlers = { on_put, on_removed };

static int set_up(void **state)
{
	(void)state;
	heard[0] = '\0';
	return store_new(&store, &handlers, heard);
}

static int tear_down(void **state)
{
	(void)state;
	store_free(store);
	store = NULL;
	return 0;
}

static struct message message;

static const struct message *node(const char *name, uint8_t last)
{
	memset(&message, 0, sizeof message);
	message.type = MESSAGE_NODE;
	strcpy(message.node.name, name);
	message.node.address_count = 1;
	message.node.addresses[0] = base_address_ipv4(192, 0, 2, last);
	return &message;
}

static const struct message *router(const char *name, uint8_t id)
{
	memset(&message, 0, sizeof message);
	message.type = MESSAGE_ROUTER;
	strcpy(message.router.name, name);
	message.router.virtual_router_id = id;
	message.router.family = BASE_FAMILY_IPV4;
	message.router.version = 3;
	message.router.interval_ms = 100;
	message.router.address_count = 1;
	message.router.addresses[0] = base_address_ipv4(192, 0, 2, id);
	return &message;
}

static const struct message *port(uint8_t last, uint8_t protocol, uint16_t number, uint8_t endpoint)
{
	memset(&message, 0, sizeof message);
	message.type = MESSAGE_SERVICE_PORT;
	strcpy(message.service_port.service, "vms/myvm");
	message.service_port.address = base_address_ipv4(192, 0, 2, last);
	message.service_port.protocol = protocol;
	message.service_port.port = number;
	message.service_port.endpoint_count = 1;
	message.service_port.endpoints[0].address = base_address_ipv4(10, 244, 1, endpoint);
	message.service_port.endpoints[0].port = 22;
	return &message;
}

static void test_what_is_new_or_changed_is_told_and_what_is_not_is_not(void **state)
{
	uint64_t revision = store_revision(store);

	(void)state;
	assert_int_equal(store_put(store, node("n1", 1)), 1);
	assert_heard("+n:n1 ");
	assert_true(store_revision(store) != revision);
	revision = store_revision(store);
	assert_int_equal(store_put(store, node("n1", 1)), 0);
	assert_heard("");
	assert_true(store_revision(store) == revision);
	assert_int_equal(store_put(store, node("n1", 2)), 1);
	assert_heard("+n:n1 ");
	assert_true(store_revision(store) != revision);
	assert_int_equal(store_count(store, MESSAGE_NODE), 1);
}

static void test_kinds_and_keys_do_not_mix(void **state)
{
	(void)state;
	assert_int_equal(store_put(store, node("x", 1)), 1);
	assert_int_equal(store_put(store, router("x", 1)), 1);
	assert_int_equal(store_put(store, port(10, IPPROTO_TCP, 53, 2)), 1);
	assert_int_equal(store_put(store, port(10, IPPROTO_UDP, 53, 2)), 1);
	assert_int_equal(store_put(store, port(10, IPPROTO_TCP, 54, 2)), 1);
	assert_int_equal(store_put(store, port(11, IPPROTO_TCP, 53, 2)), 1);
	assert_int_equal(store_count(store, MESSAGE_NODE), 1);
	assert_int_equal(store_count(store, MESSAGE_ROUTER), 1);
	assert_int_equal(store_count(store, MESSAGE_SERVICE_PORT), 4);
	assert_int_equal(store_remove(store, &(struct message_remove){ .kind = MESSAGE_KIND_ROUTER,
								       .name = "x" }),
			 1);
	assert_int_equal(store_count(store, MESSAGE_NODE), 1);
	assert_int_equal(store_count(store, MESSAGE_ROUTER), 0);
}

static void test_what_is_removed_is_told_as_it_was(void **state)
{
	struct message_remove gone = { .kind = MESSAGE_KIND_SERVICE_PORT,
				       .address = base_address_ipv4(192, 0, 2, 10),
				       .protocol = IPPROTO_UDP,
				       .port = 53 };

	(void)state;
	store_put(store, port(10, IPPROTO_UDP, 53, 2));
	store_put(store, node("n1", 1));
	heard[0] = '\0';
	assert_int_equal(store_remove(store, &gone), 1);
	assert_heard("-p:192.0.2.10/17/53 ");
	assert_int_equal(store_remove(store, &gone), 0);
	gone = (struct message_remove){ .kind = MESSAGE_KIND_NODE, .name = "n1" };
	assert_int_equal(store_remove(store, &gone), 1);
	assert_heard("-n:n1 ");
	assert_int_equal(store_count(store, MESSAGE_NODE), 0);
}

static void test_a_sync_round_removes_what_it_does_not_name(void **state)
{
	(void)state;
	store_put(store, node("n1", 1));
	store_put(store, node("n2", 2));
	store_put(store, router("lab.ipv4.10", 10));
	store_put(store, port(10, IPPROTO_TCP, 22, 2));
	heard[0] = '\0';
	store_sync_begin(store);
	assert_true(store_syncing(store));
	store_put(store, node("n1", 1));                /* as it was */
	store_put(store, router("lab.ipv4.10", 10));    /* as it was */
	store_put(store, port(10, IPPROTO_TCP, 22, 3)); /* changed */
	assert_heard("+p:192.0.2.10/6/22 ");
	store_sync_end(store);
	assert_heard("-n:n2 ");
	assert_false(store_syncing(store));
	assert_int_equal(store_count(store, MESSAGE_NODE), 1);
}

static void test_a_round_that_names_nothing_removes_everything(void **state)
{
	(void)state;
	for (uint8_t i = 1; i <= 200; i++)
		store_put(store, port(i, IPPROTO_TCP, 22, 2));
	store_sync_begin(store);
	store_sync_end(store);
	assert_int_equal(store_count(store, MESSAGE_SERVICE_PORT), 0);
}

static void test_a_feeder_that_dies_in_its_round_loses_nothing(void **state)
{
	(void)state;
	store_put(store, node("n1", 1));
	store_put(store, node("n2", 2));
	heard[0] = '\0';
	store_sync_begin(store);
	store_put(store, node("n1", 1));
	/* It dies here; its successor begins anew and names both. */
	store_sync_begin(store);
	store_put(store, node("n2", 2));
	store_put(store, node("n1", 1));
	store_sync_end(store);
	assert_heard("");
	store_sync_end(store); /* an end without a beginning is none */
	assert_heard("");
	assert_int_equal(store_count(store, MESSAGE_NODE), 2);
}

static void test_what_comes_and_goes_between_rounds_stays_so(void **state)
{
	(void)state;
	store_sync_begin(store);
	store_put(store, node("n1", 1));
	store_sync_end(store);
	store_put(store, node("n2", 2)); /* a difference */
	store_sync_begin(store);
	store_put(store, node("n2", 2));
	store_remove(store, &(struct message_remove){ .kind = MESSAGE_KIND_NODE, .name = "n1" });
	heard[0] = '\0';
	store_sync_end(store);
	assert_heard("");
	assert_int_equal(store_count(store, MESSAGE_NODE), 1);
}

static void test_what_cannot_be_said_is_not_kept(void **state)
{
	(void)state;
	router("lab.ipv4.10", 10);
	message.router.interval_ms = 7;
	assert_int_equal(store_put(store, &message), -EINVAL);
	assert_int_equal(store_count(store, MESSAGE_ROUTER), 0);
	assert_heard("");
}

static void count(void *userdata, const struct message *each)
{
	hear('.', each);
	(*(unsigned *)userdata)++;
}

static void test_each_visits_all_of_one_kind(void **state)
{
	unsigned visited = 0;

	(void)state;
	store_each(store, MESSAGE_NODE, count, &visited);
	assert_int_equal(visited, 0);
	store_put(store, node("n1", 1));
	for (uint8_t i = 1; i <= 250; i++)
		store_put(store, port(i, IPPROTO_TCP, 22, 2));
	store_each(store, MESSAGE_SERVICE_PORT, count, &visited);
	assert_int_equal(visited, 250);
}

/* --- the state file --- */

static int save(const char *to)
{
	int pid = store_save(store, to), status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void fill(void)
{
	store_put(store, node("n1", 1));
	store_put(store, router("lab.ipv4.10", 10));
	store_put(store, port(10, IPPROTO_TCP, 22, 2));
}

static size_t read_file(uint8_t *data, size_t size)
{
	FILE *file = fopen(path, "re");
	size_t got;

	assert_non_null(file);
	got = fread(data, 1, size, file);
	fclose(file);
	return got;
}

static void write_file(const uint8_t *data, size_t size)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, size, file), size);
	fclose(file);
}

static void test_what_was_saved_is_loaded_and_readable_by_nobody_else(void **state)
{
	struct base_error error = { 0 };
	struct stat status;

	fill();
	assert_int_equal(save(path), 0);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	tear_down(state);
	set_up(state);
	assert_int_equal(store_load(store, path, &error), 0);
	assert_int_equal(store_count(store, MESSAGE_NODE), 1);
	assert_int_equal(store_count(store, MESSAGE_ROUTER), 1);
	assert_int_equal(store_count(store, MESSAGE_SERVICE_PORT), 1);
	/* Word for word: putting the same again changes nothing. */
	heard[0] = '\0';
	fill();
	assert_heard("");
	/* Nothing wanted is a state, too. */
	store_sync_begin(store);
	store_sync_end(store);
	assert_int_equal(save(path), 0);
	tear_down(state);
	set_up(state);
	assert_int_equal(store_load(store, path, &error), 0);
	assert_heard("");
}

static void test_a_file_damaged_in_any_byte_is_refused_as_a_whole(void **state)
{
	static const uint8_t damages[] = { 0x01, 0x80, 0xff };
	uint8_t data[4096];
	size_t size;

	fill();
	assert_int_equal(save(path), 0);
	size = read_file(data, sizeof data);
	assert_true(size > 100 && size < sizeof data);
	for (size_t at = 0; at < size; at++)
		for (size_t i = 0; i < BASE_COUNT_OF(damages); i++) {
			struct base_error error = { 0 };

			tear_down(state);
			set_up(state);
			data[at] ^= damages[i];
			write_file(data, size);
			data[at] ^= damages[i];
			assert_int_equal(store_load(store, path, &error), -EBADMSG);
			assert_string_equal(error.message,
					    at < 13 ? "it is not a state file of this version"
						    : "it is damaged or from another version");
			assert_heard("");
			assert_int_equal(store_count(store, MESSAGE_NODE), 0);
		}
}

static void test_a_file_cut_anywhere_is_refused_as_a_whole(void **state)
{
	uint8_t data[4096];
	size_t size;

	fill();
	assert_int_equal(save(path), 0);
	size = read_file(data, sizeof data);
	for (size_t cut = 0; cut < size; cut++) {
		struct base_error error = { 0 };

		tear_down(state);
		set_up(state);
		write_file(data, cut);
		assert_int_equal(store_load(store, path, &error), -EBADMSG);
		assert_heard("");
	}
}

static void test_a_file_that_is_none_says_why(void **state)
{
	struct base_error error = { 0 };
	int fd;

	(void)state;
	assert_int_equal(store_load(store, "/nowhere/state", &error), -ENOENT);
	assert_string_equal(error.message, "No such file or directory");
	assert_int_equal(store_load(store, folder, &error), -EBADMSG);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 300 * 1024 * 1024), 0); /* sparse */
	close(fd);
	assert_int_equal(store_load(store, path, &error), -EBADMSG);
	assert_string_equal(error.message, "it is not a state file of this version");
}

static void test_a_save_that_fails_leaves_the_old_file(void **state)
{
	struct base_error error = { 0 };
	char beside[160];

	fill();
	assert_int_equal(save(path), 0);
	/* Its scratch file cannot be written: something else has that name. */
	snprintf(beside, sizeof beside, "%s.new", path);
	assert_int_equal(mkdir(beside, 0700), 0);
	store_put(store, node("n2", 2));
	assert_int_equal(save(path), 1);
	assert_int_equal(rmdir(beside), 0);
	assert_int_equal(save("/nowhere/state"), 1);
	tear_down(state);
	set_up(state);
	assert_int_equal(store_load(store, path, &error), 0);
	assert_int_equal(store_count(store, MESSAGE_NODE), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_new_or_changed_is_told_and_what_is_not_is_not),
		TEST(test_kinds_and_keys_do_not_mix),
		TEST(test_what_is_removed_is_told_as_it_was),
		TEST(test_a_sync_round_removes_what_it_does_not_name),
		TEST(test_a_round_that_names_nothing_removes_everything),
		TEST(test_a_feeder_that_dies_in_its_round_loses_nothing),
		TEST(test_what_comes_and_goes_between_rounds_stays_so),
		TEST(test_what_cannot_be_said_is_not_kept),
		TEST(test_each_visits_all_of_one_kind),
		TEST(test_what_was_saved_is_loaded_and_readable_by_nobody_else),
		TEST(test_a_file_damaged_in_any_byte_is_refused_as_a_whole),
		TEST(test_a_file_cut_anywhere_is_refused_as_a_whole),
		TEST(test_a_file_that_is_none_says_why),
		TEST(test_a_save_that_fails_leaves_the_old_file),
	};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof path, "%s/state", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failed;
}
