#pragma once

#include <stdbool.h>

struct engine;

/*
 * The process that shows this node over HTTP (daemon/metrics/page.h): started with the engine, again
 * with back-off when it ends, ended with us. Its questions are answered when nothing else is to be
 * done, a bounded number of them a second.
 */
struct page;

/* The memory that the feeder counts in; -1: none. To be made before the feeder. */
int page_counters(const struct page *page);

/* 0, also with --metrics-listen "" (then nothing is started), or -errno: one can do without. */
int page_new(struct page **page, struct engine *engine);
/* It cannot take its port, and goes on trying. */
bool page_refused(const struct page *page);
void page_free(struct page *page); /* NULL is fine */
