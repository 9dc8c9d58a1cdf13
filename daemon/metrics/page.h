#pragma once

/*
 * `vipd-page`, a child of the engine: /metrics, /healthz, /readyz and /state of a node over HTTP. It
 * has no privileges and knows nothing itself: the engine answers its questions (daemon/metrics/record.h)
 * over the socket that it inherited. So what comes over HTTP never reaches the engine, a hanging or
 * dead feeder does not matter to it, and an engine that hangs is an answer 503. A program of its own that
 * needs no library: it is on every node.
 */
#define PAGE_FD 3 /* SOCK_SEQPACKET to the engine; COUNTERS_FD: what the feeder counts */
