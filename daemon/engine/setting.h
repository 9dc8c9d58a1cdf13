#pragma once

/* A number of the kernel's, a file below /proc/sys or /sys; -1: it is not there. */
long setting_number(const char *path);

/* The first character of a setting of the kernel's, a file below /proc/sys or /sys: '0' if it is not there. */
__attribute__((format(printf, 1, 2))) char setting_read(const char *path, ...);
