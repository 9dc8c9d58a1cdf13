#include "base/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static int af(const struct base_address *address)
{
	return address->family == BASE_FAMILY_IPV4 ? AF_INET : AF_INET6;
}

size_t base_address_size(const struct base_address *address)
{
	switch (address->family) {
	case BASE_FAMILY_IPV4:
		return 4;
	case BASE_FAMILY_IPV6:
		return 16;
	default:
		return 0;
	}
}

struct base_address base_address_ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	return (struct base_address){ .family = BASE_FAMILY_IPV4, .bytes = { a, b, c, d } };
}

struct base_address base_address_from_bytes(enum base_family family, const uint8_t *bytes)
{
	struct base_address address = { .family = (uint8_t)family };

	memcpy(address.bytes, bytes, base_address_size(&address));
	return address;
}

bool base_address_parse(const char *text, struct base_address *address)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct base_address parsed = { 0 };

	if (inet_pton(AF_INET, text, parsed.bytes) == 1) {
		parsed.family = BASE_FAMILY_IPV4;
	} else if (inet_pton(AF_INET6, text, parsed.bytes) == 1) {
		if (memcmp(parsed.bytes, mapped, sizeof mapped) == 0)
			return false;
		parsed.family = BASE_FAMILY_IPV6;
	} else {
		return false;
	}
	*address = parsed;
	return true;
}

bool base_prefix_parse(const char *text, struct base_prefix *prefix)
{
	const char *slash = strchr(text, '/');
	char head[BASE_ADDRESS_TEXT_SIZE];
	struct base_prefix parsed;
	unsigned length = 0;
	size_t digits = 0;

	if (!slash || (size_t)(slash - text) >= sizeof head)
		return false;
	memcpy(head, text, (size_t)(slash - text));
	head[slash - text] = '\0';
	if (!base_address_parse(head, &parsed.address))
		return false;
	for (const char *c = slash + 1; *c; c++, digits++) {
		if (*c < '0' || *c > '9' || digits >= 3)
			return false;
		length = length * 10 + (unsigned)(*c - '0');
	}
	if (digits == 0 || (digits > 1 && slash[1] == '0') ||
	    length > base_address_size(&parsed.address) * 8)
		return false;
	parsed.length = (uint8_t)length;
	*prefix = parsed;
	return true;
}

bool base_mac_parse(const char *text, struct base_mac *mac)
{
	unsigned b[6];
	int end = 0;

	if (text[strspn(text, "0123456789abcdefABCDEF:")] ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6 ||
	    end != 17 || text[end])
		return false;
	for (unsigned i = 0; i < 6; i++)
		mac->bytes[i] = (uint8_t)b[i];
	return true;
}

const char *base_address_format(const struct base_address *address,
				char text[static BASE_ADDRESS_TEXT_SIZE])
{
	text[0] = '\0';
	if (base_address_size(address) > 0)
		inet_ntop(af(address), address->bytes, text, BASE_ADDRESS_TEXT_SIZE);
	return text;
}

const char *base_prefix_format(const struct base_prefix *prefix,
			       char text[static BASE_PREFIX_TEXT_SIZE])
{
	char address[BASE_ADDRESS_TEXT_SIZE];

	snprintf(text, BASE_PREFIX_TEXT_SIZE, "%s/%u",
		 base_address_format(&prefix->address, address), prefix->length);
	return text;
}

const char *base_mac_format(const struct base_mac *mac, char text[static BASE_MAC_TEXT_SIZE])
{
	snprintf(text, BASE_MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac->bytes[0],
		 mac->bytes[1], mac->bytes[2], mac->bytes[3], mac->bytes[4], mac->bytes[5]);
	return text;
}

int base_address_compare(const struct base_address *a, const struct base_address *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->bytes, b->bytes, base_address_size(a));
}

bool base_address_equal(const struct base_address *a, const struct base_address *b)
{
	return base_address_compare(a, b) == 0;
}

bool base_address_is_link_local(const struct base_address *address)
{
	switch (address->family) {
	case BASE_FAMILY_IPV4:
		return address->bytes[0] == 169 && address->bytes[1] == 254;
	case BASE_FAMILY_IPV6:
		return address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
	default:
		return false;
	}
}

bool base_address_is_special(const struct base_address *address)
{
	static const uint8_t loopback[16] = { [15] = 1 };
	static const uint8_t zero[16];

	switch (address->family) {
	case BASE_FAMILY_IPV4:
		return address->bytes[0] == 0 || address->bytes[0] == 127 ||
		       address->bytes[0] >= 224 || base_address_is_link_local(address);
	case BASE_FAMILY_IPV6:
		return memcmp(address->bytes, zero, 16) == 0 ||
		       memcmp(address->bytes, loopback, 16) == 0 || address->bytes[0] == 0xff ||
		       base_address_is_link_local(address);
	default:
		return true;
	}
}

/* The address with the bits behind the prefix all zero or all one. */
static struct base_address fill(const struct base_prefix *prefix, bool ones)
{
	struct base_address address = prefix->address;
	size_t size = base_address_size(&address);

	for (size_t i = 0; i < size; i++) {
		int kept = (int)prefix->length - (int)(i * 8);
		uint8_t mask = kept >= 8 ? 0xff : kept <= 0 ? 0 : (uint8_t)(0xff << (8 - kept));

		address.bytes[i] = (uint8_t)((address.bytes[i] & mask) | (ones ? ~mask : 0));
	}
	return address;
}

struct base_address base_prefix_first(const struct base_prefix *prefix)
{
	return fill(prefix, false);
}

struct base_address base_prefix_last(const struct base_prefix *prefix)
{
	return fill(prefix, true);
}

bool base_prefix_contains(const struct base_prefix *prefix, const struct base_address *address)
{
	struct base_address first, last;

	if (prefix->address.family != address->family)
		return false;
	first = base_prefix_first(prefix);
	last = base_prefix_last(prefix);
	return base_address_compare(&first, address) <= 0 &&
	       base_address_compare(address, &last) <= 0;
}

bool base_address_next(const struct base_address *address, struct base_address *next)
{
	*next = *address;
	for (size_t i = base_address_size(address); i-- > 0;)
		if (++next->bytes[i] != 0)
			return true;
	return false;
}

bool base_address_previous(const struct base_address *address, struct base_address *previous)
{
	*previous = *address;
	for (size_t i = base_address_size(address); i-- > 0;)
		if (previous->bytes[i]-- != 0)
			return true;
	return false;
}

const char *base_address_name(const struct base_address *address,
			      char name[static BASE_ADDRESS_NAME_SIZE])
{
	if (address->family == BASE_FAMILY_IPV4) {
		snprintf(name, BASE_ADDRESS_NAME_SIZE, "%u.%u.%u.%u", address->bytes[0],
			 address->bytes[1], address->bytes[2], address->bytes[3]);
		return name;
	}
	for (unsigned i = 0; i < 8; i++)
		snprintf(name + i * 5, BASE_ADDRESS_NAME_SIZE - i * 5, i < 7 ? "%02x%02x-" : "%02x%02x",
			 address->bytes[i * 2], address->bytes[i * 2 + 1]);
	return name;
}
