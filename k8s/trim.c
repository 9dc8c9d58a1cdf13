#include "k8s/trim.h"

#include <stdbool.h>
#include <string.h>

#define FIELD "\"managedFields\":["

/* Past the list that begins here; NULL: it does not end. */
static char *skip_list(char *at, const char *end)
{
	bool quoted = false;
	unsigned depth = 0;

	for (; at < end; at++) {
		if (quoted && *at == '\\' && at + 1 < end)
			at++;
		else if (*at == '"')
			quoted = !quoted;
		else if (!quoted && (*at == '[' || *at == '{'))
			depth++;
		else if (!quoted && (*at == ']' || *at == '}') && --depth == 0)
			return at + 1;
	}
	return NULL;
}

size_t k8s_trim(char *text, size_t size)
{
	char *begin = memmem(text, size, FIELD, strlen(FIELD)), *end = text + size, *after;

	/* Inside of a text it would have a backslash in front of its last quote, and not be found. */
	if (!begin || begin == text || (begin[-1] != '{' && begin[-1] != ','))
		return size;
	after = skip_list(begin + strlen(FIELD) - 1, end);
	if (!after || after == end)
		return size;
	if (*after == ',')
		after++;
	else if (begin[-1] == ',')
		begin--; /* it was the last member */
	memmove(begin, after, (size_t)(end - after));
	return size - (size_t)(after - begin);
}
