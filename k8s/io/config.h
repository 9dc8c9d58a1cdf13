#pragma once

#include <stdbool.h>

#include "base/error.h"

/*
 * How to reach an API server: from a kubeconfig, or from inside a pod. Strings are owned by the
 * struct. Secrets are read here and nowhere logged.
 */
struct k8s_config {
	char *server;		/* "https://host:port", no slash at the end */
	char *ca_file, *ca_data; /* PEM; none: the system's authorities */
	char *cert_file, *cert_data, *key_file, *key_data;
	char *token, *token_file; /* the file wins and is read again as it rotates */
	char *tls_server_name;	/* the certificate is for this name, not for the server's */
	char *proxy;		/* "http://proxy:3128" */
	char *namespace;
	bool insecure;	 /* insecure-skip-tls-verify */
	bool in_cluster;
};

/*
 * `path` NULL: the service account of the pod, or KUBECONFIG, or ~/.kube/config, in this order.
 * `context` NULL: the current one. The message names file, line and what to write.
 * Files that the configuration names must be readable by this process.
 */
int k8s_config_load(struct k8s_config *config, const char *path, const char *context,
		    struct base_error *error);

/*
 * Reads every file that it names into memory and forgets the paths: for a process that will not be
 * allowed to read them any more. Rotated credentials are not noticed then.
 */
int k8s_config_hold(struct k8s_config *config, struct base_error *error);

/* Can this process read every file that it names? 0, or -errno with the first that it cannot. */
int k8s_config_check(const struct k8s_config *config, struct base_error *error);
void k8s_config_clear(struct k8s_config *config);
