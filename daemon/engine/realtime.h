#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Of the engine's process: on time even where the node is short of processor and memory, and no harm to the node
 * if it runs wild. Improvements, not conditions: what is not granted is logged.
 */

/*
 * Realtime priority (SCHED_RR), memory locked where it has been touched, and an end by SIGXCPU after 5 s of
 * processor without a wait: nothing else would run. `may_lock`: CAP_IPC_LOCK is there; without it a limit on locked
 * memory would let allocations fail later.
 */
void realtime_start(bool may_lock);

/*
 * After each turn of the loop. One that has work for seconds never waits, and would be taken for one that spins:
 * so it waits for an instant each second.
 */
void realtime_breathe(uint64_t now_us);

/* Gives free memory back to the system, locked or not. */
void realtime_trim(void);
