#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Which objects of a kind there are: their names and uids, without the objects. Whatever a complete
 * list does not name any more is found by k8s_known_begin(), a put for each item, k8s_known_sweep().
 */
struct k8s_known {
	struct k8s_known_object **buckets;
	size_t size, count; /* size: a power of two, or 0 */
	uint32_t round;
};

enum k8s_known_change {
	K8S_KNOWN_NEW,
	K8S_KNOWN_AGAIN,
	K8S_KNOWN_OTHER, /* deleted and made again while nobody looked: two different things */
};

/* namespace is "" for cluster-scoped kinds. One of the above, or -ENOMEM. */
int k8s_known_put(struct k8s_known *known, const char *namespace, const char *name,
		  const char *uid);
/* False: there was none, or another one of that name. */
bool k8s_known_remove(struct k8s_known *known, const char *namespace, const char *name,
		      const char *uid);
bool k8s_known_has(const struct k8s_known *known, const char *namespace, const char *name);

void k8s_known_begin(struct k8s_known *known);
/* Forgets and tells of all that were not put since k8s_known_begin(). */
void k8s_known_sweep(struct k8s_known *known,
		     void (*gone)(void *userdata, const char *namespace, const char *name),
		     void *userdata);
void k8s_known_clear(struct k8s_known *known);
