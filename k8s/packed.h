#pragma once

#include <stdbool.h>

#include <cjson/cJSON.h>

/*
 * Objects that are kept for long and looked at rarely: their JSON text, deflated (zlib). Objects of one kind
 * look much alike, and like the dictionary in packed.c: a VirtualIP of 470 bytes takes 90.
 * The same text packs to the same bytes, as long as one process packed both.
 */
struct k8s_packed;

/* NULL: out of memory. Free it with free(). */
struct k8s_packed *k8s_pack(const char *text);
/* The text, to be freed; NULL: out of memory. */
char *k8s_unpack(const struct k8s_packed *packed);
/* The tree that the text is. NULL: out of memory, or the text was no JSON. */
cJSON *k8s_unpack_tree(const struct k8s_packed *packed);
bool k8s_packed_equal(const struct k8s_packed *a, const struct k8s_packed *b);
