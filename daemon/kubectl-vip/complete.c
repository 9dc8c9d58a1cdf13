#include "daemon/kubectl-vip/complete.h"

#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "daemon/kubectl-vip/api.h"
#include "k8s/object.h"

#define PATIENCE_US 2000000

DEFINE_CLEANUP(cJSON, cJSON_Delete)

struct complete {
	struct api *api;
	const struct arguments *arguments; /* what stands before */
	const char *begun;                 /* of the word that is being typed */
};

static void offer(const struct complete *complete, const char *word, const char *help)
{
	if (strncmp(word, complete->begun, strlen(complete->begun)) == 0)
		printf("%s%s%s\n", word, *help ? "\t" : "", help);
}

/* Nothing if the API server does not say: this is no place for errors. */
static void offer_objects(const struct complete *complete, const char *path, const char *field)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL;
	struct base_error ignored = { 0 };
	const cJSON *item;

	if (!complete->api || api_get(complete->api, path, &list, &ignored) < 0)
		return;
	cJSON_ArrayForEach(item, k8s_object_get(list, "items"))
		offer(complete, k8s_object_text(item, field), "");
}

static void offer_services(const struct complete *complete)
{
	const char *namespace = complete->arguments->namespace;
	char path[512];

	if (!namespace && complete->api)
	namespace = api_namespace(complete->api);
	snprintf(path, sizeof path, "/api/v1/namespaces/%s/services", namespace ? namespace : "");
	offer_objects(complete, path, "metadata/name");
}

static void offer_drill(const struct complete *complete)
{
	static const char *const words[] = { "run", "list", "show" };
	const char *what = complete->arguments->word_count > 1 ? complete->arguments->words[1] : "";

	for (size_t i = 0; !*what && i < BASE_COUNT_OF(words); i++)
		offer(complete, words[i], "");
	if (strcmp(what, "run") == 0) {
		offer_objects(complete, API_GROUP "/virtualips", "spec/address");
		offer_services(complete);
	} else if (strcmp(what, "show") == 0) {
		offer_objects(complete, API_GROUP "/failoverdrills", "metadata/name");
	}
}

static void offer_words(const struct complete *complete, const char *command)
{
	if (strcmp(command, "status") == 0 || strcmp(command, "handover") == 0)
		offer_objects(complete, API_GROUP "/virtualips", "spec/address");
	else if (strcmp(command, "pools") == 0)
		offer_objects(complete, API_GROUP "/addresspools", "metadata/name");
	else if (strcmp(command, "drain") == 0 || strcmp(command, "undrain") == 0)
		offer_objects(complete, API_GROUP "/speakers", "metadata/name");
	else if (strcmp(command, "explain") == 0)
		offer_services(complete);
	else if (strcmp(command, "drill") == 0)
		offer_drill(complete);
}

int complete_words(int argc, char **argv, const struct complete_command *commands, size_t count)
{
	struct base_error ignored = { 0 };
	struct arguments arguments;
	struct complete complete = { .arguments = &arguments,
				     .begun = argc > 1 ? argv[argc - 1] : "" };

	/* The last word is not finished, and may be an option's beginning. */
	if (argc < 2 || arguments_parse(&arguments, argc - 1, argv, ARGUMENTS_ALL) < 0)
		return 0;
	if (arguments.word_count == 0) {
		for (size_t i = 0; i < count; i++)
			offer(&complete, commands[i].name, commands[i].help);
	} else if (api_open(&complete.api, arguments.kubeconfig, arguments.context, &ignored) >=
		   0) {
		api_set_deadline(complete.api, PATIENCE_US);
		offer_words(&complete, arguments.words[0]);
	}
	api_close(complete.api);
	puts(":4"); /* no files */
	return 0;
}
