#include "daemon/engine/setting.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

long setting_number(const char *path)
{
	char text[32], *end;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	long number;

	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return -1;
	text[got] = '\0';
	number = strtol(text, &end, 10);
	return end == text ? -1 : number;
}

char setting_read(const char *path, ...)
{
	char name[128], value = '0';
	va_list arguments;
	int fd;

	va_start(arguments, path);
	vsnprintf(name, sizeof name, path, arguments);
	va_end(arguments);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return '0';
	if (read(fd, &value, 1) != 1)
		value = '0';
	close(fd);
	return value;
}
