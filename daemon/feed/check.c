#include "daemon/feed/set.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"

/*
 * What a manifest may say, field by field: an API server's schema does this for its objects, nobody
 * does it for files. Of our own kinds every field is known; of Kubernetes' kinds what we read.
 */
enum type {
	TYPE_MAP,
	TYPE_LIST,
	TYPE_TEXT,
	TYPE_NUMBER,
	TYPE_BOOLEAN,
	TYPE_PORT,
	TYPE_RANGE,  /* base_prefix */
	TYPE_WORD,   /* one of `words` */
	TYPE_STRICT, /* a map of which every field is in this table */
};

struct field {
	enum object_kind kind;
	const char *path; /* "spec/ports[]/port": of each item */
	enum type type;
	const char *words;
};

#define PROTOCOLS "TCP UDP SCTP"

static const struct field fields[] = {
	{ KIND_SERVICE, "metadata/annotations", TYPE_MAP, NULL },
	{ KIND_SERVICE, "spec", TYPE_MAP, NULL },
	{ KIND_SERVICE, "spec/type", TYPE_WORD, "LoadBalancer ClusterIP NodePort ExternalName" },
	{ KIND_SERVICE, "spec/loadBalancerClass", TYPE_TEXT, NULL },
	{ KIND_SERVICE, "spec/loadBalancerIP", TYPE_TEXT, NULL },
	{ KIND_SERVICE, "spec/loadBalancerSourceRanges", TYPE_LIST, NULL },
	{ KIND_SERVICE, "spec/sessionAffinity", TYPE_WORD, "None ClientIP" },
	{ KIND_SERVICE, "spec/externalTrafficPolicy", TYPE_WORD, "Cluster Local" },
	{ KIND_SERVICE, "spec/ports", TYPE_LIST, NULL },
	{ KIND_SERVICE, "spec/ports[]/name", TYPE_TEXT, NULL },
	{ KIND_SERVICE, "spec/ports[]/port", TYPE_PORT, NULL },
	{ KIND_SERVICE, "spec/ports[]/protocol", TYPE_WORD, PROTOCOLS },

	{ KIND_SLICE, "metadata/labels", TYPE_MAP, NULL },
	{ KIND_SLICE, "addressType", TYPE_WORD, "IPv4 IPv6 FQDN" },
	{ KIND_SLICE, "endpoints", TYPE_LIST, NULL },
	{ KIND_SLICE, "endpoints[]/addresses", TYPE_LIST, NULL },
	{ KIND_SLICE, "endpoints[]/nodeName", TYPE_TEXT, NULL },
	{ KIND_SLICE, "endpoints[]/conditions/ready", TYPE_BOOLEAN, NULL },
	{ KIND_SLICE, "endpoints[]/conditions/serving", TYPE_BOOLEAN, NULL },
	{ KIND_SLICE, "endpoints[]/conditions/terminating", TYPE_BOOLEAN, NULL },
	{ KIND_SLICE, "ports", TYPE_LIST, NULL },
	{ KIND_SLICE, "ports[]/name", TYPE_TEXT, NULL },
	{ KIND_SLICE, "ports[]/port", TYPE_PORT, NULL },
	{ KIND_SLICE, "ports[]/protocol", TYPE_WORD, PROTOCOLS },

	{ KIND_NODE, "status/addresses", TYPE_LIST, NULL },
	{ KIND_NODE, "spec/podCIDRs", TYPE_LIST, NULL },
	{ KIND_NODE, "spec/podCIDRs[]", TYPE_RANGE, NULL },

	{ KIND_POOL, "spec", TYPE_STRICT, NULL },
	{ KIND_POOL, "spec/addresses", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/exclude", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/avoidFirstLast", TYPE_BOOLEAN, NULL },
	{ KIND_POOL, "spec/autoAssign", TYPE_BOOLEAN, NULL },
	{ KIND_POOL, "spec/priority", TYPE_NUMBER, NULL },
	{ KIND_POOL, "spec/disabled", TYPE_BOOLEAN, NULL },
	{ KIND_POOL, "spec/namespaces", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/namespaceSelector", TYPE_MAP, NULL },
	{ KIND_POOL, "spec/serviceSelector", TYPE_MAP, NULL },
	{ KIND_POOL, "spec/maxPerNamespace", TYPE_NUMBER, NULL },
	{ KIND_POOL, "spec/reservations", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/externalIPs", TYPE_BOOLEAN, NULL },
	{ KIND_POOL, "spec/quarantineSeconds", TYPE_NUMBER, NULL },
	{ KIND_POOL, "spec/nodes", TYPE_MAP, NULL },
	{ KIND_POOL, "spec/interfaces", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/attachedNetworks", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/dataplane", TYPE_TEXT, NULL },
	{ KIND_POOL, "spec/preemption", TYPE_WORD, "sticky preferred" },
	{ KIND_POOL, "spec/vrrp", TYPE_STRICT, NULL },
	{ KIND_POOL, "spec/vrrp/advertisementIntervalMilliseconds", TYPE_NUMBER, NULL },
	{ KIND_POOL, "spec/vrrp/virtualRouterIDs", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/vrrp/excludeVirtualRouterIDs", TYPE_LIST, NULL },
	{ KIND_POOL, "spec/vrrp/mode", TYPE_TEXT, NULL },
	{ KIND_POOL, "spec/vrrp/virtualMAC", TYPE_BOOLEAN, NULL },
	{ KIND_POOL, "spec/vrrp/version", TYPE_NUMBER, NULL },

	{ KIND_VIRTUAL_IP, "spec", TYPE_STRICT, NULL },
	{ KIND_VIRTUAL_IP, "spec/address", TYPE_TEXT, NULL },
	{ KIND_VIRTUAL_IP, "spec/pool", TYPE_TEXT, NULL },
	{ KIND_VIRTUAL_IP, "spec/virtualRouter", TYPE_TEXT, NULL },
	{ KIND_VIRTUAL_IP, "spec/virtualRouterID", TYPE_NUMBER, NULL },
	{ KIND_VIRTUAL_IP, "spec/services", TYPE_LIST, NULL },
	{ KIND_VIRTUAL_IP, "spec/services[]", TYPE_MAP, NULL },
	{ KIND_VIRTUAL_IP, "spec/candidates", TYPE_LIST, NULL },
	{ KIND_VIRTUAL_IP, "spec/candidates[]", TYPE_MAP, NULL },
	{ KIND_VIRTUAL_IP, "spec/dataplane", TYPE_TEXT, NULL },
	{ KIND_VIRTUAL_IP, "spec/interfaces", TYPE_LIST, NULL },
	{ KIND_VIRTUAL_IP, "spec/attachedNetworks", TYPE_LIST, NULL },
	{ KIND_VIRTUAL_IP, "spec/vrrp", TYPE_STRICT, NULL },
	{ KIND_VIRTUAL_IP, "spec/vrrp/advertisementIntervalMilliseconds", TYPE_NUMBER, NULL },
	{ KIND_VIRTUAL_IP, "spec/vrrp/mode", TYPE_TEXT, NULL },
	{ KIND_VIRTUAL_IP, "spec/vrrp/version", TYPE_NUMBER, NULL },
	{ KIND_VIRTUAL_IP, "spec/vrrp/virtualMAC", TYPE_BOOLEAN, NULL },
};

struct walk {
	struct wish_set *set;
	const struct object *object;
	const struct field *field;
};

static bool among(const char *words, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = words; length > 0 && (at = strstr(at, word)) != NULL; at += length)
		if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
			return true;
	return false;
}

/* How many letters to put in, take out or exchange; names longer than this are not compared. */
#define NAME_MAX_COMPARED 40

static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_COMPARED + 1];
	size_t width = strlen(b);

	if (strlen(a) > NAME_MAX_COMPARED || width > NAME_MAX_COMPARED)
		return NAME_MAX_COMPARED;
	for (unsigned j = 0; j <= width; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= width; j++) {
			unsigned change = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			row[j] = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			if (change < row[j])
				row[j] = change;
		}
	}
	return row[width];
}

/* A field that does not exist was meant to be one that does: a typing error would pass in silence. */
static int check_strict(const struct walk *walk, const cJSON *map)
{
	size_t depth = strlen(walk->field->path) + 1;
	const cJSON *item;

	cJSON_ArrayForEach(item, map) {
		const char *nearest = NULL;
		unsigned best = NAME_MAX_COMPARED;
		bool known = false;

		for (size_t i = 0; i < BASE_COUNT_OF(fields) && !known; i++) {
			const char *name = fields[i].path + depth;
			unsigned d;

			if (fields[i].kind != walk->field->kind ||
			    strncmp(fields[i].path, walk->field->path, depth - 1) != 0 ||
			    fields[i].path[depth - 1] != '/' || strpbrk(name, "/["))
				continue;
			d = distance(item->string, name);
			known = d == 0;
			if (d < best) {
				best = d;
				nearest = name;
			}
		}
		if (!known)
			return complain(walk->set, walk->object, item,
					"%s has no %s: %s%s%s", object_kind_name(walk->field->kind),
					item->string,
					nearest && best <= strlen(nearest) / 2 ? "did you mean "
									       : "take it out",
					nearest && best <= strlen(nearest) / 2 ? nearest : "",
					nearest && best <= strlen(nearest) / 2 ? "?" : "");
	}
	return 0;
}

static bool is_port(const cJSON *item)
{
	return cJSON_IsNumber(item) && item->valuedouble >= 1 && item->valuedouble <= 65535 &&
	       item->valuedouble == (int)item->valuedouble;
}

static int check_value(const struct walk *walk, const cJSON *item)
{
	const char *name = strrchr(walk->field->path, '/');
	const char *wanted = NULL;
	struct base_prefix prefix;

	name = name ? name + 1 : walk->field->path;
	switch (walk->field->type) {
	case TYPE_MAP:
	case TYPE_STRICT:
		wanted = cJSON_IsObject(item) ? NULL : "fields of its own (key: value)";
		break;
	case TYPE_LIST:
		wanted = cJSON_IsArray(item) ? NULL : "a list (- item, or [item, item])";
		break;
	case TYPE_TEXT:
		wanted = cJSON_IsString(item) ? NULL : "text (in quotes, if it looks like a number)";
		break;
	case TYPE_NUMBER:
		wanted = cJSON_IsNumber(item) ? NULL : "a number (without quotes)";
		break;
	case TYPE_BOOLEAN:
		wanted = cJSON_IsBool(item) ? NULL : "true or false";
		break;
	case TYPE_PORT:
		wanted = is_port(item) ? NULL : "a whole number from 1 to 65535";
		break;
	case TYPE_RANGE:
		wanted = cJSON_IsString(item) && base_prefix_parse(item->valuestring, &prefix)
				 ? NULL
				 : "CIDRs like 10.244.1.0/24";
		break;
	case TYPE_WORD:
		if (!cJSON_IsString(item) || !among(walk->field->words, item->valuestring))
			return complain(walk->set, walk->object, item, "%s must be one of %s", name,
					walk->field->words);
		break;
	}
	if (wanted)
		return complain(walk->set, walk->object, item, "%.*s must be %s",
				(int)strcspn(name, "["), name, wanted);
	return walk->field->type == TYPE_STRICT ? check_strict(walk, item) : 0;
}

/* Goes down `path`, into each item of a list; what is not there is no fault here. */
static int descend(const struct walk *walk, const cJSON *item, const char *path)
{
	char part[64];
	size_t length = strcspn(path, "/[");
	const cJSON *each;
	int r = 0;

	if (*path == '\0')
		return check_value(walk, item);
	if (*path == '/')
		return descend(walk, item, path + 1);
	if (strncmp(path, "[]", 2) == 0) {
		if (cJSON_IsArray(item))
			cJSON_ArrayForEach(each, item)
				if (r >= 0)
					r = descend(walk, each, path + 2);
		return r;
	}
	snprintf(part, sizeof part, "%.*s", (int)length, path);
	item = tree_get(item, part);
	return item ? descend(walk, item, path + length) : 0;
}

static int check_annotations(struct wish_set *set, const struct object *object)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, tree_get(object->tree, "metadata/annotations"))
		if (!cJSON_IsString(item))
			return complain(set, object, item, "annotation %s must be text in quotes",
					item->string);
	return 0;
}

/* Version 2 counts whole seconds in eight bits and knows no IPv6. */
static int check_version(struct wish_set *set, const struct object *object,
			 const struct message_router *router)
{
	const cJSON *version = tree_get(object->tree, "spec/vrrp/version");

	if (version && router->version == 2 && router->interval_ms % 1000 != 0)
		return complain(set, object, version,
				"version 2 counts in whole seconds: write "
				"advertisementIntervalMilliseconds: 1000, or take version 3");
	return 0;
}

int manifest_check(struct wish_set *set, const struct object *object)
{
	struct message_router settings = { .version = 3, .interval_ms = MANIFEST_INTERVAL_MS };
	int r = 0;

	for (size_t i = 0; i < BASE_COUNT_OF(fields) && r >= 0; i++) {
		struct walk walk = { set, object, &fields[i] };

		if (fields[i].kind == object->kind)
			r = descend(&walk, object->tree, fields[i].path);
	}
	if (r >= 0)
		r = check_annotations(set, object);
	if (r < 0 || (object->kind != KIND_POOL && object->kind != KIND_VIRTUAL_IP))
		return r;
	r = translate_settings(set, object, &settings);
	return r < 0 ? r : check_version(set, object, &settings);
}
