#include "k8s/io/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/cleanup.h"
#include "k8s/yaml.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
#define FILE_SIZE_MAX	(1024 * 1024)

DEFINE_CLEANUP(FILE, fclose)

static int read_text(const char *path, char **text, struct base_error *error)
{
	CLEANUP(fclose_cleanup) FILE *file = fopen(path, "re");
	struct stat status;
	size_t size;

	if (!file || fstat(fileno(file), &status) < 0)
		return base_error_set(error, -errno, "%s: %s", path, strerror(errno));
	if (status.st_size > FILE_SIZE_MAX)
		return base_error_set(error, -EFBIG, "%s is larger than a configuration", path);
	*text = calloc(1, (size_t)status.st_size + 1);
	if (!*text)
		return -ENOMEM;
	size = fread(*text, 1, (size_t)status.st_size, file);
	(*text)[size] = '\0';
	return 0;
}

/* RFC 4648 with padding; NULL if it is none. The result has a NUL behind it. */
static char *decode_base64(const char *text)
{
	size_t length = strlen(text), at = 0;
	char *out = malloc(length + 1);
	unsigned bits = 0, value = 0;

	for (; out && *text && *text != '='; text++) {
		static const char alphabet[] =
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
		const char *digit = strchr(alphabet, *text);

		if (*text == '\n' || *text == '\r' || *text == ' ')
			continue;
		if (!digit) {
			free(out);
			return NULL;
		}
		value = value << 6 | (unsigned)(digit - alphabet);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[at++] = (char)(value >> bits & 0xff);
		}
	}
	if (out)
		out[at] = '\0';
	return out;
}

struct loading {
	struct k8s_config *config;
	const char *path;
	struct base_error *error;
	cJSON *tree;
};

static int on_document(void *userdata, cJSON *document)
{
	struct loading *loading = userdata;

	if (loading->tree) {
		cJSON_Delete(document);
		return base_error_set(loading->error, -EINVAL, "%s: more than one document",
				      loading->path);
	}
	loading->tree = document;
	return 0;
}

static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) && *item->valuestring ? item->valuestring : NULL;
}

/* The entry called `name` of a list like `clusters: [{name, cluster: {...}}]`. */
static const cJSON *entry(const struct loading *loading, const char *list, const char *part,
			  const char *name)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(loading->tree, list)) {
		const char *own = text_of(item, "name");

		if (own && strcmp(own, name) == 0) {
			const cJSON *found = cJSON_GetObjectItemCaseSensitive(item, part);

			if (!cJSON_IsObject(found))
				base_error_set(loading->error, -EINVAL,
					       "%s:%d: entry \"%s\" of %s has no %s",
					       loading->path, item->valueint, name, list, part);
			return cJSON_IsObject(found) ? found : NULL;
		}
	}
	base_error_set(loading->error, -ENOENT, "%s: no entry \"%s\" in %s", loading->path, name,
		       list);
	return NULL;
}

/* A path as kubeconfig means it: relative to the file it stands in. */
static char *resolve(const struct loading *loading, const char *path)
{
	const char *slash = strrchr(loading->path, '/');
	char *out = NULL;

	if (!path)
		return NULL;
	if (*path == '/' || !slash)
		return strdup(path);
	if (asprintf(&out, "%.*s/%s", (int)(slash - loading->path), loading->path, path) < 0)
		return NULL;
	return out;
}

static int take_data(const struct loading *loading, const cJSON *object, const char *name,
		     char **data)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	if (!cJSON_IsString(item))
		return 0;
	*data = decode_base64(item->valuestring);
	if (!*data)
		return base_error_set(loading->error, -EINVAL, "%s:%d: %s is no base64",
				      loading->path, item->valueint, name);
	return 0;
}

static int take_user(const struct loading *loading, const cJSON *user)
{
	struct k8s_config *config = loading->config;
	const cJSON *exec = cJSON_GetObjectItemCaseSensitive(user, "exec");
	const char *token = text_of(user, "token");
	int r;

	if (exec || cJSON_GetObjectItemCaseSensitive(user, "auth-provider"))
		return base_error_set(loading->error, -EOPNOTSUPP,
				      "%s: users of kind exec and auth-provider are not supported: use "
				      "a token, a tokenFile or a client certificate",
				      loading->path);
	config->token_file = resolve(loading, text_of(user, "tokenFile"));
	config->token = token && !config->token_file ? strdup(token) : NULL;
	config->cert_file = resolve(loading, text_of(user, "client-certificate"));
	config->key_file = resolve(loading, text_of(user, "client-key"));
	r = take_data(loading, user, "client-certificate-data", &config->cert_data);
	return r < 0 ? r : take_data(loading, user, "client-key-data", &config->key_data);
}

static int take_cluster(const struct loading *loading, const cJSON *cluster)
{
	struct k8s_config *config = loading->config;
	const char *server = text_of(cluster, "server"), *name = text_of(cluster, "tls-server-name");
	const char *proxy = text_of(cluster, "proxy-url");
	size_t length;

	if (!server || (strncmp(server, "https://", 8) != 0 && strncmp(server, "http://", 7) != 0))
		return base_error_set(loading->error, -EINVAL,
				      "%s:%d: the cluster needs a server like https://HOST:6443",
				      loading->path, cluster->valueint);
	config->server = strdup(server);
	length = strlen(config->server);
	if (length > 0 && config->server[length - 1] == '/')
		config->server[length - 1] = '\0';
	config->insecure = cJSON_IsTrue(
		cJSON_GetObjectItemCaseSensitive(cluster, "insecure-skip-tls-verify"));
	config->ca_file = resolve(loading, text_of(cluster, "certificate-authority"));
	config->tls_server_name = name ? strdup(name) : NULL;
	config->proxy = proxy ? strdup(proxy) : NULL;
	return take_data(loading, cluster, "certificate-authority-data", &config->ca_data);
}

static int take_context(struct loading *loading, const char *name)
{
	const cJSON *context, *cluster, *user = NULL;
	const char *cluster_name, *user_name, *namespace;
	int r;

	if (!name)
		name = text_of(loading->tree, "current-context");
	if (!name)
		return base_error_set(loading->error, -EINVAL,
				      "%s: no current-context: write one, or say --context",
				      loading->path);
	context = entry(loading, "contexts", "context", name);
	if (!context)
		return -ENOENT;
	cluster_name = text_of(context, "cluster");
	user_name = text_of(context, "user");
	namespace = text_of(context, "namespace");
	cluster = entry(loading, "clusters", "cluster", cluster_name ? cluster_name : "");
	if (!cluster)
		return -ENOENT;
	if (user_name) {
		user = entry(loading, "users", "user", user_name);
		if (!user)
			return -ENOENT;
	}
	loading->config->namespace = namespace ? strdup(namespace) : NULL;
	r = take_cluster(loading, cluster);
	return r < 0 || !user ? r : take_user(loading, user);
}

static int load_file(struct k8s_config *config, const char *path, const char *context,
		     struct base_error *error)
{
	CLEANUP(base_free_cleanup) char *text = NULL;
	struct loading loading = { .config = config, .path = path, .error = error };
	int r = read_text(path, &text, error);

	if (r < 0)
		return r;
	r = k8s_yaml_parse(text, strlen(text), path, on_document, &loading, error);
	if (r >= 0 && !loading.tree)
		r = base_error_set(error, -EINVAL, "%s is empty: expected a kubeconfig", path);
	if (r >= 0)
		r = take_context(&loading, context);
	if (r >= 0)
		r = k8s_config_check(config, error);
	cJSON_Delete(loading.tree);
	return r;
}

static int load_pod(struct k8s_config *config, const char *host, const char *port,
		    struct base_error *error)
{
	const char *left = strchr(host, ':') ? "[" : "", *right = *left ? "]" : "";

	config->in_cluster = true;
	config->token_file = strdup(SERVICE_ACCOUNT "/token");
	config->ca_file = strdup(SERVICE_ACCOUNT "/ca.crt");
	if (asprintf(&config->server, "https://%s%s%s:%s", left, host, right, port ? port : "443") < 0)
		return -ENOMEM;
	return k8s_config_check(config, error);
}

int k8s_config_load(struct k8s_config *config, const char *path, const char *context,
		    struct base_error *error)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST"), *home = getenv("HOME");
	const char *listed = getenv("KUBECONFIG");
	char file[4096];
	int r;

	memset(config, 0, sizeof *config);
	if (!path && host && *host) {
		r = load_pod(config, host, getenv("KUBERNETES_SERVICE_PORT"), error);
	} else {
		if (!path && listed && *listed) {
			snprintf(file, sizeof file, "%.*s", (int)strcspn(listed, ":"), listed);
			path = file;
		} else if (!path) {
			snprintf(file, sizeof file, "%s/.kube/config", home ? home : "");
			path = file;
		}
		r = load_file(config, path, context, error);
	}
	if (r < 0)
		k8s_config_clear(config);
	return r;
}

static int hold(char **path, char **data, struct base_error *error)
{
	char *text = NULL;
	int r = *path && !*data ? read_text(*path, &text, error) : 0;

	if (r < 0)
		return r;
	if (text)
		*data = text;
	free(*path);
	*path = NULL;
	return 0;
}

int k8s_config_hold(struct k8s_config *config, struct base_error *error)
{
	int r = hold(&config->ca_file, &config->ca_data, error);

	if (r >= 0)
		r = hold(&config->cert_file, &config->cert_data, error);
	if (r >= 0)
		r = hold(&config->key_file, &config->key_data, error);
	if (r >= 0 && config->token_file) {
		free(config->token); /* the file wins */
		config->token = NULL;
		r = hold(&config->token_file, &config->token, error);
		if (r >= 0 && config->token)
			config->token[strcspn(config->token, " \r\n")] = '\0';
	}
	return r;
}

int k8s_config_check(const struct k8s_config *config, struct base_error *error)
{
	const char *const files[] = { config->ca_file, config->cert_file, config->key_file,
				      config->token_file };

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		if (files[i] && eaccess(files[i], R_OK) < 0)
			return base_error_set(error, -errno, "%s: %s", files[i], strerror(errno));
	return 0;
}

void k8s_config_clear(struct k8s_config *config)
{
	free(config->server);
	free(config->ca_file);
	free(config->ca_data);
	free(config->cert_file);
	free(config->cert_data);
	free(config->key_file);
	free(config->key_data);
	free(config->token);
	free(config->token_file);
	free(config->tls_server_name);
	free(config->proxy);
	free(config->namespace);
	memset(config, 0, sizeof *config);
}
