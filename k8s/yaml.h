#pragma once

#include <stddef.h>

#include <cjson/cJSON.h>

#include "base/error.h"

/*
 * YAML (and so JSON) text to cJSON trees: manifests and kubeconfig. Plain scalars are typed as the
 * Kubernetes tools do it (YAML 1.1: true yes on y, 12 0x1f 017 1_000, 1.5e3, null ~); what is quoted
 * or tagged !!str is text.
 *
 * Every item of a tree carries the line it stands on in `valueint` (numbers keep their value in
 * `valuedouble`), so that whoever checks the tree can say where. Refused with file, line and
 * what to write: duplicate keys, aliases, nesting beyond 64, more than 10000 keys in one object, a
 * document or an item of a List that is no object.
 */
#define K8S_YAML_SIZE_MAX (8u * 1024 * 1024)

/*
 * Calls back with every document (ownership passes to the callback); documents of kind List are
 * taken apart. A negative answer of the callback ends it and is the result. 0 or -errno.
 */
int k8s_yaml_parse(const char *text, size_t size, const char *file,
		   int (*callback)(void *userdata, cJSON *document), void *userdata,
		   struct base_error *error);
