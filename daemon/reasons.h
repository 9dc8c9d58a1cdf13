#pragma once

/*
 * `vipd reasons [WORD...] [-o table|catalog|markdown]`: the one vocabulary (base/reason.h) for people. The
 * catalog is what journalctl -x shows: see deploy/README.md.
 */
int reasons_main(int argc, char **argv);
