#include "daemon/metrics/counters.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int counters_create(void)
{
	int fd = memfd_create("vipd-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

	if (fd < 0)
		return -errno;
	/* Shrunk by the feeder it would be the end of who reads it. */
	if (ftruncate(fd, sizeof(struct counters)) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static struct counters *map(int protection)
{
	static struct counters nobody;
	struct stat status;
	void *memory;

	if (fstat(COUNTERS_FD, &status) < 0 || !S_ISREG(status.st_mode) ||
	    status.st_size != sizeof(struct counters))
		return &nobody;
	memory = mmap(NULL, sizeof(struct counters), protection, MAP_SHARED, COUNTERS_FD, 0);
	return memory == MAP_FAILED ? &nobody : memory;
}

struct counters *counters_own(void)
{
	return map(PROT_READ | PROT_WRITE);
}

const struct counters *counters_read(void)
{
	return map(PROT_READ);
}
