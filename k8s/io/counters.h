#pragma once

#include <stdint.h>

#include "base/histogram.h"

/*
 * What a client asked of the API server and how it was answered, for whoever shows it. Plain numbers
 * without pointers: the memory may be shared with another process.
 */
#define K8S_COUNTED_METHODS(X) X(GET) X(POST) X(PUT) X(PATCH) X(DELETE)
#define K8S_COUNTED_CODES(X)                                                                       \
	X(200) X(201) X(400) X(401) X(403) X(404) X(409) X(410) X(422) X(429) X(500) X(503) X(504)

enum k8s_counted_method {
#define K8S_METHOD_ENUM(name) K8S_COUNTED_##name,
	K8S_COUNTED_METHODS(K8S_METHOD_ENUM)
#undef K8S_METHOD_ENUM
		K8S_COUNTED_METHOD_COUNT
};

enum k8s_counted_code {
	K8S_COUNTED_NO_ANSWER,
#define K8S_CODE_ENUM(code) K8S_COUNTED_##code,
	K8S_COUNTED_CODES(K8S_CODE_ENUM)
#undef K8S_CODE_ENUM
		K8S_COUNTED_OTHER,
	K8S_COUNTED_CODE_COUNT
};

struct k8s_counters {
	uint64_t answers[K8S_COUNTED_METHOD_COUNT][K8S_COUNTED_CODE_COUNT];
	struct base_histogram durations[K8S_COUNTED_METHOD_COUNT]; /* of answers; watches last */
};
