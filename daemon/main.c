#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/array.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/status.h"
#include "daemon/metrics/server.h"
#include "daemon/options.h"
#include "daemon/reasons.h"
#include "daemon/standalone/standalone.h"

static int usage_error(int r)
{
	return r == -2 ? 0 : 2;
}

/* A node name is required, as a DNS-1123 subdomain: it is compared with what others write. */
static int check_node(const char *node)
{
	size_t length = node ? strlen(node) : 0;

	if (length == 0) {
		fprintf(stderr, "which node is this? Say --node NAME (in a pod: NODE_NAME from "
				"spec.nodeName)\n");
		return -1;
	}
	if (length > 63 || strspn(node, "abcdefghijklmnopqrstuvwxyz0123456789-.") != length) {
		fprintf(stderr,
			"--node %s is no node name: at most 63 of a-z, 0-9, '-' and '.'\n", node);
		return -1;
	}
	return 0;
}

static int check_fence(const char *fence)
{
	if (strcmp(fence, "auto") == 0 || strcmp(fence, "egress") == 0 ||
	    strcmp(fence, "loopback") == 0)
		return 0;
	fprintf(stderr, "--fence %s: say auto, egress or loopback\n", fence);
	return -1;
}

#define METRICS_LISTEN "127.0.0.1:9461"
#define PATH_SIZE      4096
#define PROGRAM_SIZE   32
#define METRICS_HELP   "where /metrics, /healthz, /readyz and /state are; \"\": nowhere"

static int check_listen(const char *listen)
{
	struct base_error error = { 0 };

	if (!*listen || server_check(listen, &error) == 0)
		return 0;
	fprintf(stderr, "--metrics-listen %s\n", error.message);
	return -1;
}

static int check_folder(const char *manifests)
{
	struct stat status;

	if (stat(manifests, &status) < 0)
		fprintf(stderr, "--manifests %s: %s\n", manifests, strerror(errno));
	else if (!S_ISDIR(status.st_mode))
		fprintf(stderr, "--manifests %s is no folder: put the YAML files into one\n", manifests);
	else
		return 0;
	return -1;
}

/* The other programs are installed beside us, wherever that is. NULL, and said: this one is not. */
static const char *find_beside(char path[static PATH_SIZE], const char *program)
{
	ssize_t size = readlink("/proc/self/exe", path, PATH_SIZE - PROGRAM_SIZE);
	char *name;

	path[size > 0 ? size : 0] = '\0';
	name = strrchr(path, '/');
	snprintf(name ? name + 1 : path, PROGRAM_SIZE, "%s", program);
	if (access(path, X_OK) == 0)
		return path;
	fprintf(stderr, "%s: %s: it belongs beside vipd, install both\n", path, strerror(errno));
	return NULL;
}

/* What talks to the API server. */
static const char *agent_program(void)
{
	static char path[PATH_SIZE];

	/* Debian's libcurl brings GnuTLS along, which nobody calls: it need not build its tables, 200 KiB. */
	setenv("GNUTLS_NO_IMPLICIT_INIT", "1", 0);
	return find_beside(path, "vipd-agent");
}

/* What shows the metrics. */
static const char *page_program(void)
{
	static char path[PATH_SIZE];

	return find_beside(path, "vipd-page");
}

/* Looked at by another process: the privileged half never holds a secret. It says what is wrong. */
static int check_kubeconfig(const char *program, const char *kubeconfig)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		execl(program, "vipd", "kubeconfig", kubeconfig, NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static int controller_main(int argc, char **argv)
{
	const char *program = agent_program();

	(void)argc;
	if (!program)
		return 1;
	execv(program, argv - 1); /* "vipd controller ..." as it was called */
	fprintf(stderr, "cannot run %s: %s\n", program, strerror(errno));
	return 1;
}

static int standalone_main(int argc, char **argv)
{
	const char *node = NULL, *manifests = NULL, *state = "/var/lib/vipd";
	const char *runtime = "/run/vipd", *unfenced = "false", *fence = "auto";
	const char *listen = METRICS_LISTEN, *page = page_program();
	const struct option_spec specs[] = {
		{ "node", &node, false, "NAME", "which of the Nodes in the manifests this is" },
		{ "manifests", &manifests, false, "DIR", "folder of YAML files" },
		{ "state-dir", &state, false, "DIR", "what survives a restart" },
		{ "runtime-dir", &runtime, false, "DIR", "status socket and lock" },
		{ "fence", &fence, false, "KIND", "auto, egress or loopback (for kernels before 5.16)" },
		{ "allow-unfenced", &unfenced, true, NULL,
		  "run on a kernel without any fence: two nodes may answer" },
		{ "metrics-listen", &listen, false, "ADDRESS:PORT", METRICS_HELP },
		{ NULL, NULL, false, NULL, NULL },
	};
	int r = options_parse(argc, argv,
			      "vipd standalone --node NAME --manifests DIR [OPTION...]", specs);

	if (r < 0)
		return usage_error(r);
	if (check_node(node) < 0 || check_fence(fence) < 0 || check_listen(listen) < 0)
		return 2;
	if (!manifests) {
		fprintf(stderr, "where are the manifests? Say --manifests DIR\n");
		return 2;
	}
	if (!page || check_folder(manifests) < 0)
		return 1;
	return engine_run(&(struct engine_options){
		node, state, runtime, fence, unfenced, "standalone", listen, page, "/proc/self/exe",
		(char *[]){ "vipd", "feeder", "--node", (char *)node, "--manifests",
			    (char *)manifests, NULL } });
}

static int speaker_main(int argc, char **argv)
{
	const char *node = getenv("NODE_NAME"), *kubeconfig = NULL, *namespace = "vipd-system";
	const char *state = "/var/lib/vipd", *runtime = "/run/vipd", *unfenced = "false", *fence = "auto";
	const char *program = agent_program(), *page = page_program();
	const char *listen = METRICS_LISTEN;
	const struct option_spec specs[] = {
		{ "node", &node, false, "NAME", "which of the cluster's Nodes this is" },
		{ "kubeconfig", &kubeconfig, false, "FILE",
		  "how to reach the API server; in a pod: its service account" },
		{ "namespace", &namespace, false, "NAME", "where the Leases are" },
		{ "state-dir", &state, false, "DIR", "what survives a restart" },
		{ "runtime-dir", &runtime, false, "DIR", "status socket and lock" },
		{ "fence", &fence, false, "KIND", "auto, egress or loopback (for kernels before 5.16)" },
		{ "allow-unfenced", &unfenced, true, NULL,
		  "run on a kernel without any fence: two nodes may answer" },
		{ "metrics-listen", &listen, false, "ADDRESS:PORT", METRICS_HELP },
		{ NULL, NULL, false, NULL, NULL },
	};
	int r = options_parse(argc, argv, "vipd speaker --node NAME [OPTION...]", specs);

	if (r < 0)
		return usage_error(r);
	if (check_node(node) < 0 || check_fence(fence) < 0 || check_listen(listen) < 0)
		return 2;
	if (!program || !page || check_kubeconfig(program, kubeconfig) < 0)
		return 1;
	return engine_run(&(struct engine_options){
		node, state, runtime, fence, unfenced, "speaker", listen, page, program,
		(char *[]){ "vipd", "agent", "--node", (char *)node, "--namespace",
			    (char *)namespace, kubeconfig ? "--kubeconfig" : NULL,
			    (char *)kubeconfig, NULL } });
}

static int version_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("vipd " VIPD_VERSION);
	return 0;
}

static const struct {
	const char *name, *help; /* help NULL: internal, run by the engine */
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "speaker", "own addresses of Kubernetes Services; one on every node", speaker_main },
	{ "standalone", "own addresses from YAML files, without Kubernetes", standalone_main },
	{ "controller", "allocate addresses to Services of a Kubernetes cluster", controller_main },
	{ "check", "read manifests and say what is wrong with them", check_main },
	{ "status", "this node's own view, also when Kubernetes is gone", status_main },
	{ "reasons", "what the words in Events, conditions, metrics and journal mean", reasons_main },
	{ "version", "print the version", version_main },
	{ "feeder", NULL, standalone_feeder_main },
};

static void help(FILE *file)
{
	fprintf(file, "usage: vipd COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < BASE_COUNT_OF(commands); i++)
		if (commands[i].help)
			fprintf(file, "  %-12s %s\n", commands[i].name, commands[i].help);
	fprintf(file, "\nvipd COMMAND --help tells the options of each.\n");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		help(stdout);
		return 0;
	}
	for (size_t i = 0; i < BASE_COUNT_OF(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	fprintf(stderr, "vipd has no command %s; try vipd --help\n", argv[1]);
	return 2;
}
