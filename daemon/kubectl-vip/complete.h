#pragma once

#include <stddef.h>

#include "daemon/kubectl-vip/arguments.h"

/*
 * `kubectl vip __complete WORD...`: what the last word could become, a line each, as kubectl wants it from
 * kubectl_complete-vip (deploy/kubectl_complete-vip). Says nothing of what fails.
 */
struct complete_command {
	const char *name, *help;
};

/* `argv[0]` is no word. */
int complete_words(int argc, char **argv, const struct complete_command *commands, size_t count);
