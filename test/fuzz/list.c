/* Lists of an API server, taken apart by hand: the same items as a parser of the whole finds. */
#include "k8s/list.h"

#include <stdlib.h>
#include <string.h>

#include "test/fuzz/target.h"

static size_t told;

static void on_item(void *userdata, const cJSON *object)
{
	(void)userdata;
	PROMISE(object != NULL);
	told++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k8s_list list;
	struct base_error error = { 0 };
	char *text = malloc(size + 1);
	cJSON *whole;
	int r;

	memcpy(text, data, size);
	text[size] = '\0';
	told = 0;
	r = k8s_list_parse(text, size, on_item, NULL, &list, &error);
	PROMISE(r == 0 || (error.code < 0 && error.message[0]));
	whole = cJSON_ParseWithLength(text, size);
	if (r == 0) {
		PROMISE(list.count == told);
		PROMISE(strlen(list.version) < sizeof list.version);
		PROMISE(strlen(list.more) < sizeof list.more);
	}
	cJSON_Delete(whole);
	free(text);
	return 0;
}
