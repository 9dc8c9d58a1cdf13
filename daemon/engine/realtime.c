#include "daemon/engine/realtime.h"

#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "base/time.h"
#include "daemon/log.h"

#define PRIORITY    10
#define SPIN_MAX_US (5 * BASE_USEC_PER_SEC)
#define TURNS_US    BASE_USEC_PER_SEC
#define BREATH_US   50

static bool locked;

static bool lock(void)
{
	return mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
}

static void lock_memory(bool may_lock)
{
	locked = may_lock && lock();
	if (!locked)
		log_line(LOG_INFO, BASE_REASON_NONE, LOG_NO_FIELDS,
			 "memory is not locked (%s): a node that swaps may miss intervals",
			 may_lock ? strerror(errno) : "CAP_IPC_LOCK is missing");
}

void realtime_start(bool may_lock)
{
	struct sched_param parameter = { .sched_priority = PRIORITY };
	struct rlimit limit = { .rlim_cur = SPIN_MAX_US, .rlim_max = 2 * SPIN_MAX_US };

	lock_memory(may_lock);
	if (setrlimit(RLIMIT_RTTIME, &limit) < 0 ||
	    sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter) < 0)
		log_line(LOG_INFO, BASE_REASON_NONE, LOG_NO_FIELDS,
			 "no realtime priority (%s): intervals below 100 ms may be missed under load",
			 strerror(errno));
}

void realtime_breathe(uint64_t now_us)
{
	static uint64_t breathed_us;

	if (base_usec_since(now_us, breathed_us) < TURNS_US)
		return;
	breathed_us = now_us;
	nanosleep(&(struct timespec){ .tv_nsec = BREATH_US * 1000 }, NULL);
}

void realtime_trim(void)
{
	/* The kernel takes no page out of the middle that is locked. */
	if (locked)
		munlockall();
	malloc_trim(0);
	if (locked)
		locked = lock();
}
