#pragma once

/* `vipd controller`: from Services to VirtualIPs and back to the status of Services. */
int controller_main(int argc, char **argv);
