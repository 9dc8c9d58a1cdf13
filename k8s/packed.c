#include "k8s/packed.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Raw deflate; objects are short, so that a small window and little memory do. */
#define WINDOW_BITS  (-13)
#define MEMORY_LEVEL 5

struct k8s_packed {
	uint32_t text_size; /* with its NUL */
	uint32_t size;
	uint8_t bytes[];
};

/* What is kept looks like this. What is found nearer to the end takes fewer bits. */
/* clang-format off */
static const char dictionary[] =
	"{\"metadata\":{\"name\":\"\",\"namespace\":\"default\",\"labels\":{\"kubernetes.io/service-name\":\"\"}},"
	"\"ports\":[{\"name\":\"https\",\"protocol\":\"UDP\",\"port\":6443},{\"name\":\"ssh\",\"protocol\":\"TCP\",\"port\":22}],"
	"\"endpoints\":[{\"addresses\":[\"10.244.1.\"],\"conditions\":{\"ready\":true,\"serving\":true,"
	"\"terminating\":false},\"nodeName\":\"node-\"}]}"
	"{\"metadata\":{\"name\":\"\",\"namespace\":\"\",\"uid\":\"\",\"annotations\":{\"vipd.dev/sharing-key\":\"\","
	"\"vipd.dev/all-ports\":\"true\"}},\"spec\":{\"sessionAffinity\":\"None\",\"externalTrafficPolicy\":\"Local\","
	"\"externalTrafficPolicy\":\"Cluster\",\"loadBalancerSourceRanges\":[\"10.0.0.0/8\"],"
	"\"ports\":[{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":80},{\"protocol\":\"TCP\",\"port\":443}]}}"
	"{\"metadata\":{\"name\":\"192.0.2.1\"},\"spec\":{\"address\":\"192.0.2.1\",\"candidates\":[{\"node\":\"n1\","
	"\"priority\":254},{\"node\":\"n2\",\"priority\":247},{\"node\":\"n3\",\"priority\":240}],\"dataplane\":\"auto\","
	"\"interfaces\":[],\"pool\":\"default\",\"services\":[{\"name\":\"\",\"namespace\":\"default\",\"uid\":\"\"}],"
	"\"virtualRouter\":\".ipv6.1\",\"virtualRouter\":\".ipv4.1\",\"virtualRouterID\":1,\"vrrp\":{"
	"\"advertisementIntervalMilliseconds\":100,\"mode\":\"multicast\",\"version\":3,\"virtualMAC\":false}}}"
	"{\"apiVersion\":\"events.k8s.io/v1\",\"kind\":\"Event\",\"metadata\":{\"name\":\"\",\"namespace\":\"default\"},"
	"\"eventTime\":\"2026-01-01T00:00:00.000000Z\",\"reportingController\":\"vipd.dev/speaker\","
	"\"reportingInstance\":\"\",\"action\":\"Own\",\"reason\":\"OwnerElected\",\"type\":\"Warning\",\"type\":\"Normal\","
	"\"note\":\" owns it\",\"regarding\":{\"apiVersion\":\"vipd.dev/v1alpha1\",\"kind\":\"VirtualIP\",\"name\":\"\","
	"\"regarding\":{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"name\":\"\",\"namespace\":\"\",\"uid\":\"\"}}"
	"{\"conditions\":["
	"{\"lastTransitionTime\":\"2026-01-01T00:00:00Z\",\"message\":\"node- owns the address\","
	"\"reason\":\"OwnerLost\",\"status\":\"True\",\"type\":\"Owned\"},"
	"{\"lastTransitionTime\":\"2026-01-01T00:00:00Z\",\"message\":\"the owner's kernel answers for the address\","
	"\"reason\":\"AsExpected\",\"status\":\"True\",\"type\":\"Announced\"},"
	"{\"lastTransitionTime\":\"2026-01-01T00:00:00Z\",\"message\":\"no Service of it has an endpoint\","
	"\"reason\":\"NoEndpoints\",\"status\":\"False\",\"type\":\"EndpointsAvailable\"},"
	"{\"lastTransitionTime\":\"2026-01-01T00:00:00Z\",\"message\":\"there is an endpoint to send to\","
	"\"reason\":\"AsExpected\",\"status\":\"True\",\"type\":\"EndpointsAvailable\"},"
	"{\"lastTransitionTime\":\"2026-01-01T00:00:00Z\",\"message\":\"nobody else answers for it\","
	"\"reason\":\"AsExpected\",\"status\":\"False\",\"type\":\"Conflict\"}],"
	"\"lastTransition\":{\"message\":\"the first owner of the address\",\"outageMilliseconds\":,"
	"\"reason\":\"OwnerElected\",\"from\":\"\",\"time\":\"2026-01-01T00:00:00Z\",\"to\":\"\"},\"owner\":\"\","
	"\"since\":\"2026-01-01T00:00:00Z\",\"state\":\"Active\",\"term\":1,\"transitions\":1}";
/* clang-format on */

struct k8s_packed *k8s_pack(const char *text)
{
	size_t text_size = strlen(text) + 1;
	z_stream stream = { 0 };
	struct k8s_packed *packed, *smaller;

	if (text_size > UINT32_MAX / 2 ||
	    deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return NULL;
	deflateSetDictionary(&stream, (const Bytef *)dictionary, sizeof dictionary - 1);
	stream.avail_out = (uInt)deflateBound(&stream, text_size);
	packed = malloc(sizeof *packed + stream.avail_out);
	if (packed) {
		stream.next_in = (z_const Bytef *)text;
		stream.avail_in = (uInt)text_size;
		stream.next_out = packed->bytes;
		deflate(&stream, Z_FINISH); /* ends: it has room for the worst case */
		packed->text_size = (uint32_t)text_size;
		packed->size = (uint32_t)stream.total_out;
		smaller = realloc(packed, sizeof *packed + packed->size);
		packed = smaller ? smaller : packed;
	}
	deflateEnd(&stream);
	return packed;
}

char *k8s_unpack(const struct k8s_packed *packed)
{
	char *text = malloc(packed->text_size);
	z_stream stream = { 0 };
	bool whole;

	if (!text || inflateInit2(&stream, WINDOW_BITS) != Z_OK) {
		free(text);
		return NULL;
	}
	inflateSetDictionary(&stream, (const Bytef *)dictionary, sizeof dictionary - 1);
	stream.next_in = (z_const Bytef *)packed->bytes;
	stream.avail_in = packed->size;
	stream.next_out = (Bytef *)text;
	stream.avail_out = packed->text_size;
	whole = inflate(&stream, Z_FINISH) == Z_STREAM_END;
	inflateEnd(&stream);
	if (whole)
		return text;
	free(text);
	return NULL;
}

cJSON *k8s_unpack_tree(const struct k8s_packed *packed)
{
	char *text = k8s_unpack(packed);
	cJSON *tree = text ? cJSON_Parse(text) : NULL;

	free(text);
	return tree;
}

bool k8s_packed_equal(const struct k8s_packed *a, const struct k8s_packed *b)
{
	return a->text_size == b->text_size && a->size == b->size &&
	       memcmp(a->bytes, b->bytes, a->size) == 0;
}
