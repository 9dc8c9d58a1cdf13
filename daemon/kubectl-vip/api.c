#include "daemon/kubectl-vip/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/io/clock.h"
#include "base/time.h"
#include "daemon/kubectl-vip/arguments.h"
#include "k8s/io/client.h"
#include "k8s/object.h"

#define REQUEST_US (30 * BASE_USEC_PER_SEC)
#define LAST_US    BASE_USEC_PER_SEC /* the last look before the deadline may take longer than that is away */

struct api {
	sd_event *event;
	struct k8s_client *client;
	char *namespace, *server, *source; /* source: which file, for people */
	uint64_t deadline_us;
	/* of the request under way */
	bool done;
	struct k8s_response response; /* without body */
	cJSON *body;
};

/* --- opening --- */

/*
 * KUBECONFIG may name several files; the first that has the context wins. Inside a pod without
 * any of them the service account is taken.
 */
static int load(struct k8s_config *config, const char *kubeconfig, const char *context,
		char *source, size_t size, struct base_error *error)
{
	const char *listed = getenv("KUBECONFIG"), *home = getenv("HOME");
	char files[4096];
	int r = -ENOENT;

	if (kubeconfig)
		snprintf(files, sizeof files, "%s", kubeconfig);
	else if (listed && *listed)
		snprintf(files, sizeof files, "%s", listed);
	else
		snprintf(files, sizeof files, "%s/.kube/config", home ? home : "");
	if (!kubeconfig && !(listed && *listed) && access(files, F_OK) < 0) {
		if (getenv("KUBERNETES_SERVICE_HOST")) {
			snprintf(source, size, "the service account of this pod");
			return k8s_config_load(config, NULL, NULL, error);
		}
		return base_error_set(error, -ENOENT,
				      "no kubeconfig: %s does not exist; say --kubeconfig FILE or set "
				      "KUBECONFIG",
				      files);
	}
	for (char *save, *file = kubeconfig ? files : strtok_r(files, ":", &save); file;
	     file = kubeconfig ? NULL : strtok_r(NULL, ":", &save)) {
		struct base_error failure = { 0 };

		if (!kubeconfig && access(file, F_OK) < 0 && strchr(listed ? listed : "", ':')) {
			base_error_set(r == -ENOENT ? error : NULL, -ENOENT,
				       "no file of KUBECONFIG exists: %s", listed);
			continue;
		}
		r = k8s_config_load(config, file, context, &failure);
		if (r >= 0) {
			snprintf(source, size, "%s", file);
			return 0;
		}
		*error = failure;
	}
	return r;
}

int api_open(struct api **result, const char *kubeconfig, const char *context,
	     struct base_error *error)
{
	struct api *api = calloc(1, sizeof *api);
	struct k8s_config config = { 0 };
	char source[4096];
	int r;

	if (!api)
		return -ENOMEM;
	r = load(&config, kubeconfig, context, source, sizeof source, error);
	if (r < 0) {
		free(api);
		return r;
	}
	api->namespace = strdup(config.namespace ? config.namespace : "default");
	api->server = strdup(config.server);
	api->source = strdup(source);
	api->deadline_us = BASE_USEC_NEVER;
	r = sd_event_new(&api->event);
	if (r >= 0)
		r = k8s_client_new(&api->client, api->event, &config, "kubectl-vip/" VIPD_VERSION, NULL,
				   NULL);
	k8s_config_clear(&config);
	if (r < 0) {
		api_close(api);
		return base_error_set(error, r, "event loop: %s", strerror(-r));
	}
	*result = api;
	return 0;
}

void api_close(struct api *api)
{
	if (!api)
		return;
	k8s_client_free(api->client);
	sd_event_unref(api->event);
	free(api->namespace);
	free(api->server);
	free(api->source);
	free(api);
}

const char *api_namespace(const struct api *api)
{
	return api->namespace;
}

const char *api_server(const struct api *api)
{
	return api->server;
}

void api_set_deadline(struct api *api, uint64_t timeout_us)
{
	api->deadline_us = base_usec_add(base_clock_us(CLOCK_BOOTTIME), timeout_us);
}

bool api_expired(struct api *api)
{
	return base_clock_us(CLOCK_BOOTTIME) >= api->deadline_us;
}

void api_sleep(struct api *api, uint64_t delay_us)
{
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME);
	uint64_t end_us = base_usec_earlier(base_usec_add(now_us, delay_us), api->deadline_us);

	while (now_us < end_us) {
		if (sd_event_run(api->event, end_us - now_us) < 0)
			return;
		now_us = base_clock_us(CLOCK_BOOTTIME);
	}
}

/* --- what went wrong, in words --- */

/* "virtualips.vipd.dev" and, if the path ends with one, the name of the object. */
static void describe(const char *path, char *resource, size_t size, char *name, size_t name_size)
{
	char text[1024], *parts[12] = { 0 };
	unsigned count = 0, at;
	const char *group = "";

	*resource = *name = '\0';
	snprintf(text, sizeof text, "%.*s", (int)strcspn(path, "?"), path);
	for (char *save, *part = strtok_r(text, "/", &save); part && count < 12;
	     part = strtok_r(NULL, "/", &save))
		parts[count++] = part;
	if (count < 3)
		return;
	at = strcmp(parts[0], "api") == 0 ? 2 : 3;
	if (at == 3)
		group = parts[1];
	if (at + 2 < count && strcmp(parts[at], "namespaces") == 0)
		at += 2;
	if (at >= count)
		return;
	snprintf(resource, size, "%s%s%s", parts[at], *group ? "." : "", group);
	if (at + 1 < count)
		snprintf(name, name_size, "%s", parts[at + 1]);
}

/* User "somebody" of the server's own sentence. */
static void user_of(const char *message, char *user, size_t size)
{
	const char *start = strstr(message, "User \""), *end;

	*user = '\0';
	if (!start)
		return;
	start += 6;
	end = strchr(start, '"');
	if (end)
		snprintf(user, size, " %.*s", (int)(end - start), start);
}

static int forbidden(const struct api *api, const char *method, const char *resource,
		     struct base_error *error)
{
	const char *verb = strcmp(method, "PATCH") == 0	 ? "patch"
			   : strcmp(method, "POST") == 0 ? "create"
			   : strstr(api->response.message, "cannot get") ? "get"
									 : "list";
	bool ours = strstr(resource, ".vipd.dev"), reads = *verb == 'g' || *verb == 'l';
	char user[128];

	user_of(api->response.message, user, sizeof user);
	return base_error_set(error, -EACCES,
			      "the permission to %s %s is missing for%s; %s%s", verb, resource,
			      *user ? user : " you",
			      ours ? "ask for the ClusterRole " : "ask your administrator for it",
			      !ours	? ""
			      : reads ? "vipd-view (deploy/rbac.yaml)"
					: "vipd-operate (deploy/rbac.yaml)");
}

static int not_found(const char *resource, const char *name, bool object, struct base_error *error)
{
	if (object)
		return base_error_set(error, -ENOENT, "there is no %s %s", resource, name);
	if (strstr(resource, ".vipd.dev"))
		return base_error_set(error, -ENOTDIR,
				      "this cluster does not know %s: vipd is not installed; run kubectl "
				      "apply -f deploy/crds.yaml (all of it: kubectl apply -k deploy)",
				      resource);
	return base_error_set(error, -ENOTDIR, "this cluster does not know %s", resource);
}

static int explain(const struct api *api, const char *method, const char *path,
		   struct base_error *error)
{
	const struct k8s_response *response = &api->response;
	char resource[128], name[256];
	const char *kind;

	describe(path, resource, sizeof resource, name, sizeof name);
	switch (response->result) {
	case K8S_RESULT_OK:
		return 0;
	case K8S_RESULT_NOT_FOUND:
		/* Of an object that is not there the server says which; of a kind, nothing. */
		kind = k8s_object_text(api->body, "details/name");
		return not_found(resource, name, *name && *kind, error);
	case K8S_RESULT_FORBIDDEN:
		return forbidden(api, method, resource, error);
	case K8S_RESULT_UNAUTHORIZED:
		return base_error_set(error, -EPERM,
				      "%s does not accept the credentials of %s: log in again, or take "
				      "another --context",
				      api->server, api->source);
	case K8S_RESULT_UNREACHABLE:
		return base_error_set(error, -EHOSTUNREACH,
				      "%s (%s) is not to be reached: %s", api->server, api->source,
				      response->message);
	case K8S_RESULT_UNKNOWN:
		return base_error_set(error, -ETIMEDOUT, "%s does not answer: %s", api->server,
				      response->message);
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
		return base_error_set(error, -EIO, "%s: %s",
				      *name ? name : resource,
				      *response->message ? response->message
							 : k8s_result_name(response->result));
	}
	return -EIO;
}

/* --- requests --- */

static void on_done(void *userdata, const struct k8s_response *response)
{
	struct api *api = userdata;

	api->done = true;
	api->response = *response;
	api->response.body = NULL;
	api->body = cJSON_Duplicate(response->body, true);
}

static int call(struct api *api, const char *method, const char *path, const char *content_type,
		const cJSON *body, cJSON **tree, struct base_error *error)
{
	uint64_t now_us = base_clock_us(CLOCK_BOOTTIME);
	uint64_t left_us = base_usec_since(api->deadline_us, now_us);
	const struct k8s_call request = {
		.method = method,
		.path = path,
		.content_type = content_type,
		.body = body,
		.timeout_ms = (uint32_t)(base_usec_earlier(left_us > LAST_US ? left_us : LAST_US,
							   REQUEST_US) /
					 BASE_USEC_PER_MSEC),
	};
	int r = 0;

	api->done = false;
	if (!k8s_client_call(api->client, &request, on_done, api))
		return base_error_set(error, -ENOMEM, "out of memory");
	while (!api->done && r >= 0)
		r = sd_event_run(api->event, UINT64_MAX);
	if (r < 0)
		return base_error_set(error, r, "event loop: %s", strerror(-r));
	r = explain(api, method, path, error);
	if (r >= 0 && tree && !api->body)
		r = base_error_set(error, -EBADMSG, "%s answers something that is no JSON",
				   api->server);
	if (r >= 0 && tree)
		*tree = TAKE(api->body);
	cJSON_Delete(api->body);
	api->body = NULL;
	return r;
}

int api_get(struct api *api, const char *path, cJSON **tree, struct base_error *error)
{
	return call(api, "GET", path, NULL, NULL, tree, error);
}

int api_merge(struct api *api, const char *path, const cJSON *patch, cJSON **tree,
	      struct base_error *error)
{
	return call(api, "PATCH", path, "application/merge-patch+json", patch, tree, error);
}

int api_create(struct api *api, const char *path, const cJSON *object, struct base_error *error)
{
	return call(api, "POST", path, NULL, object, NULL, error);
}

struct follower {
	struct api *api;
	const char *path;
	const struct k8s_informer_handlers *handlers;
	void *userdata;
};

static void on_object(void *userdata, const cJSON *object)
{
	struct follower *follower = userdata;

	follower->handlers->on_object(follower->userdata, object);
}

static void on_gone(void *userdata, const char *namespace, const char *name)
{
	struct follower *follower = userdata;

	follower->handlers->on_gone(follower->userdata, namespace, name);
}

static void on_synced(void *userdata, bool first)
{
	(void)userdata;
	(void)first;
}

static void on_trouble(void *userdata, const struct k8s_response *response)
{
	struct follower *follower = userdata;
	struct base_error error = { 0 };

	follower->api->response = *response;
	follower->api->response.body = NULL;
	if (explain(follower->api, "GET", follower->path, &error) < 0)
		fprintf(stderr, "%s; trying again\n", error.message);
}

int api_follow(struct api *api, const char *path, const struct k8s_informer_handlers *handlers,
	       void *userdata, struct base_error *error)
{
	const struct k8s_informer_handlers own = { .on_object = on_object,
						   .on_gone = on_gone,
						   .on_synced = on_synced,
						   .on_trouble = on_trouble };
	struct follower follower = { api, path, handlers, userdata };
	struct k8s_informer *informer = NULL;
	int r = k8s_informer_new(&informer, api->client, api->event, path, NULL, &own, &follower);

	while (r >= 0)
		r = sd_event_run(api->event, UINT64_MAX);
	k8s_informer_free(informer);
	return base_error_set(error, r, "event loop: %s", strerror(-r));
}

const cJSON *api_pick(const cJSON *list, const char *kind, const char *name,
		      struct base_error *error)
{
	struct nearest nearest = { .wanted = name };
	const cJSON *item;

	cJSON_ArrayForEach(item, k8s_object_get(list, "items")) {
		const char *own = k8s_object_text(item, "metadata/name");

		if (strcmp(own, name) == 0)
			return item;
		nearest_offer(&nearest, own);
	}
	base_error_set(error, -ENOENT, "there is no %s %s%s%s%s", kind, name,
		       nearest.name[0] ? "; did you mean " : "", nearest.name,
		       nearest.name[0] ? "?" : "");
	return NULL;
}
