#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/kubectl-vip/commands.h"
#include "daemon/kubectl-vip/output.h"
#include "k8s/object.h"

DEFINE_CLEANUP(cJSON, cJSON_Delete)

#define POLL_US (150 * BASE_USEC_PER_MSEC)

static bool is_candidate(const cJSON *vip, const char *node)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(vip, "spec/candidates"))
		if (strcmp(k8s_object_text(item, "node"), node) == 0)
			return true;
	return false;
}

/* Somebody other than `node` who may own it now. */
static bool has_other(const cJSON *vip, const char *node)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(vip, "spec/candidates")) {
		const char *other = k8s_object_text(item, "node");

		if (strcmp(other, node) != 0 && !vip_not_eligible(vip, other))
			return true;
	}
	return false;
}

/* --- handover --- */

/* Not among the candidates: a node that steps aside, another node, or nobody's name. */
static int no_candidate(struct api *api, const cJSON *vip, const char *to, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *speaker = NULL;
	const char *address = k8s_object_text(vip, "spec/address");
	struct nearest nearest = { .wanted = to };
	struct base_error ignored = { 0 };
	char path[512], all[128] = "";
	const cJSON *item;
	bool known;

	cJSON_ArrayForEach(item, k8s_object_get(vip, "spec/candidates")) {
		size_t at = strlen(all);

		snprintf(all + at, sizeof all - at, "%s%s", at ? ", " : "",
			 k8s_object_text(item, "node"));
		nearest_offer(&nearest, k8s_object_text(item, "node"));
	}
	snprintf(path, sizeof path, API_GROUP "/speakers/%s", to);
	known = strspn(to, "abcdefghijklmnopqrstuvwxyz0123456789-.") == strlen(to) &&
		api_get(api, path, &speaker, &ignored) >= 0;
	if (k8s_object_bool(speaker, "spec/maintenance", false))
		return base_error_set(error, -EINVAL,
				      "%s is in maintenance and owns nothing: kubectl vip undrain %s", to,
				      to);
	if (k8s_object_bool(speaker, "spec/excluded", false))
		return base_error_set(error, -EINVAL, "%s is excluded (spec.excluded of its Speaker)", to);
	if (known && strcmp(condition_status(speaker, "Ready"), "True") != 0)
		return base_error_set(error, -EINVAL, "the speaker of %s is not ready: %s%s%s", to,
				      k8s_object_text(condition_of(speaker, "Ready"), "reason"),
				      *k8s_object_text(condition_of(speaker, "Ready"), "message") ? ": "
												  : "",
				      k8s_object_text(condition_of(speaker, "Ready"), "message"));
	if (!known && nearest.name[0])
		return base_error_set(error, -ENOENT, "%s is no candidate for %s; did you mean %s?", to,
				      address, nearest.name);
	return base_error_set(error, -ENOENT, "%s is no candidate for %s; these are: %s", to, address,
			      *all ? all : "none");
}

static int check_target(struct api *api, const cJSON *vip, const char *to, struct base_error *error)
{
	const char *address = k8s_object_text(vip, "spec/address");
	const char *owner = k8s_object_text(vip, "status/owner");
	const cJSON *why = vip_not_eligible(vip, to);

	if (!*owner)
		return base_error_set(error, -ENOENT,
				      "%s has no owner that could hand it over: kubectl vip status %s",
				      address, address);
	if (!*to && !has_other(vip, owner))
		return base_error_set(error, -ENOENT,
				      "%s has no other node that may own it now: kubectl vip status %s -o "
				      "wide",
				      address, address);
	if (!*to)
		return 0;
	if (!is_candidate(vip, to))
		return no_candidate(api, vip, to, error);
	if (why)
		return base_error_set(error, -EINVAL, "%s may not own %s now: %s%s%s", to, address,
				      k8s_object_text(why, "reason"),
				      *k8s_object_text(why, "message") ? ": " : "",
				      k8s_object_text(why, "message"));
	return 0;
}

static int write_order(struct api *api, const char *path, const char *to, char id[static 17],
		       struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *patch = cJSON_CreateObject();
	CLEANUP(cJSON_Delete_cleanup) cJSON *order = cJSON_CreateObject();
	CLEANUP(base_free_cleanup) char *text = NULL;
	cJSON *metadata = cJSON_AddObjectToObject(patch, "metadata"), *notes;
	uint64_t number = 0;

	if (getrandom(&number, sizeof number, 0) != sizeof number)
		return base_error_set(error, -EIO, "the kernel gives no random numbers");
	snprintf(id, 17, "%016llx", (unsigned long long)number);
	cJSON_AddStringToObject(order, "to", to);
	cJSON_AddStringToObject(order, "id", id);
	text = cJSON_PrintUnformatted(order);
	notes = cJSON_AddObjectToObject(metadata, "annotations");
	if (!text || !notes)
		return base_error_set(error, -ENOMEM, "out of memory");
	cJSON_AddStringToObject(notes, "vipd.dev/handover", text);
	return api_merge(api, path, patch, NULL, error);
}

static void tell_companions(const cJSON *list, const cJSON *vip)
{
	const char *router = k8s_object_text(vip, "spec/virtualRouter");
	const cJSON *item;

	if (!*router)
		return;
	cJSON_ArrayForEach(item, k8s_object_get(list, "items"))
		if (item != vip && strcmp(k8s_object_text(item, "spec/virtualRouter"), router) == 0)
			printf("%s moves with it: both are of virtual router %s\n",
			       k8s_object_text(item, "spec/address"), router);
}

/* Done when another than the former owner (or the one asked for) says that it owns it. */
static int wait_for_move(struct api *api, const char *path, const char *former, const char *to,
			 const char *id, uint64_t timeout_us, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *vip = NULL;
	const char *address = "it", *owner = "", *taken = "";

	api_set_deadline(api, timeout_us);
	do {
		int r;

		cJSON_Delete(TAKE(vip));
		r = api_get(api, path, &vip, error);
		if (r < 0)
			return r;
		address = k8s_object_text(vip, "spec/address");
		owner = k8s_object_text(vip, "status/owner");
		taken = k8s_object_text(vip, "status/handoverID");
		if (strcmp(owner, former) != 0 && *owner && (!*to || strcmp(owner, to) == 0) &&
		    strcmp(k8s_object_text(vip, "status/state"), "Active") == 0) {
			printf("%s is owned by %s now: %s\n", address, owner,
			       k8s_object_text(vip, "status/lastTransition/message"));
			return 0;
		}
		api_sleep(api, POLL_US);
	} while (!api_expired(api));
	fprintf(stderr, "%s is still owned by %s after %.0f s: %s\n", address, *owner ? owner : "nobody",
		(double)timeout_us / (double)BASE_USEC_PER_SEC,
		strcmp(taken, id) == 0 ? "its owner tried and went on, see kubectl vip explain and its log"
				       : "its owner has not heard of it; does its speaker run?");
	return 1;
}

int handover_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL;
	const char *word = arguments->words[0], *owner;
	char name[64], path[512], id[17];
	const cJSON *vip;
	int r = api_get(api, API_GROUP "/virtualips", &list, error);

	if (r < 0)
		return r;
	vip = api_pick(list, "VirtualIP", vip_name(word, name), error);
	if (!vip)
		return error->code;
	owner = k8s_object_text(vip, "status/owner");
	if (*arguments->to && strcmp(owner, arguments->to) == 0) {
		printf("%s is owned by %s already\n", k8s_object_text(vip, "spec/address"), owner);
		return 0;
	}
	r = check_target(api, vip, arguments->to, error);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, API_GROUP "/virtualips/%s", name);
	r = write_order(api, path, arguments->to, id, error);
	if (r < 0)
		return r;
	printf("%s is asked to hand %s over%s%s\n", owner, k8s_object_text(vip, "spec/address"),
	       *arguments->to ? " to " : "", arguments->to);
	tell_companions(list, vip);
	fflush(stdout);
	return arguments->wait ? wait_for_move(api, path, owner, arguments->to, id,
					       arguments->timeout_us, error)
			       : 0;
}

/* --- drain and undrain --- */

static int set_maintenance(struct api *api, const char *node, bool maintenance, cJSON **speaker,
			   struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *patch = cJSON_CreateObject();
	char path[512];

	cJSON_AddBoolToObject(cJSON_AddObjectToObject(patch, "spec"), "maintenance", maintenance);
	snprintf(path, sizeof path, API_GROUP "/speakers/%s", node);
	return api_merge(api, path, patch, speaker, error);
}

/* The Speaker's list item; also in *list, which must be freed. */
static const cJSON *find_speaker(struct api *api, const char *node, cJSON **list,
				 struct base_error *error)
{
	if (strncmp(node, "node/", 5) == 0)
		node += 5;
	if (api_get(api, API_GROUP "/speakers", list, error) < 0)
		return NULL;
	return api_pick(*list, "Speaker", node, error);
}

static unsigned owned_by(const cJSON *vips, const char *node)
{
	unsigned count = 0;
	const cJSON *vip;

	cJSON_ArrayForEach(vip, k8s_object_get(vips, "items"))
		count += strcmp(k8s_object_text(vip, "status/owner"), node) == 0;
	return count;
}

/* How many addresses would be left with nobody; each is told. */
static unsigned tell_orphans(const cJSON *vips, const char *node)
{
	unsigned count = 0;
	const cJSON *vip;

	cJSON_ArrayForEach(vip, k8s_object_get(vips, "items")) {
		if (strcmp(k8s_object_text(vip, "status/owner"), node) != 0 || has_other(vip, node))
			continue;
		fprintf(stderr, "%s: no other node may own it now\n",
			k8s_object_text(vip, "spec/address"));
		count++;
	}
	return count;
}

/*
 * Safe when the speaker says so of its present settings and no address names the node as owner:
 * its word may be older than the order.
 */
static int wait_for_drain(struct api *api, const char *node, double generation,
			  uint64_t timeout_us, struct base_error *error)
{
	unsigned owned = 0, told = UINT32_MAX;
	char path[512];

	snprintf(path, sizeof path, API_GROUP "/speakers/%s", node);
	api_set_deadline(api, timeout_us);
	do {
		CLEANUP(cJSON_Delete_cleanup) cJSON *speaker = NULL, *vips = NULL;
		const cJSON *seen;
		int r = api_get(api, path, &speaker, error);

		if (r >= 0)
			r = api_get(api, API_GROUP "/virtualips", &vips, error);
		if (r < 0)
			return r;
		owned = owned_by(vips, node);
		if (owned && owned != told) {
			printf("%s owns %u address%s\n", node, owned, owned == 1 ? "" : "es");
			fflush(stdout);
			told = owned;
		}
		seen = k8s_object_get(condition_of(speaker, "SafeToReboot"), "observedGeneration");
		if (!seen)
			seen = k8s_object_get(speaker, "status/observedGeneration");
		if (owned == 0 && strcmp(condition_status(speaker, "SafeToReboot"), "True") == 0 &&
		    (!cJSON_IsNumber(seen) || seen->valuedouble >= generation)) {
			printf("%s owns nothing and is safe to reboot\n", node);
			return 0;
		}
		api_sleep(api, POLL_US);
	} while (!api_expired(api));
	fprintf(stderr, "%s is not safe to reboot after %.0f s: it still owns %u address%s\n", node,
		(double)timeout_us / (double)BASE_USEC_PER_SEC, owned, owned == 1 ? "" : "es");
	return 1;
}

int drain_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL, *vips = NULL, *written = NULL;
	const cJSON *speaker = find_speaker(api, arguments->words[0], &list, error), *generation;
	const char *node = k8s_object_text(speaker, "metadata/name");
	int r;

	if (!speaker)
		return error->code;
	r = api_get(api, API_GROUP "/virtualips", &vips, error);
	if (r < 0)
		return r;
	if (tell_orphans(vips, node) && !arguments->force)
		return base_error_set(error, -EBUSY,
				      "draining %s would take them off the network; make another node "
				      "eligible (kubectl get speakers), or say --force",
				      node);
	r = set_maintenance(api, node, true, &written, error);
	if (r < 0)
		return r;
	printf("%s is in maintenance: it hands over %u address%s and owns nothing from now on\n", node,
	       owned_by(vips, node), owned_by(vips, node) == 1 ? "" : "es");
	if (!arguments->wait)
		return 0;
	fflush(stdout);
	generation = k8s_object_get(written, "metadata/generation");
	return wait_for_drain(api, node, cJSON_IsNumber(generation) ? generation->valuedouble : 0,
			      arguments->timeout_us, error);
}

int undrain_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL;
	const cJSON *speaker = find_speaker(api, arguments->words[0], &list, error);
	const char *node = k8s_object_text(speaker, "metadata/name");
	int r;

	if (!speaker)
		return error->code;
	if (!k8s_object_bool(speaker, "spec/maintenance", false)) {
		printf("%s is not in maintenance\n", node);
		return 0;
	}
	r = set_maintenance(api, node, false, NULL, error);
	if (r < 0)
		return r;
	printf("%s may own addresses again; those that moved stay where they are\n", node);
	return 0;
}

/* --- version --- */

int version_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *server = NULL, *speakers = NULL;
	const cJSON *speaker;
	struct base_error ignored = { 0 };
	int r = api_get(api, "/version", &server, error);

	(void)arguments;
	if (r < 0)
		return r;
	printf("Kubernetes   %s at %s\n", k8s_object_text(server, "gitVersion"), api_server(api));
	r = api_get(api, API_GROUP "/speakers", &speakers, &ignored);
	if (r < 0) {
		printf("speakers     %s\n", ignored.message);
		return 0;
	}
	cJSON_ArrayForEach(speaker, k8s_object_get(speakers, "items"))
		printf("speaker      %s on %s\n",
		       *k8s_object_text(speaker, "status/version")
			       ? k8s_object_text(speaker, "status/version")
			       : "unknown",
		       k8s_object_text(speaker, "metadata/name"));
	return 0;
}
