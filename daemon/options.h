#pragma once

#include <stdbool.h>
#include <stdio.h>

/*
 * Command lines of every program here: `--name value` or `--name=value`, each also as environment
 * variable VIPD_NAME (dashes become underscores); the command line wins.
 */
struct option_spec {
	const char *name; /* without dashes; NULL ends the table */
	const char **value; /* points to the default (NULL: none) and gets the text; borrowed */
	bool flag;	  /* takes no value: "true" or, with --name=false, "false" */
	const char *argument, *help;
};

/*
 * Reads `argv[1..]`. Answers the index of the first word that is no option, or -1 after saying on
 * stderr what was wrong (exit 2), or -2 after --help was answered on stdout (exit 0).
 */
int options_parse(int argc, char **argv, const char *usage, const struct option_spec *specs);
