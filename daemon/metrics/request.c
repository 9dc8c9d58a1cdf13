#include "daemon/metrics/request.h"

#include <string.h>

#include "base/array.h"

/* tchar of RFC 9110 5.6.2 */
static bool is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_word(const char *data, size_t size, const char *word)
{
	size_t i = 0;

	while (i < size && word[i] && lower(data[i]) == word[i])
		i++;
	return i == size && !word[i];
}

/* The end of the header: behind the empty line. 0: it is not here. */
static size_t find_end(const char *data, size_t size)
{
	for (size_t i = 3; i < size; i++)
		if (memcmp(data + i - 3, "\r\n\r\n", 4) == 0)
			return i + 1;
	return 0;
}

static enum request_verdict parse_target(const char *data, size_t size, struct request *request)
{
	size_t path = 0;

	if (size == 0 || data[0] != '/')
		return REQUEST_VERDICT_MALFORMED;
	for (size_t i = 0; i < size; i++)
		if (data[i] <= ' ' || data[i] > '~')
			return REQUEST_VERDICT_MALFORMED;
	while (path < size && data[path] != '?')
		path++;
	if (path >= sizeof request->path)
		return REQUEST_VERDICT_TARGET;
	memcpy(request->path, data, path);
	request->path[path] = '\0';
	return REQUEST_VERDICT_OK;
}

static enum request_verdict parse_line(const char *data, size_t size, struct request *request,
				       bool *old)
{
	const char *target = memchr(data, ' ', size), *version;
	size_t rest;
	enum request_verdict verdict;

	if (!target || target == data)
		return REQUEST_VERDICT_MALFORMED;
	for (const char *c = data; c < target; c++)
		if (!is_token(*c))
			return REQUEST_VERDICT_MALFORMED;
	rest = size - (size_t)(++target - data);
	version = memchr(target, ' ', rest);
	if (!version)
		return REQUEST_VERDICT_MALFORMED;
	verdict = parse_target(target, (size_t)(version - target), request);
	if (verdict != REQUEST_VERDICT_OK)
		return verdict;
	rest -= (size_t)(++version - target);
	if (rest != 8 || memcmp(version, "HTTP/", 5) != 0)
		return REQUEST_VERDICT_MALFORMED;
	if (memcmp(version + 5, "1.", 2) != 0 || (version[7] != '0' && version[7] != '1'))
		return REQUEST_VERDICT_VERSION;
	*old = version[7] == '0';
	request->head = target - data == 5 && memcmp(data, "HEAD", 4) == 0;
	if (!request->head && !(target - data == 4 && memcmp(data, "GET", 3) == 0))
		return REQUEST_VERDICT_METHOD;
	return REQUEST_VERDICT_OK;
}

/* One of a list of words, separated by commas? */
static bool names(const char *data, size_t size, const char *word)
{
	while (size > 0) {
		size_t skip = 0, length = 0;

		while (skip < size && strchr(" \t,", data[skip]))
			skip++;
		while (skip + length < size && !strchr(" \t,", data[skip + length]))
			length++;
		if (length > 0 && is_word(data + skip, length, word))
			return true;
		data += skip + length;
		size -= skip + length;
	}
	return false;
}

static enum request_verdict parse_field(const char *data, size_t size, struct request *request,
					unsigned *hosts)
{
	const char *colon = memchr(data, ':', size), *value;
	size_t name, length;

	if (!colon || colon == data)
		return REQUEST_VERDICT_MALFORMED;
	name = (size_t)(colon - data);
	for (size_t i = 0; i < name; i++)
		if (!is_token(data[i]))
			return REQUEST_VERDICT_MALFORMED; /* also a space before the colon, or a fold */
	value = colon + 1;
	length = size - name - 1;
	for (size_t i = 0; i < length; i++)
		if ((value[i] < ' ' && value[i] != '\t') || value[i] == 0x7f)
			if (!(value[i] & 0x80))
				return REQUEST_VERDICT_MALFORMED;
	while (length > 0 && (*value == ' ' || *value == '\t'))
		value++, length--;
	while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
		length--;
	if (is_word(data, name, "host"))
		++*hosts;
	else if (is_word(data, name, "connection") && names(value, length, "close"))
		request->close = true;
	else if (is_word(data, name, "transfer-encoding") ||
		 (is_word(data, name, "content-length") && !is_word(value, length, "0")))
		return REQUEST_VERDICT_BODY;
	return REQUEST_VERDICT_OK;
}

enum request_verdict request_parse(const char *data, size_t size, struct request *request)
{
	size_t end = find_end(data, size < REQUEST_SIZE_MAX ? size : REQUEST_SIZE_MAX);
	enum request_verdict verdict;
	unsigned hosts = 0;
	const char *line, *next;
	bool old = false;

	if (end == 0) {
		if (size < REQUEST_SIZE_MAX)
			return REQUEST_VERDICT_MORE;
		return memchr(data, '\n', REQUEST_SIZE_MAX) ? REQUEST_VERDICT_FIELDS
							    : REQUEST_VERDICT_TARGET;
	}
	memset(request, 0, sizeof *request);
	request->size = end;
	for (line = data; line < data + end; line = next + 2) {
		/* Lines end with CR LF; a CR or LF alone is caught as a control character. */
		next = memchr(line, '\r', (size_t)(data + end - line));
		if (!next || next[1] != '\n')
			return REQUEST_VERDICT_MALFORMED;
		if (line == data)
			verdict = parse_line(line, (size_t)(next - line), request, &old);
		else if (next == line)
			break;
		else
			verdict = parse_field(line, (size_t)(next - line), request, &hosts);
		if (verdict != REQUEST_VERDICT_OK)
			return verdict;
	}
	/* RFC 9112 3.2: exactly one Host, which version 1.0 did not know yet. */
	if (hosts > 1 || (hosts == 0 && !old))
		return REQUEST_VERDICT_MALFORMED;
	if (old)
		request->close = true;
	return REQUEST_VERDICT_OK;
}

static const struct {
	int status;
	const char *text;
} statuses[REQUEST_VERDICT_COUNT] = {
#define REQUEST_VERDICT_ROW(name, status, text) [REQUEST_VERDICT_##name] = { status, text },
	REQUEST_VERDICTS(REQUEST_VERDICT_ROW)
#undef REQUEST_VERDICT_ROW
};

int request_verdict_status(enum request_verdict verdict)
{
	return statuses[verdict].status;
}

const char *request_status_text(int status)
{
	for (size_t i = 0; i < BASE_COUNT_OF(statuses); i++)
		if (statuses[i].text && statuses[i].status == status)
			return statuses[i].text;
	return status == 404 ? "Not Found" : "Service Unavailable";
}
