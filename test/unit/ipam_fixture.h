#pragma once

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "ipam/ipam.h"
#include "test/unit/unit.h"

/* Short words for the tests of ipam: everything is written as text, as a person would. */
#define FIXTURE_RANGES_MAX 16
#define SECOND		   BASE_USEC_PER_SEC
#define NOW		   (UINT64_C(1000000) * SECOND)

static inline struct base_address address_of(const char *text)
{
	struct base_address address = { 0 };

	if (text && *text && !base_address_parse(text, &address))
		fail_msg("\"%s\" is no address", text);
	return address;
}

/* "192.0.2.0/26 192.0.2.130" */
static inline size_t ranges_of(const char *text, struct ipam_range ranges[FIXTURE_RANGES_MAX])
{
	char copy[1024], *item, *rest = copy;
	size_t count = 0;

	snprintf(copy, sizeof copy, "%s", text ? text : "");
	while ((item = strtok_r(rest, " ", &rest)))
		if (!ipam_range_parse(item, &ranges[count++]))
			fail_msg("\"%s\" is no range", item);
	return count;
}

/* A pool in text; what is not said is the default of the CRD, avoidFirstLast excepted. */
struct pool_text {
	const char *name, *addresses, *exclude;
	const char *namespace;
	const char *reserved, *reserved_for; /* one address, "namespace/name" */
	const char *ids, *segment;	     /* "10-20" */
	bool avoid_first_last, manual, disabled, external_ips, namespace_selector, service_selector;
	int priority;
	unsigned max_per_namespace;
	uint64_t quarantine_us; /* 0: 60 s */
	bool no_quarantine;
	uint8_t leap;
};

struct name_text {
	char namespace[200], name[200];
	struct ipam_name name_of;
};

static inline struct ipam_name *name_of(const char *text, struct name_text *name)
{
	const char *slash = strchr(text, '/');

	snprintf(name->namespace, sizeof name->namespace, "%.*s", (int)(slash - text), text);
	snprintf(name->name, sizeof name->name, "%s", slash + 1);
	name->name_of = (struct ipam_name){ name->namespace, name->name };
	return &name->name_of;
}

static inline int with_pool(const struct pool_text *text,
			    int (*callback)(struct ipam *ipam, const struct ipam_pool *pool,
					    struct base_error *error),
			    struct ipam *ipam, struct base_error *error)
{
	struct ipam_range addresses[FIXTURE_RANGES_MAX], exclude[FIXTURE_RANGES_MAX];
	struct ipam_reservation reservation;
	struct name_text reserved_for;
	struct ipam_pool pool = {
		.name = text->name,
		.addresses = addresses,
		.exclude = exclude,
		.avoid_first_last = text->avoid_first_last,
		.auto_assign = !text->manual,
		.disabled = text->disabled,
		.external_ips = text->external_ips,
		.priority = text->priority,
		.namespace_count = text->namespace != NULL,
		.namespaces = &text->namespace,
		.namespace_selector = text->namespace_selector,
		.service_selector = text->service_selector,
		.max_per_namespace = text->max_per_namespace,
		.quarantine_us = text->no_quarantine	? 0
				 : text->quarantine_us ? text->quarantine_us
						       : 60 * SECOND,
		.leap = text->leap,
		.segment = text->segment,
	};
	unsigned first = 1, last = 255;

	if (text->ids && sscanf(text->ids, "%u-%u", &first, &last) == 1)
		last = first;
	ipam_ids_add(&pool.virtual_router_ids, first, last);
	pool.address_count = ranges_of(text->addresses, addresses);
	pool.exclude_count = ranges_of(text->exclude, exclude);
	if (text->reserved) {
		reservation.address = address_of(text->reserved);
		reservation.service = *name_of(text->reserved_for, &reserved_for);
		pool.reservations = &reservation;
		pool.reservation_count = 1;
	}
	return callback(ipam, &pool, error);
}

static inline void put_pool(struct ipam *ipam, const struct pool_text *text)
{
	struct base_error error = { 0 };

	if (with_pool(text, ipam_pool_put, ipam, &error) != 0)
		fail_msg("%s", error.message);
}

static inline void put_simple_pool(struct ipam *ipam, const char *name, const char *addresses)
{
	put_pool(ipam, &(struct pool_text){ .name = name, .addresses = addresses });
}

/* "tcp/22 udp/53" */
static inline void put_service(struct ipam *ipam, const char *name, const char *key,
			       const char *ports)
{
	char copy[256], *item, *rest = copy;
	struct ipam_port list[8];
	struct name_text parsed;
	struct ipam_service service = { .sharing_key = key, .ports = list };

	service.name = *name_of(name, &parsed);
	snprintf(copy, sizeof copy, "%s", ports ? ports : "");
	while ((item = strtok_r(rest, " ", &rest))) {
		struct ipam_port *port = &list[service.port_count++];

		port->protocol = strncmp(item, "udp", 3) == 0 ? IPPROTO_UDP : IPPROTO_TCP;
		port->port = (uint16_t)atoi(item + 4);
	}
	assert_int_equal(ipam_service_put(ipam, &service), 0);
}

static inline void put_record(struct ipam *ipam, const char *address, const char *pool,
			      const char *services, const char *router, unsigned id)
{
	char copy[512], *item, *rest = copy;
	static struct name_text names[8];
	struct ipam_name list[8];
	struct ipam_record record = { .address = address_of(address),
				      .pool = pool,
				      .services = list,
				      .router = router,
				      .router_id = (uint8_t)id };

	snprintf(copy, sizeof copy, "%s", services ? services : "");
	while ((item = strtok_r(rest, " ", &rest))) {
		list[record.service_count] = *name_of(item, &names[record.service_count]);
		record.service_count++;
	}
	assert_int_equal(ipam_record_put(ipam, &record, NULL), 0);
}

/* What a Service asks for; the answer as text: the address, or the word of the reason. */
struct ask {
	const char *service;
	int family; /* 0: 4 */
	const char *wanted, *pool;
	bool external_ip;
	bool selects_namespace, selects_service;
	uint64_t now_us;
};

struct asked {
	int code;
	struct ipam_answer answer;
	struct base_error error;
	char text[64];
};

static inline bool ask_selects(void *userdata, const char *pool, enum ipam_selector selector)
{
	const struct ask *ask = userdata;

	(void)pool;
	return selector == IPAM_SELECTOR_NAMESPACE ? ask->selects_namespace : ask->selects_service;
}

static inline const char *asked(struct ipam *ipam, const struct ask *ask, struct asked *asked)
{
	struct name_text name;
	struct ipam_request request = {
		.service = *name_of(ask->service, &name),
		.family = ask->family == 6 ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4,
		.wanted = address_of(ask->wanted),
		.pool = ask->pool,
		.external_ip = ask->external_ip,
		.selects = ask_selects,
		.userdata = (void *)ask,
		.now_us = ask->now_us ? ask->now_us : NOW,
	};

	memset(asked, 0, sizeof *asked);
	asked->code = ipam_allocate(ipam, &request, &asked->answer, &asked->error);
	if (asked->code == 0)
		base_address_format(&asked->answer.address, asked->text);
	else if (asked->code > 0)
		snprintf(asked->text, sizeof asked->text, "%s",
			 base_reason_word((enum base_reason)asked->code));
	else
		snprintf(asked->text, sizeof asked->text, "error %d", asked->code);
	return asked->text;
}

/* The Service is put (without ports) and asks for whatever there is. */
static inline const char *given(struct ipam *ipam, const char *service)
{
	static struct asked answers[4];
	static unsigned turn;

	return asked(ipam, &(struct ask){ .service = service }, &answers[turn++ % 4]);
}

static inline int releases(struct ipam *ipam, const char *service, const char *address,
			   uint64_t now_us)
{
	struct name_text name;
	struct base_address parsed = address_of(address);

	return ipam_release(ipam, name_of(service, &name), &parsed, now_us);
}
