/* What a client of the page says: a verdict, and on OK a path within its bounds. */
#include "daemon/metrics/request.h"

#include <stdlib.h>
#include <string.h>

#include "test/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size ? size : 1); /* so that the sanitizer sees its end */
	struct request request;
	enum request_verdict verdict;

	memcpy(copy, data, size);
	verdict = request_parse(copy, size, &request);
	PROMISE(verdict < REQUEST_VERDICT_COUNT);
	PROMISE(verdict != REQUEST_VERDICT_MORE || size < REQUEST_SIZE_MAX);
	if (verdict == REQUEST_VERDICT_OK) {
		PROMISE(request.size <= size && request.size <= REQUEST_SIZE_MAX);
		PROMISE(request.path[0] == '/' &&
			memchr(request.path, '\0', sizeof request.path) != NULL);
	}
	free(copy);
	return 0;
}
