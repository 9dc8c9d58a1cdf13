#pragma once

#include <stdio.h>

#include <cjson/cJSON.h>

/*
 * Who answered for an address while a drill ran: status.runs[].timeline, as lines of text and as a picture.
 * Both show the part in which something changed, enlarged.
 */
void timeline_print(FILE *file, const cJSON *run);
/* A whole SVG document with `title` above it. */
void timeline_draw(FILE *file, const cJSON *run, const char *title);
