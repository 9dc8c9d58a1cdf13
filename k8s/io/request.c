#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/time.h"
#include "k8s/io/request.h"

#define TOKEN_AGE_US	(50 * BASE_USEC_PER_SEC)
#define TOKEN_SIZE_MAX	(64 * 1024)
#define STALL_S		15L
#define CONNECT_MS	5000
#define DEAD_PEER_MS	15000 /* TCP_USER_TIMEOUT: unacknowledged for so long is dead */
#define UPLOAD_BUFFER	16384L /* libcurl keeps one of 64 KiB in each, where nothing is said */
#define CHUNK_WATCH	4096L /* libcurl has such a buffer for each */
#define KEEP_IDLE_S	10L
#define KEEP_INTERVAL_S 5L

/* It becomes a header: nothing may be in it that would end one. */
static bool is_header_text(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || *text == 0x7f)
			return false;
	return true;
}

static void read_token(struct k8s_client *client)
{
	char buffer[TOKEN_SIZE_MAX];
	size_t size;
	FILE *file;

	if (!client->config.token_file) {
		if (!client->token && client->config.token && is_header_text(client->config.token))
			client->token = strdup(client->config.token);
		return;
	}
	file = fopen(client->config.token_file, "re"); /* by path each time: it is swapped by link */
	if (!file)
		return; /* the one we have may still do */
	size = fread(buffer, 1, sizeof buffer - 1, file);
	fclose(file);
	while (size > 0 && (buffer[size - 1] == '\n' || buffer[size - 1] == '\r' ||
			    buffer[size - 1] == ' '))
		size--;
	buffer[size] = '\0';
	if (size == 0 || !is_header_text(buffer))
		return;
	free(client->token);
	client->token = strdup(buffer);
	client->token_read_us = k8s_client_now(client);
}

/* Reads it again now and then: it is rotated. */
static void refresh_token(struct k8s_client *client)
{
	uint64_t age_us = base_usec_since(k8s_client_now(client), client->token_read_us);

	if (!client->token || (client->config.token_file && age_us > TOKEN_AGE_US))
		read_token(client);
}

static int on_new_socket(void *userdata, curl_socket_t fd, curlsocktype purpose)
{
	unsigned dead_ms = DEAD_PEER_MS;

	(void)userdata;
	(void)purpose;
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof dead_ms);
	return CURL_SOCKOPT_OK;
}

static void set_blob(CURL *easy, CURLoption option, char *pem)
{
	struct curl_blob blob = { .data = pem, .len = strlen(pem), .flags = CURL_BLOB_COPY };

	curl_easy_setopt(easy, option, &blob);
}

static void set_security(struct k8s_client *client, CURL *easy)
{
	const struct k8s_config *config = &client->config;

	if (config->ca_data)
		set_blob(easy, CURLOPT_CAINFO_BLOB, config->ca_data);
	else if (config->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
	if (config->cert_data)
		set_blob(easy, CURLOPT_SSLCERT_BLOB, config->cert_data);
	else if (config->cert_file)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, config->cert_file);
	if (config->key_data)
		set_blob(easy, CURLOPT_SSLKEY_BLOB, config->key_data);
	else if (config->key_file)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, config->key_file);
	if (config->insecure) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (config->in_cluster)
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	else if (config->proxy)
		curl_easy_setopt(easy, CURLOPT_PROXY, config->proxy);
}

/*
 * tls-server-name: the certificate is for another name than the one that is dialled. The URL
 * carries the certificate's name, and libcurl is told where to connect instead.
 */
static char *make_url(const struct k8s_client *client, const char *path, char **connect_to)
{
	const char *server = client->config.server, *name = client->config.tls_server_name;
	const char *host = strstr(server, "://"), *end, *port;
	char *url = NULL;

	*connect_to = NULL;
	if (!name || !host) {
		return asprintf(&url, "%s%s", server, path) < 0 ? NULL : url;
	}
	host += 3;
	end = host + strcspn(host, "/");
	port = *host == '[' ? memchr(host, ']', (size_t)(end - host)) : host;
	port = port ? memchr(port, ':', (size_t)(end - port)) : NULL;
	if (asprintf(&url, "https://%s:%.*s%s%s", name, port ? (int)(end - port - 1) : 3,
		     port ? port + 1 : "443", end, path) < 0)
		return NULL;
	if (asprintf(connect_to, "::%.*s:%.*s", (int)((port ? port : end) - host), host,
		     port ? (int)(end - port - 1) : 3, port ? port + 1 : "443") < 0)
		*connect_to = NULL;
	return url;
}

static int set_headers(struct k8s_request *request)
{
	struct k8s_client *client = request->client;
	char line[TOKEN_SIZE_MAX + 64];

	curl_slist_free_all(request->headers);
	request->headers = curl_slist_append(NULL, "Accept: application/json");
	snprintf(line, sizeof line, "Content-Type: %s", request->content_type);
	if (request->upload)
		request->headers = curl_slist_append(request->headers, line);
	request->headers = curl_slist_append(request->headers, "Expect:");
	if (client->token) {
		snprintf(line, sizeof line, "Authorization: Bearer %s", client->token);
		request->headers = curl_slist_append(request->headers, line);
	}
	curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers);
	return request->headers ? 0 : -ENOMEM;
}

/* --- from the beginning to the end --- */

struct lane *k8s_request_lane(const struct k8s_request *request)
{
	return request->lease ? &request->client->leases : &request->client->common;
}

void k8s_request_recall(struct k8s_request *request)
{
	if (!request->easy)
		return;
	curl_multi_remove_handle(k8s_request_lane(request)->multi, request->easy);
	curl_easy_cleanup(request->easy);
	request->easy = NULL;
	request->size = 0;
	if (request->lease)
		request->client->lease_count--;
}

void k8s_request_free(struct k8s_request *request)
{
	k8s_request_recall(request);
	curl_slist_free_all(request->headers);
	curl_slist_free_all(request->connect_to);
	if (request->link) {
		*request->link = request->next;
		if (request->next)
			request->next->link = request->link;
	}
	free(request->url);
	free(request->upload);
	free(request->method);
	free(request->data);
	free(request);
}

int k8s_request_launch(struct k8s_request *request)
{
	struct k8s_client *client = request->client;
	CURL *easy = curl_easy_init();

	if (!easy)
		return -ENOMEM;
	request->easy = easy;
	if (request->lease)
		client->lease_count++;
	refresh_token(client);
	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	if (request->raw) {
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALL_S);
	}
	if (request->watch)
		curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, CHUNK_WATCH);
	if (request->connect_to)
		curl_easy_setopt(easy, CURLOPT_CONNECT_TO, request->connect_to);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->error);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, client->agent);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, k8s_answer_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, k8s_answer_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEP_IDLE_S);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEP_INTERVAL_S);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https,http");
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
			 request->lease ? (long)CURL_HTTP_VERSION_1_1
					: (long)CURL_HTTP_VERSION_2TLS);
	if (!request->lease)
		curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
	set_security(client, easy);
	if (strcmp(request->method, "GET") != 0)
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	if (request->upload) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->upload);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)strlen(request->upload));
	}
	if (set_headers(request) < 0)
		return -ENOMEM;
	return curl_multi_add_handle(k8s_request_lane(request)->multi, easy) == CURLM_OK ? 0 : -ENOMEM;
}

struct k8s_request *k8s_request_new(struct k8s_client *client, const char *method,
				    const char *path)
{
	struct k8s_request *request = calloc(1, sizeof *request);
	char *connect_to = NULL;

	if (!request)
		return NULL;
	request->client = client;
	request->method = strdup(method);
	request->content_type = "application/json";
	request->started_us = k8s_client_now(client);
	request->url = make_url(client, path, &connect_to);
	if (connect_to)
		request->connect_to = curl_slist_append(NULL, connect_to);
	free(connect_to);
	if (!request->method || !request->url) {
		k8s_request_free(request);
		return NULL;
	}
	request->next = client->requests;
	request->link = &client->requests;
	if (request->next)
		request->next->link = &request->next;
	client->requests = request;
	return request;
}
