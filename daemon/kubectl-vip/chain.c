#include "daemon/kubectl-vip/chain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/reason.h"
#include "daemon/kubectl-vip/output.h"

static const char *const verdicts[] = {
	[VERDICT_OK] = "ok",
	[VERDICT_NOTE] = "note",
	[VERDICT_UNKNOWN] = "unknown",
	[VERDICT_BROKEN] = "BROKEN",
};

void chain_add(struct chain *chain, enum verdict verdict, const char *name, const char *address,
	       const char *format, ...)
{
	struct link *link = &chain->links[chain->count];
	va_list arguments;

	if (chain->count == CHAIN_LINKS_MAX)
		return;
	chain->count++;
	*link = (struct link){ .verdict = verdict, .name = name };
	snprintf(link->address, sizeof link->address, "%s", address);
	va_start(arguments, format);
	vsnprintf(link->text, sizeof link->text, format, arguments);
	va_end(arguments);
}

void chain_remedy(struct chain *chain, const char *format, ...)
{
	va_list arguments;

	if (chain->count == 0)
		return;
	va_start(arguments, format);
	vsnprintf(chain->links[chain->count - 1].remedy, sizeof chain->links->remedy, format,
		  arguments);
	va_end(arguments);
}

void chain_remedy_of(struct chain *chain, const char *reason)
{
	for (int i = BASE_REASON_NONE + 1; i < BASE_REASON_COUNT; i++) {
		const struct base_reason_info *info = base_reason_info((enum base_reason)i);

		if (strcmp(info->word, reason) == 0 && strcmp(info->remedy, "Nothing to do.") != 0)
			chain_remedy(chain, "%s", info->remedy);
	}
}

bool chain_broken(const struct chain *chain)
{
	for (unsigned i = 0; i < chain->count; i++)
		if (chain->links[i].verdict == VERDICT_BROKEN)
			return true;
	return false;
}

static void print_text(const struct chain *chain)
{
	const char *address = "";

	printf("%s\n", chain->about);
	for (unsigned i = 0; i < chain->count; i++) {
		const struct link *link = &chain->links[i];
		const char *colour = output_colour(verdicts[link->verdict]);

		if (strcmp(address, link->address) != 0)
			printf("%s\n", link->address);
		address = link->address;
		printf("  %s%-8s%s %-12s %s\n", colour, verdicts[link->verdict],
		       *colour ? output_plain() : "", link->name, link->text);
		if (link->remedy[0] && link->verdict != VERDICT_OK)
			printf("  %-8s %-12s what to do: %s\n", "", "", link->remedy);
	}
}

void chain_print(const struct chain *chain, enum output output)
{
	cJSON *tree, *list;

	if (output != OUTPUT_JSON && output != OUTPUT_YAML) {
		print_text(chain);
		return;
	}
	tree = cJSON_CreateObject();
	cJSON_AddStringToObject(tree, "about", chain->about);
	cJSON_AddBoolToObject(tree, "broken", chain_broken(chain));
	list = cJSON_AddArrayToObject(tree, "links");
	for (unsigned i = 0; i < chain->count; i++) {
		const struct link *link = &chain->links[i];
		cJSON *item = cJSON_CreateObject();

		cJSON_AddItemToArray(list, item);
		cJSON_AddStringToObject(item, "link", link->name);
		cJSON_AddStringToObject(item, "verdict", verdicts[link->verdict]);
		if (link->address[0])
			cJSON_AddStringToObject(item, "address", link->address);
		cJSON_AddStringToObject(item, "text", link->text);
		if (link->remedy[0])
			cJSON_AddStringToObject(item, "remedy", link->remedy);
	}
	output_tree(output, tree);
	cJSON_Delete(tree);
}
