#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/array.h"
#include "daemon/agent/agent.h"
#include "daemon/controller/controller.h"

/*
 * vipd-agent: everything that talks to the API server, with libcurl and what that brings along. Run by
 * `vipd speaker` and `vipd controller`, which are what people call.
 */
static int kubeconfig_main(int argc, char **argv)
{
	return agent_check(argc > 1 ? argv[1] : NULL) < 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *command, *name; /* the name is what `ps` shows */
		int (*run)(int argc, char **argv);
	} commands[] = {
		{ "agent", "vipd-agent", agent_main },
		{ "controller", "vipd-controller", controller_main },
		{ "kubeconfig", "vipd-agent", kubeconfig_main },
	};

	for (size_t i = 0; argc > 1 && i < BASE_COUNT_OF(commands); i++)
		if (strcmp(argv[1], commands[i].command) == 0) {
			prctl(PR_SET_NAME, commands[i].name);
			return commands[i].run(argc - 1, argv + 1);
		}
	fprintf(stderr, "vipd-agent is run by vipd speaker and vipd controller: call those\n");
	return 2;
}
