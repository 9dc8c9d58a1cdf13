/*
 * replay FOLDER: every file of the corpus as it is, cut at each length, and with each byte inverted:
 * what the fuzzer has found stays found, also where there is no clang.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/fuzz/target.h"

#define SIZE_MAX_ 65536
#define CHANGES   512 /* cut and inverted at so many places of a large file */

/* A copy of exactly that size, so that the sanitizer sees a read behind it. */
static void feed(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void replay(uint8_t *data, size_t size)
{
	size_t step = size / CHANGES + 1;

	feed(data, size);
	for (size_t at = 0; at < size; at += step) {
		feed(data, at);
		data[at] ^= 0xff;
		feed(data, size);
		data[at] ^= 0xff;
	}
}

int main(int argc, char **argv)
{
	static uint8_t data[SIZE_MAX_];
	DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	int count = 0;

	if (!folder) {
		fprintf(stderr, "usage: replay FOLDER\n");
		return 2;
	}
	while ((entry = readdir(folder))) {
		char path[4096];
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
		file = fopen(path, "re");
		if (!file)
			return 1;
		replay(data, fread(data, 1, sizeof data, file));
		fclose(file);
		count++;
	}
	closedir(folder);
	printf("%d files\n", count);
	return count > 0 ? 0 : 1;
}
