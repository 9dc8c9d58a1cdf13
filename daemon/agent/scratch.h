#pragma once

/*
 * Memory for cJSON trees, which live for one callback here and are kept as text: blocks that are
 * filled from the front and given back as a whole when the last tree is gone. Between short-lived
 * trees the ordinary heap would be full of holes, several times what is kept.
 */
void scratch_install(void); /* before the first tree; for the whole process */
