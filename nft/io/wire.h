#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nft/desired.h"

/*
 * Elements of sets and maps, put into the kernel and read from it over one long-lived netlink socket:
 * some microseconds a change, whatever other tables there are. libnftables would read all of those
 * each time, and closing a socket waits for the kernel for more than 10 ms.
 *
 * The kernel works a transaction off before commit() returns, and waits for foreign ones before: a second
 * and more where somebody loads thousands of rules. Who cannot wait for that has a thread wait.
 */
struct nft_wire;

int nft_wire_new(struct nft_wire **wire);
void nft_wire_free(struct nft_wire *wire);
uint32_t nft_wire_port(const struct nft_wire *wire); /* netlink's name for it */

/*
 * One transaction: all of it, or nothing. commit() answers 0 or the first -errno the kernel said;
 * -ENOENT: the set or what is deleted is not there, -EEXIST: the key is there with other data.
 */
void nft_wire_begin(struct nft_wire *wire);
void nft_wire_element(struct nft_wire *wire, bool add, const struct nft_element *element);
/* The address of this element of `local` to `moved` and `early`, for all of their time; the kernel empties them by itself. */
void nft_wire_moved(struct nft_wire *wire, const struct nft_element *local);
int nft_wire_commit(struct nft_wire *wire);

/*
 * The same by a thread of the wire's own, for a loop that has more urgent things to do than to wait:
 * submit() answers as commit() does, or -EINPROGRESS after some 2 ms. With realtime priority it stays awake for
 * the first 0.2: a transaction of a few elements takes less than to fall asleep and be woken. Then nft_wire_fd() is readable when
 * result() has the answer, which says -EINPROGRESS until then unless it is to `wait`; in between the wire
 * is for nothing else. The thread is made by the first submit(), with the caller's priority; where none
 * can be made the caller waits.
 */
int nft_wire_submit(struct nft_wire *wire);
int nft_wire_result(struct nft_wire *wire, bool wait);
int nft_wire_fd(const struct nft_wire *wire);

/* For other messages of a transaction (guard.c). `type`: NFT_MSG_…, `family`: NFPROTO_… */
void nft_wire_message(struct nft_wire *wire, uint16_t type, uint16_t flags, uint8_t family);
void nft_wire_put(struct nft_wire *wire, uint16_t type, const void *data, size_t size);
void nft_wire_put_text(struct nft_wire *wire, uint16_t type, const char *text);
void nft_wire_put_number(struct nft_wire *wire, uint16_t type, uint32_t number); /* big endian */
size_t nft_wire_open(struct nft_wire *wire, uint16_t type); /* a nested attribute */
void nft_wire_close(struct nft_wire *wire, size_t opened);

/*
 * Calls back for each element of a set: key and data.
 * `count` is 0 where elements have no counter. 0; -ENOENT: no such set; -EAGAIN: somebody
 * changed rules meanwhile, so some may be missing or there twice; another -errno. With `start` and
 * `more` it is read piece by piece: more() answers 1 until the end, and never waits.
 */
struct nft_found {
	size_t key_size, data_size;
	const uint8_t *key, *data;
	uint64_t packets, bytes;
};
typedef void nft_found_fn(void *userdata, const struct nft_found *found);
int nft_wire_dump(struct nft_wire *wire, const char *table, const char *set, nft_found_fn *found,
		  void *userdata);
int nft_wire_dump_start(struct nft_wire *wire, const char *table, const char *set);
int nft_wire_dump_more(struct nft_wire *wire, nft_found_fn *found, void *userdata);
