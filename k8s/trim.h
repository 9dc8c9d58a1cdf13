#pragma once

#include <stddef.h>

/*
 * What the API server says of who wrote which field, metadata.managedFields: a third or more of every object, and
 * read by nobody here. Cut out of the text of one object before a tree is made of it: in place, answers the new size.
 * A text of another form stays as it is; whether it is JSON at all, who parses it finds out.
 */
size_t k8s_trim(char *text, size_t size);
