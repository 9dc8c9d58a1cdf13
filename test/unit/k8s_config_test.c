/* Kubeconfigs as people have them, and what is said when one cannot be used. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "k8s/io/config.h"
#include "test/unit/unit.h"

static char folder[] = "/tmp/vipd-config-test-XXXXXX", path[64];

static void write_file(const char *name, const char *text)
{
	char file[128];
	FILE *out;

	snprintf(file, sizeof file, "%s/%s", folder, name);
	out = fopen(file, "we");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

#define CLUSTERS "clusters:\n- name: here\n  cluster:\n    server: https://192.0.2.1:6443/\n"
#define CONTEXTS                                                                                   \
	"contexts:\n- name: me\n  context: {cluster: here, user: bob, namespace: vms}\n"           \
	"- name: anonymous\n  context: {cluster: here}\n"
#define USERS   "users:\n- name: bob\n  user:\n    token: secret\n"
#define CURRENT "current-context: me\n"

static void test_the_current_context_is_followed_or_the_one_that_was_named(void **state)
{
	struct base_error error = { 0 };
	struct k8s_config config;

	(void)state;
	write_file("config", "apiVersion: v1\nkind: Config\n" CLUSTERS CONTEXTS USERS CURRENT);
	assert_int_equal(k8s_config_load(&config, path, NULL, &error), 0);
	assert_string_equal(config.server, "https://192.0.2.1:6443");
	assert_string_equal(config.token, "secret");
	assert_string_equal(config.namespace, "vms");
	assert_false(config.insecure);
	assert_false(config.in_cluster);
	k8s_config_clear(&config);
	assert_int_equal(k8s_config_load(&config, path, "anonymous", &error), 0);
	assert_null(config.token);
	assert_null(config.namespace);
	k8s_config_clear(&config);
}

static void test_what_is_held_needs_no_files_any_more(void **state)
{
	struct base_error error = { 0 };
	struct k8s_config config;
	char file[128];

	(void)state;
	write_file("config",
		   "clusters:\n- name: here\n  cluster:\n    server: https://192.0.2.1:6443\n"
		   "    certificate-authority: ca\n" CONTEXTS
		   "users:\n- name: bob\n  user: {tokenFile: token, client-certificate: cert, "
		   "client-key: key}\n" CURRENT);
	write_file("ca", "the authority");
	write_file("cert", "the certificate");
	write_file("key", "the key");
	write_file("token", "secret\n");
	assert_int_equal(k8s_config_load(&config, path, NULL, &error), 0);
	assert_int_equal(k8s_config_hold(&config, &error), 0);
	assert_string_equal(config.ca_data, "the authority");
	assert_string_equal(config.cert_data, "the certificate");
	assert_string_equal(config.key_data, "the key");
	assert_string_equal(config.token, "secret");
	assert_null(config.ca_file);
	assert_null(config.cert_file);
	assert_null(config.key_file);
	assert_null(config.token_file);
	k8s_config_clear(&config);
	assert_int_equal(k8s_config_load(&config, path, NULL, &error), 0);
	snprintf(file, sizeof file, "%s/key", folder);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(k8s_config_hold(&config, &error), -ENOENT);
	assert_non_null(strstr(error.message, "/key: No such file"));
	k8s_config_clear(&config);
}

static void test_the_file_is_looked_for_where_kubectl_does(void **state)
{
	struct base_error error = { 0 };
	struct k8s_config config;
	char first[160], kube[80];

	(void)state;
	write_file("config", CLUSTERS CONTEXTS USERS CURRENT);
	snprintf(first, sizeof first, "%s:/nowhere/else", path);
	setenv("KUBECONFIG", first, 1);
	assert_int_equal(k8s_config_load(&config, NULL, NULL, &error), 0);
	assert_string_equal(config.token, "secret");
	k8s_config_clear(&config);
	unsetenv("KUBECONFIG");
	setenv("HOME", folder, 1);
	assert_int_equal(k8s_config_load(&config, NULL, NULL, &error), -ENOENT);
	snprintf(kube, sizeof kube, "%s/.kube", folder);
	assert_int_equal(mkdir(kube, 0700), 0);
	write_file(".kube/config", CLUSTERS CONTEXTS USERS CURRENT);
	assert_int_equal(k8s_config_load(&config, NULL, NULL, &error), 0);
	assert_string_equal(config.token, "secret");
	k8s_config_clear(&config);
	write_file(".kube/config", "");
	unlink(strcat(kube, "/config"));
	*strrchr(kube, '/') = '\0';
	rmdir(kube);
}

static void test_files_are_relative_to_the_kubeconfig_and_data_is_decoded(void **state)
{
	struct base_error error = { 0 };
	struct k8s_config config;
	char file[128];

	(void)state;
	write_file("ca.pem", "");
	write_file("token", "");
	write_file("config",
		   "clusters:\n- name: here\n  cluster:\n    server: https://api\n"
		   "    certificate-authority: ca.pem\n    tls-server-name: kubernetes\n"
		   "    proxy-url: http://proxy:3128\n"
		   "users:\n- name: bob\n  user:\n    tokenFile: token\n    token: old\n"
		   "    client-certificate-data: aGVsbG8=\n"
		   "    client-key-data: |\n      aGVs\n      bG8gd29ybGQ=\n" CONTEXTS CURRENT);
	assert_int_equal(k8s_config_load(&config, path, NULL, &error), 0);
	snprintf(file, sizeof file, "%s/ca.pem", folder);
	assert_string_equal(config.ca_file, file);
	snprintf(file, sizeof file, "%s/token", folder);
	assert_string_equal(config.token_file, file);
	assert_null(config.token); /* the file wins */
	assert_string_equal(config.cert_data, "hello");
	assert_string_equal(config.key_data, "hello world");
	assert_string_equal(config.tls_server_name, "kubernetes");
	assert_string_equal(config.proxy, "http://proxy:3128");
	k8s_config_clear(&config);
	k8s_config_clear(&config); /* twice is fine */
}

static void test_what_cannot_be_used_says_file_and_reason(void **state)
{
	static const struct {
		const char *name, *text, *message; /* behind the path */
	} rows[] = {
		{ "empty", "", " is empty: expected a kubeconfig" },
		{ "no YAML", "a: [",
		  ":2: no valid YAML: did not find expected node content, while "
		  "parsing a flow node" },
		{ "two documents", "a: 1\n---\nb: 2\n", ": more than one document" },
		{ "a list", "- a\n", ":1: not an object: expected apiVersion, kind, ..." },
		{ "no context chosen", CLUSTERS CONTEXTS USERS,
		  ": no current-context: write one, or say --context" },
		{ "a context that is not there", CLUSTERS CONTEXTS USERS "current-context: you\n",
		  ": no entry \"you\" in contexts" },
		{ "a cluster that is not there", "clusters: []\n" CONTEXTS USERS CURRENT,
		  ": no entry \"here\" in clusters" },
		{ "a user who is not there", CLUSTERS CONTEXTS "users: []\n" CURRENT,
		  ": no entry \"bob\" in users" },
		{ "an entry without its content",
		  "clusters:\n- name: here\n" CONTEXTS USERS CURRENT,
		  ":2: entry \"here\" of clusters has no cluster" },
		{ "no server", "clusters:\n- name: here\n  cluster: {}\n" CONTEXTS USERS CURRENT,
		  ":3: the cluster needs a server like https://HOST:6443" },
		{ "a server without scheme",
		  "clusters:\n- name: here\n  cluster: {server: 'api:6443'}\n" CONTEXTS USERS
			  CURRENT,
		  ":3: the cluster needs a server like https://HOST:6443" },
		{ "no base64",
		  "clusters:\n- name: here\n  cluster:\n    server: https://api\n"
		  "    certificate-authority-data: '***'\n" CONTEXTS USERS CURRENT,
		  ":5: certificate-authority-data is no base64" },
		{ "a plugin",
		  CLUSTERS CONTEXTS "users:\n- name: bob\n  user: {exec: {command: aws}}\n" CURRENT,
		  ": users of kind exec and auth-provider are not supported: use a token, a "
		  "tokenFile or "
		  "a client certificate" },
		{ "a secret out of reach",
		  CLUSTERS CONTEXTS
		  "users:\n- name: bob\n  user: {tokenFile: /nowhere/token}\n" CURRENT,
		  NULL },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct base_error error = { 0 };
		struct k8s_config config;
		char expected[512];

		write_file("config", rows[i].text);
		ASSERT_ROW(rows[i].name, k8s_config_load(&config, path, NULL, &error) < 0);
		if (rows[i].message)
			snprintf(expected, sizeof expected, "%s%s", path, rows[i].message);
		else
			strcpy(expected, "/nowhere/token: No such file or directory");
		if (strcmp(error.message, expected) != 0)
			fail_msg("%s: %s", rows[i].name, error.message);
		/* Nothing half-read stays. */
		ASSERT_ROW(rows[i].name, !config.server && !config.token && !config.ca_data);
	}
}

static void test_secrets_are_in_no_message(void **state)
{
	struct base_error error = { 0 };
	struct k8s_config config;

	(void)state;
	write_file("config", CLUSTERS CONTEXTS "users:\n- name: bob\n  user: {token: s3cr3t, "
					       "client-key-data: '*s3cr3t'}\n" CURRENT);
	assert_true(k8s_config_load(&config, path, NULL, &error) < 0);
	assert_null(strstr(error.message, "s3cr3t"));
}

static void test_in_a_pod_the_service_account_is_used_and_missed_by_name(void **state)
{
	struct base_error error = { 0 };
	struct k8s_config config;

	(void)state;
	if (access("/var/run/secrets/kubernetes.io/serviceaccount/token", F_OK) == 0)
		skip(); /* the test itself runs in a pod */
	setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
	assert_int_equal(k8s_config_load(&config, NULL, NULL, &error), -ENOENT);
	assert_non_null(strstr(error.message, "/var/run/secrets/kubernetes.io/serviceaccount/"));
	unsetenv("KUBERNETES_SERVICE_HOST");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_current_context_is_followed_or_the_one_that_was_named),
		cmocka_unit_test(test_what_is_held_needs_no_files_any_more),
		cmocka_unit_test(test_the_file_is_looked_for_where_kubectl_does),
		cmocka_unit_test(test_files_are_relative_to_the_kubeconfig_and_data_is_decoded),
		cmocka_unit_test(test_what_cannot_be_used_says_file_and_reason),
		cmocka_unit_test(test_secrets_are_in_no_message),
		cmocka_unit_test(test_in_a_pod_the_service_account_is_used_and_missed_by_name),
	};
	static const char *const files[] = { "config", "ca.pem", "token", "ca", "cert", "key" };
	int failed;

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof path, "%s/config", folder);
	unsetenv("KUBECONFIG");
	unsetenv("KUBERNETES_SERVICE_HOST");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	for (size_t i = 0; i < BASE_COUNT_OF(files); i++) {
		char file[128];

		snprintf(file, sizeof file, "%s/%s", folder, files[i]);
		unlink(file);
	}
	rmdir(folder);
	return failed;
}
