#include "k8s/known.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define SIZE_FIRST 16

struct k8s_known_object {
	struct k8s_known_object *next;
	uint64_t key, uid; /* hashes */
	uint32_t round;
	uint16_t name_at; /* in text: namespace, NUL, name, NUL */
	char text[];
};

static uint64_t hash_of(const char *text)
{
	return base_hash(text, strlen(text));
}

static uint64_t key_of(const char *namespace, const char *name)
{
	uint64_t key = hash_of(namespace) * 31 + hash_of(name);

	return key ^ (key >> 32);
}

/* Where it is, or would be; NULL: there are no buckets yet. */
static struct k8s_known_object **find(const struct k8s_known *known, const char *namespace,
				      const char *name)
{
	uint64_t key = key_of(namespace, name);
	struct k8s_known_object **slot;

	if (known->size == 0)
		return NULL;
	slot = &known->buckets[key & (known->size - 1)];
	while (*slot && ((*slot)->key != key || strcmp((*slot)->text, namespace) != 0 ||
			 strcmp((*slot)->text + (*slot)->name_at, name) != 0))
		slot = &(*slot)->next;
	return slot;
}

static int grow(struct k8s_known *known)
{
	size_t size = known->size ? known->size * 2 : SIZE_FIRST;
	struct k8s_known_object **buckets = calloc(size, sizeof(*buckets));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < known->size; i++)
		while (known->buckets[i]) {
			struct k8s_known_object *object = known->buckets[i];
			struct k8s_known_object **slot = &buckets[object->key & (size - 1)];

			known->buckets[i] = object->next;
			object->next = *slot;
			*slot = object;
		}
	free(known->buckets);
	known->buckets = buckets;
	known->size = size;
	return 0;
}

static int add(struct k8s_known *known, const char *namespace, const char *name, uint64_t uid)
{
	size_t namespace_size = strlen(namespace) + 1, name_size = strlen(name) + 1;
	struct k8s_known_object *object, **slot;

	if (namespace_size > UINT16_MAX)
		return -ENOMEM; /* no name is that long */
	/* Too full is only slow; without any bucket there is no place. */
	if (known->count >= known->size && grow(known) < 0 && known->size == 0)
		return -ENOMEM;
	object = calloc(1, sizeof *object + namespace_size + name_size);
	if (!object)
		return -ENOMEM;
	object->key = key_of(namespace, name);
	object->uid = uid;
	object->round = known->round;
	object->name_at = (uint16_t)namespace_size;
	memcpy(object->text, namespace, namespace_size);
	memcpy(object->text + namespace_size, name, name_size);
	slot = &known->buckets[object->key & (known->size - 1)];
	object->next = *slot;
	*slot = object;
	known->count++;
	return K8S_KNOWN_NEW;
}

int k8s_known_put(struct k8s_known *known, const char *namespace, const char *name,
		  const char *uid)
{
	struct k8s_known_object **slot = find(known, namespace, name);
	uint64_t hash = hash_of(uid);
	bool same;

	if (!slot || !*slot)
		return add(known, namespace, name, hash);
	same = (*slot)->uid == hash;
	(*slot)->uid = hash;
	(*slot)->round = known->round;
	return same ? K8S_KNOWN_AGAIN : K8S_KNOWN_OTHER;
}

static struct k8s_known_object *take(struct k8s_known *known, struct k8s_known_object **slot)
{
	struct k8s_known_object *object = *slot;

	*slot = object->next;
	known->count--;
	return object;
}

bool k8s_known_remove(struct k8s_known *known, const char *namespace, const char *name,
		      const char *uid)
{
	struct k8s_known_object **slot = find(known, namespace, name);

	if (!slot || !*slot || (*slot)->uid != hash_of(uid))
		return false;
	free(take(known, slot));
	return true;
}

bool k8s_known_has(const struct k8s_known *known, const char *namespace, const char *name)
{
	struct k8s_known_object **slot = find(known, namespace, name);

	return slot && *slot;
}

void k8s_known_begin(struct k8s_known *known)
{
	known->round++;
}

void k8s_known_sweep(struct k8s_known *known,
		     void (*gone)(void *userdata, const char *namespace, const char *name),
		     void *userdata)
{
	for (size_t i = 0; i < known->size; i++)
		for (struct k8s_known_object **slot = &known->buckets[i]; *slot;) {
			struct k8s_known_object *object;

			if ((*slot)->round == known->round) {
				slot = &(*slot)->next;
				continue;
			}
			object = take(known, slot);
			gone(userdata, object->text, object->text + object->name_at);
			free(object);
		}
}

void k8s_known_clear(struct k8s_known *known)
{
	for (size_t i = 0; i < known->size; i++)
		while (known->buckets[i])
			free(take(known, &known->buckets[i]));
	free(known->buckets);
	*known = (struct k8s_known){ 0 };
}
