#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "daemon/kubectl-vip/commands.h"
#include "daemon/kubectl-vip/complete.h"

static const struct command {
	const char *name, *words, *help, *more;
	unsigned least, most, taken;
	int (*run)(struct api *api, const struct arguments *arguments, struct base_error *error);
} commands[] = {
	{ "status", "[ADDRESS...]", "who owns which address, and since when",
	  "SINCE is how long the owner has had it, OUTAGE how long nobody answered at the last move,\n"
	  "REASON why it moved or, if something is wrong, what. With -n only addresses of the Services\n"
	  "in that namespace. -o wide shows the candidates: node:priority, ! if not eligible now.\n",
	  0, ARGUMENTS_WORDS_MAX, ARGUMENTS_OUTPUT | ARGUMENTS_NAMESPACE | ARGUMENTS_WATCH,
	  status_command },
	{ "pools", "[POOL...]", "what the pools have given away and what is left", "", 0,
	  ARGUMENTS_WORDS_MAX, ARGUMENTS_OUTPUT, pools_command },
	{ "explain", "SERVICE", "why a Service is served or not: every link from it to its endpoints",
	  "SERVICE is NAME or NAMESPACE/NAME. Exit 1 if a link is broken.\n", 1, 1,
	  ARGUMENTS_OUTPUT | ARGUMENTS_NAMESPACE, explain_command },
	{ "handover", "ADDRESS [--to NODE] [--wait]", "move an address to another node, connections kept",
	  "", 1, 1, ARGUMENTS_TO | ARGUMENTS_WAIT, handover_command },
	{ "drain", "NODE [--wait]", "move all addresses off a node and keep them off",
	  "With --wait exit 0 means: NODE is safe to reboot.\n", 1, 1, ARGUMENTS_WAIT | ARGUMENTS_FORCE,
	  drain_command },
	{ "undrain", "NODE", "let a node own addresses again", "", 1, 1, 0, undrain_command },
	{ "drill", "run TARGET|list|show NAME", "a failover on purpose, measured by other nodes",
	  "TARGET is an address, a Service (NAME or NAMESPACE/NAME), node/NAME or pool/NAME. Crash, Hang and\n"
	  "Isolate break what serves the address, for a while, and of node/NAME its vipd as a whole. With\n"
	  "--wait exit 0 means: within the budget. show: who answered when, -o svg as a picture; exit 1 if\n"
	  "the last run failed or was refused. By schedule: kubectl explain failoverdrill.spec\n",
	  1, 2,
	  ARGUMENTS_OUTPUT | ARGUMENTS_NAMESPACE | ARGUMENTS_WAIT | ARGUMENTS_DRILL, drill_command },
	{ "check", "FILE...", "whose address would be outside its pool if these AddressPools were applied",
	  "Exit 1 if somebody's would: it keeps the address, but a new Service of its kind gets another.\n"
	  "For what is wrong in the files themselves: vipd check FILE...\n", 1, ARGUMENTS_WORDS_MAX,
	  ARGUMENTS_FILE, check_command },
	{ "version", "", "versions of this program, the API server and the speakers", "", 0, 0, 0,
	  version_command },
};

static void help(FILE *file)
{
	fputs("usage: kubectl vip COMMAND [OPTION...]\n\n", file);
	for (size_t i = 0; i < BASE_COUNT_OF(commands); i++)
		fprintf(file, "  %-10s %-30s %s\n", commands[i].name, commands[i].words,
			commands[i].help);
	fputs("\nkubectl vip COMMAND --help tells the options of each.\n", file);
}

static void command_help(const struct command *command)
{
	printf("usage: kubectl vip %s %s%s[OPTION...]\n\n%c%s.\n%s\n", command->name, command->words,
	       *command->words ? " " : "", command->help[0] - 'a' + 'A', command->help + 1,
	       command->more);
	arguments_help(stdout, command->taken);
}

static const struct command *find_command(const char *name)
{
	struct nearest nearest = { .wanted = name };

	for (size_t i = 0; i < BASE_COUNT_OF(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
		nearest_offer(&nearest, commands[i].name);
	}
	fprintf(stderr, "error: no command %s; %s%s%s\n", name,
		nearest.name[0] ? "did you mean " : "try kubectl vip --help", nearest.name,
		nearest.name[0] ? "?" : "");
	return NULL;
}

static int run(const struct command *command, const struct arguments *arguments)
{
	struct base_error error = { 0 };
	struct api *api = NULL;
	int r;

	if (command->run == version_command) {
		puts("kubectl-vip  " VIPD_VERSION);
		fflush(stdout); /* also if there is no server to ask */
	}
	r = api_open(&api, arguments->kubeconfig, arguments->context, &error);
	if (r >= 0)
		r = command->run(api, arguments, &error);
	api_close(api);
	if (r < 0)
		fprintf(stderr, "error: %s\n", *error.message ? error.message : strerror(-r));
	return r < 0 ? 1 : r;
}

static int complete(int argc, char **argv)
{
	struct complete_command words[BASE_COUNT_OF(commands)];

	for (size_t i = 0; i < BASE_COUNT_OF(commands); i++)
		words[i] = (struct complete_command){ commands[i].name, commands[i].help };
	return complete_words(argc, argv, words, BASE_COUNT_OF(commands));
}

int main(int argc, char **argv)
{
	const struct command *command;
	struct arguments arguments;

	setlocale(LC_CTYPE, "");
	if (argc > 1 && strcmp(argv[1], "__complete") == 0)
		return complete(argc - 1, argv + 1);
	/* The command may stand behind options, as in kubectl: read once to find it. */
	if (arguments_parse(&arguments, argc, argv, ARGUMENTS_ALL) < 0)
		return 2;
	if (arguments.word_count > 0 && strcmp(arguments.words[0], "help") == 0) {
		help(stdout);
		return 0;
	}
	if (arguments.word_count == 0) {
		help(arguments.help ? stdout : stderr);
		return arguments.help ? 0 : 2;
	}
	command = find_command(arguments.words[0]);
	if (!command || arguments_parse(&arguments, argc, argv, command->taken) < 0)
		return 2;
	if (arguments.help) {
		command_help(command);
		return 0;
	}
	arguments.word_count--;
	memmove(arguments.words, arguments.words + 1, arguments.word_count * sizeof *arguments.words);
	if (arguments.word_count < command->least || arguments.word_count > command->most) {
		fprintf(stderr, "error: usage: kubectl vip %s %s\n", command->name, command->words);
		return 2;
	}
	return run(command, &arguments);
}
