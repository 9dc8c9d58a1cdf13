#pragma once

/*
 * The privileged half of a speaker and of standalone mode: VRRP, election, fence, addresses,
 * announcements and rules of one node, on one loop that waits for nothing.
 */
struct engine_options {
	const char *node;
	const char *state_dir;	 /* the last wishes survive in here; NULL: nowhere */
	const char *runtime_dir; /* lock and status socket */
	const char *fence;	 /* "auto", "egress" or "loopback" */
	const char *unfenced;	 /* "true": run without a fence where the kernel has none */
	const char *role;	 /* "speaker", "standalone" */
	const char *metrics_listen; /* ADDRESS:PORT; "": no metrics and no probes */
	const char *page_program; /* who shows them */
	const char *feeder_program; /* the unprivileged half */
	char *const *feeder_argv;
};

/* Runs until SIGTERM or SIGINT has been carried out; the exit code of the program. */
int engine_run(const struct engine_options *options);
