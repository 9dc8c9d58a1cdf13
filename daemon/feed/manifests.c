#include "daemon/feed/plan.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "k8s/yaml.h"

/* Read whole, checked whole, told whole. */

DEFINE_CLEANUP(FILE, fclose)

/* --- reading --- */

int manifest_tolerate(struct wish_set *set, int r)
{
	if (r >= 0 || r == -ENOMEM || !set->on_skipped)
		return r;
	set->on_skipped(set->skipped_userdata, set->error);
	set->faults++;
	return 0;
}

static int check_object(struct wish_set *set, struct object *probe, const cJSON *tree)
{
	const char *name = tree_text(tree, "metadata/name");
	const char *api = object_kind_api(probe->kind);
	const struct object *other;

	if (strcmp(tree_text(tree, "apiVersion"), api) != 0)
		return complain(set, probe, tree_get(tree, "apiVersion"),
				"%s has apiVersion \"%s\": write %s", object_kind_name(probe->kind),
				tree_text(tree, "apiVersion"), api);
	if (!*name)
		return complain(set, probe, tree_get(tree, "metadata"),
				"%s without a name: write metadata.name as text",
				object_kind_name(probe->kind));
	if (strlen(name) >= MESSAGE_NAME_SIZE && probe->kind != KIND_SLICE)
		return complain(set, probe, tree_get(tree, "metadata/name"),
				"the name is longer than %d characters", MESSAGE_NAME_SIZE - 1);
	other = object_find(set, probe->kind, tree_text(tree, "metadata/namespace"), name);
	if (other)
		return complain(set, probe, NULL, "%s %s stands in %s:%d already",
				object_kind_name(probe->kind), name, other->file,
				other->tree->valueint);
	return 0;
}

static int on_document(void *userdata, cJSON *tree)
{
	struct wish_set *set = userdata;
	const char *kind = tree_text(tree, "kind");
	struct object probe = { .kind = object_kind_of(kind), .file = (char *)set->reading,
				.tree = tree };
	struct object *object;
	int r;

	if (strcmp(kind, "List") == 0)
		r = complain(set, &probe, tree_get(tree, "items"), "items must be a list of objects");
	else if (probe.kind == KIND_COUNT || probe.kind == KIND_VM)
		r = complain(set, &probe, tree_get(tree, "kind"),
			     "kind \"%s\": expected AddressPool, Service, VirtualIP, EndpointSlice "
			     "or Node",
			     kind);
	else
		r = check_object(set, &probe, tree);
	if (r < 0) {
		cJSON_Delete(tree);
		return manifest_tolerate(set, r);
	}
	object = object_put(set, probe.kind, tree);
	if (!object)
		return -ENOMEM;
	object->file = strdup(set->reading);
	if (!object->file)
		return -ENOMEM;
	return manifest_tolerate(set, manifest_check(set, object));
}

static int parse(struct wish_set *set, FILE *file, const char *path)
{
	CLEANUP(base_free_cleanup) char *text = malloc(K8S_YAML_SIZE_MAX + 1);
	size_t size;

	if (!text)
		return -ENOMEM;
	size = fread(text, 1, K8S_YAML_SIZE_MAX + 1, file);
	if (ferror(file))
		return base_error_set(set->error, -EIO, "%s: %s", path, strerror(errno));
	if (size > K8S_YAML_SIZE_MAX)
		return base_error_set(set->error, -EFBIG, "%s: more than %u bytes", path,
				      K8S_YAML_SIZE_MAX);
	set->reading = path;
	return k8s_yaml_parse(text, size, path, on_document, set, set->error);
}

static int read_file(struct wish_set *set, const char *path)
{
	CLEANUP(fclose_cleanup) FILE *file = fopen(path, "re");
	struct stat status;

	if (!file || fstat(fileno(file), &status) < 0)
		return base_error_set(set->error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode))
		return base_error_set(set->error, -EINVAL, "%s: no ordinary file", path);
	return parse(set, file, path);
}

static int is_manifest(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return entry->d_name[0] != '.' && dot &&
	       (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0);
}

int wish_set_read(struct wish_set *set, const char *path, struct base_error *error)
{
	struct dirent **entries;
	struct stat status;
	int count, r = 0;

	set->error = error;
	if (strcmp(path, "-") == 0)
		return manifest_tolerate(set, parse(set, stdin, "standard input"));
	if (stat(path, &status) < 0)
		return manifest_tolerate(set, base_error_set(error, -errno, "%s: %s", path, strerror(errno)));
	if (!S_ISDIR(status.st_mode))
		return manifest_tolerate(set, read_file(set, path));
	count = scandir(path, &entries, is_manifest, alphasort);
	if (count < 0)
		return manifest_tolerate(set, base_error_set(error, -errno, "%s: %s", path, strerror(errno)));
	for (int i = 0; i < count; i++) {
		char file[4096];

		snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
		if (r >= 0)
			r = manifest_tolerate(set, read_file(set, file));
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* --- messages --- */

static bool same_port(const cJSON *a, const cJSON *b)
{
	const cJSON *left = tree_get(a, "port"), *right = tree_get(b, "port");
	const char *p = tree_text(a, "protocol"), *q = tree_text(b, "protocol");

	return left && right && left->valuedouble == right->valuedouble &&
	       strcmp(*p ? p : "TCP", *q ? q : "TCP") == 0;
}

/* One port of an address leads to one Service, and a name to one port. */
static int check_port(struct plan *plan, const struct object *service, const struct vip *vip,
		      const cJSON *port)
{
	const cJSON *other;

	for (other = tree_get(service->tree, "spec/ports")->child; other != port; other = other->next)
		if (same_port(other, port))
			return complain(plan->set, service, port, "this port stands in line %d already",
					other->valueint);
		else if (strcmp(tree_text(other, "name"), tree_text(port, "name")) == 0)
			return complain(plan->set, service, port,
					"the port in line %d has this name already: give each port a "
					"name of its own",
					other->valueint);
	for (unsigned i = 0; i < vip->sharer_count && vip->sharers[i] != service; i++)
		cJSON_ArrayForEach(other, tree_get(vip->sharers[i]->tree, "spec/ports"))
			if (same_port(other, port))
				return complain(plan->set, service, port,
						"Service %s has this port of the shared address "
						"already (%s:%d)",
						vip->sharers[i]->name, vip->sharers[i]->file,
						other->valueint);
	return 0;
}

/* Annotation vipd.dev/all-ports: the address is one VM's as a whole. */
static int emit_every_port(struct plan *plan, const struct object *service, const struct unit *unit,
			   const struct base_address *address)
{
	const cJSON *notes = tree_get(service->tree, "metadata/annotations");
	const cJSON *note = cJSON_GetObjectItemCaseSensitive(notes, "vipd.dev/all-ports");
	int r;

	if (!note)
		return 0;
	if (strcmp(tree_text(note, ""), "true") != 0 && strcmp(tree_text(note, ""), "false") != 0)
		return complain(plan->set, service, note,
				"annotation vipd.dev/all-ports is \"true\" or \"false\"");
	if (strcmp(tree_text(note, ""), "true") == 0 &&
	    *tree_annotation(service->tree, "vipd.dev/sharing-key"))
		return complain(plan->set, service, note,
				"an address with vipd.dev/all-ports is of one Service alone: take the "
				"annotation vipd.dev/sharing-key away, or this one");
	plan->set->message.type = MESSAGE_SERVICE_PORT;
	r = translate_every_port(plan->set, service, unit, address,
				 &plan->set->message.service_port);
	return r > 0 ? plan->emit(plan->userdata, &plan->set->message) : r;
}

static int emit_service(struct plan *plan, const struct object *service,
			const struct base_address *address, const cJSON *place)
{
	const cJSON *ports = tree_get(service->tree, "spec/ports"), *port;
	const struct unit *unit = plan_unit(plan->set, service);

	(void)place;
	if (!cJSON_IsArray(ports) || cJSON_GetArraySize(ports) == 0)
		return complain(plan->set, service, ports, "a Service needs spec.ports");
	cJSON_ArrayForEach(port, ports) {
		int r = check_port(plan, service, *plan_slot(plan, address), port);

		plan->set->message.type = MESSAGE_SERVICE_PORT;
		if (r >= 0)
			r = translate_port(plan->set, service, port, unit, address,
					   &plan->set->message.service_port);
		if (r >= 0)
			r = plan->emit(plan->userdata, &plan->set->message);
		if (r < 0)
			return r;
	}
	return emit_every_port(plan, service, unit, address);
}

static int check_node(struct wish_set *set, const char *node)
{
	bool any = false;

	for (const struct object *d = set->first; d; d = d->after)
		if (d->kind == KIND_NODE) {
			any = true;
			if (node && strcmp(d->name, node) == 0)
				return 0;
		}
	if (!any)
		return base_error_set(set->error, -ENOENT,
				      "the manifests hold no Node: write one for every member, with its "
				      "InternalIP in status.addresses");
	if (!node)
		return 0;
	return base_error_set(set->error, -ENOENT, "--node %s is none of the Nodes in the manifests",
			      node);
}

static int emit_nodes(struct plan *plan)
{
	int r = 0;

	for (const struct object *d = plan->set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_NODE) {
			r = translate_node(plan->set, d,
					   object_find(plan->set, KIND_SPEAKER, "", d->name),
					   &plan->set->message);
			if (r >= 0)
				r = plan->emit(plan->userdata, &plan->set->message);
			r = manifest_tolerate(plan->set, r);
		}
	return r;
}

static int emit_all(struct plan *plan)
{
	struct wish_set *set = plan->set;
	int r = emit_nodes(plan);

	for (unsigned i = 0; i < plan->count && r >= 0; i++)
		if (plan->vips[i]->leader == plan->vips[i])
			r = manifest_tolerate(set, plan_emit_router(plan, plan->vips[i]));
	for (const struct object *d = set->first; d && r >= 0; d = d->after)
		if (d->kind == KIND_SERVICE && lean_is_balanced(d->tree))
			r = manifest_tolerate(set, plan_each_address(plan, d, emit_service));
	return r;
}

int wish_set_emit(struct wish_set *set, const char *node,
		  int (*emit)(void *userdata, const struct message *message), void *userdata,
		  struct base_error *error)
{
	struct plan *plan = calloc(1, sizeof *plan);
	int r;

	if (!plan)
		return -ENOMEM;
	plan->set = set;
	plan->emit = emit;
	plan->userdata = userdata;
	set->error = error;
	r = manifest_tolerate(set, check_node(set, node));
	if (r >= 0)
		r = plan_collect(plan);
	if (r >= 0 && !set->faults)
		r = emit_all(plan);
	for (unsigned i = 0; i < plan->count; i++)
		free(plan->vips[i]);
	free(plan);
	return r < 0 ? r : 0;
}
