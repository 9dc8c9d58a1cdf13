#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/core/probe_connections.h"

/*
 * Connections that the prober holds through a drill (core/probe_connections.h), as frames over its packet
 * socket. The kernel of this node knows nothing of them and would answer what comes for them with a reset:
 * so for each a socket of the kernel's stands in the way, set up by TCP_REPAIR without a packet, deaf by a
 * filter. Needs CAP_NET_ADMIN.
 */
struct held {
	bool wanted;
	int sockets[PROBE_CONNECTIONS]; /* -1: none */
	uint16_t next_port;             /* each drill has ports of its own */
	uint64_t asked_us;
	struct probe_packet packet;
	struct probe_connection list[PROBE_CONNECTIONS];
};

void held_init(struct held *held);
/* To `target`, from `source`, an address of this node. 0, or -errno. */
int held_open(struct held *held, const struct base_address *source,
	      const struct base_address *target, uint16_t port, uint64_t now_us);
/* They are asked, if it is time: at this MAC, by packets from that one. */
void held_ask(struct held *held, int fd, uint64_t now_us, const struct base_mac *from,
	      const struct base_mac *to);
void held_hear(struct held *held, int fd, const uint8_t *data, size_t size);
/* None are wanted any more. Those that are open are reset, if `fd` is none of -1. */
void held_close(struct held *held, int fd);
