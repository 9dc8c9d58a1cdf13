#include <errno.h>
#include "test/unit/ipam_model.h"

/*
 * Random histories against a model that enumerates. The world is small, so that everything
 * collides: 40 IPv4 addresses around the end of a /24, 32 IPv6 addresses around the end of a /64,
 * four pools over them that overlap, twelve Services, three namespaces, contradictory records,
 * pools that come, go and change, a clock that goes back, restarts from records alone.
 *
 * After every step all that can be asked is compared with the model: who holds what, in which order,
 * what is in quarantine until when, and every count of every pool.
 *
 * VIPD_SEED=n runs that one alone, VIPD_SEEDS=n so many (nightly: many thousand).
 */
#define STEPS 300
#define SEEDS 60

/* --- everything that can be asked, against the model --- */

struct seen {
	bool held[FAMILIES][UNIVERSE], quarantined[FAMILIES][UNIVERSE];
};

static bool see_record(void *userdata, const struct ipam_record *record)
{
	struct seen *seen = userdata;
	char name[32];
	unsigned f;
	int i = number_of(&record->address, &f);
	const struct model_address *address = &model.addresses[f][i];

	assert_false(seen->held[f][i]); /* twice */
	seen->held[f][i] = true;
	assert_int_equal(address->state, HELD);
	assert_string_equal(record->pool, pool_names[address->pool]);
	assert_int_equal(record->router_id, address->router_id);
	assert_string_equal(record->router, address->router_id ? router_name(address->router_pool, f,
									      address->router_id, name)
								: "");
	assert_int_equal(record->service_count, address->holder_count);
	for (size_t h = 0; h < record->service_count; h++)
		assert_int_equal(service_number(&record->services[h]), address->holders[h]);
	return true;
}

static bool see_quarantine(void *userdata, const struct ipam_quarantine *quarantine)
{
	struct seen *seen = userdata;
	unsigned f;
	int i = number_of(&quarantine->address, &f);
	const struct model_address *address = &model.addresses[f][i];

	assert_false(seen->quarantined[f][i]);
	seen->quarantined[f][i] = true;
	assert_int_equal(address->state, QUARANTINED);
	assert_string_equal(quarantine->pool, pool_names[address->pool]);
	assert_int_equal(service_number(&quarantine->service), address->last_holder);
	assert_int_equal(quarantine->until_us, quarantine_end(address));
	return true;
}

static void check_status(struct ipam *ipam, int p)
{
	const struct model_pool *pool = &model.pools[p];
	struct ipam_pool_status status;
	unsigned overlaps = 0;

	assert_int_equal(ipam_pool_status(ipam, pool_names[p], model.now_us, &status),
			 pool->present);
	for (unsigned f = 0; f < FAMILIES; f++) {
		const struct ipam_family_status *family = f == F6 ? &status.ipv6 : &status.ipv4;
		struct ipam_family_status expected = { 0 };

		for (unsigned i = 0; i < universe[f]; i++) {
			const struct model_address *address = &model.addresses[f][i];
			bool in = pool->present && pool->contains[f][i];
			bool ours = address->pool == p, own = false;

			expected.capacity += in;
			expected.available += is_free(p, f, i);
			expected.assigned += address->state == HELD && ours;
			expected.orphans += address->state == HELD && ours && !in;
			expected.quarantined += address->state == QUARANTINED && ours && in;
			own = pool->present && pool->reserved == (int)i &&
			      pool->reserved_family == (int)f && address->state == IDLE;
			expected.reserved += own;
			expected.blocked += in && !is_free(p, f, i) && !own &&
					    !(address->state != IDLE && ours);
		}
		assert_int_equal(family->capacity, expected.capacity);
		assert_int_equal(family->available, expected.available);
		assert_int_equal(family->assigned, expected.assigned);
		assert_int_equal(family->orphans, expected.orphans);
		assert_int_equal(family->quarantined, expected.quarantined);
		assert_int_equal(family->reserved, expected.reserved);
		assert_int_equal(family->blocked, expected.blocked);
	}
	for (int other = 0; pool->present && other < POOLS; other++) {
		bool meets = false;

		for (unsigned f = 0; other != p && model.pools[other].present && f < FAMILIES; f++)
			for (unsigned i = 0; i < universe[f]; i++)
				meets |= pool->contains[f][i] && model.pools[other].contains[f][i];
		overlaps += meets;
	}
	assert_int_equal(status.overlap_count, overlaps);
}

static void check_quarantined(struct ipam *ipam, unsigned f, unsigned i)
{
	const struct model_address *address = &model.addresses[f][i];
	struct base_address at = nth(f, i);

	for (int p = 0; p < POOLS; p++)
		assert_int_equal(ipam_quarantined(ipam, pool_names[p], &at, model.now_us,
						  FAMILIES * UNIVERSE),
				 address->state == QUARANTINED && address->pool == p);
}

static void check_all(struct ipam *ipam)
{
	struct seen seen = { 0 };
	uint64_t deadline_us = BASE_USEC_NEVER;

	model_expire(model.now_us); /* a pool that was edited to keep less */
	ipam_record_each(ipam, see_record, &seen);
	for (int p = 0; p < POOLS; p++)
		ipam_quarantine_each(ipam, pool_names[p], model.now_us, see_quarantine, &seen);
	for (unsigned f = 0; f < FAMILIES; f++) {
		for (unsigned i = 0; i < universe[f]; i++) {
			const struct model_address *address = &model.addresses[f][i];

			assert_int_equal(seen.held[f][i], address->state == HELD);
			assert_int_equal(seen.quarantined[f][i], address->state == QUARANTINED);
			check_quarantined(ipam, f, i);
			if (address->state == QUARANTINED)
				deadline_us = base_usec_earlier(deadline_us,
								quarantine_end(address));
		}
	}
	assert_int_equal(ipam_deadline(ipam), deadline_us);
	for (int p = 0; p < POOLS; p++)
		check_status(ipam, p);
}

static void digest(const void *data, size_t size)
{
	model.digest = (model.digest ^ base_hash(data, size)) * UINT64_C(0x9e3779b97f4a7c15);
}

/* --- steps: each is done to both, and both must agree --- */

static int request(struct ipam *ipam, const struct model_request *wish, struct ipam_answer *got,
		   struct base_error *error)
{
	struct selection selection = { wish->service };
	struct ipam_request asked = {
		.service = service_name(wish->service),
		.family = wish->family == F6 ? BASE_FAMILY_IPV6 : BASE_FAMILY_IPV4,
		.pool = wish->pool < 0 ? NULL : wish->pool == POOLS ? "never" : pool_names[wish->pool],
		.external_ip = wish->external_ip,
		.selects = selects,
		.userdata = &selection,
		.now_us = model.now_us,
	};

	if (wish->wanted >= 0)
		asked.wanted = nth(wish->family, (unsigned)wish->wanted);
	memset(error, 0, sizeof *error);
	return ipam_allocate(ipam, &asked, got, error);
}

static struct model_request random_request(void)
{
	struct model_request wish = { .service = (int)pick(SERVICES), .pool = -1,
				      .family = chance(60) ? F4 : F6, .wanted = -1 };

	if (chance(20))
		wish.pool = (int)pick(POOLS + 1);
	if (chance(30))
		wish.wanted = (int)pick(universe[wish.family]);
	if (wish.wanted >= 0 && chance(20))
		wish.external_ip = true;
	return wish;
}

static void step_allocate(struct ipam *ipam, struct ipam *twin)
{
	struct model_request wish = random_request();
	struct model_answer expected;
	struct ipam_answer got = { 0 }, got_twin = { 0 };
	struct base_error error, error_twin;
	int r = request(ipam, &wish, &got, &error);

	model_expire(model.now_us);
	if (!model.services[wish.service].known) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	expected = wish.wanted >= 0 ? answer_named(&wish) : answer_any(&wish);
	if (r != expected.code)
		fail_msg("Service %d asks for IPv%s, wanted %d, pool %d%s: %d (%s), the model says %d",
			 wish.service, wish.family == F6 ? "6" : "4", wish.wanted, wish.pool,
			 wish.external_ip ? ", external" : "", r, error.message, expected.code);
	digest(error.message, strlen(error.message));
	if (twin) {
		assert_int_equal(request(twin, &wish, &got_twin, &error_twin), r);
		assert_string_equal(error_twin.message, error.message);
	}
	if (r > 0) {
		assert_int_equal(error.code, r);
		assert_true(strlen(error.message) > 20);
		model.refused++;
		return;
	}
	digest(&got.address, sizeof got.address);
	{
		struct base_address address = nth(wish.family, (unsigned)expected.address);

		assert_true(base_address_equal(&got.address, &address));
		assert_string_equal(got.pool, pool_names[expected.pool]);
		assert_int_equal(got.kept, expected.kept);
	}
	if (!expected.kept) {
		/* What must hold of every new allocation, said once more and in other words. */
		const struct model_address *address =
			&model.addresses[wish.family][expected.address];

		assert_false(taken(wish.family, (unsigned)expected.address, wish.service));
		assert_true(address->state != QUARANTINED || address->last_holder == wish.service);
		assert_true(address->state == HELD || (model.pools[expected.pool].present &&
						       model.pools[expected.pool]
							       .contains[wish.family]
									[expected.address]));
		assert_true(address->state == HELD || !over_quota(expected.pool, wish.family,
								  wish.service, wish.external_ip));
		model_hold(wish.family, (unsigned)expected.address, expected.pool, wish.service);
		model.given[wish.family]++;
	}
	assert_int_equal(got.shared,
			 model.addresses[wish.family][expected.address].holder_count > 1);
}

static void step_release(struct ipam *ipam)
{
	unsigned f = pick(FAMILIES), i = pick(universe[f]), h = 0;
	struct model_address *address = &model.addresses[f][i];
	struct ipam_name name;
	struct base_address at;
	int service, r;

	for (unsigned tries = 0; tries < 30 && address->state != HELD; tries++) {
		f = pick(FAMILIES);
		i = pick(universe[f]);
		address = &model.addresses[f][i];
	}
	service = address->state == HELD && address->holder_count > 0 && chance(95)
			      ? address->holders[pick(address->holder_count)]
			      : (int)pick(SERVICES);
	name = service_name(service);
	at = nth(f, i);
	r = ipam_release(ipam, &name, &at, model.now_us);
	if (!holds(address, service)) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	model_expire(model.now_us);
	while (address->holders[h] != service)
		h++;
	for (; h + 1 < address->holder_count; h++)
		address->holders[h] = address->holders[h + 1];
	address->holder_count--;
	assert_int_equal(r, (int)address->holder_count);
	model.released++;
	if (address->holder_count == 0) {
		uint64_t period_us = model.pools[address->pool].present
					     ? model.pools[address->pool].quarantine_us
					     : 60 * SECOND;

		address->state = period_us ? QUARANTINED : IDLE;
		address->last_holder = service;
		address->seen_us = model.now_us;
		address->told_us = model.now_us + period_us;
	}
}

static void put_facts(struct ipam *ipam, int s)
{
	const struct model_service *service = &model.services[s];
	struct base_address external[FAMILIES];
	struct ipam_port ports[PORTS];
	struct ipam_service facts = { .name = service_name(s),
				      .sharing_key = keys[service->key],
				      .ports = ports,
				      .local_only = service->local,
				      .selector = service->selector,
				      .external_ips = external };

	for (unsigned p = 0; p < PORTS; p++)
		if (service->ports & 1u << p)
			ports[facts.port_count++] = (struct ipam_port){
				p % 2 ? IPPROTO_UDP : IPPROTO_TCP, (uint16_t)(p / 2 + 1)
			};
	for (unsigned f = 0; f < FAMILIES; f++)
		if (service->external[f] >= 0)
			external[facts.external_count++] = nth(f, (unsigned)service->external[f]);
	assert_int_equal(ipam_service_put(ipam, &facts), 0);
}

static void step_service(struct ipam *ipam)
{
	int s = (int)pick(SERVICES);
	struct model_service *service = &model.services[s];
	struct ipam_name name = service_name(s);

	if (chance(15)) {
		*service = (struct model_service){ .external = { -1, -1 } };
		ipam_service_remove(ipam, &name);
		return;
	}
	*service = (struct model_service){ .known = true,
					   .key = chance(70) ? 1 : pick(3),
					   .ports = 1u << pick(PORTS) | 1u << pick(PORTS),
					   .local = chance(20),
					   .selector = pick(3),
					   .external = { -1, -1 } };
	if (chance(15))
		service->external[F4] = (int)pick(universe[F4]);
	put_facts(ipam, s);
}

/* first..last of the universe, or a CIDR in it */
static struct ipam_range random_range(unsigned *f, unsigned *first, unsigned *last)
{
	struct ipam_range range;
	unsigned size = 1u << pick(4);

	*f = pick(FAMILIES);
	*first = pick(universe[*f]);
	*last = *first + pick(universe[*f] - *first > 12 ? 12 : universe[*f] - *first);
	range.prefix = chance(40);
	if (range.prefix) { /* both /24s begin at a multiple of 16 here */
		*first = *first / size * size;
		*last = *first + size - 1;
		if (*last >= universe[*f])
			*last = *first;
	}
	range.first = nth(*f, *first);
	range.last = nth(*f, *last);
	return range;
}

static void put_pool_number(struct ipam *ipam, int p)
{
	struct base_error error = { 0 };

	if (ipam_pool_put(ipam, &model.specs[p], &error) != 0)
		fail_msg("%s", error.message);
}

static void step_pool(struct ipam *ipam)
{
	int p = (int)pick(POOLS - 1);
	struct model_pool *pool = &model.pools[p], fresh = { .reserved = -1 };
	struct ipam_pool *spec = &model.specs[p];
	bool any = false, avoid = chance(50);

	if (pool->present && chance(15)) {
		ipam_pool_remove(ipam, pool_names[p]);
		pool->present = false;
		return;
	}
	*spec = (struct ipam_pool){ .name = pool_names[p],
				    .address_count = 1 + pick(4),
				    .addresses = model.ranges[p],
				    .exclude_count = pick(3),
				    .exclude = model.exclude[p],
				    .namespaces = model.listed[p] };
	for (size_t r = 0; r < spec->address_count; r++) {
		unsigned f, first, last;
		bool trim;

		model.ranges[p][r] = random_range(&f, &first, &last);
		trim = avoid && model.ranges[p][r].prefix && f == F4 && last - first >= 3;
		for (unsigned i = first + trim; i + trim <= last; i++)
			fresh.contains[f][i] |= !(avoid && avoided(f, i));
	}
	for (size_t r = 0; r < spec->exclude_count; r++) {
		unsigned f, first, last;

		model.exclude[p][r] = random_range(&f, &first, &last);
		for (unsigned i = first; i <= last; i++)
			fresh.contains[f][i] = false;
	}
	for (unsigned f = 0; f < FAMILIES; f++)
		for (unsigned i = 0; i < universe[f]; i++)
			any |= fresh.contains[f][i];
	if (chance(40)) {
		fresh.reserved_family = (int)pick(FAMILIES);
		fresh.reserved = (int)pick(universe[fresh.reserved_family]);
		fresh.reserved_for = (int)pick(SERVICES);
		if (!fresh.contains[fresh.reserved_family][fresh.reserved])
			fresh.reserved = -1;
	}
	if (fresh.reserved >= 0) {
		model.reservations[p].address =
			nth((unsigned)fresh.reserved_family, (unsigned)fresh.reserved);
		model.reservations[p].service = service_name(fresh.reserved_for);
		spec->reservations = &model.reservations[p];
		spec->reservation_count = 1;
	}
	fresh.present = true;
	fresh.auto_assign = spec->auto_assign = chance(75);
	fresh.disabled = spec->disabled = chance(7);
	fresh.external_ips = spec->external_ips = chance(40);
	fresh.priority = spec->priority = (int32_t)pick(3) - 1;
	fresh.namespace_selector = spec->namespace_selector = chance(12);
	fresh.service_selector = spec->service_selector = chance(12);
	fresh.namespaces = chance(20) ? pick(8) : 0;
	for (unsigned n = 0; n < 3; n++)
		if (fresh.namespaces & 1u << n)
			model.listed[p][spec->namespace_count++] = namespaces[n];
	fresh.quota = spec->max_per_namespace = chance(30) ? 1 + pick(4) : 0;
	fresh.quarantine_us = spec->quarantine_us = pick(4) * 30 * SECOND;
	spec->avoid_first_last = avoid;
	fresh.first_id = 1 + pick(4);
	fresh.last_id = fresh.first_id + pick(6);
	ipam_ids_add(&spec->virtual_router_ids, fresh.first_id, fresh.last_id);
	if (!any) {
		struct base_error error;

		assert_int_equal(ipam_pool_check(spec, &error), -EINVAL);
		if (!pool->present)
			return;
		/* The old pool stays; its text is gone from `spec`, so it goes for the model too. */
		ipam_pool_remove(ipam, pool_names[p]);
		pool->present = false;
		return;
	}
	*pool = fresh;
	put_pool_number(ipam, p);
}

static void put_taken(struct ipam *ipam, int w)
{
	const struct model_taken *t = &model.takens[w];
	struct ipam_name exempt = service_name(t->exempt < 0 ? 0 : t->exempt);

	assert_int_equal(ipam_taken_put(ipam, whos[w], BASE_REASON_ADDRESS_IN_USE,
					t->exempt < 0 ? NULL : &exempt, t->range_count, t->ranges),
			 0);
}

static void step_taken(struct ipam *ipam)
{
	int w = (int)pick(WHOS);
	struct model_taken *t = &model.takens[w];

	memset(t, 0, sizeof *t);
	t->exempt = chance(50) ? (int)pick(SERVICES) : -1;
	t->range_count = pick(4);
	for (size_t r = 0; r < t->range_count; r++) {
		unsigned f, first, last;

		t->ranges[r] = random_range(&f, &first, &last);
		if (chance(60)) {
			t->ranges[r].last = t->ranges[r].first;
			last = first;
		}
		for (unsigned i = first; i <= last; i++)
			t->covers[f][i] = true;
	}
	put_taken(ipam, w);
}

static void put_record_number(struct ipam *ipam, unsigned f, unsigned i)
{
	const struct model_address *address = &model.addresses[f][i];
	struct ipam_name names[SERVICES + 1];
	char name[32] = "";
	struct ipam_record record = { .address = nth(f, i),
				      .pool = pool_names[address->pool],
				      .router = name,
				      .router_id = (uint8_t)address->router_id,
				      .service_count = address->holder_count,
				      .services = names };

	if (address->router_id)
		router_name(address->router_pool, f, address->router_id, name);
	for (unsigned h = 0; h < address->holder_count; h++)
		names[h] = service_name(address->holders[h]);
	if (address->holder_count > 0 && chance(10))
		names[record.service_count++] = names[0]; /* named twice */
	assert_int_equal(ipam_record_put(ipam, &record, NULL), 0);
}

/* What somebody else wrote: any pool, any holders. */
static void step_record(struct ipam *ipam)
{
	unsigned f = pick(FAMILIES), i = pick(universe[f]), count = pick(4);
	struct model_address *address = &model.addresses[f][i];
	struct base_address at = nth(f, i);

	if (chance(30)) {
		assert_int_equal(ipam_record_remove(ipam, &at),
				 address->state == HELD ? 0 : -ENOENT);
		if (address->state == HELD)
			address->state = IDLE;
		return;
	}
	*address = (struct model_address){ .state = HELD, .pool = (int)pick(POOLS) };
	if (chance(50)) {
		address->router_pool = chance(70) ? address->pool : (int)pick(POOLS);
		address->router_id = 1 + pick(10);
	}
	for (unsigned h = 0; h < count; h++) {
		int service = (int)pick(SERVICES);

		if (!holds(address, service))
			address->holders[address->holder_count++] = service;
	}
	put_record_number(ipam, f, i);
}

static void step_quarantine(struct ipam *ipam)
{
	unsigned f = pick(FAMILIES), i = pick(universe[f]);
	struct model_address *address = &model.addresses[f][i];
	int service = (int)pick(SERVICES), pool = (int)pick(POOLS);
	struct ipam_quarantine quarantine = { .address = nth(f, i),
					      .pool = pool_names[pool],
					      .service = service_name(service),
					      .until_us = model.now_us + pick(100) * SECOND };

	model_expire(model.now_us);
	assert_int_equal(ipam_quarantine_put(ipam, &quarantine, model.now_us), 0);
	if (address->state == HELD || quarantine.until_us <= model.now_us)
		return;
	*address = (struct model_address){ .state = QUARANTINED, .pool = pool,
					   .last_holder = service,
					   .told_us = quarantine.until_us,
					   .seen_us = model.now_us };
	model_expire(model.now_us); /* a pool without quarantine */
}

static void step_router(struct ipam *ipam)
{
	unsigned f = pick(FAMILIES), i = pick(universe[f]), id;
	struct base_address at, leader;
	struct ipam_router router;
	struct base_error error = { 0 };
	char name[32];
	int r;

	for (unsigned tries = 0; tries < 30 && model.addresses[f][i].state != HELD; tries++) {
		f = pick(FAMILIES);
		i = pick(universe[f]);
	}
	at = nth(f, i);
	r = ipam_router_choose(ipam, &at, 0, NULL, &router, &error);
	if (model.addresses[f][i].state != HELD || !model.pools[model.addresses[f][i].pool].present) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	id = router_of(f, i);
	if (!id) {
		assert_int_equal(r, BASE_REASON_POOL_EXHAUSTED);
		digest(error.message, strlen(error.message));
		model.unrouted++;
		return;
	}
	assert_int_equal(r, 0);
	model.routed++;
	model.addresses[f][i].router_id = id;
	model.addresses[f][i].router_pool = model.addresses[f][i].pool;
	assert_int_equal(router.id, id);
	assert_string_equal(router.name, router_name(model.addresses[f][i].pool, f, id, name));
	assert_int_equal(router.address_count, carried_by(f, model.addresses[f][i].pool, id));
	assert_true(ipam_router_leader(ipam, &at, &leader));
	for (unsigned first = 0;; first++) {
		const struct model_address *other = &model.addresses[f][first];
		struct base_address expected = nth(f, first);

		if (other->state != HELD || other->router_id != id ||
		    other->router_pool != model.addresses[f][i].pool)
			continue;
		assert_true(base_address_equal(&leader, &expected));
		break;
	}
}

static void step_time(struct ipam *ipam)
{
	uint64_t now_us = chance(8) ? model.now_us - pick(200) * SECOND
				    : model.now_us + pick(40) * SECOND;

	ipam_advance(ipam, now_us);
	model_expire(now_us);
	assert_false(ipam_advance(ipam, now_us)); /* said once */
}

/* A second one, from records, pools, quarantine and Services alone, in any order. */
static struct ipam *restart(void)
{
	struct ipam *ipam = ipam_new();
	struct {
		unsigned char kind;
		int a, b;
	} todo[POOLS + SERVICES + WHOS + 2 * UNIVERSE];
	unsigned count = 0;

	assert_non_null(ipam);
	for (int p = 0; p < POOLS; p++)
		if (model.pools[p].present)
			todo[count++] = (__typeof__(*todo)){ 'p', p, 0 };
	for (int s = 0; s < SERVICES; s++)
		if (model.services[s].known)
			todo[count++] = (__typeof__(*todo)){ 's', s, 0 };
	for (int w = 0; w < WHOS; w++)
		todo[count++] = (__typeof__(*todo)){ 't', w, 0 };
	for (unsigned f = 0; f < FAMILIES; f++)
		for (unsigned i = 0; i < universe[f]; i++)
			if (model.addresses[f][i].state != IDLE)
				todo[count++] = (__typeof__(*todo)){ 'a', (int)f, (int)i };
	while (count > 0) {
		unsigned at = pick(count);
		int a = todo[at].a, b = todo[at].b;
		const struct model_address *address = &model.addresses[a < FAMILIES ? a : 0][b];

		switch (todo[at].kind) {
		case 'p':
			put_pool_number(ipam, a);
			break;
		case 's':
			put_facts(ipam, a);
			break;
		case 't':
			put_taken(ipam, a);
			break;
		default:
			if (address->state == HELD) {
				put_record_number(ipam, (unsigned)a, (unsigned)b);
			} else {
				struct ipam_quarantine quarantine = {
					.address = nth((unsigned)a, (unsigned)b),
					.pool = pool_names[address->pool],
					.service = service_name(address->last_holder),
					.until_us = quarantine_end(address)
				};

				assert_int_equal(ipam_quarantine_put(ipam, &quarantine,
								     model.now_us),
						 0);
			}
		}
		todo[at] = todo[--count];
	}
	model.restarts++;
	return ipam;
}

/* The new one goes on; what it was not told it cannot know. */
static void forget_past(void)
{
	for (unsigned f = 0; f < FAMILIES; f++) {
		for (unsigned i = 0; i < universe[f]; i++) {
			struct model_address *address = &model.addresses[f][i];

			if (address->state != QUARANTINED)
				continue;
			address->told_us = quarantine_end(address);
			address->seen_us = model.now_us;
		}
	}
}

static void run_history(uint64_t seed, unsigned steps)
{
	struct ipam *ipam = ipam_new(), *twin = NULL;

	memset(&model, 0, sizeof model);
	model.random.state = seed;
	model.now_us = NOW;
	for (int p = 0; p < POOLS; p++)
		model.pools[p].reserved = -1;
	for (int w = 0; w < WHOS; w++)
		model.takens[w].exempt = -1;
	ipam_advance(ipam, NOW);
	for (unsigned i = 0; i < SERVICES; i++)
		step_service(ipam);
	for (unsigned i = 0; i < 4; i++)
		step_pool(ipam);
	for (unsigned step = 0; step < steps; step++) {
		unsigned what = pick(100);

		if (what < 45) {
			step_allocate(ipam, NULL);
		} else if (what < 52) {
			step_router(ipam);
		} else if (what < 66) {
			step_release(ipam);
		} else if (what < 73) {
			step_service(ipam);
		} else if (what < 78) {
			step_pool(ipam);
		} else if (what < 82) {
			step_taken(ipam);
		} else if (what < 87) {
			step_record(ipam);
		} else if (what < 89) {
			step_quarantine(ipam);
		} else if (what < 96) {
			step_time(ipam);
		} else {
			twin = restart();
			check_all(twin);
			forget_past();
			step_allocate(twin, ipam); /* both answer alike, sentences too */
			ipam_free(ipam);
			ipam = twin;
		}
		check_all(ipam);
	}
	ipam_free(ipam);
}

static void test_random_histories_agree_with_enumeration(void **state)
{
	const char *one = getenv("VIPD_SEED"), *many = getenv("VIPD_SEEDS");
	uint64_t first = one ? strtoull(one, NULL, 0) : 1;
	uint64_t count = one ? 1 : many ? strtoull(many, NULL, 0) : SEEDS;
	unsigned given4 = 0, given6 = 0, refused = 0, released = 0, restarts = 0;
	unsigned routed = 0, unrouted = 0;

	(void)state;
	for (uint64_t seed = first; seed < first + count; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		run_history(seed, STEPS);
		given4 += model.given[F4];
		given6 += model.given[F6];
		refused += model.refused;
		released += model.released;
		restarts += model.restarts;
		routed += model.routed;
		unrouted += model.unrouted;
	}
	print_message("given %u IPv4 and %u IPv6, refused %u, released %u, restarted %u times; virtual "
		      "routers found %u, none left %u\n",
		      given4, given6, refused, released, restarts, routed, unrouted);
	/* The histories are worth something only if they get somewhere. */
	assert_true(one || (given4 > count * 5 && given6 > count * 5 && refused > count * 10 &&
			    released > count * 5 && restarts > count && routed > count * 5 &&
			    unrouted > count / 10));
}

static void test_the_same_history_gives_the_same_answers(void **state)
{
	uint64_t digests[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		run_history(4711, STEPS);
		digests[i] = model.digest;
	}
	assert_int_equal(digests[0], digests[1]);
	run_history(4712, STEPS);
	assert_int_not_equal(digests[0], model.digest);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_histories_agree_with_enumeration),
		cmocka_unit_test(test_the_same_history_gives_the_same_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
