#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/controller/objects.h"
#include "daemon/controller/pool.h"
#include "daemon/kubectl-vip/commands.h"
#include "daemon/kubectl-vip/output.h"
#include "k8s/object.h"
#include "k8s/yaml.h"

DEFINE_CLEANUP(cJSON, cJSON_Delete)

/* Pools as they would be, before they are applied: whose address would be in none of theirs any more. */

struct check {
	struct ipam *ipam;
	struct table table;
	const char *file;
	unsigned pools, affected;
};

/* --- what there is --- */

static int feed_vip(struct ipam *ipam, const cJSON *object)
{
	struct ipam_name names[IPAM_SERVICES_MAX];
	struct ipam_record record = { .services = names };
	struct vip_spec spec;
	int r;

	if (vip_spec_read(&spec, object) < 0)
		return 0; /* not for us to judge */
	record.address = spec.address;
	record.pool = spec.pool;
	for (size_t i = 0; i < spec.holder_count && i < IPAM_SERVICES_MAX; i++)
		names[record.service_count++] = (struct ipam_name){ spec.holders[i].namespace,
								    spec.holders[i].name };
	r = ipam_record_put(ipam, &record, NULL);
	vip_spec_clear(&spec);
	return r == -ENOMEM ? r : 0;
}

static int feed_vips(struct check *check, struct api *api, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL;
	const cJSON *item;
	int r = api_get(api, API_GROUP "/virtualips", &list, error);

	cJSON_ArrayForEach(item, k8s_object_get(list, "items")) {
		if (r >= 0)
			r = feed_vip(check->ipam, item);
	}
	return r;
}

/* --- what would be --- */

static bool add_affected(void *userdata, const struct ipam_record *record, const char *why)
{
	struct check *check = userdata;
	char address[BASE_ADDRESS_TEXT_SIZE], services[512] = "";
	size_t at = 0;

	for (size_t i = 0; i < record->service_count && at < sizeof services; i++)
		at += (size_t)snprintf(services + at, sizeof services - at, "%s%s/%s", i ? "," : "",
				       record->services[i].namespace, record->services[i].name);
	if (check->affected == 0)
		table_start(&check->table, "ADDRESS|SERVICES|POOL|WHY");
	table_add(&check->table, "%s", base_address_format(&record->address, address));
	table_add(&check->table, "%s", services);
	table_add(&check->table, "%s", record->pool);
	table_add(&check->table, "%s", why);
	check->affected++;
	return true;
}

static int check_pool(struct check *check, const cJSON *document, struct base_error *error)
{
	struct base_error why = { 0 };
	struct pool_spec spec;
	int r = pool_spec_read(&spec, document, &why);

	if (r >= 0) {
		r = ipam_pool_preview(check->ipam, &spec.pool, add_affected, check, &why);
		pool_spec_clear(&spec);
	}
	if (r < 0)
		base_error_set(error, r, "%s: AddressPool %s: %s", check->file,
			       k8s_object_text(document, "metadata/name"),
			       why.message[0] ? why.message : strerror(-r));
	check->pools++;
	return r;
}

struct documents {
	struct check *check;
	struct base_error *error;
};

static int on_document(void *userdata, cJSON *document)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *owned = document;
	struct documents *documents = userdata;

	if (strcmp(k8s_object_text(owned, "kind"), "AddressPool") != 0)
		return 0;
	return check_pool(documents->check, owned, documents->error);
}

static int check_file(struct check *check, const char *path, struct base_error *error)
{
	CLEANUP(base_free_cleanup) char *text = malloc(K8S_YAML_SIZE_MAX);
	struct documents documents = { check, error };
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	size_t size;
	int r;

	if (!file || !text) {
		r = file ? -ENOMEM : -errno;
		return base_error_set(error, r, "cannot read %s: %s", path, strerror(-r));
	}
	size = fread(text, 1, K8S_YAML_SIZE_MAX, file);
	if (file != stdin)
		fclose(file);
	check->file = path;
	if (size == K8S_YAML_SIZE_MAX)
		return base_error_set(error, -EFBIG, "%s is larger than %u bytes", path,
				      K8S_YAML_SIZE_MAX);
	return k8s_yaml_parse(text, size, path, on_document, &documents, error);
}

int check_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	struct check check = { .ipam = ipam_new() };
	int r = check.ipam ? feed_vips(&check, api, error) : -ENOMEM;

	for (unsigned i = 0; i < arguments->word_count && r >= 0; i++)
		r = check_file(&check, arguments->words[i], error);
	ipam_free(check.ipam);
	if (r >= 0 && check.pools == 0)
		r = base_error_set(error, -EINVAL, "no AddressPool is in %s", check.file);
	if (r >= 0 && check.affected == 0)
		printf("Every address that is held stays in its pool.\n");
	if (check.affected > 0)
		table_print(&check.table, false);
	if (r >= 0 && check.affected > 0)
		fprintf(stderr,
			"%u address%s would be held from outside the pool: the Services keep %s until "
			"they are deleted or changed\n",
			check.affected, check.affected == 1 ? "" : "es",
			check.affected == 1 ? "it" : "them");
	return r < 0 ? r : check.affected > 0;
}
