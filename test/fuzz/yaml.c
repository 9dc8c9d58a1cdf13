/* Manifests: every document is an object that knows its lines, every refusal says something. */
#include "k8s/yaml.h"

#include "test/fuzz/target.h"

static void check(const cJSON *item)
{
	PROMISE(item->valueint > 0);
	for (const cJSON *child = item->child; child; child = child->next)
		check(child);
}

static int on_document(void *userdata, cJSON *document)
{
	(void)userdata;
	PROMISE(cJSON_IsObject(document));
	check(document);
	cJSON_Delete(document);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct base_error error = { 0 };

	if (k8s_yaml_parse((const char *)data, size, "f", on_document, NULL, &error) < 0)
		PROMISE(error.code < 0 && error.message[0]);
	else
		PROMISE(error.code == 0);
	return 0;
}
