#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/array.h"
#include "base/cleanup.h"
#include "daemon/kubectl-vip/chain.h"
#include "daemon/kubectl-vip/commands.h"
#include "daemon/kubectl-vip/explain.h"
#include "daemon/kubectl-vip/output.h"
#include "k8s/object.h"

DEFINE_CLEANUP(cJSON, cJSON_Delete)

#define SYSTEM_LEASES "/apis/coordination.k8s.io/v1/namespaces/vipd-system/leases/"
#define OUR_CLASS     "vipd.dev/vip"

/* A list or object that may be missing; without permission or CRD the chain says so. */
static cJSON *look(struct facts *facts, const char *what, const char *path)
{
	struct base_error error = { 0 };
	cJSON *tree = NULL;

	if (api_get(facts->api, path, &tree, &error) < 0)
		chain_add(facts->chain, VERDICT_UNKNOWN, what, "", "%s", error.message);
	return tree;
}

static const cJSON *named(const cJSON *list, const char *name)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(list, "items"))
		if (strcmp(k8s_object_text(item, "metadata/name"), name) == 0)
			return item;
	return NULL;
}

/* It was not to be had, and that is no fault of the Service: what can be known is told without it. */
static bool is_partly_down(int r)
{
	return r == -EIO || r == -ETIMEDOUT;
}

/* The API server is away: nothing is known here, but the nodes know, and go on. */
static void tell_unreachable(struct facts *facts, const char *message)
{
	static const char *const rest[] = { "controller", "address", "owner", "speaker",
					    "endpoints" };

	snprintf(facts->chain->about, sizeof facts->chain->about, "Service %s/%s", facts->namespace,
		 facts->name);
	chain_add(facts->chain, VERDICT_BROKEN, "API server", "", "%s", message);
	chain_remedy(facts->chain, "addresses that are given are served and fail over without it; who "
				   "owns what and why: vipd status, on the nodes");
	for (size_t i = 0; i < BASE_COUNT_OF(rest); i++)
		chain_add(facts->chain, VERDICT_UNKNOWN, rest[i], "",
			  "nobody could be asked");
}

/* --- the Service and who allocates --- */

static int find_service(struct facts *facts, struct base_error *error)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *list = NULL;
	struct base_error ignored = { 0 };
	const cJSON *item;
	char path[512];
	int r;

	snprintf(path, sizeof path, "/api/v1/namespaces/%s/services/%s", facts->namespace, facts->name);
	r = api_get(facts->api, path, &facts->service, error);
	if (r != -ENOENT)
		return r;
	snprintf(path, sizeof path, "/api/v1/namespaces/%s/services", facts->namespace);
	if (api_get(facts->api, path, &list, &ignored) >= 0) {
		char kind[300];

		snprintf(kind, sizeof kind, "Service in namespace %s called", facts->namespace);
		api_pick(list, kind, facts->name, error);
	}
	cJSON_Delete(list);
	list = NULL;
	if (api_get(facts->api, "/api/v1/services", &list, &ignored) >= 0)
		cJSON_ArrayForEach(item, k8s_object_get(list, "items"))
			if (strcmp(k8s_object_text(item, "metadata/name"), facts->name) == 0)
				return base_error_set(error, -ENOENT,
						      "there is no Service %s in namespace %s, but in "
						      "namespace %s: say -n %s",
						      facts->name, facts->namespace,
						      k8s_object_text(item, "metadata/namespace"),
						      k8s_object_text(item, "metadata/namespace"));
	return error->code;
}

/* False: it is nobody's concern here, look no further. */
static bool check_class(struct facts *facts)
{
	const char *type = k8s_object_text(facts->service, "spec/type");
	const char *class = k8s_object_text(facts->service, "spec/loadBalancerClass");
	const cJSON *external = k8s_object_get(facts->service, "spec/externalIPs");

	if (*k8s_object_text(facts->service, "metadata/deletionTimestamp"))
		chain_add(facts->chain, VERDICT_NOTE, "deletion", "",
			  "the Service is being deleted; its addresses go first");
	if (strcmp(type, "LoadBalancer") != 0 && !(external && external->child)) {
		chain_add(facts->chain, VERDICT_BROKEN, "type", "",
			  "the Service is of type %s and gets no address", *type ? type : "ClusterIP");
		chain_remedy(facts->chain, "kubectl -n %s patch service %s -p "
					   "'{\"spec\":{\"type\":\"LoadBalancer\"}}'",
			     facts->namespace, facts->name);
		return false;
	}
	if (*class && strcmp(class, OUR_CLASS) != 0) {
		chain_add(facts->chain, VERDICT_BROKEN, "class", "",
			  "loadBalancerClass %s is another load balancer's", class);
		chain_remedy(facts->chain, "make the Service anew without loadBalancerClass, or with "
					   "vipd.dev/vip: it cannot be changed");
		return false;
	}
	chain_add(facts->chain, VERDICT_OK, "class", "", "%s, %s", *type ? type : "ClusterIP",
		  *class ? class : "no class: vipd's by default");
	return true;
}

static void check_controller(struct facts *facts)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *lease = NULL;
	struct base_error error = { 0 };
	int r = api_get(facts->api, SYSTEM_LEASES "vipd-controller", &lease, &error);
	const char *holder = k8s_object_text(lease, "spec/holderIdentity");
	double age = output_age(k8s_object_text(lease, "spec/renewTime"));
	double duration =
		(double)k8s_object_number(lease, "spec/leaseDurationSeconds", 1, 3600, 15);

	if (r < 0 && r != -ENOENT) {
		chain_add(facts->chain, VERDICT_UNKNOWN, "controller", "", "%s", error.message);
		return;
	}
	if (r >= 0 && *holder && age >= 0 && age < 2 * duration) {
		chain_add(facts->chain, VERDICT_OK, "controller", "", "%s, heard %.0f s ago", holder,
			  age);
		return;
	}
	if (r < 0)
		chain_add(facts->chain, VERDICT_BROKEN, "controller", "",
			  "none has ever run here: nobody allocates addresses");
	else if (!*holder)
		chain_add(facts->chain, VERDICT_BROKEN, "controller", "",
			  "the last one ended and no other took over: nobody allocates addresses");
	else
		chain_add(facts->chain, VERDICT_BROKEN, "controller", "",
			  "%s has not been heard for %.0f s: nobody allocates addresses", holder, age);
	chain_remedy(facts->chain, "kubectl -n vipd-system get deployment,pods; addresses that are given "
				   "stay up meanwhile");
}

/* --- one address --- */

static void check_pool(struct facts *facts, const cJSON *vip, const char *address)
{
	const char *name = k8s_object_text(vip, "spec/pool");
	const cJSON *pool = named(facts->pools, name), *accepted = condition_of(pool, "Accepted");

	if (!facts->pools || !*name)
		return;
	if (!pool) {
		chain_add(facts->chain, VERDICT_NOTE, "pool", address,
			  "%s is gone; the Service keeps its address until it is deleted", name);
		return;
	}
	if (strcmp(k8s_object_text(accepted, "status"), "False") == 0) {
		chain_add(facts->chain, VERDICT_BROKEN, "pool", address, "%s is not accepted: %s", name,
			  k8s_object_text(accepted, "message"));
		chain_remedy_of(facts->chain, k8s_object_text(accepted, "reason"));
		return;
	}
	chain_add(facts->chain, VERDICT_OK, "pool", address, "%s%s", name,
		  k8s_object_bool(pool, "spec/disabled", false) ? " (disabled: no new addresses)" : "");
}

static void check_ingress(struct facts *facts, const char *address)
{
	const cJSON *item;
	struct base_address wanted, found;

	if (!facts->service) {
		chain_add(facts->chain, VERDICT_OK, "address", address, "given");
		return;
	}
	cJSON_ArrayForEach(item, k8s_object_get(facts->service, "status/loadBalancer/ingress"))
		if (base_address_parse(address, &wanted) &&
		    base_address_parse(k8s_object_text(item, "ip"), &found) &&
		    base_address_equal(&wanted, &found)) {
			chain_add(facts->chain, VERDICT_OK, "address", address,
				  "given, and in the status of the Service");
			return;
		}
	chain_add(facts->chain, VERDICT_BROKEN, "address", address,
		  "given, but not in the status of the Service");
	chain_remedy(facts->chain, "the controller writes it: kubectl -n vipd-system logs "
				   "deployment/vipd-controller");
}

static void check_candidates(struct facts *facts, const cJSON *vip, const char *address)
{
	char able[256] = "", unable[256] = "";
	unsigned able_count = 0, count = 0;
	const char *reason = "NoEligibleNode";
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(vip, "spec/candidates")) {
		const char *node = k8s_object_text(item, "node");
		const cJSON *why = vip_not_eligible(vip, node);
		char *text = why ? unable : able;
		size_t at = strlen(text);

		count++;
		able_count += !why;
		if (why)
			reason = k8s_object_text(why, "reason");
		snprintf(text + at, sizeof able - at, "%s%s%s%s%s", at ? ", " : "", node,
			 why ? " (" : "", why ? reason : "", why ? ")" : "");
	}
	if (able_count > 1) {
		chain_add(facts->chain, VERDICT_OK, "candidates", address, "%s%s%s", able,
			  *unable ? "; not now: " : "", unable);
		return;
	}
	if (able_count == 1) {
		chain_add(facts->chain, VERDICT_NOTE, "candidates", address,
			  "%s alone%s%s: nobody could take over", able, *unable ? "; not now: " : "",
			  unable);
		if (*unable)
			chain_remedy_of(facts->chain, reason);
		return;
	}
	if (count)
		chain_add(facts->chain, VERDICT_BROKEN, "candidates", address, "none may own it: %s",
			  unable);
	else
		chain_add(facts->chain, VERDICT_BROKEN, "candidates", address,
			  "no node is on the segment of the address and allowed by the pool");
	chain_remedy_of(facts->chain, reason);
}

/* A condition that says no (or, with `bad` "True", yes) breaks the chain. */
static bool check_condition(struct facts *facts, const cJSON *object, const char *type,
			    const char *bad, const char *link, const char *address)
{
	const cJSON *condition = condition_of(object, type);
	const char *message = k8s_object_text(condition, "message");

	if (strcmp(k8s_object_text(condition, "status"), bad) != 0)
		return true;
	chain_add(facts->chain, VERDICT_BROKEN, link, address, "%s%s%s",
		  k8s_object_text(condition, "reason"), *message ? ": " : "", message);
	chain_remedy_of(facts->chain, k8s_object_text(condition, "reason"));
	return false;
}

static void check_lease(struct facts *facts, const cJSON *vip, const char *address)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *lease = NULL;
	struct base_error error = { 0 };
	const char *router = k8s_object_text(vip, "spec/virtualRouter");
	const char *owner = k8s_object_text(vip, "status/owner"), *holder;
	char path[512];

	if (!*router)
		return;
	snprintf(path, sizeof path, SYSTEM_LEASES "%s", router);
	if (api_get(facts->api, path, &lease, &error) < 0) {
		chain_add(facts->chain, VERDICT_UNKNOWN, "lease", address, "%s", error.message);
		return;
	}
	holder = k8s_object_text(lease, "spec/holderIdentity");
	if (strcmp(holder, owner) == 0)
		return;
	chain_add(facts->chain, VERDICT_UNKNOWN, "lease", address,
		  "the Lease %s names %s in term %lld: the status is a moment old, or the API server "
		  "cannot be reached by the owner",
		  router, *holder ? holder : "nobody",
		  (long long)k8s_object_number(lease, "spec/leaseTransitions", 0, INT32_MAX, 0));
}

static void check_owner(struct facts *facts, const cJSON *vip, const char *address)
{
	const char *owner = k8s_object_text(vip, "status/owner");
	const char *state = k8s_object_text(vip, "status/state");
	char since[16];

	if (!check_condition(facts, vip, "Conflict", "True", "conflict", address))
		return;
	if (!*owner) {
		if (!check_condition(facts, vip, "Owned", "False", "owner", address))
			return;
		chain_add(facts->chain, VERDICT_BROKEN, "owner", address,
			  "nobody says that it owns the address (%s)", *state ? state : "Pending");
		chain_remedy(facts->chain, "kubectl get speakers; kubectl -n vipd-system get pods");
		return;
	}
	if (!check_condition(facts, vip, "Owned", "False", "owner", address))
		return;
	chain_add(facts->chain, VERDICT_OK, "owner", address, "%s since %s, term %lld%s%s", owner,
		  output_since(k8s_object_text(vip, "status/since"), since),
		  (long long)k8s_object_number(vip, "status/term", 0, UINT32_MAX, 0),
		  strcmp(state, "Active") == 0 ? "" : ", ", strcmp(state, "Active") == 0 ? "" : state);
	check_lease(facts, vip, address);
	check_condition(facts, vip, "Announced", "False", "announcement", address);
}

static void check_liveness(struct facts *facts, const char *node, const char *address)
{
	CLEANUP(cJSON_Delete_cleanup) cJSON *lease = NULL;
	struct base_error error = { 0 };
	char path[512];
	double age, duration;

	snprintf(path, sizeof path, SYSTEM_LEASES "speaker-%s", node);
	if (api_get(facts->api, path, &lease, &error) < 0) {
		chain_add(facts->chain, VERDICT_UNKNOWN, "speaker", address, "%s", error.message);
		return;
	}
	age = output_age(k8s_object_text(lease, "spec/renewTime"));
	duration = (double)k8s_object_number(lease, "spec/leaseDurationSeconds", 1, 3600, 15);
	if (age < 2 * duration)
		return;
	chain_add(facts->chain, VERDICT_UNKNOWN, "speaker", address,
		  "%s has told the API server nothing for %.0f s: what is said here of it may be old",
		  node, age);
	chain_remedy(facts->chain, "on the node: vipd status; journalctl -u vipd");
}

static void check_speaker(struct facts *facts, const cJSON *vip, const char *address)
{
	const char *owner = k8s_object_text(vip, "status/owner");
	const cJSON *speaker = named(facts->speakers, owner);
	bool well = true;

	if (!*owner || !facts->speakers)
		return;
	if (!speaker) {
		chain_add(facts->chain, VERDICT_BROKEN, "speaker", address,
			  "%s has no Speaker object: vipd does not run there", owner);
		chain_remedy(facts->chain, "kubectl -n vipd-system get pods -o wide");
		return;
	}
	check_liveness(facts, owner, address);
	if (k8s_object_bool(speaker, "spec/maintenance", false))
		chain_add(facts->chain, VERDICT_NOTE, "speaker", address,
			  "%s is in maintenance and hands over", owner);
	if (strcmp(condition_status(speaker, "Ready"), "Unknown") == 0) {
		chain_add(facts->chain, VERDICT_UNKNOWN, "speaker", address, "%s: %s", owner,
			  k8s_object_text(condition_of(speaker, "Ready"), "message"));
		return;
	}
	well &= check_condition(facts, speaker, "Ready", "False", "speaker", address);
	well &= check_condition(facts, speaker, "Fenced", "False", "fence", address);
	well &= check_condition(facts, speaker, "DataplaneProgrammed", "False", "dataplane", address);
	if (!well)
		return;
	chain_add(facts->chain, VERDICT_OK, "speaker", address, "%s, fence %s, dataplane %s%s", owner,
		  k8s_object_text(speaker, "status/fence"),
		  k8s_object_text(speaker, "status/dataplane"),
		  strcmp(condition_status(speaker, "APIReachable"), "False") == 0
			  ? "; the API server is out of its reach"
			  : "");
}

static void tell_transition(struct facts *facts, const cJSON *vip, const char *address)
{
	const cJSON *last = k8s_object_get(vip, "status/lastTransition");
	const cJSON *outage = k8s_object_get(last, "outageMilliseconds");
	const char *from = k8s_object_text(last, "from"), *to = k8s_object_text(last, "to");
	char since[16], silence[48] = "";

	if (!last)
		return;
	if (cJSON_IsNumber(outage))
		snprintf(silence, sizeof silence, ", nobody answered for %.4g ms", outage->valuedouble);
	chain_add(facts->chain, VERDICT_NOTE, "last move", address, "%s ago, %s -> %s, %s%s: %s",
		  output_since(k8s_object_text(last, "time"), since), *from ? from : "nobody",
		  *to ? to : "nobody", k8s_object_text(last, "reason"), silence,
		  k8s_object_text(last, "message"));
}

static void check_vip(struct facts *facts, const cJSON *vip)
{
	const char *address = k8s_object_text(vip, "spec/address");

	check_ingress(facts, address);
	check_pool(facts, vip, address);
	check_candidates(facts, vip, address);
	check_owner(facts, vip, address);
	check_speaker(facts, vip, address);
	explain_endpoints(facts, vip, address);
	explain_remote(facts, vip, address);
	tell_transition(facts, vip, address);
}

static void check_unallocated(struct facts *facts)
{
	const cJSON *condition = condition_of(facts->service, "vipd.dev/AddressAllocated");
	const char *reason = k8s_object_text(condition, "reason");
	const char *message = k8s_object_text(condition, "message");

	if (strcmp(k8s_object_text(condition, "status"), "False") == 0) {
		chain_add(facts->chain, VERDICT_BROKEN, "address", "", "none: %s%s%s", reason,
			  *message ? ": " : "", message);
		chain_remedy_of(facts->chain, reason);
		return;
	}
	chain_add(facts->chain, VERDICT_BROKEN, "address", "",
		  "none, and the controller has said nothing about the Service");
	if (facts->pools && !k8s_object_get(facts->pools, "items")->child)
		chain_remedy(facts->chain, "there is no AddressPool: write one");
	else
		chain_remedy(facts->chain, "kubectl -n vipd-system logs deployment/vipd-controller");
}

/* --- the whole --- */

static void about(struct facts *facts)
{
	size_t at;
	const cJSON *port;

	snprintf(facts->chain->about, sizeof facts->chain->about, "Service %s/%s", facts->namespace,
		 facts->name);
	cJSON_ArrayForEach(port, k8s_object_get(facts->service, "spec/ports")) {
		at = strlen(facts->chain->about);
		snprintf(facts->chain->about + at, sizeof facts->chain->about - at, "%s%d/%s",
			 port->prev->next ? ", " : "  ",
			 (int)k8s_object_number(port, "port", 0, 65535, 0),
			 *k8s_object_text(port, "protocol") ? k8s_object_text(port, "protocol") : "TCP");
	}
}

static void check(struct facts *facts)
{
	unsigned count = 0;
	const cJSON *vip;
	char path[512];

	about(facts);
	if (facts->service && !check_class(facts))
		return;
	check_controller(facts);
	facts->vips = look(facts, "addresses", API_GROUP "/virtualips");
	facts->pools = look(facts, "pools", API_GROUP "/addresspools");
	facts->speakers = look(facts, "speakers", API_GROUP "/speakers");
	snprintf(path, sizeof path,
		 "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?labelSelector="
		 "kubernetes.io%%2Fservice-name%%3D%s",
		 facts->namespace, facts->name);
	facts->slices = look(facts, "endpoints", path);
	cJSON_ArrayForEach(vip, k8s_object_get(facts->vips, "items")) {
		if (!vip_names(vip, facts->namespace, facts->name))
			continue;
		check_vip(facts, vip);
		count++;
	}
	if (count == 0 && facts->vips && facts->service)
		check_unallocated(facts);
	else if (count == 0 && facts->vips)
		chain_add(facts->chain, VERDICT_UNKNOWN, "address", "",
			  "no VirtualIP names such a Service; whether it exists could not be seen");
	check_condition(facts, facts->service, "vipd.dev/Serving", "False", "serving", "");
}

int explain_command(struct api *api, const struct arguments *arguments, struct base_error *error)
{
	const char *word = arguments->words[0], *slash;
	char namespace[256];
	struct chain *chain = calloc(1, sizeof *chain);
	struct facts facts = { .api = api, .chain = chain };
	int r;

	if (!chain)
		return -ENOMEM;
	for (size_t i = 0; i < 3; i++) { /* kubectl's ways to say the kind */
		static const char *const kinds[] = { "service/", "services/", "svc/" };

		if (strncmp(word, kinds[i], strlen(kinds[i])) == 0)
			word += strlen(kinds[i]);
	}
	slash = strchr(word, '/');
	snprintf(namespace, sizeof namespace, "%s",
		 arguments->namespace ? arguments->namespace : api_namespace(api));
	if (slash)
		snprintf(namespace, sizeof namespace, "%.*s", (int)(slash - word), word);
	facts.namespace = namespace;
	facts.name = slash ? slash + 1 : word;
	r = find_service(&facts, error);
	if (r == -EHOSTUNREACH) {
		tell_unreachable(&facts, error->message);
		r = 0;
	} else if (r >= 0 || is_partly_down(r)) {
		if (r < 0)
			chain_add(chain, VERDICT_UNKNOWN, "service", "", "%s", error->message);
		r = 0;
		check(&facts);
	}
	if (r == 0) {
		chain_print(chain, arguments->output);
		r = chain_broken(chain) || !facts.service;
	}
	cJSON_Delete(facts.service);
	cJSON_Delete(facts.vips);
	cJSON_Delete(facts.pools);
	cJSON_Delete(facts.speakers);
	cJSON_Delete(facts.slices);
	free(chain);
	return r;
}
