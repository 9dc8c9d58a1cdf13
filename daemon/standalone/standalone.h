#pragma once

/* The unprivileged half of standalone mode: YAML files in a folder become wishes for the engine. */
int standalone_feeder_main(int argc, char **argv);

/* `vipd check PATH...`: 0 fine, 1 findings, 2 usage. */
int check_main(int argc, char **argv);
