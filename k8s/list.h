#pragma once

#include <stddef.h>

#include <cjson/cJSON.h>

#include "base/error.h"

/*
 * An answer to a list request, taken apart item by item: a page of 500 Services is a megabyte of
 * text, and would be ten of tree.
 */
#define K8S_LIST_VERSION_SIZE 64
#define K8S_LIST_MORE_SIZE    1024

struct k8s_list {
	char version[K8S_LIST_VERSION_SIZE]; /* metadata.resourceVersion; "" if it is not there */
	char more[K8S_LIST_MORE_SIZE];	     /* metadata.continue; "": this was the last page */
	size_t count;
};

/*
 * Calls back with every item (borrowed for the call) in order. 0, or -EBADMSG with the reason; the
 * items before the fault have been told then.
 */
int k8s_list_parse(const char *text, size_t size,
		   void (*item)(void *userdata, const cJSON *object), void *userdata,
		   struct k8s_list *list, struct base_error *error);
