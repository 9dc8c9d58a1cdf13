#pragma once

/* The unprivileged half of a speaker: the API server's words to the engine, and the engine's back. */
int agent_main(int argc, char **argv);

/*
 * Before a speaker starts: can the kubeconfig be used at all? Says on stderr what is wrong with it.
 * Looked at by a child, so that the privileged half never holds a secret.
 */
int agent_check(const char *kubeconfig);
