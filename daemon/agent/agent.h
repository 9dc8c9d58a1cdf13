#pragma once

/* The unprivileged half of a speaker: the API server's words to the engine, and the engine's back. */
int agent_main(int argc, char **argv);
