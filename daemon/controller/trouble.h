#pragma once

#include "daemon/log.h"
#include "k8s/io/client.h"

/*
 * What the API server refuses or does not answer, for a person: one line at the first time and then at
 * growing intervals, with what to do where that is known.
 */
struct trouble {
	struct log_gate gate;
	bool told;
};

/* `doing`: "listing /api/v1/services", "writing the status of Service vms/ssh". */
void trouble_report(struct trouble *trouble, const char *doing,
		    const struct k8s_response *response);
/* It works (again). */
void trouble_over(struct trouble *trouble, const char *doing);
