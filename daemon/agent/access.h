#pragma once

#include "daemon/agent/room.h"

/* The way to the API server: the kubeconfig, the client that is made of it, and whether it is answered. */

/* The client is there from the loop's first turn on, or when the kubeconfig is one. SIGHUP reads it again. */
int access_open(struct agent *agent);
/* Credentials that stand in the kubeconfig itself may have been replaced there; looked at now and then only. */
void access_reconfigure(struct agent *agent);
void access_close(struct agent *agent);
