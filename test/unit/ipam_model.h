#pragma once

#include <stdlib.h>

#include "base/hash.h"
#include "base/random.h"
#include "test/unit/ipam_fixture.h"

/*
 * A model of ipam.h for ipam_history_test.c: the same answers by enumeration over a world that is
 * small enough for it. It shares no code with ipam/ and keeps nothing but arrays.
 */
#define UNIVERSE 40 /* per family; IPv6 uses 32 */
#define POOLS	 5  /* the last one is named by records only */
#define SERVICES 12
#define WHOS	 4
#define PORTS	 6

enum { F4, F6, FAMILIES };

static const unsigned universe[FAMILIES] = { 40, 32 };
static const char *const pool_names[POOLS] = { "p0", "p1", "p2", "p3", "unread" };
static const char *const namespaces[] = { "na", "nb", "nc" };
static const char *const keys[] = { NULL, "k", "other" };
static const char *const whos[WHOS] = { "Node n1", "Node n2", "host x", "zz" };

struct model_service {
	bool known;
	unsigned key, ports; /* bits */
	bool local;
	unsigned selector;
	int external[FAMILIES]; /* -1: none */
};

struct model_pool {
	bool present;
	bool contains[FAMILIES][UNIVERSE];
	bool auto_assign, disabled, external_ips;
	int priority;
	unsigned namespaces; /* bits; 0: not said */
	bool namespace_selector, service_selector;
	unsigned quota;
	int reserved_family, reserved, reserved_for; /* reserved -1: none */
	unsigned first_id, last_id;		     /* of virtual routers */
	uint64_t quarantine_us;
};

enum model_state { IDLE, HELD, QUARANTINED };

struct model_address {
	enum model_state state;
	int pool;
	unsigned holder_count;
	int holders[SERVICES];
	int last_holder;
	uint64_t told_us, seen_us;
	int router_pool; /* HELD: its virtual router is named after this pool */
	unsigned router_id; /* 0: none yet */
};

struct model_taken {
	int exempt; /* -1: nobody */
	bool covers[FAMILIES][UNIVERSE];
	size_t range_count;
	struct ipam_range ranges[4];
};

struct model {
	struct base_random random;
	uint64_t now_us;
	struct model_service services[SERVICES];
	struct model_pool pools[POOLS];
	struct model_address addresses[FAMILIES][UNIVERSE];
	struct model_taken takens[WHOS];
	struct ipam_pool specs[POOLS];
	struct ipam_range ranges[POOLS][4], exclude[POOLS][2];
	const char *listed[POOLS][3];
	struct ipam_reservation reservations[POOLS];
	uint64_t digest; /* of every answer, sentences included */
	unsigned given[FAMILIES], refused, released, routed, unrouted, restarts;
};

static struct model model;

static unsigned pick(unsigned bound)
{
	return (unsigned)base_random_below(&model.random, bound);
}

static bool chance(unsigned percent)
{
	return pick(100) < percent;
}

/* --- names and addresses by number --- */

static struct base_address nth(unsigned f, unsigned i)
{
	struct base_address address;

	if (f == F4)
		return i < 16 ? base_address_ipv4(10, 0, 0, (uint8_t)(240 + i))
			      : base_address_ipv4(10, 0, 1, (uint8_t)(i - 16));
	if (i < 16) {
		base_address_parse("2001:db8:0:0:ffff:ffff:ffff:fff0", &address);
		address.bytes[15] = (uint8_t)(0xf0 + i);
	} else {
		base_address_parse("2001:db8:0:1::", &address);
		address.bytes[15] = (uint8_t)(i - 16);
	}
	return address;
}

static bool avoided(unsigned f, unsigned i)
{
	return i == 16 || (f == F4 && i == 15);
}

static int number_of(const struct base_address *address, unsigned *f)
{
	*f = address->family == BASE_FAMILY_IPV6 ? F6 : F4;
	for (unsigned i = 0; i < universe[*f]; i++) {
		struct base_address other = nth(*f, i);

		if (base_address_equal(&other, address))
			return (int)i;
	}
	fail_msg("an address from nowhere");
	return -1;
}

static struct ipam_name service_name(int s)
{
	static const char *const names[] = { "a", "b", "c", "d" };

	return (struct ipam_name){ namespaces[s / 4], names[s % 4] };
}

static int service_number(const struct ipam_name *name)
{
	for (int s = 0; s < SERVICES; s++) {
		struct ipam_name other = service_name(s);

		if (strcmp(other.namespace, name->namespace) == 0 &&
		    strcmp(other.name, name->name) == 0)
			return s;
	}
	fail_msg("a Service from nowhere: %s/%s", name->namespace, name->name);
	return -1;
}

static int pool_number(const char *name)
{
	for (int p = 0; p < POOLS; p++)
		if (strcmp(pool_names[p], name) == 0)
			return p;
	fail_msg("a pool from nowhere: %s", name);
	return -1;
}

/* What labels select: fixed, and as good as random. */
static bool selects_by_number(int p, int what, enum ipam_selector selector)
{
	return (p * 7 + what * 3 + (int)selector) % 3 != 0;
}

struct selection {
	int service;
};

static bool selects(void *userdata, const char *pool, enum ipam_selector selector)
{
	const struct selection *selection = userdata;
	int what = selector == IPAM_SELECTOR_NAMESPACE ? selection->service / 4
							: selection->service;

	return selects_by_number(pool_number(pool), what, selector);
}

/* --- the model: what ipam.h says, by enumeration --- */

static uint64_t quarantine_end(const struct model_address *address)
{
	const struct model_pool *pool = &model.pools[address->pool];

	return base_usec_earlier(address->told_us,
				 address->seen_us + (pool->present ? pool->quarantine_us
								   : 60 * SECOND));
}

static void model_expire(uint64_t now_us)
{
	bool back = now_us < model.now_us;

	model.now_us = now_us;
	for (unsigned f = 0; f < FAMILIES; f++) {
		for (unsigned i = 0; i < universe[f]; i++) {
			struct model_address *address = &model.addresses[f][i];

			if (address->state != QUARANTINED)
				continue;
			if (back && address->seen_us > now_us)
				address->seen_us = now_us;
			if (quarantine_end(address) <= now_us)
				address->state = IDLE;
		}
	}
}

static bool reserved(unsigned f, unsigned i, int service)
{
	for (int p = 0; p < POOLS; p++) {
		const struct model_pool *pool = &model.pools[p];

		if (pool->present && pool->reserved == (int)i && pool->reserved_family == (int)f &&
		    (service < 0 || pool->reserved_for == service))
			return true;
	}
	return false;
}

static bool taken(unsigned f, unsigned i, int service)
{
	for (int w = 0; w < WHOS; w++)
		if (model.takens[w].covers[f][i] &&
		    (model.takens[w].exempt < 0 || model.takens[w].exempt != service))
			return true;
	return false;
}

static bool is_free(int p, unsigned f, unsigned i)
{
	return model.pools[p].present && model.pools[p].contains[f][i] &&
	       model.addresses[f][i].state == IDLE && !reserved(f, i, -1) && !taken(f, i, -1);
}

static bool holds(const struct model_address *address, int service)
{
	for (unsigned i = 0; address->state == HELD && i < address->holder_count; i++)
		if (address->holders[i] == service)
			return true;
	return false;
}

static unsigned quota_used(int p, int namespace)
{
	unsigned used = 0;

	for (unsigned f = 0; f < FAMILIES; f++) {
		for (unsigned i = 0; i < universe[f]; i++) {
			const struct model_address *address = &model.addresses[f][i];
			bool found = false;

			if (address->state != HELD || address->pool != p)
				continue;
			for (unsigned h = 0; h < address->holder_count; h++)
				found |= address->holders[h] / 4 == namespace;
			used += found;
		}
	}
	return used;
}

static bool may_share(int a, int b)
{
	const struct model_service *left = &model.services[a], *right = &model.services[b];

	return a / 4 == b / 4 && left->key && left->key == right->key &&
	       !(left->ports & right->ports) && left->local == right->local &&
	       (!left->local || (left->selector && left->selector == right->selector));
}

static bool clashes(int service, const struct model_address *address)
{
	bool holder = holds(address, service);

	for (unsigned i = 0; i < address->holder_count; i++) {
		int other = address->holders[i];

		if (other == service)
			return false;
		if (holder && !model.services[other].known)
			continue;
		if (!may_share(service, other))
			return true;
	}
	return false;
}

static bool admitted(int p, int service, bool by_reservation)
{
	const struct model_pool *pool = &model.pools[p];
	bool namespace = (!pool->namespaces && !pool->namespace_selector) ||
			 pool->namespaces & 1u << service / 4 ||
			 (pool->namespace_selector &&
			  selects_by_number(p, service / 4, IPAM_SELECTOR_NAMESPACE));

	if (pool->disabled)
		return false;
	return by_reservation ||
	       (namespace && (!pool->service_selector ||
			      selects_by_number(p, service, IPAM_SELECTOR_SERVICE)));
}

static bool is_external(int service, unsigned f, unsigned i)
{
	return model.services[service].known && model.services[service].external[f] == (int)i;
}

/* Of this family, its own and held by nobody else: given back when the Service gets another one. */
static unsigned leaving(int p, unsigned f, int service)
{
	unsigned count = 0;

	for (unsigned i = 0; i < universe[f]; i++) {
		const struct model_address *address = &model.addresses[f][i];

		count += address->pool == p && address->holder_count == 1 &&
			 holds(address, service) && !is_external(service, f, i);
	}
	return count;
}

static bool over_quota(int p, unsigned f, int service, bool external_ip)
{
	unsigned used = quota_used(p, service / 4);

	if (!external_ip)
		used -= leaving(p, f, service);
	return model.pools[p].quota && used >= model.pools[p].quota;
}

/* What stands against this very address; 0: nothing. */
static int against(int p, unsigned f, unsigned i, int service, bool external_ip)
{
	const struct model_address *address = &model.addresses[f][i];

	if (taken(f, i, service))
		return BASE_REASON_ADDRESS_IN_USE;
	if (address->state == HELD && (address->holder_count == 0 || !model.services[service].key))
		return BASE_REASON_ADDRESS_IN_USE;
	if (address->state == HELD)
		return clashes(service, address) ? BASE_REASON_SHARING_REFUSED : 0;
	if (reserved(f, i, -1) && !reserved(f, i, service))
		return BASE_REASON_ADDRESS_RESERVED;
	if (address->state == QUARANTINED && address->last_holder != service)
		return BASE_REASON_ADDRESS_IN_USE;
	return over_quota(p, f, service, external_ip) ? BASE_REASON_QUOTA_EXCEEDED : 0;
}

/* The n-th pool in the order they are tried; -1: no more. */
static int in_order(unsigned n)
{
	int order[POOLS];
	unsigned count = 0;

	for (int p = 0; p < POOLS; p++) {
		unsigned at = count;

		if (!model.pools[p].present)
			continue;
		while (at > 0 && model.pools[order[at - 1]].priority < model.pools[p].priority) {
			order[at] = order[at - 1];
			at--;
		}
		order[at] = p;
		count++;
	}
	return n < count ? order[n] : -1;
}

struct model_request {
	int service, pool; /* -1: not named; POOLS: one that never is */
	unsigned family;
	int wanted; /* -1: any */
	bool external_ip;
};

struct model_answer {
	int code, address, pool;
	bool kept;
};

static struct model_answer answer(int code, int address, int pool, bool kept)
{
	return (struct model_answer){ code, address, pool, kept };
}

static bool pool_fits(const struct model_request *request, int p)
{
	return request->pool < 0 || request->pool == p;
}

static bool pool_missing(const struct model_request *request)
{
	return request->pool >= 0 &&
	       (request->pool == POOLS || !model.pools[request->pool].present);
}

static struct model_answer answer_named(const struct model_request *request)
{
	unsigned f = request->family, i = (unsigned)request->wanted;
	const struct model_address *address = &model.addresses[f][i];
	int code;

	if (holds(address, request->service) && pool_fits(request, address->pool))
		return clashes(request->service, address)
			       ? answer(BASE_REASON_SHARING_REFUSED, -1, -1, false)
			       : answer(0, (int)i, address->pool, true);
	for (unsigned n = 0; in_order(n) >= 0; n++) {
		int p = in_order(n);
		const struct model_pool *pool = &model.pools[p];
		bool own = pool->reserved == (int)i && pool->reserved_family == (int)f &&
			   pool->reserved_for == request->service;

		if (!pool->contains[f][i] || !pool_fits(request, p) ||
		    !admitted(p, request->service, own) ||
		    (request->external_ip && !pool->external_ips))
			continue;
		if (address->state == HELD && holds(address, request->service))
			return answer(BASE_REASON_ADDRESS_NOT_IN_POOL, -1, -1, false);
		if (address->state == HELD)
			p = address->pool;
		code = against(p, f, i, request->service, request->external_ip);
		return code ? answer(code, -1, -1, false) : answer(0, (int)i, p, false);
	}
	return answer(pool_missing(request) ? BASE_REASON_POOL_NOT_FOUND
					    : BASE_REASON_ADDRESS_NOT_IN_POOL,
		      -1, -1, false);
}

/* The reservations of this Service, in order of addresses, then of pools. */
static bool answer_reserved(const struct model_request *request, struct model_answer *result)
{
	unsigned f = request->family;
	bool found = false;

	for (unsigned i = 0; i < universe[f]; i++) {
		for (int p = 0; p < POOLS; p++) {
			const struct model_pool *pool = &model.pools[p];
			int code;

			if (!pool->present || pool->reserved != (int)i ||
			    pool->reserved_family != (int)f ||
			    pool->reserved_for != request->service || !pool_fits(request, p) ||
			    !admitted(p, request->service, true) ||
			    holds(&model.addresses[f][i], request->service))
				continue;
			code = against(p, f, i, request->service, request->external_ip);
			if (code && found)
				continue;
			*result = code ? answer(code, -1, -1, false) : answer(0, (int)i, p, false);
			found = true;
			if (code == 0)
				return true;
		}
	}
	return found;
}

static struct model_answer answer_any(const struct model_request *request)
{
	unsigned f = request->family;
	struct model_answer result;
	int service = request->service, best = -1, code = BASE_REASON_POOL_EXHAUSTED;

	for (unsigned i = 0; i < universe[f]; i++) {
		const struct model_address *address = &model.addresses[f][i];

		if (holds(address, service) && !is_external(service, f, i) &&
		    pool_fits(request, address->pool) && !clashes(service, address))
			return answer(0, (int)i, address->pool, true);
	}
	if (pool_missing(request))
		return answer(BASE_REASON_POOL_NOT_FOUND, -1, -1, false);
	if (answer_reserved(request, &result))
		return result;
	for (unsigned i = 0; model.services[service].key && i < universe[f]; i++) {
		const struct model_address *address = &model.addresses[f][i];
		bool same_key = false, external = false;

		for (unsigned h = 0; address->state == HELD && h < address->holder_count; h++) {
			int other = address->holders[h];

			same_key |= model.services[other].known && other / 4 == service / 4 &&
				    model.services[other].key == model.services[service].key;
			external |= is_external(other, f, i);
		}
		if (same_key && !external && !holds(address, service) && pool_fits(request, address->pool) &&
		    model.pools[address->pool].present &&
		    model.pools[address->pool].contains[f][i] &&
		    admitted(address->pool, service, false) &&
		    against(address->pool, f, i, service, false) == 0)
			return answer(0, (int)i, address->pool, false);
	}
	for (unsigned i = 0; i < universe[f]; i++) {
		const struct model_address *address = &model.addresses[f][i];
		const struct model_pool *pool = &model.pools[address->pool];

		if (address->state != QUARANTINED || address->last_holder != service ||
		    !pool->present || !pool->contains[f][i] || !pool_fits(request, address->pool) ||
		    !(pool->auto_assign || request->pool >= 0) ||
		    !admitted(address->pool, service, false) ||
		    against(address->pool, f, i, service, false) != 0)
			continue;
		if (best < 0 ||
		    quarantine_end(address) > quarantine_end(&model.addresses[f][best]))
			best = (int)i;
	}
	if (best >= 0)
		return answer(0, best, model.addresses[f][best].pool, false);
	for (unsigned n = 0; in_order(n) >= 0; n++) {
		int p = in_order(n);
		bool any = false;

		if (!pool_fits(request, p))
			continue;
		for (unsigned i = 0; i < universe[f]; i++)
			any |= model.pools[p].contains[f][i];
		if (!admitted(p, service, false)) {
			if (request->pool >= 0)
				code = BASE_REASON_POOL_NOT_FOUND;
			continue;
		}
		if (!any || (!model.pools[p].auto_assign && request->pool < 0))
			continue;
		if (over_quota(p, f, service, false)) {
			code = BASE_REASON_QUOTA_EXCEEDED;
			continue;
		}
		for (unsigned i = 0; i < universe[f]; i++)
			if (is_free(p, f, i))
				return answer(0, (int)i, p, false);
	}
	return answer(code, -1, -1, false);
}

static void model_hold(unsigned f, unsigned i, int pool, int service)
{
	struct model_address *address = &model.addresses[f][i];

	if (address->state != HELD) {
		address->state = HELD;
		address->pool = pool;
		address->holder_count = 0;
		address->router_id = 0;
	}
	address->holders[address->holder_count++] = service;
}

/* --- virtual routers --- */

static const char *router_name(int pool, unsigned f, unsigned id, char name[static 32])
{
	snprintf(name, 32, "%s.%s.%u", pool_names[pool], f == F6 ? "ipv6" : "ipv4", id);
	return name;
}

static unsigned carried_by(unsigned f, int pool, unsigned id)
{
	unsigned count = 0;

	for (unsigned i = 0; i < universe[f]; i++)
		count += model.addresses[f][i].state == HELD &&
			 model.addresses[f][i].router_id == id &&
			 model.addresses[f][i].router_pool == pool;
	return count;
}

static bool has_rival(unsigned f, int pool, unsigned id)
{
	for (int p = 0; p < POOLS; p++)
		if (p != pool && carried_by(f, p, id) > 0)
			return true;
	return false;
}

/* The ID that the address should have; 0: none is left. */
static unsigned router_of(unsigned f, unsigned i)
{
	const struct model_address *address = &model.addresses[f][i];
	const struct model_pool *pool = &model.pools[address->pool];
	struct base_address text = nth(f, i);
	unsigned wish = text.bytes[f == F6 ? 15 : 3], best = 0;

	if (address->router_id && address->router_pool == address->pool &&
	    address->router_id >= pool->first_id && address->router_id <= pool->last_id &&
	    !has_rival(f, address->pool, address->router_id))
		return address->router_id;
	for (unsigned n = 0; n < 256; n++) {
		unsigned id = (wish + n) % 256;

		if (id >= pool->first_id && id <= pool->last_id &&
		    !has_rival(f, address->pool, id) && carried_by(f, address->pool, id) == 0)
			return id;
	}
	for (unsigned id = pool->first_id; id <= pool->last_id; id++)
		if (!has_rival(f, address->pool, id) &&
		    (!best || carried_by(f, address->pool, id) < carried_by(f, address->pool, best)))
			best = id;
	return best;
}
