#pragma once

#include "daemon/controller/objects.h"

/*
 * What a Service asks for and what it is told, without looking at anything but the arguments: no
 * clock, no request, no memory kept.
 */
#define MESSAGE_SIZE 512

/* One address of one family. */
struct wish {
	enum base_family family;
	struct base_address wanted; /* family NONE: any */
	bool optional;              /* PreferDualStack: the other one alone will do */
};

struct wishes {
	unsigned count;
	struct wish items[2];
};

/*
 * From spec.ipFamilies, vipd.dev/addresses and spec.loadBalancerIP. 0, or a reason with a sentence
 * for the owner of the Service, who then gets nothing.
 */
int decide_wishes(const struct service *service, struct wishes *wishes, struct base_error *error);

/* A vipd.dev/ annotation that is none of ours: a sentence, with the one that may be meant. */
void decide_unknown_annotation(const char *name, char message[static MESSAGE_SIZE]);

/* vipd.dev/nodes: "n1,n2"; NULL allows every node. */
bool decide_node_allowed(const char *list, const char *node);

/* What became of a wish. */
struct grant {
	struct wish wish;
	enum base_reason refusal; /* NONE: granted */
	char message[256];        /* of the refusal */
	bool held;                /* it has this address (after a refusal: the one it had before) */
	bool recorded;            /* and the VirtualIP says so: may be shown to the world */
	struct base_address address;
	struct vip_status status;
	bool placed; /* somebody may own it */
	enum base_reason unplaced;
	char unplaced_message[256];
};

struct verdict_condition {
	bool is_true;
	const char *reason;
	char message[MESSAGE_SIZE];
};

struct verdict {
	unsigned ingress_count;
	struct base_address ingress[2];
	struct verdict_condition conditions[SERVICE_CONDITION_COUNT];
	bool passing;           /* not served, but likely in a moment: a handover, a failover */
	enum base_reason event; /* the refusal that the owner of the Service should hear of; NONE */
	char note[MESSAGE_SIZE];
	enum base_reason unplaced; /* why nobody may own an address that it has: to be heard of, too; NONE */
};

/* `grants` in the order of the wishes. */
void decide_verdict(const struct service *service, const struct grant *grants, unsigned count,
		    struct verdict *verdict);
/* Nothing can be given: a malformed wish. What was held (`grants`) stays. */
void decide_refusal(const struct service *service, enum base_reason reason, const char *message,
		    const struct grant *grants, unsigned count, struct verdict *verdict);

/*
 * Service.status as server-side apply wants it: all of what this controller owns. `now` for
 * conditions that change. Free with cJSON_Delete().
 */
cJSON *decide_status(const struct service *service, const struct verdict *verdict, const char *now);
/* The same for a server older than 1.29, which knows no ipMode: addresses are VIPs there anyway. */
void decide_status_of_old(cJSON *status);
