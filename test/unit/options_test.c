/* Command lines and their twins in the environment. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/options.h"
#include "test/unit/unit.h"

static const char *node, *state_dir, *elect;
static const struct option_spec specs[] = {
	{ "node", &node, false, "NAME", "this node's name" },
	{ "state-dir", &state_dir, false, "DIR", "where state is kept" },
	{ "leader-elect", &elect, true, NULL, "only one at a time" },
	{ 0 },
};

static char said[4096];

/* Runs it with stdout and stderr in a file, whose text goes to `said`. */
static int parse(const char *const *words)
{
	char *argv[16] = { (char *)"vipd" }, path[] = "/tmp/vipd-options-test-XXXXXX";
	int argc = 1, fd = mkstemp(path), saved[2] = { dup(1), dup(2) }, r;
	ssize_t size;

	assert_true(fd >= 0);
	unlink(path);
	for (; words[argc - 1]; argc++)
		argv[argc] = (char *)words[argc - 1];
	fflush(NULL);
	dup2(fd, 1);
	dup2(fd, 2);
	r = options_parse(argc, argv, "vipd engine [options] DIR", specs);
	fflush(NULL);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	close(saved[0]);
	close(saved[1]);
	lseek(fd, 0, SEEK_SET);
	size = read(fd, said, sizeof said - 1);
	said[size > 0 ? size : 0] = '\0';
	close(fd);
	return r;
}

static void reset(void)
{
	unsetenv("VIPD_NODE");
	unsetenv("VIPD_STATE_DIR");
	unsetenv("VIPD_LEADER_ELECT");
	node = NULL;
	state_dir = "/var/lib/vipd";
	elect = "true";
}

static void test_options_are_read_in_every_form(void **state)
{
	static const struct {
		const char *words[6];
		int answer;
		const char *node, *state_dir, *elect, *said;
	} rows[] = {
		{ { "DIR" }, 1, NULL, "/var/lib/vipd", "true", "" },
		{ { "--node", "n1", "DIR" }, 3, "n1", "/var/lib/vipd", "true", "" },
		{ { "--node=n1" }, 2, "n1", "/var/lib/vipd", "true", "" },
		{ { "-node=n1" }, 2, "n1", "/var/lib/vipd", "true", "" },
		{ { "--node=" }, 2, "", "/var/lib/vipd", "true", "" },
		{ { "--node=a=b" }, 2, "a=b", "/var/lib/vipd", "true", "" },
		{ { "--state-dir", "/x", "--leader-elect=false" }, 4, NULL, "/x", "false", "" },
		{ { "--leader-elect", "DIR" }, 2, NULL, "/var/lib/vipd", "true", "" },
		{ { "--node", "--x" }, 3, "--x", "/var/lib/vipd", "true", "" },
		{ { "--node", "n1", "--", "--node" }, 4, "n1", "/var/lib/vipd", "true", "" },
		{ { "DIR", "--node", "n1" }, 1, NULL, "/var/lib/vipd", "true", "" },
		{ { "-" }, 1, NULL, "/var/lib/vipd", "true", "" },
		{ { "--node", "a", "--node", "b" }, 5, "b", "/var/lib/vipd", "true", "" },
		{ { "--nodes", "n1" },
		  -1,
		  NULL,
		  "/var/lib/vipd",
		  "true",
		  "unknown option --nodes; try --help\n" },
		{ { "--nod=n1" },
		  -1,
		  NULL,
		  "/var/lib/vipd",
		  "true",
		  "unknown option --nod=n1; try --help\n" },
		{ { "--=n1" },
		  -1,
		  NULL,
		  "/var/lib/vipd",
		  "true",
		  "unknown option --=n1; try --help\n" },
		{ { "--state-dir", "/x", "--node" },
		  -1,
		  NULL,
		  "/x",
		  "true",
		  "option --node wants NAME\n" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		char name[128] = "";
		int answer;

		reset();
		for (int j = 0; rows[i].words[j]; j++) {
			strcat(name, " ");
			strcat(name, rows[i].words[j]);
		}
		answer = parse(rows[i].words);
		if (answer != rows[i].answer)
			fail_msg("%s: answered %d", name, answer);
		ASSERT_ROW(name, (node == NULL) == (rows[i].node == NULL));
		ASSERT_ROW(name, !node || !rows[i].node || strcmp(node, rows[i].node) == 0);
		ASSERT_ROW(name, strcmp(state_dir, rows[i].state_dir) == 0);
		ASSERT_ROW(name, strcmp(elect, rows[i].elect) == 0);
		if (strcmp(said, rows[i].said) != 0)
			fail_msg("%s: said %s", name, said);
	}
}

static void test_the_environment_is_a_default_and_the_command_line_wins(void **state)
{
	static const char *const none[] = { NULL };
	static const char *const one[] = { "--node", "n1", "--leader-elect=true", NULL };

	(void)state;
	reset();
	setenv("VIPD_NODE", "from-environment", 1);
	setenv("VIPD_STATE_DIR", "/from/environment", 1);
	setenv("VIPD_LEADER_ELECT", "false", 1);
	assert_int_equal(parse(none), 1);
	assert_string_equal(node, "from-environment");
	assert_string_equal(state_dir, "/from/environment");
	assert_string_equal(elect, "false");
	assert_int_equal(parse(one), 4);
	assert_string_equal(node, "n1");
	assert_string_equal(elect, "true");
	reset();
	setenv("VIPD_STATE_DIR", "", 1); /* empty is not said */
	assert_int_equal(parse(none), 1);
	assert_string_equal(state_dir, "/var/lib/vipd");
	reset();
}

static void test_help_names_every_option_with_its_default(void **state)
{
	static const char *const forms[] = { "--help", "-h", "-help", "--h" };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(forms); i++) {
		const char *words[] = { forms[i], NULL };

		reset();
		assert_int_equal(parse(words), -2);
		assert_string_equal(
			said, "usage: vipd engine [options] DIR\n\n"
			      "  --node NAME                  this node's name\n"
			      "  --state-dir DIR              where state is kept (default "
			      "/var/lib/vipd)\n"
			      "  --leader-elect               only one at a time (default true)\n");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_are_read_in_every_form),
		cmocka_unit_test(test_the_environment_is_a_default_and_the_command_line_wins),
		cmocka_unit_test(test_help_names_every_option_with_its_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
