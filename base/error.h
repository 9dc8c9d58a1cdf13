#pragma once

/*
 * An error that a person will read: configuration, API objects, start-up.
 *
 * Lives in the caller's memory, nothing to free. `code` is a negative errno (0: no error),
 * `message` one sentence without full stop: what was wrong, where, and what to write instead.
 */
struct base_error {
	int code;
	char message[512];
};

/* Fills `error` (which may be NULL) and returns `code`, so that `return base_error_set(...)` works. */
__attribute__((format(printf, 3, 4))) int base_error_set(struct base_error *error, int code,
							  const char *format, ...);
