/* Adverts as bytes: RFC 9568 section 5, RFC 3768 section 5, and what keepalived 2.2.7 really sends. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "test/unit/unit.h"
#include "vrrp/packet.h"

#define V4(d) base_address_ipv4(192, 0, 2, d)

/* Captured from Debian 12's keepalived; what stands behind the IP header. */
static const uint8_t keepalived_v3[] = {
	/* pseudo-header in the checksum, 100 ms */
	0x31, 0x0a, 0x96, 0x02, 0x00, 0x0a, 0x11, 0x8a,
	0xc0, 0x00, 0x02, 0x64, 0xc0, 0x00, 0x02, 0x65,
};
static const uint8_t keepalived_resigns[] = {
	0x31, 0x0a, 0x00, 0x02, 0x00, 0x0a, 0xa7, 0x8a,
	0xc0, 0x00, 0x02, 0x64, 0xc0, 0x00, 0x02, 0x65,
};
static const uint8_t keepalived_v3_ipv6[] = {
	0x31, 0x0b, 0x78, 0x02, 0x00, 0x64, 0x2b, 0x25, 0xfe, 0x80, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x20, 0x01, 0x0d, 0xb8,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
};
static const uint8_t keepalived_v2[] = {
	0x21, 0x0c, 0x64, 0x01, 0x00, 0x01, 0xb8, 0x8a, 0xc0, 0x00,
	0x02, 0x66, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};
static const uint8_t keepalived_v2_password[] = {
	0x21, 0x0d, 0x64, 0x01, 0x01, 0x01, 0x7b, 0x3c, 0xc0, 0x00,
	0x02, 0x67, 0x73, 0x65, 0x63, 0x72, 0x65, 0x74, 0x00, 0x00,
};

static struct vrrp_packet_meta meta4(void)
{
	return (struct vrrp_packet_meta){ .source = V4(1),
					  .destination = base_address_ipv4(224, 0, 0, 18),
					  .ttl = 255 };
}

static struct vrrp_packet_meta meta6(void)
{
	struct vrrp_packet_meta meta = { .ttl = 255 };

	assert_true(base_address_parse("fe80::ff:fe00:1", &meta.source));
	assert_true(base_address_parse("ff02::12", &meta.destination));
	return meta;
}

/* RFC 9568 5.2.8: the message alone; or with the pseudo-header, as RFC 5798 is practised on Linux. */
static void put_checksum(uint8_t *data, size_t size, const struct vrrp_packet_meta *meta,
			 bool pseudo)
{
	uint32_t sum;
	uint16_t checksum;

	data[6] = data[7] = 0;
	sum = vrrp_checksum_add(0, data, size);
	if (pseudo)
		sum += vrrp_checksum_pseudo(&meta->source, &meta->destination, VRRP_PROTOCOL, size);
	checksum = vrrp_checksum_finish(sum);
	data[6] = (uint8_t)(checksum >> 8);
	data[7] = (uint8_t)checksum;
}

static void test_adverts_of_keepalived_are_understood(void **state)
{
	static const struct {
		const char *name;
		const uint8_t *data;
		size_t size;
		bool ipv6;
		uint8_t version, id, priority;
		bool pseudo_header;
		uint32_t interval_us;
		unsigned count;
		const char *last; /* address */
	} rows[] = {
		{ "version 3 over IPv4, every 100 ms", keepalived_v3, sizeof keepalived_v3, false,
		  3, 10, 150, true, 100000, 2, "192.0.2.101" },
		{ "priority 0: it resigns", keepalived_resigns, sizeof keepalived_resigns, false, 3,
		  10, 0, true, 100000, 2, "192.0.2.101" },
		{ "version 3 over IPv6, every second", keepalived_v3_ipv6,
		  sizeof keepalived_v3_ipv6, true, 3, 11, 120, true, 1000000, 2, "2001:db8::100" },
		{ "version 2", keepalived_v2, sizeof keepalived_v2, false, 2, 12, 100, false,
		  1000000, 1, "192.0.2.102" },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct vrrp_packet_meta meta = rows[i].ipv6 ? meta6() : meta4();
		struct vrrp_advert advert = { 0 };
		char text[BASE_ADDRESS_TEXT_SIZE];

		ASSERT_ROW(rows[i].name, vrrp_packet_parse(rows[i].data, rows[i].size, &meta,
							   &advert) == VRRP_VERDICT_OK);
		ASSERT_ROW(rows[i].name, advert.version == rows[i].version);
		ASSERT_ROW(rows[i].name, advert.virtual_router_id == rows[i].id);
		ASSERT_ROW(rows[i].name, advert.priority == rows[i].priority);
		ASSERT_ROW(rows[i].name, advert.pseudo_header == rows[i].pseudo_header);
		ASSERT_ROW(rows[i].name, advert.interval_us == rows[i].interval_us);
		ASSERT_ROW(rows[i].name, advert.address_count == rows[i].count);
		assert_string_equal(
			base_address_format(&advert.addresses[advert.address_count - 1], text),
			rows[i].last);
	}
}

static void test_our_adverts_are_the_bytes_that_keepalived_would_send(void **state)
{
	static const struct {
		const char *name;
		const uint8_t *data;
		size_t size;
		bool ipv6;
	} rows[] = {
		{ "version 3 over IPv4", keepalived_v3, sizeof keepalived_v3, false },
		{ "version 3, priority 0", keepalived_resigns, sizeof keepalived_resigns, false },
		{ "version 3 over IPv6", keepalived_v3_ipv6, sizeof keepalived_v3_ipv6, true },
		{ "version 2", keepalived_v2, sizeof keepalived_v2, false },
	};

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		struct vrrp_packet_meta meta = rows[i].ipv6 ? meta6() : meta4();
		struct vrrp_advert advert;
		uint8_t built[VRRP_PACKET_SIZE_MAX];

		memset(built, 0xaa, sizeof built);
		assert_int_equal(vrrp_packet_parse(rows[i].data, rows[i].size, &meta, &advert),
				 VRRP_VERDICT_OK);
		ASSERT_ROW(rows[i].name,
			   vrrp_packet_build(&advert, &meta, built, sizeof built) == rows[i].size);
		assert_memory_equal(built, rows[i].data, rows[i].size);
		ASSERT_ROW(rows[i].name,
			   vrrp_packet_build(&advert, &meta, built, rows[i].size) == rows[i].size);
		ASSERT_ROW(rows[i].name,
			   vrrp_packet_build(&advert, &meta, built, rows[i].size - 1) == 0);
	}
}

/* One row: a good packet, up to three bytes of it changed, and what the parser must say then. */
struct change {
	uint8_t offset, value;
};

static const struct row {
	const char *name;
	const uint8_t *data;
	uint8_t size, missing; /* bytes, of them cut off at the end */
	bool ipv6;
	uint8_t routed; /* how often: each takes 1 off the TTL */
	struct change changes[3];
	unsigned change_count;
	bool sum_again; /* the checksum is right for the changed bytes */
	enum vrrp_verdict verdict;
} rows[] = {
#define IPV4(data_) .data = data_, .size = sizeof data_
#define IPV6(data_) .data = data_, .size = sizeof data_, .ipv6 = true
#define CHANGE(...)                                                                                \
	.changes = { __VA_ARGS__ },                                                                \
	.change_count = sizeof((struct change[]){ __VA_ARGS__ }) / sizeof(struct change)
	/* RFC 9568 5.1.1.3, 5.1.2.3 */
	{ "a packet that was routed has a lower TTL", IPV4(keepalived_v3), .routed = 1,
	  .verdict = VRRP_VERDICT_BAD_TTL },
	{ "a packet that was routed has a lower hop limit", IPV6(keepalived_v3_ipv6), .routed = 1,
	  .verdict = VRRP_VERDICT_BAD_TTL },
	{ "TTL 0 is not 255 either", IPV4(keepalived_v3), .routed = 255,
	  .verdict = VRRP_VERDICT_BAD_TTL },
	/* 7.1: version, type, length, checksum */
	{ "version 1 is nobody's", IPV4(keepalived_v3), CHANGE({ 0, 0x11 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_BAD_VERSION },
	{ "version 4 is not known yet", IPV4(keepalived_v3), CHANGE({ 0, 0x41 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_BAD_VERSION },
	{ "version 15 closes our own fence and is never taken from a LAN", IPV4(keepalived_v3),
	  CHANGE({ 0, 0xf1 }), .sum_again = true, .verdict = VRRP_VERDICT_BAD_VERSION },
	{ "version 2 has no IPv6", IPV6(keepalived_v3_ipv6), CHANGE({ 0, 0x21 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_BAD_VERSION },
	/* 5.2.2 */
	{ "type 0 is no advertisement", IPV4(keepalived_v3), CHANGE({ 0, 0x30 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_BAD_TYPE },
	{ "type 2 is no advertisement", IPV6(keepalived_v3_ipv6), CHANGE({ 0, 0x32 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_BAD_TYPE },
	{ "type 2 in version 2", IPV4(keepalived_v2), CHANGE({ 0, 0x22 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_BAD_TYPE },
	/* 5.2.3: 1 to 255 */
	{ "virtual router 0 does not exist", IPV4(keepalived_v3), CHANGE({ 1, 0 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_BAD_VRID },
	{ "virtual router 255 does", IPV4(keepalived_v3), CHANGE({ 1, 255 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_OK },
	/* 5.2.5, erratum 8299 */
	{ "an advert for no address says nothing", IPV4(keepalived_v3), CHANGE({ 3, 0 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_NO_ADDRESS },
	{ "address count promises more than there is", IPV4(keepalived_v3), CHANGE({ 3, 3 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_TOO_SHORT },
	{ "address count promises far more than there is", IPV6(keepalived_v3_ipv6),
	  CHANGE({ 3, 255 }), .sum_again = true, .verdict = VRRP_VERDICT_TOO_SHORT },
	{ "version 2 without its authentication field", IPV4(keepalived_v2), .missing = 8,
	  .verdict = VRRP_VERDICT_TOO_SHORT },
	{ "half a header", IPV4(keepalived_v3), .missing = 9, .verdict = VRRP_VERDICT_TOO_SHORT },
	{ "nothing behind the IP header", IPV4(keepalived_v3), .missing = 16,
	  .verdict = VRRP_VERDICT_TOO_SHORT },
	/* 5.2.6 */
	{ "the reserved bits are ignored on receipt", IPV4(keepalived_v3), CHANGE({ 4, 0xf0 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_OK },
	/* 5.2.7, erratum 8301: an interval of 0 would be an instant timeout, and a storm */
	{ "interval 0", IPV4(keepalived_v3), CHANGE({ 5, 0 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_BAD_INTERVAL },
	{ "interval 0 behind reserved bits", IPV4(keepalived_v3), CHANGE({ 4, 0xf0 }, { 5, 0 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_BAD_INTERVAL },
	{ "interval 0 in version 2", IPV4(keepalived_v2), CHANGE({ 5, 0 }), .sum_again = true,
	  .verdict = VRRP_VERDICT_BAD_INTERVAL },
	/* 5.2.8 */
	{ "one bit is wrong", IPV4(keepalived_v3), CHANGE({ 15, 0x64 }),
	  .verdict = VRRP_VERDICT_BAD_CHECKSUM },
	{ "no checksum at all", IPV4(keepalived_v3), CHANGE({ 6, 0 }, { 7, 0 }),
	  .verdict = VRRP_VERDICT_BAD_CHECKSUM },
	{ "one bit is wrong over IPv6", IPV6(keepalived_v3_ipv6), CHANGE({ 39, 1 }),
	  .verdict = VRRP_VERDICT_BAD_CHECKSUM },
	{ "one bit is wrong in version 2", IPV4(keepalived_v2), CHANGE({ 2, 0x65 }),
	  .verdict = VRRP_VERDICT_BAD_CHECKSUM },
	/* 5.2.9, erratum 8300 */
	{ "the first IPv6 address is not link-local", IPV6(keepalived_v3_ipv6), CHANGE({ 8, 0x20 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_NOT_LINK_LOCAL },
	{ "fec0::/10 is not link-local", IPV6(keepalived_v3_ipv6), CHANGE({ 9, 0xc0 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_NOT_LINK_LOCAL },
	{ "febf:: is link-local, fe80::/10 ends there", IPV6(keepalived_v3_ipv6),
	  CHANGE({ 9, 0xbf }), .sum_again = true, .verdict = VRRP_VERDICT_OK },
	/* 5.2.4 */
	{ "priority 255, the address owner", IPV4(keepalived_v3), CHANGE({ 2, 255 }),
	  .sum_again = true, .verdict = VRRP_VERDICT_OK },
	/* RFC 3768 section 7.1: the authentication must be ours, and ours is none */
	{ "version 2 with a password", IPV4(keepalived_v2_password),
	  .verdict = VRRP_VERDICT_BAD_AUTHENTICATION },
	{ "version 2 with an authentication that does not exist", IPV4(keepalived_v2),
	  CHANGE({ 4, 7 }), .sum_again = true, .verdict = VRRP_VERDICT_BAD_AUTHENTICATION },
};

static void test_every_defect_gets_its_own_verdict(void **state)
{
	bool seen[VRRP_VERDICT_COUNT] = { false };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(rows); i++) {
		const struct row *row = &rows[i];
		struct vrrp_packet_meta meta = row->ipv6 ? meta6() : meta4();
		struct vrrp_advert advert, before;
		size_t size = (size_t)row->size - row->missing;
		uint8_t *data = malloc(row->size);
		enum vrrp_verdict verdict;

		memcpy(data, row->data, row->size);
		for (unsigned j = 0; j < row->change_count; j++)
			data[row->changes[j].offset] = row->changes[j].value;
		if (row->sum_again)
			put_checksum(data, row->size, &meta, row->ipv6);
		meta.ttl = (uint8_t)(255 - row->routed);
		memset(&advert, 0x5a, sizeof advert);
		before = advert;
		data = realloc(data, size ? size : 1); /* exactly so long: a sanitizer watches */
		verdict = vrrp_packet_parse(data, size, &meta, &advert);
		if (verdict != row->verdict)
			fail_msg("%s: said \"%s\", not \"%s\"", row->name,
				 vrrp_verdict_text(verdict), vrrp_verdict_text(row->verdict));
		if (verdict != VRRP_VERDICT_OK)
			ASSERT_ROW(row->name, memcmp(&advert, &before, sizeof advert) == 0);
		seen[verdict] = true;
		free(data);
	}
	for (int verdict = 0; verdict < VRRP_VERDICT_COUNT; verdict++)
		if (verdict != VRRP_VERDICT_UNKNOWN_VRID && /* the caller's, who knows what is */
		    verdict != VRRP_VERDICT_STRANGER)       /* configured, and who is who */
			ASSERT_ROW(vrrp_verdict_text((enum vrrp_verdict)verdict), seen[verdict]);
}

/* RFC 9568 5.2.8 and RFC 5798 in practice: frr #9951, keepalived #642 and #2324. */
static void test_ipv4_checksums_are_taken_with_and_without_pseudo_header(void **state)
{
	struct vrrp_packet_meta meta = meta4();
	struct vrrp_advert advert;
	uint8_t data[sizeof keepalived_v3];

	(void)state;
	memcpy(data, keepalived_v3, sizeof data);
	put_checksum(data, sizeof data, &meta, false);
	assert_int_equal(vrrp_packet_parse(data, sizeof data, &meta, &advert), VRRP_VERDICT_OK);
	assert_false(advert.pseudo_header);
	put_checksum(data, sizeof data, &meta, true);
	assert_int_equal(vrrp_packet_parse(data, sizeof data, &meta, &advert), VRRP_VERDICT_OK);
	assert_true(advert.pseudo_header);

	/* Sent by unicast, the destination is in the sum: the multicast one does not fit. */
	meta.destination = V4(2);
	assert_int_equal(vrrp_packet_parse(data, sizeof data, &meta, &advert),
			 VRRP_VERDICT_BAD_CHECKSUM);
	put_checksum(data, sizeof data, &meta, true);
	assert_int_equal(vrrp_packet_parse(data, sizeof data, &meta, &advert), VRRP_VERDICT_OK);
}

static void test_ipv6_checksums_need_the_pseudo_header_and_version_2_has_none(void **state)
{
	struct vrrp_packet_meta meta = meta6();
	struct vrrp_advert advert;
	uint8_t data[sizeof keepalived_v3_ipv6];

	(void)state;
	memcpy(data, keepalived_v3_ipv6, sizeof data);
	put_checksum(data, sizeof data, &meta, false);
	assert_int_equal(vrrp_packet_parse(data, sizeof data, &meta, &advert),
			 VRRP_VERDICT_BAD_CHECKSUM);
	meta = meta4();
	memcpy(data, keepalived_v2, sizeof keepalived_v2);
	put_checksum(data, sizeof keepalived_v2, &meta, true);
	assert_int_equal(vrrp_packet_parse(data, sizeof keepalived_v2, &meta, &advert),
			 VRRP_VERDICT_BAD_CHECKSUM);
}

/* An IPv4 packet may be padded to Ethernet's 60 bytes by whoever forwards it. */
static void test_padding_behind_the_advert_does_not_count(void **state)
{
	struct vrrp_packet_meta meta = meta4();
	struct vrrp_advert advert;
	uint8_t data[46] = { 0 };

	(void)state;
	memcpy(data, keepalived_v3, sizeof keepalived_v3);
	memset(data + sizeof keepalived_v3, 0xee, sizeof data - sizeof keepalived_v3);
	assert_int_equal(vrrp_packet_parse(data, sizeof data, &meta, &advert), VRRP_VERDICT_OK);
	assert_int_equal(advert.address_count, 2);
}

static void test_every_packet_we_build_is_read_back_as_it_was_meant(void **state)
{
	struct base_random random = { 9568 };
	uint8_t data[VRRP_PACKET_SIZE_MAX];

	(void)state;
	for (int round = 0; round < 5000; round++) {
		bool ipv6 = round & 1;
		struct vrrp_packet_meta meta = ipv6 ? meta6() : meta4();
		struct vrrp_advert sent = { 0 }, got;
		size_t size;

		sent.version = !ipv6 && round % 3 == 0 ? 2 : 3;
		sent.virtual_router_id = (uint8_t)(1 + base_random_below(&random, 255));
		sent.priority = (uint8_t)base_random_below(&random, 256);
		sent.pseudo_header = sent.version == 3 && (ipv6 || (round & 4));
		sent.interval_us =
			sent.version == 3
				? (uint32_t)(1 + base_random_below(&random, 4095)) * 10000
				: (uint32_t)(1 + base_random_below(&random, 255)) * 1000000;
		sent.address_count = (unsigned)(1 + base_random_below(&random, 255));
		for (unsigned i = 0; i < sent.address_count; i++) {
			uint8_t bytes[16];

			for (unsigned j = 0; j < 16; j++)
				bytes[j] = (uint8_t)base_random_next(&random);
			if (i == 0) {
				bytes[0] = 0xfe;
				bytes[1] = 0x80;
			}
			sent.addresses[i] = base_address_from_bytes(
				ipv6 ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4, bytes);
		}
		size = vrrp_packet_build(&sent, &meta, data, sizeof data);
		assert_true(size > 0);
		memset(&got, 0, sizeof got);
		assert_int_equal(vrrp_packet_parse(data, size, &meta, &got), VRRP_VERDICT_OK);
		/* Whether a sum of zero bits is with or without pseudo-header, nobody can tell. */
		got.pseudo_header = sent.pseudo_header;
		assert_memory_equal(&got, &sent, sizeof sent);
	}
}

static void test_what_cannot_be_said_is_not_built(void **state)
{
	struct vrrp_packet_meta meta = meta4();
	struct vrrp_advert advert = {
		.version = 3, .virtual_router_id = 1, .priority = 100, .interval_us = 100000000
	};
	uint8_t data[VRRP_PACKET_SIZE_MAX];

	(void)state;
	assert_int_equal(vrrp_packet_build(&advert, &meta, data, sizeof data), 0);
	advert.address_count = VRRP_ADDRESSES_MAX + 1;
	assert_int_equal(vrrp_packet_build(&advert, &meta, data, sizeof data), 0);
	advert.address_count = 1;
	advert.addresses[0] = V4(100);
	assert_int_equal(vrrp_packet_build(&advert, &meta, data, sizeof data), 12);
	/* 100 s have no room in 12 bits of centiseconds: the longest there is. */
	assert_int_equal(data[4] << 8 | data[5], 4095);
	advert.version = 2;
	advert.interval_us = 100000;
	assert_int_equal(vrrp_packet_build(&advert, &meta, data, sizeof data), 20);
	assert_int_equal(data[5], 1); /* version 2 counts seconds */
	meta = meta6();
	assert_int_equal(vrrp_packet_build(&advert, &meta, data, sizeof data), 0); /* IPv4 only */
}

/* RFC 1071, section 3; an odd byte counts as the high half of a word. */
static void test_checksums_are_those_of_the_internet(void **state)
{
	static const uint8_t even[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };
	static const uint8_t odd[] = { 0x00, 0x01, 0xf2 };
	uint8_t *one = malloc(1); /* alone, so that a sanitizer sees a read beside it */

	(void)state;
	*one = 0x12;
	assert_int_equal(vrrp_checksum_finish(vrrp_checksum_add(0, even, sizeof even)), 0x220d);
	assert_int_equal(vrrp_checksum_finish(vrrp_checksum_add(0, odd, sizeof odd)), 0x0dfe);
	assert_int_equal(vrrp_checksum_finish(vrrp_checksum_add(0, one, 1)), 0xedff);
	assert_int_equal(vrrp_checksum_finish(vrrp_checksum_add(0xffff, even, 0)), 0);
	/* In pieces it is the same. */
	assert_int_equal(
		vrrp_checksum_finish(vrrp_checksum_add(vrrp_checksum_add(0, even, 4), even + 4, 4)),
		0x220d);
	free(one);
}

static void test_version_2_never_has_a_pseudo_header(void **state)
{
	struct vrrp_packet_meta meta = meta4();
	struct vrrp_advert advert;
	uint8_t built[VRRP_PACKET_SIZE_MAX];

	(void)state;
	assert_int_equal(vrrp_packet_parse(keepalived_v2, sizeof keepalived_v2, &meta, &advert),
			 VRRP_VERDICT_OK);
	advert.pseudo_header = true; /* whatever the caller says */
	assert_int_equal(vrrp_packet_build(&advert, &meta, built, sizeof built),
			 sizeof keepalived_v2);
	assert_memory_equal(built, keepalived_v2, sizeof keepalived_v2);
}

static void test_every_verdict_has_its_own_words(void **state)
{
	(void)state;
	for (int i = 0; i < VRRP_VERDICT_COUNT; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(vrrp_verdict_text((enum vrrp_verdict)i),
						vrrp_verdict_text((enum vrrp_verdict)j));
	assert_string_equal(vrrp_verdict_text(VRRP_VERDICT_COUNT), "unknown");
}

static void test_random_bytes_never_do_more_than_get_a_verdict(void **state)
{
	struct base_random random = { 5798 };

	(void)state;
	for (int round = 0; round < 200000; round++) {
		struct vrrp_packet_meta meta = round & 1 ? meta6() : meta4();
		size_t size = (size_t)base_random_below(&random, 64);
		uint8_t *data = malloc(size ? size : 1);
		struct vrrp_advert advert;

		for (size_t i = 0; i < size; i++)
			data[i] = (uint8_t)base_random_next(&random);
		if (size > 8) {
			data[0] = 0x31;
			data[3] &= 3;
			if (round & 2)
				put_checksum(data, size, &meta, true);
		}
		if (vrrp_packet_parse(data, size, &meta, &advert) == VRRP_VERDICT_OK)
			assert_true(advert.address_count > 0 && advert.interval_us > 0 &&
				    advert.virtual_router_id > 0);
		free(data);
	}
}

/* RFC 9568 section 7.3. */
static void test_a_virtual_mac_is_made_of_family_and_id(void **state)
{
	static const struct {
		enum base_family family;
		uint8_t id;
		struct base_mac mac;
	} macs[] = {
		{ BASE_FAMILY_IPV4, 1, { { 0, 0, 0x5e, 0, 1, 1 } } },
		{ BASE_FAMILY_IPV4, 255, { { 0, 0, 0x5e, 0, 1, 255 } } },
		{ BASE_FAMILY_IPV6, 10, { { 0, 0, 0x5e, 0, 2, 10 } } },
	};
	static const struct base_mac others[] = { { { 2, 0, 0x5e, 0, 1, 1 } }, { { 0, 0, 0x5e, 0, 3, 1 } },
						  { { 0, 0, 0x5e, 1, 1, 1 } }, { { 0 } } };

	(void)state;
	for (size_t i = 0; i < BASE_COUNT_OF(macs); i++) {
		struct base_mac mac = vrrp_virtual_mac(macs[i].family, macs[i].id);

		assert_memory_equal(&mac, &macs[i].mac, sizeof mac);
		assert_true(vrrp_is_virtual_mac(&mac));
	}
	for (size_t i = 0; i < BASE_COUNT_OF(others); i++)
		assert_false(vrrp_is_virtual_mac(&others[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adverts_of_keepalived_are_understood),
		cmocka_unit_test(test_our_adverts_are_the_bytes_that_keepalived_would_send),
		cmocka_unit_test(test_every_defect_gets_its_own_verdict),
		cmocka_unit_test(test_ipv4_checksums_are_taken_with_and_without_pseudo_header),
		cmocka_unit_test(test_ipv6_checksums_need_the_pseudo_header_and_version_2_has_none),
		cmocka_unit_test(test_padding_behind_the_advert_does_not_count),
		cmocka_unit_test(test_every_packet_we_build_is_read_back_as_it_was_meant),
		cmocka_unit_test(test_what_cannot_be_said_is_not_built),
		cmocka_unit_test(test_checksums_are_those_of_the_internet),
		cmocka_unit_test(test_a_virtual_mac_is_made_of_family_and_id),
		cmocka_unit_test(test_version_2_never_has_a_pseudo_header),
		cmocka_unit_test(test_every_verdict_has_its_own_words),
		cmocka_unit_test(test_random_bytes_never_do_more_than_get_a_verdict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
