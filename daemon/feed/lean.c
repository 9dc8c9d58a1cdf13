#include "daemon/feed/set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/object.h"

/* Borrows: the lean tree refers to items of the whole one and is gone before that is. */
static void borrow(cJSON *lean, const cJSON *tree, const char *name)
{
	cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, name);

	if (item && !cJSON_IsNull(item))
		cJSON_AddItemReferenceToObject(lean, name, item);
}

static cJSON *section(cJSON *lean, const cJSON *tree, const char *name, const cJSON **from)
{
	*from = cJSON_GetObjectItemCaseSensitive(tree, name);
	return cJSON_AddObjectToObject(lean, name);
}

static void lean_metadata(cJSON *lean, const cJSON *tree, enum object_kind kind)
{
	const cJSON *from, *labels;
	cJSON *to = section(lean, tree, "metadata", &from), *inner;

	borrow(to, from, "name");
	borrow(to, from, "namespace");
	if (kind == KIND_SERVICE) {
		borrow(to, from, "uid");
		inner = section(to, from, "annotations", &labels);
		borrow(inner, labels, "vipd.dev/all-ports");
		borrow(inner, labels, "vipd.dev/sharing-key");
		borrow(inner, labels, "vipd.dev/network");
	}
	if (kind == KIND_VIRTUAL_IP)
		borrow(to, from, "deletionTimestamp");
	if (kind == KIND_SLICE) {
		inner = section(to, from, "labels", &labels);
		borrow(inner, labels, "kubernetes.io/service-name");
	}
}

static void lean_node(cJSON *lean, const cJSON *tree)
{
	const cJSON *from, *item;
	cJSON *spec = section(lean, tree, "spec", &from), *list;

	borrow(spec, from, "podCIDRs");
	list = cJSON_AddArrayToObject(section(lean, tree, "status", &from), "addresses");
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(from, "addresses"))
		if (strcmp(tree_text(item, "type"), "InternalIP") == 0)
			cJSON_AddItemReferenceToArray(list, (cJSON *)item);
}

static void lean_speaker(cJSON *lean, const cJSON *tree)
{
	const cJSON *from, *item;
	cJSON *list = cJSON_AddArrayToObject(section(lean, tree, "status", &from), "segments");

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(from, "segments")) {
		cJSON *one = cJSON_CreateObject();

		borrow(one, item, "address");
		cJSON_AddItemToArray(list, one);
	}
}

static void lean_service(cJSON *lean, const cJSON *tree)
{
	const cJSON *from, *item;
	cJSON *spec = section(lean, tree, "spec", &from), *list;
	bool attached = attached_is_asked(tree);

	if (attached)
		borrow(spec, from, "selector");
	borrow(spec, from, "sessionAffinity");
	borrow(spec, from, "externalTrafficPolicy");
	borrow(spec, from, "loadBalancerSourceRanges");
	list = cJSON_AddArrayToObject(spec, "ports");
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(from, "ports")) {
		cJSON *one = cJSON_CreateObject();

		borrow(one, item, "name");
		borrow(one, item, "protocol");
		borrow(one, item, "port");
		if (attached)
			borrow(one, item, "targetPort");
		cJSON_AddItemToArray(list, one);
	}
}

/* The labels are those of its pod: what KubeVirt adds to its own is what Services select by. */
static void lean_vm(cJSON *lean, const cJSON *tree)
{
	const char *name = tree_text(tree, "metadata/name");
	cJSON *metadata = cJSON_GetObjectItemCaseSensitive(lean, "metadata"), *labels, *list;
	const cJSON *from, *item;

	labels = cJSON_Duplicate(tree_get(tree, "metadata/labels"), true);
	if (!labels)
		labels = cJSON_CreateObject();
	cJSON_AddItemToObject(metadata, "labels", labels);
	cJSON_AddStringToObject(labels, "kubevirt.io", "virt-launcher");
	cJSON_AddStringToObject(labels, "vmi.kubevirt.io/id", name);
	cJSON_AddStringToObject(labels, "vm.kubevirt.io/name", name);
	borrow(metadata, tree_get(tree, "metadata"), "deletionTimestamp");
	borrow(section(lean, tree, "spec", &from), tree_get(tree, "spec"), "networks");
	cJSON_AddStringToObject(lean, "phase", tree_text(tree, "status/phase"));
	cJSON_AddStringToObject(lean, "nodeName", tree_text(tree, "status/nodeName"));
	list = cJSON_AddArrayToObject(lean, "interfaces");
	cJSON_ArrayForEach(item, tree_get(tree, "status/interfaces")) {
		cJSON *one = cJSON_CreateObject();

		borrow(one, item, "name");
		borrow(one, item, "mac");
		borrow(one, item, "ipAddress");
		borrow(one, item, "ipAddresses");
		cJSON_AddItemToArray(list, one);
	}
}

static bool is_attached(const cJSON *vm)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, tree_get(vm, "spec/networks"))
		if (*tree_text(item, "multus/networkName"))
			return true;
	return false;
}

static void lean_slice(cJSON *lean, const cJSON *tree)
{
	const cJSON *item;
	cJSON *list;

	borrow(lean, tree, "ports");
	list = cJSON_AddArrayToObject(lean, "endpoints");
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(tree, "endpoints")) {
		cJSON *one = cJSON_CreateObject(), *addresses = cJSON_AddArrayToObject(one, "addresses");
		cJSON *first = cJSON_GetArrayItem(
			cJSON_GetObjectItemCaseSensitive(item, "addresses"), 0);

		if (first)
			cJSON_AddItemReferenceToArray(addresses, first);
		borrow(one, item, "conditions");
		borrow(one, item, "nodeName");
		if (translate_is_launcher(item))
			borrow(cJSON_AddObjectToObject(one, "targetRef"), tree_get(item, "targetRef"),
			       "name");
		cJSON_AddItemToArray(list, one);
	}
}

bool lean_is_balanced(const cJSON *service)
{
	const char *class = tree_text(service, "spec/loadBalancerClass");

	return strcmp(tree_text(service, "spec/type"), "LoadBalancer") == 0 &&
	       (!*class || strcmp(class, "vipd.dev/vip") == 0);
}

int lean_pack(enum object_kind kind, const cJSON *tree, struct k8s_packed **packed)
{
	cJSON *lean;
	char *text;

	if (kind == KIND_SERVICE && !lean_is_balanced(tree))
		return 0;
	if (kind == KIND_SLICE && strcmp(tree_text(tree, "addressType"), "FQDN") == 0)
		return 0;
	if (kind == KIND_VM && !is_attached(tree))
		return 0;
	lean = cJSON_CreateObject();
	lean_metadata(lean, tree, kind);
	switch (kind) {
	case KIND_NODE:
		lean_node(lean, tree);
		break;
	case KIND_SPEAKER:
		lean_speaker(lean, tree);
		break;
	case KIND_SERVICE:
		lean_service(lean, tree);
		break;
	case KIND_SLICE:
		lean_slice(lean, tree);
		break;
	case KIND_VM:
		lean_vm(lean, tree);
		break;
	case KIND_VIRTUAL_IP:
	case KIND_POOL:
		borrow(lean, tree, "spec");
		break;
	case KIND_COUNT:
		break;
	}
	text = k8s_object_print(lean);
	cJSON_Delete(lean);
	*packed = text ? k8s_pack(text) : NULL;
	free(text);
	return *packed ? 1 : -ENOMEM;
}
