#include "daemon/options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void help(const char *usage, const struct option_spec *specs)
{
	printf("usage: %s\n\n", usage);
	for (; specs->name; specs++) {
		char left[64];

		snprintf(left, sizeof left, "--%s%s%s", specs->name, specs->argument ? " " : "",
			 specs->argument ? specs->argument : "");
		printf("  %-28s %s", left, specs->help);
		if (*specs->value)
			printf(" (default %s)", *specs->value);
		putchar('\n');
	}
}

static const struct option_spec *lookup(const struct option_spec *specs, const char *name,
					size_t length)
{
	for (; specs->name; specs++)
		if (strlen(specs->name) == length && strncmp(specs->name, name, length) == 0)
			return specs;
	return NULL;
}

static void read_environment(const struct option_spec *specs)
{
	for (; specs->name; specs++) {
		char name[64] = "VIPD_";
		size_t at = strlen(name);
		const char *value;

		for (const char *c = specs->name; *c && at < sizeof name - 1; c++)
			name[at++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
		name[at] = '\0';
		value = getenv(name);
		if (value && *value)
			*specs->value = value;
	}
}

int options_parse(int argc, char **argv, const char *usage, const struct option_spec *specs)
{
	int i;

	read_environment(specs);
	for (i = 1; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
		const char *word = argv[i] + 1 + (argv[i][1] == '-'), *equals = strchr(word, '=');
		const struct option_spec *spec;

		if (strcmp(argv[i], "--") == 0)
			return i + 1;
		if (strcmp(word, "help") == 0 || strcmp(word, "h") == 0) {
			help(usage, specs);
			return -2;
		}
		spec = lookup(specs, word, equals ? (size_t)(equals - word) : strlen(word));
		if (!spec) {
			fprintf(stderr, "unknown option %s; try --help\n", argv[i]);
			return -1;
		}
		if (equals) {
			*spec->value = equals + 1;
		} else if (spec->flag) {
			*spec->value = "true";
		} else if (i + 1 < argc) {
			*spec->value = argv[++i];
		} else {
			fprintf(stderr, "option --%s wants %s\n", spec->name,
				spec->argument ? spec->argument : "a value");
			return -1;
		}
	}
	return i;
}
