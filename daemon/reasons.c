#include "daemon/reasons.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/array.h"
#include "base/reason.h"
#include "daemon/options.h"

static void print_table(const struct base_reason_info *info)
{
	printf("%s%s\n  %s\n  %s\n  MESSAGE_ID=%s\n", info->word,
	       info->severity == BASE_SEVERITY_WARNING ? " (warning)" : "", info->meaning,
	       info->remedy, info->message_id);
}

/* systemd's message catalog format; words between @ are fields of the entry. */
static void print_catalog(const struct base_reason_info *info)
{
	printf("\n-- %s\nSubject: %s\nDefined-By: vipd\nDocumentation: man:vipd(8)\n\n%s\n",
	       info->message_id, info->word, info->meaning);
	if (info->severity == BASE_SEVERITY_WARNING)
		printf("What to do: %s\n", info->remedy);
	printf("\nOn node @NODE@. All of its kind: journalctl REASON=%s\n", info->word);
}

static void print_markdown(const struct base_reason_info *info)
{
	printf("| `%s` | %s | %s | %s | `%s` |\n", info->word,
	       info->severity == BASE_SEVERITY_WARNING ? "Warning" : "Normal", info->meaning,
	       info->remedy, info->message_id);
}

static void print_title(const char *format)
{
	if (strcmp(format, "catalog") == 0)
		printf("# Message catalog of vipd %s for journalctl -x. Made by: vipd reasons -o "
		       "catalog\n",
		       VIPD_VERSION);
	else if (strcmp(format, "markdown") == 0)
		printf("# Reasons\n\n"
		       "The words of Events, conditions, metrics (label `reason`) and the journal "
		       "(`REASON=`).\nMade by: `vipd reasons -o markdown`\n\n"
		       "| reason | type | meaning | what to do | MESSAGE_ID |\n"
		       "|---|---|---|---|---|\n");
}

static bool is_wanted(const char *word, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (strcasecmp(argv[i], word) == 0)
			return true;
	return argc == 0;
}

static bool is_known(const char *word)
{
	for (int i = BASE_REASON_NONE + 1; i < BASE_REASON_COUNT; i++)
		if (strcasecmp(base_reason_word((enum base_reason)i), word) == 0)
			return true;
	fprintf(stderr, "%s is no reason of vipd; vipd reasons lists all\n", word);
	return false;
}

int reasons_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*print)(const struct base_reason_info *info);
	} formats[] = {
		{ "table", print_table },
		{ "catalog", print_catalog },
		{ "markdown", print_markdown },
	};
	const char *output = "table";
	const struct option_spec specs[] = {
		{ "o", &output, false, "FORMAT", "table, catalog (for journalctl -x) or markdown" },
		{ NULL, NULL, false, NULL, NULL },
	};
	int words = options_parse(argc, argv, "vipd reasons [-o table|catalog|markdown] [WORD...]",
				  specs);

	if (words < 0)
		return words == -2 ? 0 : 2;
	for (int i = words; i < argc; i++)
		if (!is_known(argv[i]))
			return 2;
	for (size_t i = 0; i < BASE_COUNT_OF(formats); i++) {
		if (strcmp(output, formats[i].name) != 0)
			continue;
		print_title(output);
		for (int reason = BASE_REASON_NONE + 1; reason < BASE_REASON_COUNT; reason++) {
			const struct base_reason_info *info =
				base_reason_info((enum base_reason)reason);

			if (is_wanted(info->word, argc - words, argv + words))
				formats[i].print(info);
		}
		return 0;
	}
	fprintf(stderr, "-o %s: say table, catalog or markdown\n", output);
	return 2;
}
