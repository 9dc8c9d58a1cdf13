#include "daemon/controller/openshift.h"

#include <string.h>

#include "k8s/object.h"

static void add(struct ipam_range *ranges, size_t *count, const cJSON *text)
{
	if (cJSON_IsString(text) && *count < OPENSHIFT_RANGES_MAX &&
	    ipam_range_parse(text->valuestring, &ranges[*count]))
		++*count;
}

static void add_all(struct ipam_range *ranges, size_t *count, const cJSON *list)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
		add(ranges, count, item);
}

static unsigned fletcher8(const char *name, size_t size, const char *suffix)
{
	unsigned a = 0, b = 0;

	for (size_t i = 0; i < size + strlen(suffix); i++) {
		a = (a + (unsigned char)(i < size ? name[i] : suffix[i - size])) % 15;
		b = (b + a) % 15;
	}
	return b << 4 | a;
}

/*
 * As the keepalived of its nodes is told (openshift/baremetal-runtimecfg, PopulateVRIDs): a checksum of the
 * cluster's name, which is the second label in https://api.NAME.DOMAIN:6443.
 */
static void add_ids(struct ipam_ids *ids, const char *url)
{
	const char *name = strstr(url, "://api.");
	unsigned api, ingress;
	size_t size;

	if (!name)
		return;
	name += strlen("://api.");
	size = strcspn(name, ".:/");
	api = fletcher8(name, size, "-api") + 1;
	ingress = fletcher8(name, size, "-ingress") + 1;
	ipam_ids_add(ids, api, api);
	ingress += ingress == api;
	ipam_ids_add(ids, ingress, ingress);
}

bool openshift_put_infrastructure(struct openshift *openshift, const cJSON *object)
{
	const cJSON *platform;
	struct openshift before = *openshift;

	openshift->api_count = openshift->ingress_count = 0;
	memset(openshift->api, 0, sizeof openshift->api);
	memset(openshift->ingress, 0, sizeof openshift->ingress);
	memset(&openshift->ids, 0, sizeof openshift->ids);
	/* baremetal, openstack, vsphere, ...: the one there is */
	cJSON_ArrayForEach(platform, k8s_object_get(object, "status/platformStatus")) {
		if (!cJSON_IsObject(platform))
			continue;
		add_all(openshift->api, &openshift->api_count,
			k8s_object_get(platform, "apiServerInternalIPs"));
		add_all(openshift->ingress, &openshift->ingress_count,
			k8s_object_get(platform, "ingressIPs"));
		if (openshift->api_count == 0) /* before 4.12 there was one each */
			add(openshift->api, &openshift->api_count,
			    k8s_object_get(platform, "apiServerInternalIP"));
		if (openshift->ingress_count == 0)
			add(openshift->ingress, &openshift->ingress_count,
			    k8s_object_get(platform, "ingressIP"));
	}
	if (openshift->api_count > 0)
		add_ids(&openshift->ids, k8s_object_text(object, "status/apiServerURL"));
	return memcmp(&before, openshift, sizeof before) != 0;
}

bool openshift_put_network(struct openshift *openshift, const cJSON *object)
{
	struct openshift before = *openshift;

	openshift->assigned_count = 0;
	memset(openshift->assigned, 0, sizeof openshift->assigned);
	add_all(openshift->assigned, &openshift->assigned_count,
		k8s_object_get(object, "spec/externalIP/autoAssignCIDRs"));
	return memcmp(&before, openshift, sizeof before) != 0;
}

bool openshift_assigns(const struct openshift *openshift, const struct base_address *address)
{
	for (size_t i = 0; i < openshift->assigned_count; i++) {
		const struct ipam_range *range = &openshift->assigned[i];

		if (range->first.family == address->family &&
		    base_address_compare(&range->first, address) <= 0 &&
		    base_address_compare(address, &range->last) <= 0)
			return true;
	}
	return false;
}
