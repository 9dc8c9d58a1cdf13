#include "daemon/engine/setting.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

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
