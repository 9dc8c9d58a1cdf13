#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An IPv4 or IPv6 address; unused bytes are zero, so two can be compared whole. */
enum base_family {
	BASE_FAMILY_NONE = 0,
	BASE_FAMILY_IPV4 = 4,
	BASE_FAMILY_IPV6 = 6,
};

struct base_address {
	uint8_t family;	   /* enum base_family */
	uint8_t bytes[16]; /* network order; IPv4 uses the first four */
};

struct base_prefix {
	struct base_address address;
	uint8_t length; /* bits, 0..32 or 0..128 */
};

struct base_mac {
	uint8_t bytes[6];
};

#define BASE_ADDRESS_TEXT_SIZE 46 /* longest text and its NUL */
#define BASE_PREFIX_TEXT_SIZE  50
#define BASE_MAC_TEXT_SIZE     18

/* Bytes in an address of this family: 4, 16, or 0 for none. */
size_t base_address_size(const struct base_address *address);

struct base_address base_address_ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d);
struct base_address base_address_from_bytes(enum base_family family, const uint8_t *bytes);

/* Strict text forms only: no leading zeros in IPv4, no zone, no IPv4-mapped IPv6. */
bool base_address_parse(const char *text, struct base_address *address);
bool base_prefix_parse(const char *text, struct base_prefix *prefix);
bool base_mac_parse(const char *text, struct base_mac *mac);

/* Canonical text (RFC 5952); "" for no address. Returns `text`. */
const char *base_address_format(const struct base_address *address,
				char text[static BASE_ADDRESS_TEXT_SIZE]);
const char *base_prefix_format(const struct base_prefix *prefix,
			       char text[static BASE_PREFIX_TEXT_SIZE]);
const char *base_mac_format(const struct base_mac *mac, char text[static BASE_MAC_TEXT_SIZE]);

/* Order: family first, then unsigned network order. */
int base_address_compare(const struct base_address *a, const struct base_address *b);
bool base_address_equal(const struct base_address *a, const struct base_address *b);
bool base_address_is_link_local(const struct base_address *address);
/* Loopback, multicast, unspecified, broadcast, link-local: never a virtual address. */
bool base_address_is_special(const struct base_address *address);

bool base_prefix_contains(const struct base_prefix *prefix, const struct base_address *address);
struct base_address base_prefix_first(const struct base_prefix *prefix);
struct base_address base_prefix_last(const struct base_prefix *prefix);

/* The neighbours in numeric order; false at the end of the family's range. */
bool base_address_next(const struct base_address *address, struct base_address *next);
bool base_address_previous(const struct base_address *address, struct base_address *previous);

/* Object name of a virtual IP: IPv4 as it is, IPv6 fully expanded with '-' for ':'. */
#define BASE_ADDRESS_NAME_SIZE 40
const char *base_address_name(const struct base_address *address,
			      char name[static BASE_ADDRESS_NAME_SIZE]);
