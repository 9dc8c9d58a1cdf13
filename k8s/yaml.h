#pragma once

#include <stddef.h>

#include <cjson/cJSON.h>

#include "base/error.h"

/*
 * YAML (and so JSON) text to cJSON trees: manifests and kubeconfig. Scalars are typed as the
 * Kubernetes tools do it (plain true/false, integers, floats and null; quoted text stays text).
 *
 * Every item of a tree carries the line it stands on in `valueint` (numbers keep their value in
 * `valuedouble`), so that whoever checks the tree can say where. Refused with file, line and
 * what to write: duplicate keys, aliases, nesting beyond 64, a document that is no mapping.
 */
#define K8S_YAML_SIZE_MAX (8u * 1024 * 1024)

/*
 * Calls back with every document (ownership passes to the callback); documents of kind List are
 * taken apart. A negative answer of the callback ends it and is the result. 0 or -errno.
 */
int k8s_yaml_parse(const char *text, size_t size, const char *file,
		   int (*callback)(void *userdata, cJSON *document), void *userdata,
		   struct base_error *error);
