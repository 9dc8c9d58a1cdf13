#pragma once

#include <cjson/cJSON.h>
#include <systemd/sd-event.h>

/*
 * The node's own view over a local socket, also when Kubernetes is gone: whoever connects to
 * RUNTIME_DIR/status.sock gets one JSON document and the end of the stream; at health.sock a short one,
 * for probes: {"ready", "message"}; at verify.sock how often the rules were verified, which begins then once more.
 */
#define STATUS_SOCKET "status.sock"
#define HEALTH_SOCKET "health.sock"
#define VERIFY_SOCKET "verify.sock"

struct status_server;

/* `describe` answers a fresh tree (the server frees it). Slow readers are cut off, not waited for. */
int status_server_new(struct status_server **server, sd_event *event, const char *path,
		      int64_t priority, cJSON *(*describe)(void *userdata), void *userdata);
void status_server_free(struct status_server *server); /* removes the socket */

/* `vipd status [--runtime-dir DIR] [-o table|json] [--verify] | --healthz | --readyz` */
int status_main(int argc, char **argv);
